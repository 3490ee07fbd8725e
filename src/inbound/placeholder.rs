//! Macros that nobody filled in: `{click_id}`, `${SUBID}`, `#s2#`, `[CLICK_ID]`, `REPLACE`.
//!
//! A network whose URL was pasted with a macro it does not know sends the macro itself. Taken for a value, it would give
//! all its players the same click id.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

/// What stands around a macro's name. Longer ones first: `{{x}}` is one macro, not one inside another.
const BRACKETS: [(&str, &str); 6] = [("{{", "}}"), ("${", "}"), ("{", "}"), ("#", "#"), ("[", "]"), ("%%", "%%")];

/// Words that templates of trackers hold until somebody replaces them.
const WORDS: [&str; 2] = ["REPLACE", "OPTIONAL"];

/// Whether a value is only a macro that nobody filled in, also where it is still percent-encoded.
pub fn unexpanded(value: &str) -> bool {
    if value.contains('%') && is_macro(&percent_decode_str(value).decode_utf8_lossy()) {
        return true;
    }
    is_macro(value)
}

fn is_macro(value: &str) -> bool {
    let value = value.trim();
    let inner = |(open, close): &(&str, &str)| value.strip_prefix(*open).and_then(|rest| rest.strip_suffix(*close));
    WORDS.contains(&value) || value == "{}" || BRACKETS.iter().filter_map(inner).any(is_name)
}

/// `click_id`, `transaction.id`, and `status:lead=0 sale=1`, whose mapping the network should have applied. Quotes and
/// braces are JSON, a digit in front is a list or a colour.
fn is_name(inner: &str) -> bool {
    let inner = inner.trim();
    let (name, rest) = inner.split_once(':').unwrap_or((inner, ""));
    name.starts_with(|letter: char| letter.is_ascii_alphabetic() || letter == '_')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'))
        && !rest.contains(['"', '{', '}'])
}

/// A value that counts: not empty and not a macro.
pub fn counting(value: &str) -> Option<&str> {
    (!value.is_empty() && !unexpanded(value)).then_some(value)
}

/// A macro as it may be quoted in a sentence.
pub fn quoted(value: &str) -> Cow<'_, str> {
    let end = value.floor_char_boundary(80);
    value.get(..end).unwrap_or_default().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn macros_of_every_syntax_are_known() {
        for value in [
            "{click_id}",
            "{_name}",
            "{transaction.id}",
            "{status:lead=0 sale=1 rejected=2}",
            "{date:Y-m-d,Europe/London}",
            "{{x}}",
            "{{ x }}",
            "{}",
            "${SUBID}",
            "#s2#",
            "#price#",
            "[CLICK_ID]",
            "%%CLICK%%",
            "%7Bx%7D",
            "%7bsubacc4%7d",
            "%24%7Bx%7D",
            "%23s2%23",
            "%5BCLICK_ID%5D",
            " {x} ",
            "REPLACE",
            "OPTIONAL",
        ] {
            assert!(unexpanded(value), "{value}");
        }
    }

    #[test]
    fn values_that_only_look_like_macros_are_values() {
        for value in [
            "",
            "x",
            "a{b}",
            "{a}{b",
            "{\"a\":1}",
            "[1]",
            "[\"a\"]",
            "#1",
            "#ff0000",
            "replace",
            "REPLACE1",
            "$5",
            "{a",
            "100%",
            "{1,2}",
            "[]",
            "#",
            "##",
            "%7B",
            "50%25",
        ] {
            assert!(!unexpanded(value), "{value}");
        }
    }
}
