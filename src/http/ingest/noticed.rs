//! What an operator should notice about postbacks that leave no other trace: macros that nobody filled in and statuses
//! that a map ignores, both answered with 200, and senders without a good token. Counted since the start, and logged at
//! each doubling, so that a wrong URL is seen and does not flood the log; the first two are shown on `/status`.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use crate::domain::message::printable;
use crate::domain::name::SourceName;
use crate::http::problem::Problem;

/// What is logged of a name in the path that anybody may have written.
const NAMED_BYTES: usize = 64;

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
    /// Senders that were turned away, by the source they named; `None` are all names that no source has.
    turned_away: Mutex<BTreeMap<Option<SourceName>, u64>>,
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

    /// Counts a sender that named no source of ours, or had not its token. Answers how many there were.
    pub(super) fn turned_away(&self, source: Option<&SourceName>, named: &str, problem: &Problem) -> u64 {
        let count = {
            let mut all = self.turned_away.lock().unwrap_or_else(PoisonError::into_inner);
            let count = all.entry(source.cloned()).or_default();
            *count = count.saturating_add(1);
            *count
        };
        if count.is_power_of_two() {
            let (source, (code, _, detail)) = (printable(named.as_bytes(), NAMED_BYTES), problem.said());
            tracing::warn!(source, code, detail, count, "A postback was turned away.");
        }
        count
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

    #[test]
    fn strangers_are_counted_by_source_and_unknown_names_together() {
        let noticed = Noticed::default();
        let a: SourceName = "a".parse().unwrap();
        let problem = Problem::not_found("no source has the name");
        let counts = ["x", "y", "z"].map(|name| noticed.turned_away(None, name, &problem));
        assert_eq!(counts, [1, 2, 3], "names that anybody invents take no memory each");
        assert_eq!(noticed.turned_away(Some(&a), "a", &problem), 1);
        assert!(noticed.counts().is_empty(), "the status is not for strangers to fill");
    }
}
