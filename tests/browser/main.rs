//! The status page in a real browser: Debian's chromium, driven through its chromedriver. What a test without a browser
//! cannot show: that the policy lets the page itself work and nothing else, that the script does what it says, that what
//! strangers wrote is never run, and that all of it works without JavaScript.
//!
//! Needs the packages `chromium` and `chromium-driver`. Where they are missing, a line says so and the tests pass; with
//! `CI=true` they fail.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, its helpers too"
)]

mod browser;
#[path = "../it/support/daemon.rs"]
#[allow(dead_code, reason = "the other tests use more of it")]
mod daemon;
#[path = "../it/support/sink.rs"]
#[allow(dead_code, reason = "the other tests use more of it")]
mod sink;

use browser::{Browser, Scripts};
use daemon::{Daemon, webhook};
use serde_json::json;
use sink::{Act, Reply, Sink};

const TOKEN: &str = "canary-admin-token";
const HOSTILE: &str = "\"'></script></pre><script>window.hacked = 1</script><img src=x onerror='window.hacked = 2'>\
                       <svg onload='window.hacked = 3'><a href='javascript:window.hacked = 4'>x\u{202e}\u{7f}";

async fn send(daemon: &Daemon, id: &str) {
    let event = json!({ "event": "deposit", "event_id": id, "value": "25.00", "currency": "EUR" });
    assert_eq!(daemon.post("/v1/events", &event.to_string()).await.status, 202);
}

async fn dead(daemon: &Daemon, count: u64) {
    daemon.wait_for_status(|status| status["balance"]["failed_permanently"] == count).await;
}

#[tokio::test]
async fn an_operator_filters_replays_and_sees_it_live() {
    let Some(browser) = Browser::start(Scripts::On).await else { return };
    let sink = Sink::start(vec![Act::Reply(Reply::new(400, "unknown click"))]).await;
    let mut daemon =
        Daemon::start(&[webhook("crm", &sink.url("/a")), webhook("spare", &sink.url("/b"))].concat()).await;
    send(&daemon, "trade-1").await;
    send(&daemon, "trade-2").await;
    dead(&daemon, 4).await;
    let base = format!("http://127.0.0.1:{}", daemon.port);
    browser.open(&base).await;
    assert_eq!(browser.count("article.card").await, 2);
    assert_eq!(browser.count("#rows tbody tr").await, 4);
    browser.choose("#log-h ~ form select[name=destination]", "spare").await;
    browser.click("#log-h ~ form button").await;
    browser
        .until(
            "the filter",
            "location.pathname == '/ui/log' && document.querySelectorAll('#rows tbody tr').length == 2",
        )
        .await;
    browser.open(&base).await;
    sink.set(vec![Act::Reply(Reply::new(200, "ok"))]);
    browser.click("#dlq tbody tr:first-child button").await;
    browser.until("a notice", "document.querySelector('.notice')?.textContent.includes('1 delivery replayed')").await;
    assert!(!browser.url().await.contains("notice"), "a reload does not say it again");
    // Nothing is clicked from here on: the script fetches it.
    browser.until("the row as sent", "document.querySelectorAll('#rows .s-sent').length == 1").await;
    send(&daemon, "trade-3").await;
    browser.until("the card", "document.querySelector('#card-crm .counts').textContent.includes('1 sent')").await;
    browser.until("the others", "document.querySelectorAll('#rows .s-sent').length == 3").await;
    assert_eq!(browser.complaints().await, [""; 0]);
    browser.click("#card-crm summary").await;
    browser.write("#card-crm input[name=reason]", "moved").await;
    daemon.kill();
    browser.until("the loss", "document.getElementById('live').textContent.startsWith('No answer since')").await;
    assert_eq!(browser.text_of("#card-crm input[name=reason]").await, "moved", "whoever types is left in peace");
    daemon.restart().await;
    browser.until("the return", "document.getElementById('live').textContent == 'live'").await;
    browser.end().await;
}

#[tokio::test]
async fn what_strangers_write_is_never_run_and_bursts_nothing() {
    let Some(browser) = Browser::start(Scripts::On).await else { return };
    let sink = Sink::start(vec![Act::Reply(Reply::new(400, HOSTILE))]).await;
    let daemon = Daemon::start(&webhook("crm", &sink.url("/"))).await;
    let long = "w".repeat(500);
    let event = json!({
        "event": "deposit", "event_id": HOSTILE, "uid": format!("{HOSTILE}{}", "u".repeat(200)), "value": "1", "currency": "EUR",
        "user": { "email": HOSTILE }, "click": { "fbclid": HOSTILE, "x": long, HOSTILE: HOSTILE },
        "page": { "url": "javascript:window.hacked = 5" }, "data": { "list": [HOSTILE, long] }
    });
    let answer = daemon.post("/v1/events", &event.to_string()).await;
    assert_eq!(answer.status, 202, "{}", answer.text());
    dead(&daemon, 1).await;
    let pause = json!({ "reason": HOSTILE.replace(['\u{7f}', '\u{202e}'], "") });
    assert_eq!(daemon.post("/v1/destinations/crm/pause", &pause.to_string()).await.status, 200);
    let entry = daemon.get("/v1/dlq").await.json()["entries"][0].clone();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let search: String = url::form_urlencoded::byte_serialize(HOSTILE.as_bytes()).collect();
    for width in [320, 1280] {
        browser.set_width(width).await;
        for path in [
            "/".to_owned(),
            "/ui/log".to_owned(),
            "/ui/dlq".to_owned(),
            format!("/ui/log?uid={search}&since={search}"),
            format!("/ui/dlq/{}", text(&entry["id"])),
            format!("/ui/events/{}", text(&entry["event"]["id"])),
            format!("/ui/dlq/confirm?verb=discard&uid={search}"),
        ] {
            browser.open(&format!("http://127.0.0.1:{}{path}", daemon.port)).await;
            assert_eq!(browser.run("return String(window.hacked)").await, "undefined", "{path}");
            assert_eq!(
                browser.count("main img, main script, main svg[onload], main a[href^=javascript]").await,
                0,
                "{path}"
            );
            let room = browser.run("return document.documentElement.scrollWidth <= innerWidth").await;
            assert_eq!(room, true, "{path} is wider than {width} px");
        }
    }
    assert_eq!(browser.complaints().await, [""; 0]);
    browser.end().await;
}

#[tokio::test]
async fn a_login_lets_in_and_a_forged_form_does_not() {
    let Some(browser) = Browser::start(Scripts::On).await else { return };
    let sink = Sink::start(vec![Act::Reply(Reply::new(400, "no"))]).await;
    let daemon = Daemon::start_with(&format!("admin_token = \"{TOKEN}\""), &webhook("crm", &sink.url("/"))).await;
    send(&daemon, "trade-1").await;
    let base = format!("http://127.0.0.1:{}", daemon.port);
    browser.open(&format!("{base}/ui/dlq")).await;
    browser.write("#token", "guess").await;
    browser.click("form button.main").await;
    browser.until("a refusal", "document.getElementById('wrong') !== null").await;
    browser.write("#token", TOKEN).await;
    browser.click("form button.main").await;
    browser
        .until("the DLQ", "location.pathname == '/ui/dlq' && document.querySelectorAll('tbody tr').length == 1")
        .await;
    assert_eq!(browser.run("return document.cookie").await, "", "no script sees the session");
    browser.run("document.querySelector('.do input[name=csrf]').value = 'forged'").await;
    browser.click(".do button").await;
    browser.until("the refusal", "document.querySelector('h1')?.textContent.includes('403')").await;
    // A page of another origin, on the same machine: the cookie comes along, the form does not get through.
    let elsewhere = Sink::start(vec![Act::Reply(Reply::new(
        200,
        format!("<!doctype html><form method=post action='{base}/ui/dlq/replay'><input name=all value=true><button>go"),
    ))])
    .await;
    browser.open(&elsewhere.url("/")).await;
    browser.click("button").await;
    browser.until("the refusal", "document.querySelector('h1')?.textContent.includes('403')").await;
    browser.open(&format!("{base}/ui/dlq")).await;
    assert_eq!(browser.count("tbody tr").await, 1, "nothing was replayed");
    browser.click(".inline button").await;
    browser.until("the login", "document.getElementById('token') !== null").await;
    browser.end().await;
}

#[tokio::test]
async fn all_of_it_works_without_javascript() {
    let Some(browser) = Browser::start(Scripts::Off).await else { return };
    let sink = Sink::start(vec![Act::Reply(Reply::new(400, "no"))]).await;
    let daemon = Daemon::start(&webhook("crm", &sink.url("/"))).await;
    send(&daemon, "trade-1").await;
    send(&daemon, "trade-2").await;
    dead(&daemon, 2).await;
    let base = format!("http://127.0.0.1:{}", daemon.port);
    browser.open(&base).await;
    assert_eq!(browser.text("#live").await, "", "no script has said anything");
    browser.write("#log-h ~ form input[name=event_id]", "trade-2").await;
    browser.click("#log-h ~ form button").await;
    browser.settle("/ui/log", "#rows tbody tr", 1).await;
    sink.set(vec![Act::Reply(Reply::new(200, "ok"))]);
    browser.open(&format!("{base}/ui/dlq")).await;
    browser.click(".all a:first-child").await;
    browser.settle("/ui/dlq/confirm", "button.main", 1).await;
    browser.click("button.main").await;
    browser.settle("/ui/dlq", ".notice", 1).await;
    daemon.wait_for_status(|status| status["balance"]["sent"] == 2).await;
    browser.end().await;
}

#[tokio::test]
async fn a_job_is_watched_and_cancelled_by_its_form() {
    for scripts in [Scripts::On, Scripts::Off] {
        let Some(browser) = Browser::start(scripts).await else { return };
        let sink = Sink::start(vec![Act::Reply(Reply::new(400, "no"))]).await;
        let daemon = Daemon::start(&webhook("crm", &sink.url("/"))).await;
        send(&daemon, "trade-1").await;
        send(&daemon, "trade-2").await;
        dead(&daemon, 2).await;
        let started = daemon.post("/v1/dlq/replay", r#"{"all":true,"rate":"1/h"}"#).await.json();
        assert!(started["job"].is_string(), "{started}");
        let base = format!("http://127.0.0.1:{}", daemon.port);
        browser.open(&base).await;
        assert_eq!(browser.count("#jobs .s-running").await, 1);
        browser.click("#jobs h2 a").await;
        browser.settle("/ui/jobs", "#jobs .job progress", 1).await;
        browser.click("#jobs .job form button").await;
        browser.settle("/ui/jobs", "#jobs .s-cancelled", 1).await;
        assert!(browser.text(".notice").await.contains("is cancelled: "));
        assert_eq!(browser.count("#jobs form").await, 0, "there is nothing left to cancel");
        let job = daemon.get("/v1/jobs").await.json()["jobs"][0].clone();
        assert_eq!((&job["id"], &job["state"]), (&started["job"], &json!("cancelled")));
        if scripts == Scripts::On {
            assert_eq!(browser.complaints().await, [""; 0]);
        }
        browser.end().await;
    }
}
