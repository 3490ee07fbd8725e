//! Receivers with a script: each has a temper that changes over time, and remembers everything it was ever sent.

use std::collections::BTreeMap;

use postbackd::domain::limits::RESPONSE_BODY_BYTES;
use postbackd::domain::time::{DurationMs, UnixMs};
use postbackd::env::transport::{Answer, Exchange, Fault, Request, Trail};

use crate::rng::Rng;

/// How a peer behaves for the time being.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Temper {
    Healthy,
    /// 503.
    Down,
    /// 429, half of the time with `Retry-After`.
    Throttling,
    /// Nobody listens.
    Refusing,
    /// Takes the request and never answers.
    Silent,
    /// Takes the request and cuts the connection.
    Cutting,
    /// 401: the token is bad.
    Locked,
    /// 410: it will never be there again, it says.
    Gone,
    /// A bit of everything.
    Moody,
    /// 503 every other time.
    Flapping,
    /// Works, and takes so long that half of its answers come too late.
    Slow,
    /// Answers without end.
    Flooding,
}

const TEMPERS: [Temper; 12] = [
    Temper::Healthy,
    Temper::Down,
    Temper::Throttling,
    Temper::Refusing,
    Temper::Silent,
    Temper::Cutting,
    Temper::Locked,
    Temper::Gone,
    Temper::Moody,
    Temper::Flapping,
    Temper::Slow,
    Temper::Flooding,
];

/// One receiver.
#[derive(Debug)]
pub struct Peer {
    pub temper: Temper,
    /// Where it listens now, and since it moved there: nothing comes to where it was.
    pub host: String,
    /// By id: what was said about each event, and how often it was taken.
    pub received: BTreeMap<String, Received>,
    /// Events that had been sent to where it was before.
    pub followed: u64,
    /// Answers without end.
    pub floods: u64,
}

/// What a peer has seen of one delivery.
#[derive(Debug, Default, Clone)]
pub struct Received {
    pub body: String,
    pub times: u64,
    pub accepted: u64,
    /// Where it was sent to last.
    host: String,
    /// A restore forgot the event, and its sender may say something else under the same id.
    pub may_change: bool,
}

/// Which events a peer refuses for good, as its bodies name them.
pub const POISON: &str = "\"poison\":true";

impl Peer {
    pub fn new(host: String) -> Self {
        Self { temper: Temper::Healthy, host, received: BTreeMap::new(), followed: 0, floods: 0 }
    }

    pub fn change_temper(&mut self, rng: &Rng) {
        self.temper = if rng.percent(50) { Temper::Healthy } else { TEMPERS[rng.below(TEMPERS.len() as u64) as usize] };
    }

    /// One exchange: what happens, and how long it takes. Every event that reaches the peer is remembered.
    pub fn exchange(&mut self, request: &Request, rng: &Rng) -> Said {
        let temper = match self.temper {
            Temper::Moody => TEMPERS[rng.below(6) as usize],
            Temper::Flapping if rng.percent(50) => Temper::Down,
            Temper::Slow if rng.percent(50) => Temper::Silent,
            steady => steady,
        };
        let host = request.url.host_str().unwrap_or_default();
        assert_eq!(host, self.host, "sent to where the receiver is not");
        let key = request.headers.iter().find(|(name, _)| name == "x-key");
        assert!(key.is_none_or(|(_, key)| *key == self.host), "sent with a key of before: {key:?}");
        if temper == Temper::Refusing {
            let exchange = exchange(1, Err(Fault::Network("connection refused".to_owned())));
            return Said { exchange, retried: Retried::Backoff, taken: false };
        }
        let events = events(request);
        let batched = request.headers.iter().all(|(name, _)| name != "webhook-id");
        for (id, body) in &events {
            let received = self.received.entry(id.clone()).or_default();
            assert!(
                received.times == 0 || received.body == *body || std::mem::take(&mut received.may_change),
                "the same delivery was sent with another body: {} then {body}",
                received.body,
            );
            received.body.clone_from(body);
            self.followed += u64::from(received.times > 0 && received.host != self.host);
            received.host.clone_from(&self.host);
            received.times += 1;
        }
        let took = if temper == Temper::Slow { rng.between(10_000, 14_999) } else { rng.between(1, 400) };
        let poisoned = events.iter().any(|(_, body)| body.contains(POISON));
        let said = |exchange, retried| Said { exchange, retried, taken: false };
        match temper {
            Temper::Silent => {
                let exchange = exchange(15_000, Err(Fault::Timeout { sent: true }));
                self.say_nothing(exchange, &events, rng)
            }
            Temper::Cutting => {
                let exchange = exchange(took, Err(Fault::Ambiguous("connection reset".to_owned())));
                self.say_nothing(exchange, &events, rng)
            }
            Temper::Flooding => self.flood(took, &events, rng),
            Temper::Down => said(answer(took, 503, &[]), Retried::Backoff),
            Temper::Locked => said(answer(took, 401, &[]), Retried::NotCounted),
            // Only a webhook's receiver can be gone; the platform behind a batch locks us out.
            Temper::Gone if batched => said(answer(took, 401, &[]), Retried::NotCounted),
            Temper::Gone => said(answer(took, 410, &[]), Retried::NotCounted),
            Temper::Throttling if rng.percent(50) => {
                let seconds = rng.between(1, 200);
                let exchange = answer(took, 429, &[("retry-after", &seconds.to_string())]);
                said(exchange, Retried::After(DurationMs::from_secs(seconds)))
            }
            Temper::Throttling => said(answer(took, 429, &[]), Retried::Backoff),
            // Well, whatever else.
            _ if poisoned && events.len() > 1 => said(answer(took, 422, &[]), Retried::Split),
            _ if poisoned => said(answer(took, 422, &[]), Retried::Never),
            _ => {
                self.take(&events);
                Said { exchange: answer(took, 200, &[]), retried: Retried::Never, taken: true }
            }
        }
    }

    /// Nobody can tell whether it was taken.
    fn say_nothing(&mut self, exchange: Exchange, events: &[(String, String)], rng: &Rng) -> Said {
        let poisoned = events.iter().any(|(_, body)| body.contains(POISON));
        let taken = !poisoned && rng.percent(50);
        if taken {
            self.take(events);
        }
        Said { exchange, retried: Retried::Ambiguously, taken }
    }

    /// An answer without end, as the wire hands it on: cut at its cap, with headers that are refused, or given up when the
    /// time is over.
    fn flood(&mut self, took: u64, events: &[(String, String)], rng: &Rng) -> Said {
        self.floods += 1;
        let cut = |status| Answer { status, headers: Vec::new(), body: vec![b'~'; RESPONSE_BODY_BYTES] };
        let is_well = events.iter().all(|(_, body)| !body.contains(POISON));
        match rng.below(4) {
            0 if is_well => {
                self.take(events);
                Said { exchange: exchange(took, Ok(cut(200))), retried: Retried::Never, taken: true }
            }
            0 | 1 => Said { exchange: exchange(took, Ok(cut(503))), retried: Retried::Backoff, taken: false },
            2 => {
                let fault = Fault::Ambiguous("the answer's headers are too large".to_owned());
                self.say_nothing(exchange(took, Err(fault)), events, rng)
            }
            _ => {
                let fault = Fault::Ambiguous("an answer with status 200 began, but it did not end in time".to_owned());
                self.say_nothing(exchange(15_000, Err(fault)), events, rng)
            }
        }
    }

    fn take(&mut self, events: &[(String, String)]) {
        for (id, _) in events {
            let received = self.received.get_mut(id).expect("it was received");
            received.accepted += 1;
        }
    }
}

/// The events of a request with their ids: one of a webhook, any number of a batch.
fn events(request: &Request) -> Vec<(String, String)> {
    let body = String::from_utf8_lossy(&request.body).into_owned();
    if let Some((_, id)) = request.headers.iter().find(|(name, _)| name == "webhook-id") {
        return vec![(id.clone(), body)];
    }
    let body: serde_json::Value = serde_json::from_str(&body).expect("a batch is JSON");
    let list = body["data"].as_array().expect("a batch has a list");
    let event = |event: &serde_json::Value| {
        let mut event = event.clone();
        let id = format!("{}/{}", event["event_name"], event["event_id"]);
        // A clock that was set back brings the event's time down with it.
        event.as_object_mut().expect("an event is an object").remove("event_time");
        (id, event.to_string())
    };
    list.iter().map(event).collect()
}

/// An exchange as the peer knows it.
#[derive(Debug)]
pub struct Said {
    pub exchange: Exchange,
    pub retried: Retried,
    /// Whether it took all that was in the request; else it took nothing.
    pub taken: bool,
}

/// What the peer's answer asks of the sender, worked out here and not by the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retried {
    /// Never again: delivered or refused for good.
    Never,
    /// Not before the backoff of this attempt.
    Backoff,
    /// The same, and the receiver may have taken it.
    Ambiguously,
    /// Not before the backoff; there was no exchange, so it does not count.
    Unread,
    /// Not before the backoff, and not before this.
    After(DurationMs),
    /// Whenever the hold is probed, or the pause is over; the attempt does not count.
    NotCounted,
    /// At once, in smaller company; the attempt does not count.
    Split,
}

fn exchange(took: u64, result: Result<Answer, Fault>) -> Exchange {
    Exchange { took: DurationMs(took), trail: Trail::default(), result }
}

fn answer(took: u64, status: u16, headers: &[(&str, &str)]) -> Exchange {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    exchange(took, Ok(Answer { status, headers, body: b"said the peer".to_vec() }))
}

/// The least backoff after the `made`-th counting attempt, worked out from SPEC 5 (30 s, doubled, at most 1 h, ±20 %).
pub fn least_backoff(made: u32) -> DurationMs {
    let plain = (30_000_u64 << made.saturating_sub(1).min(20)).min(3_600_000);
    DurationMs(plain * 8 / 10)
}

/// When the next attempt may come at the earliest. What an answer asked for counts from when it came, by the clock that the
/// exchange began with: one that was set forward meanwhile is no reason to wait longer.
pub fn not_before(now: UnixMs, answered_at: UnixMs, made: u32, retried: Retried, deadline: UnixMs) -> UnixMs {
    let earliest = match retried {
        Retried::Never => UnixMs(u64::MAX),
        Retried::Backoff | Retried::Ambiguously | Retried::Unread => now + least_backoff(made),
        Retried::After(span) => (answered_at.min(now) + span).max(now + least_backoff(made)),
        Retried::NotCounted | Retried::Split => now,
    };
    // One last attempt at the deadline is allowed whatever was asked.
    if retried == Retried::Never { earliest } else { earliest.min(deadline) }
}
