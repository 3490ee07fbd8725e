//! What a URL template may not hold, beside unknown macros: letters and places that URL readers would cut off or rewrite, and
//! macros of other systems, which would go out as they stand. Each complaint says what to write.

use url::Url;

/// Adds everything that is wrong with the text around the macros.
pub(super) fn check(text: &str, wrong: &mut Vec<String>) {
    check_letters(text, wrong);
    check_authority(text, wrong);
    check_signs(text, wrong);
    let (front, query) = text.split_once('?').unwrap_or((text, ""));
    check_placeholders(front, query, wrong);
}

fn check_letters(text: &str, wrong: &mut Vec<String>) {
    if text.contains('#') {
        wrong.push("a # would cut the URL off; write %23 for the sign, and {name} for a macro".to_owned());
    }
    if text.contains('\\') {
        wrong.push("a \\ is read as / in URLs; write / or %5C".to_owned());
    }
    if text.chars().any(|letter| letter.is_whitespace() || letter.is_control()) {
        wrong.push("white space does not belong into a URL; write %20".to_owned());
    }
    for (_, tail) in text.match_indices('%').filter_map(|(at, _)| text.split_at_checked(at)) {
        let code = tail.as_bytes().get(1..3).unwrap_or_default();
        if code.len() != 2 || !code.iter().all(u8::is_ascii_hexdigit) {
            wrong.push("a % without two hex digits behind it; write %25 for the sign".to_owned());
        }
    }
}

/// Path and query, each with what stands before it in a URL of its own.
fn places(text: &str) -> [(&'static str, &str); 2] {
    let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
    let (front, query) = rest.split_once('?').unwrap_or((rest, ""));
    let path = front.split_once('/').map_or("", |(_, path)| path);
    [("https://n.example/x", path), ("https://n.example/?x", query)]
}

/// Signs that a URL reader writes otherwise, like `'` in a query: they would not arrive as they stand in the template. The
/// reader itself is asked, since its rules differ between path and query.
fn check_signs(text: &str, wrong: &mut Vec<String>) {
    for (front, place) in places(text) {
        let mut in_macro = false;
        for letter in place.chars() {
            let brace = matches!(letter, '{' | '}');
            in_macro = if brace { letter == '{' } else { in_macro };
            // Those have a message of their own.
            let told = brace || in_macro || matches!(letter, '#' | '\\' | '%') || letter.is_whitespace();
            if told || letter.is_control() {
                continue;
            }
            let read = Url::parse(&format!("{front}{letter}x")).map(String::from).unwrap_or_default();
            let read = read.strip_prefix(front).and_then(|rest| rest.strip_suffix('x')).unwrap_or_default();
            if !read.chars().eq([letter]) {
                wrong.push(format!("{letter} does not travel in a URL as it is; write {read}"));
            }
        }
    }
}

/// Places that other systems' users fill in by hand, and their macros in square brackets. Brackets in the name of a
/// parameter (`ids[]`, `filter[name]`) are nothing special.
fn check_placeholders(front: &str, query: &str, wrong: &mut Vec<String>) {
    let path = front.split_once("://").map_or(front, |(_, rest)| rest).split('/').skip(1);
    let values = query.split('&').filter_map(|pair| pair.split_once('=')).map(|(_, value)| value);
    for text in path.chain(values) {
        if matches!(text, "REPLACE" | "OPTIONAL") {
            wrong.push(format!("{text} is a placeholder nobody filled in; write a macro like {{uid}}, or drop it"));
        }
        for (_, tail) in text.match_indices('[').filter_map(|(at, _)| text.split_at_checked(at)) {
            let name = tail.strip_prefix('[').and_then(|rest| rest.split_once(']')).map_or("", |(name, _)| name);
            let word = |letter: char| letter.is_ascii_alphanumeric() || letter == '_' || letter == '.' || letter == '-';
            if !name.is_empty() && name.chars().all(word) {
                wrong.push(format!(
                    "[{name}] is another system's macro and would be sent as it stands; write a macro in braces like {{uid}}, \
                     or %5B{name}%5D for the text"
                ));
            }
        }
    }
}

fn check_authority(text: &str, wrong: &mut Vec<String>) {
    let lower = text.to_ascii_lowercase();
    let Some(rest) = lower.strip_prefix("https://").or_else(|| lower.strip_prefix("http://")) else {
        wrong.push("does not begin with https:// or http:// in plain letters; write the whole URL".to_owned());
        return;
    };
    let authority = rest.split(['/', '?', '#', '\\']).next().unwrap_or_default();
    if authority.contains(['{', '}']) {
        wrong.push("a macro stands in the host or port; macros belong behind the / or the ?".to_owned());
    } else if authority.contains('@') {
        wrong.push("has user info before the host; take it out, and pass tokens as {secret.NAME}".to_owned());
    } else if let Err(error) = Url::parse(&format!("https://{authority}/")) {
        wrong.push(format!("has no usable host: {error}"));
    }
}
