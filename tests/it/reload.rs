//! Changing the configuration of a running daemon (SPEC 8, 8.1, 8.2): what is good is in force within a second, what is not
//! changes nothing and is told everywhere. The rows are those of the fault catalogue.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::net::UnixDatagram;

use crate::support::daemon::{Daemon, TOKEN};
use crate::support::desk::{deposit, problem, settled, webhook};
use crate::support::reload::{configured, in_force, refused, reload, save, text};
use crate::support::sink::Sink;

const NOWHERE: &str = "http://127.0.0.1:9/";

#[tokio::test]
async fn a_destination_added_to_the_file_gets_the_next_event_within_a_second() {
    let first = Sink::with_status(200).await;
    let daemon = Daemon::start(&webhook("first", &first.url("/"), "")).await;
    let mut took = Vec::new();
    // A machine that does other things as well may be late; five times in a row it is us.
    for n in 0..5 {
        let (name, sink) = (format!("added-{n}"), Sink::with_status(200).await);
        let edited = text(&daemon) + &webhook(&name, &sink.url("/"), "");
        let saved = Instant::now();
        std::fs::write(daemon.config(), edited).unwrap();
        daemon.wait_for_status(|status| configured(status).contains(&name)).await;
        let event = deposit(&daemon, &name).await;
        let seen = sink.wait_for(1).await;
        took.push(saved.elapsed());
        assert_eq!(seen[0].header("webhook-id").unwrap().split('_').next(), Some("dlv"), "{event}");
        if took.last().is_some_and(|took| *took < Duration::from_secs(1)) {
            return;
        }
    }
    panic!("in force and delivered after {took:?}");
}

/// Row 65, and 66 where it is half-written.
#[tokio::test]
async fn a_broken_file_changes_nothing_and_is_told_everywhere() {
    let sink = Sink::with_status(200).await;
    let mut daemon = Daemon::prepare("", &webhook("hook", &sink.url("/"), ""));
    let log = daemon.path("log");
    daemon.set_log(log.clone());
    daemon.restart().await;
    let good = text(&daemon);
    let before = in_force(&daemon, &["hook"]).await;
    assert_eq!((&before["state"], &before["config"]["error"]), (&json!("ok"), &Value::Null));

    let broken = good.replace("[storage]", "lisen = 1\n[storage]") + "concurrency = 0\n";
    std::fs::write(daemon.config(), &broken).unwrap();
    let status = refused(&daemon, "did you mean").await;
    let error = &status["config"]["error"];
    let problems = error["problems"].as_array().unwrap();
    let found: Vec<(&str, u64)> =
        problems.iter().map(|one| (one["key"].as_str().unwrap(), one["line"].as_u64().unwrap())).collect();
    assert_eq!(found, [("server.lisen", 4), ("destinations.hook.concurrency", 16)]);
    assert!(problems.iter().all(|one| one["file"] == daemon.config().to_str().unwrap()), "{error}");
    assert_eq!(
        (&error["message"], &status["state"]),
        (&json!("2 problems; postbackd check lists them"), &json!("degraded"))
    );
    let reason = status["reasons"][0].as_str().unwrap();
    assert!(reason.starts_with("the configuration file is refused, the one before goes on: "), "{reason}");
    assert!(reason.ends_with("(and 1 more)"), "{reason}");
    for member in ["hash", "loaded_at", "needs_restart"] {
        assert_eq!(status["config"][member], before["config"][member], "{member}");
    }
    deposit(&daemon, "while-broken").await;
    settled(&daemon, &[("sent", 1)]).await;

    let said = problem(&daemon.post("/v1/reload", "").await, 422, "config_refused");
    assert_eq!(said["problems"], error["problems"]);
    let cli = daemon.cli(&["reload"], "").await;
    assert_eq!(cli.code, 1, "{cli:?}");
    let lines: Vec<&str> = cli.out.lines().collect();
    assert_eq!(lines.len(), 3, "{cli:?}");
    assert!(lines[0].contains("config.toml:4: server.lisen: "), "{cli:?}");
    assert_eq!(lines[2], "the configuration is refused; the one before goes on");
    let json = daemon.cli(&["reload", "--json"], "").await;
    assert_eq!((json.code, &json.json()["problems"]), (1, &error["problems"]));
    assert_eq!(daemon.cli(&["status", "--check"], "").await.code, 1);
    let logged = std::fs::read_to_string(&log).unwrap();
    let line = logged.lines().find(|line| line.contains("The configuration is refused; the one before goes on."));
    assert!(line.is_some_and(|line| line.contains("ERROR") && line.contains("server.lisen")), "{logged}");

    std::fs::write(daemon.config(), &good).unwrap();
    let mended = in_force(&daemon, &["hook"]).await;
    assert_eq!((&mended["state"], &mended["reasons"]), (&json!("ok"), &json!([])));
    assert_eq!(mended["config"]["hash"], before["config"]["hash"]);
    assert_eq!(daemon.cli(&["reload"], "").await.code, 0);
}

/// Row 65.
#[tokio::test]
async fn whatever_is_wrong_the_one_before_goes_on() {
    let sink = Sink::with_status(200).await;
    let daemon = Daemon::start(&webhook("hook", &sink.url("/"), "")).await;
    let good = text(&daemon);
    let before = in_force(&daemon, &["hook"]).await;
    let (before_hook, hook) = good.split_once("[destinations.hook]").unwrap();
    for (what, broken) in [
        ("syntax", good.replace("kind = \"webhook\"", "kind = \"webhook")),
        ("unknown key", good.clone() + "ulr = 1\n"),
        ("duplicate table", format!("{good}[destinations.hook]{hook}")),
        ("duplicate key", good.clone() + "kind = \"webhook\"\n"),
        ("bad URL", good.replace(&sink.url("/"), "htp:/x")),
        ("private address", good.replace("allow_private = true", "")),
        ("no concurrency", good.clone() + "concurrency = 0\n"),
        ("no batch", good.replace("[storage]", "batch_limit = 0\n[storage]")),
        ("no body", good.replace("[storage]", "body_limit = 0\n[storage]")),
        ("no token", good.replace(&format!("token = \"{TOKEN}\""), "token = []")),
        ("unset variable", good.replace(&format!("\"{TOKEN}\""), "{ env = \"NO_SUCH_VARIABLE\" }")),
        ("only half", before_hook.to_owned() + "[des"),
        ("open to all", good.replace("127.0.0.1:", "0.0.0.0:")),
    ] {
        std::fs::write(daemon.config(), broken).unwrap();
        let said = problem(&daemon.post("/v1/reload", "").await, 422, "config_refused");
        let problems = said["problems"].as_array().unwrap();
        assert!(!problems.is_empty() && problems.iter().all(|one| one["detail"] != ""), "{what}: {said}");
        deposit(&daemon, what).await;
        assert_eq!(sink.wait_for(1).await[0].method, "POST");
        assert_eq!(daemon.get("/status").await.json()["config"]["hash"], before["config"]["hash"], "{what}");
    }
    settled(&daemon, &[("sent", 13)]).await;
    save(&daemon, &good).await;
    in_force(&daemon, &["hook"]).await;
}

#[tokio::test]
async fn keys_that_need_a_restart_are_named_and_the_rest_is_in_force() {
    let mut daemon = Daemon::start(&webhook("hook", NOWHERE, "")).await;
    let good = text(&daemon);
    let elsewhere = format!("127.0.0.1:{}", crate::support::daemon::free_port());
    let edited = good
        .replace(&format!("127.0.0.1:{}", daemon.port), &elsewhere)
        .replace("reserve = \"1MiB\"", "reserve = \"2MiB\"\ncache = \"32MiB\"")
        + &webhook("more", NOWHERE, "");
    let done = save(&daemon, &edited).await;
    let waiting = json!(["server.listen", "storage.cache", "storage.reserve"]);
    assert_eq!(done["needs_restart"], waiting);
    let status = in_force(&daemon, &["hook", "more"]).await;
    assert_eq!((&status["config"]["needs_restart"], &status["state"]), (&waiting, &json!("ok")));
    let table = daemon.get("/status?format=text").await.text();
    assert!(table.contains("server.listen storage.cache storage.reserve wait for a restart"), "{table}");
    // The file names an address where nobody listens yet.
    let url = format!("http://127.0.0.1:{}", daemon.port);
    let cli = daemon.cli(&["reload", "--url", &url], "").await;
    assert!(cli.code == 0 && cli.out.contains("waits for a restart: server.listen"), "{cli:?}");
    assert_eq!(save(&daemon, &good).await["needs_restart"], json!([]), "taken back");
    assert_eq!(daemon.get("/status").await.json()["config"]["needs_restart"], json!([]));
    save(&daemon, &edited).await;
    daemon.terminate();
    daemon.port = elsewhere.rsplit(':').next().unwrap().parse().unwrap();
    daemon.restart().await;
    assert_eq!(in_force(&daemon, &["hook", "more"]).await["config"]["needs_restart"], json!([]));
}

async fn told(socket: &UnixDatagram) -> Vec<String> {
    let mut buffer = [0; 4096];
    let message = tokio::time::timeout(crate::support::daemon::PATIENCE, socket.recv(&mut buffer));
    let length = message.await.expect("a message").unwrap();
    String::from_utf8_lossy(&buffer[..length]).lines().map(str::to_owned).collect()
}

/// Row 65: READY is sent for a refused reload too, else the service manager waits for ever.
#[tokio::test]
async fn the_service_manager_is_told_of_every_reload_on_sighup() {
    let mut daemon = Daemon::prepare("", &webhook("hook", NOWHERE, ""));
    let path = daemon.path("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    daemon.set_env("NOTIFY_SOCKET", path.to_str().unwrap().to_owned());
    daemon.restart().await;
    assert_eq!(told(&socket).await, ["READY=1", "STATUS=running"]);
    let good = text(&daemon);
    let mut since = 0_u64;
    for (text, status) in [
        (good.clone(), "STATUS=running"),
        (good.clone() + "x = 1\n", "STATUS=the configuration is refused, the one before goes on: "),
        (good.clone(), "STATUS=running"),
    ] {
        // Not seen by the watcher, so that there is one reload to tell of.
        crate::support::reload::replace(&daemon.config(), &text);
        daemon.hang_up();
        let began = told(&socket).await;
        assert_eq!(began[0], "RELOADING=1");
        // In one message, or systemd fails the reload of a Type=notify-reload unit.
        let at: u64 = began[1].strip_prefix("MONOTONIC_USEC=").unwrap().parse().unwrap();
        assert!(at > since, "{began:?}");
        since = at;
        let ended = told(&socket).await;
        assert!(ended[0] == "READY=1" && ended[1].starts_with(status), "{ended:?}");
        while let Ok(mut more) = tokio::time::timeout(Duration::from_secs(1), told(&socket)).await {
            // The watcher may have seen it first; what SIGHUP asks for is then done once more.
            more.truncate(1);
            assert!(more == ["RELOADING=1"] || more == ["READY=1"], "{more:?}");
        }
    }
    daemon.terminate();
    assert_eq!(told(&socket).await, ["STOPPING=1", "STATUS=finishing what is in flight"]);
}

#[tokio::test]
async fn tokens_that_changed_hold_at_once() {
    let sources = "[sources.a]\ntoken = \"token-a\"\n[sources.b]\ntoken = \"token-b\"\n";
    let daemon = Daemon::start_with("admin_token = \"admin-one\"", sources).await;
    let good = text(&daemon);
    let with = async |method: &str, path: &str, token: &str, body: &str| {
        let bearer = format!("Bearer {token}");
        let headers = [("host", "127.0.0.1"), ("authorization", &bearer), ("content-type", "application/json")];
        daemon.request(method, path, &headers, body.as_bytes()).await
    };
    let sent_by = async |token: &str, id: &str| {
        let body = json!({ "event": "deposit", "event_id": id }).to_string();
        let answer = with("POST", "/v1/events", token, &body).await;
        (answer.status == 202).then_some(())?;
        let admin = if good == text(&daemon) { "admin-one" } else { "admin-two" };
        Some(with("GET", &format!("/v1/events/{id}"), admin, "").await.json()["source"].clone())
    };
    assert_eq!(sent_by("token-a", "1").await, Some(json!("a")));
    let swapped = good.replace("token-a", "x").replace("token-b", "token-a").replace("\"x\"", "\"token-b\"");
    let edited = swapped.replace("admin-one", "admin-two").replace(TOKEN, "app-token-two");
    std::fs::write(daemon.config(), edited).unwrap();
    assert_eq!(with("POST", "/v1/reload", "admin-one", "").await.status, 200, "the one that runs decides");
    assert_eq!(with("POST", "/v1/reload", "admin-one", "").await.status, 401);
    assert_eq!(with("GET", "/status", "admin-two", "").await.status, 200);
    assert_eq!(sent_by("token-a", "2").await, Some(json!("b")));
    assert_eq!(sent_by("token-b", "3").await, Some(json!("a")));
    assert_eq!(sent_by(TOKEN, "4").await, None);
    assert_eq!(sent_by("app-token-two", "5").await, Some(json!("app")));
}

/// The admin token as a credential is the daemon's alone: `ExecReload=` runs without it.
#[tokio::test]
async fn a_service_manager_reloads_by_signal_where_it_cannot_ask() {
    let daemon = Daemon::start_with("admin_token = \"admin-one\"", &webhook("hook", NOWHERE, "")).await;
    let wrong = ("POSTBACKD_ADMIN_TOKEN", "not-the-token");
    assert_eq!(daemon.cli_with(&["reload"], "", &[wrong]).await.code, 1);
    let loaded_at = async || -> Value {
        let headers = [("host", "127.0.0.1"), ("authorization", "Bearer admin-one")];
        daemon.request("GET", "/status", &headers, b"").await.json()["config"]["loaded_at"].clone()
    };
    let before = loaded_at().await;
    let pid = daemon.pid().to_string();
    let told = daemon.cli_with(&["reload"], "", &[wrong, ("MAINPID", &pid)]).await;
    assert!(told.code == 0 && told.err.contains("is told to reload"), "{told:?}");
    let started = Instant::now();
    while loaded_at().await == before {
        assert!(started.elapsed() < crate::support::daemon::PATIENCE, "SIGHUP came to nothing");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Where it can ask, a refused file is a failure of systemctl reload.
    std::fs::write(daemon.config(), text(&daemon) + "x = 1\n").unwrap();
    let asked = daemon.cli_with(&["reload"], "", &[("POSTBACKD_ADMIN_TOKEN", "admin-one"), ("MAINPID", &pid)]).await;
    assert!(asked.code == 1 && asked.out.contains("is refused"), "{asked:?}");
}

#[tokio::test]
async fn a_reload_says_what_it_changed() {
    let daemon = Daemon::start(&[webhook("a", NOWHERE, ""), webhook("b", NOWHERE, "")].concat()).await;
    let good = text(&daemon);
    let nothing = reload(&daemon).await;
    let lists = |done: &Value| json!([done["added"], done["changed"], done["removed"], done["needs_restart"]]);
    assert_eq!((&nothing["ok"], lists(&nothing)), (&json!(true), json!([[], [], [], []])));
    let edited = good.replace("destinations.b", "destinations.c").replacen(NOWHERE, "http://127.0.0.1:10/", 1);
    assert_eq!(nothing["last_change"], Value::Null);
    let done = save(&daemon, &edited).await;
    assert_ne!(done["hash"], nothing["hash"]);
    assert_eq!(in_force(&daemon, &["a", "c"]).await["config"]["hash"], done["hash"]);
    // Where the watcher came first, it is told all the same.
    for done in [done, reload(&daemon).await] {
        let last = &done["last_change"];
        assert_eq!(json!([last["added"], last["changed"], last["removed"]]), json!([["c"], ["a"], ["b"]]), "{done}");
        assert!(last["at"].is_string(), "{done}");
    }
    assert_eq!(lists(&reload(&daemon).await), json!([[], [], [], []]));
    let told = daemon.cli(&["reload"], "").await;
    assert!(
        told.out.contains("no destination differs") && told.out.contains("added c, changed a, removed b"),
        "{told:?}"
    );
    for method in ["GET", "PUT"] {
        let answer = daemon.try_request(method, "/v1/reload", "", None).await.unwrap();
        assert_eq!(answer.status, 405, "{method}");
    }
}
