//! Putting a backup in the place of a store.
//!
//! The backup is copied under a temporary name into the data directory, checked whole, made ready, synced, and renamed
//! over the store; the store that was there keeps its file under another name. At any moment either the old store or the
//! new one has the name, never a half.
//!
//! Made ready means two things. Every destination is paused: much of what the backup owes was sent after it was taken, and
//! an operator is to look before it is sent again. And no number is handed out twice: ids are made of the store's instance
//! and a sequence number, so events accepted after the restore must not take the numbers of those that were accepted after
//! the backup and are gone with it; receivers would take them for repeats and drop them. How many those were nobody knows,
//! so the numbers skip as many as can have been.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, fchown};
use std::path::{Path, PathBuf};

use redb::ReadableTable;
use redb::backends::FileBackend;

use super::{Contents, Offline, examine, open};
use crate::domain::audit::{Deed, Right, Who};
use crate::domain::delivery::State;
use crate::domain::id::{DeliveryKey, DestinationId, InstanceId};
use crate::domain::name::DestinationName;
use crate::domain::pause::{Pause, PausedBy};
use crate::domain::time::UnixMs;
use crate::store::directory::refuse;
use crate::store::error::{OpenError, StoreError, io_text};
use crate::store::handle::Finish;
use crate::store::open::Place;
use crate::store::row::{self, NumberRow};
use crate::store::schema::{self, INBOX, InboxKey, META, META_BACKUP_TAKEN, META_FLOOR, OUTBOX};
use crate::store::write::WriteOp;
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

/// What a restore does, or would do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    pub backup: Contents,
    /// By destination, those that are owed anything.
    pub owed: Vec<Owed>,
    pub present: Present,
    /// The least number of an event accepted from now on.
    pub floor: u64,
    /// Where the store that was there is now.
    pub aside: Option<PathBuf>,
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
    pub fn rehearse(&self, file: &Path, now: UnixMs, options: Options) -> Result<Report, OpenError> {
        self.report(file, file, now, options)
    }

    /// Puts the backup in `file` in the place of the store.
    pub fn restore(&self, file: &Path, now: UnixMs, options: Options) -> Result<Report, OpenError> {
        let copy = self.directory.unfinished_store();
        let ready = self.copy_in(file).and_then(|()| {
            let report = self.report(file, &copy, now, options)?;
            make_ready(&copy, (file, now), &report, options)?;
            Ok(report)
        });
        let report = ready.inspect_err(|_| drop(fs::remove_file(&copy)))?;
        let aside = self.set_aside(now)?;
        self.directory.publish_store()?;
        self.directory.mark(report.backup.instance)?;
        // It was the other file's.
        suspect::absolve(&self.directory)?;
        Ok(Report { aside, ..report })
    }

    fn copy_in(&self, file: &Path) -> Result<(), OpenError> {
        let from = File::open(file).map_err(|error| refuse(file, io_text("opening the backup", &error)))?;
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
        copy(&from, &to)
            .map_err(|error| refuse(&self.directory.unfinished_store(), io_text("copying the backup", &error)))
    }

    /// Looks into `copy`, which is or will be the copy of `file`.
    fn report(&self, file: &Path, copy: &Path, now: UnixMs, options: Options) -> Result<Report, OpenError> {
        let backup = examine(copy, options).map_err(|OpenError::Path { detail, .. }| refuse(file, detail))?;
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
        let floor = floor(&backup, contents.taken_at, now).map_err(wrong)?;
        Ok(Report {
            owed: owed(&backup, twin).map_err(wrong)?,
            floor: floor.max(twin.map_or(0, |twin| twin.memory.next_seq)),
            backup: contents,
            present: match (&present, twin) {
                (None, _) => Present::Missing,
                (Some(Err(error)), _) => Present::Unreadable(error.to_string()),
                (Some(Ok(_)), Some(twin)) => Present::Same { newer: newer(&backup, twin).map_err(wrong)? },
                (Some(Ok(other)), None) => Present::Stranger(other.instance()),
            },
            aside: None,
        })
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
            .map_err(|error| refuse(&aside, io_text("setting the present store aside", &error)))?;
        Ok(Some(aside))
    }
}

/// No event that was accepted after the backup can have had this number or a greater one.
fn floor(backup: &Store, taken_at: Option<UnixMs>, now: UnixMs) -> Result<u64, StoreError> {
    let (since, skip) = if let Some(taken) = taken_at.filter(|taken| *taken <= now) {
        (taken, SKIP)
    } else {
        // Some copy of a file, or a clock that is wrong: it is no older than its newest event, where that can be believed.
        let newest = backup.reader().newest_receipt()?.filter(|newest| *newest <= now);
        (newest.unwrap_or(FIRST_DAY), SKIP_UNKNOWN)
    };
    let passed = now.since(since).0.saturating_mul(PER_MS);
    Ok(backup.memory.next_seq.saturating_add(skip).saturating_add(passed))
}

fn owed(backup: &Store, twin: Option<&Store>) -> Result<Vec<Owed>, StoreError> {
    let mut counts = std::collections::BTreeMap::<DestinationId, (u64, u64, u64)>::new();
    let present = twin.map(|twin| (twin.reader(), twin.memory.next_seq));
    backup.shared.read(|transaction| {
        for entry in transaction.open_table(OUTBOX)?.iter()? {
            let (destination, _, seq) = schema::read_outbox_key(entry?.0.value());
            let (owed, sent, ended) = counts.entry(destination).or_default();
            *owed = owed.saturating_add(1);
            let Some((present, next_seq)) = &present else { continue };
            let delivery = present.delivery(DeliveryKey { seq, destination })?;
            match delivery.map(|delivery| delivery.state) {
                Some(State::Sent { .. }) => *sent = sent.saturating_add(1),
                Some(State::FailedPermanently { .. } | State::Skipped { .. } | State::Discarded { .. }) => {
                    *ended = ended.saturating_add(1);
                }
                None if seq.0 < *next_seq => *ended = ended.saturating_add(1),
                Some(State::Pending { .. } | State::Failed { .. }) | None => {}
            }
        }
        Ok(())
    })?;
    let named = backup.memory.destinations.iter();
    let all = named.filter_map(|(name, id)| {
        let (owed, sent, ended) = counts.get(id).copied()?;
        Some(Owed { destination: name.clone(), owed, sent, ended })
    });
    Ok(all.collect())
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

/// Pauses every destination and raises the numbers, in the copy.
fn make_ready(copy: &Path, (file, now): (&Path, UnixMs), report: &Report, options: Options) -> Result<(), OpenError> {
    let path = copy.to_owned();
    let place = Place::backend(move || {
        let file = fs::OpenOptions::new().read(true).write(true).open(&path)?;
        FileBackend::new(file).map_err(io::Error::other)
    });
    let mut store = open(copy, place, options)?;
    let wrong = |error: StoreError| refuse(copy, format!("{error}; nothing was changed"));
    let taken = report.backup.taken_at.map_or_else(|| "an unknown time".to_owned(), UnixMs::to_rfc3339);
    let reason = format!("restored from a backup of {taken}");
    let pause = |destination: &DestinationId| WriteOp::Pause {
        destination: *destination,
        pause: Pause { since: now, until: None, reason: reason.clone(), by: PausedBy::Operator },
    };
    let mut ops: Vec<_> = store.memory.destinations.values().map(pause).collect();
    let deed = Deed::new(Who::nobody(Right::File), "restore").on(&file.display()).ended(&reason);
    ops.push(WriteOp::Audit { at: now, deed: Box::new(deed) });
    store.commit(&ops).map_err(wrong)?;
    let raised = store.shared.write(|transaction| {
        let mut meta = transaction.open_table(META)?;
        meta.insert(META_FLOOR, row::encode(&NumberRow(report.floor))?.as_slice())?;
        // From here on it is a store as any other.
        meta.remove(META_BACKUP_TAKEN)?;
        Ok(((), Finish::Commit))
    });
    raised.and_then(|()| store.close()).map_err(wrong)
}
