//! `postbackd sink`: a receiver for trying things out. It shows what arrives and misbehaves if told to.
//!
//! `faults` decides how a request is answered (pure, seeded), `record` is what is kept of a request, `server` is the
//! HTTP side, `verb` the command. HTTP/1.1 only, no TLS: a destination on this machine or behind a proxy of its own.

pub mod faults;
pub mod record;
pub mod server;
pub mod verb;

pub use self::faults::Behaviour;
pub use self::server::{Options, Sink};
