//! `Retry-After` in every form, and the pause that any policy makes of it: between the plan and a day, never past the
//! deadline, never earlier than now.

#![no_main]

use arbitrary::Arbitrary;
use postbackd::destination::http_status::retry_after;
use postbackd::domain::delivery::History;
use postbackd::domain::outcome::{Disposition, RetryReason, Verdict};
use postbackd::domain::retry::{RETRY_AFTER_MAX, RetryPolicy, decide, delay};
use postbackd::domain::time::{DurationMs, UnixMs};
use postbackd::env::transport::Answer;

#[derive(Arbitrary, Debug)]
struct Input {
    now: u32,
    first_ms: u32,
    max_delay_ms: u32,
    give_up_after_ms: u32,
    multiplier_permille: u16,
    jitter_permille: u16,
    max_attempts: u8,
    counted: u8,
    age_ms: u32,
    dice: u64,
    is_throttled: bool,
    text: String,
}

libfuzzer_sys::fuzz_target!(|input: Input| {
    let now = UnixMs(1_700_000_000_000 + u64::from(input.now));
    let text = input.text.trim();
    let answer = Answer {
        status: 503,
        headers: vec![("retry-after".to_owned(), input.text.clone())],
        body: Vec::new(),
    };
    let not_before = retry_after(&answer, now);
    assert!(not_before.is_none_or(|time| now <= time), "{not_before:?} is past");
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        let seconds = text.parse().unwrap_or(u64::MAX);
        assert_eq!(not_before, Some(now + DurationMs::from_secs(seconds)), "{text}");
    }
    let policy = RetryPolicy {
        first: DurationMs(u64::from(input.first_ms)),
        max_delay: DurationMs(u64::from(input.max_delay_ms)),
        give_up_after: DurationMs(u64::from(input.give_up_after_ms)),
        multiplier_permille: u32::from(input.multiplier_permille),
        jitter_permille: u32::from(input.jitter_permille % 1001),
        max_attempts: u32::from(input.max_attempts),
        ..RetryPolicy::default()
    };
    let counted = u32::from(input.counted);
    let history = History {
        counted_since_owed: counted,
        counted,
        exchanges: counted,
        ..History::new(UnixMs(now.0 - u64::from(input.age_ms)))
    };
    let verdict = if input.is_throttled {
        Verdict::Throttled { not_before }
    } else {
        Verdict::Transient { reason: RetryReason::Transient, not_before }
    };
    let deadline = history.owed_since + policy.give_up_after;
    match decide(&policy, &history, verdict, now, input.dice) {
        Disposition::Retry { at, .. } => {
            let planned = now + delay(&policy, counted + 1, input.dice);
            let asked = not_before.map_or(now, |time| time.min(now + RETRY_AFTER_MAX));
            assert_eq!(at, planned.max(asked).min(deadline), "planned {planned:?}, asked {asked:?}, deadline {deadline:?}");
            assert!(now <= at, "{at:?} is past");
        }
        Disposition::Dead { .. } => {
            let used_up = policy.max_attempts != 0 && counted + 1 >= policy.max_attempts;
            assert!(used_up || now >= deadline, "given up without a reason");
        }
        Disposition::Keep { .. } | Disposition::Sent => panic!("a transient answer is no outcome"),
    }
});
