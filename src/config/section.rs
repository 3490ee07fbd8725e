//! One table of the configuration while it is read: typed accessors that collect every problem, and a last look at the
//! keys nobody asked for.
//!
//! An accessor whose value does not fit notes the problem and answers the default, so that reading goes on and all
//! problems are found at once. A key is known because it was asked for: there is no second list to keep in step.

use std::ops::RangeInclusive;

use super::findings::{Reading, nearest, shown};
use super::raw::{Node, Place, Table, Value, dotted};
use super::values;
use crate::domain::time::DurationMs;

pub(crate) struct Section<'a> {
    /// `None` where the table is not there: every key is missing then.
    table: Option<&'a Table>,
    path: String,
    at: Place,
    known: Vec<&'static str>,
    /// Given keys that a problem stands for already.
    judged: Vec<&'static str>,
}

/// A whole number's bounds, default and what it counts, for the error text.
pub(crate) struct Whole {
    pub(crate) bounds: RangeInclusive<u64>,
    pub(crate) default: u64,
}

impl<'a> Section<'a> {
    pub(crate) fn new(table: &'a Table, path: String, at: Place) -> Self {
        Self { table: Some(table), path, at, known: Vec::new(), judged: Vec::new() }
    }

    /// The table under `key` of `self`; an empty one where it is missing or no table.
    pub(crate) fn section(&mut self, key: &'static str, cx: &mut Reading<'_>) -> Section<'a> {
        let path = self.key(key);
        let node = self.node(key, cx);
        let table = node.and_then(|node| match &node.value {
            Value::Table(table) => Some(table),
            Value::Text(_) | Value::Integer(_) | Value::Float(_) | Value::Bool(_) | Value::Time(_) | Value::List(_) => {
                cx.wrong_type(&node.at, path.as_str(), &node.value, &format!("it as a table: [{path}]"));
                None
            }
        });
        let at = node.map_or_else(|| self.at.clone(), |node| node.at.clone());
        Section { table, path, at, known: Vec::new(), judged: Vec::new() }
    }

    /// Where the table begins.
    pub(crate) fn at(&self) -> &Place {
        &self.at
    }

    /// Where `key` stands, or the table where it is missing.
    pub(crate) fn place(&self, key: &str) -> Place {
        self.table.and_then(|table| table.get(key)).map_or_else(|| self.at.clone(), |node| node.at.clone())
    }

    /// The whole dotted key.
    pub(crate) fn key(&self, key: &str) -> String {
        dotted(&self.path, key)
    }

    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = &'a super::raw::Entry> + use<'a> {
        self.table.into_iter().flat_map(|table| &table.entries)
    }

    /// The value of `key`, if it is given; asking makes the key known.
    pub(crate) fn node(&mut self, key: &'static str, cx: &mut Reading<'_>) -> Option<&'a Node> {
        #[cfg(test)]
        cx.asked.insert(key);
        #[cfg(not(test))]
        let _ = cx;
        if !self.known.contains(&key) {
            self.known.push(key);
        }
        self.table?.get(key)
    }

    /// Like [`Section::node`], noting a problem where the key is missing; `example` is what to add.
    pub(crate) fn required(&mut self, key: &'static str, example: &str, cx: &mut Reading<'_>) -> Option<&'a Node> {
        let node = self.node(key, cx);
        if node.is_none() {
            cx.problem(&self.at, self.key(key), format!("is missing; add {example}"));
        }
        node
    }

    pub(crate) fn text(&mut self, key: &'static str, cx: &mut Reading<'_>) -> Option<&'a str> {
        let node = self.node(key, cx)?;
        text_of(node, &self.key(key), cx)
    }

    pub(crate) fn boolean(&mut self, key: &'static str, default: bool, cx: &mut Reading<'_>) -> bool {
        let Some(node) = self.node(key, cx) else { return default };
        if let Value::Bool(flag) = node.value {
            return flag;
        }
        cx.wrong_type(&node.at, self.key(key), &node.value, "true or false, without quotes");
        default
    }

    pub(crate) fn whole(&mut self, key: &'static str, rule: &Whole, cx: &mut Reading<'_>) -> u64 {
        let Some(node) = self.node(key, cx) else { return rule.default };
        let (from, to) = (rule.bounds.start(), rule.bounds.end());
        if let Value::Integer(number) = &node.value {
            match u64::try_from(*number) {
                Ok(number) if rule.bounds.contains(&number) => return number,
                _ => cx.problem(&node.at, self.key(key), format!("{number} is out of range; write {from} to {to}")),
            }
        } else {
            let wanted = format!("a whole number from {from} to {to}, without quotes");
            cx.wrong_type(&node.at, self.key(key), &node.value, &wanted);
        }
        rule.default
    }

    pub(crate) fn duration(&mut self, key: &'static str, default: DurationMs, cx: &mut Reading<'_>) -> DurationMs {
        self.duration_if(key, cx).unwrap_or(default)
    }

    /// A duration above zero.
    pub(crate) fn span(&mut self, key: &'static str, default: DurationMs, cx: &mut Reading<'_>) -> DurationMs {
        match self.duration_if(key, cx) {
            Some(DurationMs::ZERO) => {
                let place = self.place(key);
                cx.problem(&place, self.key(key), format!("must be longer than zero; write a time like \"{default}\""));
                default
            }
            Some(given) => given,
            None => default,
        }
    }

    pub(crate) fn duration_if(&mut self, key: &'static str, cx: &mut Reading<'_>) -> Option<DurationMs> {
        let node = self.node(key, cx)?;
        let key = self.key(key);
        if let Value::Integer(number) = &node.value {
            cx.problem(&node.at, key, format!("has no unit; write \"{number}s\" for seconds (units: ms s m h d)"));
            return None;
        }
        let Value::Text(text) = &node.value else {
            cx.wrong_type(&node.at, key, &node.value, "a duration in quotes, like \"30s\" or \"1h30m\"");
            return None;
        };
        let read = DurationMs::parse(text);
        if read.is_none() {
            let wanted = "write digits with a unit (ms s m h d), like \"30s\" or \"1h30m\"";
            cx.problem(&node.at, key, format!("{} is not a duration; {wanted}", shown(text)));
        }
        read
    }

    /// A size within `bounds`; `None` where it is missing or wrong.
    pub(crate) fn size(&mut self, key: &'static str, bounds: RangeInclusive<u64>, cx: &mut Reading<'_>) -> Option<u64> {
        let node = self.node(key, cx)?;
        let read = match &node.value {
            Value::Text(text) => values::size(text),
            Value::Integer(number) => u64::try_from(*number).ok(),
            Value::Float(_) | Value::Bool(_) | Value::Time(_) | Value::List(_) | Value::Table(_) => None,
        };
        let (from, to) = (values::show_size(*bounds.start()), values::show_size(*bounds.end()));
        match read {
            Some(bytes) if bounds.contains(&bytes) => return Some(bytes),
            Some(_) => cx.problem(&node.at, self.key(key), format!("is out of range; write {from} to {to}")),
            None => {
                let wanted = "is not a size; write a whole number with a unit (KB MB GB KiB MiB GiB), like \"64MiB\"";
                cx.problem(&node.at, self.key(key), wanted);
            }
        }
        None
    }

    /// A list of texts, each with its own place and key; `None` where the key is missing or no list.
    pub(crate) fn texts(&mut self, key: &'static str, cx: &mut Reading<'_>) -> Option<Vec<(&'a str, &'a Node)>> {
        let node = self.node(key, cx)?;
        let key = self.key(key);
        let Value::List(items) = &node.value else {
            cx.wrong_type(&node.at, key, &node.value, "a list of texts, like [\"a\", \"b\"]");
            return None;
        };
        let mut texts = Vec::new();
        for (index, item) in items.iter().enumerate() {
            texts.extend(text_of(item, &format!("{key}[{index}]"), cx).map(|text| (text, item)));
        }
        Some(texts)
    }

    /// One word of several; `None` where the key is missing or another word.
    pub(crate) fn choice<T: Copy>(
        &mut self,
        key: &'static str,
        words: &[(&'static str, T)],
        cx: &mut Reading<'_>,
    ) -> Option<T> {
        let given = self.text(key, cx)?;
        let found = words.iter().find(|(word, _)| *word == given).map(|(_, value)| *value);
        if found.is_none() {
            let remedy = match nearest(given, words.iter().map(|(word, _)| *word)) {
                Some(word) => format!("did you mean \"{word}\"?"),
                None => format!("write {}", one_of(words.iter().map(|(word, _)| *word))),
            };
            let place = self.place(key);
            cx.problem(&place, self.key(key), format!("{} is not known; {remedy}", shown(given)));
        }
        found
    }

    /// Refuses `keys` where they are given and were not asked for.
    pub(crate) fn refuse(&mut self, keys: &[&'static str], detail: &dyn Fn(&str) -> String, cx: &mut Reading<'_>) {
        for key in keys {
            let fresh = !self.known.contains(key) && !self.judged.contains(key);
            if let Some(node) = self.table.and_then(|table| table.get(key)).filter(|_| fresh) {
                self.judged.push(key);
                cx.problem(&node.at, self.key(key), detail(key));
            }
        }
    }

    /// Refuses every key that was not asked for, with the one that was probably meant.
    pub(crate) fn finish(&self, cx: &mut Reading<'_>) {
        for entry in self.entries() {
            let name = entry.key.as_str();
            if self.known.contains(&name) || self.judged.contains(&name) {
                continue;
            }
            let detail = match nearest(name, self.known.iter().copied()) {
                Some(word) => format!("is not a key of postbackd; did you mean \"{word}\"?"),
                None => format!("is not a key of postbackd; remove it (known here: {})", self.known.join(", ")),
            };
            cx.problem(&entry.node.at, self.key(name), detail);
        }
    }
}

/// `"a", "b" or "c"`.
fn one_of<'w>(words: impl Iterator<Item = &'w str>) -> String {
    let quoted: Vec<String> = words.map(|word| format!("\"{word}\"")).collect();
    match quoted.split_last() {
        Some((last, others)) if !others.is_empty() => format!("{} or {last}", others.join(", ")),
        Some(_) | None => quoted.concat(),
    }
}

/// The text of a node, or a problem.
pub(crate) fn text_of<'a>(node: &'a Node, key: &str, cx: &mut Reading<'_>) -> Option<&'a str> {
    if let Value::Text(text) = &node.value {
        if !text.is_empty() {
            return Some(text);
        }
        cx.problem(&node.at, key, "is empty; write a text or remove the key");
    } else {
        cx.wrong_type(&node.at, key, &node.value, "a text in quotes");
    }
    None
}
