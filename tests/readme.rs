//! The README against what there is: what it leaves out, and what it promises that does not exist. Both sides are read, the
//! one from its text, the other from the program: its command line, its table of paths, its metrics. That
//! `config.example.toml` has every key and works as it stands is held beside the configuration.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, its helpers too"
)]

#[path = "it/support/daemon.rs"]
#[allow(dead_code, reason = "the other tests use more of it")]
mod daemon;
#[path = "it/support/sink.rs"]
#[allow(dead_code, reason = "the other tests use more of it")]
mod sink;

use std::collections::BTreeSet;

use clap::error::ErrorKind;
use clap::{Command, CommandFactory as _, Parser as _};
use postbackd::cli::args::Cli;
use regex::Regex;

const README: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
/// Options of other programs that the README names beside ours.
const OF_OTHERS: [&str; 11] = [
    "bench",
    "check",
    "compare",
    "data-binary",
    "nocapture",
    "now",
    "open",
    "release",
    "runtime",
    "test",
    "unix-socket",
];

fn readme() -> String {
    std::fs::read_to_string(README).unwrap()
}

fn all<'t>(pattern: &str, text: &'t str) -> BTreeSet<&'t str> {
    let pattern = Regex::new(pattern).unwrap();
    pattern.captures_iter(text).map(|found| found.get(1).unwrap().as_str()).collect()
}

/// Verbs that the help shows, each with the words that lead to it and its own long options.
fn verbs(of: &Command, path: &str, found: &mut Vec<(String, BTreeSet<String>)>) {
    for verb in of.get_subcommands().filter(|verb| !verb.is_hide_set() && verb.get_name() != "help") {
        let path = format!("{path} {}", verb.get_name());
        let shown = verb.get_arguments().filter(|option| !option.is_hide_set());
        let options = shown.filter_map(|option| option.get_long()).map(str::to_owned).collect();
        verbs(verb, &path, found);
        if !verb.has_subcommands() {
            found.push((path, options));
        }
    }
}

fn command_line() -> Vec<(String, BTreeSet<String>)> {
    let mut found = Vec::new();
    let program = Cli::command();
    verbs(&program, "postbackd", &mut found);
    // Those of every verb stand at the program itself.
    let shown = program.get_arguments().filter(|option| !option.is_hide_set());
    found.push(("postbackd run".to_owned(), shown.filter_map(|option| option.get_long()).map(str::to_owned).collect()));
    assert!(found.len() > 20, "{found:?}");
    found
}

#[track_caller]
fn none_missing<T: std::fmt::Debug>(missing: &[T], what: &str) {
    assert!(missing.is_empty(), "{what}: {missing:#?}");
}

#[test]
fn every_verb_and_every_option_is_named() {
    let text = readme();
    let mut missing = Vec::new();
    for (verb, options) in command_line() {
        // `dlq list` may stand without the program's name, and `postbackd dlq` lists its own verbs in one place.
        let short = verb.strip_prefix("postbackd ").unwrap();
        let is_named = Regex::new(&format!(r"(?:postbackd |`){}\b", regex::escape(short))).unwrap();
        if !is_named.is_match(&text) {
            missing.push(verb.clone());
        }
        let is_missing = |option: &&String| !Regex::new(&format!(r"--{option}(?:[^a-z-]|$)")).unwrap().is_match(&text);
        missing.extend(options.iter().filter(is_missing).map(|option| format!("{verb} --{option}")));
    }
    none_missing(&missing, "the README does not name");
}

#[test]
fn every_command_and_every_option_that_is_named_exists() {
    let text = readme();
    let known: BTreeSet<String> = command_line().into_iter().flat_map(|(_, options)| options).collect();
    let named = all(r"--([a-z][a-z-]*[a-z])", &text);
    let strange = named.into_iter().filter(|option| !known.contains(*option) && !OF_OTHERS.contains(option));
    none_missing(&strange.collect::<Vec<_>>(), "the README names options that no verb has");

    // Whole commands, in code and on the lines of a terminal. What a placeholder leaves open may be wrong, words may not.
    let quoted = Regex::new(r#"'[^']*'|"[^"]*""#).unwrap();
    let mut wrong = Vec::new();
    let commands = all(r"(?m)(?:^[$#] |`)(postbackd [a-z][^`|\n]*)", &text);
    assert!(commands.len() > 50, "{}", commands.len());
    for command in &commands {
        let plain = quoted.replace_all(command.split("  ").next().unwrap(), "TEXT").replace(['[', ']', '\'', '"'], " ");
        let words = plain.split_whitespace().take_while(|word| !matches!(*word, "&" | "#" | ">" | "…"));
        if let Err(error) = Cli::try_parse_from(words)
            && matches!(error.kind(), ErrorKind::UnknownArgument | ErrorKind::InvalidSubcommand)
        {
            wrong.push(format!("{command}: {error}"));
        }
    }
    none_missing(&wrong, "the README shows commands that are refused");
}

/// `{name}`, `{id}` and a value in their place are the same.
fn pattern(path: &str) -> Regex {
    let parts = path.split('/').map(|part| match part.strip_prefix('{') {
        Some(_) => r"(?:\{[a-z]+\}|[A-Za-z0-9_…-]+)".to_owned(),
        None => regex::escape(part),
    });
    Regex::new(&format!(r"{}(?:[^A-Za-z0-9_/-]|$)", parts.collect::<Vec<_>>().join("/"))).unwrap()
}

#[test]
fn every_path_is_named_and_every_path_that_is_named_exists() {
    let text = readme();
    let paths: Vec<&str> = postbackd::http::paths().collect();
    assert!(paths.len() > 30 && paths.contains(&"/ui/jobs"), "{paths:?}");
    // The page's own paths are what a reverse proxy passes on as one.
    let missing = paths.iter().filter(|path| !path.starts_with("/ui/") && **path != "/");
    let missing: Vec<_> = missing.filter(|path| !pattern(path).is_match(&text)).collect();
    none_missing(&missing, "the README does not name");
    assert!(text.contains("`/ui/`"));

    let known: Vec<Regex> =
        paths.iter().map(|path| Regex::new(&format!("^{}", pattern(path).as_str())).unwrap()).collect();
    let named = all(r"(/(?:v1|ui)/[A-Za-z0-9_{}/…-]*[A-Za-z0-9_}…])", &text);
    assert!(named.len() > 20, "{named:?}");
    let strange: Vec<_> = named.into_iter().filter(|path| !known.iter().any(|known| known.is_match(path))).collect();
    none_missing(&strange, "the README names paths that are not there");
}

#[tokio::test]
async fn every_series_is_named_and_every_series_that_is_named_exists() {
    let sink = sink::Sink::with_status(200).await;
    let channel =
        format!("[alerts.channels.ops]\nkind = \"webhook\"\nurl = \"{}\"\nallow_private = true\n", sink.url("/ops"));
    let daemon = daemon::Daemon::start(&(daemon::webhook("crm", &sink.url("/")) + &channel)).await;
    assert_eq!(daemon.post("/v1/events", r#"{"event":"deposit","event_id":"1"}"#).await.status, 202);
    daemon.wait_for_status(|status| status["balance"]["sent"] == 1).await;
    let metrics = daemon.get("/metrics").await.text();
    let kinds = Regex::new(r"(?m)^# TYPE (\S+) (\S+)$").unwrap();
    let series: BTreeSet<String> = kinds
        .captures_iter(&metrics)
        .map(|found| if &found[2] == "counter" { format!("{}_total", &found[1]) } else { found[1].to_owned() })
        .collect();
    assert!(series.len() > 10, "{metrics}");
    let text = readme();
    let table = text.split("All series:").nth(1).unwrap().split("\n\n").nth(1).unwrap();
    let named = all(r"`(postbackd_[a-z_]+)[`{]", table);
    let named: BTreeSet<String> = named.into_iter().map(str::to_owned).collect();
    assert_eq!(named, series);
}
