//! Jobs do each delivery once however often the store is closed between, and what operators did is kept, within bounds.

use super::*;
use crate::domain::audit::{DEEDS_KEPT, Deed, Right, Who};
use crate::domain::id::JobId;
use crate::domain::job::{JOBS_KEPT, JobKind, JobNumber, JobState};
use crate::store::handle::Finish;
use crate::store::job::{Job, Selection};
use crate::store::read::DeliveryFilter;
use crate::store::write::{JobPage, JobPlan};

const DIED: u64 = 500;
const BEGAN: u64 = 1000;

/// With `count` dead deliveries of destination one, the first of them returned first.
fn with_dead(disk: &Disk, count: u64) -> (Store, Vec<DeliveryKey>) {
    let mut store = disk.store();
    store.number_destinations(&["one".parse().unwrap(), "two".parse().unwrap()]).unwrap();
    let dead = |store: &mut Store, id: u64| {
        let queued = store.accept(event(&id.to_string(), 100 + id), vec![owe(ONE)]);
        store.settle(key(queued.seq, ONE), DIED, DEAD);
        key(queued.seq, ONE)
    };
    let keys = (0..count).map(|id| dead(&mut store, id)).collect();
    (store, keys)
}

fn plan(kind: JobKind, selection: Selection, matched: u64) -> JobPlan {
    JobPlan { at: UnixMs(BEGAN), kind, selection, rate: None, reason: "test".to_owned(), matched }
}

fn all() -> Selection {
    Selection::Filter(Box::default())
}

impl Store {
    fn start(&mut self, plan: JobPlan) -> Job {
        let Applied::Job { job, .. } = self.one(WriteOp::JobStart(plan)) else { panic!("no job") };
        *job
    }

    fn job(&self, number: JobNumber) -> Job {
        self.reader().job(number).unwrap().unwrap()
    }

    /// The next page of so many, as the store stands.
    fn page(&self, number: JobNumber, most: usize) -> JobPage {
        let job = self.job(number);
        let Selection::Filter(filter) = &job.selection else { panic!("ids") };
        let page = self.reader().dlq_keys(filter, job.cursor, most).unwrap();
        let (at, last) = (UnixMs(BEGAN + 1), page.next.is_none());
        JobPage { job: number, at, from: job.cursor, to: page.next, keys: page.rows, last, paced_to: at }
    }
}

// Row 78.
#[test]
fn a_job_goes_on_where_it_stood_and_takes_each_delivery_once() {
    let disk = Disk::default();
    let (mut store, keys) = with_dead(&disk, 25);
    let number = store.start(plan(JobKind::Replay, all(), 25)).number;
    let mut taken = Vec::new();
    while store.job(number).state == JobState::Running {
        let page = store.page(number, 4);
        let Applied::Job { replayed, .. } = store.one(WriteOp::JobPage(page.clone())) else { panic!("passed") };
        taken.extend(replayed.iter().map(|owed| owed.key));
        // The first of the page dies again at once, and the page comes a second time, as after a commit whose outcome was
        // not known.
        store.settle(page.keys[0], BEGAN + 2, DEAD);
        store.close().unwrap();
        store = disk.store();
        assert!(matches!(store.one(WriteOp::JobPage(page)), Applied::JobPassed));
        store.assert_sound();
    }
    let newest_first: Vec<_> = keys.into_iter().rev().collect();
    assert_eq!(taken, newest_first);
    let job = store.job(number);
    assert_eq!((job.state, job.done, job.failed), (JobState::Done, 25, 0));
    assert_eq!(job.finished_at, Some(UnixMs(BEGAN + 1)));
}

#[test]
fn a_job_takes_no_more_than_were_counted_and_none_that_died_since() {
    let (mut store, keys) = with_dead(&Disk::default(), 6);
    let number = store.start(plan(JobKind::Discard, all(), 3)).number;
    // One has died anew after the job began, one has gone.
    store.one(replay_op(BEGAN, &[keys[5], keys[4]]));
    store.settle(keys[5], BEGAN + 1, DEAD);
    store.settle(keys[4], BEGAN + 1, Disposition::Sent);
    let page = store.page(number, 100);
    store.one(WriteOp::JobPage(page));
    let job = store.job(number);
    assert_eq!((job.state, job.done, job.failed), (JobState::Done, 3, 0));
    assert_eq!(store.counts(ONE).discarded, 3);
    assert_eq!(store.delivery(keys[5]).state.status().as_str(), "failed_permanently");
    assert_eq!(store.delivery(keys[3]).state.reason(), Some("test"));
    assert_eq!(store.delivery(keys[0]).state.status().as_str(), "failed_permanently", "more than were counted");
    let later = JobPlan { at: UnixMs(BEGAN + 5), ..plan(JobKind::Discard, all(), 9) };
    let number = store.start(later).number;
    let page = store.page(number, 100);
    store.one(WriteOp::JobPage(page));
    let job = store.job(number);
    assert_eq!((job.done, job.failed), (2, 7), "those that were gone are told");
    store.assert_sound();
}

#[test]
fn a_cancelled_job_leaves_the_rest_where_it_was() {
    let (mut store, _) = with_dead(&Disk::default(), 6);
    let number = store.start(plan(JobKind::Replay, all(), 6)).number;
    let page = store.page(number, 2);
    store.one(WriteOp::JobPage(page));
    let next = store.page(number, 2);
    let cancel = WriteOp::JobCancel { job: number, at: UnixMs(BEGAN + 9) };
    assert!(matches!(store.one(cancel.clone()), Applied::Job { job, .. } if job.state == JobState::Cancelled));
    assert!(matches!(store.one(cancel), Applied::JobPassed));
    assert!(matches!(store.one(WriteOp::JobPage(next)), Applied::JobPassed));
    assert_eq!((store.counts(ONE).pending, store.counts(ONE).failed_permanently), (2, 4));
    assert!(store.reader().running_jobs().unwrap().is_empty());
    store.assert_sound();
}

#[test]
fn jobs_come_back_as_they_were_and_finished_ones_are_bounded() {
    let disk = Disk::default();
    let (mut store, keys) = with_dead(&disk, 3);
    let filter = DeliveryFilter {
        destination: Some(ONE),
        event: Some("deposit".to_owned()),
        response_status: Some(crate::store::read::Answered::Status(400)),
        detail: Some("no".to_owned()),
        fault: Some(crate::domain::fault::FaultId(7)),
        since: Some(UnixMs(1)),
        until: Some(UnixMs(9)),
        ..DeliveryFilter::default()
    };
    let rate = crate::domain::pacing::RateLimit::parse("50/s");
    let filtered = JobPlan { rate, ..plan(JobKind::Replay, Selection::Filter(Box::new(filter)), 3) };
    let ids = plan(JobKind::Discard, Selection::Ids(keys), 3);
    let jobs = [store.start(filtered), store.start(ids)];
    store.close().unwrap();
    let mut store = disk.store();
    assert_eq!(store.reader().running_jobs().unwrap(), jobs);
    for _ in 0..JOBS_KEPT + 5 {
        store.start(plan(JobKind::Replay, all(), 0));
    }
    let kept = store.reader().jobs().unwrap();
    assert_eq!(kept.len(), JOBS_KEPT + 2, "what runs is never forgotten");
    assert_eq!(kept[0].number.0, u64::try_from(JOBS_KEPT).unwrap() + 7, "numbers are not given twice");
}

fn deed(action: &str) -> WriteOp {
    let who = Who { right: Right::Loopback, from: Some("127.0.0.1".to_owned()), operator: Some("jane".to_owned()) };
    let deed = Box::new(Deed::new(who, action).on("one").because("test").with("{}"));
    WriteOp::Audit { at: UnixMs(5), deed }
}

#[test]
fn a_deed_shares_its_transaction_and_says_what_came_of_it() {
    let disk = Disk::default();
    let (mut store, keys) = with_dead(&disk, 3);
    store.commit(&[discard_op(5, &keys[..2]), deed("discard")]).unwrap();
    store.commit(&[WriteOp::JobStart(plan(JobKind::Replay, all(), 1)), deed("replay")]).unwrap();
    store.close().unwrap();
    let store = disk.store();
    let (deeds, next) = store.reader().audit(None, 10).unwrap();
    let told: Vec<_> = deeds.iter().map(|kept| (kept.number, kept.deed.result.clone())).collect();
    let id = JobId { instance: store.instance(), number: JobNumber(1) };
    assert_eq!(told, [(2, format!("{id}: running, 0 of 1 done")), (1, "2 discarded".to_owned())]);
    assert_eq!(next, None);
    let who = &deeds[0].deed.who;
    assert_eq!((who.from.as_deref(), who.operator.as_deref()), (Some("127.0.0.1"), Some("jane")));
    store.assert_sound();
}

#[test]
fn the_audit_trail_is_bounded_and_read_in_pages() {
    let mut store = Disk::default().store();
    let many: Vec<WriteOp> = (0..DEEDS_KEPT + 3).map(|_| deed("pause")).collect();
    store.commit(&many).unwrap();
    let (mut before, mut numbers) = (None, Vec::new());
    loop {
        let (deeds, next) = store.reader().audit(before, 4000).unwrap();
        assert!(deeds.len() <= 4000);
        numbers.extend(deeds.iter().map(|kept| kept.number));
        before = next;
        if before.is_none() {
            break;
        }
    }
    assert_eq!(numbers, (4..=DEEDS_KEPT + 3).rev().collect::<Vec<_>>());
}

// Row 80.
#[test]
fn a_file_from_before_there_were_jobs_is_read_and_takes_the_first() {
    let disk = Disk::default();
    let (store, _) = with_dead(&disk, 1);
    let drop_tables = |transaction: &redb::WriteTransaction| {
        let dropped = transaction.delete_table(schema::JOBS)? && transaction.delete_table(schema::AUDIT)?;
        Ok((dropped, Finish::Commit))
    };
    assert!(store.shared.write(drop_tables).unwrap(), "new files have the tables");
    store.close().unwrap();
    let mut store = disk.store();
    assert_eq!(store.reader().jobs().unwrap(), []);
    assert_eq!(store.reader().audit(None, 9).unwrap(), (vec![], None));
    store.assert_sound();
    store.commit(&[WriteOp::JobStart(plan(JobKind::Replay, all(), 1)), deed("replay")]).unwrap();
    assert_eq!(store.reader().jobs().unwrap().len(), 1);
    store.assert_sound();
}
