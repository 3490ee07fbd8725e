//! What reading a configuration needs besides the text (surroundings) and what it leaves behind (findings).

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::inputs::Inputs;
use super::problem::{Problem, Report};
use super::raw::{Place, Value};
use crate::destination::Adapter;
use crate::destination::registry::{Spec, SpecError};
use crate::domain::message::printable;
use crate::domain::time::UnixMs;

/// How a validated spec becomes an adapter: [`crate::destination::registry::build`], or a stand-in of a test.
pub(crate) type Build<'a> = &'a dyn Fn(Spec) -> Result<Box<dyn Adapter>, Vec<SpecError>>;

/// Carried through the whole reading: everything that is not in the text, and every finding so far.
pub(crate) struct Reading<'a> {
    pub(crate) now: UnixMs,
    /// Relative paths in the configuration start here.
    pub(crate) dir: &'a Path,
    /// Looks up an environment variable.
    pub(crate) variable: &'a dyn Fn(&str) -> Option<OsString>,
    pub(crate) build: Build<'a>,
    report: Report,
    /// Files that hold a secret in plain text.
    plain: BTreeSet<PathBuf>,
    /// What was read, or would have been.
    pub(crate) inputs: Inputs,
    /// Every key any reader asked for.
    #[cfg(test)]
    pub(crate) asked: BTreeSet<&'static str>,
}

impl<'a> Reading<'a> {
    pub(crate) fn new(
        now: UnixMs,
        dir: &'a Path,
        variable: &'a dyn Fn(&str) -> Option<OsString>,
        build: Build<'a>,
    ) -> Self {
        Self {
            now,
            dir,
            variable,
            build,
            report: Report::default(),
            plain: BTreeSet::new(),
            inputs: Inputs::default(),
            #[cfg(test)]
            asked: BTreeSet::new(),
        }
    }

    /// A path of the configuration that is told to people, who need not stand where the daemon does.
    pub(crate) fn placed(&self, path: &Path) -> PathBuf {
        let path = self.dir.join(path);
        std::path::absolute(&path).unwrap_or(path)
    }

    pub(crate) fn problem(&mut self, at: &Place, key: impl Into<String>, detail: impl Into<String>) {
        self.report.problems.push(at.problem(key, detail));
    }

    pub(crate) fn warn(&mut self, at: &Place, key: impl Into<String>, detail: impl Into<String>) {
        self.report.warnings.push(at.problem(key, detail));
    }

    pub(crate) fn extend(&mut self, problems: impl IntoIterator<Item = Problem>) {
        self.report.problems.extend(problems);
    }

    /// A value of another type than was wanted; `wanted` says what to write.
    pub(crate) fn wrong_type(&mut self, at: &Place, key: impl Into<String>, value: &Value, wanted: &str) {
        self.problem(at, key, format!("is {}; write {wanted}", value.what()));
    }

    /// Notes that `file` holds a secret in plain text.
    pub(crate) fn plain_secret(&mut self, file: &Arc<Path>) {
        self.plain.insert(PathBuf::from(&**file));
    }

    pub(crate) fn holds_plain_secrets(&self, file: &Path) -> bool {
        self.plain.contains(file)
    }

    /// All findings in the order of the files.
    pub(crate) fn finish(&mut self) -> Report {
        let mut report = std::mem::take(&mut self.report);
        for list in [&mut report.problems, &mut report.warnings] {
            list.sort_by(|a, b| (&a.file, a.line, &a.key).cmp(&(&b.file, b.line, &b.key)));
            list.dedup();
        }
        report
    }
}

/// A value of the configuration as an error text may show it.
pub(crate) fn shown(text: &str) -> String {
    format!("\"{}\"", printable(text.as_bytes(), 80).replace('\n', "\u{FFFD}"))
}

/// The known word that was probably meant.
pub(crate) fn nearest<'k>(given: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let given = given.to_ascii_lowercase().replace('-', "_");
    known
        .into_iter()
        .map(|word| (strsim::damerau_levenshtein(&given, &word.to_ascii_lowercase().replace('-', "_")), word))
        .filter(|(distance, word)| *distance <= 1 + word.len() / 5)
        .min()
        .map(|(_, word)| word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_near_words_are_suggested() {
        assert_eq!(nearest("time_out", ["timeout", "url"]), Some("timeout"));
        assert_eq!(nearest("Batch-Wait", ["batch", "batch_wait"]), Some("batch_wait"));
        assert_eq!(nearest("color", ["timeout", "url"]), None);
    }
}
