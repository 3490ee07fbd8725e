//! All that a store tells at one moment: a cut may bring back the last moment that was acknowledged, or the one that was
//! just being written, and nothing in between.

use std::collections::BTreeMap;
use std::sync::Arc;

use postbackd::domain::alert::AlertMemory;
use postbackd::domain::delivery::{Attempt, Delivery};
use postbackd::domain::event::Event;
use postbackd::domain::id::{DeliveryKey, DestinationId, EventSeq};
use postbackd::domain::name::DestinationName;
use postbackd::domain::pause::Pause;
use postbackd::domain::time::UnixMs;
use postbackd::store::job::{Job, Kept};
use postbackd::store::read::{Bodies, DeliveryFilter, Reader};
use postbackd::store::{Counts, Ledger, StoreError};
use postbackd::telemetry::rolling::saved::Saved;

/// More than any run here has of anything.
const MANY: usize = 1000;

type Stored = (EventSeq, Option<Arc<Event>>, Vec<(DestinationId, Delivery, Vec<Attempt>)>);

/// See the module's page.
#[derive(Debug, PartialEq)]
pub struct Moment {
    pub books: Arc<Ledger>,
    names: Vec<(DestinationName, DestinationId)>,
    events: Vec<Stored>,
    /// By destination, in the order of the outbox.
    owed: Vec<Vec<(UnixMs, EventSeq)>>,
    pub dead: Vec<DeliveryKey>,
    pauses: BTreeMap<DestinationId, Pause>,
    jobs: Vec<Job>,
    audit: Vec<Kept>,
    alerts: AlertMemory,
    stats: BTreeMap<DestinationId, Saved>,
}

impl Moment {
    /// Events up to `newest` are looked for, and some beyond: those that nobody was told of.
    pub fn read(reader: &Reader, newest: u64) -> Result<Self, StoreError> {
        let names = reader.destination_names()?;
        let mut events = Vec::new();
        for seq in (1..=newest + 16).map(EventSeq) {
            let stored = (seq, reader.event(seq)?, reader.trace(seq)?);
            if stored.1.is_some() || !stored.2.is_empty() {
                events.push(stored);
            }
        }
        let mut owed = Vec::new();
        for (_, destination) in &names {
            let page = reader.outbox_page(*destination, None, MANY, Bodies::NONE)?;
            owed.push(page.iter().map(|owed| (owed.due_at, owed.key.seq)).collect());
        }
        Ok(Self {
            books: reader.ledger(),
            names,
            events,
            owed,
            dead: reader.dlq_keys(&DeliveryFilter::default(), None, MANY)?.rows,
            pauses: reader.pauses()?,
            jobs: reader.jobs()?,
            audit: reader.audit(None, MANY)?.0,
            alerts: reader.alerts()?,
            stats: reader.stats()?,
        })
    }

    pub fn is_balanced(&self) -> bool {
        self.books.deliveries.values().all(Counts::balanced)
    }

    /// How many things it tells that must not be lost.
    pub fn facts(&self) -> u64 {
        let events = self
            .events
            .iter()
            .map(|(_, _, trace)| 1 + trace.len() + trace.iter().map(|one| one.2.len()).sum::<usize>());
        let owed = self.owed.iter().map(Vec::len);
        let rest = [self.dead.len(), self.pauses.len(), self.jobs.len(), self.audit.len(), self.alerts.open.len()];
        events.chain(owed).chain(rest).sum::<usize>() as u64
    }

    /// Whether each event that both know is the same, and so is what each delivery is called and when it came.
    pub fn tells_no_other_event(&self, was: &Self) -> bool {
        let known: BTreeMap<_, _> = was.events.iter().map(|stored| (stored.0, stored)).collect();
        self.events.iter().all(|(seq, event, trace)| {
            let Some((_, before, deliveries)) = known.get(seq) else { return trace.is_empty() };
            let same = |(destination, delivery, _): &(DestinationId, Delivery, Vec<Attempt>)| {
                deliveries.iter().any(|(known, before, _)| known == destination && before == delivery)
            };
            (event.is_none() || event == before) && trace.iter().all(same)
        })
    }

    /// Whether every event, every delivery and the books are the same.
    pub fn owes_the_same(&self, was: &Self) -> bool {
        let owed = |moment: &Self| (moment.books.deliveries.clone(), moment.owed.clone(), moment.dead.clone());
        self.events == was.events && owed(self) == owed(was)
    }

    /// The newest event it has.
    pub fn newest(&self) -> u64 {
        self.events.last().map_or(0, |(seq, _, _)| seq.0)
    }

    /// What differs, in words.
    pub fn difference(&self, other: &Self) -> String {
        let rest = |moment: &Self| {
            format!("{:?}", (&moment.names, &moment.pauses, &moment.jobs, &moment.audit, &moment.alerts, &moment.stats))
        };
        if self.books != other.books {
            format!("books {:?} and {:?}", self.books, other.books)
        } else if let Some((one, two)) = self.events.iter().zip(&other.events).find(|(one, two)| one != two) {
            format!("event {one:?} and {two:?}")
        } else if self.events.len() != other.events.len() {
            format!("{} events and {}", self.events.len(), other.events.len())
        } else if (&self.owed, &self.dead) != (&other.owed, &other.dead) {
            format!("owed, dead {:?} and {:?}", (&self.owed, &self.dead), (&other.owed, &other.dead))
        } else {
            format!("{} and {}", rest(self), rest(other))
        }
    }
}
