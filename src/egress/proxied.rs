//! A destination behind proxies: an exchange takes the first that works, and the next one where it fails before anything
//! can have reached the destination. Where none works the exchange fails; it is never made directly.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing::{info, warn};

use super::proxy::{Failure, Reach};
use super::routes::{self, Change, Moment, Routes, Ticket};
use super::tls::Trust;
use super::wire::{Peer, Wire};
use crate::domain::time::DurationMs;
use crate::env::clock::Clock;
use crate::env::transport::{Answer, Fault, RouteView, Trail};

/// The time to connect is shared by this many proxies at most, so that one that hangs leaves time for the next ones and
/// a long list still leaves time for each.
const SHARES_MAX: usize = 3;

/// The proxies of a destination, in the order of the configuration.
pub(super) struct Proxied {
    destination: String,
    hops: Vec<Hop>,
    routes: Mutex<Routes>,
    timeout: Duration,
    /// What one proxy gets of the time to connect.
    connect: Duration,
    clock: Arc<dyn Clock>,
}

#[derive(Debug)]
struct Hop {
    address: Arc<str>,
    wire: Wire,
}

/// What becomes of an exchange after a proxy was tried.
enum Step {
    Over(Result<Answer, Fault>),
    /// The proxy failed; whether another may be given the request.
    Failed(String, Reach),
}

impl Proxied {
    /// `connect` is the time to connect for all proxies together.
    pub(super) fn build(
        peer: &Peer<'_>,
        connect: Duration,
        (trust, clock): (&Trust, &Arc<dyn Clock>),
    ) -> Result<Self, String> {
        let network = peer.network;
        let shares = u32::try_from(network.proxies.len().clamp(1, SHARES_MAX)).unwrap_or(1);
        let connect = connect / shares;
        let mut hops = Vec::new();
        for proxy in &network.proxies {
            let wire = Wire::build(peer, Some(proxy), connect, (trust, clock))?;
            hops.push(Hop { address: proxy.address().into(), wire });
        }
        let addresses = hops.iter().map(|hop| hop.address.to_string()).collect();
        let routes = Mutex::new(Routes::new(addresses, peer.probe, clock.now()));
        let timeout = network.timeout.to_std();
        Ok(Self { destination: peer.name.to_owned(), hops, routes, timeout, connect, clock: Arc::clone(clock) })
    }

    /// `trail` is told of the proxy that was tried last, and of the exchange through that one.
    pub(super) async fn exchange(&self, request: &reqwest::Request, trail: &mut Trail) -> Result<Answer, Fault> {
        let deadline = self.clock.monotonic() + self.timeout;
        let mut tried = Vec::new();
        let mut complaint = None;
        loop {
            let now = self.clock.monotonic();
            let left = deadline.saturating_sub(now);
            // With less, the end of the whole time could not be told from the end of the time to connect.
            if !tried.is_empty() && left <= self.connect {
                break;
            }
            let Some(ticket) = self.routes().pick(&tried, now) else { break };
            let Some(hop) = self.hops.get(ticket.index) else { break };
            let Some(copy) = request.try_clone() else { break };
            tried.push(ticket.index);
            trail.proxy = Some(Arc::clone(&hop.address));
            let sent = hop.wire.send(copy, left, &mut trail.phases).await;
            match self.judge(ticket, hop, sent) {
                Step::Over(result) => return result,
                Step::Failed(detail, Reach::Proxy) => complaint = Some(detail),
                Step::Failed(detail, Reach::Destination) => {
                    complaint = Some(detail);
                    break;
                }
            }
        }
        let now = self.clock.monotonic();
        let routes = self.routes();
        let detail = complaint.unwrap_or_else(|| {
            let last = routes.complaint().map_or_else(String::new, |last| format!(" (the last failure: {last})"));
            format!("no proxy is due for another try yet{last}")
        });
        let wait = routes.usable_in(now);
        // The wall clock shows whole milliseconds, so a probe by it could come a fraction of one too early.
        let wait = if wait.is_zero() { DurationMs::ZERO } else { routes::rounded_up(wait + Duration::from_millis(1)) };
        Err(Fault::Proxy { detail, usable_at: self.clock.now() + wait })
    }

    fn judge(&self, ticket: Ticket, hop: &Hop, sent: Result<Answer, Failure>) -> Step {
        let now = self.moment();
        let (detail, reach) = match sent {
            Ok(answer) => {
                self.carried(ticket, hop, now);
                return Step::Over(Ok(answer));
            }
            // A certificate, too, came from the destination itself.
            Err(Failure::BrokenOff(fault) | Failure::Other(fault @ Fault::Tls(_))) => {
                self.carried(ticket, hop, now);
                return Step::Over(Err(fault));
            }
            Err(Failure::Other(fault)) => return Step::Over(Err(fault)),
            Err(Failure::Silence) if self.routes().is_proven(ticket, now.monotonic) => {
                return Step::Over(Err(Fault::Timeout { sent: true }));
            }
            Err(Failure::Silence) => ("it took the request and no answer came in time".to_owned(), Reach::Destination),
            Err(Failure::Proxy { detail, reach }) => (detail, reach),
        };
        let detail = format!("proxy {}: {detail}", hop.address);
        let change = self.routes().failed(ticket, &detail, now);
        if let Some(Change::Failed { next_try }) = change {
            let next_try = DurationMs(u64::try_from(next_try.as_millis()).unwrap_or(u64::MAX));
            warn!(destination = %self.destination, reason = %detail, %next_try, "A proxy fails; it is left alone for a while.");
        }
        Step::Failed(detail, reach)
    }

    fn carried(&self, ticket: Ticket, hop: &Hop, now: Moment) {
        if self.routes().carried(ticket, now) == Some(Change::Back) {
            info!(destination = %self.destination, proxy = %hop.address, "A proxy works again.");
        }
    }

    pub(super) fn lacks_roots(&self, url: &url::Url) -> bool {
        self.hops.iter().any(|hop| hop.wire.lacks_roots(url))
    }

    pub(super) fn view(&self) -> Vec<RouteView> {
        let now = self.moment();
        self.routes().view(now)
    }

    fn moment(&self) -> Moment {
        Moment { monotonic: self.clock.monotonic(), wall: self.clock.now() }
    }

    /// A poisoned lock holds what was last known of the proxies: still the best there is.
    fn routes(&self) -> MutexGuard<'_, Routes> {
        self.routes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Proxied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.hops.iter().map(|hop| &hop.address)).finish()
    }
}
