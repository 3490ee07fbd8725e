//! `[server]`, `[storage]`, `[retention]` and `[ingest]`.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use super::findings::{Reading, shown};
use super::raw::{Node, Value};
use super::secret_source::{self, Ends, Form};
use super::section::{Section, Whole, text_of};
use super::snapshot::{Retention, Server, Storage};
use super::values;
use crate::domain::limits;
use crate::domain::money::Currency;
use crate::domain::time::DurationMs;

const LISTEN_DEFAULT: ([u8; 4], u16) = ([127, 0, 0, 1], 8460);
const DRAIN_DEFAULT: DurationMs = DurationMs::from_secs(20);
const STORAGE_DEFAULT: &str = "/var/lib/postbackd";
const CACHE_DEFAULT: usize = 64 << 20;

/// `[server]`
pub(crate) fn server(root: &mut Section<'_>, cx: &mut Reading<'_>) -> Server {
    let mut section = root.section("server", cx);
    let listen = listen(&mut section, cx);
    let key = section.key("admin_token");
    let token_node = section.node("admin_token", cx);
    let admin_token = token_node
        .and_then(|node| secret_source::read(node, &key, Form::Token, Ends::Never, cx))
        .map(|found| found.secret);
    if token_node.is_none() && listen.iter().any(|address| !loopback(address.ip())) {
        let detail = "is reachable from other machines and admin_token is missing; add admin_token, \
                      or listen on 127.0.0.1 behind a reverse proxy";
        cx.problem(&section.place("listen"), section.key("listen"), detail);
    }
    let body = section.size("body_limit", 1..=limits::BODY_LIMIT_MAX, cx).unwrap_or(limits::BODY_LIMIT_DEFAULT);
    let batch = Whole { bounds: 1..=wide(limits::BATCH_LIMIT_MAX), default: wide(limits::BATCH_LIMIT_DEFAULT) };
    let batch_limit = section.whole("batch_limit", &batch, cx);
    let drain = section.duration("drain", DRAIN_DEFAULT, cx);
    section.finish(cx);
    Server { listen, admin_token, body_limit: narrow(body), batch_limit: narrow(batch_limit), drain }
}

/// Whether only this machine can reach the address.
fn loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

fn listen(section: &mut Section<'_>, cx: &mut Reading<'_>) -> Vec<SocketAddr> {
    let key = section.key("listen");
    let Some(node) = section.node("listen", cx) else { return vec![SocketAddr::from(LISTEN_DEFAULT)] };
    let Value::List(items) = &node.value else {
        return address(node, &key, cx).into_iter().collect();
    };
    if items.is_empty() {
        cx.problem(&node.at, key.as_str(), "is an empty list; write an address like \"127.0.0.1:8460\"");
    }
    let mut all: Vec<SocketAddr> = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let key = format!("{key}[{index}]");
        let Some(address) = address(item, &key, cx) else { continue };
        if all.contains(&address) && address.port() != 0 {
            cx.problem(&item.at, key, format!("{address} is given twice; remove one"));
        } else {
            all.push(address);
        }
    }
    all
}

fn address(node: &Node, key: &str, cx: &mut Reading<'_>) -> Option<SocketAddr> {
    let text = text_of(node, key, cx)?;
    let read: Option<SocketAddr> = text.parse().ok();
    if text.starts_with("unix:") {
        let detail = "Unix sockets come with a later version of postbackd; write an address like \"127.0.0.1:8460\"";
        cx.problem(&node.at, key, detail);
    } else if read.is_none() {
        let wanted = "write an IP address with a port, like \"127.0.0.1:8460\" or \"[::1]:8460\"";
        cx.problem(&node.at, key, format!("{} is not an address to listen on; {wanted}", shown(text)));
    }
    read
}

/// `[storage]`
pub(crate) fn storage(root: &mut Section<'_>, cx: &mut Reading<'_>) -> Storage {
    let mut section = root.section("storage", cx);
    let path = PathBuf::from(section.text("path", cx).unwrap_or(STORAGE_DEFAULT));
    let cache = section.size("cache", (1 << 20)..=(1 << 36), cx).map_or(CACHE_DEFAULT, narrow);
    let reserve = match section.node("reserve", cx) {
        Some(Node { value: Value::Text(text), .. }) if text == "auto" => None,
        Some(Node { value: Value::Text(text), at }) if values::size(text).is_none() => {
            let detail = format!("{} is not a size; write one like \"2GiB\", or \"auto\"", shown(text));
            cx.problem(at, section.key("reserve"), detail);
            None
        }
        Some(_) | None => section.size("reserve", 0..=(1 << 50), cx),
    };
    section.finish(cx);
    Storage { path: cx.dir.join(path), cache, reserve }
}

/// `[retention]`
pub(crate) fn retention(root: &mut Section<'_>, cx: &mut Reading<'_>) -> Retention {
    let month = DurationMs::from_days(30);
    let mut section = root.section("retention", cx);
    let events = or_never(&mut section, "events", Some(month), cx);
    let attempts = or_never(&mut section, "attempts", Some(month), cx);
    let dlq = or_never(&mut section, "dlq", None, cx);
    let dedupe = section.span("dedupe", month, cx);
    section.finish(cx);
    Retention { events, attempts, dlq, dedupe }
}

fn or_never(
    section: &mut Section<'_>,
    key: &'static str,
    default: Option<DurationMs>,
    cx: &mut Reading<'_>,
) -> Option<DurationMs> {
    match section.node(key, cx) {
        None => default,
        Some(Node { value: Value::Text(text), .. }) if text == "never" => None,
        Some(Node { value: Value::Text(text), at }) if DurationMs::parse(text).is_none() => {
            let detail = format!("{} is not a duration; write one like \"30d\" or \"90d\", or \"never\"", shown(text));
            cx.problem(at, section.key(key), detail);
            default
        }
        Some(_) => Some(section.span(key, default.unwrap_or(DurationMs::from_days(90)), cx)),
    }
}

/// `[ingest]`: the default currency.
pub(crate) fn ingest(root: &mut Section<'_>, usd: Currency, cx: &mut Reading<'_>) -> Currency {
    let mut section = root.section("ingest", cx);
    let given = section.text("default_currency", cx);
    let currency = given.map_or(Ok(usd), str::parse);
    let currency = currency.unwrap_or_else(|error| {
        let place = section.place("default_currency");
        cx.problem(&place, section.key("default_currency"), format!("is {error}"));
        usd
    });
    section.finish(cx);
    currency
}

fn wide(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

/// Bounds are checked before, so nothing is cut where `usize` has 64 bits.
pub(crate) fn narrow(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
