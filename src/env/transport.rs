//! The wire as the rest of the daemon sees it: a request goes in, exactly one exchange happens, what happened comes out.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crate::domain::delivery::Phases;
use crate::domain::name::DestinationName;
use crate::domain::time::{DurationMs, UnixMs};

/// HTTP methods a destination may use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Method {
    Get,
    Post,
    Put,
    Patch,
    Delete,
}

impl Method {
    pub const ALL: [Self; 5] = [Self::Get, Self::Post, Self::Put, Self::Patch, Self::Delete];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }
}

/// One request, ready to send. It carries secrets: show [`crate::domain::delivery::RequestView`] instead.
#[derive(Clone)]
pub struct Request {
    pub method: Method,
    pub url: url::Url,
    /// Names in lower case; values without CR, LF and NUL.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Request({} to {})", self.method.as_str(), self.url.host_str().unwrap_or("?"))
    }
}

/// A whole answer, bounded.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Answer {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// At most [`crate::domain::limits::RESPONSE_BODY_BYTES`]; what came beyond is dropped.
    pub body: Vec<u8>,
}

impl Answer {
    /// The first header of that (lower-case) name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// Why there is no answer. The texts say what happened, without URL and secrets.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fault {
    /// Refused, unreachable, or the name did not resolve: nothing was sent.
    Network(String),
    /// Handshake or certificate: nothing was sent.
    Tls(String),
    /// The total timeout passed; `sent` says whether the request may have reached the destination.
    Timeout { sent: bool },
    /// The request was sent (at least in part), the connection ended without a whole answer.
    Ambiguous(String),
    /// The destination's address is one we must not connect to: nothing was sent.
    Refused(String),
    /// The proxy failed, not the destination. Some route is usable again from `usable_at`: at once where another one
    /// works.
    Proxy { detail: String, usable_at: UnixMs },
}

/// The way an exchange went; where several proxies were tried, the last of them and the time through that one.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Trail {
    pub phases: Phases,
    /// `scheme://host:port`, without its login; `None` where there was no proxy, or none was due for a try.
    pub proxy: Option<Arc<str>>,
}

/// One exchange as it happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Exchange {
    pub took: DurationMs,
    pub trail: Trail,
    pub result: Result<Answer, Fault>,
}

/// How one proxy of a destination is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RouteView {
    /// `scheme://host:port`, without its login.
    pub address: String,
    pub state: RouteState,
    /// Since when it works, or fails.
    pub since: UnixMs,
    /// When it failed last, and how.
    pub last_error: Option<(UnixMs, String)>,
    /// When a failing one is tried again.
    pub next_try_at: Option<UnixMs>,
    /// Exchanges it has carried since the start.
    pub used: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RouteState {
    /// The first in the list that works: the next exchange takes it.
    Active,
    /// Works as far as is known, and stands behind the active one.
    Standby,
    /// Left alone until its next try.
    Failing,
}

impl RouteState {
    /// The word users see.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Standby => "standby",
            Self::Failing => "failing",
        }
    }
}

/// A boxed future, so that the trait can be an object.
pub type ExchangeFuture<'a> = Pin<Box<dyn Future<Output = Exchange> + Send + 'a>>;

/// Makes exchanges, each through the destination's own client (its timeout, its proxy, its connections).
pub trait Transport: Send + Sync {
    /// Sends `request` exactly once: no redirect is followed, nothing is repeated silently, and the future ends within the
    /// destination's total timeout. `version` is the fingerprint of the destination that `request` was made by: where it is
    /// configured otherwise by now, or gone, the request still goes the way it was meant for, through its own proxy.
    fn exchange<'a>(&'a self, destination: &'a DestinationName, version: u64, request: Request) -> ExchangeFuture<'a>;

    /// Why nothing at all can be sent to `url` from this machine as it is; `None` where something may.
    fn lacks(&self, _destination: &DestinationName, _url: &url::Url) -> Option<&'static str> {
        None
    }

    /// The proxies of `destination` in the order of the configuration; empty where it is reached directly.
    fn routes(&self, _destination: &DestinationName) -> Vec<RouteView> {
        Vec::new()
    }
}
