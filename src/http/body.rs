//! Reading request bodies: bounded in bytes, in time, and over all requests together.

use axum::body::{Body, HttpBody as _};
use axum::http::{HeaderMap, StatusCode, header};
use http_body_util::BodyExt as _;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Duration, timeout};

use super::problem::Problem;

/// From the first to the last byte of a body: 8 MiB over a line of 1.2 Mbit/s.
const READ_TIME: Duration = Duration::from_mins(1);

/// Memory for bodies, in units, over all requests together: 256 MiB.
const BUDGET_UNITS: usize = 16_384;
const UNIT_BYTES: usize = 16 * 1024;

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
    let declared = declared_length(headers, &body);
    if declared.is_some_and(|bytes| bytes > limit) {
        discard(headers, body).await;
        return Err(too_large(limit));
    }
    let units = u32::try_from(declared.unwrap_or(limit).div_ceil(UNIT_BYTES).clamp(1, BUDGET_UNITS)).unwrap_or(1);
    let Ok(share) = budget.try_acquire_many(units) else {
        discard(headers, body).await;
        return Err(crate::pipeline::Unavailable::Backlog.into());
    };
    match timeout(READ_TIME, collect(body, declared, limit)).await {
        Ok(Ok(bytes)) => Ok((bytes, share)),
        Ok(Err(Broken::TooLarge(rest))) => {
            discard(headers, rest).await;
            Err(too_large(limit))
        }
        Ok(Err(Broken::Aborted)) => Err(Problem::new(
            StatusCode::BAD_REQUEST,
            "body_incomplete",
            "The body is incomplete",
            "the connection ended, or its framing broke, before the whole body was there",
        )
        .closing()),
        Err(_) => Err(Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            "body_timeout",
            "The body took too long",
            format!("the whole body must arrive within {} s", READ_TIME.as_secs()),
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
    Aborted,
}

async fn collect(mut body: Body, declared: Option<usize>, limit: usize) -> Result<Vec<u8>, Broken> {
    let mut bytes = Vec::with_capacity(declared.unwrap_or(0).min(limit));
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| Broken::Aborted)?.into_data() else { continue };
        if bytes.len() + data.len() > limit {
            return Err(Broken::TooLarge(body));
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes)
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
    use axum::response::IntoResponse as _;

    use super::*;

    /// A body whose length nobody knows.
    struct Chunked(std::vec::IntoIter<&'static str>);

    impl hyper::body::Body for Chunked {
        type Data = axum::body::Bytes;
        type Error = std::io::Error;

        fn poll_frame(
            mut self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<hyper::body::Frame<Self::Data>, Self::Error>>> {
            let part = self.0.next().map(|part| Ok(hyper::body::Frame::data(part.into())));
            std::task::Poll::Ready(part)
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
        assert_eq!(problem.into_response().status(), StatusCode::TOO_MANY_REQUESTS);
    }
}
