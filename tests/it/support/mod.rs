//! Machinery for tests with sockets.

#[allow(dead_code, reason = "the benches use more of it")]
pub mod daemon;
pub mod desk;
pub mod destinations;
#[allow(dead_code, reason = "the benches use less of it")]
pub mod disk;
pub mod meta;
pub mod proxy;
pub mod reload;
pub mod sender;
pub mod senders;
pub mod sink;
pub mod smtp;
pub mod tls;
