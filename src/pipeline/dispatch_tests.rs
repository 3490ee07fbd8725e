//! Rules of rendering and concluding an exchange of several deliveries.

use super::*;
use crate::config::snapshot::{LanePolicy, NetworkPolicy};
use crate::destination::event_map::EventMap;
use crate::destination::fb_capi::FbCapiSpec;
use crate::destination::registry::{Spec, build};
use crate::domain::delivery::{History, State};
use crate::domain::event::tests::sample;
use crate::domain::id::DestinationId;
use crate::domain::json_object::JsonObject;
use crate::domain::limits::BATCH_BODY_BYTES;
use crate::domain::net::AllowPrivate;
use crate::domain::retry::RetryPolicy;
use crate::domain::secret::Secret;
use crate::env::transport::Trail;

const NOW: UnixMs = UnixMs(1_764_000_000_000);

fn instance() -> InstanceId {
    InstanceId::from_random(1)
}

fn meta() -> Destination {
    let adapter = build(Spec::FbCapi(FbCapiSpec {
        pixel_id: "1".to_owned(),
        access_token: Secret::new("s3cr3t-token".to_owned()),
        api_version: "v26.0".to_owned(),
        base_url: "https://graph.example".parse().unwrap(),
        test_event_code: None,
        action_source: None,
        external_id_from_uid: true,
        batch: 50,
        batch_wait: DurationMs::ZERO,
        data_processing_options: None,
        data_processing_options_country: None,
        data_processing_options_state: None,
        hidden: Vec::new(),
    }));
    let adapter = adapter.unwrap();
    Destination {
        name: "meta".parse().unwrap(),
        kind: adapter.kind(),
        enabled: true,
        events: EventMap::default(),
        sources: None,
        when: Vec::new(),
        retry: RetryPolicy::default(),
        lane: LanePolicy { concurrency: 1, hold_probe: DurationMs(1), rate_limit: None, breaker: None },
        network: NetworkPolicy { timeout: DurationMs(1), allow_private: AllowPrivate::No, proxies: Vec::new() },
        adapter,
        fingerprint: 0,
    }
}

fn loaded(seq: u64, change: impl FnOnce(&mut Event)) -> Loaded {
    let mut event = Event { event_id: Some(format!("order-{seq}")), ..sample() };
    change(&mut event);
    let owed = Owed {
        key: DeliveryKey { seq: EventSeq(seq), destination: DestinationId(1) },
        due_at: NOW,
        state: State::Pending { due_at: NOW },
        history: History::new(NOW),
        target: "Purchase".parse().unwrap(),
        event: None,
    };
    Loaded { owed, called: None, event: Ok(Arc::new(event)) }
}

fn answered(status: u16, batch: Vec<Loaded>) -> Ended {
    concluded(batch, Ok(Answer { status, headers: Vec::new(), body: b"{}".to_vec() }))
}

fn concluded(batch: Vec<Loaded>, result: Result<Answer, Fault>) -> Ended {
    let destination = meta();
    let rendering = render(&destination, instance(), batch, NOW);
    let sent = Sent { parts: rendering.parts, at: NOW };
    conclude(&destination, instance(), sent, Exchange { took: DurationMs(1), trail: Trail::default(), result }, NOW)
}

/// Where each delivery of the batch went: `sent`, `unsent`, `no room`.
fn ways(ended: &Ended) -> Vec<&'static str> {
    let way = |part: &Part| match part.end {
        PartEnd::Exchanged { .. } => "sent",
        PartEnd::Unsent { .. } => "unsent",
        PartEnd::NoRoom => "no room",
    };
    ended.parts.iter().map(way).collect()
}

#[test]
fn what_the_dlq_shows_of_a_request_is_about_its_own_delivery() {
    let ended = answered(503, vec![loaded(1, |_| {}), loaded(2, |_| {})]);
    for (part, (own, other)) in ended.parts.iter().zip([("order-1", "order-2"), ("order-2", "order-1")]) {
        let PartEnd::Exchanged { autopsy, .. } = &part.end else { panic!("{part:?}") };
        let body = &autopsy.request.as_ref().unwrap().body;
        assert!(body.contains(own) && !body.contains(other), "{body}");
        assert!(!body.contains("s3cr3t"), "{body}");
    }
}

/// Whatever is kept of an exchange, for one delivery.
fn kept(ended: &Ended) -> String {
    format!("{ended:?}")
}

#[test]
fn a_secret_across_the_cut_of_an_answer_does_not_pass_in_part() {
    for before in (RESPONSE_EXCERPT_BYTES - 12..=RESPONSE_EXCERPT_BYTES).chain([ATTEMPT_EXCERPT_BYTES - 5]) {
        let body = format!("{}s3cr3t-token and more", "x".repeat(before)).into_bytes();
        let ended = concluded(vec![loaded(1, |_| {})], Ok(Answer { status: 400, headers: Vec::new(), body }));
        assert!(!kept(&ended).contains("s3cr"), "{before} bytes before it");
        let PartEnd::Exchanged { autopsy, .. } = &ended.parts[0].end else { panic!("{ended:?}") };
        assert!(autopsy.response.len() <= RESPONSE_EXCERPT_BYTES);
    }
}

#[test]
fn a_secret_in_the_words_of_a_fault_does_not_pass() {
    let ended = concluded(vec![loaded(1, |_| {})], Err(Fault::Network("no route to s3cr3t-token".to_owned())));
    assert!(!kept(&ended).contains("s3cr"), "{}", kept(&ended));
    assert!(ended.answer.unwrap().detail.contains("no route to"));
}

#[test]
fn what_a_receiver_quotes_of_a_person_is_in_no_sentence() {
    let body = br#"{"error":{"message":"bad JANE@example.com at 203.0.113.7","code":100}}"#.to_vec();
    let ended = concluded(vec![loaded(1, |_| {})], Ok(Answer { status: 400, headers: Vec::new(), body }));
    let detail = &ended.answer.as_ref().unwrap().detail;
    assert!(detail.contains("bad [masked] at [masked]"), "{detail}");
}

#[test]
fn each_delivery_of_a_batch_goes_its_own_way_in_the_order_it_came() {
    let mut gone = loaded(3, |_| {});
    gone.event = Err(Missing::Unreadable("damaged".to_owned()));
    let nobody = |event: &mut Event| {
        (event.user, event.click) = (JsonObject::default(), JsonObject::default());
        event.uid = None;
    };
    let ended = answered(200, vec![loaded(1, nobody), loaded(2, |_| {}), gone, loaded(4, |_| {})]);
    assert_eq!(ways(&ended), ["unsent", "sent", "unsent", "sent"]);
    let verdicts: Vec<Option<Verdict>> = ended
        .parts
        .iter()
        .map(|part| match &part.end {
            PartEnd::Unsent { verdict, .. } => Some(*verdict),
            PartEnd::Exchanged { .. } | PartEnd::NoRoom => None,
        })
        .collect();
    assert_eq!(verdicts[0], Some(Verdict::Permanent { reason: DeadReason::Invalid }), "the event's own fault");
    assert!(matches!(verdicts[2], Some(Verdict::Transient { .. })), "our fault: it stays owed");
    assert_eq!(ended.answer.unwrap().verdict, Verdict::Delivered, "two were sent and two were received");
}

#[test]
fn a_request_stays_below_its_size_and_what_found_no_room_is_not_lost() {
    let large = |event: &mut Event| {
        event.data.insert("note".to_owned(), "x".repeat(200 * 1024).into());
    };
    let batch: Vec<Loaded> = (1..=6).map(|seq| loaded(seq, large)).collect();
    let rendering = render(&meta(), instance(), batch, NOW);
    assert!(rendering.request.unwrap().request.body.len() <= BATCH_BODY_BYTES + 1024);
    let room = rendering.parts.iter().filter(|part| matches!(part, Rendered::Sent { .. })).count();
    let none = rendering.parts.iter().filter(|part| matches!(part, Rendered::NoRoom { .. })).count();
    assert_eq!((room, none), (4, 2));
}

#[test]
fn one_event_above_the_size_still_goes_out_alone() {
    let huge = |event: &mut Event| {
        event.data.insert("note".to_owned(), "x".repeat(BATCH_BODY_BYTES).into());
    };
    assert_eq!(ways(&answered(200, vec![loaded(1, huge), loaded(2, |_| {})])), ["sent", "no room"]);
}

#[test]
fn the_trace_names_a_bounded_number_of_fields() {
    let field = |number: usize| LeftOut { field: format!("user.{number}").repeat(40), why: "why".to_owned() };
    assert_eq!(bounded((0..LEFT_OUT_KEPT).map(field).collect()).len(), LEFT_OUT_KEPT);
    let cut = bounded((0..LEFT_OUT_KEPT + 9).map(field).collect());
    assert_eq!(cut.len(), LEFT_OUT_KEPT);
    assert_eq!(cut.last().map(|left| left.why.as_str()), Some("and 10 more"));
    assert!(cut.iter().all(|left| left.field.len() <= LEFT_OUT_BYTES));
}

#[test]
fn a_whole_batch_without_a_request_settles_all_the_same() {
    let old = |event: &mut Event| {
        event.occurred_at = crate::domain::event::OccurredAt::Given(NOW - DurationMs::from_days(8));
    };
    let rendering = render(&meta(), instance(), vec![loaded(1, old), loaded(2, old)], NOW);
    assert!(rendering.request.is_none());
    let ended = none_sent(rendering.parts);
    assert!(ended.answer.is_none());
    assert_eq!(ways(&ended), ["unsent", "unsent"]);
}

#[test]
fn an_event_that_was_not_read_for_want_of_room_is_the_next_to_be_sent() {
    let mut later = loaded(2, |_| {});
    later.event = Err(Missing::NotYet);
    assert_eq!(ways(&answered(200, vec![loaded(1, |_| {}), later])), ["sent", "no room"]);
}

#[test]
fn what_an_attempt_takes_apart_of_its_event_is_not_kept_where_others_wait() {
    let waits = std::sync::Arc::new(sample());
    let sent = of_its_own(std::sync::Arc::clone(&waits));
    assert!(!std::sync::Arc::ptr_eq(&waits, &sent) && sent == waits);
    let place = std::sync::Arc::as_ptr(&sent);
    assert_eq!(std::sync::Arc::as_ptr(&of_its_own(sent)), place, "one that nobody shares is not copied");
}
