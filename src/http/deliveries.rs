//! `GET /v1/deliveries`: the delivery log, newest receipt first.
//!
//! One request looks at a bounded number of rows: a page may be short, even empty, and still carry a cursor.

use std::collections::BTreeMap;

use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;

use super::dto::{EventBrief, delivery_id, event_id, next_attempt, rfc3339};
use super::json::Json;
use super::problem::Problem;
use super::query::{FILTER_KEYS, Frame, Names, Query};
use super::{AppState, lanes};
use crate::domain::id::{DeliveryKey, InstanceId};
use crate::domain::name::DestinationName;
use crate::pipeline::LaneView;
use crate::store::read::{DeliveryEntry, Page};

pub(super) const PAGE_KEYS: [&str; 2] = ["limit", "cursor"];

#[derive(Debug, Serialize)]
struct Log {
    deliveries: Vec<Row>,
    cursor: Option<String>,
}

#[derive(Debug, Serialize)]
struct Row {
    id: String,
    event: EventBrief,
    destination: String,
    status: &'static str,
    target: Option<String>,
    reason: Option<String>,
    received_at: String,
    attempt_count: u32,
    last_status: Option<u16>,
    last_at: Option<String>,
    next_attempt_at: Option<String>,
}

pub(super) async fn list(State(state): State<AppState>, RawQuery(raw): RawQuery) -> Result<Response, Problem> {
    let query = Query::parse(raw.as_deref(), &[&FILTER_KEYS, &PAGE_KEYS])?;
    let instance = state.pipeline.instance();
    let window = query.window(instance)?;
    let names = state.names().await?;
    let filter = query.filter(Frame { names: &names, now: state.clock.now() })?;
    let mut page = state.read(move |reader| reader.deliveries(&filter, window.after, window.limit)).await?;
    let snapshot = state.pipeline.snapshot();
    for row in &mut page.rows {
        let destination = names.name(row.key.destination);
        lanes::name_as_sent(&snapshot, destination, &row.event.canonical, &mut row.delivery);
    }
    Ok(Json(log(page, instance, &names, &lanes::of_configured(&state))).into_response())
}

type Lanes = BTreeMap<DestinationName, LaneView>;

fn log(page: Page<DeliveryEntry>, instance: InstanceId, names: &Names, lanes: &Lanes) -> Log {
    let lane = |key: DeliveryKey| names.name(key.destination).and_then(|name| lanes.get(name));
    let cursor = page.next.map(|key| delivery_id(instance, key));
    let rows = page.rows.into_iter().map(|DeliveryEntry { key, delivery, event }| Row {
        id: delivery_id(instance, key),
        event: EventBrief::new(event_id(instance, key), &event),
        destination: names.shown(key.destination),
        status: delivery.state.status().as_str(),
        target: delivery.target.as_ref().map(ToString::to_string),
        reason: delivery.state.reason().map(str::to_owned),
        received_at: delivery.received_at.to_rfc3339(),
        attempt_count: delivery.history.counted,
        last_status: delivery.history.last_http_status,
        last_at: rfc3339(delivery.history.last_attempt_at),
        next_attempt_at: rfc3339(next_attempt(delivery.state.due_at(), lane(key))),
    });
    Log { deliveries: rows.collect(), cursor }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::domain::delivery::{Delivery, History, State};
    use crate::domain::event::tests::sample;
    use crate::domain::id::{DestinationId, EventSeq};
    use crate::domain::outcome::SkipReason;
    use crate::domain::time::UnixMs;

    #[test]
    fn a_row_has_the_contracted_shape() {
        let key = DeliveryKey { seq: EventSeq(1), destination: DestinationId(1) };
        let at = UnixMs(1_795_304_438_000);
        let delivery = Delivery {
            received_at: at,
            target: None,
            state: State::Skipped { reason: SkipReason::Unmapped },
            history: History::new(at),
        };
        let rows = vec![DeliveryEntry { key, delivery, event: Arc::new(sample()) }];
        let names = Names::new([("hook".parse().unwrap(), DestinationId(1))]);
        let log = log(Page { rows, next: Some(key) }, InstanceId::from_random(0), &names, &Lanes::new());
        insta::assert_snapshot!(serde_json::to_string_pretty(&log).unwrap(), @r#"
        {
          "deliveries": [
            {
              "id": "dlv_0000000000000000000010001",
              "event": {
                "id": "evt_000000000000000000001",
                "event_id": "trade-1",
                "event": "deposit"
              },
              "destination": "hook",
              "status": "skipped",
              "target": null,
              "reason": "unmapped",
              "received_at": "2026-11-21T23:40:38.000Z",
              "attempt_count": 0,
              "last_status": null,
              "last_at": null,
              "next_attempt_at": null
            }
          ],
          "cursor": "dlv_0000000000000000000010001"
        }
        "#);
    }
}
