//! How texts of strangers are cut and shown.

/// Cuts `text` to at most `max` bytes on a character boundary.
pub fn cut(text: &str, max: usize) -> &str {
    let end = text.floor_char_boundary(max);
    text.get(..end).unwrap_or_default()
}

/// Bytes of a stranger as text that is safe in a terminal, a log and a page: invalid UTF-8 and control characters other
/// than line feed and tab become `\u{FFFD}`, and the result is at most `max` bytes.
pub fn printable(bytes: &[u8], max: usize) -> String {
    let head = bytes.get(..max.min(bytes.len())).unwrap_or_default();
    let text: String = String::from_utf8_lossy(head)
        .chars()
        .map(|letter| if letter.is_control() && letter != '\n' && letter != '\t' { '\u{FFFD}' } else { letter })
        .collect();
    cut(&text, max).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_between_characters() {
        assert_eq!(cut("aé", 2), "a");
        assert_eq!(cut("aé", 3), "aé");
        assert_eq!(cut("", 9), "");
    }

    // Row 54.
    #[test]
    fn control_characters_do_not_pass() {
        assert_eq!(printable(b"\x1b[31mred\x00\n", 100), "\u{FFFD}[31mred\u{FFFD}\n");
        assert_eq!(printable(&[0xff, b'a'], 100), "\u{FFFD}a");
        assert!(printable(&[0xff; 50], 10).len() <= 10);
    }
}
