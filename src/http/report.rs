//! `GET /v1/report`: how many deliveries of each destination stand where, and what the sent ones are worth, by hour or day.
//!
//! Everything goes by the time of receipt, in UTC. One request adds up deliveries for a bounded time and carries a cursor: who
//! asks adds the pieces of a period together.

use std::collections::BTreeMap;

use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;

use super::AppState;
use super::dto::delivery_id;
use super::json::Json;
use super::problem::Problem;
use super::query::{Frame, Names, Query};
use super::walk::{self, walk};
use crate::domain::delivery::Status;
use crate::domain::id::DestinationId;
use crate::domain::sum::Sum;
use crate::domain::time::UnixMs;
use crate::store::read::DeliveryEntry;

const KEYS: [&str; 6] = ["by", "destination", "event", "since", "until", "cursor"];
const HOUR_MS: u64 = 3_600_000;

#[derive(Debug, Serialize)]
struct Report {
    rows: Vec<Row>,
    cursor: Option<String>,
}

#[derive(Debug, Serialize)]
struct Row {
    /// When the period begins.
    period: String,
    destination: String,
    accepted: u64,
    sent: u64,
    pending: u64,
    failed: u64,
    failed_permanently: u64,
    skipped: u64,
    discarded: u64,
    /// Of the sent ones, by currency; `-` for amounts without one.
    value: BTreeMap<String, String>,
}

#[derive(Debug, Default)]
struct Tally {
    counts: BTreeMap<&'static str, u64>,
    value: BTreeMap<String, Sum>,
}

pub(super) async fn report(State(state): State<AppState>, RawQuery(raw): RawQuery) -> Result<Response, Problem> {
    let query = Query::parse(raw.as_deref(), &[&KEYS])?;
    let width = match query.get("by") {
        Some("hour") => HOUR_MS,
        None | Some("day") => 24 * HOUR_MS,
        Some(_) => return Err(Problem::field("by", "invalid", "write hour or day")),
    };
    let instance = state.pipeline.instance();
    let after = query.window(instance)?.after;
    let names = state.names().await?;
    let filter = query.filter(Frame { names: &names, now: state.clock.now() })?;
    let page = |after| {
        let (state, filter) = (state.clone(), filter.clone());
        async move { state.read(move |reader| reader.deliveries(&filter, after, walk::ROWS)).await }
    };
    let mut sheet = Sheet { width, ..Sheet::default() };
    let cursor = walk(&*state.clock, after, page, |entry| sheet.add(entry)).await?;
    let cursor = cursor.map(|key| delivery_id(instance, key));
    Ok(Json(Report { rows: sheet.rows(&names), cursor }).into_response())
}

/// What was added up so far, by period and destination.
#[derive(Debug, Default)]
struct Sheet {
    /// Of a period, in milliseconds.
    width: u64,
    tallies: BTreeMap<(u64, DestinationId), Tally>,
}

impl Sheet {
    fn add(&mut self, DeliveryEntry { key, delivery, event }: &DeliveryEntry) {
        let period = delivery.received_at.0 / self.width * self.width;
        let tally = self.tallies.entry((period, key.destination)).or_default();
        let status = delivery.state.status();
        *tally.counts.entry(status.as_str()).or_default() += 1;
        if status == Status::Sent
            && let Some(value) = &event.value
        {
            let currency = event.currency.as_ref().map_or("-", |currency| currency.as_str());
            tally.value.entry(currency.to_owned()).or_default().add(Sum::from(value));
        }
    }

    /// By period, then by name.
    fn rows(&self, names: &Names) -> Vec<Row> {
        let shown = |((period, destination), tally): (&(u64, DestinationId), &Tally)| {
            row(UnixMs(*period), names.shown(*destination), tally)
        };
        let mut rows: Vec<Row> = self.tallies.iter().map(shown).collect();
        rows.sort_by(|a, b| (&a.period, &a.destination).cmp(&(&b.period, &b.destination)));
        rows
    }
}

fn row(period: UnixMs, destination: String, tally: &Tally) -> Row {
    let of = |status: Status| tally.counts.get(status.as_str()).copied().unwrap_or_default();
    Row {
        period: period.to_rfc3339(),
        destination,
        accepted: tally.counts.values().sum(),
        sent: of(Status::Sent),
        pending: of(Status::Pending),
        failed: of(Status::Failed),
        failed_permanently: of(Status::FailedPermanently),
        skipped: of(Status::Skipped),
        discarded: of(Status::Discarded),
        value: tally.value.iter().map(|(currency, sum)| (currency.clone(), sum.to_string())).collect(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::domain::delivery::{Delivery, History, State};
    use crate::domain::event::tests::sample;
    use crate::domain::id::{DeliveryKey, EventSeq};

    #[test]
    fn deliveries_are_added_up_by_period_and_destination() {
        let at = 1_795_304_438_000;
        let entry = |number: u64, received: u64, state: State| {
            let received_at = UnixMs(received);
            let key = DeliveryKey { seq: EventSeq(number), destination: DestinationId(1) };
            let delivery = Delivery { received_at, target: None, state, history: History::new(received_at) };
            DeliveryEntry { key, delivery, event: Arc::new(sample()) }
        };
        let sent = || State::Sent { at: UnixMs(at) };
        let entries = [
            entry(4, at, sent()),
            entry(3, at - 1000, sent()),
            entry(2, at - 2000, State::Pending { due_at: UnixMs(at) }),
            entry(1, at - HOUR_MS, sent()),
        ];
        let names = Names::new([("crm".parse().unwrap(), DestinationId(1))]);
        let added = |width: u64| {
            let mut sheet = Sheet { width, ..Sheet::default() };
            for entry in &entries {
                sheet.add(entry);
            }
            sheet.rows(&names)
        };
        let found = added(HOUR_MS);
        let told: Vec<_> = found.iter().map(|row| (row.period.as_str(), row.accepted, row.sent, row.pending)).collect();
        assert_eq!(told, [("2026-11-21T22:00:00.000Z", 1, 1, 0), ("2026-11-21T23:00:00.000Z", 3, 2, 1)]);
        assert_eq!(found[1].value, BTreeMap::from([("USD".to_owned(), "50.00".to_owned())]));
        assert_eq!(added(24 * HOUR_MS).len(), 1);
    }
}
