//! Exchanges through proxies: what arrives, whose fault it is, who is asked next, and that nothing ever goes directly.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use postbackd::config::snapshot::NetworkPolicy;
use postbackd::domain::net::AllowPrivate;
use postbackd::domain::time::{DurationMs, UnixMs};
use postbackd::egress::Egress;
use postbackd::env::clock::{Clock, SystemClock};
use postbackd::env::transport::{Exchange, Fault, Method, Request, RouteState, RouteView, Transport};

use crate::support::daemon::free_port;
use crate::support::destinations::snapshot;
use crate::support::proxy::{End, Manner, Proxy, says};
use crate::support::sink::{Act, At, Reply, Sink};
use crate::support::tls::TlsFront;

/// Long enough that only a broken rule runs into it.
const PLENTY: DurationMs = DurationMs::from_secs(30);
const SOON: DurationMs = DurationMs(600);
const PAGE: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 27\r\n\r\n<!DOCTYPE html><p>Log in</p>";

fn egress_with(allow_private: AllowPrivate, timeout: DurationMs, proxies: &[String]) -> Egress {
    let proxies = proxies.iter().map(|text| postbackd::domain::proxy::Proxy::parse(text).unwrap()).collect();
    let network = NetworkPolicy { timeout, allow_private, proxies };
    Egress::new(&snapshot(vec![("x", network)]), Arc::new(SystemClock::new())).unwrap()
}

fn egress(proxies: &[String]) -> Egress {
    egress_with(AllowPrivate::All, PLENTY, proxies)
}

async fn send(egress: &Egress, url: &str) -> Exchange {
    let headers = vec![("content-type".to_owned(), "application/json".to_owned())];
    let request = Request { method: Method::Post, url: url.parse().unwrap(), headers, body: b"{\"a\":1}".to_vec() };
    egress.exchange(&"x".parse().unwrap(), 0, request).await
}

/// An attempt is made ready by one configuration and begins after the next has been taken over: it goes the way it was meant
/// for. Its URL may be for the eyes of that proxy only.
#[tokio::test]
async fn a_request_made_before_a_change_keeps_its_way() {
    let (sink, closed) = (Sink::with_status(200).await, free_port());
    let of = |version: u64, proxies: &[String]| {
        let proxies = proxies.iter().map(|text| postbackd::domain::proxy::Proxy::parse(text).unwrap()).collect();
        let network = NetworkPolicy { timeout: PLENTY, allow_private: AllowPrivate::All, proxies };
        let mut snapshot = snapshot(vec![("x", network)]);
        let destination = snapshot.destinations.values_mut().next().unwrap();
        Arc::get_mut(destination).unwrap().fingerprint = version;
        snapshot
    };
    let by = async |egress: &Egress, version: u64| {
        let request =
            Request { method: Method::Get, url: sink.url("/").parse().unwrap(), headers: vec![], body: vec![] };
        egress.exchange(&"x".parse().unwrap(), version, request).await.result
    };
    let egress = Egress::new(&of(1, &[format!("http://127.0.0.1:{closed}")]), Arc::new(SystemClock::new())).unwrap();
    let direct = of(2, &[]);
    egress.install(egress.prepare(&direct).unwrap());
    assert!(matches!(by(&egress, 1).await, Err(Fault::Proxy { .. })), "not directly");
    assert_eq!(sink.connections(), 0);
    assert!(by(&egress, 2).await.is_ok());
    // It is gone: what was under way ends as it began.
    egress.install(egress.prepare(&snapshot(Vec::new())).unwrap());
    assert!(by(&egress, 2).await.is_ok());
    assert!(matches!(by(&egress, 1).await, Err(Fault::Refused(_))));
}

fn routes(egress: &Egress) -> Vec<RouteView> {
    egress.routes(&"x".parse().unwrap())
}

fn states(egress: &Egress) -> Vec<&'static str> {
    routes(egress).iter().map(|route| route.state.as_str()).collect()
}

fn status(exchange: &Exchange) -> u16 {
    exchange.result.as_ref().unwrap_or_else(|fault| panic!("{fault:?}")).status
}

/// The text of a proxy's fault and when a route is usable again.
#[track_caller]
fn proxy_fault(exchange: Exchange) -> (String, UnixMs) {
    match exchange.result {
        Err(Fault::Proxy { detail, usable_at }) => (detail, usable_at),
        other => panic!("not the proxy's: {other:?}"),
    }
}

fn now() -> UnixMs {
    SystemClock::new().now()
}

#[tokio::test]
async fn a_request_arrives_as_it_was_made_through_every_kind_of_proxy() {
    let sink = Sink::with_status(202).await;
    let login = ("us er", "p@ss:/?#%é\"|^`{}'");
    for scheme in ["http", "socks5", "socks5h"] {
        let proxy = Proxy::with_login(sink.address, Manner::Works, Some(login)).await;
        let user = "us%20er:p%40ss%3A%2F%3F%23%25%C3%A9%22%7C%5E%60%7B%7D'@";
        let before = sink.seen().len();
        let egress = egress(&[proxy.url(scheme, user)]);
        let exchange = send(&egress, &sink.url("/p?q=%20x")).await;
        assert_eq!(status(&exchange), 202, "{scheme}");
        assert_eq!(exchange.trail.proxy.as_deref(), Some(proxy.url(scheme, "").as_str()), "without its login");
        assert!(exchange.trail.phases.connect.is_some(), "{scheme}: {exchange:?}");
        let seen = sink.seen().split_off(before);
        assert_eq!((seen.len(), seen[0].target.as_str(), seen[0].body.as_slice()), (1, "/p?q=%20x", &b"{\"a\":1}"[..]));
        assert_eq!(proxy.forwarded(), 1, "{scheme}");
        let told = if scheme == "http" {
            format!("POST {}", sink.url("/p?q=%20x"))
        } else {
            format!("SOCKS {}", sink.address)
        };
        assert_eq!(proxy.asked(), [told]);
        assert_eq!((states(&egress), routes(&egress)[0].used), (vec!["active"], 1));
    }
    assert_eq!(sink.connections(), 3, "nobody came directly");
}

// Row 74, and the guard: what the proxy resolves it is told by name, what we resolve by address.
#[tokio::test]
async fn who_resolves_is_who_is_told_the_name() {
    let sink = Sink::with_status(200).await;
    let proxy = Proxy::start(sink.address, Manner::Works).await;
    for (scheme, url, asked) in [
        ("socks5h", "http://hooks.example.com/", "SOCKS hooks.example.com:80"),
        ("http", "http://hooks.example.com/", "POST http://hooks.example.com/"),
        ("socks5", "http://93.184.215.14:8080/", "SOCKS 93.184.215.14:8080"),
        ("socks5", "http://[2606:4700::1111]/", "SOCKS [2606:4700::1111]:80"),
        ("socks5h", "http://[2606:4700::1111]/", "SOCKS [2606:4700::1111]:80"),
    ] {
        // The proxy itself lies on loopback, under a name, and is not judged.
        let by_name = format!("{scheme}://localhost:{}", proxy.address.port());
        let egress = egress_with(AllowPrivate::No, PLENTY, &[by_name]);
        assert_eq!(status(&send(&egress, url).await), 200, "{scheme} {url}");
        assert_eq!(proxy.asked().last().unwrap(), asked, "{scheme}");
    }
}

// Rows 41 and 42 behind a proxy.
#[tokio::test]
async fn a_private_address_is_refused_before_the_proxy_is_told() {
    let sink = Sink::with_status(200).await;
    let proxy = Proxy::start(sink.address, Manner::Works).await;
    for scheme in ["http", "socks5", "socks5h"] {
        let egress = egress_with(AllowPrivate::No, PLENTY, &[proxy.url(scheme, "")]);
        for url in ["http://127.0.0.1/", "http://2130706433/", "https://localhost/", "http://[::ffff:10.0.0.1]/"] {
            let said = send(&egress, url).await.result;
            assert!(
                matches!(&said, Err(Fault::Refused(why)) if why.contains("allow_private")),
                "{scheme} {url}: {said:?}"
            );
        }
        assert_eq!(states(&egress), ["active"], "that is not the proxy's fault");
    }
    assert_eq!((proxy.asked().len(), sink.connections()), (0, 0));
    let egress = egress_with(AllowPrivate::All, PLENTY, &[proxy.url("socks5", "")]);
    assert_eq!(status(&send(&egress, "http://localhost:7/").await), 200);
    assert_eq!(proxy.asked(), ["SOCKS 127.0.0.1:7"], "one IPv4 address, resolved here");
    let said = send(&egress, "http://nothing.invalid/").await.result;
    assert!(matches!(&said, Err(Fault::Network(text)) if text.starts_with("the host name")), "{said:?}");
    assert_eq!(states(&egress), ["active"]);
}

/// A fault of a proxy, what is said of it, and whether the request can have reached the destination.
pub struct Case {
    pub scheme: &'static str,
    /// Of the destination.
    pub over: &'static str,
    pub manner: Manner,
    pub said: &'static str,
    pub reached: bool,
}

fn case(scheme: &'static str, over: &'static str, manner: Manner, said: &'static str) -> Case {
    Case { scheme, over, manner, said, reached: false }
}

fn reached(manner: Manner, said: &'static str) -> Case {
    Case { scheme: "http", over: "http", manner, said, reached: true }
}

fn socks(words: &[&[u8]], end: End) -> Manner {
    Manner::Says(words.iter().map(|word| word.to_vec()).collect(), end)
}

/// Rows 74 and 76, but for those that take a timeout.
pub fn faults() -> Vec<Case> {
    let established = || b"HTTP/1.1 200 Connection established\r\n\r\n".to_vec();
    let plain = |status: &str| says(format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n"));
    let mut all = vec![
        case("http", "http", plain("407 Proxy Authentication Required"), "asks for a user and password"),
        case("http", "http", plain("511 Network Authentication Required"), "log in to its network"),
        reached(plain("502 Bad Gateway"), "it answered 502"),
        reached(plain("503 Service Unavailable"), "it answered 503"),
        reached(plain("504 Gateway Timeout"), "it answered 504"),
        reached(says(PAGE), "a page of HTML came back (200)"),
        reached(
            says("HTTP/1.1 403 Filtered\r\nserver: tinyproxy/1.11.1\r\ncontent-length: 0\r\n\r\n"),
            "it answered 403 itself",
        ),
        // Cut short by a reset, because the request's body was not read.
        case(
            "http",
            "http",
            Manner::Says(
                vec![b"HTTP/1.0 401 Unauthorized\r\nserver: tinyproxy/1.11.1\r\n\r\n<html>".to_vec()],
                End::Reset,
            ),
            "asks for a user and password",
        ),
        reached(
            Manner::Says(vec![b"HTTP/1.0 500 Unable\r\nserver: tinyproxy/1.11.1\r\n\r\n<html>".to_vec()], End::Reset),
            "it answered 500 itself",
        ),
        reached(says(""), "did not answer: the connection was closed"),
        reached(Manner::Says(vec![Vec::new()], End::Reset), "did not answer: the connection broke"),
        reached(says("220 mail.example ESMTP\r\n\r\n"), "did not answer: what came is not HTTP"),
        case("http", "https", plain("407 Proxy Authentication Required"), "asks for a user and password"),
        case("http", "https", plain("502 Bad Gateway"), "did not open a tunnel"),
        case("http", "https", plain("403 Forbidden"), "did not open a tunnel"),
        case("http", "https", says("not http at all\r\n\r\n"), "did not open a tunnel"),
        case("http", "https", says(""), "closed the connection before the tunnel stood"),
        case("http", "https", Manner::Says(vec![Vec::new()], End::Reset), "broke before the tunnel stood"),
        case("http", "https", says(format!("HTTP/1.1 200 OK\r\nx: {}", "a".repeat(9000))), "does not end"),
        // CONNECT lies.
        case("http", "https", Manner::Says(vec![established()], End::Close), "no TLS came of it"),
        case("http", "https", Manner::Says(vec![established()], End::Reset), "broke before TLS did"),
        case("http", "https", Manner::Says(vec![established(), PAGE.into()], End::Close), "no TLS came of it"),
        case("https", "https", says(PAGE), "no TLS with the proxy"),
        case("https", "http", says(PAGE), "no TLS with the proxy"),
    ];
    for scheme in ["socks5", "socks5h"] {
        for over in ["http", "https"] {
            let one = |words: &[&[u8]], said| case(scheme, over, socks(words, End::Close), said);
            all.extend([
                one(&[b"\x04\x00"], "not SOCKS 5"),
                one(&[b"HTTP/1.1 400 Bad Request\r\n\r\n"], "not SOCKS 5"),
                one(&[b""], "closed the connection before"),
                one(&[b"\x05\xff"], "refuses this kind of login"),
                one(&[b"\x05\x02"], "refuses this kind of login"),
                one(&[b"\x05\x00", b"\x05\x01\x00\x01\0\0\0\0\0\0"], "general failure"),
                one(&[b"\x05\x00", b"\x05\x02\x00\x01\0\0\0\0\0\0"], "connection not allowed"),
                one(&[b"\x05\x00", b"\x05\x04\x00\x01\0\0\0\0\0\0"], "host unreachable"),
                one(&[b"\x05\x00", b"\x05\x05\x00\x01\0\0\0\0\0\0"], "connection refused"),
                one(&[b"\x05\x00", b"\x05\x08\x00\x01\0\0\0\0\0\0"], "type of address"),
                one(&[b"\x05\x00", b"\x05\x77\x00\x01\0\0\0\0\0\0"], "not SOCKS 5"),
                one(&[b"\x05\x00", b"\x05\x00\x00\x09\0\0\0\0\0\0"], "not SOCKS 5"),
                one(&[b"\x05\x00", b"\x05\x00\x00\x04\0\0"], "closed the connection before"),
                case(scheme, over, socks(&[b"\x05\x00", b""], End::Reset), "closed the connection before"),
            ]);
        }
        let lies = socks(&[b"\x05\x00", b"\x05\x00\x00\x01\0\0\0\0\0\0", PAGE.as_bytes()], End::Close);
        all.push(case(scheme, "https", lies, "no TLS came of it"));
    }
    all
}

// Rows 74 and 76.
#[tokio::test]
async fn a_proxy_s_failure_is_never_the_destination_s_and_never_goes_around_it() {
    let sink = Sink::with_status(200).await;
    for Case { scheme, over, manner, said, .. } in faults() {
        let at = format!("{scheme} proxy, {over} destination, {manner:?}");
        let proxy = Proxy::start(sink.address, manner).await;
        let egress = egress(&[proxy.url(scheme, "")]);
        let url = format!("{over}://{}/", sink.address);
        let (detail, usable_at) = proxy_fault(send(&egress, &url).await);
        assert!(detail.starts_with(&format!("proxy {scheme}://{}: ", proxy.address)), "{at}: {detail}");
        assert!(detail.contains(said), "{at}: {detail}");
        assert!(usable_at > now(), "{at}: the only proxy has to rest");
        let [route] = &routes(&egress)[..] else { panic!("one route") };
        assert_eq!((route.state, route.used), (RouteState::Failing, 0), "{at}");
        assert_eq!(route.last_error.as_ref().unwrap().1, detail, "{at}");
        assert!(route.next_try_at > Some(now()), "{at}");
        let connections = proxy.connections();
        let (detail, _) = proxy_fault(send(&egress, &url).await);
        assert!(detail.starts_with("no proxy is due"), "{at}: {detail}");
        assert_eq!(proxy.connections(), connections, "{at}: it is left alone");
    }
    assert_eq!(sink.connections(), 0, "nothing ever went directly");
}

// Rows 74 and 76.
#[tokio::test]
async fn the_next_proxy_takes_over_in_the_same_attempt_unless_the_request_may_have_arrived() {
    for Case { scheme, over, manner, reached, .. } in faults().into_iter().filter(|case| case.over == "http") {
        let at = format!("{scheme} proxy, {over} destination, {manner:?}");
        let sink = Sink::with_status(200).await;
        let bad = Proxy::start(sink.address, manner).await;
        let good = Proxy::start(sink.address, Manner::Works).await;
        let egress = egress(&[bad.url(scheme, ""), good.url("socks5h", "")]);
        let first = send(&egress, &sink.url("/")).await;
        if reached {
            let (_, usable_at) = proxy_fault(first);
            assert!(usable_at <= now(), "{at}: the other one works");
            assert_eq!(sink.connections(), 0, "{at}");
            assert_eq!(status(&send(&egress, &sink.url("/")).await), 200, "{at}");
        } else {
            assert_eq!(status(&first), 200, "{at}");
        }
        assert_eq!((sink.seen().len(), good.forwarded()), (1, 1), "{at}");
        assert_eq!(states(&egress), ["failing", "active"], "{at}");
    }
}

// Row 74.
#[tokio::test]
async fn a_refused_connection_is_the_proxy_s_and_the_list_ends_with_its_last() {
    let sink = Sink::with_status(200).await;
    let mut proxies =
        [Proxy::start(sink.address, Manner::Works).await, Proxy::start(sink.address, Manner::Works).await];
    for proxy in &mut proxies {
        proxy.down().await;
    }
    for scheme in ["http", "https", "socks5", "socks5h"] {
        let list: Vec<String> = proxies.iter().map(|proxy| proxy.url(scheme, "u:canary@")).collect();
        let egress = egress(&list);
        for url in [sink.url("/"), format!("https://{}/", sink.address)] {
            let (detail, usable_at) = proxy_fault(send(&egress, &url).await);
            assert!(usable_at > now() && !detail.contains("canary"), "{detail}");
        }
        let views = routes(&egress);
        assert!(views.iter().all(|route| route.state == RouteState::Failing), "{views:?}");
        let said = &views[1].last_error.as_ref().unwrap().1;
        assert!(said.contains("refused"), "{scheme}: {said}");
    }
    let nameless = egress(&["http://nothing.invalid:1".to_owned(), "socks5://nothing.invalid:1".to_owned()]);
    proxy_fault(send(&nameless, &sink.url("/")).await);
    assert_eq!(sink.connections(), 0, "nothing ever went directly");
}

// Rows 74 and 45: silence.
#[tokio::test]
async fn a_proxy_that_hangs_is_cut_in_time_and_gives_way() {
    let sink = Sink::with_status(200).await;
    let established = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
    for (scheme, over, manner) in [
        ("http", "https", Manner::Says(vec![Vec::new()], End::Hang)),
        ("http", "https", Manner::Says(vec![established], End::Hang)),
        ("https", "http", Manner::Says(vec![Vec::new()], End::Hang)),
        ("socks5", "http", socks(&[b""], End::Hang)),
        ("socks5h", "http", socks(&[b"\x05\x00", b""], End::Hang)),
        ("http", "http", Manner::Says(vec![Vec::new()], End::Hang)),
    ] {
        let at = format!("{scheme} proxy, {over} destination, {manner:?}");
        let hanging = Proxy::start(sink.address, manner).await;
        let egress_alone = egress_with(AllowPrivate::All, SOON, &[hanging.url(scheme, "")]);
        let exchange = send(&egress_alone, &format!("{over}://{}/", sink.address)).await;
        assert!(exchange.took < DurationMs(10 * SOON.0), "{at}: {}", exchange.took);
        let (detail, _) = proxy_fault(exchange);
        assert!(detail.contains("in time"), "{at}: {detail}");
        assert_eq!((states(&egress_alone), sink.connections()), (vec!["failing"], 0), "{at}");
    }
    let hanging = Proxy::start(sink.address, socks(&[b""], End::Hang)).await;
    let good = Proxy::start(sink.address, Manner::Works).await;
    let list = [hanging.url("socks5h", ""), hanging.url("socks5", ""), good.url("socks5", "")];
    let egress = egress_with(AllowPrivate::All, DurationMs(3000), &list);
    let exchange = send(&egress, &sink.url("/")).await;
    assert_eq!((status(&exchange), states(&egress)), (200, vec!["failing", "failing", "active"]));
}

// Row 74: silence through a proxy that has just carried an answer is the destination's.
#[tokio::test]
async fn a_silent_destination_behind_a_proven_proxy_stays_at_fault() {
    let sink = Sink::start(vec![Act::Reply(Reply::new(200, "")), Act::Hang]).await;
    for scheme in ["http", "socks5"] {
        sink.set(vec![Act::Reply(Reply::new(200, "")), Act::Hang]);
        let proxy = Proxy::start(sink.address, Manner::Works).await;
        let egress = egress_with(AllowPrivate::All, SOON, &[proxy.url(scheme, "")]);
        assert_eq!(status(&send(&egress, &sink.url("/")).await), 200);
        assert_eq!(send(&egress, &sink.url("/")).await.result, Err(Fault::Timeout { sent: true }), "{scheme}");
        assert_eq!(states(&egress), ["active"], "{scheme}");
    }
}

#[tokio::test]
async fn the_destination_s_own_failures_stay_its_own_through_a_proxy_that_works() {
    let sink = Sink::with_status(200).await;
    let tls = TlsFront::start(sink.address).await;
    for scheme in ["http", "socks5", "socks5h"] {
        let plain = Proxy::start(sink.address, Manner::Works).await;
        let secure = Proxy::start(tls.address, Manner::Works).await;
        let egress_plain = egress(&[plain.url(scheme, "")]);
        for code in [500, 429, 400, 401] {
            sink.set(vec![Act::Reply(Reply::new(code, ""))]);
            assert_eq!(status(&send(&egress_plain, &sink.url("/")).await), code, "{scheme}");
        }
        let half = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf".to_vec();
        sink.set(vec![Act::RawThenClose(half)]);
        let said = send(&egress_plain, &sink.url("/")).await.result;
        assert!(matches!(said, Err(Fault::Ambiguous(_))), "{scheme}: {said:?}");
        if scheme != "http" {
            sink.set(vec![Act::Reset(At::AfterRequest)]);
            let said = send(&egress_plain, &sink.url("/")).await.result;
            assert!(matches!(said, Err(Fault::Ambiguous(_))), "{scheme}: {said:?}");
        }
        assert_eq!(states(&egress_plain), ["active"], "{scheme}");
        // Row 44: nobody here trusts the certificate.
        let egress_secure = egress(&[secure.url(scheme, "")]);
        let said = send(&egress_secure, &format!("https://{}/", tls.address)).await.result;
        assert!(matches!(said, Err(Fault::Tls(_))), "{scheme}: {said:?}");
        assert_eq!((states(&egress_secure), routes(&egress_secure)[0].used), (vec!["active"], 1), "{scheme}");
        // The same certificate shown by a proxy is the proxy's.
        let front = TlsFront::start(plain.address).await;
        let egress_front = egress(&[format!("https://{}", front.address)]);
        let url = if scheme == "http" { sink.url("/") } else { format!("https://{}/", sink.address) };
        proxy_fault(send(&egress_front, &url).await);
    }
}

// Row 76: replies that are well-formed and unusual.
#[tokio::test]
async fn every_form_of_a_good_socks_reply_is_taken() {
    let sink = Sink::with_status(200).await;
    let v6 = [&[5, 0, 0, 4][..], &[0x20; 16], &[0, 80]].concat();
    let long_name = [&[5, 0, 0, 3, 255][..], &[b'a'; 255], &[0, 80]].concat();
    for last in [v6, long_name] {
        for scheme in ["socks5", "socks5h"] {
            let proxy = Proxy::start(sink.address, Manner::WorksSaying(last.clone())).await;
            assert_eq!(
                status(&send(&egress(&[proxy.url(scheme, "")]), &sink.url("/")).await),
                200,
                "{scheme} {last:?}"
            );
        }
    }
}

// Rows 74 and 76: login.
#[tokio::test]
async fn a_wrong_login_is_the_proxy_s_fault_and_not_shown() {
    let sink = Sink::with_status(200).await;
    let proxy = Proxy::with_login(sink.address, Manner::Works, Some(("user", "right"))).await;
    for scheme in ["http", "socks5", "socks5h"] {
        for (login, good) in [("user:right@", true), ("user:canary@", false), ("canary:right@", false), ("", false)] {
            let egress = egress(&[proxy.url(scheme, login)]);
            let exchange = send(&egress, &sink.url("/")).await;
            assert!(!format!("{exchange:?} {:?} {egress:?}", routes(&egress)).contains("canary"), "{exchange:?}");
            if good {
                assert_eq!(status(&exchange), 200, "{scheme}");
            } else {
                let (detail, _) = proxy_fault(exchange);
                assert!(detail.contains("password") && detail.contains("check them in proxy"), "{scheme}: {detail}");
            }
        }
    }
    assert_eq!(sink.connections(), 3);
}

/// Row 75, with a proxy configured: a child process, because a process's own environment cannot be changed safely.
// Row 75.
#[tokio::test]
async fn no_proxy_in_the_environment_is_ignored() {
    const GIVEN: &str = "POSTBACKD_TEST_PROXY";
    if let Ok(given) = std::env::var(GIVEN) {
        let (proxy, url) = given.split_once(' ').unwrap();
        assert_eq!(status(&send(&egress(&[proxy.to_owned()]), url).await), 200);
        return;
    }
    let sink = Sink::with_status(200).await;
    let proxy = Proxy::start(sink.address, Manner::Works).await;
    for scheme in ["http", "socks5h"] {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        child.args(["proxy_egress::no_proxy_in_the_environment_is_ignored", "--exact"]).stdin(Stdio::null());
        child.envs([("no_proxy", "*"), ("NO_PROXY", "*"), ("REQUEST_METHOD", "GET")]);
        child.env(GIVEN, format!("{} {}", proxy.url(scheme, ""), sink.url("/")));
        let done = tokio::task::spawn_blocking(move || child.output().unwrap()).await.unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stdout));
    }
    assert_eq!((proxy.forwarded(), sink.connections()), (2, 2));
}

// Row 37 behind a proxy: one death of a proxy under many exchanges is one failure.
#[tokio::test]
async fn many_exchanges_at_once_are_one_failure_of_the_proxy() {
    let sink = Sink::start(vec![Act::Late(Duration::from_millis(300), Reply::new(200, ""))]).await;
    let mut proxy = Proxy::start(sink.address, Manner::Works).await;
    let egress = egress(&[proxy.url("http", "")]);
    let url = sink.url("/");
    let sent = futures_all(8, || send(&egress, &url));
    let (exchanges, ()) = tokio::join!(sent, async {
        sink.wait_for(8).await;
        proxy.down().await;
    });
    let soonest = routes(&egress)[0].next_try_at.unwrap();
    assert!(soonest.since(now()) <= DurationMs::from_secs(30), "the pause has not grown");
    for exchange in exchanges {
        proxy_fault(exchange);
    }
}

/// Runs that many at once, to the end of all.
async fn futures_all<F: Future>(count: usize, make: impl Fn() -> F) -> Vec<F::Output> {
    let mut running: Vec<_> = (0..count).map(|_| Box::pin(make())).collect();
    let mut done = Vec::new();
    std::future::poll_fn(|context| {
        running.retain_mut(|one| match one.as_mut().poll(context) {
            std::task::Poll::Ready(output) => {
                done.push(output);
                false
            }
            std::task::Poll::Pending => true,
        });
        if running.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    done
}
