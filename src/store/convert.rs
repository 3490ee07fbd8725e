//! Rows into the domain's values and back. Everything a row claims is parsed by the rules its type has anyway, so that
//! what comes out is as valid as what once came in.

use std::str::FromStr;

use super::ledger::{Counts, EventCounts};
use super::row::{
    AttemptRow, AutopsyRow, CountsRow, DeliveryRow, EventCountsRow, EventRow, HistoryRow, KnownTimeRow, PauseRow,
    RequestRow, RowError, StateRow,
};
use crate::domain::delivery::{Attempt, Autopsy, Delivery, History, LeftOut, Phases, RequestView, State};
use crate::domain::event::{Event, OccurredAt};
use crate::domain::json_object::JsonObject;
use crate::domain::limits::{PAUSE_REASON_BYTES, RESPONSE_EXCERPT_BYTES};
use crate::domain::message::cut;
use crate::domain::outcome::{DeadReason, RetryReason, SkipReason};
use crate::domain::pause::{Pause, PausedBy};
use crate::domain::time::{DurationMs, KnownTime, UnixMs};

/// Headers kept of a request in the DLQ; a template with more than this is cut.
const HEADERS_KEPT: usize = 256;

impl From<KnownTime> for KnownTimeRow {
    fn from(known: KnownTime) -> Self {
        Self { at: known.at.0, ahead: known.ahead.0, ran: known.ran.0 }
    }
}

impl From<KnownTimeRow> for KnownTime {
    fn from(row: KnownTimeRow) -> Self {
        Self { at: UnixMs(row.at), ahead: DurationMs(row.ahead), ran: DurationMs(row.ran) }
    }
}

impl From<&Event> for EventRow {
    fn from(event: &Event) -> Self {
        Self {
            received_at: event.received_at.0,
            source: event.source.as_str().to_owned(),
            canonical: event.canonical.as_str().to_owned(),
            event_id: event.event_id.clone(),
            uid: event.uid.clone(),
            occurred_at: event.occurred_at.given().map(|time| time.0),
            value: event.value.as_ref().map(|value| value.as_str().to_owned()),
            currency: event.currency.as_ref().map(|currency| currency.as_str().to_owned()),
            action_source: event.action_source.clone(),
            user: event.user.text().to_owned(),
            click: event.click.text().to_owned(),
            page: event.page.text().to_owned(),
            data: event.data.text().to_owned(),
        }
    }
}

impl TryFrom<EventRow> for Event {
    type Error = RowError;

    fn try_from(row: EventRow) -> Result<Self, RowError> {
        let received_at = UnixMs(row.received_at);
        Ok(Self {
            source: parse(&row.source, "source name")?,
            canonical: parse(&row.canonical, "event name")?,
            event_id: row.event_id,
            uid: row.uid,
            occurred_at: match row.occurred_at {
                Some(time) => OccurredAt::Given(UnixMs(time)),
                None => OccurredAt::Received(received_at),
            },
            received_at,
            value: row.value.as_deref().map(|text| parse(text, "amount")).transpose()?,
            currency: row.currency.as_deref().map(|text| parse(text, "currency")).transpose()?,
            action_source: row.action_source,
            user: object(row.user)?,
            click: object(row.click)?,
            page: object(row.page)?,
            data: object(row.data)?,
        })
    }
}

/// The row's checksum vouches for what is inside.
fn object(text: String) -> Result<JsonObject, RowError> {
    JsonObject::read(text).ok_or(RowError::Value("object"))
}

fn parse<T: FromStr>(text: &str, what: &'static str) -> Result<T, RowError> {
    text.parse().map_err(|_| RowError::Value(what))
}

impl From<&Delivery> for DeliveryRow {
    fn from(delivery: &Delivery) -> Self {
        Self {
            received_at: delivery.received_at.0,
            target: delivery.target.as_ref().map(|target| target.as_str().to_owned()),
            state: StateRow::from(&delivery.state),
            history: HistoryRow::from(&delivery.history),
        }
    }
}

impl TryFrom<DeliveryRow> for Delivery {
    type Error = RowError;

    fn try_from(row: DeliveryRow) -> Result<Self, RowError> {
        Ok(Self {
            received_at: UnixMs(row.received_at),
            target: row.target.as_deref().map(|text| parse(text, "target name")).transpose()?,
            state: row.state.try_into()?,
            history: row.history.into(),
        })
    }
}

impl From<&State> for StateRow {
    fn from(state: &State) -> Self {
        match state {
            State::Pending { due_at } => Self::Pending { due_at: due_at.0 },
            State::Failed { due_at, reason } => Self::Failed { due_at: due_at.0, reason: reason.as_str().to_owned() },
            State::Sent { at } => Self::Sent { at: at.0 },
            State::FailedPermanently { at, reason } => {
                Self::FailedPermanently { at: at.0, reason: reason.as_str().to_owned() }
            }
            State::Skipped { reason } => Self::Skipped { reason: reason.as_str().to_owned() },
            State::Discarded { at, reason } => Self::Discarded { at: at.0, reason: clip(reason).to_owned() },
        }
    }
}

impl TryFrom<StateRow> for State {
    type Error = RowError;

    fn try_from(row: StateRow) -> Result<Self, RowError> {
        Ok(match row {
            StateRow::Pending { due_at } => Self::Pending { due_at: UnixMs(due_at) },
            StateRow::Failed { due_at, reason } => Self::Failed {
                due_at: UnixMs(due_at),
                reason: known(&RetryReason::ALL, RetryReason::as_str, &reason, "retry reason")?,
            },
            StateRow::Sent { at } => Self::Sent { at: UnixMs(at) },
            StateRow::FailedPermanently { at, reason } => Self::FailedPermanently {
                at: UnixMs(at),
                reason: known(&DeadReason::ALL, DeadReason::as_str, &reason, "reason of the DLQ")?,
            },
            StateRow::Skipped { reason } => {
                Self::Skipped { reason: known(&SkipReason::ALL, SkipReason::as_str, &reason, "skip reason")? }
            }
            StateRow::Discarded { at, reason } => Self::Discarded { at: UnixMs(at), reason },
        })
    }
}

/// The one of `all` whose word is `word`.
pub(super) fn known<T: Copy>(
    all: &[T],
    as_str: fn(T) -> &'static str,
    word: &str,
    what: &'static str,
) -> Result<T, RowError> {
    all.iter().copied().find(|one| as_str(*one) == word).ok_or(RowError::Value(what))
}

impl From<&History> for HistoryRow {
    fn from(history: &History) -> Self {
        Self {
            owed_since: history.owed_since.0,
            counted_since_owed: history.counted_since_owed,
            counted: history.counted,
            exchanges: history.exchanges,
            first_attempt_at: history.first_attempt_at.map(|time| time.0),
            last_attempt_at: history.last_attempt_at.map(|time| time.0),
            last_http_status: history.last_http_status,
        }
    }
}

impl From<HistoryRow> for History {
    fn from(row: HistoryRow) -> Self {
        Self {
            owed_since: UnixMs(row.owed_since),
            counted_since_owed: row.counted_since_owed,
            counted: row.counted,
            exchanges: row.exchanges,
            first_attempt_at: row.first_attempt_at.map(UnixMs),
            last_attempt_at: row.last_attempt_at.map(UnixMs),
            last_http_status: row.last_http_status,
        }
    }
}

impl From<&Attempt> for AttemptRow {
    fn from(attempt: &Attempt) -> Self {
        Self {
            at: attempt.at.0,
            took: attempt.took.0,
            http_status: attempt.http_status,
            verdict: attempt.verdict.clone(),
            response: clip(&attempt.response).to_owned(),
            left_out: attempt.left_out.iter().map(|left| (left.field.clone(), left.why.clone())).collect(),
            phases: (ms(attempt.phases.connect), ms(attempt.phases.first_byte), ms(attempt.phases.body)),
            proxy: attempt.proxy.as_deref().map(str::to_owned),
        }
    }
}

fn ms(time: Option<DurationMs>) -> Option<u64> {
    time.map(|time| time.0)
}

impl AttemptRow {
    /// The attempt, with its number from the key.
    pub fn into_attempt(self, n: u32) -> Attempt {
        let (connect, first_byte, body) = self.phases;
        let phases = Phases {
            connect: connect.map(DurationMs),
            first_byte: first_byte.map(DurationMs),
            body: body.map(DurationMs),
        };
        Attempt {
            n,
            at: UnixMs(self.at),
            took: DurationMs(self.took),
            http_status: self.http_status,
            verdict: self.verdict,
            response: self.response,
            left_out: self.left_out.into_iter().map(|(field, why)| LeftOut { field, why }).collect(),
            phases,
            proxy: self.proxy.map(Into::into),
            called: None,
        }
    }
}

/// An excerpt that is too long would make a row that cannot be written; its end matters less than its outcome.
fn clip(text: &str) -> &str {
    text.get(..text.floor_char_boundary(RESPONSE_EXCERPT_BYTES)).unwrap_or(text)
}

impl From<&Autopsy> for AutopsyRow {
    fn from(autopsy: &Autopsy) -> Self {
        Self {
            detail: autopsy.detail.clone(),
            request: autopsy.request.as_ref().map(|request| RequestRow {
                method: request.method.clone(),
                url: request.url.clone(),
                headers: request.headers.iter().take(HEADERS_KEPT).cloned().collect(),
                body: request.body.clone(),
            }),
            http_status: autopsy.http_status,
            response: clip(&autopsy.response).to_owned(),
        }
    }
}

impl From<AutopsyRow> for Autopsy {
    fn from(row: AutopsyRow) -> Self {
        Self {
            detail: row.detail,
            request: row.request.map(|request| RequestView {
                method: request.method,
                url: request.url,
                headers: request.headers,
                body: request.body,
            }),
            http_status: row.http_status,
            response: row.response,
        }
    }
}

impl From<&Pause> for PauseRow {
    fn from(pause: &Pause) -> Self {
        Self {
            since: pause.since.0,
            until: pause.until.map(|time| time.0),
            reason: cut(&pause.reason, PAUSE_REASON_BYTES).to_owned(),
            by: pause.by.as_str().to_owned(),
        }
    }
}

impl TryFrom<PauseRow> for Pause {
    type Error = RowError;

    fn try_from(row: PauseRow) -> Result<Self, RowError> {
        Ok(Self {
            since: UnixMs(row.since),
            until: row.until.map(UnixMs),
            reason: row.reason,
            by: known(&PausedBy::ALL, PausedBy::as_str, &row.by, "author of a pause")?,
        })
    }
}

impl From<&Counts> for CountsRow {
    fn from(counts: &Counts) -> Self {
        let Counts { accepted, pending, failed, sent, failed_permanently, skipped, discarded } = *counts;
        Self { accepted, pending, failed, sent, failed_permanently, skipped, discarded }
    }
}

impl From<CountsRow> for Counts {
    fn from(row: CountsRow) -> Self {
        let CountsRow { accepted, pending, failed, sent, failed_permanently, skipped, discarded } = row;
        Self { accepted, pending, failed, sent, failed_permanently, skipped, discarded }
    }
}

impl From<&EventCounts> for EventCountsRow {
    fn from(counts: &EventCounts) -> Self {
        let EventCounts { accepted, duplicates, conflicts, rejected } = *counts;
        Self { accepted, duplicates, conflicts, rejected }
    }
}

impl From<EventCountsRow> for EventCounts {
    fn from(row: EventCountsRow) -> Self {
        let EventCountsRow { accepted, duplicates, conflicts, rejected } = row;
        Self { accepted, duplicates, conflicts, rejected }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::row::{decode, encode};
    use super::*;
    use crate::domain::event::tests::sample;

    fn states() -> impl Strategy<Value = State> {
        let time = || any::<u64>().prop_map(UnixMs);
        prop_oneof![
            time().prop_map(|due_at| State::Pending { due_at }),
            (time(), prop::sample::select(RetryReason::ALL.to_vec()))
                .prop_map(|(due_at, reason)| State::Failed { due_at, reason }),
            time().prop_map(|at| State::Sent { at }),
            (time(), prop::sample::select(DeadReason::ALL.to_vec()))
                .prop_map(|(at, reason)| State::FailedPermanently { at, reason }),
            prop::sample::select(SkipReason::ALL.to_vec()).prop_map(|reason| State::Skipped { reason }),
            (time(), any::<String>()).prop_map(|(at, reason)| State::Discarded { at, reason }),
        ]
    }

    fn histories() -> impl Strategy<Value = History> {
        any::<(u64, u32, u32, u32, Option<u64>, Option<u64>, Option<u16>)>().prop_map(|all| History {
            owed_since: UnixMs(all.0),
            counted_since_owed: all.1,
            counted: all.2,
            exchanges: all.3,
            first_attempt_at: all.4.map(UnixMs),
            last_attempt_at: all.5.map(UnixMs),
            last_http_status: all.6,
        })
    }

    proptest! {
        #[test]
        fn deliveries_come_back_as_they_were(
            received in any::<u64>(), target in prop::option::of("[a-z ]{1,128}"), state in states(), history in histories()
        ) {
            let target = target.map(|text| text.parse().unwrap());
            let delivery = Delivery { received_at: UnixMs(received), target, state, history };
            let bytes = encode(&DeliveryRow::from(&delivery)).unwrap();
            prop_assert_eq!(Delivery::try_from(decode::<DeliveryRow>(&bytes).unwrap()), Ok(delivery));
        }

        #[test]
        fn events_come_back_as_they_were(
            event_id in any::<Option<String>>(), uid in any::<Option<String>>(), given in any::<Option<u64>>(),
            received in any::<u64>(), members in prop::collection::vec(("\\PC{0,12}", any::<String>()), 0..6)
        ) {
            let received_at = UnixMs(received);
            let occurred_at = given.map_or(OccurredAt::Received(received_at), |time| OccurredAt::Given(UnixMs(time)));
            let data = members.into_iter().map(|(name, value)| (name, value.into())).collect();
            let event = Event { event_id, uid, occurred_at, received_at, data, user: JsonObject::default(), ..sample() };
            let bytes = encode(&EventRow::from(&event)).unwrap();
            prop_assert_eq!(Event::try_from(decode::<EventRow>(&bytes).unwrap()), Ok(event));
        }

        #[test]
        fn attempts_and_autopsies_come_back_as_they_were(detail in any::<String>(), header in any::<(String, String)>(), status in any::<Option<u16>>(), at in any::<u64>(), phases in any::<[Option<u64>; 3]>(), proxy in any::<Option<String>>()) {
            let request = RequestView { method: "POST".to_owned(), url: detail.clone(), headers: vec![header], body: detail.clone() };
            let autopsy = Autopsy { detail: detail.clone(), request: Some(request), http_status: status, response: detail.clone() };
            let bytes = encode(&AutopsyRow::from(&autopsy)).unwrap();
            prop_assert_eq!(Autopsy::from(decode::<AutopsyRow>(&bytes).unwrap()), autopsy);
            let [connect, first_byte, body] = phases.map(|time| time.map(DurationMs));
            let phases = Phases { connect, first_byte, body };
            let attempt = Attempt { phases, proxy: proxy.map(Into::into), called: None, n: 7, at: UnixMs(at), took: DurationMs(at), http_status: status, verdict: "ambiguous".to_owned(), response: detail.clone(), left_out: vec![LeftOut { field: detail.clone(), why: detail }] };
            let bytes = encode(&AttemptRow::from(&attempt)).unwrap();
            prop_assert_eq!(decode::<AttemptRow>(&bytes).unwrap().into_attempt(7), attempt);
        }
    }

    #[test]
    fn objects_keep_their_order_and_their_digits() {
        let event = sample();
        let row = EventRow::from(&event);
        assert!(row.data.contains(r#""n":1.10"#), "{}", row.data);
        let back = Event::try_from(row).unwrap();
        assert_eq!(back, event);
        assert!(back.data.keys().eq(event.data.keys()));
    }

    // Row 82.
    #[test]
    fn a_word_we_do_not_know_is_no_reason() {
        let row = StateRow::Failed { due_at: 1, reason: "moon".to_owned() };
        assert_eq!(State::try_from(row), Err(RowError::Value("retry reason")));
        let bad_name = EventRow { source: "ü".to_owned(), ..EventRow::from(&sample()) };
        assert_eq!(Event::try_from(bad_name), Err(RowError::Value("source name")));
        let bad_object = EventRow { page: "[]".to_owned(), ..EventRow::from(&sample()) };
        assert_eq!(Event::try_from(bad_object), Err(RowError::Value("object")));
    }

    #[test]
    fn an_excerpt_is_clipped_between_characters() {
        let attempt = Attempt {
            n: 1,
            at: UnixMs(0),
            took: DurationMs(0),
            http_status: None,
            verdict: String::new(),
            response: "é".repeat(RESPONSE_EXCERPT_BYTES),
            left_out: Vec::new(),
            phases: Phases::default(),
            proxy: None,
            called: None,
        };
        assert_eq!(AttemptRow::from(&attempt).response.len(), RESPONSE_EXCERPT_BYTES);
    }
}
