//! One exchange: read the events, render the request from the current configuration, make the exchange, judge the answer.
//! It carries one delivery, or several where the kind gathers them.

use std::sync::Arc;

use tokio::sync::Semaphore;
use tracing::{debug, error};

use crate::config::snapshot::Destination;
use crate::destination::{JudgeContext, Judgement, Outgoing, PreparedRequest, Unsendable, body_shown};
use crate::domain::delivery::{Attempt, Autopsy, LeftOut, RequestView};
use crate::domain::event::{Event, Object};
use crate::domain::id::{DeliveryId, DeliveryKey, EventSeq, InstanceId};
use crate::domain::limits::{
    ATTEMPT_EXCERPT_BYTES, LEFT_OUT_BYTES, LEFT_OUT_KEPT, REQUEST_EXCERPT_BYTES, RESPONSE_EXCERPT_BYTES,
};
use crate::domain::message::cut;
use crate::domain::name::TargetName;
use crate::domain::outcome::{DeadReason, RetryReason, Verdict};
use crate::domain::person;
use crate::domain::time::{DurationMs, UnixMs};
use crate::env::Env;
use crate::env::transport::{Answer, Exchange, Fault};
use crate::store::read::Reader;
use crate::store::write::Owed;

use super::loader::Loader;
use super::scheduler::{Ended, Part, PartEnd};

/// What an exchange needs beside the deliveries.
#[derive(Clone, Debug)]
pub(super) struct Dispatcher {
    env: Env,
    loader: Loader,
    pub instance: InstanceId,
    /// Exchanges that may be under way at a time ([`super::turns`]).
    turns: Arc<Semaphore>,
}

/// An exchange that ended, with what statistics need of it.
#[derive(Debug)]
pub(super) struct Report {
    pub ended: Ended,
    /// The events of the parts, in their order; `None` where one could not be read.
    pub events: Vec<Option<Arc<Event>>>,
    pub took: DurationMs,
}

/// A delivery with its event, or with what kept the event from being read.
#[derive(Debug)]
pub struct Loaded {
    pub owed: Owed,
    /// What the event is called now, where that is another name than its delivery has.
    pub called: Option<TargetName>,
    pub event: Result<Arc<Event>, Missing>,
}

/// Why an event is not at hand.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Missing {
    /// It cannot be read.
    Unreadable(String),
    /// It was not read, since those before it fill the request.
    NotYet,
}

impl Dispatcher {
    pub(super) fn new(env: Env, reader: Reader, instance: InstanceId, exchanges: usize) -> Self {
        Self { env, loader: Loader::new(reader), instance, turns: Arc::new(Semaphore::new(exchanges)) }
    }

    /// Makes one exchange for `batch`. Never fails: whatever happens is a verdict.
    pub(super) async fn attempt(self, destination: Arc<Destination>, batch: Vec<Owed>) -> Report {
        let loaded = self.load(batch).await;
        let events = loaded.iter().map(|loaded| loaded.event.as_ref().ok().map(Arc::clone)).collect();
        // It is never closed; were it, sending would matter more than the bound.
        let turn = self.turns.acquire().await;
        let at = self.env.clock.now();
        let rendered = render(&destination, self.instance, loaded, at);
        let (ended, took) = match rendered.request {
            Some(PreparedRequest { request, .. }) => {
                let exchange = self.env.transport.exchange(&destination.name, destination.fingerprint, request).await;
                let (took, now) = (exchange.took, self.env.clock.now());
                let sent = Sent { parts: rendered.parts, at };
                (conclude(&destination, self.instance, sent, exchange, now), took)
            }
            None => (none_sent(rendered.parts), DurationMs::ZERO),
        };
        drop(turn);
        let verdict = ended.answer.as_ref().map(|answer| answer.verdict.as_str());
        debug!(destination = %destination.name, verdict, deliveries = ended.parts.len(), "An exchange ended.");
        Report { ended, events, took }
    }

    /// Adds the events that are not at hand, all in one go.
    async fn load(&self, batch: Vec<Owed>) -> Vec<Loaded> {
        let at_hand = |mut owed: Owed| (owed.event.take().map(of_its_own), owed);
        let batch: Vec<(Option<Arc<Event>>, Owed)> = batch.into_iter().map(at_hand).collect();
        let missing: Vec<EventSeq> =
            batch.iter().filter(|(event, _)| event.is_none()).map(|(_, owed)| owed.key.seq).collect();
        let found = if missing.is_empty() { Ok(Vec::new()) } else { self.loader.load(missing).await };
        let mut found = found.map(Vec::into_iter);
        let mut read = || match &mut found {
            Ok(events) => match events.next() {
                Some(Some(event)) => Ok(event),
                Some(None) => Err(Missing::Unreadable("the stored event is missing or damaged".to_owned())),
                None => Err(Missing::NotYet),
            },
            Err(error) => Err(Missing::Unreadable(error.clone())),
        };
        let load =
            |(event, owed): (Option<_>, _)| Loaded { event: event.map_or_else(&mut read, Ok), called: None, owed };
        batch.into_iter().map(load).collect()
    }
}

/// One delivery after rendering.
#[derive(Debug)]
pub enum Rendered {
    /// It is in the request, less this.
    Sent {
        loaded: Loaded,
        left_out: Vec<LeftOut>,
    },
    Unsendable {
        key: DeliveryKey,
        unsendable: Unsendable,
    },
    Unreadable {
        key: DeliveryKey,
        detail: String,
    },
    /// There was no room for it.
    NoRoom {
        key: DeliveryKey,
    },
}

/// A request with what it carries.
#[derive(Debug)]
pub struct Rendering {
    /// `None` where nothing of the batch can be sent.
    pub request: Option<PreparedRequest>,
    /// In the order of the batch.
    pub parts: Vec<Rendered>,
}

/// Renders one request of `batch` at `now`.
pub fn render(destination: &Destination, instance: InstanceId, mut batch: Vec<Loaded>, now: UnixMs) -> Rendering {
    for loaded in &mut batch {
        rename(destination, loaded);
    }
    let outgoing: Vec<Outgoing<'_>> = batch.iter().filter_map(|loaded| outgoing(instance, loaded)).collect();
    let (request, rendered) = if outgoing.is_empty() {
        (None, Vec::new())
    } else {
        let prepared = destination.adapter.prepare(&outgoing, now);
        (prepared.request, prepared.parts)
    };
    let made = request.is_some();
    let mut rendered = rendered.into_iter();
    let parts = batch.into_iter().map(|loaded| {
        let key = loaded.owed.key;
        match &loaded.event {
            Err(Missing::Unreadable(detail)) => return Rendered::Unreadable { key, detail: detail.clone() },
            Err(Missing::NotYet) => return Rendered::NoRoom { key },
            Ok(_) => {}
        }
        match rendered.next() {
            Some(Ok(left_out)) if made => Rendered::Sent { loaded, left_out },
            Some(Err(unsendable)) => Rendered::Unsendable { key, unsendable },
            None if made => Rendered::NoRoom { key },
            Some(Ok(_)) | None => {
                let detail = "no request could be made of this event".to_owned();
                Rendered::Unsendable { key, unsendable: Unsendable { reason: DeadReason::Invalid, detail } }
            }
        }
    });
    Rendering { parts: parts.collect(), request }
}

/// Calls the event what the destination calls it now: a map that was mended holds for retries and replays too. What is
/// owed stays owed, so a name that was taken out of the map since keeps what it was called.
fn rename(destination: &Destination, loaded: &mut Loaded) {
    let Ok(event) = &loaded.event else { return };
    let target = destination.events.target(&event.canonical, destination.adapter.as_ref());
    loaded.called = target.filter(|target| *target != loaded.owed.target);
}

fn outgoing(instance: InstanceId, loaded: &Loaded) -> Option<Outgoing<'_>> {
    let event = loaded.event.as_deref().ok()?;
    let target = loaded.called.as_ref().unwrap_or(&loaded.owed.target);
    Some(Outgoing { id: DeliveryId { instance, key: loaded.owed.key }, target, event })
}

/// A request that was sent.
#[derive(Debug)]
pub struct Sent {
    pub parts: Vec<Rendered>,
    pub at: UnixMs,
}

/// The end of a batch of which nothing can be sent.
pub fn none_sent(parts: Vec<Rendered>) -> Ended {
    Ended { answer: None, parts: parts.into_iter().map(unsent).collect() }
}

/// Turns an exchange into its end: verdict, trace, and what the DLQ would keep.
pub fn conclude(destination: &Destination, instance: InstanceId, sent: Sent, exchange: Exchange, now: UnixMs) -> Ended {
    let redactor = destination.adapter.redactor();
    let Sent { parts, at } = sent;
    let count = parts.iter().filter(|part| matches!(part, Rendered::Sent { .. })).count();
    // Secrets are replaced before the cut, so that none is cut in half and passes.
    let (judgement, http_status, said) = match exchange.result {
        Ok(answer) => {
            let context = JudgeContext { sent: count, transient: &destination.retry.statuses, now };
            let mut judgement = destination.adapter.judge(&answer, context);
            // What was taken without a warning is told nowhere.
            if judgement.verdict != Verdict::Delivered || judgement.warns {
                judgement.detail = person::masked(&judgement.detail, people(&parts));
            }
            let Answer { status, body, .. } = answer;
            (judgement, Some(status), body_shown(&body, redactor))
        }
        Err(fault) => {
            let judgement = judge_fault(fault);
            let detail = redactor.redact(&judgement.detail);
            (Judgement { detail: detail.clone(), ..judgement }, None, detail)
        }
    };
    let said = cut(&said, RESPONSE_EXCERPT_BYTES);
    let exchanged = |loaded: Loaded, left_out: Vec<LeftOut>| {
        let attempt = Attempt {
            n: loaded.owed.history.exchanges.saturating_add(1),
            at,
            took: exchange.took,
            http_status,
            verdict: judgement.verdict.as_str().to_owned(),
            response: cut(said, ATTEMPT_EXCERPT_BYTES).to_owned(),
            left_out: bounded(left_out),
            phases: exchange.trail.phases,
            proxy: exchange.trail.proxy.clone(),
            called: loaded.called.clone(),
        };
        let request = match judgement.verdict {
            // Nobody looks at the request of a delivery that was taken.
            Verdict::Delivered => None,
            Verdict::Transient { .. }
            | Verdict::Throttled { .. }
            | Verdict::Permanent { .. }
            | Verdict::DestinationFault
            | Verdict::Gone
            | Verdict::BatchFault
            | Verdict::Ambiguous { .. }
            | Verdict::ProxyFault { .. }
            | Verdict::Cancelled => own_view(destination, instance, &loaded, at),
        };
        let response = said.to_owned();
        let autopsy = Autopsy { detail: judgement.detail.clone(), request, http_status, response };
        Part { key: loaded.owed.key, end: PartEnd::Exchanged { attempt, autopsy } }
    };
    let part = |part| match part {
        Rendered::Sent { loaded, left_out } => exchanged(loaded, left_out),
        other @ (Rendered::Unsendable { .. } | Rendered::Unreadable { .. } | Rendered::NoRoom { .. }) => unsent(other),
    };
    let parts = parts.into_iter().map(part).collect();
    Ended { parts, answer: Some(judgement) }
}

/// What an attempt takes apart of its event goes with the attempt: other lanes may keep the event for long, and have room for
/// its text only.
fn of_its_own(mut event: Arc<Event>) -> Arc<Event> {
    Arc::make_mut(&mut event);
    event
}

/// What the request said about people.
fn people(parts: &[Rendered]) -> impl Iterator<Item = &Object> {
    parts.iter().filter_map(|part| match part {
        Rendered::Sent { loaded, .. } => loaded.event.as_ref().ok().map(|event| &*event.user),
        Rendered::Unsendable { .. } | Rendered::Unreadable { .. } | Rendered::NoRoom { .. } => None,
    })
}

/// The request as the DLQ would show it for one delivery: made once more, since most requests are taken and never looked
/// at, and without those it shared the request with, which may be about other people.
fn own_view(destination: &Destination, instance: InstanceId, loaded: &Loaded, at: UnixMs) -> Option<RequestView> {
    let adapter = &destination.adapter;
    let view = adapter.prepare(&[outgoing(instance, loaded)?], at).request?.view(adapter.redactor());
    Some(RequestView { body: cut(&view.body, REQUEST_EXCERPT_BYTES).to_owned(), ..view })
}

/// The first of them, with a word about the rest. A sender may name any field.
fn bounded(left_out: Vec<LeftOut>) -> Vec<LeftOut> {
    let more = left_out.len().saturating_sub(LEFT_OUT_KEPT);
    let kept = if more > 0 { LEFT_OUT_KEPT - 1 } else { left_out.len() };
    let short = |text: String| cut(&text, LEFT_OUT_BYTES).to_owned();
    let first = left_out.into_iter().take(kept);
    let mut first: Vec<LeftOut> =
        first.map(|left| LeftOut { field: short(left.field), why: short(left.why) }).collect();
    if more > 0 {
        first.push(LeftOut { field: "…".to_owned(), why: format!("and {} more", more + 1) });
    }
    first
}

/// What was not in the exchange.
fn unsent(part: Rendered) -> Part {
    match part {
        Rendered::Unsendable { key, unsendable: Unsendable { reason, detail } } => {
            let autopsy = Autopsy { detail, request: None, http_status: None, response: String::new() };
            Part { key, end: PartEnd::Unsent { verdict: Verdict::Permanent { reason }, autopsy } }
        }
        Rendered::Unreadable { key, detail } => unreadable(key, detail),
        Rendered::NoRoom { key } | Rendered::Sent { loaded: Loaded { owed: Owed { key, .. }, .. }, .. } => {
            Part { key, end: PartEnd::NoRoom }
        }
    }
}

/// The event cannot be read now. That is our fault, not the event's: it stays owed, and waits before it is looked at
/// again.
fn unreadable(key: DeliveryKey, detail: String) -> Part {
    error!(?key, %detail, "An owed event cannot be read.");
    let autopsy = Autopsy { detail, request: None, http_status: None, response: String::new() };
    let verdict = Verdict::Transient { reason: RetryReason::Transient, not_before: None };
    Part { key, end: PartEnd::Unsent { verdict, autopsy } }
}

/// What a missing answer means.
pub(super) fn judge_fault(fault: Fault) -> Judgement {
    let transient = |reason| Verdict::Transient { reason, not_before: None };
    let (verdict, detail) = match fault {
        Fault::Network(text) => (transient(RetryReason::Network), text),
        Fault::Tls(text) => (transient(RetryReason::Tls), text),
        Fault::Timeout { sent: true } => (
            Verdict::Ambiguous { reason: RetryReason::Timeout },
            "no whole answer in time; the request may have been taken".to_owned(),
        ),
        Fault::Timeout { sent: false } => (transient(RetryReason::Timeout), "no connection in time".to_owned()),
        Fault::Ambiguous(text) => (Verdict::Ambiguous { reason: RetryReason::Ambiguous }, text),
        // Every event would fare the same until an operator looks: hold, lose nothing.
        Fault::Refused(text) => (Verdict::DestinationFault, text),
        Fault::Proxy { detail, usable_at } => (Verdict::ProxyFault { usable_at }, detail),
    };
    Judgement::new(verdict, detail)
}

#[cfg(test)]
#[path = "dispatch_tests.rs"]
mod tests;
