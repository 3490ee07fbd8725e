//! Texts, numbers and times as people read them.
//!
//! [`Shown`] is the only way by which what a stranger wrote gets onto a page: control characters and marks that turn
//! the direction of writing do not pass, nor does what looks like an e-mail address or a telephone number. Templates
//! escape on top of that.

use std::fmt;
use std::sync::LazyLock;

use regex::Regex;
use serde::{Deserialize, Deserializer};

use crate::domain::time::UnixMs;

pub(super) use crate::domain::person::MASKED;

/// An e-mail address, plain or percent-encoded; a telephone number with its country code.
static PERSONAL: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let email = r"[\p{L}\p{N}._%+'-]+(?:@|%40)[\p{L}\p{N}-]+(?:\.[\p{L}\p{N}-]+)+";
    let phone = r"(?:\+|\b00|%2[Bb])[1-9](?:[ ().-]{0,2}[0-9]){7,14}\b";
    Regex::new(&format!("{email}|{phone}")).ok()
});

/// A text that may be shown.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(super) struct Shown(String);

impl Shown {
    pub(super) fn new(text: &str) -> Self {
        let clean: String = text.chars().map(|letter| if is_harmless(letter) { letter } else { '\u{FFFD}' }).collect();
        // Without its pattern nothing would be masked, so then nothing is shown.
        Self(PERSONAL.as_ref().map_or_else(String::new, |personal| personal.replace_all(&clean, MASKED).into_owned()))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Shown {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        String::deserialize(reader).map(|text| Self::new(&text))
    }
}

/// Neither a control character (line feed and tab are none here) nor a mark that turns or hides what stands around it.
fn is_harmless(letter: char) -> bool {
    match letter {
        '\n' | '\t' => true,
        '\u{061C}'
        | '\u{200B}'
        | '\u{200E}'
        | '\u{200F}'
        | '\u{2028}'..='\u{202E}'
        | '\u{2060}'..='\u{206F}'
        | '\u{FEFF}'
        | '\u{FFF9}'..='\u{FFFB}' => false,
        _ => !letter.is_control(),
    }
}

/// A point of time, as a machine and as a person reads it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct When {
    /// RFC 3339.
    pub(super) iso: String,
    /// `2026-11-21 23:40:38 UTC`
    pub(super) full: String,
    /// `3 min ago`, `in 20 s`
    pub(super) relative: String,
}

impl When {
    /// `None` where `iso` is no time.
    pub(super) fn new(iso: &str, now: UnixMs) -> Option<Self> {
        let at = UnixMs::parse_rfc3339(iso)?;
        let iso = at.to_rfc3339();
        let full = format!("{} UTC", iso.get(..19)?.replace('T', " "));
        let relative = if at > now {
            format!("in {}", span(at.since(now).0 / 1000))
        } else {
            format!("{} ago", span(now.since(at).0 / 1000))
        };
        Some(Self { iso, full, relative })
    }
}

/// Seconds in the two largest units that matter: `45 s`, `3 min`, `2 h 5 min`, `3 d 4 h`.
pub(super) fn span(seconds: u64) -> String {
    let two = |large: u64, unit: &str, small: u64, small_unit: &str| match small {
        0 => format!("{large} {unit}"),
        _ => format!("{large} {unit} {small} {small_unit}"),
    };
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7199 => format!("{} min", seconds / 60),
        7200..=172_799 => two(seconds / 3600, "h", seconds % 3600 / 60, "min"),
        _ => two(seconds / 86_400, "d", seconds % 86_400 / 3600, "h"),
    }
}

/// `1234567` as `1 234 567`, with narrow spaces that do not break.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut shown = String::with_capacity(digits.len() + digits.len() / 3 * 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            shown.push('\u{202F}');
        }
        shown.push(digit);
    }
    shown
}

/// A share of one in percent; never rounded up to 100 %.
pub(super) fn percent(share: Option<f64>) -> String {
    match share {
        None => "–".to_owned(),
        Some(share) if share >= 1.0 => "100 %".to_owned(),
        Some(share) => format!("{:.1} %", (share * 1000.0).floor() / 10.0),
    }
}

/// Milliseconds: `7 ms`, `1.4 s`, `3 min`, `2 h 5 min`.
pub(super) fn millis(ms: Option<f64>) -> String {
    match ms {
        None => "–".to_owned(),
        Some(ms) if ms < 1000.0 => format!("{ms:.0} ms"),
        Some(ms) if ms < 120_000.0 => format!("{:.1} s", ms / 1000.0),
        Some(ms) => span(std::time::Duration::try_from_secs_f64(ms / 1000.0).map_or(u64::MAX, |took| took.as_secs())),
    }
}

pub(super) fn bytes(bytes: u64) -> String {
    let mut unit = "B";
    let (mut whole, mut tenths) = (bytes, 0);
    for larger in ["KiB", "MiB", "GiB", "TiB"] {
        if whole < 1024 {
            break;
        }
        (whole, tenths, unit) = (whole / 1024, whole % 1024 * 10 / 1024, larger);
    }
    if unit == "B" { format!("{whole} B") } else { format!("{whole}.{tenths} {unit}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_turns_or_hides_text_does_not_pass() {
        let text = "a\u{202E}b\u{0}c\u{1b}[2Jd\u{2066}e\u{200F}f\u{FEFF}g\u{85}h\ni\tj é夏";
        let shown = Shown::new(text).to_string();
        assert_eq!(shown, "a\u{FFFD}b\u{FFFD}c\u{FFFD}[2Jd\u{FFFD}e\u{FFFD}f\u{FFFD}g\u{FFFD}h\ni\tj é夏");
    }

    #[test]
    fn what_looks_like_a_person_is_masked() {
        for (text, shown) in [
            ("no jane.doe+x@mail.example.com here", "no [masked] here"),
            ("?em=jane%40example.com&x=1", "?em=[masked]&x=1"),
            ("call +49 176 1234-5678 now", "call [masked] now"),
            ("call 004917612345678", "call [masked]"),
            ("p=%2B4917612345678", "p=[masked]"),
            ("Ümit@bücher.example", "[masked]"),
        ] {
            assert_eq!(Shown::new(text).as_str(), shown, "{text}");
        }
        for text in
            ["order 2026112112345678", "+1.5 ms", "a@b", "HTTP 400: @deposit", "evt_reszbp0c0000000000005", "1+2"]
        {
            assert_eq!(Shown::new(text).as_str(), text);
        }
    }

    #[test]
    fn spans_name_the_units_that_matter() {
        for (seconds, shown) in
            [(0, "0 s"), (119, "119 s"), (120, "2 min"), (7200, "2 h"), (7500, "2 h 5 min"), (273_600, "3 d 4 h")]
        {
            assert_eq!(span(seconds), shown);
        }
        let now = UnixMs::parse_rfc3339("2026-11-21T23:40:38.900Z").unwrap();
        let when = When::new("2026-11-21T23:40:08.100Z", now).unwrap();
        assert_eq!((when.full.as_str(), when.relative.as_str()), ("2026-11-21 23:40:08 UTC", "30 s ago"));
        assert_eq!(When::new("2026-11-21T23:45:38.900Z", now).unwrap().relative, "in 5 min");
        assert_eq!(When::new("x", now), None);
    }

    #[test]
    fn numbers_are_short_and_honest() {
        assert_eq!([0, 999, 1000, 1_234_567].map(count), ["0", "999", "1\u{202F}000", "1\u{202F}234\u{202F}567"]);
        assert_eq!(percent(Some(0.9999)), "99.9 %", "never rounded up to all");
        assert_eq!([percent(Some(1.0)), percent(Some(0.0)), percent(None)], ["100 %", "0.0 %", "–"]);
        assert_eq!([Some(7.4), Some(1400.0), Some(7_500_000.0)].map(millis), ["7 ms", "1.4 s", "2 h 5 min"]);
        assert_eq!([512, 1536, 5 << 30].map(bytes), ["512 B", "1.5 KiB", "5.0 GiB"]);
    }
}
