//! What an operator does beside the DLQ: purges, backups and their restore; and what alerts remember.
//!
//! A backup is made of the store in use, by the daemon's own copying; a restore is what `postbackd restore` does, with real
//! files. What was accepted after the backup is gone then, and that is no loss; what was sent after it may be sent again, once.

use std::collections::BTreeMap;

use postbackd::destination::Kind;
use postbackd::domain::alert::{AlertMemory, Problem, Rhythm, Rule, Severity};
use postbackd::domain::time::UnixMs;
use postbackd::pipeline::commit::Request;
use postbackd::store::Options;
use postbackd::store::offline::Offline;
use postbackd::store::offline::restore::Wish;
use postbackd::store::read::Bodies;
use postbackd::store::write::{Purge, WriteOp};

use crate::disk::Disk;
use crate::oracle::Oracle;
use crate::reloads::Listed;
use crate::world::{Happening, Medium, Waiting, World};

const MINUTE: u64 = 60_000;
/// Deliveries that one purge gives up.
const SLICE: usize = 5;

/// A backup, with what was known of the world when it was taken.
pub struct Taken {
    bytes: Vec<u8>,
    oracle: Oracle,
}

impl World {
    /// An operator comes by who keeps the house.
    pub(super) fn keep_house(&mut self) {
        let next = self.rng.between(5 * MINUTE, 60 * MINUTE);
        self.plan_in(next, Happening::Keeping);
        if self.life.as_ref().is_none_or(|life| life.closed) {
            return;
        }
        match self.rng.below(8) {
            0..3 => self.purge(),
            3 | 4 => self.back_up(),
            5 => self.restore(),
            _ => self.remember_alerts(),
        }
    }

    /// Gives up what a destination is owed that is not configured any more, but for what is being sent.
    fn purge(&mut self) {
        let gone = self.listed.iter().find(|(_, listed)| **listed == Listed::Gone);
        let Some(destination) = gone.map(|(id, _)| *id) else { return };
        let at = self.wall();
        let Some(life) = &mut self.life else { return };
        let under_way =
            life.scheduler.lane(destination).map(postbackd::pipeline::lane::Lane::under_way).unwrap_or_default();
        let owed = life.reader.outbox_page(destination, None, 1000, Bodies::NONE).expect("readable");
        let keys = owed.iter().map(|owed| owed.key).filter(|key| !under_way.contains(&key.seq)).collect();
        let reason = "simulated".to_owned();
        let ops = vec![WriteOp::Purge(Purge { destination, at, reason, under_way, limit: SLICE })];
        life.queue.push(Request { ops, reply: Some(Waiting::Purge(keys)) });
        self.plan_commit();
    }

    fn back_up(&mut self) {
        let at = self.wall();
        let Some(life) = &self.life else { return };
        let disk = Disk::default();
        life.reader.copy_into(disk.clone(), at, Box::new(|| Ok(()))).expect("the store can be read");
        self.tally.backups += 1;
        let mut oracle = self.oracle.clone();
        // What is on its way to the disk now is not in the backup, and may be done twice.
        oracle.crashed();
        self.backup = Some(Taken { bytes: disk.bytes(), oracle });
    }

    /// The daemon is stopped, the last backup takes the store's place, and the daemon is started.
    fn restore(&mut self) {
        let Some(Taken { bytes, oracle }) = self.backup.take() else { return };
        self.tally.restores += 1;
        self.disk.disarm();
        self.stop();
        let dir = tempfile::tempdir().expect("a directory");
        let (store, file) = (dir.path().join("postbackd.redb"), dir.path().join("backup.redb"));
        std::fs::write(&store, self.disk.bytes()).expect("room for it");
        std::fs::write(&file, bytes).expect("room for it");
        let offline = Offline::claim(dir.path(), "").expect("a directory of ours");
        let options = Options { cache: 1024 * 1024 };
        let report = offline.restore(&Wish { file: &file, sent: None, now: self.wall(), options });
        let report = report.unwrap_or_else(|error| panic!("a backup that was made is refused: {error}"));
        self.disk.replace(std::fs::read(&store).expect("the restored store"));
        self.medium = Medium::Trusted;
        self.oracle.restored(oracle, report.floor);
        // The others' ids are the daemon's own, and never come again.
        for (name, id) in &self.ids {
            if self.snapshot.destinations[name].kind == Kind::FbCapi {
                let peer = self.peers.get_mut(id).expect("a peer");
                peer.received.values_mut().for_each(|received| received.may_change = true);
            }
        }
        self.start();
        let pauses = self.life.as_ref().expect("alive").reader.pauses().expect("readable");
        assert!(self.ids.values().all(|id| pauses.contains_key(id)), "what was restored sends by itself: {pauses:?}");
    }

    /// A clean stop: whatever was not committed is not answered.
    fn stop(&mut self) {
        if let Some(life) = self.end_life() {
            life.committer.into_store().close().expect("no fault is armed while stopping");
        }
    }

    /// What alerts know is kept whole, over every restart.
    fn remember_alerts(&mut self) {
        let problem = |number: u64| Problem {
            id: format!("simulated/{number}"),
            rule: Rule::Held,
            severity: Severity::Critical,
            worst: Severity::Critical,
            title: "simulated".to_owned(),
            text: String::new(),
            remedy: String::new(),
            since: self.wall(),
            told_at: Some(UnixMs(number)),
            told: 1,
            good_since: None,
        };
        let open: Vec<Problem> = (0..4).filter(|_| self.rng.percent(50)).map(problem).collect();
        let rhythm = Rhythm { total: self.rng.below(100), ..Rhythm::default() };
        let memory = AlertMemory {
            open,
            rhythms: BTreeMap::from([("app".parse().expect("a name"), rhythm)]),
            ..AlertMemory::default()
        };
        let Some(life) = &mut self.life else { return };
        let ops = vec![WriteOp::Alerts(memory.clone())];
        life.queue.push(Request { ops, reply: Some(Waiting::Alerts(memory)) });
        self.plan_commit();
    }

    /// What was given up of a destination that had gone when it was asked for; its name may be back by now.
    pub(super) fn gave_up(&mut self, seqs: usize) {
        assert!(seqs <= SLICE);
        self.tally.purged += seqs as u64;
    }
}
