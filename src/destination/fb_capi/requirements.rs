//! What Meta asks of an event as a whole (platforms.md 1.2): what it refuses for certain makes the event unsendable, with the
//! field's name; what it asks for and may take without is a warning, since the answer decides.

use serde_json::{Map, Value};

use super::event::invalid;
use crate::destination::{LeftOut, Outgoing, Unsendable};

/// Elements of `app_data.extinfo` (100/2804043).
const EXTINFO_LEN: usize = 16;

/// The event as it was made so far.
#[derive(Clone, Copy)]
pub(super) struct Made<'a> {
    pub delivery: &'a Outgoing<'a>,
    pub action_source: &'a str,
    pub user_data: &'a Map<String, Value>,
    pub custom_data: &'a Map<String, Value>,
}

/// Refuses what Meta would refuse, and adds to `left_out` what will be missed.
pub(super) fn check(made: Made<'_>, left_out: &mut Vec<LeftOut>) -> Result<(), Unsendable> {
    money(made, left_out)?;
    app(made, left_out)?;
    messaging(made, left_out)?;
    website(made, left_out);
    Ok(())
}

/// 100/2804009: a purchase without value; 100/2804023: a value without currency.
fn money(made: Made<'_>, left_out: &[LeftOut]) -> Result<(), Unsendable> {
    let has = |field: &str| made.custom_data.contains_key(field);
    let missing = |field: &str, refused: &str| {
        let key = format!("data.{field}");
        let bad = left_out.iter().find(|left| left.field == key);
        invalid(match bad {
            Some(bad) => format!("{key} {}; {refused}; send {field} with the event", bad.why),
            None => format!("{field} is missing; {refused}; send it with the event"),
        })
    };
    if made.delivery.target.as_str() == "Purchase" && !has("value") {
        return Err(missing("value", "Meta refuses a Purchase without a value"));
    }
    if has("value") && !has("currency") {
        return Err(missing("currency", "Meta refuses a value without a currency"));
    }
    Ok(())
}

/// `app_data` of an event with `action_source` `app`; its `extinfo` must fit wherever it stands.
fn app(made: Made<'_>, left_out: &mut Vec<LeftOut>) -> Result<(), Unsendable> {
    let app_data = made.delivery.event.data.get("app_data").filter(|value| !value.is_null());
    let from_app = made.action_source == "app";
    match app_data.map(|data| data.get("extinfo").filter(|value| !value.is_null())) {
        Some(Some(extinfo)) => check_extinfo(extinfo)?,
        Some(None) | None if from_app => {
            return Err(invalid(format!(
                "data.app_data.extinfo is missing; Meta refuses events of an app without it; send a list of {EXTINFO_LEN} \
                 texts that begins with \"i2\" (iOS) or \"a2\" (Android)"
            )));
        }
        Some(None) | None => {}
    }
    for name in ["advertiser_tracking_enabled", "application_tracking_enabled"] {
        if from_app && app_data.and_then(|data| data.get(name)).is_none_or(Value::is_null) {
            miss(
                left_out,
                &format!("data.app_data.{name}"),
                "is missing; Meta asks for 0 or 1 where action_source is app",
            );
        }
    }
    Ok(())
}

fn check_extinfo(extinfo: &Value) -> Result<(), Unsendable> {
    let list = extinfo.as_array().map(Vec::as_slice).unwrap_or_default();
    let known = list.first().and_then(Value::as_str).is_some_and(|version| matches!(version, "i2" | "a2"));
    if list.len() == EXTINFO_LEN && known {
        return Ok(());
    }
    Err(invalid(format!(
        "data.app_data.extinfo is no list of {EXTINFO_LEN} elements that begins with \"i2\" (iOS) or \"a2\" (Android), and \
         Meta refuses any other; fill what is not known with empty texts"
    )))
}

/// Events out of a chat (100/2804069, 100/2804116).
fn messaging(made: Made<'_>, left_out: &mut Vec<LeftOut>) -> Result<(), Unsendable> {
    if made.action_source != "business_messaging" {
        return Ok(());
    }
    if made.delivery.event.field("data.messaging_channel").is_none() {
        return Err(invalid(
            "data.messaging_channel is missing; Meta refuses events of action_source business_messaging without it; send \
             whatsapp, messenger or instagram"
                .to_owned(),
        ));
    }
    let ids =
        ["ctwa_clid", "page_id", "page_scoped_user_id", "ig_account_id", "ig_sid", "whatsapp_business_account_id"];
    if !ids.iter().any(|id| made.user_data.contains_key(*id)) {
        miss(left_out, "user.ctwa_clid", "is missing, and so is user.page_id; Meta finds the chat's ad by them");
    }
    Ok(())
}

/// Asked for with `action_source` `website`, and sent without all the same (SPEC 8.2).
fn website(made: Made<'_>, left_out: &mut Vec<LeftOut>) {
    if made.action_source != "website" {
        return;
    }
    let why = "is missing; Meta asks for it where action_source is website";
    if !made.user_data.contains_key("client_user_agent") {
        miss(left_out, "user.user_agent", why);
    }
    if made.delivery.event.field("page.url").is_none() {
        miss(left_out, "page.url", why);
    }
}

fn miss(left_out: &mut Vec<LeftOut>, field: &str, why: &str) {
    left_out.push(LeftOut { field: field.to_owned(), why: why.to_owned() });
}
