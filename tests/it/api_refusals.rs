//! What a sender is told when an event is not taken (SPEC 3, 8.2, 8.3): the status, the code, the field, when to come back;
//! and that a refused input changes nothing but its count.

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::daemon::{Answer, Daemon, PATIENCE, TOKEN};
use crate::support::desk::{NDJSON, books, events, lines, pixel, problem};
use crate::support::sink::Sink;

/// A request that is refused: type, body, status, code, path (`""` where several fields or none are at fault).
type Refused<'a> = (&'a str, Vec<u8>, u16, &'a str, &'a str);

fn refused() -> Vec<Refused<'static>> {
    let json = "application/json";
    let case = |body: &str, status, code, path| (json, body.as_bytes().to_vec(), status, code, path);
    let deep = format!(r#"{{"event":"a","event_id":"1","data":{}1{}}}"#, r#"{"a":"#.repeat(5000), "}".repeat(5000));
    let id = |id: &str| format!(r#"{{"event":"a","event_id":"{id}"}}"#);
    let value = |value: &str| format!(r#"{{"event":"a","event_id":"1","value":{value}}}"#);
    vec![
        case("", 400, "invalid_json", ""),
        case("{\"event\":", 400, "invalid_json", ""),
        case(r#"{"event":"a","event_id":"1"} x"#, 400, "invalid_json", ""),
        case(r#"{"event":"a","event":"a","event_id":"1"}"#, 400, "invalid_json", ""),
        case(r#"{"event":"a","event_id":"1","data":{"x":[{"y":1,"y":1}]}}"#, 400, "invalid_json", ""),
        case(&id("\\ud800"), 400, "invalid_json", ""),
        case(&id("\\udc00\\ud800"), 400, "invalid_json", ""),
        case(&deep, 400, "invalid_json", ""),
        case(&["[".repeat(9000), "]".repeat(9000)].concat(), 400, "invalid_json", ""),
        (json, b"{\"event\":\"a\",\"event_id\":\"\xff\"}".to_vec(), 400, "invalid_json", ""),
        (json, b"{\"event\":\"a\",\"event_id\":\"\0\"}".to_vec(), 400, "invalid_json", ""),
        ("text/plain", b"{}".to_vec(), 415, "unsupported_type", ""),
        ("application/x-www-form-urlencoded", b"event=a".to_vec(), 415, "unsupported_type", ""),
        case("{}", 422, "invalid_fields", ""),
        case("[]", 422, "no_events", ""),
        (NDJSON, b"\r\n\n".to_vec(), 422, "no_events", ""),
        case("7", 422, "not_an_event", ""),
        case("null", 422, "not_an_event", ""),
        case(r#"{"event":"a"}"#, 422, "no_identity", "$.event_id"),
        case(r#"{"event":"a","uid":"1"}"#, 422, "no_identity", "$.event_id"),
        case(r#"{"event":"a","t":1}"#, 422, "no_identity", "$.event_id"),
        case(r#"{"event_id":"1"}"#, 422, "required", "$.event"),
        case(r#"{"event":"","event_id":"1"}"#, 422, "required", "$.event"),
        case(r#"{"event":"a b","event_id":"1"}"#, 422, "invalid", "$.event"),
        case(&format!(r#"{{"event":"{}","event_id":"1"}}"#, "a".repeat(65)), 422, "invalid", "$.event"),
        case(&id("a\\u0000"), 422, "nul", "$.event_id"),
        case(r#"{"event":"a","event_id":"1","data":{"x":["\u0000"]}}"#, 422, "nul", "$.data.x[0]"),
        case(&id(&"é".repeat(129)), 422, "too_long", "$.event_id"),
        case(&format!(r#"{{"event":"a","event_id":"1","uid":"{}"}}"#, "u".repeat(513)), 422, "too_long", "$.uid"),
        case(r#"{"event":"a","event_id":"1","eid":"2"}"#, 422, "contradiction", "$.eid"),
        case(r#"{"event":"a","event_id":"1","x":1,"data":{"x":2}}"#, 422, "contradiction", "$.x"),
        case(&value("1e3"), 422, "invalid", "$.value"),
        case(&value("\"1,5\""), 422, "invalid", "$.value"),
        case(&value("123456789012345678901"), 422, "invalid", "$.value"),
        case(&value("0.1234567890123"), 422, "invalid", "$.value"),
        case(&value("true"), 422, "type", "$.value"),
        case(r#"{"event":"a","event_id":"1","currency":"EURO"}"#, 422, "invalid", "$.currency"),
        case(r#"{"event":"a","event_id":"1","occurred_at":"yesterday"}"#, 422, "invalid", "$.occurred_at"),
        case(r#"{"event":"a","event_id":"1","user":[]}"#, 422, "type", "$.user"),
        case(r#"{"event":"a","event_id":"1","click":{"x":{}}}"#, 422, "type", "$.click.x"),
    ]
}

// Rows 56, 59 and 62.
#[tokio::test]
async fn every_refusal_names_its_code_and_field_and_changes_nothing_but_its_count() {
    let daemon = Daemon::start("").await;
    let mut count = 0;
    for (kind, body, status, code, path) in refused() {
        let shown = String::from_utf8_lossy(&body[..body.len().min(200)]).into_owned();
        let token = format!("Bearer {TOKEN}");
        let headers = [("authorization", token.as_str()), ("content-type", kind)];
        let answer = daemon.request("POST", "/v1/events", &headers, &body).await;
        let body = problem(&answer, status, code);
        assert_eq!(body["path"].as_str().unwrap_or_default(), path, "{shown}: {body}");
        count += 1;
    }
    for headers in [
        vec![],
        vec![("authorization", "Bearer wrong")],
        vec![("authorization", "Basic abc")],
        vec![("authorization", "Bearer "), ("authorization", "Bearer x")],
    ] {
        let answer = daemon.request("POST", "/v1/events", &headers, br#"{"event":"a","event_id":"1"}"#).await;
        let code = if headers == [("authorization", "Bearer wrong")] { "token_unknown" } else { "token_missing" };
        problem(&answer, 401, code);
    }
    problem(&daemon.request("GET", "/e?event=a&eid=1", &[], b"").await, 401, "token_missing");
    problem(&daemon.request("GET", "/e?event=a&eid=1&token=wrong", &[], b"").await, 401, "token_unknown");
    let books = books(&daemon, count).await;
    assert_eq!(
        books,
        json!({ "accepted": 0, "duplicates": 0, "conflicts": 0, "rejected": count }),
        "401s do not count"
    );
    assert_eq!(daemon.get("/v1/deliveries").await.json()["deliveries"], json!([]));
}

// Row 55.
#[tokio::test]
async fn limits_are_what_the_configuration_says_to_the_last_byte_and_item() {
    let daemon = Daemon::start_with("body_limit = \"1KiB\"\nbatch_limit = 3", "").await;
    let sized = |bytes: usize| {
        let frame = r#"{"event":"a","event_id":"s","x":""}"#;
        frame.replace(r#"x":""#, &format!(r#"x":"{}"#, "x".repeat(bytes - frame.len())))
    };
    problem(&daemon.post("/v1/events", &sized(1025)).await, 413, "body_too_large");
    assert_eq!(daemon.post("/v1/events", &sized(1024)).await.status, 202);
    // The same without a length: the limit is found on the way.
    let chunked = |bytes: usize| {
        let body = sized(bytes).replace("\"s\"", "\"c\"");
        format!(
            "POST /v1/events HTTP/1.1\r\nauthorization: Bearer {TOKEN}\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
            body.len()
        )
    };
    let over = daemon.exchange(chunked(1025).as_bytes()).await.unwrap();
    problem(&Answer::read(&over).unwrap(), 413, "body_too_large");
    let exact = daemon.exchange(chunked(1024).as_bytes()).await.unwrap();
    assert_eq!(Answer::read(&exact).unwrap().status, 202);

    let items = |count: usize| (0..count).map(|n| format!(r#"{{"event":"b","event_id":"{n}"}}"#)).collect::<Vec<_>>();
    let body = problem(&daemon.post("/v1/events", &format!("[{}]", items(4).join(","))).await, 413, "too_many_events");
    assert_eq!(body["limit"], 3, "a sender can cut its batches by it");
    problem(&lines(&daemon, &items(4).join("\n")).await, 413, "too_many_events");
    assert_eq!(lines(&daemon, &items(3).join("\n")).await.json()["queued"], 3);
    let books = books(&daemon, 10).await;
    assert_eq!(books["accepted"], 5);
}

// Row 55.
#[tokio::test]
async fn a_request_with_two_lengths_is_refused_and_nothing_behind_it_is_read() {
    let daemon = Daemon::start("").await;
    let event = |id: &str| format!(r#"{{"event":"a","event_id":"{id}"}}"#);
    let smuggled = format!(
        "POST /v1/events HTTP/1.1\r\nauthorization: Bearer {TOKEN}\r\ncontent-length: {}\r\n\r\n{}",
        event("smuggled").len(),
        event("smuggled")
    );
    for lengths in
        ["content-length: 5\r\ntransfer-encoding: chunked", "transfer-encoding: chunked\r\ncontent-length: 5"]
    {
        let request = format!(
            "POST /v1/events HTTP/1.1\r\nauthorization: Bearer {TOKEN}\r\n{lengths}\r\n\r\n0\r\n\r\n{smuggled}"
        );
        let bytes = daemon.exchange(request.as_bytes()).await.unwrap();
        assert_eq!(String::from_utf8_lossy(&bytes).matches("HTTP/1.1 ").count(), 1);
        problem(&Answer::read(&bytes).unwrap(), 400, "two_lengths");
    }
    assert_eq!(daemon.get("/v1/events/smuggled").await.status, 404);
    // Alone, each of them is fine.
    let chunked = format!(
        "POST /v1/events HTTP/1.1\r\nauthorization: Bearer {TOKEN}\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{}\r\n0\r\n\r\n",
        event("chunked").len(),
        event("chunked")
    );
    let bytes = daemon.exchange(chunked.as_bytes()).await.unwrap();
    assert_eq!(Answer::read(&bytes).unwrap().status, 202);
    assert_eq!(events(&daemon).await["accepted"], 1);
}

#[tokio::test]
async fn what_is_not_asked_for_in_the_right_way_says_what_is() {
    let daemon = Daemon::start("").await;
    let head = daemon.request("HEAD", &format!("/e?token={TOKEN}&event=lead&eid=head"), &[], b"").await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(daemon.get("/v1/events/head").await.status, 404, "HEAD does nothing");
    for (method, path, allow) in [
        ("GET", "/v1/events", "POST"),
        ("HEAD", "/v1/events", "POST"),
        ("OPTIONS", "/v1/events", "POST"),
        ("GET", "/events", "POST"),
        ("POST", "/e", "GET,HEAD"),
        ("DELETE", "/status", "GET,HEAD"),
        ("GET", "/v1/dlq/replay/", "404"),
        ("GET", "/nothing", "404"),
        ("PUT", "/v1/dlq/discard", "POST"),
    ] {
        let answer = daemon.request(method, path, &[("host", "localhost")], b"").await;
        if allow == "404" {
            problem(&answer, 404, "not_found");
        } else if method == "HEAD" {
            assert_eq!((answer.status, answer.body.len()), (405, 0));
        } else {
            problem(&answer, 405, "method_not_allowed");
            let mut methods: Vec<&str> = answer.header("allow").unwrap().split([',', ' ']).collect();
            methods.sort_unstable();
            assert_eq!(methods.join(","), allow);
        }
    }
    for header in ["cache-control: no-store", "x-content-type-options: nosniff"] {
        assert!(head.head.contains(header), "{}", head.head);
    }
}

#[tokio::test]
async fn below_the_reserve_nothing_new_is_taken_and_deliveries_go_on() {
    let sink = Sink::with_status(200).await;
    let hook = "[destinations.hook]\nkind = \"webhook\"\nallow_private = true\nretry = { first = \"10ms\" }";
    let mut daemon = Daemon::start(&format!("{hook}\nurl = \"{}\"", sink.url("/"))).await;
    // The receiver is away, so that something is owed.
    let address = sink.address;
    drop(sink);
    assert_eq!(daemon.post("/v1/events", r#"{"event":"a","event_id":"1"}"#).await.status, 202);
    daemon.wait_for_status(|status| status["balance"]["failed"] == 1).await;
    daemon.kill();
    daemon.edit("1MiB", "900000GiB");
    daemon.restart_until("/healthz").await;

    let answer = daemon.post("/v1/events", r#"{"event":"a","event_id":"2"}"#).await;
    problem(&answer, 503, "disk_low");
    let answer = pixel(&daemon, "event=a&eid=2").await;
    problem(&answer, 503, "disk_low");
    let ready = daemon.get("/readyz").await;
    assert_eq!((ready.status, &ready.json()["ok"]), (503, &json!(false)));
    assert!(ready.header("retry-after").is_some());
    assert!(ready.json()["reasons"][0].as_str().unwrap().contains("reserve"), "{}", ready.text());
    assert_eq!(daemon.get("/healthz").await.status, 200, "the process lives");
    let status = daemon.get("/status").await.json();
    assert_eq!(status["state"], "degraded");
    assert!(status["reasons"][0].as_str().unwrap().contains("storage.reserve"), "{status}");

    let listener = tokio::net::TcpListener::bind(address).await.unwrap();
    let (mut stream, _) = tokio::time::timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
    let mut request = vec![0; 16];
    stream.read_exact(&mut request).await.unwrap();
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
    let status = daemon.wait_for_status(|status| status["balance"]["sent"] == 1).await;
    assert_eq!((&status["events"]["accepted"], &status["events"]["rejected"]), (&json!(1), &json!(0)));
}
