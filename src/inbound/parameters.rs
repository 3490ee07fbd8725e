//! The parameters of one postback, from its query and its body together.

use std::collections::BTreeMap;

use super::placeholder::{counting, unexpanded};
use super::{Fault, TOKEN};

/// How a value was written: a JSON number has its own notation, whatever style the source's texts have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Written {
    Text,
    Number,
}

/// One parameter as it came, decoded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Parameter {
    pub name: String,
    pub value: String,
    pub written: Written,
}

/// Parameters with unique names, without the token.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Parameters {
    by_name: BTreeMap<String, (String, Written)>,
}

impl Parameter {
    pub fn text(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self { name: name.into(), value: value.into(), written: Written::Text }
    }
}

impl Parameters {
    /// Joins what came in; the token is left out. A name with two values that both count is a fault, and so is a NUL.
    pub fn join(given: impl IntoIterator<Item = Parameter>) -> Result<Self, Vec<Fault>> {
        let mut by_name: BTreeMap<String, (String, Written)> = BTreeMap::new();
        let mut faults = Vec::new();
        for Parameter { name, value, written } in given {
            if name == TOKEN {
                continue;
            }
            if name.contains('\0') || value.contains('\0') {
                faults.push(Fault::new(name, "nul", "the parameter holds a NUL character; leave it out"));
                continue;
            }
            match by_name.get(&name) {
                Some((known, _)) if counting(known).is_none() => drop(by_name.insert(name, (value, written))),
                Some((known, _)) if counting(&value).is_some_and(|value| value != known) => {
                    let detail = "the parameter stands twice with different values; send it once";
                    faults.push(Fault::new(name, "contradiction", detail));
                }
                Some(_) => {}
                None => drop(by_name.insert(name, (value, written))),
            }
        }
        if faults.is_empty() { Ok(Self { by_name }) } else { Err(faults) }
    }

    /// The value as it came, also where it is empty or a macro; `None` where the parameter is not there.
    pub fn raw(&self, name: &str) -> Option<&str> {
        self.by_name.get(name).map(|(value, _)| value.as_str())
    }

    /// The value if it counts: there, not empty, not a macro nobody filled in.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.raw(name).and_then(counting)
    }

    pub fn written(&self, name: &str) -> Written {
        self.by_name.get(name).map_or(Written::Text, |(_, written)| *written)
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(String::as_str)
    }

    /// Names of the parameters that came as macros.
    pub fn unexpanded(&self) -> Vec<String> {
        self.by_name.iter().filter(|(_, (value, _))| unexpanded(value)).map(|(name, _)| name.clone()).collect()
    }

    /// Takes a parameter out.
    pub fn remove(&mut self, name: &str) -> Option<String> {
        self.by_name.remove(name).map(|(value, _)| value)
    }

    /// All of them by name, as they came: equal for the same postback in whatever order it is written.
    pub fn pairs(&self) -> Vec<(String, String)> {
        self.by_name.iter().map(|(name, (value, _))| (name.clone(), value.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn join(pairs: &[(&str, &str)]) -> Result<Parameters, Vec<Fault>> {
        Parameters::join(pairs.iter().map(|(name, value)| Parameter::text(*name, *value)))
    }

    #[test]
    fn a_name_has_one_value() {
        let joined = join(&[("b", "1"), ("a", ""), ("a", "2"), ("b", "1"), ("b", "{x}"), ("token", "t")]).unwrap();
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(joined.pairs(), [pair("a", "2"), pair("b", "1")]);
        let faults = join(&[("a", "1"), ("a", "2"), ("token", "t"), ("token", "u"), ("n", "\0")]).unwrap_err();
        let told: Vec<(&str, &str)> = faults.iter().map(|fault| (fault.field.as_str(), fault.code)).collect();
        assert_eq!(told, [("a", "contradiction"), ("n", "nul")]);
    }

    #[test]
    fn the_order_they_came_in_makes_no_difference() {
        assert_eq!(join(&[("b", "1"), ("a", "2")]), join(&[("a", "2"), ("b", "1")]));
    }
}
