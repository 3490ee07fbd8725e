//! Colour for the daemon's status table. The daemon aligns it, so that only what stands there is coloured and no column
//! moves: escapes take no room on a terminal. What is not recognised stays as it is.

use anstyle::{AnsiColor, Style};

const GOOD: Style = AnsiColor::Green.on_default();
const WAIT: Style = AnsiColor::Yellow.on_default();
const BAD: Style = AnsiColor::Red.on_default().bold();
const QUIET: Style = Style::new().dimmed();

/// `text` as `/status?format=text` has it, without any control character.
pub fn status(text: &str) -> String {
    let mut columns = None;
    let mut state = Style::new();
    let mut lines = Vec::new();
    for (number, line) in text.lines().enumerate() {
        lines.push(if number == 0 {
            let word = line.split("  ").nth(1).unwrap_or_default();
            state = of_word(word);
            line.replacen(word, &painted(state, word), 1)
        } else if let Some(found) = Columns::of(line) {
            columns = Some(found);
            painted(QUIET, line)
        } else if let Some(columns) = &columns {
            row(line, columns)
        } else {
            head(line, state)
        });
    }
    lines.join("\n")
}

/// Where the columns to be coloured stand, in letters.
#[derive(Clone, Copy, Debug)]
struct Columns {
    state_begins: usize,
    dlq_ends: usize,
}

impl Columns {
    fn of(header: &str) -> Option<Self> {
        let is_header = header.starts_with("DESTINATION ");
        is_header.then_some(Self { state_begins: header.find(" STATE ")? + 1, dlq_ends: header.find(" DLQ ")? + 4 })
    }
}

/// A line above the table, by what it begins with.
fn head(line: &str, state: Style) -> String {
    let style = match line.split_whitespace().next() {
        Some("!") => state,
        Some("alert") if line.starts_with("alert    critical") => BAD,
        Some("balance") if line.contains(" IS NOT ") => BAD,
        Some("~" | "paused" | "left" | "alerts" | "alert") => WAIT,
        Some(_) | None => return line.to_owned(),
    };
    painted(style, line)
}

/// Two words of a row: the state that begins at its column, and the number of dead that ends at its own.
fn row(line: &str, columns: &Columns) -> String {
    let (Some((name, rest)), Some((before, _))) =
        (line.split_at_checked(columns.state_begins), line.split_at_checked(columns.dlq_ends))
    else {
        return line.to_owned();
    };
    let word = rest.split(' ').next().unwrap_or_default();
    let dead = before.rsplit(' ').next().unwrap_or_default();
    let (state_ends, dead_begins) = (name.len() + word.len(), before.len() - dead.len());
    let parts = line.get(state_ends..dead_begins).zip(line.get(columns.dlq_ends..));
    let Some((between, after)) = parts else { return line.to_owned() };
    let dead = if dead == "0" { dead.to_owned() } else { painted(BAD, dead) };
    format!("{name}{}{between}{dead}{after}", painted(of_word(word), word))
}

fn of_word(word: &str) -> Style {
    match word {
        "ok" | "active" => GOOD,
        "degraded" | "throttled" | "paused" | "orphaned" => WAIT,
        "failing" | "held" | "open" => BAD,
        "disabled" | "removed" => QUIET,
        _ => Style::new(),
    }
}

fn painted(style: Style, text: &str) -> String {
    format!("{style}{text}{style:#}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
postbackd 0.1.0  degraded  up 9s
  ! meta is held: HTTP 401
config   817f3584d9c615ed since 2026-11-22T01:51:37.536Z
paused   hook: moved
alert    critical: meta is held (since …, told 1×)
balance  160 accepted = 160 sent

DESTINATION  KIND     STATE      ACCEPTED  PENDING  FAILED  SENT  DLQ  SKIPPED  DISCARDED  OLDEST  OK 1h  OK 24h   P95 1h  LAST ERROR
crm          webhook  active           40        0       2    38    0        0          0      8s  95.0%   95.0%   116 ms  503 transient
meta         fb_capi  held             40       30       0     0   40       10          0      8s      -       -        -  401 …
old          -        removed           2        0       0     2    0        0          0       -      -       -        -  -";

    #[test]
    fn states_and_what_is_wrong_have_colour_and_nothing_else() {
        let shown = status(TEXT).replace('\u{1b}', "~");
        insta::assert_snapshot!(shown, @"
        postbackd 0.1.0  ~[33mdegraded~[0m  up 9s
        ~[33m  ! meta is held: HTTP 401~[0m
        config   817f3584d9c615ed since 2026-11-22T01:51:37.536Z
        ~[33mpaused   hook: moved~[0m
        ~[1m~[31malert    critical: meta is held (since …, told 1×)~[0m
        balance  160 accepted = 160 sent

        ~[2mDESTINATION  KIND     STATE      ACCEPTED  PENDING  FAILED  SENT  DLQ  SKIPPED  DISCARDED  OLDEST  OK 1h  OK 24h   P95 1h  LAST ERROR~[0m
        crm          webhook  ~[32mactive~[0m           40        0       2    38    0        0          0      8s  95.0%   95.0%   116 ms  503 transient
        meta         fb_capi  ~[1m~[31mheld~[0m             40       30       0     0   ~[1m~[31m40~[0m       10          0      8s      -       -        -  401 …
        old          -        ~[2mremoved~[0m           2        0       0     2    0        0          0       -      -       -        -  -
        ");
    }

    #[test]
    fn without_its_colours_it_is_the_text_letter_by_letter() {
        let escape = regex::Regex::new("\u{1b}\\[[0-9;]*m").unwrap();
        let shown = status(TEXT);
        assert_ne!(shown, TEXT);
        assert_eq!(escape.replace_all(&shown, ""), TEXT);
        for strange in ["", "postbackd", "x\n\nDESTINATION  KIND  STATE  DLQ \nö", "no destinations\n  ! ü"] {
            assert_eq!(escape.replace_all(&status(strange), ""), strange.trim_end(), "{strange:?}");
        }
    }
}
