//! `postbackd check`: every problem of the configuration at once, and what to look at before going live.

mod backups;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use serde_json::{Value, json};

use super::args::{CheckArgs, Globals};
use super::{client, out};
use crate::config::checklist::{Entry, address, checklist};
use crate::config::problem::{Problem, Report};
use crate::config::snapshot::{Destination, Snapshot};
use crate::config::validate;
use crate::domain::name::DestinationName;
use crate::egress::Egress;
use crate::egress::tls::{self, NO_ROOTS};
use crate::env::clock::Clock;
use crate::env::transport::Fault;

/// Prints the report; 0 where the daemon would start with this configuration and could send by it, else 1.
pub async fn check(globals: &Globals, args: &CheckArgs, clock: Arc<dyn Clock>) -> anyhow::Result<ExitCode> {
    let path = client::config_path(globals);
    let now = clock.now();
    let (snapshot, mut report) = match validate::load(path, now) {
        Ok((snapshot, report)) => (Some(snapshot), report),
        Err(report) => (None, report),
    };
    if let Some(snapshot) = &snapshot {
        report.problems.extend(without_roots(snapshot, path)?);
        backups::look(snapshot, path, &mut report);
    }
    let good = snapshot.is_some() && report.problems.is_empty();
    let mut open = snapshot.as_ref().map(checklist).unwrap_or_default();
    if args.probe
        && let Some(snapshot) = &snapshot
    {
        report.warnings.extend(probe(snapshot, path, clock, &mut open).await?);
    }
    if globals.json {
        out::json(&report_json(&report, good, &open))?;
    } else {
        let sizes = snapshot.as_ref().filter(|_| good).map(size);
        out::line(&out::plain_lines(&report_text(&path.display().to_string(), &report, sizes.as_deref(), &open)))?;
    }
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Enabled destinations that need CA certificates on a machine without any. The daemon starts all the same, since what it
/// takes is kept until they are there; whoever checks before going live is to hear of it.
fn without_roots(snapshot: &Snapshot, path: &Path) -> anyhow::Result<Vec<Problem>> {
    let by_tls = |destination: &&Arc<Destination>| {
        let url = address(destination, snapshot.loaded_at);
        destination.enabled && url.is_some_and(|url| url.scheme() == "https")
    };
    let names: Vec<_> = snapshot.destinations.values().filter(by_tls).map(|destination| &destination.name).collect();
    if names.is_empty() || tls::has_roots().map_err(anyhow::Error::msg)? {
        return Ok(Vec::new());
    }
    let problem = |name: &DestinationName| {
        let detail = format!("nothing can be sent to it: {NO_ROOTS}");
        Problem { file: path.to_path_buf(), line: None, key: format!("destinations.{name}"), detail }
    };
    Ok(names.into_iter().map(problem).collect())
}

/// Opens a connection to every destination: what cannot be reached is a warning, what can is a fact.
async fn probe(
    snapshot: &Snapshot,
    path: &Path,
    clock: Arc<dyn Clock>,
    open: &mut [Entry],
) -> anyhow::Result<Vec<Problem>> {
    let egress = Egress::new(snapshot, clock)?;
    let mut warnings = Vec::new();
    for (name, destination) in &snapshot.destinations {
        let Some(url) = address(destination, snapshot.loaded_at) else { continue };
        let key = format!("destinations.{name}");
        match egress.reach(name, &url).await {
            Ok(()) => {
                let entry = open.iter_mut().find(|entry| entry.key == key);
                if let Some(entry) = entry {
                    entry.facts.push("a connection to it can be opened".to_owned());
                }
            }
            Err(fault) => {
                let detail = format!("cannot be reached from here: {}", words(fault));
                let detail = destination.adapter.redactor().redact(&detail);
                warnings.push(Problem { file: path.to_path_buf(), line: None, key, detail });
            }
        }
    }
    Ok(warnings)
}

fn words(fault: Fault) -> String {
    match fault {
        Fault::Network(text)
        | Fault::Tls(text)
        | Fault::Ambiguous(text)
        | Fault::Refused(text)
        | Fault::Proxy { detail: text, .. } => text,
        Fault::Timeout { .. } => "no connection in time".to_owned(),
    }
}

fn size(snapshot: &Snapshot) -> String {
    format!("{}, {}", counted(snapshot.sources.len(), "source"), counted(snapshot.destinations.len(), "destination"))
}

/// `sizes` is `None` where the configuration is refused.
fn report_text(path: &str, report: &Report, sizes: Option<&str>, open: &[Entry]) -> String {
    let mut lines: Vec<String> = report.problems.iter().map(ToString::to_string).collect();
    if !report.warnings.is_empty() {
        lines.push(format!("{}:", counted(report.warnings.len(), "warning")));
        lines.extend(report.warnings.iter().map(ToString::to_string));
    }
    if !open.is_empty() {
        lines.push("before going live:".to_owned());
        lines.extend(open.iter().flat_map(block));
    }
    lines.push(match sizes {
        Some(sizes) => format!("{path}: ok ({sizes})"),
        None => format!("{path}: refused ({})", counted(report.problems.len(), "problem")),
    });
    lines.join("\n")
}

/// One destination: what it does, then what to look at.
fn block(entry: &Entry) -> Vec<String> {
    let mut facts = entry.facts.iter();
    let mut lines = vec![match facts.next() {
        Some(first) => format!("{}: {first}", entry.key),
        None => format!("{}:", entry.key),
    }];
    lines.extend(facts.map(|fact| format!("  {fact}")));
    lines.extend(entry.open.iter().map(|note| format!("- {note}")));
    if entry.open.is_empty() {
        lines.push("  nothing left to look at".to_owned());
    }
    lines
}

fn report_json(report: &Report, ok: bool, open: &[Entry]) -> Value {
    let list = |problems: &[Problem]| problems.iter().map(problem_json).collect::<Vec<_>>();
    let notes = |entry: &Entry| entry.open.iter().map(|note| format!("{} {note}", entry.key)).collect::<Vec<_>>();
    let checklist: Vec<String> = open.iter().flat_map(notes).collect();
    json!({ "ok": ok, "problems": list(&report.problems), "warnings": list(&report.warnings), "checklist": checklist })
}

fn problem_json(problem: &Problem) -> Value {
    json!({
        "file": problem.file.display().to_string(),
        "line": problem.line,
        "key": problem.key,
        "detail": problem.detail,
    })
}

fn counted(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let problem = |line, key: &str, detail: &str| Problem {
            file: "c.toml".into(),
            line,
            key: key.to_owned(),
            detail: detail.to_owned(),
        };
        Report {
            problems: vec![problem(Some(3), "server.lisen", "unknown key; write \"listen\"")],
            warnings: vec![problem(None, "", "no destination: events would be stored and go nowhere")],
        }
    }

    #[test]
    fn a_report_names_file_line_key_and_detail() {
        insta::assert_snapshot!(report_text("c.toml", &report(), None, &[]), @r#"
        c.toml:3: server.lisen: unknown key; write "listen"
        1 warning:
        c.toml: no destination: events would be stored and go nowhere
        c.toml: refused (1 problem)
        "#);
        insta::assert_snapshot!(report_text("c.toml", &Report::default(), Some("1 source"), &looked_at()), @r"
        before going live:
        destinations.crm: webhook to crm.acme.io
          nothing left to look at
        destinations.meta: fb_capi to graph.facebook.com, takes deposit as Purchase
          action_source is website
        - has the pixel_id of an example
        c.toml: ok (1 source)
        ");
    }

    fn looked_at() -> [Entry; 2] {
        let entry = |key: &str, facts: &[&str], open: &[&str]| Entry {
            key: key.to_owned(),
            facts: facts.iter().map(|text| (*text).to_owned()).collect(),
            open: open.iter().map(|text| (*text).to_owned()).collect(),
        };
        let meta = ["fb_capi to graph.facebook.com, takes deposit as Purchase", "action_source is website"];
        [
            entry("destinations.crm", &["webhook to crm.acme.io"], &[]),
            entry("destinations.meta", &meta, &["has the pixel_id of an example"]),
        ]
    }

    #[test]
    fn the_list_of_the_json_holds_what_is_open() {
        let json = report_json(&Report::default(), true, &looked_at());
        assert_eq!(json["checklist"], json!(["destinations.meta has the pixel_id of an example"]));
    }

    #[test]
    fn the_json_has_the_form_of_the_status_document() {
        insta::assert_snapshot!(report_json(&report(), false, &[]).to_string(), @r#"{"ok":false,"problems":[{"file":"c.toml","line":3,"key":"server.lisen","detail":"unknown key; write \"listen\""}],"warnings":[{"file":"c.toml","line":null,"key":"","detail":"no destination: events would be stored and go nowhere"}],"checklist":[]}"#);
    }
}
