//! `[destinations.NAME]`: the keys every kind has, and the joining of all parts into one destination.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;

use super::endpoint::Judge;
use super::findings::{Reading, nearest, shown};
use super::fingerprint;
use super::raw::{Entry, Place, Value};
use super::retry::{self, Retry};
use super::section::{Section, Whole, text_of};
use super::server::narrow;
use super::snapshot::{Destination, LanePolicy, NetworkPolicy};
use super::{fb_capi, kinds, pacing, proxies, when};
use crate::destination::Kind;
use crate::destination::registry::Spec;
use crate::domain::name::DestinationName;
use crate::domain::net::AllowPrivate;
use crate::domain::time::DurationMs;

const CONCURRENCY: Whole = Whole { bounds: 1..=1024, default: 16 };
const TIMEOUT_DEFAULT: DurationMs = DurationMs::from_secs(15);
const TIMEOUT_MAX: DurationMs = DurationMs::from_secs(600);
const HOLD_PROBE_DEFAULT: DurationMs = DurationMs::from_secs(15 * 60);

/// What the rest of the file says that a destination depends on.
pub(crate) struct World<'a> {
    pub(crate) listen: &'a [SocketAddr],
    /// Names of all sources.
    pub(crate) sources: &'a [String],
    /// `[retry]`.
    pub(crate) retry: &'a Retry,
}

pub(crate) fn read(
    root: &mut Section<'_>,
    world: &World<'_>,
    cx: &mut Reading<'_>,
) -> BTreeMap<DestinationName, Arc<Destination>> {
    let section = root.section("destinations", cx);
    let mut all = BTreeMap::new();
    let mut none = true;
    for entry in section.entries() {
        none = false;
        if let Some(destination) = one(entry, &section.key(&entry.key), world, cx) {
            all.insert(destination.name.clone(), Arc::new(destination));
        }
    }
    if none {
        let place = Place { line: None, ..root.at().clone() };
        cx.warn(&place, "destinations", "no destination is configured: events are kept and go nowhere");
    }
    all
}

fn one(entry: &Entry, path: &str, world: &World<'_>, cx: &mut Reading<'_>) -> Option<Destination> {
    let at = &entry.node.at;
    let name = entry.key.parse::<DestinationName>();
    if let Err(error) = &name {
        cx.problem(at, path, format!("{error}; rename it"));
    }
    let Value::Table(table) = &entry.node.value else {
        cx.wrong_type(at, path, &entry.node.value, &format!("a table: [{path}] with a kind"));
        return None;
    };
    let mut section = Section::new(table, path.to_owned(), at.clone());
    let kind = kind(&mut section, cx);
    let enabled = section.boolean("enabled", true, cx);
    let events = when::events(&mut section, cx);
    let sources = when::sources(&mut section, world.sources, cx);
    let conditions = when::conditions(&mut section, cx);
    let retry = retry::read(&mut section, world.retry, cx);
    let lane = LanePolicy {
        concurrency: narrow(section.whole("concurrency", &CONCURRENCY, cx)),
        hold_probe: section.span("hold_probe", HOLD_PROBE_DEFAULT, cx),
        rate_limit: pacing::rate_limit(&mut section, cx),
        breaker: pacing::breaker(&mut section, cx),
    };
    let network = NetworkPolicy {
        timeout: timeout(&mut section, cx),
        allow_private: allow_private(&mut section, cx),
        proxies: proxies::read(&mut section, cx),
    };
    let judge = Judge { listen: world.listen, network: &network };
    let spec = kind.and_then(|kind| kinds::read(kind, &mut section, &judge, cx));
    refuse_foreign(&mut section, kind, cx);
    if let Some(spec) = &spec {
        check_window(spec, &retry, &section, cx);
    }
    let print = spec.as_ref().map(fingerprint::secrets).map(|mut print| {
        print.extend(proxies::secrets(&network.proxies));
        print
    });
    section.finish(cx);
    let spec = spec?;
    let described = format!("{spec:?}");
    let adapter = match (cx.build)(spec) {
        Ok(adapter) => Some(adapter),
        Err(errors) => {
            for error in errors {
                // A pattern's error is drawn over several lines; a problem is one.
                let words: Vec<&str> = error.detail.split_whitespace().collect();
                cx.problem(&section.place(error.key), section.key(error.key), words.join(" "));
            }
            None
        }
    };
    let kind = kind?;
    let settings = format!("{:?}", (kind, enabled, &events, &sources, &conditions, &retry.policy, &lane, &network));
    let fingerprint = fingerprint::of(&[settings, described], &print.unwrap_or_default());
    Some(Destination {
        name: name.ok()?,
        kind,
        enabled,
        events,
        sources,
        when: conditions,
        retry: retry.policy,
        lane,
        network,
        adapter: adapter?,
        fingerprint,
    })
}

fn kind(section: &mut Section<'_>, cx: &mut Reading<'_>) -> Option<Kind> {
    let words = Kind::ALL.map(Kind::as_str).map(|word| format!("\"{word}\"")).join(", ");
    let node = section.required("kind", &format!("kind = one of {words}"), cx)?;
    let key = section.key("kind");
    let text = text_of(node, &key, cx)?;
    let found = Kind::ALL.into_iter().find(|kind| kind.as_str() == text);
    if found.is_none() {
        let remedy = match nearest(text, Kind::ALL.map(Kind::as_str)) {
            Some(word) => format!("did you mean \"{word}\"?"),
            None => format!("write one of {words}"),
        };
        cx.problem(&node.at, key, format!("{} is not a kind; {remedy}", shown(text)));
    }
    found
}

/// Keys of other kinds: where the kind is known they say which kind they belong to; where it is not, they are let pass,
/// as nobody can tell.
fn refuse_foreign(section: &mut Section<'_>, kind: Option<Kind>, cx: &mut Reading<'_>) {
    let Some(kind) = kind else {
        for key in Kind::ALL.into_iter().flat_map(kinds::keys) {
            section.node(key, cx);
        }
        return;
    };
    for other in Kind::ALL.into_iter().filter(|other| *other != kind) {
        let detail = |key: &str| {
            let owners: Vec<_> = Kind::ALL.into_iter().filter(|kind| kinds::keys(*kind).contains(&key)).collect();
            let owners = owners.into_iter().map(Kind::as_str).collect::<Vec<_>>().join(" and ");
            format!("belongs to kind {owners}, and this destination is a {}; remove it", kind.as_str())
        };
        section.refuse(kinds::keys(other), &detail, cx);
    }
}

pub(crate) fn timeout(section: &mut Section<'_>, cx: &mut Reading<'_>) -> DurationMs {
    let timeout = section.span("timeout", TIMEOUT_DEFAULT, cx);
    if timeout > TIMEOUT_MAX {
        let place = section.place("timeout");
        let detail = format!("{timeout} is too long for one exchange; write \"{TIMEOUT_MAX}\" or less");
        cx.problem(&place, section.key("timeout"), detail);
    }
    timeout
}

pub(crate) fn allow_private(section: &mut Section<'_>, cx: &mut Reading<'_>) -> AllowPrivate {
    let Some(node) = section.node("allow_private", cx) else { return AllowPrivate::No };
    let key = section.key("allow_private");
    match &node.value {
        Value::Bool(true) => AllowPrivate::All,
        Value::Bool(false) => AllowPrivate::No,
        Value::List(_) => {
            let mut networks = Vec::new();
            for (text, item) in section.texts("allow_private", cx).unwrap_or_default() {
                let network = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
                if network.is_err() {
                    let wanted = "write one like \"10.0.0.0/8\" or \"fd00::/8\"";
                    cx.problem(&item.at, key.as_str(), format!("{} is not a network; {wanted}", shown(text)));
                }
                networks.extend(network.map(|network| network.trunc()));
            }
            AllowPrivate::Networks(networks)
        }
        Value::Text(_) | Value::Integer(_) | Value::Float(_) | Value::Time(_) | Value::Table(_) => {
            cx.wrong_type(&node.at, key, &node.value, "true, or a list of networks like [\"10.0.0.0/8\"]");
            AllowPrivate::No
        }
    }
}

/// A kind that takes no event older than its window must give up before it ends.
fn check_window(spec: &Spec, retry: &Retry, section: &Section<'_>, cx: &mut Reading<'_>) {
    let window = match spec {
        Spec::FbCapi(spec) => fb_capi::window(spec),
        Spec::Webhook(_) | Spec::S2sPostback(_) => return,
    };
    let given = retry.policy.give_up_after;
    if given <= window {
        return;
    }
    let (kind, ours) = (spec.kind().as_str(), format!("{}.retry.give_up_after", section.path()));
    match &retry.give_up_at {
        Some((key, place)) if *key != "retry.give_up_after" => {
            let detail = format!("\"{given}\" is longer than {kind} accepts ({window}); write \"{window}\" or less");
            cx.problem(place, key.as_str(), detail);
        }
        Some((key, place)) => {
            let detail =
                format!("\"{given}\" is longer than {kind} accepts ({window}); add {ours} = \"{window}\" or less");
            cx.problem(place, key.as_str(), detail);
        }
        None => {}
    }
}
