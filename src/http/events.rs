//! `GET /v1/events/{id}`: one event with every delivery and every attempt, by our id or by the sender's.

use std::collections::BTreeMap;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;
use serde_json::Value;

use super::dto::{EventDto, LeftOutDto, delivery_id, next_attempt, rfc3339};
use super::json::Json;
use super::problem::Problem;
use super::query::Names;
use super::{AppState, lanes};
use crate::domain::delivery::{Attempt, Delivery, Phases, Status};
use crate::domain::event::Event;
use crate::domain::id::{DeliveryKey, DestinationId, EventId, EventSeq, InstanceId};
use crate::domain::time::DurationMs;
use crate::pipeline::LaneView;

/// Ids listed where a sender's id stands for several events.
const LISTED_MAX: usize = 100;

#[derive(Debug, Serialize)]
struct Trace<'a> {
    id: String,
    event_id: Option<&'a str>,
    event: &'a str,
    source: &'a str,
    received_at: String,
    occurred_at_ms: u64,
    payload: EventDto<'a>,
    deliveries: Vec<DeliveryDto<'a>>,
}

#[derive(Debug, Serialize)]
struct DeliveryDto<'a> {
    id: String,
    destination: String,
    status: &'static str,
    target: Option<&'a str>,
    reason: Option<&'a str>,
    /// What is wrong, in words, while it is in the DLQ.
    detail: Option<&'a str>,
    attempt_count: u32,
    next_attempt_at: Option<String>,
    attempts: Vec<AttemptDto<'a>>,
}

#[derive(Debug, Serialize)]
struct AttemptDto<'a> {
    n: u32,
    at: String,
    ms: u64,
    status: Option<u16>,
    verdict: &'a str,
    response: &'a str,
    phases: PhasesDto,
    proxy: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    left_out: Vec<LeftOutDto<'a>>,
}

/// What of `ms` went into what; `null` where there was none of it, or it was not measured.
#[derive(Debug, Serialize)]
struct PhasesDto {
    #[serde(rename = "connect_ms")]
    connect: Option<u64>,
    #[serde(rename = "first_byte_ms")]
    first_byte: Option<u64>,
    #[serde(rename = "body_ms")]
    body: Option<u64>,
}

impl From<Phases> for PhasesDto {
    fn from(Phases { connect, first_byte, body }: Phases) -> Self {
        let ms = |time: Option<DurationMs>| time.map(|time| time.0);
        Self { connect: ms(connect), first_byte: ms(first_byte), body: ms(body) }
    }
}

/// What the store tells of one event.
type Deliveries = Vec<(DestinationId, Delivery, Vec<Attempt>)>;

/// What is wrong with those of its deliveries that are in the DLQ, in words.
type Details = BTreeMap<DestinationId, String>;

pub(super) async fn event(
    State(state): State<AppState>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    let Path(given) = id.map_err(|_| Problem::field("id", "invalid", "the id in the path is not UTF-8"))?;
    let instance = state.pipeline.instance();
    let names = state.names().await?;
    let seq = match find(&state, instance, given.clone()).await?.as_slice() {
        [] => {
            return Err(Problem::not_found(format!(
                "there is no event {given:?}, neither as our id nor as a sender's"
            )));
        }
        [only] => *only,
        several => return Err(ambiguous(&given, instance, several)),
    };
    let (event, mut deliveries, details) = state
        .read(move |reader| {
            let deliveries = reader.trace(seq)?;
            let mut details = Details::new();
            for (destination, delivery, _) in &deliveries {
                if delivery.state.status() == Status::FailedPermanently
                    && let Some(entry) = reader.dlq_entry(DeliveryKey { seq, destination: *destination })?
                {
                    details.insert(*destination, entry.autopsy.detail);
                }
            }
            Ok((reader.event(seq)?, deliveries, details))
        })
        .await?;
    let event =
        event.ok_or_else(|| Problem::not_found(format!("the event {given:?} is no longer kept (retention.events)")))?;
    let snapshot = state.pipeline.snapshot();
    for (destination, delivery, _) in &mut deliveries {
        lanes::name_as_sent(&snapshot, names.name(*destination), &event.canonical, delivery);
    }
    let lanes = lanes::of_configured(&state);
    let lane = |destination| names.name(destination).and_then(|name| lanes.get(name));
    let told = Told { deliveries: &deliveries, details: &details };
    Ok(Json(trace(EventId { instance, seq }, &event, told, &names, lane)).into_response())
}

/// The events of that id: ours if it is one of this store, else the sender's.
async fn find(state: &AppState, instance: InstanceId, given: String) -> Result<Vec<EventSeq>, Problem> {
    let ours = given.parse::<EventId>().ok().filter(|id| id.instance == instance);
    state
        .read(move |reader| {
            if let Some(id) = ours
                && reader.event(id.seq)?.is_some()
            {
                return Ok(vec![id.seq]);
            }
            reader.events_by_sender_id(&given, LISTED_MAX)
        })
        .await
}

fn ambiguous(given: &str, instance: InstanceId, several: &[EventSeq]) -> Problem {
    let ids: Vec<Value> = several.iter().map(|seq| EventId { instance, seq: *seq }.to_string().into()).collect();
    let detail = format!("{} events have the sender's id {given:?}; ask for one of events", ids.len());
    Problem::new(StatusCode::CONFLICT, "ambiguous_id", "Several events have this id", detail).with_member("events", ids)
}

/// What the store tells of an event's deliveries.
#[derive(Clone, Copy)]
struct Told<'a> {
    deliveries: &'a Deliveries,
    details: &'a Details,
}

fn trace<'a, 'b>(
    id: EventId,
    event: &'a Event,
    told: Told<'a>,
    names: &Names,
    lane: impl Fn(DestinationId) -> Option<&'b LaneView>,
) -> Trace<'a> {
    let deliveries = told
        .deliveries
        .iter()
        .map(|(destination, delivery, attempts)| DeliveryDto {
            id: delivery_id(id.instance, DeliveryKey { seq: id.seq, destination: *destination }),
            destination: names.shown(*destination),
            status: delivery.state.status().as_str(),
            target: delivery.target.as_ref().map(crate::domain::name::TargetName::as_str),
            reason: delivery.state.reason(),
            detail: told.details.get(destination).map(String::as_str),
            attempt_count: delivery.history.counted,
            next_attempt_at: rfc3339(next_attempt(delivery.state.due_at(), lane(*destination))),
            attempts: attempts
                .iter()
                .map(|attempt| AttemptDto {
                    n: attempt.n,
                    at: attempt.at.to_rfc3339(),
                    ms: attempt.took.0,
                    status: attempt.http_status,
                    verdict: &attempt.verdict,
                    response: &attempt.response,
                    phases: attempt.phases.into(),
                    proxy: attempt.proxy.as_deref(),
                    left_out: attempt.left_out.iter().map(LeftOutDto::from).collect(),
                })
                .collect(),
        })
        .collect();
    Trace {
        id: id.to_string(),
        event_id: event.event_id.as_deref(),
        event: event.canonical.as_str(),
        source: event.source.as_str(),
        received_at: event.received_at.to_rfc3339(),
        occurred_at_ms: event.occurred_at.time().0,
        payload: EventDto::new(id, event),
        deliveries,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::delivery::{History, LeftOut, State};
    use crate::domain::event::tests::sample;
    use crate::domain::outcome::RetryReason;
    use crate::domain::time::UnixMs;
    use crate::http::problem::tests::shown;

    fn deliveries() -> Deliveries {
        let at = UnixMs(1_795_304_438_000);
        let delivery = Delivery {
            received_at: at,
            target: "Purchase".parse().ok(),
            state: State::Failed { due_at: at + DurationMs(30_000), reason: RetryReason::Transient },
            history: History { counted: 1, ..History::new(at) },
        };
        let attempt = Attempt {
            n: 1,
            at,
            took: DurationMs(31),
            http_status: Some(503),
            verdict: "transient".to_owned(),
            response: "busy".to_owned(),
            left_out: vec![LeftOut { field: "user.phone".to_owned(), why: "holds letters".to_owned() }],
            phases: Phases { connect: None, first_byte: Some(DurationMs(30)), body: Some(DurationMs(0)) },
            proxy: Some("socks5://127.0.0.1:1080".into()),
            called: None,
        };
        vec![(DestinationId(1), delivery, vec![attempt])]
    }

    fn shown_trace(deliveries: &Deliveries) -> String {
        let names = Names::new([("meta-eu".parse().unwrap(), DestinationId(1))]);
        let id = EventId { instance: InstanceId::from_random(0), seq: EventSeq(7) };
        let told = Told { deliveries, details: &Details::new() };
        let active = LaneView { state: "active", reason: None, until: None, paused_by: None, in_flight: 0 };
        serde_json::to_string_pretty(&trace(id, &sample(), told, &names, |_| Some(&active))).unwrap()
    }

    #[test]
    fn a_trace_has_the_contracted_shape() {
        insta::assert_snapshot!(shown_trace(&Vec::new()), @r#"
        {
          "id": "evt_000000000000000000007",
          "event_id": "trade-1",
          "event": "deposit",
          "source": "app",
          "received_at": "2025-11-24T16:00:01.000Z",
          "occurred_at_ms": 1764000000000,
          "payload": {
            "id": "evt_000000000000000000007",
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
          "deliveries": []
        }
        "#);
    }

    #[test]
    fn a_trace_tells_every_delivery_with_every_attempt() {
        let shown = shown_trace(&deliveries());
        let (_, deliveries) = shown.split_once("\"deliveries\": ").unwrap();
        insta::assert_snapshot!(deliveries, @r#"
        [
            {
              "id": "dlv_0000000000000000000070001",
              "destination": "meta-eu",
              "status": "failed",
              "target": "Purchase",
              "reason": "transient",
              "detail": null,
              "attempt_count": 1,
              "next_attempt_at": "2026-11-21T23:41:08.000Z",
              "attempts": [
                {
                  "n": 1,
                  "at": "2026-11-21T23:40:38.000Z",
                  "ms": 31,
                  "status": 503,
                  "verdict": "transient",
                  "response": "busy",
                  "phases": {
                    "connect_ms": null,
                    "first_byte_ms": 30,
                    "body_ms": 0
                  },
                  "proxy": "socks5://127.0.0.1:1080",
                  "left_out": [
                    {
                      "field": "user.phone",
                      "why": "holds letters"
                    }
                  ]
                }
              ]
            }
          ]
        }
        "#);
    }

    #[test]
    fn an_id_of_several_events_lists_them() {
        let problem = ambiguous("7", InstanceId::from_random(0), &[EventSeq(1), EventSeq(2)]);
        insta::assert_snapshot!(shown(&problem), @r#"
        {
          "type": "urn:postbackd:problem:ambiguous_id",
          "title": "Several events have this id",
          "status": 409,
          "code": "ambiguous_id",
          "detail": "2 events have the sender's id \"7\"; ask for one of events",
          "events": [
            "evt_000000000000000000001",
            "evt_000000000000000000002"
          ]
        }
        "#);
    }
}
