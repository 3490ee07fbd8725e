//! Tests with real sockets and real processes: what only they can show. Each file holds the rules of one part; the
//! machinery (peers that stall, reset, flood and lie) is in `support`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, its helpers too"
)]

mod abuse;
mod abuse_slow;
mod alerts;
mod alerts_mail;
mod api_admin;
mod api_cli;
mod api_controls;
mod api_dlq;
mod api_ingest;
mod api_jobs;
mod api_outcomes;
mod api_refusals;
mod auto_backup;
mod backup;
mod canary;
mod clock;
mod damaged;
mod descriptors;
mod disk_fails;
mod disk_full;
mod egress;
mod golden;
mod kill;
mod kill_offline;
mod meta;
mod metrics;
mod mixed;
mod monitoring;
mod page;
mod postback;
mod postback_presets;
mod proxies;
mod proxy_egress;
mod proxy_real;
mod purge;
mod receivers;
mod reload;
mod reload_broken;
mod reload_destinations;
mod reload_files;
mod reload_storm;
mod retention;
mod seeing;
mod seeing_log;
mod service;
mod shell;
mod signals;
mod soak;
mod stdout;
mod store_lost;
mod support;
mod unix_socket;
