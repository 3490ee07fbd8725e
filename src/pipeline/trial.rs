//! Looking before sending: the request an event would become, and one test event sent at once.
//!
//! Neither touches the books: nothing is stored, no lane hears of it, no statistics move. What is sent goes through the
//! destination's own client, so its timeout and the judgement of addresses hold; pauses, holds and limits of its lane
//! do not, since a test is what tells whether they may end.

use std::convert::Infallible;

use tracing::info;

use super::{Pipeline, dispatch, fanout};
use crate::config::snapshot::Destination;
use crate::destination::{
    JudgeContext, Judgement, LeftOut, Outgoing, Prepared, PreparedRequest, Unsendable, body_shown,
};
use crate::domain::delivery::RequestView;
use crate::domain::event::Event;
use crate::domain::id::{DeliveryId, DeliveryKey, DestinationId, EventSeq};
use crate::domain::limits::{EVENT_ID_BYTES, RESPONSE_EXCERPT_BYTES};
use crate::domain::message::{cut, printable};
use crate::domain::name::TargetName;
use crate::domain::outcome::{SkipReason, Verdict};
use crate::domain::secret::Redactor;
use crate::domain::time::{DurationMs, UnixMs};
use crate::env::transport::{Answer, Exchange};

/// What begins the event id of every test.
const TEST: &str = "test-";

/// Headers of an answer that tell something about what became of the event.
const TELLING: [&str; 9] = [
    "content-type",
    "date",
    "location",
    "retry-after",
    "server",
    "www-authenticate",
    "x-fb-trace-id",
    "x-business-use-case-usage",
    "x-request-id",
];

/// Sequence numbers of tests: a store counts up from 1 and never comes here, so that no test takes a delivery's id.
const TEST_SEQ: u64 = 1 << 63;

/// An event as one destination would get it.
#[derive(Debug)]
pub struct Rendering {
    /// What the destination calls it.
    pub target: Option<TargetName>,
    /// Why ingest would not owe it to the destination.
    pub skipped: Option<SkipReason>,
    pub made: Made,
}

/// What could be made of it.
#[derive(Debug)]
pub enum Made {
    Request(Box<PreparedRequest>, Vec<LeftOut>),
    /// The destination has no name for it.
    Unmapped,
    Refused(Unsendable),
}

/// A test that was sent, or that could not be.
#[derive(Debug)]
pub struct Trial {
    /// As it was sent, with its mark.
    pub event: Event,
    pub target: Option<TargetName>,
    pub skipped: Option<SkipReason>,
    pub ended: TrialEnd,
}

#[derive(Debug)]
pub enum TrialEnd {
    /// Nothing was sent: the destination has no name for the event.
    Unmapped,
    /// Nothing was sent: no request can be made of the event.
    Refused(Unsendable),
    Sent(Sent),
}

/// The whole exchange, fit to be shown.
#[derive(Debug)]
pub struct Sent {
    pub request: RequestView,
    pub left_out: Vec<LeftOut>,
    /// `None` where no whole answer came.
    pub response: Option<Response>,
    pub took: DurationMs,
    pub verdict: Verdict,
    /// What happened, in words.
    pub detail: String,
}

/// What came back, less secrets and what tells nothing.
#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Pipeline {
    /// The request `destination` would get for `event` now, under `target` instead of its own name for it if one is given.
    pub fn preview(&self, destination: &Destination, event: &Event, target: Option<TargetName>) -> Rendering {
        let id = self.made_up_id(destination, EventSeq(0));
        let now = self.env.clock.now();
        let prepare = |outgoing: &Outgoing<'_>| Ok(destination.adapter.prepare(std::slice::from_ref(outgoing), now));
        let Ok(rendering) = render::<Infallible>(destination, event, id, target, prepare);
        rendering
    }

    /// Marks `event` as a test and sends it to `destination`, once, now. `Err` says in words why it would not be taken
    /// for a test there; nothing was sent then.
    pub async fn trial(&self, destination: &Destination, event: Event, code: Option<&str>) -> Result<Trial, String> {
        let dice = self.env.entropy.next_u64();
        let event = marked(event, dice);
        let id = self.made_up_id(destination, EventSeq(TEST_SEQ | dice));
        let now = self.env.clock.now();
        let prepare = |outgoing: &Outgoing<'_>| destination.adapter.prepare_test(outgoing, now, code);
        let Rendering { target, skipped, made } = render(destination, &event, id, None, prepare)?;
        let ended = match made {
            Made::Unmapped => TrialEnd::Unmapped,
            Made::Refused(unsendable) => TrialEnd::Refused(unsendable),
            Made::Request(prepared, left_out) => {
                let view = prepared.view(destination.adapter.redactor());
                let PreparedRequest { request, .. } = *prepared;
                let exchange = self.env.transport.exchange(&destination.name, destination.fingerprint, request).await;
                TrialEnd::Sent(conclude(destination, view, left_out, exchange, self.env.clock.now()))
            }
        };
        if let TrialEnd::Sent(sent) = &ended {
            info!(destination = %destination.name, verdict = sent.verdict.as_str(), "A test event was sent.");
        }
        Ok(Trial { event, target, skipped, ended })
    }

    fn made_up_id(&self, destination: &Destination, seq: EventSeq) -> DeliveryId {
        let number = self.destination_ids().get(&destination.name).copied();
        let key = DeliveryKey { seq, destination: number.unwrap_or(DestinationId(0)) };
        DeliveryId { instance: self.instance, key }
    }
}

/// `Err` is what `prepare` refuses.
fn render<E>(
    destination: &Destination,
    event: &Event,
    id: DeliveryId,
    target: Option<TargetName>,
    prepare: impl FnOnce(&Outgoing<'_>) -> Result<Prepared, E>,
) -> Result<Rendering, E> {
    let skipped = fanout::decide(destination, event).err();
    let own = || destination.events.target(&event.canonical, destination.adapter.as_ref());
    let Some(target) = target.or_else(own) else {
        return Ok(Rendering { target: None, skipped, made: Made::Unmapped });
    };
    let prepared = prepare(&Outgoing { id, target: &target, event })?;
    let made = match prepared.only() {
        Ok((request, left_out)) => Made::Request(Box::new(request), left_out),
        Err(unsendable) => Made::Refused(unsendable),
    };
    Ok(Rendering { target: Some(target), skipped, made })
}

/// `event` as nobody can take it for a real one: its id begins with `test-` and is not used twice, `data.test` is true.
fn marked(mut event: Event, dice: u64) -> Event {
    let id = match event.event_id.take() {
        Some(id) if id.starts_with(TEST) => id,
        Some(id) => format!("{TEST}{id}"),
        None => format!("{TEST}{dice:016x}"),
    };
    event.event_id = Some(cut(&id, EVENT_ID_BYTES).to_owned());
    event.data.insert("test".to_owned(), true.into());
    event
}

fn conclude(
    destination: &Destination,
    request: RequestView,
    left_out: Vec<LeftOut>,
    exchange: Exchange,
    now: UnixMs,
) -> Sent {
    let redactor = destination.adapter.redactor();
    let (Judgement { verdict, detail, .. }, response) = match exchange.result {
        Ok(answer) => {
            let context = JudgeContext { sent: 1, transient: &destination.retry.statuses, now };
            (destination.adapter.judge(&answer, context), Some(shown(&answer, redactor)))
        }
        Err(fault) => (dispatch::judge_fault(fault), None),
    };
    Sent { request, left_out, response, took: exchange.took, verdict, detail: redactor.redact(&detail) }
}

/// Secrets are replaced before the cut, so that none is cut in half and passes.
fn shown(answer: &Answer, redactor: &Redactor) -> Response {
    let clean = |text: &str| printable(redactor.redact(text).as_bytes(), RESPONSE_EXCERPT_BYTES);
    let telling = answer.headers.iter().filter(|(name, _)| TELLING.contains(&name.as_str()));
    Response {
        status: answer.status,
        headers: telling.map(|(name, value)| (name.clone(), clean(value))).collect(),
        body: body_shown(&answer.body, redactor),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::event::tests::sample;
    use crate::domain::secret::Secret;

    #[test]
    fn a_test_is_marked_whatever_the_event_was() {
        let with_id = |id: Option<&str>| marked(Event { event_id: id.map(str::to_owned), ..sample() }, 255);
        for (given, wanted) in
            [(Some("trade-1"), "test-trade-1"), (Some("test-7"), "test-7"), (None, "test-00000000000000ff")]
        {
            let event = with_id(given);
            assert_eq!(event.event_id.as_deref(), Some(wanted));
            assert_eq!(event.data["test"], true);
        }
        let longest = with_id(Some(&"x".repeat(EVENT_ID_BYTES))).event_id.unwrap();
        assert!(longest.starts_with(TEST) && longest.len() == EVENT_ID_BYTES);
    }

    // Row 54.
    #[test]
    fn an_answer_is_shown_without_secrets_and_without_what_tells_nothing() {
        let redactor = Redactor::new(&[Secret::new("s3cr3t-s3cr3t".to_owned())]);
        let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let body = format!("{}s3cr3t-s3cr3t", "x".repeat(RESPONSE_EXCERPT_BYTES - 5)).into_bytes();
        let headers = vec![
            header("set-cookie", "session=1"),
            header("location", "https://h.example/?t=s3cr3t-s3cr3t"),
            header("server", "\u{1b}[2J"),
        ];
        let response = shown(&Answer { status: 302, headers, body }, &redactor);
        let wanted = [header("location", "https://h.example/?t=[redacted]"), header("server", "\u{fffd}[2J")];
        assert_eq!(response.headers, wanted);
        assert!(!response.body.contains("s3cr"), "a secret at the cut does not pass in half");
        assert_eq!(response.body.len(), RESPONSE_EXCERPT_BYTES);
    }
}
