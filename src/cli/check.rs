//! `postbackd check`: every problem of the configuration at once, and what to look at before going live.

use std::process::ExitCode;

use serde_json::{Value, json};

use super::args::Globals;
use super::{client, out};
use crate::config::checklist::checklist;
use crate::config::problem::{Problem, Report};
use crate::config::snapshot::Snapshot;
use crate::config::validate;
use crate::domain::time::UnixMs;

/// Prints the report; 0 where the daemon would start with this configuration, else 1.
pub fn check(globals: &Globals, now: UnixMs) -> anyhow::Result<ExitCode> {
    let path = client::config_path(globals);
    let (snapshot, report) = match validate::load(path, now) {
        Ok((snapshot, report)) => (Some(snapshot), report),
        Err(report) => (None, report),
    };
    let open = snapshot.as_ref().map(checklist).unwrap_or_default();
    if globals.json {
        out::json(&report_json(&report, snapshot.is_some(), &open))?;
    } else {
        let sizes = snapshot.as_ref().map(size);
        out::line(&out::plain_lines(&report_text(&path.display().to_string(), &report, sizes.as_deref(), &open)))?;
    }
    Ok(if snapshot.is_some() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn size(snapshot: &Snapshot) -> String {
    format!("{}, {}", counted(snapshot.sources.len(), "source"), counted(snapshot.destinations.len(), "destination"))
}

/// `sizes` is `None` where the configuration is refused.
fn report_text(path: &str, report: &Report, sizes: Option<&str>, open: &[String]) -> String {
    let mut lines: Vec<String> = report.problems.iter().map(ToString::to_string).collect();
    if !report.warnings.is_empty() {
        lines.push(format!("{}:", counted(report.warnings.len(), "warning")));
        lines.extend(report.warnings.iter().map(ToString::to_string));
    }
    if !open.is_empty() {
        lines.push("before going live:".to_owned());
        lines.extend(open.iter().map(|item| format!("- {item}")));
    }
    lines.push(match sizes {
        Some(sizes) => format!("{path}: ok ({sizes})"),
        None => format!("{path}: refused ({})", counted(report.problems.len(), "problem")),
    });
    lines.join("\n")
}

fn report_json(report: &Report, ok: bool, open: &[String]) -> Value {
    let list = |problems: &[Problem]| problems.iter().map(problem_json).collect::<Vec<_>>();
    json!({ "ok": ok, "problems": list(&report.problems), "warnings": list(&report.warnings), "checklist": open })
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
        let open = ["destinations.meta: pixel_id is an example".to_owned()];
        insta::assert_snapshot!(report_text("c.toml", &Report::default(), Some("1 source"), &open), @r"
        before going live:
        - destinations.meta: pixel_id is an example
        c.toml: ok (1 source)
        ");
    }

    #[test]
    fn the_json_has_the_form_of_the_status_document() {
        insta::assert_snapshot!(report_json(&report(), false, &[]).to_string(), @r#"{"ok":false,"problems":[{"file":"c.toml","line":3,"key":"server.lisen","detail":"unknown key; write \"listen\""}],"warnings":[{"file":"c.toml","line":null,"key":"","detail":"no destination: events would be stored and go nowhere"}],"checklist":[]}"#);
    }
}
