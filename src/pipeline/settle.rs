//! From how an exchange ended to what becomes of each delivery that was in it, and of the lane.
//!
//! One answer speaks for all deliveries of its exchange, yet each is judged by its own past: one may have used up its
//! attempts while its neighbour is new. An exchange that was refused as a whole tells nothing about any of them: nothing
//! is spent, and its two halves are sent again, each by itself.

use crate::destination::Judgement;
use crate::domain::delivery::{Attempt, Autopsy};
use crate::domain::id::EventSeq;
use crate::domain::outcome::{DeadReason, Disposition, Verdict};
use crate::domain::retry;
use crate::domain::time::UnixMs;
use crate::store::write::{Owed, Settle};

use super::gate::Said;
use super::lane::Lane;
use super::scheduler::{Effect, Ended, Part, PartEnd};

/// Settles every delivery of the exchange and tells the lane. One roll of the dice for all: what failed together comes due
/// together, and shares an exchange again.
pub(super) fn ended(lane: &mut Lane, ended: Ended, now: UnixMs, roll: u64, effects: &mut Vec<Effect>) {
    let Some(first) = ended.parts.first().map(|part| part.key) else { return };
    let said = ended.answer.as_ref().map(|answer| (verdict(lane, answer, &ended.parts), answer.detail.as_str()));
    let mut members: Vec<EventSeq> = Vec::new();
    let mut unsettled = 0;
    let mut patience: Option<UnixMs> = None;
    for part in ended.parts {
        let Some(owed) = lane.leased(part.key) else { continue };
        let (verdict, attempt, autopsy) = match (part.end, said) {
            (PartEnd::Exchanged { attempt, autopsy }, Some((verdict, _))) => {
                let attempt = Attempt { verdict: verdict.as_str().to_owned(), ..attempt };
                (verdict, Some(attempt), autopsy)
            }
            (PartEnd::Unsent { verdict, autopsy }, _) => (verdict, None, autopsy),
            (PartEnd::NoRoom | PartEnd::Exchanged { .. }, _) => {
                lane.put_back(part.key);
                continue;
            }
        };
        let outcome = decide(lane, owed, verdict, attempt.is_some(), now, roll);
        if attempt.is_some() {
            patience = Some(patience.map_or(outcome.patience, |other| other.min(outcome.patience)));
            members.push(part.key.seq);
        }
        unsettled += 1;
        if verdict != Verdict::Cancelled {
            effects.push(settle(owed, outcome.disposition, attempt, autopsy, now));
        }
    }
    if let Some((Verdict::BatchFault, _)) = said {
        lane.split(&members);
    }
    let said = said.zip(patience).map(|((verdict, detail), patience)| Said { verdict, patience, detail });
    lane.ended(first, unsettled, said.as_ref(), now);
    if let Some(pause) = lane.take_made_pause() {
        effects.push(Effect::Pause { destination: first.destination, pause });
    }
}

/// Whether chance has a say in what becomes of it: whatever was simply taken is spread over nothing.
pub(super) fn spreads(ended: &Ended) -> bool {
    let delivered = ended.answer.as_ref().is_some_and(|answer| answer.verdict == Verdict::Delivered);
    !(delivered && ended.parts.iter().all(is_exchanged))
}

/// What one delivery's outcome is.
struct Outcome {
    disposition: Disposition,
    /// Until when the destination would be left alone for its sake.
    patience: UnixMs,
}

fn decide(lane: &Lane, owed: &Owed, verdict: Verdict, exchanged: bool, now: UnixMs, roll: u64) -> Outcome {
    let policy = lane.policy_for(owed.history.owed_since, now);
    let disposition = match retry::decide(&policy, &owed.history, verdict, now, roll) {
        // It keeps its place in the outbox too.
        Disposition::Keep { .. } => Disposition::Keep { at: owed.due_at },
        // No exchange was made, so none has failed: it waits and stays what it was.
        Disposition::Retry { at, .. } if !exchanged => Disposition::Keep { at },
        decided @ (Disposition::Sent | Disposition::Retry { .. } | Disposition::Dead { .. }) => decided,
    };
    let patience = match (disposition, verdict) {
        // Possibly earlier than asked for: one last attempt at the deadline (SPEC 8.2).
        (Disposition::Retry { at, .. }, _) => at,
        (_, Verdict::Throttled { not_before }) => retry::patience(&policy, &owed.history, not_before, now, roll),
        (_, _) => now,
    };
    Outcome { disposition, patience }
}

/// The verdict as it holds for these deliveries. An answer that is worth only so many attempts becomes a refusal once one of
/// them has made them; and a refusal of several tells nothing about each.
fn verdict(lane: &Lane, answer: &Judgement, parts: &[Part]) -> Verdict {
    let exchanged = || parts.iter().filter(|part| is_exchanged(part));
    let worn_out = answer.attempts_max.is_some_and(|most| {
        let made = |part: &Part| lane.leased(part.key).map_or(0, |owed| owed.history.counted_since_owed);
        exchanged().any(|part| made(part).saturating_add(1) >= most)
    });
    let refusal = match answer.verdict {
        Verdict::Transient { .. } if worn_out => Verdict::Permanent { reason: DeadReason::Permanent },
        // It cannot be split any more.
        Verdict::BatchFault => Verdict::Permanent { reason: DeadReason::Permanent },
        other @ (Verdict::Delivered
        | Verdict::Transient { .. }
        | Verdict::Throttled { .. }
        | Verdict::Permanent { .. }
        | Verdict::DestinationFault
        | Verdict::Gone
        | Verdict::Ambiguous { .. }
        | Verdict::ProxyFault { .. }
        | Verdict::Cancelled) => return other,
    };
    if exchanged().count() > 1 { Verdict::BatchFault } else { refusal }
}

fn is_exchanged(part: &Part) -> bool {
    match part.end {
        PartEnd::Exchanged { .. } => true,
        PartEnd::Unsent { .. } | PartEnd::NoRoom => false,
    }
}

fn settle(owed: &Owed, disposition: Disposition, attempt: Option<Attempt>, autopsy: Autopsy, now: UnixMs) -> Effect {
    let autopsy = matches!(disposition, Disposition::Dead { .. }).then_some(autopsy);
    Effect::Settle(Box::new(Settle { key: owed.key, due_at: owed.due_at, at: now, attempt, disposition, autopsy }))
}
