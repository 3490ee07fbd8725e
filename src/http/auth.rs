//! Who may ask: senders by their source's token, operators by the admin token or by standing on this machine.
//!
//! Without an admin token only loopback and Unix-socket callers are served, and a caller that only looks like one is not: behind a
//! forwarding header stands a reverse proxy, behind a foreign `Host` a web page whose name was rebound to 127.0.0.1,
//! behind a foreign `Origin` a web page that makes the operator's browser post a form.
//! Decisions are pure; comparisons take the same time wherever the texts differ.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use subtle::ConstantTimeEq as _;

use super::AppState;
use super::problem::Problem;
use crate::config::snapshot::{Server, Snapshot};
use crate::domain::audit::{Right, Who};
use crate::domain::name::SourceName;
use crate::domain::time::UnixMs;

/// The other end of the connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Peer {
    Net(SocketAddr),
    /// Whoever may open the socket's file, which is somebody on this machine.
    Unix,
}

impl Peer {
    /// Where it is, without the port: the same for every connection from there.
    pub(crate) fn place(self) -> String {
        match self {
            Self::Net(address) => address.ip().to_canonical().to_string(),
            Self::Unix => self.to_string(),
        }
    }

    /// Its address; all behind a Unix socket are this machine.
    pub(crate) fn network(self) -> IpAddr {
        match self {
            Self::Net(address) => address.ip(),
            Self::Unix => IpAddr::V6(Ipv6Addr::LOCALHOST),
        }
    }

    fn is_local(self) -> bool {
        match self {
            Self::Net(address) => address.ip().to_canonical().is_loopback(),
            Self::Unix => true,
        }
    }
}

impl std::fmt::Display for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Net(address) => address.fmt(f),
            Self::Unix => f.write_str("a Unix socket"),
        }
    }
}

/// In which an operator may give a name.
const OPERATOR: &str = "x-postbackd-operator";

/// What is known of a caller of the admin paths.
#[derive(Clone, Copy, Debug)]
struct Caller<'a> {
    peer: Option<Peer>,
    token: Option<&'a str>,
    forwarded: bool,
    /// Every name the request calls us by: `Host` headers and the authority of its target.
    hosts: &'a [&'a str],
    /// Every site in whose name a browser says it asks.
    origins: &'a [&'a str],
}

/// Whether a caller may use the admin paths.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Decision {
    Allow,
    NoToken,
    WrongToken,
    /// No admin token is set, and the connection comes from elsewhere.
    NotLoopback,
    /// No admin token is set, and a proxy stands in between.
    Forwarded,
    /// No admin token is set, and the request calls us by a foreign name.
    ForeignHost,
    /// No admin token is set, and a page of another site asks.
    ForeignOrigin,
}

/// The source whose token this is. Every source is looked at, whichever it is.
pub(crate) fn source_of<'a>(snapshot: &'a Snapshot, token: &str, now: UnixMs) -> Option<&'a SourceName> {
    snapshot.sources.values().fold(None, |found, source| {
        let accepted = source.accepts(token, now);
        found.or_else(|| accepted.then_some(&source.name))
    })
}

/// The token of `Authorization: Bearer …`; `None` where the header is missing, doubled or of another scheme.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(only), None) = (values.next(), values.next()) else { return None };
    let (scheme, token) = only.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// The answer to a sender without a good token.
pub(crate) fn unknown_sender(given: Option<&str>) -> Problem {
    let (code, detail) = match given {
        None => (
            "token_missing",
            "send Authorization: Bearer TOKEN with the token of a source ([sources.NAME] token); GET /e takes ?token=TOKEN too",
        ),
        Some(_) => ("token_unknown", "no source has this token, or it has ended; compare [sources.NAME] token"),
    };
    unauthorized(code, detail)
}

/// The answer to a sender without a good token for the source it names. Whose token it is otherwise is not told.
pub(crate) fn unknown_sender_of(given: Option<&str>) -> Problem {
    let (code, detail) = match given {
        None => ("token_missing", "send the source's token as ?token=TOKEN, or as Authorization: Bearer TOKEN"),
        Some(_) => (
            "token_unknown",
            "the source in the path does not have this token, or it has ended; compare [sources.NAME] token",
        ),
    };
    unauthorized(code, detail)
}

fn unauthorized(code: &'static str, detail: &str) -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, code, "Unauthorized", detail)
        .with_header(header::WWW_AUTHENTICATE, "Bearer realm=\"postbackd\"")
}

/// Stands before every admin path, also before those that do not exist.
pub(crate) async fn guard(State(state): State<AppState>, mut request: Request, next: Next) -> Response {
    if let Some(problem) = refused(&state, &request) {
        return problem.into_response();
    }
    let who = who(&state.pipeline.snapshot().server, &request);
    request.extensions_mut().insert(who);
    next.run(request).await
}

/// Who was let in, for the audit trail.
pub(crate) fn who(server: &Server, request: &Request) -> Who {
    let right = if server.admin_token.is_some() { Right::AdminToken } else { Right::Loopback };
    let from = request.extensions().get::<Peer>().map(|peer| peer.place());
    let name = request.headers().get(OPERATOR).map(|name| String::from_utf8_lossy(name.as_bytes()).into_owned());
    Who { right, from, operator: None }.called(&name.unwrap_or_default())
}

/// Why a caller may not use the admin paths; `None` where it may.
pub(crate) fn refused(state: &AppState, request: &Request) -> Option<Problem> {
    let mut hosts = texts(request.headers(), &header::HOST);
    hosts.extend(request.uri().authority().map(axum::http::uri::Authority::as_str));
    let caller = Caller {
        peer: request.extensions().get::<Peer>().copied(),
        token: bearer(request.headers()),
        forwarded: forwarded(request.headers()),
        hosts: &hosts,
        origins: &texts(request.headers(), &header::ORIGIN),
    };
    refusal(decide(&state.pipeline.snapshot().server, &caller))
}

/// Every value of a header; one that is no text counts as empty, which is nobody's name.
fn texts<'a>(headers: &'a HeaderMap, name: &header::HeaderName) -> Vec<&'a str> {
    headers.get_all(name).iter().map(|value| value.to_str().unwrap_or_default()).collect()
}

fn decide(server: &Server, caller: &Caller<'_>) -> Decision {
    if let Some(wanted) = &server.admin_token {
        return match caller.token {
            None => Decision::NoToken,
            Some(given) if bool::from(wanted.expose().as_bytes().ct_eq(given.as_bytes())) => Decision::Allow,
            Some(_) => Decision::WrongToken,
        };
    }
    if !caller.peer.is_some_and(Peer::is_local) {
        Decision::NotLoopback
    } else if caller.forwarded {
        Decision::Forwarded
    } else if !caller.hosts.iter().all(|host| ours(host, &server.listen)) {
        Decision::ForeignHost
    } else if !caller.origins.iter().all(|origin| our_origin(origin, &server.listen)) {
        Decision::ForeignOrigin
    } else {
        Decision::Allow
    }
}

/// Whether a `Host` is a loopback name or address (behind any port: a tunnel has its own), or an address we listen on.
fn ours(host: &str, listen: &[SocketAddr]) -> bool {
    if let Ok(address) = host.parse::<SocketAddr>()
        && listen.contains(&address)
    {
        return true;
    }
    let name = match host.rsplit_once(':') {
        Some((name, port)) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    let literal = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(name);
    let address = literal.parse::<IpAddr>().ok().map(|address| address.to_canonical());
    name.eq_ignore_ascii_case("localhost")
        || address.is_some_and(|address| {
            address.is_loopback()
                || listen.iter().any(|ours| ours.ip().to_canonical() == address && !ours.ip().is_unspecified())
        })
}

/// Whether an `Origin` is a page of this machine; `null`, which sandboxed pages and files have, is none.
fn our_origin(origin: &str, listen: &[SocketAddr]) -> bool {
    let host = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    host.is_some_and(|host| ours(host, listen))
}

fn forwarded(headers: &HeaderMap) -> bool {
    headers.keys().any(|name| {
        let name = name.as_str();
        name == "forwarded" || name == "x-real-ip" || name.starts_with("x-forwarded-")
    })
}

fn refusal(decision: Decision) -> Option<Problem> {
    const SET: &str = "set server.admin_token and send it as Authorization: Bearer TOKEN";
    let because = match decision {
        Decision::Allow => return None,
        Decision::NoToken => {
            return Some(unauthorized(
                "admin_token_missing",
                "send Authorization: Bearer TOKEN with server.admin_token",
            ));
        }
        Decision::WrongToken => {
            return Some(unauthorized("admin_token_wrong", "this is not the admin token; compare server.admin_token"));
        }
        Decision::NotLoopback => "without an admin token only callers on this machine are served",
        Decision::Forwarded => {
            "without an admin token only callers on this machine are served, and a forwarding header says that this one stands elsewhere"
        }
        Decision::ForeignHost => {
            "without an admin token only callers on this machine are served, and the Host header is neither a loopback name nor the listen address"
        }
        Decision::ForeignOrigin => {
            "without an admin token only callers on this machine are served, and the Origin header says that a web page of another site asks"
        }
    };
    let detail = format!("{because}; {SET}, or ask 127.0.0.1 directly");
    Some(Problem::new(StatusCode::FORBIDDEN, "not_local", "Forbidden", detail))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;
    use crate::domain::secret::Secret;
    use crate::domain::time::DurationMs;
    use crate::http::problem::tests::shown;

    fn server(admin_token: Option<&str>) -> Server {
        Server {
            listen: vec!["127.0.0.1:8460".parse().unwrap(), "10.1.2.3:8460".parse().unwrap()],
            sockets: Vec::new(),
            socket_mode: 0o660,
            handed_over: false,
            admin_token: admin_token.map(|token| Secret::new(token.to_owned())),
            body_limit: 1,
            batch_limit: 1,
            drain: DurationMs::ZERO,
        }
    }

    fn peer(ip: &str) -> Option<Peer> {
        ip.parse().ok().map(|ip: IpAddr| Peer::Net((ip, 50_000).into()))
    }

    #[test]
    fn a_unix_socket_is_local_but_what_stands_behind_a_proxy_is_not() {
        let ask = |forwarded, hosts| {
            let caller = Caller { peer: Some(Peer::Unix), token: None, forwarded, hosts, origins: &[] };
            decide(&server(None), &caller)
        };
        assert_eq!(ask(false, &["localhost"]), Decision::Allow);
        assert_eq!(ask(true, &["localhost"]), Decision::Forwarded);
        assert_eq!(ask(false, &["track.example.com"]), Decision::ForeignHost);
        let caller =
            Caller { peer: Some(Peer::Unix), token: None, forwarded: false, hosts: &["localhost"], origins: &[] };
        assert_eq!(
            decide(&server(Some("s3cret")), &caller),
            Decision::NoToken,
            "the admin token is asked for here too"
        );
    }

    fn local(hosts: &[&str]) -> Decision {
        let caller = Caller { peer: peer("127.0.0.1"), token: None, forwarded: false, hosts, origins: &[] };
        decide(&server(None), &caller)
    }

    #[test]
    fn with_an_admin_token_only_the_token_counts() {
        for (peer, forwarded, token, wanted) in [
            ("203.0.113.9", true, Some("s3cret"), Decision::Allow),
            ("127.0.0.1", false, None, Decision::NoToken),
            ("127.0.0.1", false, Some("s3cre"), Decision::WrongToken),
            ("127.0.0.1", false, Some(""), Decision::WrongToken),
            ("127.0.0.1", false, Some("S3cret"), Decision::WrongToken),
        ] {
            let (address, foreign) = (super::tests::peer(peer), &["evil.example"]);
            let caller = Caller { peer: address, token, forwarded, hosts: foreign, origins: foreign };
            assert_eq!(decide(&server(Some("s3cret")), &caller), wanted, "{peer} {token:?}");
        }
    }

    #[test]
    fn without_one_only_this_machine_is_served() {
        for (peer, forwarded, wanted) in [
            (Some("127.0.0.1"), false, Decision::Allow),
            (Some("127.9.9.9"), false, Decision::Allow),
            (Some("::1"), false, Decision::Allow),
            (Some("::ffff:127.0.0.1"), false, Decision::Allow),
            (Some("127.0.0.1"), true, Decision::Forwarded),
            (Some("10.1.2.3"), false, Decision::NotLoopback),
            (Some("203.0.113.9"), false, Decision::NotLoopback),
            (Some("::ffff:203.0.113.9"), false, Decision::NotLoopback),
            (None, false, Decision::NotLoopback),
        ] {
            let peer = peer.and_then(super::tests::peer);
            let caller = Caller { peer, token: Some("any"), forwarded, hosts: &["localhost:8460"], origins: &[] };
            assert_eq!(decide(&server(None), &caller), wanted, "{peer:?} {forwarded}");
        }
    }

    #[test]
    fn the_host_must_be_ours() {
        for host in [
            "localhost",
            "LOCALHOST:9000",
            "localhost.",
            "127.0.0.1",
            "127.0.0.1:1",
            "[::1]:8460",
            "[::1]",
            "10.1.2.3:8460",
        ] {
            assert_eq!(local(&[host]), Decision::Allow, "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:8460",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "notlocalhost",
            "10.9.9.9:8460",
            "[::2]",
            "",
            "localhost:8460:1",
            "127.0.0.1@evil.example",
        ] {
            assert_eq!(local(&[host]), Decision::ForeignHost, "{host}");
        }
        assert_eq!(local(&["localhost", "evil.example"]), Decision::ForeignHost, "one foreign name is enough");
        assert_eq!(local(&[]), Decision::Allow, "browsers always send a Host");
    }

    #[test]
    fn a_page_of_another_site_is_not_the_operator() {
        let asked = |origins: &[&str]| {
            let caller =
                Caller { peer: peer("127.0.0.1"), token: None, forwarded: false, hosts: &["localhost"], origins };
            decide(&server(None), &caller)
        };
        for origin in ["http://127.0.0.1:8460", "http://localhost:9000", "https://[::1]", "http://10.1.2.3:8460"] {
            assert_eq!(asked(&[origin]), Decision::Allow, "{origin}");
        }
        for origin in ["https://evil.example", "null", "", "http://localhost.evil.example", "localhost", "file://"] {
            assert_eq!(asked(&[origin]), Decision::ForeignOrigin, "{origin}");
        }
        assert_eq!(asked(&["http://localhost", "https://evil.example"]), Decision::ForeignOrigin);
        assert_eq!(asked(&[]), Decision::Allow, "only browsers send an Origin");
    }

    #[test]
    fn every_forwarding_header_counts() {
        for name in ["Forwarded", "X-Forwarded-For", "X-Forwarded-Proto", "x-forwarded-anything", "X-Real-IP"] {
            let mut headers = HeaderMap::new();
            headers.insert(axum::http::HeaderName::try_from(name).unwrap(), HeaderValue::from_static(""));
            assert!(forwarded(&headers), "{name}");
        }
        let mut headers = HeaderMap::new();
        headers.insert("x-forward", HeaderValue::from_static("1"));
        assert!(!forwarded(&headers));
    }

    #[test]
    fn a_bearer_token_stands_alone() {
        let headers = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::AUTHORIZATION, HeaderValue::from_static(value));
            }
            headers
        };
        assert_eq!(bearer(&headers(&["Bearer abc"])), Some("abc"));
        assert_eq!(bearer(&headers(&["bearer  abc "])), Some("abc"));
        for bad in [&[][..], &["abc"], &["Basic abc"], &["Bearer a", "Bearer b"]] {
            assert_eq!(bearer(&headers(bad)), None, "{bad:?}");
        }
    }

    #[test]
    fn a_refusal_says_what_to_do() {
        assert!(refusal(Decision::Allow).is_none());
        insta::assert_snapshot!(shown(&refusal(Decision::Forwarded).unwrap()), @r#"
        {
          "type": "urn:postbackd:problem:not_local",
          "title": "Forbidden",
          "status": 403,
          "code": "not_local",
          "detail": "without an admin token only callers on this machine are served, and a forwarding header says that this one stands elsewhere; set server.admin_token and send it as Authorization: Bearer TOKEN, or ask 127.0.0.1 directly"
        }
        "#);
        let response = refusal(Decision::NoToken).unwrap().into_response();
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(response.headers()[header::WWW_AUTHENTICATE], "Bearer realm=\"postbackd\"");
        assert_eq!(unknown_sender(Some("t0p-secret")).into_response().status(), StatusCode::UNAUTHORIZED);
        assert!(!shown(&unknown_sender(Some("t0p-secret"))).contains("t0p-secret"));
    }
}
