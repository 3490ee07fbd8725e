//! Replays and discards of many (SPEC 5, 8.2, 8.3): counted first, paced, cancelable, through crashes, each once; groups of
//! faults; and the trail of what operators did.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::support::daemon::Daemon;
use crate::support::desk::{delivery, deposit, lines, problem, settled, webhook};
use crate::support::sink::{Act, Reply, Sink};

async fn refusing() -> Sink {
    Sink::start(vec![Act::Reply(Reply::new(400, "no"))]).await
}

/// A daemon whose destination `a` has refused that many deposits for good.
async fn with_dead(sink: &Sink, count: u64) -> Daemon {
    let daemon = Daemon::start(&webhook("a", &sink.url("/a"), "concurrency = 64")).await;
    let mut sent = 0;
    while sent < count {
        let until = (sent + 1000).min(count);
        let mut body = String::new();
        for number in sent..until {
            writeln!(body, r#"{{"event":"deposit","event_id":"{number}"}}"#).unwrap();
        }
        assert_eq!(lines(&daemon, &body).await.status, 202);
        sent = until;
    }
    settled(&daemon, &[("failed_permanently", count)]).await;
    daemon
}

async fn order(daemon: &Daemon, verb: &str, body: &Value) -> Value {
    let answer = daemon.post(&format!("/v1/dlq/{verb}"), &body.to_string()).await;
    assert_eq!(answer.status, 200, "{body}: {}", answer.text());
    answer.json()
}

async fn job(daemon: &Daemon, id: &str) -> Value {
    daemon.get(&format!("/v1/jobs/{id}")).await.json()
}

async fn ended(daemon: &Daemon, id: &str) -> Value {
    let start = std::time::Instant::now();
    loop {
        let job = job(daemon, id).await;
        if job["state"] != "running" {
            return job;
        }
        assert!(start.elapsed() < crate::support::daemon::PATIENCE * 3, "{job}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

// Row 78.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_of_20_000_goes_on_after_sigkill_and_takes_each_once() {
    const MANY: u64 = 20_000;
    let sink = refusing().await;
    let mut daemon = with_dead(&sink, MANY).await;
    let dry = json!({ "all": true, "dry_run": true });
    assert_eq!(order(&daemon, "replay", &dry).await, json!({ "matched": MANY, "replayed": 0, "job": null }));
    // The receiver refuses still: each replayed one dies again, and stands where the job has been or has yet to come.
    let said = order(&daemon, "replay", &json!({ "all": true })).await;
    assert_eq!((&said["matched"], &said["replayed"]), (&json!(MANY), &json!(0)));
    let id = said["job"].as_str().unwrap().to_owned();
    let mut seen = Vec::new();
    for _ in 0..2 {
        let before = seen.last().copied().unwrap_or(0);
        loop {
            let done = job(&daemon, &id).await["done"].as_u64().unwrap();
            if done > before + 2000 {
                seen.push(done);
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        daemon.kill();
        daemon.restart().await;
    }
    assert!(seen.iter().all(|done| *done < MANY), "it was killed in the middle: {seen:?}");
    let job = ended(&daemon, &id).await;
    assert_eq!((&job["state"], &job["done"], &job["failed"]), (&json!("done"), &json!(MANY), &json!(0)), "{job}");
    settled(&daemon, &[("failed_permanently", MANY), ("pending", 0), ("failed", 0)]).await;
    // The trace says how often each was sent: a crash may repeat an exchange that was not recorded, but never records one twice.
    let mut attempts: BTreeMap<u64, u64> = BTreeMap::new();
    let mut cursor = String::new();
    loop {
        let page = daemon.get(&format!("/v1/deliveries?limit=1000{cursor}")).await.json();
        for row in page["deliveries"].as_array().unwrap() {
            *attempts.entry(row["attempt_count"].as_u64().unwrap()).or_default() += 1;
        }
        match page["cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(attempts, BTreeMap::from([(2, MANY)]), "each was attempted once before and once by the job");
}

// Row 78.
#[tokio::test]
async fn a_rate_paces_a_job_and_a_cancel_leaves_the_rest_dead() {
    let sink = refusing().await;
    let mut daemon = with_dead(&sink, 5).await;
    sink.set(vec![Act::Reply(Reply::new(200, ""))]);
    let said = order(&daemon, "replay", &json!({ "all": true, "rate": "1/h", "reason": "slowly" })).await;
    assert_eq!((&said["matched"], &said["replayed"]), (&json!(5), &json!(0)));
    let id = said["job"].as_str().unwrap().to_owned();
    settled(&daemon, &[("sent", 1), ("failed_permanently", 4)]).await;
    daemon.kill();
    daemon.restart().await;
    // A restart is no reason to hurry: give it time to do what it must not do.
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    settled(&daemon, &[("sent", 1), ("failed_permanently", 4)]).await;
    let running = job(&daemon, &id).await;
    let wanted = (&json!("replay"), &json!("running"), &json!(1), &json!("1/h"), &Value::Null);
    let shown = (&running["kind"], &running["state"], &running["done"], &running["rate"], &running["finished_at"]);
    assert_eq!(shown, wanted, "{running}");
    let said = daemon.request("DELETE", &format!("/v1/jobs/{id}"), &[], b"").await;
    assert_eq!((said.status, &said.json()["state"]), (200, &json!("cancelled")), "{}", said.text());
    let again = daemon.request("DELETE", &format!("/v1/jobs/{id}"), &[], b"").await;
    assert_eq!((again.status, &again.json()["state"]), (200, &json!("cancelled")));
    assert!(again.json()["finished_at"].is_string());
    assert_eq!(daemon.get("/v1/jobs").await.json()["jobs"][0]["id"], json!(id));
    settled(&daemon, &[("sent", 1), ("failed_permanently", 4), ("pending", 0)]).await;
    for stranger in ["job_1", "job_0000000000000000000001", "dlv_1", "%ff"] {
        let answer = daemon.get(&format!("/v1/jobs/{stranger}")).await;
        assert!(matches!(answer.status, 404 | 422), "{stranger}: {}", answer.text());
    }
    problem(&daemon.get("/v1/jobs?state=done").await, 422, "unknown");

    let said = order(&daemon, "replay", &json!({ "all": true, "rate": "20/s" })).await;
    let start = std::time::Instant::now();
    let job = ended(&daemon, said["job"].as_str().unwrap()).await;
    assert_eq!((&job["done"], &job["state"]), (&json!(4), &json!("done")));
    assert!(start.elapsed() >= std::time::Duration::from_millis(140), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_discard_of_many_is_a_job_too() {
    let sink = refusing().await;
    let daemon = with_dead(&sink, 700).await;
    let said = order(&daemon, "discard", &json!({ "filter": { "destination": "a" }, "reason": "old" })).await;
    assert_eq!((&said["matched"], &said["discarded"]), (&json!(700), &json!(0)));
    let job = ended(&daemon, said["job"].as_str().unwrap()).await;
    assert_eq!((&job["kind"], &job["done"], &job["reason"]), (&json!("discard"), &json!(700), &json!("old")));
    settled(&daemon, &[("discarded", 700), ("failed_permanently", 0)]).await;
    assert_eq!(delivery(&daemon, "7", "a").await["reason"], "old");
}

#[tokio::test]
async fn faults_are_grouped_and_a_group_s_filter_takes_exactly_it() {
    let answers = |status, text: &str| Act::Reply(Reply::new(status, text));
    let sink = Sink::start(vec![
        answers(400, "unknown click 4711"),
        answers(400, "unknown click 4712"),
        answers(400, "bad currency"),
        answers(404, "unknown click 9"),
    ])
    .await;
    let daemon = Daemon::start(&webhook("a", &sink.url("/a"), "concurrency = 1")).await;
    for number in 1..=4 {
        deposit(&daemon, &number.to_string()).await;
        settled(&daemon, &[("failed_permanently", number)]).await;
    }
    let found = daemon.get("/v1/dlq/groups").await.json();
    assert_eq!((&found["entries"], &found["complete"], &found["cursor"]), (&json!(4), &json!(true), &Value::Null));
    let groups = found["groups"].as_array().unwrap();
    assert_eq!(groups.len(), 3, "{found:#}");
    assert_eq!((&groups[0]["count"], &groups[0]["response_status"]), (&json!(2), &json!(400)));
    assert_eq!(groups[0]["detail"], "HTTP #: unknown click #");
    assert_eq!(groups[0]["sample"], delivery(&daemon, "2", "a").await["id"], "the newest");
    for group in groups {
        let body = json!({ "filter": group["filter"], "dry_run": true });
        assert_eq!(order(&daemon, "replay", &body).await["matched"], group["count"], "{group}");
    }
    let matched = async |filter: Value| {
        order(&daemon, "replay", &json!({ "filter": filter, "dry_run": true })).await["matched"].clone()
    };
    assert_eq!(matched(json!({ "response_status": 404 })).await, 1);
    assert_eq!(matched(json!({ "response_status": "400", "detail": "CLICK" })).await, 2);
    assert_eq!(matched(json!({ "response_status": "none" })).await, 0);
    for (query, path) in [("response_status=4xx", "response_status"), ("fault=1", "fault"), ("status=sent", "status")] {
        let said = problem(&daemon.get(&format!("/v1/dlq/groups?{query}")).await, 422, "invalid");
        assert_eq!(said["path"], path);
    }
    problem(&daemon.get("/v1/deliveries?fault=0123456789ab").await, 422, "unknown");
    let said = daemon.post("/v1/dlq/replay", r#"{"filter":{"response_status":4}}"#).await;
    assert_eq!(problem(&said, 422, "invalid")["path"], "$.filter.response_status");
}

#[tokio::test]
async fn what_operators_do_is_kept_with_who_what_and_why() {
    let sink = refusing().await;
    let mut daemon = with_dead(&sink, 1).await;
    let named = [("x-postbackd-operator", "jane")];
    let pause = br#"{"reason":"moving","for":"1h"}"#;
    let said = daemon.request("POST", "/v1/destinations/a/pause", &named, pause).await;
    assert_eq!(said.status, 200, "{}", said.text());
    daemon.post("/v1/destinations/a/resume", "").await;
    daemon.post("/v1/destinations/a/release", "").await;
    daemon.post("/v1/destinations/a/test", "").await;
    daemon.post("/v1/reload", "").await;
    order(&daemon, "replay", &json!({ "all": true, "dry_run": true })).await;
    order(&daemon, "discard", &json!({ "filter": { "uid": "canary-uid" }, "reason": "none" })).await;
    order(&daemon, "discard", &json!({ "all": true, "reason": "junk" })).await;
    daemon.kill();
    daemon.restart().await;
    let trail = daemon.get("/v1/audit").await;
    assert!(!trail.text().contains("canary"), "{}", trail.text());
    let deeds = trail.json()["deeds"].as_array().unwrap().clone();
    let told: Vec<(&str, &str)> =
        deeds.iter().map(|deed| (deed["action"].as_str().unwrap(), deed["result"].as_str().unwrap())).collect();
    assert_eq!(told[0], ("discard", "1 discarded"));
    assert_eq!(told[1], ("discard", "0 discarded"));
    assert_eq!(told[2].0, "reload");
    assert_eq!(told[3], ("test", "sent: permanent"));
    assert_eq!(told[4..], [("release", "active"), ("resume", "resumed"), ("pause", "paused")]);
    let first = deeds.last().unwrap();
    assert_eq!(
        (&first["by"], &first["from"], &first["operator"]),
        (&json!("loopback"), &json!("127.0.0.1"), &json!("jane"))
    );
    assert_eq!(
        (&first["target"], &first["reason"], &first["arguments"]["for"]),
        (&json!("a"), &json!("moving"), &json!("1h"))
    );
    let page = daemon.get("/v1/audit?limit=5").await.json();
    let rest = daemon.get(&format!("/v1/audit?cursor={}", page["cursor"].as_str().unwrap())).await.json();
    assert_eq!(rest["deeds"].as_array().unwrap().len(), 2);
    assert_eq!(problem(&daemon.get("/v1/audit?cursor=x").await, 422, "invalid")["path"], "cursor");

    let text = std::fs::read_to_string(daemon.config()).unwrap();
    std::fs::write(daemon.config(), format!("{text}\n{}", webhook("b", &sink.url("/b"), ""))).unwrap();
    let start = std::time::Instant::now();
    loop {
        let newest = daemon.get("/v1/audit?limit=1").await.json()["deeds"][0].clone();
        if newest["by"] == "file" {
            assert_eq!(newest["action"], "reload");
            assert!(newest["result"].as_str().unwrap().contains("1 added"), "{newest}");
            break;
        }
        assert!(start.elapsed() < crate::support::daemon::PATIENCE, "{newest}");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn the_command_line_replays_waits_exports_and_backfills() {
    let sink = refusing().await;
    let daemon = with_dead(&sink, 600).await;
    let groups = daemon.cli(&["dlq", "groups"], "").await;
    assert!(groups.out.contains("600") && groups.out.contains("HTTP #: no"), "{groups:?}");
    let wanted = groups.err.trim().strip_prefix("to deliver the first group again: postbackd ").unwrap();
    let mut words: Vec<&str> = wanted.split(' ').collect();
    words.push("--dry-run");
    let dry = daemon.cli(&words, "").await;
    assert_eq!((dry.code, dry.out.as_str()), (0, "600 would be replayed; nothing was changed\n"), "{dry:?}");

    let sheet = daemon.cli(&["dlq", "export", "--format", "csv"], "").await.out;
    assert!(sheet.starts_with("id,destination,event_id,event,") && sheet.lines().count() == 601, "{sheet}");
    // More than the API gives at once.
    let all = daemon.cli(&["deliveries", "--all"], "").await.out;
    assert_eq!(all.lines().filter(|line| line.starts_with("{\"id\":\"dlv_")).count(), 600, "{all}");
    assert_eq!(daemon.cli(&["deliveries", "--all", "--csv"], "").await.out.lines().count(), 601);
    let log = daemon.cli(&["deliveries", "--csv", "--limit", "3"], "").await.out;
    assert_eq!(log.lines().count(), 4, "{log}");

    let dead = daemon.cli(&["dlq", "export"], "").await.out;
    let again = daemon.cli(&["send", "-", "--source", "app", "--since", "-1h"], &dead).await;
    assert_eq!(
        (again.code, again.out.as_str()),
        (0, "sent 600 lines: 0 queued, 600 duplicate (0 conflicts), 0 rejected, 0 out of range\n")
    );
    let none = daemon.cli(&["send", "-", "--source", "app", "--until", "-1h"], &dead).await;
    assert!(none.out.starts_with("sent 0 lines") && none.out.contains("600 out of range"), "{none:?}");
    let wrong = daemon.cli(&["send", "-", "--source", "app", "--since", "monday"], "").await;
    assert_eq!(wrong.code, 2, "{wrong:?}");

    sink.set(vec![Act::Reply(Reply::new(200, ""))]);
    let quick = daemon.cli(&["dlq", "replay", "--all", "--rate", "1/h"], "").await;
    assert!(quick.code == 0 && quick.out.contains("600 matched, 0 replayed; job_"), "{quick:?}");
    settled(&daemon, &[("sent", 1)]).await;
    let id = daemon.cli(&["jobs", "--json"], "").await.json()["jobs"][0]["id"].as_str().unwrap().to_owned();
    let cancelled = daemon.cli(&["jobs", "--cancel", &id], "").await;
    assert_eq!(cancelled.out, format!("{id} replay cancelled: 1 of 600\n"));
    assert_eq!(daemon.cli(&["jobs", &id], "").await.out, cancelled.out);
    assert_eq!(daemon.cli(&["jobs", "job_1"], "").await.code, 1);
    let waited = daemon.cli(&["dlq", "replay", "--all", "--wait"], "").await;
    assert!(waited.code == 0 && waited.out.contains("replay done: 599 of 599"), "{waited:?}");
    settled(&daemon, &[("sent", 600), ("failed_permanently", 0)]).await;
    let audit = daemon.cli(&["audit"], "").await;
    assert!(audit.out.contains("cancel") && audit.out.contains(&id), "{audit:?}");
}
