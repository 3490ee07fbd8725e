//! Secrets and raw personal data are looked for wherever somebody looks: logs, pages, metrics, status, errors, alerts, the audit
//! trail, names of files. Everything that can refuse does, and quotes what it was sent.

use std::path::Path;

use serde_json::json;

use crate::support::daemon::Daemon;
use crate::support::desk::{accept, destination, webhook};
use crate::support::proxy::{Manner, Proxy};
use crate::support::sink::{Act, Reply, Sink};
use crate::support::smtp::{MailServer, Manner as MailManner, Offers};

/// In every secret of the configuration, as it stands there or as base64 of it begins.
const SECRETS: [&str; 4] = ["sesame", "c2VzYW1l", "LXNlc2FtZS", "AHNlc2FtZS"];
/// In everything about the person.
const PERSON: [&str; 6] = ["canary.person", "1765550001", "canaryfirst", "canarylast", "203.0.113.77", "canary"];

/// A receiver that repeats all it was sent: what is about the person, and the keys it knows.
async fn echoing(status: u16, keys: &str) -> Sink {
    let said = "who is Canary.Person@Mail.example, +491765550001, Canaryfirst Canarylast at 203.0.113.77?";
    saying(status, &format!("{said} your keys are {keys}")).await
}

/// A receiver of alerts, which are about nobody.
async fn saying(status: u16, words: &str) -> Sink {
    Sink::start(vec![Act::Reply(Reply::new(status, words))]).await
}

/// What webhooks know.
const HOOK_KEYS: &str = "sesame-header and whsec_c2VzYW1lLXNpZ25pbmctc2VjcmV0";

/// The channels, none of which is taken by anybody.
fn alerts(sink: &Sink, bot: &Sink, mail: &MailServer, proxy: &Proxy) -> String {
    let channel =
        |name: &str, more: &str| format!("[alerts.channels.{name}]\nallow_private = true\ntimeout = \"1s\"\n{more}\n");
    let url = sink.url("/sesame-path");
    [
        "[alerts]\nevery = \"50ms\"\n".to_owned(),
        channel("ops", &format!("kind = \"webhook\"\nurl = \"{url}\"\nheaders = {{ X-Key = \"sesame-header\" }}")),
        channel("team", &format!("kind = \"webhook\"\nshape = \"slack\"\nurl = \"{url}\"\nproxy = \"{}\"", login(proxy))),
        channel(
            "phone",
            &format!("kind = \"telegram\"\nbot_token = \"123:sesame-bot\"\nchat_id = 5\nbase_url = \"{}\"", bot.url("")),
        ),
        channel(
            "mail",
            &format!(
                "kind = \"email\"\nhost = \"127.0.0.1\"\nport = {}\nusername = \"sesame-user\"\npassword = \"sesame-word\"\n\
                 from = \"postbackd@example.com\"\nto = \"you@example.com\"",
                mail.port
            ),
        ),
        format!("[alerts.heartbeat]\nurl = \"{url}\"\nevery = \"50ms\"\nallow_private = true\n"),
    ]
    .concat()
}

fn login(proxy: &Proxy) -> String {
    proxy.url("http", "sesame-user:sesame-word@")
}

fn names_below(directory: &Path) -> String {
    let mut names = String::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        names += &format!("{}\n", entry.file_name().to_string_lossy());
        if entry.file_type().unwrap().is_dir() {
            names += &names_below(&entry.path());
        }
    }
    names
}

#[track_caller]
fn assert_clean(what: &str, text: &str, needles: &[&str]) {
    let lower = text.to_ascii_lowercase();
    for needle in needles {
        let at = lower.find(&needle.to_ascii_lowercase());
        let around =
            at.map(|at| String::from_utf8_lossy(&text.as_bytes()[at.saturating_sub(200)..(at + 60).min(text.len())]));
        assert_eq!(around, None, "{needle} in {what}");
    }
}

// Rows 54, 71, 72 and 73.
#[tokio::test]
async fn neither_a_secret_nor_a_person_is_seen_anywhere_by_whoever_looks() {
    let (refusing, ops) = (echoing(400, HOOK_KEYS).await, saying(500, "no /sesame-path here").await);
    let (held, busy) = (echoing(401, HOOK_KEYS).await, echoing(503, HOOK_KEYS).await);
    let (bot, network) =
        (saying(403, "no POST /bot123:sesame-bot/sendMessage").await, echoing(400, "sesame-network-key").await);
    let meta = echoing(400, "sesame-meta-token").await;
    let proxy = Proxy::with_login(refusing.address, Manner::Works, Some(("sesame-user", "sesame-word"))).await;
    let aside = Proxy::with_login(ops.address, Manner::Works, Some(("sesame-user", "sesame-word"))).await;
    let strict = Proxy::with_login(refusing.address, Manner::Works, Some(("other", "login"))).await;
    let mail_manner =
        MailManner { offers: Offers::Starttls, auth: "PLAIN", to_login: "535 no", ..MailManner::default() };
    let mail = MailServer::start(mail_manner).await;
    let keys = "headers = { \"X-Key\" = \"sesame-header\" }\nsigning_secrets = [\"whsec_c2VzYW1lLXNpZ25pbmctc2VjcmV0\"]\n\
                include_user = [\"email\", \"phone\", \"first_name\", \"last_name\", \"ip\"]\nretry = { first = \"1h\" }";
    let config = [
        webhook("hook", &refusing.url("/sesame-path"), keys),
        webhook("busy", &busy.url("/"), keys),
        webhook("proxied", &refusing.url("/"), &format!("{keys}\nproxy = \"{}\"", login(&proxy))),
        webhook("strict", &refusing.url("/"), &format!("{keys}\nproxy = \"{}\"", login(&strict))),
        destination("held", "webhook", &held.url("/"), keys),
        destination("meta", "fb_capi", &meta.url(""), "").replace("canary-meta-token", "sesame-meta-token"),
        format!(
            "[destinations.network]\nkind = \"s2s_postback\"\nallow_private = true\nsecrets = {{ key = \"sesame-network-key\" }}\n\
             url_template = \"{}?id={{event_id}}&key={{secret.key}}\"\n",
            network.url("/")
        ),
        alerts(&ops, &bot, &mail, &aside),
    ];
    let mut daemon = Daemon::prepare("", &config.concat());
    let log = daemon.path("log");
    daemon.set_log_from("trace", log.clone());
    daemon.restart().await;
    let user = json!({ "email": "Canary.Person@Mail.example", "phone": "+49 176 5550001", "first_name": "Canaryfirst",
        "last_name": "Canarylast", "ip": "203.0.113.77", "user_agent": "Mozilla/5.0", "external_id": "canary-ext" });
    let event = json!({ "event": "deposit", "event_id": "1", "uid": "click-1", "value": "5", "currency": "EUR", "user": user,
        "page": { "url": "https://shop.example/" } });
    let event = accept(&daemon, event).await;
    let failed = |status: &serde_json::Value| {
        let channels = status["alerts"]["channels"].as_object().unwrap();
        let told = channels.values().all(|channel| channel["last_error"].is_object());
        let counts = &status["balance"];
        told && status["destinations"]["held"]["state"] == "held"
            && status["destinations"]["strict"]["state"] == "held"
            && counts["failed_permanently"] == 4
            && counts["failed"] == 1
    };
    daemon.wait_for_status(failed).await;
    for words in [
        vec!["pause", "hook", "--reason", "moved"],
        vec!["backup"],
        vec!["alerts", "test"],
        vec!["dlq", "replay", "--all"],
    ] {
        daemon.cli(&words, "").await;
    }
    daemon.edit("[alerts]\n", "[alerts]\nwrong = \"sesame-typo\"\n");
    daemon.cli(&["reload"], "").await;
    let dead = daemon.get("/v1/dlq").await.json()["entries"][0]["id"].as_str().unwrap().to_owned();
    for path in [
        "/status",
        "/status?format=text",
        "/metrics",
        "/readyz",
        "/healthz",
        "/v1/alerts",
        "/v1/audit",
        "/v1/backup",
        "/v1/jobs",
        "/v1/report",
        "/v1/deliveries",
        "/v1/dlq/groups",
        "/",
        "/ui/log",
        "/ui/dlq",
        &format!("/ui/dlq/{dead}"),
        &format!("/ui/events/{event}"),
    ] {
        let said = daemon.get(path).await;
        assert_eq!(said.status, 200, "{path}: {}", said.text());
        assert_clean(path, &said.text(), &[&SECRETS[..], &PERSON].concat());
    }
    // What an operator asks for by its name holds the event, and still no secret.
    for path in [format!("/v1/events/{event}"), "/v1/dlq".to_owned(), format!("/v1/dlq/{dead}")] {
        assert_clean(&path, &daemon.get(&path).await.text(), &SECRETS);
    }
    for words in [
        vec!["status"],
        vec!["alerts", "list"],
        vec!["alerts", "test"],
        vec!["audit"],
        vec!["jobs"],
        vec!["check"],
        vec!["reload"],
        vec!["deliveries"],
        vec!["dlq", "list"],
        vec!["dlq", "groups"],
        vec!["report"],
    ] {
        let said = daemon.cli(&words, "").await;
        assert_clean(&words.join(" "), &(said.out + &said.err), &[&SECRETS[..], &PERSON].concat());
    }
    for seen in ops.seen().iter().filter(|seen| seen.method == "POST") {
        assert_clean("an alert", &String::from_utf8_lossy(&seen.body), &[&SECRETS[..], &PERSON].concat());
    }
    assert_clean("names of files", &names_below(&daemon.path("data")), &[&SECRETS[..], &PERSON].concat());
    daemon.terminate();
    let log = std::fs::read_to_string(log).unwrap();
    assert!(
        log.contains("DEBUG")
            && log.contains("An alert was not taken.")
            && log.contains("The heartbeat was not taken.")
    );
    assert_clean("the log", &log, &[&SECRETS[..], &PERSON].concat());
}
