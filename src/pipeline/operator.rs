//! What operators say to destinations: pause, resume, release.
//!
//! Disk first: a pause and its end are committed before anything is answered, and the driver is told before the answer
//! leaves. The answer is the state as the driver has it then, so what it says holds from that moment on.

use tokio::sync::{mpsc, oneshot};

use super::{LaneView, Pipeline, Unavailable};
use crate::domain::audit::Deed;
use crate::domain::id::DestinationId;
use crate::domain::pause::{Pause, PausedBy};
use crate::domain::time::DurationMs;
use crate::store::write::WriteOp;

/// Orders that may wait for the driver: people give them one at a time.
pub(super) const ORDERS: usize = 64;

pub(super) type Orders = mpsc::Sender<Order>;

/// Asks the driver about a lane.
#[derive(Debug)]
pub(super) struct Order {
    pub destination: DestinationId,
    pub act: Act,
    /// Answered with the state after it.
    pub reply: oneshot::Sender<LaneView>,
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

    async fn order(&self, destination: DestinationId, act: Act) -> Result<LaneView, Unavailable> {
        let (reply, answer) = oneshot::channel();
        // A driver that is gone, or goes before it answers, has been told to stop.
        self.orders.send(Order { destination, act, reply }).await.map_err(|_| Unavailable::Stopping)?;
        answer.await.map_err(|_| Unavailable::Stopping)
    }
}
