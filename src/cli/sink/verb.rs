//! The command: a sink in the foreground until it is interrupted.

use std::process::ExitCode;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::{Behaviour, Options, Sink};
use crate::cli::args::SinkArgs;
use crate::cli::out;
use crate::domain::time::DurationMs;

/// Requests that wait to be printed; a slower terminal misses what is beyond.
const UNPRINTED: usize = 4096;

/// With `json` every request is printed as `--record` keeps it, and nothing else goes to standard output.
pub async fn run(args: &SinkArgs, json: bool) -> anyhow::Result<ExitCode> {
    let (tell, mut told) = mpsc::channel(UNPRINTED);
    let options = Options {
        listen: args.listen,
        behaviour: Behaviour {
            status: args.status,
            answer: args.answer.clone(),
            fail: args.fail.clone(),
            delay: args.delay.unwrap_or(DurationMs::ZERO),
            retry_after: args.retry_after,
            reset: args.reset.unwrap_or(0.0),
            hang: args.hang.unwrap_or(0.0),
            seed: args.seed,
        },
        record: args.record.clone(),
        keep: 0,
        tell: (!args.quiet).then_some(tell),
    };
    let mut terminate = signal(SignalKind::terminate())?;
    let sink = Sink::start(options).await.with_context(|| format!("{} cannot be listened on", args.listen))?;
    let listening = format!("listening on http://{}", sink.addr);
    if json {
        out::note(&listening);
    } else {
        out::line(&listening)?;
    }
    loop {
        tokio::select! {
            record = told.recv(), if !args.quiet => {
                if let Some(record) = record {
                    out::line(&if json { record.to_json().to_string() } else { record.to_line() })?;
                }
            }
            _ = tokio::signal::ctrl_c() => break,
            _ = terminate.recv() => break,
        }
    }
    sink.stop().await;
    Ok(ExitCode::SUCCESS)
}
