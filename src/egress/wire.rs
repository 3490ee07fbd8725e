//! One way to a destination: a reqwest client that goes through one proxy, or through none.

use std::sync::Arc;
use std::time::Duration;

use reqwest::Client;

use super::proxy::{self, Failure, Way};
use super::resolve::{Asked, GuardedResolver, PROXY_ALIAS};
use super::tls::{self, NO_ROOTS, Roots};
use super::{body, client, error};
use crate::config::snapshot::{Destination, NetworkPolicy};
use crate::domain::proxy::{Proxy, ProxyScheme};
use crate::domain::time::DurationMs;
use crate::env::transport::{Answer, Fault};

/// Idle connections kept for one host: the lane's concurrency within these bounds.
const POOL_IDLE: (usize, usize) = (4, 16);

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

#[derive(Debug)]
pub(super) struct Wire {
    client: Client,
    roots: Roots,
    through: Option<ProxyScheme>,
}

impl Wire {
    /// `connect` is the time until a connection to the destination stands, the proxy's part included.
    pub(super) fn build(peer: &Peer<'_>, proxy: Option<&Proxy>, connect: Duration) -> Result<Self, String> {
        let network = peer.network;
        let resolver = Arc::new(GuardedResolver::new(Arc::new(network.allow_private.clone()), asked(proxy)));
        let idle = peer.concurrency.clamp(POOL_IDLE.0, POOL_IDLE.1);
        let through = proxy.map(of_reqwest).transpose()?;
        let (client, roots) = tls::build(|| {
            let builder = client::base(network.timeout.to_std())
                .connect_timeout(connect)
                .pool_max_idle_per_host(idle)
                .dns_resolver(Arc::clone(&resolver));
            match &through {
                Some(proxy) => builder.proxy(proxy.clone()),
                None => builder,
            }
        })
        .map_err(|detail| format!("the HTTP client cannot be built: {detail}"))?;
        Ok(Self { client, roots, through: proxy.map(|proxy| proxy.scheme) })
    }

    /// Whether it speaks TLS to anybody and has nobody to believe.
    pub(super) fn lacks_roots(&self, url: &url::Url) -> bool {
        self.roots == Roots::None && (url.scheme() == "https" || self.through == Some(ProxyScheme::Https))
    }

    /// Sends `request` once, and reads the answer within its bounds and this time.
    pub(super) async fn send(&self, mut request: reqwest::Request, within: Duration) -> Result<Answer, Failure> {
        if request.url().scheme() == "https" && self.roots == Roots::None {
            // Every delivery would fare the same until the operator mends it, so none may spend an attempt.
            return Err(Failure::Other(Fault::Refused(NO_ROOTS.to_owned())));
        }
        let way = self.through.map_or(Way::Direct, |scheme| Way::of(scheme, request.url()));
        *request.timeout_mut() = Some(within);
        let response = match self.client.execute(request).await {
            Ok(response) => response,
            Err(error) => return Err(proxy::before_answer(&error, self.roots, way)),
        };
        let (answer, ended) = match body::read(response).await {
            Ok(answer) => (answer, Ok(())),
            // Proxies are known to refuse a request whose body they have not read, which cuts their own answer short.
            Err(broken) => {
                let fault = error::within_answer(&broken);
                (broken.begun, Err(Failure::BrokenOff(fault)))
            }
        };
        match proxy::own_answer(&answer) {
            Some((detail, reach)) if way == Way::Forward => Err(Failure::Proxy { detail, reach }),
            Some(_) | None => ended.map(|()| answer),
        }
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
