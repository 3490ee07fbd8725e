//! `[alerts.channels.NAME]` and `[alerts.heartbeat]`: who is told, and how they are reached.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use url::{Host, Url};

use super::{Channel, HEARTBEAT, Heartbeat, Mail, MailTls, Shape, Target};
use crate::config::destinations::{allow_private, timeout};
use crate::config::endpoint::Judge;
use crate::config::findings::{Reading, shown};
use crate::config::raw::{Entry, Node, Value};
use crate::config::secret_source::{self, Ends, Form};
use crate::config::section::{Section, Whole, text_of};
use crate::config::snapshot::NetworkPolicy;
use crate::config::{fingerprint, kinds, proxies};
use crate::domain::alert::Severity;
use crate::domain::net;
use crate::domain::secret::{Redactor, Secret};
use crate::domain::time::DurationMs;

const TELEGRAM: &str = "https://api.telegram.org";
/// Pieces of an address that are shorter are no keys.
const KEY_BYTES_MIN: usize = 8;
const BEAT: DurationMs = DurationMs::from_secs(60);
const KINDS: [(&str, Kind); 3] = [("webhook", Kind::Webhook), ("telegram", Kind::Telegram), ("email", Kind::Email)];
const SHAPES: [(&str, Shape); 3] = [("json", Shape::Json), ("slack", Shape::Slack), ("discord", Shape::Discord)];
const TLS: [(&str, MailTls); 3] = [("starttls", MailTls::Starttls), ("tls", MailTls::Tls), ("none", MailTls::None)];
/// Keys that one kind has, to say where a stray one belongs.
const OWN: [(Kind, &[&str]); 3] = [
    (Kind::Webhook, &["url", "shape", "headers"]),
    (Kind::Telegram, &["bot_token", "chat_id", "base_url"]),
    (Kind::Email, &["host", "port", "tls", "username", "password", "from", "to"]),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Webhook,
    Telegram,
    Email,
}

pub(super) fn read(
    parent: &mut Section<'_>,
    listen: &[SocketAddr],
    cx: &mut Reading<'_>,
) -> BTreeMap<String, Arc<Channel>> {
    let section = parent.section("channels", cx);
    let mut all = BTreeMap::new();
    for entry in section.entries() {
        if let Some(channel) = one(entry, &section.key(&entry.key), listen, cx) {
            all.insert(channel.name.clone(), Arc::new(channel));
        }
    }
    all
}

fn one(entry: &Entry, path: &str, listen: &[SocketAddr], cx: &mut Reading<'_>) -> Option<Channel> {
    let (at, name) = (&entry.node.at, entry.key.as_str());
    let letters = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
    if name.is_empty() || name.len() > 64 || !name.bytes().all(letters) || name == HEARTBEAT {
        cx.problem(at, path, "is no name for a channel; write 1 to 64 of A-Z a-z 0-9 _ . - and not \"heartbeat\"");
    }
    let Value::Table(table) = &entry.node.value else {
        cx.wrong_type(at, path, &entry.node.value, &format!("a table: [{path}] with a kind"));
        return None;
    };
    let mut section = Section::new(table, path.to_owned(), at.clone());
    section.required("kind", "kind = one of \"webhook\", \"telegram\", \"email\"", cx);
    let kind = section.choice("kind", &KINDS, cx);
    let enabled = section.boolean("enabled", true, cx);
    let words = Severity::ALL.map(|severity| (severity.as_str(), severity));
    let min_severity = section.choice("min_severity", &words, cx).unwrap_or(Severity::Warning);
    let network = network(&mut section, cx);
    let judge = Judge { listen, network: &network };
    let target = match kind {
        Some(Kind::Webhook) => webhook(&mut section, &judge, cx),
        Some(Kind::Telegram) => telegram(&mut section, &judge, cx),
        Some(Kind::Email) => email(&mut section, &network, cx),
        None => None,
    };
    foreign(&mut section, kind, cx);
    section.finish(cx);
    let secrets = secrets(target.as_ref()?);
    let settings = format!("{:?}", (enabled, min_severity, &network, listen, &target));
    let mut hidden = secrets.clone();
    hidden.extend(proxies::secrets(&network.proxies));
    hidden.extend(target.as_ref().into_iter().flat_map(on_the_wire));
    Some(Channel {
        name: name.to_owned(),
        enabled,
        min_severity,
        fingerprint: fingerprint::of(&[settings], &hidden),
        redactor: Redactor::new(&hidden),
        network,
        listen: listen.to_vec(),
        target: target?,
    })
}

fn network(section: &mut Section<'_>, cx: &mut Reading<'_>) -> NetworkPolicy {
    let (timeout, allow_private) = (timeout(section, cx), allow_private(section, cx));
    NetworkPolicy { timeout, allow_private, proxies: proxies::read(section, cx) }
}

/// Keys of other kinds; where the kind is not known they are let pass, as nobody can tell.
fn foreign(section: &mut Section<'_>, kind: Option<Kind>, cx: &mut Reading<'_>) {
    for (owner, keys) in OWN {
        match kind {
            None => {
                for key in keys {
                    section.node(key, cx);
                }
            }
            Some(kind) if kind == owner => {}
            Some(_) => {
                let word = KINDS.iter().find(|(_, kind)| *kind == owner).map_or("", |(word, _)| word);
                let detail = |_: &str| format!("belongs to kind {word}, which this channel is not; remove it");
                section.refuse(keys, &detail, cx);
            }
        }
    }
}

fn webhook(section: &mut Section<'_>, judge: &Judge<'_>, cx: &mut Reading<'_>) -> Option<Target> {
    let shape = section.choice("shape", &SHAPES, cx).unwrap_or(Shape::Json);
    let headers = kinds::headers(section, cx);
    let url = secret_url(section, judge, cx)?;
    Some(Target::Webhook { url, shape, headers })
}

/// `url`, which is a secret as a whole: whoever knows that of a chat may write there.
fn secret_url(section: &mut Section<'_>, judge: &Judge<'_>, cx: &mut Reading<'_>) -> Option<Secret> {
    let node = section.required("url", "url = \"https://hooks.example.com/path\"", cx)?;
    let key = section.key("url");
    let secret = secret_source::read(node, &key, Form::Text, Ends::Never, cx)?.secret;
    kinds::url(secret.expose(), node, &key, judge, cx)?;
    Some(secret)
}

fn telegram(section: &mut Section<'_>, judge: &Judge<'_>, cx: &mut Reading<'_>) -> Option<Target> {
    let example = "bot_token = { credential = \"telegram\" } with the token that @BotFather gave you";
    let key = section.key("bot_token");
    let token = section.required("bot_token", example, cx).cloned();
    let token = token.and_then(|node| secret_source::read(&node, &key, Form::Token, Ends::Never, cx));
    let chat_id = section.required("chat_id", "chat_id = \"-1001234567890\" or \"@channelname\"", cx);
    let chat_id = chat_id.and_then(|node| match &node.value {
        Value::Integer(number) => Some(number.to_string()),
        Value::Text(_) | Value::Float(_) | Value::Bool(_) | Value::Time(_) | Value::List(_) | Value::Table(_) => {
            text_of(node, &section.key("chat_id"), cx).map(str::to_owned)
        }
    });
    let base_url = match section.node("base_url", cx) {
        None => Some(TELEGRAM.to_owned()),
        Some(node) => {
            let key = section.key("base_url");
            let text = text_of(node, &key, cx);
            text.and_then(|text| kinds::url(text, node, &key, judge, cx)).map(|url| url.to_string())
        }
    };
    Some(Target::Telegram {
        base_url: base_url?.trim_end_matches('/').to_owned(),
        token: token?.secret,
        chat_id: chat_id?,
    })
}

fn email(section: &mut Section<'_>, network: &NetworkPolicy, cx: &mut Reading<'_>) -> Option<Target> {
    let tls = section.choice("tls", &TLS, cx).unwrap_or(MailTls::Starttls);
    let usual = match tls {
        MailTls::Tls => 465,
        MailTls::Starttls => 587,
        MailTls::None => 25,
    };
    let port = section.whole("port", &Whole { bounds: 1..=65_535, default: usual }, cx);
    let host = host(section, network, cx);
    let login = login(section, cx);
    if tls == MailTls::None && login.is_some() {
        let detail = "would cross the network readable by anyone; write tls = \"starttls\" or \"tls\"";
        cx.problem(&section.place("password"), section.key("password"), detail);
    }
    let node = section.required("from", "from = \"postbackd@example.com\"", cx).cloned();
    let from = node.and_then(|node| mailbox(&node, &section.key("from"), cx));
    let to = recipients(section, cx);
    let port = u16::try_from(port).ok()?;
    if to.is_empty() {
        return None;
    }
    Some(Target::Email(Mail { host: host?, port, tls, login, from: from?, to }))
}

fn host(section: &mut Section<'_>, network: &NetworkPolicy, cx: &mut Reading<'_>) -> Option<String> {
    let node = section.required("host", "host = \"smtp.example.com\"", cx)?;
    let key = section.key("host");
    let text = text_of(node, &key, cx)?;
    let Ok(host) = Host::parse(text) else {
        let detail = format!("{} is no host; write one like \"smtp.example.com\", the port beside it", shown(text));
        cx.problem(&node.at, key, detail);
        return None;
    };
    let judged = match &host {
        Host::Domain(name) => net::refuse_host(&Host::Domain(name.as_str()), &network.allow_private),
        Host::Ipv4(address) => net::refuse((*address).into(), &network.allow_private),
        Host::Ipv6(address) => net::refuse((*address).into(), &network.allow_private),
    };
    if let Some(why) = judged {
        cx.problem(&node.at, key, format!("may not be {host}: {why}; if that is meant, add allow_private = true"));
    }
    Some(host.to_string().trim_matches(['[', ']']).to_owned())
}

fn login(section: &mut Section<'_>, cx: &mut Reading<'_>) -> Option<(Secret, Secret)> {
    let mut part = |key: &'static str, cx: &mut Reading<'_>| {
        let node = section.node(key, cx);
        let read = node.map(|node| secret_source::read(node, &section.key(key), Form::Text, Ends::Never, cx));
        read.map(|found| found.map_or_else(|| Secret::new(String::new()), |found| found.secret))
    };
    match (part("username", cx), part("password", cx)) {
        (Some(user), Some(password)) => Some((user, password)),
        (None, None) => None,
        (user, _) => {
            let (here, missing) = if user.is_some() { ("username", "password") } else { ("password", "username") };
            cx.problem(&section.place(here), section.key(missing), format!("is missing beside {here}; add it"));
            None
        }
    }
}

fn recipients(section: &mut Section<'_>, cx: &mut Reading<'_>) -> Vec<String> {
    let Some(node) = section.required("to", "to = \"you@example.com\" or a list", cx) else { return Vec::new() };
    let key = section.key("to");
    match &node.value {
        Value::List(items) if items.is_empty() => {
            cx.problem(&node.at, key, "is an empty list; write at least one address");
            Vec::new()
        }
        Value::List(items) => {
            let numbered = items.iter().enumerate();
            numbered.filter_map(|(index, item)| mailbox(item, &format!("{key}[{index}]"), cx)).collect()
        }
        Value::Text(_) | Value::Integer(_) | Value::Float(_) | Value::Bool(_) | Value::Time(_) | Value::Table(_) => {
            mailbox(node, &key, cx).into_iter().collect()
        }
    }
}

fn mailbox(node: &Node, key: &str, cx: &mut Reading<'_>) -> Option<String> {
    let text = text_of(node, key, cx)?;
    let plain =
        |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_graphic() && !b"<>()[],;:\\\"@".contains(&b));
    if text.split_once('@').is_some_and(|(user, domain)| plain(user) && plain(domain)) {
        return Some(text.to_owned());
    }
    let detail = format!("{} is no address; write one like \"you@example.com\", without a name", shown(text));
    cx.problem(&node.at, key, detail);
    None
}

/// What must never be shown.
fn secrets(target: &Target) -> Vec<Secret> {
    match target {
        Target::Webhook { url, headers, .. } => {
            std::iter::once(url).chain(headers.iter().map(|(_, value)| value)).cloned().collect()
        }
        Target::Telegram { token, .. } => vec![token.clone()],
        Target::Email(mail) => {
            mail.login.iter().flat_map(|(user, password)| [user.clone(), password.clone()]).collect()
        }
    }
}

/// What whoever repeats a request or a login would show of the secrets.
fn on_the_wire(target: &Target) -> Vec<Secret> {
    match target {
        Target::Webhook { url, .. } => parts(url),
        Target::Email(Mail { login: Some((user, password)), .. }) => {
            let (user, password) = (user.expose(), password.expose());
            let words = [password.to_owned(), user.to_owned(), format!("\0{user}\0{password}")];
            words.map(|word| Secret::new(BASE64_STANDARD.encode(word))).into()
        }
        Target::Telegram { .. } | Target::Email(_) => Vec::new(),
    }
}

/// A URL without its host, whole and in pieces: short ones are words, not keys.
fn parts(url: &Secret) -> Vec<Secret> {
    let Ok(url) = Url::parse(url.expose()) else { return Vec::new() };
    let whole = [url.path()].into_iter().chain(url.query());
    let pieces =
        whole.clone().flat_map(|whole| whole.split(['/', '&', '='])).filter(|piece| piece.len() >= KEY_BYTES_MIN);
    whole.chain(pieces).map(|part| Secret::new(part.to_owned())).collect()
}

/// `[alerts.heartbeat]`
pub(super) fn heartbeat(parent: &mut Section<'_>, listen: &[SocketAddr], cx: &mut Reading<'_>) -> Option<Heartbeat> {
    parent.node(HEARTBEAT, cx)?;
    let mut section = parent.section(HEARTBEAT, cx);
    let every = section.span("every", BEAT, cx);
    let network = network(&mut section, cx);
    let judge = Judge { listen, network: &network };
    let url = secret_url(&mut section, &judge, cx);
    section.finish(cx);
    let url = url?;
    let mut hidden = vec![url.clone()];
    hidden.extend(parts(&url));
    hidden.extend(proxies::secrets(&network.proxies));
    let channel = Channel {
        name: HEARTBEAT.to_owned(),
        enabled: true,
        min_severity: Severity::Critical,
        fingerprint: fingerprint::of(&[format!("{network:?}{listen:?}")], &hidden),
        redactor: Redactor::new(&hidden),
        network,
        listen: listen.to_vec(),
        target: Target::Webhook { url, shape: Shape::Json, headers: Vec::new() },
    };
    Some(Heartbeat { every, channel: Arc::new(channel) })
}
