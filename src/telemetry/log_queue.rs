//! Lines of the log on their way out: a bounded queue, and a thread that writes them to standard error.
//!
//! Whoever logs never waits. Where nobody reads the pipe, or the journal is stuck, or the disk is full, the queue fills up
//! (`LINES`, `BYTES`) and the oldest lines of it are dropped and counted; once lines go out again the log says how many were
//! lost. Lines that cannot be written at all (standard error is closed) are dropped and counted too.
//!
//! The end of the process waits a little for what was not written yet (`FLUSH`). A reader that is too slow for all of it gets
//! the last lines at least, which say why it ended.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

/// Lines that may wait.
const LINES: usize = 8192;
/// Their bytes.
const BYTES: usize = 4 * 1024 * 1024;
/// How long the end of the process waits for lines that were not written yet.
const FLUSH: Duration = Duration::from_secs(2);
/// Lines that are still written where half of that was not enough for all.
const LAST: usize = 64;

/// The queue of this process, once there is one.
static QUEUE: OnceLock<Queue> = OnceLock::new();

/// Lines of the log that were dropped since the process started.
pub fn dropped() -> u64 {
    QUEUE.get().map_or(0, |queue| queue.state().dropped)
}

/// Waits until everything said so far is written, but not for long: nobody may be reading.
pub fn flush() {
    if let Some(queue) = QUEUE.get() {
        queue.flush(FLUSH);
    }
}

#[derive(Debug, Default)]
struct State {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    /// The thread has taken a line that is not written yet.
    is_writing: bool,
    dropped: u64,
}

impl State {
    fn is_written(&self) -> bool {
        self.lines.is_empty() && !self.is_writing
    }

    fn take(&mut self) -> Option<Vec<u8>> {
        let line = self.lines.pop_front()?;
        self.bytes -= line.len();
        Some(line)
    }

    /// Drops the oldest until no more than so many are left, of so many bytes.
    fn shrink(&mut self, lines: usize, bytes: usize) {
        while self.lines.len() > lines || self.bytes > bytes {
            if self.take().is_none() {
                return;
            }
            self.dropped += 1;
        }
    }
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// There is a line to write.
    more: Condvar,
    /// Everything is written.
    written: Condvar,
}

/// Where lines are put; cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Queue(Arc<Shared>);

impl Queue {
    /// The one of this process, whose thread writes to standard error.
    pub fn of_the_process() -> io::Result<Self> {
        let queue = Self::start(io::stderr(), || {
            let lines = dropped();
            tracing::warn!(lines, "Lines of the log were dropped: whoever takes it was too slow, or is gone.");
        })?;
        Ok(QUEUE.get_or_init(|| queue).clone())
    }

    /// `tell` is called after lines were dropped, once others go out again.
    fn start(mut to: impl Write + Send + 'static, tell: impl Fn() + Send + 'static) -> io::Result<Self> {
        let queue = Self(Arc::default());
        let thread = queue.clone();
        thread::Builder::new().name("log".to_owned()).spawn(move || thread.write_out(&mut to, &tell))?;
        Ok(queue)
    }

    /// Held for a moment only, never while a line is written.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, line: &[u8]) {
        let mut state = self.state();
        state.bytes += line.len();
        state.lines.push_back(line.to_vec());
        // The last one is kept, however long it is.
        let room = BYTES.max(line.len());
        state.shrink(LINES, room);
        drop(state);
        self.0.more.notify_one();
    }

    fn flush(&self, within: Duration) {
        let written = &self.0.written;
        let not_yet = |state: &mut State| !state.is_written();
        let waited = written.wait_timeout_while(self.state(), within / 2, not_yet);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.shrink(LAST, usize::MAX);
        drop(written.wait_timeout_while(state, within / 2, not_yet));
    }

    fn write_out(&self, to: &mut impl Write, tell: &impl Fn()) {
        let mut told = 0;
        loop {
            let line = self.next();
            let written = to.write_all(&line).and_then(|()| to.flush());
            let mut state = self.state();
            state.dropped += u64::from(written.is_err());
            let dropped = state.dropped;
            drop(state);
            // Where this one could not be written, to say so would fail the same way, and say so again.
            if written.is_ok() && dropped > told {
                told = dropped;
                tell();
            }
            let mut state = self.state();
            state.is_writing = false;
            if state.is_written() {
                self.0.written.notify_all();
            }
        }
    }

    /// Waits for a line to write.
    fn next(&self) -> Vec<u8> {
        let mut state = self.state();
        loop {
            if let Some(line) = state.take() {
                state.is_writing = true;
                return line;
            }
            state = self.0.more.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// One line; the formatter writes it whole.
#[derive(Debug)]
pub(super) struct Line(Queue);

impl Write for Line {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.put(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Queue {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line(self.clone())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, channel};

    use super::*;

    /// Takes a line only when it is let.
    struct Pipe {
        let_through: Receiver<()>,
        out: Arc<Mutex<Vec<String>>>,
    }

    impl Write for Pipe {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            self.let_through.recv().map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
            self.out.lock().unwrap().push(String::from_utf8_lossy(line).into_owned());
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    // Row 79.
    #[test]
    fn a_pipe_that_nobody_reads_costs_lines_and_no_time_and_is_told_when_it_flows_again() {
        let (go, let_through) = channel();
        let out = Arc::<Mutex<Vec<String>>>::default();
        let (told, telling) = channel();
        let pipe = Pipe { let_through, out: Arc::clone(&out) };
        let queue = Queue::start(pipe, move || told.send(()).unwrap()).unwrap();
        for n in 0..LINES + 100 {
            queue.put(format!("{n}\n").as_bytes());
        }
        // The thread may hold one beside those that wait.
        let dropped = queue.state().dropped;
        assert!((99..=100).contains(&dropped), "{dropped}");
        assert!(telling.try_recv().is_err(), "nothing went out yet");
        for _ in 0..=LINES {
            go.send(()).unwrap();
        }
        telling.recv().unwrap();
        queue.flush(Duration::from_mins(1));
        assert!(telling.try_recv().is_err(), "told once");
        let out = out.lock().unwrap();
        assert_eq!(out.last().cloned(), Some(format!("{}\n", LINES + 99)), "the newest are kept");
        assert_eq!(u64::try_from(out.len()).unwrap() + dropped, u64::try_from(LINES + 100).unwrap());
    }

    // Row 79.
    #[test]
    fn at_the_end_a_slow_reader_of_a_full_queue_gets_the_last_lines_and_a_stuck_one_holds_nothing_up() {
        let (go, let_through) = channel();
        let out = Arc::<Mutex<Vec<String>>>::default();
        let queue = Queue::start(Pipe { let_through, out: Arc::clone(&out) }, || {}).unwrap();
        for n in 0..=LINES {
            queue.put(format!("{n}\n").as_bytes());
        }
        queue.put(b"why it ends\n");
        let bound = Duration::from_millis(200);
        queue.flush(bound);
        assert!(out.lock().unwrap().is_empty(), "nobody reads, and the end is not held up");
        // Now one is read for each that is let through: what is in the thread's hands, and the last.
        (0..=LAST).for_each(|_| go.send(()).unwrap());
        queue.flush(Duration::from_mins(1));
        let out = out.lock().unwrap();
        assert_eq!(out.last().map(String::as_str), Some("why it ends\n"));
        // The thread may have held one beside them.
        assert!((LAST..=LAST + 1).contains(&out.len()), "{}", out.len());
        assert!(queue.state().dropped > u64::try_from(LINES - LAST).unwrap(), "the others are counted");
    }

    #[test]
    fn long_lines_are_bounded_by_their_bytes() {
        let (_go, let_through) = channel();
        let queue = Queue::start(Pipe { let_through, out: Arc::default() }, || {}).unwrap();
        let line = vec![b'x'; BYTES / 4];
        queue.put(&line);
        while !queue.state().is_writing {
            thread::yield_now();
        }
        (0..20).for_each(|_| queue.put(&line));
        assert!(queue.state().bytes <= BYTES);
        assert_eq!(queue.state().dropped, 16, "four have room");
        queue.put(&vec![b'x'; 2 * BYTES]);
        assert_eq!(queue.state().lines.len(), 1, "the last one is kept, however long it is");
    }

    #[test]
    fn what_cannot_be_written_is_counted_and_not_complained_about() {
        let (go, let_through) = channel::<()>();
        drop(go);
        let queue = Queue::start(Pipe { let_through, out: Arc::default() }, || panic!("to whom?")).unwrap();
        (0..10).for_each(|_| queue.put(b"line\n"));
        queue.flush(Duration::from_mins(1));
        assert_eq!(queue.state().dropped, 10);
    }
}
