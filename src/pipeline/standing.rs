//! What stands in the writer's queue takes its room there until the writer is done with it, also where whoever asked has
//! hung up or was told to come again: else senders that hang up could fill the queue beyond what is meant to wait.

use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::timeout;

/// An answer that is waited for, and the room that its question takes. Dropping it leaves the room taken until the answer
/// has come.
#[derive(Debug)]
pub(super) struct Standing<T: Send + 'static> {
    /// `None` once it has come.
    asked: Option<(oneshot::Receiver<T>, OwnedSemaphorePermit)>,
}

impl<T: Send + 'static> Standing<T> {
    pub(super) fn new(answer: oneshot::Receiver<T>, room: OwnedSemaphorePermit) -> Self {
        Self { asked: Some((answer, room)) }
    }

    /// The answer, or `None` where it has not come within `limit`; an error where nobody will answer any more.
    pub(super) async fn answered(mut self, limit: Duration) -> Option<Result<T, oneshot::error::RecvError>> {
        let (answer, _) = self.asked.as_mut()?;
        let answered = timeout(limit, answer).await.ok()?;
        self.asked = None;
        Some(answered)
    }
}

impl<T: Send + 'static> Drop for Standing<T> {
    fn drop(&mut self) {
        let Some((answer, room)) = self.asked.take() else { return };
        // Without a runtime the daemon is at its end, and nobody asks for room any more.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move {
                answer.await.ok();
                drop(room);
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::Semaphore;

    use super::*;

    fn asked(room: &Arc<Semaphore>) -> (oneshot::Sender<u8>, Standing<u8>) {
        let (reply, answer) = oneshot::channel();
        (reply, Standing::new(answer, Arc::clone(room).try_acquire_owned().unwrap()))
    }

    #[tokio::test]
    async fn whoever_hangs_up_leaves_the_room_taken_until_the_writer_is_done() {
        let room = Arc::new(Semaphore::new(1));
        let (reply, standing) = asked(&room);
        drop(standing);
        tokio::task::yield_now().await;
        assert_eq!(room.available_permits(), 0);
        reply.send(1).unwrap();
        drop(room.acquire().await.unwrap());
    }

    #[tokio::test]
    async fn whoever_waited_too_long_leaves_it_taken_too() {
        let room = Arc::new(Semaphore::new(1));
        let (reply, standing) = asked(&room);
        assert!(standing.answered(Duration::ZERO).await.is_none());
        tokio::task::yield_now().await;
        assert_eq!(room.available_permits(), 0);
        drop(reply);
        drop(room.acquire().await.unwrap());
    }

    #[tokio::test]
    async fn an_answer_gives_it_back_at_once() {
        let room = Arc::new(Semaphore::new(1));
        let (reply, standing) = asked(&room);
        reply.send(7).unwrap();
        assert_eq!(standing.answered(Duration::from_secs(1)).await, Some(Ok(7)));
        assert_eq!(room.available_permits(), 1);
    }
}
