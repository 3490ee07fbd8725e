//! What happened: from a network's status and kind of event to a canonical name.
//!
//! Two questions, in this order. *Was it approved?* A status that says otherwise decides the name by itself: nothing that
//! was declined, rejected or is pending goes on to the second question. *What was it?* A fixed name, or a parameter that
//! tells registrations from deposits.

use std::collections::BTreeMap;

use super::Fault;
use super::parameters::Parameters;
use super::placeholder::quoted;
use crate::domain::name::CanonicalName;

/// The longest canonical name.
const NAME_BYTES: usize = 64;

/// What a value of a parameter means.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Meaning {
    /// It counts: the second question decides, or the rule's default name.
    Approved,
    Named(CanonicalName),
    /// Answered with 200, counted, not stored.
    Ignored,
}

/// Values of a parameter and what they mean.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Choice {
    /// Where the value may stand; never empty.
    pub parameters: Vec<String>,
    pub map: BTreeMap<String, Meaning>,
}

/// What an approved conversion is called.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Naming {
    /// By the parameter `event`, as in `GET /e`.
    #[default]
    Own,
    Fixed(CanonicalName),
    /// By a parameter; the default where the parameter is missing.
    By {
        choice: Choice,
        default: Option<CanonicalName>,
    },
}

/// Both questions.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct EventRule {
    /// Only networks that are known have one.
    pub status: Option<Choice>,
    pub naming: Naming,
}

/// The answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Decision {
    Name(CanonicalName),
    /// By the parameter `event`.
    Own,
    Ignored,
}

impl Choice {
    /// Whether it looks at any of these parameters.
    pub fn looks_at(&self, parameters: &[String]) -> bool {
        parameters.iter().any(|name| self.parameters.contains(name))
    }

    /// A value in the map as written, else in any case: networks are not true to theirs.
    fn meaning(&self, value: &str) -> Option<&Meaning> {
        let same = |(known, _): &(&String, &Meaning)| known.eq_ignore_ascii_case(value);
        self.map.get(value).or_else(|| self.map.iter().find(same).map(|(_, meaning)| meaning))
    }

    /// What the values that are there mean, in the order of the parameters. A macro in place of all of them is a fault:
    /// what it should have said may have been that the conversion was declined.
    fn read(&self, parameters: &Parameters) -> Result<Vec<Meaning>, Fault> {
        let values: Vec<&str> = self.parameters.iter().filter_map(|name| parameters.value(name)).collect();
        if values.is_empty() {
            let written = |name: &&String| parameters.raw(name).is_some_and(|raw| !raw.is_empty());
            if let Some(name) = self.parameters.iter().find(written) {
                let raw = quoted(parameters.raw(name).unwrap_or_default());
                let detail = format!(
                    "the parameter {name} came as {raw}, which the network did not fill in; without it a declined \
                     conversion would count as a sale: correct the URL at the network"
                );
                return Err(Fault::new("event", "unexpanded", detail));
            }
        }
        values
            .into_iter()
            .map(|value| {
                let value = value.trim();
                self.meaning(value).cloned().map_or_else(|| own_name(value).map(Meaning::Named), Ok)
            })
            .collect()
    }
}

impl EventRule {
    pub fn decide(&self, parameters: &Parameters) -> Result<Decision, Fault> {
        if let Some(status) = &self.status {
            for meaning in status.read(parameters)? {
                match meaning {
                    Meaning::Approved => {}
                    Meaning::Named(name) => return Ok(Decision::Name(name)),
                    Meaning::Ignored => return Ok(Decision::Ignored),
                }
            }
        }
        let (choice, default) = match &self.naming {
            Naming::Own => return Ok(Decision::Own),
            Naming::Fixed(name) => return Ok(Decision::Name(name.clone())),
            Naming::By { choice, default } => (choice, default),
        };
        match choice.read(parameters)?.into_iter().next() {
            Some(Meaning::Named(name)) => Ok(Decision::Name(name)),
            Some(Meaning::Ignored) => Ok(Decision::Ignored),
            Some(Meaning::Approved) | None => default.clone().map(Decision::Name).ok_or_else(|| {
                let names = choice.parameters.join(" or ");
                let detail = format!("the parameter {names}, which names the event, is missing; send it");
                Fault::new("event", "required", detail)
            }),
        }
    }

    /// Every parameter it looks at.
    pub fn parameters(&self) -> impl Iterator<Item = &str> {
        let named = match &self.naming {
            Naming::Own | Naming::Fixed(_) => None,
            Naming::By { choice, .. } => Some(choice),
        };
        self.status.iter().chain(named).flat_map(|choice| &choice.parameters).map(String::as_str)
    }
}

/// A value nobody mapped, as a name of its own. What cannot stand in a name becomes `_`, so that no other text than the
/// name itself ever becomes the name of a sale (`deposit?` is not `deposit`).
fn own_name(value: &str) -> Result<CanonicalName, Fault> {
    if let Ok(name) = value.parse() {
        return Ok(name);
    }
    let mut clean = String::new();
    for letter in value.chars().map(|letter| letter.to_ascii_lowercase()) {
        let kept = letter.is_ascii_alphanumeric() || matches!(letter, '_' | '.' | ':' | '-');
        if kept {
            clean.push(letter);
        } else if !clean.ends_with('_') || clean.is_empty() {
            clean.push('_');
        }
    }
    clean.truncate(NAME_BYTES);
    let named = clean.bytes().any(|byte| byte.is_ascii_alphanumeric());
    clean.parse().ok().filter(|_| named).ok_or_else(|| {
        let detail = format!(
            "{:?} has no letter of a-z and no digit, so that no event name can be made of it; map it in event.map",
            quoted(value)
        );
        Fault::new("event", "invalid", detail)
    })
}

#[cfg(test)]
mod tests {
    use super::super::parameters::Parameter;
    use super::*;

    fn name(text: &str) -> CanonicalName {
        text.parse().unwrap()
    }

    fn given(pairs: &[(&str, &str)]) -> Parameters {
        Parameters::join(pairs.iter().map(|(name, value)| Parameter::text(*name, *value))).unwrap()
    }

    fn by(map: &[(&str, Meaning)], default: Option<&str>) -> EventRule {
        let map = map.iter().map(|(value, meaning)| ((*value).to_owned(), meaning.clone())).collect();
        let choice = Choice { parameters: vec!["goal".to_owned()], map };
        EventRule { status: None, naming: Naming::By { choice, default: default.map(name) } }
    }

    fn told(rule: &EventRule, pairs: &[(&str, &str)]) -> String {
        match rule.decide(&given(pairs)) {
            Ok(Decision::Name(name)) => name.to_string(),
            Ok(Decision::Own) => "(own)".to_owned(),
            Ok(Decision::Ignored) => "(ignored)".to_owned(),
            Err(fault) => fault.code.to_owned(),
        }
    }

    #[test]
    fn values_are_mapped_ignored_or_their_own_name() {
        let rule = by(&[("ftd", Meaning::Named(name("deposit"))), ("ping", Meaning::Ignored)], None);
        for (value, wanted) in [
            ("ftd", "deposit"),
            ("FTD ", "deposit"),
            ("ping", "(ignored)"),
            ("Second.Deposit", "Second.Deposit"),
            ("Second deposit!", "second_deposit_"),
            ("deposit?", "deposit_"),
            ("déposit", "d_posit"),
            ("Отказ", "invalid"),
            ("!!", "invalid"),
            ("", "required"),
            ("{goal}", "unexpanded"),
        ] {
            assert_eq!(told(&rule, &[("goal", value)]), wanted, "{value}");
        }
        assert_eq!(told(&rule, &[]), "required");
        let long = "x y".repeat(40);
        assert_eq!(told(&rule, &[("goal", &long)]).len(), 64);
    }

    #[test]
    fn the_default_stands_in_for_a_missing_parameter_and_not_for_a_macro() {
        let rule = by(&[], Some("deposit"));
        assert_eq!(told(&rule, &[]), "deposit");
        assert_eq!(told(&rule, &[("goal", "")]), "deposit");
        assert_eq!(told(&rule, &[("goal", "{goal}")]), "unexpanded");
    }

    #[test]
    fn what_was_not_approved_is_never_asked_what_it_was() {
        let words = [("approved", Meaning::Approved), ("declined", Meaning::Named(name("conversion_declined")))];
        let map = words.into_iter().map(|(word, meaning)| (word.to_owned(), meaning)).collect();
        let status = Choice { parameters: vec!["s1".to_owned(), "s2".to_owned()], map };
        let rule = EventRule { status: Some(status), naming: Naming::Fixed(name("deposit")) };
        for (pairs, wanted) in [
            (vec![], "deposit"),
            (vec![("s1", "approved")], "deposit"),
            (vec![("s1", "Declined")], "conversion_declined"),
            (vec![("s1", "approved"), ("s2", "declined")], "conversion_declined"),
            (vec![("s1", "{status}"), ("s2", "approved")], "deposit"),
            (vec![("s1", "{status}")], "unexpanded"),
            (vec![("s1", "chargeback")], "chargeback"),
        ] {
            assert_eq!(told(&rule, &pairs), wanted, "{pairs:?}");
        }
    }

    #[test]
    fn without_a_rule_the_parameter_event_names_it() {
        assert_eq!(told(&EventRule::default(), &[("status", "declined")]), "(own)");
    }
}
