//! Reading request bodies: bounded in bytes, in time, and over all requests together.
//!
//! Memory is taken as bytes arrive, not as a sender announces them: who declares much and sends little holds up nobody.

use axum::body::{Body, HttpBody as _};
use axum::http::{HeaderMap, StatusCode, header};
use http_body_util::BodyExt as _;
use tokio::sync::{Semaphore, SemaphorePermit, TryAcquireError};
use tokio::time::{Duration, timeout};

use super::problem::Problem;

/// How long a body may take.
#[derive(Clone, Copy, Debug)]
struct Times {
    /// From the first to the last byte.
    whole: Duration,
    /// From one byte to the next.
    pause: Duration,
}

/// 8 MiB over a line of 1.2 Mbit/s; a pause as long as the one before a head.
const TIMES: Times = Times { whole: Duration::from_mins(1), pause: Duration::from_secs(10) };

/// Memory for bodies, in units, over all requests together: 256 MiB.
const BUDGET_UNITS: usize = 16_384;
const UNIT_BYTES: usize = 16 * 1024;
/// What a declared length is believed before anything of it is there, bytes: most bodies are read into one piece.
const FIRST_BYTES: usize = 64 * 1024;

/// What is read and thrown away of a refused request, so that the answer arrives instead of a reset connection.
const DISCARD_BYTES: usize = 16 * 1024 * 1024;
const DISCARD_TIME: Duration = Duration::from_secs(5);

/// The memory bodies may take.
pub(crate) fn budget() -> Semaphore {
    Semaphore::new(BUDGET_UNITS)
}

/// Reads the whole body, at most `limit` bytes. The permit is its share of the memory, to be kept while it is in use.
pub(crate) async fn read<'a>(
    headers: &HeaderMap,
    body: Body,
    limit: usize,
    budget: &'a Semaphore,
) -> Result<(Vec<u8>, SemaphorePermit<'a>), Problem> {
    read_within(TIMES, headers, body, limit, budget).await
}

async fn read_within<'a>(
    times: Times,
    headers: &HeaderMap,
    body: Body,
    limit: usize,
    budget: &'a Semaphore,
) -> Result<(Vec<u8>, SemaphorePermit<'a>), Problem> {
    let declared = declared_length(headers, &body);
    if declared.is_some_and(|bytes| bytes > limit) {
        discard(headers, body).await;
        return Err(too_large(limit));
    }
    let room = Room::new(declared, limit, budget).map_err(|_| Problem::from(crate::pipeline::Unavailable::Backlog))?;
    match timeout(times.whole, collect(body, room, times.pause, limit)).await {
        Ok(Ok(room)) => Ok((room.bytes, room.share)),
        Ok(Err(Broken::TooLarge(rest))) => {
            discard(headers, rest).await;
            Err(too_large(limit))
        }
        Ok(Err(Broken::NoRoom(rest))) => {
            discard(headers, rest).await;
            Err(crate::pipeline::Unavailable::Backlog.into())
        }
        Ok(Err(Broken::Aborted)) => Err(Problem::new(
            StatusCode::BAD_REQUEST,
            "body_incomplete",
            "The body is incomplete",
            "the connection ended, or its framing broke, before the whole body was there",
        )
        .closing()),
        Ok(Err(Broken::Silent)) | Err(_) => Err(Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            "body_timeout",
            "The body took too long",
            format!(
                "the whole body must arrive within {} s, without a pause of {} s",
                times.whole.as_secs(),
                times.pause.as_secs()
            ),
        )
        .closing()),
    }
}

/// Throws the rest of a refused request's body away. A client that waits to be told to go on has sent none.
pub(crate) async fn discard(headers: &HeaderMap, mut body: Body) {
    if headers.contains_key(header::EXPECT)
        || declared_length(headers, &body).is_some_and(|bytes| bytes > DISCARD_BYTES)
    {
        return;
    }
    let drain = async {
        let mut left = DISCARD_BYTES;
        while let Some(Ok(frame)) = body.frame().await {
            left = left.saturating_sub(frame.data_ref().map_or(0, axum::body::Bytes::len));
            if left == 0 {
                break;
            }
        }
    };
    // Whoever is slower than this gets the answer with the connection closed behind it.
    timeout(DISCARD_TIME, drain).await.unwrap_or_default();
}

enum Broken {
    TooLarge(Body),
    /// The memory for bodies is used up.
    NoRoom(Body),
    Silent,
    Aborted,
}

/// What is there of a body, and the share of the memory that it takes.
struct Room<'a> {
    bytes: Vec<u8>,
    share: SemaphorePermit<'a>,
    budget: &'a Semaphore,
    /// More than this cannot come.
    most: usize,
}

impl<'a> Room<'a> {
    fn new(declared: Option<usize>, limit: usize, budget: &'a Semaphore) -> Result<Self, TryAcquireError> {
        let share = budget.try_acquire_many(0)?;
        let mut room = Self { bytes: Vec::new(), share, budget, most: declared.unwrap_or(limit) };
        room.take(declared.unwrap_or(0).min(FIRST_BYTES))?;
        Ok(room)
    }

    /// Makes room for `bytes` in all.
    fn take(&mut self, bytes: usize) -> Result<(), TryAcquireError> {
        if bytes <= self.bytes.capacity() {
            return Ok(());
        }
        let doubled = self.bytes.capacity().saturating_mul(2).min(self.most).max(bytes);
        let units = doubled.div_ceil(UNIT_BYTES).min(BUDGET_UNITS).saturating_sub(self.share.num_permits());
        self.share.merge(self.budget.try_acquire_many(u32::try_from(units).unwrap_or(u32::MAX))?);
        self.bytes.reserve_exact(doubled.saturating_sub(self.bytes.len()));
        Ok(())
    }
}

async fn collect(mut body: Body, mut room: Room<'_>, pause: Duration, limit: usize) -> Result<Room<'_>, Broken> {
    while let Some(frame) = timeout(pause, body.frame()).await.map_err(|_| Broken::Silent)? {
        let Ok(data) = frame.map_err(|_| Broken::Aborted)?.into_data() else { continue };
        let bytes = room.bytes.len().saturating_add(data.len());
        if bytes > limit {
            return Err(Broken::TooLarge(body));
        }
        if room.take(bytes).is_err() {
            return Err(Broken::NoRoom(body));
        }
        room.bytes.extend_from_slice(&data);
    }
    Ok(room)
}

fn declared_length(headers: &HeaderMap, body: &Body) -> Option<usize> {
    let exact = body.size_hint().exact().and_then(|bytes| usize::try_from(bytes).ok());
    exact.or_else(|| headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok())
}

fn too_large(limit: usize) -> Problem {
    Problem::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "body_too_large",
        "The body is too large",
        format!("the body may have {limit} bytes (server.body_limit); send fewer events in one request"),
    )
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use axum::response::IntoResponse as _;

    use super::*;

    /// A body whose length nobody knows.
    struct Chunked(std::vec::IntoIter<&'static str>);

    impl hyper::body::Body for Chunked {
        type Data = axum::body::Bytes;
        type Error = std::io::Error;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<hyper::body::Frame<Self::Data>, Self::Error>>> {
            let part = self.0.next().map(|part| Ok(hyper::body::Frame::data(part.into())));
            Poll::Ready(part)
        }
    }

    fn chunked<const N: usize>(parts: [&'static str; N]) -> Body {
        Body::new(Chunked(Vec::from(parts).into_iter()))
    }

    #[tokio::test]
    async fn a_body_is_read_up_to_its_limit() {
        let headers = HeaderMap::new();
        let budget = budget();
        assert_eq!(read(&headers, chunked(["abc", "de"]), 5, &budget).await.unwrap().0, b"abcde");
        for body in [chunked(["abc", "def"]), Body::from("abcdef")] {
            let status = read(&headers, body, 5, &budget).await.unwrap_err().into_response().status();
            assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
        }
        assert_eq!(budget.available_permits(), BUDGET_UNITS, "what was taken is given back");
    }

    #[tokio::test]
    async fn bodies_wait_for_nobody_when_the_memory_is_used_up() {
        let budget = Semaphore::new(0);
        let problem = read(&HeaderMap::new(), Body::from("x"), 5, &budget).await.unwrap_err();
        let answer = problem.into_response();
        assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS);
        assert!(answer.headers().contains_key(header::RETRY_AFTER), "{answer:?}");
    }

    /// A body of which one part comes every so often, for ever.
    struct Dripping(Duration, Pin<Box<tokio::time::Sleep>>);

    fn dripping(every: Duration) -> Body {
        Body::new(Dripping(every, Box::pin(tokio::time::sleep(every))))
    }

    impl hyper::body::Body for Dripping {
        type Data = axum::body::Bytes;
        type Error = std::io::Error;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
        ) -> Poll<Option<Result<hyper::body::Frame<Self::Data>, Self::Error>>> {
            let every = self.0;
            self.1.as_mut().poll(context).map(|()| {
                self.1 = Box::pin(tokio::time::sleep(every));
                Some(Ok(hyper::body::Frame::data("x".into())))
            })
        }
    }

    // Row 55: a body that never ends, and one that never goes on.
    #[tokio::test]
    async fn a_slow_body_is_given_up_by_its_pause_and_by_its_whole_time() {
        let (short, long) = (Duration::from_millis(50), Duration::from_mins(10));
        let (headers, budget) = (HeaderMap::new(), budget());
        for (times, every) in [
            (Times { whole: short, pause: long }, Duration::from_millis(1)),
            (Times { whole: long, pause: short }, long),
        ] {
            let problem = read_within(times, &headers, dripping(every), usize::MAX, &budget).await.unwrap_err();
            assert_eq!(problem.into_response().status(), StatusCode::REQUEST_TIMEOUT);
        }
        assert_eq!(budget.available_permits(), BUDGET_UNITS, "what was taken is given back");
    }

    // Row 55: who declares much and sends little takes little.
    #[tokio::test]
    async fn memory_is_taken_as_bytes_arrive() {
        let budget = Semaphore::new(16);
        let large = 64 * UNIT_BYTES;
        let headers = HeaderMap::from_iter([(header::CONTENT_LENGTH, large.into())]);
        let (bytes, share) = read(&headers, chunked(["abc"]), large, &budget).await.unwrap();
        assert_eq!((bytes.len(), share.num_permits()), (3, FIRST_BYTES / UNIT_BYTES));
        let (bytes, unknown) = read(&HeaderMap::new(), chunked(["abc"]), large, &budget).await.unwrap();
        assert_eq!((bytes.len(), unknown.num_permits()), (3, 1));
        // What is there counts to the last byte, and the part that would be too much is not taken.
        let whole: &'static str = Box::leak("x".repeat(large).into_boxed_str());
        let problem = read(&headers, chunked([whole]), large, &budget).await.unwrap_err();
        assert_eq!(problem.into_response().status(), StatusCode::TOO_MANY_REQUESTS);
        drop((share, unknown));
        let enough = Semaphore::new(64);
        let (bytes, share) = read(&headers, chunked([whole]), large, &enough).await.unwrap();
        assert_eq!((bytes.len(), share.num_permits()), (large, 64));
        assert_eq!(budget.available_permits(), 16, "what was taken is given back");
    }
}
