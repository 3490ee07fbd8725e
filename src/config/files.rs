//! Reading the files of a configuration: regular files only, bounded, never waiting on a FIFO; and the globs of `include`.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

/// Bytes of one configuration file: far above any real one.
pub(crate) const CONFIG_BYTES: u64 = 1024 * 1024;
/// Bytes of a secret's file.
pub(crate) const SECRET_BYTES: u64 = 64 * 1024;
/// Files one `include` may bring in.
const INCLUDED_FILES: usize = 1000;

/// What a file held.
pub(crate) struct Contents {
    pub(crate) bytes: Vec<u8>,
    /// Permission bits, as in `chmod`.
    pub(crate) mode: u32,
}

/// Reads a regular file of at most `max` bytes; the error says what is wrong and what to do, without the path.
pub(crate) fn read(path: &Path, max: u64) -> Result<Contents, String> {
    // Without NONBLOCK, opening a FIFO that nobody writes to would wait for ever.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty()).map_err(why)?);
    let meta = file.metadata().map_err(|error| format!("cannot be read: {error}"))?;
    if meta.is_dir() {
        return Err("is a directory; name a file".to_owned());
    }
    if !meta.is_file() {
        return Err("is not a regular file; name a regular file".to_owned());
    }
    let mut bytes = Vec::new();
    file.take(max.saturating_add(1)).read_to_end(&mut bytes).map_err(|error| format!("cannot be read: {error}"))?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > max {
        return Err(format!("is larger than {} KiB; is it the right file?", max / 1024));
    }
    Ok(Contents { bytes, mode: meta.mode() & 0o777 })
}

fn why(error: Errno) -> String {
    match error {
        Errno::NOENT => "does not exist; create it or name another file".to_owned(),
        Errno::NOTDIR => "does not exist: a part of its path is a file, not a directory".to_owned(),
        Errno::ACCESS | Errno::PERM => {
            "may not be read by this user; run as the user that owns it or change its permissions".to_owned()
        }
        Errno::LOOP => "is a chain of symbolic links without end; point it at a file".to_owned(),
        other => format!("cannot be opened: {}", std::io::Error::from(other)),
    }
}

/// Files that match `pattern` (relative to `dir`), sorted by name. `*` and `?` stand in the last component only, and, as in
/// a shell, do not match names that start with a dot. A pattern without them is that file, whether it exists or not.
pub(crate) fn glob(dir: &Path, pattern: &str) -> Result<Vec<PathBuf>, String> {
    let path = dir.join(pattern);
    let wild = |text: &str| text.contains(['*', '?', '[']);
    let Some(Component::Normal(name)) = path.components().next_back() else {
        return Err("names no file; write a pattern like \"destinations.d/*.toml\"".to_owned());
    };
    let (name, parent) = (name.to_string_lossy().into_owned(), path.parent().unwrap_or(dir).to_path_buf());
    let above = Path::new(pattern).parent().map(|above| above.to_string_lossy().into_owned()).unwrap_or_default();
    if wild(&above) || name.contains("**") || name.contains('[') {
        return Err("may have * and ? in the file name only; write a pattern like \"destinations.d/*.toml\"".to_owned());
    }
    if !wild(&name) {
        return Ok(vec![path]);
    }
    let entries = match std::fs::read_dir(&parent) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(format!("its directory cannot be read: {error}")),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| format!("its directory cannot be read: {error}"))?;
        let file = entry.file_name().to_string_lossy().into_owned();
        if !file.starts_with('.') && matches(&name, &file) {
            found.push(parent.join(entry.file_name()));
        }
    }
    if found.len() > INCLUDED_FILES {
        return Err(format!("matches {} files; at most {INCLUDED_FILES} can be included", found.len()));
    }
    found.sort();
    Ok(found)
}

/// Whether `text` as a whole matches `pattern` of `*` (any run) and `?` (any one character): the greedy match that goes
/// back to the last `*` only, so its cost is at most the product of both lengths.
fn matches(pattern: &str, text: &str) -> bool {
    let (mut want, mut have) = (pattern.chars(), text.chars());
    let mut back: Option<(std::str::Chars<'_>, std::str::Chars<'_>)> = None;
    loop {
        let have_before = have.clone();
        match (want.next(), have.next()) {
            (None, None) => return true,
            (Some('*'), _) => {
                have = have_before.clone();
                back = Some((want.clone(), have_before));
            }
            (Some('?'), Some(_)) => {}
            (Some(a), Some(b)) if a == b => {}
            _ => {
                let Some((after_star, mut from)) = back.take() else { return false };
                if from.next().is_none() {
                    return false;
                }
                want = after_star.clone();
                have = from.clone();
                back = Some((after_star, from));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_match_as_in_a_shell() {
        for (pattern, text, wanted) in [
            ("*.toml", "a.toml", true),
            ("*.toml", "a.toml.bak", false),
            ("*", "", true),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbYbZ", false),
            ("??.toml", "ab.toml", true),
            ("??.toml", "a.toml", false),
            ("x", "x", true),
            ("x", "xy", false),
            ("*a", "bab", false),
        ] {
            assert_eq!(matches(pattern, text), wanted, "{pattern} {text}");
        }
    }

    #[test]
    fn a_glob_is_sorted_and_leaves_hidden_files_alone() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b.toml", "a.toml", ".c.toml", "d.toml~"] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        let found = glob(dir.path(), "*.toml").unwrap();
        assert_eq!(found, [dir.path().join("a.toml"), dir.path().join("b.toml")]);
        assert_eq!(glob(dir.path(), "none/*.toml").unwrap(), Vec::<PathBuf>::new());
        assert_eq!(glob(dir.path(), "x.toml").unwrap(), [dir.path().join("x.toml")]);
        assert!(glob(dir.path(), "*/x.toml").is_err());
        assert!(glob(dir.path(), "..").is_err());
    }

    #[test]
    fn only_regular_files_of_bounded_size_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("f");
        std::fs::write(&file, "12345").unwrap();
        assert!(read(&file, 5).is_ok_and(|contents| contents.bytes == b"12345"));
        assert!(read(&file, 4).is_err());
        assert!(read(dir.path(), 5).is_err_and(|why| why.contains("directory")));
        assert!(read(&dir.path().join("none"), 5).is_err_and(|why| why.contains("does not exist")));
        let fifo = dir.path().join("fifo");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        assert!(read(&fifo, 5).is_err_and(|why| why.contains("regular file")));
    }
}
