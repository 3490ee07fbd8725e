//! Destinations behind proxies that fail, as an operator sees them: nothing spent, nothing lost, nothing sent directly, and
//! everything delivered once a proxy works.

use serde_json::{Value, json};

use crate::proxy_egress::{Case, faults};
use crate::support::daemon::Daemon;
use crate::support::desk::{deposit, settled, webhook};
use crate::support::proxy::{End, Manner, Proxy, says};
use crate::support::sink::Sink;
use crate::support::tls::TlsFront;

/// Soon tried again, and dead after the first attempt that counts.
const QUICK: &str = "hold_probe = \"300ms\"\ntimeout = \"1s\"\nretry = { max_attempts = 1 }";

fn behind(name: &str, url: &str, proxies: &[String]) -> String {
    let list: Vec<String> = proxies.iter().map(|proxy| format!("\"{proxy}\"")).collect();
    webhook(name, url, &format!("{QUICK}\nproxy = [{}]", list.join(", ")))
}

async fn deliveries(daemon: &Daemon, event: &str) -> Vec<Value> {
    daemon.get(&format!("/v1/events/{event}")).await.json()["deliveries"].as_array().unwrap().clone()
}

/// Waits until that holds for every delivery of the event.
async fn until_all(daemon: &Daemon, event: &str, holds: impl Fn(&Value) -> bool) -> Vec<Value> {
    let started = std::time::Instant::now();
    loop {
        let all = deliveries(daemon, event).await;
        let missing: Vec<&Value> = all.iter().filter(|delivery| !holds(delivery)).collect();
        if missing.is_empty() {
            return all;
        }
        assert!(started.elapsed() < crate::support::daemon::PATIENCE, "{missing:#?}");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

// Rows 74 and 76, and 39: the others are not touched.
#[tokio::test]
async fn no_failure_of_a_proxy_costs_an_attempt_or_an_event() {
    let (sink, direct) = (Sink::with_status(200).await, Sink::with_status(200).await);
    let tls = TlsFront::start(sink.address).await;
    let (mut toml, mut proxies) = (webhook("direct", &direct.url("/"), ""), Vec::new());
    let hang = |over| Case {
        scheme: "socks5h",
        over,
        manner: Manner::Says(vec![Vec::new()], End::Hang),
        said: "",
        reached: false,
    };
    // A proxy that speaks TLS and one that does not are not the same proxy in another manner.
    let cases = faults().into_iter().filter(|case| case.scheme != "https").chain([hang("http"), hang("https")]);
    for (n, Case { scheme, over, manner, .. }) in cases.enumerate() {
        let target = if over == "https" { tls.address } else { sink.address };
        let proxy = Proxy::start(target, manner).await;
        toml += &behind(&format!("d{n}"), &format!("{over}://{target}/"), &[proxy.url(scheme, "")]);
        proxies.push(proxy);
    }
    let daemon = Daemon::start(&toml).await;
    let event = deposit(&daemon, "one").await;
    nothing_is_spent(&daemon, &event, proxies.len()).await;
    deposit(&daemon, "two").await;
    direct.wait_for(2).await;
    assert_eq!(sink.connections(), 0, "nothing went directly");
    for proxy in &proxies {
        proxy.set(Manner::Works);
    }
    let owed = 2 * (proxies.len() as u64 + 1);
    let status = settled(&daemon, &[("sent", owed), ("pending", 0), ("failed", 0)]).await;
    assert_eq!(sink.seen().len(), 2 * proxies.len(), "each once");
    assert_eq!(sink.connections(), proxies.iter().map(Proxy::forwarded).sum::<usize>(), "nothing went directly");
    for (name, destination) in status["destinations"].as_object().unwrap().iter().filter(|(name, _)| *name != "direct")
    {
        let proxy = &destination["proxy"];
        assert_eq!(
            (&proxy["routes"][0]["state"], &proxy["in_use"]),
            (&json!("active"), &proxy["routes"][0]["address"]),
            "{name}"
        );
        assert_eq!(proxy["routes"][0]["used"], 2, "{name}");
    }
    let log = daemon.get("/v1/deliveries?status=sent&limit=1000").await.json();
    assert!(log["deliveries"].as_array().unwrap().iter().all(|row| row["attempt_count"] == 1), "{log:#}");
}

/// Every delivery but the direct one was tried, did not get through its proxy, and stands where it stood.
async fn nothing_is_spent(daemon: &Daemon, event: &str, count: usize) {
    let through = |delivery: &Value| delivery["destination"] != "direct";
    let all =
        until_all(daemon, event, |delivery| !through(delivery) || delivery["attempts"].as_array().unwrap().len() >= 2)
            .await;
    for delivery in all.iter().filter(|delivery| through(delivery)) {
        assert_eq!(delivery["status"], "pending", "{delivery:#}");
        for attempt in delivery["attempts"].as_array().unwrap() {
            assert_eq!(attempt["verdict"], "proxy_fault", "{delivery:#}");
            assert!(attempt["response"].as_str().unwrap().contains("prox"), "{delivery:#}");
        }
    }
    let log = daemon.get("/v1/deliveries?status=pending&limit=1000").await.json();
    let rows = log["deliveries"].as_array().unwrap();
    assert_eq!(rows.len(), count);
    assert!(rows.iter().all(|row| row["attempt_count"] == 0), "{log:#}");
    let status = daemon.wait_for_status(|status| {
        let through = status["destinations"].as_object().unwrap().iter().filter(|(name, _)| *name != "direct");
        through.map(|(_, destination)| destination).all(|destination| destination["state"] == "held")
    });
    for (name, destination) in status.await["destinations"].as_object().unwrap() {
        if name == "direct" {
            assert_eq!((&destination["state"], &destination["proxy"]), (&json!("active"), &Value::Null));
            continue;
        }
        let route = &destination["proxy"]["routes"][0];
        assert_eq!((&route["state"], &destination["proxy"]["in_use"]), (&json!("failing"), &Value::Null), "{name}");
        assert!(route["last_error"]["message"].is_string() && route["next_try_at"].is_string(), "{name}: {route}");
        assert_eq!(destination["success_rate"]["1h"], Value::Null, "{name}: neither a success nor a failure");
    }
}

// Row 74: the list.
#[tokio::test]
async fn a_list_fails_over_and_goes_back_to_its_first() {
    let sink = Sink::with_status(200).await;
    let (mut first, mut second) =
        (Proxy::start(sink.address, Manner::Works).await, Proxy::start(sink.address, Manner::Works).await);
    let list = [first.url("http", "u:canary@"), second.url("socks5h", "")];
    let daemon = Daemon::start(&behind("crm", &sink.url("/"), &list)).await;
    let proxy = |status: &Value| status["destinations"]["crm"]["proxy"].clone();
    deposit(&daemon, "one").await;
    let status = settled(&daemon, &[("sent", 1)]).await;
    assert_eq!(proxy(&status)["in_use"], first.url("http", ""));
    assert_eq!(
        (&proxy(&status)["routes"][1]["state"], &proxy(&status)["routes"][1]["used"]),
        (&json!("standby"), &json!(0))
    );

    first.down().await;
    let event = deposit(&daemon, "two").await;
    let status = settled(&daemon, &[("sent", 2)]).await;
    let verdicts: Vec<Value> = deliveries(&daemon, &event).await[0]["attempts"].as_array().unwrap().clone();
    // A connection kept from before the proxy died may break under the request: that might have arrived.
    assert_eq!(verdicts.last().unwrap()["verdict"], "delivered", "{verdicts:#?}");
    assert!(verdicts.iter().rev().skip(1).all(|attempt| attempt["verdict"] == "proxy_fault"), "{verdicts:#?}");
    assert_eq!(proxy(&status)["in_use"], second.url("socks5h", ""));
    assert_eq!(status["destinations"]["crm"]["state"], "active", "not held while one works");
    let table = daemon.get("/status?format=text").await.text();
    let note =
        table.lines().find(|line| line.starts_with("  ~ crm: proxy http://")).unwrap_or_else(|| panic!("{table}"));
    assert!(note.ends_with(&format!("{} is used instead)", second.url("socks5h", ""))), "{note}");

    second.down().await;
    deposit(&daemon, "three").await;
    daemon.wait_for_status(|status| status["destinations"]["crm"]["state"] == "held").await;
    assert_eq!(sink.connections(), first.forwarded() + second.forwarded(), "nothing went directly");

    second.up().await;
    settled(&daemon, &[("sent", 3)]).await;
    first.up().await;
    for n in 4.. {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        deposit(&daemon, &format!("{n}")).await;
        let status = settled(&daemon, &[("sent", n)]).await;
        if proxy(&status)["in_use"] == first.url("http", "") {
            assert_eq!(proxy(&status)["routes"][0]["next_try_at"], Value::Null);
            break;
        }
        assert!(n < 100, "the first one is never tried again: {status:#}");
    }
    assert_eq!(sink.connections(), first.forwarded() + second.forwarded(), "nothing went directly");
}

#[tokio::test]
async fn tls_to_the_proxy_and_tls_to_the_destination_go_together() {
    let sink = Sink::with_status(200).await;
    let tls = TlsFront::start(sink.address).await;
    let (plain, secure) =
        (Proxy::start(sink.address, Manner::Works).await, Proxy::start(tls.address, Manner::Works).await);
    let (front_plain, front_secure) = (TlsFront::start(plain.address).await, TlsFront::start(secure.address).await);
    let by_name = |front: &TlsFront| format!("https://localhost:{}", front.address.port());
    let toml = [
        behind("plain", "http://hooks.example.com/", &[by_name(&front_plain)]),
        behind("secure", "https://hooks.example.com/", &[by_name(&front_secure)]),
        // The name of the certificate is the destination's, whoever resolves it.
        behind("socks", "https://hooks.example.com/", &[secure.url("socks5h", "")]),
        behind("local", &format!("https://localhost:{}/", tls.address.port()), &[secure.url("socks5", "")]),
    ];
    let daemon = Daemon::start(&toml.concat()).await;
    deposit(&daemon, "one").await;
    settled(&daemon, &[("sent", 4)]).await;
    assert_eq!((plain.forwarded(), secure.forwarded(), sink.seen().len()), (1, 3, 4));
}

// Row 54: what a proxy may echo.
#[tokio::test]
async fn a_login_is_shown_nowhere() {
    let sink = Sink::with_status(200).await;
    let echo = |status: &str| {
        says(format!(
            "HTTP/1.1 {status}\r\nserver: canary\r\nproxy-authenticate: Basic realm=canary\r\ncontent-length: 11\r\n\r\ncanary page"
        ))
    };
    let (refusing, broken) =
        (Proxy::start(sink.address, echo("407 canary")).await, Proxy::start(sink.address, echo("502 canary")).await);
    let socks = Proxy::with_login(sink.address, Manner::Works, Some(("right", "right"))).await;
    let login = "canary-user:canary%21word@";
    let toml = [
        behind("a", &sink.url("/"), &[refusing.url("http", login), socks.url("socks5", login)]),
        behind("b", "https://hooks.example.com/", &[refusing.url("http", login)]),
        behind("c", &sink.url("/"), &[broken.url("http", login)]),
    ];
    let mut daemon = Daemon::prepare("", &toml.concat());
    let log = daemon.path("log");
    daemon.set_log_from("trace", log.clone());
    daemon.restart().await;
    let event = deposit(&daemon, "one").await;
    until_all(&daemon, &event, |delivery| delivery["attempts"].as_array().unwrap().len() >= 2).await;
    let mut shown = String::new();
    for path in
        ["/status", "/status?format=text", "/v1/deliveries", &format!("/v1/events/{event}"), "/readyz", "/healthz"]
    {
        shown += &daemon.get(path).await.text();
    }
    for words in [&["check"][..], &["status"], &["status", "--json"], &["deliveries"], &["event", "one"]] {
        let said = daemon.cli(words, "").await;
        shown += &(said.out + &said.err);
    }
    daemon.kill();
    let log = std::fs::read_to_string(log).unwrap();
    assert!(log.contains("A proxy fails") && log.contains("The destination is held"), "{log}");
    assert!(shown.contains("check them in proxy") && shown.contains("names are resolved by the proxy"), "{shown}");
    for text in [&shown, &log] {
        let line = text.lines().find(|line| line.contains("canary") || line.contains("Y2FuYXJ5"));
        assert_eq!(line, None);
    }
    daemon.edit("canary%21word@", "canary/word@");
    let said = daemon.cli(&["check"], "").await;
    assert!(said.code == 1 && !format!("{said:?}").contains("canary"), "{said:?}");
}
