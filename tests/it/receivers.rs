//! Receivers that are unwell, against the whole daemon: what becomes of the delivery, what of the lane, and what is shown
//! of it.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::daemon::{Daemon, TOKEN, free_port};
use crate::support::desk::{SLOW, delivery, deposit, destination, settled, webhook};
use crate::support::sink::{Act, At, Reply, Sink};
use crate::support::tls::TlsFront;

// Row 39: one destination that hangs, one that is down, and the deliveries to the third do not wait for them.
#[tokio::test]
async fn a_dead_destination_delays_no_other() {
    let (hanging, good) = (Sink::start(vec![Act::Hang]).await, Sink::with_status(200).await);
    let config = [
        webhook("hanging", &hanging.url("/"), "timeout = \"20s\""),
        webhook("down", &format!("http://127.0.0.1:{}/", free_port()), SLOW),
        webhook("good", &good.url("/"), ""),
    ];
    let daemon = Daemon::start(&config.concat()).await;
    for n in 0..40 {
        deposit(&daemon, &n.to_string()).await;
        let arrived = tokio::time::timeout(Duration::from_secs(5), good.wait_for(n + 1)).await;
        assert!(arrived.is_ok(), "the delivery of event {n} waits");
    }
    let status = daemon.wait_for_status(|status| status["destinations"]["good"]["counts"]["sent"] == 40).await;
    assert_eq!(status["destinations"]["hanging"]["counts"]["sent"], 0);
    assert!(!hanging.seen().is_empty());
}

/// What a status makes of delivery and lane.
struct Case {
    name: &'static str,
    reply: Reply,
    status: &'static str,
    reason: Value,
    lane: &'static str,
}

fn table(elsewhere: &Sink) -> Vec<Case> {
    let case = |name, reply, status, reason, lane| Case { name, reply, status, reason, lane };
    let said = |status| Reply::new(status, "said");
    let patient = |status, text: &str| Reply::new(status, "").header("retry-after", text);
    let dead = || json!("permanent");
    let mut table = vec![
        case("ok", said(200), "sent", Value::Null, "active"),
        case("empty", Reply::new(204, ""), "sent", Value::Null, "active"),
        case("unauthorized", said(401), "pending", Value::Null, "held"),
        case("forbidden", said(403), "pending", Value::Null, "held"),
        case("gone", said(410), "pending", Value::Null, "paused"),
        case("early", said(425), "failed", json!("transient"), "active"),
        case("sane", patient(429, "7200"), "failed", json!("throttled"), "throttled"),
        case("absurd", patient(429, "99999999999999999999"), "failed", json!("throttled"), "throttled"),
        case("dated", patient(503, "Fri, 31 Dec 2099 23:59:59 GMT"), "failed", json!("throttled"), "throttled"),
        case("negative", patient(429, "-5"), "failed", json!("throttled"), "throttled"),
        case("garbage", patient(503, "soon"), "failed", json!("transient"), "active"),
    ];
    for (name, status) in [("r301", 301), ("r302", 302), ("r303", 303), ("r307", 307), ("r308", 308)] {
        let to = Reply::new(status, "").header("location", &elsewhere.url("/"));
        table.push(case(name, to, "failed_permanently", dead(), "active"));
    }
    for (name, status) in [("r400", 400), ("r404", 404), ("r413", 413), ("r415", 415), ("r422", 422)] {
        table.push(case(name, said(status), "failed_permanently", dead(), "active"));
    }
    table
}

// Rows 48, 49 and 50: every status has its class, and only its own lane feels it.
#[tokio::test]
async fn every_status_does_to_delivery_and_lane_what_its_class_says() {
    let elsewhere = Sink::with_status(200).await;
    let table = table(&elsewhere);
    let (mut config, mut sinks) = (String::new(), Vec::new());
    for case in &table {
        let sink = Sink::start(vec![Act::Reply(case.reply.clone())]).await;
        config += &webhook(case.name, &sink.url("/"), SLOW);
        sinks.push(sink);
    }
    let daemon = Daemon::start(&config).await;
    deposit(&daemon, "1").await;
    let reached = |status: &Value| {
        let is = |case: &Case| status["destinations"][case.name]["state"] == case.lane;
        table.iter().all(is)
            && status["balance"]["sent"] == 2
            && status["balance"]["failed_permanently"] == 10
            && status["balance"]["failed"] == 6
    };
    let status = daemon.wait_for_status(reached).await;
    for case in &table {
        let found = delivery(&daemon, "1", case.name).await;
        assert_eq!((&found["status"], &found["reason"]), (&json!(case.status), &case.reason), "{}: {found}", case.name);
        let spent = u64::from(case.lane != "held" && case.lane != "paused");
        assert_eq!(found["attempt_count"], spent, "{}: {found}", case.name);
        if (300..400).contains(&case.reply.status) {
            let detail = found["detail"].as_str().unwrap();
            assert!(detail.contains("redirect") && detail.contains(&elsewhere.url("/")), "{detail}");
        }
        let waits = &status["destinations"][case.name]["until"];
        let seconds = waits.as_str().map(|until| seconds_between(found["attempts"][0]["at"].as_str().unwrap(), until));
        match case.name {
            "sane" => assert!(seconds.is_some_and(|wait| (7200..7260).contains(&wait)), "{seconds:?}"),
            "absurd" | "dated" => assert!(seconds.is_some_and(|wait| (86_400..86_460).contains(&wait)), "{seconds:?}"),
            "negative" => assert!(seconds.is_some_and(|wait| (2800..4400).contains(&wait)), "{seconds:?}"),
            _ => {}
        }
    }
    assert_eq!(elsewhere.connections(), 0, "no redirect is followed");
    assert!(sinks.iter().all(|sink| sink.seen().len() == 1), "each was asked once");
}

fn seconds_between(from: &str, to: &str) -> u64 {
    let at = |text| postbackd::domain::time::UnixMs::parse_rfc3339(text).unwrap().0;
    (at(to) - at(from)) / 1000
}

// Row 47: a 200 is believed only with the words that mean success.
#[tokio::test]
async fn a_captive_page_with_status_200_is_no_success() {
    let page = Reply::new(200, "<html><body>Please log in</body></html>").header("content-type", "text/html");
    let (meta, network) =
        (Sink::start(vec![Act::Reply(page.clone())]).await, Sink::start(vec![Act::Reply(page)]).await);
    let config = [
        destination("meta", "fb_capi", &meta.url(""), SLOW),
        destination("network", "s2s_postback", &network.url("/"), "success_pattern = \"success=true\""),
    ];
    let daemon = Daemon::start(&config.concat()).await;
    deposit(&daemon, "1").await;
    let status = daemon.wait_for_status(|status| status["balance"]["pending"] == 0).await;
    assert_eq!(status["balance"]["sent"], 0, "{:#}", status["balance"]);
    for (name, becomes) in [("meta", "failed"), ("network", "failed_permanently")] {
        let found = delivery(&daemon, "1", name).await;
        assert_eq!(found["status"], becomes, "{name}: {found}");
        assert!(found["attempts"][0]["response"].as_str().unwrap().contains("Please log in"), "{name}: {found}");
    }
}

// Row 44: whatever is wrong with a certificate, nothing is sent, the delivery is tried again, and the reason is told.
#[tokio::test]
async fn a_certificate_that_cannot_be_believed_is_never_overlooked() {
    let sink = Sink::with_status(200).await;
    let fronts = [
        ("expired", "expired", TlsFront::with(include_bytes!("fixtures/expired.pem"), sink.address).await),
        (
            "elsewhere",
            "not valid for name",
            TlsFront::with(include_bytes!("fixtures/elsewhere.pem"), sink.address).await,
        ),
        (
            "self-signed",
            "UnknownIssuer",
            TlsFront::with(include_bytes!("fixtures/self-signed.pem"), sink.address).await,
        ),
    ];
    let quick = "retry = { first = \"50ms\", max_delay = \"100ms\", max_attempts = 0 }\nbreaker = false";
    let mut config = String::new();
    for (name, _, front) in &fronts {
        config += &webhook(name, &format!("https://localhost:{}/", front.address.port()), quick);
    }
    let good = TlsFront::start(sink.address).await;
    config += &webhook("good", &format!("https://localhost:{}/", good.address.port()), "");
    let daemon = Daemon::start(&config).await;
    deposit(&daemon, "1").await;
    settled(&daemon, &[("sent", 1), ("failed", 3)]).await;
    for (name, words, _) in &fronts {
        let started = std::time::Instant::now();
        let found = loop {
            let found = delivery(&daemon, "1", name).await;
            if found["attempt_count"].as_u64().unwrap() >= 2 {
                break found;
            }
            assert!(started.elapsed() < Duration::from_secs(30), "it is tried again: {found}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        assert_eq!((&found["status"], &found["reason"]), (&json!("failed"), &json!("tls")), "{name}: {found}");
        assert!(found["attempts"][0]["response"].as_str().unwrap().contains(words), "{name}: {found}");
        let last = daemon.get("/status").await.json()["destinations"][*name]["last_error"].clone();
        assert!(last["reason"] == "tls" && last["message"].as_str().unwrap().contains(words), "{name}: {last}");
    }
    assert_eq!(sink.seen().len(), 1, "only the good one came through");
}

// Row 46: without CA certificates events are still taken, nothing is sent over TLS and no attempt is spent, the status and
// `check` say so from the start, and what waited is sent once they are there, without a restart.
#[tokio::test]
async fn without_ca_certificates_https_waits_and_the_rest_goes_on() {
    let sink = Sink::with_status(200).await;
    let front = TlsFront::start(sink.address).await;
    let config = [
        webhook("tls", &format!("https://localhost:{}/", front.address.port()), SLOW),
        webhook("plain", &sink.url("/"), ""),
        webhook("off", "https://localhost/", "enabled = false"),
    ];
    let mut daemon = Daemon::prepare("", &config.concat());
    let bundle = daemon.path("bundle.pem");
    daemon.set_env("SSL_CERT_FILE", bundle.display().to_string());
    daemon.set_env("SSL_CERT_DIR", daemon.path("none").display().to_string());
    for name in ["missing", "empty"] {
        if name == "empty" {
            std::fs::write(&bundle, "").unwrap();
        }
        daemon.restart().await;
        let status = daemon.get("/status").await.json();
        let reasons = status["reasons"].as_array().unwrap();
        let told = |name: &str| reasons.iter().filter(|why| why.as_str().unwrap().contains(name)).count();
        assert_eq!(status["state"], "degraded", "{name}: before anything was sent");
        assert_eq!(told("nothing can be sent to tls: this system has no CA certificates"), 1, "{reasons:?}");
        assert_eq!(told("plain") + told("off"), 0, "{reasons:?}");
        let env = [("SSL_CERT_FILE", bundle.to_str().unwrap()), ("SSL_CERT_DIR", "/nonexistent")];
        let check = daemon.cli_with(&["check"], "", &env).await;
        assert_eq!(check.code, 1, "{check:?}");
        assert!(
            check.out.contains("destinations.tls: nothing can be sent") && !check.out.contains("plain: nothing"),
            "{check:?}"
        );
        deposit(&daemon, name).await;
        let held = daemon.wait_for_status(|status| status["destinations"]["tls"]["state"] == "held").await;
        assert!(held["destinations"]["tls"]["reason"].as_str().unwrap().contains("ca-certificates"), "{held}");
        let waits = delivery(&daemon, name, "tls").await;
        assert_eq!((&waits["status"], &waits["attempt_count"]), (&json!("pending"), &json!(0)), "{waits}");
        daemon.kill();
    }
    daemon.restart().await;
    daemon.wait_for_status(|status| status["destinations"]["tls"]["state"] == "held").await;
    assert_eq!(daemon.cli(&["check"], "").await.code, 0, "with a bundle it is well");
    std::fs::copy(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/fixtures/ca.pem"), &bundle).unwrap();
    assert_eq!(daemon.post("/v1/destinations/tls/release", "").await.status, 200);
    settled(&daemon, &[("pending", 0), ("sent", 4)]).await;
    daemon.wait_for_status(|status| status["state"] == "ok").await;
}

// Row 54: ten megabytes of control characters with a secret at every bound where something is cut.
#[tokio::test]
async fn an_answer_of_any_size_is_stored_short_printable_and_without_secrets() {
    const SECRET: &str = "canary-0123456789";
    let mut body = b"\x1b[2J\x00\xff".to_vec();
    for bound in [240, 512, 1024, 2048, 4096, 65_536] {
        // Its first bytes become letters of three bytes, which moves the rest by six.
        body.resize(bound - 14, b'.');
        body.extend(SECRET.as_bytes());
    }
    body.resize(10 << 20, b'\x07');
    let sink = Sink::start(vec![Act::Reply(Reply::new(400, body).header("server", SECRET))]).await;
    let secret = format!("headers = {{ \"X-Key\" = \"{SECRET}\" }}");
    let daemon = Daemon::start(&webhook("hook", &sink.url("/"), &secret)).await;
    let event = deposit(&daemon, "1").await;
    settled(&daemon, &[("failed_permanently", 1)]).await;
    let (trace, dlq) = (daemon.get(&format!("/v1/events/{event}")).await, daemon.get("/v1/dlq").await);
    for answer in [&trace, &dlq] {
        let text = answer.text();
        assert!(!text.contains("canar"), "{text}");
        assert!(text.len() < 32 * 1024, "{} bytes", text.len());
    }
    let response = dlq.json()["entries"][0]["response"]["body"].as_str().unwrap().to_owned();
    assert!((1000..=4096).contains(&response.len()) && response.contains("[redacted]"), "{response}");
    assert!(!response.contains(|letter: char| letter.is_control()), "{response}");
    let exported = daemon.cli(&["dlq", "export"], "").await;
    assert!(!exported.out.contains("canar") && !exported.out.contains('\x1b'), "{exported:?}");
}

// Row 72: every failure that has a text, with secrets at every place a configuration has for them.
#[tokio::test]
async fn no_secret_of_a_destination_is_shown_anywhere() {
    let reset = Sink::start(vec![Act::Reset(At::AfterRequest)]).await;
    let refusing = Sink::start(vec![Act::Reply(Reply::new(400, "canary-header and canary-in-url"))]).await;
    let held = Sink::start(vec![Act::Reply(Reply::new(401, "not Y2FuYXJ5LXNpZ25pbmctc2VjcmV0"))]).await;
    let meta = Sink::start(vec![Act::Reply(Reply::new(400, "bad token canary-meta-token"))]).await;
    let front = TlsFront::with(include_bytes!("fixtures/expired.pem"), refusing.address).await;
    let port = free_port();
    let hook = |name: &str, url: &str| {
        format!(
            "[destinations.{name}]\nkind = \"webhook\"\nurl = {{ value = \"{url}?key=canary-in-url\" }}\n\
             allow_private = true\nheaders = {{ \"X-Key\" = \"canary-header\" }}\n\
             signing_secrets = [\"whsec_Y2FuYXJ5LXNpZ25pbmctc2VjcmV0\"]\n{SLOW}\n"
        )
    };
    let config = [
        hook("down", &format!("http://127.0.0.1:{port}/")),
        hook("nowhere", "http://nothing.invalid/"),
        hook("reset", &reset.url("/")),
        hook("refusing", &refusing.url("/")),
        hook("held", &held.url("/")),
        hook("tls", &format!("https://localhost:{}/", front.address.port())),
        hook("private", "http://localhost:1/").replace("allow_private = true", "allow_private = [\"10.0.0.0/8\"]"),
        destination("meta", "fb_capi", &meta.url(""), ""),
    ];
    let mut daemon = Daemon::prepare("admin_token = \"canary-admin\"", &config.concat());
    let log = daemon.path("log");
    daemon.set_log_from("trace", log.clone());
    daemon.restart().await;
    let event = deposit(&daemon, "1").await;
    let admin = [("authorization", "Bearer canary-admin")];
    let started = std::time::Instant::now();
    loop {
        let trace = daemon.request("GET", &format!("/v1/events/{event}"), &admin, b"").await.json();
        let tried = |delivery: &Value| !delivery["attempts"].as_array().unwrap().is_empty();
        if trace["deliveries"].as_array().unwrap().iter().all(tried) {
            break;
        }
        assert!(started.elapsed() < Duration::from_secs(30), "{trace:#}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let mut shown = String::new();
    for path in
        ["/status", "/status?format=text", "/v1/deliveries", "/v1/dlq", &format!("/v1/events/{event}"), "/readyz"]
    {
        shown += &daemon.request("GET", path, &admin, b"").await.text();
    }
    let told: [&[&str]; 6] =
        [&["check"], &["check", "--probe"], &["status"], &["deliveries"], &["event", "1"], &["dlq", "export"]];
    for words in told {
        let said = daemon.cli(words, "").await;
        shown += &(said.out + &said.err);
    }
    daemon.kill();
    let log = std::fs::read_to_string(log).unwrap();
    assert!(shown.contains("Connection refused") && log.contains("DEBUG"), "{shown}\n{log}");
    for text in [&shown, &log] {
        let leak = |line: &&str| line.contains("canary") || line.contains("Y2FuYXJ5") || line.contains(TOKEN);
        assert_eq!(text.lines().find(leak), None);
    }
}
