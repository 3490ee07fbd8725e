//! Lines of the log on their way out: a bounded queue, and a thread that writes them to standard error.
//!
//! Whoever logs never waits. Where nobody reads the pipe, or the journal is stuck, or the disk is full, the queue fills up
//! (`LINES`, `BYTES`) and what comes then is dropped and counted; once lines go out again the log says how many were
//! lost. Lines that cannot be written at all (standard error is closed) are dropped and counted too.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

/// Lines that may wait.
const LINES: usize = 8192;
/// Their bytes.
const BYTES: usize = 4 * 1024 * 1024;
/// How long the end of the process waits for lines that were not written yet.
const FLUSH: Duration = Duration::from_secs(1);

/// The queue of this process, once there is one.
static QUEUE: OnceLock<Queue> = OnceLock::new();

/// Lines of the log that were dropped since the process started.
pub fn dropped() -> u64 {
    QUEUE.get().map_or(0, |queue| queue.count.dropped.load(Ordering::Relaxed))
}

/// Waits until everything said so far is written, but not for long: nobody may be reading.
pub fn flush() {
    if let Some(queue) = QUEUE.get() {
        queue.flush(FLUSH);
    }
}

#[derive(Debug, Default)]
struct Count {
    dropped: AtomicU64,
    waiting: AtomicUsize,
}

enum Message {
    Line(Vec<u8>),
    /// Answered when everything before it is written.
    Flush(SyncSender<()>),
}

/// Where lines are put; cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Queue {
    lines: SyncSender<Message>,
    count: Arc<Count>,
}

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
        let (lines, waiting) = sync_channel(LINES);
        let count = Arc::new(Count::default());
        let counted = Arc::clone(&count);
        thread::Builder::new().name("log".to_owned()).spawn(move || write_out(&waiting, &counted, &mut to, &tell))?;
        Ok(Self { lines, count })
    }

    fn put(&self, line: &[u8]) {
        let before = self.count.waiting.fetch_add(line.len(), Ordering::AcqRel);
        if before > BYTES || self.lines.try_send(Message::Line(line.to_vec())).is_err() {
            self.count.waiting.fetch_sub(line.len(), Ordering::AcqRel);
            self.count.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn flush(&self, within: Duration) {
        let (done, written) = sync_channel(1);
        // A queue that is full is one that nobody reads.
        if self.lines.try_send(Message::Flush(done)).is_ok() {
            written.recv_timeout(within).ok();
        }
    }
}

fn write_out(lines: &Receiver<Message>, count: &Count, to: &mut impl Write, tell: &impl Fn()) {
    let mut told = 0;
    while let Ok(message) = lines.recv() {
        match message {
            Message::Line(line) => {
                let written = to.write_all(&line).and_then(|()| to.flush());
                count.waiting.fetch_sub(line.len(), Ordering::AcqRel);
                if written.is_err() {
                    count.dropped.fetch_add(1, Ordering::Relaxed);
                    // To say so would fail the same way, and say so again.
                    continue;
                }
                let dropped = count.dropped.load(Ordering::Relaxed);
                if dropped > told {
                    told = dropped;
                    tell();
                }
            }
            Message::Flush(done) => drop(done.try_send(())),
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
    use std::sync::Mutex;
    use std::sync::mpsc::channel;

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
        // The thread holds one beside those that wait.
        let dropped = queue.count.dropped.load(Ordering::Relaxed);
        assert!((99..=100).contains(&dropped), "{dropped}");
        assert!(telling.try_recv().is_err(), "nothing went out yet");
        for _ in 0..=LINES {
            go.send(()).unwrap();
        }
        telling.recv().unwrap();
        queue.flush(Duration::from_mins(1));
        assert!(telling.try_recv().is_err(), "told once");
        assert_eq!(out.lock().unwrap().first().map(String::as_str), Some("0\n"));
        assert_eq!(u64::try_from(out.lock().unwrap().len()).unwrap() + dropped, u64::try_from(LINES + 100).unwrap());
    }

    #[test]
    fn long_lines_are_bounded_by_their_bytes() {
        let (_go, let_through) = channel();
        let queue = Queue::start(Pipe { let_through, out: Arc::default() }, || {}).unwrap();
        let line = vec![b'x'; BYTES / 4];
        (0..20).for_each(|_| queue.put(&line));
        assert!(queue.count.waiting.load(Ordering::Relaxed) <= BYTES + line.len());
        assert!(queue.count.dropped.load(Ordering::Relaxed) >= 14);
    }

    #[test]
    fn what_cannot_be_written_is_counted_and_not_complained_about() {
        let (go, let_through) = channel::<()>();
        drop(go);
        let queue = Queue::start(Pipe { let_through, out: Arc::default() }, || panic!("to whom?")).unwrap();
        (0..10).for_each(|_| queue.put(b"line\n"));
        queue.flush(Duration::from_mins(1));
        assert_eq!(queue.count.dropped.load(Ordering::Relaxed), 10);
    }
}
