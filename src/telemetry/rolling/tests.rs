//! Rules of the rolling windows.

use super::*;

const START: UnixMs = UnixMs(1_764_000_000_000);
const MINUTE: DurationMs = DurationMs::from_secs(60);

fn name(text: &str) -> CanonicalName {
    text.parse().unwrap()
}

#[test]
fn nothing_measured_is_nothing_not_zero() {
    assert_eq!(DestinationStats::default().view(START), StatsView::default());
}

#[test]
fn a_rate_is_delivered_over_finished_in_total_and_by_event() {
    let mut stats = DestinationStats::default();
    for delivered in [true, true, true, false] {
        stats.attempt(START, &name("deposit"), delivered, DurationMs(10));
    }
    stats.attempt(START, &name("lead"), false, DurationMs(10));
    let view = stats.view(START);
    assert_eq!(view.success_rate, Windows { hour: Some(0.6), day: Some(0.6) });
    let deposit = view.by_event.get("deposit").unwrap();
    assert_eq!(deposit.success_rate.hour, Some(0.75));
    assert_eq!(deposit.attempts, Windows { hour: 4, day: 4 });
    assert_eq!(view.by_event.get("lead").unwrap().success_rate.day, Some(0.0));
    assert_eq!(view.by_event.len(), 2);
}

#[test]
fn the_hour_forgets_what_the_day_still_holds() {
    let mut stats = DestinationStats::default();
    stats.attempt(START, &name("deposit"), true, DurationMs(10));
    stats.sent(START, DurationMs(12));
    let later = stats.view(START + DurationMs::from_hours(2));
    assert_eq!(later.success_rate, Windows { hour: None, day: Some(1.0) });
    assert_eq!(later.latency_ms.hour, Percentiles::default());
    assert_eq!(later.latency_ms.day.p99, Some(12.0));
    assert_eq!(later.exchange_ms.day.p50, Some(10.0));
    assert_eq!(later.by_event.get("deposit").unwrap().attempts, Windows { hour: 0, day: 1 });
    let streak = Streak { last_delivered: Some(START), ..Streak::default() };
    assert_eq!(stats.view(START + DurationMs::from_hours(25)), StatsView { streak, ..StatsView::default() });
}

#[test]
fn failures_in_a_row_are_counted_until_something_is_delivered() {
    let mut stats = DestinationStats::default();
    for (second, delivered) in [(0, true), (1, false), (2, false)] {
        stats.attempt(START + DurationMs::from_secs(second), &name("deposit"), delivered, DurationMs(1));
    }
    let since = Some(START + DurationMs::from_secs(1));
    assert_eq!(stats.view(START).streak, Streak { failures: 2, since, last_delivered: Some(START) });
    stats.attempt(START, &name("deposit"), true, DurationMs(1));
    assert_eq!(stats.view(START).streak.failures, 0);
}

#[test]
fn a_slow_tail_shows_in_p99_only() {
    let mut stats = DestinationStats::default();
    for n in 0..1000 {
        stats.sent(START, DurationMs(if n % 100 < 2 { 30_000 } else { 8 }));
    }
    let shown = stats.view(START).latency_ms.hour;
    assert_eq!((shown.p50, shown.p95), (Some(8.0), Some(8.0)));
    let p99 = shown.p99.unwrap();
    assert!((p99 - 30_000.0).abs() <= 30_000.0 * RELATIVE_ERROR_MAX, "{p99}");
}

#[test]
fn names_beyond_the_bound_are_counted_together() {
    let mut stats = DestinationStats::default();
    for n in 0..200 {
        stats.attempt(START, &name(&format!("event_{n}")), true, DurationMs(1));
    }
    let view = stats.view(START);
    assert_eq!(view.by_event.len(), EVENTS_MAX + 1);
    assert_eq!(view.by_event.get(OTHER).unwrap().attempts.hour, 200 - 64);
    assert_eq!(view.by_event.values().map(|stats| stats.attempts.day).sum::<u64>(), 200);
}

#[test]
fn a_name_nobody_uses_any_more_makes_room() {
    let mut stats = DestinationStats::default();
    for n in 0..EVENTS_MAX {
        stats.attempt(START, &name(&format!("event_{n}")), true, DurationMs(1));
    }
    let next_day = START + DurationMs::from_hours(24);
    stats.attempt(next_day, &name("event_0"), true, DurationMs(1));
    for _ in 0..3 {
        stats.attempt(next_day, &name("fresh"), false, DurationMs(1));
        stats.attempt(next_day, &name("event_63"), true, DurationMs(1));
    }
    let view = stats.view(next_day);
    let names: Vec<&str> = view.by_event.keys().map(CanonicalName::as_str).collect();
    assert_eq!(names, ["event_0", "event_63", "fresh"]);
    assert_eq!(view.by_event.get("fresh").unwrap().success_rate.hour, Some(0.0));
    assert_eq!(view.by_event.get("fresh").unwrap().attempts, Windows { hour: 3, day: 3 });
}

#[test]
fn a_clock_step_back_is_survived() {
    let mut stats = DestinationStats::default();
    stats.attempt(START, &name("a"), true, DurationMs(1));
    stats.attempt(START - MINUTE, &name("a"), false, DurationMs(1));
    assert_eq!(stats.view(START - MINUTE).success_rate.hour, Some(0.5));
    let year_ago = START - DurationMs::from_days(365);
    stats.attempt(year_ago, &name("a"), true, DurationMs(1));
    assert_eq!(stats.view(year_ago).success_rate, Windows { hour: Some(1.0), day: Some(1.0) });
}

#[test]
fn only_the_last_error_is_kept_and_cut() {
    let mut stats = DestinationStats::default();
    for (at, message) in [(1, "first".to_owned()), (2, "é".repeat(1000))] {
        stats.error(LastError { at: UnixMs(at), http_status: Some(503), reason: "transient".to_owned(), message });
    }
    let last = stats.view(START).last_error.unwrap();
    assert_eq!((last.at, last.message.len()), (UnixMs(2), MESSAGE_BYTES));
}

#[test]
fn rates_of_huge_counts_stay_rates() {
    let huge = Sums { delivered: 3 << 60, finished: 1 << 62 };
    assert_eq!(huge.rate(), Some(0.75));
    assert_eq!(Sums { delivered: 0, finished: u64::MAX }.rate(), Some(0.0));
}
