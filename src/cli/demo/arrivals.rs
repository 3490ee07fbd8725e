//! What arrived at the receivers, held against what was acknowledged: the demo's judgement, pure.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use url::Url;

use crate::cli::sink::faults::Answer;
use crate::cli::sink::record::Record;

/// How a receiver names an event: the sender's id, and the id that must never change over retries, crashes and replays.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Named {
    pub event: String,
    pub stable: String,
}

/// How the requests of one kind of destination are read.
pub type ReadIds = fn(&Record) -> Vec<Named>;

/// What one receiver saw of each event.
#[derive(Debug, Default)]
pub struct Arrivals {
    events: BTreeMap<String, Seen>,
    unreadable: usize,
}

#[derive(Debug, Default)]
struct Seen {
    stable: BTreeSet<String>,
    requests: usize,
    taken: usize,
}

impl Arrivals {
    pub fn new(records: &[Record], read: ReadIds) -> Self {
        let mut arrivals = Self::default();
        for record in records {
            let named = read(record);
            arrivals.unreadable += usize::from(named.is_empty());
            for Named { event, stable } in named {
                let seen = arrivals.events.entry(event).or_default();
                seen.stable.insert(stable);
                seen.requests += 1;
                seen.taken += usize::from(matches!(record.answer, Answer::Status(200..300)));
            }
        }
        arrivals
    }

    /// Requests for an event.
    pub fn requests(&self, event: &str) -> usize {
        self.events.get(event).map_or(0, |seen| seen.requests)
    }

    /// Events that were taken more than once.
    pub fn repeated(&self) -> usize {
        self.events.values().filter(|seen| seen.taken > 1).count()
    }

    /// What is wrong, in words; empty where every acknowledged event was taken, under one id, and nothing else came.
    pub fn faults(&self, acknowledged: &BTreeSet<String>) -> Vec<String> {
        let mut faults = Vec::new();
        for event in acknowledged {
            match self.events.get(event) {
                None => faults.push(format!("{event} never arrived")),
                Some(seen) if seen.taken == 0 => faults.push(format!("{event} arrived and was never taken")),
                Some(seen) if seen.stable.len() != 1 => {
                    faults.push(format!("{event} came under {} different ids", seen.stable.len()));
                }
                Some(_) => {}
            }
        }
        let strangers = self.events.keys().filter(|event| !acknowledged.contains(*event));
        faults.extend(strangers.map(|event| format!("{event} arrived and had never been acknowledged")));
        if self.unreadable > 0 {
            faults.push(format!("{} requests name no event", self.unreadable));
        }
        faults
    }
}

/// `source_event_id` in the body, `webhook-id` in the header.
pub fn webhook_ids(record: &Record) -> Vec<Named> {
    let body: Value = serde_json::from_str(&record.body).unwrap_or_default();
    let event = body.get("source_event_id").and_then(Value::as_str);
    let both = event.zip(record.header("webhook-id"));
    both.map(|(event, stable)| Named { event: event.to_owned(), stable: stable.to_owned() }).into_iter().collect()
}

/// `tx` and `delivery` of the query.
pub fn postback_ids(record: &Record) -> Vec<Named> {
    let Ok(url) = Url::parse(&format!("http://sink{}", record.path)) else { return Vec::new() };
    let parameter =
        |wanted: &str| url.query_pairs().find(|(name, _)| name == wanted).map(|(_, text)| text.into_owned());
    let both = parameter("tx").zip(parameter("delivery"));
    both.map(|(event, stable)| Named { event, stable }).into_iter().collect()
}

/// `event_id` of each of the `data`: Meta drops repeats by the sender's own id.
pub fn meta_ids(record: &Record) -> Vec<Named> {
    let body: Value = serde_json::from_str(&record.body).unwrap_or_default();
    let events = body.get("data").and_then(Value::as_array).into_iter().flatten();
    let ids = events.filter_map(|event| event.get("event_id").and_then(Value::as_str));
    ids.map(|id| Named { event: id.to_owned(), stable: id.to_owned() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::time::UnixMs;

    fn record(path: &str, id: Option<&str>, body: &str, answer: Answer) -> Record {
        Record {
            at: UnixMs(0),
            method: "POST".to_owned(),
            path: path.to_owned(),
            headers: id.map(|id| ("webhook-id".to_owned(), id.to_owned())).into_iter().collect(),
            body: body.to_owned(),
            answer,
        }
    }

    fn webhook(event: &str, id: &str, status: u16) -> Record {
        record("/", Some(id), &format!(r#"{{"source_event_id":"{event}"}}"#), Answer::Status(status))
    }

    fn faults(records: &[Record]) -> Vec<String> {
        let acknowledged = BTreeSet::from(["a".to_owned(), "b".to_owned()]);
        Arrivals::new(records, webhook_ids).faults(&acknowledged)
    }

    #[test]
    fn retries_and_repeats_under_one_id_are_right() {
        let records = [webhook("a", "1", 503), webhook("a", "1", 200), webhook("b", "2", 200), webhook("b", "2", 200)];
        assert_eq!(faults(&records), Vec::<String>::new());
        assert_eq!(Arrivals::new(&records, webhook_ids).repeated(), 1);
    }

    #[test]
    fn loss_a_changed_id_and_strangers_are_found() {
        assert_eq!(faults(&[webhook("a", "1", 200)]), ["b never arrived"]);
        assert_eq!(faults(&[webhook("a", "1", 200), webhook("b", "2", 503)]), ["b arrived and was never taken"]);
        let changed = [webhook("a", "1", 503), webhook("a", "3", 200), webhook("b", "2", 200)];
        assert_eq!(faults(&changed), ["a came under 2 different ids"]);
        let stranger = [webhook("a", "1", 200), webhook("b", "2", 200), webhook("c", "3", 200)];
        assert_eq!(faults(&stranger), ["c arrived and had never been acknowledged"]);
        let nameless = [webhook("a", "1", 200), webhook("b", "2", 200), record("/", None, "", Answer::Status(200))];
        assert_eq!(faults(&nameless), ["1 requests name no event"]);
    }

    #[test]
    fn ids_are_read_from_each_kind_of_request() {
        let named = |event: &str, stable: &str| vec![Named { event: event.to_owned(), stable: stable.to_owned() }];
        let postback = record("/p?tx=t%201&delivery=d", None, "", Answer::Reset);
        assert_eq!(postback_ids(&postback), named("t 1", "d"));
        let meta = record("/v26.0/1/events", None, r#"{"data":[{"event_id":"x"}]}"#, Answer::Reset);
        assert_eq!(meta_ids(&meta), named("x", "x"));
        assert_eq!(webhook_ids(&webhook("a", "1", 200)), named("a", "1"));
        assert_eq!(webhook_ids(&meta), []);
    }
}
