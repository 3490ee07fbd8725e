//! File descriptors, shared out: what connections may take, so that the store, the log, backups, deliveries and the
//! operator's own socket always find some.
//!
//! The limit of the process (`LimitNOFILE=`, `ulimit -n`) is first raised as far as it may be. Of what it is then,
//! [`OWN`] are for ourselves, a quarter of the rest is for connections to receivers, proxies and name servers, and what is
//! left is for connections that come in: an eighth of it over Unix sockets, where operators find one however many senders
//! there are. More of either wait in the kernel's queue.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::{debug, info, warn};

use crate::http::Slots;

/// Connections over TCP and over Unix sockets at the same time, however many descriptors there are.
const MOST: Slots = Slots { network: 10_000, local: 1_000 };
/// The store, its directory, a backup, the log, the runtime, listeners, watched files: some twenty, and room for surprises.
const OWN: usize = 64;
/// Fewer serve nobody.
const LEAST: usize = 8;

/// Raises the limit, and says how many connections may come in at the same time.
pub(super) fn share() -> Slots {
    let limit = raise();
    let slots = slots(limit);
    let Slots { network, local } = slots;
    if slots == MOST {
        debug!(limit, network, local, "File descriptors are shared out.");
    } else {
        info!(
            limit,
            network,
            local,
            "Few file descriptors: so many connections are served at a time. LimitNOFILE= (ulimit -n) is the limit."
        );
    }
    slots
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

fn slots(limit: Option<u64>) -> Slots {
    let Some(limit) = limit.and_then(|limit| usize::try_from(limit).ok()) else { return MOST };
    let rest = limit.saturating_sub(OWN);
    let inward = rest.saturating_sub(rest / 4);
    let local = inward / 8;
    let within = |share: usize, most: usize| share.clamp(LEAST, most);
    Slots { network: within(inward.saturating_sub(local), MOST.network), local: within(local, MOST.local) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_descriptors_to_everything_else() {
        assert_eq!(slots(None), MOST);
        assert_eq!(slots(Some(65_536)), MOST);
        assert_eq!(slots(Some(1024)), Slots { network: 630, local: 90 });
        assert_eq!(slots(Some(256)), Slots { network: 126, local: 18 });
        assert_eq!(slots(Some(20)), Slots { network: LEAST, local: LEAST }, "less would serve nobody");
    }
}
