//! The DLQ: what failed permanently, why, and what to do with it.

mod act;
mod damaged;
mod groups;
mod request;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;

pub(super) use self::act::{discard, replay};
pub(super) use self::damaged::list as damaged;
pub(super) use self::groups::groups;
use super::AppState;
use super::deliveries::PAGE_KEYS;
use super::dto::{EventDto, RequestDto, delivery_id, event_id, request_dto, rfc3339};
use super::json::Json;
use super::problem::Problem;
use super::query::{DEAD_KEYS, FILTER_KEYS, Frame, Names, Query, among_the_dead};
use crate::domain::delivery::Autopsy;
use crate::domain::id::{DeliveryId, InstanceId};
use crate::store::read::{DlqEntry, Total};

#[derive(Debug, Serialize)]
struct Listing<'a> {
    /// Entries that match the filter, on all pages.
    total: u64,
    /// There only where counting them all would have taken too long: there are at least that many.
    #[serde(skip_serializing_if = "Option::is_none")]
    total_is_at_least: Option<bool>,
    entries: Vec<EntryDto<'a>>,
    cursor: Option<String>,
}

#[derive(Debug, Serialize)]
struct EntryDto<'a> {
    id: String,
    destination: String,
    event: EventDto<'a>,
    target: Option<&'a str>,
    reason: Option<&'a str>,
    detail: &'a str,
    request: Option<RequestDto<'a>>,
    response: ResponseDto<'a>,
    attempt_count: u32,
    first_attempt_at: Option<String>,
    last_attempt_at: Option<String>,
}

#[derive(Debug, Serialize)]
struct ResponseDto<'a> {
    status: Option<u16>,
    body: &'a str,
}

/// `GET /v1/dlq`
pub(super) async fn list(State(state): State<AppState>, RawQuery(raw): RawQuery) -> Result<Response, Problem> {
    let query = Query::parse(raw.as_deref(), &[&FILTER_KEYS, &DEAD_KEYS, &PAGE_KEYS])?;
    let instance = state.pipeline.instance();
    let window = query.window(instance)?;
    let names = state.names().await?;
    let filter = query.filter(Frame { names: &names, now: state.clock.now() })?;
    among_the_dead(&filter, "").map_err(Problem::fields)?;
    let (page, total) = state
        .read(move |reader| {
            let page = reader.dlq(&filter, window.after, window.limit)?;
            // A page that begins and ends the list says its length by itself.
            let total = match (window.after, page.next) {
                (None, None) => (u64::try_from(page.rows.len()).unwrap_or(u64::MAX), Total::Exact),
                _ => reader.dlq_total(&filter)?,
            };
            Ok((page, total))
        })
        .await?;
    let entries = page.rows.iter().map(|row| shown(row, instance, &names)).collect();
    let cursor = page.next.map(|key| delivery_id(instance, key));
    let (total, exact) = total;
    let total_is_at_least = (exact == Total::AtLeast).then_some(true);
    Ok(Json(Listing { total, total_is_at_least, entries, cursor }).into_response())
}

/// `GET /v1/dlq/{id}`
pub(super) async fn entry(
    State(state): State<AppState>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    let Path(given) = id.map_err(|_| Problem::field("id", "invalid", "the id in the path is not UTF-8"))?;
    let id: DeliveryId =
        given.parse().map_err(|wrong: crate::domain::id::IdError| Problem::not_found(wrong.to_string()))?;
    let instance = state.pipeline.instance();
    if id.instance != instance {
        return Err(Problem::not_found(format!("there is no delivery {id}; it belongs to another store")));
    }
    let (found, delivery) = state.read(move |reader| Ok((reader.dlq_entry(id.key)?, reader.delivery(id.key)?))).await?;
    let Some(row) = found else {
        return Err(Problem::not_found(match delivery {
            Some(delivery) => {
                format!("the delivery {id} is not in the DLQ: it is {}", delivery.state.status().as_str())
            }
            None => format!("there is no delivery {id}"),
        }));
    };
    let names = state.names().await?;
    Ok(Json(shown(&row, instance, &names)).into_response())
}

fn shown<'a>(row: &'a DlqEntry, instance: InstanceId, names: &Names) -> EntryDto<'a> {
    let DlqEntry { entry, autopsy } = row;
    let Autopsy { detail, request, http_status, response } = autopsy;
    let history = &entry.delivery.history;
    EntryDto {
        id: delivery_id(instance, entry.key),
        destination: names.shown(entry.key.destination),
        event: EventDto::new(event_id(instance, entry.key), &entry.event),
        target: entry.delivery.target.as_ref().map(crate::domain::name::TargetName::as_str),
        reason: entry.delivery.state.reason(),
        detail,
        request: request.as_ref().map(request_dto),
        response: ResponseDto { status: *http_status, body: response },
        attempt_count: history.counted,
        first_attempt_at: rfc3339(history.first_attempt_at),
        last_attempt_at: rfc3339(history.last_attempt_at),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::domain::delivery::{Delivery, History, RequestView, State};
    use crate::domain::event::tests::sample;
    use crate::domain::id::{DeliveryKey, DestinationId, EventSeq};
    use crate::domain::outcome::DeadReason;
    use crate::domain::time::UnixMs;
    use crate::store::read::DeliveryEntry;

    fn row() -> DlqEntry {
        let at = UnixMs(1_795_304_438_000);
        let key = DeliveryKey { seq: EventSeq(1), destination: DestinationId(1) };
        let delivery = Delivery {
            received_at: at,
            target: "Purchase".parse().ok(),
            state: State::FailedPermanently { at, reason: DeadReason::Permanent },
            history: History { counted: 2, first_attempt_at: Some(at), last_attempt_at: Some(at), ..History::new(at) },
        };
        let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let request = RequestView {
            method: "POST".to_owned(),
            url: "https://graph.example/x?access_token=[redacted]".to_owned(),
            headers: vec![header("accept", "a"), header("content-type", "application/json"), header("accept", "b")],
            body: "{}".to_owned(),
        };
        let autopsy = Autopsy {
            detail: "user_data is missing".to_owned(),
            request: Some(request),
            http_status: Some(400),
            response: "no".to_owned(),
        };
        DlqEntry { entry: DeliveryEntry { key, delivery, event: Arc::new(sample()) }, autopsy }
    }

    #[test]
    fn an_entry_has_the_contracted_shape() {
        let names = Names::new([("meta-eu".parse().unwrap(), DestinationId(1))]);
        let shown = serde_json::to_string_pretty(&shown(&row(), InstanceId::from_random(0), &names)).unwrap();
        insta::assert_snapshot!(shown, @r#"
        {
          "id": "dlv_0000000000000000000010001",
          "destination": "meta-eu",
          "event": {
            "id": "evt_000000000000000000001",
            "event": "deposit",
            "event_id": "trade-1",
            "source": "app",
            "uid": "u-1",
            "received_at": "2025-11-24T16:00:01.000Z",
            "occurred_at_ms": 1764000000000,
            "value": "25.00",
            "currency": "USD",
            "user": {
              "email": "jane@example.com",
              "ip": "203.0.113.7"
            },
            "click": {
              "tg_id": 42,
              "fbclid": "IwAR0",
              "campaign_name": "Лето — 夏"
            },
            "page": {
              "url": "https://shop.example/thanks"
            },
            "data": {
              "plan": {
                "name": "gold",
                "months": 12
              },
              "utm.source": "x",
              "none": null,
              "n": 1.10
            }
          },
          "target": "Purchase",
          "reason": "permanent",
          "detail": "user_data is missing",
          "request": {
            "method": "POST",
            "url": "https://graph.example/x?access_token=[redacted]",
            "headers": {
              "accept": "a, b",
              "content-type": "application/json"
            },
            "body": "{}"
          },
          "response": {
            "status": 400,
            "body": "no"
          },
          "attempt_count": 2,
          "first_attempt_at": "2026-11-21T23:40:38.000Z",
          "last_attempt_at": "2026-11-21T23:40:38.000Z"
        }
        "#);
    }
}
