//! What `[alerts]` may hold, and what is said of what it may not.

use super::*;
use crate::config::tests::load_text;

fn alerts(text: &str) -> Alerts {
    let source = "[sources.app]\ntoken = \"t-app\"\n";
    load_text(&format!("{source}{text}")).map(|(snapshot, _)| snapshot.alerts).unwrap()
}

fn said(text: &str) -> Vec<String> {
    let source = "[sources.app]\ntoken = \"t-app\"\n";
    let report = load_text(&format!("{source}{text}")).map(|_| ()).unwrap_err();
    report.problems.into_iter().map(|problem| format!("{}: {}", problem.key, problem.detail)).collect()
}

#[test]
fn nothing_is_watched_until_there_is_somebody_to_tell() {
    assert!(!alerts("").are_watched());
    let off = "[alerts.channels.ops]\nkind = \"webhook\"\nurl = \"https://h.example.com/\"\nenabled = false\n";
    assert!(!alerts(off).are_watched());
    assert!(alerts(&off.replace("enabled = false", "")).are_watched());
    assert!(alerts("[alerts.heartbeat]\nurl = \"https://h.example.com/\"\n").are_watched());
    assert_eq!(alerts("").policy, Policy::default());
}

#[test]
fn every_rule_can_be_set_and_switched_off() {
    let names = [
        "success_rate",
        "failures_in_row",
        "dlq_depth",
        "dlq_growth",
        "oldest_pending",
        "held",
        "open",
        "orphaned",
        "silence",
        "disk",
        "config",
        "clock",
        "store",
        "backup",
    ];
    let off: Vec<String> = names.iter().map(|name| format!("{name} = false\n")).collect();
    let policy = alerts(&format!("[alerts]\nremind = false\n[alerts.rules]\n{}", off.concat())).policy;
    let none = Policy {
        remind: None,
        success_rate: None,
        failures_in_row: None,
        dlq_depth: None,
        dlq_growth: None,
        oldest_pending: None,
        held: false,
        open: None,
        orphaned: false,
        silence: None,
        disk: None,
        config: false,
        clock: None,
        store: false,
        backup: false,
        ..Policy::default()
    };
    assert_eq!(policy, none);
    let set = alerts(
        "[alerts]\nremind = \"4h\"\nremind_max = \"4h\"\n[alerts.rules]\nsuccess_rate = { floor = 0.5, min_attempts = 5 }\n\
         silence = { sources = { app = \"6h\" } }\ndisk = \"2GiB\"\n",
    )
    .policy;
    assert_eq!(set.success_rate, Some(RateRule { floor: 0.5, drop: 0.1, min_attempts: 5 }));
    assert_eq!(set.remind, Some((DurationMs::from_hours(4), DurationMs::from_hours(4))));
    assert_eq!(set.silence.unwrap().sources.values().next(), Some(&Some(DurationMs::from_hours(6))));
    assert_eq!(set.disk, Some(DiskRule::Below(2 << 30)));
}

#[test]
fn every_rule_is_switched_off_by_the_key_it_names() {
    for rule in Rule::ALL {
        assert!(Policy::default().is_on(rule));
        let off = alerts(&format!("[alerts.rules]\n{} = false\n", Policy::key(rule))).policy;
        assert!(!off.is_on(rule), "{rule:?}");
    }
}

#[test]
fn what_is_wrong_is_told_with_its_remedy() {
    insta::assert_snapshot!(said("[alerts]\nremmind = \"1h\"\n[alerts.rules]\nsucess_rate = false\nsilence = { sources = { ap = \"6h\" } }\nsuccess_rate = { floor = 80 }\n").join("\n"));
    insta::assert_snapshot!(said(
        "[alerts.channels.a]\nkind = \"slack\"\n\
         [alerts.channels.b]\nkind = \"webhook\"\nurl = \"http://127.0.0.1/\"\nchat_id = \"1\"\n\
         [alerts.channels.c]\nkind = \"telegram\"\nbot_token = \"1:x\"\n\
         [alerts.channels.d]\nkind = \"email\"\nhost = \"mail.example.com\"\nproxy = \"http://p\"\nfrom = \"Me <me@x.io>\"\nto = []\ntls = \"none\"\nusername = \"u\"\n"
    ).join("\n"));
}

#[test]
fn no_secret_of_a_channel_can_be_printed() {
    let text = "[alerts.channels.a]\nkind = \"webhook\"\nurl = \"https://h.example.com/hunter2\"\n\
                [alerts.channels.b]\nkind = \"telegram\"\nbot_token = \"1:hunter2\"\nchat_id = 5\n\
                [alerts.channels.c]\nkind = \"email\"\nhost = \"m.example.com\"\nusername = \"hunter2\"\npassword = \"hunter2\"\nfrom = \"a@x.io\"\nto = \"b@x.io\"\n";
    let alerts = alerts(text);
    assert_eq!(alerts.channels.len(), 3);
    assert!(!format!("{alerts:?}").contains("hunter2"));
}
