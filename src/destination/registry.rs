//! The one list of kinds: from a validated spec to an adapter. A new kind is one variant and one line in each match.

use super::fb_capi::{FbCapi, FbCapiSpec};
use super::s2s_postback::{S2sPostback, S2sSpec};
use super::webhook::{Webhook, WebhookSpec};
use super::{Adapter, Kind};

/// The settings of one destination by kind, as `config` has validated them.
#[derive(Clone, Debug)]
pub enum Spec {
    Webhook(WebhookSpec),
    S2sPostback(S2sSpec),
    FbCapi(FbCapiSpec),
}

/// A setting that does not fit; `key` is the destination's own key (`url_template`).
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{key}: {detail}")]
pub struct SpecError {
    pub key: &'static str,
    pub detail: String,
}

impl SpecError {
    pub fn new(key: &'static str, detail: impl Into<String>) -> Self {
        Self { key, detail: detail.into() }
    }
}

impl Spec {
    pub fn kind(&self) -> Kind {
        match self {
            Self::Webhook(_) => Kind::Webhook,
            Self::S2sPostback(_) => Kind::S2sPostback,
            Self::FbCapi(_) => Kind::FbCapi,
        }
    }
}

/// Builds the adapter, or lists everything that does not fit.
pub fn build(spec: Spec) -> Result<Box<dyn Adapter>, Vec<SpecError>> {
    Ok(match spec {
        Spec::Webhook(spec) => Box::new(Webhook::new(spec)?),
        Spec::S2sPostback(spec) => Box::new(S2sPostback::new(spec)?),
        Spec::FbCapi(spec) => Box::new(FbCapi::new(spec)?),
    })
}
