//! The configuration: from TOML files to an immutable [`snapshot::Snapshot`], or to all that is wrong with them.
//!
//! Reading order: `raw` is the file as a tree whose values know their lines, `section` reads one table of it and collects
//! problems, one file per part of the contract uses that (`server`, `listen`, `sources`, `postback` with `postback_event` and
//! `postback_hash`, `retry`, `destinations`, `when`, `pacing`, `proxies`, `kinds`, `fb_capi`, `endpoint`, `values`), `secret_source`
//! reads secrets from where they are kept, `validate` joins it all, `snapshot` is what the daemon runs on, `checklist` says
//! what to look at before going live, `alerts` whom to tell of what. For a running daemon: `watch` and `floor` hint that something changed, `inputs` knows whether it
//! did, `reload` reads it, `diff` says what is different.
//!
//! Invariants: one reading finds every problem; no error text holds a secret; a key that has no effect is refused.

pub mod alerts;
pub mod backup;
pub mod checklist;
mod destinations;
pub mod diff;
mod endpoint;
mod fb_capi;
pub(crate) mod files;
mod findings;
mod fingerprint;
pub mod floor;
pub mod inputs;
mod kinds;
mod listen;
mod pacing;
mod postback;
mod postback_event;
mod postback_hash;
pub mod problem;
mod proxies;
mod raw;
pub mod reload;
mod retry;
mod secret_source;
mod section;
mod server;
pub mod snapshot;
mod sources;
#[cfg(test)]
mod tests;
pub mod validate;
mod values;
pub mod watch;
mod when;
