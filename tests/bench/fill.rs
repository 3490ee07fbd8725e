//! A store with so many deliveries in it, written without a daemon.

use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use postbackd::destination::example;
use postbackd::domain::dedupe::Discriminator;
use postbackd::domain::delivery::{Attempt, Phases};
use postbackd::domain::id::DestinationId;
use postbackd::domain::name::DestinationName;
use postbackd::domain::outcome::Disposition;
use postbackd::domain::time::{DurationMs, UnixMs};
use postbackd::env::entropy::SystemEntropy;
use postbackd::store::write::{Accept, Applied, Owed, Planned, Settle, WriteOp};
use postbackd::store::{Options, Store};

/// Events of one transaction.
const TOGETHER: u64 = 2_000;

/// Where the deliveries stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Sent,
    Owed,
}

impl State {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Owed => "owed",
        }
    }
}

/// What a store is filled with.
#[derive(Debug, Clone, Copy)]
pub struct Fill {
    pub rows: u64,
    pub state: State,
}

impl Fill {
    /// Writes it into the store in `directory`, for this destination.
    pub fn write(self, directory: &Path, destination: &str) {
        if self.rows == 0 {
            return;
        }
        let mut store = Store::open(directory, Options { cache: 128 << 20 }, &SystemEntropy).expect("a new store");
        let name: DestinationName = destination.parse().expect("a name");
        let numbers = store.number_destinations(std::slice::from_ref(&name)).expect("a number");
        let destination = numbers[&name];
        let mut sent = Vec::new();
        for first in (0..self.rows).step_by(usize::try_from(TOGETHER).expect("small")) {
            let mut ops: Vec<WriteOp> = std::mem::take(&mut sent);
            let fresh = first..self.rows.min(first + TOGETHER);
            ops.extend(fresh.map(|number| accept(&store, number, destination)));
            let applied = store.commit(&ops).expect("a commit");
            if self.state == State::Sent {
                sent = applied.into_iter().flat_map(owed).map(|owed| settle(&owed)).collect();
            }
        }
        store.commit(&sent).expect("a commit");
        store.close().expect("a store");
    }
}

/// Of this moment, so that nothing is too old.
fn now() -> UnixMs {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    UnixMs(u64::try_from(since.as_millis()).expect("not so late"))
}

fn accept(store: &Store, number: u64, destination: DestinationId) -> WriteOp {
    let (canonical, source) = ("lead".parse().expect("a name"), "app".parse().expect("a name"));
    let id = format!("old-{number}");
    let event = example::whole("bench", Some(id.clone()), canonical, source, now());
    WriteOp::Accept(Accept {
        key: store.hash_key().dedupe_key(&event, &Discriminator::EventId(id)),
        content: store.hash_key().content(&event),
        event: Arc::new(event),
        heard_at: now(),
        repeat_since: UnixMs(0),
        plan: vec![Planned::Owe { destination, target: "lead".parse().expect("a name") }],
    })
}

fn owed(applied: Applied) -> Vec<Owed> {
    if let Applied::Queued(queued) = applied { queued.owed } else { Vec::new() }
}

fn settle(owed: &Owed) -> WriteOp {
    let at = owed.due_at;
    let attempt = Attempt {
        n: 1,
        at,
        took: DurationMs(12),
        http_status: Some(200),
        verdict: "delivered".to_owned(),
        response: "ok".to_owned(),
        left_out: Vec::new(),
        phases: Phases::default(),
        proxy: None,
        called: None,
    };
    let (disposition, attempt) = (Disposition::Sent, Some(attempt));
    WriteOp::Settle(Settle { key: owed.key, due_at: at, at, attempt, disposition, autopsy: None })
}
