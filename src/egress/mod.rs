//! The wire: one client per destination, and what every exchange must keep to.
//!
//! - Exactly one exchange: no redirect is followed, nothing is repeated but a request whose first byte was never written.
//! - It ends within the destination's total timeout; answers are read up to the bounds of [`crate::domain::limits`].
//! - No packet goes to an address [`crate::domain::net::refuse`] refuses. Two places ask it, because a name and a literal
//!   take different ways through reqwest: `client` judges literals before every exchange, `resolve` judges what a
//!   name resolves to, and the connection is made to exactly the addresses that were judged.
//! - The environment has no say: proxies come from the configuration only. A destination that has some is never reached
//!   directly, whatever becomes of them: `proxied` takes one of them or none, `routes` knows how they are, `proxy` tells a
//!   proxy's failure from the destination's.
//!
//! Absent on purpose: HTTP/2 (advisories, silent re-sends), decompression (bombs), cookies, and any retry: the scheduler
//! decides what is tried again. This folder is the only one that names reqwest; `error` turns its errors into ours.

pub mod api_client;
mod body;
pub mod channels;
mod client;
mod error;
mod line;
mod mail;
mod proxied;
mod proxy;
mod resolve;
mod routes;
mod timing;
pub mod tls;
mod wire;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use url::Url;

use crate::config::snapshot::{Destination, Snapshot};
use crate::domain::name::DestinationName;
use crate::env::clock::Clock;
use crate::env::transport::{Exchange, ExchangeFuture, Fault, Request, RouteView, Trail, Transport};
use client::DestinationClient;
use tls::Trust;
use wire::Peer;

/// The clients of every destination of a snapshot (one for each of its proxies): its timeout, its connections, its
/// judgement of addresses.
pub struct Egress {
    clients: ArcSwap<Clients>,
    clock: Arc<dyn Clock>,
}

/// The clients of one snapshot. A destination that did not change keeps its client, and with it its connections.
#[derive(Clone, Default)]
pub struct Clients {
    now: Generation,
    /// Those that were replaced by the last change, or gone since: an exchange may have been made ready for one of them and
    /// not begun yet.
    before: Generation,
}

type Generation = BTreeMap<DestinationName, (Arc<Destination>, Arc<DestinationClient>)>;

/// A client that cannot be built; says for which destination and why.
#[derive(Debug, thiserror::Error)]
#[error("destinations.{destination}: {detail}")]
pub struct EgressError {
    pub destination: DestinationName,
    pub detail: String,
}

impl Egress {
    /// Builds a client for every destination, also for disabled ones: a test send reaches them too. Missing CA
    /// certificates are no error: a daemon that refused to start for them would lose what it could have taken and kept, so
    /// it starts, says so, and what needs them is held until they are there. A build without a TLS provider is one.
    pub fn new(snapshot: &Snapshot, clock: Arc<dyn Clock>) -> Result<Self, EgressError> {
        let none = Self { clients: ArcSwap::default(), clock };
        let clients = none.prepare(snapshot)?;
        none.install(clients);
        Ok(none)
    }

    /// The clients for another snapshot; nothing changes yet.
    pub fn prepare(&self, snapshot: &Snapshot) -> Result<Clients, EgressError> {
        let running = self.clients.load();
        let mut trust = None;
        let mut clients = BTreeMap::new();
        for (name, destination) in &snapshot.destinations {
            let client = match running.now.get(name) {
                Some((known, client)) if Arc::ptr_eq(known, destination) => Arc::clone(client),
                Some(_) | None => {
                    let failed = |detail| EgressError { destination: name.clone(), detail };
                    let with = (Trust::once(&mut trust).map_err(failed)?, &self.clock);
                    let peer = Peer::from(&**destination);
                    let built = DestinationClient::build(&peer, &snapshot.server.listen, with);
                    Arc::new(built.map_err(failed)?)
                }
            };
            clients.insert(name.clone(), (Arc::clone(destination), client));
        }
        let is_replaced = |name: &DestinationName, known: &Arc<Destination>| {
            clients.get(name).is_none_or(|(destination, _)| !Arc::ptr_eq(known, destination))
        };
        let before = running.now.iter().filter(|(name, (known, _))| is_replaced(name, known));
        let before = before.map(|(name, entry)| (name.clone(), entry.clone())).collect();
        Ok(Clients { now: clients, before })
    }

    /// The client of a destination. One that had no CA certificates is built anew where there are some now, so that installing
    /// them is all that has to be done: the next probe, or an operator's release, finds them.
    async fn client(&self, destination: &DestinationName, version: u64, url: &Url) -> Option<Arc<DestinationClient>> {
        let (known, client) = self.clients.load().find(destination, version)?;
        if !client.lacks_roots(url) {
            return Some(client);
        }
        let (listen, clock, made) = (client.listen().to_vec(), Arc::clone(&self.clock), Arc::clone(&known));
        let built = tokio::task::spawn_blocking(move || {
            DestinationClient::build(&Peer::from(&*made), &listen, (&Trust::read()?, &clock))
        })
        .await;
        let Ok(Ok(built)) = built else { return Some(client) };
        if built.lacks_roots(url) {
            return Some(client);
        }
        let built = Arc::new(built);
        self.clients.rcu(|clients| {
            let mut clients = Clients::clone(clients);
            if let Some((of, client)) = clients.now.get_mut(destination)
                && Arc::ptr_eq(of, &known)
            {
                *client = Arc::clone(&built);
            }
            clients
        });
        Some(built)
    }

    /// Whether a connection to a destination can be opened, or why not; `url` is one it would be sent to. No event is sent.
    pub async fn reach(&self, destination: &DestinationName, url: &Url) -> Result<(), Fault> {
        let client = self.clients.load().now.get(destination).map(|(_, client)| Arc::clone(client));
        match client {
            Some(client) => client.reach(url).await,
            None => Err(Fault::Refused("the running configuration has no such destination".to_owned())),
        }
    }

    /// From here on requests go through `clients`; those under way keep the client they have.
    pub fn install(&self, clients: Clients) {
        self.clients.store(Arc::new(clients));
    }
}

impl Clients {
    fn find(&self, name: &DestinationName, version: u64) -> Option<(Arc<Destination>, Arc<DestinationClient>)> {
        let meant = |generation: &Generation| {
            generation.get(name).filter(|(destination, _)| destination.fingerprint == version).cloned()
        };
        meant(&self.now).or_else(|| meant(&self.before))
    }
}

impl fmt::Debug for Clients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.now.keys()).finish()
    }
}

impl Transport for Egress {
    fn exchange<'a>(&'a self, destination: &'a DestinationName, version: u64, request: Request) -> ExchangeFuture<'a> {
        Box::pin(async move {
            let start = self.clock.monotonic();
            let mut trail = Trail::default();
            let result = match self.client(destination, version, &request.url).await {
                Some(client) => client.exchange(request, &mut trail).await,
                // Changed twice since; the next attempt is made by what holds then.
                None => Err(Fault::Refused("the running configuration has no such destination any more".to_owned())),
            };
            let took = self.clock.monotonic().saturating_sub(start);
            Exchange { took: timing::ms(took), trail, result }
        })
    }

    fn lacks(&self, destination: &DestinationName, url: &Url) -> Option<&'static str> {
        let clients = self.clients.load();
        let (_, client) = clients.now.get(destination)?;
        client.lacks_roots(url).then_some(tls::NO_ROOTS)
    }

    fn routes(&self, destination: &DestinationName) -> Vec<RouteView> {
        let clients = self.clients.load();
        clients.now.get(destination).map(|(_, client)| client.routes()).unwrap_or_default()
    }
}

impl fmt::Debug for Egress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.clients.load().fmt(f)
    }
}
