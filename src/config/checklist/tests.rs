//! What the checklist says of whole configurations with the real kinds.

use super::*;
use crate::config::tests::{NOW, variable, written};
use crate::config::validate;
use crate::destination::registry;

/// The checklist of a configuration with the real kinds, a block for each entry.
fn listed(text: &str) -> String {
    let dir = written(&[("c.toml", format!("{text}\n[sources.app]\ntoken = \"0123456789abcdef\"\n").as_bytes())]);
    let loaded = validate::load_with(&dir.path().join("c.toml"), NOW, &variable, &registry::build);
    let (snapshot, _) = loaded.unwrap_or_else(|report| panic!("{:#?}", report.problems));
    let block = |entry: Entry| {
        let lines = entry.facts.into_iter().chain(entry.open.into_iter().map(|note| format!("- {note}")));
        format!("{}\n{}", entry.key, lines.collect::<Vec<_>>().join("\n"))
    };
    checklist(&snapshot).into_iter().map(block).collect::<Vec<_>>().join("\n")
}

/// What is open about one destination of these lines.
fn open(lines: &str) -> Vec<String> {
    let notes = listed(&format!("[destinations.one]\n{lines}"));
    notes.lines().filter_map(|line| line.strip_prefix("- ").map(str::to_owned)).collect()
}

const META: &str = "kind = \"fb_capi\"\npixel_id = \"583920175648201\"\naccess_token = \"EAAB0r3al\"\n";
const HOOK: &str = "kind = \"webhook\"\nurl = \"https://hooks.acme.io/in\"\nsigning_secrets = [\"whsec_Y2FuYXJ5LXNpZ25pbmctc2VjcmV0\"]\n";

fn s2s(query: &str) -> String {
    format!("kind = \"s2s_postback\"\nurl_template = \"https://net.acme.io/p?{query}\"\n")
}

#[test]
fn what_is_ready_has_nothing_left_to_look_at() {
    let good = s2s("cid={uid}&goal={event}&sum={value}&cur={currency}&tid={event_id}");
    insta::assert_snapshot!(
        listed(&format!("[destinations.crm]\n{HOOK}events = {{ deposit = \"paid\" }}\n[destinations.meta]\n{META}[destinations.net]\n{good}sources = [\"app\"]\n")),
        @r"
    destinations.crm
    webhook to hooks.acme.io, takes deposit as paid, every other event under its own name
    destinations.meta
    fb_capi to graph.facebook.com, takes deposit as Purchase, purchase as Purchase, registration as CompleteRegistration, subscribed as Lead, lead as Lead, contact as Contact, add_to_cart as AddToCart, checkout as InitiateCheckout, page_view as PageView, view_content as ViewContent, search as Search, trial as StartTrial, no other
    action_source is website where the event has a page or a browser's click, else system_generated
    an event with nobody's data is matched by its uid alone; send user.email, user.phone, user.ip, user.user_agent, click.fbclid where you have them
    destinations.net
    s2s_postback to net.acme.io, takes every event under its own name, from app only
    ",
    );
}

#[test]
fn what_when_keeps_out_is_not_said_to_be_taken() {
    let told =
        listed(&format!("[destinations.crm]\n{HOOK}when = {{ event = \"deposit\", value = {{ present = true }} }}\n"));
    assert!(told.contains("under its own name, where its when (event, value) holds"), "{told}");
}

#[test]
fn a_token_that_can_be_guessed_is_told() {
    let told = |token: &str| {
        let text = format!("[destinations.crm]\n{HOOK}[sources.other]\ntoken = \"{token}\"\n");
        listed(&text).lines().find(|line| line.starts_with("- has a token")).map(str::to_owned)
    };
    assert_eq!(told("fedcba9876543210"), None);
    assert!(told("abc").is_some_and(|note| note.contains("short enough to be guessed")));
    assert!(told("replace-this").is_some_and(|note| note.contains("of an example")));
}

#[test]
fn meta_says_what_would_be_refused_or_counted_wrongly() {
    insta::assert_snapshot!(open("kind = \"fb_capi\"\npixel_id = \"1234567890\"\naccess_token = \"replace-this\"\ntest_event_code = \"TEST1\"\naction_source = \"website\"\nevents = { contact = false }").join("\n"), @r"
    has the pixel_id 1234567890 of an example; copy yours from Meta's Events Manager
    has an access_token that looks like the one of an example; generate one in Meta's Events Manager, Settings
    sends a test_event_code: events may not count; remove it to go live
    may lose events that have only ids and a value: user.user_agent is missing; Meta asks for it where action_source is website; page.url is missing; Meta asks for it where action_source is website
    ");
    insta::assert_snapshot!(open(&format!("{META}external_id_from_uid = false")).join("\n"), @"refuses events that have only ids and a value: user holds no usable identifier; send user.email, user.phone, user.external_id, user.fbp, click.fbclid or a uid");
    assert!(open(&META.replace("583920175648201", "0000000000"))[0].contains("of an example"));
}

#[test]
fn what_one_destination_names_another_should_know() {
    let list = |meta: &str| {
        listed(&format!(
            "[destinations.crm]\n{HOOK}events = {{ ftd = \"paid\", conversion_pending = \"wait\", lead = false }}\n[destinations.meta]\n{META}{meta}"
        ))
    };
    let told = list("");
    assert!(told.contains("\n- does not take ftd; write in events what it calls them, or false"), "{told}");
    assert!(told.contains("\nwebhook to hooks.acme.io, takes conversion_pending as wait, ftd as paid, every other event under its own name, leaves out lead\n"), "{told}");
    assert!(!list("events = { ftd = \"Purchase\" }").contains("does not take"));
    assert!(!list("events = { ftd = false }").contains("does not take"), "what was decided is no question");
}

#[test]
fn a_template_is_missed_what_a_network_needs() {
    insta::assert_snapshot!(open(&s2s("sum={value}&camp={click.campaign_id}")).join("\n"), @r#"
    sends no click id: the network cannot tell whose conversion it is; add {uid} or {click.NAME}
    sends no transaction id: the network cannot tell a repeat from a second conversion; add {event_id}
    says the same of a lead as of a deposit; add {event}, or let one event through with when = { event = "deposit" }
    sends {value} without a currency; add {currency}, or make sure that all your values are in the network's
    "#);
    for fine in [
        "cid={click.sub_id}&goal={canonical}&tid={delivery_id}",
        "cid={tg_id}&goal={event}&tid={data.order}&v={value}&currency=EUR",
    ] {
        assert_eq!(open(&s2s(fine)), Vec::<String>::new(), "{fine}");
    }
    let one = format!("{}when = {{ event = \"deposit\" }}\n", s2s("cid={uid}&tid={event_id}"));
    assert_eq!(open(&one), Vec::<String>::new(), "it takes one event, which it need not name");
}

#[test]
fn what_can_match_nothing_is_named() {
    let told = |when: &str| open(&format!("{HOOK}when = {{ {when} }}"));
    insta::assert_snapshot!(told("event = \"conversion_declined\"").join("\n"), @"takes nothing: when wants event to be conversion_declined, which it never is; write names that events maps");
    insta::assert_snapshot!(told("source = [\"ap\", \"web\"]").join("\n"), @"takes nothing: when wants source to be ap or web, which it never is; write a source of the configuration that sources lets in");
    insta::assert_snapshot!(told("currency = [\"usd\", \"Dollar\"]").join("\n"), @"takes nothing: when wants currency to be usd or Dollar, which it never is; write three upper-case letters");
    for possible in [
        "event = [\"conversion_declined\", \"deposit\"]",
        "source = \"app\"",
        "currency = \"EUR\"",
        "currency = { not = \"usd\" }",
        "\"data.plan\" = \"gold\"",
    ] {
        assert_eq!(told(possible), Vec::<String>::new(), "{possible}");
    }
    let off = example::WELL_KNOWN.iter().chain(&example::LESS_KNOWN).map(|name| format!("{name} = false"));
    let none = open(&format!("{META}events = {{ {} }}", off.collect::<Vec<_>>().join(", ")));
    assert_eq!(none, ["takes no event at all: everything would be skipped; map a name in events"]);
}

#[test]
fn an_address_is_looked_at() {
    let at = |url: &str, more: &str| {
        open(&format!(
            "{}allow_private = [\"10.0.0.0/8\", \"127.0.0.0/8\"]\n{more}",
            HOOK.replace("https://hooks.acme.io", url)
        ))
    };
    assert!(at("https://hooks.example.com", "")[0].contains("which is nobody's"));
    assert!(at("https://crm.test", "")[0].contains("which is nobody's"));
    assert!(at("http://10.0.0.9", "")[0].contains("over http"));
    assert_eq!(at("http://127.0.0.1:9000", ""), Vec::<String>::new(), "nobody listens on the way to oneself");
    assert_eq!(at("https://example.io", ""), Vec::<String>::new());
    let everywhere = open(&format!("{HOOK}allow_private = true"));
    assert!(everywhere[0].contains("may reach every private address"), "{everywhere:?}");
}

#[test]
fn a_secret_address_is_not_shown() {
    let hidden = listed("[destinations.one]\nkind = \"webhook\"\nurl = { env = \"HOOK\" }\n");
    assert!(!hidden.contains("hunter2") && !hidden.contains("hooks.example.com"), "{hidden}");
    assert!(hidden.contains("does not sign"), "{hidden}");
}
