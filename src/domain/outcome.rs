//! What an attempt meant: the verdict on one exchange, and what becomes of the delivery.

use super::time::UnixMs;

/// Why a delivery was never owed to a destination.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SkipReason {
    /// The destination has no target name for this canonical name.
    Unmapped,
    /// The destination does not take events of this source.
    Source,
    /// One of the destination's `when` conditions did not hold.
    Filter,
    /// The destination was disabled when the event came in.
    Disabled,
}

/// Why the last attempt failed while another is planned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RetryReason {
    /// The destination answered that it cannot now (5xx and the like).
    Transient,
    /// The destination asked for patience (429, or 503 with `Retry-After`).
    Throttled,
    /// The request was sent and no whole answer came back: it may have been taken.
    Ambiguous,
    /// Refused, unreachable, or the name did not resolve: nothing was sent.
    Network,
    /// The TLS handshake or certificate failed: nothing was sent.
    Tls,
    /// No answer in time.
    Timeout,
}

/// Why a delivery is in the DLQ.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DeadReason {
    /// The destination refused this event and would refuse it again.
    Permanent,
    /// No request could be made of this event for this destination.
    Invalid,
    /// Older than the platform accepts.
    Expired,
    /// `max_attempts` were made.
    AttemptsExhausted,
    /// `give_up_after` has passed.
    GaveUp,
}

/// The judgement on one exchange (platforms.md 0.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    Delivered,
    /// Failed, may work later; not before `not_before` where the destination named a time.
    Transient {
        reason: RetryReason,
        not_before: Option<UnixMs>,
    },
    /// The whole destination asks for patience, until `not_before` or for the planned delay.
    Throttled {
        not_before: Option<UnixMs>,
    },
    /// This event will never be taken.
    Permanent {
        reason: DeadReason,
    },
    /// Every event would fare the same (bad token, missing permission): hold the destination, spend nothing.
    DestinationFault,
    /// The receiver says that it is gone for good (a webhook's 410): every event would fare the same, and no probe will help.
    Gone,
    /// The request was refused as a whole because of some event in it: split and try again.
    BatchFault,
    /// Sent, and no whole answer: retried because the id lets the receiver drop the repeat.
    Ambiguous {
        reason: RetryReason,
    },
    /// The proxy failed, not the destination: nothing is spent. A route can be used again from `usable_at`, which has
    /// come where another one works.
    ProxyFault {
        usable_at: UnixMs,
    },
    /// Stopped by us (shutdown): not an attempt.
    Cancelled,
}

/// What becomes of a delivery after an attempt, or after we looked at it and made none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Disposition {
    /// Taken by the destination.
    Sent,
    /// Owed again at `at`; the attempt counts.
    Retry { at: UnixMs, reason: RetryReason },
    /// To the DLQ.
    Dead { reason: DeadReason },
    /// Stays exactly as it was, status and attempts included; looked at again at `at`.
    Keep { at: UnixMs },
}

impl SkipReason {
    pub const ALL: [Self; 4] = [Self::Unmapped, Self::Source, Self::Filter, Self::Disabled];

    /// The word users see (SPEC 8.1).
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unmapped => "unmapped",
            Self::Source => "source",
            Self::Filter => "filter",
            Self::Disabled => "disabled",
        }
    }
}

impl RetryReason {
    pub const ALL: [Self; 6] =
        [Self::Transient, Self::Throttled, Self::Ambiguous, Self::Network, Self::Tls, Self::Timeout];

    /// The word users see (SPEC 8.1).
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Transient => "transient",
            Self::Throttled => "throttled",
            Self::Ambiguous => "ambiguous",
            Self::Network => "network",
            Self::Tls => "tls",
            Self::Timeout => "timeout",
        }
    }
}

impl DeadReason {
    pub const ALL: [Self; 5] = [Self::Permanent, Self::Invalid, Self::Expired, Self::AttemptsExhausted, Self::GaveUp];

    /// The word users see (SPEC 8.1).
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Permanent => "permanent",
            Self::Invalid => "invalid",
            Self::Expired => "expired",
            Self::AttemptsExhausted => "attempts_exhausted",
            Self::GaveUp => "gave_up",
        }
    }
}

impl Verdict {
    /// The label in traces and metrics (SPEC 8.3).
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Transient { .. } => "transient",
            Self::Throttled { .. } => "throttled",
            Self::Permanent { .. } => "permanent",
            // The words are fixed, and this is one: nothing is wrong with the event.
            Self::DestinationFault | Self::Gone => "destination_fault",
            Self::BatchFault => "batch_fault",
            Self::Ambiguous { .. } => "ambiguous",
            Self::ProxyFault { .. } => "proxy_fault",
            Self::Cancelled => "cancelled",
        }
    }
}
