//! Lines of a file or pipe, in batches, in bounded memory: what `send` reads.
//!
//! The lines are read on a thread of their own, at most one batch ahead of the one being sent. A batch goes out when it
//! is full, and also when the input has nothing more at hand, so that a pipe that is fed slowly is sent as it comes.
//! The thread is not awaited: it may be waiting for a terminal when the program has to end.

use std::io::{self, BufRead, BufReader, Read};

use tokio::sync::mpsc;

use crate::domain::limits;

/// Lines of one request.
pub const BATCH_LINES: usize = 500;
/// Bytes of one request.
pub const BATCH_BYTES: usize = 4 * 1024 * 1024;
/// Read ahead: some batches of ordinary lines, so that full batches are the rule.
const BUFFER_BYTES: usize = 1024 * 1024;
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Lines to be sent together.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Batch {
    /// The place in the file of each line of `body`, from 1.
    pub numbers: Vec<u64>,
    /// The lines, each with its line feed.
    pub body: Vec<u8>,
    /// Lines that are longer than an event may be; they are not in `body`.
    pub too_long: Vec<u64>,
}

/// Reads `input` to its end; an error of reading comes last.
pub fn read(input: impl Read + Send + 'static) -> io::Result<mpsc::Receiver<io::Result<Batch>>> {
    let (sender, receiver) = mpsc::channel(1);
    let reader = BufReader::with_capacity(BUFFER_BYTES, input);
    std::thread::Builder::new().name("lines".to_owned()).spawn(move || feed(reader, &sender))?;
    Ok(receiver)
}

fn feed<R: Read>(mut reader: BufReader<R>, sender: &mpsc::Sender<io::Result<Batch>>) {
    let mut batch = Batch::default();
    let mut number = 0;
    loop {
        number += 1;
        match next_line(&mut reader, limits::EVENT_BYTES) {
            Ok(Line::Text(line)) => batch.push(number, &line),
            Ok(Line::TooLong) => batch.too_long.push(number),
            Ok(Line::End) => {
                if !batch.is_empty() {
                    sender.blocking_send(Ok(batch)).ok();
                }
                return;
            }
            Err(error) => {
                // What was read before is good and is sent; the error is told after it.
                sender.blocking_send(Ok(std::mem::take(&mut batch))).ok();
                sender.blocking_send(Err(error)).ok();
                return;
            }
        }
        // The next line may be long in coming; what is whole must not wait for it.
        let idle = !reader.buffer().contains(&b'\n');
        if (batch.is_full() || (idle && !batch.is_empty()))
            && sender.blocking_send(Ok(std::mem::take(&mut batch))).is_err()
        {
            return;
        }
    }
}

impl Batch {
    /// Takes a line; a blank one is skipped.
    fn push(&mut self, number: u64, line: &[u8]) {
        let line = if number == 1 { line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line) } else { line };
        if !line.trim_ascii().is_empty() {
            self.numbers.push(number);
            self.body.extend_from_slice(line);
            self.body.push(b'\n');
        }
    }

    /// Whether there is nothing to send and nothing to tell.
    pub fn is_empty(&self) -> bool {
        self.numbers.is_empty() && self.too_long.is_empty()
    }

    fn is_full(&self) -> bool {
        let lines = self.numbers.len().saturating_add(self.too_long.len());
        lines >= BATCH_LINES || self.body.len().saturating_add(limits::EVENT_BYTES) > BATCH_BYTES
    }

    /// Two halves, for a daemon that takes less at once; `None` where there is one line left.
    pub fn halves(self) -> Option<(Self, Self)> {
        let half = self.numbers.len() / 2;
        let (first, second) = self.numbers.split_at_checked(half).filter(|_| half > 0)?;
        let cut = self.body.split_inclusive(|byte| *byte == b'\n').take(half).map(<[u8]>::len).sum();
        let (head, tail) = self.body.split_at_checked(cut)?;
        let make =
            |numbers: &[u64], body: &[u8], too_long| Self { numbers: numbers.to_vec(), body: body.to_vec(), too_long };
        Some((make(first, head, self.too_long.clone()), make(second, tail, Vec::new())))
    }
}

#[derive(PartialEq, Eq, Debug)]
enum Line {
    /// Without its line feed.
    Text(Vec<u8>),
    /// More than the bound; it was read over.
    TooLong,
    End,
}

/// The next line, of at most `bytes_max` bytes. Never holds more than that.
fn next_line(reader: &mut impl BufRead, bytes_max: usize) -> io::Result<Line> {
    let mut line = Vec::new();
    let mut over = false;
    let mut begun = false;
    loop {
        let chunk = match reader.fill_buf() {
            Ok(chunk) => chunk,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let end = chunk.is_empty();
        let text = chunk.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let whole = text.len() < chunk.len();
        begun |= !end;
        over |= line.len().saturating_add(text.len()) > bytes_max;
        if over {
            line.clear();
        } else {
            line.extend_from_slice(text);
        }
        let used = text.len().saturating_add(usize::from(whole));
        reader.consume(used);
        if end || whole {
            return Ok(match (begun, over) {
                (false, _) => Line::End,
                (true, true) => Line::TooLong,
                (true, false) => Line::Text(line),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &'static [u8]) -> Vec<Batch> {
        let mut receiver = read(text).unwrap();
        std::iter::from_fn(|| receiver.blocking_recv()).map(Result::unwrap).collect()
    }

    #[test]
    fn lines_keep_their_numbers_and_blank_ones_are_skipped() {
        let batches = all(b"\xef\xbb\xbf{1}\r\n\n  \n{2}\n{3}");
        assert_eq!(batches.len(), 2, "the last line is known to be whole only at the end of the file");
        assert_eq!(batches[0].body, b"{1}\r\n{2}\n");
        assert_eq!(batches[0].numbers, [1, 4]);
        assert_eq!((batches[1].numbers.as_slice(), batches[1].body.as_slice()), ([5].as_slice(), b"{3}\n".as_slice()));
    }

    #[test]
    fn an_empty_input_gives_no_batch() {
        assert_eq!(all(b""), []);
        assert_eq!(all(b"\n\n"), []);
    }

    #[test]
    fn a_line_over_the_bound_is_read_over_and_told() {
        let mut reader = BufReader::with_capacity(3, b"abcdefgh\nab\nabcde\nabcdef".as_slice());
        let mut next = || next_line(&mut reader, 5).unwrap();
        assert_eq!(next(), Line::TooLong);
        assert_eq!(next(), Line::Text(b"ab".to_vec()));
        assert_eq!(next(), Line::Text(b"abcde".to_vec()));
        assert_eq!(next(), Line::TooLong);
        assert_eq!(next(), Line::End);
    }

    #[test]
    fn batches_are_bounded_in_lines_and_in_bytes() {
        let text: &'static [u8] = "{}\n".repeat(BATCH_LINES * 2 + 1).leak().as_bytes();
        assert_eq!(all(text).iter().map(|batch| batch.numbers.len()).collect::<Vec<_>>(), [500, 500, 1]);
        let long = format!("{}\n", "x".repeat(200 * 1024));
        let text: &'static [u8] = long.repeat(50).leak().as_bytes();
        let batches = all(text);
        assert!(batches.iter().all(|batch| batch.body.len() <= BATCH_BYTES));
        assert_eq!(batches.iter().map(|batch| batch.numbers.len()).sum::<usize>(), 50);
    }

    #[test]
    fn a_batch_is_halved_down_to_one_line() {
        let batch = Batch { numbers: vec![1, 3, 4], body: b"a\nb\nc\n".to_vec(), too_long: vec![2] };
        let (first, second) = batch.halves().unwrap();
        assert_eq!(first, Batch { numbers: vec![1], body: b"a\n".to_vec(), too_long: vec![2] });
        assert_eq!(second, Batch { numbers: vec![3, 4], body: b"b\nc\n".to_vec(), too_long: vec![] });
        assert_eq!(first.halves(), None);
    }
}
