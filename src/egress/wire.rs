//! One way to a destination: a reqwest client that goes through one proxy, or through none.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use reqwest::Client;

use super::proxy::{self, Failure, Way};
use super::resolve::{Asked, GuardedResolver, PROXY_ALIAS};
use super::timing::{self, Timing};
use super::tls::{NO_ROOTS, Roots, Trust};
use super::{body, client, error};
use crate::config::snapshot::{Destination, NetworkPolicy};
use crate::domain::delivery::Phases;
use crate::domain::proxy::{Proxy, ProxyScheme};
use crate::domain::time::DurationMs;
use crate::env::clock::Clock;
use crate::env::transport::{Answer, Fault};

/// Whoever is sent something: a destination, or a channel of alerts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer<'a> {
    pub(super) name: &'a str,
    pub(super) network: &'a NetworkPolicy,
    /// Requests in flight at most.
    pub(super) concurrency: usize,
    /// The first pause of a proxy that failed is never longer.
    pub(super) probe: DurationMs,
}

impl<'a> From<&'a Destination> for Peer<'a> {
    fn from(destination: &'a Destination) -> Self {
        Self {
            name: destination.name.as_str(),
            network: &destination.network,
            concurrency: destination.lane.concurrency,
            probe: destination.lane.hold_probe,
        }
    }
}

pub(super) struct Wire {
    client: Client,
    roots: Roots,
    through: Option<ProxyScheme>,
    clock: Arc<dyn Clock>,
}

impl Wire {
    /// `connect` is the time until a connection to the destination stands, the proxy's part included.
    pub(super) fn build(
        peer: &Peer<'_>,
        proxy: Option<&Proxy>,
        connect: Duration,
        (trust, clock): (&Trust, &Arc<dyn Clock>),
    ) -> Result<Self, String> {
        let network = peer.network;
        let resolver = Arc::new(GuardedResolver::new(Arc::new(network.allow_private.clone()), asked(proxy)));
        let through = proxy.map(of_reqwest).transpose()?;
        let builder = client::base(network.timeout.to_std())
            .connect_timeout(connect)
            // As many as the lane uses at once: with fewer, those beyond are opened and closed for each exchange.
            .pool_max_idle_per_host(peer.concurrency)
            .connector_layer(Timing(Arc::clone(clock)))
            .dns_resolver(resolver);
        let builder = match through {
            Some(proxy) => builder.proxy(proxy),
            None => builder,
        };
        let built = trust.build(builder);
        let (client, roots) = built.map_err(|detail| format!("the HTTP client cannot be built: {detail}"))?;
        Ok(Self { client, roots, through: proxy.map(|proxy| proxy.scheme), clock: Arc::clone(clock) })
    }

    /// Whether it speaks TLS to anybody and has nobody to believe.
    pub(super) fn lacks_roots(&self, url: &url::Url) -> bool {
        self.roots == Roots::None && (url.scheme() == "https" || self.through == Some(ProxyScheme::Https))
    }

    /// Sends `request` once, and reads the answer within its bounds and this time. `phases` is told how far it came and how
    /// long that took.
    pub(super) async fn send(
        &self,
        mut request: reqwest::Request,
        within: Duration,
        phases: &mut Phases,
    ) -> Result<Answer, Failure> {
        *phases = Phases::default();
        if request.url().scheme() == "https" && self.roots == Roots::None {
            // Every delivery would fare the same until the operator mends it, so none may spend an attempt.
            return Err(Failure::Other(Fault::Refused(NO_ROOTS.to_owned())));
        }
        let way = self.through.map_or(Way::Direct, |scheme| Way::of(scheme, request.url()));
        *request.timeout_mut() = Some(within);
        let start = self.clock.monotonic();
        let (executed, opened) = timing::watched(self.client.execute(request)).await;
        phases.connect = opened.map(timing::ms);
        let response = match executed {
            Ok(response) => response,
            Err(error) => return Err(proxy::before_answer(&error, self.roots, way)),
        };
        let begun = self.clock.monotonic();
        let waited = begun.saturating_sub(start).saturating_sub(opened.unwrap_or_default());
        phases.first_byte = Some(timing::ms(waited));
        let (answer, ended) = match body::read(response).await {
            Ok(answer) => (answer, Ok(())),
            // Proxies are known to refuse a request whose body they have not read, which cuts their own answer short.
            Err(broken) => {
                let fault = error::within_answer(&broken);
                (broken.begun, Err(Failure::BrokenOff(fault)))
            }
        };
        phases.body = Some(timing::ms(self.clock.monotonic().saturating_sub(begun)));
        match proxy::own_answer(&answer) {
            Some((detail, reach)) if way == Way::Forward => Err(Failure::Proxy { detail, reach }),
            Some(_) | None => ended.map(|()| answer),
        }
    }
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire").field("through", &self.through).finish_non_exhaustive()
    }
}

fn asked(proxy: Option<&Proxy>) -> Asked {
    match proxy {
        None => Asked::Destination,
        Some(proxy) if proxy.scheme.resolves_names() => Asked::Proxy(proxy.host.clone()),
        Some(proxy) => Asked::Both { proxy: proxy.host.clone() },
    }
}

/// A proxy whose address reqwest cannot read would be no proxy to it, and the connection a direct one. So the login is
/// encoded to letters, digits and `%`, and the host is one that a URL was read from.
fn of_reqwest(proxy: &Proxy) -> Result<reqwest::Proxy, String> {
    let host = if proxy.scheme.resolves_names() { proxy.host.as_str() } else { PROXY_ALIAS };
    reqwest::Proxy::all(proxy.url_with_host(host).expose())
        .map_err(|error| format!("proxy {} cannot be used: {}", proxy.address(), error::words(&error)))
}
