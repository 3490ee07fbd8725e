//! What the writer is asked to do, and how it waits for that.

use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::domain::name::DestinationName;
use crate::pipeline::Unavailable;
use crate::pipeline::background::Page;
use crate::pipeline::commit::Request;
use crate::pipeline::numbering;
use crate::pipeline::pulse::Probe;
use crate::pipeline::upkeep::Upkeep;
use crate::store::write::{Applied, WriteOp};

/// How a waiting sender is answered.
pub(in crate::pipeline) type Reply = oneshot::Sender<Result<Vec<Applied>, Unavailable>>;

/// What the writer is asked to do.
#[derive(Debug)]
pub(in crate::pipeline) enum Command {
    Write(Request<Reply>),
    /// Work of many parts that gives way to what others wait for.
    Page(Page<Reply>),
    /// Number these destinations, where they have no number yet.
    Number {
        names: Vec<DestinationName>,
        reply: numbering::Reply,
    },
    /// Remove what retention allows, in slices.
    Sweep(Upkeep),
    /// There are refused events to count.
    Nudge,
    /// Somebody wants to know whether the writer still turns.
    Probe(Probe),
    /// Do everything asked so far, close the store, end.
    Stop,
}

/// Whether senders wait for it.
pub(super) fn accepts(request: &Request<Reply>) -> bool {
    request.ops.iter().any(|op| matches!(op, WriteOp::Accept(_)))
}

/// The next command, or none within so much time; `Pending` may come early.
pub(super) fn receive(commands: &mut mpsc::Receiver<Command>, within: Duration) -> Poll<Option<Command>> {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    let there = commands.poll_recv(&mut context);
    if there.is_ready() || within.is_zero() {
        return there;
    }
    std::thread::park_timeout(within);
    commands.poll_recv(&mut context)
}

/// Wakes a thread that waits for a command.
struct Unpark(std::thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}
