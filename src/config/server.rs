//! `[server]`, `[storage]`, `[retention]` and `[ingest]`.

use std::path::PathBuf;

use super::findings::{Reading, shown};
use super::listen::{self, Listen};
use super::raw::{Node, Value};
use super::secret_source::{self, Ends, Form};
use super::section::{Section, Whole};
use super::snapshot::{Retention, Server, Storage};
use super::values;
use crate::domain::limits;
use crate::domain::money::Currency;
use crate::domain::time::DurationMs;

const DRAIN_DEFAULT: DurationMs = DurationMs::from_secs(20);
const STORAGE_DEFAULT: &str = "/var/lib/postbackd";
/// Measured beside a million sent events, from 64 and 256 connections and with 50 events a request: 12, 14, 16 and 20 MiB cost the
/// same processor time, as the kernel has the pages too. The process grows by a quarter more than it is given, since a page and
/// what counts it take 5 KiB of the allocator.
const CACHE_DEFAULT: usize = 14 << 20;

/// `[server]`
pub(crate) fn server(root: &mut Section<'_>, cx: &mut Reading<'_>) -> Server {
    let mut section = root.section("server", cx);
    let Listen { addresses, sockets, mode } = listen::read(&mut section, cx);
    let key = section.key("admin_token");
    let token_node = section.node("admin_token", cx);
    let admin_token = token_node
        .and_then(|node| secret_source::read(node, &key, Form::Token, Ends::Never, cx))
        .map(|found| found.secret);
    if token_node.is_none() && listen::is_public(&addresses) {
        let detail = format!("is reachable from other machines and {}", listen::TOKEN_MISSING);
        cx.problem(&section.place("listen"), section.key("listen"), detail);
    }
    let body = section.size("body_limit", 1..=limits::BODY_LIMIT_MAX, cx).unwrap_or(limits::BODY_LIMIT_DEFAULT);
    let batch = Whole { bounds: 1..=wide(limits::BATCH_LIMIT_MAX), default: wide(limits::BATCH_LIMIT_DEFAULT) };
    let batch_limit = section.whole("batch_limit", &batch, cx);
    let drain = section.duration("drain", DRAIN_DEFAULT, cx);
    section.finish(cx);
    Server {
        listen: addresses,
        sockets,
        socket_mode: mode,
        handed_over: false,
        admin_token,
        body_limit: narrow(body),
        batch_limit: narrow(batch_limit),
        drain,
    }
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
    Storage { path: cx.placed(&path), cache, reserve }
}

/// `[retention]`
pub(crate) fn retention(root: &mut Section<'_>, cx: &mut Reading<'_>) -> Retention {
    let month = DurationMs::from_days(30);
    let mut section = root.section("retention", cx);
    let events = or_never(&mut section, "events", Some(month), cx);
    let attempts = or_never(&mut section, "attempts", Some(month), cx);
    let dlq = or_never(&mut section, "dlq", None, cx);
    let dedupe = section.span("dedupe", month, cx);
    let size = match section.node("size", cx) {
        Some(Node { value: Value::Text(text), .. }) if text == "never" => None,
        Some(Node { value: Value::Text(text), at }) if values::size(text).is_none() => {
            let detail = format!("{} is not a size; write one like \"10GiB\", or \"never\"", shown(text));
            cx.problem(at, section.key("size"), detail);
            None
        }
        Some(_) | None => section.size("size", (1 << 20)..=(1 << 50), cx),
    };
    section.finish(cx);
    Retention { events, attempts, dlq, dedupe, size }
}

pub(crate) fn or_never(
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
