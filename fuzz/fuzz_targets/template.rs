//! Templates of operators, filled with events of strangers: what an event says never becomes structure.

#![no_main]

use arbitrary::Arbitrary;
use postbackd::destination::Outgoing;
use postbackd::destination::template::Scope;
use postbackd::destination::template::json::JsonTemplate;
use postbackd::destination::template::url::UrlTemplate;
use postbackd::domain::event::{Event, OccurredAt};
use postbackd::domain::id::{DeliveryId, DeliveryKey, DestinationId, EventSeq, InstanceId};
use postbackd::domain::json_object::JsonObject;
use postbackd::domain::time::UnixMs;
use serde_json::Value;

#[derive(Arbitrary, Debug)]
struct Input {
    template: String,
    /// As a URL, or as JSON.
    is_url: bool,
    uid: Option<String>,
    event_id: Option<String>,
    click: Vec<(String, String)>,
    data: Vec<(String, Scalar)>,
}

#[derive(Arbitrary, Debug)]
enum Scalar {
    Text(String),
    Number(i64),
    Truth(bool),
    List(Vec<String>),
}

fn value(scalar: &Scalar) -> Value {
    match scalar {
        Scalar::Text(text) => text.as_str().into(),
        Scalar::Number(number) => (*number).into(),
        Scalar::Truth(truth) => (*truth).into(),
        Scalar::List(list) => list.clone().into(),
    }
}

fn event(input: &Input) -> Event {
    let now = UnixMs(1_764_000_000_000);
    Event {
        source: "app".parse().expect("a name"),
        canonical: "deposit".parse().expect("a name"),
        event_id: input.event_id.clone(),
        uid: input.uid.clone(),
        occurred_at: OccurredAt::Received(now),
        received_at: now,
        value: "25.00".parse().ok(),
        currency: "USD".parse().ok(),
        action_source: None,
        user: JsonObject::default(),
        click: input.click.iter().map(|(name, text)| (name.clone(), text.as_str().into())).collect(),
        page: JsonObject::default(),
        data: input.data.iter().map(|(name, scalar)| (name.clone(), value(scalar))).collect(),
    }
}

libfuzzer_sys::fuzz_target!(|input: Input| {
    let event = event(&input);
    let key = DeliveryKey { seq: EventSeq(7), destination: DestinationId(3) };
    let target = "Purchase".parse().expect("a name");
    let delivery =
        Outgoing { id: DeliveryId { instance: InstanceId::from_random(5), key }, target: &target, event: &event };
    if !input.is_url {
        if let Ok(template) = JsonTemplate::compile(&input.template, &[]) {
            let body = template.render(&delivery);
            serde_json::from_str::<Value>(&body).unwrap_or_else(|error| panic!("{error}: {body}"));
        }
        return;
    }
    let Ok(template) = UrlTemplate::compile(&input.template, Scope { secrets: None, user: &[] }) else { return };
    let Ok(rendered) = template.render(&delivery) else { return };
    let whole = rendered.wire.whole();
    let before = input.template.split('{').next().unwrap_or_default();
    assert!(whole.starts_with(before), "{whole} does not begin as its template: {before}");
    // A host may be written in any alphabet; the URL reader spells it in ASCII.
    let rest = whole.split_once("://").map_or("", |(_, rest)| rest);
    let behind = rest.find(['/', '?']).and_then(|at| rest.get(at..)).unwrap_or_default();
    assert!(!behind.contains('#') && behind.bytes().all(|byte| byte.is_ascii_graphic()), "{whole}");
    // As many parameters and segments as the template has, whatever the event says.
    for sign in ['&', '?', '/'] {
        let (mut literal, mut in_macro) = (0, false);
        for letter in input.template.chars() {
            match letter {
                '{' => in_macro = true,
                '}' => in_macro = false,
                _ if letter == sign && !in_macro => literal += 1,
                _ => {}
            }
        }
        assert_eq!(whole.matches(sign).count(), literal, "{sign} in {whole} of {}", input.template);
    }
});
