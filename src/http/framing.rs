//! Requests that carry both `Content-Length` and `Transfer-Encoding`: the classic way to smuggle a second request past a
//! proxy that believes the other length.
//!
//! hyper takes such a request as chunked, drops the length and closes the connection afterwards, so that a handler
//! cannot see that there were two. [`Watched`] looks at the bytes on their way to hyper and remembers it. It only
//! needs heads and lengths, no chunks: after a chunked request the connection is closed (see [`super::serve`]), so
//! nothing behind one is ever looked at.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes kept of a header line: enough for the two names and any length.
const LINE_BYTES: usize = 128;

/// Whether a chunked request of this connection also had a length; set before hyper sees the end of its head.
pub(super) type Contradiction = Arc<AtomicBool>;

/// A connection whose incoming bytes are looked at.
pub(super) struct Watched<T> {
    inner: T,
    scanner: Scanner,
    contradiction: Contradiction,
}

impl<T> Watched<T> {
    pub(super) fn new(inner: T) -> (Self, Contradiction) {
        let contradiction = Contradiction::default();
        (Self { inner, scanner: Scanner::default(), contradiction: Arc::clone(&contradiction) }, contradiction)
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Watched<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(context, buffer);
        if let Some(fresh) = buffer.filled().get(before..)
            && self.scanner.feed(fresh)
        {
            self.contradiction.store(true, Ordering::Release);
        }
        polled
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Watched<T> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

/// Where in the stream of requests we are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    /// Before or in a head.
    Head,
    /// In a body of known length.
    Body { left: u64 },
    /// Behind a chunked head, or behind what hyper refuses: the connection ends with that request.
    Blind,
}

#[derive(Debug)]
struct Scanner {
    place: Place,
    /// The line that is being read, cut to [`LINE_BYTES`].
    line: Vec<u8>,
    /// A request line was seen.
    begun: bool,
    chunked: bool,
    length: Option<Result<u64, ()>>,
}

impl Default for Scanner {
    fn default() -> Self {
        Self { place: Place::Head, line: Vec::with_capacity(LINE_BYTES), begun: false, chunked: false, length: None }
    }
}

impl Scanner {
    /// Looks at the next bytes; true where a head ended in them that has both lengths.
    fn feed(&mut self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            match self.place {
                Place::Blind => return false,
                Place::Body { left } => {
                    let skipped = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                    bytes = bytes.get(skipped..).unwrap_or_default();
                    let left = left.saturating_sub(u64::try_from(skipped).unwrap_or(u64::MAX));
                    self.place = if left == 0 { Place::Head } else { Place::Body { left } };
                }
                Place::Head => {
                    let end = bytes.iter().position(|byte| *byte == b'\n');
                    let (part, rest) = bytes.split_at_checked(end.unwrap_or(bytes.len())).unwrap_or((bytes, &[]));
                    let room = LINE_BYTES.saturating_sub(self.line.len());
                    self.line.extend(part.iter().take(room));
                    bytes = rest.get(1..).unwrap_or_default();
                    if end.is_some() && self.end_of_line() {
                        return true;
                    }
                }
            }
        }
        false
    }

    fn end_of_line(&mut self) -> bool {
        let line = std::mem::take(&mut self.line);
        let line = line.strip_suffix(b"\r").unwrap_or(&line);
        if line.is_empty() {
            // Empty lines before a request line are allowed and mean nothing.
            return self.begun && self.end_of_head();
        }
        if !self.begun {
            self.begun = true;
            return false;
        }
        let mut parts = line.splitn(2, |byte| *byte == b':');
        let (name, value) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        if name.eq_ignore_ascii_case(b"transfer-encoding") {
            self.chunked = true;
        } else if name.eq_ignore_ascii_case(b"content-length") {
            let digits = std::str::from_utf8(value.trim_ascii()).ok().and_then(|text| text.parse().ok());
            self.length = Some(digits.ok_or(()));
        }
        false
    }

    fn end_of_head(&mut self) -> bool {
        let both = self.chunked && self.length.is_some();
        self.place = match (self.chunked, self.length) {
            (true, _) | (false, Some(Err(()))) => Place::Blind,
            (false, Some(Ok(left))) if left > 0 => Place::Body { left },
            (false, _) => Place::Head,
        };
        (self.begun, self.chunked, self.length) = (false, false, None);
        both
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether it is seen, in one piece and byte by byte.
    fn seen(stream: &str) -> bool {
        let whole = Scanner::default().feed(stream.as_bytes());
        let mut scanner = Scanner::default();
        let by_bytes = stream.as_bytes().chunks(1).any(|byte| scanner.feed(byte));
        assert_eq!(whole, by_bytes, "{stream:?}");
        whole
    }

    #[test]
    fn two_lengths_are_seen_in_either_order_and_any_spelling() {
        for head in [
            "POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST / HTTP/1.1\r\ntransfer-ENCODING:chunked\r\nHost: x\r\ncontent-length:0\r\n\r\n",
            "POST / HTTP/1.1\nTransfer-Encoding: chunked\nContent-Length: nonsense\n\n",
            "\r\n\r\nPOST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
        ] {
            assert!(seen(head), "{head:?}");
        }
    }

    #[test]
    fn one_length_or_none_is_no_contradiction() {
        for head in [
            "GET / HTTP/1.1\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nContent-Length: 3\r\n\r\n",
            "POST / HTTP/1.1\r\nX-Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\nabc",
            "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n",
        ] {
            assert!(!seen(head), "{head:?}");
        }
    }

    #[test]
    fn bodies_are_no_heads() {
        let inner = "POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n";
        let hidden = format!("POST / HTTP/1.1\r\nContent-Length: {}\r\n\r\n{inner}", inner.len());
        assert!(!seen(&hidden));
        assert!(seen(&format!("{hidden}{inner}")), "but the request behind it is one");
        let long = format!("GET /{} HTTP/1.1\r\nX: {}\r\n\r\n{inner}", "a".repeat(5000), "b".repeat(5000));
        assert!(seen(&long));
    }
}
