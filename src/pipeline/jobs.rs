//! Replays and discards of many: what a selection stands for, and the task that works jobs off.
//!
//! A small selection is done before its answer leaves. A large one, or one with a rate, is a job: a row of the store, worked
//! off a page at a time by one task. A page's changes and the job's progress are one transaction, so that a job goes on after
//! a crash where it stood: nothing twice, nothing passed over. It walks the DLQ once, from the newest entry to the oldest,
//! and takes only what had died when it began; what dies again meanwhile is not taken again.
//!
//! A rate paces the pages, not due times in the outbox: what has not been replayed yet is still dead, so that a cancel leaves
//! it where it was. While somebody sends, pages are small, share the transactions of events and are paid from the writer's
//! budget for such work (`budget`), with the sending of what they owe: some 300 deliveries a second. In its lane a replayed
//! delivery stands with the backlog, behind which fresh ones do not wait.

use std::time::Duration;

use tokio::task::spawn_blocking;
use tracing::{info, warn};

use super::{Pipeline, Unavailable};
use crate::domain::audit::Deed;
use crate::domain::delivery::Status;
use crate::domain::id::{DeliveryKey, JobId};
use crate::domain::job::{JOB_PAGE, JOB_PAGE_BESIDE, JobKind, JobNumber, JobState, Pace, pace};
use crate::domain::time::UnixMs;
use crate::store::StoreError;
use crate::store::job::{Job, Selection};
use crate::store::read::{DeliveryFilter, Reader};
use crate::store::write::{Applied, Discard, JobPage, JobPlan, Replay, WriteOp};

/// Between two pages of jobs without a rate.
const BETWEEN_PAGES: Duration = Duration::from_millis(10);
/// What a replayed delivery costs everybody: its place in the page, its exchange, and the outcome of that. Measured as the
/// daemon's processor time for an event on its whole road.
const REPLAYED: Duration = Duration::from_micros(150);
/// What a discarded one costs.
const DISCARDED: Duration = Duration::from_micros(50);
/// After the store could not be read or written.
const AFTER_TROUBLE: Duration = Duration::from_secs(1);
/// A wait for a rate is looked at again at least so often: clocks may be set.
const LOOK_AGAIN: Duration = Duration::from_mins(1);
/// Keys counted in one read transaction.
const COUNT_ROWS: usize = 5000;

/// What a selection stands for at this moment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Found {
    /// All of them.
    Few(Vec<DeliveryKey>),
    /// More than were asked for.
    Many { count: u64 },
}

/// The dead deliveries a selection names: themselves where there are at most `few`, else how many.
pub fn find(reader: &Reader, selection: &Selection, few: usize) -> Result<Found, StoreError> {
    let mut keys = Vec::new();
    let mut count = 0_u64;
    let mut take = |page: Vec<DeliveryKey>| {
        count = count.saturating_add(u64::try_from(page.len()).unwrap_or(u64::MAX));
        let room = few.saturating_add(1).saturating_sub(keys.len());
        keys.extend(page.into_iter().take(room));
    };
    match selection {
        Selection::Ids(ids) => take(dead(reader, ids)?),
        Selection::Filter(filter) => {
            let mut after = None;
            loop {
                let page = reader.dlq_keys(filter, after, COUNT_ROWS)?;
                take(page.rows);
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
        }
    }
    Ok(if keys.len() <= few { Found::Few(keys) } else { Found::Many { count } })
}

/// How many dead deliveries match.
pub fn count(reader: &Reader, filter: &DeliveryFilter) -> Result<u64, StoreError> {
    match find(reader, &Selection::Filter(Box::new(filter.clone())), 0)? {
        Found::Few(keys) => Ok(u64::try_from(keys.len()).unwrap_or(u64::MAX)),
        Found::Many { count } => Ok(count),
    }
}

/// Those of `ids` that are in the DLQ now.
fn dead(reader: &Reader, ids: &[DeliveryKey]) -> Result<Vec<DeliveryKey>, StoreError> {
    let mut dead = Vec::with_capacity(ids.len());
    for key in ids {
        let status = reader.delivery(*key)?.map(|delivery| delivery.state.status());
        if status == Some(Status::FailedPermanently) {
            dead.push(*key);
        }
    }
    Ok(dead)
}

impl Pipeline {
    /// Replays or discards these now, in one transaction with the deed; the number that were in the DLQ.
    pub async fn change_dead(
        &self,
        kind: JobKind,
        keys: Vec<DeliveryKey>,
        reason: String,
        deed: Deed,
    ) -> Result<u64, Unavailable> {
        let at = self.env.clock.now();
        let op = match kind {
            JobKind::Replay => WriteOp::Replay(Replay { at, keys }),
            JobKind::Discard => WriteOp::Discard(Discard { at, keys, reason }),
        };
        let applied = self.write(vec![op, self.deed(deed)]).await?;
        Ok(applied.iter().map(super::affected).sum())
    }

    /// Begins a job; it goes on by itself, also after a restart.
    pub async fn start_job(&self, plan: JobPlan, deed: Deed) -> Result<Option<Job>, Unavailable> {
        let applied = self.write(vec![WriteOp::JobStart(plan), self.deed(deed)]).await?;
        self.job_news.notify_one();
        Ok(job_of(applied))
    }

    /// Ends a job; `None` where there is none that runs.
    pub async fn cancel_job(&self, job: JobNumber, deed: Deed) -> Result<Option<Job>, Unavailable> {
        let at = self.env.clock.now();
        let applied = self.write(vec![WriteOp::JobCancel { job, at }, self.deed(deed)]).await?;
        Ok(job_of(applied))
    }

    /// Keeps what an operator did that changes nothing in the store by itself.
    pub async fn audit(&self, deed: Deed) -> Result<(), Unavailable> {
        self.write(vec![self.deed(deed)]).await.map(drop)
    }

    pub(super) fn deed(&self, deed: Deed) -> WriteOp {
        WriteOp::Audit { at: self.env.clock.now(), deed: Box::new(deed) }
    }
}

fn job_of(applied: Vec<Applied>) -> Option<Job> {
    applied.into_iter().find_map(|done| if let Applied::Job { job, .. } = done { Some(*job) } else { None })
}

/// Works jobs off until the daemon stops.
pub(super) async fn run(pipeline: Pipeline) {
    loop {
        let wait = match round(&pipeline).await {
            Ok(wait) => wait,
            Err(Trouble::Stopping) => return,
            Err(Trouble::Later(why)) => {
                warn!(why, "Jobs cannot go on now; they are tried again.");
                Some(AFTER_TROUBLE)
            }
        };
        let news = pipeline.job_news.notified();
        match wait {
            None => news.await,
            // A new job need not wait for the pace of another.
            Some(wait) => drop(tokio::time::timeout(wait, news).await),
        }
    }
}

enum Trouble {
    Stopping,
    Later(String),
}

impl From<Unavailable> for Trouble {
    fn from(why: Unavailable) -> Self {
        match why {
            Unavailable::Stopping => Self::Stopping,
            Unavailable::Backlog | Unavailable::Store(_) | Unavailable::Slow | Unavailable::Disk => {
                Self::Later(why.to_string())
            }
        }
    }
}

/// One page of every job that may go on; how long to wait before the next round, `None` where there are no jobs.
async fn round(pipeline: &Pipeline) -> Result<Option<Duration>, Trouble> {
    let jobs = read(pipeline, Reader::running_jobs).await?;
    let mut wait = None::<Duration>;
    for job in jobs {
        let rest = step(pipeline, job).await?;
        wait = Some(wait.map_or(rest, |known| known.min(rest)));
    }
    Ok(wait)
}

/// One page of a job; how long it then waits.
async fn step(pipeline: &Pipeline, job: Job) -> Result<Duration, Trouble> {
    let now = pipeline.env.clock.now();
    let page = if pipeline.board.is_quiet() { JOB_PAGE } else { JOB_PAGE_BESIDE };
    let (most, paced_to) = match job.rate.map(|rate| pace(rate, job.paced_to, now, page)) {
        None => (page, now),
        Some(Pace::Go { most, paced_to }) => (most, paced_to),
        Some(Pace::Wait { until }) => return Ok(until.since(now).to_std().clamp(BETWEEN_PAGES, LOOK_AGAIN)),
    };
    let each = match job.kind {
        JobKind::Replay => REPLAYED,
        JobKind::Discard => DISCARDED,
    };
    let page = read(pipeline, move |reader| next_page(reader, &job, most, now, paced_to)).await?;
    let cost = each.saturating_mul(u32::try_from(page.keys.len()).unwrap_or(u32::MAX));
    let applied = pipeline.write_beside(vec![WriteOp::JobPage(page)], cost).await?;
    if let Some(job) = job_of(applied).filter(|job| job.state == JobState::Done) {
        let Job { number, kind, matched, done, failed, .. } = job;
        let id = JobId { instance: pipeline.instance, number };
        info!(job = %id, kind = kind.as_str(), matched, done, failed, "A job is done.");
    }
    Ok(BETWEEN_PAGES)
}

/// The next page of a job, as the store stands; the simulator's too.
pub fn next_page(reader: &Reader, job: &Job, most: usize, at: UnixMs, paced_to: UnixMs) -> Result<JobPage, StoreError> {
    let left = usize::try_from(job.matched.saturating_sub(job.done)).unwrap_or(usize::MAX);
    let most = most.min(left).max(1);
    let (keys, to) = match &job.selection {
        Selection::Ids(ids) => {
            let ahead = ids.iter().filter(|key| job.cursor.is_none_or(|cursor| **key < cursor));
            let keys: Vec<DeliveryKey> = ahead.take(most).copied().collect();
            // The page after the last id is empty, and the end.
            let to = keys.last().copied();
            (keys, to)
        }
        Selection::Filter(filter) => {
            let page = reader.dlq_keys(filter, job.cursor, most)?;
            (page.rows, page.next)
        }
    };
    let last = to.is_none();
    Ok(JobPage { job: job.number, at, from: job.cursor, to, keys, last, paced_to })
}

async fn read<T: Send + 'static>(
    pipeline: &Pipeline,
    what: impl FnOnce(&Reader) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, Trouble> {
    let reader = pipeline.reader.clone();
    let read = spawn_blocking(move || what(&reader)).await;
    let read = read.map_err(|_| Trouble::Later("reading panicked; this is a bug worth reporting".to_owned()))?;
    read.map_err(|error| Trouble::Later(error.to_string()))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::domain::dedupe::Discriminator;
    use crate::domain::event::{Event, tests::sample};
    use crate::domain::id::{DestinationId, EventSeq};
    use crate::domain::outcome::{DeadReason, Disposition};
    use crate::env::entropy::Entropy;
    use crate::store::write::{Accept, Planned, Settle};
    use crate::store::{Options, Store};

    const AT: UnixMs = UnixMs(1_764_000_002_000);

    struct Dice;

    impl Entropy for Dice {
        fn next_u64(&self) -> u64 {
            7
        }
    }

    fn key(seq: u64) -> DeliveryKey {
        DeliveryKey { seq: EventSeq(seq), destination: DestinationId(1) }
    }

    /// Five dead deliveries, and a sixth that is owed.
    fn store(dir: &std::path::Path) -> Store {
        let mut store = Store::open(dir, Options { cache: 1 << 20 }, &Dice).unwrap();
        for seq in 1..=6 {
            let id = seq.to_string();
            let event = Arc::new(Event { event_id: Some(id.clone()), ..sample() });
            let dedupe = store.hash_key().dedupe_key(&event, &Discriminator::EventId(id));
            let (content, due_at) = (store.hash_key().content(&event), event.received_at);
            let plan = vec![Planned::Owe { destination: key(seq).destination, target: "Purchase".parse().unwrap() }];
            let (heard_at, repeat_since) = (due_at, UnixMs(0));
            let accept = Accept { event, key: dedupe, content, heard_at, repeat_since, plan };
            let disposition = Disposition::Dead { reason: DeadReason::Permanent };
            let dies = Settle { key: key(seq), due_at, at: AT, attempt: None, disposition, autopsy: None };
            store.commit(&[WriteOp::Accept(accept)]).unwrap();
            if seq < 6 {
                store.commit(&[WriteOp::Settle(dies)]).unwrap();
            }
        }
        store
    }

    #[test]
    fn a_selection_is_found_whole_up_to_what_is_few_and_counted_beyond() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        let reader = store.reader();
        let all = Selection::Filter(Box::default());
        let keys = [5, 4, 3, 2, 1].map(key).to_vec();
        assert_eq!(find(&reader, &all, 5).unwrap(), Found::Few(keys.clone()));
        assert_eq!(find(&reader, &all, 4).unwrap(), Found::Many { count: 5 });
        let named = Selection::Ids([6, 5, 4].map(key).to_vec());
        assert_eq!(find(&reader, &named, 2).unwrap(), Found::Few(keys[..2].to_vec()), "what is owed is not dead");
        assert_eq!(count(&reader, &DeliveryFilter::default()).unwrap(), 5);
        let nothing = DeliveryFilter { destination: Some(DestinationId(2)), ..DeliveryFilter::default() };
        assert_eq!(count(&reader, &nothing).unwrap(), 0);
    }

    #[test]
    fn a_job_goes_through_its_selection_once_in_pages_of_their_size() {
        for selection in [Selection::Ids([5, 4, 3, 2, 1].map(key).to_vec()), Selection::Filter(Box::default())] {
            let dir = tempfile::tempdir().unwrap();
            let mut store = store(dir.path());
            let plan = JobPlan {
                at: AT,
                kind: JobKind::Discard,
                selection,
                rate: None,
                reason: "left us".to_owned(),
                matched: 5,
            };
            let mut job = job_of(store.commit(&[WriteOp::JobStart(plan)]).unwrap()).unwrap();
            let mut pages = Vec::new();
            while job.state == JobState::Running {
                let page = next_page(&store.reader(), &job, 2, AT, AT).unwrap();
                pages.push(page.keys.iter().map(|key| key.seq.0).collect::<Vec<_>>());
                job = job_of(store.commit(&[WriteOp::JobPage(page)]).unwrap()).unwrap();
                assert!(pages.len() < 9, "{pages:?}");
            }
            assert_eq!(pages, [vec![5, 4], vec![3, 2], vec![1]]);
            assert_eq!((job.done, job.failed), (5, 0));
        }
    }
}
