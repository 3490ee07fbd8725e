//! One validated configuration, immutable from here on. A reload makes a new one; what did not change is shared.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use super::alerts::Alerts;
use super::backup::Backup;
use super::listen;
use crate::destination::event_map::EventMap;
use crate::destination::filter::Condition;
use crate::destination::{Adapter, Kind};
use crate::domain::money::Currency;
use crate::domain::name::{DestinationName, SourceName};
use crate::domain::net::AllowPrivate;
use crate::domain::pacing::{BreakerPolicy, RateLimit};
use crate::domain::proxy::Proxy;
use crate::domain::retry::RetryPolicy;
use crate::domain::secret::Secret;
use crate::domain::time::{DurationMs, UnixMs};
use crate::inbound::Recipe;

/// Everything the daemon runs on.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Hex of the SHA-256 of the file(s) read, first 16 characters.
    pub hash: String,
    pub loaded_at: UnixMs,
    pub server: Server,
    pub storage: Storage,
    pub retention: Retention,
    pub backup: Backup,
    pub default_currency: Currency,
    pub sources: BTreeMap<SourceName, Arc<Source>>,
    pub destinations: BTreeMap<DestinationName, Arc<Destination>>,
    pub alerts: Alerts,
}

/// `[server]`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Server {
    /// TCP addresses; together with `sockets` at least one.
    pub listen: Vec<SocketAddr>,
    /// Unix sockets, as absolute paths.
    pub sockets: Vec<PathBuf>,
    /// Permissions of the files of `sockets`.
    pub socket_mode: u32,
    /// Whether `listen` and `sockets` are what the service manager handed over, in place of what the configuration says.
    pub handed_over: bool,
    pub admin_token: Option<Secret>,
    /// Bytes of a request body.
    pub body_limit: usize,
    /// Events of one request.
    pub batch_limit: usize,
    /// How long SIGTERM waits for work in flight.
    pub drain: DurationMs,
}

impl Server {
    /// The service manager passed these sockets: they win over what the configuration says.
    pub fn hand_over(&mut self, listen: Vec<SocketAddr>, sockets: Vec<PathBuf>) {
        (self.listen, self.sockets, self.handed_over) = (listen, sockets, true);
    }

    /// Why these settings must not be in force where sockets were handed over, if so: what the configuration itself opens
    /// was judged when it was read.
    pub fn exposed(&self) -> Option<String> {
        let exposed = self.handed_over && self.admin_token.is_none() && listen::is_public(&self.listen);
        let passed = "the socket that the service manager passed is reachable from other machines";
        exposed.then(|| format!("{passed} and {}", listen::TOKEN_MISSING))
    }
}

/// `[storage]`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Storage {
    /// The directory that holds `postbackd.redb`.
    pub path: PathBuf,
    /// Bytes of page cache.
    pub cache: usize,
    /// Free disk bytes below which ingest answers 503; `None`: the larger of 64 MiB and 5 % of the file system.
    pub reserve: Option<u64>,
}

/// `[retention]`; `None` is `"never"`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Retention {
    /// Age at which an event with nothing owed or dead is forgotten.
    pub events: Option<DurationMs>,
    /// Age at which the trace of attempts is forgotten.
    pub attempts: Option<DurationMs>,
    /// Age at which a dead delivery is forgotten.
    pub dlq: Option<DurationMs>,
    /// How long a repeat is recognised.
    pub dedupe: DurationMs,
    /// Bytes that rows may take before the oldest finished events go early; `None`: no limit.
    pub size: Option<u64>,
}

/// `[sources.NAME]`
#[derive(Debug)]
pub struct Source {
    pub name: SourceName,
    /// At least one.
    pub tokens: Vec<Token>,
    /// How its postbacks are read.
    pub postback: Recipe,
}

/// A source's token, with its end if it has one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Token {
    pub secret: Secret,
    /// Refused from this instant on.
    pub until: Option<UnixMs>,
}

/// `[destinations.NAME]`
#[derive(Debug)]
pub struct Destination {
    pub name: DestinationName,
    pub kind: Kind,
    pub enabled: bool,
    pub events: EventMap,
    /// `None`: every source.
    pub sources: Option<BTreeSet<SourceName>>,
    /// All must hold.
    pub when: Vec<Condition>,
    pub retry: RetryPolicy,
    pub lane: LanePolicy,
    pub network: NetworkPolicy,
    pub adapter: Box<dyn Adapter>,
    /// Hash of this destination's own settings and secrets: equal where nothing about it changed.
    pub fingerprint: u64,
}

/// How the scheduler treats a destination.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LanePolicy {
    /// Requests in flight at most; at least 1.
    pub concurrency: usize,
    /// How often a held destination is tried.
    pub hold_probe: DurationMs,
    /// `None`: no limit.
    pub rate_limit: Option<RateLimit>,
    /// `None`: no breaker.
    pub breaker: Option<BreakerPolicy>,
}

/// How a destination is reached.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NetworkPolicy {
    /// Total time of one exchange.
    pub timeout: DurationMs,
    pub allow_private: AllowPrivate,
    /// In the order they are tried; empty: directly.
    pub proxies: Vec<Proxy>,
}

impl NetworkPolicy {
    /// Whether some proxy resolves the destination's name, so that its addresses are not seen here.
    pub fn is_named_to_a_proxy(&self) -> bool {
        self.proxies.iter().any(|proxy| proxy.scheme.resolves_names())
    }
}

impl Source {
    /// Whether `token` is one of this source's that has not ended. The comparison takes the same time wherever the texts
    /// differ.
    pub fn accepts(&self, token: &str, now: UnixMs) -> bool {
        use subtle::ConstantTimeEq;
        self.tokens.iter().fold(false, |found, known| {
            let same: bool = known.secret.expose().as_bytes().ct_eq(token.as_bytes()).into();
            found | (same && known.until.is_none_or(|end| now < end))
        })
    }
}
