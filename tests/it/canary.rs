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
        channel(
            "post",
            &format!(
                "kind = \"email\"\nhost = \"127.0.0.1\"\nfrom = \"postbackd@example.com\"\nto = \"you@example.com\"\nproxy = \"{}\"",
                login(proxy)
            ),
        ),
        format!("[alerts.heartbeat]\nurl = \"{url}\"\nevery = \"50ms\"\nallow_private = true\n"),
    ]
    .concat()
}

fn login(proxy: &Proxy) -> String {
    proxy.url("http", "sesame-user:sesame-word@")
}

fn names_below(directory: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        names.push(entry.file_name().to_string_lossy().into_owned());
        if entry.file_type().unwrap().is_dir() {
            names.extend(names_below(&entry.path()));
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

/// Everything that can refuse, and does.
struct Trouble {
    refusing: Sink,
    held: Sink,
    busy: Sink,
    network: Sink,
    meta: Sink,
    ops: Sink,
    bot: Sink,
    mail: MailServer,
    /// To the destination, to the channel, and one that wants another login.
    proxies: [Proxy; 3],
}

impl Trouble {
    async fn start() -> Self {
        let (refusing, ops) = (echoing(400, HOOK_KEYS).await, saying(500, "no /sesame-path here").await);
        let ours = Some(("sesame-user", "sesame-word"));
        let proxies = [
            Proxy::with_login(refusing.address, Manner::Works, ours).await,
            Proxy::with_login(ops.address, Manner::Works, ours).await,
            Proxy::with_login(refusing.address, Manner::Works, Some(("other", "login"))).await,
        ];
        let manner =
            MailManner { offers: Offers::Starttls, auth: "PLAIN", to_login: "535 no", ..MailManner::default() };
        Self {
            refusing,
            held: echoing(401, HOOK_KEYS).await,
            busy: echoing(503, HOOK_KEYS).await,
            network: echoing(400, "sesame-network-key").await,
            meta: echoing(400, "sesame-meta-token").await,
            ops,
            bot: saying(403, "no POST /bot123:sesame-bot/sendMessage").await,
            mail: MailServer::start(manner).await,
            proxies,
        }
    }

    fn config(&self) -> String {
        let keys = "headers = { \"X-Key\" = \"sesame-header\" }\nsigning_secrets = [\"whsec_c2VzYW1lLXNpZ25pbmctc2VjcmV0\"]\n\
                    include_user = [\"email\", \"phone\", \"first_name\", \"last_name\", \"ip\"]\nretry = { first = \"1h\" }";
        let [proxy, aside, strict] = &self.proxies;
        let by = |proxy: &Proxy| format!("{keys}\nproxy = \"{}\"", login(proxy));
        [
            webhook("hook", &self.refusing.url("/sesame-path"), keys),
            webhook("busy", &self.busy.url("/"), keys),
            webhook("proxied", &self.refusing.url("/"), &by(proxy)),
            webhook("strict", &self.refusing.url("/"), &by(strict)),
            webhook("held", &self.held.url("/"), keys),
            destination("meta", "fb_capi", &self.meta.url(""), "").replace("canary-meta-token", "sesame-meta-token"),
            format!(
                "[destinations.network]\nkind = \"s2s_postback\"\nallow_private = true\n\
                 secrets = {{ key = \"sesame-network-key\" }}\nurl_template = \"{}?id={{event_id}}&key={{secret.key}}\"\n",
                self.network.url("/")
            ),
            alerts(&self.ops, &self.bot, &self.mail, aside),
        ]
        .concat()
    }
}

/// An event that everybody refuses, and what an operator does about it; its id.
async fn go_wrong(daemon: &Daemon) -> String {
    let user = json!({ "email": "Canary.Person@Mail.example", "phone": "+49 176 5550001", "first_name": "Canaryfirst",
        "last_name": "Canarylast", "ip": "203.0.113.77", "user_agent": "Mozilla/5.0", "external_id": "canary-ext" });
    let event = json!({ "event": "deposit", "event_id": "1", "uid": "click-1", "value": "5", "currency": "EUR", "user": user,
        "page": { "url": "https://shop.example/" } });
    let event = accept(daemon, event).await;
    let failed = |status: &serde_json::Value| {
        let channels = status["alerts"]["channels"].as_object().unwrap();
        let told = channels.values().all(|channel| channel["last_error"].is_object());
        let held = |name: &str| status["destinations"][name]["state"] == "held";
        let counts = &status["balance"];
        told && held("held") && held("strict") && counts["failed_permanently"] == 4 && counts["failed"] == 1
    };
    daemon.wait_for_status(failed).await;
    for words in ["pause hook --reason moved", "backup", "alerts test", "dlq replay --all"] {
        daemon.cli(&words.split(' ').collect::<Vec<_>>(), "").await;
    }
    daemon.edit("[alerts]\n", "[alerts]\nwrong = \"sesame-typo\"\n");
    daemon.cli(&["reload"], "").await;
    event
}

// Rows 54, 71, 72 and 73.
#[tokio::test]
async fn neither_a_secret_nor_a_person_is_seen_anywhere_by_whoever_looks() {
    let trouble = Trouble::start().await;
    let mut daemon = Daemon::prepare("", &trouble.config());
    let log = daemon.path("log");
    daemon.set_log_from("trace", log.clone());
    daemon.restart().await;
    let event = go_wrong(&daemon).await;
    let everything = [&SECRETS[..], &PERSON].concat();
    let dead = daemon.get("/v1/dlq").await.json()["entries"][0]["id"].as_str().unwrap().to_owned();
    let paths = "/status /status?format=text /metrics /readyz /healthz /v1/alerts /v1/audit /v1/backup /v1/jobs /v1/report \
                 /v1/deliveries /v1/dlq/groups / /ui/log /ui/dlq /ui/dlq/groups /ui/dlq/confirm?verb=replay /ui/jobs";
    let paths = paths.split(' ').map(str::to_owned);
    for path in paths.chain([format!("/ui/dlq/{dead}"), format!("/ui/events/{event}")]) {
        let said = daemon.get(&path).await;
        assert_eq!(said.status, 200, "{path}: {}", said.text());
        assert_clean(&path, &said.text(), &everything);
    }
    // What an operator asks for by its name holds the event, and still no secret.
    for path in [format!("/v1/events/{event}"), "/v1/dlq".to_owned(), format!("/v1/dlq/{dead}")] {
        assert_clean(&path, &daemon.get(&path).await.text(), &SECRETS);
    }
    let verbs = "status,alerts list,alerts test,audit,jobs,check,reload,deliveries,dlq list,dlq groups,report";
    for words in verbs.split(',') {
        let said = daemon.cli(&words.split(' ').collect::<Vec<_>>(), "").await;
        assert_clean(words, &(said.out + &said.err), &everything);
    }
    for seen in trouble.ops.seen().iter().filter(|seen| seen.method == "POST") {
        assert_clean("an alert", &String::from_utf8_lossy(&seen.body), &everything);
    }
    assert_clean("names of files", &names_below(&daemon.path("data")).join("\n"), &everything);
    daemon.terminate();
    let log = std::fs::read_to_string(log).unwrap();
    for line in ["DEBUG", "An alert was not taken.", "The heartbeat was not taken."] {
        assert!(log.contains(line), "{line}");
    }
    assert_clean("the log", &log, &everything);
}
