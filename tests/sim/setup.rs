//! The small world every seed starts from: four destinations, one of which takes batches; different tempers and limits.

use std::collections::BTreeMap;
use std::sync::Arc;

use postbackd::config::snapshot::{
    Destination, LanePolicy, NetworkPolicy, Retention, Server, Snapshot, Source, Storage,
};
use postbackd::destination::Kind;
use postbackd::destination::event_map::EventMap;
use postbackd::destination::fb_capi::FbCapiSpec;
use postbackd::destination::registry::{Spec, build};
use postbackd::destination::webhook::WebhookSpec;
use postbackd::domain::event::{Event, OccurredAt};
use postbackd::domain::json_object::JsonObject;
use postbackd::domain::name::{CanonicalName, DestinationName};
use postbackd::domain::net::AllowPrivate;
use postbackd::domain::pacing::{BreakerPolicy, RateLimit};
use postbackd::domain::retry::RetryPolicy;
use postbackd::domain::secret::Secret;
use postbackd::domain::time::{DurationMs, UnixMs};
use postbackd::env::transport::Method;
use postbackd::inbound::Recipe;

use crate::rng::Rng;

/// Where simulated time begins.
pub const START: UnixMs = UnixMs(1_764_000_000_000);

/// From here on identities are of strangers, whose ids never come again.
pub const STRANGERS: u64 = 1 << 32;

/// The configuration of a seed.
pub fn snapshot(rng: &Rng) -> Arc<Snapshot> {
    let mut destinations = BTreeMap::new();
    for (at, name) in ["alpha", "beta", "gamma", "delta"].into_iter().enumerate() {
        let name: DestinationName = name.parse().expect("a name");
        let retry = RetryPolicy { max_attempts: if rng.percent(30) { 6 } else { 100 }, ..RetryPolicy::default() };
        // The third does not want everything.
        let mut map: BTreeMap<CanonicalName, Option<_>> = BTreeMap::new();
        if at == 2 {
            map.insert("contact".parse().expect("a name"), None);
        }
        let kind = if at == 3 { Kind::FbCapi } else { Kind::Webhook };
        let adapter = build(spec(kind, &host(&name, 0), rng)).expect("a valid destination");
        let destination = Destination {
            name: name.clone(),
            kind,
            enabled: true,
            events: EventMap::new(map),
            sources: None,
            when: Vec::new(),
            retry,
            lane: LanePolicy {
                concurrency: usize::try_from(rng.between(1, 5)).expect("small"),
                hold_probe: DurationMs::from_secs(900),
                rate_limit: rng.percent(30).then(|| RateLimit { count: 2, per: DurationMs::from_secs(1) }),
                breaker: rng.percent(70).then(BreakerPolicy::default),
            },
            network: NetworkPolicy {
                timeout: DurationMs::from_secs(15),
                allow_private: AllowPrivate::No,
                proxies: Vec::new(),
            },
            adapter,
            fingerprint: 0,
        };
        destinations.insert(name, Arc::new(destination));
    }
    Arc::new(Snapshot {
        hash: "simulated".to_owned(),
        loaded_at: START,
        server: Server {
            listen: vec!["127.0.0.1:8460".parse().expect("an address")],
            sockets: Vec::new(),
            socket_mode: 0o660,
            handed_over: false,
            admin_token: None,
            body_limit: 1024 * 1024,
            batch_limit: 1000,
            drain: DurationMs::from_secs(20),
        },
        storage: Storage { path: "/nowhere".into(), cache: 1024 * 1024, reserve: None },
        backup: postbackd::config::backup::Backup::default(),
        retention: Retention { events: None, attempts: None, dlq: None, dedupe: DurationMs::from_days(30), size: None },
        default_currency: "USD".parse().expect("a currency"),
        sources: BTreeMap::from([("app".parse().expect("a name"), Arc::new(source()))]),
        destinations,
        alerts: postbackd::config::alerts::Alerts::default(),
    })
}

/// Where a receiver listens that has moved so many times.
pub fn host(name: &DestinationName, moves: u64) -> String {
    format!("{name}-{moves}.example")
}

/// The same destination at another address, with another key.
pub fn moved(old: &Destination, moves: u64, rng: &Rng) -> Destination {
    let adapter = build(spec(old.kind, &host(&old.name, moves), rng)).expect("a valid destination");
    Destination {
        name: old.name.clone(),
        kind: old.kind,
        enabled: old.enabled,
        events: old.events.clone(),
        sources: old.sources.clone(),
        when: old.when.clone(),
        retry: old.retry.clone(),
        lane: old.lane.clone(),
        network: old.network.clone(),
        adapter,
        fingerprint: moves,
    }
}

/// One destination takes its events in batches, the others one by one.
fn spec(kind: Kind, host: &str, rng: &Rng) -> Spec {
    if kind == Kind::FbCapi {
        return Spec::FbCapi(FbCapiSpec {
            pixel_id: "1234567890".to_owned(),
            access_token: Secret::new(format!("token-{host}")),
            api_version: "v26.0".to_owned(),
            base_url: format!("https://{host}").parse().expect("a URL"),
            test_event_code: None,
            action_source: None,
            external_id_from_uid: true,
            batch: usize::try_from(rng.between(2, 9)).expect("small"),
            batch_wait: DurationMs(rng.between(0, 600_000)),
            data_processing_options: None,
            data_processing_options_country: None,
            data_processing_options_state: None,
            hidden: Vec::new(),
        });
    }
    Spec::Webhook(WebhookSpec {
        url: format!("https://{host}/hook").parse().expect("a URL"),
        method: Method::Post,
        headers: vec![("X-Key".to_owned(), Secret::new(host.to_owned()))],
        signing_secrets: Vec::new(),
        include_user: Vec::new(),
        template: None,
        hidden: Vec::new(),
    })
}

fn source() -> Source {
    Source { name: "app".parse().expect("a name"), tokens: Vec::new(), postback: Recipe::default() }
}

/// One event of the workload: `identity` says which events are the same, `variant` what they say.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    pub identity: u64,
    pub variant: u64,
    pub at: UnixMs,
}

/// Events over two hours; some are repeats, some of those say something else. Some come together in one request.
pub fn workload(rng: &Rng) -> Vec<Vec<Plan>> {
    let count = rng.between(5, 50);
    let mut plans: Vec<Plan> = Vec::new();
    for identity in 0..count {
        let at = START + DurationMs(rng.below(7_200_000));
        plans.push(Plan { identity, variant: 0, at });
        if rng.percent(20) {
            let variant = rng.below(2);
            plans.push(Plan { identity, variant, at: at + DurationMs(rng.below(600_000)) });
        }
        // Long after, when the clock may have been anywhere.
        if rng.percent(10) {
            plans.push(Plan { identity, variant: 0, at: at + DurationMs(rng.between(10_800_000, 20_000_000)) });
        }
    }
    let mut requests: Vec<Vec<Plan>> = Vec::new();
    for plan in plans {
        match requests.last_mut() {
            Some(last) if last.len() < 6 && rng.percent(30) => last.push(plan),
            _ => requests.push(vec![plan]),
        }
    }
    requests
}

/// The event a sender would send for `plan`, received at `now`.
pub fn event(plan: Plan, now: UnixMs) -> Event {
    let mut data = JsonObject::default();
    if plan.identity % 13 == 7 {
        data.insert("poison".to_owned(), true.into());
    }
    data.insert("variant".to_owned(), plan.variant.into());
    Event {
        source: "app".parse().expect("a name"),
        canonical: if plan.identity.is_multiple_of(5) { "contact" } else { "deposit" }.parse().expect("a name"),
        event_id: Some(format!("order-{}", plan.identity)),
        uid: Some(format!("uid-{}", plan.identity % 3)),
        occurred_at: OccurredAt::Given(START),
        received_at: now,
        value: "25.00".parse().ok(),
        currency: "USD".parse().ok(),
        action_source: None,
        user: JsonObject::default(),
        click: JsonObject::default(),
        page: JsonObject::default(),
        data,
    }
}
