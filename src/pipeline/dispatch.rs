//! One attempt: read the event, render the request from the current configuration, make the exchange, judge the answer.

use std::sync::Arc;

use tracing::{debug, error};

use crate::config::snapshot::Destination;
use crate::destination::{JudgeContext, Judgement, LeftOut, Outgoing, Prepared, PreparedRequest, Unsendable};
use crate::domain::delivery::{Attempt, Autopsy, RequestView};
use crate::domain::event::Event;
use crate::domain::id::{DeliveryId, DeliveryKey, InstanceId};
use crate::domain::limits::{ATTEMPT_EXCERPT_BYTES, REQUEST_EXCERPT_BYTES, RESPONSE_EXCERPT_BYTES};
use crate::domain::message::{cut, printable};
use crate::domain::outcome::{DeadReason, RetryReason, Verdict};
use crate::domain::time::{DurationMs, UnixMs};
use crate::env::Env;
use crate::env::transport::{Answer, Exchange, Fault};
use crate::store::read::Reader;
use crate::store::write::Owed;

use super::scheduler::Ended;

/// What an attempt needs beside the delivery.
#[derive(Clone, Debug)]
pub(super) struct Dispatcher {
    pub env: Env,
    pub reader: Reader,
    pub instance: InstanceId,
}

/// An attempt that ended, with what statistics need of it.
#[derive(Debug)]
pub(super) struct Report {
    pub ended: Ended,
    pub event: Option<Arc<Event>>,
    pub took: DurationMs,
}

impl Dispatcher {
    /// Makes one attempt for `owed`. Never fails: whatever happens is a verdict.
    pub(super) async fn attempt(self, destination: Arc<Destination>, owed: Owed) -> Report {
        let event = match self.event(&owed).await {
            Ok(event) => event,
            Err(detail) => return Report { ended: unreadable(owed.key, detail), event: None, took: DurationMs::ZERO },
        };
        let at = self.env.clock.now();
        let (ended, took) = match prepare(&destination, self.instance, &owed, &event, at) {
            Ok(prepared) => {
                let PreparedRequest { request, view } = prepared;
                let exchange = self.env.transport.exchange(&destination.name, request).await;
                let took = exchange.took;
                (conclude(&destination, &owed, view, exchange, at, self.env.clock.now()), took)
            }
            Err(unsendable) => (refused(owed.key, unsendable), DurationMs::ZERO),
        };
        debug!(destination = %destination.name, verdict = ended.verdict.as_str(), "An attempt ended.");
        Report { ended, event: Some(event), took }
    }

    async fn event(&self, owed: &Owed) -> Result<Arc<Event>, String> {
        if let Some(event) = &owed.event {
            return Ok(Arc::clone(event));
        }
        let reader = self.reader.clone();
        let seq = owed.key.seq;
        match tokio::task::spawn_blocking(move || reader.event(seq)).await {
            Ok(Ok(Some(event))) => Ok(event),
            Ok(Ok(None)) => Err("the stored event is missing or damaged".to_owned()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// Renders the request of one delivery at `now`.
pub fn prepare(
    destination: &Destination,
    instance: InstanceId,
    owed: &Owed,
    event: &Event,
    now: UnixMs,
) -> Result<PreparedRequest, Unsendable> {
    let id = DeliveryId { instance, key: owed.key };
    let prepared = destination.adapter.prepare(&[Outgoing { id, target: &owed.target, event }], now);
    only(prepared).map(|(request, _)| request)
}

/// The request of one delivery that was prepared by itself, with what was left out.
pub(super) fn only(prepared: Prepared) -> Result<(PreparedRequest, Vec<LeftOut>), Unsendable> {
    match (prepared.parts.into_iter().next(), prepared.request) {
        (Some(Err(unsendable)), _) => Err(unsendable),
        (Some(Ok(left_out)), Some(request)) => Ok((request, left_out)),
        (Some(Ok(_)) | None, _) => {
            Err(Unsendable { reason: DeadReason::Invalid, detail: "no request could be made of this event".to_owned() })
        }
    }
}

/// Turns an exchange into the end of the attempt: verdict, trace, and what the DLQ would keep.
pub fn conclude(
    destination: &Destination,
    owed: &Owed,
    view: RequestView,
    exchange: Exchange,
    at: UnixMs,
    now: UnixMs,
) -> Ended {
    let redactor = destination.adapter.redactor();
    let (judgement, http_status, said) = match exchange.result {
        Ok(answer) => {
            let context = JudgeContext { sent: 1, transient: &destination.retry.statuses, now };
            let judgement = destination.adapter.judge(&answer, context);
            let Answer { status, body, .. } = answer;
            (judgement, Some(status), redactor.redact(&printable(&body, RESPONSE_EXCERPT_BYTES)))
        }
        Err(fault) => {
            let judgement = judge_fault(fault);
            let said = redactor.redact(&judgement.detail);
            (judgement, None, said)
        }
    };
    let Judgement { verdict, detail } = judgement;
    let attempt = Attempt {
        n: owed.history.exchanges.saturating_add(1),
        at,
        took: exchange.took,
        http_status,
        verdict: verdict.as_str().to_owned(),
        response: cut(&said, ATTEMPT_EXCERPT_BYTES).to_owned(),
    };
    let view = RequestView { body: cut(&view.body, REQUEST_EXCERPT_BYTES).to_owned(), ..view };
    let autopsy = Autopsy {
        detail: detail.clone(),
        request: Some(view),
        http_status,
        response: cut(&said, RESPONSE_EXCERPT_BYTES).to_owned(),
    };
    Ended { key: owed.key, verdict, detail, attempt: Some(attempt), autopsy }
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
        Fault::Proxy(text) => (Verdict::ProxyFault, text),
    };
    Judgement { verdict, detail }
}

fn refused(key: DeliveryKey, unsendable: Unsendable) -> Ended {
    let Unsendable { reason, detail } = unsendable;
    let autopsy = Autopsy { detail: detail.clone(), request: None, http_status: None, response: String::new() };
    Ended { key, verdict: Verdict::Permanent { reason }, detail, attempt: None, autopsy }
}

/// The event cannot be read now. That is our fault, not the event's: it stays owed, and its lane waits before it looks
/// again.
pub fn unreadable(key: DeliveryKey, detail: String) -> Ended {
    error!(?key, %detail, "An owed event cannot be read.");
    let autopsy = Autopsy { detail: detail.clone(), request: None, http_status: None, response: String::new() };
    Ended {
        key,
        verdict: Verdict::Transient { reason: RetryReason::Transient, not_before: None },
        detail,
        attempt: None,
        autopsy,
    }
}
