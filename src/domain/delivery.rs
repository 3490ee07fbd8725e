//! One delivery: event × destination, its state and its history.
//!
//! ```text
//!            ┌────────────── Retry ──────────────┐
//!  accept ─> Pending ── Retry ──> Failed ────────┘
//!     │         │ └── Sent ──> Sent <── Sent ──┘ │
//!     │         └── Dead ──> FailedPermanently <─┘ Dead
//!     └> Skipped                │   └── replay ──> Pending
//!                               └────── discard ─> Discarded
//! ```

use std::sync::Arc;

use super::name::TargetName;
use super::outcome::{DeadReason, RetryReason, SkipReason};
use super::time::{DurationMs, UnixMs};

/// The public word for where a delivery stands (SPEC 2).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Status {
    Pending,
    Failed,
    Sent,
    FailedPermanently,
    Skipped,
    Discarded,
}

impl Status {
    pub const ALL: [Self; 6] =
        [Self::Pending, Self::Failed, Self::Sent, Self::FailedPermanently, Self::Skipped, Self::Discarded];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Failed => "failed",
            Self::Sent => "sent",
            Self::FailedPermanently => "failed_permanently",
            Self::Skipped => "skipped",
            Self::Discarded => "discarded",
        }
    }

    /// The status of that name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == text)
    }
}

/// Where a delivery stands, with what belongs to that place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum State {
    /// Owed, no attempt has counted yet. `due_at` is its place in the outbox.
    Pending {
        due_at: UnixMs,
    },
    /// The last counting attempt failed; the next one is due at `due_at`.
    Failed {
        due_at: UnixMs,
        reason: RetryReason,
    },
    /// Taken at `at`.
    Sent {
        at: UnixMs,
    },
    /// In the DLQ since `at`.
    FailedPermanently {
        at: UnixMs,
        reason: DeadReason,
    },
    Skipped {
        reason: SkipReason,
    },
    /// Purged from the DLQ by an operator at `at`, with the operator's own words.
    Discarded {
        at: UnixMs,
        reason: String,
    },
}

impl State {
    pub fn status(&self) -> Status {
        match self {
            Self::Pending { .. } => Status::Pending,
            Self::Failed { .. } => Status::Failed,
            Self::Sent { .. } => Status::Sent,
            Self::FailedPermanently { .. } => Status::FailedPermanently,
            Self::Skipped { .. } => Status::Skipped,
            Self::Discarded { .. } => Status::Discarded,
        }
    }

    /// The due time of an owed delivery; `None` where nothing is owed.
    pub fn due_at(&self) -> Option<UnixMs> {
        match self {
            Self::Pending { due_at } | Self::Failed { due_at, .. } => Some(*due_at),
            Self::Sent { .. } | Self::FailedPermanently { .. } | Self::Skipped { .. } | Self::Discarded { .. } => None,
        }
    }

    /// The reason word or text users see beside the status; none for `pending` and `sent`.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Pending { .. } | Self::Sent { .. } => None,
            Self::Failed { reason, .. } => Some(reason.as_str()),
            Self::FailedPermanently { reason, .. } => Some(reason.as_str()),
            Self::Skipped { reason } => Some(reason.as_str()),
            Self::Discarded { reason, .. } => Some(reason),
        }
    }
}

/// What has been tried so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct History {
    /// Receipt, or the last replay: `give_up_after` counts from here.
    pub owed_since: UnixMs,
    /// Attempts that count, since `owed_since`: what `max_attempts` bounds.
    pub counted_since_owed: u32,
    /// Attempts that count, over the whole life: the `attempt_count` users see.
    pub counted: u32,
    /// All exchanges, also those that do not count; the next attempt's `n` is one more.
    pub exchanges: u32,
    pub first_attempt_at: Option<UnixMs>,
    pub last_attempt_at: Option<UnixMs>,
    /// HTTP status of the last exchange that had an answer.
    pub last_http_status: Option<u16>,
}

impl History {
    /// Nothing tried yet, owed since `at`.
    pub fn new(at: UnixMs) -> Self {
        Self {
            owed_since: at,
            counted_since_owed: 0,
            counted: 0,
            exchanges: 0,
            first_attempt_at: None,
            last_attempt_at: None,
            last_http_status: None,
        }
    }
}

/// The one row of truth about a delivery.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Delivery {
    pub received_at: UnixMs,
    /// The destination's name for the event in the last exchange, before that when it was accepted; `None` where it was skipped.
    pub target: Option<TargetName>,
    pub state: State,
    pub history: History,
}

/// One HTTP exchange, as the trace of an event shows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Attempt {
    /// From 1, over the whole life of the delivery, replays included.
    pub n: u32,
    pub at: UnixMs,
    pub took: DurationMs,
    pub http_status: Option<u16>,
    /// [`super::outcome::Verdict::as_str`]
    pub verdict: String,
    /// What the destination said or what went wrong, redacted, at most [`super::limits::RESPONSE_EXCERPT_BYTES`].
    pub response: String,
    /// What of the event did not make it into the request, at most [`super::limits::LEFT_OUT_KEPT`].
    pub left_out: Vec<LeftOut>,
    pub phases: Phases,
    /// The proxy it went through, without its login; shared by all that were in the exchange.
    pub proxy: Option<Arc<str>>,
    /// What the event was called in it, where that is another name than its delivery had. The delivery keeps it, not the trace.
    pub called: Option<TargetName>,
}

/// What the time of an exchange went into. A phase that was not reached, or not measured, is `None`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Phases {
    /// Until a connection stood (name, TCP, proxy, TLS); only where this exchange opened one.
    pub connect: Option<DurationMs>,
    /// From there, or from the beginning over a connection that stood, until the answer began.
    pub first_byte: Option<DurationMs>,
    /// Until the answer's end, or until it broke off.
    pub body: Option<DurationMs>,
}

/// A field that did not make it into a request or will be missed there, and why. Names and reasons never hold the value:
/// it may be about a person.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LeftOut {
    /// As the sender knows it: `user.phone`, `data.order_id`.
    pub field: String,
    pub why: String,
}

/// A request as it may be shown: secrets replaced.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RequestView {
    pub method: String,
    pub url: String,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

/// What the DLQ keeps of a dead delivery beside its row: enough to understand it and to mend it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Autopsy {
    /// What is wrong, in words, with the field's name.
    pub detail: String,
    /// The last request, redacted; `None` where none could be made.
    pub request: Option<RequestView>,
    pub http_status: Option<u16>,
    /// The last answer's body, redacted, at most [`super::limits::RESPONSE_EXCERPT_BYTES`].
    pub response: String,
}
