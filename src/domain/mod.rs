//! Values and rules: what an event, a delivery, a verdict and a retry *are*.
//!
//! Nothing here waits, reads a clock, draws a random number or touches a file; every decision is a function of its
//! arguments. Everything above imports this folder, this folder imports nothing of ours.

pub mod alert;
pub mod audit;
pub mod dedupe;
pub mod delivery;
pub mod event;
pub mod fault;
pub mod id;
pub mod job;
pub mod json;
pub mod json_object;
pub mod limits;
pub mod message;
pub mod money;
pub mod name;
pub mod net;
pub mod outcome;
pub mod pacing;
pub mod pause;
pub mod person;
pub mod proxy;
pub mod retry;
pub mod secret;
pub mod sum;
pub mod time;
