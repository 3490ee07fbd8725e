//! The page is a client of the API: it asks the same handlers, in this process, and reads the same answers. So it can
//! show nothing and do nothing that the API would not, and a filter, an id or a reason means the same in both.

use axum::body::Body;
use axum::response::Response;
use http_body_util::{BodyExt as _, Limited};
use serde::de::DeserializeOwned;

use crate::http::problem::Problem;

/// A page of the DLQ, at most: entries carry a request of up to 64 KiB each.
const ANSWER_BYTES: usize = 64 * 1024 * 1024;

/// What a handler of the API answers.
pub(super) async fn answer<T: DeserializeOwned>(answer: Result<Response, Problem>) -> Result<T, Problem> {
    read(answer?.into_body()).await
}

/// A JSON body of ours.
pub(super) async fn read<T: DeserializeOwned>(body: Body) -> Result<T, Problem> {
    let bytes = Limited::new(body, ANSWER_BYTES).collect().await.map(http_body_util::Collected::to_bytes);
    let read = bytes.ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    read.ok_or_else(|| Problem::internal("the page does not understand the API's answer; please report this"))
}
