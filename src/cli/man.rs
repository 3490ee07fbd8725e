//! `postbackd man DIR`: the manual pages, one for each verb, made from what `--help` says. For those who build packages.

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::CommandFactory as _;

use super::args::Cli;
use super::out;

/// Writes `postbackd.1`, `postbackd-status.1` and so on into `dir`, which is made if it is missing.
pub fn man(dir: &Path) -> anyhow::Result<ExitCode> {
    fs::create_dir_all(dir).with_context(|| format!("{} cannot be made", dir.display()))?;
    clap_mangen::generate_to(Cli::command(), dir).with_context(|| format!("{} cannot be written", dir.display()))?;
    out::note(&format!("the manual pages are in {}", dir.display()));
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verb_that_the_help_shows_has_its_page() {
        let dir = tempfile::tempdir().unwrap();
        let pages = dir.path().join("man");
        man(&pages).unwrap();
        let text = |name: &str| fs::read_to_string(pages.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        for verb in Cli::command().get_subcommands().filter(|verb| !verb.is_hide_set()) {
            let page = text(&format!("postbackd-{}.1", verb.get_name()));
            assert!(page.contains(".SH NAME") && page.contains(".TH"), "{page}");
        }
        let first = text("postbackd.1");
        assert!(first.contains("POSTBACKD_LOG") && first.contains("postbackd\\-status(1)"), "{first}");
        assert!(text("postbackd-dlq-replay.1").contains("Deliver dead deliveries again"));
        assert!(!pages.join("postbackd-man.1").exists(), "what is hidden has none");
    }
}
