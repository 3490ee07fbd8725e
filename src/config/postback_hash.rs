//! `hash` of a source: how its network signs a postback.

use super::findings::{Reading, shown};
use super::raw::{Node, Value};
use super::secret_source::{self, Ends, Form};
use super::section::Section;
use crate::domain::secret::Secret;
use crate::inbound::TOKEN;
use crate::inbound::signature::{self, HashCheck, KINDS, Kind, Part};

const EXAMPLE: &str =
    "{ param = \"hash\", secret = { env = \"NAME\" }, kind = \"md5\", over = [\"clickid\", \"payout\", \"{secret}\"] }";

pub(super) fn read(parent: &mut Section<'_>, cx: &mut Reading<'_>) -> Option<HashCheck> {
    let node = parent.node("hash", cx)?;
    let key = parent.key("hash");
    let Value::Table(table) = &node.value else {
        cx.wrong_type(&node.at, key, &node.value, EXAMPLE);
        return None;
    };
    let mut section = Section::new(table, key, node.at.clone());
    let parameter = section.required("param", "param = \"hash\" (their parameter that holds the hash)", cx);
    let parameter = parameter.and_then(|_| parameter_name(&mut section, cx));
    let secret = section.required("secret", "secret = { env = \"NAME\" } (what the network shares with you)", cx);
    let key = section.key("secret");
    let secret: Option<Secret> =
        secret.and_then(|node| secret_source::read(node, &key, Form::Text, Ends::Never, cx)).map(|found| found.secret);
    let kind = section.required("kind", "kind = \"md5\" (or sha256, hmac-sha256 …, as the network says)", cx);
    let kind = kind.and_then(|_| section.choice("kind", &KINDS, cx));
    let over =
        section.required("over", "over = [\"clickid\", \"payout\", \"{secret}\"] (what is hashed, in order)", cx);
    let over = over.and_then(|node| parts(node, &section.key("over"), cx));
    section.finish(cx);
    if let (Some(kind), Some(over)) = (kind, &over) {
        judge(kind, over, parameter.as_deref(), &section, cx);
    }
    Some(HashCheck { parameter: parameter?, secret: secret?, kind: kind?, over: over? })
}

fn parameter_name(section: &mut Section<'_>, cx: &mut Reading<'_>) -> Option<String> {
    let name = section.text("param", cx)?;
    if name == TOKEN {
        let detail = "\"token\" is the parameter of the source's own token; the hash stands in another one";
        cx.problem(&section.place("param"), section.key("param"), detail);
    }
    Some(name.to_owned())
}

/// `None` where an item is no text or no template, with the problem noted.
fn parts(node: &Node, key: &str, cx: &mut Reading<'_>) -> Option<Vec<Part>> {
    let wanted = "a list of parameters and texts in order, like [\"clickid\", \"payout\", \"{secret}\"]";
    let mut all = Some(Vec::new());
    for (text, node) in super::postback::texts(node, key, wanted, cx)? {
        match signature::parts(text) {
            Ok(parts) => all = all.map(|known| known.into_iter().chain(parts).collect()),
            Err(why) => {
                cx.problem(&node.at, key, format!("{} {why}", shown(text)));
                all = None;
            }
        }
    }
    all.filter(|all| !all.is_empty())
}

/// What would let anybody make the hash, or nobody.
fn judge(kind: Kind, over: &[Part], parameter: Option<&str>, section: &Section<'_>, cx: &mut Reading<'_>) {
    let (place, key) = (section.place("over"), section.key("over"));
    if !kind.is_keyed() && !over.contains(&Part::Secret) {
        let detail = "has no {secret}, so that anybody could make the hash; put it where the network does, or write an hmac kind";
        cx.problem(&place, key.as_str(), detail);
    }
    let names = |wanted: &str| over.iter().any(|part| matches!(part, Part::Parameter(name) if name == wanted));
    if parameter.is_some_and(names) {
        cx.problem(&place, key.as_str(), "holds the hash itself; leave it out");
    }
    if names(TOKEN) {
        cx.problem(&place, key.as_str(), "holds the token, which is no parameter of the event; leave it out");
    }
    if !over.iter().any(|part| matches!(part, Part::Parameter(_))) {
        cx.problem(
            &place,
            key,
            "holds no parameter, so that every postback would have one hash; add what the network hashes",
        );
    }
}
