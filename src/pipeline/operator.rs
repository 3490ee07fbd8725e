//! What operators say to destinations: pause, resume, release; and to the guarded clock, that the wall clock is right.
//!
//! Disk first: a pause and its end are committed before anything is answered, and the driver is told before the answer
//! leaves. The answer is the state as the driver has it then, so what it says holds from that moment on.

use std::collections::BTreeSet;

use tokio::sync::{mpsc, oneshot};

use super::{LaneView, Pipeline, Unavailable};
use crate::domain::audit::Deed;
use crate::domain::id::{DestinationId, EventSeq};
use crate::domain::pause::{Pause, PausedBy};
use crate::domain::time::{DurationMs, UnixMs};
use crate::store::write::WriteOp;

/// Orders that may wait for the driver: people give them one at a time.
pub(super) const ORDERS: usize = 64;

pub(super) type Orders = mpsc::Sender<Order>;

/// Asks the driver about a lane.
#[derive(Debug)]
pub(super) enum Order {
    /// Answered with the state after it.
    Do { destination: DestinationId, act: Act, reply: oneshot::Sender<LaneView> },
    /// Answered with the deliveries whose outcome is not committed yet.
    UnderWay { destination: DestinationId, reply: oneshot::Sender<BTreeSet<EventSeq>> },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Act {
    /// Nothing but tell the state, once everything that was committed is known.
    Look,
    Release,
}

impl Pipeline {
    /// Sends nothing to a destination from now on, for a span or until it is resumed.
    pub async fn pause(
        &self,
        destination: DestinationId,
        reason: String,
        span: Option<DurationMs>,
        deed: Deed,
    ) -> Result<LaneView, Unavailable> {
        let since = self.env.clock.now();
        let pause = Pause { since, until: span.map(|span| since + span), reason, by: PausedBy::Operator };
        self.write(vec![WriteOp::Pause { destination, pause }, self.deed(deed)]).await?;
        self.order(destination, Act::Look).await
    }

    /// Ends a pause; where there is none, nothing changes.
    pub async fn resume(&self, destination: DestinationId, deed: Deed) -> Result<LaneView, Unavailable> {
        self.write(vec![WriteOp::Resume { destination }, self.deed(deed)]).await?;
        self.order(destination, Act::Look).await
    }

    /// Ends a throttle, and probes a held or open destination at once.
    pub async fn release(&self, destination: DestinationId) -> Result<LaneView, Unavailable> {
        self.order(destination, Act::Release).await
    }

    /// Believes the wall clock from here on, also after a restart: somebody says that it is right. The time that was known and
    /// the one that is; `None` where it is not doubted.
    pub async fn confirm_clock(&self, deed: Deed) -> Result<Option<(UnixMs, UnixMs)>, Unavailable> {
        let (wall, monotonic) = (self.env.clock.now(), self.env.clock.monotonic());
        let (before, confirmed) = {
            let mut guarded = self.guarded.lock();
            guarded.look(wall, monotonic);
            (guarded.known(monotonic).at, guarded.confirmed(wall, monotonic))
        };
        let Some(confirmed) = confirmed else { return Ok(None) };
        let deed = deed.ended(&format!("{wall} is believed, {before} was known"));
        self.write(vec![WriteOp::KnowTime(confirmed.known(monotonic)), self.deed(deed)]).await?;
        *self.guarded.lock() = confirmed;
        Ok(Some((before, wall)))
    }

    /// Deliveries of a destination that are being attempted, or whose outcome is not committed yet.
    pub async fn under_way(&self, destination: DestinationId) -> Result<BTreeSet<EventSeq>, Unavailable> {
        let (reply, answer) = oneshot::channel();
        self.orders.send(Order::UnderWay { destination, reply }).await.map_err(|_| Unavailable::Stopping)?;
        answer.await.map_err(|_| Unavailable::Stopping)
    }

    async fn order(&self, destination: DestinationId, act: Act) -> Result<LaneView, Unavailable> {
        let (reply, answer) = oneshot::channel();
        // A driver that is gone, or goes before it answers, has been told to stop.
        self.orders.send(Order::Do { destination, act, reply }).await.map_err(|_| Unavailable::Stopping)?;
        answer.await.map_err(|_| Unavailable::Stopping)
    }
}
