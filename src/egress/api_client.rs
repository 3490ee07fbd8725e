//! The command line's way to the running daemon: its admin API, mostly over loopback or a Unix socket.
//!
//! Unlike a destination, the address comes from the person at the keyboard, so it is not judged; everything else holds
//! here too: no environment proxies, no redirects, no repeats, bounded bodies, a total timeout.

use std::fmt;

use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use reqwest::{Client, RequestBuilder};
use url::Url;

use super::{body, client, error, tls};
use crate::domain::message::printable;
use crate::domain::secret::Secret;
use crate::domain::time::DurationMs;

/// The largest answer that is read: an export page of the DLQ is far below.
const ANSWER_BYTES: usize = 64 * 1024 * 1024;

/// A client for one daemon.
pub struct ApiClient {
    client: Client,
    base: Url,
    /// The address as it is shown.
    at: String,
    token: Option<Secret>,
    timeout: DurationMs,
    /// Who asks, for the audit trail.
    operator: Option<HeaderValue>,
}

/// What an address begins with that is the path of a Unix socket.
const UNIX: &str = "unix:";

/// What the daemon answered, whatever its status.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ApiResponse {
    pub status: u16,
    pub content_type: String,
    pub body: Vec<u8>,
}

/// Why there is no answer; each text says what to do.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ApiError {
    #[error(
        "\"{given}\" is not the daemon's address: {detail}; write it as http://127.0.0.1:8460 or unix:/run/postbackd/api.sock"
    )]
    Address { given: String, detail: String },
    #[error("cannot talk HTTP: {0}")]
    Client(String),
    #[error("cannot reach the daemon at {at}: connection refused; is it running? (systemctl status postbackd)")]
    NotRunning { at: String },
    #[error("cannot reach the daemon at {at}: {detail}")]
    Unreachable { at: String, detail: String },
    #[error("the daemon at {at} did not answer within {timeout}; whether the request was carried out is unknown")]
    Timeout { at: String, timeout: DurationMs },
    #[error("the answer of the daemon at {at} broke off: {detail}; whether the request was carried out is unknown")]
    Broken { at: String, detail: String },
    #[error("the answer of the daemon at {at} is larger than 64 MiB; ask for fewer rows with limit=")]
    TooLarge { at: String },
    #[error("the token holds characters that cannot stand in an HTTP header; check server.admin_token")]
    Token,
}

impl ApiClient {
    /// A client for the daemon at `base_url` (`http://127.0.0.1:8460`, where a path prefix is kept, or `unix:/path`). `token`
    /// goes with every request that brings none of its own; `timeout` bounds each exchange as a whole.
    pub fn new(base_url: &str, token: Option<Secret>, timeout: DurationMs) -> Result<Self, ApiError> {
        if let Some(path) = base_url.strip_prefix(UNIX) {
            return Self::over(path, token, timeout);
        }
        let wrong = |detail: &str| ApiError::Address {
            // Never with user information that may have been typed into it.
            given: printable(base_url.rsplit('@').next().unwrap_or_default().as_bytes(), 200),
            detail: detail.to_owned(),
        };
        let base: Url = base_url.parse().map_err(|error: url::ParseError| wrong(&error.to_string()))?;
        if !matches!(base.scheme(), "http" | "https") {
            return Err(wrong("it must begin with http:// or https://"));
        }
        if !base.username().is_empty() || base.password().is_some() {
            return Err(wrong("user information does not belong into it (the token is server.admin_token)"));
        }
        if base.query().is_some() || base.fragment().is_some() {
            return Err(wrong("it must have neither query nor fragment"));
        }
        let build = || client::base(timeout.to_std());
        // Plain HTTP is the rule here and reading a hundred certificates costs more than the request.
        let client = if base.scheme() == "https" {
            tls::Trust::read().and_then(|trust| trust.build(build())).map(|(client, _)| client)
        } else {
            tls::build_plain(build())
        };
        let at = base.as_str().trim_end_matches('/').to_owned();
        Ok(Self { client: client.map_err(ApiError::Client)?, base, at, token, timeout, operator: None })
    }

    /// A client for the daemon behind the Unix socket at `path`.
    fn over(path: &str, token: Option<Secret>, timeout: DurationMs) -> Result<Self, ApiError> {
        let wrong =
            |detail: String| ApiError::Address { given: printable(format!("{UNIX}{path}").as_bytes(), 200), detail };
        if !path.starts_with('/') {
            return Err(wrong("the whole path of the socket belongs behind unix:".to_owned()));
        }
        // Only the Host header is made of it; it has to be a name of this machine.
        let base = "http://localhost/".parse().map_err(|error: url::ParseError| wrong(error.to_string()))?;
        let client = tls::build_plain(client::base(timeout.to_std()).unix_socket(path)).map_err(ApiError::Client)?;
        Ok(Self { client, base, at: format!("{UNIX}{path}"), token, timeout, operator: None })
    }

    /// From here on every request says who asks. A name that cannot stand in a header is left out.
    #[must_use]
    pub fn called(self, operator: &str) -> Self {
        Self { operator: HeaderValue::from_bytes(operator.as_bytes()).ok(), ..self }
    }

    /// `GET`; `path_and_query` begins with a slash.
    pub async fn get(&self, path_and_query: &str, accept: &str) -> Result<ApiResponse, ApiError> {
        let request = self.client.get(self.url(path_and_query)?).header(ACCEPT, accept);
        self.send(request, self.token.as_ref()).await
    }

    /// `POST`; `bearer` replaces the client's own token, as a source's token does for ingest.
    pub async fn post(
        &self,
        path_and_query: &str,
        content_type: &str,
        body: Vec<u8>,
        bearer: Option<&Secret>,
    ) -> Result<ApiResponse, ApiError> {
        let request = self.client.post(self.url(path_and_query)?).header(CONTENT_TYPE, content_type).body(body);
        self.send(request, bearer.or(self.token.as_ref())).await
    }

    /// `DELETE`
    pub async fn delete(&self, path: &str) -> Result<ApiResponse, ApiError> {
        self.send(self.client.delete(self.url(path)?), self.token.as_ref()).await
    }

    async fn send(&self, request: RequestBuilder, token: Option<&Secret>) -> Result<ApiResponse, ApiError> {
        let request = match &self.operator {
            Some(operator) => request.header("x-postbackd-operator", operator),
            None => request,
        };
        let request = match token {
            Some(token) => request.bearer_auth(token.expose()),
            None => request,
        };
        let request = request.build().map_err(|error| match token {
            Some(_) => ApiError::Token,
            None => ApiError::Client(error::words(&error)),
        })?;
        let mut response = self.client.execute(request).await.map_err(|error| self.before_answer(&error))?;
        let status = response.status().as_u16();
        let content_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let content_type = content_type.unwrap_or_default().to_owned();
        match body::read_up_to(&mut response, ANSWER_BYTES).await {
            Ok(whole) if !whole.cut => Ok(ApiResponse { status, content_type, body: whole.bytes }),
            Ok(_) => Err(ApiError::TooLarge { at: self.at() }),
            Err(error) => Err(ApiError::Broken { at: self.at(), detail: error::words(&error) }),
        }
    }

    fn before_answer(&self, error: &reqwest::Error) -> ApiError {
        let at = self.at();
        if error::is_refused_connection(error) {
            ApiError::NotRunning { at }
        } else if error.is_connect() {
            ApiError::Unreachable { at, detail: error::words(error) }
        } else if error.is_timeout() {
            ApiError::Timeout { at, timeout: self.timeout }
        } else {
            ApiError::Broken { at, detail: error::words(error) }
        }
    }

    fn url(&self, path_and_query: &str) -> Result<Url, ApiError> {
        let whole = format!("{}{path_and_query}", self.base.as_str().trim_end_matches('/'));
        whole.parse().map_err(|error: url::ParseError| ApiError::Address {
            given: printable(whole.as_bytes(), 200),
            detail: error.to_string(),
        })
    }

    /// The daemon's address as it is shown: without query, and never with user information.
    fn at(&self) -> String {
        self.at.clone()
    }
}

impl fmt::Debug for ApiClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ApiClient({})", self.at())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(base: &str) -> Result<ApiClient, ApiError> {
        ApiClient::new(base, None, DurationMs::from_secs(5))
    }

    #[test]
    fn a_wrong_address_says_what_to_write() {
        let said = |base: &str| client(base).unwrap_err().to_string();
        insta::assert_snapshot!(said("127.0.0.1:8460"), @r#""127.0.0.1:8460" is not the daemon's address: relative URL without a base; write it as http://127.0.0.1:8460 or unix:/run/postbackd/api.sock"#);
        insta::assert_snapshot!(said("unix:run/x"), @r#""unix:run/x" is not the daemon's address: the whole path of the socket belongs behind unix:; write it as http://127.0.0.1:8460 or unix:/run/postbackd/api.sock"#);
        assert!(!said("http://admin:hunter2@127.0.0.1").contains("hunter2"));
    }

    #[test]
    fn a_path_prefix_of_the_address_is_kept() {
        for base in ["http://127.0.0.1:8460/postback", "http://127.0.0.1:8460/postback/"] {
            let url = client(base).unwrap().url("/v1/dlq?limit=2").unwrap();
            assert_eq!(url.as_str(), "http://127.0.0.1:8460/postback/v1/dlq?limit=2");
        }
    }
}
