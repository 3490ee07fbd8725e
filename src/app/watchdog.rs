//! Tells the service manager that all is well, and only after every part has just shown it.
//!
//! Each round asks the writer, the driver and the task behind each listener, by a question that goes the way their work
//! goes. One that hangs gives no answer, so nothing is said, and the service manager ends the process and starts it
//! afresh (`WatchdogSec=`). A timer of its own would say that all is well for ever.

use std::pin::pin;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tracing::warn;

use super::notify;
use crate::http::Probes;
use crate::pipeline::Pipeline;
use crate::pipeline::pulse::Probe;

/// What must turn.
enum Part {
    Writer(Pipeline),
    Driver(Pipeline),
    Listener(Probes),
}

/// A part with its name.
struct Named {
    name: String,
    part: Part,
}

/// Runs until it is dropped. Nothing happens where the service manager wants no signs of life.
pub(super) async fn run(pipeline: Pipeline, listeners: Vec<(String, Probes)>, stopping: watch::Receiver<bool>) {
    let Some(limit) = sd_notify::watchdog_enabled() else { return };
    let mut parts = vec![
        Named { name: "the writer".to_owned(), part: Part::Writer(pipeline.clone()) },
        Named { name: "the scheduler".to_owned(), part: Part::Driver(pipeline) },
    ];
    for (address, probes) in listeners {
        parts.push(Named { name: format!("the listener on {address}"), part: Part::Listener(probes) });
    }
    watch_over(&parts, limit / 2, &stopping, || notify(&[sd_notify::NotifyState::Watchdog])).await;
}

async fn watch_over(parts: &[Named], period: Duration, stopping: &watch::Receiver<bool>, beat: impl Fn()) {
    loop {
        let mut all_well = true;
        for part in parts {
            // Who is gone may be so when we stop.
            all_well &= turns(part, period).await || *stopping.borrow();
        }
        if all_well {
            beat();
        }
        sleep(period).await;
    }
}

/// Whether a part still turns; no answer while it hangs.
async fn turns(part: &Named, period: Duration) -> bool {
    let mut answer = pin!(part.part.turns());
    let mut silent = Duration::ZERO;
    loop {
        match timeout(period, answer.as_mut()).await {
            Ok(true) => return true,
            Ok(false) => {
                warn!(part = part.name, "It has ended; the service manager is not told that all is well.");
                return false;
            }
            Err(_) => {
                silent += period;
                warn!(
                    part = part.name,
                    silent_s = silent.as_secs(),
                    "It gives no sign of life; the service manager is not told that all is well."
                );
            }
        }
    }
}

impl Part {
    async fn turns(&self) -> bool {
        match self {
            Self::Writer(pipeline) => pipeline.writer_turns().await,
            Self::Driver(pipeline) => pipeline.driver_turns().await,
            Self::Listener(probes) => {
                let (probe, answer) = Probe::new();
                probes.send(probe).await.is_ok() && answer.await.is_ok()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;

    const PERIOD: Duration = Duration::from_millis(5);

    fn part() -> (Named, mpsc::Receiver<Probe>) {
        let (ask, probes) = mpsc::channel(1);
        (Named { name: "it".to_owned(), part: Part::Listener(ask) }, probes)
    }

    /// Answers questions until it has answered so many; then it holds the next one.
    async fn lives(mut probes: mpsc::Receiver<Probe>, answers: usize) -> (mpsc::Receiver<Probe>, Option<Probe>) {
        for _ in 0..answers {
            let Some(probe) = probes.recv().await else { break };
            probe.answer();
        }
        let held = probes.recv().await;
        (probes, held)
    }

    // Row 27.
    #[tokio::test]
    async fn a_beat_follows_only_on_every_part_and_ends_with_the_first_that_hangs() {
        let ((one, one_probes), (two, two_probes)) = (part(), part());
        let (beats, mut beaten) = mpsc::channel(100);
        let (_stop, stopping) = watch::channel(false);
        let parts = [one, two];
        let watching = watch_over(&parts, PERIOD, &stopping, || beats.try_send(()).unwrap());
        tokio::select! {
            () = watching => unreachable!("it runs until it is dropped"),
            _ = async { tokio::join!(lives(one_probes, usize::MAX), async {
                // The second part hangs from its fourth question on, and is watched for a while after that.
                let hanging = lives(two_probes, 3).await;
                sleep(10 * PERIOD).await;
                drop(hanging);
            }) } => {}
            () = async { sleep(100 * PERIOD).await } => {}
        }
        let mut count = 0;
        while beaten.try_recv().is_ok() {
            count += 1;
        }
        assert_eq!(count, 3, "three rounds were answered by both");
    }

    #[tokio::test]
    async fn who_ended_is_missed_unless_we_stop() {
        for (stops, wanted) in [(false, false), (true, true)] {
            let (gone, probes) = part();
            drop(probes);
            let (beats, mut beaten) = mpsc::channel(1000);
            let (_stop, stopping) = watch::channel(stops);
            let parts = [gone];
            let watching = watch_over(&parts, PERIOD, &stopping, || beats.try_send(()).unwrap());
            timeout(10 * PERIOD, watching).await.unwrap_err();
            assert_eq!(beaten.try_recv().is_ok(), wanted, "stopping: {stops}");
        }
    }
}
