//! File descriptors, shared out: what connections may take, so that the store, the log, backups, deliveries and the
//! operator's own socket always find some.
//!
//! The limit of the process (`LimitNOFILE=`, `ulimit -n`) is first raised as far as it may be. Of what it is then,
//! [`OWN`] are for ourselves, a quarter of the rest is for connections to receivers, proxies and name servers, and what is
//! left is for connections that come in: an eighth of it over Unix sockets, where operators find one however many senders
//! there are. More of either wait in the kernel's queue.
//!
//! Half of what is for receivers is for exchanges under way, shared out among the destinations
//! ([`crate::pipeline::turns`]); the other half is for connections that are kept for the next one.
//!
//! Alerts and tests take no turn among them: they must get through where receivers that hang hold every one. What they open is
//! among our own: each alert channel and the heartbeat make one exchange at a time, and four tests are sent at a time.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::{debug, info, warn};

use crate::http::Slots;

/// Connections over TCP and over Unix sockets at the same time, however many descriptors there are.
const MOST: Slots = Slots { network: 10_000, local: 1_000 };
/// Exchanges with receivers at the same time, likewise.
const MOST_EXCHANGES: usize = 10_000;
/// The store, its directory, a backup, the log, the runtime, listeners, watched files: some twenty. Alerts and tests: a
/// connection for each of four tests and for each channel, say twenty of them; and as many for surprises.
const OWN: usize = 64;
/// Fewer serve nobody.
const LEAST: usize = 8;

/// What connections may take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Shares {
    /// Connections that come in.
    pub inward: Slots,
    /// Exchanges with receivers under way.
    pub exchanges: usize,
}

/// Raises the limit, and says how many connections there may be at the same time.
pub(super) fn share() -> Shares {
    let limit = raise();
    let shares = shares(limit);
    let Shares { inward: Slots { network, local }, exchanges } = shares;
    if shares.inward == MOST {
        debug!(limit, network, local, exchanges, "File descriptors are shared out.");
    } else {
        info!(
            limit,
            network,
            local,
            exchanges,
            "Few file descriptors: so many connections are served at a time, and so many exchanges made. LimitNOFILE= (ulimit -n) is the limit."
        );
    }
    shares
}

/// The limit as it is now; `None` where there is none.
fn raise() -> Option<u64> {
    let found = getrlimit(Resource::Nofile);
    if found.current == found.maximum {
        return found.current;
    }
    let wanted = Rlimit { current: found.maximum, maximum: found.maximum };
    match setrlimit(Resource::Nofile, wanted) {
        Ok(()) => found.maximum,
        Err(error) => {
            warn!(%error, "The limit of file descriptors cannot be raised.");
            found.current
        }
    }
}

fn shares(limit: Option<u64>) -> Shares {
    let Some(limit) = limit.and_then(|limit| usize::try_from(limit).ok()) else {
        return Shares { inward: MOST, exchanges: MOST_EXCHANGES };
    };
    let rest = limit.saturating_sub(OWN);
    let outward = rest / 4;
    let inward = rest.saturating_sub(outward);
    let local = inward / 8;
    let within = |share: usize, most: usize| share.clamp(LEAST, most);
    Shares {
        inward: Slots { network: within(inward.saturating_sub(local), MOST.network), local: within(local, MOST.local) },
        exchanges: within(outward / 2, MOST_EXCHANGES),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Row 29.
    #[test]
    fn connections_leave_descriptors_to_everything_else() {
        let share = |network, local, exchanges| Shares { inward: Slots { network, local }, exchanges };
        assert_eq!(shares(None), Shares { inward: MOST, exchanges: MOST_EXCHANGES });
        assert_eq!(shares(Some(65_536)), Shares { inward: MOST, exchanges: 8184 });
        assert_eq!(shares(Some(1024)), share(630, 90, 120));
        assert_eq!(shares(Some(256)), share(126, 18, 24));
        assert_eq!(shares(Some(20)), share(LEAST, LEAST, LEAST), "less would serve nobody");
    }
}
