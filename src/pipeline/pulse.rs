//! Whether writer and driver still turn: a question that travels the road their work travels, and comes back.
//!
//! Nothing is written for it, and nobody answers for somebody else: where the writer hangs in a commit, or the driver in a
//! step, there is no answer, however well the rest of the process is.

use tokio::sync::oneshot;

use super::Pipeline;
use super::writer::Command;

/// A question whose only answer is that it was answered.
#[derive(Debug)]
pub struct Probe(oneshot::Sender<()>);

impl Probe {
    /// A question, and where its answer arrives.
    pub fn new() -> (Self, oneshot::Receiver<()>) {
        let (reply, answer) = oneshot::channel();
        (Self(reply), answer)
    }

    pub fn answer(self) {
        // Whoever asked may have given up.
        self.0.send(()).ok();
    }
}

impl Pipeline {
    /// Whether the writer has come to this question through everything that waited before it: `false` where it is gone,
    /// no answer where it hangs.
    pub async fn writer_turns(&self) -> bool {
        let (probe, answer) = Probe::new();
        self.writer.send(Command::Probe(probe)).await.is_ok() && answer.await.is_ok()
    }

    /// As [`Pipeline::writer_turns`], for the task that owns the scheduler.
    pub async fn driver_turns(&self) -> bool {
        let (probe, answer) = Probe::new();
        self.probes.send(probe).await.is_ok() && answer.await.is_ok()
    }
}
