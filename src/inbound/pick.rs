//! Where a field's value comes from: a parameter, the first of several, or several joined by a template.

use super::parameters::{Parameters, Written};

/// A field's sources, in order; the first that has a value gives it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pick(pub Vec<Source>);

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Source {
    Parameter(String),
    /// Has a value where every parameter in it has one: half an id would be another transaction's.
    Template(Vec<Piece>),
}

/// A part of a template.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Piece {
    Text(String),
    Parameter(String),
}

/// What was picked, and from which parameters.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Picked<'a> {
    pub value: String,
    pub written: Written,
    pub from: Vec<&'a str>,
}

impl Source {
    /// Reads `sub_id`, or a template like `{subid}:{tid}`. What is wrong reads after the key's name.
    pub fn parse(text: &str) -> Result<Self, String> {
        if !text.contains(['{', '}']) {
            return Ok(Self::Parameter(text.to_owned()));
        }
        pieces(text).map(Self::Template)
    }

    fn parameters(&self) -> Vec<&str> {
        match self {
            Self::Parameter(name) => vec![name],
            Self::Template(pieces) => pieces
                .iter()
                .filter_map(|piece| match piece {
                    Piece::Parameter(name) => Some(name.as_str()),
                    Piece::Text(_) => None,
                })
                .collect(),
        }
    }

    fn read(&self, parameters: &Parameters) -> Option<(String, Written)> {
        match self {
            Self::Parameter(name) => parameters.value(name).map(|value| (value.to_owned(), parameters.written(name))),
            Self::Template(pieces) => {
                let parts = pieces.iter().map(|piece| match piece {
                    Piece::Text(text) => Some(text.as_str()),
                    Piece::Parameter(name) => parameters.value(name),
                });
                parts.collect::<Option<Vec<&str>>>().map(|parts| (parts.concat(), Written::Text))
            }
        }
    }
}

impl Pick {
    pub fn read(&self, parameters: &Parameters) -> Option<Picked<'_>> {
        self.0.iter().find_map(|source| {
            let (value, written) = source.read(parameters)?;
            Some(Picked { value, written, from: source.parameters() })
        })
    }

    /// Every parameter it may look at.
    pub fn parameters(&self) -> impl Iterator<Item = &str> {
        self.0.iter().flat_map(Source::parameters)
    }
}

/// The parts of a template. Braces stand around names only.
pub fn pieces(text: &str) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        let Some((name, tail)) = after.split_once('}') else {
            return Err("has a { without its }; write a parameter's name between them, like {tid}".to_owned());
        };
        if name.is_empty() || name.contains('{') || before.contains('}') {
            return Err("has braces that hold no parameter's name; write them like {tid}".to_owned());
        }
        if !before.is_empty() {
            pieces.push(Piece::Text(before.to_owned()));
        }
        pieces.push(Piece::Parameter(name.to_owned()));
        rest = tail;
    }
    if rest.contains('}') {
        return Err("has a } without its {; write a parameter's name between them, like {tid}".to_owned());
    }
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest.to_owned()));
    }
    Ok(pieces)
}

#[cfg(test)]
mod tests {
    use super::super::parameters::Parameter;
    use super::*;

    fn pick(sources: &[&str]) -> Pick {
        Pick(sources.iter().map(|text| Source::parse(text).unwrap()).collect())
    }

    fn read(sources: &[&str], pairs: &[(&str, &str)]) -> Option<String> {
        let given = Parameters::join(pairs.iter().map(|(name, value)| Parameter::text(*name, *value))).unwrap();
        pick(sources).read(&given).map(|picked| picked.value)
    }

    #[test]
    fn the_first_source_with_a_value_gives_it() {
        let both = [("click_id", "a"), ("clickid", "b")];
        assert_eq!(read(&["clickid", "click_id"], &both).as_deref(), Some("b"));
        assert_eq!(read(&["clickid", "click_id"], &both[..1]).as_deref(), Some("a"));
        assert_eq!(read(&["clickid"], &[("clickid", "{clickid}")]), None);
    }

    #[test]
    fn a_template_wants_all_its_parameters() {
        let sources = ["{subid}:{tid}", "tid"];
        assert_eq!(read(&sources, &[("subid", "a"), ("tid", "2")]).as_deref(), Some("a:2"));
        assert_eq!(read(&sources, &[("tid", "2")]).as_deref(), Some("2"));
        assert_eq!(read(&sources, &[("subid", "a"), ("tid", "{tid}")]), None);
        assert_eq!(pick(&sources).parameters().collect::<Vec<_>>(), ["subid", "tid", "tid"]);
    }

    #[test]
    fn braces_hold_names() {
        for bad in ["{", "}", "{}", "{a", "a}", "{a{b}}", "}{a}", "{a}}"] {
            assert!(Source::parse(bad).is_err(), "{bad}");
        }
    }
}
