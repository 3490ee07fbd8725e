//! The log: lines on standard error, filtered by `POSTBACKD_LOG` (`info` unless it says otherwise).

use std::io::{self, IsTerminal};

use super::log_queue::Queue;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::{LevelFilter, ParseError};

/// The variable that holds the filter, as `tracing-subscriber` reads it: `debug`, `info,postbackd::store=debug`.
pub const FILTER_VARIABLE: &str = "POSTBACKD_LOG";

/// How a line looks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Format {
    /// For people and the journal; coloured on a terminal only.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// There is no log.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("the log is already set up in this process")]
    Twice,
    #[error("the thread that writes the log cannot be started: {0}")]
    Thread(io::Error),
}

/// Sets up the process's log. A filter that cannot be read is replaced by `info` and reported as the first line.
///
/// Lines go out by a thread of their own ([`super::log_queue`]): a daemon must neither wait nor die because nobody reads
/// its log.
pub fn init(format: Format) -> Result<(), LogError> {
    let wanted = std::env::var(FILTER_VARIABLE).unwrap_or_default();
    let (filter, problem) = filter(&wanted);
    let queue = Queue::of_the_process().map_err(LogError::Thread)?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(queue)
        .with_ansi(format == Format::Text && io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
        // The report of a failed write goes through `eprintln!`, which panics where standard error is gone.
        .log_internal_errors(false);
    let installed = match format {
        Format::Text => builder.try_init(),
        Format::Json => builder.json().flatten_event(true).try_init(),
    };
    installed.map_err(|_| LogError::Twice)?;
    if let Some(problem) = problem {
        tracing::warn!(%problem, "{FILTER_VARIABLE} cannot be read; \"info\" is used.");
    }
    Ok(())
}

fn filter(wanted: &str) -> (EnvFilter, Option<ParseError>) {
    let builder = || EnvFilter::builder().with_default_directive(LevelFilter::INFO.into());
    match builder().parse(wanted) {
        Ok(filter) => (filter, None),
        Err(problem) => (builder().parse_lossy(""), Some(problem)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filter_is_info_unless_the_variable_says_otherwise() {
        assert_eq!(filter("").0.to_string(), "info");
        assert_eq!(filter("warn,postbackd::store=debug").0.to_string(), "postbackd::store=debug,warn");
    }

    #[test]
    fn an_unreadable_filter_is_reported_and_info_used() {
        let (filter, problem) = filter("postbackd=louder");
        assert_eq!(filter.to_string(), "info");
        assert!(problem.is_some());
    }
}
