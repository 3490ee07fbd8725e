//! The clients of alert channels: each its own, apart from those of the destinations it tells about, with the same
//! judgement of addresses.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::client::DestinationClient;
use super::mail::Mailer;
use super::tls::Trust;
use super::wire::Peer;
use crate::config::alerts::{Alerts, Channel, Target};
use crate::domain::time::DurationMs;
use crate::env::clock::Clock;
use crate::env::courier::{Carrying, Courier, Parcel};
use crate::env::transport::{Answer, Fault, Trail};

/// A channel speaks seldom.
const CONCURRENCY: usize = 1;
/// The longest a proxy that failed is left alone, beside the routes' own pauses.
const PROXY_PROBE: DurationMs = DurationMs::from_secs(30);

/// The clients of all channels, and of the heartbeat.
pub struct Channels {
    clients: ArcSwap<ChannelClients>,
    clock: Arc<dyn Clock>,
}

/// The clients of one configuration; a channel that did not change keeps its own.
#[derive(Default)]
pub struct ChannelClients(BTreeMap<String, (u64, Arc<Client>)>);

enum Client {
    Http(Box<DestinationClient>),
    Mail(Box<Mailer>),
}

impl Channels {
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clients: ArcSwap::default(), clock }
    }

    /// The clients for `alerts`, or which channel has none and why. Nothing changes yet.
    pub fn prepare(&self, alerts: &Alerts) -> Result<ChannelClients, (String, String)> {
        let running = self.clients.load();
        let heartbeat = alerts.heartbeat.iter().map(|heartbeat| &heartbeat.channel);
        let (mut trust, mut clients) = (None, BTreeMap::new());
        for channel in alerts.channels.values().chain(heartbeat) {
            let client = match running.0.get(&channel.name) {
                Some((print, client)) if *print == channel.fingerprint => Arc::clone(client),
                Some(_) | None => {
                    Arc::new(self.build(channel, &mut trust).map_err(|detail| (channel.name.clone(), detail))?)
                }
            };
            clients.insert(channel.name.clone(), (channel.fingerprint, client));
        }
        Ok(ChannelClients(clients))
    }

    pub fn install(&self, clients: ChannelClients) {
        self.clients.store(Arc::new(clients));
    }

    /// `trust` is read for the first that needs it.
    fn build(&self, channel: &Channel, trust: &mut Option<Trust>) -> Result<Client, String> {
        match &channel.target {
            Target::Webhook { .. } | Target::Telegram { .. } => {
                let peer = Peer {
                    name: &channel.name,
                    network: &channel.network,
                    concurrency: CONCURRENCY,
                    probe: PROXY_PROBE,
                };
                let with = (Trust::once(trust)?, &self.clock);
                Ok(Client::Http(Box::new(DestinationClient::build(&peer, &channel.listen, with)?)))
            }
            Target::Email(mail) => Ok(Client::Mail(Box::new(Mailer::build(mail, &channel.network)?))),
        }
    }
}

impl Courier for Channels {
    fn carry<'a>(&'a self, channel: &'a str, parcel: Parcel) -> Carrying<'a> {
        Box::pin(async move {
            let client = self.clients.load().0.get(channel).map(|(_, client)| Arc::clone(client));
            match (client.as_deref(), parcel) {
                (Some(Client::Http(client)), Parcel::Http(request)) => {
                    client.exchange(request, &mut Trail::default()).await.map_err(said)
                }
                (Some(Client::Mail(mailer)), Parcel::Mail { subject, body }) => {
                    mailer.send(subject, body).await?;
                    Ok(Answer { status: 250, ..Answer::default() })
                }
                (Some(_) | None, _) => Err("the configuration has just changed".to_owned()),
            }
        })
    }
}

fn said(fault: Fault) -> String {
    match fault {
        Fault::Network(detail) | Fault::Tls(detail) | Fault::Ambiguous(detail) | Fault::Refused(detail) => detail,
        Fault::Proxy { detail, .. } => format!("proxy: {detail}"),
        Fault::Timeout { .. } => "no answer in time".to_owned(),
    }
}

impl fmt::Debug for Channels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.clients.load().fmt(f)
    }
}

impl fmt::Debug for ChannelClients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}
