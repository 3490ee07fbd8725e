//! Putting a backup in the place of a store.
//!
//! The backup is copied under a temporary name into the data directory, checked whole, made ready, synced, and renamed
//! over the store; the store that was there keeps its file under another name. At any moment either the old store or the
//! new one has the name, never a half.
//!
//! Made ready (`ready`) means that nothing goes on by itself: every destination is paused, since much of what the backup owes
//! was sent after it was taken, and an operator is to look before it is sent again; jobs that ran are ended. What another file
//! knows as sent (`sent`) is settled where the operator names one. And no number is handed out twice: ids are made of the store's instance
//! and a sequence number, so events accepted after the restore must not take the numbers of those that were accepted after
//! the backup and are gone with it; receivers would take them for repeats and drop them. How many those were nobody knows,
//! so the numbers skip as many as can have been.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, fchown};
use std::path::{Path, PathBuf};

use redb::ReadableTable;

use super::ready::{self, Todo};
use super::sent::Sent;
use super::{Contents, Offline, examine};
use crate::domain::delivery::State;
use crate::domain::id::{DeliveryKey, DestinationId, InstanceId};
use crate::domain::name::DestinationName;
use crate::domain::time::UnixMs;
use crate::store::directory::{refuse, refuse_io};
use crate::store::error::{OpenError, StoreError};
use crate::store::schema::{self, INBOX, InboxKey, OUTBOX};
use crate::store::{Options, Store, suspect};

/// Numbers a millisecond that may have been handed out: 100,000 events a second, several times what one file can take.
const PER_MS: u64 = 100;
/// Skipped in any case.
const SKIP: u64 = 1 << 20;
/// Skipped where nobody knows when the backup was taken.
const SKIP_UNKNOWN: u64 = 1 << 36;
/// No store is older: 2025-01-01.
const FIRST_DAY: UnixMs = UnixMs(1_735_689_600_000);
/// Findings that a refusal names.
const NAMED: usize = 5;

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Wish<'w> {
    /// The backup.
    pub file: &'w Path,
    /// What knows which deliveries were sent since: a newer store, or an export.
    pub sent: Option<&'w Path>,
    pub now: UnixMs,
    pub options: Options,
}

/// What a restore does, or would do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    pub backup: Contents,
    /// By destination, those that are owed anything.
    pub owed: Vec<Owed>,
    pub present: Present,
    /// Replays and discards that ran in the backup, and are ended.
    pub jobs: u64,
    /// The least number of an event accepted from now on.
    pub floor: u64,
    /// Where the store that was there is now.
    pub aside: Option<PathBuf>,
}

impl Report {
    /// Deliveries settled as sent, of all destinations.
    pub fn settled(&self) -> u64 {
        self.owed.iter().map(|each| each.settled).fold(0, u64::saturating_add)
    }
}

/// What a destination is owed in the backup.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Owed {
    pub destination: DestinationName,
    pub owed: u64,
    /// Of these, sent since then as the present store knows: they would be sent again.
    pub sent: u64,
    /// Of these, ended otherwise since then: dead, discarded, or forgotten by retention.
    pub ended: u64,
    /// Of these, settled as sent because the file that was named knows them so: they are not owed any more.
    pub settled: u64,
}

/// The store that is there now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Present {
    Missing,
    Unreadable(String),
    /// Not the one that the backup was taken of.
    Stranger(InstanceId),
    /// `newer` of its events are not in the backup.
    Same {
        newer: u64,
    },
}

impl Offline {
    /// What [`Offline::restore`] would do.
    pub fn rehearse(&self, wish: &Wish<'_>) -> Result<Report, OpenError> {
        Ok(self.look(wish, wish.file)?.0)
    }

    /// Puts the backup in the place of the store.
    pub fn restore(&self, wish: &Wish<'_>) -> Result<Report, OpenError> {
        let copy = self.directory.unfinished_store();
        let ready = self.copy_in(wish.file).and_then(|()| {
            let (report, todo) = self.look(wish, &copy)?;
            ready::make(&copy, wish, &report, todo)?;
            Ok(report)
        });
        let report = ready.inspect_err(|_| drop(fs::remove_file(&copy)))?;
        let aside = self.set_aside(wish.now)?;
        self.directory.publish_store()?;
        self.directory.mark(report.backup.instance)?;
        // It was the other file's.
        suspect::absolve(&self.directory);
        Ok(Report { aside, ..report })
    }

    fn copy_in(&self, file: &Path) -> Result<(), OpenError> {
        let from = File::open(file).map_err(|error| refuse_io(file, "opening the backup", &error))?;
        let to = self.directory.create_unfinished()?;
        let copy = |mut from: &File, mut to: &File| -> io::Result<()> {
            io::copy(&mut from, &mut to)?;
            // Whoever restores may be root; the daemon is whoever owns the directory.
            let (owner, made) = (self.directory.metadata()?, to.metadata()?);
            if (owner.uid(), owner.gid()) != (made.uid(), made.gid()) {
                fchown(to, Some(owner.uid()), Some(owner.gid()))?;
            }
            to.sync_all()
        };
        copy(&from, &to).map_err(|error| refuse_io(&self.directory.unfinished_store(), "copying the backup", &error))
    }

    /// Looks into `copy`, which is or will be the copy of the backup.
    fn look(&self, wish: &Wish<'_>, copy: &Path) -> Result<(Report, Todo), OpenError> {
        let Wish { file, now, options, .. } = *wish;
        let backup = examine(copy, options).map_err(|error| error.about(file))?;
        let wrong = |error: StoreError| refuse(file, error.to_string());
        let findings = backup.reader().verify().map_err(wrong)?;
        if !findings.is_empty() {
            let named: Vec<_> = findings.iter().take(NAMED).map(String::as_str).collect();
            let count = findings.len();
            let detail =
                format!("the backup is not sound, {count} findings: {}; nothing was changed", named.join("; "));
            return Err(refuse(file, detail));
        }
        let store = self.directory.store();
        let present = if store.symlink_metadata().is_ok() { Some(examine(&store, options)) } else { None };
        let twin = present
            .as_ref()
            .and_then(|store| store.as_ref().ok())
            .filter(|store| store.instance() == backup.instance());
        let contents = backup.contents().map_err(wrong)?;
        let sent = wish.sent.map(|path| Sent::read(path, backup.instance(), now, options)).transpose()?;
        let skip = skip(&backup, contents.taken_at, now).map_err(wrong)?;
        let (owed, sent) = owed(&backup, twin, sent.as_ref()).map_err(wrong)?;
        let todo = todo(&backup, twin, skip).map(|todo| Todo { sent, ..todo }).map_err(wrong)?;
        let floor = backup.memory.next_seq.saturating_add(skip);
        let jobs = backup.reader().running_jobs().map_err(wrong)?.len();
        let report = Report {
            owed,
            jobs: u64::try_from(jobs).unwrap_or(u64::MAX),
            floor: floor.max(twin.map_or(0, |twin| twin.memory.next_seq)),
            backup: contents,
            present: match (&present, twin) {
                (None, _) => Present::Missing,
                (Some(Err(error)), _) => Present::Unreadable(error.to_string()),
                (Some(Ok(_)), Some(twin)) => Present::Same { newer: newer(&backup, twin).map_err(wrong)? },
                (Some(Ok(other)), None) => Present::Stranger(other.instance()),
            },
            aside: None,
        };
        Ok((report, todo))
    }

    /// Gives the store that is there a second name; it loses the first when the new one takes it.
    fn set_aside(&self, now: UnixMs) -> Result<Option<PathBuf>, OpenError> {
        let store = self.directory.store();
        if store.symlink_metadata().is_err() {
            return Ok(None);
        }
        let stamp = now.to_rfc3339().replace(['-', ':'], "");
        let aside = store.with_extension(format!("redb.before-{stamp}"));
        // Some file systems have no hard links: then there is a moment without a store, which a start refuses by the marker.
        fs::hard_link(&store, &aside)
            .or_else(|_| fs::rename(&store, &aside))
            .map_err(|error| refuse_io(&aside, "setting the present store aside", &error))?;
        Ok(Some(aside))
    }
}

/// What people were told, and which numbers of jobs and deeds are free. Nobody knows how many there were since the backup,
/// but certainly no more than events can have been.
fn todo(backup: &Store, twin: Option<&Store>, skip: u64) -> Result<Todo, StoreError> {
    let free = ready::free_number(backup)?.saturating_add(skip);
    let (alerts, known) = match twin {
        Some(twin) => (Some(twin.reader().alerts()?), ready::free_number(twin)?),
        None => (None, 0),
    };
    Ok(Todo { alerts, desk_floor: free.max(known), sent: Vec::new() })
}

/// No more events than this were accepted after the backup.
fn skip(backup: &Store, taken_at: Option<UnixMs>, now: UnixMs) -> Result<u64, StoreError> {
    let (since, skip) = if let Some(taken) = taken_at.filter(|taken| *taken <= now) {
        (taken, SKIP)
    } else {
        // Some copy of a file, or a clock that is wrong: it is no older than its newest event, where that can be believed.
        let newest = backup.reader().newest_receipt()?.filter(|newest| *newest <= now);
        (newest.unwrap_or(FIRST_DAY), SKIP_UNKNOWN)
    };
    let passed = now.since(since).0.saturating_mul(PER_MS);
    Ok(skip.saturating_add(passed))
}

/// A delivery that was sent since, its place in the outbox, and when.
type Settled = (DeliveryKey, UnixMs, UnixMs);

/// What each destination is owed, and which of it `sent` knows as sent.
fn owed(backup: &Store, twin: Option<&Store>, sent: Option<&Sent>) -> Result<(Vec<Owed>, Vec<Settled>), StoreError> {
    let mut counts = BTreeMap::<DestinationId, Owed>::new();
    let mut settled = Vec::new();
    let names: BTreeMap<_, _> = backup.memory.destinations.iter().map(|(name, id)| (*id, name)).collect();
    let present = twin.map(|twin| (twin.reader(), twin.memory.next_seq));
    backup.shared.read(|transaction| {
        for entry in transaction.open_table(OUTBOX)?.iter()? {
            let (destination, due_at, seq) = schema::read_outbox_key(entry?.0.value());
            let Some(name) = names.get(&destination) else { continue };
            let empty = || Owed { destination: DestinationName::clone(name), owed: 0, sent: 0, ended: 0, settled: 0 };
            let each = counts.entry(destination).or_insert_with(empty);
            let key = DeliveryKey { seq, destination };
            each.owed = each.owed.saturating_add(1);
            if let Some(at) = sent.map(|sent| sent.at(key)).transpose()?.flatten() {
                each.settled = each.settled.saturating_add(1);
                settled.push((key, due_at, at));
            }
            let Some((present, next_seq)) = &present else { continue };
            let delivery = present.delivery(key)?;
            match delivery.map(|delivery| delivery.state) {
                Some(State::Sent { .. }) => each.sent = each.sent.saturating_add(1),
                Some(State::FailedPermanently { .. } | State::Skipped { .. } | State::Discarded { .. }) => {
                    each.ended = each.ended.saturating_add(1);
                }
                None if seq.0 < *next_seq => each.ended = each.ended.saturating_add(1),
                Some(State::Pending { .. } | State::Failed { .. }) | None => {}
            }
        }
        Ok(())
    })?;
    let mut all: Vec<_> = counts.into_values().collect();
    all.sort_by(|one, other| one.destination.cmp(&other.destination));
    Ok((all, settled))
}

/// Events of `twin` that were accepted after the backup was taken.
fn newer(backup: &Store, twin: &Store) -> Result<u64, StoreError> {
    let first = schema::inbox_key(crate::domain::id::EventSeq(backup.memory.next_seq));
    twin.shared.read(|transaction| {
        let mut count = 0_u64;
        for entry in transaction.open_table(INBOX)?.range::<&InboxKey>(&first..)? {
            entry?;
            count = count.saturating_add(1);
        }
        Ok(count)
    })
}
