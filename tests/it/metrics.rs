//! `GET /metrics` (SPEC 6, 8.1): the contracted series, true to the books.

use crate::support::daemon::Daemon;
use crate::support::desk::{accept, deposit, settled, webhook};
use crate::support::reload::{save, text};
use crate::support::sink::Sink;

/// The value of the sample that begins with `series`.
fn sample(text: &str, series: &str) -> f64 {
    let line = text.lines().find(|line| line.strip_prefix(series).is_some_and(|rest| rest.starts_with(' ')));
    let line = line.unwrap_or_else(|| panic!("{series} is not in\n{text}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn the_series_say_what_the_books_say() {
    let (good, bad) = (Sink::with_status(200).await, Sink::with_status(400).await);
    let config = [webhook("good", &good.url("/"), ""), webhook("bad", &bad.url("/"), "")].concat();
    let daemon = Daemon::start(&config).await;
    accept(&daemon, serde_json::json!({ "event": "deposit", "event_id": "1", "uid": "u" })).await;
    daemon.post("/v1/events", r#"{"event":"deposit","event_id":"1","uid":"u"}"#).await;
    daemon.post("/v1/events", r#"{"event":"deposit","event_id":"1","uid":"u","value":"9"}"#).await;
    daemon.post("/v1/events", r#"{"event":"bad name"}"#).await;
    settled(&daemon, &[("sent", 1), ("failed_permanently", 1)]).await;
    // What is refused is counted after it was answered.
    daemon.wait_for_status(|status| status["events"]["rejected"] == 1).await;
    let answer = daemon.get("/metrics").await;
    assert_eq!(answer.status, 200);
    assert!(answer.header("content-type").unwrap().starts_with("application/openmetrics-text"), "{}", answer.head);
    let text = answer.text();
    for (series, value) in [
        ("postbackd_deliveries{destination=\"good\",status=\"sent\"}", 1.0),
        ("postbackd_deliveries{destination=\"bad\",status=\"failed_permanently\"}", 1.0),
        ("postbackd_deliveries{destination=\"bad\",status=\"pending\"}", 0.0),
        ("postbackd_events_total{source=\"app\",outcome=\"queued\"}", 1.0),
        ("postbackd_events_total{source=\"app\",outcome=\"duplicate\"}", 1.0),
        ("postbackd_events_total{source=\"app\",outcome=\"conflict\"}", 1.0),
        ("postbackd_events_total{source=\"app\",outcome=\"rejected\"}", 1.0),
        ("postbackd_attempts_total{destination=\"good\",verdict=\"delivered\"}", 1.0),
        ("postbackd_attempts_total{destination=\"bad\",verdict=\"permanent\"}", 1.0),
        ("postbackd_exchange_seconds_count{destination=\"good\"}", 1.0),
        ("postbackd_delivery_seconds_count{destination=\"good\"}", 1.0),
        ("postbackd_destination_state{destination=\"good\",state=\"active\"}", 1.0),
        ("postbackd_destination_state{destination=\"good\",state=\"held\"}", 0.0),
        ("postbackd_config_ok", 1.0),
    ] {
        assert!((sample(&text, series) - value).abs() < f64::EPSILON, "{series} is not {value}\n{text}");
    }
    assert!(sample(&text, "postbackd_commit_seconds_count") >= 1.0);
    assert!(sample(&text, "postbackd_store_bytes") > 0.0);
    assert!(text.ends_with("# EOF\n"), "{text}");
    assert!(!text.contains("deposit"), "labels come from the configuration only");
}

#[tokio::test]
async fn the_state_of_a_destination_that_has_gone_is_told_on() {
    let sink = Sink::with_status(401).await;
    let daemon = Daemon::start("").await;
    let without = text(&daemon);
    save(&daemon, &(without.clone() + &webhook("goes", &sink.url("/"), ""))).await;
    deposit(&daemon, "1").await;
    daemon.wait_for_status(|status| status["destinations"]["goes"]["state"] == "held").await;
    save(&daemon, &without).await;
    let holds = async |wanted: &str| {
        daemon.wait_for_status(|status| status["destinations"]["goes"]["state"] == wanted).await;
        let text = daemon.get("/metrics").await.text();
        let of =
            |line: &&str| line.starts_with("postbackd_destination_state{destination=\"goes\",") && line.ends_with(" 1");
        let lines: Vec<_> = text.lines().filter(of).collect();
        assert!(matches!(*lines, [only] if only.contains(&format!("state=\"{wanted}\""))), "{lines:?}");
    };
    holds("orphaned").await;
    assert_eq!(daemon.post("/v1/destinations/goes/purge", "{\"reason\":\"left us\"}").await.status, 200);
    holds("removed").await;
}

// Row 65: the metric.
#[tokio::test]
async fn a_refused_configuration_shows_in_the_metrics() {
    let daemon = Daemon::start("").await;
    let good = std::fs::read_to_string(daemon.config()).unwrap();
    std::fs::write(daemon.config(), "[server").unwrap();
    daemon.post("/v1/reload", "").await;
    assert!(sample(&daemon.get("/metrics").await.text(), "postbackd_config_ok").abs() < f64::EPSILON);
    std::fs::write(daemon.config(), good).unwrap();
    assert_eq!(daemon.post("/v1/reload", "").await.status, 200);
    assert!(sample(&daemon.get("/metrics").await.text(), "postbackd_config_ok") > 0.5);
}
