//! The HTTP face: ingest for senders, the trace, the DLQ and the books for operators.
//!
//! Handlers read a request into domain types, ask the pipeline or the store, and write the answer; they decide nothing
//! about events. Errors are `problem+json`. The store is read on threads for blocking work, one page at a time.
//!
//! ```text
//! serve ── framing (lengths that contradict) ──> router ─┬─ open: ingest, /healthz, /readyz
//!                                                        ├─ page::admit ── / and /ui: the page, which asks the handlers below
//!                                                        └─ auth::guard ── status, events, deliveries, dlq, destinations, preview, 404
//! ```

mod alerts;
mod audit;
mod auth;
mod backup;
mod body;
mod clock;
mod deliveries;
mod destinations;
mod dlq;
mod dto;
mod events;
mod framing;
mod health;
mod ingest;
mod jobs;
mod json;
mod lanes;
mod listener;
mod metrics;
mod page;
mod preview;
mod problem;
mod purge;
mod query;
mod reload;
mod report;
mod serve;
mod status;
mod strict_json;
mod trial;
mod walk;

use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware;
use axum::routing::{MethodRouter, get, post};
use tokio::sync::Semaphore;

#[cfg(fuzzing)]
pub use self::ingest::fuzzing;
pub use self::listener::{Listener, Probes, Socket};
use self::problem::Problem;
pub use self::reload::Reloads;
pub use self::serve::{Slots, serve};
use crate::alerts::Alerts;
use crate::config::reload::Standing;
use crate::domain::audit::Deed;
use crate::env::clock::Clock;
use crate::pipeline::Pipeline;
use crate::store::StoreError;
use crate::store::read::Reader;

/// Tests of destinations and of alert channels that are sent at a time; more wait for them. A test takes no turn among
/// deliveries, as it is asked for when these hang: so it has to be bounded by itself.
const TESTS: usize = 4;

/// What every handler may ask.
#[derive(Clone)]
pub struct AppState {
    pipeline: Pipeline,
    reader: Reader,
    clock: Arc<dyn Clock>,
    /// What there is to say about the configuration.
    standing: Arc<ArcSwap<Standing>>,
    reloads: Reloads,
    alerts: Alerts,
    /// Memory for request bodies.
    bodies: Arc<Semaphore>,
    /// [`TESTS`]
    tests: Arc<Semaphore>,
    noticed: Arc<ingest::Noticed>,
    desk: Arc<page::Desk>,
}

impl std::fmt::Debug for AppState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AppState")
    }
}

impl AppState {
    pub fn new(
        pipeline: Pipeline,
        clock: Arc<dyn Clock>,
        standing: Arc<ArcSwap<Standing>>,
        (reloads, alerts): (Reloads, Alerts),
    ) -> Self {
        let reader = pipeline.reader().clone();
        let (bodies, noticed, desk) = (Arc::new(body::budget()), Arc::default(), Arc::new(page::Desk::new()));
        let tests = Arc::new(Semaphore::new(TESTS));
        Self { pipeline, reader, clock, standing, reloads, alerts, bodies, tests, noticed, desk }
    }

    /// Reads the store without holding up the runtime.
    async fn read<T: Send + 'static>(
        &self,
        what: impl FnOnce(&Reader) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Problem> {
        let reader = self.reader.clone();
        let read = tokio::task::spawn_blocking(move || what(&reader)).await;
        Ok(read.map_err(|_| Problem::internal("the store could not be read; the log says why"))??)
    }

    /// Keeps what an operator did where it is done already: then a store that cannot take it only costs the trace of it.
    async fn keep(&self, deed: Deed) {
        if let Err(why) = self.pipeline.audit(deed).await {
            tracing::warn!(%why, "What an operator did could not be kept.");
        }
    }

    /// Every destination the store or the configuration knows.
    async fn names(&self) -> Result<query::Names, Problem> {
        let configured = self.pipeline.destination_ids();
        let stored = self.read(Reader::destination_names).await?;
        Ok(query::Names::new(stored.into_iter().chain(configured.iter().map(|(name, id)| (name.clone(), *id)))))
    }
}

/// A path, and what is answered at it.
type Route = (&'static str, fn() -> MethodRouter<AppState>);

/// For everyone: for senders, who have tokens of their own, and for probes.
const OPEN: &[Route] = &[
    ("/v1/events", || post(ingest::events)),
    ("/events", || post(ingest::events)),
    ("/e", || get(ingest::get_e).head(ingest::head_e)),
    ("/v1/postback/{source}", || get(ingest::postback::get).post(ingest::postback::post).head(ingest::head_e)),
    ("/healthz", || get(health::alive)),
    ("/readyz", || get(health::ready)),
];

/// For operators.
const GUARDED: &[Route] = &[
    ("/status", || get(status::status)),
    ("/metrics", || get(metrics::metrics)),
    ("/v1/events/{id}", || get(events::event)),
    ("/v1/deliveries", || get(deliveries::list)),
    ("/v1/report", || get(report::report)),
    ("/v1/dlq", || get(dlq::list)),
    ("/v1/dlq/{id}", || get(dlq::entry)),
    ("/v1/dlq/groups", || get(dlq::groups)),
    ("/v1/dlq/damaged", || get(dlq::damaged)),
    ("/v1/jobs", || get(jobs::list)),
    ("/v1/jobs/{id}", || get(jobs::show).delete(jobs::cancel)),
    ("/v1/audit", || get(audit::list)),
    ("/v1/dlq/replay", || post(dlq::replay)),
    ("/v1/dlq/discard", || post(dlq::discard)),
    ("/v1/destinations/{name}/pause", || destinations::on(destinations::Word::Pause)),
    ("/v1/destinations/{name}/resume", || destinations::on(destinations::Word::Resume)),
    ("/v1/destinations/{name}/release", || destinations::on(destinations::Word::Release)),
    ("/v1/destinations/{name}/purge", || post(purge::purge)),
    ("/v1/clock/confirm", || post(clock::confirm)),
    ("/v1/preview", || post(preview::preview)),
    ("/v1/destinations/{name}/test", || post(trial::test)),
    ("/v1/reload", || post(reload::reload)),
    ("/v1/backup", || post(backup::backup).get(backup::list)),
    ("/v1/alerts", || get(alerts::list)),
    ("/v1/alerts/test", || post(alerts::test)),
];

/// Every path there is.
pub fn paths() -> impl Iterator<Item = &'static str> {
    [OPEN, GUARDED, page::BEHIND, page::ASSETS].into_iter().flatten().map(|(path, _)| *path)
}

fn routed(routes: &[Route]) -> Router<AppState> {
    routes.iter().fold(Router::new(), |router, (path, on)| router.route(path, on()))
}

/// Answers at every path there is. Behind the guard stand also the paths that are not there, so that a stranger learns nothing.
pub fn router(state: AppState) -> Router {
    let open = routed(OPEN).method_not_allowed_fallback(method_not_allowed);
    let guarded = routed(GUARDED)
        .method_not_allowed_fallback(method_not_allowed)
        .fallback(not_found)
        .layer(middleware::from_fn_with_state(state.clone(), auth::guard));
    let page = page::router(&state).method_not_allowed_fallback(method_not_allowed);
    open.merge(page).merge(guarded).with_state(state)
}

async fn not_found(request: Request) -> Problem {
    Problem::not_found(format!("there is nothing at {}", request.uri().path()))
}

async fn method_not_allowed(request: Request) -> Problem {
    let detail =
        format!("{} is not answered at {}; the Allow header says what is", request.method(), request.uri().path());
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "Method not allowed", detail)
}

/// Answers are about this moment and for this caller: nobody keeps them unless they say so, nobody guesses at their type.
/// Every answer passes here on its way out; no layer of the router, since each costs an event more than the header does.
fn plain_headers(headers: &mut HeaderMap) {
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::{Method, Request};
    use axum::response::Response;
    use hyper::service::Service as _;
    use hyper_util::service::TowerToHyperService;

    use super::*;

    async fn ask(router: Router, method: Method, path: &str) -> Response {
        let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
        TowerToHyperService::new(router).call(request).await.unwrap()
    }

    #[tokio::test]
    async fn a_wrong_method_or_path_is_a_problem_too() {
        let router = || {
            Router::new()
                .route("/x", post(|| async {}))
                .method_not_allowed_fallback(method_not_allowed)
                .fallback(not_found)
        };
        let wrong_method = ask(router(), Method::GET, "/x").await;
        assert_eq!(wrong_method.status(), StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(wrong_method.headers()[header::ALLOW], "POST");
        let wrong_path = ask(router(), Method::GET, "/y%0a").await;
        assert_eq!(wrong_path.status(), StatusCode::NOT_FOUND);
        for response in [wrong_method, wrong_path] {
            assert_eq!(response.headers()[header::CONTENT_TYPE], "application/problem+json");
        }
    }

    #[test]
    fn nobody_keeps_an_answer_unless_it_says_so() {
        let mut headers = HeaderMap::new();
        plain_headers(&mut headers);
        assert_eq!(headers[header::CACHE_CONTROL], "no-store");
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("max-age=60"));
        plain_headers(&mut headers);
        assert_eq!(headers[header::CACHE_CONTROL], "max-age=60");
        assert_eq!(headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
    }

    #[tokio::test]
    async fn head_on_a_pixel_does_nothing() {
        let taken = || async { StatusCode::IM_A_TEAPOT };
        let router: Router = Router::new().route("/e", get(taken).head(ingest::head_e));
        assert_eq!(ask(router, Method::HEAD, "/e?event=x").await.status(), StatusCode::OK);
    }
}
