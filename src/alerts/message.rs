//! A notice as each kind of channel takes it. Short, in plain words: what, since when, how much, what to do. Everything in
//! it is ours: names of the configuration, numbers and words; nothing a sender or a receiver said.

use serde_json::json;

use super::words;
use crate::config::alerts::{Channel, Shape, Target};
use crate::domain::alert::{Notice, NoticeKind, Severity};
use crate::env::courier::Parcel;
use crate::env::transport::{Method, Request};

/// Discord takes 2000, Telegram 4096.
const TEXT_LETTERS: usize = 1900;

/// The first line: `crm is held`, fit for the subject of a mail on a phone.
pub fn title(notice: &Notice) -> String {
    let problem = &notice.problem;
    match notice.kind {
        NoticeKind::Problem | NoticeKind::Worse => format!("{}: {}", mark(problem.severity), problem.title),
        NoticeKind::Reminder => {
            format!("still, for {}: {}", words::span(notice.at.since(problem.since)), problem.title)
        }
        NoticeKind::Recovered => format!("over: {}", problem.title),
        NoticeKind::Closed(_) => format!("closed: {}", problem.title),
        NoticeKind::Test => problem.title.clone(),
    }
}

fn mark(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical => "ALERT",
        Severity::Warning => "warning",
    }
}

/// What stands below it.
pub fn body(notice: &Notice) -> String {
    let problem = &notice.problem;
    let since = problem.since.to_rfc3339();
    let since = format!("{} UTC", since.get(..16).unwrap_or(&since).replace('T', " "));
    let lasted = words::span(problem.good_since.unwrap_or(notice.at).since(problem.since));
    match notice.kind {
        NoticeKind::Problem | NoticeKind::Worse | NoticeKind::Reminder => {
            format!("{}.\nSince {since}.\nTo do: {}", problem.text, problem.remedy)
        }
        NoticeKind::Recovered => format!("It lasted {lasted}, since {since}."),
        NoticeKind::Closed(why) => {
            format!("No longer watched: {}.\nIt had lasted {lasted}, since {since}.", why.words(problem))
        }
        NoticeKind::Test => problem.text.clone(),
    }
}

/// What goes out through `channel`; the error names what keeps it from being written.
pub fn parcel(channel: &Channel, notice: &Notice) -> Result<Parcel, String> {
    let (title, body) = (title(notice), body(notice));
    let text: String = format!("postbackd: {title}\n{body}").chars().take(TEXT_LETTERS).collect();
    match &channel.target {
        Target::Webhook { url, shape, headers } => {
            let payload = match shape {
                Shape::Json => plain(notice, &title, &body),
                Shape::Slack => json!({ "text": escaped(&text) }),
                // Nobody is mentioned, whatever a name looks like.
                Shape::Discord => json!({ "content": text, "allowed_mentions": { "parse": [] } }),
            };
            let headers = headers.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.expose().to_owned()));
            post(url.expose(), headers.collect(), &payload)
        }
        Target::Telegram { base_url, token, chat_id } => {
            let url = format!("{base_url}/bot{}/sendMessage", token.expose());
            let payload = json!({ "chat_id": chat_id, "text": text, "disable_web_page_preview": true });
            post(&url, Vec::new(), &payload)
        }
        Target::Email(_) => Ok(Parcel::Mail { subject: format!("postbackd: {title}"), body: format!("{body}\n") }),
    }
}

fn plain(notice: &Notice, title: &str, body: &str) -> serde_json::Value {
    let problem = &notice.problem;
    json!({
        "kind": notice.kind.as_str(),
        "id": problem.id,
        "rule": problem.rule.as_str(),
        "severity": problem.severity.as_str(),
        "title": title,
        "text": body,
        "since": problem.since.to_rfc3339(),
        "at": notice.at.to_rfc3339(),
        "todo": problem.remedy,
    })
}

/// Slack reads these three letters as markup.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn post(url: &str, mut headers: Vec<(String, String)>, payload: &serde_json::Value) -> Result<Parcel, String> {
    let url = url.parse().map_err(|_| "its address is no URL".to_owned())?;
    headers.push(("content-type".to_owned(), "application/json".to_owned()));
    Ok(Parcel::Http(Request { method: Method::Post, url, headers, body: payload.to_string().into_bytes() }))
}

/// The ping of a heartbeat.
pub fn beat(channel: &Channel) -> Result<Parcel, String> {
    match &channel.target {
        Target::Webhook { url, .. } => {
            let url = url.expose().parse().map_err(|_| "its address is no URL".to_owned())?;
            Ok(Parcel::Http(Request { method: Method::Get, url, headers: Vec::new(), body: Vec::new() }))
        }
        Target::Telegram { .. } | Target::Email(_) => Err("a heartbeat is a URL".to_owned()),
    }
}
