//! The wire: one client per destination, and what every exchange must keep to.
//!
//! - Exactly one exchange: no redirect is followed, nothing is repeated but a request whose first byte was never written.
//! - It ends within the destination's total timeout; answers are read up to the bounds of [`crate::domain::limits`].
//! - No packet goes to an address [`crate::domain::net::refuse`] refuses. Two places ask it, because a name and a literal
//!   take different ways through reqwest: `client` judges literals before every exchange, `resolve` judges what a
//!   name resolves to, and the connection is made to exactly the addresses that were judged.
//! - The environment has no say: proxies come from the configuration only.
//!
//! Absent on purpose: HTTP/2 (advisories, silent re-sends), decompression (bombs), cookies, and any retry: the scheduler
//! decides what is tried again. This folder is the only one that names reqwest; `error` turns its errors into ours.

pub mod api_client;
mod body;
mod client;
mod error;
mod resolve;
pub mod tls;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use url::Url;

use crate::config::snapshot::Snapshot;
use crate::domain::name::DestinationName;
use crate::domain::time::DurationMs;
use crate::env::clock::Clock;
use crate::env::transport::{Exchange, ExchangeFuture, Fault, Request, Transport};
use client::DestinationClient;

/// One reqwest client per destination of a snapshot: its timeout, its connections, its judgement of addresses.
pub struct Egress {
    clients: BTreeMap<DestinationName, DestinationClient>,
    clock: Arc<dyn Clock>,
}

/// A client that cannot be built; says for which destination and why.
#[derive(Debug, thiserror::Error)]
#[error("destinations.{destination}: {detail}")]
pub struct EgressError {
    pub destination: DestinationName,
    pub detail: String,
}

impl Egress {
    /// Builds a client for every destination, also for disabled ones: a test send reaches them too. Missing CA
    /// certificates are no error here but a logged warning: the daemon must take events even where it cannot send them.
    pub fn new(snapshot: &Snapshot, clock: Arc<dyn Clock>) -> Result<Self, EgressError> {
        let mut clients = BTreeMap::new();
        for (name, destination) in &snapshot.destinations {
            let client = DestinationClient::build(destination)
                .map_err(|detail| EgressError { destination: name.clone(), detail })?;
            clients.insert(name.clone(), client);
        }
        Ok(Self { clients, clock })
    }

    /// Whether a connection to a destination can be opened, or why not; `url` is one it would be sent to. No event is sent.
    pub async fn reach(&self, destination: &DestinationName, url: &Url) -> Result<(), Fault> {
        match self.clients.get(destination) {
            Some(client) => client.reach(url).await,
            None => Err(Fault::Refused("the running configuration has no such destination".to_owned())),
        }
    }
}

impl Transport for Egress {
    fn exchange<'a>(&'a self, destination: &'a DestinationName, request: Request) -> ExchangeFuture<'a> {
        Box::pin(async move {
            let start = self.clock.monotonic();
            let result = match self.clients.get(destination) {
                Some(client) => client.exchange(request).await,
                None => Err(Fault::Refused("the running configuration has no such destination".to_owned())),
            };
            let took = self.clock.monotonic().saturating_sub(start);
            Exchange { took: DurationMs(u64::try_from(took.as_millis()).unwrap_or(u64::MAX)), result }
        })
    }
}

impl fmt::Debug for Egress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.clients.keys()).finish()
    }
}
