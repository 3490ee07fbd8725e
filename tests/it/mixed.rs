//! Ten thousand mixed events through `postbackd send`, a real daemon, and five destinations on `postbackd sink`
//! receivers of which two misbehave: the books balance to the last event.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::support::daemon::{Daemon, free_port};

const LINES: usize = 10_000;

/// The file to send, and what it must lead to.
struct Workload {
    text: String,
    /// Ids of events that are accepted, each once.
    unique: BTreeSet<String>,
    duplicates: usize,
    /// Line numbers that must be refused, from 1.
    invalid: BTreeSet<usize>,
}

impl Workload {
    fn new() -> Self {
        let mut work = Self { text: String::new(), unique: BTreeSet::new(), duplicates: 0, invalid: BTreeSet::new() };
        let mut valid: Vec<String> = Vec::new();
        for line in 1..=LINES {
            let text = if line % 50 == 7 {
                work.invalid.insert(line);
                invalid(line)
            } else if line % 33 == 5 && !valid.is_empty() {
                work.duplicates += 1;
                valid[line * 7919 % valid.len()].clone()
            } else {
                let id = format!("заказ-{line}");
                let text = event(line, &id).to_string();
                work.unique.insert(id);
                valid.push(text.clone());
                text
            };
            writeln!(work.text, "{text}").unwrap();
        }
        work
    }
}

fn event(line: usize, id: &str) -> Value {
    let canonical = ["deposit", "registration", "subscribed", "contact"][line % 4];
    let names = ["José Ñandú", "Łukasz Żółć", "Юлия Щукина", "王小明", "Jane O'Neil", "🎉 Emoji"];
    let mut event = json!({
        "event": canonical, "event_id": id, "uid": format!("клик {}&=%/{line}", line % 100),
        "user": { "email": format!("user{line}@example.com"), "first_name": names[line % 6], "ip": "203.0.113.9",
                  "user_agent": "Mozilla/5.0" },
        "click": { "campaign_name": "Лето — 夏 ☀", "fbclid": format!("IwAR{line}"), "tg_id": line },
        "page": { "url": "https://shop.example/спасибо?x=1" },
        "data": { "note": "a\"b\\c\n\u{7f}", "plan": { "name": names[(line + 1) % 6] } },
    });
    if canonical == "deposit" {
        event["value"] = [json!("25.00"), serde_json::from_str("0.1").unwrap(), json!(19), json!("1000000.99")]
            [line / 4 % 4]
            .clone();
        event["currency"] = json!(["USD", "eur"][line % 2]);
    }
    event
}

/// Lines that must be refused, in all the ways senders get it wrong.
fn invalid(line: usize) -> String {
    match line / 50 % 8 {
        0 => "{\"event\":\"deposit\",".to_owned(),
        1 => json!({ "event_id": format!("x{line}") }).to_string(),
        2 => json!({ "event": "no id and no time", "event_id": "x" }).to_string(),
        3 => json!({ "event": "deposit", "event_id": format!("x{line}"), "value": "1e3" }).to_string(),
        4 => json!({ "event": "deposit", "uid": "u" }).to_string(),
        5 => json!({ "event": "deposit", "event_id": format!("x{line}"), "currency": "EURO", "value": 1 }).to_string(),
        6 => json!({ "event": "deposit", "event_id": "x".repeat(257) }).to_string(),
        _ => "[1,2]".to_owned(),
    }
}

/// A `postbackd sink` process that records what it gets.
struct SinkProcess {
    child: Child,
    port: u16,
    record: PathBuf,
}

impl SinkProcess {
    fn start(dir: &Path, name: &str, faults: &[&str]) -> Self {
        let port = free_port();
        let record = dir.join(format!("{name}.ndjson"));
        let child = Command::new(env!("CARGO_BIN_EXE_postbackd"))
            .args(["sink", "--quiet", "--listen", &format!("127.0.0.1:{port}"), "--record"])
            .arg(&record)
            .args(faults)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("the binary starts");
        Self { child, port, record }
    }

    fn records(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.record).expect("the sink has recorded");
        text.lines().map(|line| serde_json::from_str(line).expect("one JSON object a line")).collect()
    }
}

impl Drop for SinkProcess {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn config(sinks: &[SinkProcess; 5]) -> String {
    let common =
        "allow_private = true\ntimeout = \"2s\"\nretry = { first = \"50ms\", max_delay = \"1s\", max_attempts = 0 }\n";
    let [hook, s2s, meta, bad_hook, bad_s2s] = sinks.each_ref().map(|sink| sink.port);
    let template = "?cid={uid}&tx={event_id}&sum={value}&cur={currency}&ev={event}&c={campaign_name}&d={delivery_id}";
    format!(
        "[destinations.hook]\nkind = \"webhook\"\nurl = \"http://127.0.0.1:{hook}/hook\"\n{common}\
         [destinations.s2s]\nkind = \"s2s_postback\"\nurl_template = \"http://127.0.0.1:{s2s}/pb{template}\"\n{common}\
         [destinations.meta]\nkind = \"fb_capi\"\npixel_id = \"1234567890\"\naccess_token = \"meta-token-0123456789\"\nbase_url = \"http://127.0.0.1:{meta}\"\n{common}\
         [destinations.bad-hook]\nkind = \"webhook\"\nurl = \"http://127.0.0.1:{bad_hook}/hook\"\n{common}\
         [destinations.bad-s2s]\nkind = \"s2s_postback\"\nurl_template = \"http://127.0.0.1:{bad_s2s}/pb{template}\"\n{common}"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_mixed_events_balance_to_the_last() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    let sinks = [
        SinkProcess::start(dir, "hook", &[]),
        SinkProcess::start(dir, "s2s", &[]),
        SinkProcess::start(dir, "meta", &[]),
        SinkProcess::start(
            dir,
            "bad-hook",
            &[
                "--fail",
                "8%:500",
                "--fail",
                "0.1%:429",
                "--fail",
                "0.05%",
                "--retry-after",
                "1",
                "--reset",
                "3%",
                "--hang",
                "0.3%",
            ],
        ),
        SinkProcess::start(dir, "bad-s2s", &["--fail", "5%:400", "--fail", "5%", "--reset", "3%", "--hang", "0.3%"]),
    ];
    let daemon = Daemon::start(&config(&sinks)).await;
    let work = Workload::new();
    let file = dir.join("events.ndjson");
    std::fs::write(&file, &work.text).unwrap();
    let sent = daemon.command("send").arg(&file).args(["--source", "app"]).output().unwrap();
    check_send(&work, &String::from_utf8(sent.stdout).unwrap(), &String::from_utf8(sent.stderr).unwrap());
    assert_eq!(sent.status.code(), Some(1), "lines were refused");

    let status =
        daemon.wait_for_status(|status| status["balance"]["pending"] == 0 && status["balance"]["failed"] == 0).await;
    let unique = work.unique.len();
    assert_eq!(status["balance"]["balanced"], true);
    assert_eq!(status["balance"]["accepted"], unique * 5);
    assert_eq!(status["events"]["accepted"], unique, "{status:#}");
    assert_eq!(status["events"]["duplicates"], work.duplicates, "{status:#}");
    assert_eq!(status["events"]["rejected"], work.invalid.len(), "{status:#}");
    let counts = |name: &str| status["destinations"][name]["counts"].clone();
    for name in ["hook", "s2s", "meta", "bad-hook"] {
        assert_eq!(counts(name)["sent"], unique, "{name}: {:#}", counts(name));
    }
    let dead = counts("bad-s2s")["failed_permanently"].as_u64().unwrap();
    assert!(dead > 0, "the receiver refuses one in twenty");
    assert_eq!(counts("bad-s2s")["sent"], unique - usize::try_from(dead).unwrap());

    check_healthy(&work, &sinks);
    check_dlq(&daemon, dead).await;
}

/// Every invalid line is named, nothing else is, and the summary says the rest.
fn check_send(work: &Workload, stdout: &str, stderr: &str) {
    let named: BTreeSet<usize> = stderr
        .lines()
        .filter_map(|line| line.split_once("events.ndjson:")?.1.split(':').next()?.parse().ok())
        .collect();
    assert_eq!(named, work.invalid, "{stderr}");
    for number in [LINES, work.unique.len(), work.duplicates, work.invalid.len()] {
        assert!(stdout.contains(&number.to_string()) || stderr.contains(&number.to_string()), "{number}: {stdout}");
    }
}

/// At a healthy destination every accepted event arrived exactly once, with its own id and its own text.
fn check_healthy(work: &Workload, sinks: &[SinkProcess; 5]) {
    let [hook, s2s, meta, bad_hook, _] = sinks;
    let arrived: Vec<String> = hook
        .records()
        .iter()
        .map(|record| serde_json::from_str::<Value>(record["body"].as_str().unwrap()).unwrap())
        .map(|body| body["source_event_id"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(arrived.len(), work.unique.len(), "duplicates are sent once");
    assert_eq!(arrived.into_iter().collect::<BTreeSet<_>>(), work.unique);

    let queries: Vec<BTreeMap<String, String>> = s2s.records().iter().map(query).collect();
    assert_eq!(queries.len(), work.unique.len());
    assert_eq!(queries.iter().map(|query| query["tx"].clone()).collect::<BTreeSet<_>>(), work.unique);
    assert!(queries.iter().all(|query| query["c"] == "Лето — 夏 ☀"));
    let amounts: BTreeSet<&str> = queries.iter().map(|query| query["sum"].as_str()).collect();
    assert_eq!(amounts, BTreeSet::from(["", "25.00", "0.1", "19", "1000000.99"]));

    let batches = meta.records();
    let batch = |record: &Value| -> Vec<Value> {
        let body: Value = serde_json::from_str(record["body"].as_str().unwrap()).unwrap();
        body["data"].as_array().unwrap().clone()
    };
    let meta: Vec<Value> = batches.iter().flat_map(batch).collect();
    assert_eq!(meta.len(), work.unique.len());
    assert!(batches.len() < meta.len() / 2, "{} requests for {} events", batches.len(), meta.len());
    assert_eq!(
        meta.iter().map(|event| event["event_id"].as_str().unwrap().to_owned()).collect::<BTreeSet<_>>(),
        work.unique
    );

    // Where attempts fail, an event may arrive more than once, but always under one id.
    let mut ids: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for record in bad_hook.records() {
        let Ok(body) = serde_json::from_str::<Value>(record["body"].as_str().unwrap()) else { continue };
        let id = body["event_id"].as_str().unwrap().to_owned();
        ids.entry(body["source_event_id"].as_str().unwrap().to_owned()).or_default().insert(id);
    }
    assert_eq!(ids.len(), work.unique.len());
    assert!(ids.values().all(|ids| ids.len() == 1));
}

fn query(record: &Value) -> BTreeMap<String, String> {
    let url = url::Url::parse(&format!("http://sink{}", record["path"].as_str().unwrap())).unwrap();
    url.query_pairs().into_owned().collect()
}

/// The DLQ holds what was refused, with its reason; replaying it brings it back under the same ids.
async fn check_dlq(daemon: &Daemon, dead: u64) {
    let page = daemon.get("/v1/dlq?limit=1000").await.json();
    assert_eq!(page["total"], dead);
    for entry in page["entries"].as_array().unwrap() {
        assert_eq!(entry["destination"], "bad-s2s");
        assert_eq!(entry["reason"], "permanent");
        assert_eq!(entry["response"]["status"], 400);
    }
    let counted = daemon.post("/v1/dlq/replay", r#"{"all":true,"dry_run":true}"#).await.json();
    assert_eq!((&counted["matched"], &counted["replayed"]), (&json!(dead), &json!(0)));
    let replayed = daemon.post("/v1/dlq/replay", r#"{"all":true}"#).await.json();
    assert_eq!(replayed["replayed"], dead);
    let status =
        daemon.wait_for_status(|status| status["balance"]["pending"] == 0 && status["balance"]["failed"] == 0).await;
    assert_eq!(status["balance"]["balanced"], true);
    let left = status["destinations"]["bad-s2s"]["counts"]["failed_permanently"].as_u64().unwrap();
    assert!(left < dead, "most of them are taken at the second try");
}
