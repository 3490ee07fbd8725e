//! The floor under all hints: a thread that looks by the clock whether anything was written, and says "look".
//!
//! It asks for the files' metadata only; whether anything is new is told by contents alone, by whoever is told to look.
//! What is written just when a file is read may leave the same time stamp behind (the kernel's stamps are some milliseconds
//! coarse), so the round after any change says "look" once more.
//!
//! A thread, and no timer of the runtime: that would wake three threads for each look, and a daemon at rest is to leave the
//! machine alone.

use std::io;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use super::inputs::{Inputs, Stamps};

/// How often it looks.
pub const LOOK_EVERY: Duration = Duration::from_secs(5);

/// The thread; it ends when this is dropped.
#[derive(Debug)]
pub struct Floor {
    watched: Sender<Inputs>,
}

impl Floor {
    /// `hint` is called from the thread.
    pub fn start(hint: impl Fn() + Send + 'static) -> io::Result<Self> {
        Self::start_every(LOOK_EVERY, hint)
    }

    fn start_every(every: Duration, hint: impl Fn() + Send + 'static) -> io::Result<Self> {
        let (watched, orders) = channel();
        let look = move || {
            let (mut inputs, mut round) = (Inputs::default(), Round::default());
            loop {
                match orders.recv_timeout(every) {
                    Ok(fresh) => (inputs, round) = (fresh, Round::default()),
                    Err(RecvTimeoutError::Timeout) => {
                        if round.next(inputs.stamps()) {
                            hint();
                        }
                    }
                    Err(RecvTimeoutError::Disconnected) => return,
                }
            }
        };
        thread::Builder::new().name("config".to_owned()).spawn(look)?;
        Ok(Self { watched })
    }

    /// Looks at these from now on. They were read just before.
    pub fn watch(&self, inputs: Inputs) {
        // An error means that the thread panicked; hints and orders are left.
        drop(self.watched.send(inputs));
    }
}

/// What the round before saw.
#[derive(Debug, Default)]
struct Round {
    stamps: Option<Stamps>,
    /// Nothing had changed then.
    is_settled: bool,
}

impl Round {
    /// Whether it is time to look.
    fn next(&mut self, now: Stamps) -> bool {
        let same = self.stamps.as_ref() == Some(&now);
        let look = !same || !self.is_settled;
        (self.stamps, self.is_settled) = (Some(now), same);
        look
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn every_change_is_looked_at_twice_and_rest_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.toml");
        let inputs = Inputs::of(&path);
        let mut round = Round::default();
        let mut looks = || {
            let said = [(); 4].map(|()| round.next(inputs.stamps()));
            assert!(!said[3], "it comes to rest: {said:?}");
            said.iter().filter(|look| **look).count()
        };
        assert_eq!(looks(), 2, "at the beginning too");
        fs::write(&path, "a").unwrap();
        assert_eq!(looks(), 2);
        fs::rename(&path, dir.path().join("other")).unwrap();
        assert_eq!(looks(), 2);
        assert_eq!(looks(), 0);
    }

    #[test]
    fn the_thread_says_so_and_ends_with_its_owner() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.toml");
        let (tell, told) = mpsc::channel();
        let floor = Floor::start_every(Duration::from_millis(5), move || tell.send(()).unwrap_or_default()).unwrap();
        floor.watch(Inputs::of(&path));
        told.recv_timeout(Duration::from_secs(10)).unwrap();
        fs::write(&path, "a").unwrap();
        told.recv_timeout(Duration::from_secs(10)).unwrap();
        drop(floor);
        while told.recv_timeout(Duration::from_secs(10)).is_ok() {}
        assert_eq!(told.recv(), Err(mpsc::RecvError), "the thread is gone");
    }
}
