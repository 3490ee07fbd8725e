//! What is wrong with a configuration, so that a person can mend it: file, line, key, and what to write instead.

use std::fmt;
use std::path::PathBuf;

/// One thing that is wrong or doubtful.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    pub file: PathBuf,
    /// From 1; `None` where it has no line (a missing key of the whole file).
    pub line: Option<usize>,
    /// Dotted path, as `destinations.meta-eu.retry.first`.
    pub key: String,
    /// What is wrong and what to write instead; never holds a secret.
    pub detail: String,
}

/// All that was found: a configuration with any `problems` is refused, `warnings` are for `check` and the log.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Report {
    pub problems: Vec<Problem>,
    pub warnings: Vec<Problem>,
}

/// `file:line: key: detail`
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if self.key.is_empty() { write!(f, ": {}", self.detail) } else { write!(f, ": {}: {}", self.key, self.detail) }
    }
}
