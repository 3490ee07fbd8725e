//! Answers, read within their bounds.
//!
//! What comes beyond the cap is not waited for: the response is dropped, which closes its connection. An answer that was
//! cut so counts by its status; an answer that breaks off before the cap and its own end is no answer.

use reqwest::Response;

use crate::domain::limits;
use crate::domain::message::printable;
use crate::env::transport::Answer;

/// Status and headers were read, the rest did not come.
#[derive(Debug)]
pub(super) struct Broken {
    /// Without a body.
    pub(super) begun: Answer,
    pub(super) error: reqwest::Error,
}

/// Reads an answer's headers and body up to the caps.
pub(super) async fn read(mut response: Response) -> Result<Answer, Broken> {
    let status = response.status().as_u16();
    let headers = headers(&response);
    match read_up_to(&mut response, limits::RESPONSE_BODY_BYTES).await {
        Ok(body) => Ok(Answer { status, headers, body: body.bytes }),
        Err(error) => Err(Broken { begun: Answer { status, headers, body: Vec::new() }, error }),
    }
}

/// A body, or its beginning.
#[derive(Debug)]
pub(super) struct Body {
    pub(super) bytes: Vec<u8>,
    /// Whether more came than was asked for.
    pub(super) cut: bool,
}

/// Reads at most `max` bytes of the body.
pub(super) async fn read_up_to(response: &mut Response, max: usize) -> Result<Body, reqwest::Error> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        let room = max.saturating_sub(bytes.len());
        if chunk.len() > room {
            bytes.extend_from_slice(chunk.get(..room).unwrap_or_default());
            return Ok(Body { bytes, cut: true });
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(Body { bytes, cut: false })
}

/// Names are in lower case already; values are made printable, because they will be shown.
fn headers(response: &Response) -> Vec<(String, String)> {
    response
        .headers()
        .iter()
        .take(limits::RESPONSE_HEADERS)
        .map(|(name, value)| (name.as_str().to_owned(), printable(value.as_bytes(), limits::RESPONSE_HEADER_BYTES)))
        .collect()
}
