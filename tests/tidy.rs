//! The house rules that the compiler does not know, as one table checked over every source file.
//!
//! Imports point down only: a folder may name itself and what its row lists. Some words belong to one place. Files have
//! a module doc and a bounded length, and nothing unfinished. A breach is told as `file:line: what to do instead`.

#![allow(
    clippy::unwrap_used,
    clippy::string_slice,
    clippy::print_stdout,
    reason = "a check that cannot read the sources has to fail"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

/// A folder (or file) of `src`, and the folders it may name as `crate::x`. Folders of one layer do not name each other.
const LAYERS: &[(&str, &[&str])] = &[
    ("domain", &[]),
    ("env", &["domain"]),
    ("destination", &["domain", "env"]),
    ("telemetry", &["domain"]),
    ("inbound", &["domain"]),
    ("config", &["domain", "env", "destination", "telemetry", "inbound"]),
    ("store", &["domain", "env", "destination", "telemetry"]),
    ("pipeline", &["domain", "env", "destination", "telemetry", "config", "store"]),
    ("egress", &["domain", "env", "destination", "telemetry", "config", "store"]),
    ("alerts", &["domain", "env", "telemetry", "config"]),
    (
        "http",
        &["domain", "env", "destination", "telemetry", "inbound", "config", "store", "pipeline", "egress", "alerts"],
    ),
    ("cli", &["domain", "env", "destination", "telemetry", "config", "store", "pipeline", "egress", "alerts"]),
    (
        "app",
        &[
            "domain",
            "env",
            "destination",
            "telemetry",
            "config",
            "store",
            "pipeline",
            "egress",
            "alerts",
            "http",
            "cli",
        ],
    ),
    ("main", &[]),
    ("lib", &[]),
];

/// A word that only some places may use; a place is a path below `src` or the start of one.
struct Word {
    text: &'static str,
    only: &'static [&'static str],
    instead: &'static str,
}

const WORDS: &[Word] = &[
    Word { text: "SystemTime", only: &["env/clock.rs"], instead: "ask env::clock::Clock" },
    Word { text: "Instant", only: &["env/clock.rs"], instead: "ask env::clock::Clock" },
    Word { text: "reqwest", only: &["egress/"], instead: "go through env::transport or egress::api_client" },
    Word { text: "lettre", only: &["egress/mail.rs"], instead: "go through env::courier" },
    Word { text: "redb", only: &["store/"], instead: "go through store::Store" },
    Word { text: "bincode", only: &["store/row.rs"], instead: "encode rows in store/row.rs" },
    Word {
        text: "notify",
        only: &["config/watch.rs", "app.rs", "app/"],
        instead: "put file watching into config/watch.rs",
    },
    Word {
        text: "prometheus_client",
        only: &["telemetry/metrics.rs", "http/metrics.rs"],
        instead: "count in telemetry/metrics.rs",
    },
    Word { text: "listenfd", only: &["app/"], instead: "take over passed sockets in app/listen.rs" },
    Word { text: "axum", only: &["http/", "http.rs"], instead: "put it into http" },
    Word { text: "hyper", only: &["http/", "cli/sink/", "egress/error.rs"], instead: "put it into http, or cli/sink" },
    Word { text: "hyper_util", only: &["http/", "cli/sink/"], instead: "put it into http, or cli/sink" },
];

/// Places of pure rules: no waiting, no runtime.
const PURE: &[&str] = &[
    "domain/",
    "destination/",
    "inbound/",
    "pipeline/scheduler",
    "pipeline/settle",
    "pipeline/halves",
    "pipeline/wheel",
    "pipeline/lane",
    "pipeline/gate",
    "pipeline/control",
    "pipeline/fanout",
    "alerts/vitals",
    "alerts/watcher",
    "alerts/destination",
    "alerts/rhythm",
    "alerts/book",
    "alerts/ending",
    "alerts/answer",
    "alerts/message",
];
const PURE_WITHOUT: &[&str] = &["async", "await", "tokio"];

/// Macros and attributes that mean "later". Written in two parts, so that this file does not accuse itself.
const UNFINISHED: &[&str] = &[concat!("todo", "!("), concat!("unimplemented", "!("), concat!("#[", "ignore")];

const LINES_MAX: usize = 600;

/// Rows of the catalogue of failures. Each is named above at least one test as `// Row 35.` or `// Rows 35, 37 and 41: …`.
const ROWS: RangeInclusive<u32> = 1..=82;

/// Rows that no test can show here, and why. One that has a test is taken out.
const WITHOUT_TEST: &[(u32, &str)] = &[(
    25,
    "killing for want of memory is SIGKILL (row 21), which the kernel decides on; the bounds that make it unlikely are held by rows 55 and 77",
)];

/// Rows that still want a test.
const AWAITED: &[u32] = &[];

/// A file below `src` or `tests`.
struct Source {
    /// With `/`, below its root.
    path: String,
    text: String,
}

#[test]
fn imports_point_down() {
    let known: Vec<&str> = LAYERS.iter().map(|(name, _)| *name).collect();
    let mut breaches = Vec::new();
    for file in sources("src") {
        let room = room_of(&file.path);
        let Some((_, allowed)) = LAYERS.iter().find(|(name, _)| *name == room) else {
            breaches
                .push(format!("src/{}: \"{room}\" stands in no layer; add it to LAYERS in tests/tidy.rs", file.path));
            continue;
        };
        for (number, line) in code_lines(&file.text) {
            for named in crate_paths(line) {
                if known.contains(&named) && named != room && !allowed.contains(&named) {
                    breaches.push(format!("src/{}:{number}: {room} may not name crate::{named}", file.path));
                }
            }
        }
    }
    assert_none(&breaches);
}

#[test]
fn some_words_belong_to_one_place() {
    let mut breaches = Vec::new();
    for file in sources("src") {
        for (number, line) in code_lines(&file.text) {
            for word in WORDS {
                let at_home = word.only.iter().any(|home| file.path.starts_with(home));
                if !at_home && has_word(line, word.text) {
                    breaches.push(format!("src/{}:{number}: {} here: {}", file.path, word.text, word.instead));
                }
            }
        }
    }
    assert_none(&breaches);
}

#[test]
fn pure_rules_do_not_wait() {
    let mut breaches = Vec::new();
    for file in sources("src").iter().filter(|file| PURE.iter().any(|place| file.path.starts_with(place))) {
        for (number, line) in code_lines(&file.text) {
            for word in PURE_WITHOUT.iter().filter(|word| has_word(line, word)) {
                breaches.push(format!(
                    "src/{}:{number}: {word} in a pure file: return a value, let others wait",
                    file.path
                ));
            }
        }
    }
    assert_none(&breaches);
}

#[test]
fn files_say_what_they_are_for_and_end_before_they_are_too_long() {
    let mut breaches = Vec::new();
    for file in sources("src") {
        if !file.text.starts_with("//!") {
            breaches.push(format!("src/{}:1: begin with //! and what lives here", file.path));
        }
        let lines = file.text.lines().count();
        if lines > LINES_MAX {
            breaches.push(format!("src/{}: {lines} lines; split it by responsibility below {LINES_MAX}", file.path));
        }
    }
    assert_none(&breaches);
}

#[test]
fn nothing_is_unfinished() {
    let mut breaches = Vec::new();
    for root in ["src", "tests"] {
        for file in sources(root) {
            for (number, line) in code_lines(&file.text) {
                for mark in UNFINISHED.iter().filter(|mark| line.contains(*mark)) {
                    breaches.push(format!("{root}/{}:{number}: {mark} here: finish it", file.path));
                }
            }
        }
    }
    assert_none(&breaches);
}

/// `cargo test --test tidy catalogue -- --nocapture` prints the catalogue: each row with the names of its tests.
#[test]
fn each_row_of_the_catalogue_has_a_test() {
    let mut tests: BTreeMap<u32, BTreeSet<String>> = BTreeMap::new();
    for (root, file) in ["src", "tests"].iter().flat_map(|root| sources(root).into_iter().map(move |file| (root, file)))
    {
        for (row, test) in rows(&file.text) {
            tests.entry(row).or_default().insert(format!("{root}/{}: {test}", file.path));
        }
    }
    let mut breaches = Vec::new();
    for row in ROWS {
        let reason = WITHOUT_TEST.iter().find(|(without, _)| *without == row).map(|(_, reason)| *reason);
        match (tests.get(&row), reason) {
            (Some(names), None) => names.iter().for_each(|name| println!("{row:2}  {name}")),
            (None, Some(reason)) => println!("{row:2}  without a test: {reason}"),
            (None, None) if AWAITED.contains(&row) => println!("{row:2}  awaited"),
            (None, None) => {
                breaches.push(format!("row {row}: write a test that shows it, with \"// Row {row}.\" above it"));
            }
            (Some(_), Some(_)) => {
                breaches.push(format!("row {row} has a test: take it out of WITHOUT_TEST in tests/tidy.rs"));
            }
        }
    }
    breaches.extend(tests.keys().filter(|row| !ROWS.contains(row)).map(|row| format!("there is no row {row}")));
    assert_none(&breaches);
}

// Row 73: a core dump would hold every secret, and the environment is readable to more than a credential is.
#[test]
fn the_unit_leaves_no_core_dump_and_no_secret_in_the_environment() {
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd/postbackd.service");
    let text = fs::read_to_string(unit).unwrap();
    assert!(text.lines().any(|line| line == "LimitCORE=0"));
    assert!(text.contains("LoadCredential="));
    let is_open = |line: &&str| line.starts_with("Environment=") || line.starts_with("EnvironmentFile=");
    let open: Vec<&str> = text.lines().filter(is_open).collect();
    assert!(open.is_empty(), "nothing belongs there: {open:?}");
}

/// What a template of the status page must not have: a text that is not escaped, and what its policy would refuse.
const NOT_IN_TEMPLATES: &[&str] =
    &["|safe", "| safe", "escape(", "<style", " style=", " onclick=", "javascript:", "://"];

#[test]
fn templates_escape_everything_and_have_nothing_inline() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/http/page/templates");
    let mut breaches = Vec::new();
    let mut seen = 0;
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        seen += 1;
        for (number, line) in text.lines().enumerate() {
            for mark in NOT_IN_TEMPLATES.iter().filter(|mark| line.contains(*mark)) {
                breaches.push(format!("{}:{}: {mark:?} in a template", path.display(), number + 1));
            }
            if line.matches("<script").count() > line.matches("<script src=").count() {
                breaches.push(format!("{}:{}: a script in the page itself", path.display(), number + 1));
            }
        }
    }
    assert!(seen > 5, "the templates were not found");
    assert_none(&breaches);
}

#[test]
fn the_rules_see_what_they_look_for() {
    let paths = |line: &'static str| crate_paths(line).collect::<Vec<_>>();
    assert_eq!(paths("use crate::store::row; let x = crate::http::f();"), ["store", "http"]);
    assert_eq!(paths("use crate::{config::x, store::{self, row}, http};"), ["config", "store", "http"]);
    assert_eq!(paths("pub(crate) fn f() {}"), Vec::<&str>::new());
    assert!(has_word("use tokio::time::Instant;", "Instant"));
    assert!(!has_word("let instant = Instantly;", "Instant"));
    assert!(has_word("pub async fn f() {}", "async"));
    assert_eq!(
        code_lines("//! redb\nlet a = 1; // redb\nuse redb;\n").collect::<Vec<_>>(),
        [(1, ""), (2, "let a = 1; "), (3, "use redb;")]
    );
    let test = "\n    /// Rows 35, 37 and 41: of 99.\n    #[test]\n    fn f() {}\n";
    assert_eq!(rows(test), [35, 37, 41].map(|row| (row, "f".to_owned())));
    let test = "// Row 7.\n// And more.\n#[tokio::test(flavor = \"x\")]\n#[cfg(unix)]\nasync fn g() {}\n";
    assert_eq!(rows(test), [(7, "g".to_owned())]);
    assert_eq!(rows("// Row 7.\nfn f() {}\n"), [], "it stands above no test");
    assert_eq!(room_of("store/row.rs"), "store");
    assert_eq!(room_of("app.rs"), "app");
    assert!(sources("src").len() > 20, "the sources were not found");
}

fn sources(root: &str) -> Vec<Source> {
    let base = Path::new(env!("CARGO_MANIFEST_DIR")).join(root);
    let mut found = Vec::new();
    collect(&base, &base, &mut found);
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn collect(base: &Path, dir: &Path, found: &mut Vec<Source>) {
    let entries: Vec<PathBuf> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    for path in entries {
        if path.is_dir() {
            collect(base, &path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let path = path.strip_prefix(base).unwrap().to_string_lossy().replace('\\', "/");
            found.push(Source { path, text });
        }
    }
}

/// The folder of `src` a file belongs to; a file of `src` itself is its own.
fn room_of(path: &str) -> &str {
    path.split('/').next().unwrap_or(path).trim_end_matches(".rs")
}

/// Lines with their numbers, without comments.
fn code_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().map(|(index, line)| {
        let comment = line.find("//").filter(|at| !line[..*at].ends_with(':'));
        (index + 1, &line[..comment.unwrap_or(line.len())])
    })
}

/// The rows that comments directly above tests name, each with its test.
fn rows(text: &str) -> Vec<(u32, String)> {
    let mut found = Vec::new();
    let (mut above, mut is_test) = (Vec::new(), false);
    for line in text.lines().map(str::trim) {
        if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
            is_test = true;
        } else if let Some(comment) = line.strip_prefix("//") {
            above.extend(rows_of(comment.trim_start_matches('/')));
        } else if !line.starts_with("#[") {
            if let Some((_, name)) = line.split_once("fn ").filter(|_| is_test) {
                found.extend(above.iter().map(|row| (*row, name_at(name).to_owned())));
            }
            above.clear();
            is_test = false;
        }
    }
    found
}

/// The numbers after `Row` or `Rows`, up to a word that goes on otherwise.
fn rows_of(comment: &str) -> Vec<u32> {
    let Some((_, list)) = comment.split_once("Row") else { return Vec::new() };
    let mut rows = Vec::new();
    for word in list.split([' ', ',']).filter(|word| !matches!(*word, "" | "s" | "and")) {
        let digits: String = word.chars().take_while(char::is_ascii_digit).collect();
        let Ok(row) = digits.parse() else { break };
        rows.push(row);
        if word.len() > digits.len() {
            break;
        }
    }
    rows
}

/// The modules a line names below `crate`, also inside the braces of `use crate::{…}`.
fn crate_paths(line: &str) -> impl Iterator<Item = &str> {
    line.match_indices("crate::").flat_map(|(at, text)| {
        let rest = &line[at + text.len()..];
        match rest.strip_prefix('{') {
            Some(group) => top_level_names(group),
            None => vec![name_at(rest)],
        }
    })
}

fn top_level_names(group: &str) -> Vec<&str> {
    let mut depth = 0_i32;
    let mut names = vec![name_at(group.trim_start())];
    for (at, letter) in group.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => names.push(name_at(group[at + 1..].trim_start())),
            _ => {}
        }
    }
    names
}

fn name_at(text: &str) -> &str {
    let end = text.find(|letter: char| !letter.is_alphanumeric() && letter != '_').unwrap_or(text.len());
    &text[..end]
}

fn has_word(line: &str, word: &str) -> bool {
    let part_of_a_word = |letter: char| letter.is_alphanumeric() || letter == '_';
    line.match_indices(word)
        .any(|(at, _)| !line[..at].ends_with(part_of_a_word) && !line[at + word.len()..].starts_with(part_of_a_word))
}

fn assert_none(breaches: &[String]) {
    assert!(breaches.is_empty(), "{} breaches of the house rules:\n{}\n", breaches.len(), breaches.join("\n"));
}
