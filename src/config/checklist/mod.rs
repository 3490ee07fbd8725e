//! What stands between a valid configuration and live traffic, for `postbackd check`.
//!
//! Each destination renders example events, and the requests it would send are looked at: what is told is what would
//! happen, not what a setting is called. `kinds` knows what matters to one kind only.

mod kinds;

use url::{Host, Url};

use super::snapshot::{Destination, Snapshot, Source};
use crate::destination::event_map::NEVER_BY_DEFAULT;
use crate::destination::filter::{Condition, Test};
use crate::destination::{LeftOut, Outgoing, PreparedRequest, Unsendable, example};
use crate::domain::delivery::RequestView;
use crate::domain::event::Event;
use crate::domain::id::{DeliveryId, DeliveryKey, DestinationId, EventSeq, InstanceId};
use crate::domain::money::Currency;
use crate::domain::name::{CanonicalName, SourceName, TargetName};
use crate::domain::net::AllowPrivate;
use crate::domain::time::UnixMs;

/// What begins the made-up values of an example.
const EXAMPLE: &str = "example";
/// A source's token that is shorter may be guessed by whoever can ask often: 64 bits as hexadecimal digits.
const TOKEN_BYTES: usize = 16;

/// One destination or source, looked at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// `destinations.NAME` or `sources.NAME`.
    pub key: String,
    /// What it does, one sentence each: nothing to mend.
    pub facts: Vec<String>,
    /// What is worth a look before going live, each as the end of a sentence that begins with `key`.
    pub open: Vec<String>,
}

/// Every destination, and the sources about which there is something to say.
pub fn checklist(snapshot: &Snapshot) -> Vec<Entry> {
    let destinations = snapshot.destinations.values().map(|destination| of_destination(destination, snapshot));
    let sources = snapshot.sources.values().filter_map(|source| of_source(source));
    destinations.chain(sources).collect()
}

/// Where a destination would send an ordinary event; it may hold secrets. `None` where it would send none.
pub fn address(destination: &Destination, now: UnixMs) -> Option<Url> {
    let pair = example::choice(&destination.events, destination.adapter.as_ref())?;
    example_of(destination, &pair, now, example::whole).ok().map(|(prepared, _)| prepared.request.url)
}

fn of_source(source: &Source) -> Option<Entry> {
    let tokens = || source.tokens.iter().map(|token| token.secret.expose());
    let what = if tokens().any(looks_made_up) {
        "looks like the one of an example"
    } else if tokens().any(|token| token.len() < TOKEN_BYTES) {
        "is short enough to be guessed"
    } else {
        return None;
    };
    let open = format!("has a token that {what}; make one with openssl rand -hex 24");
    Some(Entry { key: format!("sources.{}", source.name), facts: Vec::new(), open: vec![open] })
}

fn of_destination(destination: &Destination, snapshot: &Snapshot) -> Entry {
    let now = snapshot.loaded_at;
    let mut entry = Entry { key: format!("destinations.{}", destination.name), facts: Vec::new(), open: Vec::new() };
    if !destination.enabled {
        entry.open.push("is disabled: its events are recorded as skipped; write enabled = true to go live".to_owned());
    }
    let Some(pair) = example::choice(&destination.events, destination.adapter.as_ref()) else {
        entry.facts.push(destination.kind.as_str().to_owned());
        entry.open.push("takes no event at all: everything would be skipped; map a name in events".to_owned());
        return entry;
    };
    let whole = example_of(destination, &pair, now, example::whole);
    let address = whole.as_ref().ok().and_then(|(prepared, _)| view(destination, prepared).url.parse::<Url>().ok());
    let place = address.as_ref().map(|url| format!(" to {}", host_and_port(url))).unwrap_or_default();
    entry.facts.push(format!("{}{place}, {}", destination.kind.as_str(), taken(destination)));
    entry.open.extend(unmapped(destination, snapshot));
    entry.open.extend(destination.when.iter().filter_map(|condition| never(condition, destination, snapshot)));
    if destination.network.allow_private == AllowPrivate::All {
        let remedy = "name the networks instead: allow_private = [\"10.0.0.0/8\"]";
        entry.open.push(format!("may reach every private address; {remedy}"));
    }
    if destination.network.is_named_to_a_proxy() {
        let why = "names are resolved by the proxy; the address guard sees names and literals only";
        entry.facts.push(format!("goes through a proxy: {why} (socks5:// resolves here)"));
    }
    entry.open.extend(address.as_ref().and_then(of_address));
    match &whole {
        Ok((prepared, left_out)) => {
            entry.open.extend(left_out.iter().map(|LeftOut { field, why }| format!("leaves out {field}, which {why}")));
            let bare = example_of(destination, &pair, now, example::bare);
            kinds::look(destination, prepared, bare.as_ref(), &mut entry);
        }
        Err(unsendable) => {
            entry.open.push(format!("cannot make a request of an ordinary {}: {}", pair.0, unsendable.detail));
        }
    }
    entry
}

fn view(destination: &Destination, prepared: &PreparedRequest) -> RequestView {
    prepared.view(destination.adapter.redactor())
}

/// What it takes and from whom.
fn taken(destination: &Destination) -> String {
    let known = example::WELL_KNOWN.iter().chain(&example::LESS_KNOWN);
    let mut names: Vec<CanonicalName> = known.filter_map(|name| name.parse().ok()).collect();
    names.extend(destination.events.names().cloned());
    let mut pairs: Vec<(CanonicalName, TargetName)> = Vec::new();
    for name in names {
        if let Some(target) = destination.events.target(&name, destination.adapter.as_ref())
            && !pairs.iter().any(|(known, _)| *known == name)
        {
            pairs.push((name, target));
        }
    }
    // A name nobody can have mapped is taken only by kinds that take every name as it is.
    let any = destination.adapter.default_target("postbackd.any.name").is_some();
    pairs.retain(|(name, target)| !any || name.as_str() != target.as_str());
    let pairs: Vec<String> = pairs.iter().map(|(name, target)| format!("{name} as {target}")).collect();
    let events = match (any, pairs.is_empty()) {
        (true, true) => "takes every event under its own name".to_owned(),
        (true, false) => format!("takes {}, every other event under its own name", pairs.join(", ")),
        (false, _) => format!("takes {}, no other", pairs.join(", ")),
    };
    let off: Vec<&str> =
        destination.events.names().map(CanonicalName::as_str).filter(|name| !takes(destination, name)).collect();
    let events = if off.is_empty() { events } else { format!("{events}, leaves out {}", off.join(", ")) };
    let events = match &destination.sources {
        None => events,
        Some(sources) => {
            let names: Vec<&str> = sources.iter().map(SourceName::as_str).collect();
            format!("{events}, from {} only", names.join(", "))
        }
    };
    let asked: Vec<&str> = destination.when.iter().map(|condition| condition.path.as_str()).collect();
    if asked.is_empty() { events } else { format!("{events}, where its when ({}) holds", asked.join(", ")) }
}

/// Names the application can be taken to send, well known or named by another destination, about which this one says
/// nothing. What inbound presets make of a conversion that is not approved belongs to nobody.
fn unmapped(destination: &Destination, snapshot: &Snapshot) -> Option<String> {
    let named = snapshot.destinations.values().flat_map(|other| other.events.names()).map(CanonicalName::as_str);
    let mut missing: Vec<&str> = example::WELL_KNOWN.into_iter().chain(named).collect();
    missing.retain(|name| {
        let decided = destination.events.names().any(|known| known.as_str() == *name);
        !decided && !NEVER_BY_DEFAULT.contains(name) && !takes(destination, name)
    });
    missing.sort_unstable();
    missing.dedup();
    let all = missing.join(", ");
    (!missing.is_empty()).then(|| format!("does not take {all}; write in events what it calls them, or false"))
}

fn takes(destination: &Destination, name: &str) -> bool {
    let canonical: Option<CanonicalName> = name.parse().ok();
    canonical.is_some_and(|name| destination.events.target(&name, destination.adapter.as_ref()).is_some())
}

/// Why a condition can hold for no event there is.
fn never(condition: &Condition, destination: &Destination, snapshot: &Snapshot) -> Option<String> {
    let Test::OneOf(texts) = &condition.test else { return None };
    let is_possible: Box<dyn Fn(&str) -> bool> = match condition.path.as_str() {
        "event" | "canonical" => Box::new(|text| takes(destination, text)),
        "source" => Box::new(|text| {
            let taken = destination.sources.as_ref().is_none_or(|sources| sources.contains(text));
            taken && snapshot.sources.contains_key(text)
        }),
        "currency" => Box::new(|text| text.parse().is_ok_and(|currency: Currency| currency.as_str() == text)),
        _ => return None,
    };
    let remedy = match condition.path.as_str() {
        "currency" => "write three upper-case letters",
        "source" => "write a source of the configuration that sources lets in",
        _ => "write names that events maps",
    };
    let fits = texts.iter().any(|text| is_possible(text));
    (!fits).then(|| {
        format!(
            "takes nothing: when wants {} to be {}, which it never is; {remedy}",
            condition.path,
            texts.join(" or ")
        )
    })
}

fn host_and_port(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// What its address says about it.
fn of_address(url: &Url) -> Option<String> {
    let host = url.host()?;
    let loopback = match &host {
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => address.is_loopback(),
        Host::Domain(name) => *name == "localhost",
    };
    if let Host::Domain(name) = host
        && is_reserved(name)
    {
        return Some(format!("sends to {name}, which is nobody's; write the receiver's own address"));
    }
    (url.scheme() == "http" && !loopback)
        .then(|| "sends over http: what it sends can be read on the way; write https".to_owned())
}

/// Names that are kept for examples (RFC 2606).
fn is_reserved(host: &str) -> bool {
    let mut labels = host.trim_end_matches('.').rsplit('.');
    match (labels.next(), labels.next()) {
        (Some("example" | "invalid" | "test"), _) | (Some("com" | "net" | "org"), Some("example")) => true,
        (Some(_) | None, _) => false,
    }
}

/// Whether a token is one that stands in documentation for the reader's own.
fn looks_made_up(token: &str) -> bool {
    let token = token.to_ascii_lowercase();
    ["replace", "example", "change-me", "changeme", "placeholder", "your-", "your_", "xxxx", "<"]
        .iter()
        .any(|word| token.contains(word))
}

/// A request with what was left out of it, or why there is none.
type Rendered = Result<(PreparedRequest, Vec<LeftOut>), Unsendable>;

/// What an example event would look like at this destination.
fn example_of(
    destination: &Destination,
    (canonical, target): &(CanonicalName, TargetName),
    now: UnixMs,
    make: impl FnOnce(&str, Option<String>, CanonicalName, SourceName, UnixMs) -> Event,
) -> Rendered {
    use crate::domain::outcome::DeadReason;
    let refused = |detail: &str| Unsendable { reason: DeadReason::Invalid, detail: detail.to_owned() };
    let source: SourceName = EXAMPLE.parse().map_err(|_| refused("no source could be made up"))?;
    let event = make(EXAMPLE, Some(format!("{EXAMPLE}-1")), canonical.clone(), source, now);
    let key = DeliveryKey { seq: EventSeq(0), destination: DestinationId(0) };
    let id = DeliveryId { instance: InstanceId::from_random(0), key };
    destination.adapter.prepare(&[Outgoing { id, target, event: &event }], now).only()
}

#[cfg(test)]
mod tests;
