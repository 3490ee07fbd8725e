//! Whatever an event says, it says it in values: it never decides where a request goes, how many segments its path has, how
//! its parameters are called, or what a body is made of. Seen through the public adapters, on the finished request.

use std::collections::BTreeMap;

use postbackd::destination::registry::{Spec, build};
use postbackd::destination::s2s_postback::{OnFailurePattern, S2sMethod, S2sSpec};
use postbackd::destination::{Adapter, Kind, Outgoing, Prepared};
use postbackd::domain::event::Event;
use postbackd::domain::name::TargetName;
use postbackd::domain::retry::StatusSet;
use postbackd::env::transport::Request;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::NOW;
use crate::support;

/// Every place of a URL that a macro may stand in.
const TEMPLATE: &str = "https://n.example:8443/pb/{uid}/v.{data.x}/{event_id}{click.own}/{adset_name}~{data.a.b}/end\
    ?cid={uid}&e={event}&{lit}tx={event_id}&x={data.x}{value}&sub[]={campaign_name}-{tg_id}&p={placement}&o={click.own}\
    &d={data.a.b}&flag&k={fbclid}%2B{currency}";

/// Texts that would change something if they were not encoded, and any others.
fn hostile() -> impl Strategy<Value = String> {
    let crafted = [
        "",
        ".",
        "..",
        "%2e",
        "%2E%2e",
        "../../admin",
        "/",
        "//evil.example/",
        "\\",
        "..\\..",
        "?a=b",
        "&cid=evil",
        "=",
        "#",
        "@evil.example",
        ":80",
        "evil.example:443",
        "{uid}",
        "{secret.t}",
        "%",
        "%0d%0a",
        "%00",
        "\r\nHost: evil.example",
        "\n",
        "\t",
        "\0",
        " ",
        "+",
        "\"",
        "\"}],\"x\":[{\"",
        "\\\"",
        "\\u0022",
        "</script>",
        "é",
        "\u{2025}",
        "\u{ff0e}",
        "\u{ff0f}",
        "\u{202e}",
        "\u{feff}",
        "http://evil.example",
        "javascript:",
        "[::1]",
        ";",
        "|",
    ];
    prop_oneof![
        3 => prop::sample::select(crafted.map(str::to_owned).to_vec()),
        2 => "[./\\\\%?#@:&=+2eE{}\\[\\]<>'\"\n\r\t ]{0,8}",
        1 => "\\PC{0,12}",
        1 => any::<String>(),
    ]
}

/// The values of one event: every text in it is one of them.
type Values = [String; 10];

fn values() -> impl Strategy<Value = Values> {
    prop::array::uniform10(hostile())
}

fn event(values: &Values) -> Event {
    let [uid, id, x, nested, own, campaign, adset, placement, fbclid, key] = values;
    let text = |text: &String| (!text.is_empty()).then(|| text.clone());
    let mut event = support::event(&json!({
        "event": "deposit", "value": "25.00", "currency": "EUR",
        "click": {"own": own, "campaign_name": campaign, "adset_name": adset, "placement": placement, "fbclid": fbclid, "tg_id": 42},
        "data": {"x": x, "a": {"b": nested}},
    }));
    (event.uid, event.event_id) = (text(uid), text(id));
    for object in [&mut event.user, &mut event.click, &mut event.page, &mut event.data] {
        if !object.contains_key(key) {
            object.insert(key.clone(), "v".into());
        }
    }
    event
}

fn s2s(more: &Value) -> Box<dyn Adapter> {
    let mut spec = json!({"url_template": TEMPLATE.replace("{lit}", "lit=%26%C3%A9&"), "secrets": {"t": "s3cr3t"}});
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    support::adapter(Kind::S2sPostback, &spec)
}

fn prepare(adapter: &dyn Adapter, event: &Event, target: &str) -> Prepared {
    let target: TargetName = target.parse().unwrap();
    adapter.prepare(&[Outgoing { id: support::delivery_id(), target: &target, event }], NOW)
}

/// A target name has no control characters, and at least one letter.
fn target(text: &str) -> String {
    let mut name: String = text.chars().filter(|letter| !letter.is_control()).take(30).collect();
    name.push('t');
    name
}

fn request(prepared: Prepared) -> Request {
    prepared.request.unwrap().request
}

fn decoded(text: &str) -> String {
    percent_encoding::percent_decode_str(text).decode_utf8().unwrap().into_owned()
}

/// What the template says, filled in by hand: path segments and pairs, decoded.
fn wanted(values: &Values, target: &str) -> (Vec<String>, Vec<(String, String)>) {
    let [uid, id, x, nested, own, campaign, adset, placement, fbclid, _] = values;
    let id = if id.is_empty() { support::delivery_id().to_string() } else { id.clone() };
    let path = [
        "pb".to_owned(),
        uid.clone(),
        format!("v.{x}"),
        format!("{id}{own}"),
        format!("{adset}~{nested}"),
        "end".to_owned(),
    ];
    let pairs = [
        ("cid", uid.clone()),
        ("e", target.to_owned()),
        ("lit", "&é".to_owned()),
        ("tx", id),
        ("x", format!("{x}25.00")),
        ("sub[]", format!("{campaign}-42")),
        ("p", placement.clone()),
        ("o", own.clone()),
        ("d", nested.clone()),
        ("flag", String::new()),
        ("k", format!("{fbclid}+EUR")),
    ];
    (path.to_vec(), pairs.map(|(name, value)| (name.to_owned(), value)).to_vec())
}

/// Scheme, host, port and path are the template's; headers hold nothing of the event.
fn check_front(request: &Request, path: &[String]) {
    let url = &request.url;
    assert_eq!((url.scheme(), url.host_str(), url.port()), ("https", Some("n.example"), Some(8443)));
    assert_eq!((url.username(), url.password(), url.fragment()), ("", None, None));
    let segments: Vec<String> = url.path_segments().unwrap().map(decoded).collect();
    assert_eq!(segments, path);
    let graphic = |value: &str| value.bytes().all(|byte| byte.is_ascii_graphic());
    assert!(request.headers.iter().all(|(_, value)| graphic(value)), "{:?}", request.headers);
}

/// The delivery is unsendable exactly where a segment would be `.` or `..`.
fn refused(prepared: &Prepared, path: &[String]) -> bool {
    let dots = path.iter().any(|segment| segment == "." || segment == "..");
    assert_eq!(prepared.request.is_none(), dots, "{path:?}");
    dots
}

proptest! {
    #[test]
    fn no_event_changes_where_a_url_leads(values in values(), name in hostile(), post: bool) {
        let adapter = s2s(&if post { json!({"method": "query"}) } else { json!({}) });
        let target = target(&name);
        let (path, pairs) = wanted(&values, &target);
        let prepared = prepare(adapter.as_ref(), &event(&values), &target);
        if refused(&prepared, &path) { return Ok(()); }
        let request = request(prepared);
        check_front(&request, &path);
        prop_assert_eq!(request.url.query_pairs().into_owned().collect::<Vec<_>>(), pairs);
        prop_assert!(request.body.is_empty());
    }

    #[test]
    fn no_event_changes_the_parameters_of_a_form(values in values(), name in hostile()) {
        let target = target(&name);
        let (path, pairs) = wanted(&values, &target);
        let prepared = prepare(s2s(&json!({"method": "form"})).as_ref(), &event(&values), &target);
        if refused(&prepared, &path) { return Ok(()); }
        let request = request(prepared);
        check_front(&request, &path);
        prop_assert_eq!(request.url.query(), None);
        prop_assert_eq!(url::form_urlencoded::parse(&request.body).into_owned().collect::<Vec<_>>(), pairs);
    }

    #[test]
    fn no_event_changes_the_members_of_a_json_body(values in values(), name in hostile()) {
        let target = target(&name);
        let (path, pairs) = wanted(&values, &target);
        let prepared = prepare(s2s(&json!({"method": "json"})).as_ref(), &event(&values), &target);
        if refused(&prepared, &path) { return Ok(()); }
        let request = request(prepared);
        check_front(&request, &path);
        prop_assert_eq!(request.url.query(), None);
        let wanted: Map<String, Value> = pairs.into_iter().map(|(name, value)| (name, value.into())).collect();
        // As text, so that a member that stood twice would be seen.
        prop_assert_eq!(String::from_utf8(request.body).unwrap(), Value::from(wanted).to_string());
    }

    #[test]
    fn no_event_changes_the_structure_of_a_body_template(values in values(), name in hostile()) {
        let template = r#"{"a":"{uid}","b":{"c":"<{data.x}>","d":[{json:value},"{event}"],"e":{json:data.x}},"k":{json:click},"{source}":"{click.own}"}"#;
        let adapter = support::adapter(Kind::Webhook, &json!({"url": "https://n.example:8443/in", "template": template}));
        let (event, target) = (event(&values), target(&name));
        let request = request(prepare(adapter.as_ref(), &event, &target));
        check_front(&request, &["in".to_owned()]);
        let [uid, _, x, _, own, ..] = &values;
        let value: Value = serde_json::from_str("25.00").unwrap();
        let wanted = json!({"a": uid, "b": {"c": format!("<{x}>"), "d": [value, target], "e": x}, "k": event.click, "app": own});
        prop_assert_eq!(String::from_utf8(request.body).unwrap(), wanted.to_string());
    }

    #[test]
    fn no_event_changes_the_members_of_the_plain_body(values in values(), name in hostile()) {
        let adapter = support::adapter(Kind::Webhook, &json!({"url": "https://n.example:8443/in?a=b"}));
        let request = request(prepare(adapter.as_ref(), &event(&values), &target(&name)));
        check_front(&request, &["in".to_owned()]);
        prop_assert_eq!(request.url.query(), Some("a=b"));
        let body: Map<String, Value> = serde_json::from_slice(&request.body).unwrap();
        let members: Vec<&str> = body.keys().map(String::as_str).collect();
        prop_assert_eq!(members, ["event", "canonical", "event_id", "source_event_id", "occurred_at_ms", "uid", "click", "data"]);
        prop_assert_eq!(&body["data"]["x"], &json!(values[2]));
        prop_assert_eq!(Value::from(body).to_string().into_bytes(), request.body);
    }

    /// Letter by letter, in their order: many networks sign the URL as they wrote it.
    #[test]
    fn literal_parts_of_a_template_survive(
        path in prop::collection::vec(("[a-zA-Z0-9._~!$&()*+,;=:@'^|/-]{0,6}|%[0-9a-fA-F]{2}", macros(), rewritten()), 0..4),
        query in prop::collection::vec(("[a-zA-Z0-9._~!$&()*+,;=:@/?^|`-]{0,6}|%[0-9a-fA-F]{2}|a\\[[0-9]?\\]=", macros(), rewritten()), 0..5),
        uid in hostile(), x in hostile(),
    ) {
        let text = |parts: &[(String, &str, &str)], fill: &dyn Fn(&str) -> String| -> String {
            parts.iter().map(|(literal, name, sign)| format!("{literal}{}{sign}", fill(name))).collect::<Vec<_>>().concat()
        };
        let whole = |fill: &dyn Fn(&str) -> String| format!("https://n.example/{}?{}", text(&path, fill), text(&query, fill));
        let template = whole(&|name| if name.is_empty() { String::new() } else { format!("{{{name}}}") });
        // What a URL reader would rewrite was refused with the configuration.
        let Some(adapter) = built(&template) else { return Ok(()) };
        let mut values = Values::default();
        (values[0], values[2]) = (uid.clone(), x.clone());
        let Some(made) = prepare(adapter.as_ref(), &event(&values), "t").request else { return Ok(()) };
        let filled = whole(&|name| match name { "uid" => encoded(&uid), "data.x" => encoded(&x), _ => String::new() });
        prop_assert_eq!(made.request.url.as_str(), filled, "{}", template);
    }
}

/// Seldom, a sign that URL readers write otherwise in a path, a query or both.
fn rewritten() -> impl Strategy<Value = &'static str> {
    prop_oneof![9 => Just(""), 1 => prop::sample::select(vec!["'", "\"", "<", ">", "^", "`", "|", "é", "Л"])]
}

fn macros() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["", "uid", "data.x"])
}

/// Percent-encoding by hand: all but the unreserved letters.
fn encoded(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    text.bytes().map(byte).collect()
}

/// The adapter of this template, if it is taken.
fn built(url_template: &str) -> Option<Box<dyn Adapter>> {
    build(Spec::S2sPostback(S2sSpec {
        url_template: url_template.to_owned(),
        method: S2sMethod::Get,
        expected_status: StatusSet::success(),
        success_pattern: None,
        failure_pattern: None,
        on_failure_pattern: OnFailurePattern::Permanent,
        secrets: BTreeMap::new(),
    }))
    .ok()
}

#[test]
fn only_what_would_be_rewritten_is_refused() {
    // The property above says nothing about what is refused.
    for template in
        ["https://n.example/a;b=c,d'/@:x?{uid}={uid}&&=&b=$!()*", "https://n.example/%20/x~?a[0]={uid}&b=|^`"]
    {
        assert!(built(template).is_some(), "{template}");
        assert!(built(&format!("{template}'")).is_none(), "{template}");
    }
}
