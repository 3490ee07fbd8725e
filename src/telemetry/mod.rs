//! What is measured and how it is shown.

pub mod log;
pub mod log_queue;
pub mod metrics;
pub mod rolling;
