//! Numbers for the destinations of a configuration, and which destinations are configured as far as the writer knows.
//!
//! A purge gives up what is owed to a destination that has gone, and the destination may return while a purge of it waits for
//! its turn. So a configuration is numbered behind whatever was asked for before it, and from then on no purge of its
//! destinations is taken: nothing is given up that may be under way.

use std::collections::BTreeSet;

use tokio::sync::oneshot;

use crate::domain::id::DestinationId;
use crate::domain::name::DestinationName;
use crate::store::write::WriteOp;
use crate::store::{Store, StoreError};

use super::{Numbered, Unavailable};

/// Where the numbers go.
pub(super) type Reply = oneshot::Sender<Result<Numbered, Unavailable>>;

/// See the module's page.
#[derive(Debug, Default)]
pub(super) struct Numbering {
    configured: BTreeSet<DestinationId>,
    waiting: Vec<(Vec<DestinationName>, Reply)>,
}

impl Numbering {
    /// As the daemon starts, with these destinations.
    pub(super) fn begin(store: &mut Store, names: &[DestinationName]) -> Result<(Self, Numbered), StoreError> {
        let numbered = number(store, names)?;
        Ok((Self { configured: numbered.ids.values().copied().collect(), waiting: Vec::new() }, numbered))
    }

    /// Another configuration: numbered by the next [`Self::answer`].
    pub(super) fn ask(&mut self, names: Vec<DestinationName>, reply: Reply) {
        self.waiting.push((names, reply));
    }

    /// Whether something would be given up that is sent.
    pub(super) fn forbids(&self, ops: &[WriteOp]) -> bool {
        ops.iter().any(|op| matches!(op, WriteOp::Purge(purge) if self.configured.contains(&purge.destination)))
    }

    /// Where it fails the store itself stays as it was, and who asked comes again.
    pub(super) fn answer(&mut self, store: &mut Store) {
        for (names, reply) in self.waiting.drain(..) {
            let numbered = number(store, &names).map_err(|error| Unavailable::Store(error.to_string()));
            if let Ok(Numbered { ids, .. }) = &numbered {
                self.configured = ids.values().copied().collect();
            }
            drop(reply.send(numbered));
        }
    }

    /// The store is closed for now.
    pub(super) fn refuse(&mut self, why: &Unavailable) {
        for (_, reply) in self.waiting.drain(..) {
            drop(reply.send(Err(why.clone())));
        }
    }
}

/// Rare and small: a transaction of its own.
fn number(store: &mut Store, names: &[DestinationName]) -> Result<Numbered, StoreError> {
    let ids = store.number_destinations(names)?;
    Ok(Numbered { ids, pauses: store.reader().pauses()? })
}
