//! reqwest's errors as ours: the only file that looks inside them.
//!
//! | where it broke | what it is |
//! |---|---|
//! | before a connection stood: our own judgement | `Refused` |
//! | … handshake or certificate | `Tls` |
//! | … no time left | `Timeout { sent: false }` |
//! | … anything else | `Network` |
//! | afterwards, no answer in time | `Timeout { sent: true }` |
//! | afterwards, no whole answer | `Ambiguous` |
//!
//! Where a proxy is on the way, [`super::proxy`] decides which of these are its own.
//!
//! Nothing more precise is said of a request that may have left: where we cannot know, we do not claim that nothing was
//! sent. Texts are short and carry neither URL nor anything of the request.

use std::error::Error;
use std::io;

use super::body::Broken;
use super::proxy::phase_in_words;
use super::resolve::ResolveError;
use super::tls::Roots;
use crate::domain::message::printable;
use crate::env::transport::Fault;

/// Longest text of a fault, bytes.
const TEXT_BYTES: usize = 300;
const CLOSED_EARLY: &str = "the connection was closed before the answer was whole";
/// Errors looked at from the outermost to the cause; real chains have about six.
const CHAIN_MAX: usize = 32;

/// Why no answer began.
pub(super) fn before_answer(error: &reqwest::Error, roots: Roots) -> Fault {
    if let Some(resolve) = find::<ResolveError>(error) {
        return match resolve {
            ResolveError::Refused(why) => Fault::Refused(short(why)),
            ResolveError::Failed(why) | ResolveError::OfProxy(why) => Fault::Network(short(why)),
        };
    }
    if error.is_builder() {
        return Fault::Refused(format!("the request cannot be sent: {}", cause(error)));
    }
    if error.is_connect() {
        return connecting(error, roots);
    }
    if error.is_timeout() { Fault::Timeout { sent: true } } else { Fault::Ambiguous(broken_off(error)) }
}

/// Why an answer that had begun did not end.
pub(super) fn within_answer(broken: &Broken) -> Fault {
    let (status, error) = (broken.begun.status, &broken.error);
    let why = if error.is_timeout() { "it did not end in time".to_owned() } else { broken_off(error) };
    Fault::Ambiguous(format!("an answer with status {status} began, but {why}"))
}

/// An error in words without its URL, for a person: what went wrong at the root.
pub(super) fn words(error: &reqwest::Error) -> String {
    if let Some(resolve) = find::<ResolveError>(error) {
        return short(&resolve.to_string());
    }
    if error.is_timeout() { "no answer in time".to_owned() } else { cause(error) }
}

/// What went wrong between us and a proxy; `None` where nothing did, or there is none.
pub(super) fn phase(error: &reqwest::Error) -> Option<&'static str> {
    // The types of these errors cannot be named, so their texts are read; tests hold the texts to what they mean.
    chain(error).find_map(|one| phase_in_words(&one.to_string()))
}

/// Whether it was the destination's name that did not resolve.
pub(super) fn is_lookup_of_destination(error: &reqwest::Error) -> bool {
    match find::<ResolveError>(error) {
        Some(ResolveError::Failed(_) | ResolveError::Refused(_)) => true,
        Some(ResolveError::OfProxy(_)) | None => false,
    }
}

/// Whether TLS failed by what a TLS peer said or showed, rather than by bytes that are no TLS or by none at all.
pub(super) fn is_said_by_tls_peer(error: &reqwest::Error) -> bool {
    match find::<rustls::Error>(error) {
        Some(rustls::Error::InvalidMessage(_)) | None => false,
        Some(_) => true,
    }
}

/// Whether nothing listens at the address.
pub(super) fn is_refused_connection(error: &reqwest::Error) -> bool {
    error.is_connect() && last_io(error).is_some_and(|io| io.kind() == io::ErrorKind::ConnectionRefused)
}

fn connecting(error: &reqwest::Error, roots: Roots) -> Fault {
    if let Some(tls) = find::<rustls::Error>(error) {
        let hint = match (tls, roots) {
            (rustls::Error::InvalidCertificate(_), Roots::None) => {
                " (this system has no CA certificates: install the package ca-certificates)"
            }
            (_, Roots::System | Roots::None) => "",
        };
        return Fault::Tls(format!("{}{hint}", short(&tls.to_string())));
    }
    if error.is_timeout() {
        return Fault::Timeout { sent: false };
    }
    match last_io(error) {
        // TCP connects or does not; an end of the stream can only come in the middle of the handshake.
        Some(io) if io.kind() == io::ErrorKind::UnexpectedEof => {
            Fault::Tls("the connection was closed during the TLS handshake".to_owned())
        }
        Some(_) | None => Fault::Network(format!("cannot connect: {}", cause(error))),
    }
}

/// How an exchange ended after the connection stood.
fn broken_off(error: &reqwest::Error) -> String {
    if let Some(http) = find::<hyper::Error>(error) {
        if http.is_parse_too_large() {
            return "the answer's headers are too large".to_owned();
        }
        if http.is_parse() {
            return "what came is not HTTP".to_owned();
        }
        if http.is_incomplete_message() {
            return CLOSED_EARLY.to_owned();
        }
    }
    match last_io(error) {
        Some(io) if io.kind() == io::ErrorKind::UnexpectedEof => CLOSED_EARLY.to_owned(),
        Some(io) => format!("the connection broke: {}", short(&io.to_string())),
        None => format!("the exchange broke off: {}", cause(error)),
    }
}

/// What stands at the end of the chain, without any URL: reqwest names it in its outermost error only.
fn cause(error: &reqwest::Error) -> String {
    match chain(error).last() {
        Some(last) if last.downcast_ref::<reqwest::Error>().is_none() => short(&last.to_string()),
        Some(_) | None => "unknown cause".to_owned(),
    }
}

fn last_io(error: &reqwest::Error) -> Option<&io::Error> {
    chain(error).filter_map(|one| one.downcast_ref::<io::Error>()).last()
}

fn find<T: Error + 'static>(error: &reqwest::Error) -> Option<&T> {
    chain(error).find_map(|one| one.downcast_ref::<T>())
}

/// The error and its sources. An `io::Error` hides what it wraps from `source()`, so it is asked by name.
fn chain(error: &reqwest::Error) -> impl Iterator<Item = &(dyn Error + 'static)> {
    let first: &(dyn Error + 'static) = error;
    std::iter::successors(Some(first), |&at| {
        if let Some(wrapped) = at.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            let plain: &(dyn Error + 'static) = wrapped;
            return Some(plain);
        }
        at.source()
    })
    .take(CHAIN_MAX)
}

fn short(text: &str) -> String {
    printable(text.as_bytes(), TEXT_BYTES)
}
