//! Snapshots built by hand, for tests of parts that do not read a configuration.

use std::path::PathBuf;
use std::sync::Arc;

use postbackd::config::snapshot::{Destination, LanePolicy, NetworkPolicy, Retention, Server, Snapshot, Storage};
use postbackd::destination::event_map::EventMap;
use postbackd::destination::{Adapter, JudgeContext, Judgement, Kind, Outgoing, Prepared};
use postbackd::domain::outcome::Verdict;
use postbackd::domain::retry::RetryPolicy;
use postbackd::domain::secret::Redactor;
use postbackd::domain::time::{DurationMs, UnixMs};
use postbackd::env::transport::Answer;

/// A snapshot with these destinations and nothing else of interest.
pub fn snapshot(destinations: Vec<(&str, NetworkPolicy)>) -> Snapshot {
    let destinations = destinations.into_iter().map(|(name, network)| {
        let destination = destination(name, network);
        (destination.name.clone(), Arc::new(destination))
    });
    Snapshot {
        hash: String::new(),
        loaded_at: UnixMs(0),
        server: Server {
            listen: vec!["127.0.0.1:0".parse().unwrap()],
            sockets: Vec::new(),
            socket_mode: 0o660,
            handed_over: false,
            admin_token: None,
            body_limit: 1024,
            batch_limit: 1,
            drain: DurationMs::ZERO,
        },
        storage: Storage { path: PathBuf::new(), cache: 0, reserve: None },
        retention: Retention { events: None, attempts: None, dlq: None, dedupe: DurationMs::from_days(30), size: None },
        backup: postbackd::config::backup::Backup::default(),
        default_currency: "USD".parse().unwrap(),
        sources: std::collections::BTreeMap::new(),
        destinations: destinations.collect(),
        alerts: postbackd::config::alerts::Alerts::default(),
    }
}

fn destination(name: &str, network: NetworkPolicy) -> Destination {
    Destination {
        name: name.parse().unwrap(),
        kind: Kind::Webhook,
        enabled: true,
        events: EventMap::default(),
        sources: None,
        when: Vec::new(),
        retry: RetryPolicy::default(),
        lane: LanePolicy { concurrency: 2, hold_probe: DurationMs::from_secs(60), rate_limit: None, breaker: None },
        network,
        adapter: Box::new(Mute(Redactor::default())),
        fingerprint: 0,
    }
}

/// An adapter for tests that never ask it anything.
#[derive(Debug)]
struct Mute(Redactor);

impl Adapter for Mute {
    fn kind(&self) -> Kind {
        Kind::Webhook
    }

    fn batch_max(&self) -> usize {
        1
    }

    fn default_target(&self, _: &str) -> Option<String> {
        None
    }

    fn prepare(&self, deliveries: &[Outgoing<'_>], _: UnixMs) -> Prepared {
        Prepared { request: None, parts: deliveries.iter().map(|_| Ok(Vec::new())).collect() }
    }

    fn judge(&self, _: &Answer, _: JudgeContext<'_>) -> Judgement {
        Judgement::new(Verdict::Delivered, "")
    }

    fn redactor(&self) -> &Redactor {
        &self.0
    }
}
