//! What may be written: every change of the store is one of these operations, and a batch of them is one transaction.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::job::{Job, Selection};
use crate::domain::alert::AlertMemory;
use crate::domain::audit::Deed;
use crate::domain::dedupe::{ContentHash, DedupeKey};
use crate::domain::delivery::{Attempt, Autopsy, History, State};
use crate::domain::event::Event;
use crate::domain::id::{DeliveryKey, DestinationId, EventSeq};
use crate::domain::job::{JobKind, JobNumber};
use crate::domain::name::TargetName;
use crate::domain::outcome::{Disposition, SkipReason};
use crate::domain::pacing::RateLimit;
use crate::domain::pause::Pause;
use crate::domain::time::{KnownTime, UnixMs};
use crate::telemetry::rolling::saved::Changes;

/// One change.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant, reason = "the large one is the most frequent one: a box would be made for each")]
pub enum WriteOp {
    Accept(Accept),
    Settle(Settle),
    Replay(Replay),
    Discard(Discard),
    Purge(Purge),
    /// A destination is sent nothing until it is resumed, or its time has come.
    Pause {
        destination: DestinationId,
        pause: Pause,
    },
    /// The end of a pause; also where there is none.
    Resume {
        destination: DestinationId,
    },
    JobStart(JobPlan),
    JobPage(JobPage),
    /// Ends a job that runs; what it has done stays done.
    JobCancel {
        job: JobNumber,
        at: UnixMs,
    },
    /// Keeps what an operator did. Stands behind the operations it tells of, in the same request.
    Audit {
        at: UnixMs,
        deed: Box<Deed>,
    },
    /// Replaces what alerts remember.
    Alerts(AlertMemory),
    /// What is known of the time, on somebody's word: retention that was ordered before takes nothing of it back.
    KnowTime(KnownTime),
    /// Counts refused events of a source in the books.
    CountRejected {
        source: crate::domain::name::SourceName,
        count: u64,
    },
    /// Keeps what changed of a destination's statistics.
    SaveStats {
        destination: DestinationId,
        changes: Box<Changes>,
    },
}

impl WriteOp {
    /// Bytes of it that a sender chose: what a transaction may become large by. Whatever else is written is small.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Accept(accept) => accept.event.bytes(),
            Self::Settle(_)
            | Self::Replay(_)
            | Self::Discard(_)
            | Self::Purge(_)
            | Self::Pause { .. }
            | Self::Resume { .. }
            | Self::JobStart(_)
            | Self::JobPage(_)
            | Self::JobCancel { .. }
            | Self::Audit { .. }
            | Self::Alerts(_)
            | Self::KnowTime(_)
            | Self::CountRejected { .. }
            | Self::SaveStats { .. } => 0,
        }
    }
}

/// An event with what it is owed.
#[derive(Clone, Debug)]
pub struct Accept {
    pub event: Arc<Event>,
    pub key: DedupeKey,
    pub content: ContentHash,
    /// When it came, by a clock that does not jump: what its key ages by. The event's own receipt is the wall clock's.
    pub heard_at: UnixMs,
    /// A key older than this (heard before it) no longer makes a repeat.
    pub repeat_since: UnixMs,
    /// One per configured destination.
    pub plan: Vec<Planned>,
}

/// What one destination is to get of an event.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Planned {
    Owe { destination: DestinationId, target: TargetName },
    Skip { destination: DestinationId, reason: SkipReason },
}

/// The outcome of one attempt, or of looking at a delivery that could not be attempted.
#[derive(Clone, Debug)]
pub struct Settle {
    pub key: DeliveryKey,
    /// The outbox place the lease was taken from: a delivery that has moved since is left alone.
    pub due_at: UnixMs,
    pub at: UnixMs,
    /// `None` where no exchange was made.
    pub attempt: Option<Attempt>,
    pub disposition: Disposition,
    /// Kept where the disposition is `Dead`.
    pub autopsy: Option<Autopsy>,
}

/// Owes dead deliveries again, with the same ids, attempts and deadline started anew. Keys that are not in the DLQ are
/// left alone.
#[derive(Clone, Debug)]
pub struct Replay {
    /// When it was asked for, and when they are due.
    pub at: UnixMs,
    pub keys: Vec<DeliveryKey>,
}

/// Purges dead deliveries from the DLQ. Keys that are not in it are left alone.
#[derive(Clone, Debug)]
pub struct Discard {
    pub at: UnixMs,
    pub keys: Vec<DeliveryKey>,
    pub reason: String,
}

/// Gives up what a destination is owed, a slice of it: the first `limit` in the order of its outbox.
#[derive(Clone, Debug)]
pub struct Purge {
    pub destination: DestinationId,
    pub at: UnixMs,
    pub reason: String,
    /// Deliveries whose attempt has begun: how it ends is written by its own outcome.
    pub under_way: BTreeSet<EventSeq>,
    pub limit: usize,
}

/// A replay or discard of many, to be worked off page by page.
#[derive(Clone, Debug)]
pub struct JobPlan {
    pub at: UnixMs,
    pub kind: JobKind,
    pub selection: Selection,
    pub rate: Option<RateLimit>,
    pub reason: String,
    /// As counted; no more than these are changed.
    pub matched: u64,
}

/// One page of a job: its work and its progress are one transaction, so that no crash parts them.
#[derive(Clone, Debug)]
pub struct JobPage {
    pub job: JobNumber,
    pub at: UnixMs,
    /// Where the job stands; a page that begins elsewhere was done before.
    pub from: Option<DeliveryKey>,
    /// Where it stands afterwards.
    pub to: Option<DeliveryKey>,
    /// Those that died before the job began are changed, the others left alone.
    pub keys: Vec<DeliveryKey>,
    /// Whether there is nothing after this page.
    pub last: bool,
    pub paced_to: UnixMs,
}

/// What one operation did, told after the commit.
#[derive(Clone, Debug)]
pub enum Applied {
    Queued(Queued),
    /// The event was there already, as `first`; `conflict` where it said something else then.
    Duplicate {
        first: EventSeq,
        conflict: bool,
    },
    /// `now` is the delivery if it is still owed.
    Settled {
        key: DeliveryKey,
        now: Option<Owed>,
    },
    /// The delivery had moved on; nothing was written.
    Stale {
        key: DeliveryKey,
    },
    Replayed(Vec<Owed>),
    Discarded {
        count: u64,
    },
    /// Fewer than asked for: no more are owed that can be given up.
    Purged {
        destination: DestinationId,
        seqs: Vec<EventSeq>,
    },
    /// As it stands in the store now.
    Paused {
        destination: DestinationId,
        pause: Pause,
    },
    Resumed {
        destination: DestinationId,
    },
    Counted,
    /// The job as it stands now, with what it owed again by this.
    Job {
        job: Box<Job>,
        replayed: Vec<Owed>,
    },
    /// There is no such job, it has ended, or its page was done before: nothing was written.
    JobPassed,
    Audited,
}

/// An accepted event with its place and what is owed.
#[derive(Clone, Debug)]
pub struct Queued {
    pub seq: EventSeq,
    pub owed: Vec<Owed>,
}

/// An owed delivery, with all the scheduler needs to know of it.
#[derive(Clone, Debug)]
pub struct Owed {
    pub key: DeliveryKey,
    pub due_at: UnixMs,
    /// [`State::Pending`] or [`State::Failed`].
    pub state: State,
    pub history: History,
    pub target: TargetName,
    /// `None`: it is read when the delivery is sent.
    pub event: Option<Arc<Event>>,
}
