//! One batch, one transaction, one durable commit: the synchronous heart of the writer, shared with the simulator.
//!
//! No reply and no change leaves here before the commit returned. A commit that failed has an unknown outcome: its
//! senders are told so, the file is opened again by the same path as at start, and the outcomes of attempts that were in
//! the batch are kept and committed again. Repeating them is harmless, since an outcome only applies to a delivery that
//! stands where its lease was taken.

use crate::domain::name::SourceName;
use crate::domain::pause::PausedBy;
use crate::store::write::{Applied, Owed, WriteOp};
use crate::store::{OpenError, Rush, Slice, Store, StoreError, Swept};

use super::control::Control;
use super::scheduler::Input;

/// Operations that are applied together, with who waits for them.
#[derive(Debug)]
pub struct Request<R> {
    pub ops: Vec<WriteOp>,
    /// `None`: nobody waits (outcomes of attempts, counters).
    pub reply: Option<R>,
}

/// What a batch led to.
#[derive(Debug)]
pub struct Committed<R> {
    /// What each waiting sender's operations did, in order.
    pub replies: Vec<(R, Vec<Applied>)>,
    /// What the scheduler has to know, in order.
    pub facts: Vec<Input>,
}

/// A batch whose outcome is unknown; the outcomes in it are kept for the next.
#[derive(Debug)]
pub struct Failed<R> {
    pub error: StoreError,
    /// Everyone who waited.
    pub refused: Vec<R>,
}

/// The owner of the store's write side.
#[derive(Debug)]
pub struct Committer {
    store: Store,
    /// Outcomes whose commit failed.
    kept: Vec<WriteOp>,
}

impl Committer {
    pub fn new(store: Store) -> Self {
        Self { store, kept: Vec::new() }
    }

    /// Whether outcomes wait for another try.
    pub fn has_kept(&self) -> bool {
        !self.kept.is_empty()
    }

    /// Commits `requests` (and what was kept) in one transaction.
    pub fn commit<R>(&mut self, requests: Vec<Request<R>>) -> Result<Committed<R>, Failed<R>> {
        self.commit_beside(requests, None, Rush::Calm).map(|(committed, _)| committed)
    }

    /// The same with a slice of retention in the same transaction.
    pub fn commit_beside<R>(
        &mut self,
        requests: Vec<Request<R>>,
        slice: Option<&Slice<'_>>,
        rush: Rush,
    ) -> Result<(Committed<R>, Option<Swept>), Failed<R>> {
        let mut ops = std::mem::take(&mut self.kept);
        let kept = ops.len();
        let mut waiting = Vec::with_capacity(requests.len());
        for request in requests {
            waiting.push((request.ops.len(), request.reply));
            ops.extend(request.ops);
        }
        match self.store.commit_beside(&ops, slice, rush) {
            Ok((applied, swept)) => Ok((distribute(applied, kept, waiting), swept)),
            Err(error) => {
                self.keep(ops);
                Err(Failed { error, refused: waiting.into_iter().filter_map(|(_, reply)| reply).collect() })
            }
        }
    }

    /// Keeps the outcomes of requests that will not be committed now, a pause that a lane made itself among them; what
    /// somebody waits for is dropped.
    pub fn keep(&mut self, ops: Vec<WriteOp>) {
        for op in ops {
            match op {
                WriteOp::Settle(_) => self.kept.push(op),
                WriteOp::Pause { ref pause, .. } if pause.by == PausedBy::Destination => self.kept.push(op),
                WriteOp::CountRejected { source, count } => self.keep_count(source, count),
                WriteOp::Accept(_)
                | WriteOp::Replay(_)
                | WriteOp::Discard(_)
                | WriteOp::Purge(_)
                | WriteOp::Pause { .. }
                | WriteOp::JobStart(_)
                | WriteOp::JobPage(_)
                | WriteOp::JobCancel { .. }
                | WriteOp::Audit { .. }
                | WriteOp::Alerts(_)
                | WriteOp::KnowTime(_)
                | WriteOp::Resume { .. }
                | WriteOp::SaveStats { .. } => {}
            }
        }
    }

    /// One count for each source, however long nothing can be committed.
    fn keep_count(&mut self, refused: SourceName, more: u64) {
        let known = self.kept.iter_mut().find_map(|op| match op {
            WriteOp::CountRejected { source, count } if *source == refused => Some(count),
            WriteOp::CountRejected { .. }
            | WriteOp::Settle(_)
            | WriteOp::Accept(_)
            | WriteOp::Replay(_)
            | WriteOp::Discard(_)
            | WriteOp::Purge(_)
            | WriteOp::Pause { .. }
            | WriteOp::JobStart(_)
            | WriteOp::JobPage(_)
            | WriteOp::JobCancel { .. }
            | WriteOp::Audit { .. }
            | WriteOp::Alerts(_)
            | WriteOp::KnowTime(_)
            | WriteOp::Resume { .. }
            | WriteOp::SaveStats { .. } => None,
        });
        match known {
            Some(count) => *count = count.saturating_add(more),
            None => self.kept.push(WriteOp::CountRejected { source: refused, count: more }),
        }
    }

    /// Opens the file again. Afterwards the scheduler must be told all pauses ([`Control::Pauses`]) and look at every outbox
    /// again ([`Input::Rescan`]).
    pub fn reopen(&mut self) -> Result<(), OpenError> {
        self.store.reopen()
    }

    pub fn store(&mut self) -> &mut Store {
        &mut self.store
    }

    pub fn into_store(self) -> Store {
        self.store
    }
}

fn distribute<R>(applied: Vec<Applied>, kept: usize, waiting: Vec<(usize, Option<R>)>) -> Committed<R> {
    let mut facts = Vec::new();
    let mut replies = Vec::new();
    for done in &applied {
        note(done, &mut facts);
    }
    let mut rest = applied.into_iter().skip(kept);
    for (count, reply) in waiting {
        let own: Vec<Applied> = rest.by_ref().take(count).collect();
        if let Some(reply) = reply {
            replies.push((reply, own));
        }
    }
    Committed { replies, facts }
}

fn note(done: &Applied, facts: &mut Vec<Input>) {
    match done {
        Applied::Queued(queued) => owed(&queued.owed, facts),
        Applied::Replayed(replayed) | Applied::Job { replayed, .. } => owed(replayed, facts),
        Applied::Settled { key, now } => facts.push(Input::Settled { key: *key, owed: now.clone() }),
        Applied::Stale { key } => facts.push(Input::Stale { key: *key }),
        Applied::Paused { destination, pause } => {
            facts.push(Input::Control(Control::Paused { destination: *destination, pause: pause.clone() }));
        }
        Applied::Resumed { destination } => {
            facts.push(Input::Control(Control::Resumed { destination: *destination }));
        }
        Applied::Purged { destination, seqs } => {
            // What came in with the same transaction would be sent before the scheduler heard that it is given up.
            for fact in facts.iter_mut() {
                if let Input::Owed(owed) = fact {
                    owed.retain(|owed| owed.key.destination != *destination || !seqs.contains(&owed.key.seq));
                }
            }
            facts.push(Input::Purged { destination: *destination, seqs: seqs.clone() });
        }
        Applied::Duplicate { .. }
        | Applied::Discarded { .. }
        | Applied::JobPassed
        | Applied::Audited
        | Applied::Counted => {}
    }
}

fn owed(owed: &[Owed], facts: &mut Vec<Input>) {
    if !owed.is_empty() {
        facts.push(Input::Owed(owed.to_vec()));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use super::*;
    use crate::domain::dedupe::Discriminator;
    use crate::domain::event::{Event, tests::sample};
    use crate::domain::id::{DestinationId, EventSeq};
    use crate::domain::time::UnixMs;
    use crate::env::entropy::Entropy;
    use crate::store::Options;
    use crate::store::write::{Accept, Planned, Purge};

    struct Dice;

    impl Entropy for Dice {
        fn next_u64(&self) -> u64 {
            7
        }
    }

    #[test]
    fn refusals_that_could_not_be_counted_are_counted_later_each_for_its_source_in_one_row() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Options { cache: 1 << 20 }, &Dice).unwrap();
        let (reader, mut committer) = (store.reader(), Committer::new(store));
        for (source, count) in [("app", 2), ("net", 3), ("app", 5), ("net", 7)] {
            committer.keep(vec![WriteOp::CountRejected { source: source.parse().unwrap(), count }]);
        }
        assert_eq!(committer.kept.len(), 2);
        committer.commit(Vec::<Request<()>>::new()).unwrap();
        let rejected = ["app", "net"].map(|source| reader.ledger().events[source].rejected);
        assert_eq!(rejected, [7, 10]);
    }

    // It would be sent before the scheduler heard that it is given up.
    #[test]
    fn what_one_transaction_accepts_and_gives_up_is_never_told_as_owed() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Options { cache: 1 << 20 }, &Dice).unwrap();
        let hash_key = store.hash_key();
        let [purged, other] = [1, 2].map(DestinationId);
        let accept = |id: &str| {
            let event = Arc::new(Event { event_id: Some(id.to_owned()), ..sample() });
            let key = hash_key.dedupe_key(&event, &Discriminator::EventId(id.to_owned()));
            let owe = |destination| Planned::Owe { destination, target: "Purchase".parse().unwrap() };
            WriteOp::Accept(Accept {
                key,
                content: hash_key.content(&event),
                heard_at: event.received_at,
                repeat_since: UnixMs(0),
                plan: [purged, other].map(owe).to_vec(),
                event,
            })
        };
        // The second is being sent, as far as whoever purges knows.
        let under_way = BTreeSet::from([EventSeq(2)]);
        let purge = Purge { destination: purged, at: UnixMs(9), reason: "left us".to_owned(), under_way, limit: 9 };
        let ops = vec![accept("a"), accept("b"), WriteOp::Purge(purge)];
        let committed = Committer::new(store).commit(vec![Request::<()> { ops, reply: None }]).unwrap();
        let owed = |fact: Input| if let Input::Owed(owed) = fact { owed } else { Vec::new() };
        let keys: Vec<_> = committed.facts.into_iter().flat_map(owed).map(|owed| owed.key).collect();
        let told: Vec<_> = keys.iter().map(|key| (key.seq.0, key.destination)).collect();
        assert_eq!(told, [(1, other), (2, purged), (2, other)]);
    }
}
