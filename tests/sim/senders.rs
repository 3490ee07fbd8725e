//! Senders, and what they are told: only what is committed, the same event always under the same place.

use std::sync::Arc;

use postbackd::domain::dedupe::Discriminator;
use std::time::Duration;

use postbackd::domain::id::{DeliveryKey, EventSeq};
use postbackd::domain::time::{DurationMs, UnixMs};
use postbackd::pipeline::commit::Request;
use postbackd::pipeline::fanout::plan;
use postbackd::store::write::{Accept, Applied, Owed, WriteOp};

use crate::setup::{Plan, START, event};
use crate::world::{Happening, Verb, Waiting, World};

impl World {
    pub(super) fn submit(&mut self, plans: Vec<Plan>) {
        let (now, monotonic) = (self.wall(), self.monotonic());
        if self.is_short {
            self.tally.refused += plans.len() as u64;
            return self.submit_later(plans);
        }
        let Some(life) = self.life.as_mut().filter(|life| !life.closed) else { return self.submit_later(plans) };
        let window = self.snapshot.retention.dedupe;
        let heard_at = life.guard.heard_at(now, monotonic, window);
        let repeat_since = life.guard.now(now, monotonic) - window;
        let mut ops = Vec::new();
        for planned in &plans {
            let event = event(*planned, now);
            let discriminator = Discriminator::EventId(event.event_id.clone().expect("every event has an id"));
            ops.push(WriteOp::Accept(Accept {
                key: life.hash_key.dedupe_key(&event, &discriminator),
                content: life.hash_key.content(&event),
                plan: plan(&self.snapshot, &self.ids, &event),
                heard_at,
                repeat_since,
                event: Arc::new(event),
            }));
        }
        self.tally.batches += u64::from(plans.len() > 1);
        life.queue.push(Request { ops, reply: Some(Waiting::Sender(plans)) });
        self.plan_commit();
    }

    /// A sender that got no answer, or a bad one, comes again.
    fn submit_later(&mut self, plans: Vec<Plan>) {
        let pause = self.rng.between(1000, 60_000);
        self.plan_in(pause, Happening::Submit(plans));
    }

    pub(super) fn refuse(&mut self, waiting: Waiting) {
        match waiting {
            Waiting::Sender(plans) => self.submit_later(plans),
            // It may have been committed all the same.
            Waiting::Operator(Verb::Replay, keys) | Waiting::Job(keys) => {
                for key in keys {
                    self.oracle.maybe_replayed(key);
                }
            }
            Waiting::Purge(keys) => {
                for key in keys {
                    self.oracle.maybe_given_up(key);
                }
            }
            Waiting::Alerts(memory) => self.oracle.alerts_asked(memory),
            Waiting::Operator(Verb::Discard, _) => {}
        }
    }

    pub(super) fn reply(&mut self, waiting: Waiting, applied: &[Applied]) {
        match (waiting, applied) {
            (Waiting::Sender(plans), _) => {
                assert_eq!(plans.len(), applied.len(), "one answer for each event");
                for (plan, done) in plans.iter().zip(applied) {
                    self.told(*plan, done);
                }
            }
            (Waiting::Operator(Verb::Replay, keys), [Applied::Replayed(owed)]) => {
                assert!(owed.len() <= keys.len());
                for owed in owed {
                    self.tally.replays += 1;
                    self.owed_again(owed);
                }
            }
            (Waiting::Operator(Verb::Discard, keys), [Applied::Discarded { count }]) => {
                assert!(*count <= keys.len() as u64);
                self.tally.discards += count;
            }
            (Waiting::Job(keys), [Applied::Job { job, replayed }]) => {
                assert!(job.done + job.failed <= job.matched, "more than were counted: {job:?}");
                for owed in replayed {
                    assert!(keys.contains(&owed.key), "{:?} was not its turn", owed.key);
                    self.tally.job_replays += 1;
                    self.owed_again(owed);
                    let first = self.oracle.by_job.insert((job.number, owed.key));
                    assert!(first, "{:?} replayed {:?} twice", job.number, owed.key);
                }
            }
            (Waiting::Purge(keys), [Applied::Purged { destination, seqs }]) => {
                for seq in seqs {
                    let key = DeliveryKey { seq: *seq, destination: *destination };
                    // It may have come in while the purge waited for its turn.
                    assert!(keys.contains(&key) || !self.oracle.may_be_over(key), "{key:?} was not to be given up");
                    self.oracle.given_up(key);
                }
                self.gave_up(seqs.len());
            }
            (Waiting::Alerts(memory), [Applied::Counted]) => {
                self.tally.alert_memories += 1;
                self.oracle.alerts_kept(memory);
            }
            // Its page was done by a commit whose outcome was not known.
            (Waiting::Job(_), [Applied::JobPassed]) => {}
            (Waiting::Job(..) | Waiting::Operator(..) | Waiting::Purge(_) | Waiting::Alerts(_), other) => {
                panic!("an operator was answered with {other:?}")
            }
        }
    }

    /// A replay is due when it was asked for, also where the clock was set back before it was committed.
    fn owed_again(&mut self, owed: &Owed) {
        let not_before = owed.due_at.min(self.wall());
        self.oracle.replayed(owed.key, not_before);
    }

    fn told(&mut self, plan: Plan, done: &Applied) {
        match done {
            Applied::Queued(queued) => {
                self.tally.acknowledged += 1;
                let wanted = if plan.identity.is_multiple_of(5) { 3 } else { 4 };
                assert_eq!(queued.owed.len(), wanted, "fan-out of {plan:?}");
                self.oracle.acknowledged(plan.identity, queued.seq);
            }
            Applied::Duplicate { first, conflict } => {
                self.tally.duplicates += 1;
                self.tally.late_repeats += u64::from(self.now.since(START) > DurationMs::from_hours(3));
                self.tally.conflicts += u64::from(*conflict);
                if let Some(variant) = self.stored_variant(*first) {
                    assert_eq!(*conflict, variant != plan.variant, "{plan:?} after variant {variant}");
                }
                self.oracle.acknowledged(plan.identity, *first);
            }
            other => panic!("an event was answered with {other:?}"),
        }
    }

    /// What the stored event says, unless retention has removed it.
    fn stored_variant(&self, seq: EventSeq) -> Option<u64> {
        let event = self.life.as_ref()?.reader.event(seq).expect("readable")?;
        event.data.get("variant")?.as_u64()
    }

    /// What has passed since the beginning, but for the time the machine slept.
    pub(super) fn monotonic(&self) -> Duration {
        self.now.since(START).to_std().saturating_sub(Duration::from_millis(self.slept))
    }

    /// The wall clock, which can be set.
    pub(super) fn wall(&self) -> UnixMs {
        UnixMs(self.now.0.saturating_add_signed(self.skew))
    }
}
