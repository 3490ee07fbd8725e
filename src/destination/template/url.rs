//! URL templates: `https://network.example/postback?cid={uid}&sum={value}`.
//!
//! - Scheme, user, host and port are literal; a macro may stand only behind them.
//! - A value is percent-encoded down to the unreserved letters, so it cannot add a segment, a parameter or a fragment.
//!   What encoding cannot disarm is a path segment that becomes `.` or `..`: such a delivery is unsendable.
//! - The template is never taken apart and rebuilt: order, doubles and odd signs stay as written.
//! - `#`, `\`, white space, a `%` without two hex digits and every other letter that URL readers would cut off or rewrite
//!   are refused with what to write. So what is left goes out letter by letter.
//! - Macros of other systems (`[NAME]`, `${NAME}`, `{{name}}`, `#name#`, `{_name}`, `{name:map}`, `REPLACE`) are refused:
//!   they would go out as they stand, and nobody would notice.

use std::borrow::Cow;

use percent_encoding::{percent_decode_str, utf8_percent_encode};

use super::{Macro, Piece, Scope, url_checks};
use crate::destination::view::ENCODED;
use crate::destination::{Outgoing, Unsendable};
use crate::domain::limits::URL_BYTES;
use crate::domain::outcome::DeadReason;
use crate::domain::secret::REDACTED;

/// A compiled template.
#[derive(Clone, Debug)]
pub struct UrlTemplate {
    /// Up to the first `?`, without it.
    front: Vec<Piece>,
    /// Behind it.
    query: Option<Vec<Piece>>,
}

/// A rendered URL in two forms, with the query apart, so that a POST can carry it as its body.
#[derive(Debug)]
pub struct Rendered {
    pub wire: Parts,
    /// The same with secrets replaced.
    pub shown: Parts,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Parts {
    pub front: String,
    pub query: Option<String>,
}

impl Parts {
    /// Front and query together.
    pub fn whole(&self) -> Cow<'_, str> {
        match &self.query {
            Some(query) => format!("{}?{query}", self.front).into(),
            None => self.front.as_str().into(),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Secrets {
    Sent,
    Hidden,
}

impl UrlTemplate {
    /// Compiles, or lists everything that is wrong.
    pub fn compile(text: &str, scope: Scope<'_>) -> Result<Self, Vec<String>> {
        let mut wrong = Vec::new();
        url_checks::check(text, &mut wrong);
        let (front, query) = match text.split_once('?') {
            Some((front, query)) => (front, Some(query)),
            None => (text, None),
        };
        let template = Self {
            front: pieces(front, scope, &mut wrong),
            query: query.map(|query| pieces(query, scope, &mut wrong)),
        };
        if front.split('/').any(is_dots) {
            wrong.push("the path has a segment . or .., which URL readers drop; write the path without it".to_owned());
        }
        wrong.dedup();
        if wrong.is_empty() { Ok(template) } else { Err(wrong) }
    }

    /// Fills in the values of one delivery.
    pub fn render(&self, delivery: &Outgoing<'_>) -> Result<Rendered, Unsendable> {
        self.check_segments(delivery)?;
        let parts = |secrets| Parts {
            front: encode(&self.front, delivery, secrets),
            query: self.query.as_ref().map(|query| encode(query, delivery, secrets)),
        };
        let wire = parts(Secrets::Sent);
        let length = wire.whole().len();
        if length > URL_BYTES {
            let detail = format!("the URL would have {length} bytes, more than the {URL_BYTES} a request may have");
            return Err(Unsendable { reason: DeadReason::Invalid, detail });
        }
        Ok(Rendered { wire, shown: parts(Secrets::Hidden) })
    }

    /// Names of its macros, in their order.
    pub fn macros(&self) -> Vec<&str> {
        let pieces = self.front.iter().chain(self.query.iter().flatten());
        pieces
            .filter_map(|piece| if let Piece::Macro(found) = piece { Some(found.name.as_str()) } else { None })
            .collect()
    }

    /// The query's parameters as names and templates of their values, for a JSON body; what is wrong where they cannot
    /// be that.
    pub fn parameters(&self) -> Result<Vec<Parameter>, Vec<String>> {
        let mut found: Vec<Parameter> = Vec::new();
        let mut wrong = Vec::new();
        for pair in split(self.query.as_deref().unwrap_or_default(), '&', usize::MAX) {
            let mut halves = split(&pair, '=', 2).into_iter();
            let name = halves.next().unwrap_or_default();
            let value = halves.next().unwrap_or_default();
            let name = match name.as_slice() {
                [] if value.is_empty() => continue,
                [] => String::new(),
                [Piece::Text(name)] => decode(name),
                _ => {
                    wrong.push("a parameter's name holds a macro; with body = \"json\" names are literal".to_owned());
                    continue;
                }
            };
            if found.iter().any(|known| known.name == name) {
                wrong.push(format!("the parameter {name} stands twice; a JSON body can hold it once"));
            }
            found.push(Parameter { name, value });
        }
        if wrong.is_empty() { Ok(found) } else { Err(wrong) }
    }

    fn check_segments(&self, delivery: &Outgoing<'_>) -> Result<(), Unsendable> {
        for segment in split(&self.front, '/', usize::MAX) {
            if is_dots(&encode(&segment, delivery, Secrets::Sent)) {
                let names: Vec<String> = segment.iter().filter_map(macro_name).collect();
                let detail = format!(
                    "{} would make a path segment of the URL \".\" or \"..\", which leads to another address",
                    names.join(" ")
                );
                return Err(Unsendable { reason: DeadReason::Invalid, detail });
            }
        }
        Ok(())
    }
}

/// One parameter of the query.
#[derive(Clone, Debug)]
pub struct Parameter {
    pub name: String,
    value: Vec<Piece>,
}

impl Parameter {
    /// The decoded value, as it is sent and as it may be shown.
    pub fn render(&self, delivery: &Outgoing<'_>) -> (String, String) {
        let (mut wire, mut shown) = (String::new(), String::new());
        for piece in &self.value {
            match piece {
                Piece::Text(text) => {
                    let text = decode(text);
                    wire.push_str(&text);
                    shown.push_str(&text);
                }
                Piece::Macro(filled) => {
                    let value = filled.value(delivery);
                    wire.push_str(&value);
                    shown.push_str(if filled.is_secret() { REDACTED } else { &value });
                }
            }
        }
        (wire, shown)
    }
}

/// Percent codes and the `+` of forms, for literal text of a query.
fn decode(text: &str) -> String {
    percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned()
}

fn macro_name(piece: &Piece) -> Option<String> {
    match piece {
        Piece::Text(_) => None,
        Piece::Macro(found) => Some(format!("{{{}}}", found.name)),
    }
}

fn encode(pieces: &[Piece], delivery: &Outgoing<'_>, secrets: Secrets) -> String {
    let mut out = String::new();
    for piece in pieces {
        match piece {
            Piece::Text(text) => out.push_str(text),
            Piece::Macro(filled) if secrets == Secrets::Hidden && filled.is_secret() => out.push_str(REDACTED),
            Piece::Macro(filled) => out.extend(utf8_percent_encode(&filled.value(delivery), ENCODED)),
        }
    }
    out
}

/// Cuts at `sign` in literal text, into at most `parts` parts.
fn split(pieces: &[Piece], sign: char, parts: usize) -> Vec<Vec<Piece>> {
    let mut done: Vec<Vec<Piece>> = Vec::new();
    let mut open: Vec<Piece> = Vec::new();
    for piece in pieces {
        match piece {
            Piece::Macro(_) => open.push(piece.clone()),
            Piece::Text(text) => {
                let mut rest = text.as_str();
                while let Some((head, tail)) = rest.split_once(sign).filter(|_| done.len().saturating_add(1) < parts) {
                    if !head.is_empty() {
                        open.push(Piece::Text(head.to_owned()));
                    }
                    done.push(std::mem::take(&mut open));
                    rest = tail;
                }
                if !rest.is_empty() {
                    open.push(Piece::Text(rest.to_owned()));
                }
            }
        }
    }
    done.push(open);
    done
}

/// Whether a URL reader takes this path segment as `.` or `..`.
fn is_dots(segment: &str) -> bool {
    matches!(segment.to_ascii_lowercase().replace("%2e", ".").as_str(), "." | "..")
}

/// Cuts the text at its macros.
fn pieces(text: &str, scope: Scope<'_>, wrong: &mut Vec<String>) -> Vec<Piece> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((literal, tail)) = rest.split_once('{') {
        check_literal(literal, wrong);
        if literal.ends_with('$') {
            wrong.push("a $ stands before a macro; write {uid}, not ${uid}".to_owned());
        }
        if !literal.is_empty() {
            found.push(Piece::Text(literal.to_owned()));
        }
        let Some((name, tail)) = tail.split_once('}') else {
            wrong.push("a { is not closed; write {name}, or %7B for the sign".to_owned());
            return found;
        };
        if name.starts_with('{') {
            wrong.push("macros have single braces; write {name}, not {{name}}".to_owned());
            rest = tail.strip_prefix('}').unwrap_or(tail);
            continue;
        }
        match Macro::parse(name, scope) {
            Ok(compiled) => found.push(Piece::Macro(compiled)),
            Err(error) => wrong.push(error),
        }
        rest = tail;
    }
    check_literal(rest, wrong);
    if !rest.is_empty() {
        found.push(Piece::Text(rest.to_owned()));
    }
    found
}

fn check_literal(literal: &str, wrong: &mut Vec<String>) {
    if literal.contains('}') {
        wrong.push("a } has no { before it; write %7D for the sign".to_owned());
    }
}

#[cfg(test)]
#[path = "url_tests.rs"]
mod tests;
