//! `custom_data`: what happened. Members of the event's `data` that Meta knows keep their name and get the type Meta wants
//! of them; all others go along as custom properties, as the sender wrote them.

use serde_json::{Map, Value};

use super::event::EVENT_LEVEL;
use crate::destination::LeftOut;
use crate::domain::event::{Event, scalar_text};
use crate::domain::money::Decimal;

/// What Meta wants of a member it knows.
#[derive(Clone, Copy)]
enum Shape {
    /// A JSON number; decimal text becomes one, digit by digit.
    Number,
    Text,
    /// A list of texts; one value becomes a list of one.
    Texts,
    /// A list of objects; one object becomes a list of one.
    Objects,
    /// One of three texts.
    DeliveryCategory,
}

/// platforms.md 1.2.
const KNOWN: [(&str, Shape); 15] = [
    ("value", Shape::Number),
    ("net_revenue", Shape::Number),
    ("predicted_ltv", Shape::Number),
    ("num_items", Shape::Number),
    ("currency", Shape::Text),
    ("content_name", Shape::Text),
    ("content_category", Shape::Text),
    ("content_type", Shape::Text),
    ("order_id", Shape::Text),
    ("status", Shape::Text),
    ("search_string", Shape::Text),
    ("item_number", Shape::Text),
    ("content_ids", Shape::Texts),
    ("contents", Shape::Objects),
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
    for (name, value) in &event.data {
        if EVENT_LEVEL.contains(&name.as_str()) || is_nothing(value) {
            continue;
        }
        if out.contains_key(name) {
            note(name, "the event has a field of that name, which is sent");
            continue;
        }
        let shaped = match KNOWN.iter().find(|(known, _)| known == name) {
            Some((_, shape)) => shape.fit(value),
            None => Ok(value.clone()),
        };
        match shaped {
            Ok(value) => {
                out.insert(name.clone(), value);
            }
            Err(why) => note(name, why),
        }
    }
    out
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
            Self::Objects => match value {
                Value::Array(list) if list.iter().all(Value::is_object) => Ok(value.clone()),
                Value::Object(_) => Ok(vec![value.clone()].into()),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                    Err("is not a list of objects, which Meta wants here")
                }
            },
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
