//! The only non-determinism there is: time, chance and the wire, as traits that `app.rs` fills in once and the
//! simulator fills in with its own.

pub mod clock;
pub mod courier;
pub mod entropy;
pub mod transport;

use std::sync::Arc;

/// Time, chance and the wire, built once and shared by everything that needs them.
#[derive(Clone)]
pub struct Env {
    pub clock: Arc<dyn clock::Clock>,
    pub entropy: Arc<dyn entropy::Entropy>,
    pub transport: Arc<dyn transport::Transport>,
}

impl std::fmt::Debug for Env {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Env")
    }
}
