//! `config.example.toml` is documentation that must stay true.

use std::path::{Path, PathBuf};

use super::{NOW, asked, load, said_of_destination, variable, written};
use crate::config::checklist::checklist;
use crate::config::kinds;
use crate::config::validate;
use crate::destination::{Kind, registry};
use crate::domain::retry::RetryPolicy;
use crate::domain::time::DurationMs;

fn example() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config.example.toml")
}

#[test]
fn the_example_is_accepted_and_shows_every_kind() {
    let (snapshot, _) = load(&example()).unwrap();
    let mut kinds: Vec<Kind> = snapshot.destinations.values().map(|destination| destination.kind).collect();
    kinds.sort();
    assert_eq!(kinds, Kind::ALL);
    let open = checklist(&snapshot);
    let of = |key: &str| open.iter().find(|entry| entry.key == key).unwrap().open.join("\n");
    for key in ["destinations.crm", "destinations.tracker", "destinations.meta"] {
        assert!(of(key).starts_with("is disabled: "), "{key}");
    }
    assert!(of("sources.app").contains("the one of an example"));
}

#[test]
fn every_key_the_code_reads_stands_in_the_example() {
    let text = std::fs::read_to_string(example()).unwrap();
    let missing: Vec<&str> = asked(&example())
        .into_iter()
        .filter(|key| {
            let word = regex::Regex::new(&format!(r"(?m)(^|[ .\[{{]){key}( =|[.\]])")).unwrap();
            !word.is_match(&text)
        })
        .collect();
    assert_eq!(missing, Vec::<&str>::new());
}

#[test]
fn the_example_shows_the_true_defaults() {
    let (shown, _) = load(&example()).unwrap();
    let (bare, _) = super::load_text("[sources.app]\ntoken = \"t\"\n").unwrap();
    assert_eq!(shown.server, bare.server);
    assert_eq!(shown.storage, bare.storage);
    assert_eq!(shown.retention, bare.retention);
    assert_eq!(shown.backup, bare.backup);
    assert_eq!(shown.default_currency, bare.default_currency);
    let mut policy = shown.alerts.policy.clone();
    if let Some(silence) = &mut policy.silence {
        silence.sources.clear();
    }
    assert_eq!(policy, bare.alerts.policy);
    assert!(!shown.alerts.are_watched(), "an example tells nobody");
    let meta = shown.destinations.get("meta").unwrap();
    assert_eq!(meta.retry, RetryPolicy::default());
    assert_eq!(bare.server.drain, DurationMs::from_secs(20));
}

#[test]
fn the_lists_of_keys_by_kind_are_what_the_readers_ask_for() {
    // A key that a list names and no reader asks for would be taken in silence; one the list lacks would be called
    // unknown instead of foreign.
    for kind in Kind::ALL {
        for key in kinds::keys(kind) {
            let said = said_of_destination(&format!("kind = \"{}\"\n{key} = 1979-05-27", kind.as_str()));
            assert!(said.contains(&format!("destinations.one.{key}: ")), "{key}: {said}");
            assert!(!said.contains("is not a key") && !said.contains("belongs to"), "{key}: {said}");
        }
    }
    let listed = |key: &str| Kind::ALL.into_iter().any(|kind| kinds::keys(kind).contains(&key));
    for key in asked(&example()).into_iter().filter(|key| !listed(key)) {
        let known = Kind::ALL.map(|kind| {
            let said = said_of_destination(&format!("kind = \"{}\"\n\"{key}\" = 1979-05-27", kind.as_str()));
            !said.contains(&format!("one.{key}: is not a key")) && !said.contains("is not TOML")
        });
        assert!(known[0] == known[1] && known[1] == known[2], "{key} is not a key of every kind: {known:?}");
    }
}

/// A commented line that shows a key.
fn alternative(line: &str) -> Option<(&str, &str)> {
    let shown = line.strip_prefix("# ")?;
    let (key, _) = shown.split_once(" = ")?;
    key.chars().all(|letter| letter.is_ascii_lowercase() || letter == '_').then_some((key, shown))
}

#[test]
fn every_alternative_in_the_example_is_accepted_in_place_of_its_key() {
    let text = std::fs::read_to_string(example()).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let mut tried = 0;
    for (at, line) in lines.iter().enumerate() {
        let Some((key, shown)) = alternative(line) else { continue };
        // The section it stands in; a key that is set there gives way.
        let header = |line: &&str| line.starts_with('[');
        let begin = lines.iter().take(at).rposition(header).unwrap_or(0);
        let end = lines.iter().skip(at).position(header).map_or(lines.len(), |length| at + length);
        let set = format!("{key} = ");
        let changed: Vec<&str> = lines
            .iter()
            .enumerate()
            .filter(|(place, line)| !((begin..end).contains(place) && line.starts_with(&set)))
            .map(|(place, line)| if place == at { shown } else { *line })
            .collect();
        let dir = written(&[("c.toml", changed.join("\n").as_bytes())]);
        let loaded = validate::load_with(&dir.path().join("c.toml"), NOW, &variable, &registry::build);
        let problems = loaded.err().map(|report| report.problems).unwrap_or_default();
        // What cannot be had here: the reader's own environment and credentials, and companions the comment asks for.
        let excused =
            ["environment variable", "CREDENTIALS_DIRECTORY", "data_processing_options", "needs method = \"POST\""];
        let wrong: Vec<String> = problems
            .iter()
            .map(ToString::to_string)
            .filter(|problem| !excused.iter().any(|words| problem.contains(words)))
            .collect();
        assert_eq!(wrong, Vec::<String>::new(), "{shown}");
        tried += 1;
    }
    assert!(tried >= 12, "only {tried} alternatives were found");
}

/// With the kinds' own builders, which are asked about the rest although a key is wrong already.
fn problems(destination: &str) -> Vec<String> {
    let text = format!("[destinations.one]\n{destination}");
    let dir = written(&[("c.toml", text.as_bytes())]);
    let loaded = validate::load_with(&dir.path().join("c.toml"), NOW, &variable, &registry::build);
    loaded.unwrap_err().problems.into_iter().map(|problem| problem.key).collect()
}

#[test]
fn a_wrong_key_hides_no_other() {
    let webhook =
        "kind = \"webhook\"\nurl = \"ftp://x\"\ntemplate = '{ \"a\": {uid} }'\nsigning_secrets = [\"whsec_!\"]";
    let wanted = ["url", "template", "signing_secrets"].map(|key| format!("destinations.one.{key}"));
    assert_eq!(problems(webhook), wanted);
    let network = "kind = \"s2s_postback\"\nurl_template = \"ftp://x\"\nsuccess_pattern = \"(\"";
    assert_eq!(problems(network), ["destinations.one.url_template", "destinations.one.success_pattern"]);
    let meta = "kind = \"fb_capi\"\npixel_id = 1\nretry = { give_up_after = \"9d\" }";
    let wanted = ["access_token", "pixel_id", "retry.give_up_after"].map(|key| format!("destinations.one.{key}"));
    assert_eq!(problems(meta), wanted);
}

#[test]
fn a_secret_that_cannot_be_read_is_one_problem() {
    let network = "kind = \"s2s_postback\"\nurl_template = \"https://t.acme.io/?c={uid}&k={secret.key}\"\n\
                   secrets = { key = { env = \"MISSING\" } }";
    assert_eq!(problems(network), ["destinations.one.secrets.key"]);
}
