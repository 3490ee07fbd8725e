//! Whose fault it is when an exchange goes through a proxy.
//!
//! | way | the proxy's | the destination's |
//! |---|---|---|
//! | tunnel (https through an HTTP proxy), SOCKS | everything until bytes of the destination come: connection, login, refusal, wrong protocol, silence, end or reset before TLS stands, bytes that are no TLS | certificate and alerts; everything once TLS stands, or the SOCKS tunnel of an http one |
//! | forward (http through an HTTP proxy) | no connection; no answer: reset, end, no HTTP; the answers of [`own_answer`]; silence, unless it has carried an answer within the last minute | every other answer, also one that breaks off |
//!
//! A proxy that cannot reach the destination says the same as a sick proxy, so it counts as one: nothing is spent, and
//! the route is tried again. Texts are ours or a status; nothing a proxy says is repeated, because it may hold the login.

use super::error;
use super::tls::Roots;
use crate::domain::proxy::ProxyScheme;
use crate::env::transport::{Answer, Fault};

/// How a request travels.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Way {
    /// Without a proxy.
    Direct,
    /// The proxy is given the whole request.
    Forward,
    /// CONNECT, and TLS to the destination inside.
    Tunnel,
    /// A connection made by SOCKS.
    Socks,
}

/// Why an exchange has no answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Failure {
    /// Not the proxy's doing.
    Other(Fault),
    /// An answer of the destination began and did not end.
    BrokenOff(Fault),
    /// The proxy failed.
    Proxy { detail: String, reach: Reach },
    /// Nothing came through the proxy in time after the request had gone out.
    Silence,
}

/// How far a request can have come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Reach {
    /// Not to the destination: another proxy may be given it.
    Proxy,
    /// Possibly to the destination.
    Destination,
}

impl Way {
    pub(super) fn of(scheme: ProxyScheme, url: &url::Url) -> Self {
        match scheme {
            ProxyScheme::Http | ProxyScheme::Https if url.scheme() == "https" => Self::Tunnel,
            ProxyScheme::Http | ProxyScheme::Https => Self::Forward,
            ProxyScheme::Socks5 | ProxyScheme::Socks5h => Self::Socks,
        }
    }
}

/// Why no answer began.
pub(super) fn before_answer(error: &reqwest::Error, roots: Roots, way: Way) -> Failure {
    let fault = error::before_answer(error, roots);
    match way {
        Way::Forward | Way::Tunnel | Way::Socks if error.is_connect() => connecting(error, fault, way),
        Way::Direct | Way::Tunnel | Way::Socks => Failure::Other(fault),
        Way::Forward => match fault {
            Fault::Timeout { .. } => Failure::Silence,
            Fault::Ambiguous(why) => {
                let detail = format!("it took the request and did not answer: {why}");
                Failure::Proxy { detail, reach: Reach::Destination }
            }
            other @ (Fault::Network(_) | Fault::Tls(_) | Fault::Refused(_) | Fault::Proxy { .. }) => {
                Failure::Other(other)
            }
        },
    }
}

/// No connection to the destination stands.
fn connecting(error: &reqwest::Error, fault: Fault, way: Way) -> Failure {
    let spoken = error::phase(error);
    let at_the_proxy = matches!(way, Way::Forward) || spoken.is_some();
    let inside = |detail: String| Failure::Proxy { detail, reach: Reach::Proxy };
    match fault {
        Fault::Refused(_) => Failure::Other(fault),
        // Names are looked up here for socks5 only.
        Fault::Network(_) if error::is_lookup_of_destination(error) => Failure::Other(fault),
        Fault::Tls(_) if !at_the_proxy && error::is_said_by_tls_peer(error) => Failure::Other(fault),
        Fault::Tls(why) if at_the_proxy => inside(format!("no TLS with the proxy: {why}")),
        Fault::Tls(why) => inside(format!("a connection through it stood, and no TLS came of it: {why}")),
        Fault::Timeout { .. } => inside("no connection through it in time".to_owned()),
        Fault::Network(why) | Fault::Ambiguous(why) => match spoken {
            // Only SOCKS keeps the cause to itself.
            Some(CANNOT_CONNECT) if way != Way::Socks => inside(why),
            Some(words) => inside(words.to_owned()),
            None if way == Way::Forward => inside(why),
            None => inside(format!("a connection through it stood, and broke before TLS did: {why}")),
        },
        Fault::Proxy { detail, .. } => inside(detail),
    }
}

/// Why an answer that came by [`Way::Forward`] is the proxy's own, and how far the request can have come; `None` where it
/// is the destination's.
///
/// Statuses that belong to proxies always are. Others are where the answer says so itself: a header only a proxy's
/// own answers carry, or a page by proxy software without `Via`, which marks what was passed on. A page of HTML (a
/// login, an advertisement) without `Via` is no delivery: taking it for one would lose the event.
pub(super) fn own_answer(answer: &Answer) -> Option<(String, Reach)> {
    let status = answer.status;
    let says = |detail: String, reach| Some((detail, reach));
    match status {
        407 => return says(ASKS_FOR_LOGIN.to_owned(), Reach::Proxy),
        511 => return says("it wants somebody to log in to its network (511)".to_owned(), Reach::Proxy),
        502..=504 => {
            let detail = format!("it answered {status}: it cannot reach the destination, or is out of order");
            return says(detail, Reach::Destination);
        }
        _ => {}
    }
    let passed_on = answer.header("via").is_some();
    let server = answer.header("server").unwrap_or_default().to_ascii_lowercase();
    let by_proxy = !passed_on && SOFTWARE.iter().any(|name| server.starts_with(name));
    if by_proxy || OWN_HEADERS.iter().any(|name| answer.header(name).is_some()) {
        // Some ask for a login as a destination does.
        return match status {
            401 => says(ASKS_FOR_LOGIN.to_owned(), Reach::Proxy),
            _ => says(format!("it answered {status} itself; its log says why"), Reach::Destination),
        };
    }
    if (200..300).contains(&status) && !passed_on && is_page(answer) {
        let detail =
            format!("a page of HTML came back ({status}) where an answer was due: a login or a notice of its own");
        return says(detail, Reach::Destination);
    }
    None
}

const ASKS_FOR_LOGIN: &str = "it asks for a user and password, or refuses those it was given; check them in proxy";
const CANNOT_CONNECT: &str = "cannot connect to it: refused, unreachable, or its name has no address";
/// How proxies name themselves in `Server`.
const SOFTWARE: [&str; 5] = ["tinyproxy", "squid", "privoxy", "3proxy", "polipo"];
/// Headers of a proxy's own answers.
const OWN_HEADERS: [&str; 2] = ["x-squid-error", "proxy-authenticate"];

fn is_page(answer: &Answer) -> bool {
    let html = answer.header("content-type").is_some_and(|kind| kind.to_ascii_lowercase().starts_with("text/html"));
    let head = answer.body.get(..answer.body.len().min(1024)).unwrap_or_default();
    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
    html && (head.contains("<!doctype html") || head.contains("<html"))
}

/// What the libraries say about the way to the proxy, in our words. `None` for texts of theirs that are not about it.
pub(super) fn phase_in_words(text: &str) -> Option<&'static str> {
    Some(match text {
        "tunnel error: proxy authorization required" => ASKS_FOR_LOGIN,
        "tunnel error: unsuccessful" => {
            "it did not open a tunnel (its answer to CONNECT was none of 200 or 407): it refuses this destination or the \
             login, or cannot reach the destination"
        }
        "tunnel error: unexpected end of file" => "it closed the connection before the tunnel stood",
        "tunnel error: proxy response headers too long" => "its answer to CONNECT does not end",
        "tunnel error: io error establishing tunnel" => "the connection to it broke before the tunnel stood",
        "tunnel error: failed to create underlying connection"
        | "SOCKS error: failed to create underlying connection" => CANNOT_CONNECT,
        "SOCKS error: credentials not accepted" => "it refuses the user or password; check them in proxy",
        "SOCKS error: server does not support user/pass authentication"
        | "SOCKS error: server implements authentication incorrectly" => {
            "it refuses this kind of login: it wants a user and password where none is given, or none where one is; \
             check them in proxy"
        }
        "SOCKS error: failed parsing server response" => "what it says is not SOCKS 5; check scheme and port in proxy",
        "SOCKS error: io error during SOCKS handshake" => {
            "it closed the connection before the tunnel stood; check scheme, port and login in proxy"
        }
        "SOCKS error: general server failure" => "it answered: general failure",
        "SOCKS error: connection not allowed" => "it answered: connection not allowed",
        "SOCKS error: network unreachable" => "it answered: network unreachable",
        "SOCKS error: host unreachable" => "it answered: host unreachable (or its name does not resolve there)",
        "SOCKS error: connection refused" => "it answered: connection refused",
        "SOCKS error: ttl expired" => "it answered: time to live expired",
        "SOCKS error: command not supported" => "it answered: command not supported",
        "SOCKS error: address type not supported" => "it answered: this type of address is not supported",
        _ if text.starts_with("tunnel error: ") => "no tunnel through it",
        _ if text.starts_with("SOCKS error: ") => "no connection by SOCKS through it",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(status: u16, headers: &[(&str, &str)], body: &str) -> Option<Reach> {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        own_answer(&Answer { status, headers, body: body.into() }).map(|(_, reach)| reach)
    }

    // Row 74.
    #[test]
    fn a_proxy_is_known_by_its_own_answers() {
        let html = ("content-type", "text/html; charset=utf-8");
        let page = "<?xml version=\"1.0\"?>\n<!DOCTYPE html>\n<html><title>Log in</title>";
        assert_eq!((own(407, &[], ""), own(511, &[], "")), (Some(Reach::Proxy), Some(Reach::Proxy)));
        for status in [502, 503, 504] {
            assert_eq!(own(status, &[("via", "1.1 p")], ""), Some(Reach::Destination), "{status}");
        }
        assert!(own(403, &[("server", "tinyproxy/1.11.1"), html], page).is_some());
        assert!(own(400, &[("x-squid-error", "ERR_ACCESS_DENIED 0"), ("via", "1.1 p")], "").is_some());
        assert_eq!(own(401, &[("server", "tinyproxy/1.11.1"), html], ""), Some(Reach::Proxy));
        assert!(own(200, &[html], page).is_some());
    }

    #[test]
    fn what_a_destination_answers_through_a_proxy_stays_its_own() {
        let html = ("content-type", "text/html");
        assert_eq!(own(200, &[html], "OK"), None, "trackers call a word HTML");
        assert_eq!(own(200, &[html, ("via", "1.1 p (tinyproxy)")], "<html>"), None, "it was passed on");
        assert_eq!(own(200, &[("content-type", "application/json")], "\"<html>\""), None);
        assert_eq!(own(403, &[("server", "nginx"), html], "<html>"), None);
        assert_eq!(own(403, &[("server", "tinyproxy"), ("via", "1.1 other")], ""), None);
        assert_eq!(own(500, &[], ""), None);
        assert_eq!(own(429, &[("retry-after", "7")], ""), None);
    }
}
