//! Each preset against the real daemon with the URL its network would fire (platforms.md 3.4): once, again, with another
//! status, declined; and what a destination gets of it.

use serde_json::{Value, json};

use crate::support::daemon::{Answer, Daemon};
use crate::support::desk::{books, settled, webhook};
use crate::support::sink::Sink;

const PRESETS: [&str; 8] = ["keitaro", "voluum", "binom", "redtrack", "everflow", "tune", "affise", "cake"];

fn sources() -> String {
    let source = |name: &&str| format!("[sources.{name}]\ntoken = \"{name}-token-0123456789\"\npreset = \"{name}\"\n");
    PRESETS.iter().map(source).collect()
}

async fn fire(daemon: &Daemon, source: &str, query: &str) -> Answer {
    let path = format!("/v1/postback/{source}?token={source}-token-0123456789&{query}");
    daemon.request("GET", &path, &[], b"").await
}

/// Fires it and gives the status of the answer with the canonical name of the stored event.
async fn told(daemon: &Daemon, source: &str, query: &str) -> (String, String) {
    let answer = fire(daemon, source, query).await;
    assert_eq!(answer.status, 200, "{source} {query}: {}", answer.text());
    let body = answer.json();
    let trace = daemon.get(&format!("/v1/events/{}", body["id"].as_str().unwrap())).await.json();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    (text(&body["status"]), text(&trace["event"]))
}

/// A URL as the network fires it, and what the stored event must be.
struct Case {
    source: &'static str,
    query: &'static str,
    event: Value,
}

fn cases() -> Vec<Case> {
    let case = |source, query, event| Case { source, query, event };
    vec![
        case(
            "keitaro",
            "subid=2nk1l1s1a2s3d4&tid=2&payout=25.00&currency=usd&status=sale&sub_id_3=banner",
            json!({ "event": "deposit", "uid": "2nk1l1s1a2s3d4", "event_id": "2nk1l1s1a2s3d4:2", "value": "25.00", "currency": "USD",
                "data": { "sub_id_3": "banner" } }),
        ),
        case(
            "voluum",
            "cid=c384EFV6JHQODRN70575OK6UG5&payout=12.5&txid=T9&currency=EUR&et=registration&param1=x&param2=OPTIONAL",
            json!({ "event": "registration", "uid": "c384EFV6JHQODRN70575OK6UG5", "event_id": "T9", "value": "12.5", "currency": "EUR",
                "data": { "param1": "x" } }),
        ),
        case(
            "binom",
            "cnv_id=81e60haa86o0b7&payout=5&cnv_status=Approved&cnv_currency=USD&event1=3",
            json!({ "event": "deposit", "uid": "81e60haa86o0b7", "event_id": null, "value": "5", "currency": "USD", "data": { "event1": "3" } }),
        ),
        case(
            "redtrack",
            "clickid=5d9f1c2e&sum=7.10&type=Purchase",
            json!({ "event": "deposit", "uid": "5d9f1c2e", "event_id": null, "value": "7.10", "currency": "USD", "data": {} }),
        ),
        case(
            "everflow",
            "nid=7&transaction_id=bc0f3e&amount=9&event_id=3&order_id=O-1&email=a%40b.example&verification_token=v",
            json!({ "event": "3", "uid": "bc0f3e", "event_id": "O-1", "value": "9", "currency": "USD", "user": { "email": "a@b.example" },
                "data": { "nid": "7" } }),
        ),
        case(
            "tune",
            "transaction_id=1027c887059b47bc69c699f45466b9&goal_id=17&payout=3.00&status=approved&offer_id=26",
            json!({ "event": "deposit", "uid": "1027c887059b47bc69c699f45466b9", "event_id": "1027c887059b47bc69c699f45466b9:17",
                "value": "3.00", "currency": "USD", "data": { "offer_id": "26" } }),
        ),
        case(
            "affise",
            "clickid=5f1&action_id=A-1&sum=4.20&currency=EUR&goal=2&status=1",
            json!({ "event": "deposit", "uid": "5f1", "event_id": "A-1", "value": "4.20", "currency": "EUR", "data": { "goal": "2" } }),
        ),
        case(
            "cake",
            "r=1001&t=T-5&p=1,234.50&eccu=EUR&s2=%23s2%23",
            json!({ "event": "deposit", "uid": "1001", "event_id": "T-5", "value": "1234.50", "currency": "EUR", "data": {} }),
        ),
    ]
}

#[tokio::test]
async fn each_network_is_understood_and_its_repeat_is_recognised() {
    let daemon = Daemon::start(&sources()).await;
    for Case { source, query, event } in cases() {
        let first = fire(&daemon, source, query).await;
        assert_eq!((first.status, &first.json()["status"]), (200, &json!("queued")), "{source}: {}", first.text());
        let again = fire(&daemon, source, query).await;
        assert_eq!((again.status, &again.json()["status"]), (200, &json!("duplicate")), "{source}: {}", again.text());
        let id = first.json()["id"].as_str().unwrap().to_owned();
        assert_eq!(again.json()["id"], id);
        let payload = daemon.get(&format!("/v1/events/{id}")).await.json()["payload"].clone();
        for (field, wanted) in event.as_object().unwrap() {
            let stored = payload.get(field).cloned().unwrap_or(if field == "data" { json!({}) } else { Value::Null });
            assert_eq!(&stored, wanted, "{source} {field}: {payload}");
        }
    }
    assert_eq!(books(&daemon, 0).await, json!({ "accepted": 8, "duplicates": 8, "conflicts": 0, "rejected": 0 }));
}

#[tokio::test]
async fn a_transaction_counts_once_for_each_status_and_no_destination_takes_what_was_not_approved() {
    let sink = Sink::with_status(200).await;
    let daemon = Daemon::start(&[sources(), webhook("hook", &sink.url("/"), "")].concat()).await;
    let queued = |name: &str| ("queued".to_owned(), name.to_owned());
    let statuses = [
        ("keitaro", "subid=s&tid=1&payout=5&status=", ["lead", "sale", "rejected"]),
        ("voluum", "cid=c&txid=1&status=", ["pending", "approved", "declined"]),
        ("binom", "cnv_id=b&payout=5&cnv_status=", ["Hold", "approve", "reject"]),
        ("redtrack", "clickid=r&status=", ["pending", "approved", "declined"]),
        ("everflow", "transaction_id=e&order_id=1&status=", ["pending", "approved", "rejected"]),
        ("tune", "transaction_id=t&goal_id=1&status=", ["pending", "approved", "rejected"]),
        ("affise", "click_id=a&action_id=1&sum=5&status=", ["2", "1", "3"]),
        ("cake", "r=k&t=1&p=5&status=", ["pending", "approved", "declined"]),
    ];
    for (source, query, [open, approved, refused]) in statuses {
        let pending = told(&daemon, source, &format!("{query}{open}")).await;
        assert_eq!(pending, queued(if open == "lead" { "lead" } else { "conversion_pending" }), "{source}");
        assert_eq!(told(&daemon, source, &format!("{query}{approved}")).await, queued("deposit"), "{source}");
        assert_eq!(told(&daemon, source, &format!("{query}{approved}")).await.0, "duplicate", "{source}");
        let rejected = matches!(refused, "rejected" | "reject");
        let name = if rejected { "conversion_rejected" } else { "conversion_declined" };
        assert_eq!(told(&daemon, source, &format!("{query}{refused}")).await, queued(name), "{source}");
        // A status nobody has heard of is visible under its own name.
        assert_eq!(told(&daemon, source, &format!("{query}charge%20back")).await, queued("charge_back"), "{source}");
    }
    // Eight deposits, eight unknown statuses under their own names, Keitaro's lead; the rest is skipped.
    settled(&daemon, &[("accepted", 32), ("sent", 17), ("skipped", 15)]).await;
    let names = sink.seen();
    let sent = |name: &str| {
        let named = |body: &[u8]| serde_json::from_slice::<Value>(body).unwrap()["event"] == name;
        names.iter().filter(|request| named(&request.body)).count()
    };
    assert_eq!((sent("deposit"), sent("charge_back"), sent("lead")), (8, 8, 1));
}

#[tokio::test]
async fn the_traps_of_the_networks_are_avoided() {
    let daemon = Daemon::start(&sources()).await;
    for (source, query, wanted) in [
        // Keitaro's tid counts the deposits of one player.
        ("keitaro", "subid=a&tid=1&payout=5", "queued"),
        ("keitaro", "subid=b&tid=1&payout=5", "queued"),
        ("keitaro", "subid=a&tid=2&payout=5", "queued"),
        ("keitaro", "subid=a&tid=2&payout=5", "duplicate"),
        // Several goals share TUNE's click, with and without words for them.
        ("tune", "transaction_id=x&goal_id=1&payout=5", "queued"),
        ("tune", "transaction_id=x&goal_id=2&payout=5", "queued"),
        ("tune", "transaction_id=x&goal_ref=vip&payout=5", "queued"),
        ("tune", "transaction_id=x&payout=5", "queued"),
        ("tune", "transaction_id=x&goal_id=2&payout=5&datetime=later", "duplicate"),
        // Everflow's transaction is the click; its events are told apart by their kind.
        ("everflow", "transaction_id=x&amount=5", "queued"),
        ("everflow", "transaction_id=x&amount=5&event_id=3", "queued"),
        ("everflow", "transaction_id=x&amount=5&event_id=4", "queued"),
        ("everflow", "transaction_id=x&amount=5&event_id=4", "duplicate"),
        // CAKE's request id is one for a whole session.
        ("cake", "r=1&t=1&p=5", "queued"),
        ("cake", "r=1&t=2&p=5", "queued"),
        // Both of Affise's names for the click.
        ("affise", "clickid=a&action_id=1&status=1", "queued"),
        ("affise", "click_id=a&action_id=1&status=1", "duplicate"),
    ] {
        assert_eq!(told(&daemon, source, query).await.0, wanted, "{source} {query}");
    }
    // A macro in place of the status might have said "declined".
    let answer = fire(&daemon, "affise", "clickid=a&action_id=2&status=%7Bstatus%7D").await;
    assert_eq!((answer.status, &answer.json()["code"]), (422, &json!("unexpanded")), "{}", answer.text());
}
