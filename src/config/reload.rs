//! Reading the configuration again while the daemon runs: whether there is anything to read, what came of it, and what is
//! to be told about it.

use std::path::PathBuf;

use super::diff::Changes;
use super::inputs::{Digest, Inputs};
use super::problem::Report;
use super::snapshot::Snapshot;
use super::validate;
use crate::domain::time::UnixMs;

/// Readings of one look at most; each is needed only where the files changed during the one before.
const READINGS: usize = 5;

/// The files of the running configuration, and what they held when they were last looked at.
#[derive(Debug)]
pub struct Reloader {
    path: PathBuf,
    inputs: Inputs,
    /// `None`: never looked at, or to be looked at again whatever they hold.
    seen: Option<Digest>,
}

/// How a reload ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The configuration is in force.
    Applied { hash: String, changes: Changes, warnings: usize },
    /// It is not, and the one before goes on.
    Refused(Report),
    /// It is good and could not be taken over now, by our own fault; it is tried again soon.
    Postponed(String),
}

impl Outcome {
    /// In one line, without anything that stands in the files.
    pub fn summary(&self) -> String {
        match self {
            Self::Applied { hash, changes, .. } => {
                let (added, changed, removed) = (changes.added.len(), changes.changed.len(), changes.removed.len());
                format!("{hash} is in force: destinations {added} added, {changed} changed, {removed} removed")
            }
            Self::Refused(report) => format!("refused, {} problems", report.problems.len()),
            Self::Postponed(_) => "postponed".to_owned(),
        }
    }
}

/// What there is to say about the configuration beside the running snapshot.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Standing {
    /// Why the files as they are now were refused, and when.
    pub refused: Option<(UnixMs, Report)>,
    /// Keys whose new value waits for a restart.
    pub needs_restart: Vec<&'static str>,
    /// The last reload that changed destinations, and when: whoever asks for one may find that it was seen already.
    pub last_change: Option<(UnixMs, Changes)>,
}

impl Reloader {
    pub fn new(path: PathBuf) -> Self {
        Self { inputs: Inputs::of(&path), path, seen: None }
    }

    /// What the files hold now, where that is not what was last seen.
    pub fn unseen(&self) -> Option<Digest> {
        let now = self.inputs.digest();
        (self.seen != Some(now)).then_some(now)
    }

    /// Reads and validates. What was read is what will not be looked at again, whether it was good or not.
    pub fn read(&mut self, now: UnixMs) -> Result<(Snapshot, Report), Report> {
        let mut left = READINGS;
        loop {
            let before = self.inputs.digest();
            let (read, inputs) = validate::load_watched(&self.path, now);
            let settled = inputs == self.inputs && inputs.digest() == before;
            self.inputs = inputs;
            left -= 1;
            if settled || left == 0 {
                // What changed under the last reading will be seen as new.
                self.seen = settled.then_some(before);
                return read;
            }
        }
    }

    /// Looks again at the next occasion, whatever the files hold.
    pub fn forget(&mut self) {
        self.seen = None;
    }

    pub fn inputs(&self) -> &Inputs {
        &self.inputs
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const NOW: UnixMs = UnixMs(1_764_000_000_000);
    const GOOD: &str = "include = [\"d/*.toml\"]\n[sources.app]\ntoken = { file = \"token\" }\n";

    fn reloader() -> (tempfile::TempDir, Reloader) {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("c.toml"), GOOD).unwrap();
        fs::write(dir.path().join("token"), "one").unwrap();
        let reloader = Reloader::new(dir.path().join("c.toml"));
        (dir, reloader)
    }

    #[test]
    fn what_was_read_is_not_new_until_it_changes() {
        let (dir, mut reloader) = reloader();
        assert!(reloader.unseen().is_some(), "nothing was read yet");
        reloader.read(NOW).unwrap();
        assert!(reloader.unseen().is_none());
        fs::write(dir.path().join("token"), "two").unwrap();
        assert!(reloader.unseen().is_some(), "a secret was rotated");
        reloader.read(NOW).unwrap();
        fs::create_dir(dir.path().join("d")).unwrap();
        assert!(reloader.unseen().is_none());
        fs::write(dir.path().join("d/x.toml"), "[sources.other]\ntoken = \"t\"\n").unwrap();
        assert!(reloader.unseen().is_some(), "a file to include appeared");
        let (snapshot, _) = reloader.read(NOW).unwrap();
        assert_eq!(snapshot.sources.len(), 2);
        reloader.forget();
        assert!(reloader.unseen().is_some());
    }

    #[test]
    fn a_refused_file_is_not_read_again_and_again_and_a_mended_one_is() {
        let (dir, mut reloader) = reloader();
        fs::write(dir.path().join("c.toml"), "[sources.app\n").unwrap();
        assert!(reloader.read(NOW).is_err());
        assert!(reloader.unseen().is_none(), "the same refusal again helps nobody");
        fs::remove_file(dir.path().join("c.toml")).unwrap();
        assert!(reloader.unseen().is_some());
        assert!(reloader.read(NOW).is_err());
        fs::write(dir.path().join("c.toml"), GOOD).unwrap();
        assert!(reloader.unseen().is_some());
        reloader.read(NOW).unwrap();
    }
}
