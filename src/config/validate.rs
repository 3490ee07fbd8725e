//! From a path to a [`Snapshot`], or to everything that is wrong.
//!
//! One pass: read the files, join them into one tree, read every section of it, and only then decide. Nothing here starts
//! or changes anything: a refused configuration leaves no trace.

#[cfg(test)]
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::files::{self, CONFIG_BYTES};
#[cfg(test)]
use super::findings::Build;
use super::findings::Reading;
use super::inputs::Inputs;
use super::problem::Report;
use super::raw::{self, Node, Place, Table, Value};
use super::retry::{self, Retry};
use super::section::Section;
use super::snapshot::Snapshot;
use super::{alerts, backup, destinations, server, sources};
use crate::destination::registry;
use crate::domain::money::Currency;
use crate::domain::retry::RetryPolicy;
use crate::domain::time::UnixMs;

/// Reads, validates and builds the configuration at `path` (with its `include`s): the snapshot and its warnings, or all
/// problems at once.
pub fn load(path: &Path, now: UnixMs) -> Result<(Snapshot, Report), Report> {
    load_watched(path, now).0
}

/// [`load`] with what was read for it, whether it was refused or not.
pub fn load_watched(path: &Path, now: UnixMs) -> (Result<(Snapshot, Report), Report>, Inputs) {
    let variable = |name: &str| std::env::var_os(name);
    let dir = directory(path);
    let build = |spec| registry::build(spec);
    let mut cx = Reading::new(now, &dir, &variable, &build);
    (judged(path, &mut cx), std::mem::take(&mut cx.inputs))
}

/// [`load`] with the environment and the builder of adapters as arguments.
#[cfg(test)]
pub(crate) fn load_with(
    path: &Path,
    now: UnixMs,
    variable: &dyn Fn(&str) -> Option<OsString>,
    build: Build<'_>,
) -> Result<(Snapshot, Report), Report> {
    let dir = directory(path);
    judged(path, &mut Reading::new(now, &dir, variable, build))
}

fn judged(path: &Path, cx: &mut Reading<'_>) -> Result<(Snapshot, Report), Report> {
    let snapshot = load_into(path, cx);
    let report = cx.finish();
    match snapshot {
        Some(snapshot) if report.problems.is_empty() => Ok((snapshot, report)),
        Some(_) | None => Err(report),
    }
}

/// `None` where a problem keeps the sections from being read at all.
pub(crate) fn load_into(path: &Path, cx: &mut Reading<'_>) -> Option<Snapshot> {
    cx.inputs = Inputs::of(path);
    let mut files = Files { hash: Sha256::new(), read: Vec::new() };
    let tree = files.tree(path, cx)?;
    let hash = files
        .hash
        .finalize()
        .first_chunk()
        .map_or_else(String::new, |head| format!("{:016x}", u64::from_be_bytes(*head)));
    let snapshot = sections(&tree, path, hash, cx);
    for (file, mode) in &files.read {
        if mode & 0o044 != 0 && cx.holds_plain_secrets(file) {
            let detail = format!(
                "holds secrets in plain text and may be read by other users (mode {mode:o}); \
                 run chmod 600 on it, or keep them elsewhere with {{ env = … }}, {{ file = … }} or {{ credential = … }}"
            );
            cx.warn(&Place::whole(file), "", detail);
        }
    }
    snapshot
}

/// Where relative paths of the configuration start.
fn directory(path: &Path) -> PathBuf {
    match path.parent() {
        Some(dir) if dir != Path::new("") => dir.to_path_buf(),
        Some(_) | None => PathBuf::from("."),
    }
}

/// The files of a configuration as they are read.
struct Files {
    hash: Sha256,
    /// Each file with its permission bits, in the order of reading.
    read: Vec<(PathBuf, u32)>,
}

impl Files {
    /// The main file joined with what it includes; `None` where any of them is no TOML: what is missing then cannot be
    /// judged.
    fn tree(&mut self, path: &Path, cx: &mut Reading<'_>) -> Option<Table> {
        let mut tree = self.one(path, "", cx)?;
        if tree.entries.is_empty() {
            let detail = "is empty; write a configuration (config.example.toml shows every key)";
            cx.problem(&Place::whole(path), "", detail);
            return None;
        }
        let mut whole = true;
        for (file, name, at) in included(&tree, cx) {
            if file == path || self.read.iter().any(|(known, _)| *known == file) {
                continue;
            }
            let Some(part) = self.one(&file, &name, cx) else {
                whole = false;
                continue;
            };
            if let Some(node) = part.get("include") {
                cx.problem(
                    &node.at,
                    "include",
                    format!("stands in an included file; move it to {}", at.file.display()),
                );
            }
            let entries = part.entries.into_iter().filter(|entry| entry.key != "include").collect();
            cx.extend(tree.join(Table { entries }));
        }
        whole.then_some(tree)
    }

    fn one(&mut self, path: &Path, name: &str, cx: &mut Reading<'_>) -> Option<Table> {
        let whole = Place::whole(path);
        let contents =
            files::read(path, CONFIG_BYTES).map_err(|why| cx.problem(&whole, "", format!("the file {why}"))).ok()?;
        self.read.push((path.to_path_buf(), contents.mode));
        for part in [name.as_bytes(), contents.bytes.as_slice()] {
            self.hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            self.hash.update(part);
        }
        let text = match String::from_utf8(contents.bytes) {
            Ok(text) => text,
            Err(error) => {
                let good = error.as_bytes().get(..error.utf8_error().valid_up_to()).unwrap_or_default();
                let line = good.split(|byte| *byte == b'\n').count();
                cx.problem(&Place { line: Some(line), ..whole }, "", "is not UTF-8; save the file as UTF-8 text");
                return None;
            }
        };
        raw::parse(&text, path).map_err(|problem| cx.extend([problem])).ok()
    }
}

/// The files of `include`, with their names relative to the configuration and the place that names them.
fn included(tree: &Table, cx: &mut Reading<'_>) -> Vec<(PathBuf, String, Place)> {
    let Some(node) = tree.get("include") else { return Vec::new() };
    let Value::List(items) = &node.value else {
        cx.wrong_type(&node.at, "include", &node.value, "a list of patterns, like [\"destinations.d/*.toml\"]");
        return Vec::new();
    };
    let mut files = Vec::new();
    for (index, Node { at, value }) in items.iter().enumerate() {
        let key = format!("include[{index}]");
        let Value::Text(pattern) = value else {
            cx.wrong_type(at, key, value, "a pattern in quotes, like \"destinations.d/*.toml\"");
            continue;
        };
        cx.inputs.patterns.insert((cx.dir.to_path_buf(), pattern.clone()));
        match files::glob(cx.dir, pattern) {
            Ok(found) if found.is_empty() => cx.warn(at, key, "matches no file"),
            Ok(found) => files.extend(found.into_iter().map(|file| {
                let name = file.strip_prefix(cx.dir).unwrap_or(&file).to_string_lossy().into_owned();
                (file, name, at.clone())
            })),
            Err(why) => cx.problem(at, key, why),
        }
    }
    files
}

/// Reads every section, so that all problems are found whatever is wrong.
fn sections(tree: &Table, path: &Path, hash: String, cx: &mut Reading<'_>) -> Option<Snapshot> {
    let usd = "USD".parse::<Currency>().ok()?;
    let mut root = Section::new(tree, String::new(), Place::whole(path));
    root.node("include", cx);
    let server = server::server(&mut root, cx);
    let storage = server::storage(&mut root, cx);
    let retention = server::retention(&mut root, cx);
    let backup = backup::read(&mut root, cx);
    let default_currency = server::ingest(&mut root, usd, cx);
    let base = Retry { policy: RetryPolicy::default(), give_up_at: None };
    let retry = retry::read(&mut root, &base, cx);
    let sources = sources::read(&mut root, server.admin_token.as_ref(), cx);
    let world = destinations::World { listen: &server.listen, sources: &sources.names, retry: &retry };
    let destinations = destinations::read(&mut root, &world, cx);
    let alerts = alerts::read(&mut root, &server.listen, &sources.names, cx);
    root.finish(cx);
    let sources = sources.by_name;
    Some(Snapshot {
        hash,
        loaded_at: cx.now,
        server,
        storage,
        retention,
        backup,
        default_currency,
        sources,
        destinations,
        alerts,
    })
}
