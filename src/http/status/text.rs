//! `/status` as an aligned table, for a terminal: `curl -H 'Accept: text/plain' …/status`.
//!
//! Texts of strangers (an error message of a destination) lose their control characters here.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};

use super::dto::{BackupDto, DestinationDto, RouteErrorDto, StatusDto};
use crate::domain::message::{cut, printable};
use crate::domain::pause::PausedBy;
use crate::http::alerts::AlertsDto;
use crate::http::ingest;

/// What is shown of a destination's last error, bytes.
const ERROR_BYTES: usize = 60;

const HEADER: [&str; 15] = [
    "DESTINATION",
    "KIND",
    "STATE",
    "ACCEPTED",
    "PENDING",
    "FAILED",
    "SENT",
    "DLQ",
    "SKIPPED",
    "DISCARDED",
    "OLDEST",
    "OK 1h",
    "OK 24h",
    "P95 1h",
    "LAST ERROR",
];

/// Columns of words; all others are numbers.
const LEFT: [usize; 4] = [0, 1, 2, 14];

pub(super) fn render(status: &StatusDto) -> String {
    let mut out = String::new();
    // Writing to a String does not fail.
    write_head(&mut out, status).unwrap_or_default();
    out.push('\n');
    out.push_str(&table(status));
    out
}

fn write_head(out: &mut String, status: &StatusDto) -> std::fmt::Result {
    let StatusDto { version, uptime_s, state, reasons, config, store, events, postbacks, balance, .. } = status;
    writeln!(out, "postbackd {version}  {state}  up {}", seconds(*uptime_s))?;
    for reason in reasons {
        writeln!(out, "  ! {}", one_line(reason, 300))?;
    }
    write_proxies(out, status)?;
    writeln!(out, "config   {} since {}", config.hash, config.loaded_at)?;
    match config.needs_restart.as_slice() {
        [] => {}
        [key] => writeln!(out, "         {key} waits for a restart")?,
        keys => writeln!(out, "         {} wait for a restart", keys.join(" "))?,
    }
    let free = store.free_disk_bytes.map_or_else(|| "?".to_owned(), bytes);
    let commit = |ms: Option<f64>| ms.map_or_else(|| "-".to_owned(), |ms| format!("{ms} ms"));
    let (p50, p99) = (commit(store.commit_ms.p50), commit(store.commit_ms.p99));
    writeln!(out, "store    {}, {free} of disk free, commit p50 {p50} p99 {p99}", bytes(store.bytes))?;
    let (accepted, duplicates) = (events.accepted, events.duplicates);
    let (conflicts, rejected) = (events.conflicts, events.rejected);
    writeln!(
        out,
        "events   {accepted} accepted, {duplicates} duplicates ({conflicts} conflicts), {rejected} rejected"
    )?;
    for (source, ingest::Counts { ignored, unexpanded }) in postbacks {
        let said = [(unexpanded, "with macros not filled in"), (ignored, "ignored by its map")];
        let said = said.iter().filter(|(count, _)| **count > 0).map(|(count, what)| format!("{count} {what}"));
        writeln!(out, "postback {}: {} (since the start)", one_line(source, 64), said.collect::<Vec<_>>().join(", "))?;
    }
    write_backup(out, &status.backup)?;
    write_notes(out, &status.destinations)?;
    write_alerts(out, &status.alerts)?;
    let books = &balance.books;
    writeln!(
        out,
        "balance  {} accepted {} {} pending + {} failed + {} sent + {} failed_permanently + {} skipped + {} discarded",
        books.accepted,
        if balance.balanced { "=" } else { "IS NOT" },
        books.pending,
        books.failed,
        books.sent,
        books.failed_permanently,
        books.skipped,
        books.discarded,
    )
}

/// A line for each proxy that fails, unless a reason has told it: another may be doing its work, so that nothing else would.
fn write_proxies(out: &mut String, status: &StatusDto) -> std::fmt::Result {
    for (name, destination) in &status.destinations {
        let Some(proxy) = &destination.proxy else { continue };
        for route in proxy.routes.iter().filter(|route| route.state == "failing") {
            let why = route.last_error.as_ref().map_or("?", |error| error.message.as_str());
            let told = format!("{name} is held: {why}");
            if status.reasons.iter().any(|reason| reason.starts_with(&told)) {
                continue;
            }
            let instead =
                proxy.in_use.as_deref().map_or_else(String::new, |other| format!(", {other} is used instead"));
            let next = route.next_try_at.as_deref().unwrap_or("?");
            let line = format!("{name}: {why} (failing since {}, next try at {next}{instead})", route.since);
            writeln!(out, "  ~ {}", one_line(&line, 400))?;
        }
    }
    Ok(())
}

/// The line of automatic backups, where they are on.
fn write_backup(out: &mut String, backup: &BackupDto) -> std::fmt::Result {
    let BackupDto { every: Some(every), keep, running, last_success, last_error, not_removed, next_at, .. } = backup
    else {
        return Ok(());
    };
    let last = last_success
        .as_ref()
        .map_or_else(|| "none yet".to_owned(), |taken| format!("last {} ({})", taken.at, bytes(taken.bytes)));
    let next = match next_at {
        _ if *running => ", one is being written".to_owned(),
        Some(at) => format!(", next {at}"),
        None => String::new(),
    };
    let told = |word: &str, error: &Option<RouteErrorDto>| {
        let told = error.as_ref().map(|error| format!("; {word} {}: {}", error.at, one_line(&error.message, 300)));
        told.unwrap_or_default()
    };
    let errors = told("failed", last_error) + &told("older ones could not be removed", not_removed);
    writeln!(out, "backup   every {every}, {keep} kept: {last}{next}{errors}")
}

/// What an operator paused, and what requests went without: neither is a fault, and both should be known.
fn write_notes(out: &mut String, destinations: &BTreeMap<String, DestinationDto>) -> std::fmt::Result {
    for (name, destination) in destinations {
        if destination.paused_by == Some(PausedBy::Operator.as_str()) {
            let until = destination.until.as_deref().map(|at| format!(" until {at}")).unwrap_or_default();
            let why = one_line(destination.reason.as_deref().unwrap_or_default(), 300);
            writeln!(out, "paused   {name}{until}: {why}")?;
        }
    }
    for (name, destination) in destinations {
        let fields: Vec<String> =
            destination.left_out.iter().map(|(field, count)| format!("{field} {count}")).collect();
        if !fields.is_empty() {
            writeln!(out, "left out {name}: {} (since the start)", one_line(&fields.join(", "), 300))?;
        }
    }
    Ok(())
}

/// What was told, and channels that cannot tell.
fn write_alerts(out: &mut String, alerts: &AlertsDto) -> std::fmt::Result {
    for problem in &alerts.open {
        let (since, told) = (&problem.since, problem.told);
        writeln!(
            out,
            "alert    {}: {} (since {since}, told {told}×)",
            problem.severity,
            one_line(&problem.title, 200)
        )?;
    }
    let beat = alerts.heartbeat.as_ref().map(|beat| ("the heartbeat", beat));
    for (name, channel) in alerts.channels.iter().map(|(name, channel)| (name.as_str(), channel)).chain(beat) {
        let Some(error) = &channel.last_error else { continue };
        if channel.last_success.as_ref().is_none_or(|success| *success < error.at) {
            writeln!(out, "alerts   {name} failed at {}: {}", error.at, one_line(&error.message, 200))?;
        }
    }
    Ok(())
}

fn table(status: &StatusDto) -> String {
    if status.destinations.is_empty() {
        return "no destinations\n".to_owned();
    }
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(HEADER);
    for (name, destination) in &status.destinations {
        table.add_row(row(name, destination));
    }
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        if !LEFT.contains(&index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let mut lines = String::new();
    for line in table.lines() {
        lines.push_str(line.trim_end());
        lines.push('\n');
    }
    lines
}

fn row(name: &str, destination: &DestinationDto) -> [String; 15] {
    let counts = &destination.counts;
    let percent = |rate: Option<f64>| rate.map_or_else(|| "-".to_owned(), |rate| format!("{:.1}%", rate * 100.0));
    let error = destination.last_error.as_ref().map(|error| {
        let status = error.status.map(|status| format!("{status} ")).unwrap_or_default();
        one_line(&format!("{status}{}: {}", error.reason, error.message), ERROR_BYTES)
    });
    [
        name.to_owned(),
        destination.kind.unwrap_or("-").to_owned(),
        destination.state.to_owned(),
        counts.accepted.to_string(),
        counts.pending.to_string(),
        counts.failed.to_string(),
        counts.sent.to_string(),
        counts.failed_permanently.to_string(),
        counts.skipped.to_string(),
        counts.discarded.to_string(),
        destination.oldest_owed_s.map_or_else(|| "-".to_owned(), seconds),
        percent(destination.success_rate.hour),
        percent(destination.success_rate.day),
        destination.latency_ms.hour.p95.map_or_else(|| "-".to_owned(), |ms| format!("{ms:.0} ms")),
        error.unwrap_or_else(|| "-".to_owned()),
    ]
}

/// A text on one line, without anything a terminal would obey.
fn one_line(text: &str, max: usize) -> String {
    let clean: String = printable(text.as_bytes(), text.len().saturating_mul(3)).replace(['\n', '\t'], " ");
    match cut(&clean, max) {
        whole if whole.len() == clean.len() => clean,
        part => format!("{part}…"),
    }
}

/// `3d 4h`, `5m 6s`: the two greatest units.
fn seconds(seconds: u64) -> String {
    let units = [("d", 86_400), ("h", 3600), ("m", 60), ("s", 1)];
    let first = units.iter().position(|(_, size)| seconds >= *size).unwrap_or(3);
    let mut rest = seconds;
    let mut parts = Vec::new();
    for (unit, size) in units.iter().skip(first).take(2) {
        if rest >= *size || parts.is_empty() {
            parts.push(format!("{}{unit}", rest / size));
        }
        rest %= size;
    }
    parts.join(" ")
}

/// Binary units, whole below a KiB, else with one digit.
fn bytes(count: u64) -> String {
    let mut unit = 0_usize;
    let mut tenths = u128::from(count) * 10;
    while tenths >= 10_240 && unit < 4 {
        tenths /= 1024;
        unit += 1;
    }
    let name = ["B", "KiB", "MiB", "GiB", "TiB"].get(unit).copied().unwrap_or("TiB");
    if unit == 0 { format!("{count} B") } else { format!("{}.{} {name}", tenths / 10, tenths % 10) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_and_sizes_are_short() {
        for (span, text) in [(0, "0s"), (59, "59s"), (60, "1m"), (61, "1m 1s"), (90_061, "1d 1h"), (86_400, "1d")] {
            assert_eq!(seconds(span), text);
        }
        for (count, text) in [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1536, "1.5 KiB"), (1 << 40, "1.0 TiB")]
        {
            assert_eq!(bytes(count), text);
        }
    }

    #[test]
    fn a_terminal_obeys_nothing_in_it() {
        assert_eq!(one_line("a\x1b[2Jb\nc\u{9b}", 100), "a\u{FFFD}[2Jb c\u{FFFD}");
        assert_eq!((one_line("abcd", 4).as_str(), one_line("abcde", 4).as_str()), ("abcd", "abcd…"));
    }
}
