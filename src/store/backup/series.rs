//! The series of backups that are taken by themselves: how they are called, which is the newest, which have to go.
//!
//! The name holds the store's instance and the time, `postbackd-auto-INSTANCE-TIME.redb`, so that the series is a function
//! of the directory: it goes on over restarts, leaves files of anybody else alone, and two stores may share a directory.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{BackupError, at};
use crate::domain::id::InstanceId;
use crate::domain::time::UnixMs;
use crate::store::directory::remove_if_there;
use crate::store::read::Reader;

/// What only names of the series begin with.
pub const SERIES: &str = "auto-";

/// A backup of the series.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Kept {
    pub file: PathBuf,
    pub taken_at: UnixMs,
    pub bytes: u64,
}

impl Reader {
    /// The name of a backup of the series.
    pub fn series_name(&self, at: UnixMs) -> String {
        format!("{SERIES}{:010x}-{}", self.instance().get(), stamp(at))
    }

    /// The series, oldest first; a directory that is not there holds none. What claims to be of the future was taken before
    /// the clock was put right, so before all others.
    pub fn series(&self, directory: Option<&Path>, now: UnixMs) -> io::Result<Vec<Kept>> {
        let Some(directory) = self.backups_directory(directory) else { return Ok(Vec::new()) };
        let entries = match fs::read_dir(directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut series = Vec::new();
        for entry in entries {
            let entry = entry?;
            let taken_at = entry.file_name().to_str().and_then(|name| taken_at(name, self.instance()));
            if let Some(taken_at) = taken_at {
                series.push(Kept { file: entry.path(), taken_at, bytes: entry.metadata()?.len() });
            }
        }
        series.sort_by_key(|kept| (kept.taken_at <= now, kept.taken_at));
        Ok(series)
    }

    /// Removes what is beyond `keep`, oldest first and never `fresh`, which has just been made; how many went. One that stays put
    /// keeps no other.
    pub fn prune(
        &self,
        directory: Option<&Path>,
        keep: usize,
        (fresh, now): (&Path, UnixMs),
    ) -> Result<usize, BackupError> {
        let series = self.series(directory, now).map_err(|error| at(fresh, error))?;
        let beyond = series.len().saturating_sub(keep);
        let old = series.iter().filter(|kept| kept.file != fresh).take(beyond);
        let (mut gone, mut stays) = (0, None);
        for kept in old {
            match remove_if_there(&kept.file) {
                Ok(true) => gone += 1,
                // Somebody else was faster.
                Ok(false) => {}
                Err(error) => stays = Some(at(&kept.file, error)),
            }
        }
        stays.map_or(Ok(gone), Err)
    }
}

/// As names of files are sorted, so are the times: `20260101T000000.000Z`.
pub fn stamp(at: UnixMs) -> String {
    at.to_rfc3339().replace(['-', ':'], "")
}

/// When a file of that name was taken, if it is one of this store's series.
fn taken_at(name: &str, instance: InstanceId) -> Option<UnixMs> {
    let rest = name.strip_prefix("postbackd-")?.strip_prefix(SERIES)?.strip_suffix(".redb")?;
    let written = rest.strip_prefix(&format!("{:010x}-", instance.get()))?;
    let (day, time) = written.split_once('T')?;
    let part = |text: &str, range: std::ops::Range<usize>| text.get(range).map(str::to_owned);
    let (hour, minute, rest) = (part(time, 0..2)?, part(time, 2..4)?, time.get(4..)?);
    let (year, month, day) = (part(day, 0..4)?, part(day, 4..6)?, day.get(6..)?);
    let found = UnixMs::parse_rfc3339(&format!("{year}-{month}-{day}T{hour}:{minute}:{rest}"))?;
    // Only what is spelled exactly as we spell it is ours.
    (stamp(found) == written).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_exactly_our_names_are_of_the_series() {
        let instance = InstanceId::from_random(0x83a8_6970_0612);
        let at = UnixMs(1_767_225_600_123);
        assert_eq!(stamp(at), "20260101T000000.123Z");
        let hex = format!("{:010x}", instance.get());
        let ours = format!("postbackd-auto-{hex}-{}.redb", stamp(at));
        assert_eq!(taken_at(&ours, instance), Some(at));
        for other in [
            format!("postbackd-auto-{hex}-{}.redb.tmp", stamp(at)),
            format!("postbackd-auto-{hex}-20260101T000000.123Z-copy.redb"),
            format!("postbackd-auto-{hex}-20260101T000000Z.redb"),
            format!("postbackd-auto-{hex}-20260101.redb"),
            format!("postbackd-auto-0000000000-{}.redb", stamp(at)),
            format!("postbackd-{}.redb", stamp(at)),
            "postbackd-auto-.redb".to_owned(),
            format!("x{ours}"),
        ] {
            assert_eq!(taken_at(&other, instance), None, "{other}");
        }
    }
}
