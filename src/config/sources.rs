//! `[sources.NAME]`: who may send, with which tokens. How its postbacks are read stands in `postback`.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::findings::Reading;
use super::postback;
use super::raw::{Entry, Place, Value};
use super::secret_source::{self, Ends, Form};
use super::section::Section;
use super::snapshot::{Source, Token};
use crate::domain::name::SourceName;
use crate::domain::secret::Secret;

/// All sources of the file.
pub(crate) struct Sources {
    pub(crate) by_name: BTreeMap<SourceName, Arc<Source>>,
    /// Every name that was written, also where the source itself has problems.
    pub(crate) names: Vec<String>,
}

/// One token with where it stands, to find tokens given twice.
struct Seen {
    secret: Secret,
    key: String,
    at: Place,
}

pub(crate) fn read(root: &mut Section<'_>, admin: Option<&Secret>, cx: &mut Reading<'_>) -> Sources {
    let section = root.section("sources", cx);
    let mut sources = Sources { by_name: BTreeMap::new(), names: Vec::new() };
    let mut seen = Vec::new();
    for entry in section.entries() {
        sources.names.push(entry.key.clone());
        if let Some(source) = one(entry, &section.key(&entry.key), &mut seen, cx) {
            sources.by_name.insert(source.name.clone(), Arc::new(source));
        }
    }
    if sources.names.is_empty() {
        cx.warn(
            &Place { line: None, ..root.at().clone() },
            "sources",
            "no source is configured: nobody can send events",
        );
    }
    refuse_repeats(&seen, admin, cx);
    sources
}

fn one(entry: &Entry, path: &str, seen: &mut Vec<Seen>, cx: &mut Reading<'_>) -> Option<Source> {
    let at = &entry.node.at;
    let name = entry.key.parse::<SourceName>();
    if let Err(error) = &name {
        cx.problem(at, path, format!("{error}; rename it"));
    }
    let Value::Table(table) = &entry.node.value else {
        cx.wrong_type(at, path, &entry.node.value, &format!("a table: [{path}] with a token"));
        return None;
    };
    let mut section = Section::new(table, path.to_owned(), at.clone());
    let key = section.key("token");
    let example = "token = \"…\" (a long random text; `openssl rand -hex 32` makes one)";
    let node = section.required("token", example, cx);
    let found = node.map(|node| secret_source::read_list(node, &key, Form::Token, Ends::May, cx)).unwrap_or_default();
    let postback = postback::read(&mut section, cx);
    section.finish(cx);
    let mut tokens = Vec::new();
    for (token, node) in found {
        seen.push(Seen { secret: token.secret.clone(), key: key.clone(), at: node.at });
        tokens.push(Token { secret: token.secret, until: token.until });
    }
    if !tokens.is_empty() && tokens.iter().all(|token| token.until.is_some_and(|end| end <= cx.now)) {
        cx.warn(at, key, "has no token left that is still accepted; add one without an end");
    }
    name.ok().map(|name| Source { name, tokens, postback })
}

/// A token must say who sends: two sources with one token cannot be told apart.
fn refuse_repeats(seen: &[Seen], admin: Option<&Secret>, cx: &mut Reading<'_>) {
    for (index, token) in seen.iter().enumerate() {
        let first = seen.iter().take(index).find(|earlier| earlier.secret == token.secret);
        if let Some(first) = first {
            let detail = if first.key == token.key {
                "is given twice; remove one of the two".to_owned()
            } else {
                format!("is the same as {}; give each source its own token", first.key)
            };
            cx.problem(&token.at, token.key.as_str(), detail);
        }
        if admin == Some(&token.secret) {
            let detail = "is the same as server.admin_token: this sender may do everything; use another token";
            cx.warn(&token.at, token.key.as_str(), detail);
        }
    }
}
