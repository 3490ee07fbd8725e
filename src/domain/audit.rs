//! What operators do, as it is kept: who, what, to what, why, and what came of it.
//!
//! A unix user cannot be known over TCP: who it was is how they were let in, from where, and the name they gave themselves.
//! Arguments hold no secrets and nothing of a person: whoever makes a [`Deed`] leaves both out.

use super::message::printable;

/// Deeds kept; the oldest go first. By number and not by age, so that a clock that jumps forgets nothing.
pub const DEEDS_KEPT: u64 = 10_000;
/// The name an operator gives themselves, bytes.
pub const OPERATOR_BYTES: usize = 64;
/// Any other text of a deed, bytes.
pub const DEED_TEXT_BYTES: usize = 1024;

/// By what right somebody acted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Right {
    AdminToken,
    /// No admin token is set, and the caller stands on this machine.
    Loopback,
    /// A signal to the process.
    Signal,
    /// Whoever may write the configuration.
    File,
}

/// Who acted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Who {
    pub right: Right,
    /// The caller's address.
    pub from: Option<String>,
    /// The name they gave themselves: a word, no proof.
    pub operator: Option<String>,
}

/// See the module's page.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Deed {
    pub who: Who,
    /// `pause`, `replay` …
    pub action: String,
    /// The destination, job or file it was done to; may be empty.
    pub target: String,
    /// As JSON; may be empty.
    pub arguments: String,
    pub reason: String,
    /// What came of it. Where it is empty and the deed is committed behind what it did, the store says it.
    pub result: String,
}

impl Right {
    pub const ALL: [Self; 4] = [Self::AdminToken, Self::Loopback, Self::Signal, Self::File];

    /// The word users see, which is also what the store keeps.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AdminToken => "admin token",
            Self::Loopback => "loopback",
            Self::Signal => "signal",
            Self::File => "file",
        }
    }
}

impl Who {
    /// Not a caller: a signal or a file.
    pub fn nobody(right: Right) -> Self {
        Self { right, from: None, operator: None }
    }

    /// `name` as an operator gives it: one printable line, or nothing.
    #[must_use]
    pub fn called(mut self, name: &str) -> Self {
        let name = printable(name.replace(['\n', '\t'], " ").trim().as_bytes(), OPERATOR_BYTES);
        self.operator = (!name.is_empty()).then_some(name);
        self
    }
}

impl Deed {
    pub fn new(who: Who, action: &str) -> Self {
        let empty = String::new;
        Self { who, action: action.to_owned(), target: empty(), arguments: empty(), reason: empty(), result: empty() }
    }

    #[must_use]
    pub fn on(self, target: &(impl ToString + ?Sized)) -> Self {
        Self { target: target.to_string(), ..self }
    }

    /// `arguments` is JSON.
    #[must_use]
    pub fn with(self, arguments: &(impl ToString + ?Sized)) -> Self {
        Self { arguments: arguments.to_string(), ..self }
    }

    #[must_use]
    pub fn because(self, reason: &str) -> Self {
        Self { reason: reason.to_owned(), ..self }
    }

    #[must_use]
    pub fn ended(self, result: &(impl ToString + ?Sized)) -> Self {
        Self { result: result.to_string(), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_printable_line_of_bounded_length_or_none() {
        let called = |name: &str| Who::nobody(Right::Loopback).called(name).operator;
        assert_eq!(called(" jane\n").as_deref(), Some("jane"));
        assert_eq!(called("a\u{1b}[2J").as_deref(), Some("a\u{fffd}[2J"));
        assert_eq!(called(" \n"), None);
        assert!(called(&"é".repeat(99)).is_some_and(|name| name.len() <= OPERATOR_BYTES));
    }
}
