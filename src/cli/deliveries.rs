//! `postbackd deliveries` and `postbackd event`: what became of events.

use std::fmt;
use std::process::ExitCode;

use serde_json::{Value, json};

use super::args::{DeliveriesArgs, ExportFormat};
use super::client::{self, Daemon};
use super::{cursor, export, out, sheet};

/// Rows asked for at once; the API gives at most 1,000.
const PAGE_ROWS: u32 = 500;

pub async fn deliveries(daemon: &Daemon, args: &DeliveriesArgs, json: bool) -> anyhow::Result<ExitCode> {
    let filter = [
        ("destination", args.destination.as_deref()),
        ("status", args.status.as_deref()),
        ("event", args.event.as_deref()),
        ("uid", args.uid.as_deref()),
        ("event_id", args.event_id.as_deref()),
        ("since", args.since.as_deref()),
        ("until", args.until.as_deref()),
    ];
    let list = Listing { path: "/v1/deliveries", member: "deliveries", filter: &filter };
    if args.follow {
        return super::follow::follow(daemon, &list, args.limit, json).await;
    }
    if args.all {
        let format = if args.csv { ExportFormat::Csv } else { ExportFormat::Ndjson };
        return export::all(daemon, &list, PAGE_ROWS, (format, &sheet::DELIVERIES)).await;
    }
    let found = list.collect(daemon, args.limit, args.cursor.clone()).await?;
    if json {
        out::json(&json!({ "deliveries": found.rows, "cursor": found.cursor }))?;
        return Ok(ExitCode::SUCCESS);
    }
    if args.csv {
        out::raw(&sheet::bytes(&sheet::DELIVERIES, Some(&found.rows))?)?;
    } else if found.rows.is_empty() {
        out::note("no deliveries");
    } else {
        out::line(&delivery_table(&found.rows))?;
    }
    found.note_more();
    Ok(ExitCode::SUCCESS)
}

pub async fn event(daemon: &Daemon, id: &str, json: bool) -> anyhow::Result<ExitCode> {
    let event = daemon.get(&format!("/v1/events/{}", client::encoded(id))).await?;
    if json {
        out::json(&event)?;
    } else {
        out::line(&event_text(&event))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A listing of the API with its filters.
#[derive(Debug)]
pub struct Listing<'a> {
    pub path: &'a str,
    /// The member of the answer that holds the rows.
    pub member: &'a str,
    pub filter: &'a [(&'a str, Option<&'a str>)],
}

/// How many rows there are in all.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Total {
    Exact(u64),
    /// Counting them all would have taken too long.
    AtLeast(u64),
}

impl Total {
    /// As an answer of the API has it.
    fn of(page: &Value) -> Option<Self> {
        let total = page.get("total").and_then(Value::as_u64)?;
        let is_bound = page.get("total_is_at_least").and_then(Value::as_bool) == Some(true);
        Some(if is_bound { Self::AtLeast(total) } else { Self::Exact(total) })
    }

    pub fn number(self) -> u64 {
        match self {
            Self::Exact(number) | Self::AtLeast(number) => number,
        }
    }
}

impl fmt::Display for Total {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(number) => write!(f, "{number}"),
            Self::AtLeast(number) => write!(f, "at least {number}"),
        }
    }
}

/// What a listing gave.
#[derive(Debug, Default)]
pub struct Found {
    pub rows: Vec<Value>,
    /// How many there are on all pages, where the API counts them.
    pub total: Option<Total>,
    /// Where to go on; `None` at the end.
    pub cursor: Option<String>,
}

impl Listing<'_> {
    /// Follows the cursors until there are `limit` rows or no more.
    pub async fn collect(&self, daemon: &Daemon, limit: u32, cursor: Option<String>) -> anyhow::Result<Found> {
        let mut found = Found { cursor, ..Found::default() };
        loop {
            let wanted = limit.saturating_sub(u32::try_from(found.rows.len()).unwrap_or(u32::MAX));
            let page = self.page(daemon, wanted.min(PAGE_ROWS), found.cursor.as_deref()).await?;
            found.rows.extend(page.rows);
            found.total = found.total.or(page.total);
            found.cursor = page.cursor;
            if found.cursor.is_none() || found.rows.len() >= usize::try_from(limit).unwrap_or(usize::MAX) {
                return Ok(found);
            }
        }
    }

    /// One page, which may be short or empty and still have a cursor.
    pub async fn page(&self, daemon: &Daemon, rows: u32, cursor: Option<&str>) -> anyhow::Result<Found> {
        let rows = rows.to_string();
        let mut parameters = self.filter.to_vec();
        parameters.extend([("limit", Some(rows.as_str())), ("cursor", cursor)]);
        let mut page = daemon.get(&client::query(self.path, &parameters)).await?;
        let next = cursor::next(&page, cursor)?;
        let total = Total::of(&page);
        match page.get_mut(self.member).map(Value::take) {
            Some(Value::Array(rows)) => Ok(Found { rows, total, cursor: next }),
            _ => anyhow::bail!(
                "the answer has no list \"{}\"; is it a postbackd that answers at this address?",
                self.member
            ),
        }
    }
}

impl Found {
    /// Tells how to go on where there is more.
    pub fn note_more(&self) {
        if let Some(text) = self.more() {
            out::note(&text);
        }
    }

    fn more(&self) -> Option<String> {
        let cursor = out::plain(self.cursor.as_deref()?);
        let all = self.total.map(|total| format!(", {total} in all")).unwrap_or_default();
        Some(format!("there is more{all}: go on with --cursor {cursor}, or raise --limit"))
    }
}

/// A member of a JSON document as text for a person; `-` where there is none.
pub fn cell(value: &Value, pointer: &str) -> String {
    match value.pointer(pointer) {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

fn delivery_table(rows: &[Value]) -> String {
    let columns = [
        ("DELIVERY", "/id"),
        ("EVENT", "/event/event"),
        ("EVENT ID", "/event/event_id"),
        ("DESTINATION", "/destination"),
        ("STATUS", "/status"),
        ("REASON", "/reason"),
        ("ATTEMPTS", "/attempt_count"),
        ("HTTP", "/last_status"),
        ("LAST", "/last_at"),
        ("NEXT", "/next_attempt_at"),
    ];
    let header = columns.map(|(title, _)| title);
    out::table(&header, rows.iter().map(|row| columns.iter().map(|(_, at)| cell(row, at)).collect()).collect())
}

fn event_text(event: &Value) -> String {
    let name = |pointer: &str| out::plain(&cell(event, pointer)).into_owned();
    let mut lines = vec![
        format!("{}  {}  from {}", name("/id"), name("/event"), name("/source")),
        format!("event_id: {}", name("/event_id")),
        format!("received: {}", name("/received_at")),
    ];
    if let Some(payload) = event.get("payload") {
        lines.push(format!("payload: {}", out::plain(&payload.to_string())));
    }
    for delivery in event.get("deliveries").and_then(Value::as_array).into_iter().flatten() {
        let name = |pointer: &str| out::plain(&cell(delivery, pointer)).into_owned();
        let mut words = format!("{}: {}", name("/destination"), name("/status"));
        for (title, pointer) in [("as ", "/target"), ("reason ", "/reason"), ("next ", "/next_attempt_at")] {
            if delivery.pointer(pointer).is_some_and(|value| !value.is_null()) {
                words = format!("{words}, {title}{}", name(pointer));
            }
        }
        lines.extend([String::new(), format!("{words}  ({})", name("/id"))]);
        if delivery.pointer("/detail").is_some_and(|detail| !detail.is_null()) {
            lines.push(format!("  {}", name("/detail")));
        }
        let attempts = delivery.get("attempts").and_then(Value::as_array);
        lines.extend(attempts.into_iter().flatten().map(attempt_line));
        // Every attempt goes without the same, as long as nobody changes the configuration.
        let last = attempts.and_then(|all| all.last()).into_iter();
        lines.extend(last.flat_map(left_out_lines).map(|line| format!("     {line}")));
    }
    lines.join("\n")
}

fn attempt_line(attempt: &Value) -> String {
    let [n, at, ms, status, verdict, response] =
        ["/n", "/at", "/ms", "/status", "/verdict", "/response"].map(|pointer| cell(attempt, pointer));
    let response = response.trim().replace(['\r', '\n', '\t'], " ");
    let way = way(attempt);
    out::plain(format!("  {n}. {at}  {status}  {verdict}  {ms} ms{way}  {}", out::excerpt(&response, 160)).trim_end())
        .into_owned()
}

/// What the time went into and the proxy that was taken, as far as they are known: ` (connect 3, first byte 9 ms; through …)`.
fn way(attempt: &Value) -> String {
    let known = |(name, pointer)| Some(format!("{name} {}", attempt.pointer(pointer)?.as_u64()?));
    let phases =
        [("connect", "/phases/connect_ms"), ("first byte", "/phases/first_byte_ms"), ("body", "/phases/body_ms")];
    let phases = phases.into_iter().filter_map(known).collect::<Vec<_>>().join(", ");
    let proxy = attempt.get("proxy").and_then(Value::as_str).map(|proxy| format!("through {proxy}"));
    let parts: Vec<String> = Some(phases).filter(|words| !words.is_empty()).into_iter().chain(proxy).collect();
    if parts.is_empty() { String::new() } else { format!(" ({})", parts.join("; ")) }
}

/// What did not make it into the request; a field that the event never had is only missed there.
pub fn left_out_lines(of: &Value) -> Vec<String> {
    let line = |left: &Value| {
        let (field, why) = (cell(left, "/field"), cell(left, "/why"));
        let word = if why.starts_with("is missing") { "warning" } else { "left out" };
        out::plain(&format!("{word}: {field} {why}")).into_owned()
    };
    of.get("left_out").and_then(Value::as_array).into_iter().flatten().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> Value {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn the_log_is_a_table_with_a_dash_where_nothing_is_known() {
        let rows = [json(
            r#"{"id":"dlv_1","event":{"id":"evt_1","event_id":"trade-1","event":"deposit"},"destination":"crm",
                "status":"failed","target":"deposit","reason":"transient","attempt_count":2,"last_status":503,
                "last_at":"2026-01-01T00:00:00.000Z","next_attempt_at":null}"#,
        )];
        insta::assert_snapshot!(delivery_table(&rows), @r"
        DELIVERY  EVENT    EVENT ID  DESTINATION  STATUS  REASON     ATTEMPTS  HTTP  LAST                      NEXT
        dlv_1     deposit  trade-1   crm          failed  transient  2         503   2026-01-01T00:00:00.000Z  -
        ");
    }

    #[test]
    fn a_total_that_is_a_bound_is_told_as_a_bound() {
        let more = |page: &str| {
            let found = Found { total: Total::of(&json(page)), cursor: Some("dlv_9".to_owned()), ..Found::default() };
            found.more().unwrap()
        };
        let on = "go on with --cursor dlv_9, or raise --limit";
        assert_eq!(more(r#"{"total":700}"#), format!("there is more, 700 in all: {on}"));
        let bound = more(r#"{"total":700,"total_is_at_least":true}"#);
        assert_eq!(bound, format!("there is more, at least 700 in all: {on}"));
        assert_eq!(more("{}"), format!("there is more: {on}"), "the log is not counted");
        assert_eq!(Found::default().more(), None);
    }

    #[test]
    fn an_event_is_told_with_every_delivery_and_attempt() {
        let event = json(
            r#"{"id":"evt_1","event_id":null,"event":"deposit","source":"app","received_at":"2026-01-01T00:00:00.000Z",
                "payload":{"uid":"u"},"deliveries":[{"id":"dlv_1","destination":"crm","status":"failed",
                "target":"deposit","reason":"transient","next_attempt_at":"2026-01-01T00:01:00.000Z","attempts":[
                {"n":1,"at":"2026-01-01T00:00:01.000Z","ms":31,"status":503,"verdict":"transient","response":"bu\u001bsy\nwait\n",
                "phases":{"connect_ms":3,"first_byte_ms":27,"body_ms":1},"proxy":"socks5://127.0.0.1:1080"},
                {"n":2,"at":"2026-01-01T00:00:02.000Z","ms":5,"status":null,"verdict":"ambiguous","response":"",
                "phases":{"connect_ms":null,"first_byte_ms":5,"body_ms":null},"proxy":null,
                "left_out":[{"field":"user.phone","why":"holds letters"},{"field":"page.url","why":"is missing; Meta asks for it"}]}]},
                {"id":"dlv_2","destination":"meta","status":"failed_permanently","target":"Purchase","reason":"invalid",
                "detail":"value is missing","next_attempt_at":null,"attempts":[]}]}"#,
        );
        insta::assert_snapshot!(event_text(&event), @r#"
        evt_1  deposit  from app
        event_id: -
        received: 2026-01-01T00:00:00.000Z
        payload: {"uid":"u"}

        crm: failed, as deposit, reason transient, next 2026-01-01T00:01:00.000Z  (dlv_1)
          1. 2026-01-01T00:00:01.000Z  503  transient  31 ms (connect 3, first byte 27, body 1; through socks5://127.0.0.1:1080)  bu�sy wait
          2. 2026-01-01T00:00:02.000Z  -  ambiguous  5 ms (first byte 5)
             left out: user.phone holds letters
             warning: page.url is missing; Meta asks for it

        meta: failed_permanently, as Purchase, reason invalid  (dlv_2)
          value is missing
        "#);
    }
}
