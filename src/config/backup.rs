//! `[backup]`: backups that the daemon takes by itself.

use std::path::{Path, PathBuf};

use super::findings::Reading;
use super::section::{Section, Whole};
use super::server::or_never;
use crate::domain::time::DurationMs;

/// Oftener would leave no time for anything else.
const EVERY_MIN: DurationMs = DurationMs::from_secs(1);
const KEEP_MAX: u64 = 10_000;

/// `[backup]`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Backup {
    /// `None` is `"never"`: only who asks gets one.
    pub every: Option<DurationMs>,
    /// `None`: `backups` in the store's directory.
    pub dir: Option<PathBuf>,
    /// How many of those taken by itself stay; at least one.
    pub keep: usize,
}

impl Default for Backup {
    fn default() -> Self {
        Self { every: None, dir: None, keep: 7 }
    }
}

/// `[backup]`
pub(crate) fn read(root: &mut Section<'_>, cx: &mut Reading<'_>) -> Backup {
    let mut section = root.section("backup", cx);
    let every = or_never(&mut section, "every", None, cx);
    if let Some(every) = every.filter(|every| *every < EVERY_MIN) {
        let detail =
            format!("{every} is too short for a backup; write \"{EVERY_MIN}\" or more, as \"1d\", or \"never\"");
        cx.problem(&section.place("every"), section.key("every"), detail);
    }
    let dir = section.text("dir", cx).map(|dir| cx.placed(Path::new(dir)));
    let usual = u64::try_from(Backup::default().keep).unwrap_or(1);
    let keep = section.whole("keep", &Whole { bounds: 1..=KEEP_MAX, default: usual }, cx);
    section.finish(cx);
    Backup { every, dir, keep: usize::try_from(keep).unwrap_or(usize::MAX) }
}
