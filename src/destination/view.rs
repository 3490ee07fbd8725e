//! What of a request and an answer may be shown. Every kind makes its requests through [`finish`], so that none can
//! forget the view; every text of a stranger passes through [`excerpt`].

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::PreparedRequest;
use crate::domain::delivery::RequestView;
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

/// The request with its view. `url_shown` and `body_shown` are as the request has them, less what the caller already
/// took out; known secrets are replaced here in any case.
pub fn finish(draft: Draft, url_shown: &str, body_shown: &str, redactor: &Redactor) -> PreparedRequest {
    let headers = draft.headers.iter().map(|header| {
        let value = match header.shown {
            Shown::Cleaned => redactor.redact(&header.value),
            Shown::Hidden => REDACTED.to_owned(),
        };
        (header.name.clone(), value)
    });
    let view = RequestView {
        method: draft.method.as_str().to_owned(),
        url: redactor.redact(url_shown),
        headers: headers.collect(),
        body: redactor.redact(body_shown),
    };
    let headers = draft.headers.into_iter().map(|header| (header.name, header.value)).collect();
    PreparedRequest { request: Request { method: draft.method, url: draft.url, headers, body: draft.body }, view }
}

/// A redactor that also knows the forms a receiver may echo a secret in: percent-encoded as we write it, as forms write
/// it, in lower case hex, and as JSON with escaped slashes. Of a header value like `Bearer x` it also knows `x`.
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
        match text.rsplit_once(' ') {
            Some((_, word)) if word.len() >= 8 => add(word),
            _ => {}
        }
    }
    Redactor::new(&forms)
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
/// replaced before the cut, so that none is cut in half and passes.
pub fn excerpt(answer: &Answer, redactor: &Redactor) -> String {
    line(&String::from_utf8_lossy(&answer.body), redactor)
}

/// Any text of a stranger, treated alike.
pub fn line(text: &str, redactor: &Redactor) -> String {
    let clean = redactor.redact(text);
    let words: Vec<&str> = clean.split_whitespace().collect();
    printable(words.join(" ").as_bytes(), QUOTE_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let made = finish(draft, url, "body s3cr3t", &redactor);
        let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(made.view.url, "https://h.example/?t=[redacted]");
        assert_eq!(made.view.headers, [header("x-a", "a [redacted]"), header("x-b", "[redacted]")]);
        assert_eq!(made.view.body, "body [redacted]");
        assert_eq!(made.request.headers, [header("x-a", "a s3cr3t"), header("x-b", "b")]);
        assert_eq!((made.request.url.as_str(), made.request.body.as_slice()), (url, b"body s3cr3t".as_slice()));
    }

    #[test]
    fn a_secret_at_the_cut_does_not_pass_in_half() {
        let redactor = redactor(&[Secret::new("s3cr3t-s3cr3t".to_owned())]);
        let body = format!("{}s3cr3t-s3cr3t", "x".repeat(QUOTE_BYTES - 5)).into_bytes();
        let answer = Answer { status: 500, headers: Vec::new(), body };
        assert!(!excerpt(&answer, &redactor).contains("s3cr"));
    }

    #[test]
    fn excerpts_are_one_printable_line() {
        let answer = Answer { status: 500, headers: Vec::new(), body: b"a\r\n\tb\x1b[2J \xff".to_vec() };
        assert_eq!(excerpt(&answer, &Redactor::default()), "a b\u{FFFD}[2J \u{FFFD}");
    }
}
