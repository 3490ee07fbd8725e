//! The configuration as it is written: a tree of values that each know their file and line.
//!
//! The tree is read by [`super::section::Section`], which collects what does not fit instead of stopping at the first.
//! It holds secrets in plain text, so none of its types can be printed. Absent on purpose: serde, which names one problem
//! and then gives up.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::problem::Problem;

/// Where something is written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Place {
    pub(crate) file: Arc<Path>,
    /// From 1; `None` for the file as a whole.
    pub(crate) line: Option<usize>,
}

/// A value and where its key (or, in a list, it itself) stands.
#[derive(Clone)]
pub(crate) struct Node {
    pub(crate) at: Place,
    pub(crate) value: Value,
}

/// A TOML value. Floats keep their written digits; a number too large for 128 bits is the largest there is.
#[derive(Clone)]
pub(crate) enum Value {
    Text(String),
    Integer(i128),
    Float(String),
    Bool(bool),
    Time(String),
    List(Vec<Node>),
    Table(Table),
}

/// A TOML table; keys are unique.
#[derive(Clone, Default)]
pub(crate) struct Table {
    pub(crate) entries: Vec<Entry>,
}

#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) node: Node,
}

impl Place {
    /// The file as a whole.
    pub(crate) fn whole(file: &Path) -> Self {
        Self { file: Arc::from(file), line: None }
    }

    pub(crate) fn problem(&self, key: impl Into<String>, detail: impl Into<String>) -> Problem {
        Problem { file: PathBuf::from(&*self.file), line: self.line, key: key.into(), detail: detail.into() }
    }
}

/// `file:line`
impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.file.display())?;
        self.line.map_or(Ok(()), |line| write!(f, ":{line}"))
    }
}

impl Value {
    /// What it is, for a person who wrote another thing than was wanted.
    pub(crate) fn what(&self) -> &'static str {
        match self {
            Self::Text(_) => "a text",
            Self::Integer(_) => "a whole number",
            Self::Float(_) => "a number with a point",
            Self::Bool(_) => "true or false",
            Self::Time(_) => "a date or time",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
        }
    }
}

impl Table {
    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        self.entries.iter().find(|entry| entry.key == key).map(|entry| &entry.node)
    }

    /// Takes over what `other` holds. Tables of the top level are joined; what is left and given twice is a problem that
    /// names both places.
    pub(crate) fn join(&mut self, other: Self) -> Vec<Problem> {
        let mut problems = Vec::new();
        for entry in other.entries {
            let same = self.entries.iter_mut().find(|known| known.key == entry.key);
            match (same, entry) {
                (None, entry) => self.entries.push(entry),
                (Some(Entry { node: Node { value: Value::Table(ours), .. }, .. }), Entry { key, node })
                    if matches!(node.value, Value::Table(_)) =>
                {
                    if let Value::Table(theirs) = node.value {
                        problems.extend(ours.join_section(&key, theirs));
                    }
                }
                (Some(known), entry) => problems.push(twice(&known.node, &entry.node, dotted("", &entry.key))),
            }
        }
        problems
    }

    fn join_section(&mut self, section: &str, other: Self) -> Vec<Problem> {
        let mut problems = Vec::new();
        for entry in other.entries {
            match self.get(&entry.key) {
                Some(known) => problems.push(twice(known, &entry.node, dotted(section, &entry.key))),
                None => self.entries.push(entry),
            }
        }
        problems
    }
}

fn twice(first: &Node, second: &Node, key: String) -> Problem {
    second.at.problem(key, format!("is already given in {}; keep one of the two", first.at))
}

/// `path.key`, the key in quotes where TOML wants it so.
pub(crate) fn dotted(path: &str, key: &str) -> String {
    let bare = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    let key = if bare { key.to_owned() } else { format!("{key:?}") };
    if path.is_empty() { key } else { format!("{path}.{key}") }
}

/// Reads TOML. A syntax error is one problem: what follows it cannot be trusted.
pub(crate) fn parse(text: &str, file: &Path) -> Result<Table, Problem> {
    let lines = Lines { file: Arc::from(file), starts: text.match_indices('\n').map(|(at, _)| at).collect() };
    match DeTable::parse(text) {
        Ok(table) => Ok(lines.table(table.get_ref())),
        Err(error) => {
            let place = error.span().map_or_else(|| Place::whole(file), |span| lines.place(span.start));
            let message = error.message().replace('\n', "; ");
            Err(place.problem("", format!("is not TOML here: {message}")))
        }
    }
}

struct Lines {
    file: Arc<Path>,
    /// Offsets of the line feeds, rising.
    starts: Vec<usize>,
}

impl Lines {
    fn place(&self, offset: usize) -> Place {
        let before = self.starts.partition_point(|at| *at < offset);
        Place { file: Arc::clone(&self.file), line: Some(before.saturating_add(1)) }
    }

    fn table(&self, table: &DeTable<'_>) -> Table {
        let entry = |key: &str, at: usize, value: &DeValue<'_>| Entry {
            key: key.to_owned(),
            node: Node { at: self.place(at), value: self.value(value) },
        };
        Table {
            entries: table.iter().map(|(key, value)| entry(key.get_ref(), key.span().start, value.get_ref())).collect(),
        }
    }

    fn list(&self, list: &DeArray<'_>) -> Vec<Node> {
        let node =
            |item: &Spanned<DeValue<'_>>| Node { at: self.place(item.span().start), value: self.value(item.get_ref()) };
        list.iter().map(node).collect()
    }

    fn value(&self, value: &DeValue<'_>) -> Value {
        match value {
            DeValue::String(text) => Value::Text(text.to_string()),
            DeValue::Integer(number) => {
                let whole = i128::from_str_radix(number.as_str(), number.radix());
                Value::Integer(whole.unwrap_or(i128::MAX))
            }
            DeValue::Float(number) => Value::Float(number.as_str().to_owned()),
            DeValue::Boolean(flag) => Value::Bool(*flag),
            DeValue::Datetime(time) => Value::Time(time.to_string()),
            DeValue::Array(list) => Value::List(self.list(list)),
            DeValue::Table(table) => Value::Table(self.table(table)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Table {
        parse(text, Path::new("c.toml")).map_err(|problem| problem.to_string()).unwrap_or_else(|e| panic!("{e}"))
    }

    #[test]
    fn every_value_knows_the_line_of_its_key() {
        let tree = read("# x\r\n[a]\r\nb = \"\"\"\r\n1\r\n2\"\"\"\r\nc = [\r\n  1,\r\n  0x10,\r\n]\r\n");
        let Some(Value::Table(a)) = tree.get("a").map(|node| &node.value) else { panic!() };
        assert_eq!(tree.get("a").unwrap().at.line, Some(2));
        assert_eq!(a.get("b").unwrap().at.line, Some(3));
        let Some(Value::List(items)) = a.get("c").map(|node| &node.value) else { panic!() };
        assert_eq!(items[1].at.line, Some(8));
        assert!(matches!(items[1].value, Value::Integer(16)));
    }

    #[test]
    fn a_name_given_in_two_files_names_both_places() {
        let mut first = read("[destinations.a]\nkind = \"webhook\"\n[destinations.b]\n");
        let second =
            parse("\n[destinations.c]\n[destinations.a]\nkind = \"x\"\n", Path::new("d.toml")).unwrap_or_default();
        let problems: Vec<String> = first.join(second).iter().map(ToString::to_string).collect();
        assert_eq!(problems, ["d.toml:3: destinations.a: is already given in c.toml:1; keep one of the two"]);
        let Some(Value::Table(all)) = first.get("destinations").map(|node| &node.value) else { panic!() };
        assert_eq!(all.entries.len(), 3);
    }

    #[test]
    fn keys_that_need_quotes_get_them() {
        assert_eq!(dotted("destinations", "a.b"), "destinations.\"a.b\"");
        assert_eq!(dotted("", "a\u{1b}"), "\"a\\u{1b}\"");
    }
}
