//! What a script or an operator at a terminal may rely on (SPEC 7, 8.1, 8.2): exit codes, `--json`, and words that help.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::daemon::{Daemon, PATIENCE, TOKEN};
use crate::support::desk::{SLOW, delivery, deposit, settled, webhook};
use crate::support::sink::{Act, Reply, Sink};

#[tokio::test]
async fn status_check_answers_like_a_monitoring_plugin() {
    let sink = Sink::with_status(200).await;
    let mut daemon = Daemon::start(&webhook("hook", &sink.url("/"), "")).await;
    deposit(&daemon, "1").await;
    settled(&daemon, &[("sent", 1)]).await;
    let ok = daemon.cli(&["status", "--check"], "").await;
    assert_eq!((ok.code, ok.out.lines().count()), (0, 1), "{ok:?}");
    assert_eq!(ok.out.trim_end(), "POSTBACKD OK - 1 destination | pending=0 failed=0 failed_permanently=0 sent=1c");

    sink.set(vec![Act::Reply(Reply::new(401, ""))]);
    deposit(&daemon, "2").await;
    daemon.wait_for_status(|status| status["state"] == "degraded").await;
    let degraded = daemon.cli(&["status", "--check"], "").await;
    assert_eq!(degraded.code, 1, "{degraded:?}");
    assert!(degraded.out.starts_with("POSTBACKD WARNING - hook is held: "), "{degraded:?}");

    daemon.kill();
    let away = daemon.cli(&["status", "--check"], "").await;
    assert_eq!(away.code, 2, "{away:?}");
    assert!(away.out.starts_with("POSTBACKD CRITICAL - "), "{away:?}");
    let away = daemon.cli(&["status"], "").await;
    assert_eq!((away.code, away.out.as_str()), (1, ""), "{away:?}");
    assert!(away.err.contains("is it running?"), "{away:?}");
}

#[tokio::test]
async fn the_admin_token_comes_from_the_configuration_or_the_environment() {
    let daemon = Daemon::start_with("admin_token = \"canary-admin-token\"", "").await;
    assert_eq!(daemon.cli(&["status", "--json"], "").await.json()["state"], "ok");
    let url = format!("http://127.0.0.1:{}", daemon.port);
    let blind = ["status", "--json", "--config", "/nowhere.toml", "--url", url.as_str()];
    // The later --config wins over the one the helper gives.
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_postbackd"));
    command.args(blind).env("POSTBACKD_ADMIN_TOKEN", "canary-admin-token");
    let told = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    assert!(told.status.success(), "{told:?}");
    let wrong = daemon.cli_with(&["status"], "", &[("POSTBACKD_ADMIN_TOKEN", "another")]).await;
    assert_eq!(wrong.code, 1);
    assert!(wrong.err.contains("POSTBACKD_ADMIN_TOKEN") && !wrong.err.contains("another"), "{wrong:?}");
}

#[tokio::test]
async fn json_outputs_are_what_the_api_says_and_tables_say_the_same() {
    let (good, refusing) = (Sink::with_status(200).await, Sink::start(vec![Act::Reply(Reply::new(400, "no\n"))]).await);
    let config = [webhook("good", &good.url("/"), ""), webhook("bad", &refusing.url("/"), "")];
    let daemon = Daemon::start(&config.concat()).await;
    for id in ["1", "2", "3"] {
        deposit(&daemon, id).await;
    }
    settled(&daemon, &[("sent", 3), ("failed_permanently", 3)]).await;
    let dead = delivery(&daemon, "3", "bad").await["id"].as_str().unwrap().to_owned();

    let log = daemon.get("/v1/deliveries?destination=bad").await.json();
    let told = daemon.cli(&["deliveries", "--destination", "bad", "--json"], "").await;
    assert_eq!((told.code, told.json()), (0, log));
    let cut = daemon.cli(&["deliveries", "--limit", "2", "--json"], "").await.json();
    assert_eq!(cut["deliveries"].as_array().unwrap().len(), 2);
    let next = cut["cursor"].as_str().unwrap().to_owned();
    let rest = daemon.cli(&["deliveries", "--json", "--cursor", &next], "").await.json();
    assert_eq!((rest["deliveries"].as_array().unwrap().len(), &rest["cursor"]), (4, &Value::Null));
    let table = daemon.cli(&["deliveries", "--status", "failed_permanently"], "").await;
    assert_eq!(table.out.lines().count(), 4, "{}", table.out);
    assert!(
        table.out.lines().skip(1).all(|line| line.contains("permanent") && line.contains(" 400 ")),
        "{}",
        table.out
    );

    assert_eq!(daemon.cli(&["event", "1", "--json"], "").await.json(), daemon.get("/v1/events/1").await.json());
    let text = daemon.cli(&["event", "1"], "").await;
    assert!(text.out.contains("bad: failed_permanently, as deposit, reason permanent"), "{}", text.out);
    assert!(!text.out.contains('\u{fffd}'), "line ends of an answer are no damage: {}", text.out);
    assert_eq!(daemon.cli(&["event", "nobody"], "").await.code, 1);

    assert_eq!(daemon.cli(&["dlq", "list", "--json"], "").await.json(), daemon.get("/v1/dlq").await.json());
    let entry = daemon.get(&format!("/v1/dlq/{dead}")).await.json();
    assert_eq!(daemon.cli(&["dlq", "show", &dead, "--json"], "").await.json(), entry);
    let shown = daemon.cli(&["dlq", "show", &dead], "").await;
    assert!(shown.out.contains("detail: HTTP 400: no") && shown.out.contains("answer 400"), "{}", shown.out);
    let exported = daemon.cli(&["dlq", "export", "--destination", "bad"], "").await;
    let lines: Vec<Value> = exported.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((lines.len(), &lines[0]), (3, &entry), "newest first");
    let status = daemon.cli(&["status", "--json"], "").await.json();
    assert_eq!(status["balance"], daemon.get("/status").await.json()["balance"]);
    let text = daemon.cli(&["status"], "").await;
    assert!(text.code == 0 && text.out.contains("balance  6 accepted = 0 pending"), "{}", text.out);
}

#[tokio::test]
async fn long_lists_are_whole_though_the_api_gives_them_in_pages() {
    let sink = Sink::start(vec![Act::Reply(Reply::new(400, ""))]).await;
    let config = [webhook("dead", &sink.url("/"), ""), webhook("off", &sink.url("/"), "enabled = false")];
    let daemon = Daemon::start(&config.concat()).await;
    let events: Vec<Value> = (0..280).map(|id| json!({ "event": "deposit", "event_id": id })).collect();
    assert_eq!(daemon.post("/v1/events", &Value::from(events).to_string()).await.json()["queued"], 280);
    settled(&daemon, &[("failed_permanently", 280), ("skipped", 280)]).await;
    let ids = |rows: &[Value]| rows.iter().map(|row| row["id"].to_string()).collect::<BTreeSet<_>>();
    let log = daemon.cli(&["deliveries", "--json", "--limit", "100000"], "").await.json();
    let log = log["deliveries"].as_array().unwrap();
    assert_eq!((log.len(), ids(log).len()), (560, 560));
    let exported = daemon.cli(&["dlq", "export"], "").await.out;
    let lines: Vec<Value> = exported.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((lines.len(), ids(&lines).len()), (280, 280));
    let page = daemon.cli(&["dlq", "list", "--json", "--limit", "7"], "").await.json();
    assert_eq!((page["entries"].as_array().unwrap().len(), &page["total"]), (7, &json!(280)));
    let told = daemon.cli(&["dlq", "replay", "--all", "--dry-run", "--json"], "").await.json();
    assert_eq!(told["matched"], 280);
    sink.set(vec![Act::Reply(Reply::new(200, ""))]);
    let told = daemon.cli(&["dlq", "replay", "--all", "--json"], "").await.json();
    assert_eq!((&told["matched"], &told["replayed"]), (&json!(280), &json!(280)));
    settled(&daemon, &[("sent", 280), ("failed_permanently", 0)]).await;
}

#[tokio::test]
async fn replay_and_discard_want_to_be_told_which_and_say_what_they_did() {
    let sink = Sink::start(vec![Act::Reply(Reply::new(400, ""))]).await;
    let daemon = Daemon::start(&webhook("hook", &sink.url("/"), "")).await;
    for id in ["1", "2", "3"] {
        deposit(&daemon, id).await;
    }
    settled(&daemon, &[("failed_permanently", 3)]).await;
    sink.set(vec![Act::Reply(Reply::new(200, ""))]);
    let id = delivery(&daemon, "1", "hook").await["id"].as_str().unwrap().to_owned();
    let stranger = "dlv_0000000000000000000010001";
    for wrong in [
        &["dlq", "replay"][..],
        &["dlq", "replay", "--all", "--destination", "hook"],
        &["dlq", "replay", &id, "--all"],
        &["dlq", "discard", &id],
        &["dlq", "discard", "--reason", "x"],
        &["dlq", "replay", "--reason", "tls"],
        &["dlq", "nonsense"],
    ] {
        assert_eq!(daemon.cli(wrong, "").await.code, 2, "{wrong:?}");
    }
    for refused in [
        &["dlq", "replay", "dlv_1"][..],
        &["dlq", "replay", "--destination", "nobody"],
        &["dlq", "replay", "--all", "--rate", "fast"],
        &["dlq", "replay", stranger],
    ] {
        let told = daemon.cli(refused, "").await;
        assert_eq!(told.code, 1, "{refused:?}: {told:?}");
    }
    let dry = daemon.cli(&["dlq", "replay", "--all", "--dry-run"], "").await;
    assert_eq!((dry.code, dry.out.trim_end()), (0, "3 would be replayed; nothing was changed"));
    settled(&daemon, &[("failed_permanently", 3)]).await;
    let one = daemon.cli(&["dlq", "replay", &id, "--json"], "").await;
    assert_eq!((one.code, one.json()), (0, json!({ "matched": 1, "replayed": 1, "job": null })));
    settled(&daemon, &[("sent", 1)]).await;
    let mixed = daemon.cli(&["dlq", "replay", &id], "").await;
    assert_eq!((mixed.code, mixed.out.trim_end()), (1, "0 matched, 0 replayed; 1 of the ids are not in the DLQ"));
    let purge =
        daemon.cli(&["dlq", "discard", "--event", "deposit", "--with-reason", "permanent", "--reason", "a test"], "");
    assert_eq!(purge.await.out.trim_end(), "2 matched, 2 discarded");
    settled(&daemon, &[("sent", 1), ("discarded", 2)]).await;
    assert_eq!(daemon.cli(&["dlq", "list"], "").await.err.trim_end(), "no dead deliveries");
}

#[tokio::test]
async fn send_reads_standard_input_and_names_every_refused_line() {
    let daemon = Daemon::start_with("batch_limit = 4", "").await;
    let event = |id: u32| format!("{{\"event\":\"deposit\",\"event_id\":\"{id}\"}}\n");
    let input = [
        event(1),
        "\n".to_owned(),
        "{\"event\":\"deposit\"}\n".to_owned(),
        "   \n".to_owned(),
        "{not json\n".to_owned(),
        event(1),
        "{\"event\":\"deposit\",\"event_id\":\"1\",\"value\":2}\n".to_owned(),
        (2..60).map(event).collect(),
    ];
    let told = daemon.cli(&["send", "-", "--source", "app"], &input.concat()).await;
    assert_eq!(told.code, 1);
    assert_eq!(told.out.trim_end(), "sent 63 lines: 59 queued, 2 duplicate (1 conflicts), 2 rejected");
    let refused: Vec<&str> = told.err.lines().collect();
    assert_eq!(refused.len(), 2, "{}", told.err);
    assert!(refused[0].starts_with("-:3: $.event_id: "), "{}", refused[0]);
    assert!(refused[1].starts_with("-:5: $: column 2: "), "the place is in the file, not in a batch: {}", refused[1]);
    let books = daemon.wait_for_status(|status| status["events"]["accepted"] == 59).await["events"].clone();
    assert_eq!((&books["duplicates"], &books["conflicts"]), (&json!(2), &json!(1)));
    let rejected = books["rejected"].as_u64().unwrap();
    assert!(rejected <= 2 + 63, "a batch that was too long is learnt from once, not at every size: {rejected}");

    let again = daemon.cli(&["send", "-", "--source", "app", "--json"], &event(1)).await;
    let sums = json!({ "lines": 1, "queued": 0, "duplicate": 1, "conflicts": 0, "rejected": 0 });
    assert_eq!((again.code, again.json()), (0, sums), "a repeat is no failure");
    assert_eq!(daemon.cli(&["send", "-", "--token", TOKEN], "").await.code, 0);
    let wrong = daemon.cli(&["send", "-", "--token", "wrong-token"], &event(1)).await;
    assert_eq!(wrong.code, 1);
    assert!(wrong.err.contains("401") && wrong.err.contains("-:1: "), "{wrong:?}");
    assert!(!wrong.err.contains("wrong-token"), "{wrong:?}");
    for usage in [&["send", "-"][..], &["send", "-", "--source", "nobody"], &["send"]] {
        assert_eq!(daemon.cli(usage, "").await.code, 2, "{usage:?}");
    }
    assert_eq!(daemon.cli(&["send", "/nowhere", "--source", "app"], "").await.code, 1);
}

#[tokio::test]
async fn send_waits_for_a_daemon_that_is_away_and_gives_up_in_the_end() {
    let mut daemon = Daemon::start("").await;
    daemon.kill();
    let event = r#"{"event":"deposit","event_id":"1"}"#;
    let words = ["send", "-", "--source", "app", "--patience", "300ms"];
    let gave_up = daemon.cli(&words, event).await;
    assert_eq!(gave_up.code, 1);
    assert!(gave_up.err.contains("gave up after 300ms; nothing from this line on was sent"), "{gave_up:?}");
    // Somebody else on its port hangs up on the first attempt; then the daemon is back.
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", daemon.port)).await.unwrap();
    let sending = daemon.cli(&["send", "-", "--source", "app"], event);
    drop(tokio::time::timeout(PATIENCE, listener.accept()).await.unwrap().unwrap());
    drop(listener);
    daemon.restart().await;
    let sent = sending.await;
    assert_eq!((sent.code, sent.out.trim_end()), (0, "sent 1 lines: 1 queued, 0 duplicate (0 conflicts), 0 rejected"));
    assert!(sent.err.contains("trying again for 1m"), "{sent:?}");
}

#[tokio::test]
async fn check_tells_every_problem_and_exits_by_it() {
    let daemon = Daemon::start(&webhook("hook", "http://127.0.0.1:9/", SLOW)).await;
    let good = daemon.cli(&["check", "--json"], "").await;
    assert_eq!((good.code, &good.json()["ok"], &good.json()["problems"]), (0, &json!(true), &json!([])));
    daemon.edit("reserve = ", "reserv = ");
    daemon.edit("kind = \"webhook\"", "kind = \"webhok\"");
    let bad = daemon.cli(&["check", "--json"], "").await;
    assert_eq!((bad.code, &bad.json()["ok"]), (1, &json!(false)));
    let problems = bad.json()["problems"].as_array().unwrap().clone();
    assert_eq!(problems.len(), 2, "{problems:?}");
    for problem in &problems {
        assert!(problem["file"].is_string() && problem["line"].is_number(), "{problem}");
        assert!(problem["key"].is_string() && problem["detail"].is_string(), "{problem}");
    }
    let text = daemon.cli(&["check"], "").await;
    for (problem, key) in problems.iter().zip(["storage.reserv", "destinations.hook.kind"]) {
        let wanted = format!("{}:{}: {key}: ", daemon.config().display(), problem["line"]);
        assert!(text.out.lines().any(|line| line.starts_with(&wanted)), "{wanted}: {}", text.out);
    }
    // A broken file on disk keeps nobody from the running daemon.
    assert_eq!(daemon.cli(&["status", "--json"], "").await.json()["state"], "ok");
}

#[tokio::test]
async fn every_verb_explains_itself_and_unknown_ones_are_usage_errors() {
    let run = |words: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_postbackd"));
        command.args(words);
        async { tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap() }
    };
    for verb in [
        "run",
        "check",
        "status",
        "send",
        "deliveries",
        "event",
        "dlq",
        "pause",
        "resume",
        "release",
        "sink",
        "demo",
        "completions",
    ] {
        let help = run(&[verb, "--help"]).await;
        assert!(help.status.success() && help.stdout.len() > 100, "{verb}");
    }
    for shell in ["bash", "zsh", "fish"] {
        let script = run(&["completions", shell]).await;
        assert!(script.status.success() && String::from_utf8_lossy(&script.stdout).contains("postbackd"), "{shell}");
    }
    for words in [&[][..], &["nonsense"], &["status", "--nonsense"], &["deliveries", "--status", "dead"]] {
        assert_eq!(run(words).await.status.code(), Some(2), "{words:?}");
    }
    let unread = run(&["deliveries", "--config", "/nowhere.toml"]).await;
    assert_eq!(unread.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&unread.stderr).contains("/nowhere.toml"), "{unread:?}");
}
