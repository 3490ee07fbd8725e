//! A hundred ways to break a configuration (rows 65 and 66 of the fault catalogue): each alone and all on top of each other,
//! refused at load and at reload with file, line, key and what to write instead, while the one before goes on.

use std::path::Path;

use postbackd::config::problem::Problem;
use postbackd::config::validate;
use postbackd::domain::time::UnixMs;
use serde_json::{Value, json};

use crate::support::daemon::Daemon;
use crate::support::desk::{deposit, problem, settled};
use crate::support::reload::{in_force, text};
use crate::support::sink::Sink;

/// Beside what the test's own configuration has. Nothing here is ever sent to but `hook`.
const BASE: &str = r#"
[sources.net]
token = "canary-net-token-0123456789"
params = { uid = "sub_id", event_id = "tid", value = "sum" }
event = { param = "status", map = { ftd = "deposit" } }
decimal = "dot"
answer = "OK"
hash = { param = "sig", secret = "canary-hash", kind = "md5", over = ["tid", "sum", "{secret}"] }
[retention]
events = "31d"
attempts = "32d"
dlq = "never"
dedupe = "33d"
size = "10GiB"
[ingest]
default_currency = "USD"
[retry]
first = "1s"
multiplier = 2
max_delay = "1h"
jitter = 0.2
give_up_after = "72h"
max_attempts = 100
statuses = [408, 425, 429, "500-599"]
[alerts]
every = "11s"
settle = "2m"
remind = "2h"
remind_max = "1d"
[destinations.s2s]
kind = "s2s_postback"
enabled = false
url_template = "https://net.example/p?c={uid}&t={secret.t}"
method = "GET"
expected_status = "200-204"
success_pattern = "ok"
failure_pattern = "error"
on_failure_pattern = "permanent"
secrets = { t = "canary-s2s" }
when = { currency = ["EUR"] }
sources = ["net"]
proxy = "socks5h://someone:canary-proxy@192.0.2.7:1080"
[destinations.meta]
kind = "fb_capi"
enabled = false
pixel_id = "1234567890"
access_token = "canary-meta"
api_version = "v26.0"
action_source = "website"
batch = 50
batch_wait = "1s"
retry = { give_up_after = "5d" }
[destinations.hook]
kind = "webhook"
allow_private = true
method = "POST"
headers = { x-team = "canary-header" }
signing_secrets = ["whsec_Y2FuYXJ5Y2FuYXJ5Y2FuYXJ5Y2FuYXJ5"]
include_user = ["email"]
events = { deposit = "paid" }
concurrency = 16
rate_limit = "500/s"
timeout = "15s"
hold_probe = "15m"
breaker = { failures = 10, rate = 0.5, min = 20, window = "1m", probe = "30s", probe_max = "10m" }
"#;

/// What stands in the file, what stands there instead, and the key that is told. The line that is told is that of the second.
type Breakage = (&'static str, &'static str, &'static str);

#[rustfmt::skip]
const BREAKAGES: &[Breakage] = &[
    // Names that are not known, one letter off, in every table.
    ("[server]\n", "[server]\nlisen = 1\n", "server.lisen"),
    ("[storage]\n", "[storage]\npaht = \"x\"\n", "storage.paht"),
    ("events = \"31d\"", "event = \"31d\"", "retention.event"),
    ("default_currency", "default_curency", "ingest.default_curency"),
    ("multiplier", "multiplyer", "retry.multiplyer"),
    ("params = {", "parms = {", "sources.net.parms"),
    ("signing_secrets", "signing_secret", "destinations.hook.signing_secret"),
    ("success_pattern", "sucess_pattern", "destinations.s2s.sucess_pattern"),
    ("pixel_id", "pixelid", "destinations.meta.pixelid"),
    ("settle = \"2m\"", "setle = \"2m\"", "alerts.setle"),
    ("[ingest]", "[ingst]", "ingst"),
    // Kinds.
    ("kind = \"webhook\"", "kind = \"webhok\"", "destinations.hook.kind"),
    ("kind = \"fb_capi\"", "kind = 5", "destinations.meta.kind"),
    ("kind = \"s2s_postback\"", "kind = \"\"", "destinations.s2s.kind"),
    // Types.
    ("batch = 50", "batch = \"50\"", "destinations.meta.batch"),
    ("concurrency = 16", "concurrency = 16.5", "destinations.hook.concurrency"),
    ("allow_private = true", "allow_private = \"yes\"", "destinations.hook.allow_private"),
    ("events = { deposit = \"paid\" }", "events = [\"deposit\"]", "destinations.hook.events"),
    ("headers = { x-team = \"canary-header\" }", "headers = \"x-team: canary-header\"", "destinations.hook.headers"),
    ("max_attempts = 100", "max_attempts = true", "retry.max_attempts"),
    ("jitter = 0.2", "jitter = \"0.2\"", "retry.jitter"),
    ("statuses = [408, 425, 429, \"500-599\"]", "statuses = { a = 408 }", "retry.statuses"),
    ("dlq = \"never\"", "dlq = 7", "retention.dlq"),
    ("default_currency = \"USD\"", "default_currency = 840", "ingest.default_currency"),
    ("answer = \"OK\"", "answer = [\"OK\"]", "sources.net.answer"),
    ("sources = [\"net\"]", "sources = \"net\"", "destinations.s2s.sources"),
    ("secrets = { t = \"canary-s2s\" }", "secrets = \"canary-s2s\"", "destinations.s2s.secrets"),
    ("include_user = [\"email\"]", "include_user = \"email\"", "destinations.hook.include_user"),
    ("enabled = false\nurl_template", "enabled = \"no\"\nurl_template", "destinations.s2s.enabled"),
    ("when = { currency = [\"EUR\"] }", "when = \"EUR\"", "destinations.s2s.when"),
    // Durations, sizes, rates.
    ("first = \"1s\"", "first = \"1\"", "retry.first"),
    ("max_delay = \"1h\"", "max_delay = \"an hour\"", "retry.max_delay"),
    ("give_up_after = \"72h\"", "give_up_after = \"-72h\"", "retry.give_up_after"),
    ("give_up_after = \"72h\"", "give_up_after = \"0s\"", "retry.give_up_after"),
    ("attempts = \"32d\"", "attempts = \"1 fortnight\"", "retention.attempts"),
    ("dedupe = \"33d\"", "dedupe = \"0s\"", "retention.dedupe"),
    ("size = \"10GiB\"", "size = \"10 gigs\"", "retention.size"),
    ("rate_limit = \"500/s\"", "rate_limit = \"500\"", "destinations.hook.rate_limit"),
    ("rate_limit = \"500/s\"", "rate_limit = \"0/s\"", "destinations.hook.rate_limit"),
    ("rate_limit = \"500/s\"", "rate_limit = \"5/fortnight\"", "destinations.hook.rate_limit"),
    ("timeout = \"15s\"", "timeout = \"0s\"", "destinations.hook.timeout"),
    ("timeout = \"15s\"", "timeout = 15", "destinations.hook.timeout"),
    ("hold_probe = \"15m\"", "hold_probe = \"15 m\"", "destinations.hook.hold_probe"),
    ("batch_wait = \"1s\"", "batch_wait = \"soon\"", "destinations.meta.batch_wait"),
    ("every = \"11s\"", "every = \"11m\"", "alerts.every"),
    ("remind = \"2h\"", "remind = \"2x\"", "alerts.remind"),
    ("reserve = \"1MiB\"", "reserve = \"a MiB\"", "storage.reserve"),
    // Out of range.
    ("concurrency = 16", "concurrency = 0", "destinations.hook.concurrency"),
    ("concurrency = 16", "concurrency = 99999999", "destinations.hook.concurrency"),
    ("batch = 50", "batch = 0", "destinations.meta.batch"),
    ("batch = 50", "batch = 1001", "destinations.meta.batch"),
    ("multiplier = 2", "multiplier = 0", "retry.multiplier"),
    ("multiplier = 2", "multiplier = 1e9", "retry.multiplier"),
    ("jitter = 0.2", "jitter = 1.01", "retry.jitter"),
    ("jitter = 0.2", "jitter = nan", "retry.jitter"),
    ("max_attempts = 100", "max_attempts = -1", "retry.max_attempts"),
    ("statuses = [408, 425, 429, \"500-599\"]", "statuses = [200]", "retry.statuses"),
    ("statuses = [408, 425, 429, \"500-599\"]", "statuses = [\"599-500\"]", "retry.statuses"),
    ("statuses = [408, 425, 429, \"500-599\"]", "statuses = [99999999999]", "retry.statuses"),
    ("expected_status = \"200-204\"", "expected_status = 99", "destinations.s2s.expected_status"),
    ("expected_status = \"200-204\"", "expected_status = []", "destinations.s2s.expected_status"),
    ("expected_status = \"200-204\"", "expected_status = \"2xx\"", "destinations.s2s.expected_status"),
    ("retry = { give_up_after = \"5d\" }", "retry = { give_up_after = \"8d\" }", "destinations.meta.retry.give_up_after"),
    ("retry = { give_up_after = \"5d\" }", "retry = { give_up_aftre = \"5d\" }", "destinations.meta.retry.give_up_aftre"),
    ("failures = 10", "failures = 0", "destinations.hook.breaker.failures"),
    ("rate = 0.5", "rate = 5", "destinations.hook.breaker.rate"),
    ("window = \"1m\"", "window = \"\"", "destinations.hook.breaker.window"),
    ("probe = \"30s\"", "prob = \"30s\"", "destinations.hook.breaker.prob"),
    // Words out of a list.
    ("decimal = \"dot\"", "decimal = \"point\"", "sources.net.decimal"),
    ("method = \"POST\"", "method = \"GETT\"", "destinations.hook.method"),
    ("method = \"GET\"", "method = \"DELETE\"", "destinations.s2s.method"),
    ("on_failure_pattern = \"permanent\"", "on_failure_pattern = \"sometimes\"", "destinations.s2s.on_failure_pattern"),
    ("kind = \"md5\"", "kind = \"md4\"", "sources.net.hash.kind"),
    ("default_currency = \"USD\"", "default_currency = \"DOLLAR\"", "ingest.default_currency"),
    // URLs, names, patterns.
    ("http://127.0.0.1", "htp://127.0.0.1", "destinations.hook.url"),
    ("http://127.0.0.1", "http://user:canary-login@127.0.0.1", "destinations.hook.url"),
    ("http://127.0.0.1", "http://127.0.0.1%zz", "destinations.hook.url"),
    ("allow_private = true", "allow_private = [\"10.0.0.0/33\"]", "destinations.hook.allow_private"),
    ("https://net.example/p?c={uid}", "https://{uid}.net.example/p?c={uid}", "destinations.s2s.url_template"),
    ("https://net.example/p?c={uid}", "https://net.example:{uid}/p?c={uid}", "destinations.s2s.url_template"),
    ("https://net.example/p?c={uid}", "https://net.example/p?c={udi}", "destinations.s2s.url_template"),
    ("https://net.example/p?c={uid}", "https://net.example/p#c={uid}", "destinations.s2s.url_template"),
    ("https://net.example/p?c={uid}", "https://net.example/p?c={uid", "destinations.s2s.url_template"),
    ("{secret.t}", "{secret.u}", "destinations.s2s.url_template"),
    ("success_pattern = \"ok\"", "success_pattern = \"(ok\"", "destinations.s2s.success_pattern"),
    ("failure_pattern = \"error\"", "failure_pattern = \"[\"", "destinations.s2s.failure_pattern"),
    ("x-team", "\"x team\"", "destinations.hook.headers.\"x team\""),
    ("x-team", "content-length", "destinations.hook.headers"),
    ("whsec_Y2FuYXJ5Y2FuYXJ5Y2FuYXJ5Y2FuYXJ5", "whsec_canary!", "destinations.hook.signing_secrets"),
    ("deposit = \"paid\"", "\"de posit\" = \"paid\"", "destinations.hook.events.\"de posit\""),
    ("sources = [\"net\"]", "sources = [\"ent\"]", "destinations.s2s.sources"),
    ("pixel_id = \"1234567890\"", "pixel_id = \"12345abc\"", "destinations.meta.pixel_id"),
    ("api_version = \"v26.0\"", "api_version = \"26\"", "destinations.meta.api_version"),
    ("socks5h://", "socks6://", "destinations.s2s.proxy"),
    ("[destinations.hook]", "[destinations.\"ho ok\"]", "destinations.\"ho ok\""),
    ("[sources.net]", "[sources.\"n et\"]", "sources.\"n et\""),
    ("include_user = [\"email\"]", "include_user = [5]", "destinations.hook.include_user[0]"),
    // Secrets.
    ("token = \"canary-net-token-0123456789\"", "token = { env = \"NO_SUCH_VARIABLE\" }", "sources.net.token"),
    ("token = \"canary-net-token-0123456789\"", "token = \"\"", "sources.net.token"),
    ("token = \"canary-net-token-0123456789\"", "token = []", "sources.net.token"),
    ("token = \"canary-net-token-0123456789\"", "token = \"app-token-0123456789\"", "sources.net.token"),
    ("access_token = \"canary-meta\"", "access_token = { file = \"/no/such/file\" }", "destinations.meta.access_token"),
    ("access_token = \"canary-meta\"", "access_token = { file = \"a\", env = \"B\" }", "destinations.meta.access_token"),
    ("secret = \"canary-hash\"", "secret = { evn = \"B\" }", "sources.net.hash.secret"),
    // Syntax and structure.
    ("kind = \"webhook\"", "kind = \"webhook", ""),
    ("[destinations.hook]", "[destinations.hook", ""),
    ("[destinations.hook]", "[destinations.meta]", ""),
    ("method = \"POST\"", "method = \"POST\"\nmethod = \"PUT\"", ""),
    ("concurrency = 16", "concurrency == 16", ""),
    ("concurrency = 16", "concurrency = 1_", ""),
    ("first = \"1s\"", "\u{1}first = \"1s\"", ""),
];

async fn start(sink: &Sink) -> Daemon {
    let mut daemon = Daemon::prepare("", &format!("{BASE}url = \"{}\"", sink.url("/")));
    // Each refusal is logged.
    daemon.set_log(daemon.path("log"));
    daemon.restart().await;
    daemon
}

fn load(path: &Path) -> Vec<Problem> {
    match validate::load(path, UnixMs(1_796_000_000_000)) {
        Ok(_) => Vec::new(),
        Err(report) => report.problems,
    }
}

/// The line of the file at which the two texts begin to differ; both begin alike.
fn first_difference(good: &str, broken: &str) -> usize {
    1 + good.lines().zip(broken.lines()).take_while(|(good, broken)| good == broken).count()
}

fn told(problems: &Value) -> Vec<(String, u64, String)> {
    let one = |problem: &Value| {
        let text = |name: &str| problem[name].as_str().unwrap_or_default().to_owned();
        (text("file"), problem["line"].as_u64().unwrap_or_default(), text("key"))
    };
    problems.as_array().unwrap().iter().map(one).collect()
}

// Row 65.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_breakages_are_refused_at_load_and_at_reload_and_change_nothing() {
    assert!(BREAKAGES.len() >= 100, "{}", BREAKAGES.len());
    let sink = Sink::with_status(200).await;
    let daemon = start(&sink).await;
    let good = text(&daemon);
    let before = in_force(&daemon, &["hook", "meta", "s2s"]).await;
    let file = daemon.config().display().to_string();
    let mut wrong = Vec::new();
    for (n, (from, to, key)) in BREAKAGES.iter().enumerate() {
        assert!(good.contains(from), "{from} is not in the file");
        let broken = good.replacen(from, to, 1);
        std::fs::write(daemon.config(), &broken).unwrap();
        let at_load: Vec<_> = load(&daemon.config())
            .iter()
            .map(|problem| json!({ "file": problem.file, "line": problem.line, "key": problem.key, "detail": problem.detail }))
            .collect();
        let answer = daemon.post("/v1/reload", "").await;
        let said = problem(&answer, 422, "config_refused");
        let line = first_difference(&good, &broken) as u64;
        let found = told(&said["problems"]);
        let wanted = (file.clone(), line, (*key).to_owned());
        let is_near = key.is_empty() && found.iter().any(|(_, at, key)| key.is_empty() && *at >= line);
        if !found.contains(&wanted) && !is_near {
            wrong.push(format!("{from:?} -> {to:?}: {line}: {key} is not among {found:?}"));
        }
        assert_eq!(told(&said["problems"]), told(&at_load.into()), "{to}: load and reload say the same");
        assert!(said["problems"].as_array().unwrap().iter().all(|one| one["detail"] != ""), "{to}: {said}");
        assert!(!answer.text().contains("canary"), "{to}: a secret is told: {}", answer.text());
        deposit(&daemon, &n.to_string()).await;
        assert_eq!(daemon.get("/status").await.json()["config"]["hash"], before["config"]["hash"], "{to}");
    }
    assert_eq!(wrong, Vec::<String>::new(), "{}", wrong.join("\n"));
    let count = BREAKAGES.len() as u64;
    settled(&daemon, &[("accepted", 3 * count), ("sent", count), ("skipped", 2 * count)]).await;
    std::fs::write(daemon.config(), &good).unwrap();
    in_force(&daemon, &["hook", "meta", "s2s"]).await;
}

// Row 65: one on top of the other, as somebody does who edits without looking; all that can be told at once is told at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn breakages_on_top_of_each_other_are_all_told_and_mended_one_by_one() {
    let sink = Sink::with_status(200).await;
    let daemon = start(&sink).await;
    let mut versions = vec![text(&daemon)];
    let before = in_force(&daemon, &["hook", "meta", "s2s"]).await;
    for (from, to, key) in BREAKAGES {
        let last = &versions[versions.len() - 1];
        // Those whose place was broken already are for the other test, like those of the syntax, which hide all others.
        if !key.is_empty() && last.contains(from) {
            versions.push(last.replacen(from, to, 1));
        }
    }
    let depth = versions.len() - 1;
    assert!(depth > 50, "{depth}");
    let mut most = 0;
    for (n, version) in versions.iter().enumerate().skip(1).chain(versions.iter().enumerate().rev().skip(1)) {
        std::fs::write(daemon.config(), version).unwrap();
        let answer = daemon.post("/v1/reload", "").await;
        if n == 0 {
            assert_eq!(answer.status, 200, "{}", answer.text());
            break;
        }
        let problems = problem(&answer, 422, "config_refused")["problems"].as_array().unwrap().len();
        most = most.max(problems);
        assert_eq!(daemon.get("/status").await.json()["config"]["hash"], before["config"]["hash"]);
    }
    println!("{depth} breakages on top of each other, at most {most} told at once");
    assert!(most >= depth / 2, "{depth} breakages, {most} problems");
    deposit(&daemon, "after").await;
    settled(&daemon, &[("sent", 1)]).await;
    in_force(&daemon, &["hook", "meta", "s2s"]).await;
}
