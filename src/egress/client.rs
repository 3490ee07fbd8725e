//! One destination's client: what is judged before an exchange, and which way it takes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, ClientBuilder, redirect, retry};
use url::{Host, Url};

use super::proxied::Proxied;
use super::proxy::Failure;
use super::resolve::OwnAddresses;
use super::tls::Trust;
use super::wire::{Peer, Wire};
use crate::domain::net::{self, AllowPrivate};
use crate::env::clock::Clock;
use crate::env::transport::{Answer, Fault, Method, Request, RouteView, Trail};

/// Name lookup, TCP and TLS together; a receiver that needs longer will not answer in time either.
const CONNECT_TIMEOUT_MAX: Duration = Duration::from_secs(10);
/// Below the 60 s after which most load balancers close idle connections, so that we close first.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(50);
/// Mail: the classic target of requests forged through a server that posts anywhere.
const SMTP_PORT: u16 = 25;
/// Headers that belong to the transport; set by hand they would desynchronise the connection.
const FRAMING: [&str; 5] = ["connection", "content-length", "transfer-encoding", "te", "upgrade"];
const USER_AGENT: &str = concat!("postbackd/", env!("CARGO_PKG_VERSION"));

/// The ways to a destination with what is judged before one is taken.
#[derive(Debug)]
pub(super) struct DestinationClient {
    reach: Reach,
    names: Names,
    allow: Arc<AllowPrivate>,
    own: OwnAddresses,
}

/// How a destination is reached.
#[derive(Debug)]
enum Reach {
    Directly(Box<Wire>, Duration),
    /// Never otherwise: a destination with proxies has no client that could connect to it directly.
    ThroughProxies(Proxied),
}

impl DestinationClient {
    /// `listen` is where this daemon listens: nothing is sent there.
    pub(super) fn build(
        peer: &Peer<'_>,
        listen: &[SocketAddr],
        with: (&Trust, &Arc<dyn Clock>),
    ) -> Result<Self, String> {
        let network = peer.network;
        let timeout = network.timeout.to_std();
        let reach = if network.proxies.is_empty() {
            Reach::Directly(Box::new(Wire::build(peer, None, connect_timeout(timeout), with)?), timeout)
        } else {
            Reach::ThroughProxies(Proxied::build(peer, connect_timeout(timeout), with)?)
        };
        let names = if network.is_named_to_a_proxy() { Names::Unseen } else { Names::Resolved };
        let allow = Arc::new(network.allow_private.clone());
        Ok(Self { reach, names, allow, own: OwnAddresses::new(listen) })
    }

    /// Sends `request` once and reads the answer within its bounds; `trail` is told the way it went.
    pub(super) async fn exchange(&self, request: Request, trail: &mut Trail) -> Result<Answer, Fault> {
        self.judge(&request.url).await?;
        self.send(outgoing(request).map_err(Fault::Refused)?, trail).await
    }

    /// Whether a connection can be opened to where `url` leads. The root's headers are asked for, and nothing of an event
    /// goes along, neither path nor query. Whatever comes back, a connection stood.
    pub(super) async fn reach(&self, url: &Url) -> Result<(), Fault> {
        self.judge(url).await?;
        let mut root = url.clone();
        root.set_path("/");
        root.set_query(None);
        match self.send(reqwest::Request::new(reqwest::Method::HEAD, root), &mut Trail::default()).await {
            Ok(_) | Err(Fault::Ambiguous(_) | Fault::Timeout { sent: true }) => Ok(()),
            Err(
                fault @ (Fault::Network(_)
                | Fault::Tls(_)
                | Fault::Timeout { sent: false }
                | Fault::Refused(_)
                | Fault::Proxy { .. }),
            ) => Err(fault),
        }
    }

    /// Everything that is asked of a URL before a connection is made.
    async fn judge(&self, url: &Url) -> Result<(), Fault> {
        judge(url, &self.allow, self.names).map_err(Fault::Refused)?;
        let (Some(host), Some(port), Names::Resolved) = (url.host(), url.port_or_known_default(), self.names) else {
            // What a proxy resolves is not seen here.
            return Ok(());
        };
        match self.own.reached_by(&host, port).await {
            None => Ok(()),
            Some(address) => Err(Fault::Refused(format!(
                "{host}:{port} leads to postbackd itself ({address}): its events would come back; write another address"
            ))),
        }
    }

    /// The one way out, for whatever has been judged.
    async fn send(&self, outgoing: reqwest::Request, trail: &mut Trail) -> Result<Answer, Fault> {
        match &self.reach {
            Reach::Directly(wire, timeout) => match wire.send(outgoing, *timeout, &mut trail.phases).await {
                Ok(answer) => Ok(answer),
                Err(Failure::Other(fault) | Failure::BrokenOff(fault)) => Err(fault),
                Err(Failure::Silence) => Err(Fault::Timeout { sent: true }),
                Err(Failure::Proxy { detail, .. }) => Err(Fault::Network(detail)),
            },
            Reach::ThroughProxies(proxied) => proxied.exchange(&outgoing, trail).await,
        }
    }

    pub(super) fn listen(&self) -> &[SocketAddr] {
        self.own.listen()
    }

    /// Whether the way to `url` needs CA certificates and there were none when this client was built.
    pub(super) fn lacks_roots(&self, url: &Url) -> bool {
        match &self.reach {
            Reach::Directly(wire, _) => wire.lacks_roots(url),
            Reach::ThroughProxies(proxied) => proxied.lacks_roots(url),
        }
    }

    /// The proxies as people are shown them.
    pub(super) fn routes(&self) -> Vec<RouteView> {
        match &self.reach {
            Reach::Directly(..) => Vec::new(),
            Reach::ThroughProxies(proxied) => proxied.view(),
        }
    }
}

fn outgoing(request: Request) -> Result<reqwest::Request, String> {
    let headers = headers(&request.headers)?;
    let mut outgoing = reqwest::Request::new(method(request.method), request.url);
    *outgoing.headers_mut() = headers;
    // A GET without a body must not announce an empty one; a POST must.
    if !request.body.is_empty() || request.method != Method::Get {
        *outgoing.body_mut() = Some(request.body.into());
    }
    Ok(outgoing)
}

/// What holds for every client of ours, whoever it talks to.
#[allow(clippy::disallowed_methods, reason = "this is the place that builds clients")]
pub(super) fn base(timeout: Duration) -> ClientBuilder {
    Client::builder()
        // First, because it clears the list of proxies; without it HTTP_PROXY and its kin decide where events go.
        .no_proxy()
        .redirect(redirect::Policy::none())
        .referer(false)
        .retry(retry::never())
        .http1_only()
        .user_agent(USER_AGENT)
        .timeout(timeout)
        .connect_timeout(connect_timeout(timeout))
        .pool_idle_timeout(POOL_IDLE_TIMEOUT)
        .tcp_nodelay(true)
}

/// Strictly within the total, so that whichever of the two fires says whether the request can have left.
fn connect_timeout(total: Duration) -> Duration {
    (total * 2 / 3).min(CONNECT_TIMEOUT_MAX)
}

/// Who sees the addresses behind a name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Names {
    /// We do, when it is resolved.
    Resolved,
    /// A proxy does.
    Unseen,
}

/// The part of the judgement that needs no lookup: reqwest never asks a resolver about a literal, nor about a name that
/// a proxy resolves.
fn judge(url: &Url, allow: &AllowPrivate, names: Names) -> Result<(), String> {
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!("the URL's scheme is \"{}\"; only http and https are spoken", url.scheme()));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("the URL carries user information; send credentials in a header".to_owned());
    }
    if url.port_or_known_default() == Some(SMTP_PORT) {
        return Err("port 25 is mail; nothing is sent there".to_owned());
    }
    let host = url.host().ok_or("the URL has no host")?;
    let refused = match (&host, names) {
        // Which addresses a name has is judged where it is resolved.
        (Host::Domain(_), Names::Resolved) => None,
        (Host::Domain(_), Names::Unseen) => net::refuse_unseen_host(&host, allow),
        (Host::Ipv4(_) | Host::Ipv6(_), Names::Resolved | Names::Unseen) => net::refuse_host(&host, allow),
    };
    match refused {
        None => Ok(()),
        Some(why) => Err(format!("{host}: {why}; set allow_private for this destination if that is meant")),
    }
}

/// Header values never appear in a text: they may be secrets.
fn headers(wanted: &[(String, String)]) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::with_capacity(wanted.len());
    for (name, value) in wanted {
        if FRAMING.iter().any(|framing| name.eq_ignore_ascii_case(framing)) {
            return Err(format!("header {name} belongs to the transport; leave it out"));
        }
        let known = HeaderName::try_from(name.as_str())
            .map_err(|_| format!("\"{}\" is not a header name", name.escape_debug()))?;
        let value = HeaderValue::try_from(value.as_str())
            .map_err(|_| format!("the value of header {name} holds a control character; remove it"))?;
        headers
            .try_append(known, value)
            .map_err(|_| format!("{} headers are too many for one request", wanted.len()))?;
    }
    Ok(headers)
}

fn method(method: Method) -> reqwest::Method {
    match method {
        Method::Get => reqwest::Method::GET,
        Method::Post => reqwest::Method::POST,
        Method::Put => reqwest::Method::PUT,
        Method::Patch => reqwest::Method::PATCH,
        Method::Delete => reqwest::Method::DELETE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(url: &str, allow: &AllowPrivate) -> Result<(), String> {
        judge(&url.parse().unwrap(), allow, Names::Resolved)
    }

    // Rows 41 and 42, where a proxy resolves.
    #[test]
    fn names_that_a_proxy_resolves_are_judged_by_what_they_are_called() {
        let unseen = |url: &str, allow: &AllowPrivate| judge(&url.parse().unwrap(), allow, Names::Unseen);
        let networks = AllowPrivate::Networks(vec!["10.0.0.0/8".parse().unwrap()]);
        for url in
            ["https://localhost/", "http://db.internal/", "http://nas.local/", "http://intranet/", "http://127.1/"]
        {
            assert!(unseen(url, &AllowPrivate::No).is_err() && unseen(url, &networks).is_err(), "{url}");
            assert_eq!(unseen(url, &AllowPrivate::All), Ok(()), "{url}");
        }
        assert_eq!(unseen("https://hooks.example.com/", &AllowPrivate::No), Ok(()));
        assert_eq!(judged("https://localhost/", &AllowPrivate::No), Ok(()), "its addresses will be seen");
    }

    // Row 42.
    #[test]
    fn literals_are_judged_in_every_spelling() {
        let plain = ["http://127.0.0.1/", "http://[::1]/", "http://169.254.169.254/latest"];
        for url in plain.into_iter().chain(net::SPELLINGS) {
            assert!(judged(url, &AllowPrivate::No).is_err(), "{url}");
            assert_eq!(judged(url, &AllowPrivate::All), Ok(()), "{url}");
        }
        assert_eq!(judged("https://93.184.215.14/", &AllowPrivate::No), Ok(()));
        assert_eq!(judged("https://example.com/", &AllowPrivate::No), Ok(()));
    }

    #[test]
    fn mail_other_schemes_and_user_information_are_refused_whatever_is_allowed() {
        for url in ["http://example.com:25/", "ftp://example.com/", "file:///etc/passwd", "http://a:b@example.com/"] {
            assert!(judged(url, &AllowPrivate::All).is_err(), "{url}");
        }
    }

    // Row 72.
    #[test]
    fn a_bad_header_is_named_without_its_value() {
        let bad = |name: &str, value: &str| headers(&[(name.to_owned(), value.to_owned())]).unwrap_err();
        insta::assert_snapshot!(bad("authorization", "Bearer hunter2\r\nx: y"), @"the value of header authorization holds a control character; remove it");
        insta::assert_snapshot!(bad("x y", "hunter2"), @r#""x y" is not a header name"#);
        insta::assert_snapshot!(bad("Content-Length", "3"), @"header Content-Length belongs to the transport; leave it out");
    }

    #[test]
    fn a_header_may_stand_twice() {
        let twice = [("x-a".to_owned(), "1".to_owned()), ("x-a".to_owned(), "2".to_owned())];
        assert_eq!(headers(&twice).unwrap().get_all("x-a").iter().count(), 2);
    }

    #[test]
    fn connecting_ends_before_the_whole_exchange_must() {
        for ms in [1, 30, 1000, 15_000, 120_000] {
            let total = Duration::from_millis(ms);
            assert!(connect_timeout(total) < total, "{ms}");
        }
        assert_eq!(connect_timeout(Duration::from_secs(15)), CONNECT_TIMEOUT_MAX);
    }
}
