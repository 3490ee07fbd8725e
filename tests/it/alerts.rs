//! Alerts over the real binary: what a person is told, by every kind of channel, whatever another channel does.

use std::time::Duration;

use serde_json::Value;

use crate::support::daemon::Daemon;
use crate::support::desk::{deposit, webhook};
use crate::support::proxy::{Manner, Proxy};
use crate::support::reload::{save, text};
use crate::support::sink::{Act, Reply, Sink};
use crate::support::smtp::{self, MailServer};

/// Looks often, and a problem is over soon.
const FAST: &str = "[alerts]\nevery = \"50ms\"\nsettle = \"200ms\"\n";

fn channel(name: &str, kind: &str, more: &str) -> String {
    format!("[alerts.channels.{name}]\nkind = \"{kind}\"\nallow_private = true\ntimeout = \"1s\"\n{more}\n")
}

fn hook(name: &str, sink: &Sink, shape: &str) -> String {
    channel(name, "webhook", &format!("url = \"{}\"\nshape = \"{shape}\"", sink.url("/hook-canary")))
}

fn json(body: &[u8]) -> Value {
    serde_json::from_slice(body).unwrap()
}

/// A destination that refuses our credentials, probed often.
fn held(sink: &Sink) -> String {
    webhook("crm", &sink.url("/"), "hold_probe = \"300ms\"")
}

#[tokio::test]
async fn a_held_destination_is_told_once_and_its_recovery_too() {
    let (crm, ops) = (Sink::with_status(401).await, Sink::with_status(200).await);
    let mut daemon = Daemon::start(&[FAST, &held(&crm), &hook("ops", &ops, "json")].concat()).await;
    deposit(&daemon, "1").await;
    let first = json(&ops.wait_for(1).await[0].body);
    assert_eq!((first["kind"].as_str(), first["id"].as_str()), (Some("problem"), Some("crm/down")));
    assert_eq!((first["rule"].as_str(), first["severity"].as_str()), (Some("held"), Some("critical")));
    assert_eq!(first["title"], "ALERT: crm is held");
    assert!(first["todo"].as_str().unwrap().contains("postbackd release crm"), "{first}");
    assert!(!first.to_string().contains("a@b.example"), "no personal data: {first}");
    let status = daemon.get("/status").await.json();
    assert_eq!(status["alerts"]["open"][0]["id"], "crm/down", "{status:#}");
    assert_eq!(status["state"], "degraded");
    let table = daemon.cli(&["status"], "").await.out;
    assert!(table.contains("alert    critical: crm is held"), "{table}");
    let page = daemon.get("/").await.text();
    assert!(page.contains("<li class=\"a-critical\"><strong>crm is held</strong>"), "{page}");
    let metrics = daemon.get("/metrics").await.text();
    assert!(metrics.contains("postbackd_alerts_open{rule=\"held\"} 1\n"), "{metrics}");
    assert!(metrics.contains("postbackd_alert_messages_total{channel=\"ops\",outcome=\"sent\"} 1\n"), "{metrics}");
    // It is told already, also to a new process; and the hold is met anew there.
    daemon.terminate();
    daemon.restart().await;
    daemon.wait_for_status(|status| status["destinations"]["crm"]["state"] == "held").await;
    crm.set(vec![Act::Reply(Reply::new(200, ""))]);
    let second = json(&ops.wait_for(2).await[1].body);
    assert_eq!((second["kind"].as_str(), second["id"].as_str()), (Some("recovered"), Some("crm/down")), "{second}");
    let over = |status: &Value| {
        let alerts = &status["alerts"];
        alerts["open"] == serde_json::json!([]) && alerts["channels"]["ops"]["last_success"].is_string()
    };
    daemon.wait_for_status(over).await;
    assert_eq!(ops.seen().len(), 2);
}

#[tokio::test]
async fn what_nobody_watches_any_more_is_told_as_closed_and_not_as_recovered() {
    let (crm, ops) = (Sink::with_status(401).await, Sink::with_status(200).await);
    let daemon = Daemon::start(&[FAST, &held(&crm), &hook("ops", &ops, "json")].concat()).await;
    deposit(&daemon, "1").await;
    ops.wait_for(1).await;
    daemon.cli(&["pause", "crm", "--reason", "we call them"], "").await;
    let closed = json(&ops.wait_for(2).await[1].body);
    assert_eq!((closed["kind"].as_str(), closed["id"].as_str()), (Some("closed"), Some("crm/down")), "{closed}");
    assert!(
        closed["text"].as_str().unwrap().starts_with("No longer watched: crm is paused by an operator."),
        "{closed}"
    );
    daemon.cli(&["resume", "crm"], "").await;
    assert_eq!(json(&ops.wait_for(3).await[2].body)["kind"], "problem", "it was not mended");
    // Taken out while it is owed something, it is the same problem in another form; purged, it is over.
    let all = text(&daemon);
    let (before, rest) = all.split_once("[destinations.crm]").unwrap();
    let without = format!("{before}{}", rest.split_once("[alerts.channels").map_or("", |(_, rest)| rest));
    save(&daemon, &without.replacen(".ops]", "[alerts.channels.ops]", 1)).await;
    daemon.wait_for_status(|status| status["alerts"]["open"][0]["rule"] == "orphaned").await;
    let listed = daemon.cli(&["alerts", "list"], "").await.out;
    assert!(listed.contains("postbackd purge crm --reason TEXT"), "{listed}");
    daemon.cli(&["purge", "crm", "--reason", "they are gone"], "").await;
    assert_eq!(json(&ops.wait_for(4).await[3].body)["kind"], "recovered");
}

#[tokio::test]
async fn a_restart_tells_nothing_of_a_destination_that_is_paused() {
    let (crm, ops) = (Sink::with_status(400).await, Sink::with_status(200).await);
    let rules = "[alerts.rules]\nsuccess_rate = { min_attempts = 1 }\ndlq_growth = false\nfailures_in_row = false\n";
    let config = [FAST, rules, &webhook("crm", &crm.url("/"), ""), &hook("ops", &ops, "json")];
    let mut daemon = Daemon::start(&config.concat()).await;
    deposit(&daemon, "1").await;
    assert_eq!(json(&ops.wait_for(1).await[0].body)["id"], "crm/rate");
    daemon.cli(&["pause", "crm", "--reason", "we call them"], "").await;
    assert_eq!(json(&ops.wait_for(2).await[1].body)["kind"], "closed");
    daemon.terminate();
    daemon.restart().await;
    // Whoever looks first must know it already.
    assert_eq!(daemon.get("/status").await.json()["destinations"]["crm"]["state"], "paused");
    daemon.edit("[destinations.crm]", "[destinations.crm]\nurll = 1");
    assert_eq!(json(&ops.wait_for(3).await[2].body)["id"], "config");
}

#[tokio::test]
async fn slack_discord_and_telegram_get_their_own_shapes() {
    let sinks = [Sink::with_status(200).await, Sink::with_status(204).await, Sink::with_status(200).await];
    let [slack, discord, telegram] = &sinks;
    let bot = format!("bot_token = \"123:canary-bot\"\nchat_id = -100123\nbase_url = \"{}\"", telegram.url(""));
    let config =
        [hook("slack", slack, "slack"), hook("discord", discord, "discord"), channel("phone", "telegram", &bot)];
    let daemon = Daemon::start(&config.concat()).await;
    let said = daemon.cli(&["alerts", "test"], "").await;
    assert_eq!((said.code, said.out.as_str()), (0, "discord: took it\nphone: took it\nslack: took it\n"), "{said:?}");
    let kept = daemon.get("/v1/audit").await.json()["deeds"][0].clone();
    let kept = ["action", "target", "result"].map(|member| kept[member].clone());
    assert_eq!(
        kept.map(|member| member.as_str().unwrap_or_default().to_owned()),
        ["alerts test", "", "3 of 3 took it"]
    );
    let [slack, discord, telegram] = sinks.each_ref().map(|sink| sink.seen().remove(0));
    assert!(json(&slack.body)["text"].as_str().unwrap().contains("a test of alerts"));
    let body = json(&discord.body);
    assert!(body["content"].as_str().unwrap().starts_with("postbackd: a test of alerts\n"));
    assert_eq!(body["allowed_mentions"]["parse"], serde_json::json!([]));
    assert_eq!((telegram.method.as_str(), telegram.target.as_str()), ("POST", "/bot123:canary-bot/sendMessage"));
    let body = json(&telegram.body);
    assert_eq!(body["chat_id"], "-100123");
    assert!(body["text"].as_str().unwrap().contains("a test of alerts"));
}

#[tokio::test]
async fn a_test_that_is_refused_says_why_and_exits_1() {
    let telegram = Sink::start(vec![Act::Reply(Reply::new(
        401,
        r#"{"ok":false,"error_code":401,"description":"Unauthorized bot123:canary-bot"}"#,
    ))])
    .await;
    let bot = format!("bot_token = \"123:canary-bot\"\nchat_id = \"1\"\nbase_url = \"{}\"", telegram.url(""));
    let daemon = Daemon::start(&channel("phone", "telegram", &bot)).await;
    let said = daemon.cli(&["alerts", "test", "phone"], "").await;
    assert_eq!(said.code, 1);
    assert!(
        said.out.starts_with("phone: did not take it: HTTP 401: ") && said.out.contains("Unauthorized"),
        "{said:?}"
    );
    let listed = daemon.cli(&["alerts", "list"], "").await.out;
    assert!(listed.starts_with("nothing is wrong\n") && listed.contains("Unauthorized"), "{listed}");
    assert!(!format!("{said:?}{listed}").contains("canary"), "{said:?}{listed}");
    let unknown = daemon.cli(&["alerts", "test", "nobody"], "").await;
    assert!(unknown.code == 1 && unknown.err.contains("[alerts.channels.nobody]"), "{unknown:?}");
    let none = Daemon::start("").await.cli(&["alerts", "test"], "").await;
    assert!(none.code == 1 && none.err.contains("no channel is configured"), "{none:?}");
}

#[tokio::test]
async fn a_messenger_that_asks_for_patience_is_asked_again_after_it_and_no_sooner() {
    let crm = Sink::with_status(401).await;
    let telegram = r#"{"ok":false,"error_code":429,"description":"Too Many Requests: retry after 2","parameters":{"retry_after":2}}"#;
    let discord = r#"{"message":"You are being rate limited.","retry_after":1.25,"global":false}"#;
    let asks = [
        Reply::new(429, telegram),
        Reply::new(429, "rate_limited").header("retry-after", "2"),
        Reply::new(429, discord),
    ];
    let mut sinks = Vec::new();
    for asks in asks {
        sinks.push(Sink::start(vec![Act::Reply(asks), Act::Reply(Reply::new(200, "ok"))]).await);
    }
    let bot = format!("bot_token = \"123:canary-bot\"\nchat_id = 5\nbase_url = \"{}\"", sinks[0].url(""));
    let channels =
        [channel("phone", "telegram", &bot), hook("slack", &sinks[1], "slack"), hook("discord", &sinks[2], "discord")];
    let daemon = Daemon::start(&[FAST, &held(&crm), &channels.concat()].concat()).await;
    deposit(&daemon, "1").await;
    for sink in &sinks {
        sink.wait_for(1).await;
    }
    let asked = std::time::Instant::now();
    for sink in &sinks {
        let seen = sink.wait_for(2).await;
        assert_eq!(seen[0].body, seen[1].body, "the same message");
        // By itself it would have been asked after one second.
        assert!(asked.elapsed() > Duration::from_millis(1800), "after {:?}", asked.elapsed());
    }
    let status = daemon.wait_for_status(|status| status["alerts"]["channels"]["phone"]["sent"] == 1).await;
    let error = &status["alerts"]["channels"]["phone"]["last_error"]["message"];
    assert!(error.as_str().unwrap().starts_with("HTTP 429: "), "{error}");
}

#[tokio::test]
async fn mail_goes_through_smtp() {
    let server = MailServer::start(smtp::Manner::default()).await;
    let mail = format!(
        "host = \"127.0.0.1\"\nport = {}\ntls = \"none\"\nfrom = \"postbackd@example.com\"\nto = [\"a@example.com\", \"b@example.com\"]",
        server.port
    );
    let crm = Sink::with_status(401).await;
    let daemon = Daemon::start(&[FAST, &held(&crm), &channel("mail", "email", &mail)].concat()).await;
    deposit(&daemon, "1").await;
    let heard = server.wait_for_mail().await;
    for part in [
        "MAIL FROM:<postbackd@example.com>",
        "RCPT TO:<a@example.com>",
        "RCPT TO:<b@example.com>",
        "Subject: postbackd: ALERT: crm is held",
        "To do: ",
    ] {
        assert!(heard.contains(part), "{part} is not in\n{heard}");
    }
    let status =
        daemon.wait_for_status(|status| status["alerts"]["channels"]["mail"]["last_success"].is_string()).await;
    assert_eq!(status["alerts"]["channels"]["mail"]["kind"], "email");
}

#[tokio::test]
async fn a_dead_channel_delays_no_other_and_is_shown() {
    let (crm, ops) = (Sink::with_status(401).await, Sink::with_status(200).await);
    let dead = Sink::start(vec![Act::Hang]).await;
    let dead_hook = hook("adead", &dead, "json").replace("timeout = \"1s\"", "timeout = \"10m\"");
    let daemon = Daemon::start(&[FAST, &held(&crm), &dead_hook, &hook("ops", &ops, "json")].concat()).await;
    deposit(&daemon, "1").await;
    ops.wait_for(1).await;
    crm.set(vec![Act::Reply(Reply::new(200, ""))]);
    let seen = ops.wait_for(2).await;
    assert_eq!(json(&seen[1].body)["kind"], "recovered", "while the other still waits for its first answer");
    assert_eq!(dead.seen().len(), 1);
    // Corrected, it is sent what waits.
    let mended = text(&daemon).replace(&dead.url("/hook-canary"), &ops.url("/mended"));
    let refused = Sink::with_status(500).await;
    save(&daemon, &mended.replace(&ops.url("/mended"), &refused.url("/"))).await;
    let said = daemon.cli(&["alerts", "test", "adead"], "").await;
    assert!(said.code == 1 && said.out.contains("HTTP 500"), "{said:?}");
    let table = daemon.cli(&["status"], "").await.out;
    assert!(table.contains("alerts   adead failed at "), "{table}");
}

#[tokio::test]
async fn what_no_channel_has_taken_outlives_the_process_and_is_told_in_its_order() {
    let (crm, ops) = (Sink::with_status(401).await, Sink::with_status(500).await);
    let mut daemon = Daemon::start(&[FAST, &held(&crm), &hook("ops", &ops, "json")].concat()).await;
    deposit(&daemon, "1").await;
    let waits = |wanted: u64| move |status: &Value| status["alerts"]["channels"]["ops"]["waiting"] == wanted;
    daemon.wait_for_status(waits(1)).await;
    daemon.terminate();
    daemon.restart().await;
    daemon.wait_for_status(|status| status["destinations"]["crm"]["state"] == "held").await;
    crm.set(vec![Act::Reply(Reply::new(200, ""))]);
    daemon.wait_for_status(waits(2)).await;
    daemon.kill();
    let before = ops.seen().len();
    ops.set(vec![Act::Reply(Reply::new(200, ""))]);
    daemon.restart().await;
    let seen = ops.wait_for(before + 2).await;
    let told = seen[before..].iter().map(|seen| json(&seen.body)["kind"].as_str().unwrap().to_owned());
    assert_eq!(told.collect::<Vec<_>>(), ["problem", "recovered"]);
    daemon.wait_for_status(waits(0)).await;
    // What was taken is not told again.
    daemon.terminate();
    daemon.restart().await;
    daemon.edit("[destinations.crm]", "[destinations.crm]\nurll = 1");
    assert_eq!(json(&ops.wait_for(before + 3).await[before + 2].body)["id"], "config");
}

#[tokio::test]
async fn the_heartbeat_beats_while_all_is_well_and_stops_when_it_is_not() {
    let (crm, beat) = (Sink::with_status(401).await, Sink::with_status(200).await);
    let heartbeat =
        format!("[alerts.heartbeat]\nurl = \"{}\"\nevery = \"50ms\"\nallow_private = true\n", beat.url("/ping"));
    let daemon = Daemon::start(&[FAST, &held(&crm), &heartbeat].concat()).await;
    let seen = beat.wait_for(3).await;
    assert_eq!((seen[0].method.as_str(), seen[0].target.as_str()), ("GET", "/ping"));
    deposit(&daemon, "1").await;
    daemon.wait_for_status(|status| status["alerts"]["open"][0]["id"] == "crm/down").await;
    // One may be under way.
    tokio::time::sleep(Duration::from_millis(100)).await;
    let count = beat.seen().len();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(beat.seen().len(), count, "somebody has to act, and whoever counts beats says so");
    crm.set(vec![Act::Reply(Reply::new(200, ""))]);
    beat.wait_for(count + 2).await;
}

#[tokio::test]
async fn the_heartbeat_and_the_channels_go_by_their_own_proxy_and_never_directly() {
    let (crm, ops) = (Sink::with_status(200).await, Sink::with_status(200).await);
    let proxy = Proxy::with_login(ops.address, Manner::Works, Some(("u", "canary"))).await;
    let by = format!("proxy = \"{}\"", proxy.url("http", "u:canary@"));
    // A name that nobody but the proxy can make anything of: what arrives has come through it.
    let url = "http://hooks.nowhere.invalid/ping";
    let heartbeat = format!("[alerts.heartbeat]\nurl = \"{url}\"\nevery = \"50ms\"\nallow_private = true\n{by}\n");
    let hook = channel("ops", "webhook", &format!("url = \"{url}\"\n{by}"));
    let daemon = Daemon::start(&[FAST, &webhook("crm", &crm.url("/"), ""), &heartbeat, &hook].concat()).await;
    ops.wait_for(3).await;
    assert_eq!(daemon.cli(&["alerts", "test"], "").await.code, 0);
    // A proxy that is dead stops the beats, so whoever counts them says so; nothing goes around it.
    drop(proxy);
    let status = daemon.wait_for_status(|status| status["alerts"]["heartbeat"]["last_error"].is_object()).await;
    let error = status["alerts"]["heartbeat"]["last_error"]["message"].as_str().unwrap();
    assert!(error.starts_with("proxy") && !error.contains("canary"), "{error}");
}

#[tokio::test]
async fn channels_are_taken_over_while_it_runs_and_a_refused_configuration_is_told() {
    let ops = Sink::with_status(200).await;
    let daemon = Daemon::start("").await;
    let before = text(&daemon);
    assert_eq!(daemon.get("/v1/alerts").await.json()["watched"], false);
    save(&daemon, &[&before, FAST, &hook("ops", &ops, "json")].concat()).await;
    assert_eq!(daemon.get("/v1/alerts").await.json()["watched"], true);
    let good = text(&daemon);
    std::fs::write(daemon.config(), good.replace("[sources.app]", "[sources.app]\ncanary = 1")).unwrap();
    let told = json(&ops.wait_for(1).await[0].body);
    assert_eq!((told["id"].as_str(), told["rule"].as_str()), (Some("config"), Some("config")));
    assert!(told["text"].as_str().unwrap().contains("config.toml line"), "{told}");
    save(&daemon, &good).await;
    assert_eq!(json(&ops.wait_for(2).await[1].body)["kind"], "recovered");
}
