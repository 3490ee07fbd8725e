//! `postbackd run`: the daemon in the foreground, as systemd wants it.

use std::future::Future;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};

use super::args::{Globals, LogFormat, RunArgs};
use super::client;
use crate::config::snapshot::Snapshot;
use crate::domain::time::UnixMs;
use crate::store::compact::AtStart;
use crate::telemetry::log;

/// What the daemon is to run on.
#[derive(Debug)]
pub struct Order {
    pub snapshot: Arc<Snapshot>,
    /// The file it was read from.
    pub config: PathBuf,
    /// What is done to the store before it is used.
    pub first: AtStart,
}

/// Loads the configuration and hands it to `start`, which returns after a clean stop.
pub async fn run<F, R>(globals: &Globals, args: &RunArgs, now: UnixMs, start: F) -> anyhow::Result<ExitCode>
where
    F: FnOnce(Order) -> R,
    R: Future<Output = anyhow::Result<()>>,
{
    // Before anything that takes its time: who hangs up while the configuration is being read gets what is read, not an end.
    let _hang_up = signal(SignalKind::hangup());
    let format = match args.log_format {
        LogFormat::Text => log::Format::Text,
        LogFormat::Json => log::Format::Json,
    };
    log::init(format)?;
    let order = Order {
        snapshot: Arc::new(client::load(globals, now)?),
        config: client::config_path(globals).to_path_buf(),
        first: if args.compact { AtStart::Compact } else { AtStart::Open },
    };
    start(order).await?;
    Ok(ExitCode::SUCCESS)
}
