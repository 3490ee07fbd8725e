//! What `/status` says, as JSON and as a table.

use super::*;
use crate::config::reload::Standing;
use crate::domain::name::SourceName;
use crate::env::transport::RouteState;
use crate::store::EventCounts;
use crate::telemetry::rolling::{EventStats, LastError, Percentiles, Windows};

const NOW: UnixMs = UnixMs(1_795_304_438_000);

fn name(text: &str) -> DestinationName {
    text.parse().unwrap()
}

fn stats() -> StatsView {
    let percentiles = Percentiles { p50: Some(31.004), p95: Some(120.0), p99: None };
    StatsView {
        streak: crate::telemetry::rolling::Streak::default(),
        success_rate: Windows { hour: Some(2.0 / 3.0), day: Some(1.0) },
        latency_ms: Windows { hour: percentiles, day: percentiles },
        exchange_ms: Windows::default(),
        by_event: BTreeMap::from([(
            "deposit".parse().unwrap(),
            EventStats { success_rate: Windows::default(), attempts: Windows { hour: 3, day: 9 } },
        )]),
        last_error: Some(LastError {
            at: NOW,
            http_status: Some(503),
            reason: "transient".to_owned(),
            message: "busy \x1b[2J".to_owned(),
        }),
        left_out: BTreeMap::from([("user.phone".to_owned(), 2)]),
    }
}

/// Two configured destinations, one that is gone with deliveries owed, one that is gone without.
fn observed() -> Observed {
    let counts = |sent, failed| Counts { accepted: sent + failed + 1, sent, failed, skipped: 1, ..Counts::default() };
    let on = |kind| Configured { kind, enabled: true };
    let source: SourceName = "app".parse().unwrap();
    let stats = stats();
    Observed {
        now: NOW,
        uptime: DurationMs(12_345),
        config_hash: "0123456789abcdef".to_owned(),
        config_loaded_at: NOW,
        standing: Standing::default(),
        configured: BTreeMap::from([(name("hook"), on("webhook")), (name("meta-eu"), on("fb_capi"))]),
        names: Names::new([
            (name("hook"), DestinationId(1)),
            (name("meta-eu"), DestinationId(2)),
            (name("old"), DestinationId(3)),
            (name("older"), DestinationId(4)),
        ]),
        ledger: Ledger {
            deliveries: BTreeMap::from([
                (DestinationId(1), counts(5, 0)),
                (DestinationId(2), counts(2, 3)),
                (DestinationId(3), counts(0, 1)),
                (DestinationId(4), counts(1, 0)),
            ]),
            events: BTreeMap::from([(source, EventCounts { accepted: 6, duplicates: 2, conflicts: 1, rejected: 4 })]),
        },
        owed: BTreeMap::from([
            (DestinationId(2), Owed { oldest: Some(NOW - DurationMs(61_500)), next_due: Some(NOW + DurationMs(5000)) }),
            (DestinationId(3), Owed { oldest: Some(NOW - DurationMs(1000)), next_due: Some(NOW) }),
        ]),
        store_bytes: 1_572_864,
        damaged_rows: 0,
        lanes: BTreeMap::from([
            (name("hook"), LaneView { state: "active", reason: None, until: None, paused_by: None, in_flight: 2 }),
            (
                name("meta-eu"),
                LaneView {
                    state: "throttled",
                    reason: Some("asked for patience".to_owned()),
                    until: Some(NOW + DurationMs(9000)),
                    paused_by: None,
                    in_flight: 0,
                },
            ),
        ]),
        lacks: BTreeMap::new(),
        routes: BTreeMap::new(),
        stats: BTreeMap::from([(name("meta-eu"), stats)]),
        alerts: crate::alerts::View::default(),
        backup: crate::pipeline::backups::BackupView::default(),
        health: Health {
            reserve_bytes: 0,
            over_size: None,
            clock_doubt: None,
            failing: Vec::new(),
            free_disk_bytes: Some(10 * 1024 * 1024 * 1024),
            commit_ms_p50: Some(4.1234),
            commit_ms_p99: None,
        },
        postbacks: BTreeMap::new(),
    }
}

// Row 30.
#[test]
fn a_clock_that_is_years_ahead_is_told_with_the_way_back() {
    let doubt = ClockDoubt { ahead: DurationMs::from_days(3652), left: DurationMs(1) };
    let health = Health { clock_doubt: Some(doubt), ..Health::default() };
    let status = build(&Observed { health, ..Observed::default() });
    assert_eq!(status.state, "degraded");
    let [reason] = &status.reasons[..] else { panic!("{:?}", status.reasons) };
    for word in ["3652 days ahead", "nothing expires", "for 1 h more", "set it right"] {
        assert!(reason.contains(word), "{word}: {reason}");
    }
}

#[test]
fn postbacks_worth_a_look_are_shown_by_source() {
    let counts = ingest::Counts { ignored: 3, unexpanded: 2 };
    let postbacks = BTreeMap::from([("net".parse().unwrap(), counts)]);
    let status = build(&Observed { postbacks, ..Observed::default() });
    let json = serde_json::to_value(&status).unwrap();
    assert_eq!(json["postbacks"], serde_json::json!({ "net": { "ignored": 3, "unexpanded": 2 } }));
    let line = "postback net: 2 with macros not filled in, 3 ignored by its map (since the start)";
    assert!(text::render(&status).lines().any(|shown| shown == line));
    let counts = ingest::Counts { ignored: 0, unexpanded: 2 };
    let postbacks = BTreeMap::from([("net".parse().unwrap(), counts)]);
    let shown = text::render(&build(&Observed { postbacks, ..Observed::default() }));
    assert!(shown.contains("postback net: 2 with macros not filled in (since the start)\n"), "{shown}");
}

#[test]
fn the_answer_has_the_contracted_shape() {
    let mut seen = observed();
    seen.names = Names::new([(name("meta-eu"), DestinationId(2))]);
    insta::assert_snapshot!(serde_json::to_string_pretty(&build(&seen)).unwrap());
}

#[test]
fn the_table_is_aligned_and_harmless() {
    insta::assert_snapshot!(text::render(&build(&observed())), @r#"
    postbackd 0.1.0  degraded  up 12s
      ! old is orphaned: not in the configuration, and deliveries are still owed: they wait until the name returns (to give them up: postbackd purge old --reason TEXT)
    config   0123456789abcdef since 2026-11-21T23:40:38.000Z
    store    1.5 MiB, 10.0 GiB of disk free, commit p50 4.12 ms p99 -
    events   6 accepted, 2 duplicates (1 conflicts), 4 rejected
    left out meta-eu: user.phone 2 (since the start)
    balance  16 accepted = 0 pending + 4 failed + 8 sent + 0 failed_permanently + 4 skipped + 0 discarded

    DESTINATION  KIND     STATE      ACCEPTED  PENDING  FAILED  SENT  DLQ  SKIPPED  DISCARDED  OLDEST  OK 1h  OK 24h  P95 1h  LAST ERROR
    hook         webhook  active            6        0       0     5    0        1          0       -      -       -       -  -
    meta-eu      fb_capi  throttled         6        0       3     2    0        1          0   1m 1s  66.7%  100.0%  120 ms  503 transient: busy �[2J
    old          -        orphaned          2        0       1     0    0        1          0      1s      -       -       -  -
    older        -        removed           2        0       0     1    0        1          0       -      -       -       -  -
    "#);
}

fn route(address: &str, state: RouteState, failed: Option<&str>) -> RouteView {
    RouteView {
        address: address.to_owned(),
        state,
        since: NOW,
        last_error: failed.map(|why| (NOW, format!("proxy {address}: {why}"))),
        next_try_at: (state == RouteState::Failing).then_some(NOW + DurationMs(30_000)),
        used: 7,
    }
}

#[test]
fn proxies_are_shown_in_their_order_and_those_that_fail_in_the_table_too() {
    let mut seen = observed();
    let failing = route("http://10.0.0.1:3128", RouteState::Failing, Some("it asks for a user \x1b[2J"));
    let working = route("socks5h://10.0.0.2:1080", RouteState::Active, Some("reset"));
    seen.routes.insert(name("hook"), Vec::new());
    seen.routes.insert(name("meta-eu"), vec![failing.clone(), working]);
    let status = build(&seen);
    assert!(status.destinations["hook"].proxy.is_none());
    insta::assert_snapshot!(serde_json::to_string_pretty(&status.destinations["meta-eu"].proxy).unwrap());
    let line = |seen: &Observed| {
        let text = text::render(&build(seen));
        text.lines().filter(|line| line.starts_with("  ~ ")).collect::<Vec<_>>().join("\n")
    };
    insta::assert_snapshot!(line(&seen), @"  ~ meta-eu: proxy http://10.0.0.1:3128: it asks for a user �[2J (failing since 2026-11-21T23:40:38.000Z, next try at 2026-11-21T23:41:08.000Z, socks5h://10.0.0.2:1080 is used instead)");
    seen.routes.insert(name("meta-eu"), vec![failing]);
    insta::assert_snapshot!(line(&seen), @"  ~ meta-eu: proxy http://10.0.0.1:3128: it asks for a user �[2J (failing since 2026-11-21T23:40:38.000Z, next try at 2026-11-21T23:41:08.000Z)");
    assert_eq!(build(&seen).destinations["meta-eu"].proxy.as_ref().unwrap().in_use, None);
    let reason = Some("proxy http://10.0.0.1:3128: it asks for a user \x1b[2J".to_owned());
    seen.lanes.insert(name("meta-eu"), LaneView { state: "held", reason, until: None, paused_by: None, in_flight: 0 });
    assert_eq!(line(&seen), "", "it is told among the reasons");
}

#[test]
fn an_empty_store_has_a_table_too() {
    insta::assert_snapshot!(text::render(&build(&Observed::default())), @r#"
    postbackd 0.1.0  ok  up 0s
    config    since 1970-01-01T00:00:00.000Z
    store    0 B, ? of disk free, commit p50 - p99 -
    events   0 accepted, 0 duplicates (0 conflicts), 0 rejected
    balance  0 accepted = 0 pending + 0 failed + 0 sent + 0 failed_permanently + 0 skipped + 0 discarded

    no destinations
    "#);
}

#[test]
fn the_total_is_the_sum_of_all_destinations_also_of_those_that_are_gone() {
    let status = build(&observed());
    let sum: u64 = status.destinations.values().map(|destination| destination.counts.accepted).sum();
    assert_eq!(status.balance.books.accepted, sum);
    assert!(status.balance.balanced);
}

#[test]
fn destinations_that_are_gone_are_orphaned_while_something_is_owed_and_then_removed() {
    let status = build(&observed());
    let old = &status.destinations["old"];
    assert_eq!((old.state, old.kind, old.next_attempt_at.as_deref()), ("orphaned", None, None));
    assert_eq!(old.oldest_owed_s, Some(1));
    assert_eq!(status.destinations["older"].state, "removed");
    assert_eq!(status.state, "degraded");
    assert_eq!(status.reasons.len(), 1, "{:?}", status.reasons);
}

#[test]
fn the_next_attempt_waits_for_the_end_of_a_throttle() {
    let status = build(&observed());
    let wanted = (NOW + DurationMs(9000)).to_rfc3339();
    assert_eq!(status.destinations["meta-eu"].next_attempt_at.as_deref(), Some(wanted.as_str()));
}

#[test]
fn books_that_do_not_balance_are_failing() {
    let mut seen = observed();
    seen.ledger.deliveries.entry(DestinationId(1)).or_default().sent += 1;
    let status = build(&seen);
    assert!(!status.balance.balanced);
    assert_eq!(status.state, "failing");
    assert!(text::render(&status).contains("IS NOT"));
    // Two faults that cancel out in the total are faults all the same.
    seen.ledger.deliveries.entry(DestinationId(2)).or_default().sent -= 1;
    assert!(!build(&seen).balance.balanced);
}

#[test]
fn damaged_rows_are_told() {
    let mut seen = observed();
    seen.names = Names::new([(name("hook"), DestinationId(1))]);
    assert_eq!(build(&seen).state, "ok");
    seen.damaged_rows = 2;
    let status = build(&seen);
    assert_eq!(status.state, "degraded");
    assert!(status.reasons[0].starts_with("2 rows"), "{:?}", status.reasons);
}

#[test]
fn the_state_is_the_worst_of_what_holds() {
    let judged = |failing: &[String], lane: &'static str| {
        let mut seen = observed();
        seen.names = Names::new([(name("hook"), DestinationId(1))]);
        seen.health.failing = failing.to_vec();
        seen.lanes
            .insert(name("hook"), LaneView { state: lane, reason: None, until: None, paused_by: None, in_flight: 0 });
        build(&seen).state
    };
    for lane in ["active", "throttled", "paused", "disabled"] {
        assert_eq!(judged(&[], lane), "ok", "{lane}");
    }
    for lane in ["held", "open", "orphaned"] {
        assert_eq!(judged(&[], lane), "degraded", "{lane}");
    }
    let disk = Unavailable::Disk.to_string();
    assert_eq!(judged(std::slice::from_ref(&disk), "active"), "degraded", "deliveries go on below the reserve");
    assert_eq!(judged(&[disk, "the store cannot commit now: x".to_owned()], "held"), "failing");
}

#[test]
fn a_receiver_that_is_gone_is_a_fault_and_an_operators_pause_is_not() {
    let judged = |by| {
        let mut seen = observed();
        seen.names = Names::new([(name("hook"), DestinationId(1))]);
        let reason = Some("gone: HTTP 410".to_owned());
        let lane = LaneView { state: "paused", reason, until: None, paused_by: Some(by), in_flight: 0 };
        seen.lanes.insert(name("hook"), lane);
        build(&seen)
    };
    let status = judged(PausedBy::Destination);
    assert_eq!((status.state, status.reasons.concat().as_str()), ("degraded", "hook is paused: gone: HTTP 410"));
    assert_eq!(status.destinations["hook"].paused_by, Some("destination"));
    let meant = judged(PausedBy::Operator);
    assert_eq!(meant.state, "ok");
    let lines = |status: &StatusDto| text::render(status).matches("hook: gone: HTTP 410").count();
    assert_eq!((lines(&meant), lines(&status)), (1, 0), "an operator's pause has a line of its own with its reason");
}

#[test]
fn the_table_is_for_those_who_ask_for_text() {
    for (asked, accept, wanted) in [
        (None, None, Format::Json),
        (None, Some("*/*"), Format::Json),
        (None, Some("text/html,application/xhtml+xml,*/*;q=0.8"), Format::Json),
        (None, Some("text/plain"), Format::Text),
        (None, Some("Text/Plain; charset=utf-8, */*"), Format::Text),
        (None, Some("application/json, text/plain, */*"), Format::Json),
        (Some("text"), Some("application/json"), Format::Text),
        (Some("json"), Some("text/plain"), Format::Json),
    ] {
        assert_eq!(format(asked, accept).unwrap(), wanted, "{asked:?} {accept:?}");
    }
    assert!(format(Some("xml"), None).is_err());
}
