//! One channel: a queue, and a task that sends what is in it, one message after another, until each is taken or given up.
//! How it fares is nobody else's business: it has its own client, and a full queue drops what is new.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tracing::{info, warn};

use super::outbox::Number;
use super::{Board, answer, message};
use crate::config::alerts::{Alerts, Channel};
use crate::domain::alert::Notice;
use crate::domain::message::printable;
use crate::env::clock::Clock;
use crate::env::courier::{Courier, Parcel};

/// Attempts of one message: the pauses between them make about an hour and a half.
const TRIES: u32 = 24;
const PAUSE_FIRST: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_mins(5);
/// What is kept of an answer that is no success, bytes.
const EXCERPT_BYTES: usize = 160;

/// Why a message was not taken.
#[derive(Clone, Debug)]
pub(super) struct Refused {
    /// Without secrets.
    pub detail: String,
    pub retry_after: Option<Duration>,
}

/// Sends a notice once.
pub(super) async fn carry(courier: &dyn Courier, channel: &Channel, notice: &Notice) -> Result<(), Refused> {
    send(courier, channel, message::parcel(channel, notice)).await
}

/// Sends whatever was written for `channel` once.
pub(super) async fn send(
    courier: &dyn Courier,
    channel: &Channel,
    parcel: Result<Parcel, String>,
) -> Result<(), Refused> {
    let refused = |detail: String, retry_after| {
        let detail = channel.redactor.redact_beginning(&detail).replace(['\n', '\t'], " ");
        Refused { detail, retry_after }
    };
    let parcel = parcel.map_err(|detail| refused(detail, None))?;
    let answer = courier.carry(&channel.name, parcel).await.map_err(|detail| refused(detail, None))?;
    if (200..300).contains(&answer.status) {
        return Ok(());
    }
    let said = printable(&answer.body, EXCERPT_BYTES);
    let mut told = refused(format!("HTTP {}: {}", answer.status, said.trim()), answer::retry_after(&answer));
    if let Some(advice) = answer::advice(&channel.target, &answer) {
        told.detail = format!("{}; {advice}", told.detail);
    }
    Err(told)
}

/// The task of one channel, by name: what it is now is looked up at each attempt.
pub(super) struct Post {
    pub name: String,
    pub config: watch::Receiver<Arc<Alerts>>,
    pub queue: mpsc::Receiver<(Number, Arc<Notice>)>,
    pub board: Arc<Board>,
    pub courier: Arc<dyn Courier>,
    pub clock: Arc<dyn Clock>,
}

impl Post {
    /// Runs until the queue's other end is gone.
    pub(super) async fn run(mut self) {
        while let Some((number, notice)) = self.queue.recv().await {
            self.deliver(&notice).await;
            self.board.outbox.ended(number);
        }
    }

    async fn deliver(&mut self, notice: &Notice) {
        let mut pause = PAUSE_FIRST;
        for left in (0..TRIES).rev() {
            let channel = self.config.borrow_and_update().channels.get(&self.name).cloned();
            let Some(channel) = channel.filter(|channel| channel.enabled) else { return };
            let result = carry(&*self.courier, &channel, notice).await;
            self.board.carried(&self.name, self.clock.now(), &result);
            let Err(refused) = result else {
                info!(channel = self.name, id = notice.problem.id, kind = notice.kind.as_str(), "Alert sent.");
                return;
            };
            warn!(channel = self.name, error = refused.detail, tries_left = left, "An alert was not taken.");
            if left == 0 {
                return;
            }
            let rest = tokio::time::sleep(refused.retry_after.unwrap_or_default().max(pause));
            tokio::select! {
                () = rest => pause = (pause * 2).min(PAUSE_MAX),
                () = self.corrected(channel.fingerprint) => {}
            }
        }
    }

    /// The channel is another than it was: whoever corrected it need not wait.
    async fn corrected(&mut self, before: u64) {
        let is_another =
            |config: &Arc<Alerts>| config.channels.get(&self.name).is_none_or(|channel| channel.fingerprint != before);
        if self.config.wait_for(is_another).await.is_err() {
            // Nobody reloads any more: the daemon stops, and so will this task.
            std::future::pending::<()>().await;
        }
    }
}
