//! `GET /v1/dlq/damaged`: rows that cannot be read, with all that can be read around them: for giving up the deliveries they
//! keep from ending (`POST /v1/dlq/discard` with their ids), and for having their events sent again by whoever has them.
//!
//! Those that were met since the start; with `all=true` the store is looked through for them, a part with each answer, and
//! `cursor` leads to the next.

use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;

use crate::domain::delivery::Delivery;
use crate::domain::id::{DeliveryKey, DestinationId, EventId, InstanceId};
use crate::http::AppState;
use crate::http::dto::{EventDto, delivery_id};
use crate::http::json::Json;
use crate::http::problem::Problem;
use crate::http::query::{Names, Query};
use crate::store::StoreError;
use crate::store::read::{DamagedRow, Reader, ScanCursor};

/// Rows shown of those that were met.
const SHOWN: usize = 100;

#[derive(Debug, Serialize)]
struct Listing<'a> {
    /// Met since the start.
    total: u64,
    rows: Vec<RowDto<'a>>,
    /// Where looking through the store goes on.
    cursor: Option<String>,
}

/// What is asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Wish {
    Met,
    /// The next part of the store, from its beginning or behind a cursor.
    Scan(Option<ScanCursor>),
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

pub(crate) async fn list(State(state): State<AppState>, RawQuery(raw): RawQuery) -> Result<Response, Problem> {
    let wish = wish(&Query::parse(raw.as_deref(), &[&["all", "cursor"]])?)?;
    let names = state.names().await?;
    let instance = state.pipeline.instance();
    let (total, rows, next) = state
        .read(move |reader| {
            let around = |row: DamagedRow| {
                let trace = row.seq.map_or(Ok(Vec::new()), |seq| reader.trace(seq))?;
                let around: Around =
                    trace.into_iter().map(|(destination, delivery, _)| (destination, delivery)).collect();
                Ok::<_, StoreError>((row, around))
            };
            let (rows, next) = found(reader, &wish)?;
            let rows: Vec<_> = rows.into_iter().map(around).collect::<Result<_, _>>()?;
            Ok((reader.damaged_rows(), rows, next))
        })
        .await?;
    let rows = rows.iter().map(|(row, around)| shown(row, around, instance, &names)).collect();
    Ok(Json(Listing { total, rows, cursor: next.map(|next| next.to_string()) }).into_response())
}

fn wish(query: &Query) -> Result<Wish, Problem> {
    match (query.get("all"), query.get("cursor")) {
        (None | Some("true"), Some(cursor)) => {
            let wrong = "this is no cursor; send the one that came with the answer before";
            cursor.parse().map(|from| Wish::Scan(Some(from))).map_err(|()| Problem::field("cursor", "invalid", wrong))
        }
        (Some("true"), None) => Ok(Wish::Scan(None)),
        (None, None) => Ok(Wish::Met),
        (Some(_), _) => Err(Problem::field("all", "invalid", "write true, or leave it out")),
    }
}

fn found(reader: &Reader, wish: &Wish) -> Result<(Vec<DamagedRow>, Option<ScanCursor>), StoreError> {
    match wish {
        Wish::Met => Ok((reader.damaged(SHOWN)?, None)),
        Wish::Scan(from) => reader.scan(from.as_ref()),
    }
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
