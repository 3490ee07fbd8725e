//! `/v1/postback/{source}` over real HTTP (SPEC 3, 8.1 to 8.3): forms and bodies, tokens, amounts, macros, hashes, answers,
//! and what is refused. The networks' own ways stand in `postback_presets`.

use postbackd::domain::limits::EVENT_BYTES;
use serde_json::{Value, json};

use crate::support::daemon::{Answer, Daemon, TOKEN};
use crate::support::desk::{books, events, problem};

const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");
const JSON: (&str, &str) = ("content-type", "application/json");

/// A network as the contract describes it.
const NETWORK: &str = r#"
[sources.net]
token = "net-token-0123456789"
params = { uid = "sub_id", event_id = "trade_id", value = "sumdep", "user.email" = "mail", "click.campaign_id" = "camp" }
event = { param = "status", map = { ftd = "deposit", reg = "registration", ping = false } }
answer = "OK"
[sources.plain]
token = "plain-token-0123456789"
[sources.comma]
token = "comma-token-0123456789"
params = { value = "sum" }
event = "deposit"
decimal = "comma"
"#;

async fn fire(daemon: &Daemon, source: &str, query: &str) -> Answer {
    daemon.request("GET", &format!("/v1/postback/{source}?token={source}-token-0123456789&{query}"), &[], b"").await
}

async fn post(daemon: &Daemon, source: &str, query: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let path = format!("/v1/postback/{source}?token={source}-token-0123456789&{query}");
    daemon.request("POST", &path, headers, body.as_bytes()).await
}

async fn payload(daemon: &Daemon, id: &str) -> Value {
    daemon.get(&format!("/v1/events/{id}")).await.json()["payload"].clone()
}

#[tokio::test]
async fn a_network_is_read_by_its_own_names_and_answered_in_its_own_words() {
    let mut daemon = Daemon::start(NETWORK).await;
    let query =
        "sub_id=c%2077&trade_id=t-1&sumdep=1,234.50&currency=eur&status=FTD&mail=a%40b.example&camp=9&geo=DE&sub2=";
    let first = fire(&daemon, "net", query).await;
    assert_eq!((first.status, first.header("content-type")), (200, Some("text/plain; charset=utf-8")));
    assert_eq!(first.text(), "OK");
    let again = fire(&daemon, "net", query).await;
    assert_eq!((again.status, again.text().as_str()), (200, "OK"), "a repeat is answered alike");
    daemon.kill();
    daemon.restart().await;
    let stored = payload(&daemon, "t-1").await;
    let part = |name: &str| stored[name].clone();
    assert_eq!((part("event"), part("uid"), part("value")), (json!("deposit"), json!("c 77"), json!("1234.50")));
    assert_eq!((part("currency"), part("source")), (json!("EUR"), json!("net")));
    assert_eq!((part("user"), part("click")), (json!({ "email": "a@b.example" }), json!({ "campaign_id": "9" })));
    assert_eq!(part("data"), json!({ "geo": "DE" }), "what nobody mapped is kept, the token is not");

    let ignored = fire(&daemon, "net", "sub_id=c&trade_id=t-2&status=ping").await;
    assert_eq!((ignored.status, ignored.text().as_str()), (200, "OK"));
    assert_eq!(daemon.get("/v1/events/t-2").await.status, 404, "nothing is stored");
    let named = fire(&daemon, "net", "sub_id=c&trade_id=t-3&status=Re%20Deposit").await;
    assert_eq!(named.status, 200);
    assert_eq!(payload(&daemon, "t-3").await["event"], "re_deposit");
    let status = daemon.get("/status").await.json();
    assert_eq!(status["postbacks"], json!({ "net": { "ignored": 1, "unexpanded": 0 } }));
    assert_eq!(events(&daemon).await, json!({ "accepted": 2, "duplicates": 1, "conflicts": 0, "rejected": 0 }));
}

#[tokio::test]
async fn a_source_without_rules_speaks_like_the_pixel() {
    let daemon = Daemon::start(NETWORK).await;
    let answer = fire(&daemon, "plain", "event=deposit&uid=u&value=10&currency=EUR&eid=tx-5&sub=7").await;
    let id = answer.json()["id"].clone();
    let owed = json!({ "ok": true, "status": "queued", "id": id, "event_id": "tx-5", "deliveries": 0 });
    assert_eq!((answer.status, answer.json()), (200, owed));
    // The same under the pixel's address.
    let path = "/e?token=plain-token-0123456789&event=deposit&uid=u&value=10&currency=EUR&eid=tx-5&sub=7";
    let pixel = daemon.request("GET", path, &[], b"").await;
    assert_eq!((&pixel.json()["status"], &pixel.json()["id"]), (&json!("duplicate"), &id));
    assert_eq!(pixel.json().get("conflict"), None, "both are read alike");
    problem(&fire(&daemon, "plain", "uid=u").await, 422, "required");
}

#[tokio::test]
async fn query_form_and_json_are_one_set_of_parameters() {
    let daemon = Daemon::start(NETWORK).await;
    let query = "status=ftd&sub_id=u";
    for (headers, body, id) in [
        (vec![FORM], "trade_id=1&sumdep=5.00&status=ftd&note=a+b%21", "1"),
        (
            vec![JSON],
            r#"{"trade_id":2,"sumdep":5.00,"status":"ftd","note":"a b!","token":"never","x":null,"y":true}"#,
            "2",
        ),
        (
            vec![("content-type", "Application/JSON; charset=utf-8")],
            "\u{feff}{\"trade_id\":\"3\",\"sumdep\":\"5.00\",\"note\":\"a b!\"}",
            "3",
        ),
        (vec![], r#"{"trade_id":"4","sumdep":"5.00","note":"a b!"}"#, "4"),
    ] {
        let answer = post(&daemon, "net", query, &headers, body).await;
        assert_eq!((answer.status, answer.text().as_str()), (200, "OK"), "{body}");
        let stored = payload(&daemon, id).await;
        assert_eq!((&stored["uid"], &stored["value"]), (&json!("u"), &json!("5.00")), "{body}");
        assert_eq!(stored["data"]["note"], "a b!");
        assert_eq!(stored["data"].get("token"), None);
    }
    // A bare URL that is posted, whatever type it claims.
    let bare = post(&daemon, "net", "status=ftd&sub_id=u&trade_id=5", &[("content-type", "text/plain")], "").await;
    assert_eq!(bare.status, 200, "{}", bare.text());

    // One set: the same by GET, by form and by JSON in another order is the same postback.
    let ways = [
        fire(&daemon, "plain", "event=lead&a=1&b=2").await,
        post(&daemon, "plain", "b=2", &[FORM], "a=1&event=lead").await,
        post(&daemon, "plain", "a=1", &[JSON], r#"{"event":"lead","a":"1","b":2}"#).await,
    ];
    let told: Vec<Value> = ways.iter().map(|answer| answer.json()["status"].clone()).collect();
    assert_eq!(told, [json!("queued"), json!("duplicate"), json!("duplicate")]);

    let both = post(&daemon, "net", "status=ftd&sub_id=u&trade_id=6", &[FORM], "trade_id=7").await;
    assert_eq!(problem(&both, 422, "contradiction")["path"], "$.trade_id");
    let nested = post(&daemon, "net", query, &[JSON], r#"{"trade_id":"8","data":{"a":1},"list":[]}"#).await;
    assert_eq!(problem(&nested, 422, "invalid_fields")["errors"][1]["path"], "$.list");
    problem(&post(&daemon, "net", query, &[JSON], "[{}]").await, 422, "type");
    problem(&post(&daemon, "net", query, &[JSON], "{\"a\":").await, 400, "invalid_json");
    problem(&post(&daemon, "net", query, &[JSON], r#"{"a":1,"a":2}"#).await, 400, "invalid_json");
    problem(&post(&daemon, "net", query, &[("content-type", "text/xml")], "<a/>").await, 415, "unsupported_type");
    problem(
        &post(&daemon, "net", query, &[("content-type", "multipart/form-data; boundary=x")], "--x").await,
        415,
        "unsupported_type",
    );
    problem(&post(&daemon, "net", query, &[FORM, ("content-encoding", "gzip")], "a=1").await, 415, "unsupported_type");
    let form = |bytes: usize| {
        let start = "trade_id=9&x=";
        format!("{start}{}", "a".repeat(bytes - start.len()))
    };
    problem(&post(&daemon, "net", query, &[FORM], &form(EVENT_BYTES + 1)).await, 413, "event_too_large");
    assert_eq!(post(&daemon, "net", query, &[FORM], &form(EVENT_BYTES)).await.status, 200);
    books(&daemon, 9).await;
}

#[tokio::test]
async fn the_token_belongs_to_the_source_in_the_path() {
    let daemon = Daemon::start(NETWORK).await;
    let event = "event=lead&eid=1";
    let at = |path: &str| format!("/v1/postback/{path}");
    problem(&daemon.request("GET", &at(&format!("plain?{event}")), &[], b"").await, 401, "token_missing");
    problem(&daemon.request("GET", &at(&format!("plain?token=&{event}")), &[], b"").await, 401, "token_unknown");
    // A good token, but another source's.
    for token in [TOKEN, "net-token-0123456789", "wrong"] {
        let answer = daemon.request("GET", &at(&format!("plain?token={token}&{event}")), &[], b"").await;
        let body = problem(&answer, 401, "token_unknown");
        assert!(!body["detail"].as_str().unwrap().contains("app"), "whose token it is, is not told: {body}");
    }
    for unknown in ["nobody", "Plain", "%FF", "a%2Fb"] {
        let answer = daemon.request("GET", &at(&format!("{unknown}?token={TOKEN}&{event}")), &[], b"").await;
        let body = problem(&answer, 404, "not_found");
        assert!(!answer.text().contains("plain"), "no source is named: {body}");
    }
    let bearer = [("authorization", "Bearer plain-token-0123456789"), FORM];
    let answer = daemon.request("POST", &at("plain"), &bearer, event.as_bytes()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let head = daemon.request("HEAD", &at("plain?token=plain-token-0123456789&event=lead&eid=head"), &[], b"").await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(daemon.get("/v1/events/head").await.status, 404, "HEAD does nothing");
    let put = daemon.request("PUT", &at("plain"), &[], b"").await;
    problem(&put, 405, "method_not_allowed");
    assert_eq!(events(&daemon).await, json!({ "accepted": 1, "duplicates": 0, "conflicts": 0, "rejected": 0 }));
}

#[tokio::test]
async fn amounts_are_read_in_the_declared_style_or_refused() {
    let daemon = Daemon::start(NETWORK).await;
    for (source, name, written, kept) in [
        ("net", "sumdep", "25", "25"),
        ("net", "sumdep", "25.00", "25.00"),
        ("net", "sumdep", "1,234.50", "1234.50"),
        ("net", "sumdep", "$25", "25"),
        ("comma", "sum", "25,00", "25.00"),
        ("comma", "sum", "1.234,50", "1234.50"),
    ] {
        let id = format!("{source}-{kept}-{}", written.len());
        let query = format!("status=ftd&trade_id={id}&event_id={id}&{name}={written}");
        let answer = fire(&daemon, source, &query).await;
        assert_eq!(answer.status, 200, "{written}: {}", answer.text());
        assert_eq!(payload(&daemon, &id).await["value"], kept, "{written}");
    }
    // A JSON number is written as JSON writes numbers, whatever the style of the texts.
    let number = post(&daemon, "comma", "event_id=number", &[JSON], r#"{"sum":1.234}"#).await;
    assert_eq!(number.status, 200, "{}", number.text());
    assert_eq!(payload(&daemon, "number").await["value"], "1.234");
    let wrong = [
        ("net", "sumdep", "25,00"),
        ("net", "sumdep", "1,234"),
        ("net", "sumdep", "1.234,50"),
        ("net", "sumdep", "%E2%82%AC25"),
        ("net", "sumdep", "25usd"),
        ("comma", "sum", "25.00"),
        ("comma", "sum", "1.234"),
    ];
    for (source, name, written) in wrong {
        let answer = fire(&daemon, source, &format!("status=ftd&uid=u&{name}={written}")).await;
        let body = problem(&answer, 422, "invalid");
        assert_eq!(body["path"], "$.value", "{written}");
        let detail = body["detail"].as_str().unwrap();
        assert!(detail.ends_with(&format!("(from the parameter {name})")), "{written}: {detail}");
    }
    books(&daemon, 7).await;
}

#[tokio::test]
async fn macros_that_nobody_filled_in_are_missing_and_are_shown() {
    let daemon = Daemon::start(NETWORK).await;
    let query = "event=lead&uid=%7Bclick_id%7D&eid=%257Bid%257D&sub=%24%7BSUBID%7D&s2=%23s2%23&c=%5BCLICK_ID%5D&r=REPLACE&o=OPTIONAL&m=%7B%7Bx%7D%7D&k=v";
    let answer = fire(&daemon, "plain", query).await;
    let names = json!(["c", "eid", "m", "o", "r", "s2", "sub", "uid"]);
    assert_eq!((answer.status, &answer.json()["unexpanded"]), (200, &names), "{}", answer.text());
    let stored = payload(&daemon, answer.json()["id"].as_str().unwrap()).await;
    assert_eq!(
        (stored.get("uid").unwrap_or(&Value::Null), stored.get("event_id").unwrap_or(&Value::Null)),
        (&Value::Null, &Value::Null),
        "{stored}"
    );
    assert_eq!(stored["data"], json!({ "k": "v" }));
    let pixel = daemon.request("GET", &format!("/e?token={TOKEN}&event=lead&uid=[UID]&eid=1"), &[], b"").await;
    assert_eq!(pixel.json()["unexpanded"], json!(["uid"]));
    let status = daemon.get("/status").await.json();
    let counts = json!({ "app": { "ignored": 0, "unexpanded": 1 }, "plain": { "ignored": 0, "unexpanded": 1 } });
    assert_eq!(status["postbacks"], counts);
    // The status is not guessed.
    let answer = fire(&daemon, "net", "status=%7Bstatus%7D&sub_id=u").await;
    assert_eq!(problem(&answer, 422, "unexpanded")["path"], "$.event");
}

#[tokio::test]
async fn a_signed_postback_is_believed_only_with_its_hash() {
    let signed = r#"
[sources.signed]
token = ["signed-token-0123456789", "newer-token-0123456789"]
event = "deposit"
hash = { param = "hash", secret = "canary-hash-secret", kind = "md5", over = ["clickid", "payout", "{secret}"] }
[sources.mac]
token = "mac-token-0123456789"
event = "deposit"
hash = { param = "sig", secret = "key", kind = "hmac-sha256", over = ["{text}"] }
"#;
    let daemon = Daemon::start(signed).await;
    // printf 'c125.00canary-hash-secret' | md5sum
    let good = "clickid=c1&payout=25.00&hash=e49db6787e58a0bc9aadb1aea88f9567";
    let first = fire(&daemon, "signed", good).await;
    assert_eq!((first.status, &first.json()["status"]), (200, &json!("queued")), "{}", first.text());
    let stored = payload(&daemon, first.json()["id"].as_str().unwrap()).await;
    assert_eq!(stored["data"], json!({ "clickid": "c1", "payout": "25.00" }), "the hash is not kept");
    let upper = fire(
        &daemon,
        "signed",
        &good.replace("e49db6787e58a0bc9aadb1aea88f9567", &"e49db6787e58a0bc9aadb1aea88f9567".to_uppercase()),
    )
    .await;
    assert_eq!(upper.json()["status"], "duplicate", "neither its case nor the token makes it another postback");
    let path = format!("/v1/postback/signed?token=newer-token-0123456789&{good}");
    assert_eq!(daemon.request("GET", &path, &[], b"").await.json()["status"], "duplicate");

    for (query, code) in [
        ("clickid=c1&payout=25.00", "hash_missing"),
        ("clickid=c1&payout=25.00&hash=", "hash_missing"),
        ("clickid=c1&payout=25.00&hash=%7Bhash%7D", "hash_missing"),
        ("clickid=c1&payout=99.00&hash=e49db6787e58a0bc9aadb1aea88f9567", "hash_wrong"),
        ("clickid=c1&payout=25.00&hash=00", "hash_wrong"),
        ("clickid=c1&payout=25.00&hash=xyz", "hash_wrong"),
    ] {
        let body = problem(&fire(&daemon, "signed", query).await, 403, code);
        assert!(
            !body.to_string().contains("canary") && !body.to_string().contains("e49db6787e58a0bc9aadb1aea88f9567"),
            "{body}"
        );
    }
    let mac = "f7bc83f430538424b13298e6aa6fb143ef4d59a14946175997479dbc2d1a3cd8";
    let text = "The+quick+brown+fox+jumps+over+the+lazy+dog";
    let answer = post(&daemon, "mac", "", &[FORM], &format!("text={text}&sig={mac}")).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    problem(&post(&daemon, "mac", "", &[FORM], &format!("text={text}!&sig={mac}")).await, 403, "hash_wrong");
    assert_eq!(books(&daemon, 7).await["accepted"], 2);
}
