//! What of a request and an answer may be shown. Every kind makes its requests through [`finish`], so that none can
//! forget what must not be seen; every text of a stranger passes through [`excerpt`].

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::PreparedRequest;
use crate::domain::delivery::RequestView;
use crate::domain::limits::{RESPONSE_BODY_BYTES, RESPONSE_EXCERPT_BYTES, RESPONSE_HEADER_BYTES};
use crate::domain::message::printable;
use crate::domain::secret::{REDACTED, Redactor, Secret};
use crate::env::transport::{Answer, Method, Request};

/// What a value is percent-encoded to in a URL: all but the unreserved letters of RFC 3986, a space as `%20`.
pub const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Bytes of an answer that a sentence quotes; the whole excerpt stands elsewhere.
const QUOTE_BYTES: usize = 240;

/// `user-agent` of every request.
pub const USER_AGENT: &str = concat!("postbackd/", env!("CARGO_PKG_VERSION"));

/// One header with whether people may see its value.
#[derive(Clone)]
pub struct Header {
    pub name: String,
    pub value: String,
    pub shown: Shown,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shown {
    /// Known secrets in it are replaced.
    Cleaned,
    /// Never: configured values and signatures.
    Hidden,
}

impl Header {
    pub fn open(name: &str, value: impl Into<String>) -> Self {
        Self { name: name.to_owned(), value: value.into(), shown: Shown::Cleaned }
    }

    pub fn hidden(name: &str, value: impl Into<String>) -> Self {
        Self { name: name.to_owned(), value: value.into(), shown: Shown::Hidden }
    }
}

/// The parts of a request before it is finished.
pub struct Draft {
    pub method: Method,
    pub url: url::Url,
    pub headers: Vec<Header>,
    pub body: Vec<u8>,
}

/// What of a request stands in its view otherwise than on the wire, known secrets apart.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Sight {
    /// `None`: as it is sent.
    pub url: Option<String>,
    /// `None`: as it is sent.
    pub body: Option<String>,
}

/// The request with what its view needs.
pub fn finish(draft: Draft, sight: Sight) -> PreparedRequest {
    let (headers, shown) = draft.headers.into_iter().map(|header| ((header.name, header.value), header.shown)).unzip();
    PreparedRequest {
        request: Request { method: draft.method, url: draft.url, headers, body: draft.body },
        sight,
        shown,
    }
}

impl PreparedRequest {
    /// The request as people may see it. It is made when somebody looks: hardly any request is looked at.
    pub fn view(&self, redactor: &Redactor) -> RequestView {
        let Request { method, url, headers, body } = &self.request;
        let headers = headers.iter().zip(&self.shown).map(|((name, value), shown)| {
            let value = match shown {
                Shown::Cleaned => redactor.redact(value),
                Shown::Hidden => REDACTED.to_owned(),
            };
            (name.clone(), value)
        });
        RequestView {
            method: method.as_str().to_owned(),
            url: redactor.redact(self.sight.url.as_deref().unwrap_or(url.as_str())),
            headers: headers.collect(),
            body: match &self.sight.body {
                Some(body) => redactor.redact(body),
                None => redactor.redact(&String::from_utf8_lossy(body)),
            },
        }
    }
}

/// A redactor that also knows the forms a receiver may echo a secret in: percent-encoded as we write it, as forms write
/// it, in lower case hex, and as JSON with escaped slashes. Of a header value like `Bearer x` it also knows `x`, and of a
/// URL what looks like a key in it.
pub fn redactor<'a>(secrets: impl IntoIterator<Item = &'a Secret>) -> Redactor {
    let mut forms = Vec::new();
    for secret in secrets {
        let mut add = |text: &str| {
            let encoded = utf8_percent_encode(text, ENCODED).to_string();
            let form = encoded.replace("%20", "+");
            for form in [text.replace('/', "\\/"), lower_hex(&encoded), lower_hex(&form), encoded, form] {
                forms.push(Secret::new(form));
            }
            forms.push(Secret::new(text.to_owned()));
        };
        let text = secret.expose();
        add(text);
        for part in parts_of_url(text).chain(text.strip_prefix("whsec_")) {
            add(part);
        }
        match text.rsplit_once(' ') {
            Some((_, word)) if word.len() >= 8 => add(word),
            _ => {}
        }
    }
    Redactor::new(&forms)
}

/// Values of a URL's query and parts of its path that are long enough for a key; nothing where the text is no URL.
fn parts_of_url(text: &str) -> impl Iterator<Item = &str> {
    let after = text.split_once("://").and_then(|(_, rest)| rest.split_once('/')).map_or("", |(_, after)| after);
    let (path, query) = after.split_once('?').unwrap_or((after, ""));
    let values = query.split('&').filter_map(|pair| pair.split_once('=')).map(|(_, value)| value);
    values.filter(|value| value.len() >= 8).chain(path.split('/').filter(|part| part.len() >= 16))
}

/// `%2F` as `%2f`; every other letter stays.
fn lower_hex(encoded: &str) -> String {
    let mut left = 0_u8;
    encoded
        .chars()
        .map(|letter| {
            let in_code = left > 0;
            left = if letter == '%' { 2 } else { left.saturating_sub(1) };
            if in_code { letter.to_ascii_lowercase() } else { letter }
        })
        .collect()
}

/// The beginning of an answer's body as one printable line without known secrets; empty where there is none. Secrets are
/// replaced before the cut, so that none is cut in half and passes; nor does one that the bound of the body cut in half.
pub fn excerpt(answer: &Answer, redactor: &Redactor) -> String {
    one_line(&clean_body(&answer.body, redactor))
}

/// The beginning of a body as it may be stored and shown, without known secrets.
pub fn body_shown(body: &[u8], redactor: &Redactor) -> String {
    printable(clean_body(body, redactor).as_bytes(), RESPONSE_EXCERPT_BYTES)
}

fn clean_body(body: &[u8], redactor: &Redactor) -> String {
    let text = String::from_utf8_lossy(body);
    if body.len() < RESPONSE_BODY_BYTES { redactor.redact(&text) } else { redactor.redact_beginning(&text) }
}

/// Any text of a stranger, treated alike.
pub fn line(text: &str, redactor: &Redactor) -> String {
    one_line(&redactor.redact(text))
}

/// The same of a header's value, which may have been cut where it was read.
pub fn header_line(value: &str, redactor: &Redactor) -> String {
    // A cut between letters leaves up to three bytes of the bound unused.
    let whole = value.len() < RESPONSE_HEADER_BYTES - 3;
    one_line(&if whole { redactor.redact(value) } else { redactor.redact_beginning(value) })
}

fn one_line(clean: &str) -> String {
    let words: Vec<&str> = clean.split_whitespace().collect();
    printable(words.join(" ").as_bytes(), QUOTE_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    // Row 54.
    #[test]
    fn an_echoed_secret_is_replaced_in_every_form() {
        let secrets = [Secret::new("Bearer a/b c-d~1é".to_owned()), Secret::new("tok.en_x-1/y".to_owned())];
        let redactor = redactor(&secrets);
        for echoed in [
            "tok.en_x-1/y",
            "tok.en_x-1%2Fy",
            "tok.en_x-1%2fy",
            r"tok.en_x-1\/y",
            "Bearer a/b c-d~1é",
            "Bearer%20a%2Fb%20c-d~1%C3%A9",
            "Bearer+a%2fb+c-d~1%c3%a9",
        ] {
            assert_eq!(redactor.redact(&format!("<{echoed}>")), "<[redacted]>", "{echoed}");
        }
        let bearer = super::redactor(&[Secret::new("Bearer 0123456789".to_owned())]);
        assert_eq!(bearer.redact("bad token 0123456789"), "bad token [redacted]");
    }

    #[test]
    fn a_secret_is_cleaned_from_every_part_of_the_view_and_stays_on_the_wire() {
        let redactor = redactor(&[Secret::new("s3cr3t".to_owned())]);
        let url = "https://h.example/?t=s3cr3t";
        let draft = Draft {
            method: Method::Post,
            url: url.parse().unwrap(),
            headers: vec![Header::open("x-a", "a s3cr3t"), Header::hidden("x-b", "b")],
            body: b"body s3cr3t".to_vec(),
        };
        let made = finish(draft, Sight::default());
        let view = made.view(&redactor);
        let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(view.url, "https://h.example/?t=[redacted]");
        assert_eq!(view.headers, [header("x-a", "a [redacted]"), header("x-b", "[redacted]")]);
        assert_eq!(view.body, "body [redacted]");
        assert_eq!(made.request.headers, [header("x-a", "a s3cr3t"), header("x-b", "b")]);
        assert_eq!((made.request.url.as_str(), made.request.body.as_slice()), (url, b"body s3cr3t".as_slice()));
    }

    // Row 54.
    #[test]
    fn a_secret_at_the_cut_does_not_pass_in_half() {
        let redactor = redactor(&[Secret::new("s3cr3t-s3cr3t".to_owned())]);
        let body = format!("{}s3cr3t-s3cr3t", "x".repeat(QUOTE_BYTES - 5)).into_bytes();
        let answer = Answer { status: 500, headers: Vec::new(), body };
        assert!(!excerpt(&answer, &redactor).contains("s3cr"));
    }

    // Row 72: a receiver that names the key alone.
    #[test]
    fn what_looks_like_a_key_in_a_secret_url_is_one() {
        let url = "https://h.example/services/T0123456789abcdefg/in?key=hunter2-hunter2&v=1";
        let redactor = redactor(&[Secret::new(url.to_owned())]);
        assert_eq!(redactor.redact("no hunter2-hunter2"), "no [redacted]");
        assert_eq!(redactor.redact("T0123456789abcdefg of services in v1"), "[redacted] of services in v1");
        assert_eq!(redactor.redact(url), "[redacted]");
    }

    // Row 54: white space is folded and secrets shrink, so the end of a long body may come into sight.
    #[test]
    fn a_secret_at_the_bound_of_the_body_does_not_pass_in_half() {
        let redactor = redactor(&[Secret::new("s3cr3t-s3cr3t".to_owned())]);
        let mut body = format!("a{}s3cr3t-s3cr3t", " ".repeat(RESPONSE_BODY_BYTES - 7)).into_bytes();
        body.truncate(RESPONSE_BODY_BYTES);
        assert!(body.ends_with(b"s3cr3t"));
        assert_eq!(excerpt(&Answer { status: 500, headers: Vec::new(), body }, &redactor), "a");
        let body = format!("{}s3cr3t-s3cr3t", "x".repeat(RESPONSE_EXCERPT_BYTES - 5));
        assert!(!body_shown(body.as_bytes(), &redactor).contains("s3cr"));
        let value = format!("/{}s3cr3t-s", " ".repeat(RESPONSE_HEADER_BYTES - 9));
        assert_eq!(header_line(&value, &redactor), "/");
    }

    // Row 54.
    #[test]
    fn excerpts_are_one_printable_line() {
        let answer = Answer { status: 500, headers: Vec::new(), body: b"a\r\n\tb\x1b[2J \xff".to_vec() };
        assert_eq!(excerpt(&answer, &Redactor::default()), "a b\u{FFFD}[2J \u{FFFD}");
    }
}
