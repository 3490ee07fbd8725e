//! `postbackd demo`: the whole story by itself, with a real daemon, real HTTP and a real crash.
//!
//! `workspace` is its directory, `child` the daemon's process, `story` what happens, `arrivals` the judgement at the end.
//! Directory and process go on every path: success, failure, interruption, deadline.

mod arrivals;
mod child;
mod story;
mod workspace;

use std::process::ExitCode;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use self::workspace::Workspace;
use super::out;
use crate::env::clock::SystemClock;

/// The whole demo; it takes a few seconds where nothing is wrong.
const DEADLINE: Duration = Duration::from_secs(50);
/// Lines of the daemon's log that are shown when something went wrong.
const LOG_LINES: usize = 20;

/// Tells the story; 0 only if all of it came out right.
pub async fn run(clock: &SystemClock) -> anyhow::Result<ExitCode> {
    let workspace = Workspace::new()?;
    let mut terminate = signal(SignalKind::terminate())?;
    let told = tokio::select! {
        told = tokio::time::timeout(DEADLINE, Box::pin(story::tell(&workspace, clock))) => match told {
            Ok(told) => told,
            Err(_) => Err(anyhow::anyhow!("it was not over after {} s", DEADLINE.as_secs())),
        },
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
        _ = terminate.recv() => Err(anyhow::anyhow!("interrupted")),
    };
    Ok(match told {
        Ok(()) => {
            say("demo: ok");
            ExitCode::SUCCESS
        }
        Err(error) => {
            let tail = workspace.log_tail(LOG_LINES);
            if !tail.is_empty() {
                out::note(&format!("The daemon's log ends with:\n{}", out::plain_lines(&tail)));
            }
            out::note(&format!("demo: failed: {}", out::plain_lines(&format!("{error:#}"))));
            ExitCode::FAILURE
        }
    })
}

/// Tells a line of the story. The story goes on also where nobody listens: its exit code is the answer.
fn say(text: &str) {
    out::line(&out::plain_lines(text)).ok();
}
