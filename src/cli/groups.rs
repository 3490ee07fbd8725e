//! `postbackd dlq groups`: the dead by what went wrong, each with the command that replays exactly it.
//!
//! An answer of the daemon looks at a few thousand entries, newest first; answers are followed and added up for some
//! seconds. Where that was not enough, or an earlier look counted a part already, a count is a bound and told as one;
//! `--cursor` goes on.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::client::{self, Daemon};
use super::deliveries::{Total, cell};
use super::{cursor, out};
use crate::env::clock::Clock;
use crate::pipeline::faults::GROUPS_MAX;

/// How long answers are followed; whoever waits longer wants to know first what was found.
const FOLLOWS_FOR: Duration = Duration::from_secs(5);
/// What groups of several answers have in common where they are one.
const KEY: [&str; 4] = ["/destination", "/reason", "/response_status", "/fault"];

pub async fn groups(
    daemon: &Daemon,
    filter: &[(&str, Option<&str>)],
    cursor: Option<&str>,
    (json, clock): (bool, &dyn Clock),
) -> anyhow::Result<ExitCode> {
    let ask = async |cursor: Option<&str>| {
        let parameters = [filter, &[("cursor", cursor)]].concat();
        daemon.get(&client::query("/v1/dlq/groups", &parameters)).await
    };
    let found = followed(ask, cursor, clock).await?;
    if json {
        out::json(&found)?;
        return Ok(ExitCode::SUCCESS);
    }
    let groups = found.get("groups").and_then(Value::as_array).cloned().unwrap_or_default();
    if !groups.is_empty() {
        out::line(&table(&groups, is_complete(&found)))?;
    }
    for note in notes(&found, &groups, cursor) {
        out::note(&note);
    }
    Ok(ExitCode::SUCCESS)
}

/// Answer after answer from `from` on, as one of the same shape.
async fn followed(
    ask: impl AsyncFn(Option<&str>) -> anyhow::Result<Value>,
    from: Option<&str>,
    clock: &dyn Clock,
) -> anyhow::Result<Value> {
    let deadline = clock.monotonic() + FOLLOWS_FOR;
    let mut sum = Sum::default();
    let mut at = from.map(str::to_owned);
    loop {
        let answer = ask(at.as_deref()).await?;
        sum.add(&answer)?;
        at = cursor::next(&answer, at.as_deref())?;
        if at.is_none() || clock.monotonic() >= deadline {
            return Ok(sum.shown(from.is_none() && at.is_none(), at.as_deref()));
        }
    }
}

/// What several answers said, newest entries first.
#[derive(Debug, Default)]
struct Sum {
    entries: u64,
    others: u64,
    groups: BTreeMap<[String; 4], Map<String, Value>>,
}

impl Sum {
    fn add(&mut self, answer: &Value) -> anyhow::Result<()> {
        let Some(groups) = answer.get("groups").and_then(Value::as_array) else {
            anyhow::bail!("the answer has no list \"groups\"; is it a postbackd that answers at this address?");
        };
        self.entries = self.entries.saturating_add(number(answer.get("entries")));
        self.others = self.others.saturating_add(number(answer.get("others")));
        for group in groups {
            let Some(members) = group.as_object() else { continue };
            let key = KEY.map(|at| cell(group, at));
            let is_full = self.groups.len() >= GROUPS_MAX;
            match self.groups.get_mut(&key) {
                Some(known) => join(known, members),
                None if is_full => self.others = self.others.saturating_add(number(members.get("count"))),
                None => drop(self.groups.insert(key, members.clone())),
            }
        }
        Ok(())
    }

    /// The largest first, as the daemon has them.
    fn shown(self, complete: bool, cursor: Option<&str>) -> Value {
        let Self { entries, others, groups } = self;
        let mut groups: Vec<_> = groups.into_values().collect();
        groups.sort_by_key(|group| std::cmp::Reverse(number(group.get("count"))));
        json!({ "entries": entries, "complete": complete, "groups": groups, "others": others, "cursor": cursor })
    }
}

/// Adds a group of older entries: the sample and the words are those of the newest.
fn join(known: &mut Map<String, Value>, older: &Map<String, Value>) {
    let count = number(known.get("count")).saturating_add(number(older.get("count")));
    known.insert("count".to_owned(), count.into());
    let mut keep = |name: &str, pick: fn(&str, &str) -> bool| {
        let text = |group: &Map<String, Value>| group.get(name).and_then(Value::as_str).map(str::to_owned);
        if let (Some(ours), Some(theirs)) = (text(known), text(older))
            && pick(&theirs, &ours)
        {
            known.insert(name.to_owned(), theirs.into());
        }
    };
    // Times of one width in UTC order as texts.
    keep("first_at", |theirs, ours| theirs < ours);
    keep("last_at", |theirs, ours| theirs > ours);
}

fn number(value: Option<&Value>) -> u64 {
    value.and_then(Value::as_u64).unwrap_or_default()
}

fn is_complete(found: &Value) -> bool {
    found.get("complete").and_then(Value::as_bool) != Some(false)
}

/// What is said beside the table: what to do with it, and what is not in it.
fn notes(found: &Value, groups: &[Value], asked: Option<&str>) -> Vec<String> {
    let mut notes = Vec::new();
    match groups.first() {
        Some(largest) => notes.push(format!("to deliver the first group again: {}", command(largest))),
        None => notes.push("no dead deliveries".to_owned()),
    }
    let others = number(found.get("others"));
    if others > 0 {
        let others = counted(others, is_complete(found));
        notes.push(format!("{others} more are of further kinds; narrow it down with --destination or --reason"));
    }
    let looked_at = cell(found, "/entries");
    match (found.get("cursor").and_then(Value::as_str), asked) {
        (Some(next), _) => {
            let which = if asked.is_some() { "next" } else { "newest" };
            let next = out::plain(next);
            notes.push(format!(
                "these are the {which} {looked_at} only; count on with --cursor {next}, or narrow it with --since"
            ));
        }
        (None, Some(_)) => notes.push(format!("these are the last {looked_at}; earlier answers counted those before")),
        (None, None) => {}
    }
    notes
}

fn counted(count: u64, is_complete: bool) -> Total {
    if is_complete { Total::Exact(count) } else { Total::AtLeast(count) }
}

fn table(groups: &[Value], is_complete: bool) -> String {
    let columns = [
        ("DESTINATION", "/destination"),
        ("REASON", "/reason"),
        ("HTTP", "/response_status"),
        ("FAULT", "/fault"),
        ("FIRST", "/first_at"),
        ("LAST", "/last_at"),
        ("SAMPLE", "/sample"),
    ];
    let mut header = vec!["COUNT"];
    header.extend(columns.map(|(title, _)| title));
    header.push("WHAT");
    let line = |group: &Value| {
        let mut cells = vec![counted(number(group.get("count")), is_complete).to_string()];
        cells.extend(columns.iter().map(|(_, at)| cell(group, at)));
        cells.push(out::excerpt(&cell(group, "/detail"), 80));
        cells
    };
    out::table(&header, groups.iter().map(line).collect())
}

/// `postbackd dlq replay --destination crm …`
fn command(group: &Value) -> String {
    let filter = group.get("filter").and_then(Value::as_object).cloned().unwrap_or_default();
    let option = |(name, value): (&String, &Value)| {
        let name = if name == "reason" { "with-reason".to_owned() } else { name.replace('_', "-") };
        format!(" --{name} {}", quoted(value.as_str().unwrap_or_default()))
    };
    let options: String = filter.iter().map(option).collect();
    format!("postbackd dlq replay{options}")
}

/// As a shell takes it.
fn quoted(text: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.' | ':' | '+');
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", out::plain(text).replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::domain::time::UnixMs;

    /// Each look at it is so many seconds later than the last.
    struct Ticking(u64, AtomicU64);

    impl Clock for Ticking {
        fn now(&self) -> UnixMs {
            UnixMs(0)
        }

        fn monotonic(&self) -> Duration {
            Duration::from_secs(self.1.fetch_add(self.0, Ordering::Relaxed))
        }
    }

    /// A group of crm as the daemon tells it, between two seconds of a minute.
    fn group(count: u64, fault: &str, (first, last): (u8, u8), sample: &str) -> Value {
        let at = |second: u8| format!("2026-11-26T01:33:{second:02}.000Z");
        json!({
            "count": count, "destination": "crm", "reason": "permanent", "response_status": 400, "fault": fault,
            "first_at": at(first), "last_at": at(last), "sample": sample
        })
    }

    /// What three answers are added up to, and the cursors that were asked with.
    async fn added(step: u64, cursor: Option<&str>) -> (Value, Vec<Option<String>>) {
        let answer = |entries: u64, groups: Vec<Value>, next: Option<&str>| json!({ "entries": entries, "complete": false, "groups": groups, "others": 1, "cursor": next });
        let answers = [
            answer(3, vec![group(2, "a", (30, 40), "dlv_9")], Some("dlv_7")),
            answer(9, vec![group(7, "b", (5, 35), "dlv_6"), group(1, "a", (20, 50), "dlv_5")], Some("dlv_4")),
            answer(2, vec![group(1, "a", (25, 26), "dlv_2")], None),
        ];
        let asked = Mutex::new(Vec::new());
        let ask = async |cursor: Option<&str>| {
            asked.lock().unwrap().push(cursor.map(str::to_owned));
            let number = match cursor {
                None => 0,
                Some("dlv_7") => 1,
                Some(_) => 2,
            };
            Ok(answers[number].clone())
        };
        let sum = followed(ask, cursor, &Ticking(step, AtomicU64::new(0))).await.unwrap();
        (sum, asked.into_inner().unwrap())
    }

    #[tokio::test]
    async fn answers_are_followed_and_their_groups_added_up_until_the_end_or_some_seconds_passed() {
        let (whole, asked) = added(0, None).await;
        assert_eq!(asked, [None, Some("dlv_7".to_owned()), Some("dlv_4".to_owned())]);
        let wanted = json!({
            "entries": 14, "complete": true, "others": 3, "cursor": null,
            "groups": [group(7, "b", (5, 35), "dlv_6"), group(4, "a", (20, 50), "dlv_9")]
        });
        assert_eq!(whole, wanted);
        let (part, asked) = added(5, None).await;
        assert_eq!((&part["complete"], &part["cursor"], asked.len()), (&json!(false), &json!("dlv_7"), 1));
        let (rest, _) = added(0, Some("dlv_7")).await;
        assert_eq!((&rest["complete"], &rest["entries"]), (&json!(false), &json!(11)), "what came before is not in it");
    }

    #[tokio::test]
    async fn an_answer_that_leads_back_to_itself_is_refused() {
        let ask = async |_: Option<&str>| Ok(json!({ "groups": [], "cursor": "dlv_1" }));
        let said = followed(ask, None, &Ticking(0, AtomicU64::new(0))).await.unwrap_err().to_string();
        assert!(said.contains("the cursor it was asked with"), "{said}");
    }

    #[test]
    fn no_more_groups_are_told_apart_than_by_one_answer() {
        let mut sum = Sum::default();
        for number in 0..=GROUPS_MAX {
            sum.add(&json!({ "groups": [group(3, &number.to_string(), (1, 2), "dlv_1")] })).unwrap();
        }
        assert_eq!((sum.groups.len(), sum.others), (GROUPS_MAX, 3));
    }

    #[test]
    fn a_count_that_is_a_bound_is_told_as_a_bound_and_how_to_count_on() {
        let mut found = json!({
            "entries": 9, "complete": false, "others": 2, "cursor": "dlv_5",
            "groups": [{ "count": 7, "destination": "crm", "reason": "permanent", "filter": { "destination": "crm" } }]
        });
        let told = |found: &Value, asked: Option<&str>| {
            let groups = found["groups"].as_array().unwrap();
            (table(groups, is_complete(found)), notes(found, groups, asked).split_off(1))
        };
        let (shown, notes) = told(&found, None);
        assert!(shown.lines().nth(1).unwrap().starts_with("at least 7  crm"), "{shown}");
        let others = "2 more are of further kinds; narrow it down with --destination or --reason";
        let on = "only; count on with --cursor dlv_5, or narrow it with --since";
        assert_eq!(notes, [format!("at least {others}"), format!("these are the newest 9 {on}")]);
        assert_eq!(told(&found, Some("dlv_8")).1.pop().unwrap(), format!("these are the next 9 {on}"));
        found["cursor"] = Value::Null;
        let rest = told(&found, Some("dlv_8"));
        assert!(rest.0.contains("at least 7"), "what an earlier answer counted is not in it: {}", rest.0);
        assert_eq!(rest.1.last().unwrap(), "these are the last 9; earlier answers counted those before");
        found["complete"] = true.into();
        let (shown, notes) = told(&found, None);
        assert!(shown.lines().nth(1).unwrap().starts_with("7  "), "{shown}");
        assert_eq!(notes, [others]);
    }

    #[test]
    fn a_group_s_command_is_what_a_shell_takes() {
        let filter =
            json!({ "destination": "crm", "reason": "permanent", "response_status": "400", "detail": "it's; rm" });
        let wanted = r"postbackd dlq replay --destination crm --with-reason permanent --response-status 400 --detail 'it'\''s; rm'";
        assert_eq!(command(&json!({ "filter": filter })), wanted);
    }
}
