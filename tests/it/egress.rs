//! What an exchange keeps to, whatever the peer does.

use std::net::Ipv4Addr;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use postbackd::config::snapshot::NetworkPolicy;
use postbackd::domain::limits;
use postbackd::domain::net::AllowPrivate;
use postbackd::domain::time::DurationMs;
use postbackd::egress::Egress;
use postbackd::egress::api_client::{ApiClient, ApiError};
use postbackd::env::clock::SystemClock;
use postbackd::env::transport::{Answer, Exchange, Fault, Method, Request, Transport};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::destinations::snapshot;
use crate::support::sink::{Act, At, Reply, Sink};

/// Long enough that only a broken rule runs into it.
const PLENTY: DurationMs = DurationMs::from_secs(30);
/// For peers that never end.
const SOON: DurationMs = DurationMs(400);

fn network(allow_private: AllowPrivate, timeout: DurationMs) -> NetworkPolicy {
    NetworkPolicy { timeout, allow_private, proxies: Vec::new() }
}

fn egress(allow_private: AllowPrivate, timeout: DurationMs) -> Egress {
    Egress::new(&snapshot(vec![("x", network(allow_private, timeout))]), Arc::new(SystemClock::new())).unwrap()
}

fn post(url: &str) -> Request {
    let headers = vec![("content-type".to_owned(), "application/json".to_owned())];
    Request { method: Method::Post, url: url.parse().unwrap(), headers, body: b"{\"a\":1}".to_vec() }
}

async fn send(egress: &Egress, request: Request) -> Exchange {
    egress.exchange(&"x".parse().unwrap(), 0, request).await
}

/// One exchange with a peer that does `act`.
async fn against(act: Act, timeout: DurationMs) -> Exchange {
    let sink = Sink::start(vec![act]).await;
    let exchange = send(&egress(AllowPrivate::All, timeout), post(&sink.url("/"))).await;
    assert_eq!(sink.seen().len(), 1, "one exchange is one request");
    exchange
}

fn answer(exchange: Exchange) -> Answer {
    exchange.result.unwrap()
}

fn ambiguous(exchange: Exchange) -> String {
    match exchange.result {
        Err(Fault::Ambiguous(text)) => text,
        other => panic!("not ambiguous: {other:?}"),
    }
}

#[tokio::test]
async fn a_request_arrives_as_it_was_made_and_the_answer_comes_back() {
    let reply = Reply::new(202, "thanks").header("Retry-After", "7").header("X-Twice", "1").header("x-twice", "2");
    let sink = Sink::start(vec![Act::Reply(reply)]).await;
    let egress = egress(AllowPrivate::All, PLENTY);
    let got = answer(send(&egress, post(&sink.url("/p/a?q=%20x&y"))).await);
    assert_eq!((got.status, got.body.as_slice(), got.header("retry-after")), (202, &b"thanks"[..], Some("7")));
    assert_eq!(got.headers.iter().filter(|(name, _)| name == "x-twice").count(), 2);
    let get = Request { method: Method::Get, url: sink.url("/g").parse().unwrap(), headers: vec![], body: vec![] };
    answer(send(&egress, get).await);
    let seen = sink.seen();
    assert_eq!((seen[0].method.as_str(), seen[0].target.as_str()), ("POST", "/p/a?q=%20x&y"));
    assert_eq!(
        (seen[0].header("content-type"), seen[0].body.as_slice()),
        (Some("application/json"), &b"{\"a\":1}"[..])
    );
    assert!(seen[0].header("user-agent").unwrap().starts_with("postbackd/"));
    assert_eq!((seen[1].method.as_str(), seen[1].header("content-length")), ("GET", None));
    assert_eq!(sink.connections(), 1, "a connection is used again");
}

/// Whether a phase was measured says as much as how long it was.
#[tokio::test]
async fn as_many_connections_are_kept_as_the_destination_has_exchanges() {
    let late = Act::Late(Duration::from_millis(50), Reply::new(200, "ok"));
    let sink = Sink::start(vec![late]).await;
    let mut snapshot = snapshot(vec![("x", network(AllowPrivate::All, PLENTY))]);
    for destination in snapshot.destinations.values_mut() {
        Arc::get_mut(destination).unwrap().lane.concurrency = 64;
    }
    let egress = Arc::new(Egress::new(&snapshot, Arc::new(SystemClock::new())).unwrap());
    for _ in 0..4 {
        let mut wave = tokio::task::JoinSet::new();
        for _ in 0..64 {
            let (egress, request) = (Arc::clone(&egress), post(&sink.url("/")));
            wave.spawn(async move { answer(send(&egress, request).await).status });
        }
        assert!(wave.join_all().await.iter().all(|status| *status == 200));
    }
    // One that has ended a moment ago may not be free yet when the next exchange asks.
    assert!(sink.connections() < 80, "{} connections for 64 exchanges at a time", sink.connections());
}

#[tokio::test]
async fn phases_are_told_as_far_as_an_exchange_came() {
    let sink = Sink::with_status(200).await;
    let to_sink = egress(AllowPrivate::All, PLENTY);
    let first = send(&to_sink, post(&sink.url("/"))).await;
    let again = send(&to_sink, post(&sink.url("/"))).await;
    assert_eq!(sink.connections(), 1);
    let known = |exchange: &Exchange| {
        let phases = exchange.trail.phases;
        let all = [phases.connect, phases.first_byte, phases.body];
        assert!(all.iter().flatten().map(|time| time.0).sum::<u64>() <= exchange.took.0, "{exchange:?}");
        all.map(|phase| phase.is_some())
    };
    assert_eq!(
        (known(&first), known(&again)),
        ([true, true, true], [false, true, true]),
        "a reused one opened nothing"
    );
    assert_eq!(known(&against(Act::Hang, SOON).await), [true, false, false]);
    let begun = b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf".to_vec();
    let cut = against(Act::Raw(begun), SOON).await;
    assert_eq!(known(&cut), [true, true, true]);
    let phases = cut.trail.phases;
    let body = phases.body.unwrap().0;
    assert!(body > phases.first_byte.unwrap().0 && body > SOON.0 / 4, "the body was waited for: {phases:?}");
    assert_eq!(cut.trail.proxy, None);
}

// Row 49.
#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = Sink::with_status(200).await;
    let reply = Reply::new(302, "").header("location", &elsewhere.url("/"));
    assert_eq!(answer(against(Act::Reply(reply), PLENTY).await).status, 302);
    assert_eq!(elsewhere.connections(), 0);
}

/// Row 75. A child process, because a process's own environment cannot be changed safely.
#[tokio::test]
async fn environment_proxies_are_ignored() {
    const TARGET: &str = "POSTBACKD_TEST_TARGET";
    if let Ok(target) = std::env::var(TARGET) {
        let exchange = send(&egress(AllowPrivate::All, PLENTY), post(&target)).await;
        assert_eq!(answer(exchange).status, 204, "the destination itself answers");
        let api = ApiClient::new(&target, None, PLENTY).unwrap();
        assert_eq!(api.get("/", "*/*").await.unwrap().status, 204);
        return;
    }
    let target = Sink::with_status(204).await;
    let proxy = Sink::with_status(200).await;
    let mut child = self::child(&["egress::environment_proxies_are_ignored", "--exact"]);
    for name in ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"] {
        child.env(name, proxy.url("/"));
    }
    child.env_remove("no_proxy").env_remove("NO_PROXY").env(TARGET, target.url("/"));
    let done = tokio::task::spawn_blocking(move || child.output().unwrap()).await.unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stdout));
    assert_eq!((target.seen().len(), proxy.connections()), (2, 0));
}

fn child(arguments: &[&str]) -> std::process::Command {
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    command.args(arguments).stdin(Stdio::null());
    command
}

// Row 36.
#[tokio::test]
async fn a_drip_is_cut_at_the_total_timeout() {
    let first = b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n".to_vec();
    let exchange = against(Act::Drip(first, b".".to_vec(), Duration::from_millis(20)), SOON).await;
    assert!(exchange.took >= SOON && exchange.took < DurationMs(10 * SOON.0), "{}", exchange.took);
    assert_eq!(ambiguous(exchange), "an answer with status 200 began, but it did not end in time");
}

// Row 36.
#[tokio::test]
async fn dripping_headers_are_cut_at_the_total_timeout() {
    let exchange =
        against(Act::Drip(b"HTTP/1.1 200 OK\r\nx: ".to_vec(), b".".to_vec(), Duration::from_millis(20)), SOON).await;
    assert_eq!(exchange.result, Err(Fault::Timeout { sent: true }));
}

// Row 35.
#[tokio::test]
async fn a_peer_that_never_answers_is_a_timeout_with_the_request_sent() {
    let exchange = against(Act::Hang, SOON).await;
    assert!(exchange.took >= SOON, "{}", exchange.took);
    assert_eq!(exchange.result, Err(Fault::Timeout { sent: true }));
}

// Row 36.
#[tokio::test]
async fn informational_answers_for_ever_are_cut_at_the_total_timeout() {
    let flood = Act::Flood(Vec::new(), b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n".to_vec());
    assert_eq!(against(flood, SOON).await.result, Err(Fault::Timeout { sent: true }));
}

// Row 45.
#[tokio::test]
async fn a_handshake_that_never_ends_is_a_timeout_with_nothing_sent() {
    // Nobody accepts: the connection stands in the backlog, and no byte of TLS comes back.
    let silent = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url = format!("https://{}/", silent.local_addr().unwrap());
    let exchange = send(&egress(AllowPrivate::All, SOON), post(&url)).await;
    assert_eq!(exchange.result, Err(Fault::Timeout { sent: false }));
}

// Row 36.
#[tokio::test]
async fn an_endless_body_is_cut_at_the_cap() {
    for head in ["HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n"] {
        let exchange = against(Act::Flood(head.into(), b"abc".to_vec()), PLENTY).await;
        let answer = answer(exchange);
        assert_eq!((answer.status, answer.body.len()), (200, limits::RESPONSE_BODY_BYTES));
    }
}

#[tokio::test]
async fn a_body_of_exactly_the_cap_is_whole() {
    let body = vec![b'x'; limits::RESPONSE_BODY_BYTES];
    let answer = answer(against(Act::Reply(Reply::new(500, body.clone())), PLENTY).await);
    assert_eq!((answer.status, answer.body), (500, body));
}

// Row 36.
#[tokio::test]
async fn a_cut_answer_does_not_spoil_the_next_exchange() {
    let head = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
    let sink = Sink::start(vec![Act::Flood(head, b"abc".to_vec()), Act::Reply(Reply::new(204, ""))]).await;
    let egress = egress(AllowPrivate::All, PLENTY);
    assert_eq!(answer(send(&egress, post(&sink.url("/"))).await).status, 200);
    assert_eq!(answer(send(&egress, post(&sink.url("/"))).await).status, 204);
    assert_eq!(sink.connections(), 2);
}

// Row 36.
#[tokio::test]
async fn endless_headers_are_ambiguous_and_bounded() {
    let one = Act::Flood(b"HTTP/1.1 200 OK\r\nx: ".to_vec(), b"abc".to_vec());
    assert_eq!(ambiguous(against(one, PLENTY).await), "the answer's headers are too large");
    let many = Act::Flood(b"HTTP/1.1 200 OK\r\n".to_vec(), b"x: y\r\n".to_vec());
    assert_eq!(ambiguous(against(many, PLENTY).await), "the answer's headers are too large");
}

// Row 54.
#[tokio::test]
async fn headers_are_kept_up_to_their_bounds() {
    let mut reply = Reply::new(200, "").header("X-Long", &"é\u{9b}".repeat(5000));
    for n in 0..90 {
        reply = reply.header(&format!("x-{n}"), "v");
    }
    let answer = answer(against(Act::Reply(reply), PLENTY).await);
    assert_eq!(answer.headers.len(), limits::RESPONSE_HEADERS);
    let long = answer.header("x-long").unwrap();
    assert!(long.len() <= limits::RESPONSE_HEADER_BYTES && !long.contains('\u{9b}'));
}

// Row 35.
#[tokio::test]
async fn a_reset_after_the_request_is_ambiguous() {
    let text = ambiguous(against(Act::Reset(At::AfterRequest), PLENTY).await);
    assert!(text.starts_with("the connection broke: Connection reset"), "{text}");
    ambiguous(against(Act::Reset(At::InHeaders), PLENTY).await);
    ambiguous(against(Act::Reset(At::InBody), PLENTY).await);
}

// Row 35.
#[tokio::test]
async fn an_end_before_the_whole_answer_is_ambiguous() {
    const CLOSED: &str = "the connection was closed before the answer was whole";
    assert_eq!(ambiguous(against(Act::Close, PLENTY).await), CLOSED);
    for answer in ["content-length: 100\r\n\r\nhalf", "transfer-encoding: chunked\r\n\r\n64\r\nhalf"] {
        let short = Act::RawThenClose(format!("HTTP/1.1 200 OK\r\n{answer}").into());
        assert_eq!(ambiguous(against(short, PLENTY).await), format!("an answer with status 200 began, but {CLOSED}"));
    }
}

// Row 35.
#[tokio::test]
async fn what_is_not_http_is_ambiguous() {
    let garbage = Act::RawThenClose(b"220 mail.example ESMTP ready\r\n\r\n".to_vec());
    assert_eq!(ambiguous(against(garbage, PLENTY).await), "what came is not HTTP");
    let lengths = Act::Raw(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab".to_vec());
    assert_eq!(ambiguous(against(lengths, PLENTY).await), "what came is not HTTP");
}

// Row 45.
#[tokio::test]
async fn a_plain_text_peer_behind_https_is_a_tls_fault() {
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url = format!("https://{}/", listener.local_addr().unwrap());
    // Both connections are kept to the end: closing one with bytes unread would reset it.
    let peer = tokio::spawn(async move {
        let (mut talker, _) = listener.accept().await.unwrap();
        talker.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        let (mut leaver, _) = listener.accept().await.unwrap();
        let hello = leaver.read_u8().await.unwrap();
        leaver.shutdown().await.unwrap();
        (hello, talker, leaver)
    });
    let egress = egress(AllowPrivate::All, PLENTY);
    let said = send(&egress, post(&url)).await.result;
    assert!(matches!(&said, Err(Fault::Tls(text)) if text.contains("corrupt message")), "{said:?}");
    let said = send(&egress, post(&url)).await.result;
    assert_eq!(said, Err(Fault::Tls("the connection was closed during the TLS handshake".to_owned())));
    assert_eq!(peer.await.unwrap().0, 22, "a TLS handshake record came");
}

#[tokio::test]
async fn a_late_answer_within_the_timeout_counts() {
    let late = Act::Late(Duration::from_millis(100), Reply::new(200, "late"));
    let exchange = against(late, PLENTY).await;
    assert!(exchange.took >= DurationMs(100), "{}", exchange.took);
    assert_eq!(answer(exchange).body, b"late");
}

// Rows 35 and 72: the URL with its token is not in the text.
#[tokio::test]
async fn a_refused_connection_is_network() {
    let closed = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap();
    let exchange = send(&egress(AllowPrivate::All, PLENTY), post(&format!("http://{closed}/?token=hunter2"))).await;
    let refused = Fault::Network("cannot connect: Connection refused (os error 111)".to_owned());
    assert_eq!(exchange.result, Err(refused));
}

// Row 40.
#[tokio::test]
async fn a_name_that_does_not_resolve_is_network() {
    let exchange = send(&egress(AllowPrivate::All, PLENTY), post("http://nothing.invalid/")).await;
    let said = exchange.result.unwrap_err();
    assert!(matches!(&said, Fault::Network(text) if text.starts_with("the host name")), "{said:?}");
}

// Row 41.
#[tokio::test]
async fn a_name_that_resolves_to_loopback_is_refused() {
    let sink = Sink::with_status(200).await;
    let url = format!("http://localhost:{}/", sink.address.port());
    let said = send(&egress(AllowPrivate::No, PLENTY), post(&url)).await.result.unwrap_err();
    assert!(matches!(&said, Fault::Refused(text) if text.contains("allow_private")), "{said:?}");
    assert_eq!(sink.connections(), 0);
    assert_eq!(answer(send(&egress(AllowPrivate::All, PLENTY), post(&url)).await).status, 200);
}

// Row 42.
#[tokio::test]
async fn a_literal_private_address_is_refused_without_a_packet() {
    let sink = Sink::with_status(200).await;
    let egress_closed = egress(AllowPrivate::No, PLENTY);
    for host in ["127.0.0.1", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]"] {
        let url = format!("http://{host}:{}/", sink.address.port());
        let said = send(&egress_closed, post(&url)).await.result;
        assert!(matches!(said, Err(Fault::Refused(_))), "{host}: {said:?}");
    }
    assert_eq!(sink.connections(), 0);
    let narrow = AllowPrivate::Networks(vec!["127.0.0.1/32".parse().unwrap()]);
    assert_eq!(answer(send(&egress(narrow, PLENTY), post(&sink.url("/"))).await).status, 200);
}

// Row 35.
#[tokio::test]
async fn a_network_that_cannot_be_reached_is_network() {
    let exchange = send(&egress(AllowPrivate::All, PLENTY), post("http://255.255.255.255/?token=hunter2")).await;
    let said = exchange.result.unwrap_err();
    assert!(matches!(&said, Fault::Network(text) if text.starts_with("cannot connect: ")), "{said:?}");
}

// Row 35.
#[tokio::test]
async fn a_black_hole_is_a_timeout_with_nothing_sent() {
    // The backlog is full and nobody accepts: further packets are dropped without an answer.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let listener = socket.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    let mut filling = Vec::new();
    loop {
        let connecting = tokio::net::TcpStream::connect(address);
        match tokio::time::timeout(Duration::from_millis(200), connecting).await {
            Ok(stream) => filling.push(stream.unwrap()),
            Err(_) => break,
        }
    }
    let exchange = send(&egress(AllowPrivate::All, SOON), post(&format!("http://{address}/"))).await;
    assert!(exchange.took < DurationMs(10 * SOON.0), "{}", exchange.took);
    assert_eq!(exchange.result, Err(Fault::Timeout { sent: false }));
}

/// Answers every connection with these bytes once something of a handshake came, again and again where `flood`.
async fn no_tls_we_speak(bytes: Vec<u8>, flood: bool) -> std::net::SocketAddr {
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            stream.read_u8().await.ok();
            while stream.write_all(&bytes).await.is_ok() && flood {}
            kept.push(stream);
        }
    });
    address
}

// Row 45: TLS 1.0 only (as an alert, and as an answer in that version), and a handshake that goes on for ever.
#[tokio::test]
async fn old_tls_and_a_handshake_without_end_are_tls_faults() {
    let alert = vec![21, 3, 1, 0, 2, 2, 70];
    let hello: Vec<u8> = [&[2, 0, 0, 38, 3, 1][..], &[7; 32], &[0, 0, 0x2f, 0]].concat();
    let hello = [&[22, 3, 1, 0, 42][..], &hello].concat();
    let endless = [&[22, 3, 3, 0x40, 0][..], &[11, 0xff, 0xff, 0xff], &[0; 0x4000 - 4]].concat();
    for (bytes, flood) in [(alert, false), (hello, false), (endless, true)] {
        let url = format!("https://{}/", no_tls_we_speak(bytes, flood).await);
        let exchange = send(&egress(AllowPrivate::All, PLENTY), post(&url)).await;
        assert!(exchange.took < DurationMs::from_secs(5), "{}", exchange.took);
        assert!(matches!(&exchange.result, Err(Fault::Tls(_))), "{:?}", exchange.result);
    }
}

// Row 43.
#[tokio::test]
async fn a_name_of_our_own_listener_is_refused_without_a_packet() {
    let (ours, other) = (Sink::with_status(200).await, Sink::with_status(200).await);
    let network = NetworkPolicy { timeout: PLENTY, allow_private: AllowPrivate::All, proxies: Vec::new() };
    let mut config = snapshot(vec![("x", network)]);
    config.server.listen = vec![ours.address];
    let egress = Egress::new(&config, Arc::new(SystemClock::new())).unwrap();
    let named = |sink: &Sink| post(&format!("http://localhost:{}/", sink.address.port()));
    let said = send(&egress, named(&ours)).await.result;
    assert!(matches!(&said, Err(Fault::Refused(text)) if text.contains("postbackd itself (127.0.0.1)")), "{said:?}");
    assert_eq!(answer(send(&egress, named(&other)).await).status, 200);
    assert_eq!((ours.connections(), other.connections()), (0, 1));
}

#[tokio::test]
async fn an_unknown_destination_is_refused() {
    let exchange =
        egress(AllowPrivate::All, PLENTY).exchange(&"y".parse().unwrap(), 0, post("http://127.0.0.1/")).await;
    assert!(matches!(exchange.result, Err(Fault::Refused(_))));
}

/// Row 37. The peer takes a second request on a kept connection and dies: hyper would send it again, had nothing been written.
#[tokio::test]
async fn no_request_is_repeated_silently() {
    for end in [Act::Reset(At::AfterRequest), Act::Close, Act::Reset(At::InHeaders)] {
        for method in [Method::Post, Method::Get] {
            let sink = Sink::start(vec![Act::Reply(Reply::new(200, "")), end.clone()]).await;
            let egress = egress(AllowPrivate::All, PLENTY);
            answer(send(&egress, post(&sink.url("/"))).await);
            let second = Request { method, ..post(&sink.url("/")) };
            ambiguous(send(&egress, second).await);
            let connections: Vec<_> = sink.seen().iter().map(|seen| seen.connection).collect();
            assert_eq!(connections, [1, 1], "the second on the first one's connection, and once");
        }
    }
}

// Row 48.
#[tokio::test]
async fn a_status_that_asks_for_patience_is_not_obeyed_here() {
    for status in [408, 425, 429, 503] {
        let reply = Reply::new(status, "").header("retry-after", "0");
        assert_eq!(answer(against(Act::Reply(reply), PLENTY).await).status, status);
    }
}

#[tokio::test]
async fn a_dropped_exchange_ends_its_connection() {
    let sink = Sink::start(vec![Act::Hang, Act::Reply(Reply::new(200, ""))]).await;
    let egress = egress(AllowPrivate::All, PLENTY);
    tokio::select! {
        exchange = send(&egress, post(&sink.url("/"))) => panic!("{exchange:?}"),
        _ = sink.wait_for(1) => {}
    }
    answer(send(&egress, post(&sink.url("/"))).await);
    assert_eq!(sink.connections(), 2, "nobody waits behind the stalled request");
}

#[tokio::test]
async fn the_api_client_carries_its_token_and_takes_another() {
    let sink = Sink::start(vec![Act::Reply(Reply::new(422, "{}").header("content-type", "application/json"))]).await;
    let secret = |text: &str| postbackd::domain::secret::Secret::new(text.to_owned());
    let api = ApiClient::new(&sink.url("/"), Some(secret("admin")), PLENTY).unwrap();
    let got = api.get("/status?format=text", "text/plain").await.unwrap();
    assert_eq!((got.status, got.content_type.as_str(), got.body.as_slice()), (422, "application/json", &b"{}"[..]));
    api.post("/v1/events", "application/json", b"[]".to_vec(), Some(&secret("source"))).await.unwrap();
    let seen = sink.seen();
    assert_eq!((seen[0].target.as_str(), seen[0].header("accept")), ("/status?format=text", Some("text/plain")));
    assert_eq!(seen[0].header("authorization"), Some("Bearer admin"));
    assert_eq!((seen[1].header("authorization"), seen[1].body.as_slice()), (Some("Bearer source"), &b"[]"[..]));
}

#[tokio::test]
async fn the_api_client_says_what_is_wrong() {
    let closed = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap();
    let at = format!("http://{closed}");
    let api = ApiClient::new(&at, None, PLENTY).unwrap();
    let said = api.get("/status", "*/*").await.unwrap_err();
    assert_eq!(said, ApiError::NotRunning { at: at.clone() });
    assert!(said.to_string().contains("is it running?"));
    let sink = Sink::start(vec![Act::Hang]).await;
    let api = ApiClient::new(&sink.url("/"), None, SOON).unwrap();
    assert!(matches!(api.get("/", "*/*").await, Err(ApiError::Timeout { timeout: SOON, .. })));
    let bad = postbackd::domain::secret::Secret::new("a\nb".to_owned());
    let api = ApiClient::new(&at, Some(bad), PLENTY).unwrap();
    assert_eq!(api.get("/", "*/*").await, Err(ApiError::Token));
}
