//! What a configuration was read from: the file, what it includes, the files of its secrets; whether any of it changed, and
//! which directories show it.
//!
//! Changes are told by contents, never by time stamps or events, which only say when to look: an editor may save by renaming, by writing in place or by
//! swapping a symbolic link, and file systems forget to tell.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::files::{self, CONFIG_BYTES, SECRET_BYTES};

/// Symbolic links followed from one path; the kernel itself stops at 40.
const HOPS: usize = 40;

/// Everything that was looked at, whether it could be read or not.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Inputs {
    pub(crate) main: PathBuf,
    /// Patterns of `include` with the directory they start from.
    pub(crate) patterns: BTreeSet<(PathBuf, String)>,
    pub(crate) secrets: BTreeSet<PathBuf>,
}

/// A hash of all contents; compared, never shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Digest([u8; 32]);

/// Compared with others of its kind: where two are alike, hardly anything was written between them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Stamps(Vec<(Option<Stamp>, PathBuf)>);

/// Which file it is, its size, and when it was changed.
type Stamp = [i128; 6];

fn stamp(path: &Path) -> Option<Stamp> {
    let of = fs::metadata(path).ok()?;
    let (dev, ino, size) = (of.dev().into(), of.ino().into(), of.size().into());
    Some([
        dev,
        ino,
        size,
        of.mode().into(),
        nanoseconds(of.mtime(), of.mtime_nsec()),
        nanoseconds(of.ctime(), of.ctime_nsec()),
    ])
}

fn nanoseconds(seconds: i64, rest: i64) -> i128 {
    i128::from(seconds) * 1_000_000_000 + i128::from(rest)
}

impl Inputs {
    pub(crate) fn of(main: &Path) -> Self {
        Self { main: main.to_path_buf(), ..Self::default() }
    }

    /// The contents as they are now. What cannot be read counts by the reason.
    pub fn digest(&self) -> Digest {
        let mut hasher = Sha256::new();
        let mut part = |bytes: &[u8]| {
            hasher.update(u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_be_bytes());
            hasher.update(bytes);
        };
        let mut file = |path: &Path, max: u64| {
            part(path.as_os_str().as_encoded_bytes());
            match files::read(path, max) {
                Ok(contents) => {
                    part(b"mode");
                    part(&contents.mode.to_be_bytes());
                    part(&contents.bytes);
                }
                Err(why) => part(why.as_bytes()),
            }
        };
        file(&self.main, CONFIG_BYTES);
        for (dir, pattern) in &self.patterns {
            for path in files::glob(dir, pattern).unwrap_or_default() {
                file(&path, CONFIG_BYTES);
            }
        }
        for path in &self.secrets {
            file(path, SECRET_BYTES);
        }
        Digest(hasher.finalize().into())
    }

    /// What the file system tells of all of them without their being read.
    pub(crate) fn stamps(&self) -> Stamps {
        let included = self.patterns.iter().flat_map(|(dir, pattern)| files::glob(dir, pattern).unwrap_or_default());
        let paths = std::iter::once(self.main.clone()).chain(included).chain(self.secrets.iter().cloned());
        Stamps(paths.map(|path| (stamp(&path), path)).collect())
    }

    /// The directories in which a change of any input shows: its own, and that of every symbolic link on the way to it.
    pub fn directories(&self) -> BTreeSet<PathBuf> {
        let mut found = BTreeSet::new();
        let included = self.patterns.iter().flat_map(|(dir, pattern)| {
            let parent = dir.join(pattern).parent().map(|parent| parent.join("*"));
            files::glob(dir, pattern).unwrap_or_default().into_iter().chain(parent)
        });
        for path in std::iter::once(self.main.clone()).chain(self.secrets.iter().cloned()).chain(included) {
            follow(&path, &mut found);
        }
        found
    }
}

/// Notes the directory of `path`, and, where `path` or a directory above it is a symbolic link, those of the link and of
/// where it leads.
fn follow(path: &Path, found: &mut BTreeSet<PathBuf>) {
    let Ok(mut path) = std::path::absolute(path) else { return };
    for _ in 0..HOPS {
        if let Some(parent) = path.parent() {
            found.insert(parent.to_path_buf());
        }
        let link =
            path.ancestors().find_map(|part| fs::read_link(part).ok().map(|target| (part.to_path_buf(), target)));
        let Some((link, target)) = link else { return };
        let above = link.parent().unwrap_or(Path::new("/"));
        found.insert(above.to_path_buf());
        let rest = path.strip_prefix(&link).unwrap_or(Path::new("")).to_path_buf();
        let target = above.join(target);
        path = if rest.as_os_str().is_empty() { target } else { target.join(rest) };
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn any_change_of_contents_is_seen_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let write = |name: &str, text: &str| fs::write(at(name), text).unwrap();
        let mut inputs = Inputs::of(&at("c.toml"));
        inputs.patterns.insert((dir.path().to_path_buf(), "d/*.toml".to_owned()));
        inputs.secrets.insert(at("secret"));
        let mut seen = vec![inputs.digest()];
        assert_eq!(seen[0], inputs.digest());
        fs::create_dir(at("d")).unwrap();
        for (name, text) in [
            ("c.toml", "a"),
            ("c.toml", "b"),
            ("d/x.toml", "x"),
            ("d/x.toml", "y"),
            ("d/w.toml", ""),
            ("secret", "1"),
            ("secret", "2"),
        ] {
            write(name, text);
            let now = inputs.digest();
            assert!(!seen.contains(&now), "{name} = {text} was not seen");
            seen.push(now);
        }
        write("other.toml", "z");
        write("secret", "2");
        assert_eq!(Some(&inputs.digest()), seen.last(), "the same contents are the same");
        fs::remove_file(at("c.toml")).unwrap();
        assert!(!seen.contains(&inputs.digest()), "a vanished file is a change");
    }

    #[test]
    fn every_hop_of_a_symbolic_link_is_watched() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        for name in ["releases/1", "etc", "elsewhere"] {
            fs::create_dir_all(root.join(name)).unwrap();
        }
        fs::write(root.join("elsewhere/c.toml"), "").unwrap();
        symlink("../../elsewhere/c.toml", root.join("releases/1/c.toml")).unwrap();
        symlink("releases/1", root.join("current")).unwrap();
        let found = Inputs::of(&root.join("current/c.toml")).directories();
        for wanted in ["current", "releases/1", "", "elsewhere"] {
            let wanted = root.join(wanted);
            let is_watched = found.iter().any(|dir| dir.canonicalize().ok() == wanted.canonicalize().ok());
            assert!(is_watched, "{} of {found:?}", wanted.display());
        }
        symlink("loop", root.join("loop")).unwrap();
        assert!(!Inputs::of(&root.join("loop")).directories().is_empty(), "a loop ends");
    }
}
