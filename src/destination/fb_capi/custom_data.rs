//! `custom_data`: what happened. Members of the event's `data` that Meta knows keep their name and get the type Meta wants
//! of them; all others go along as custom properties, as the sender wrote them.

use serde_json::{Map, Value};

use super::event::EVENT_LEVEL;
use crate::destination::LeftOut;
use crate::domain::event::{Event, scalar_text};
use crate::domain::money::{Currency, Decimal};

/// What Meta wants of a member it knows.
#[derive(Clone, Copy)]
enum Shape {
    /// A JSON number; decimal text becomes one, digit by digit.
    Number,
    Text,
    /// A list of texts; one value becomes a list of one.
    Texts,
    /// A list of objects; one object becomes a list of one, and each gets the shapes of [`CONTENT`].
    Contents,
    /// Three letters.
    Currency,
    /// One of three texts.
    DeliveryCategory,
}

/// platforms.md 1.2.
const KNOWN: [(&str, Shape); 15] = [
    ("value", Shape::Number),
    ("net_revenue", Shape::Number),
    ("predicted_ltv", Shape::Number),
    ("num_items", Shape::Number),
    ("currency", Shape::Currency),
    ("content_name", Shape::Text),
    ("content_category", Shape::Text),
    ("content_type", Shape::Text),
    ("order_id", Shape::Text),
    ("status", Shape::Text),
    ("search_string", Shape::Text),
    ("item_number", Shape::Text),
    ("content_ids", Shape::Texts),
    ("contents", Shape::Contents),
    ("delivery_category", Shape::DeliveryCategory),
];

/// Members of one of the `contents`.
const CONTENT: [(&str, Shape); 8] = [
    ("id", Shape::Text),
    ("quantity", Shape::Number),
    ("item_price", Shape::Number),
    ("title", Shape::Text),
    ("description", Shape::Text),
    ("brand", Shape::Text),
    ("category", Shape::Text),
    ("delivery_category", Shape::DeliveryCategory),
];

/// Builds `custom_data`; the event's own value and currency come first and win over members of `data` of that name.
pub(super) fn build(event: &Event, left_out: &mut Vec<LeftOut>) -> Map<String, Value> {
    let mut out = Map::new();
    if let Some(value) = &event.value {
        out.insert("value".to_owned(), value.to_json_number().into());
    }
    if let Some(currency) = &event.currency {
        out.insert("currency".to_owned(), currency.as_str().into());
    }
    let mut note =
        |name: &str, why: &str| left_out.push(LeftOut { field: format!("data.{name}"), why: why.to_owned() });
    for (name, value) in event.data.iter() {
        if EVENT_LEVEL.contains(&name.as_str()) || is_nothing(value) {
            continue;
        }
        if out.contains_key(name) {
            note(name, "the event has a field of that name, which is sent");
            continue;
        }
        let known = KNOWN.iter().find(|(known, _)| known == name);
        match known.map_or_else(|| Ok(value.clone()), |(_, shape)| shape.fit(value)) {
            Ok(Value::Array(list)) if name == "contents" => {
                let list = list.into_iter().enumerate().map(|(at, item)| content(at, item, &mut note)).collect();
                out.insert(name.clone(), list);
            }
            Ok(value) => {
                out.insert(name.clone(), value);
            }
            Err(why) => note(name, why),
        }
    }
    out
}

/// One of the `contents`, its known members in their shapes; what does not fit is left out of it.
fn content(at: usize, item: Value, note: &mut impl FnMut(&str, &str)) -> Value {
    let Value::Object(members) = item else { return item };
    let fitted = members.into_iter().filter(|(_, value)| !is_nothing(value)).filter_map(|(name, value)| {
        let known = CONTENT.iter().find(|(known, _)| *known == name);
        match known.map_or(Ok(value.clone()), |(_, shape)| shape.fit(&value)) {
            Ok(value) => Some((name, value)),
            Err(why) => {
                note(&format!("contents[{at}].{name}"), why);
                None
            }
        }
    });
    Value::Object(fitted.collect())
}

/// Meta asks to leave out nulls and empty texts.
fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => false,
    }
}

impl Shape {
    fn fit(self, value: &Value) -> Result<Value, &'static str> {
        match self {
            Self::Number => match value {
                Value::Number(_) => Ok(value.clone()),
                Value::String(text) => text
                    .parse::<Decimal>()
                    .map(|number| number.to_json_number().into())
                    .map_err(|_| "is not a number, which Meta wants here"),
                Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => {
                    Err("is not a number, which Meta wants here")
                }
            },
            Self::Text => text(value).ok_or("is not a text, which Meta wants here"),
            Self::Texts => match value {
                Value::Array(list) => list.iter().map(text).collect(),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => {
                    text(value).map(|text| vec![text].into())
                }
            }
            .ok_or("is not a list of texts, which Meta wants here"),
            Self::Contents => match value {
                Value::Array(list) if list.iter().all(Value::is_object) => Ok(value.clone()),
                Value::Object(_) => Ok(vec![value.clone()].into()),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                    Err("is not a list of objects, which Meta wants here")
                }
            },
            Self::Currency => value
                .as_str()
                .and_then(|text| text.trim().parse::<Currency>().ok())
                .map(|currency| currency.as_str().into())
                .ok_or("is no currency; Meta wants three letters, like USD"),
            Self::DeliveryCategory => match value.as_str() {
                Some("in_store" | "curbside" | "home_delivery") => Ok(value.clone()),
                _ => Err("is none of in_store, curbside, home_delivery"),
            },
        }
    }
}

/// A scalar as JSON text.
fn text(value: &Value) -> Option<Value> {
    match value {
        Value::String(_) | Value::Number(_) | Value::Bool(_) => scalar_text(value).map(Value::from),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}
