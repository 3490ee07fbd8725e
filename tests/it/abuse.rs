//! Hostile requests: lengths that lie, depth, digits, ids, injection, crowds of repeats, senders that hang up. Each gets the
//! right answer, changes nothing it must not, and nobody else is touched (rows 56 to 64 of the fault catalogue).

use std::collections::BTreeSet;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;

use crate::support::daemon::{Answer, Daemon, TOKEN, webhook};
use crate::support::desk::{NDJSON, books, destination, events, lines, problem, settled};
use crate::support::sender::{GoodSender, connect, growth_mb, head, post, request};
use crate::support::sink::Sink;

fn event(id: &str) -> String {
    json!({ "event": "deposit", "event_id": id }).to_string()
}

// Rows 55 and 62: whatever the lengths say, there is one answer, and nothing of a request hidden in another one is done.
#[tokio::test]
async fn wrong_and_smuggled_lengths_are_refused_and_nothing_hidden_is_done() {
    let daemon = Daemon::start("").await;
    let hidden = request(&event("hidden"));
    let length = |value: &str, body: &str| head(&format!("content-length: {value}\r\n\r\n{body}"));
    let coded = |value: &str| head(&format!("transfer-encoding: {value}\r\n\r\n0\r\n\r\n{hidden}"));
    let cases: Vec<(&str, String)> = vec![
        ("shorter than the body", length("5", &format!("{}{hidden}", event("short")))),
        ("no number", length("5x", &hidden)),
        ("negative", length("-1", &hidden)),
        ("with a sign", length("+5", &hidden)),
        ("in hex", length("0x5", &hidden)),
        ("empty", length("", &hidden)),
        ("beyond 64 bits", length("99999999999999999999", &hidden)),
        ("two in one", length("5, 5", &hidden)),
        ("two that differ", head(&format!("content-length: 5\r\ncontent-length: 6\r\n\r\n{hidden}"))),
        ("both", head(&format!("content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{hidden}"))),
        ("both in HTTP/1.0", hidden.replacen("HTTP/1.1\r\n", "HTTP/1.0\r\ntransfer-encoding: chunked\r\n", 1)),
        ("unknown coding", coded("xchunked")),
        ("chunked not last", coded("chunked, identity")),
        ("chunked twice", coded("chunked, chunked")),
        ("name and blank", head(&format!("transfer-encoding : chunked\r\n\r\n0\r\n\r\n{hidden}"))),
        ("folded", head(&format!("transfer-encoding:\r\n chunked\r\n\r\n0\r\n\r\n{hidden}"))),
        ("NUL in a value", head(&format!("transfer-encoding: \0chunked\r\n\r\n0\r\n\r\n{hidden}"))),
        ("chunk size no number", head(&format!("transfer-encoding: chunked\r\n\r\nzz\r\n{hidden}"))),
        ("chunk size too large", head(&format!("transfer-encoding: chunked\r\n\r\nffffffffffffffffff\r\n{hidden}"))),
        (
            "chunk size lies",
            head(&format!("transfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n{hidden}", event("lie"))),
        ),
    ];
    for (what, bytes) in cases {
        let mut stream = connect(daemon.port).await.unwrap();
        stream.write_all(bytes.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        // Where the rest was not read a reset may follow the answer.
        stream.read_to_end(&mut answer).await.ok();
        let answer = String::from_utf8_lossy(&answer);
        let mut answers = answer.split("HTTP/1.1 ").skip(1).peekable();
        assert!(answers.peek().is_some() && answers.all(|one| one.starts_with("400 ")), "{what}: {answer}");
        assert_eq!(daemon.get("/v1/events/hidden").await.status, 404, "{what}");
    }
    assert_eq!(events(&daemon).await["accepted"], 0);
    // What ends before its length says so, and is no refused event: it was never there.
    let rejected = books(&daemon, 2).await["rejected"].clone();
    for path in ["/v1/events", "/v1/postback/app"] {
        let bytes = length("500", &event("cut")).replacen("/v1/events", path, 1);
        let mut stream = connect(daemon.port).await.unwrap();
        stream.write_all(bytes.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        problem(&Answer::read(&answer).unwrap(), 400, "body_incomplete");
        assert_eq!(daemon.get("/v1/events/cut").await.status, 404);
    }
    daemon.post("/v1/events", &event("whole")).await;
    assert_eq!(
        daemon.wait_for_status(|status| status["events"]["accepted"] == 1).await["events"]["rejected"],
        rejected
    );
}

// Rows 55 and 62: who is too large is told so before it has sent anything, and without a token nothing is read for later.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn oversize_is_refused_by_what_it_declares_and_strangers_cost_no_memory() {
    let daemon = Daemon::start("").await;
    let good = GoodSender::start(&daemon, "good");
    for length in ["8388609", "10737418240", "18446744073709551613"] {
        let bytes = head(&format!("content-length: {length}\r\nexpect: 100-continue\r\n\r\n"));
        let mut stream = connect(daemon.port).await.unwrap();
        stream.write_all(bytes.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        problem(&Answer::read(&answer).unwrap(), 413, "body_too_large");
    }
    let body = "x".repeat(8 * 1024 * 1024);
    let strangers: JoinSet<()> = (0..40)
        .map(|_| {
            let head = format!(
                "POST /v1/events HTTP/1.1\r\nhost: x\r\nauthorization: Bearer guess\r\ncontent-length: {}\r\n\r\n",
                body.len()
            );
            let (port, body) = (daemon.port, body.clone());
            async move {
                let mut stream = connect(port).await.unwrap();
                stream.write_all(head.as_bytes()).await.unwrap();
                stream.write_all(body.as_bytes()).await.unwrap();
                stream.shutdown().await.unwrap();
                let mut answer = Vec::new();
                stream.read_to_end(&mut answer).await.unwrap();
                problem(&Answer::read(&answer).unwrap(), 401, "token_unknown");
            }
        })
        .collect();
    let (_, growth) = growth_mb(&daemon, strangers.join_all()).await;
    assert!(growth < 32.0, "320 MiB without a token took {growth} MB");
    good.stop_undisturbed().await;
}

// Row 56: every body is answered, in either form, and the next event is taken as if nothing had been.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_deep_and_huge_json_is_refused_with_its_place() {
    let daemon = Daemon::start("").await;
    let good = GoodSender::start(&daemon, "good");
    let deep = |open: &str, close: &str, levels: usize| format!("{}1{}", open.repeat(levels), close.repeat(levels));
    let digits = "9".repeat(100_000);
    let with = |member: &str| format!(r#"{{"event":"a","event_id":"1",{member}}}"#).into_bytes();
    let cases: Vec<(&str, Vec<u8>, u16, &str)> = vec![
        ("deep lists", deep("[", "]", 100_000).into_bytes(), 400, "invalid_json"),
        ("deep lists, open", "[".repeat(1_000_000).into_bytes(), 400, "invalid_json"),
        ("deep objects", deep(r#"{"a":"#, "}", 40_000).into_bytes(), 400, "invalid_json"),
        ("deep data", with(&format!(r#""data":{}"#, deep("[", "]", 100_000))), 400, "invalid_json"),
        ("deep in a batch", format!("[{}]", deep(r#"[{"a":"#, "}]", 30_000)).into_bytes(), 400, "invalid_json"),
        (
            "broken UTF-8",
            with("\"x\":\"\u{1}\"").iter().map(|byte| if *byte == 1 { 0xc0 } else { *byte }).collect(),
            400,
            "invalid_json",
        ),
        (
            "overlong UTF-8",
            [b"{\"event\":\"a\",\"event_id\":\"".as_slice(), b"\xc0\xaf\"}"].concat(),
            400,
            "invalid_json",
        ),
        (
            "a surrogate as UTF-8",
            [b"{\"event\":\"a\",\"event_id\":\"".as_slice(), b"\xed\xa0\x80\"}"].concat(),
            400,
            "invalid_json",
        ),
        ("UTF-16", "{\"event\":\"a\"}".encode_utf16().flat_map(u16::to_le_bytes).collect(), 400, "invalid_json"),
        ("a lone surrogate", with(r#""x":"\udfff""#), 400, "invalid_json"),
        ("a surrogate as a name", with(r#""\ud800":1"#), 400, "invalid_json"),
        ("duplicate keys", with(r#""x":1,"x":2"#), 400, "invalid_json"),
        ("duplicate keys, escaped", with(r#""x":1,"\u0078":2"#), 400, "invalid_json"),
        ("NaN", with(r#""x":NaN"#), 400, "invalid_json"),
        ("Infinity", with(r#""x":-Infinity"#), 400, "invalid_json"),
        ("hex", with(r#""x":0x10"#), 400, "invalid_json"),
        ("NUL as a name", with(r#""\u0000":1"#), 422, "nul"),
        ("NUL as a byte", with("\"x\":\"\0\""), 400, "invalid_json"),
        ("a huge value", with(&format!(r#""value":{digits}"#)), 422, "invalid"),
        ("a huge exponent", with(r#""value":1e999999999"#), 422, "invalid"),
        ("a huge time", with(&format!(r#""occurred_at_ms":{digits}"#)), 422, "invalid"),
        ("a time beyond 64 bits", with(r#""t":18446744073709551616"#), 422, "invalid"),
        ("a negative time", with(r#""t":-1"#), 422, "invalid"),
    ];
    let abuse = async {
        let mut refused = 0;
        for (what, body, status, code) in &cases {
            let bearer = format!("Bearer {TOKEN}");
            for kind in ["application/json", NDJSON] {
                let headers = [("authorization", bearer.as_str()), ("content-type", kind)];
                let answer = daemon.request("POST", "/v1/events", &headers, body).await;
                if kind == NDJSON {
                    let told = problem(&answer, 422, "all_rejected");
                    // A line is measured before it is read; a document is read to its end to find its events.
                    let code = if body.len() > 256 * 1024 { "event_too_large" } else { code };
                    assert_eq!(told["results"][0]["code"], *code, "{what}");
                } else {
                    let told = problem(&answer, *status, code);
                    assert_eq!(told["line"].is_u64(), *status == 400, "{what}: {told}");
                }
                assert!(answer.body.len() < 8192, "{what}: the answer is {} bytes long", answer.body.len());
                refused += 1;
            }
        }
        refused
    };
    let (refused, growth) = growth_mb(&daemon, abuse).await;
    assert!(growth < 64.0, "{growth} MB");
    good.stop_undisturbed().await;
    books(&daemon, refused).await;
}

// Row 56: what is large but well is taken as it is, and comes out with every digit.
#[tokio::test]
async fn digits_without_end_in_data_are_kept_as_they_are_written() {
    let sink = Sink::with_status(200).await;
    let daemon = Daemon::start(&webhook("hook", &sink.url("/"))).await;
    let digits = format!("0.{}", "123456789".repeat(10_000));
    let body = format!(r#"{{"event":"a","event_id":"1","data":{{"digits":{digits},"exponent":1e999999999}}}}"#);
    assert_eq!(daemon.post("/v1/events", &body).await.status, 202);
    let seen = &sink.wait_for(1).await[0];
    let text = String::from_utf8(seen.body.clone()).unwrap();
    assert!(text.contains(&digits), "{text}");
    assert!(text.contains("1e999999999") || text.contains("1e+999999999"), "{text}");
}

// Row 57.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_repeats_at_once_are_one_event_and_one_delivery() {
    let sink = Sink::with_status(200).await;
    let daemon = Daemon::start(&webhook("hook", &sink.url("/"))).await;
    let crowd: JoinSet<Value> = (0..1000)
        .map(|_| {
            let port = daemon.port;
            async move {
                let answer = post(port, &event("same")).await.expect("an answer");
                assert_eq!(answer.status, 202, "{}", answer.text());
                answer.json()
            }
        })
        .collect();
    let answers = crowd.join_all().await;
    let ids: BTreeSet<&str> = answers.iter().map(|answer| answer["id"].as_str().unwrap()).collect();
    assert_eq!((answers.len(), ids.len()), (1000, 1));
    let queued = answers.iter().filter(|answer| answer["status"] == "queued").count();
    assert_eq!(queued, 1);
    assert!(answers.iter().all(|answer| answer.get("conflict").is_none()), "they all say the same");
    settled(&daemon, &[("accepted", 1), ("sent", 1)]).await;
    assert_eq!(events(&daemon).await["duplicates"], 999);
    assert_eq!(sink.seen().len(), 1);
}

// Rows 59 and 63: an id is bytes within a limit. It is compared as it is, found by itself, and never becomes a header, a path
// or a line of its own anywhere.
#[tokio::test]
async fn hostile_ids_stay_what_they_are() {
    let sink = Sink::with_status(200).await;
    let config = webhook("hook", &sink.url("/hook")) + &destination("s2s", "s2s_postback", &sink.url("/s2s"), "");
    let daemon = Daemon::start(&config).await;
    let ids = [
        "../../etc/passwd",
        "a/b?c#d&e=f%2e",
        "x\r\nset-cookie: a=b\r\n\r\n",
        "'; drop table events; --",
        "{click_id}",
        "<script>alert(1)</script>",
        "\u{202e}gnp.exe",
        "paypal",
        // The first letter is Cyrillic; the accents are written in two ways; case counts; blanks count.
        "\u{440}aypal",
        "caf\u{e9}",
        "cafe\u{301}",
        "CAFE",
        "cafe",
        "cafe ",
        " ",
        "evt_0000000000000000000000000000",
    ];
    for id in ids {
        let answer = daemon.post("/v1/events", &event(id)).await.json();
        assert_eq!((&answer["status"], &answer["event_id"]), (&json!("queued"), &json!(id)), "{id:?}");
        let again = daemon.post("/v1/events", &event(id)).await.json();
        assert_eq!((&again["status"], &again["id"]), (&json!("duplicate"), &answer["id"]), "{id:?}");
        let path = utf8_percent_encode(id, NON_ALPHANUMERIC);
        let found = daemon.get(&format!("/v1/events/{path}")).await;
        assert_eq!((found.status, &found.json()["id"]), (200, &answer["id"]), "{id:?}");
    }
    settled(&daemon, &[("sent", 2 * ids.len() as u64)]).await;
    for seen in sink.seen() {
        assert!(seen.headers.iter().all(|(name, _)| name != "set-cookie"), "{seen:?}");
        let known = [
            "host",
            "user-agent",
            "accept",
            "content-type",
            "content-length",
            "webhook-id",
            "webhook-timestamp",
            "traceparent",
        ];
        assert!(seen.headers.iter().all(|(name, _)| known.contains(&name.as_str())), "{seen:?}");
        if seen.method == "GET" {
            let id = seen.target.strip_prefix("/s2s?id=").unwrap();
            assert!(id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"%-._~".contains(&byte)), "{id}");
        }
    }
    let long = |bytes: usize| event(&"i".repeat(bytes));
    assert_eq!(daemon.post("/v1/events", &long(256)).await.status, 202);
    problem(&daemon.post("/v1/events", &long(257)).await, 422, "too_long");
    problem(&daemon.post("/v1/events", &long(200_000)).await, 422, "too_long");
    problem(&daemon.post("/v1/events", &long(1024 * 1024)).await, 413, "event_too_large");
    problem(&daemon.post("/v1/events", r#"{"event":"a","event_id":""}"#).await, 422, "no_identity");
    let target = format!("/v1/events/{}", "i".repeat(60_000));
    assert!(matches!(daemon.get(&target).await.status, 404 | 422), "an id that nobody can have");
}

// Row 61.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_hangs_up_before_the_answer_is_served_all_the_same() {
    let sink = Sink::with_status(200).await;
    let daemon = Daemon::start(&webhook("hook", &sink.url("/"))).await;
    let crowd: JoinSet<()> = (0..100)
        .map(|n| {
            let port = daemon.port;
            async move {
                let mut stream = connect(port).await.unwrap();
                stream.write_all(request(&event(&format!("gone-{n}"))).as_bytes()).await.unwrap();
                if n % 2 == 0 {
                    // Not even a polite end; the request itself may be lost with it.
                    stream.set_zero_linger().unwrap();
                }
            }
        })
        .collect();
    crowd.join_all().await;
    let polite = |n: &usize| n % 2 == 1;
    daemon.wait_for_status(|status| status["events"]["accepted"].as_u64() >= Some(50)).await;
    for n in (0..100).filter(polite) {
        let again = daemon.post("/v1/events", &event(&format!("gone-{n}"))).await.json();
        assert_eq!(again["status"], "duplicate", "gone-{n} was committed although nobody waited for it");
    }
    for n in (0..100).filter(|n| !polite(n)) {
        daemon.post("/v1/events", &event(&format!("gone-{n}"))).await;
    }
    settled(&daemon, &[("accepted", 100), ("sent", 100)]).await;
    assert_eq!(sink.seen().len(), 100, "each was sent once");
}

// Row 63: log, terminal, spreadsheet and metrics.
#[tokio::test]
async fn what_events_say_is_no_line_escape_formula_or_label() {
    let sink = Sink::with_status(400).await;
    let mut daemon = Daemon::prepare("", &webhook("hook", &sink.url("/")));
    let log = daemon.path("log");
    daemon.set_log_from("debug", log.clone());
    daemon.restart().await;
    let evil = "=HYPERLINK(\"x\")\u{1b}[2J\u{9b}31m\r\n2026-01-01T00:00:00Z ERROR forged{line=\"1\"} 7\n";
    let with = |value: &str| json!({ "event": "deposit", "event_id": evil, "uid": evil, "value": value, "data": { evil: evil } });
    assert_eq!(daemon.post("/v1/events", &with("1").to_string()).await.status, 202);
    assert_eq!(daemon.post("/v1/events", &with("2").to_string()).await.json()["conflict"], true);
    problem(&daemon.post("/v1/events", &json!({ "event": evil, "event_id": evil }).to_string()).await, 422, "invalid");
    let path = utf8_percent_encode(evil, NON_ALPHANUMERIC);
    let postback = daemon.request("GET", &format!("/v1/postback/{path}?x={path}"), &[], b"").await;
    assert_eq!(postback.status, 404, "{}", postback.text());
    daemon.request("GET", &format!("/{path}"), &[("host", "localhost")], b"").await;
    lines(&daemon, &format!("{{{evil}}}")).await;
    settled(&daemon, &[("failed_permanently", 1)]).await;

    let metrics = daemon.get("/metrics").await.text();
    assert!(!metrics.contains("forged") && !metrics.contains("HYPERLINK"), "{metrics}");
    let said = [
        daemon.get("/status?format=text").await.text(),
        daemon.cli(&["status"], "").await.out,
        daemon.cli(&["deliveries"], "").await.out,
        daemon.cli(&["dlq", "list"], "").await.out,
        daemon.cli(&["dlq", "groups"], "").await.out,
        daemon.cli(&["event", evil], "").await.out,
        std::fs::read_to_string(&log).unwrap(),
    ];
    for text in &said {
        assert!(!text.contains(['\u{1b}', '\u{9b}', '\r']), "{text:?}");
        assert!(text.lines().all(|line| !line.starts_with("2026-01-01T00:00:00Z ERROR forged")), "{text}");
    }
    assert!(said[4..].iter().any(|text| text.contains("forged")), "the id is shown somewhere: {said:?}");
    let sheet = daemon.cli(&["deliveries", "--csv"], "").await.out;
    assert!(
        sheet.contains("'=HYPERLINK") && !sheet.contains(",=HYPERLINK") && !sheet.contains("\"=HYPERLINK"),
        "{sheet}"
    );
}

// Row 64: what is listed as queued is on disk, also over SIGKILL right behind the answer, and the one bad item is nowhere.
#[tokio::test]
async fn one_bad_item_of_a_thousand_costs_only_itself() {
    let sink = Sink::with_status(200).await;
    let mut daemon = Daemon::start(&webhook("hook", &sink.url("/"))).await;
    let item =
        |n: usize| if n == 500 { r#"{"event":"a b","event_id":"500"}"#.to_owned() } else { event(&n.to_string()) };
    let items: Vec<String> = (0..1000).map(item).collect();
    let answer = daemon.post("/v1/events", &format!("[{}]", items.join(","))).await;
    daemon.kill();
    let body = answer.json();
    assert_eq!((answer.status, &body["queued"], &body["rejected"]), (202, &json!(999), &json!(1)));
    let results = body["results"].as_array().unwrap();
    assert!(results.iter().enumerate().all(|(n, item)| (item["status"] == "queued") == (n != 500)), "{body}");
    assert_eq!((&results[500]["path"], &results[500]["event_id"]), (&json!("$[500].event"), &json!("500")));
    daemon.restart().await;
    let again = daemon.post("/v1/events", &format!("[{}]", items.join(","))).await.json();
    assert_eq!((&again["duplicate"], &again["queued"], &again["rejected"]), (&json!(999), &json!(0), &json!(1)));
    for (n, item) in again["results"].as_array().unwrap().iter().enumerate().filter(|(n, _)| *n != 500) {
        assert_eq!(item["id"], results[n]["id"], "{n}");
    }
    assert_eq!(daemon.get("/v1/events/500").await.status, 404);
    settled(&daemon, &[("accepted", 999), ("sent", 999)]).await;
}

// Row 60: what remembers repeats is on disk; a flood of ids that never come again costs no memory, and the first of them is
// still known.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_new_ids_costs_no_memory_and_forgets_nobody() {
    let daemon = Daemon::start("").await;
    let wave = |wave: usize| {
        let items: Vec<String> =
            (0..1000).map(|n| event(&format!("{:016x}", (wave * 1000 + n) * 0x9e37_79b9))).collect();
        format!("[{}]", items.join(","))
    };
    for n in 0..4 {
        assert_eq!(daemon.post("/v1/events", &wave(n)).await.json()["queued"], 1000);
    }
    let good = GoodSender::start(&daemon, "good");
    let flood = async {
        for n in 4..40 {
            let answer = daemon.post("/v1/events", &wave(n)).await;
            assert_eq!(answer.json()["queued"], 1000, "{}", answer.text());
        }
    };
    let ((), growth) = growth_mb(&daemon, flood).await;
    println!("36,000 new ids took {growth:.1} MB");
    // The cache of the store is 64 MiB.
    assert!(growth < 96.0, "{growth} MB");
    good.stop_undisturbed().await;
    let again = daemon.post("/v1/events", &wave(0)).await.json();
    assert_eq!((&again["duplicate"], &again["queued"]), (&json!(1000), &json!(0)));
}
