//! Values outside destinations that are refused, and in which words.

use insta::assert_snapshot;

use super::{said, said_about};

#[test]
fn wrong_types_say_what_to_write() {
    assert_snapshot!(said(r#"[server]
listen = 8460
batch_limit = "1000"
body_limit = true
drain = 20
[storage]
path = 5
[retention]
dlq = false"#), @r#"
c.toml:2: server.listen: is a whole number; write a text in quotes
c.toml:3: server.batch_limit: is a text; write a whole number from 1 to 10000, without quotes
c.toml:4: server.body_limit: is not a size; write a whole number with a unit (KB MB GB KiB MiB GiB), like "64MiB"
c.toml:5: server.drain: has no unit; write "20s" for seconds (units: ms s m h d)
c.toml:7: storage.path: is a whole number; write a text in quotes
c.toml:9: retention.dlq: is true or false; write a duration in quotes, like "30s" or "1h30m"
warning: c.toml: destinations: no destination is configured: events are kept and go nowhere
"#);
}

#[test]
fn durations_have_units() {
    assert_snapshot!(said(r#"[retention]
events = "30 days"
attempts = "1w"
dedupe = "0s"
dlq = "nver""#), @r#"
c.toml:2: retention.events: "30 days" is not a duration; write one like "30d" or "90d", or "never"
c.toml:3: retention.attempts: "1w" is not a duration; write one like "30d" or "90d", or "never"
c.toml:4: retention.dedupe: must be longer than zero; write a time like "30d"
c.toml:5: retention.dlq: "nver" is not a duration; write one like "30d" or "90d", or "never"
warning: c.toml: destinations: no destination is configured: events are kept and go nowhere
"#);
}

#[test]
fn automatic_backups_leave_time_for_the_rest() {
    assert_snapshot!(said(r#"[backup]
every = "20ms"
keep = 0
dirs = "x""#), @r#"
c.toml:2: backup.every: 20ms is too short for a backup; write "1s" or more, as "1d", or "never"
c.toml:3: backup.keep: 0 is out of range; write 1 to 10000
c.toml:4: backup.dirs: is not a key of postbackd; did you mean "dir"?
warning: c.toml: destinations: no destination is configured: events are kept and go nowhere
"#);
}

#[test]
fn sizes_have_known_units_and_bounds() {
    assert_snapshot!(said(r#"[server]
body_limit = "8 megabytes"
[storage]
cache = "1KiB"
reserve = "some""#), @r#"
c.toml:2: server.body_limit: is not a size; write a whole number with a unit (KB MB GB KiB MiB GiB), like "64MiB"
c.toml:4: storage.cache: is out of range; write 1MiB to 64GiB
c.toml:5: storage.reserve: "some" is not a size; write one like "2GiB", or "auto"
warning: c.toml: destinations: no destination is configured: events are kept and go nowhere
"#);
}

#[test]
fn listeners_are_addresses() {
    assert_snapshot!(said(r#"[server]
listen = ["localhost:8460", "unix:run/p.sock", ":8460", "127.0.0.1:1", "127.0.0.1:1", "unix:/a", "unix:/a"]
socket_mode = "rw""#), @r#"
c.toml:2: server.listen[0]: "localhost:8460" is not an address to listen on; write an IP address with a port, like "127.0.0.1:8460" or "[::1]:8460", or "unix:/run/postbackd/api.sock"
c.toml:2: server.listen[1]: "unix:run/p.sock" names no socket; write its whole path, like "unix:/run/postbackd/api.sock"
c.toml:2: server.listen[2]: ":8460" is not an address to listen on; write an IP address with a port, like "127.0.0.1:8460" or "[::1]:8460", or "unix:/run/postbackd/api.sock"
c.toml:2: server.listen[4]: 127.0.0.1:1 is given twice; remove one
c.toml:2: server.listen[6]: "unix:/a" is given twice; remove one
c.toml:3: server.socket_mode: "rw" is not a file mode; write it in octal, like "0660" or "0600"
warning: c.toml: destinations: no destination is configured: events are kept and go nowhere
"#);
}

#[test]
fn public_listeners_need_an_admin_token() {
    assert_snapshot!(said(r#"[server]
listen = "0.0.0.0:8460""#), @r"
c.toml:2: server.listen: is reachable from other machines and admin_token is missing; add admin_token, or listen on 127.0.0.1 behind a reverse proxy
warning: c.toml: destinations: no destination is configured: events are kept and go nowhere
");
}

#[test]
fn an_unknown_section_has_a_suggestion() {
    assert_snapshot!(said(r#"[destination.x]
kind = "webhook"
[colours]
[alert]"#), @r#"
c.toml:1: destination: is not a key of postbackd; did you mean "destinations"?
c.toml:3: colours: is not a key of postbackd; remove it (known here: include, server, storage, retention, backup, ingest, retry, sources, destinations, alerts)
c.toml:4: alert: is not a key of postbackd; did you mean "alerts"?
warning: c.toml: destinations: no destination is configured: events are kept and go nowhere
"#);
}

#[test]
fn a_section_is_a_table() {
    assert_snapshot!(said(r#"server = "127.0.0.1:8460"
retry = []"#), @r"
c.toml:1: server: is a text; write it as a table: [server]
c.toml:2: retry: is a list; write it as a table: [retry]
warning: c.toml: destinations: no destination is configured: events are kept and go nowhere
");
}

#[test]
fn retry_has_bounds() {
    assert_snapshot!(said(r#"[retry]
first = "soon"
multiplier = 0.5
jitter = 1.5
max_attempts = -1
statuses = [200]
give_up_after = "0s""#), @r#"
c.toml:2: retry.first: "soon" is not a duration; write digits with a unit (ms s m h d), like "30s" or "1h30m"
c.toml:3: retry.multiplier: "0.5" does not fit; write a number from 1 to 100 with at most three digits after the point
c.toml:4: retry.jitter: "1.5" does not fit; write a number from 0 to 1 with at most three digits after the point
c.toml:5: retry.max_attempts: -1 is out of range; write 0 to 4294967295
c.toml:6: retry.statuses: holds what is no status; write statuses from 300 to 599 and ranges of them, like [408, 429, "500-599"]
c.toml:7: retry.give_up_after: must be longer than zero; write a time like "3d"
warning: c.toml: destinations: no destination is configured: events are kept and go nowhere
"#);
}

#[test]
fn factors_have_three_digits_at_most() {
    assert_snapshot!(said(r#"[retry]
multiplier = 1.0001
jitter = "0.2""#), @r#"
c.toml:2: retry.multiplier: "1.0001" does not fit; write a number from 1 to 100 with at most three digits after the point
c.toml:3: retry.jitter: is a text; write a number without quotes, like 0.5 or 2
warning: c.toml: destinations: no destination is configured: events are kept and go nowhere
"#);
}

#[test]
fn currencies_have_three_letters() {
    assert_snapshot!(said(r#"[ingest]
default_currency = "EURO""#), @r"
c.toml:2: ingest.default_currency: is not a currency; write its three letters, like USD
warning: c.toml: destinations: no destination is configured: events are kept and go nowhere
");
}

#[test]
fn a_source_needs_a_token() {
    assert_snapshot!(said(r#"[sources.shop]
tokn = "hunter2""#), @r#"
c.toml:1: sources.shop.token: is missing; add token = "…" (a long random text; `openssl rand -hex 32` makes one)
c.toml:2: sources.shop.tokn: is not a key of postbackd; did you mean "token"?
warning: c.toml: destinations: no destination is configured: events are kept and go nowhere
"#);
}

#[test]
fn two_sources_have_two_tokens() {
    assert_snapshot!(said(r#"[server]
admin_token = "t-app"
[sources.shop]
token = ["t-app", "x", "x"]"#), @r"
c.toml:4: sources.shop.token: is the same as sources.app.token; give each source its own token
c.toml:4: sources.shop.token: is given twice; remove one of the two
warning: c.toml: destinations: no destination is configured: events are kept and go nowhere
warning: c.toml:4: sources.shop.token: is the same as server.admin_token: this sender may do everything; use another token
warning: c.toml:6: sources.app.token: is the same as server.admin_token: this sender may do everything; use another token
");
}

// Row 71.
#[test]
fn secrets_name_one_place() {
    assert_snapshot!(said(r#"[sources.a]
token = { env = "TOKEN", file = "t" }
[sources.b]
token = {}
[sources.c]
token = { envv = "TOKEN" }
[sources.d]
token = 5
[sources.e]
token = []"#), @r#"
c.toml:2: sources.a.token: names more than one place; write a text, or one of { env = "NAME" }, { file = "PATH" }, { credential = "NAME" }, { value = "TEXT" }
c.toml:4: sources.b.token: says no place to read it from; write a text, or one of { env = "NAME" }, { file = "PATH" }, { credential = "NAME" }, { value = "TEXT" }
c.toml:6: sources.c.token: says no place to read it from; write a text, or one of { env = "NAME" }, { file = "PATH" }, { credential = "NAME" }, { value = "TEXT" }
c.toml:6: sources.c.token.envv: is not a key of postbackd; did you mean "env"?
c.toml:8: sources.d.token: is a whole number; write a text, or one of { env = "NAME" }, { file = "PATH" }, { credential = "NAME" }, { value = "TEXT" }
c.toml:10: sources.e.token: is an empty list; write a text, or one of { env = "NAME" }, { file = "PATH" }, { credential = "NAME" }, { value = "TEXT" }, or a list of these
warning: c.toml: destinations: no destination is configured: events are kept and go nowhere
"#);
}

// Row 71.
#[test]
fn secrets_that_cannot_be_read_say_why() {
    assert_snapshot!(said(r#"[sources.a]
token = { env = "MISSING" }
[sources.b]
token = { env = "EMPTY" }
[sources.c]
token = { file = "none" }
[sources.d]
token = { credential = "meta" }
[sources.e]
token = { credential = "../meta" }"#), @r#"
c.toml:2: sources.a.token: the environment variable "MISSING" is not set; set it for this process (systemd: Environment= or EnvironmentFile=)
c.toml:4: sources.b.token: the environment variable "EMPTY" is empty; put the secret there
c.toml:6: sources.c.token: the file "none" does not exist; create it or name another file
c.toml:8: sources.d.token: the credential "meta" cannot be read: CREDENTIALS_DIRECTORY is not set; systemd sets it for a unit with LoadCredential=; to run postbackd by hand, set it to the directory of the credential files
c.toml:10: sources.e.token: the credential "../meta" is not a credential's name; write the name in LoadCredential=NAME:PATH of the unit
warning: c.toml: destinations: no destination is configured: events are kept and go nowhere
"#);
}

// Row 71.
#[test]
fn tokens_are_visible_ascii_and_are_not_shown() {
    assert_snapshot!(said(r#"[sources.a]
token = { env = "SPACED" }
[sources.b]
token = "hunter2 "
[sources.c]
token = "hunter2\u0000"
[sources.d]
token = """#), @r#"
c.toml:2: sources.a.token: the environment variable "SPACED" holds a space or another character that cannot stand in a token; write visible ASCII only
c.toml:4: sources.b.token: holds a space or another character that cannot stand in a token; write visible ASCII only
c.toml:6: sources.c.token: holds a NUL character; write the secret as plain text
c.toml:8: sources.d.token: is empty; put the secret there
warning: c.toml: destinations: no destination is configured: events are kept and go nowhere
"#);
}

#[test]
fn ends_are_times_with_an_offset() {
    assert_snapshot!(said(r#"[sources.a]
token = { value = "hunter2", until = 2027-01-31 }
[sources.b]
token = { value = "hunter3", until = "soon" }"#), @r#"
c.toml:2: sources.a.token.until: "2027-01-31" is not a time; write RFC 3339 with an offset, like "2027-01-31T00:00:00Z"
c.toml:4: sources.b.token.until: "soon" is not a time; write RFC 3339 with an offset, like "2027-01-31T00:00:00Z"
warning: c.toml: destinations: no destination is configured: events are kept and go nowhere
"#);
}

#[test]
fn only_tokens_of_sources_end() {
    assert_snapshot!(said(r#"[server]
admin_token = { value = "hunter2", until = "2027-01-31T00:00:00Z" }"#), @r"
c.toml:2: server.admin_token.until: belongs to the token of a source only; remove it
warning: c.toml: destinations: no destination is configured: events are kept and go nowhere
");
}

#[test]
fn a_source_name_keeps_to_its_letters() {
    assert_snapshot!(said(r#"[sources."a:b"]
token = "x""#), @r#"
c.toml:1: sources."a:b": "a:b" is not a source name (1 to 64 of A-Z a-z 0-9 _ . -); rename it
warning: c.toml: destinations: no destination is configured: events are kept and go nowhere
"#);
}

// Row 71.
#[test]
fn secret_files_hold_text() {
    assert_snapshot!(said_about(&[("c.toml", b"[sources.a]\ntoken = { file = \"t\" }\n[sources.b]\ntoken = { file = \".\" }\n"), ("t", b"\xff")]), @r#"
    c.toml:2: sources.a.token: the file "t" is not UTF-8 text; write the secret as plain text
    c.toml:4: sources.b.token: the file "." is a directory; name a file
    warning: c.toml: destinations: no destination is configured: events are kept and go nowhere
    "#);
}
