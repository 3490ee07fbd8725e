//! The table that a bench prints, and the file it leaves: `target/bench/NAME.json`.
//!
//! `--compare FILE` puts the median of such a file beside each figure. Goals stand beside the figures and judge nothing.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::{Value, json};

/// What a figure should be.
#[derive(Debug, Clone, Copy)]
pub enum Goal {
    Below(f64),
    AtLeast(f64),
    None,
}

/// All figures of a run.
#[derive(Debug)]
pub struct Sheet {
    bench: &'static str,
    rounds: usize,
    figures: Vec<Value>,
    before: BTreeMap<String, f64>,
}

impl Sheet {
    /// Prints the head of the table.
    pub fn new(bench: &'static str, rounds: usize) -> Self {
        let mut arguments = std::env::args().skip_while(|argument| argument != "--compare").skip(1);
        let before: BTreeMap<String, f64> = arguments.next().map(|path| medians(&path)).unwrap_or_default();
        let compared = if before.is_empty() { "" } else { "     before" };
        println!("{:<62} {:>10} {:>11}{compared}   range over {rounds} rounds", "figure", "median", "goal");
        Self { bench, rounds, figures: Vec::new(), before }
    }

    /// Adds a figure and prints its line.
    pub fn add(&mut self, what: &str, goal: Goal, values: &[f64]) {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (least, median, most) = (sorted[0], sorted[sorted.len() / 2], sorted[sorted.len() - 1]);
        let (goal_text, reached) = match goal {
            Goal::Below(bound) => (format!("< {bound}"), Some(median < bound)),
            Goal::AtLeast(bound) => (format!(">= {bound}"), Some(median >= bound)),
            Goal::None => (String::new(), None),
        };
        let before = match self.before.get(what) {
            Some(before) => format!(" {before:>10.2}"),
            None if self.before.is_empty() => String::new(),
            None => format!(" {:>10}", "-"),
        };
        println!("{what:<62} {median:>10.2} {goal_text:>11}{before}   {least:.2} – {most:.2}");
        self.figures.push(json!({
            "figure": what, "goal": goal_text, "reached": reached, "median": median, "least": least, "most": most,
        }));
    }

    /// Writes the file.
    pub fn finish(self) {
        let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).with_file_name("bench");
        std::fs::create_dir_all(&directory).expect("a writable target directory");
        let path = directory.join(format!("{}.json", self.bench));
        let whole = json!({ "bench": self.bench, "commit": commit(), "rounds": self.rounds, "figures": self.figures });
        std::fs::write(&path, format!("{whole:#}\n")).expect("a writable target directory");
        println!("written to {}", path.display());
    }
}

fn medians(path: &str) -> BTreeMap<String, f64> {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("--compare {path}: {error}"));
    let whole: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("--compare {path}: {error}"));
    let figures = whole["figures"].as_array().cloned().unwrap_or_default();
    figures
        .iter()
        .filter_map(|figure| Some((figure["figure"].as_str()?.to_owned(), figure["median"].as_f64()?)))
        .collect()
}

/// What was measured, where git knows it.
fn commit() -> Option<String> {
    let output = std::process::Command::new("git").args(["rev-parse", "--short", "HEAD"]).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
