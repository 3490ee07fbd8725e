//! Values that must never be seen: their type has no way to print them.

use std::fmt;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

/// What stands where a secret was.
pub const REDACTED: &str = "[redacted]";

/// A token, key or password. `Debug` shows a placeholder; there is no `Display` and no `Serialize`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The value itself: for the wire, for a comparison, never for a person.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

/// Replaces known secrets wherever they turn up: in a URL, in a body, in what a destination echoes.
#[derive(Clone, Default)]
pub struct Redactor {
    /// Longest first, so that a secret that contains another goes as a whole.
    needles: Vec<String>,
}

impl Redactor {
    /// Secrets shorter than four bytes are left alone: replacing them would shred every text.
    pub fn new<'a>(secrets: impl IntoIterator<Item = &'a Secret>) -> Self {
        let mut needles = Vec::new();
        for secret in secrets {
            let plain = secret.expose().to_owned();
            let encoded = utf8_percent_encode(&plain, NON_ALPHANUMERIC).to_string();
            let in_json = serde_json::Value::from(plain.as_str()).to_string();
            needles.extend([plain, encoded, in_json.trim_matches('"').to_owned()]);
        }
        needles.retain(|needle| needle.len() >= 4);
        needles.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        needles.dedup();
        Self { needles }
    }

    /// As [`Redactor::redact`], for the beginning of a longer text: a secret that the cut went through is left out too.
    pub fn redact_beginning(&self, text: &str) -> String {
        // The cut may have gone through a letter as well.
        let mut clean = self.redact(text.trim_end_matches(char::REPLACEMENT_CHARACTER));
        let rest = self.needles.iter().map(|needle| tail_that_begins(needle, &clean)).max().unwrap_or_default();
        clean.truncate(clean.len().saturating_sub(rest));
        clean
    }

    /// `text` with every known secret replaced by [`REDACTED`].
    pub fn redact(&self, text: &str) -> String {
        let mut clean = text.to_owned();
        for needle in &self.needles {
            if clean.contains(needle.as_str()) {
                clean = clean.replace(needle.as_str(), REDACTED);
            }
        }
        clean
    }
}

/// Bytes at the end of `text` that a longer text may go on with to `needle`.
fn tail_that_begins(needle: &str, text: &str) -> usize {
    needle
        .char_indices()
        .map(|(at, _)| at)
        .rev()
        .find(|at| needle.get(..*at).is_some_and(|start| text.ends_with(start)))
        .unwrap_or_default()
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Redactor({} needles)", self.needles.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Rows 54 and 72.
    #[test]
    fn a_secret_that_a_cut_went_through_does_not_pass() {
        let redactor = Redactor::new(&[Secret::new("hunter2-é-hunter3".to_owned())]);
        for cut in ["a hunter2-é-hunter", "a hunter2-\u{FFFD}", "a hunter2", "a h", "a "] {
            assert_eq!(redactor.redact_beginning(cut), "a ", "{cut}");
        }
        assert_eq!(redactor.redact_beginning("hunter2-é-hunter3 hunt"), "[redacted] ");
        assert_eq!(redactor.redact_beginning("unter2"), "unter2");
    }

    // Rows 71, 72 and 73: what a panic or a log line prints of it.
    #[test]
    fn a_secret_prints_as_a_placeholder() {
        assert_eq!(format!("{:?}", Some(Secret::new("hunter2".to_owned()))), "Some([redacted])");
    }

    // Row 72.
    #[test]
    fn secrets_are_replaced_plain_percent_encoded_and_json_escaped() {
        let secrets =
            [Secret::new("to ken/\"1".to_owned()), Secret::new("to ken".to_owned()), Secret::new("x".to_owned())];
        let redactor = Redactor::new(&secrets);
        assert_eq!(redactor.redact("a to ken/\"1 b"), "a [redacted] b");
        assert_eq!(redactor.redact("?t=to%20ken%2F%221&x=x"), "?t=[redacted]&x=x");
        assert_eq!(redactor.redact(r#"{"t":"to ken/\"1"}"#), r#"{"t":"[redacted]"}"#);
        assert_eq!(redactor.redact("to kens"), "[redacted]s");
    }
}
