//! `when`: simple conditions on an event's fields that decide whether a destination is owed it. All of them must hold;
//! they are read once, at ingest, and compare texts: a number by its written digits (`25.0` is not `25.00`).

use crate::domain::event::Event;

/// One condition on one field.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Condition {
    /// As [`Event::field`] reads it.
    pub path: String,
    pub test: Test,
}

/// What must hold of the field.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Test {
    /// Equal to one of these texts.
    OneOf(Vec<String>),
    /// Missing, or equal to none of these texts.
    NoneOf(Vec<String>),
    Present,
    Missing,
}

impl Condition {
    pub fn holds(&self, event: &Event) -> bool {
        let value = event.field(&self.path);
        match &self.test {
            Test::OneOf(texts) => value.is_some_and(|value| texts.iter().any(|text| *text == value)),
            Test::NoneOf(texts) => value.is_none_or(|value| texts.iter().all(|text| *text != value)),
            Test::Present => value.is_some(),
            Test::Missing => value.is_none(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::event::tests::sample;

    fn holds(path: &str, test: Test) -> bool {
        Condition { path: path.to_owned(), test }.holds(&sample())
    }

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn one_of_needs_the_field_and_one_equal_text() {
        assert!(holds("currency", Test::OneOf(texts(&["EUR", "USD"]))));
        assert!(holds("click.tg_id", Test::OneOf(texts(&["42"]))));
        assert!(!holds("currency", Test::OneOf(texts(&["usd"]))));
        assert!(!holds("data.absent", Test::OneOf(texts(&[""]))));
        assert!(!holds("currency", Test::OneOf(Vec::new())));
    }

    #[test]
    fn none_of_holds_where_the_field_is_missing() {
        assert!(holds("data.absent", Test::NoneOf(texts(&["x"]))));
        assert!(holds("currency", Test::NoneOf(texts(&["EUR"]))));
        assert!(!holds("currency", Test::NoneOf(texts(&["EUR", "USD"]))));
    }

    #[test]
    fn presence_is_about_a_value_not_a_key() {
        assert!(holds("data.plan.name", Test::Present));
        assert!(!holds("data.none", Test::Present), "null is missing");
        assert!(holds("data.none", Test::Missing));
        assert!(!holds("uid", Test::Missing));
    }
}
