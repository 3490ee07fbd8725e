//! Reads the events of exchanges that have none at hand, those of many exchanges in one go.
//!
//! A read may wait for the disk, so it is done on a thread that may; to hand each event its own read would cost more than
//! reading it. So the first that asks lets everybody else who can run have a turn, and then reads for all that have asked
//! by then: many where there is much to do, itself alone where there is not. No timer is involved, and nobody waits for a
//! read that began before.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;
use tokio::task::{spawn_blocking, yield_now};

use crate::domain::event::Event;
use crate::domain::id::EventSeq;
use crate::domain::limits::{BATCH_BODY_BYTES, PAGE_ROWS};
use crate::store::read::Reader;

/// The first of the events that were asked for, up to a limit of bytes; `None` in the place of one that cannot be read.
pub(super) type Found = Result<Vec<Option<Arc<Event>>>, String>;

/// See the module's page.
#[derive(Clone, Debug)]
pub(super) struct Loader {
    reader: Reader,
    asked: Arc<Mutex<Vec<Ask>>>,
}

#[derive(Debug)]
struct Ask {
    seqs: Vec<EventSeq>,
    answer: oneshot::Sender<Found>,
}

impl Loader {
    pub(super) fn new(reader: Reader) -> Self {
        Self { reader, asked: Arc::default() }
    }

    /// The events of `seqs`, in that order: all of them, or the first that fill a request.
    pub(super) async fn load(&self, seqs: Vec<EventSeq>) -> Found {
        let (answer, found) = oneshot::channel();
        if self.ask(Ask { seqs, answer }) {
            let round = Round(Some(&self.asked));
            yield_now().await;
            let (asks, reader) = (round.close(), self.reader.clone());
            // It ends by itself; what it found comes by the channels.
            drop(spawn_blocking(move || answer_all(&reader, asks)));
        }
        found.await.unwrap_or_else(|_| Err("the read was cut off".to_owned()))
    }

    /// Whether this opens a round: whoever does reads for all.
    fn ask(&self, ask: Ask) -> bool {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.push(ask);
        asked.len() == 1
    }
}

/// A round that takes in whoever asks. Should the one that opened it go away, the others are told and can ask again.
struct Round<'a>(Option<&'a Mutex<Vec<Ask>>>);

impl Round<'_> {
    fn close(mut self) -> Vec<Ask> {
        self.take()
    }

    fn take(&mut self) -> Vec<Ask> {
        let asked = self.0.take().map(|asked| asked.lock().unwrap_or_else(PoisonError::into_inner));
        asked.map(|mut asked| std::mem::take(&mut *asked)).unwrap_or_default()
    }
}

impl Drop for Round<'_> {
    fn drop(&mut self) {
        drop(self.take());
    }
}

/// Each read transaction is a short one, as it keeps pages of the file from being used again.
fn answer_all(reader: &Reader, asks: Vec<Ask>) {
    let mut asks = asks.into_iter().peekable();
    while let Some(first) = asks.next() {
        let (mut count, mut together) = (first.seqs.len(), vec![first]);
        while let Some(next) = asks.next_if(|next| count + next.seqs.len() <= PAGE_ROWS) {
            count += next.seqs.len();
            together.push(next);
        }
        let (seqs, answers): (Vec<_>, Vec<_>) = together.into_iter().map(|ask| (ask.seqs, ask.answer)).unzip();
        match reader.events_of_each(&seqs, BATCH_BODY_BYTES) {
            Ok(found) => answers.into_iter().zip(found).for_each(|(answer, found)| tell(answer, Ok(found))),
            Err(error) => answers.into_iter().for_each(|answer| tell(answer, Err(error.to_string()))),
        }
    }
}

/// Whoever asked may be gone.
fn tell(answer: oneshot::Sender<Found>, found: Found) {
    drop(answer.send(found));
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::pin;
    use std::task::Poll;

    use super::*;
    use crate::domain::dedupe::Discriminator;
    use crate::domain::event::tests::sample;
    use crate::domain::time::UnixMs;
    use crate::env::entropy::SystemEntropy;
    use crate::store::write::{Accept, WriteOp};
    use crate::store::{Options, Store};

    /// Events `1` to `count`, each with its number for an id.
    fn store(dir: &std::path::Path, count: u64) -> Store {
        let mut store = Store::open(dir, Options { cache: 1 << 20 }, &SystemEntropy).unwrap();
        let hash = store.hash_key();
        let accept = |seq: u64| {
            let event = Arc::new(Event { event_id: Some(seq.to_string()), ..sample() });
            let key = hash.dedupe_key(&event, &Discriminator::EventId(seq.to_string()));
            let (content, heard_at) = (hash.content(&event), event.received_at);
            WriteOp::Accept(Accept { event, key, content, heard_at, repeat_since: UnixMs(0), plan: Vec::new() })
        };
        store.commit(&(1..=count).map(accept).collect::<Vec<_>>()).unwrap();
        store
    }

    fn ids(found: &[Option<Arc<Event>>]) -> Vec<&str> {
        found.iter().map(|event| event.as_deref().and_then(|event| event.event_id.as_deref()).unwrap_or("-")).collect()
    }

    /// Runs it until it waits or is done.
    async fn polled<F: Future>(mut load: std::pin::Pin<&mut F>) -> Poll<F::Output> {
        poll_fn(|context| Poll::Ready(load.as_mut().poll(context))).await
    }

    #[tokio::test]
    async fn who_asks_before_the_first_has_its_turn_again_is_read_for_in_one_round() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path(), 700);
        let loader = Loader::new(store.reader());
        // More than one transaction reads.
        let lists = [vec![3, 999, 1], vec![], (1..=500).collect(), vec![2], (501..=700).collect()];
        let mut loads: Vec<_> =
            lists.iter().map(|list| Box::pin(loader.load(list.iter().copied().map(EventSeq).collect()))).collect();
        for load in &mut loads {
            assert!(polled(load.as_mut()).await.is_pending());
        }
        assert_eq!(loader.asked.lock().unwrap().len(), lists.len(), "none of them has read for itself");
        for (load, list) in loads.into_iter().zip(lists) {
            let known = |seq: u64| if seq > 700 { "-".to_owned() } else { seq.to_string() };
            assert_eq!(ids(&load.await.unwrap()), list.into_iter().map(known).collect::<Vec<_>>());
        }
        assert_eq!(ids(&loader.load(vec![EventSeq(5)]).await.unwrap()), ["5"], "the next round");
    }

    #[tokio::test]
    async fn others_are_told_when_the_one_that_was_to_read_for_them_goes_away() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path(), 2);
        let loader = Loader::new(store.reader());
        let mut other = pin!(loader.load(vec![EventSeq(2)]));
        {
            let mut first = pin!(loader.load(vec![EventSeq(1)]));
            assert!(polled(first.as_mut()).await.is_pending() && polled(other.as_mut()).await.is_pending());
        }
        assert_eq!(polled(other).await, Poll::Ready(Err("the read was cut off".to_owned())));
        assert_eq!(ids(&loader.load(vec![EventSeq(2)]).await.unwrap()), ["2"]);
    }

    #[tokio::test]
    async fn a_store_that_cannot_be_read_is_everybodys_answer() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path(), 2);
        let loader = Loader::new(store.reader());
        store.close().unwrap();
        let (one, other) = tokio::join!(loader.load(vec![EventSeq(1)]), loader.load(vec![EventSeq(2)]));
        assert!(one.unwrap_err().contains("closed") && other.unwrap_err().contains("closed"));
    }
}
