//! The one place that prints. Results go to standard output, everything said beside them to standard error.
//!
//! A reader that goes away (`postbackd deliveries | head -1`) ends the output, not the program's success: writing then
//! fails with [`std::io::ErrorKind::BrokenPipe`], which [`super::run`] turns into success. Nothing that came from outside
//! reaches a terminal with its control characters.

use std::borrow::Cow;
use std::io::{self, IsTerminal as _, Write};

use comfy_table::{ContentArrangement, Table, presets};

/// Prints `text` and a line end to standard output.
pub fn line(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.write_all(b"\n")?;
    stdout.flush()
}

/// Prints `bytes` to standard output as they are, for formats that have their own line ends.
pub fn raw(bytes: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes)?;
    stdout.flush()
}

/// Prints a JSON document to standard output, indented.
pub fn json(value: &serde_json::Value) -> io::Result<()> {
    line(&format!("{value:#}"))
}

/// Says something beside the result, on standard error. Whether anybody hears it changes nothing.
pub fn note(text: &str) {
    writeln!(io::stderr().lock(), "{text}").ok();
}

/// Whether somebody reads standard output on a terminal.
pub fn is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// `text` without control characters and without the letters that turn the direction of writing, so that it can neither
/// steer a terminal nor break out of its line.
pub fn plain(text: &str) -> Cow<'_, str> {
    if text.chars().any(steers) {
        text.chars().map(|letter| if steers(letter) { '\u{fffd}' } else { letter }).collect::<String>().into()
    } else {
        text.into()
    }
}

/// As [`plain`], for text of several lines: line feeds stay.
pub fn plain_lines(text: &str) -> String {
    text.lines().map(plain).collect::<Vec<_>>().join("\n")
}

/// `text` without control characters, cut after `letters`.
pub fn excerpt(text: &str, letters: usize) -> String {
    let clean = plain(text);
    match clean.char_indices().nth(letters) {
        Some((cut, _)) => format!("{}…", clean.split_at_checked(cut).map_or("", |(head, _)| head)),
        None => clean.into_owned(),
    }
}

/// Rows under a header, aligned with blanks: readable, and easy for `awk` to take apart.
pub fn table(header: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header.iter().copied());
    for row in rows {
        table.add_row(row.iter().map(|cell| plain(cell).into_owned()));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.trim_fmt()
}

fn steers(letter: char) -> bool {
    letter.is_control() || matches!(letter, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_from_outside_cannot_steer_a_terminal() {
        assert_eq!(plain("a\u{1b}[2Jb\r\u{202e}c\u{9b}d"), "a\u{fffd}[2Jb\u{fffd}\u{fffd}c\u{fffd}d");
        assert_eq!(plain("Лето — 夏"), "Лето — 夏");
        assert_eq!(plain_lines("a\u{7}\nb\n"), "a\u{fffd}\nb");
    }

    #[test]
    fn an_excerpt_is_cut_between_letters() {
        assert_eq!(excerpt("äöü", 2), "äö…");
        assert_eq!(excerpt("äöü", 3), "äöü");
    }

    #[test]
    fn a_table_is_aligned_with_blanks_and_has_no_trailing_ones() {
        let rows = vec![vec!["a".to_owned(), "b\nc".to_owned()], vec!["long".to_owned(), String::new()]];
        insta::assert_snapshot!(table(&["ONE", "TWO"], rows).replace(' ', "."), @r"
        ONE...TWO
        a.....b�c
        long
        ");
    }
}
