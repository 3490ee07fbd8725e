//! A configuration file as an editor may leave it.
//!
//! A file is accepted or refused; refused with a reason, at a line that is in the file, and without a secret in the words.

#![no_main]

use std::cell::OnceCell;
use std::path::PathBuf;

use postbackd::config::checklist::checklist;
use postbackd::config::validate;
use postbackd::domain::time::UnixMs;

thread_local! {
    static FILE: OnceCell<PathBuf> = const { OnceCell::new() };
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    FILE.with(|file| {
        let file = file.get_or_init(|| {
            let dir = std::env::temp_dir().join(format!("postbackd-fuzz-{}", std::process::id()));
            std::fs::create_dir_all(&dir).expect("a temporary directory");
            dir.join("config.toml")
        });
        std::fs::write(file, data).expect("a temporary file");
        match validate::load(file, UnixMs(1_764_000_000_000)) {
            Ok((snapshot, report)) => {
                assert!(report.problems.is_empty());
                checklist(&snapshot);
            }
            Err(report) => {
                assert!(!report.problems.is_empty(), "refused without a reason");
                let lines = data.split(|byte| *byte == b'\n').count();
                for problem in &report.problems {
                    assert!(!problem.detail.is_empty(), "{problem}");
                    assert!(problem.line.is_none_or(|line| (1..=lines).contains(&line)), "{problem}: {lines} lines");
                }
            }
        }
    });
});
