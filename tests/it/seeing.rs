//! Seeing before sending (SPEC 6, 6.1, 7, 8.3): `preview` and `test` show what is true and change nothing.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::daemon::{Answer, Daemon};
use crate::support::desk::{accept, destination, problem, settled, webhook};
use crate::support::sink::{Act, At, Reply, Sink};

const SIGNED: &str =
    "headers = { \"X-Key\" = \"canary-header\" }\nsigning_secrets = [\"whsec_Y2FuYXJ5LXNpZ25pbmctc2VjcmV0\"]";

fn network(name: &str, url: &str) -> String {
    format!(
        "[destinations.{name}]\nkind = \"s2s_postback\"\nallow_private = true\nsecrets = {{ key = \"canary-network-key\" }}\n\
         url_template = \"{url}?cid={{uid}}&goal={{event}}&sum={{value}}&txid={{event_id}}&key={{secret.key}}\"\n"
    )
}

async fn preview(daemon: &Daemon, body: Value) -> Answer {
    daemon.post("/v1/preview", &body.to_string()).await
}

async fn previewed(daemon: &Daemon, body: Value) -> Value {
    let answer = preview(daemon, body).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

async fn test(daemon: &Daemon, name: &str, body: &str) -> Value {
    let answer = daemon.post(&format!("/v1/destinations/{name}/test"), body).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

/// All that a look may not change.
async fn books(daemon: &Daemon) -> Value {
    let status = daemon.get("/status").await.json();
    let log = daemon.get("/v1/deliveries").await.json();
    json!([status["state"], status["events"], status["balance"], status["destinations"], log])
}

/// No secret of these tests, in no form.
#[track_caller]
fn assert_clean(text: &str) {
    for canary in ["canary", "Y2FuYXJ5"] {
        assert!(!text.contains(canary), "{text}");
    }
}

#[tokio::test]
async fn a_preview_is_the_request_that_is_sent_later() {
    let sink = Sink::with_status(200).await;
    let config = [
        webhook("hook", &sink.url("/hook"), SIGNED),
        network("net", &sink.url("/net")),
        destination("meta", "fb_capi", &sink.url(""), ""),
    ];
    let daemon = Daemon::start(&config.concat()).await;
    let before = books(&daemon).await;
    // Within Meta's window whenever this runs.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as u64;
    let event = json!({
        "event": "deposit", "event_id": "trade-1", "uid": "click 7", "value": 25.10, "currency": "eur",
        "occurred_at_ms": now - 60_000, "user": { "email": "jane@example.com", "phone": "12" }
    });
    let mut shown = Vec::new();
    for (name, target) in [("hook", "deposit"), ("net", "deposit"), ("meta", "Purchase")] {
        let answer = preview(&daemon, json!({ "destination": name, "event": event })).await;
        assert_clean(&answer.text());
        let answer = answer.json();
        assert_eq!(
            (&answer["target"], &answer["skipped"], &answer["refused"]),
            (&json!(target), &Value::Null, &Value::Null)
        );
        assert_eq!(
            (&answer["source"], &answer["event"], &answer["warnings"]),
            (&json!("app"), &json!("deposit"), &json!([]))
        );
        assert!(answer["request"]["headers"].is_object(), "{answer}");
        shown.push((answer["request"].clone(), answer["left_out"].clone()));
    }
    assert_eq!(shown[0].0["headers"]["x-key"], "[redacted]");
    assert_eq!(shown[0].0["headers"]["webhook-signature"], "[redacted]");
    assert_eq!(shown[2].1[0]["field"], "user.phone", "{}", shown[2].1);
    assert!(shown[2].1[0]["why"].is_string());
    assert_eq!(sink.seen().len(), 0, "a preview sends nothing");
    assert_eq!(books(&daemon).await, before, "and stores nothing");

    accept(&daemon, event).await;
    settled(&daemon, &[("sent", 3)]).await;
    let secret =
        |text: &str| text.replace("canary-network-key", "[redacted]").replace("canary-meta-token", "[redacted]");
    for (request, _) in &shown {
        let path = request["url"].as_str().unwrap().strip_prefix(&sink.url("")).unwrap();
        let sent = sink.seen().into_iter().find(|seen| secret(&seen.target) == path);
        let sent = sent.unwrap_or_else(|| panic!("{path} was not asked: {:?}", sink.seen()));
        assert_eq!(request["method"], sent.method);
        let (sent, shown) = (secret(&String::from_utf8(sent.body).unwrap()), request["body"].as_str().unwrap());
        if path == "/hook" {
            let (mut sent, mut shown): (Value, Value) =
                (serde_json::from_str(&sent).unwrap(), serde_json::from_str(shown).unwrap());
            // The delivery's own id is given at ingest.
            assert!(sent["event_id"].take().is_string() && shown["event_id"].take().is_string());
            assert_eq!(sent, shown);
        } else {
            assert_eq!(sent, shown);
        }
    }
}

#[tokio::test]
async fn a_preview_says_what_would_keep_the_event_back() {
    let url = "http://127.0.0.1:9/";
    let config = [
        webhook("off", url, "enabled = false"),
        webhook("web", url, "sources = [\"web\"]\nevents = { lead = false }"),
        webhook("gold", url, "when = { \"data.plan\" = \"gold\" }"),
        destination("meta", "fb_capi", "http://127.0.0.1:9", ""),
        "[sources.web]\ntoken = \"web-token-0123456789\"\n".to_owned(),
    ];
    let daemon = Daemon::start(&config.concat()).await;
    let lead = json!({ "event": "lead", "event_id": "1" });
    let told = async |mut body: Value, event: &Value| {
        body["event"] = event.clone();
        previewed(&daemon, body).await
    };
    for (body, reason, word, has_request) in [
        (json!({ "destination": "off" }), "disabled", "enabled", true),
        (json!({ "destination": "gold" }), "filter", "data.plan", true),
        (json!({ "destination": "web", "source": "app" }), "source", "sources", false),
        (json!({ "destination": "web" }), "unmapped", "lead", false),
        (json!({ "destination": "web", "target": "Anything" }), "unmapped", "lead", true),
    ] {
        let answer = told(body.clone(), &lead).await;
        assert_eq!(answer["skipped"]["reason"], reason, "{body}: {answer}");
        assert!(answer["skipped"]["detail"].as_str().unwrap().contains(word), "{answer}");
        assert_eq!(answer["request"].is_object(), has_request, "{body}: {answer}");
        assert_eq!(answer["refused"].is_null(), has_request, "exactly one of the two: {answer}");
    }
    let renamed = told(json!({ "destination": "off", "target": "Anything" }), &lead).await;
    let body: Value = serde_json::from_str(renamed["request"]["body"].as_str().unwrap()).unwrap();
    assert_eq!((&body["event"], &body["canonical"]), (&json!("Anything"), &json!("lead")));

    let nobody = told(json!({ "destination": "meta" }), &lead).await;
    assert_eq!((&nobody["request"], &nobody["refused"]["reason"]), (&Value::Null, &json!("invalid")));
    assert!(nobody["refused"]["detail"].as_str().unwrap().contains("user"), "{nobody}");
    let old = json!({ "event": "lead", "event_id": "1", "uid": "u", "occurred_at": "2020-01-01T00:00:00Z" });
    assert_eq!(told(json!({ "destination": "meta" }), &old).await["refused"]["reason"], "expired");

    let nameless =
        told(json!({ "destination": "gold" }), &json!({ "event": "lead", "data": { "plan": "gold" } })).await;
    assert_eq!((&nameless["skipped"], &nameless["warnings"][0]["field"]), (&Value::Null, &json!("event_id")));
    assert!(nameless["request"].is_object(), "what has no identity is shown all the same: {nameless}");
}

#[tokio::test]
async fn what_is_not_understood_is_refused_and_named() {
    let daemon =
        Daemon::start(&[webhook("a", "http://127.0.0.1:9/", ""), webhook("b", "http://127.0.0.1:9/", "")].concat())
            .await;
    let lead = json!({ "event": "lead", "event_id": "1" });
    for (body, path) in [
        (json!({ "event": lead }), "$.destination"),
        (json!({ "destination": "a" }), "$.event"),
        (json!({ "destination": "a", "event": [lead] }), "$.event"),
        (json!({ "destination": "a", "event": { "event_id": "1" } }), "$.event.event"),
        (json!({ "destination": "a", "event": { "event": "lead", "event_id": "1", "value": "1,5" } }), "$.event.value"),
        (json!({ "destination": "a", "event": lead, "sorce": "app" }), "$"),
        (json!({ "destination": "a", "event": lead, "source": "nobody" }), "$.source"),
        (json!({ "destination": "a", "event": lead, "target": "\n" }), "$.target"),
        (json!([]), "$"),
    ] {
        let answer = preview(&daemon, body.clone()).await;
        assert_eq!((answer.status, &answer.json()["path"]), (422, &json!(path)), "{body}: {}", answer.text());
    }
    problem(&daemon.post("/v1/preview", "{").await, 400, "invalid_json");
    problem(&daemon.post("/v1/preview", r#"{"destination":"a","destination":"b"}"#).await, 400, "invalid_json");
    for answer in [
        preview(&daemon, json!({ "destination": "c", "event": lead })).await,
        daemon.post("/v1/destinations/c/test", "").await,
    ] {
        let said = problem(&answer, 404, "not_found");
        assert!(said["detail"].as_str().unwrap().contains("known are a, b"), "{said}");
    }
    for (body, path) in [
        (r#"{"evnt":{}}"#, "$"),
        (r#"{"event":{"event":"a b"}}"#, "$.event.event"),
        (r#"{"test_event_code":"TEST 1"}"#, "$.test_event_code"),
        (r#"{"test_event_code":"TEST1"}"#, "$.test_event_code"),
    ] {
        let answer = daemon.post("/v1/destinations/a/test", body).await;
        assert_eq!((answer.status, &answer.json()["path"]), (422, &json!(path)), "{body}: {}", answer.text());
    }
    for path in ["/v1/preview", "/v1/destinations/a/test"] {
        let answer = daemon.request("POST", path, &[("x-forwarded-for", "203.0.113.9")], b"").await;
        problem(&answer, 403, "not_local");
        assert_eq!(daemon.get(path).await.status, 405);
    }
}

#[tokio::test]
async fn a_test_shows_the_exchange_and_stays_out_of_the_books() {
    let echo = "who are you, canary-header with whsec_Y2FuYXJ5LXNpZ25pbmctc2VjcmV0?";
    let sink = Sink::start(vec![Act::Reply(Reply::new(200, "ok"))]).await;
    let gone = Sink::with_status(200).await;
    let config = [
        webhook("hook", &sink.url("/in"), &format!("{SIGNED}\ntimeout = \"300ms\"\nenabled = false")),
        webhook("down", &gone.url("/"), ""),
    ];
    drop(gone);
    let daemon = Daemon::start(&config.concat()).await;
    let before = books(&daemon).await;
    for (act, status, verdict) in [
        (Act::Reply(Reply::new(200, "ok")), Some(200), "delivered"),
        (Act::Reply(Reply::new(400, echo)), Some(400), "permanent"),
        (Act::Reply(Reply::new(401, echo).header("www-authenticate", "canary-header")), Some(401), "destination_fault"),
        (Act::Reply(Reply::new(410, "")), Some(410), "destination_fault"),
        (Act::Reply(Reply::new(429, "").header("retry-after", "60")), Some(429), "throttled"),
        (Act::Reply(Reply::new(503, "")), Some(503), "transient"),
        (Act::Hang, None, "ambiguous"),
        (Act::Reset(At::AfterRequest), None, "ambiguous"),
    ] {
        sink.set(vec![act]);
        let told = test(&daemon, "hook", "").await;
        assert_clean(&told.to_string());
        assert_eq!((told["ok"].as_bool(), &told["verdict"]), (Some(verdict == "delivered"), &json!(verdict)), "{told}");
        assert_eq!(told["response"]["status"], json!(status), "{told}");
        assert!(told["ms"].is_u64() && !told["detail"].as_str().unwrap().is_empty(), "{told}");
        assert_eq!(told["request"]["headers"]["x-key"], "[redacted]", "{told}");
        assert_eq!(told["skipped"]["reason"], "disabled", "it is sent all the same");
        match status {
            Some(429) => assert_eq!(told["response"]["headers"]["retry-after"], "60"),
            Some(401) => assert_eq!(told["response"]["headers"]["www-authenticate"], "[redacted]"),
            _ => {}
        }
    }
    let down = test(&daemon, "down", "").await;
    assert_eq!((&down["verdict"], &down["response"]), (&json!("transient"), &Value::Null), "{down}");
    assert_eq!(books(&daemon).await, before);

    let seen = sink.seen();
    let bodies: Vec<Value> = seen.iter().map(|seen| serde_json::from_slice(&seen.body).unwrap()).collect();
    for (seen, body) in seen.iter().zip(&bodies) {
        assert!(body["source_event_id"].as_str().unwrap().starts_with("test-"), "{body}");
        assert_eq!(
            (&body["data"]["test"], &body["event"], &body["uid"]),
            (&json!(true), &json!("deposit"), &json!("test-user"))
        );
        assert_eq!(seen.header("webhook-id"), body["event_id"].as_str());
        assert_eq!(seen.header("x-key"), Some("canary-header"), "the receiver gets the real thing");
    }
    for member in ["event_id", "source_event_id"] {
        let ids: std::collections::BTreeSet<String> = bodies.iter().map(|body| body[member].to_string()).collect();
        assert_eq!(ids.len(), 8, "each test has its own {member}");
    }
}

#[tokio::test]
async fn an_event_of_ones_own_is_marked_too_and_a_held_lane_is_no_obstacle() {
    let sink = Sink::with_status(401).await;
    let daemon = Daemon::start(&webhook("hook", &sink.url("/"), "events = { lead = false }")).await;
    accept(&daemon, json!({ "event": "deposit", "event_id": "trade-1" })).await;
    daemon.wait_for_status(|status| status["destinations"]["hook"]["state"] == "held").await;
    let before = books(&daemon).await;
    sink.set(vec![Act::Reply(Reply::new(200, "fine"))]);
    let own = r#"{"event":{"event":"purchase","event_id":"trade-1","value":7.10,"data":{"plan":"gold"}}}"#;
    let told = test(&daemon, "hook", own).await;
    assert_eq!(
        (&told["ok"], &told["event_id"], &told["skipped"]),
        (&json!(true), &json!("test-trade-1"), &Value::Null)
    );
    let body: Value = serde_json::from_slice(&sink.seen().last().unwrap().body).unwrap();
    assert_eq!(
        (&body["source_event_id"], &body["data"]),
        (&json!("test-trade-1"), &json!({ "plan": "gold", "test": true, "value": "7.10", "currency": "USD" }))
    );
    let asked = sink.seen().len();
    let unmapped = test(&daemon, "hook", r#"{"event":{"event":"lead"}}"#).await;
    assert_eq!(
        (&unmapped["ok"], &unmapped["refused"]["reason"], &unmapped["request"]),
        (&json!(false), &json!("unmapped"), &Value::Null)
    );
    assert_eq!(sink.seen().len(), asked, "nothing was sent");
    let after = books(&daemon).await;
    assert_eq!(after[3]["hook"]["state"], "held", "only the lane's own probe ends a hold");
    assert_eq!((&after[1], &after[2], &after[4]), (&before[1], &before[2], &before[4]));
}

#[tokio::test]
async fn meta_takes_a_test_only_under_a_test_event_code() {
    let sink = Sink::start(vec![Act::Reply(
        Reply::new(200, r#"{"events_received":1,"fbtrace_id":"x"}"#).header("x-fb-trace-id", "x"),
    )])
    .await;
    let config = [
        destination("live", "fb_capi", &sink.url(""), ""),
        destination("trying", "fb_capi", &sink.url(""), "test_event_code = \"TEST111\""),
    ];
    let daemon = Daemon::start(&config.concat()).await;
    let before = books(&daemon).await;
    let refused = problem(&daemon.post("/v1/destinations/live/test", "").await, 422, "test_event_code");
    assert!(refused["detail"].as_str().unwrap().contains("--test-event-code"), "{refused}");
    assert_eq!(sink.seen().len(), 0, "it would have counted as real");
    for (name, body, code) in [
        ("live", r#"{"test_event_code":"TEST222"}"#, "TEST222"),
        ("trying", "", "TEST111"),
        ("trying", r#"{"test_event_code":"TEST222"}"#, "TEST222"),
    ] {
        let told = test(&daemon, name, body).await;
        assert_clean(&told.to_string());
        assert_eq!((&told["ok"], &told["target"]), (&json!(true), &json!("Purchase")), "{told}");
        assert_eq!(told["response"]["headers"]["x-fb-trace-id"], "x");
        let sent: Value = serde_json::from_slice(&sink.seen().last().unwrap().body).unwrap();
        assert_eq!((&sent["test_event_code"], &sent["access_token"]), (&json!(code), &json!("canary-meta-token")));
        assert_eq!(sent["data"][0]["event_id"], told["event_id"]);
    }
    // The code of one test stays with it.
    let event = json!({ "event": "deposit", "event_id": "1", "uid": "u", "value": "5" });
    let shown = previewed(&daemon, json!({ "destination": "live", "event": event })).await;
    assert!(!shown["request"]["body"].as_str().unwrap().contains("test_event_code"), "{shown}");
    assert_eq!(books(&daemon).await, before);
}

#[tokio::test]
async fn the_command_line_shows_the_same_and_exits_by_it() {
    let sink = Sink::start(vec![Act::Reply(Reply::new(200, "fine"))]).await;
    let mut daemon =
        Daemon::start(&[network("net", &sink.url("/p")), destination("meta", "fb_capi", &sink.url(""), "")].concat())
            .await;
    let event = r#"{"event":"deposit","event_id":"trade-1","uid":"c 7","value":25.10}"#;
    let shown = daemon.cli(&["preview", "net", "-"], event).await;
    assert_eq!(shown.code, 0, "{shown:?}");
    assert_clean(&shown.out);
    let out = shown.out.replace(&sink.address.to_string(), "SINK");
    insta::assert_snapshot!(out, @r"
    deposit as deposit for net (s2s_postback), from app

    GET http://SINK/p?cid=c%207&goal=deposit&sum=25.10&txid=trade-1&key=[redacted]
    user-agent: postbackd/0.1.0
    ");
    let json = daemon.cli(&["preview", "net", "-", "--json"], event).await.json();
    let asked = json!({ "destination": "net", "event": serde_json::from_str::<Value>(event).unwrap() });
    assert_eq!(json, previewed(&daemon, asked).await);
    let nobody = daemon.cli(&["preview", "meta", "-"], r#"{"event":"deposit","event_id":"1"}"#).await;
    assert_eq!(nobody.code, 1, "no request can be made: {nobody:?}");
    assert!(nobody.out.contains("refused: invalid: user"), "{nobody:?}");
    for (words, input, code) in [
        (&["preview", "net"][..], "", 2),
        (&["preview", "net", "-"], "[1]", 2),
        (&["preview", "net", "-"], "{", 2),
        (&["preview", "net", "/nowhere"], "", 1),
        (&["preview", "nobody", "-"], event, 1),
        (&["preview", "net", "-"], r#"{"event":"a b","event_id":"1"}"#, 1),
        (&["test"], "", 2),
        (&["test", "nobody"], "", 1),
        (&["test", "meta"], "", 1),
        (&["test", "net", "--test-event-code", "TEST1"], "", 1),
    ] {
        let told = daemon.cli(words, input).await;
        assert_eq!(told.code, code, "{words:?}: {told:?}");
        assert!(!told.err.is_empty(), "{words:?}");
    }
    assert_eq!(sink.seen().len(), 0);

    let tested = daemon.cli(&["test", "net"], "").await;
    assert_eq!((tested.code, sink.seen().len()), (0, 1), "{tested:?}");
    assert_clean(&tested.out);
    assert!(tested.out.contains("\nanswer 200 in ") && tested.out.contains("\n\nfine\n"), "{}", tested.out);
    assert!(tested.out.ends_with("a real delivery would be sent\n"), "{}", tested.out);
    sink.set(vec![Act::Reply(Reply::new(500, "")), Act::Late(Duration::from_millis(50), Reply::new(200, ""))]);
    assert_eq!(daemon.cli(&["test", "net"], "").await.code, 1, "only what is delivered is a success");
    let own = daemon.cli(&["test", "net", "-", "--json"], event).await;
    assert_eq!((own.code, &own.json()["event_id"]), (0, &json!("test-trade-1")));

    daemon.kill();
    let away = daemon.cli(&["preview", "net", "-"], event).await;
    assert_eq!(away.code, 1);
    assert!(
        away.err.contains("preview shows what the running daemon would send") && away.err.contains("is it running?"),
        "{away:?}"
    );
}

#[tokio::test]
async fn check_probes_every_destination_and_sends_it_no_event() {
    let sink = Sink::with_status(500).await;
    let gone = Sink::with_status(200).await;
    let config = [
        network("net", &sink.url("/p")),
        webhook("down", &gone.url("/canary-path"), ""),
        webhook("silent", &sink.url("/in?x=canary"), "timeout = \"500ms\""),
    ];
    drop(gone);
    let daemon = Daemon::start(&config.concat()).await;
    let asked = daemon.cli(&["check"], "").await;
    assert_eq!((asked.code, sink.connections()), (0, 0), "only a probe connects: {asked:?}");
    sink.set(vec![Act::Reply(Reply::new(500, "")), Act::Hang]);
    let told = daemon.cli(&["check", "--probe", "--json"], "").await;
    assert_eq!(told.code, 0, "what cannot be reached now is no fault of the configuration: {told:?}");
    assert_clean(&told.out);
    let warnings = told.json()["warnings"].as_array().unwrap().clone();
    let mut probed = warnings.iter().filter(|warning| warning["key"].as_str().unwrap().starts_with("destinations."));
    let down = probed.next().unwrap();
    assert_eq!((&down["key"], probed.next()), (&json!("destinations.down"), None), "{warnings:?}");
    assert!(down["detail"].as_str().unwrap().starts_with("cannot be reached from here: cannot connect"), "{down}");
    let seen = sink.seen();
    assert_eq!(seen.len(), 2, "{seen:?}");
    for seen in seen {
        assert_eq!(
            (seen.method.as_str(), seen.target.as_str(), seen.body.len()),
            ("HEAD", "/", 0),
            "no event: {seen:?}"
        );
        assert_clean(&format!("{:?}", seen.headers));
    }
    let text = daemon.cli(&["check", "--probe"], "").await.out;
    assert_eq!(text.matches("  a connection to it can be opened").count(), 2, "{text}");
}

#[tokio::test]
async fn an_event_of_nobody_in_particular_is_looked_at_as_the_applications() {
    let sources = "[sources.affise]\ntoken = \"t-affise\"\npreset = \"affise\"\n";
    let sink = Sink::with_status(200).await;
    let daemon = Daemon::start(&format!("{sources}{}", webhook("hook", &sink.url("/hook"), ""))).await;
    let event = json!({ "event": "deposit", "event_id": "1", "uid": "u" });
    let shown = previewed(&daemon, json!({ "destination": "hook", "event": event })).await;
    assert_eq!(shown["source"], "app", "not the network that stands first in the alphabet");
}
