//! The kinds of destination: what a request looks like and what an answer means. Pure: no I/O, no clock.
//!
//! A new kind is one file here, one line in [`registry`], one folder of fixtures under `tests/contract`.
//! What kinds share: [`template`] and [`signing`] make requests, [`hashing`] and `places` normalise people,
//! [`http_status`] judges, `view` keeps secrets out of sight, [`event_map`] and [`filter`] choose events, [`example`] is an
//! ordinary one.

pub mod event_map;
pub mod example;
pub mod fb_capi;
pub mod filter;
pub mod hashing;
pub mod http_status;
mod places;
pub mod registry;
pub mod s2s_postback;
pub mod signing;
pub mod template;
pub(crate) mod view;
pub use view::body_shown;
pub mod webhook;

pub use crate::domain::delivery::LeftOut;
use crate::domain::event::Event;
use crate::domain::id::DeliveryId;
use crate::domain::name::TargetName;
use crate::domain::outcome::{DeadReason, Verdict};
use crate::domain::retry::StatusSet;
use crate::domain::secret::Redactor;
use crate::domain::time::{DurationMs, UnixMs};
use crate::env::transport::{Answer, Request};

/// The kinds of this release.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Kind {
    Webhook,
    S2sPostback,
    FbCapi,
}

impl Kind {
    pub const ALL: [Self; 3] = [Self::Webhook, Self::S2sPostback, Self::FbCapi];

    /// The word in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Webhook => "webhook",
            Self::S2sPostback => "s2s_postback",
            Self::FbCapi => "fb_capi",
        }
    }
}

/// One delivery that is to go out now.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'a> {
    pub id: DeliveryId,
    pub target: &'a TargetName,
    pub event: &'a Event,
}

/// A delivery no request can be made for; it goes to the DLQ.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unsendable {
    /// [`DeadReason::Invalid`] or [`DeadReason::Expired`].
    pub reason: DeadReason,
    /// What is wrong, in words, with the field's name.
    pub detail: String,
}

/// The outcome of preparing a slice of deliveries as one request.
#[derive(Debug)]
pub struct Prepared {
    /// `None` where no delivery of the slice can be sent.
    pub request: Option<PreparedRequest>,
    /// In the order of the slice: whether the delivery is in the request. Deliveries behind the end of the list found no
    /// room in the request and want another; the first always finds room.
    pub parts: Vec<Result<Vec<LeftOut>, Unsendable>>,
}

impl Prepared {
    /// The request of a delivery that was prepared by itself, with what was left out.
    pub fn only(self) -> Result<(PreparedRequest, Vec<LeftOut>), Unsendable> {
        match (self.parts.into_iter().next(), self.request) {
            (Some(Err(unsendable)), _) => Err(unsendable),
            (Some(Ok(left_out)), Some(request)) => Ok((request, left_out)),
            (Some(Ok(_)) | None, _) => {
                let detail = "no request could be made of this event".to_owned();
                Err(Unsendable { reason: DeadReason::Invalid, detail })
            }
        }
    }
}

/// A request, and what of it may be shown: [`PreparedRequest::view`].
#[derive(Debug)]
pub struct PreparedRequest {
    pub request: Request,
    sight: view::Sight,
    /// Of each header.
    shown: Vec<view::Shown>,
}

/// The judgement on an answer, with what it said in words.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Judgement {
    pub verdict: Verdict,
    pub detail: String,
    /// The counting attempts after which this answer is taken for permanent (reason `permanent`), because it may be the
    /// event's own fault; `None` leaves it to the retry policy alone. Where a request carried several deliveries the
    /// answer does not say whose fault it is: then this is a reason to split, not to bury.
    pub attempts_max: Option<u32>,
    /// The request was taken, and yet an operator should see what `detail` says.
    pub warns: bool,
}

impl Judgement {
    /// Without a limit of its own.
    pub fn new(verdict: Verdict, detail: impl Into<String>) -> Self {
        Self { verdict, detail: detail.into(), attempts_max: None, warns: false }
    }
}

/// What an adapter needs to judge an answer.
#[derive(Clone, Copy, Debug)]
pub struct JudgeContext<'a> {
    /// Deliveries in the request.
    pub sent: usize,
    /// HTTP statuses the destination's retry policy calls transient.
    pub transient: &'a StatusSet,
    pub now: UnixMs,
}

/// One configured destination's language. Implementations are immutable; a changed configuration makes a new one.
pub trait Adapter: Send + Sync + std::fmt::Debug {
    fn kind(&self) -> Kind;

    /// Deliveries one request may carry; at least 1.
    fn batch_max(&self) -> usize;

    /// How long a delivery may wait for others to share its request, where one carries several.
    fn batch_wait(&self) -> DurationMs {
        DurationMs::ZERO
    }

    /// The target name this kind gives a canonical name where the configuration says nothing.
    fn default_target(&self, canonical: &str) -> Option<String>;

    /// Makes one request of `deliveries` (never empty, at most [`Adapter::batch_max`]). Rendering the same delivery twice
    /// gives the same ids and, but for time stamps and signatures of the attempt, the same bytes.
    fn prepare(&self, deliveries: &[Outgoing<'_>], now: UnixMs) -> Prepared;

    /// Prepares one event that is sent to try the destination out, with `code` where the platform knows such a thing. `Err`
    /// says in words why the platform would take it for a real conversion, or would not understand the code.
    fn prepare_test(&self, delivery: &Outgoing<'_>, now: UnixMs, code: Option<&str>) -> Result<Prepared, String> {
        match code {
            None => Ok(self.prepare(std::slice::from_ref(delivery), now)),
            Some(_) => Err(format!("a {} has no test_event_code; leave it out", self.kind().as_str())),
        }
    }

    /// The macros its URL is made of, as they are written between the braces; none where it has no URL template.
    fn url_macros(&self) -> Vec<&str> {
        Vec::new()
    }

    /// Judges a whole answer by status, headers and body together.
    fn judge(&self, answer: &Answer, context: JudgeContext<'_>) -> Judgement;

    /// Replaces this destination's secrets in anything that will be shown or stored.
    fn redactor(&self) -> &Redactor;
}

/// Prepares a slice for a kind whose requests carry one delivery. A longer slice breaks the contract of
/// [`Adapter::prepare`]; its deliveries go to the DLQ, where they are seen and can be replayed, rather than nowhere.
fn one_by_one(
    deliveries: &[Outgoing<'_>],
    make: impl FnOnce(&Outgoing<'_>) -> Result<(PreparedRequest, Vec<LeftOut>), Unsendable>,
) -> Prepared {
    let [delivery] = deliveries else {
        let detail = "this kind sends one delivery per request and was given several; replay it".to_owned();
        let refused = Unsendable { reason: DeadReason::Invalid, detail };
        return Prepared { request: None, parts: deliveries.iter().map(|_| Err(refused.clone())).collect() };
    };
    match make(delivery) {
        Ok((request, left_out)) => Prepared { request: Some(request), parts: vec![Ok(left_out)] },
        Err(unsendable) => Prepared { request: None, parts: vec![Err(unsendable)] },
    }
}
