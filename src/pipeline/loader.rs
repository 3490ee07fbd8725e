//! Reads the events of exchanges that have none at hand, those of many exchanges in one go.
//!
//! A read may wait for the disk, so it is done on a thread that may; to hand each event its own read would cost more than
//! reading it. So the first that asks opens a round, which lets whoever else is about to run have a turn, and then reads for
//! all that have asked by then: many where there is much to do, one where there is not. No timer is involved, and no round
//! waits for another.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;
use tokio::task::{spawn_blocking, yield_now};

use crate::domain::event::Event;
use crate::domain::id::EventSeq;
use crate::domain::limits::BATCH_BODY_BYTES;
use crate::store::StoreError;
use crate::store::read::Reader;

/// Events that are read in one transaction, or those of one exchange: it keeps pages of the file from being used again, so
/// it must be short.
const TOGETHER: usize = 64;

/// The first of the events that were asked for, up to a limit of bytes; `None` in the place of one that cannot be read.
pub(super) type Found = Result<Events, String>;
type Events = Vec<Option<Arc<Event>>>;

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
            // By itself, so that the others do not depend on whether the first of them is still there.
            tokio::spawn(self.clone().round());
        }
        found.await.unwrap_or_else(|_| Err("the read was cut off".to_owned()))
    }

    /// Whether this opens a round.
    fn ask(&self, ask: Ask) -> bool {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.push(ask);
        asked.len() == 1
    }

    async fn round(self) {
        yield_now().await;
        let asks = std::mem::take(&mut *self.asked.lock().unwrap_or_else(PoisonError::into_inner));
        let reader = self.reader;
        // It ends by itself; what it found goes to those who asked.
        drop(spawn_blocking(move || answer_all(&|lists| reader.events_of_each(lists, BATCH_BODY_BYTES), asks)));
    }
}

type ReadEach<'r> = dyn Fn(&[Vec<EventSeq>]) -> Result<Vec<Events>, StoreError> + 'r;

fn answer_all(read_each: &ReadEach<'_>, asks: Vec<Ask>) {
    let mut asks = asks.into_iter().peekable();
    while let Some(first) = asks.next() {
        let (mut count, mut together) = (first.seqs.len(), vec![first]);
        while let Some(next) = asks.next_if(|next| count + next.seqs.len() <= TOGETHER) {
            count += next.seqs.len();
            together.push(next);
        }
        let (lists, answers): (Vec<_>, Vec<_>) = together.into_iter().map(|ask| (ask.seqs, ask.answer)).unzip();
        for (answer, found) in answers.into_iter().zip(read(read_each, &lists)) {
            // Whoever asked may be gone.
            drop(answer.send(found));
        }
    }
}

/// The engine may panic over a damaged file: then each list is read by itself, so that one does not keep the others from
/// being sent.
fn read(read_each: &ReadEach<'_>, lists: &[Vec<EventSeq>]) -> Vec<Found> {
    match (catch_unwind(AssertUnwindSafe(|| read_each(lists))), lists) {
        (Ok(Ok(found)), _) => found.into_iter().map(Ok).collect(),
        (Ok(Err(error)), _) => lists.iter().map(|_| Err(error.to_string())).collect(),
        (Err(_), [_]) => vec![Err("reading the event panicked; the file is damaged".to_owned())],
        (Err(_), _) => lists.iter().flat_map(|list| read(read_each, std::slice::from_ref(list))).collect(),
    }
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
    async fn others_are_read_for_also_when_the_first_of_them_goes_away() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path(), 2);
        let loader = Loader::new(store.reader());
        let mut other = pin!(loader.load(vec![EventSeq(2)]));
        {
            let mut first = pin!(loader.load(vec![EventSeq(1)]));
            assert!(polled(first.as_mut()).await.is_pending() && polled(other.as_mut()).await.is_pending());
        }
        assert_eq!(ids(&other.await.unwrap()), ["2"]);
    }

    #[test]
    fn the_first_that_asks_opens_a_round_and_the_others_do_not() {
        let dir = tempfile::tempdir().unwrap();
        let loader = Loader::new(store(dir.path(), 1).reader());
        let ask = || loader.ask(Ask { seqs: vec![EventSeq(1)], answer: oneshot::channel().0 });
        assert_eq!([ask(), ask(), ask()], [true, false, false]);
    }

    // A damaged file can make the engine panic.
    #[test]
    fn an_event_that_cannot_be_read_without_a_panic_keeps_no_other_from_being_read() {
        let read_each = |lists: &[Vec<EventSeq>]| {
            assert!(!lists.contains(&vec![EventSeq(13)]), "a page makes no sense");
            Ok(lists.iter().map(|list| vec![None; list.len()]).collect())
        };
        let found = read(&read_each, &[1, 13, 2].map(|seq| vec![EventSeq(seq)]));
        assert_eq!(found.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, true]);
        assert!(read(&read_each, &[]).is_empty());
    }

    #[test]
    fn one_transaction_reads_so_many_events_or_those_of_one_exchange() {
        let sizes: Mutex<Vec<Vec<usize>>> = Mutex::default();
        let read_each = |lists: &[Vec<EventSeq>]| {
            sizes.lock().unwrap().push(lists.iter().map(Vec::len).collect());
            Ok(lists.iter().map(|_| Vec::new()).collect())
        };
        let ask = |count| Ask { seqs: vec![EventSeq(1); count], answer: oneshot::channel().0 };
        answer_all(&read_each, [1, 63, 1, 500, 0, 1].map(ask).into());
        assert_eq!(*sizes.lock().unwrap(), [vec![1, 63], vec![1], vec![500], vec![0, 1]]);
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
