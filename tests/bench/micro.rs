//! The small things that every event pays for: `cargo bench --bench micro`. They say where time goes; what a user sees is
//! measured by `end_to_end`.

#![allow(clippy::expect_used, clippy::disallowed_methods, reason = "a bench may stop at anything odd")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use postbackd::destination::fb_capi::{FbCapi, FbCapiSpec};
use postbackd::destination::s2s_postback::{OnFailurePattern, S2sMethod, S2sPostback, S2sSpec};
use postbackd::destination::webhook::{Webhook, WebhookSpec};
use postbackd::destination::{Adapter, Outgoing, example};
use postbackd::domain::dedupe::{Discriminator, HashKey};
use postbackd::domain::delivery::{Attempt, Phases};
use postbackd::domain::event::{Event, Object};
use postbackd::domain::id::{DeliveryId, DeliveryKey, DestinationId, EventSeq, InstanceId};
use postbackd::domain::json::Members;
use postbackd::domain::name::TargetName;
use postbackd::domain::outcome::Disposition;
use postbackd::domain::retry::StatusSet;
use postbackd::domain::secret::Secret;
use postbackd::domain::time::{DurationMs, UnixMs};
use postbackd::env::entropy::SystemEntropy;
use postbackd::env::transport::Method;
use postbackd::pipeline::wheel::Wheel;
use postbackd::store::write::{Accept, Applied, Owed, Planned, Settle, WriteOp};
use postbackd::store::{Options, Store};

const NOW: UnixMs = UnixMs(1_764_000_000_000);
const DESTINATION: DestinationId = DestinationId(1);

fn main() {
    divan::main();
}

fn event(number: u64) -> Event {
    let name = |text: &str| text.parse().expect("a name");
    let mut event =
        example::whole("bench", Some(format!("order-{number}")), name("deposit"), "app".parse().expect("a name"), NOW);
    event.data.insert("order_id".to_owned(), format!("{number}").into());
    event.data.insert("plan".to_owned(), "gold".into());
    event
}

fn target() -> TargetName {
    "Purchase".parse().expect("a name")
}

/// A timer in and out, with a hundred thousand others on the wheel.
#[divan::bench]
fn wheel_insert_and_fire(bencher: Bencher<'_, '_>) {
    let mut wheel = Wheel::new(NOW);
    for n in 0..100_000_u64 {
        wheel.insert(UnixMs(NOW.0 + 3_600_000 + n * 37), n);
    }
    let (mut now, mut fired) = (NOW.0, Vec::new());
    bencher.counter(ItemsCount::new(1_usize)).bench_local(|| {
        wheel.insert(UnixMs(now + 20), 0);
        now += 1;
        wheel.advance(UnixMs(now), &mut fired);
        fired.clear();
    });
}

#[divan::bench]
fn dedupe_key_and_content(bencher: Bencher<'_, '_>) {
    let (key, event) = (HashKey(*b"0123456789abcdef"), event(1));
    let discriminator = Discriminator::EventId("order-1".to_owned());
    let objects = event.objects().map(|object| Members::from(Object::clone(object)));
    bencher.bench(|| (key.dedupe_key(black_box(&event), &discriminator), key.content_of(&event, objects.each_ref())));
}

fn render(bencher: Bencher<'_, '_>, adapter: &dyn Adapter, together: u64) {
    let events: Vec<Event> = (0..together).map(event).collect();
    let target = target();
    let outgoing = |(seq, event)| {
        let key = DeliveryKey { seq: EventSeq(seq), destination: DESTINATION };
        Outgoing { id: DeliveryId { instance: InstanceId::from_random(1), key }, target: &target, event }
    };
    let batch: Vec<Outgoing<'_>> = (1..).zip(&events).map(outgoing).collect();
    bencher.counter(ItemsCount::new(batch.len())).bench_local(|| adapter.prepare(black_box(&batch), NOW));
}

#[divan::bench(args = [false, true])]
fn render_webhook(bencher: Bencher<'_, '_>, signed: bool) {
    let key = || Secret::new("whsec_QKqCJZhDtJY4wLJ1stAg0lggA+NtgInl5F/025xZPn0=".to_owned());
    let spec = WebhookSpec {
        url: "https://hooks.example.com/in".parse().expect("a URL"),
        method: Method::Post,
        headers: Vec::new(),
        signing_secrets: if signed { vec![key()] } else { Vec::new() },
        include_user: Vec::new(),
        template: None,
        hidden: Vec::new(),
    };
    render(bencher, &Webhook::new(spec).expect("a good spec"), 1);
}

#[divan::bench]
fn render_s2s_postback(bencher: Bencher<'_, '_>) {
    let spec = S2sSpec {
        url_template:
            "https://net.example.com/pb?cid={uid}&sum={value}&cur={currency}&tid={event_id}&camp={click.campaign_id}"
                .to_owned(),
        method: S2sMethod::Get,
        expected_status: StatusSet::success(),
        success_pattern: None,
        failure_pattern: None,
        on_failure_pattern: OnFailurePattern::Permanent,
        secrets: BTreeMap::new(),
    };
    render(bencher, &S2sPostback::new(spec).expect("a good spec"), 1);
}

/// Normalising and hashing people, for one and for a whole request of fifty.
#[divan::bench(args = [1, 50])]
fn render_fb_capi(bencher: Bencher<'_, '_>, together: u64) {
    let spec = FbCapiSpec {
        pixel_id: "1234500000012345".to_owned(),
        access_token: Secret::new("a-token-of-nobody".to_owned()),
        api_version: "v26.0".to_owned(),
        base_url: "https://graph.facebook.com".parse().expect("a URL"),
        test_event_code: None,
        action_source: None,
        external_id_from_uid: true,
        batch: 50,
        batch_wait: DurationMs::ZERO,
        data_processing_options: None,
        data_processing_options_country: None,
        data_processing_options_state: None,
        hidden: Vec::new(),
    };
    render(bencher, &FbCapi::new(spec).expect("a good spec"), together);
}

/// A store in memory: what is left is encoding, tables and the commit's own work.
fn store() -> Store {
    let backend = redb::backends::InMemoryBackend::new;
    Store::open_backend(move || Ok(backend()), Options { cache: 64 << 20 }, &SystemEntropy).expect("a store")
}

fn accept(key: HashKey, number: u64) -> WriteOp {
    let event = event(number);
    let discriminator = Discriminator::EventId(format!("order-{number}"));
    WriteOp::Accept(Accept {
        key: key.dedupe_key(&event, &discriminator),
        content: key.content(&event),
        event: Arc::new(event),
        heard_at: NOW,
        repeat_since: UnixMs(0),
        plan: vec![Planned::Owe { destination: DESTINATION, target: target() }],
    })
}

fn sent(owed: &Owed) -> WriteOp {
    let attempt = Attempt {
        n: 1,
        at: NOW,
        took: DurationMs(12),
        http_status: Some(200),
        verdict: "delivered".to_owned(),
        response: "ok".to_owned(),
        left_out: Vec::new(),
        phases: Phases::default(),
        proxy: None,
        called: None,
    };
    let (key, due_at) = (owed.key, owed.due_at);
    WriteOp::Settle(Settle {
        key,
        due_at,
        at: NOW,
        attempt: Some(attempt),
        disposition: Disposition::Sent,
        autopsy: None,
    })
}

fn owed(applied: Vec<Applied>) -> Vec<Owed> {
    let queued = |applied| if let Applied::Queued(queued) = applied { queued.owed } else { Vec::new() };
    applied.into_iter().flat_map(queued).collect()
}

/// Events with their deliveries, and the outcomes of as many, in one transaction.
#[divan::bench(args = [1, 64, 512], sample_count = 30)]
fn commit_accepts_and_outcomes(bencher: Bencher<'_, '_>, batch: u64) {
    let mut store = store();
    let (key, next) = (store.hash_key(), AtomicU64::new(0));
    let fresh = || {
        let first = next.fetch_add(batch, Ordering::Relaxed);
        (first..first + batch).map(|number| accept(key, number)).collect::<Vec<_>>()
    };
    let mut due = owed(store.commit(&fresh()).expect("a commit"));
    bencher.counter(ItemsCount::new(batch)).with_inputs(fresh).bench_local_values(|mut ops| {
        ops.extend(due.iter().map(sent));
        due = owed(store.commit(&ops).expect("a commit"));
    });
}

/// A page of an outbox with its events, as deliveries that waited are read.
#[divan::bench]
fn read_a_page(bencher: Bencher<'_, '_>) {
    let mut store = store();
    let key = store.hash_key();
    let ops: Vec<WriteOp> = (0..512).map(|number| accept(key, number)).collect();
    store.commit(&ops).expect("a commit");
    let bodies = postbackd::store::read::Bodies { due_by: UnixMs(u64::MAX), bytes: usize::MAX };
    let page = || store.reader().outbox_page(DESTINATION, None, ops.len(), bodies).expect("a page");
    bencher.counter(ItemsCount::new(ops.len())).bench_local(page);
}
