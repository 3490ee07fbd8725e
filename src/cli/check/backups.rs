//! What `check` finds out about `backup.dir`: whether a backup could be written there, and whether it would be one.
//!
//! A configuration with a bad one is not refused: the daemon starts, and a directory may come later. But whoever looks before
//! going live is to hear of it, and not when a backup is wanted.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fs::Access;
use rustix::io::Errno;

use crate::config::problem::{Problem, Report};
use crate::config::snapshot::Snapshot;

/// File systems that live in memory: `statfs(2)`.
const IN_MEMORY: [u64; 2] = [0x0102_1994, 0x8584_58f6];
/// What is swept by age on most machines, or private to a service.
const SWEPT: [&str; 2] = ["/tmp", "/var/tmp"];

/// How sure it is that something is wrong.
enum Finding {
    /// For whoever the daemon runs as.
    Certain(String),
    /// For this user, who may be another one than the daemon's; or it depends on what is wanted.
    Possible(String),
}

/// Adds what there is to say; nothing where backups go beside the store.
pub(super) fn look(snapshot: &Snapshot, file: &Path, report: &mut Report) {
    let Some(dir) = &snapshot.backup.dir else { return };
    let problem = |detail: String| Problem {
        file: file.to_path_buf(),
        line: None,
        key: "backup.dir".to_owned(),
        detail: format!("{}: {detail}", dir.display()),
    };
    for finding in findings(dir, &snapshot.storage.path) {
        match finding {
            Finding::Certain(detail) => report.problems.push(problem(detail)),
            Finding::Possible(detail) => report.warnings.push(problem(detail)),
        }
    }
}

fn findings(dir: &Path, store: &Path) -> Vec<Finding> {
    let place = match place(dir) {
        Ok(place) => place,
        Err(finding) => return vec![finding],
    };
    let mut findings: Vec<Finding> = writable(place).err().into_iter().collect();
    let same = |other: &Path| {
        dir == other || fs::canonicalize(dir).is_ok_and(|dir| fs::canonicalize(other).is_ok_and(|other| dir == other))
    };
    if same(store) {
        let detail =
            "is the store's own directory; write one beside it, or leave backup.dir out: backups/ in storage.path";
        findings.push(Finding::Certain(detail.to_owned()));
    }
    if SWEPT.iter().any(|swept| dir.starts_with(swept)) {
        let detail =
            "is swept by age on most machines; write a directory that is kept, like \"/var/backups/postbackd\"";
        findings.push(Finding::Possible(detail.to_owned()));
    }
    if is_in_memory(place) {
        let detail = "lies in memory and is gone with the next start of the machine; write a directory on a disk";
        findings.push(Finding::Possible(detail.to_owned()));
    }
    if place == dir && fs::metadata(dir).is_ok_and(|meta| meta.mode() & 0o022 != 0) {
        let detail = "others may write into it, and so put another file in the place of a backup; run chmod go-w on it";
        findings.push(Finding::Possible(detail.to_owned()));
    }
    findings
}

/// The directory that must let somebody write: the one that is named, or the parent it is made in.
fn place(dir: &Path) -> Result<&Path, Finding> {
    let certain = |detail: &str| Err(Finding::Certain(detail.to_owned()));
    match fs::metadata(dir) {
        Ok(meta) if meta.is_dir() => return Ok(dir),
        Ok(_) => return certain("is no directory; write one that only the daemon's user may read"),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            return certain("a part of its path is a file; write a directory that only the daemon's user may read");
        }
        Err(error) => {
            return Err(Finding::Possible(format!("this user cannot look at it ({error}); check as the daemon's")));
        }
    }
    match dir.parent().map(|parent| (parent, fs::metadata(parent))) {
        Some((parent, Ok(meta))) if meta.is_dir() => Ok(parent),
        _ => certain("neither it nor its parent exists; make it for the daemon's user, or write one that exists"),
    }
}

fn writable(place: &Path) -> Result<(), Finding> {
    match rustix::fs::access(place, Access::WRITE_OK | Access::EXEC_OK) {
        Ok(()) => Ok(()),
        Err(why) => Err(unwritable(place, why)),
    }
}

fn unwritable(place: &Path, why: Errno) -> Finding {
    let (user, place) = (rustix::process::geteuid().as_raw(), place.display());
    if why == Errno::ROFS {
        return Finding::Certain(format!(
            "the file system of {place} is read-only; mount it for writing, or write a directory on another one"
        ));
    }
    Finding::Possible(format!(
        "this user (uid {user}) may not write to {place}; see that the daemon's may (under systemd: ReadWritePaths={place} in a drop-in)"
    ))
}

fn is_in_memory(place: &Path) -> bool {
    rustix::fs::statfs(place).is_ok_and(|stat| u64::try_from(stat.f_type).is_ok_and(|kind| IN_MEMORY.contains(&kind)))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn told(dir: &Path, store: &Path) -> Vec<(bool, String)> {
        let told = findings(dir, store).into_iter().map(|finding| match finding {
            Finding::Certain(detail) => (true, detail),
            Finding::Possible(detail) => (false, detail),
        });
        // Directories of tests lie where nothing is kept.
        told.filter(|(_, detail)| !detail.contains("swept") && !detail.contains("in memory")).collect()
    }

    #[test]
    fn a_directory_that_is_there_or_can_be_made_is_good_and_every_other_is_told_with_what_to_write() {
        let home = tempfile::tempdir().unwrap();
        let [store, good, file] = ["store", "good", "file"].map(|name| home.path().join(name));
        fs::create_dir(&store).unwrap();
        fs::create_dir(&good).unwrap();
        fs::write(&file, "").unwrap();
        assert_eq!(told(&good, &store), []);
        assert_eq!(told(&home.path().join("new"), &store), [], "its parent is there");
        for (dir, part) in [
            (home.path().join("no/such"), "neither it nor its parent exists"),
            (file.clone(), "is no directory"),
            (file.join("x"), "a part of its path is a file"),
            (store.join("../store"), "is the store's own directory"),
        ] {
            let told = told(&dir, &store);
            assert!(told.len() == 1 && told[0].0 && told[0].1.contains(part), "{}: {told:?}", dir.display());
        }
        fs::set_permissions(&good, fs::Permissions::from_mode(0o777)).unwrap();
        let told = told(&good, &store);
        assert!(told.len() == 1 && !told[0].0 && told[0].1.contains("chmod go-w"), "{told:?}");
    }

    #[test]
    fn what_nobody_can_write_is_certain_and_what_another_user_might_is_not() {
        let dir = Path::new("/var/backups");
        assert!(matches!(unwritable(dir, Errno::ROFS), Finding::Certain(detail) if detail.contains("read-only")));
        assert!(
            matches!(unwritable(dir, Errno::ACCESS), Finding::Possible(detail) if detail.contains("ReadWritePaths"))
        );
        assert!(writable(Path::new("/no/such/directory")).is_err(), "root may write everywhere else");
    }

    #[test]
    fn what_lies_in_memory_or_is_swept_is_no_place_for_a_backup() {
        let parts = |dir: &str| findings(Path::new(dir), Path::new("/nowhere")).len();
        assert!(is_in_memory(Path::new("/dev/shm")) && !is_in_memory(Path::new("/proc")));
        assert_eq!((parts("/tmp/postbackd-backups"), parts("/dev/shm/postbackd-backups")), (1, 1));
    }
}
