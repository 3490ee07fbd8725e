//! The status page as a browser gets it, without the browser: who may see it and send its forms, what is on it, and what
//! is on it nowhere. What only a browser shows stands in `tests/browser`.

use serde_json::{Value, json};

use crate::support::daemon::{Answer, Daemon};
use crate::support::desk::{accept, delivery, deposit, destination, problem, settled, webhook};
use crate::support::sink::{Act, Reply, Sink};

const TOKEN: &str = "canary-admin-token";
const HOSTILE: &str = "\"><script>alert(1)</script><img src=x onerror=alert(2)>' javascript:alert(3) \u{202e}x";

/// What a browser keeps between two requests.
struct Visitor {
    cookie: String,
    csrf: String,
}

impl Visitor {
    /// Opens the first page.
    async fn new(daemon: &Daemon) -> Self {
        Self::of(&daemon.request("GET", "/", &[("host", "127.0.0.1")], b"").await)
    }

    fn of(answer: &Answer) -> Self {
        let cookie = answer.header("set-cookie").expect("a cookie").split(';').next().unwrap().to_owned();
        Self { cookie, csrf: csrf(&answer.text()) }
    }

    async fn get(&self, daemon: &Daemon, path: &str) -> Answer {
        daemon.request("GET", path, &[("host", "127.0.0.1"), ("cookie", &self.cookie)], b"").await
    }

    async fn post(&self, daemon: &Daemon, path: &str, fields: &[(&str, &str)]) -> Answer {
        let own = [("origin", "http://127.0.0.1"), ("sec-fetch-site", "same-origin")];
        self.post_from(daemon, path, &own, &[fields, &[("csrf", self.csrf.as_str())]].concat()).await
    }

    async fn post_from(
        &self,
        daemon: &Daemon,
        path: &str,
        headers: &[(&str, &str)],
        fields: &[(&str, &str)],
    ) -> Answer {
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        let own = [("host", "127.0.0.1"), ("cookie", self.cookie.as_str())];
        let kind = [("content-type", "application/x-www-form-urlencoded")];
        daemon.request("POST", path, &[&own[..], &kind[..], headers].concat(), body.as_bytes()).await
    }

    /// Follows a form's answer to the page with its notice.
    async fn follow(&self, daemon: &Daemon, answer: &Answer) -> String {
        assert_eq!(answer.status, 303, "{}", answer.text());
        self.get(daemon, answer.header("location").expect("a link")).await.text()
    }
}

/// The token that the forms of a page carry; empty where it has none.
fn csrf(page: &str) -> String {
    let (_, rest) = page.split_once("name=\"csrf\" value=\"").unwrap_or_default();
    rest.split('"').next().unwrap_or_default().to_owned()
}

async fn refusing(body: &str) -> Sink {
    Sink::start(vec![Act::Reply(Reply::new(400, body))]).await
}

/// A daemon whose destination `a` has refused one deposit.
async fn with_dead(sink: &Sink) -> (Daemon, String) {
    let daemon = Daemon::start(&webhook("a", &sink.url("/"), "")).await;
    deposit(&daemon, "1").await;
    settled(&daemon, &[("failed_permanently", 1)]).await;
    let id = delivery(&daemon, "1", "a").await["id"].as_str().unwrap().to_owned();
    (daemon, id)
}

#[track_caller]
fn refused_page(answer: &Answer, status: u16, part: &str) {
    let text = answer.text();
    let kind = answer.header("content-type");
    assert_eq!((answer.status, kind), (status, Some("text/html; charset=utf-8")), "{text}");
    assert!(text.contains(part), "{part} is not in {text}");
}

#[tokio::test]
async fn a_form_must_come_from_a_page_of_this_visitor() {
    let sink = refusing("no").await;
    let (daemon, id) = with_dead(&sink).await;
    let (me, other) = (Visitor::new(&daemon).await, Visitor::new(&daemon).await);
    let own = [("origin", "http://127.0.0.1"), ("sec-fetch-site", "same-origin")];
    let order = [("id", id.as_str()), ("why", "x"), ("back", "/")];
    let with = |csrf: &'static str| [&order[..], &[("csrf", csrf)]].concat();
    for path in ["/ui/dlq/replay", "/ui/dlq/discard", "/ui/jobs/job_1/cancel", "/ui/destinations/a/pause", "/ui/logout"]
    {
        refused_page(&me.post_from(&daemon, path, &own, &order).await, 403, "nothing was changed");
        refused_page(&me.post_from(&daemon, path, &own, &with("")).await, 403, "nothing was changed");
        let stolen = [&order[..], &[("csrf", other.csrf.as_str())]].concat();
        refused_page(&me.post_from(&daemon, path, &own, &stolen).await, 403, "nothing was changed");
        let good = [&order[..], &[("csrf", me.csrf.as_str())]].concat();
        for headers in [
            &[][..],
            &[("origin", "http://127.0.0.1:3000")],
            &[("origin", "http://127.0.0.1"), ("sec-fetch-site", "same-site")],
            &[("sec-fetch-site", "cross-site")],
            &[("sec-fetch-site", "none")],
        ] {
            refused_page(&me.post_from(&daemon, path, headers, &good).await, 403, "nothing was changed");
        }
        let elsewhere = [("origin", "https://evil.example"), ("sec-fetch-site", "cross-site")];
        refused_page(&me.post_from(&daemon, path, &elsewhere, &good).await, 403, "another site");
        let got = me.get(&daemon, &format!("{path}?csrf={}", me.csrf)).await;
        assert!(matches!(got.status, 404 | 405), "{path} is not for reading: {}", got.status);
    }
    assert_eq!(delivery(&daemon, "1", "a").await["status"], "failed_permanently");
    let rebound = [("host", "evil.example"), ("origin", "http://evil.example"), ("sec-fetch-site", "same-origin")];
    refused_page(&daemon.request("GET", "/", &rebound, b"").await, 403, "Host header");
    let done = me.post(&daemon, "/ui/dlq/discard", &order).await;
    assert!(me.follow(&daemon, &done).await.contains("1 delivery discarded"));
    assert_eq!(delivery(&daemon, "1", "a").await["reason"], "x");
    let forged = format!("/?notice=all+is+lost&seal={}", "A".repeat(43));
    assert!(!me.get(&daemon, &forged).await.text().contains("all is lost"), "nobody puts words into our mouth");
}

#[tokio::test]
async fn with_an_admin_token_a_login_stands_before_the_page() {
    let daemon = Daemon::start_with(&format!("admin_token = \"{TOKEN}\""), "").await;
    let first = daemon.request("GET", "/ui/log?status=sent", &[("host", "desk.example")], b"").await;
    refused_page(&first, 401, "Admin token");
    assert!(!first.text().contains("Destinations") && first.header("www-authenticate").is_some());
    let stranger = Visitor::of(&first);
    assert!(first.text().contains("value=\"/ui/log?status=sent\""), "it goes on where it was");
    refused_page(&stranger.post(&daemon, "/ui/destinations/a/resume", &[]).await, 401, "admin");
    let own = [("origin", "http://127.0.0.1"), ("sec-fetch-site", "same-origin")];
    let unbound = stranger.post_from(&daemon, "/ui/login", &own, &[("token", TOKEN)]).await;
    refused_page(&unbound, 403, "nothing was changed");
    refused_page(&stranger.post(&daemon, "/ui/login", &[("token", "guess")]).await, 401, "not the admin token");
    let fields = [("token", TOKEN), ("next", "https://evil.example/")];
    let opened = stranger.post(&daemon, "/ui/login", &fields).await;
    assert_eq!((opened.status, opened.header("location")), (303, Some("/")), "never to another site");
    let cookie = opened.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    assert_ne!(cookie, stranger.cookie, "a login has an id of its own");
    let mut me = Visitor { cookie, csrf: String::new() };
    let page = me.get(&daemon, "/").await;
    assert_eq!(page.status, 200);
    me.csrf = csrf(&page.text());
    assert_eq!(stranger.get(&daemon, "/").await.status, 401);
    problem(&me.get(&daemon, "/status").await, 401, "admin_token_missing");
    assert_eq!(me.post(&daemon, "/ui/logout", &[]).await.status, 303);
    assert_eq!(me.get(&daemon, "/").await.status, 401, "logged out");
    let bearer = [("host", "x"), ("authorization", &*format!("Bearer {TOKEN}"))];
    assert_eq!(daemon.request("GET", "/", &bearer, b"").await.status, 200, "the token itself is as good");
}

#[tokio::test]
async fn guesses_are_few_and_another_token_ends_every_login() {
    let daemon = Daemon::start_with(&format!("admin_token = \"{TOKEN}\""), "").await;
    let stranger = Visitor::of(&daemon.request("GET", "/", &[("host", "127.0.0.1")], b"").await);
    let https = [("origin", "https://127.0.0.1"), ("x-forwarded-proto", "https")];
    let fields = [("token", TOKEN), ("csrf", stranger.csrf.as_str())];
    let opened = stranger.post_from(&daemon, "/ui/login", &https, &fields).await;
    let cookie = opened.header("set-cookie").unwrap().to_owned();
    for part in ["HttpOnly", "SameSite=Strict", "Secure", "Max-Age=43200"] {
        assert!(cookie.contains(part), "{part}: {cookie}");
    }
    let me = Visitor { cookie: cookie.split(';').next().unwrap().to_owned(), csrf: String::new() };
    assert_eq!(me.get(&daemon, "/").await.status, 200);
    for _ in 0..5 {
        assert_eq!(stranger.post(&daemon, "/ui/login", &[("token", "guess")]).await.status, 401);
    }
    let barred = stranger.post(&daemon, "/ui/login", &[("token", TOKEN)]).await;
    refused_page(&barred, 429, "too many wrong tokens");
    assert_eq!(barred.header("retry-after"), Some("60"));
    assert_eq!(me.get(&daemon, "/").await.status, 200, "whoever is in stays in");
    daemon.edit(TOKEN, "canary-other-token");
    let headers = [("host", "x"), ("authorization", "Bearer canary-other-token")];
    while daemon.request("GET", "/status", &headers, b"").await.status != 200 {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(me.get(&daemon, "/").await.status, 401);
}

/// Every page there is to see.
async fn pages(daemon: &Daemon, event: &str) -> Vec<(String, Answer)> {
    let visitor = Visitor::new(daemon).await;
    let trace = daemon.get(&format!("/v1/events/{event}")).await.json();
    let dead = daemon.get("/v1/dlq").await.json();
    let fixed = "/ /ui/log /ui/log?since=x /ui/dlq /ui/dlq/groups /ui/dlq/groups?fault=x /ui/jobs \
                 /ui/dlq/confirm?verb=discard /ui/events/nobody";
    let mut paths: Vec<String> = fixed.split(' ').map(str::to_owned).collect();
    paths.push(format!("/ui/events/{}", trace["id"].as_str().unwrap()));
    let entries = dead["entries"].as_array().unwrap().iter();
    paths.extend(entries.map(|entry| format!("/ui/dlq/{}", entry["id"].as_str().unwrap())));
    let hostile = url::form_urlencoded::byte_serialize(HOSTILE.as_bytes()).collect::<String>();
    paths
        .extend(["uid", "event", "event_id", "status", "kind", "cursor"].map(|key| format!("/ui/log?{key}={hostile}")));
    paths.extend(["uid", "detail", "event", "cursor"].map(|key| format!("/ui/dlq/groups?{key}={hostile}")));
    paths.push(format!("/ui/dlq/confirm?verb=replay&uid={hostile}"));
    paths.push(format!("/ui/events/{}", hostile.replace('+', "%20")));
    let mut pages = Vec::new();
    for path in paths {
        let answer = visitor.get(daemon, &path).await;
        pages.push((path, answer));
    }
    pages
}

#[tokio::test]
async fn what_strangers_write_stays_text() {
    let sink = refusing(HOSTILE).await;
    let targets = format!("events = {{ deposit = {} }}", json!("<script>alert(1)</script>"));
    let config = [webhook("a", &sink.url("/"), &targets), destination("n", "s2s_postback", &sink.url("/p"), "")];
    let daemon = Daemon::start(&config.concat()).await;
    let long = "x".repeat(400);
    let event = json!({
        "event": "deposit", "event_id": HOSTILE, "uid": format!("{HOSTILE}{long}"), "value": "1", "currency": "EUR",
        "click": { "fbclid": HOSTILE, HOSTILE: long, "crlf": "a\r\n\u{7f}\u{9b}b" }, "page": { "url": "javascript:alert(4)" },
        "data": { "list": [HOSTILE, { "<b>": HOSTILE }] }, "action_source": "<i>"
    });
    let event = accept(&daemon, event).await;
    settled(&daemon, &[("failed_permanently", 2)]).await;
    let visitor = Visitor::new(&daemon).await;
    let paused = visitor.post(&daemon, "/ui/destinations/n/pause", &[("reason", HOSTILE), ("back", "/")]).await;
    assert!(visitor.follow(&daemon, &paused).await.contains("n is paused"));
    daemon.edit("[server]", "[server]\n\"<script>alert(1)</script>\" = 1");
    daemon.wait_for_status(|status| !status["config"]["error"].is_null()).await;
    for (path, answer) in pages(&daemon, &event).await {
        let text = answer.text();
        assert_eq!(answer.header("content-type"), Some("text/html; charset=utf-8"), "{path}");
        for (mark, count) in [("<script", 1), ("<img", 0), ("onerror=alert(2)>'", 0), ("<b>\"", 0), ("<i>", 0)] {
            assert_eq!(text.matches(mark).count(), count, "{mark} in {path}:\n{text}");
        }
        let turning = text.chars().find(|letter| *letter == '\u{202e}' || (letter.is_control() && *letter != '\n'));
        // What a visitor typed stands in the form as it was typed.
        assert!(turning.is_none() || path.contains('?'), "{turning:?} in {path}");
        let targets = ["href=\"", "src=\"", "action=\""].into_iter().flat_map(|name| text.split(name).skip(1));
        for target in targets.map(|rest| rest.split('"').next().unwrap()) {
            assert!(target.is_empty() || target == "#main" || target.starts_with('/'), "{target} in {path}");
            assert!(!target.starts_with("//"), "{target} in {path}");
        }
    }
    let overview = visitor.get(&daemon, "/").await.text();
    assert!(overview.contains("&#60;script&#62;alert(1)") && overview.contains("config.toml:2</code>"), "{overview}");
}

#[tokio::test]
async fn what_is_about_a_person_is_on_no_page() {
    let person = json!({
        "email": "Canary.Person@mail.example", "phone": "+49 176 5550001", "first_name": "Canaryfirst", "ip": "203.0.113.77",
        "last_name": "Canarylast", "date_of_birth": "19780203", "fbc": "fb.1.canary", "external_id": "canary-ext"
    });
    let echo = "no canary.person@mail.example, +491765550001, CANARYFIRST at 203.0.113.77; 19780203";
    let (sink, meta) = (
        refusing(echo).await,
        refusing(&json!({ "error": { "message": echo, "type": "OAuthException", "code": 100 } }).to_string()).await,
    );
    let config = [
        webhook("a", &sink.url("/"), "include_user = [\"email\", \"phone\", \"first_name\", \"last_name\", \"ip\"]"),
        destination("meta", "fb_capi", &meta.url(""), ""),
        format!(
            "[destinations.n]\nkind = \"s2s_postback\"\nurl_template = \"{}?who={{data.who}}&d={{data.born}}\"\nallow_private = true\n",
            sink.url("/p")
        ),
    ];
    let daemon = Daemon::start(&config.concat()).await;
    let data = json!({ "who": "canary.person@mail.example", "born": "19780203", "email": "other.canary@mail.example" });
    let event = json!({
        "event": "deposit", "event_id": "1", "uid": "click-1", "value": "5.00", "currency": "EUR", "user": person, "data": data
    });
    let event = accept(&daemon, event).await;
    settled(&daemon, &[("failed_permanently", 3)]).await;
    let api = daemon.get(&format!("/v1/events/{event}")).await.text();
    assert!(api.contains("Canarylast"), "the API shows the operator's own data");
    for (path, answer) in pages(&daemon, &event).await {
        let text = answer.text();
        let lower = text.to_lowercase();
        for value in
            ["canary.person", "5550001", "canaryfirst", "canarylast", "203.0.113.77", "19780203", "fb.1", "canary"]
        {
            // The hostile search of a visitor is no event's; nothing else may hold a value.
            assert!(!lower.contains(value), "{value} on {path}:\n{text}");
        }
        assert!(!path.contains("dlv_") || text.contains("[masked"), "{path}");
    }
}

#[tokio::test]
async fn every_page_forbids_whatever_it_does_not_need() {
    let sink = refusing("no").await;
    let (daemon, _) = with_dead(&sink).await;
    let mut assets = std::collections::BTreeSet::new();
    for (path, answer) in pages(&daemon, "1").await {
        let policy = answer.header("content-security-policy").unwrap_or_else(|| panic!("{path} has no policy"));
        for part in ["default-src 'none'", "form-action 'self'", "frame-ancestors 'none'", "base-uri 'none'"] {
            assert!(policy.contains(part), "{policy}");
        }
        assert!(!policy.contains("unsafe") && !policy.contains("http"), "{policy}");
        for (name, value) in [
            ("x-frame-options", "DENY"),
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "same-origin"),
            ("cache-control", "no-store"),
        ] {
            assert_eq!(answer.header(name), Some(value), "{path}");
        }
        let text = answer.text();
        // What a visitor searched for stands in a field, as text.
        let searched = path.contains("%3C");
        let handles = |rest: &str| rest.trim_start_matches(|letter: char| letter.is_ascii_lowercase()).starts_with('=');
        let inline = text.contains("style=") || text.split(" on").skip(1).any(handles);
        assert!(searched || !inline, "nothing inline: {path}\n{text}");
        assets.extend(text.split('"').filter(|part| part.starts_with("/ui/assets/")).map(str::to_owned));
    }
    assert_eq!(assets.len(), 3, "{assets:?}");
    for path in assets {
        let asset = daemon.request("GET", &path, &[("host", "evil.example")], b"").await;
        let cache = asset.header("cache-control").unwrap();
        assert!(asset.status == 200 && cache.contains("immutable"), "{path}: {cache}");
        assert_eq!(asset.header("x-content-type-options"), Some("nosniff"));
        let outside = asset.text().replace("http://www.w3.org/2000/svg", "");
        assert!(!outside.contains("://") && !outside.contains("@import"), "{path}");
    }
    for path in ["/nothing", "/ui/nothing", "/v1/nothing"] {
        problem(&daemon.get(path).await, 404, "not_found");
    }
    let linked = [("host", "127.0.0.1"), ("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")];
    let again = daemon.request("GET", "/", &linked, b"").await;
    assert_eq!((again.header("refresh"), again.header("set-cookie")), (Some("0"), None), "a strict cookie comes then");
}

#[tokio::test]
async fn many_are_counted_before_they_are_replayed() {
    let sink = refusing("no").await;
    let config = [webhook("a", &sink.url("/a"), ""), destination("n", "s2s_postback", &sink.url("/n"), "")];
    let daemon = Daemon::start(&config.concat()).await;
    for number in 1..=3 {
        deposit(&daemon, &number.to_string()).await;
    }
    settled(&daemon, &[("failed_permanently", 6)]).await;
    let visitor = Visitor::new(&daemon).await;
    let ask = visitor.get(&daemon, "/ui/dlq/confirm?verb=replay&destination=a").await.text();
    assert!(ask.contains("Replay 3 deliveries?") && ask.contains("name=\"destination\" value=\"a\""), "{ask}");
    assert!(visitor.get(&daemon, "/ui/dlq/confirm?verb=discard").await.text().contains("Discard 6 deliveries?"));
    refused_page(&visitor.get(&daemon, "/ui/dlq/confirm?verb=replay&destination=x").await, 422, "no destination");
    let groups = visitor.get(&daemon, "/ui/dlq/groups?destination=a").await.text();
    assert!(groups.contains("all 3 looked at") && groups.contains("class=\"c-count num\">3<"), "{groups}");
    let link = quoted(&groups, "c-event\"><a href=\"").replace("&#38;", "&");
    assert!(link.contains("&fault=") && link.contains("&response_status=400"), "{link}");
    let listed = visitor.get(&daemon, &link).await.text();
    assert!(listed.contains("<small>3 match"), "{listed}");
    let confirm = quoted(&listed, "class=\"all\"><a class=\"button\" href=\"").replace("&#38;", "&");
    assert!(visitor.get(&daemon, &confirm).await.text().contains("Replay 3 deliveries?"), "{confirm}");
    let none = visitor.get(&daemon, "/ui/dlq?response_status=404").await.text();
    assert!(none.contains("Nothing matches these filters."), "{none}");
    let wrong = visitor.get(&daemon, "/ui/dlq/groups?fault=1").await.text();
    assert!(wrong.contains("fault: "), "{wrong}");
    for empty in [&[][..], &[("id", "")], &[("destination", "")], &[("all", "yes")]] {
        for path in ["/ui/dlq/replay", "/ui/dlq/discard"] {
            let fields = [empty, &[("why", "x")]].concat();
            assert_eq!(visitor.post(&daemon, path, &fields).await.status, 422, "{path} {empty:?}");
        }
    }
    settled(&daemon, &[("failed_permanently", 6)]).await;
    sink.set(vec![Act::Reply(Reply::new(200, ""))]);
    let fields = [("destination", "a"), ("rate", "500/s"), ("back", "/ui/dlq?destination=a")];
    let done = visitor.post(&daemon, "/ui/dlq/replay", &fields).await;
    assert!(visitor.follow(&daemon, &done).await.contains("3 matched; <a href=\"/ui/jobs#job_"));
    settled(&daemon, &[("sent", 3), ("failed_permanently", 3)]).await;
    let log = visitor.get(&daemon, "/ui/log?kind=webhook").await.text();
    assert_eq!((log.matches("s-sent\">").count(), log.matches("s-failed_permanently\">").count()), (3, 0), "{log}");
    let log = visitor.get(&daemon, "/ui/log?kind=s2s_postback&status=failed_permanently&event_id=2").await.text();
    assert_eq!(log.matches("s-failed_permanently\">").count(), 1, "{log}");
    let wrong = visitor.get(&daemon, "/ui/log?kind=pigeon&since=yesterday").await.text();
    assert!(wrong.contains("not a kind"), "{wrong}");
    let missing = visitor.post(&daemon, "/ui/dlq/discard", &[("all", "true")]).await;
    refused_page(&missing, 422, "say why");
    let done = visitor.post(&daemon, "/ui/dlq/discard", &[("reason", "permanent"), ("why", "old")]).await;
    assert!(visitor.follow(&daemon, &done).await.contains("3 deliveries discarded"));
    settled(&daemon, &[("discarded", 3)]).await;
}

/// What stands between `before` and the next quotation mark.
#[track_caller]
fn quoted<'t>(text: &'t str, before: &str) -> &'t str {
    let (_, rest) = text.split_once(before).unwrap_or_else(|| panic!("{before} is not in {text}"));
    rest.split('"').next().unwrap()
}

#[tokio::test]
async fn a_job_that_a_form_started_is_shown_with_its_progress_and_cancelled_by_a_form() {
    let sink = refusing("no").await;
    let daemon = Daemon::start_with(&format!("admin_token = \"{TOKEN}\""), &webhook("a", &sink.url("/"), "")).await;
    let bearer = [("authorization", &*format!("Bearer {TOKEN}"))];
    for number in 1..=3 {
        deposit(&daemon, &number.to_string()).await;
    }
    let login = Visitor::of(&daemon.request("GET", "/", &[("host", "127.0.0.1")], b"").await);
    let stranger = login.post(&daemon, "/ui/jobs/job_1/cancel", &[]).await;
    refused_page(&stranger, 401, "admin");
    refused_page(&login.get(&daemon, "/ui/jobs").await, 401, "Admin token");
    let opened = login.post(&daemon, "/ui/login", &[("token", TOKEN)]).await;
    let cookie = opened.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    let mut me = Visitor { cookie, csrf: String::new() };
    me.csrf = csrf(&me.get(&daemon, "/").await.text());
    while !me.get(&daemon, "/").await.text().contains("3 failed permanently") {
        tokio::task::yield_now().await;
    }

    let fields = [("all", "true"), ("rate", "1/h"), ("back", "/ui/dlq")];
    let started = me.post(&daemon, "/ui/dlq/replay", &fields).await;
    let answer = me.follow(&daemon, &started).await;
    let id = quoted(&answer, "<a href=\"/ui/jobs#").to_owned();
    let page = me.get(&daemon, "/ui/jobs").await.text();
    for part in [&*format!("id=\"{id}\""), "s-running", "<progress max=\"3\"", " of 3", "at 1/h"] {
        assert!(page.contains(part), "{part} is not in {page}");
    }
    let overview = me.get(&daemon, "/").await.text();
    assert!(overview.contains("1 running") && overview.contains(&format!("/ui/jobs/{id}/cancel")), "{overview}");

    let cancelled = me.post(&daemon, &format!("/ui/jobs/{id}/cancel"), &[("back", "/ui/jobs")]).await;
    let page = me.follow(&daemon, &cancelled).await;
    assert!(page.contains("is cancelled: ") && page.contains("s-cancelled") && !page.contains("/cancel\""), "{page}");
    assert!(me.get(&daemon, "/").await.text().contains("aria-labelledby=\"jobs-h\" hidden"));
    refused_page(&me.post(&daemon, "/ui/jobs/job_1/cancel", &[]).await, 404, "job");
    let audit = daemon.request("GET", "/v1/audit", &bearer, b"").await.json();
    assert_eq!((&audit["deeds"][0]["action"], &audit["deeds"][0]["target"]), (&json!("cancel"), &json!(id)));
}

#[tokio::test]
async fn a_destination_is_paused_and_resumed_by_forms() {
    let sink = Sink::with_status(200).await;
    let daemon = Daemon::start(&webhook("a", &sink.url("/"), "")).await;
    let visitor = Visitor::new(&daemon).await;
    let state = async || -> Value { daemon.get("/status").await.json()["destinations"]["a"]["state"].clone() };
    refused_page(&visitor.post(&daemon, "/ui/destinations/a/pause", &[]).await, 422, "say why it is paused");
    assert_eq!(state().await, "active");
    let fields = [("reason", "moved"), ("for", "2h"), ("back", "/")];
    let paused = visitor.post(&daemon, "/ui/destinations/a/pause", &fields).await;
    assert!(visitor.follow(&daemon, &paused).await.contains("a is paused until "));
    assert_eq!(state().await, "paused");
    let resumed = visitor.post(&daemon, "/ui/destinations/a/resume", &[("back", "//evil.example")]).await;
    assert!(resumed.header("location").unwrap().starts_with("/?"), "{:?}", resumed.header("location"));
    assert_eq!(state().await, "active");
    assert_eq!(visitor.post(&daemon, "/ui/destinations/a/release", &[]).await.status, 303);
    refused_page(&visitor.post(&daemon, "/ui/destinations/a/explode", &[]).await, 404, "no such form");
    refused_page(&visitor.post(&daemon, "/ui/destinations/nobody/resume", &[]).await, 404, "no destination");
}
