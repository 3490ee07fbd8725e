//! `proxy` of a destination: one address or a list of them, each possibly kept elsewhere as a secret.

use super::findings::Reading;
use super::raw::{Node, Value};
use super::secret_source::{self, Ends, Form};
use super::section::Section;
use crate::domain::proxy::Proxy;
use crate::domain::secret::Secret;

/// Proxies of one destination at most: a longer list is a pool, which belongs behind one address.
const PROXIES_MAX: usize = 16;
const WANTED: &str = "\"http://user:password@host:port\" (or https, socks5, socks5h), { env = \"NAME\" } or another place \
                      of a secret, or a list of these";

/// The proxies in the order they are to be tried; none where the key is missing.
pub(crate) fn read(section: &mut Section<'_>, cx: &mut Reading<'_>) -> Vec<Proxy> {
    let key = section.key("proxy");
    let Some(node) = section.node("proxy", cx) else { return Vec::new() };
    let items: Vec<(String, &Node)> = match &node.value {
        Value::List(items) if items.is_empty() => {
            cx.problem(&node.at, key, format!("is an empty list; write {WANTED}, or remove it to connect directly"));
            return Vec::new();
        }
        Value::List(items) => items.iter().enumerate().map(|(n, item)| (format!("{key}[{n}]"), item)).collect(),
        Value::Text(_) | Value::Table(_) => vec![(key.clone(), node)],
        Value::Integer(_) | Value::Float(_) | Value::Bool(_) | Value::Time(_) => {
            cx.wrong_type(&node.at, key, &node.value, WANTED);
            return Vec::new();
        }
    };
    if items.len() > PROXIES_MAX {
        let detail = format!("lists {} proxies; write at most {PROXIES_MAX}", items.len());
        cx.problem(&node.at, key, detail);
    }
    let mut proxies: Vec<Proxy> = Vec::new();
    for (key, item) in items {
        let Some(proxy) = one(item, &key, cx) else { continue };
        if proxies.contains(&proxy) {
            cx.problem(&item.at, key, "stands in the list twice; remove one of the two");
        } else {
            proxies.push(proxy);
        }
    }
    proxies
}

fn one(node: &Node, key: &str, cx: &mut Reading<'_>) -> Option<Proxy> {
    let text = match &node.value {
        // An address without a login is no secret, so the file that holds it need not be private.
        Value::Text(text) if !text.contains('@') => Secret::new(text.clone()),
        Value::Text(_) | Value::Table(_) => secret_source::read(node, key, Form::Text, Ends::Never, cx)?.secret,
        Value::Integer(_) | Value::Float(_) | Value::Bool(_) | Value::Time(_) | Value::List(_) => {
            cx.wrong_type(&node.at, key, &node.value, WANTED);
            return None;
        }
    };
    Proxy::parse(text.expose()).map_err(|why| cx.problem(&node.at, key, why)).ok()
}

/// What of the proxies must not be shown; beside that, their `Debug` tells one configuration from another.
pub(crate) fn secrets(proxies: &[Proxy]) -> impl Iterator<Item = Secret> {
    let with_login = proxies.iter().filter(|proxy| proxy.login.is_some());
    with_login.map(|proxy| proxy.url_with_host(&proxy.host))
}
