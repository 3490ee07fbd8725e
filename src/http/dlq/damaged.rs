//! `GET /v1/dlq/damaged`: rows that cannot be read, with all that can be read around them: for giving up the deliveries they
//! keep from ending (`POST /v1/dlq/discard` with their ids), and for having their events sent again by whoever has them.

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;

use crate::domain::delivery::Delivery;
use crate::domain::id::{DeliveryKey, DestinationId, EventId, InstanceId};
use crate::http::AppState;
use crate::http::dto::{EventDto, delivery_id};
use crate::http::json::Json;
use crate::http::problem::Problem;
use crate::http::query::Names;
use crate::store::StoreError;
use crate::store::read::DamagedRow;

/// Rows shown; those that are given up make room for more.
const SHOWN: usize = 100;

#[derive(Debug, Serialize)]
struct Listing<'a> {
    /// Met since the start.
    total: u64,
    rows: Vec<RowDto<'a>>,
}

#[derive(Debug, Serialize)]
struct RowDto<'a> {
    table: &'a str,
    key: &'a str,
    what: &'a str,
    /// Deliveries that can neither be sent nor end by themselves because of it.
    discard: Vec<String>,
    /// The event, where it can be read.
    event: Option<EventDto<'a>>,
    /// What of the event's deliveries can be read.
    deliveries: Vec<DeliveryDto<'a>>,
}

#[derive(Debug, Serialize)]
struct DeliveryDto<'a> {
    id: String,
    destination: String,
    status: &'static str,
    target: Option<&'a str>,
    reason: Option<&'a str>,
    attempt_count: u32,
}

type Around = Vec<(DestinationId, Delivery)>;

pub(crate) async fn list(State(state): State<AppState>) -> Result<Response, Problem> {
    let names = state.names().await?;
    let instance = state.pipeline.instance();
    let (total, rows) = state
        .read(move |reader| {
            let around = |row: DamagedRow| {
                let trace = row.seq.map_or(Ok(Vec::new()), |seq| reader.trace(seq))?;
                let around: Around =
                    trace.into_iter().map(|(destination, delivery, _)| (destination, delivery)).collect();
                Ok::<_, StoreError>((row, around))
            };
            let rows: Vec<_> = reader.damaged(SHOWN)?.into_iter().map(around).collect::<Result<_, _>>()?;
            Ok((reader.damaged_rows(), rows))
        })
        .await?;
    let rows = rows.iter().map(|(row, around)| shown(row, around, instance, &names)).collect();
    Ok(Json(Listing { total, rows }).into_response())
}

fn shown<'a>(row: &'a DamagedRow, around: &'a Around, instance: InstanceId, names: &Names) -> RowDto<'a> {
    let key = |destination| row.seq.map(|seq| DeliveryKey { seq, destination });
    let delivery = |(destination, delivery): &'a (DestinationId, Delivery)| {
        Some(DeliveryDto {
            id: delivery_id(instance, key(*destination)?),
            destination: names.shown(*destination),
            status: delivery.state.status().as_str(),
            target: delivery.target.as_ref().map(crate::domain::name::TargetName::as_str),
            reason: delivery.state.reason(),
            attempt_count: delivery.history.counted,
        })
    };
    RowDto {
        table: row.table,
        key: &row.key,
        what: &row.what,
        discard: row.wrecks.iter().map(|key| delivery_id(instance, *key)).collect(),
        event: row.seq.zip(row.event.as_deref()).map(|(seq, event)| EventDto::new(EventId { instance, seq }, event)),
        deliveries: around.iter().filter_map(delivery).collect(),
    }
}
