//! How the verbs reach the daemon: where it listens, with which token, and what its refusals say.
//!
//! The configuration names both. A configuration that is broken or not ours to read must not keep an operator from a
//! running daemon: then `[server]` alone is read as far as it goes, and `--url` and `POSTBACKD_ADMIN_TOKEN` do the rest.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use anyhow::{Context, anyhow, bail};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::args::{DEFAULT_CONFIG, Globals};
use super::{Usage, out};
use crate::config::files::{self, CONFIG_BYTES};
use crate::config::snapshot::Snapshot;
use crate::config::validate;
use crate::domain::secret::Secret;
use crate::domain::time::{DurationMs, UnixMs};
use crate::egress::api_client::{ApiClient, ApiError, ApiResponse};

/// One request to the admin API may take so long: a page of the log on a cold disk, not a download.
const TIMEOUT: DurationMs = DurationMs::from_secs(30);
/// Where the daemon listens by default.
const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8460);
/// What stands unencoded in a path or query.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
pub const NDJSON: &str = "application/x-ndjson";
pub const JSON: &str = "application/json";

/// The daemon's API, ready to be asked.
#[derive(Debug)]
pub struct Daemon {
    api: ApiClient,
}

/// What is known about the daemon from its configuration.
#[derive(Debug, Default)]
struct Known {
    url: Option<String>,
    admin_token: Option<Secret>,
}

impl Daemon {
    /// Finds address and token by the options, else by the configuration, else by default.
    pub fn connect(globals: &Globals, now: UnixMs) -> anyhow::Result<Self> {
        Self::connect_patiently(globals, now, TIMEOUT)
    }

    /// As [`Daemon::connect`], for requests whose answers may take that long.
    pub fn connect_patiently(globals: &Globals, now: UnixMs, timeout: DurationMs) -> anyhow::Result<Self> {
        let known = known(globals, now)?;
        let url = match &globals.url {
            Some(url) => url.clone(),
            None => known.url.unwrap_or_else(|| listen_url(DEFAULT_LISTEN)),
        };
        let given = globals.admin_token.clone().filter(|token| !token.expose().is_empty());
        let api = ApiClient::new(&url, given.or(known.admin_token), timeout)?;
        let name = ["POSTBACKD_OPERATOR", "USER"].into_iter().find_map(|name| std::env::var(name).ok());
        Ok(Self { api: name.iter().fold(api, |api, name| api.called(name)) })
    }

    /// The daemon at a known address.
    pub fn at(url: &str, admin_token: Option<Secret>) -> anyhow::Result<Self> {
        Ok(Self { api: ApiClient::new(url, admin_token, TIMEOUT)? })
    }

    /// Whatever it answers.
    pub async fn ask(&self, path_and_query: &str, accept: &str) -> anyhow::Result<ApiResponse> {
        Ok(self.api.get(path_and_query, accept).await?)
    }

    /// The JSON it answers with a 2xx; any other answer is an error that says why.
    pub async fn get(&self, path_and_query: &str) -> anyhow::Result<Value> {
        success(&self.ask(path_and_query, JSON).await?)
    }

    /// Posts JSON; as [`Daemon::get`].
    pub async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        success(&self.post_whatever(path, body).await?)
    }

    /// Posts JSON; whatever it answers.
    pub async fn post_whatever(&self, path: &str, body: &Value) -> anyhow::Result<ApiResponse> {
        Ok(self.api.post(path, JSON, body.to_string().into_bytes(), None).await?)
    }

    /// Posts JSON that is text already; as [`Daemon::get`].
    pub async fn post_raw(&self, path: &str, body: Vec<u8>) -> anyhow::Result<Value> {
        success(&self.api.post(path, JSON, body, None).await?)
    }

    /// Deletes; as [`Daemon::get`].
    pub async fn delete(&self, path: &str) -> anyhow::Result<Value> {
        success(&self.api.delete(path).await?)
    }

    /// Posts events with a source's token; whatever it answers.
    pub async fn ingest(&self, form: &str, events: Vec<u8>, token: &Secret) -> Result<ApiResponse, ApiError> {
        self.api.post("/v1/events", form, events, Some(token)).await
    }
}

/// The body of a 2xx answer; else what the daemon's problem document says.
pub fn success(answer: &ApiResponse) -> anyhow::Result<Value> {
    if !(200..300).contains(&answer.status) {
        bail!(refusal(answer));
    }
    serde_json::from_slice(&answer.body).with_context(|| {
        let start = out::excerpt(&String::from_utf8_lossy(&answer.body), 80);
        format!("the answer is no JSON; does something else listen there? It starts: {start}")
    })
}

/// A refusal of the admin API in words, with what to do about a missing token.
pub fn refusal(answer: &ApiResponse) -> String {
    let hint = match answer.status {
        401 => "; the token is missing or wrong: set POSTBACKD_ADMIN_TOKEN, or point --config to a file you may read",
        403 => "; without server.admin_token only callers on the same machine are served",
        _ => "",
    };
    problem_text(answer) + hint
}

/// A refusal in words: from problem+json where it is one, else from the status and the start of the body.
pub fn problem_text(answer: &ApiResponse) -> String {
    let Ok(problem) = serde_json::from_slice::<Value>(&answer.body) else {
        let start = out::excerpt(&String::from_utf8_lossy(&answer.body), 200);
        return format!("the daemon answered {}: {start}", answer.status);
    };
    let text = |name: &str| problem.get(name).and_then(Value::as_str).unwrap_or_default();
    let said = if text("detail").is_empty() { text("title") } else { text("detail") };
    let mut words = format!("the daemon answered {}", answer.status);
    for part in [text("code"), text("path"), said].into_iter().filter(|part| !part.is_empty()) {
        words = format!("{words}: {}", out::plain(part));
    }
    for error in problem.get("errors").and_then(Value::as_array).into_iter().flatten() {
        let part = |name: &str| out::plain(error.get(name).and_then(Value::as_str).unwrap_or_default()).into_owned();
        words = format!("{words}\n  {}: {}", part("path"), part("detail"));
    }
    // An id that stands for several events: those that can be asked for instead.
    for id in problem.get("events").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
        words = format!("{words}\n  {}", out::plain(id));
    }
    words
}

/// A path segment or query value, percent-encoded.
pub fn encoded(text: &str) -> String {
    utf8_percent_encode(text, ENCODED).to_string()
}

/// `path?name=value&…` of those that have a value.
pub fn query(path: &str, parameters: &[(&str, Option<&str>)]) -> String {
    let pairs: Vec<String> =
        parameters.iter().filter_map(|(name, value)| Some(format!("{name}={}", encoded((*value)?)))).collect();
    if pairs.is_empty() { path.to_owned() } else { format!("{path}?{}", pairs.join("&")) }
}

/// The whole configuration, for what cannot do without; the error lists every problem.
pub fn load(globals: &Globals, now: UnixMs) -> anyhow::Result<Snapshot> {
    let path = config_path(globals);
    match validate::load(path, now) {
        Ok((snapshot, _)) => Ok(snapshot),
        Err(report) => {
            let problems: Vec<String> = report.problems.iter().map(|problem| format!("\n  {problem}")).collect();
            Err(anyhow!("the configuration is refused:{}", out::plain_lines(&problems.concat())))
        }
    }
}

/// The configuration's path.
pub fn config_path(globals: &Globals) -> &Path {
    globals.config.as_deref().unwrap_or_else(|| Path::new(DEFAULT_CONFIG))
}

fn known(globals: &Globals, now: UnixMs) -> anyhow::Result<Known> {
    let path = config_path(globals);
    let text = match files::read(path, CONFIG_BYTES) {
        Ok(contents) => String::from_utf8_lossy(&contents.bytes).into_owned(),
        Err(why) if globals.config.is_some() && globals.url.is_none() => {
            let unread = format!("{} {why}; or name the daemon's address with --url", path.display());
            return Err(Usage(unread).into());
        }
        Err(_) => return Ok(Known::default()),
    };
    Ok(match validate::load(path, now) {
        Ok((snapshot, _)) => {
            // An address first: it asks for no right to a file.
            let address = snapshot.server.listen.first().copied().map(listen_url);
            let socket = || snapshot.server.sockets.first().map(|path| format!("unix:{}", path.display()));
            Known { url: address.or_else(socket), admin_token: snapshot.server.admin_token }
        }
        Err(_) => glance(&text),
    })
}

/// What `[server]` of a broken configuration still says in plain text.
fn glance(text: &str) -> Known {
    let table = text.parse::<toml::Table>().unwrap_or_default();
    let server = table.get("server").and_then(toml::Value::as_table).cloned().unwrap_or_default();
    let listen = match server.get("listen") {
        Some(toml::Value::Array(several)) => several.first().and_then(toml::Value::as_str),
        other => other.and_then(toml::Value::as_str),
    };
    let admin_token = server.get("admin_token").and_then(toml::Value::as_str);
    Known {
        url: listen.and_then(|listen| match listen.parse() {
            Ok(address) => Some(listen_url(address)),
            Err(_) => listen.starts_with("unix:").then(|| listen.to_owned()),
        }),
        admin_token: admin_token.map(|token| Secret::new(token.to_owned())),
    }
}

/// The address to call for an address that is listened on: a wildcard is reached over loopback.
fn listen_url(listen: SocketAddr) -> String {
    let mut address = listen;
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    format!("http://{address}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> ApiResponse {
        ApiResponse { status, content_type: String::new(), body: body.as_bytes().to_vec() }
    }

    #[test]
    fn a_wildcard_address_is_reached_over_loopback() {
        let url = |listen: &str| listen_url(listen.parse().unwrap());
        assert_eq!(url("0.0.0.0:1"), "http://127.0.0.1:1");
        assert_eq!(url("[::]:1"), "http://[::1]:1");
        assert_eq!(url("192.0.2.1:1"), "http://192.0.2.1:1");
    }

    #[test]
    fn a_broken_configuration_still_tells_address_and_token() {
        let known =
            glance("[server]\nlisten = [\"127.0.0.1:1\", \"127.0.0.1:2\"]\nadmin_token = \"t\"\nnonsense = 1\n");
        assert_eq!(known.url.as_deref(), Some("http://127.0.0.1:1"));
        assert_eq!(glance("[server]\nlisten = \"unix:/a\"\nx = 1").url.as_deref(), Some("unix:/a"));
        assert_eq!(known.admin_token, Some(Secret::new("t".to_owned())));
        for hopeless in ["[server", "server = 1", "[server]\nlisten = 1\nadmin_token = { env = \"X\" }"] {
            let known = glance(hopeless);
            assert!(known.url.is_none() && known.admin_token.is_none(), "{hopeless}");
        }
    }

    #[test]
    fn a_refusal_is_told_with_its_code_path_and_fields() {
        let body = r#"{"title":"t","code":"invalid","detail":"two are wrong",
            "errors":[{"path":"$.value","detail":"write 25.00"},{"path":"$.event","detail":"is\u001b missing"}]}"#;
        insta::assert_snapshot!(problem_text(&answer(422, body)), @r"
        the daemon answered 422: invalid: two are wrong
          $.value: write 25.00
          $.event: is� missing
        ");
        let several = r#"{"code":"ambiguous_id","detail":"2 events","events":["evt_1","evt_2"]}"#;
        assert_eq!(
            problem_text(&answer(409, several)),
            "the daemon answered 409: ambiguous_id: 2 events\n  evt_1\n  evt_2"
        );
        insta::assert_snapshot!(refusal(&answer(401, "no\nJSON")), @"the daemon answered 401: no�JSON; the token is missing or wrong: set POSTBACKD_ADMIN_TOKEN, or point --config to a file you may read");
    }

    #[test]
    fn success_is_a_2xx_with_json() {
        assert!(success(&answer(202, "{}")).is_ok());
        assert!(success(&answer(200, "<html>")).is_err());
        assert!(success(&answer(500, "{}")).is_err());
    }

    #[test]
    fn queries_hold_what_was_given_percent_encoded() {
        assert_eq!(query("/x", &[("a", Some("1 &é")), ("b", None), ("c", Some("-2h"))]), "/x?a=1%20%26%C3%A9&c=-2h");
        assert_eq!(query("/x", &[("b", None)]), "/x");
    }
}
