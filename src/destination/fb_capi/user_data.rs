//! `user_data`: who it was, as Meta may know it.
//!
//! Members of the event's `user` are taken by our name or by Meta's own short key, as one text or a list; a list stays a
//! list, without doubles. What cannot be normalised is left out with a reason, and the event goes on with the rest.

use std::net::IpAddr;

use serde_json::{Map, Value};

use super::event::invalid;
use crate::destination::hashing::{self, Field};
use crate::destination::{LeftOut, Unsendable};
use crate::domain::event::{Event, scalar_text};

/// How a field travels.
#[derive(Clone, Copy)]
enum Form {
    Hashed(Field),
    /// As it is.
    Plain,
    /// As it is, if it is an IP address.
    Address,
}

/// Meta's key, our name for it, its form.
const FIELDS: [(&str, &str, Form); 32] = [
    ("em", "email", Form::Hashed(Field::Email)),
    ("ph", "phone", Form::Hashed(Field::Phone)),
    ("fn", "first_name", Form::Hashed(Field::Name)),
    ("ln", "last_name", Form::Hashed(Field::Name)),
    ("ge", "gender", Form::Hashed(Field::Gender)),
    ("db", "date_of_birth", Form::Hashed(Field::DateOfBirth)),
    ("ct", "city", Form::Hashed(Field::City)),
    ("st", "state", Form::Hashed(Field::State)),
    ("zp", "zip", Form::Hashed(Field::Zip)),
    ("country", "country", Form::Hashed(Field::Country)),
    ("external_id", "external_id", Form::Hashed(Field::ExternalId)),
    ("f5first", "f5first", Form::Hashed(Field::NameStart)),
    ("f5last", "f5last", Form::Hashed(Field::NameStart)),
    ("fi", "fi", Form::Hashed(Field::Initial)),
    ("dobd", "dobd", Form::Hashed(Field::BirthDay)),
    ("dobm", "dobm", Form::Hashed(Field::BirthMonth)),
    ("doby", "doby", Form::Hashed(Field::BirthYear)),
    ("client_ip_address", "ip", Form::Address),
    ("client_user_agent", "user_agent", Form::Plain),
    ("fbc", "fbc", Form::Plain),
    ("fbp", "fbp", Form::Plain),
    ("lead_id", "lead_id", Form::Plain),
    ("subscription_id", "subscription_id", Form::Plain),
    ("fb_login_id", "fb_login_id", Form::Plain),
    ("madid", "madid", Form::Plain),
    ("anon_id", "anon_id", Form::Plain),
    ("ctwa_clid", "ctwa_clid", Form::Plain),
    ("page_id", "page_id", Form::Plain),
    ("page_scoped_user_id", "page_scoped_user_id", Form::Plain),
    ("ig_account_id", "ig_account_id", Form::Plain),
    ("ig_sid", "ig_sid", Form::Plain),
    ("whatsapp_business_account_id", "whatsapp_business_account_id", Form::Plain),
];

/// Known members of `user` (SPEC 3) that are other platforms' own: a cookie of `TikTok`, a client of Google Analytics. That Meta does
/// not get them is no loss worth a warning on every event.
const FOREIGN: [&str; 2] = ["ttp", "client_id"];

/// Keys that Meta refuses when there are no others (100/2804050): each set, and any part of it, is shared by too many
/// people.
const TOO_BROAD: [&[&str]; 3] =
    [&["country", "ct", "st", "zp", "ge", "client_user_agent"], &["db", "client_user_agent"], &["fn", "ge"]];

/// Keys that name a business, not a person: alone they find nobody.
const BUSINESS: [&str; 3] = ["page_id", "ig_account_id", "whatsapp_business_account_id"];

/// Builds `user_data` and notes what did not make it.
pub(super) fn build(event: &Event, external_id_from_uid: bool, left_out: &mut Vec<LeftOut>) -> Map<String, Value> {
    let mut out = Map::new();
    for (key, ours, form) in FIELDS {
        let names = if key == ours { &[ours][..] } else { &[ours, key] };
        let found = names.iter().find_map(|name| {
            let value = event.user.get(*name)?;
            (!is_empty(value)).then_some((*name, value))
        });
        if let Some((name, value)) = found
            && let Some(value) = field(&format!("user.{name}"), value, form, left_out)
        {
            out.insert(key.to_owned(), value);
        }
    }
    if external_id_from_uid
        && !out.contains_key("external_id")
        && let Some(uid) = event.uid.as_deref().map(Value::from)
        && let Some(value) = field("uid", &uid, Form::Hashed(Field::ExternalId), left_out)
    {
        out.insert("external_id".to_owned(), value);
    }
    if !out.contains_key("fbc")
        && let Some(fbc) = fbc(event, left_out)
    {
        out.insert("fbc".to_owned(), fbc.into());
    }
    for (name, value) in event.user.iter() {
        let known = FIELDS.iter().any(|(key, ours, _)| name == key || name == ours) || FOREIGN.contains(&name.as_str());
        if !is_empty(value) && !known {
            note(left_out, &format!("user.{name}"), "Meta has no field for it");
        }
    }
    out
}

/// Whether somebody can be found by these keys.
pub(super) fn check_usable(user_data: &Map<String, Value>) -> Result<(), Unsendable> {
    let advice = "send user.email, user.phone, user.external_id, user.fbp, click.fbclid or a uid";
    let mut people = user_data.keys().map(String::as_str).filter(|key| !BUSINESS.contains(key)).peekable();
    if people.peek().is_none() {
        return Err(invalid(format!("user holds no usable identifier; {advice}")));
    }
    let keys: Vec<&str> = people.collect();
    if TOO_BROAD.iter().any(|set| keys.iter().all(|key| set.contains(key))) {
        return Err(invalid(format!(
            "user holds only {}, which fits too many people for Meta; {advice}",
            keys.join(", ")
        )));
    }
    Ok(())
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.trim().is_empty(),
        Value::Array(list) => list.iter().all(is_empty),
        Value::Bool(_) | Value::Number(_) | Value::Object(_) => false,
    }
}

/// One field from one value or a list; `None` where nothing usable is in it.
fn field(name: &str, value: &Value, form: Form, left_out: &mut Vec<LeftOut>) -> Option<Value> {
    let Value::Array(list) = value else { return one(name, value, form, left_out).map(Value::from) };
    let mut found: Vec<String> = Vec::new();
    for value in list.iter().filter(|value| !is_empty(value)) {
        if let Some(text) = one(name, value, form, left_out).filter(|text| !found.contains(text)) {
            found.push(text);
        }
    }
    match form {
        Form::Hashed(_) => (!found.is_empty()).then(|| found.into()),
        Form::Plain | Form::Address => {
            if found.len() > 1 {
                note(left_out, name, "holds several values; Meta takes one here and gets the first");
            }
            found.into_iter().next().map(Value::from)
        }
    }
}

fn one(name: &str, value: &Value, form: Form, left_out: &mut Vec<LeftOut>) -> Option<String> {
    let text = match value {
        Value::String(_) | Value::Number(_) => scalar_text(value)?,
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => {
            note(left_out, name, "is neither text nor number");
            return None;
        }
    };
    let made = match form {
        Form::Hashed(field) => hashing::digest(field, &text),
        Form::Plain => Ok(text.trim().to_owned()),
        Form::Address => match text.trim().parse::<IpAddr>() {
            Ok(address) => Ok(address.to_string()),
            Err(_) => Err("is not an IP address"),
        },
    };
    made.map_err(|why| note(left_out, name, why)).ok()
}

fn note(left_out: &mut Vec<LeftOut>, field: &str, why: &str) {
    left_out.push(LeftOut { field: field.to_owned(), why: why.to_owned() });
}

/// `fb.1.{ms of the click}.{fbclid}`, as a server makes it (platforms.md 1.4). The click's own time, else the event's:
/// both are the same on every attempt. The click id is case-sensitive and stays as it is.
fn fbc(event: &Event, left_out: &mut Vec<LeftOut>) -> Option<String> {
    let fbclid = event.field("click.fbclid")?;
    let occurred = event.occurred_at.time().0;
    let clicked = match event.field("click.clicked_at_ms") {
        None => occurred,
        Some(text) => text.parse().unwrap_or_else(|_| {
            note(left_out, "click.clicked_at_ms", "is not a whole number of milliseconds; the event's time stands in");
            occurred
        }),
    };
    Some(format!("fb.1.{clicked}.{fbclid}"))
}
