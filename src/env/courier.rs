//! How alerts leave: one message through one channel, by a way that no destination shares.

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use super::transport::{Answer, Request};

/// What is sent.
#[derive(Clone, Debug)]
pub enum Parcel {
    Http(Request),
    /// From and to are the channel's.
    Mail {
        subject: String,
        body: String,
    },
}

/// What came of it; the error says why nothing was answered, without secrets.
pub type Carrying<'a> = Pin<Box<dyn Future<Output = Result<Answer, String>> + Send + 'a>>;

/// Carries messages, each through the channel's own client.
pub trait Courier: Send + Sync {
    /// Sends `parcel` once; the future ends within the channel's timeout. A mail that was taken is answered with 250.
    fn carry<'a>(&'a self, channel: &'a str, parcel: Parcel) -> Carrying<'a>;
}

impl fmt::Debug for dyn Courier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Courier")
    }
}
