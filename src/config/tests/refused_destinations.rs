//! Destinations that are refused, and in which words.

use insta::assert_snapshot;

use super::{said, said_of_destination};

#[test]
fn a_kind_is_needed() {
    assert_snapshot!(said_of_destination(r#"url = "https://hooks.example.com/""#), @r#"c.toml:1: destinations.one.kind: is missing; add kind = one of "webhook", "s2s_postback", "fb_capi""#);
}

#[test]
fn a_kind_must_be_known() {
    assert_snapshot!(said_of_destination(r#"kind = "webhok""#), @r#"c.toml:3: destinations.one.kind: "webhok" is not a kind; did you mean "webhook"?"#);
}

#[test]
fn kinds_have_their_needed_keys() {
    assert_snapshot!(said(r#"[destinations.a]
kind = "webhook"
[destinations.b]
kind = "s2s_postback"
[destinations.c]
kind = "fb_capi""#), @r#"
c.toml:1: destinations.a.url: is missing; add url = "https://hooks.example.com/path"
c.toml:3: destinations.b.url_template: is missing; add url_template = "https://tracker.example.com/postback?click_id={uid}&payout={value}"
c.toml:5: destinations.c.access_token: is missing; add access_token = { file = "/etc/postbackd/meta.token" } (Events Manager, Settings, Generate access token)
c.toml:5: destinations.c.pixel_id: is missing; add pixel_id = "1234567890" (Events Manager, Data sources)
"#);
}

#[test]
fn a_key_of_another_kind_says_where_it_belongs() {
    assert_snapshot!(said_of_destination(r#"kind = "webhook"
url = "https://hooks.example.com/"
pixel_id = "1"
body = "form""#), @r"
c.toml:5: destinations.one.pixel_id: belongs to kind fb_capi, and this destination is a webhook; remove it
c.toml:6: destinations.one.body: belongs to kind s2s_postback, and this destination is a webhook; remove it
");
}

#[test]
fn a_key_that_two_other_kinds_have_names_both() {
    assert_snapshot!(said_of_destination(r#"kind = "fb_capi"
pixel_id = "123"
access_token = "hunter2"
method = "POST""#), @"c.toml:6: destinations.one.method: belongs to kind webhook and s2s_postback, and this destination is a fb_capi; remove it");
}

#[test]
fn an_unknown_key_has_a_suggestion() {
    assert_snapshot!(said_of_destination(r#"kind = "webhook"
url = "https://hooks.example.com/"
time_out = "5s"
header = {}
colour = "red""#), @r#"
c.toml:5: destinations.one.time_out: is not a key of postbackd; did you mean "timeout"?
c.toml:6: destinations.one.header: is not a key of postbackd; did you mean "headers"?
c.toml:7: destinations.one.colour: is not a key of postbackd; remove it (known here: kind, enabled, events, sources, when, retry, concurrency, hold_probe, rate_limit, breaker, timeout, allow_private, proxy, url, method, headers, signing_secrets, include_user, template)
"#);
}

#[test]
fn a_proxy_says_what_to_write_and_never_its_login() {
    assert_snapshot!(said_of_destination(r#"kind = "webhook"
url = "https://hooks.example.com/"
proxy = "socks5://u:hunter2@127.0.0.1""#), @r#"c.toml:5: destinations.one.proxy: has no port; add the one your proxy listens on, often 1080: write one like "http://user:password@proxy.example.com:3128" or "socks5h://proxy.example.com:1080""#);
    assert_snapshot!(said_of_destination(r#"kind = "webhook"
url = "https://hooks.example.com/"
proxy = ["socks4://127.0.0.1:1080", "http://u:hunter2@h:1/path", { env = "SPACED" }, { env = "NONE" }, 5, "http://u:p@h:1", "http://u:p@h:1", "http://u:q@h:1"]"#), @r#"
c.toml:5: destinations.one.proxy[0]: is a SOCKS 4 proxy, which knows no password and no IPv6; write socks5:// or socks5h:// if it speaks SOCKS 5
c.toml:5: destinations.one.proxy[1]: has more than user, password, host and port (in user and password, @ : / ? # % are written %40 %3A %2F %3F %23 %25); write one like "http://user:password@proxy.example.com:3128" or "socks5h://proxy.example.com:1080"
c.toml:5: destinations.one.proxy[2]: does not begin with a scheme; write one like "http://user:password@proxy.example.com:3128" or "socks5h://proxy.example.com:1080"
c.toml:5: destinations.one.proxy[3]: the environment variable "NONE" is not set; set it for this process (systemd: Environment= or EnvironmentFile=)
c.toml:5: destinations.one.proxy[4]: is a whole number; write "http://user:password@host:port" (or https, socks5, socks5h), { env = "NAME" } or another place of a secret, or a list of these
c.toml:5: destinations.one.proxy[6]: stands in the list twice; remove one of the two
"#);
    assert_snapshot!(said_of_destination(r#"kind = "webhook"
url = "https://hooks.example.com/"
proxy = []"#), @r#"c.toml:5: destinations.one.proxy: is an empty list; write "http://user:password@host:port" (or https, socks5, socks5h), { env = "NAME" } or another place of a secret, or a list of these, or remove it to connect directly"#);
    assert_snapshot!(said_of_destination(r#"kind = "webhook"
url = "https://hooks.example.com/"
proxy = true"#), @r#"c.toml:5: destinations.one.proxy: is true or false; write "http://user:password@host:port" (or https, socks5, socks5h), { env = "NAME" } or another place of a secret, or a list of these"#);
    let many: Vec<String> = (1..=17).map(|port| format!("\"http://h:{port}\"")).collect();
    assert_snapshot!(said_of_destination(&format!("kind = \"webhook\"\nurl = \"https://hooks.example.com/\"\nproxy = [{}]", many.join(", "))), @"c.toml:5: destinations.one.proxy: lists 17 proxies; write at most 16");
}

// Rows 41 and 42, where a proxy resolves.
#[test]
fn what_a_proxy_resolves_is_judged_by_name() {
    assert_snapshot!(said_of_destination(r#"kind = "webhook"
url = "https://printer.local/"
allow_private = ["10.0.0.0/8"]
proxy = "socks5h://127.0.0.1:1080""#), @"c.toml:4: destinations.one.url: may not be printer.local: it is a name of the local network (.local), and the proxy resolves it, so its network cannot be told; write its address instead, or allow_private = true");
    assert_snapshot!(said_of_destination(r#"kind = "s2s_postback"
url_template = "http://2130706433/{uid}"
proxy = "http://127.0.0.1:3128""#), @r#"c.toml:4: destinations.one.url_template: may not be 127.0.0.1: it is loopback (127.0.0.0/8); if that is meant, add allow_private = true, or allow_private = ["127.0.0.1/32"]"#);
    assert_snapshot!(said_of_destination(r#"kind = "webhook"
url = "https://[2606:4700::1111]/"
proxy = "http://127.0.0.1:3128""#), @"c.toml:4: destinations.one.url: is an https address with an IPv6 address in it, which cannot be reached through a proxy; write its host name");
}

#[test]
fn rates_and_breakers_have_their_form() {
    assert_snapshot!(said_of_destination(r#"kind = "webhook"
url = "https://hooks.example.com/"
rate_limit = "fast"
breaker = { failures = 0, rate = 1.5, probe = "1h", probe_max = "10m", probes = 3 }"#), @r#"
c.toml:5: destinations.one.rate_limit: "fast" is not a rate; write attempts per second, minute or hour, like "50/s", "600/m" or "1000/h"
c.toml:6: destinations.one.breaker.failures: 0 is out of range; write 1 to 1000000
c.toml:6: destinations.one.breaker.probe_max: 10m is shorter than probe (1h); write "1h" or more
c.toml:6: destinations.one.breaker.probes: is not a key of postbackd; did you mean "probe"?
c.toml:6: destinations.one.breaker.rate: "1.5" does not fit; write a number from 0.001 to 1 with at most three digits after the point
"#);
    assert_snapshot!(said_of_destination(r#"kind = "webhook"
url = "https://hooks.example.com/"
rate_limit = 50
breaker = "off""#), @r#"
c.toml:5: destinations.one.rate_limit: is a whole number; write a text in quotes
c.toml:6: destinations.one.breaker: is a text; write false, or a table like { failures = 10, probe = "30s" }
"#);
}

// Rows 42 and 72.
#[test]
fn private_literals_need_allow_private() {
    assert_snapshot!(said_of_destination(r#"kind = "webhook"
url = "http://10.0.0.5/?key=hunter2""#), @r#"c.toml:4: destinations.one.url: may not be 10.0.0.5: it is private (10.0.0.0/8); if that is meant, add allow_private = true, or allow_private = ["10.0.0.5/32"]"#);
}

// Row 42.
#[test]
fn no_spelling_of_an_address_slips_through() {
    for url in crate::domain::net::SPELLINGS {
        let said = said_of_destination(&format!("kind = \"webhook\"\nurl = \"{url}\""));
        assert!(said.contains("destinations.one.url: may not be "), "{url}: {said}");
    }
}

#[test]
fn decimal_addresses_are_seen_through() {
    assert_snapshot!(said_of_destination(r#"kind = "webhook"
url = "http://2130706433/""#), @r#"c.toml:4: destinations.one.url: may not be 127.0.0.1: it is loopback (127.0.0.0/8); if that is meant, add allow_private = true, or allow_private = ["127.0.0.1/32"]"#);
}

#[test]
fn names_of_the_local_network_need_allow_private() {
    assert_snapshot!(said_of_destination(r#"kind = "webhook"
url = "https://metadata.google.internal/""#), @"c.toml:4: destinations.one.url: may not be metadata.google.internal: it is a name of a private network (.internal); if that is meant, add allow_private = true");
}

// Row 72.
#[test]
fn user_info_is_refused_and_not_shown() {
    assert_snapshot!(said_of_destination(r#"kind = "webhook"
url = "https://user:hunter2@hooks.example.com/""#), @"c.toml:4: destinations.one.url: holds a user name or password; remove what stands before @ and send it as a header instead");
}

#[test]
fn other_schemes_are_refused() {
    assert_snapshot!(said_of_destination(r#"kind = "webhook"
url = "ftp://hooks.example.com/""#), @r#"c.toml:4: destinations.one.url: has the scheme "ftp"; write one like https://hooks.example.com/path"#);
}

#[test]
fn a_text_that_is_no_url_is_refused_and_not_shown() {
    assert_snapshot!(said_of_destination(r#"kind = "webhook"
url = "hooks.example.com/hunter2""#), @"c.toml:4: destinations.one.url: is not a URL (relative URL without a base); write one like https://hooks.example.com/path");
}

// Row 43.
#[test]
fn our_own_address_is_refused() {
    assert_snapshot!(said_of_destination(r#"kind = "webhook"
url = "http://localhost:8460/v1/events"
allow_private = true"#), @"c.toml:4: destinations.one.url: is postbackd's own address (localhost:8460): its events would come back; write another");
}

#[test]
fn the_mail_port_is_refused() {
    assert_snapshot!(said_of_destination(r#"kind = "webhook"
url = "http://mx.example.com:25/""#), @"c.toml:4: destinations.one.url: has port 25, which belongs to mail servers; write the port of a web server");
}

#[test]
fn zone_ids_are_refused() {
    assert_snapshot!(said_of_destination(r#"kind = "webhook"
url = "http://[fe80::1%25eth0]/""#), @"c.toml:4: destinations.one.url: is not a URL (invalid IPv6 address); write one like https://hooks.example.com/path");
}

#[test]
fn networks_must_be_networks() {
    assert_snapshot!(said_of_destination(r#"kind = "webhook"
url = "https://hooks.example.com/"
allow_private = ["10.0.0.0/33", "10.0.0.0/8"]"#), @r#"c.toml:5: destinations.one.allow_private: "10.0.0.0/33" is not a network; write one like "10.0.0.0/8" or "fd00::/8""#);
}

#[test]
fn allow_private_is_true_or_a_list() {
    assert_snapshot!(said_of_destination(r#"kind = "webhook"
url = "https://hooks.example.com/"
allow_private = "yes""#), @r#"c.toml:5: destinations.one.allow_private: is a text; write true, or a list of networks like ["10.0.0.0/8"]"#);
}

#[test]
fn templates_are_judged_by_their_host() {
    assert_snapshot!(said_of_destination(r#"kind = "s2s_postback"
url_template = "http://192.168.1.1/{uid}""#), @r#"c.toml:4: destinations.one.url_template: may not be 192.168.1.1: it is private (192.168.0.0/16); if that is meant, add allow_private = true, or allow_private = ["192.168.1.1/32"]"#);
}

#[test]
fn a_template_is_no_secret_as_a_whole() {
    assert_snapshot!(said_of_destination(r#"kind = "s2s_postback"
url_template = { env = "TOKEN" }"#), @"c.toml:4: destinations.one.url_template: cannot be a secret as a whole; write the template as a text and its token as {secret.NAME}, with NAME in the destination's secrets table");
}

#[test]
fn what_the_builder_refuses_is_told_at_its_key() {
    assert_snapshot!(said_of_destination(r#"kind = "s2s_postback"
method = "GET"
url_template = "https://t.example.com/?c={bad}""#), @"c.toml:5: destinations.one.url_template: holds the unknown macro {bad}; write {uid}");
}

#[test]
fn body_needs_post() {
    assert_snapshot!(said_of_destination(r#"kind = "s2s_postback"
url_template = "https://t.example.com/?c={uid}"
body = "json""#), @r#"c.toml:5: destinations.one.body: needs method = "POST"; add it or remove body"#);
}

#[test]
fn on_failure_pattern_needs_its_pattern() {
    assert_snapshot!(said_of_destination(r#"kind = "s2s_postback"
url_template = "https://t.example.com/?c={uid}"
on_failure_pattern = "retry""#), @"c.toml:5: destinations.one.on_failure_pattern: has no effect without failure_pattern; add failure_pattern or remove it");
}

#[test]
fn statuses_are_from_200_to_599() {
    assert_snapshot!(said_of_destination(r#"kind = "s2s_postback"
url_template = "https://t.example.com/?c={uid}"
expected_status = [200, "2xx"]"#), @r#"c.toml:5: destinations.one.expected_status: is no status from 200 to 599; write 200, "200-204" or a list like [200, "202-204"]"#);
}

#[test]
fn an_answer_must_be_able_to_be_good() {
    assert_snapshot!(said_of_destination(r#"kind = "s2s_postback"
url_template = "https://t.example.com/?c={uid}"
expected_status = []"#), @r#"c.toml:5: destinations.one.expected_status: names no status, so that no answer would be a good one; write 200, "200-204" or a list like [200, "202-204"]"#);
}

#[test]
fn methods_are_listed() {
    assert_snapshot!(said_of_destination(r#"kind = "webhook"
url = "https://hooks.example.com/"
method = "HEAD""#), @r#"c.toml:5: destinations.one.method: "HEAD" is not known; write "GET", "POST", "PUT", "PATCH" or "DELETE""#);
}

#[test]
fn headers_are_checked() {
    assert_snapshot!(said_of_destination(r#"kind = "webhook"
url = "https://hooks.example.com/"
[destinations.one.headers]
"X Bad" = "a"
X-Dup = "a"
x-dup = "b"
X-Line = "a\nb"
X-Number = 5"#), @r#"
c.toml:6: destinations.one.headers."X Bad": is not a header name; write letters, digits and -, like X-Api-Key
c.toml:8: destinations.one.headers.x-dup: is given twice (header names ignore case); keep one
c.toml:9: destinations.one.headers.X-Line: holds a line break or another control character; write one line
c.toml:10: destinations.one.headers.X-Number: is a whole number; write a text, or one of { env = "NAME" }, { file = "PATH" }, { credential = "NAME" }, { value = "TEXT" }
"#);
}

#[test]
fn meta_has_its_own_rules() {
    assert_snapshot!(said_of_destination(r#"kind = "fb_capi"
pixel_id = 123
access_token = "two words"
api_version = "26"
batch = 1001
batch_wait = "2m"
action_source = "web"
data_processing_options_country = "1""#), @r#"
c.toml:4: destinations.one.pixel_id: is a number; write it in quotes: "123"
c.toml:5: destinations.one.access_token: holds a space or another character that cannot stand in a token; write visible ASCII only
c.toml:6: destinations.one.api_version: "26" is not a version of Meta's API; write one like "v26.0"
c.toml:7: destinations.one.batch: 1001 is out of range; write 1 to 1000
c.toml:8: destinations.one.batch_wait: 2m would hold events back for long; write "1m" or less
c.toml:9: destinations.one.action_source: "web" is not known; write "email", "website", "app", "phone_call", "chat", "physical_store", "system_generated", "business_messaging" or "other"
c.toml:10: destinations.one.data_processing_options_country: is a text; write a whole number without quotes, like 0 or 1
"#);
}

#[test]
fn meta_gives_up_within_its_window() {
    assert_snapshot!(said_of_destination(r#"kind = "fb_capi"
pixel_id = "123"
access_token = "hunter2"
retry = { give_up_after = "9d" }"#), @r#"c.toml:6: destinations.one.retry.give_up_after: "9d" is longer than fb_capi accepts (7d); write "7d" or less"#);
}

#[test]
fn meta_gives_up_within_its_window_also_by_default() {
    assert_snapshot!(said(r#"[retry]
give_up_after = "9d"
[destinations.meta-eu]
kind = "fb_capi"
pixel_id = "123"
access_token = "hunter2"
"#), @r#"c.toml:2: retry.give_up_after: "9d" is longer than fb_capi accepts (7d); add destinations.meta-eu.retry.give_up_after = "7d" or less"#);
}

#[test]
fn sources_must_exist() {
    assert_snapshot!(said_of_destination(r#"kind = "webhook"
url = "https://hooks.example.com/"
sources = ["ap", "shop"]"#), @r#"
c.toml:5: destinations.one.sources: "ap" is not a source; did you mean "app"?
c.toml:5: destinations.one.sources: "shop" is not a source; add [sources.shop] or remove it
"#);
}

#[test]
fn no_source_at_all_is_refused() {
    assert_snapshot!(said_of_destination(r#"kind = "webhook"
url = "https://hooks.example.com/"
sources = []"#), @"c.toml:5: destinations.one.sources: takes events of no source; leave it out for all sources, or write enabled = false");
}

#[test]
fn event_maps_are_names_or_false() {
    assert_snapshot!(said_of_destination(r#"kind = "webhook"
url = "https://hooks.example.com/"
[destinations.one.events]
deposit = true
"bad name" = "X"
lead = ""
login = 5"#), @r#"
c.toml:6: destinations.one.events.deposit: is true or false; write the destination's name for the event, like "Purchase", or false to leave it out
c.toml:7: destinations.one.events."bad name": "bad name" is not an event name (1 to 64 of A-Z a-z 0-9 _ . : -)
c.toml:8: destinations.one.events.lead: "" is not a target name (1 to 128 bytes without control characters)
c.toml:9: destinations.one.events.login: is a whole number; write the destination's name for the event, like "Purchase", or false to leave it out
"#);
}

#[test]
fn conditions_are_on_fields() {
    assert_snapshot!(said_of_destination(r#"kind = "webhook"
url = "https://hooks.example.com/"
[destinations.one.when]
country = "DE"
uid = { present = "yes" }
currency = []
value = { not = 1, present = true }
click = {}"#), @r#"
c.toml:6: destinations.one.when.country: "country" is not a field of an event; write event, canonical, source, event_id, uid, value, currency, action_source, occurred_at_ms, user.…, click.…, page.… or data.…
c.toml:7: destinations.one.when.uid.present: is a text; write true or false, without quotes
c.toml:8: destinations.one.when.currency: is an empty list, which nothing matches; add a value or remove it
c.toml:9: destinations.one.when.value: holds two tests; write either { not = … } or { present = true }
c.toml:10: destinations.one.when.click: is empty; write a text, a list, { not = … } or { present = true }
"#);
}

#[test]
fn concurrency_has_bounds() {
    assert_snapshot!(said_of_destination(r#"kind = "webhook"
url = "https://hooks.example.com/"
concurrency = 0
timeout = "1h"
hold_probe = "0s""#), @r#"
c.toml:5: destinations.one.concurrency: 0 is out of range; write 1 to 1024
c.toml:6: destinations.one.timeout: 1h is too long for one exchange; write "10m" or less
c.toml:7: destinations.one.hold_probe: must be longer than zero; write a time like "15m"
"#);
}

#[test]
fn a_bad_name_is_refused() {
    assert_snapshot!(said(r#"[destinations."a b"]
kind = "webhook"
url = "https://hooks.example.com/"
"#), @r#"c.toml:1: destinations."a b": "a b" is not a destination name (1 to 64 of A-Z a-z 0-9 _ . -); rename it"#);
}

#[test]
fn a_destination_is_a_table() {
    assert_snapshot!(said(r#"[destinations]
one = "https://hooks.example.com/""#), @"c.toml:2: destinations.one: is a text; write a table: [destinations.one] with a kind");
}
