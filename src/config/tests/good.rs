//! What a valid configuration becomes.

use super::{NOW, load, load_text, said, said_about, written};
use crate::config::backup::Backup;
use crate::config::snapshot::Snapshot;
use crate::destination::filter::{Condition, Test};
use crate::domain::net::AllowPrivate;
use crate::domain::proxy::Proxy;
use crate::domain::retry::StatusSet;
use crate::domain::time::{DurationMs, UnixMs};

const HOOK: &str = "[destinations.hook]\nkind = \"webhook\"\nurl = \"https://hooks.example.com/\"\n";

fn good(text: &str) -> Snapshot {
    match load_text(text) {
        Ok((snapshot, _)) => snapshot,
        Err(report) => panic!("{:#?}", report.problems),
    }
}

fn fingerprint(text: &str) -> u64 {
    good(text).destinations.get("hook").unwrap().fingerprint
}

#[test]
fn retry_is_overridden_key_by_key() {
    let text = format!(
        "[retry]\nfirst = \"5s\"\nmultiplier = 1.5\n{HOOK}retry = {{ jitter = 0, statuses = [404, \"500-503\"] }}\n"
    );
    let snapshot = good(&text);
    let retry = &snapshot.destinations.get("hook").unwrap().retry;
    assert_eq!(retry.first, DurationMs::from_secs(5));
    assert_eq!((retry.multiplier_permille, retry.jitter_permille), (1500, 0));
    assert_eq!(retry.statuses, StatusSet::new(vec![(404, 404), (500, 503)]));
    assert_eq!(retry.max_delay, DurationMs::from_hours(1));
}

// Row 71.
#[test]
fn secrets_are_found_wherever_they_are_kept() {
    let text = "[sources.a]\ntoken = [\"plain\", { env = \"TOKEN\" }, { file = \"s/t\" }, { value = \"old\", until = \"2020-01-01T00:00:00Z\" }]\n";
    let dir = written(&[("c.toml", text.as_bytes()), ("s/t", b"from-file\r\n")]);
    let (snapshot, report) = load(&dir.path().join("c.toml")).unwrap();
    let source = snapshot.sources.get("a").unwrap();
    for token in ["plain", "token-from-env", "from-file"] {
        assert!(source.accepts(token, NOW), "{token}");
    }
    assert!(!source.accepts("old", NOW));
    assert!(source.accepts("old", UnixMs(0)));
    assert_eq!(report.warnings.iter().filter(|warning| warning.key == "sources.a.token[3].until").count(), 1);
}

#[test]
fn a_url_from_a_secret_is_handed_on_as_one() {
    use crate::destination::registry::Spec;
    let text = "[destinations.hook]\nkind = \"webhook\"\nurl = { env = \"HOOK\" }\n";
    let dir = written(&[("c.toml", text.as_bytes())]);
    let seen = std::cell::RefCell::new(Vec::new());
    let build = |spec: Spec| {
        seen.borrow_mut().push(spec.clone());
        super::inert(spec)
    };
    assert!(crate::config::validate::load_with(&dir.path().join("c.toml"), NOW, &super::variable, &build).is_ok());
    let specs = seen.borrow();
    let [Spec::Webhook(spec)] = specs.as_slice() else { panic!("{specs:?}") };
    assert_eq!(spec.hidden[0].expose(), spec.url.as_str());
}

#[test]
fn conditions_take_quoted_and_dotted_paths_alike() {
    let text = format!(
        "{HOOK}[destinations.hook.when]\ndata.plan.name = \"gold\"\n\"click.geo\" = {{ not = [\"RU\", 7] }}\nuid = {{ present = true }}\nvalue = [1, 2.50, true]\n"
    );
    let snapshot = good(&text);
    let condition = |path: &str, test| Condition { path: path.to_owned(), test };
    let texts = |all: &[&str]| all.iter().map(ToString::to_string).collect();
    let when = &snapshot.destinations.get("hook").unwrap().when;
    for wanted in [
        condition("data.plan.name", Test::OneOf(texts(&["gold"]))),
        condition("click.geo", Test::NoneOf(texts(&["RU", "7"]))),
        condition("uid", Test::Present),
        condition("value", Test::OneOf(texts(&["1", "2.50", "true"]))),
    ] {
        assert!(when.contains(&wanted), "{wanted:?} is not in {when:?}");
    }
    assert_eq!(when.len(), 4);
}

#[test]
fn private_addresses_may_be_opened_by_network() {
    let text = "[destinations.hook]\nkind = \"webhook\"\nurl = \"http://10.1.2.3/\"\nallow_private = [\"10.0.0.0/8\", \"::1\"]\n";
    let snapshot = good(text);
    let wanted = vec!["10.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()];
    assert_eq!(snapshot.destinations.get("hook").unwrap().network.allow_private, AllowPrivate::Networks(wanted));
}

#[test]
fn a_fingerprint_changes_with_what_matters_and_only_then() {
    let base = fingerprint(HOOK);
    let token = |text: &str| fingerprint(&format!("{HOOK}headers = {{ X = {text} }}\n"));
    assert_eq!(fingerprint(&format!("# note\n{HOOK}timeout = \"15s\"\n")), base);
    assert_eq!(fingerprint(&format!("[retry]\nfirst = \"30s\"\n{HOOK}")), base);
    assert_eq!(token("\"token-from-env\""), token("{ env = \"TOKEN\" }"));
    assert_ne!(token("\"a\""), token("\"b\""));
    assert_ne!(fingerprint(&format!("[retry]\nfirst = \"31s\"\n{HOOK}")), base);
    assert_ne!(fingerprint(&format!("{HOOK}enabled = false\n")), base);
    let proxy = |text: &str| fingerprint(&format!("{HOOK}proxy = {text}\n"));
    let one = proxy("\"socks5://u:p@h:1080\"");
    assert_eq!(proxy("[\"socks5://u:p@H:1080/\"]"), one);
    for other in ["\"socks5://u:q@h:1080\"", "\"socks5h://u:p@h:1080\"", "[\"socks5://u:p@h:1080\", \"http://h:1\"]"] {
        assert_ne!(proxy(other), one, "{other}");
    }
}

#[test]
fn proxies_are_read_in_their_order_from_wherever_they_are_kept() {
    use std::os::unix::fs::PermissionsExt;
    let text = format!(
        "{HOOK}proxy = [\"http://10.0.0.1:3128\", {{ file = \"p\" }}]\n[sources.a]\ntoken = {{ env = \"TOKEN\" }}\n"
    );
    let dir = written(&[("c.toml", text.as_bytes()), ("p", b"socks5h://u:p%40ss@gate.example.com:7000\n")]);
    std::fs::set_permissions(dir.path().join("c.toml"), std::fs::Permissions::from_mode(0o644)).unwrap();
    let (snapshot, report) = load(&dir.path().join("c.toml")).unwrap();
    let network = &snapshot.destinations.get("hook").unwrap().network;
    let addresses: Vec<String> = network.proxies.iter().map(Proxy::address).collect();
    assert_eq!(addresses, ["http://10.0.0.1:3128", "socks5h://gate.example.com:7000"]);
    assert_eq!(network.proxies[1].login.as_ref().unwrap().password.expose(), "p@ss");
    assert_eq!(report.warnings, [], "an address without a login is no secret");
}

#[test]
fn the_hash_tells_file_contents_apart_and_not_where_they_lie() {
    let hash = |files: &[(&str, &[u8])]| {
        let dir = written(files);
        load(&dir.path().join("c.toml")).unwrap().0.hash
    };
    let main: &[u8] = b"include = [\"d/*.toml\"]\n";
    let one = hash(&[("c.toml", main), ("d/a.toml", b"[server]\n")]);
    assert_eq!(one.len(), 16);
    assert_eq!(hash(&[("c.toml", main), ("d/a.toml", b"[server]\n")]), one);
    assert_ne!(hash(&[("c.toml", main), ("d/b.toml", b"[server]\n")]), one);
    assert_ne!(hash(&[("c.toml", main), ("d/a.toml", b"[storage]\n")]), one);
}

#[test]
fn included_files_are_joined() {
    let main: &[u8] = b"include = [\"d/*.toml\"]\n[sources.a]\ntoken = \"a\"\n";
    let dir =
        written(&[("c.toml", main), ("d/1.toml", b"[sources.b]\ntoken = \"b\"\n"), ("d/2.toml", HOOK.as_bytes())]);
    let (snapshot, report) = load(&dir.path().join("c.toml")).unwrap();
    assert_eq!((snapshot.sources.len(), snapshot.destinations.len()), (2, 1));
    assert_eq!(report.warnings, []);
}

#[test]
fn doubtful_things_are_warned_of() {
    let text = "[destinations.hook]\nkind = \"webhook\"\nurl = \"http://hooks.example.com/?key=hunter2\"\n\
                [destinations.meta]\nkind = \"fb_capi\"\npixel_id = \"1\"\naccess_token = \"hunter2\"\ntest_event_code = \"TEST1\"\n\
                [retry]\nfirst = \"2h\"\n";
    insta::assert_snapshot!(said(text), @r"
    warning: c.toml:3: destinations.hook.url: is http: events and tokens cross the Internet readable by anyone; write https
    warning: c.toml:8: destinations.meta.test_event_code: is set: events show under Test Events and may not count; remove it to go live
    warning: c.toml:9: retry.max_delay: 1h is shorter than first (2h): every delay is 1h; raise max_delay
    ");
    insta::assert_snapshot!(said_about(&[("c.toml", b"[server]\n")]), @r"
    warning: c.toml: destinations: no destination is configured: events are kept and go nowhere
    warning: c.toml: sources: no source is configured: nobody can send events
    ");
}

// Row 71.
#[test]
fn files_that_others_can_read_are_warned_of() {
    use std::os::unix::fs::PermissionsExt;
    let text = "[sources.a]\ntoken = { file = \"t\" }\n[sources.b]\ntoken = \"hunter2\"\n";
    let dir = written(&[("c.toml", text.as_bytes()), ("t", b"secret")]);
    for name in ["c.toml", "t"] {
        std::fs::set_permissions(dir.path().join(name), std::fs::Permissions::from_mode(0o644)).unwrap();
    }
    let (_, report) = load(&dir.path().join("c.toml")).unwrap();
    let said: Vec<String> = report
        .warnings
        .iter()
        .map(|warning| warning.detail.replace(&format!("{}/", dir.path().display()), ""))
        .collect();
    assert!(said.iter().any(|text| text.starts_with("holds secrets in plain text")), "{said:?}");
    assert!(said.iter().any(|text| text == "t may be read by every user; run chmod 600 on it"), "{said:?}");
}

#[test]
fn backups_are_taken_only_where_somebody_says_so() {
    let read = |text: &str| good(text).backup;
    let never = Backup { every: None, dir: None, keep: 7 };
    assert_eq!(read("[server]\n"), never);
    assert_eq!(read("[backup]\nevery = \"never\"\n"), never);
    let set = read("[backup]\nevery = \"1d\"\ndir = \"/var/backups/postbackd\"\nkeep = 3\n");
    let dir = Some("/var/backups/postbackd".into());
    assert_eq!(set, Backup { every: Some(DurationMs::from_days(1)), dir, keep: 3 });
}
