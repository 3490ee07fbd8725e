//! What tests of the API have in common: destinations as TOML, events, and looking at what became of them.

use serde_json::{Value, json};

use super::daemon::{Answer, Daemon, TOKEN};

pub const NDJSON: &str = "application/x-ndjson";

pub async fn lines(daemon: &Daemon, body: &str) -> Answer {
    daemon.try_request("POST", "/v1/events", body, Some(NDJSON)).await.unwrap()
}

/// `GET /e` with the token and these parameters.
pub async fn pixel(daemon: &Daemon, parameters: &str) -> Answer {
    daemon.request("GET", &format!("/e?token={TOKEN}&{parameters}"), &[], b"").await
}

pub async fn events(daemon: &Daemon) -> Value {
    daemon.get("/status").await.json()["events"].clone()
}

/// The books of events once they say `rejected`; refused items reach the disk after their answer.
pub async fn books(daemon: &Daemon, rejected: u64) -> Value {
    daemon.wait_for_status(|status| status["events"]["rejected"] == rejected).await["events"].clone()
}

/// A destination of that kind that sends to `url`; `more` are further keys.
pub fn destination(name: &str, kind: &str, url: &str, more: &str) -> String {
    let to = match kind {
        "webhook" => format!("url = \"{url}\""),
        "s2s_postback" => format!("url_template = \"{url}?id={{event_id}}\""),
        _ => format!("base_url = \"{url}\"\npixel_id = \"1234567890\"\naccess_token = \"canary-meta-token\""),
    };
    format!("[destinations.{name}]\nkind = \"{kind}\"\n{to}\nallow_private = true\n{more}\n")
}

pub fn webhook(name: &str, url: &str, more: &str) -> String {
    destination(name, "webhook", url, more)
}

/// Fails once, and is not tried again while a test looks at it.
pub const SLOW: &str = "retry = { first = \"1h\" }";

pub async fn accept(daemon: &Daemon, event: Value) -> String {
    let answer = daemon.post("/v1/events", &event.to_string()).await;
    assert_eq!(answer.status, 202, "{}", answer.text());
    answer.json()["id"].as_str().unwrap().to_owned()
}

pub async fn deposit(daemon: &Daemon, id: &str) -> String {
    let user = json!({ "email": "a@b.example" });
    accept(daemon, json!({ "event": "deposit", "event_id": id, "value": "25.00", "currency": "USD", "user": user }))
        .await
}

/// The delivery of that event to that destination, as the trace shows it.
pub async fn delivery(daemon: &Daemon, event: &str, destination: &str) -> Value {
    let trace = daemon.get(&format!("/v1/events/{event}")).await.json();
    let found = trace["deliveries"].as_array().unwrap().iter().find(|delivery| delivery["destination"] == destination);
    found.unwrap_or_else(|| panic!("no {destination} in {trace}")).clone()
}

/// Waits for the books: `wanted` are counts of the total.
pub async fn settled(daemon: &Daemon, wanted: &[(&str, u64)]) -> Value {
    let status =
        daemon.wait_for_status(|status| wanted.iter().all(|(name, count)| status["balance"][*name] == *count)).await;
    assert_eq!(status["balance"]["balanced"], true);
    status
}

/// Checks what every problem must have, and gives its body.
#[track_caller]
pub fn problem(answer: &Answer, status: u16, code: &str) -> Value {
    let said = answer.text();
    assert_eq!((answer.status, answer.header("content-type")), (status, Some("application/problem+json")), "{said}");
    let body = answer.json();
    assert_eq!((&body["status"], &body["code"]), (&json!(status), &json!(code)), "{said}");
    for member in ["type", "title", "detail"] {
        assert!(body[member].as_str().is_some_and(|text| !text.is_empty()), "{member} is missing: {said}");
    }
    let waits = matches!(status, 429 | 503);
    assert_eq!(answer.header("retry-after").is_some(), waits, "{said}");
    assert_eq!(answer.header("www-authenticate").is_some(), status == 401, "{said}");
    body
}

/// Ids of the deliveries a query gives, on all its pages.
pub async fn walk(daemon: &Daemon, path: &str, member: &str, query: &str) -> Vec<String> {
    let mut ids = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = daemon.get(&format!("{path}?{query}{cursor}")).await.json();
        let rows = page[member].as_array().unwrap_or_else(|| panic!("{query}: {page}"));
        ids.extend(rows.iter().map(|row| row["id"].as_str().unwrap().to_owned()));
        match page["cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return ids,
        }
    }
}
