//! `postbackd dlq`: look at deliveries that failed permanently, deliver them again, or give them up.

use std::process::ExitCode;

use serde_json::{Map, Value, json};

use super::args::{DlqFilter, DlqSelection, DlqVerb, Globals};
use super::client::{self, Daemon};
use super::deliveries::{Found, Listing, Total, cell};
use super::{Usage, damaged, exchange, export, groups, jobs, out, sheet};
use crate::domain::outcome::DeadReason;
use crate::env::clock::Clock;

/// Entries of one page of an export: each may carry a whole request, so that a page stays within a few megabytes.
const EXPORT_ROWS: u32 = 100;

pub async fn dlq(globals: &Globals, verb: DlqVerb, clock: &dyn Clock) -> anyhow::Result<ExitCode> {
    let connect = || Daemon::connect(globals, clock.now());
    let json = globals.json;
    match verb {
        DlqVerb::List { filter, reason, limit, cursor } => {
            let filter = parameters(&filter, reason.as_deref());
            list(&connect()?, &filter, limit, cursor, json).await
        }
        DlqVerb::Show { id } => show(&connect()?, &id, json).await,
        DlqVerb::Replay { which, with_reason, reason, rate, wait } => {
            let with_reason = with_reason.map_or_else(|| reason_of_death(reason), |word| Ok(Some(word)))?;
            let mut body = selection(&which, with_reason.as_deref())?;
            if let Some(rate) = rate {
                body.insert("rate".to_owned(), rate.into());
            }
            change(&connect()?, &Change { wait, ..Change::REPLAY }, &which, body, json).await
        }
        DlqVerb::Discard { which, with_reason, reason, wait } => {
            let mut body = selection(&which, with_reason.as_deref())?;
            body.insert("reason".to_owned(), reason.into());
            change(&connect()?, &Change { wait, ..Change::DISCARD }, &which, body, json).await
        }
        DlqVerb::Groups { filter, reason, cursor } => {
            let filter = parameters(&filter, reason.as_deref());
            groups::groups(&connect()?, &filter, cursor.as_deref(), (json, clock)).await
        }
        DlqVerb::Damaged { all } => damaged::damaged(&connect()?, all, json).await,
        DlqVerb::Export { format, filter, reason } => {
            let filter = parameters(&filter, reason.as_deref());
            export::all(&connect()?, &listing(&filter), EXPORT_ROWS, (format, &sheet::DEAD)).await
        }
    }
}

type Parameters<'a> = [(&'a str, Option<&'a str>); 8];

fn parameters<'a>(filter: &'a DlqFilter, reason: Option<&'a str>) -> Parameters<'a> {
    [
        ("destination", filter.destination.as_deref()),
        ("event", filter.event.as_deref()),
        ("reason", reason),
        ("since", filter.since.as_deref()),
        ("until", filter.until.as_deref()),
        ("response_status", filter.response_status.as_deref()),
        ("detail", filter.detail.as_deref()),
        ("fault", filter.fault.as_deref()),
    ]
}

fn listing<'a>(filter: &'a Parameters<'a>) -> Listing<'a> {
    Listing { path: "/v1/dlq", member: "entries", filter }
}

async fn list(
    daemon: &Daemon,
    filter: &Parameters<'_>,
    limit: u32,
    cursor: Option<String>,
    json: bool,
) -> anyhow::Result<ExitCode> {
    let found = listing(filter).collect(daemon, limit, cursor).await?;
    if json {
        out::json(&list_json(found))?;
        return Ok(ExitCode::SUCCESS);
    }
    if found.rows.is_empty() {
        out::note("no dead deliveries");
    } else {
        out::line(&entry_table(&found.rows))?;
    }
    found.note_more();
    Ok(ExitCode::SUCCESS)
}

/// The shape of the API's own answer, over all pages that were asked for.
fn list_json(found: Found) -> Value {
    let Found { rows, total, cursor } = found;
    let mut listing = json!({ "total": total.map(Total::number), "entries": rows, "cursor": cursor });
    if let (Some(Total::AtLeast(_)), Some(members)) = (total, listing.as_object_mut()) {
        members.insert("total_is_at_least".to_owned(), true.into());
    }
    listing
}

async fn show(daemon: &Daemon, id: &str, json: bool) -> anyhow::Result<ExitCode> {
    let entry = daemon.get(&format!("/v1/dlq/{}", client::encoded(id))).await?;
    if json {
        out::json(&entry)?;
    } else {
        out::line(&entry_text(&entry))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints page after page, so that a DLQ of any size goes through in bounded memory.
/// A change of dead deliveries, with the words it is told in.
#[derive(Debug)]
struct Change {
    path: &'static str,
    /// The member of the answer that counts what was done.
    done: &'static str,
    /// Whether to stay for the end of a job where nobody watches.
    wait: bool,
}

impl Change {
    const REPLAY: Self = Self { path: "/v1/dlq/replay", done: "replayed", wait: false };
    const DISCARD: Self = Self { path: "/v1/dlq/discard", done: "discarded", wait: false };
}

async fn change(
    daemon: &Daemon,
    change: &Change,
    which: &DlqSelection,
    body: Map<String, Value>,
    json: bool,
) -> anyhow::Result<ExitCode> {
    let answer = daemon.post(change.path, &Value::Object(body)).await?;
    if json {
        out::json(&answer)?;
    } else {
        out::line(&change_text(change, which, &answer))?;
    }
    if let Some(job) = answer.get("job").and_then(Value::as_str) {
        return jobs::follow(daemon, job, change.wait, json).await;
    }
    let matched = answer.get("matched").and_then(Value::as_u64).unwrap_or(0);
    let asked = u64::try_from(which.ids.len()).unwrap_or(u64::MAX);
    Ok(if matched < asked { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn change_text(change: &Change, which: &DlqSelection, answer: &Value) -> String {
    let count = |name: &str| answer.get(name).and_then(Value::as_u64).unwrap_or(0);
    let matched = count("matched");
    let mut text = if which.dry_run {
        format!("{matched} would be {}; nothing was changed", change.done)
    } else {
        format!("{matched} matched, {} {}", count(change.done), change.done)
    };
    if let Some(job) = answer.get("job").and_then(Value::as_str) {
        text = format!("{text}; {} goes on with the rest", out::plain(job));
    }
    let missing = which.ids.len().saturating_sub(usize::try_from(matched).unwrap_or(usize::MAX));
    if missing > 0 {
        text = format!("{text}; {missing} of the ids are not in the DLQ");
    }
    text
}

/// `--reason` of a replay, which needs none: it may be meant as that of a discard, or as `--with-reason`.
fn reason_of_death(given: Option<String>) -> Result<Option<String>, Usage> {
    let words = DeadReason::ALL.map(DeadReason::as_str);
    match given {
        Some(word) if !words.contains(&word.as_str()) => {
            let word = out::plain(&word).into_owned();
            Err(Usage(format!(
                "a replay takes no reason of yours, so leave --reason {word:?} out; to replay only what died of one \
                 thing write --with-reason and one of {}",
                words.join(", ")
            )))
        }
        given => Ok(given),
    }
}

/// The body that says which deliveries are meant: exactly one of ids, filter and all, so that a forgotten option can
/// never mean "everything".
fn selection(which: &DlqSelection, reason: Option<&str>) -> Result<Map<String, Value>, Usage> {
    let filter: Map<String, Value> = parameters(&which.filter, reason)
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?.into())))
        .collect();
    let (name, value) = match (which.ids.is_empty(), which.all, filter.is_empty()) {
        (false, false, true) => ("ids", Value::from(which.ids.clone())),
        (true, true, true) => ("all", Value::from(true)),
        (true, false, false) => ("filter", Value::Object(filter)),
        _ => {
            let mut wanted = String::new();
            if let (false, Some(reason)) = (which.ids.is_empty() && !which.all, reason) {
                let reason = out::plain(reason);
                wanted = format!(
                    "ids and --all say already which ones, so leave --with-reason {reason} out, or leave them out: "
                );
            }
            wanted += "say which ones: either dlv_… ids, or --all, or a filter (--destination, --event, --with-reason, \
                          --response-status, --detail, --fault, --since, --until), and only one of these";
            return Err(Usage(wanted));
        }
    };
    Ok(Map::from_iter([(name.to_owned(), value), ("dry_run".to_owned(), which.dry_run.into())]))
}

fn entry_table(rows: &[Value]) -> String {
    let columns = [
        ("DELIVERY", "/id"),
        ("EVENT", "/event/event"),
        ("EVENT ID", "/event/event_id"),
        ("DESTINATION", "/destination"),
        ("REASON", "/reason"),
        ("HTTP", "/response/status"),
        ("ATTEMPTS", "/attempt_count"),
        ("LAST", "/last_attempt_at"),
    ];
    let mut header = columns.map(|(title, _)| title).to_vec();
    header.push("DETAIL");
    let line = |row: &Value| {
        let mut cells: Vec<String> = columns.iter().map(|(_, at)| cell(row, at)).collect();
        cells.push(out::excerpt(&cell(row, "/detail"), 80));
        cells
    };
    out::table(&header, rows.iter().map(line).collect())
}

fn entry_text(entry: &Value) -> String {
    let name = |pointer: &str| out::plain(&cell(entry, pointer)).into_owned();
    let mut lines = vec![
        format!("{}  {} as {} for {}", name("/id"), name("/event/event"), name("/target"), name("/destination")),
        format!("reason: {}", name("/reason")),
        format!("detail: {}", name("/detail")),
        format!("attempts: {} ({} to {})", name("/attempt_count"), name("/first_attempt_at"), name("/last_attempt_at")),
        format!("event: {}", name("/event")),
    ];
    lines.extend(exchange::request_lines(entry));
    if entry.get("response").is_some_and(|response| !response.is_null()) {
        lines.extend([String::new(), format!("answer {}", name("/response/status"))]);
        lines.push(out::plain_lines(&cell(entry, "/response/body")));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn which(ids: &[&str], all: bool, destination: Option<&str>) -> DlqSelection {
        let filter = DlqFilter { destination: destination.map(str::to_owned), ..DlqFilter::default() };
        DlqSelection { ids: ids.iter().map(|id| (*id).to_owned()).collect(), all, filter, dry_run: false }
    }

    #[test]
    fn a_change_names_ids_or_a_filter_or_all_and_never_two_of_them() {
        let body = |which: &DlqSelection, reason| selection(which, reason).map(|body| Value::Object(body).to_string());
        assert_eq!(body(&which(&["dlv_1"], false, None), None).unwrap(), r#"{"ids":["dlv_1"],"dry_run":false}"#);
        assert_eq!(body(&which(&[], true, None), None).unwrap(), r#"{"all":true,"dry_run":false}"#);
        assert_eq!(
            body(&which(&[], false, Some("crm")), Some("expired")).unwrap(),
            r#"{"filter":{"destination":"crm","reason":"expired"},"dry_run":false}"#
        );
        for (wrong, reason) in [
            (which(&[], false, None), None),
            (which(&["dlv_1"], true, None), None),
            (which(&["dlv_1"], false, Some("crm")), None),
            (which(&[], true, None), Some("expired")),
        ] {
            assert!(selection(&wrong, reason).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_change_tells_what_it_did_what_goes_on_and_what_was_not_there() {
        let text = |which: &DlqSelection, answer: &str| {
            change_text(&Change::REPLAY, which, &serde_json::from_str(answer).unwrap())
        };
        let ids = which(&["dlv_1", "dlv_2"], false, None);
        assert_eq!(
            text(&ids, r#"{"matched":1,"replayed":1,"job":null}"#),
            "1 matched, 1 replayed; 1 of the ids are not in the DLQ"
        );
        let mut all = which(&[], true, None);
        assert_eq!(
            text(&all, r#"{"matched":9,"replayed":5,"job":"job_1"}"#),
            "9 matched, 5 replayed; job_1 goes on with the rest"
        );
        all.dry_run = true;
        assert_eq!(text(&all, r#"{"matched":9,"replayed":0}"#), "9 would be replayed; nothing was changed");
    }

    #[test]
    fn a_reason_that_a_replay_does_not_take_is_refused_with_what_to_write() {
        let read = |word: &str| reason_of_death(Some(word.to_owned()));
        assert_eq!(read("expired").unwrap().as_deref(), Some("expired"), "as it always was");
        let refused = read("they mended it").unwrap_err().to_string();
        assert!(
            refused.contains("--with-reason and one of permanent, invalid") && refused.contains("mended"),
            "{refused}"
        );
        let both = selection(&which(&["dlv_1"], false, None), Some("expired")).unwrap_err().to_string();
        assert!(both.starts_with("ids and --all say already which ones, so leave --with-reason expired out"), "{both}");
    }

    #[test]
    fn a_script_sees_that_a_total_is_a_bound() {
        let listing = |total| list_json(Found { total: Some(total), ..Found::default() });
        let bound = json!({ "total": 700, "total_is_at_least": true, "entries": [], "cursor": null });
        assert_eq!(listing(Total::AtLeast(700)), bound);
        assert_eq!(listing(Total::Exact(700)), json!({ "total": 700, "entries": [], "cursor": null }));
    }

    #[test]
    fn a_dead_delivery_is_told_with_request_and_answer() {
        let entry = serde_json::from_str(
            r#"{"id":"dlv_1","destination":"crm","event":{"event":"deposit","event_id":"t-1"},"target":"deposit",
                "reason":"permanent","detail":"the destination answered 400","request":{"method":"POST",
                "url":"http://crm/hook","headers":{"authorization":"[redacted]"},"body":"{\"a\":1}"},
                "response":{"status":400,"body":"no\u001b"},"attempt_count":1,
                "first_attempt_at":"2026-01-01T00:00:00.000Z","last_attempt_at":"2026-01-01T00:00:00.000Z"}"#,
        )
        .unwrap();
        insta::assert_snapshot!(entry_text(&entry), @r#"
        dlv_1  deposit as deposit for crm
        reason: permanent
        detail: the destination answered 400
        attempts: 1 (2026-01-01T00:00:00.000Z to 2026-01-01T00:00:00.000Z)
        event: {"event":"deposit","event_id":"t-1"}

        POST http://crm/hook
        authorization: [redacted]

        {"a":1}

        answer 400
        no�
        "#);
    }
}
