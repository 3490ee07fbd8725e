//! The hint that something may have changed: a file watcher that says "look", and nothing more.
//!
//! It is never relied upon: watches are lost where a watched directory is replaced, some file systems tell nothing, and the
//! kernel may have no watches left. Whoever watches also looks by the clock.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};

/// A watcher over some directories, not over what is below them.
#[derive(Debug, Default)]
pub struct Watch {
    watcher: Option<RecommendedWatcher>,
    armed: Vec<(PathBuf, Option<Identity>)>,
}

/// What tells a directory from one that has taken its place.
type Identity = (u64, u64);

impl Watch {
    /// `hint` is called from a thread of the watcher at any event and at any trouble; it must not block. The error says why
    /// nothing can be watched: then everything is seen by looking.
    pub fn new(hint: impl Fn() + Send + 'static) -> (Self, Option<String>) {
        let told = move |event: notify::Result<notify::Event>| {
            // Our own reading is an event too.
            if event.is_ok_and(|event| is_reading(event.kind)) {
                return;
            }
            hint();
        };
        match notify::recommended_watcher(told) {
            Ok(watcher) => (Self { watcher: Some(watcher), armed: Vec::new() }, None),
            Err(error) => (Self { watcher: None, armed: Vec::new() }, Some(error.to_string())),
        }
    }

    /// Watches `directories` from here on. Where any is not the one that is watched, all watches are set anew: one on a
    /// directory that was replaced would see nothing for ever. The number that could not be set is returned.
    pub fn arm(&mut self, directories: impl IntoIterator<Item = PathBuf>) -> usize {
        let Some(watcher) = &mut self.watcher else { return 0 };
        let wanted: Vec<_> = directories.into_iter().map(|directory| (identity(&directory), directory)).collect();
        let is_armed = |(known, of): &(Option<Identity>, PathBuf)| {
            known.is_some() && self.armed.iter().any(|(armed, as_it_was)| armed == of && as_it_was == known)
        };
        if wanted.len() == self.armed.len() && wanted.iter().all(is_armed) {
            return 0;
        }
        for (directory, _) in self.armed.drain(..) {
            // It may be gone, which is why it is set anew.
            drop(watcher.unwatch(&directory));
        }
        let mut failed = 0;
        for (known, directory) in wanted {
            match watcher.watch(&directory, RecursiveMode::NonRecursive) {
                Ok(()) => self.armed.push((directory, known)),
                Err(_) => failed += 1,
            }
        }
        failed
    }
}

fn identity(directory: &Path) -> Option<Identity> {
    std::fs::metadata(directory).ok().map(|meta| (meta.dev(), meta.ino()))
}

fn is_reading(kind: EventKind) -> bool {
    kind.is_access() && kind != EventKind::Access(AccessKind::Close(AccessMode::Write))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_change_in_a_watched_directory_is_a_hint() {
        let dir = tempfile::tempdir().unwrap();
        let (tell, told) = mpsc::channel();
        let (mut watch, trouble) = Watch::new(move || {
            tell.send(()).ok();
        });
        assert_eq!(trouble, None);
        assert_eq!(watch.arm([dir.path().to_path_buf(), dir.path().join("none")]), 1);
        std::fs::write(dir.path().join("c.toml"), "x").unwrap();
        told.recv_timeout(Duration::from_secs(10)).unwrap();
    }

    #[test]
    fn a_directory_that_was_replaced_is_watched_anew() {
        let dir = tempfile::tempdir().unwrap();
        let (watched, old) = (dir.path().join("d"), dir.path().join("old"));
        std::fs::create_dir(&watched).unwrap();
        let (tell, told) = mpsc::channel();
        let (mut watch, _) = Watch::new(move || {
            tell.send(()).ok();
        });
        watch.arm([watched.clone()]);
        // Kept, so that the new one cannot have its number.
        std::fs::rename(&watched, &old).unwrap();
        std::fs::create_dir(&watched).unwrap();
        watch.arm([watched.clone()]);
        while told.recv_timeout(Duration::from_millis(300)).is_ok() {}
        std::fs::write(watched.join("c.toml"), "x").unwrap();
        told.recv_timeout(Duration::from_secs(10)).unwrap();
    }

    #[test]
    fn reading_is_no_hint() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("c.toml");
        std::fs::write(&file, "x").unwrap();
        let (tell, told) = mpsc::channel();
        let (mut watch, _) = Watch::new(move || {
            tell.send(()).ok();
        });
        watch.arm([dir.path().to_path_buf()]);
        std::fs::read(&file).unwrap();
        assert!(told.recv_timeout(Duration::from_millis(300)).is_err(), "a look would cause the next one, for ever");
    }
}
