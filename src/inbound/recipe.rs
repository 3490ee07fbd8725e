//! One source's rules for postbacks, compiled, and how a postback is read by them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::Fault;
use super::amount::{self, Style};
use super::event_name::{Decision, EventRule};
use super::field::{Field, PLAIN};
use super::parameters::{Parameters, Written};
use super::pick::Pick;
use super::placeholder;
use super::signature::HashCheck;
use crate::domain::event::Object;
use crate::domain::money::Currency;

/// The parameter that names the event where no rule does.
const EVENT: &str = "event";
/// Its other name in `GET /e`.
const CANONICAL: &str = "canonical";
const VALUE: &str = "value";

/// Short names for fields, as in `GET /e`.
const ALIASES: [&str; 3] = ["eid", "eventId", "t"];

/// Which parameters are fields by their own name.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Names {
    /// All of `GET /e`: the source has no rules of its own.
    #[default]
    WithAliases,
    /// Whole names only: a network's `t` is hardly our time.
    Whole,
}

/// How a source's postbacks are read. The default reads them as `GET /e` does.
#[derive(Clone, Debug, Default)]
pub struct Recipe {
    pub fields: BTreeMap<Field, Pick>,
    pub event: EventRule,
    pub amounts: Style,
    /// The body of a good answer; the JSON of `GET /e` where there is none.
    pub answer: Option<String>,
    pub hash: Option<HashCheck>,
    /// Parameters that are kept nowhere.
    pub private: BTreeSet<String>,
    pub names: Names,
}

impl Recipe {
    /// Whether nothing was said about postbacks: the source of an application, not of a network.
    pub fn is_plain(&self) -> bool {
        self.fields.is_empty() && self.answer.is_none() && self.hash.is_none()
    }
}

/// A postback read.
#[derive(Clone, PartialEq, Debug)]
pub enum Outcome {
    Event(Box<Mapped>),
    /// `false` in a map: nothing is stored.
    Ignored,
}

/// A postback as the JSON object of the same event.
#[derive(Clone, PartialEq, Debug)]
pub struct Mapped {
    pub object: Object,
    /// Fields that have another name at the network: ours, theirs.
    pub from: BTreeMap<String, String>,
}

impl Recipe {
    /// Takes out what is kept nowhere and is no part of what tells postbacks apart.
    pub fn strip(&self, parameters: &mut Parameters) {
        for name in &self.private {
            parameters.remove(name);
        }
        if let Some(hash) = &self.hash {
            parameters.remove(&hash.parameter);
        }
    }

    /// Reads a postback from stripped parameters; `default` is the currency of an amount that comes without one.
    pub fn read(&self, mut parameters: Parameters, default: Currency) -> Result<Outcome, Vec<Fault>> {
        self.strip(&mut parameters);
        let decision = self.event.decide(&parameters);
        if decision == Ok(Decision::Ignored) {
            return Ok(Outcome::Ignored);
        }
        let written = self.written(&parameters);
        let mut reader = Reader { recipe: self, parameters, used: BTreeSet::new(), faults: Vec::new() };
        let mut mapped = Mapped { object: Object::new(), from: BTreeMap::new() };
        reader.fields(&mut mapped, &decision);
        if written == Written::Text {
            reader.amount(&mut mapped.object, default);
        }
        reader.faults.extend(decision.err());
        reader.rest(&mut mapped.object);
        if reader.faults.is_empty() {
            return Ok(Outcome::Event(Box::new(mapped)));
        }
        for fault in &mut reader.faults {
            if let Some(theirs) = mapped.from.get(&fault.field) {
                fault.detail = format!("{} (from the parameter {theirs})", fault.detail);
            }
        }
        Err(reader.faults)
    }

    /// Every parameter a rule looks at.
    pub fn parameters(&self) -> impl Iterator<Item = &str> {
        self.fields.values().flat_map(Pick::parameters).chain(self.event.parameters())
    }

    fn maps(&self, name: &str) -> bool {
        self.fields.keys().any(|field| field.as_str() == name)
    }

    /// How the amount came: a JSON number has its own notation, whatever the source's style.
    fn written(&self, parameters: &Parameters) -> Written {
        match self.fields.iter().find(|(field, _)| field.as_str() == VALUE) {
            Some((_, pick)) => pick.read(parameters).map_or(Written::Text, |picked| picked.written),
            None => parameters.written(VALUE),
        }
    }
}

struct Reader<'a> {
    recipe: &'a Recipe,
    parameters: Parameters,
    used: BTreeSet<String>,
    faults: Vec<Fault>,
}

impl Reader<'_> {
    fn fields(&mut self, mapped: &mut Mapped, decision: &Result<Decision, Fault>) {
        self.used.extend(self.recipe.event.parameters().map(str::to_owned));
        for (field, pick) in &self.recipe.fields {
            let Some(picked) = pick.read(&self.parameters) else { continue };
            self.used.extend(picked.from.iter().map(|name| (*name).to_owned()));
            let theirs = picked.from.join(" and ");
            if theirs != field.as_str() {
                mapped.from.insert(field.to_string(), theirs);
            }
            field.put(&mut mapped.object, picked.value);
        }
        for name in PLAIN.into_iter().filter(|name| !self.recipe.maps(name)) {
            self.own(name, &mut mapped.object);
        }
        if self.recipe.names == Names::WithAliases {
            for name in ALIASES {
                self.own(name, &mut mapped.object);
            }
        }
        match decision {
            Ok(Decision::Own) => {
                self.own(EVENT, &mut mapped.object);
                if self.recipe.names == Names::WithAliases {
                    self.own(CANONICAL, &mut mapped.object);
                }
            }
            Ok(Decision::Name(name)) => drop(mapped.object.insert(EVENT.to_owned(), Value::from(name.as_str()))),
            Ok(Decision::Ignored) | Err(_) => {}
        }
    }

    /// A field under its own name, unless a rule uses the parameter of that name for something else.
    fn own(&mut self, name: &str, object: &mut Object) {
        let claimed = self.recipe.parameters().any(|used| used == name);
        if let Some(value) = self.parameters.value(name).filter(|_| !claimed) {
            object.insert(name.to_owned(), Value::from(value));
            self.used.insert(name.to_owned());
        }
    }

    /// Reads the amount in the source's style. Its digits go on as they are; validation knows their limits.
    fn amount(&mut self, object: &mut Object, default: Currency) {
        let Some(text) = object.get(VALUE).and_then(Value::as_str) else { return };
        let given = object.get("currency").and_then(Value::as_str);
        // A currency that is none is refused by validation; no sign can contradict it.
        let currency = given.map_or(Some(default), |text| text.parse().ok());
        let told = self.recipe.amounts.read(text).and_then(|read| match (read.sign, currency) {
            (Some(sign), Some(currency)) if !amount::fits(sign, currency) => Err(format!(
                "stands with {sign}, and its currency would be {currency}; map the currency in params, or set \
                 ingest.default_currency"
            )),
            (Some(_) | None, _) => Ok(read.digits),
        });
        let shown = placeholder::quoted(text).into_owned();
        match told {
            Ok(digits) => drop(object.insert(VALUE.to_owned(), Value::from(digits))),
            Err(why) => {
                // What is refused here needs no second judgement.
                object.remove(VALUE);
                self.faults.push(Fault::new(VALUE, "invalid", format!("{shown:?} {why}")));
            }
        }
    }

    /// What nobody mapped is data.
    fn rest(&mut self, object: &mut Object) {
        let names: Vec<String> =
            self.parameters.names().filter(|name| !self.used.contains(*name)).map(str::to_owned).collect();
        if names.is_empty() {
            return;
        }
        let data = object.entry("data").or_insert_with(|| Value::Object(Object::new()));
        let Some(data) = data.as_object_mut() else { return };
        for name in names {
            let Some(value) = self.parameters.value(&name) else { continue };
            match data.get(&name) {
                Some(known) if known.as_str() != Some(value) => {
                    let detail = "params maps another parameter to this name of data; map this one to another name";
                    self.faults.push(Fault::new(name, "contradiction", detail));
                }
                Some(_) => {}
                None => drop(data.insert(name, Value::from(value))),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::event_name::Naming;
    use super::super::parameters::Parameter;
    use super::super::pick::Source;
    use super::*;

    fn usd() -> Currency {
        "USD".parse().unwrap()
    }

    fn recipe(fields: &[(&str, &str)], style: Style) -> Recipe {
        let fields =
            fields.iter().map(|(field, source)| (field.parse().unwrap(), Pick(vec![Source::parse(source).unwrap()])));
        let naming = Naming::Fixed("deposit".parse().unwrap());
        let event = EventRule { status: None, naming };
        Recipe { fields: fields.collect(), event, amounts: style, names: Names::Whole, ..Recipe::default() }
    }

    fn given(pairs: &[(&str, &str)]) -> Parameters {
        Parameters::join(pairs.iter().map(|(name, value)| Parameter::text(*name, *value))).unwrap()
    }

    /// The object as JSON, or fields and codes of what is wrong.
    fn told(recipe: &Recipe, parameters: Parameters) -> String {
        match recipe.read(parameters, usd()) {
            Ok(Outcome::Event(mapped)) => Value::Object(mapped.object).to_string(),
            Ok(Outcome::Ignored) => "ignored".to_owned(),
            Err(faults) => {
                faults.iter().map(|fault| format!("{} {}", fault.field, fault.code)).collect::<Vec<_>>().join(", ")
            }
        }
    }

    #[test]
    fn mapped_parameters_are_fields_and_all_others_are_data() {
        let recipe = recipe(&[("uid", "sub_id"), ("user.email", "mail"), ("data.plan", "p")], Style::Dot);
        assert_eq!(
            told(
                &recipe,
                given(&[
                    ("sub_id", "s"),
                    ("mail", "a@b.example"),
                    ("p", "gold"),
                    ("geo", "DE"),
                    ("x", "{x}"),
                    ("y", "")
                ])
            ),
            r#"{"data":{"plan":"gold","geo":"DE"},"uid":"s","user":{"email":"a@b.example"},"event":"deposit"}"#
        );
        assert_eq!(told(&recipe, given(&[("p", "gold"), ("plan", "silver")])), "plan contradiction");
        assert_eq!(
            told(&recipe, given(&[("p", "gold"), ("plan", "gold")])),
            r#"{"data":{"plan":"gold"},"event":"deposit"}"#
        );
    }

    #[test]
    fn a_source_with_any_rule_for_postbacks_is_a_networks() {
        assert!(Recipe::default().is_plain());
        let fields = recipe(&[("uid", "sub_id")], Style::Dot).fields;
        let hash = super::super::signature::HashCheck {
            parameter: "sig".to_owned(),
            secret: crate::domain::secret::Secret::new("s".to_owned()),
            kind: super::super::signature::Kind::Md5,
            over: Vec::new(),
        };
        for ruled in [
            Recipe { fields, ..Recipe::default() },
            Recipe { answer: Some("OK".to_owned()), ..Recipe::default() },
            Recipe { hash: Some(hash), ..Recipe::default() },
        ] {
            assert!(!ruled.is_plain(), "{ruled:?}");
        }
    }

    #[test]
    fn own_names_serve_where_no_rule_speaks() {
        let recipe = recipe(&[("uid", "sub_id"), ("event_id", "t")], Style::Dot);
        // `t` is the network's transaction here, `uid` is somebody else's, `eid` is no name of ours.
        assert_eq!(
            told(
                &recipe,
                given(&[
                    ("t", "5"),
                    ("uid", "u"),
                    ("eid", "e"),
                    ("currency", "EUR"),
                    ("event", "x"),
                    ("value", "1,000.5")
                ])
            ),
            r#"{"event_id":"5","value":"1000.5","currency":"EUR","event":"deposit","data":{"eid":"e","event":"x","uid":"u"}}"#
        );
        assert_eq!(
            told(&Recipe::default(), given(&[("t", "5"), ("eid", "e"), ("canonical", "lead"), ("user.email", "x")])),
            r#"{"eid":"e","t":"5","canonical":"lead","data":{"user.email":"x"}}"#
        );
    }

    #[test]
    fn amounts_follow_the_style_and_json_numbers_their_own() {
        let comma = recipe(&[("value", "sum")], Style::Comma);
        assert_eq!(told(&comma, given(&[("sum", "1.234,50")])), r#"{"value":"1234.50","event":"deposit"}"#);
        assert_eq!(told(&comma, given(&[("sum", "1234.50")])), "value invalid");
        let number = Parameter { name: "sum".to_owned(), value: "1.234".to_owned(), written: Written::Number };
        assert_eq!(told(&comma, Parameters::join([number]).unwrap()), r#"{"value":"1.234","event":"deposit"}"#);
        let dot = recipe(&[], Style::Dot);
        assert_eq!(told(&dot, given(&[("value", "$25")])), r#"{"value":"25","event":"deposit"}"#);
        assert_eq!(told(&dot, given(&[("value", "€25")])), "value invalid", "the currency would be USD");
        assert_eq!(
            told(&dot, given(&[("value", "€25"), ("currency", "eur")])),
            r#"{"value":"25","currency":"eur","event":"deposit"}"#
        );
    }

    #[test]
    fn what_is_private_is_neither_kept_nor_looked_at() {
        let hash = super::super::signature::HashCheck {
            parameter: "sig".to_owned(),
            secret: crate::domain::secret::Secret::new("s".to_owned()),
            kind: super::super::signature::Kind::Md5,
            over: Vec::new(),
        };
        let private = BTreeSet::from(["security_token".to_owned()]);
        let recipe = Recipe { hash: Some(hash), private, ..recipe(&[], Style::Dot) };
        let parameters = given(&[("sig", "1"), ("security_token", "2"), ("token", "3"), ("a", "4")]);
        assert_eq!(told(&recipe, parameters), r#"{"event":"deposit","data":{"a":"4"}}"#);
    }
}
