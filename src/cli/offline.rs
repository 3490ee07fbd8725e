//! `postbackd verify`, `restore` and `compact`: what is done to the files of a daemon that does not run.
//!
//! They need of the configuration only where the data directory is. A configuration that is broken, or whose credentials
//! only the daemon can read, must not stand between an operator and a restore: then `storage.path` alone is read.

use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::{Value, json};

use super::args::{CompactArgs, Globals, RestoreArgs, VerifyArgs};
use super::{client, out};
use crate::config::files::{self, CONFIG_BYTES};
use crate::config::validate;
use crate::domain::time::UnixMs;
use crate::store::compact::Compacted;
use crate::store::offline::restore::{Present, Report, Wish};
use crate::store::offline::{self, Contents, Offline};
use crate::store::{Options, Store};

/// Page cache of a verb.
const OPTIONS: Options = Options { cache: 64 << 20 };
/// Where the daemon keeps its data where the configuration does not say.
const DEFAULT_DIR: &str = "/var/lib/postbackd";

/// What an operator does after a restore.
const NEXT: &str = "every destination is paused after a restore; to send what it is owed, repeats included: postbackd resume \
                    NAME; to give all of it up: take it out of the configuration, then postbackd purge NAME";

/// Exit code 0 where the store is sound, else 1 with everything that is wrong.
pub fn verify(globals: &Globals, args: &VerifyArgs, now: UnixMs) -> anyhow::Result<ExitCode> {
    // Held until the end, so that no daemon starts meanwhile.
    let (path, store, _claim) = if let Some(file) = &args.file {
        (file.clone(), offline::examine(file, OPTIONS)?, None)
    } else {
        let dir = data_dir(globals, args.dir.as_ref(), now)?;
        let instead = "stop it first, or take a backup (postbackd backup) and verify that: postbackd verify FILE";
        let claim = Offline::claim(&dir, instead)?;
        (dir, claim.examine(OPTIONS)?, Some(claim))
    };
    let findings = findings(&store)?;
    let contents = store.contents()?;
    if globals.json {
        let path = path.display().to_string();
        let mut all = contents_json(&contents);
        all.insert("file".to_owned(), path.into());
        all.insert("findings".to_owned(), findings.clone().into());
        all.insert("ok".to_owned(), findings.is_empty().into());
        out::json(&Value::Object(all))?;
    } else {
        let mut lines = findings.clone();
        let word = if findings.is_empty() { "sound".to_owned() } else { format!("{} findings", findings.len()) };
        lines.push(format!("{}: {word}; {}", path.display(), summary(&contents)));
        out::line(&out::plain_lines(&lines.join("\n")))?;
    }
    Ok(if findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn findings(store: &Store) -> anyhow::Result<Vec<String>> {
    Ok(store.reader().verify()?)
}

pub fn restore(globals: &Globals, args: &RestoreArgs, now: UnixMs) -> anyhow::Result<ExitCode> {
    let dir = data_dir(globals, args.dir.as_ref(), now)?;
    let claim = Offline::claim(&dir, "stop it first: systemctl stop postbackd")?;
    let wish = Wish { file: &args.file, sent: args.settle_sent.as_deref(), now, options: OPTIONS };
    let report = if args.dry_run { claim.rehearse(&wish)? } else { claim.restore(&wish)? };
    if globals.json {
        out::json(&report_json(&report, args.dry_run))?;
    } else {
        out::line(&out::plain_lines(&report_lines(&report, args.dry_run).join("\n")))?;
    }
    Ok(ExitCode::SUCCESS)
}

pub fn compact(globals: &Globals, args: &CompactArgs, now: UnixMs) -> anyhow::Result<ExitCode> {
    let dir = data_dir(globals, args.dir.as_ref(), now)?;
    let Compacted { before, after } =
        Offline::claim(&dir, "stop it first: systemctl stop postbackd")?.compact(OPTIONS)?;
    if globals.json {
        out::json(&json!({ "bytes_before": before, "bytes_after": after }))?;
    } else {
        out::line(&format!("{}: {before} bytes before, {after} after", out::plain(&dir.display().to_string())))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn data_dir(globals: &Globals, given: Option<&PathBuf>, now: UnixMs) -> anyhow::Result<PathBuf> {
    if let Some(dir) = given {
        return Ok(dir.clone());
    }
    let path = client::config_path(globals);
    if let Ok((snapshot, _)) = validate::load(path, now) {
        return Ok(snapshot.storage.path);
    }
    let contents = files::read(path, CONFIG_BYTES)
        .map_err(|why| anyhow::anyhow!("{} {why}; or name the data directory with --dir", path.display()))?;
    let text = String::from_utf8_lossy(&contents.bytes).into_owned();
    let table: toml::Table = text
        .parse()
        .map_err(|_| anyhow::anyhow!("{} is no TOML; name the data directory with --dir", path.display()))?;
    let named = table.get("storage").and_then(|storage| storage.get("path")).and_then(toml::Value::as_str);
    Ok(named.unwrap_or(DEFAULT_DIR).into())
}

fn summary(contents: &Contents) -> String {
    let Contents { instance, events, accepted, owed, taken_at } = contents;
    let taken = taken_at.map(|at| format!(", a backup of {}", at.to_rfc3339())).unwrap_or_default();
    format!(
        "{events} events, {owed} deliveries owed of {accepted} accepted so far, instance {:010x}{taken}",
        instance.get()
    )
}

fn contents_json(contents: &Contents) -> serde_json::Map<String, Value> {
    let Contents { instance, events, accepted, owed, taken_at } = contents;
    let pairs = [
        ("instance", Value::from(format!("{:010x}", instance.get()))),
        ("events", (*events).into()),
        ("accepted", (*accepted).into()),
        ("owed", (*owed).into()),
        ("taken_at", taken_at.map(UnixMs::to_rfc3339).into()),
    ];
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn report_lines(report: &Report, dry_run: bool) -> Vec<String> {
    let Report { backup, owed, present, jobs, floor: _, aside } = report;
    let mut lines = vec![format!("backup: {}", summary(backup))];
    lines.push(match present {
        Present::Missing => "present store: there is none".to_owned(),
        Present::Unreadable(why) => {
            format!("present store: it cannot be read, so nobody knows what was sent since: {why}")
        }
        Present::Stranger(instance) => format!("present store: another one (instance {:010x})", instance.get()),
        Present::Same { newer } => format!("present store: {newer} of its events are not in the backup"),
    });
    for each in owed {
        let mut line = format!("{}: {} owed", each.destination, each.owed);
        if each.settled > 0 {
            let left = each.owed.saturating_sub(each.settled);
            line = format!("{line}; {} of them were sent since and are settled as sent: {left} are left", each.settled);
            if each.ended > 0 {
                line = format!(
                    "{line}; the present store knows {} as ended otherwise (given up, or dead): resumed, those are sent",
                    each.ended
                );
            }
        } else if matches!(present, Present::Same { .. }) {
            line = format!(
                "{line}; the present store knows {} of them as sent already and {} as ended otherwise: resumed, those are sent again",
                each.sent, each.ended
            );
        }
        lines.push(line);
    }
    if report.settled() == 0 && owed.iter().any(|each| each.sent > 0) {
        lines.push(
            "what was sent need not be sent again: --settle-sent FILE, with the present store as FILE".to_owned(),
        );
    }
    if *jobs > 0 {
        lines.push(format!("{jobs} replays or discards that ran in the backup are ended: postbackd jobs"));
    }
    let last = match aside {
        _ if dry_run => "nothing was changed; without --dry-run the backup takes the store's place".to_owned(),
        Some(aside) => format!("restored; the store that was there is now {}", aside.display()),
        None => "restored".to_owned(),
    };
    lines.push(last);
    lines.push(NEXT.to_owned());
    lines
}

fn report_json(report: &Report, dry_run: bool) -> Value {
    let Report { backup, owed, present, jobs, floor, aside } = report;
    let (state, newer, detail) = match present {
        Present::Missing => ("missing", None, None),
        Present::Unreadable(why) => ("unreadable", None, Some(why.clone())),
        Present::Stranger(instance) => ("another", None, Some(format!("{:010x}", instance.get()))),
        Present::Same { newer } => ("same", Some(*newer), None),
    };
    let owed: Vec<_> = owed
        .iter()
        .map(|each| {
            json!({ "destination": each.destination.as_str(), "owed": each.owed, "sent_since": each.sent,
                "ended_since": each.ended, "settled": each.settled })
        })
        .collect();
    json!({
        "restored": !dry_run, "backup": contents_json(backup), "owed": owed,
        "present": { "state": state, "events_not_in_backup": newer, "detail": detail },
        "settled": report.settled(), "jobs_ended": jobs, "first_sequence": floor, "set_aside": aside.as_ref().map(|path| path.display().to_string()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::id::InstanceId;
    use crate::store::offline::restore::Owed;

    #[test]
    fn what_was_given_up_since_is_told_also_where_the_rest_is_settled() {
        let backup = Contents { instance: InstanceId::from_random(1), events: 9, accepted: 9, owed: 9, taken_at: None };
        let owed = Owed { destination: "crm".parse().unwrap(), owed: 9, sent: 6, ended: 2, settled: 6 };
        let present = Present::Same { newer: 0 };
        let report = Report { backup, owed: vec![owed], present, jobs: 0, floor: 1, aside: None };
        let said = report_lines(&report, true).join("\n");
        assert!(
            said.contains("crm: 9 owed; 6 of them were sent since and are settled as sent: 3 are left; "),
            "{said}"
        );
        assert!(said.contains("knows 2 as ended otherwise"), "{said}");
    }
}
