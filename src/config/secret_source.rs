//! Where secrets are kept: in the configuration itself, in the environment, in a file, or with systemd's credentials.
//!
//! A secret is read once, when the configuration is loaded. Error texts name the place and the remedy, never the value.

use std::path::{Path, PathBuf};

use super::files::{self, SECRET_BYTES};
use super::findings::{Reading, shown};
use super::raw::{Node, Value};
use super::section::{Section, text_of};
use crate::domain::secret::Secret;
use crate::domain::time::UnixMs;

/// What a secret may look like.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// It stands in an `Authorization` header: visible ASCII without spaces.
    Token,
    /// Any text without NUL.
    Text,
}

/// A secret as it was found.
pub(crate) struct Found {
    pub(crate) secret: Secret,
    /// Only where [`Ends::May`].
    pub(crate) until: Option<UnixMs>,
}

/// Whether `until` may stand beside the secret.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ends {
    May,
    Never,
}

/// What to write for a secret, for error texts.
const WANTED: &str =
    "a text, or one of { env = \"NAME\" }, { file = \"PATH\" }, { credential = \"NAME\" }, { value = \"TEXT\" }";

/// Reads the secret in `node`; `None` where that is not possible, with the problem noted.
pub(crate) fn read(node: &Node, key: &str, form: Form, ends: Ends, cx: &mut Reading<'_>) -> Option<Found> {
    match &node.value {
        Value::Text(text) => {
            cx.plain_secret(&node.at.file);
            let secret = check(text, form).map_err(|why| cx.problem(&node.at, key, why)).ok()?;
            Some(Found { secret, until: None })
        }
        Value::Table(table) => {
            let section = Section::new(table, key.to_owned(), node.at.clone());
            from_table(section, form, ends, cx)
        }
        Value::Integer(_) | Value::Float(_) | Value::Bool(_) | Value::Time(_) | Value::List(_) => {
            cx.wrong_type(&node.at, key, &node.value, WANTED);
            None
        }
    }
}

/// Reads one secret or a list of them, in order.
pub(crate) fn read_list(node: &Node, key: &str, form: Form, ends: Ends, cx: &mut Reading<'_>) -> Vec<(Found, Node)> {
    let Value::List(items) = &node.value else {
        return read(node, key, form, ends, cx).map(|found| (found, node.clone())).into_iter().collect();
    };
    if items.is_empty() {
        cx.problem(&node.at, key, format!("is an empty list; write {WANTED}, or a list of these"));
    }
    let mut all = Vec::new();
    for (index, item) in items.iter().enumerate() {
        all.extend(read(item, &format!("{key}[{index}]"), form, ends, cx).map(|found| (found, item.clone())));
    }
    all
}

fn from_table(mut section: Section<'_>, form: Form, ends: Ends, cx: &mut Reading<'_>) -> Option<Found> {
    let (at, key) = (section.at().clone(), section.path().to_owned());
    let sources = ["value", "env", "file", "credential"];
    let given: Vec<(&str, &Node)> =
        sources.into_iter().filter_map(|name| section.node(name, cx).map(|node| (name, node))).collect();
    let until = match ends {
        Ends::May => read_until(&mut section, cx),
        Ends::Never => {
            let text = "belongs to the token of a source only; remove it";
            section.refuse(&["until"], &|_| text.to_owned(), cx);
            None
        }
    };
    section.finish(cx);
    let [(source, node)] = given.as_slice() else {
        let what = if given.is_empty() { "says no place to read it from" } else { "names more than one place" };
        cx.problem(&at, key, format!("{what}; write {WANTED}"));
        return None;
    };
    let text = text_of(node, &format!("{key}.{source}"), cx)?;
    let read = match *source {
        "env" => from_env(text, cx),
        "file" => from_file(&cx.dir.join(text), cx).map(|(text, warning)| {
            if let Some(warning) = warning {
                cx.warn(&at, key.as_str(), warning);
            }
            text
        }),
        "credential" => from_credential(text, cx),
        _ => {
            cx.plain_secret(&at.file);
            Ok(text.to_owned())
        }
    };
    let place = match *source {
        "env" => format!("the environment variable {}", shown(text)),
        "file" => format!("the file {}", shown(text)),
        "credential" => format!("the credential {}", shown(text)),
        _ => String::new(),
    };
    let told = |why: String| if place.is_empty() { why } else { format!("{place} {why}") };
    match read.and_then(|text| check(&text, form)) {
        Ok(secret) => Some(Found { secret, until }),
        Err(why) => {
            cx.problem(&at, key, told(why));
            None
        }
    }
}

fn read_until(section: &mut Section<'_>, cx: &mut Reading<'_>) -> Option<UnixMs> {
    let node = section.node("until", cx)?;
    let key = section.key("until");
    let text = match &node.value {
        Value::Text(text) | Value::Time(text) => text,
        Value::Integer(_) | Value::Float(_) | Value::Bool(_) | Value::List(_) | Value::Table(_) => {
            cx.wrong_type(&node.at, key, &node.value, "a time like \"2027-01-31T00:00:00Z\"");
            return None;
        }
    };
    let time = UnixMs::parse_rfc3339(text);
    match time {
        None => {
            let wanted = "write RFC 3339 with an offset, like \"2027-01-31T00:00:00Z\"";
            cx.problem(&node.at, key, format!("{} is not a time; {wanted}", shown(text)));
        }
        Some(end) if end <= cx.now => {
            cx.warn(&node.at, key, "has passed: this token is refused; remove it or write a later time");
        }
        Some(_) => {}
    }
    time
}

fn from_env(name: &str, cx: &Reading<'_>) -> Result<String, String> {
    let value =
        (cx.variable)(name).ok_or("is not set; set it for this process (systemd: Environment= or EnvironmentFile=)")?;
    let text = value.into_string().map_err(|_| "is not UTF-8; set it to plain text")?;
    Ok(trimmed(&text))
}

/// The text of a secret's file, and a warning where everybody may read it.
fn from_file(path: &Path, cx: &mut Reading<'_>) -> Result<(String, Option<String>), String> {
    cx.inputs.secrets.insert(path.to_path_buf());
    let contents = files::read(path, SECRET_BYTES)?;
    let text = String::from_utf8(contents.bytes).map_err(|_| "is not UTF-8 text; write the secret as plain text")?;
    let open = contents.mode & 0o004 != 0;
    let warning = open.then(|| format!("{} may be read by every user; run chmod 600 on it", path.display()));
    Ok((trimmed(&text), warning))
}

fn from_credential(name: &str, cx: &mut Reading<'_>) -> Result<String, String> {
    if name.contains('/') || name == "." || name == ".." {
        return Err("is not a credential's name; write the name in LoadCredential=NAME:PATH of the unit".to_owned());
    }
    let dir = (cx.variable)("CREDENTIALS_DIRECTORY").ok_or(
        "cannot be read: CREDENTIALS_DIRECTORY is not set; systemd sets it for a unit with LoadCredential=; to run \
         postbackd by hand, set it to the directory of the credential files",
    )?;
    from_file(&PathBuf::from(dir).join(name), cx).map(|(text, _)| text)
}

/// Without the line ends that editors and `echo` put after a secret.
fn trimmed(text: &str) -> String {
    text.trim_end_matches(['\r', '\n']).to_owned()
}

fn check(text: &str, form: Form) -> Result<Secret, String> {
    if text.is_empty() {
        return Err("is empty; put the secret there".to_owned());
    }
    if text.contains('\0') {
        return Err("holds a NUL character; write the secret as plain text".to_owned());
    }
    match form {
        Form::Text => Ok(Secret::new(text.to_owned())),
        Form::Token if text.chars().all(|letter| letter.is_ascii_graphic()) => Ok(Secret::new(text.to_owned())),
        Form::Token => {
            Err("holds a space or another character that cannot stand in a token; write visible ASCII only".to_owned())
        }
    }
}
