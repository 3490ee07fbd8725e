//! What an operator should notice about postbacks that were answered with 200: macros that nobody filled in, and statuses
//! that a map ignores. Counted per source since the start, shown on `/status`, and logged at each doubling, so that a
//! wrong URL is seen and does not flood the log.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use crate::domain::name::SourceName;

/// Counts of one source since the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub(in crate::http) struct Counts {
    /// Answered with 200 and not stored, because a map says `false`.
    pub(in crate::http) ignored: u64,
    /// Postbacks with at least one macro in place of a value.
    pub(in crate::http) unexpanded: u64,
}

/// Counts of every source that has any.
#[derive(Debug, Default)]
pub(in crate::http) struct Noticed {
    by_source: Mutex<BTreeMap<SourceName, Counts>>,
}

impl Noticed {
    /// Counts a postback whose parameters of these names came as macros.
    pub(super) fn unexpanded(&self, source: &SourceName, names: &[String]) {
        if names.is_empty() {
            return;
        }
        let count = self.add(source, |counts| &mut counts.unexpanded);
        if count.is_power_of_two() {
            tracing::warn!(
                %source, parameters = ?names, count,
                "Parameters came as macros that the network did not fill in; they count as missing: correct the URL there."
            );
        }
    }

    /// Counts a postback that a map ignores.
    pub(super) fn ignored(&self, source: &SourceName) {
        let count = self.add(source, |counts| &mut counts.ignored);
        if count.is_power_of_two() {
            tracing::info!(%source, count, "Postbacks are ignored, as the source's event.map says.");
        }
    }

    pub(in crate::http) fn counts(&self) -> BTreeMap<SourceName, Counts> {
        self.by_source.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn add(&self, source: &SourceName, which: impl FnOnce(&mut Counts) -> &mut u64) -> u64 {
        let mut by_source = self.by_source.lock().unwrap_or_else(PoisonError::into_inner);
        let count = which(by_source.entry(source.clone()).or_default());
        *count = count.saturating_add(1);
        *count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn postbacks_are_counted_once_each_and_by_source() {
        let noticed = Noticed::default();
        let (a, b): (SourceName, SourceName) = ("a".parse().unwrap(), "b".parse().unwrap());
        noticed.unexpanded(&a, &["uid".to_owned(), "sub".to_owned()]);
        noticed.unexpanded(&a, &[]);
        noticed.ignored(&a);
        noticed.ignored(&b);
        let counts = noticed.counts();
        assert_eq!(counts[&a], Counts { ignored: 1, unexpanded: 1 });
        assert_eq!(counts[&b], Counts { ignored: 1, unexpanded: 0 });
    }
}
