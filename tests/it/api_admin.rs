//! What an operator may rely on (SPEC 6, 6.1, 8.2, 8.3): who may ask, and what `/status`, the trace and the delivery log say.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::daemon::{Daemon, TOKEN};
use crate::support::desk::{SLOW, accept, deposit, destination, problem, settled, walk, webhook};
use crate::support::sink::{Act, Reply, Sink};

const ADMIN_PATHS: [(&str, &str); 13] = [
    ("GET", "/status"),
    ("GET", "/metrics"),
    ("GET", "/v1/events/1"),
    ("GET", "/v1/deliveries"),
    ("GET", "/v1/dlq"),
    ("GET", "/v1/dlq/dlv_1"),
    ("POST", "/v1/dlq/replay"),
    ("POST", "/v1/dlq/discard"),
    ("POST", "/v1/destinations/hook/pause"),
    ("POST", "/v1/destinations/hook/resume"),
    ("POST", "/v1/destinations/hook/release"),
    ("POST", "/v1/clock/confirm"),
    ("GET", "/not/there"),
];

#[tokio::test]
async fn without_an_admin_token_only_this_machine_may_ask() {
    let daemon = Daemon::start("").await;
    let own = format!("127.0.0.1:{}", daemon.port);
    let origin = format!("http://{own}");
    for headers in [
        vec![],
        vec![("host", own.as_str())],
        vec![("host", "localhost:9")],
        vec![("host", "[::1]")],
        vec![("host", own.as_str()), ("origin", origin.as_str())],
    ] {
        assert_eq!(daemon.request("GET", "/status", &headers, b"").await.status, 200, "{headers:?}");
    }
    for (name, value) in [
        ("host", "evil.example"),
        ("host", "127.0.0.1.evil.example"),
        ("x-forwarded-for", "203.0.113.9"),
        ("x-forwarded-proto", "https"),
        ("x-real-ip", "127.0.0.1"),
        ("forwarded", "for=127.0.0.1"),
        // A page that makes a browser on this machine post a form.
        ("origin", "https://evil.example"),
        ("origin", "null"),
    ] {
        for (method, path) in ADMIN_PATHS {
            let answer = daemon.request(method, path, &[(name, value)], br#"{"all":true,"reason":"x"}"#).await;
            problem(&answer, 403, "not_local");
        }
        let token = format!("Bearer {TOKEN}");
        let headers = [(name, value), ("authorization", token.as_str())];
        let body = json!({ "event": "a", "event_id": format!("{name} {value}") }).to_string();
        let taken = daemon.request("POST", "/v1/events", &headers, body.as_bytes()).await;
        assert_eq!(taken.status, 202, "senders may stand behind a proxy");
        for path in ["/healthz", "/readyz"] {
            assert_eq!(daemon.request("GET", path, &[(name, value)], b"").await.status, 200);
        }
    }
}

#[tokio::test]
async fn with_an_admin_token_only_the_token_counts() {
    let daemon = Daemon::start_with("admin_token = \"canary-admin-token\"", "").await;
    for (method, path) in ADMIN_PATHS {
        let ask = async |token: &str| {
            let headers = [("host", "evil.example"), ("x-forwarded-for", "203.0.113.9"), ("authorization", token)];
            daemon.request(method, path, &headers, b"{}").await
        };
        let missing = daemon.request(method, path, &[("host", "localhost")], b"{}").await;
        problem(&missing, 401, "admin_token_missing");
        assert!(missing.header("www-authenticate").is_some());
        problem(&ask(&format!("Bearer {TOKEN}")).await, 401, "admin_token_wrong");
        let let_in = ask("Bearer canary-admin-token").await;
        assert!(!matches!(let_in.status, 401 | 403), "{method} {path}: {}", let_in.text());
    }
    assert_eq!(daemon.request("GET", "/healthz", &[], b"").await.json(), json!({ "ok": true }));
    assert_eq!(daemon.request("GET", "/readyz", &[], b"").await.json(), json!({ "ok": true, "reasons": [] }));
}

/// Every member of `wanted` is in `given`, with a value of the same type where it is no null and no placeholder.
fn has_the_shape(given: &Value, wanted: &Value, path: &str) {
    match wanted {
        Value::Object(wanted) => {
            for (name, value) in wanted {
                let found = given.get(name).unwrap_or_else(|| panic!("{path}.{name} is missing in {given}"));
                has_the_shape(found, value, &format!("{path}.{name}"));
            }
        }
        Value::Null => {}
        Value::Bool(_) => assert!(given.is_boolean(), "{path} is {given}"),
        Value::Number(_) => assert!(given.is_number(), "{path} is {given}"),
        Value::String(_) => assert!(given.is_string(), "{path} is {given}"),
        Value::Array(_) => assert!(given.is_array(), "{path} is {given}"),
    }
}

#[tokio::test]
async fn status_has_every_promised_member_as_json_and_as_text() {
    let sink = Sink::with_status(200).await;
    let config = [
        destination("meta", "fb_capi", &sink.url(""), SLOW),
        destination("network", "s2s_postback", &sink.url("/p"), "enabled = false"),
    ];
    let daemon = Daemon::start(&config.concat()).await;
    deposit(&daemon, "1").await;
    settled(&daemon, &[("sent", 1), ("skipped", 1)]).await;
    sink.set(vec![Act::Reply(Reply::new(503, "busy"))]);
    deposit(&daemon, "2").await;
    let status = settled(&daemon, &[("failed", 1)]).await;
    let counts = json!({ "accepted": 0, "pending": 0, "failed": 0, "sent": 0, "failed_permanently": 0, "skipped": 0, "discarded": 0 });
    let windows = json!({ "1h": { "p50": 0, "p95": 0, "p99": 0 }, "24h": { "p50": 0, "p95": 0, "p99": 0 } });
    let rates = json!({ "1h": 0, "24h": 0 });
    let mut balance = counts.clone();
    balance["balanced"] = json!(true);
    let wanted = json!({
        "version": "", "uptime_s": 0, "state": "", "reasons": [],
        "config": { "hash": "", "loaded_at": "", "error": null, "needs_restart": [] },
        "store": { "bytes": 0, "free_disk_bytes": 0, "commit_ms": { "p50": 0, "p99": 0 } },
        "events": { "accepted": 0, "duplicates": 0, "conflicts": 0, "rejected": 0 },
        "balance": balance,
        "destinations": { "meta": { "kind": "", "state": "", "reason": null, "counts": counts, "dlq": 0, "in_flight": 0,
            "oldest_owed_s": 0, "next_attempt_at": "", "success_rate": rates, "latency_ms": windows, "exchange_ms": windows,
            "by_event": { "deposit": { "success_rate": rates, "attempts": rates } },
            "last_error": { "at": "", "status": 0, "reason": "", "message": "" }, "proxy": null } },
    });
    has_the_shape(&status, &wanted, "$");
    let meta = &status["destinations"]["meta"];
    assert_eq!(
        (&meta["kind"], &meta["state"], &meta["success_rate"]["1h"]),
        (&json!("fb_capi"), &json!("active"), &json!(0.5))
    );
    assert_eq!((&meta["last_error"]["status"], &meta["last_error"]["reason"]), (&json!(503), &json!("transient")));
    assert_eq!(meta["by_event"]["deposit"]["attempts"]["24h"], 2);
    let network = &status["destinations"]["network"];
    assert_eq!((&network["state"], &network["counts"]["skipped"]), (&json!("disabled"), &json!(2)));
    assert_eq!(
        (&status["state"], &status["reasons"]),
        (&json!("ok"), &json!([])),
        "a failure that is retried is daily life"
    );
    assert_eq!(daemon.get("/status").await.json()["balance"]["accepted"], 4);

    for (path, headers) in [("/status?format=text", vec![]), ("/status", vec![("accept", "text/plain")])] {
        let answer = daemon.request("GET", path, &headers, b"").await;
        assert!(answer.header("content-type").unwrap().starts_with("text/plain"));
        let text = answer.text();
        let row = |name: &str| {
            let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name}: {text}"));
            line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(row("meta")[..10], ["meta", "fb_capi", "active", "2", "0", "1", "1", "0", "0", "0"]);
        assert_eq!(row("balance")[1..5], ["4", "accepted", "=", "0"]);
    }
    problem(&daemon.get("/status?format=xml").await, 422, "invalid");
    problem(&daemon.get("/status?formt=text").await, 422, "unknown");
}

#[tokio::test]
async fn an_event_is_found_by_our_id_and_by_the_senders_where_that_is_one() {
    let daemon = Daemon::start("").await;
    let ours = deposit(&daemon, "trade 1/ä").await;
    for path in [format!("/v1/events/{ours}"), "/v1/events/trade%201%2F%C3%A4".to_owned()] {
        let found = daemon.get(&path).await.json();
        assert_eq!((&found["id"], &found["event_id"]), (&json!(ours), &json!("trade 1/ä")), "{path}");
    }
    let wanted = json!({ "id": "", "event_id": "", "event": "deposit", "source": "app", "received_at": "",
        "occurred_at_ms": 0, "payload": {}, "deliveries": [] });
    has_the_shape(&daemon.get(&format!("/v1/events/{ours}")).await.json(), &wanted, "$");

    let mut several = BTreeSet::new();
    for uid in ["a", "b", "c"] {
        several.insert(accept(&daemon, json!({ "event": "deposit", "event_id": "2", "uid": uid })).await);
    }
    let said = problem(&daemon.get("/v1/events/2").await, 409, "ambiguous_id");
    let listed: BTreeSet<String> =
        said["events"].as_array().unwrap().iter().map(|id| id.as_str().unwrap().to_owned()).collect();
    assert_eq!(listed, several);
    let told = daemon.cli(&["event", "2"], "").await;
    assert_eq!(told.code, 1);
    assert!(several.iter().all(|id| told.err.contains(id)), "{told:?}");
    for nobody in ["nobody", "evt_000000000000000000001", "evt_", "%00", "%F0%9F%98%80"] {
        problem(&daemon.get(&format!("/v1/events/{nobody}")).await, 404, "not_found");
    }
    problem(&daemon.get("/v1/events/%ff").await, 422, "invalid");
}

#[tokio::test]
async fn pages_of_the_log_hold_every_delivery_once_also_while_more_come_in() {
    let sink = Sink::with_status(400).await;
    let config = [webhook("a", &sink.url("/"), ""), webhook("b", &sink.url("/"), "events = { lead = false }")];
    let daemon = Daemon::start(&config.concat()).await;
    for number in 0..12 {
        let name = if number % 3 == 0 { "lead" } else { "deposit" };
        accept(&daemon, json!({ "event": name, "event_id": number, "uid": number % 2 })).await;
    }
    settled(&daemon, &[("failed_permanently", 20), ("skipped", 4)]).await;
    for (query, count) in [
        ("", 24),
        ("destination=b", 12),
        ("destination=a&status=failed_permanently", 12),
        ("status=skipped", 4),
        ("event=lead", 8),
        ("uid=1", 12),
        ("event_id=5", 2),
        ("event=deposit&uid=0&destination=b", 4),
        ("reason=unmapped", 4),
        ("status=sent", 0),
    ] {
        let whole = walk(&daemon, "/v1/deliveries", "deliveries", &format!("limit=1000&{query}")).await;
        assert_eq!(whole.len(), count, "{query}");
        for limit in [1, 2, 5] {
            let paged = walk(&daemon, "/v1/deliveries", "deliveries", &format!("limit={limit}&{query}")).await;
            assert_eq!(paged, whole, "{query} by {limit}");
        }
    }
    for limit in [1, 3, 1000] {
        let dead = walk(&daemon, "/v1/dlq", "entries", &format!("limit={limit}")).await;
        assert_eq!(dead, walk(&daemon, "/v1/deliveries", "deliveries", "status=failed_permanently").await);
    }

    let before: BTreeSet<String> = walk(&daemon, "/v1/deliveries", "deliveries", "").await.into_iter().collect();
    let first = daemon.get("/v1/deliveries?limit=5").await.json();
    let mut seen: Vec<String> =
        first["deliveries"].as_array().unwrap().iter().map(|row| row["id"].to_string()).collect();
    let mut cursor = first["cursor"].as_str().unwrap().to_owned();
    for number in 100.. {
        deposit(&daemon, &number.to_string()).await;
        let page = daemon.get(&format!("/v1/deliveries?limit=5&cursor={cursor}")).await.json();
        seen.extend(page["deliveries"].as_array().unwrap().iter().map(|row| row["id"].to_string()));
        match page["cursor"].as_str() {
            Some(next) => next.clone_into(&mut cursor),
            None => break,
        }
    }
    let once: BTreeSet<String> = seen.iter().map(|id| id.trim_matches('"').to_owned()).collect();
    assert_eq!((seen.len(), &once), (before.len(), &before), "newer ones come before the first page");
}

#[tokio::test]
async fn a_time_filter_goes_by_receipt_and_its_end_is_not_in_it() {
    let daemon = Daemon::start(&webhook("a", "http://127.0.0.1:9/", "enabled = false")).await;
    deposit(&daemon, "1").await;
    let received = daemon.get("/v1/events/1").await.json()["received_at"].as_str().unwrap().to_owned();
    let later = received.replace('Z', "%2B00:00");
    for (query, count) in [
        (format!("since={received}"), 1),
        (format!("until={received}"), 0),
        (format!("since={later}&until=2999-01-01T00:00:00Z"), 1),
        ("since=-1h".to_owned(), 1),
        ("until=-1h".to_owned(), 0),
        ("since=2999-01-01T00:00:00Z".to_owned(), 0),
    ] {
        let rows = walk(&daemon, "/v1/deliveries", "deliveries", &query).await;
        assert_eq!(rows.len(), count, "{query}");
    }
    for (query, path) in [
        ("destination=nobody", "destination"),
        ("status=dead", "status"),
        ("event=a+b", "event"),
        ("since=yesterday", "since"),
        ("until=2h", "until"),
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("cursor=x", "cursor"),
        ("cursor=dlv_0000000000000000000010001", "cursor"),
        ("colour=red", "colour"),
        ("status=sent&status=failed", "status"),
    ] {
        for list in ["/v1/deliveries", "/v1/dlq"] {
            let answer = daemon.get(&format!("{list}?{query}")).await;
            assert_eq!((answer.status, &answer.json()["path"]), (422, &json!(path)), "{list}?{query}");
        }
    }
    problem(&daemon.get("/v1/dlq?status=sent").await, 422, "invalid");
    problem(&daemon.get("/v1/dlq?reason=tls").await, 422, "invalid");
}
