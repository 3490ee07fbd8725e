//! How long an exchange waits for its connection.
//!
//! The client opens connections inside itself, so a layer around its connector takes the time, and a task-local tells whose it
//! was. Connections are polled by the exchange that asked for them; where an idle one is free first, the client hands the one
//! being opened to a task of its own, outside of any exchange, and its time is nobody's. So a time that comes out here belongs
//! to a connection that this very exchange opened and waited for, and a reused one has none.

use std::cell::Cell;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tower_layer::Layer;
use tower_service::Service;

use crate::domain::time::DurationMs;
use crate::env::clock::Clock;

tokio::task_local! {
    /// How long the connection took that the exchange polled here has opened last.
    static OPENED: Cell<Option<Duration>>;
}

/// Runs one exchange, and says how long a connection it opened took until it stood: name, TCP, proxy and TLS together.
pub(super) async fn watched<F: Future>(exchange: F) -> (F::Output, Option<Duration>) {
    let told = async {
        let output = exchange.await;
        (output, OPENED.try_with(Cell::get).ok().flatten())
    };
    OPENED.scope(Cell::new(None), told).await
}

/// Whole milliseconds, rounded down: phases never add up to more than the whole.
pub(super) fn ms(time: Duration) -> DurationMs {
    DurationMs(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

/// The layer around a client's connector.
#[derive(Clone)]
pub(super) struct Timing(pub(super) Arc<dyn Clock>);

/// A connector whose time is taken.
#[derive(Clone)]
pub(super) struct Timed<S> {
    inner: S,
    clock: Arc<dyn Clock>,
}

impl<S> Layer<S> for Timing {
    type Service = Timed<S>;

    fn layer(&self, inner: S) -> Timed<S> {
        Timed { inner, clock: Arc::clone(&self.0) }
    }
}

impl<S, To> Service<To> for Timed<S>
where
    S: Service<To>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, to: To) -> Self::Future {
        let clock = Arc::clone(&self.clock);
        let start = clock.monotonic();
        let connecting = self.inner.call(to);
        Box::pin(async move {
            let connection = connecting.await?;
            let took = clock.monotonic().saturating_sub(start);
            // Outside of any exchange nobody waits for it.
            OPENED.try_with(|opened| opened.set(Some(took))).ok();
            Ok(connection)
        })
    }
}

impl fmt::Debug for Timing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Timing")
    }
}
