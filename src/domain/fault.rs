//! When two faults are the same one: the words with all that differs from event to event made equal.
//!
//! Numbers, ids and addresses become `#`; in prose, what stands in quotes becomes `"…"`. In JSON the quotes stay, since
//! there everything stands in quotes and a code or a message is what tells faults apart; their numbers and ids go all the same.

use sha2::{Digest as _, Sha256};

/// Letters of a normal form: what a receiver says first is what is wrong.
const FORM_CHARS: usize = 200;
/// Letters looked at.
const LOOKED_AT: usize = 1024;

/// The fingerprint of a normal form: 48 bits, written as twelve hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct FaultId(pub u64);

impl FaultId {
    pub fn of(form: &str) -> Self {
        let digest = Sha256::digest(form.as_bytes());
        Self(digest.iter().take(6).fold(0, |number, byte| (number << 8) | u64::from(*byte)))
    }

    /// Reads what [`std::fmt::Display`] writes.
    pub fn parse(text: &str) -> Option<Self> {
        let plain = text.len() == 12 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        u64::from_str_radix(text, 16).ok().filter(|_| plain).map(Self)
    }
}

impl std::fmt::Display for FaultId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:012x}", self.0)
    }
}

/// The normal form of what is known of a fault: its detail, or what was answered where there is none.
pub fn normal_form(detail: &str, response: &str) -> String {
    let text = if detail.trim().is_empty() { response } else { detail };
    let text: Vec<char> = text.chars().take(LOOKED_AT).collect();
    let json = text.windows(2).any(|pair| matches!(pair, ['{' | '[', '"']));
    let mut form = String::new();
    let mut rest = text.as_slice();
    let mut before = ' ';
    while let Some((letter, tail)) = rest.split_first() {
        let quote = !json && matches!(letter, '"' | '\'' | '`') && !before.is_alphanumeric();
        let closing = tail.iter().position(|other| other == letter).filter(|_| quote);
        let word = rest.iter().take_while(|letter| belongs(**letter)).count();
        let (piece, used) = if let Some(closing) = closing {
            ("\"…\"".to_owned(), closing + 2)
        } else if word > 0 {
            let word: String = rest.iter().take(word).collect();
            let used = word.chars().count();
            (if differs(&word) { ended(&word) } else { word }, used)
        } else {
            (if letter.is_whitespace() { " ".to_owned() } else { letter.to_string() }, 1)
        };
        before = rest.get(used.saturating_sub(1)).copied().unwrap_or(' ');
        rest = rest.get(used..).unwrap_or_default();
        if !(piece == " " && form.ends_with(' ')) {
            form.push_str(&piece);
        }
    }
    form.trim().chars().take(FORM_CHARS).collect()
}

/// Whether a letter can be part of a number, an id or an address.
fn belongs(letter: char) -> bool {
    letter.is_alphanumeric() || matches!(letter, '_' | '-' | '.' | '@' | '+' | '%')
}

/// Whether a word is another one in every event.
fn differs(word: &str) -> bool {
    word.chars().any(char::is_numeric) || word.contains('@')
}

/// `#`, and the dot that ends the sentence.
fn ended(word: &str) -> String {
    if word.ends_with('.') { "#.".to_owned() } else { "#".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(detail: &str) -> String {
        normal_form(detail, "")
    }

    #[test]
    fn what_differs_from_event_to_event_is_made_equal() {
        assert_eq!(form("HTTP 400: no"), "HTTP #: no");
        assert_eq!(form("order 4711 of 'jane' is\n unknown"), form("order 9 of \"joe\" is unknown"));
        assert_eq!(form("click 6eepjrst0000 has ended."), form("click 7ffq-9 has ended."));
        assert_eq!(form("jane.doe@example.com is refused"), "# is refused");
        assert_eq!(normal_form(" ", "said 5"), "said #", "what was answered stands in where there is no detail");
    }

    #[test]
    fn different_faults_stay_different() {
        assert_ne!(form("unknown click"), form("unknown currency"));
        let json = |code: &str, id: u32| form(&format!("HTTP 400: {{\"error\":\"{code}\",\"id\":{id}}}"));
        assert_eq!(json("bad_user", 1), json("bad_user", 22));
        assert_ne!(json("bad_user", 1), json("bad_currency", 1));
        assert_eq!(form("can't say what's wrong"), "can't say what's wrong", "an apostrophe opens no quote");
        assert_eq!(form("an \"open end"), "an \"open end");
    }

    #[test]
    fn forms_are_bounded_and_fingerprints_go_through_text() {
        assert_eq!(form(&"é ".repeat(5000)).chars().count(), FORM_CHARS);
        let id = FaultId::of("HTTP #: no");
        assert_eq!(FaultId::parse(&id.to_string()), Some(id));
        for wrong in ["", "1", "00000000000G", "+00000000001", "0000000000001", "ABCDEF012345"] {
            assert_eq!(FaultId::parse(wrong), None, "{wrong}");
        }
    }
}
