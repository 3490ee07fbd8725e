//! Keys of a source for postbacks: what they become, and what is refused in which words.

use insta::assert_snapshot;

use super::{load_text, said};
use crate::domain::money::Currency;
use crate::inbound::parameters::{Parameter, Parameters};
use crate::inbound::{Outcome, Recipe};

/// What is said about a source of these lines, without what is said of there being no destination.
fn said_of(lines: &str) -> String {
    let said = said(&format!("[sources.net]\ntoken = \"n\"\n{lines}"));
    let about = |line: &&str| !line.contains("no destination is configured");
    said.lines().filter(about).collect::<Vec<_>>().join("\n")
}

fn recipe(lines: &str) -> Recipe {
    match load_text(&format!("[sources.net]\ntoken = \"n\"\n{lines}")) {
        Ok((snapshot, _)) => snapshot.sources["net"].postback.clone(),
        Err(report) => panic!("{:#?}", report.problems),
    }
}

/// The event a source of these lines makes of a query, as JSON.
fn read(lines: &str, query: &str) -> String {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let given = Parameters::join(pairs.map(|(name, value)| Parameter::text(name, value))).unwrap();
    match recipe(lines).read(given, "USD".parse::<Currency>().unwrap()) {
        Ok(Outcome::Event(mapped)) => serde_json::Value::Object(mapped.object).to_string(),
        Ok(Outcome::Ignored) => "ignored".to_owned(),
        Err(faults) => faults.iter().map(|fault| fault.code).collect::<Vec<_>>().join(" "),
    }
}

#[test]
fn a_source_says_how_its_postbacks_are_read() {
    let lines = "params = { uid = \"sub_id\", event_id = [\"trade_id\", \"{sub_id}-{n}\"], value = \"sumdep\", user.email = \"mail\", \"data.geo\" = \"c\" }\n\
                 event = { param = \"status\", map = { ftd = \"deposit\", 1 = \"registration\", ping = false }, default = \"contact\" }\n\
                 decimal = \"comma\"\n";
    assert_eq!(
        read(lines, "sub_id=s&n=2&sumdep=1.234,50&mail=a@b.example&c=DE&status=FTD&x=1"),
        r#"{"data":{"geo":"DE","x":"1"},"event_id":"s-2","uid":"s","user":{"email":"a@b.example"},"value":"1234.50","event":"deposit"}"#
    );
    assert_eq!(read(lines, "status=1&trade_id=t&n=2"), r#"{"event_id":"t","event":"registration","data":{"n":"2"}}"#);
    assert_eq!(read(lines, "status=ping"), "ignored");
    assert_eq!(read(lines, "uid=1"), r#"{"event":"contact","data":{"uid":"1"}}"#);
    assert_eq!(recipe("answer = \"OK\"").answer.as_deref(), Some("OK"));
}

#[test]
fn keys_are_laid_over_the_preset_and_its_statuses_stay_in_force() {
    let keitaro = "preset = \"keitaro\"\nparams = { event_id = \"tid\" }\nevent = \"purchase\"";
    assert_eq!(read(keitaro, "subid=s&tid=2&status=sale"), r#"{"event_id":"2","uid":"s","event":"purchase"}"#);
    assert_eq!(read(keitaro, "subid=s&status=rejected"), r#"{"uid":"s","event":"conversion_rejected"}"#);

    let by_status = "preset = \"keitaro\"\nevent = { param = \"status\", map = { Lead = false, dep = \"deposit\", rebill = \"rebill\" } }";
    assert_eq!(read(by_status, "status=lead"), "ignored");
    assert_eq!(read(by_status, "status=dep"), r#"{"event":"deposit"}"#);
    assert_eq!(read(by_status, "status=rebill"), r#"{"event":"rebill"}"#);
    assert_eq!(read(by_status, "status=sale"), r#"{"event":"deposit"}"#);
    assert_eq!(read(by_status, "status=rejected"), r#"{"event":"conversion_rejected"}"#);

    let by_goal = "preset = \"affise\"\nevent = { param = \"goal\", map = { 1 = \"registration\", 2 = \"deposit\" } }";
    assert_eq!(read(by_goal, "goal=1&status=1"), r#"{"event":"registration"}"#);
    assert_eq!(read(by_goal, "goal=2&status=3"), r#"{"event":"conversion_declined"}"#);
    assert_eq!(read(by_goal, "status=1"), "required", "without a goal nobody knows what it was");

    let by_kind = "preset = \"everflow\"\nevent = { param = \"event_id\", map = { 3 = \"registration\" } }";
    assert_eq!(read(by_kind, "event_id=3"), r#"{"event":"registration"}"#);
    assert_eq!(read(by_kind, "event_id=0"), r#"{"event":"deposit"}"#);
    assert_eq!(read(by_kind, "amount=5"), r#"{"value":"5","event":"deposit"}"#);
    let default = "preset = \"everflow\"\nevent = { param = \"status\", default = \"purchase\" }";
    assert_eq!(read(default, "amount=5"), r#"{"value":"5","event":"purchase"}"#);
}

#[test]
fn every_problem_of_a_source_is_told_at_once() {
    assert_snapshot!(said_of(r#"preset = "kaitaro"
params = { uid = 5, valeu = "sum", event = "status", user = { emial = "m" }, clik.x = "y", email = "e", page = {}, data.a = [] , data.b = "{x", uidd = "token" }
event = { parm = "status", map = { a = true, b = "no name", "" = "deposit" } }
decimal = "coma"
answer = """#), @r#"
    c.toml:3: sources.net.preset: "kaitaro" is not known; did you mean "keitaro"?
    c.toml:4: sources.net.params.clik.x: is not a field of an event; did you mean "click.x"?
    c.toml:4: sources.net.params.data.a: is an empty list; write the parameter's name, like "sub_id", or a list of names
    c.toml:4: sources.net.params.data.b: "{x" has a { without its }; write a parameter's name between them, like {tid}
    c.toml:4: sources.net.params.email: is not a field of an event; did you mean "user.email"?
    c.toml:4: sources.net.params.event: has a key of its own; write event = { param = "…" } beside params
    c.toml:4: sources.net.params.page: is empty; write the parameter's name, like "sub_id"
    c.toml:4: sources.net.params.uid: is a whole number; write the parameter's name, like "sub_id", or a list of names
    c.toml:4: sources.net.params.uidd: is not a field of an event; did you mean "uid"?
    c.toml:4: sources.net.params.valeu: is not a field of an event; did you mean "value"?
    c.toml:5: sources.net.event.map."": is empty, and an empty parameter counts as missing; write default = "…" beside map
    c.toml:5: sources.net.event.map.a: is true or false; write our name for it, like "deposit", or false to ignore it
    c.toml:5: sources.net.event.map.b: "no name" is not an event name (1 to 64 of A-Z a-z 0-9 _ . : -)
    c.toml:5: sources.net.event.param: is missing; add param = "status" (their parameter that says what happened)
    c.toml:5: sources.net.event.parm: is not a key of postbackd; did you mean "param"?
    c.toml:6: sources.net.decimal: "coma" is not known; did you mean "comma"?
    c.toml:7: sources.net.answer: is empty; write a text or remove the key
    warning: c.toml:4: sources.net.params.user.emial: is no field that a destination knows; did you mean "user.email"?
    "#);
    assert_snapshot!(said_of(r#"params = { uid = "token", value = "sig" }
event = { param = ["{a}"], map = "x" }
hash = { param = "sig", secret = "hunter2", kind = "md5", over = ["uid", "secret", "{"] }"#), @r#"
    c.toml:3: sources.net.params.uid: "token" is the parameter of the source's own token, which is kept nowhere; write another parameter
    c.toml:4: sources.net.event.map: is a text; write it as a table: [sources.net.event.map]
    c.toml:4: sources.net.event.param: "{a}" is no parameter's name; write it without braces
    c.toml:5: sources.net.hash.over: "secret" is the name of a parameter here; write {secret} for the secret itself
    c.toml:5: sources.net.hash.over: "{" has a { without its }; write a parameter's name between them, like {tid}
    "#);
    assert_snapshot!(said_of("event = 5\nhash = \"md5\"\nparams = \"uid\"\nanswer = 1\npresets = \"x\""), @r#"
    c.toml:3: sources.net.event: is a whole number; write a name like "deposit", or { param = "status", map = { ftd = "deposit", ping = false } }
    c.toml:4: sources.net.hash: is a text; write { param = "hash", secret = { env = "NAME" }, kind = "md5", over = ["clickid", "payout", "{secret}"] }
    c.toml:5: sources.net.params: is a text; write it as a table: [sources.net.params]
    c.toml:6: sources.net.answer: is a whole number; write a text in quotes
    c.toml:7: sources.net.presets: is not a key of postbackd; did you mean "preset"?
    "#);
}

#[test]
fn a_hash_that_protects_nothing_is_refused() {
    assert_snapshot!(said_of(r#"hash = { param = "hash", secret = "hunter2", kind = "md5", over = ["clickid"] }"#), @r#"
    c.toml:3: sources.net.hash.over: has no {secret}, so that anybody could make the hash; put it where the network does, or write an hmac kind
    "#);
    assert_snapshot!(said_of(r#"hash = { param = "hash", secret = { env = "MISSING" }, kind = "hmac-sha256", over = ["hash", "token"] }"#), @r#"
    c.toml:3: sources.net.hash.over: holds the hash itself; leave it out
    c.toml:3: sources.net.hash.over: holds the token, which is no parameter of the event; leave it out
    c.toml:3: sources.net.hash.secret: the environment variable "MISSING" is not set; set it for this process (systemd: Environment= or EnvironmentFile=)
    "#);
    assert_snapshot!(said_of(r#"hash = { param = "token", kind = "sha-256", over = ["{secret}"], length = 5 }"#), @r#"
    c.toml:3: sources.net.hash.kind: "sha-256" is not known; did you mean "sha256"?
    c.toml:3: sources.net.hash.length: is not a key of postbackd; remove it (known here: param, secret, kind, over)
    c.toml:3: sources.net.hash.param: "token" is the parameter of the source's own token; the hash stands in another one
    c.toml:3: sources.net.hash.secret: is missing; add secret = { env = "NAME" } (what the network shares with you)
    "#);
    assert_snapshot!(said_of("hash = {}"), @r#"
    c.toml:3: sources.net.hash.kind: is missing; add kind = "md5" (or sha256, hmac-sha256 …, as the network says)
    c.toml:3: sources.net.hash.over: is missing; add over = ["clickid", "payout", "{secret}"] (what is hashed, in order)
    c.toml:3: sources.net.hash.param: is missing; add param = "hash" (their parameter that holds the hash)
    c.toml:3: sources.net.hash.secret: is missing; add secret = { env = "NAME" } (what the network shares with you)
    "#);
    assert_snapshot!(said_of(r#"hash = { param = "h", secret = "hunter2", kind = "hmac-sha256", over = ["a", "b"] }"#), @"");
    let twice =
        "params = { uid = \"h\" }\nhash = { param = \"h\", secret = \"hunter2\", kind = \"hmac-md5\", over = [\"a\"] }";
    assert_eq!(
        said_of(twice),
        "c.toml:3: sources.net.params.uid: \"h\" is the parameter of the hash, which is kept nowhere; write another parameter"
    );
}
