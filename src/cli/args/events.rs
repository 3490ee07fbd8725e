//! What the verbs that send or render single events take, and the receiver to try them on.

#![allow(clippy::doc_markdown, reason = "the doc comments are the texts of --help, which knows no Markdown")]

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{ArgGroup, Args};

use super::{duration, secret};
use crate::cli::sink::faults::{self, Fault};
use crate::domain::secret::Secret;
use crate::domain::time::DurationMs;

/// `postbackd send`
#[derive(Args, Clone, Debug)]
#[command(group = ArgGroup::new("sender").required(true).args(["source", "token"]))]
pub struct SendArgs {
    /// The file to read, - for standard input
    pub file: PathBuf,
    /// Send as this source; its token is taken from the configuration
    #[arg(long, value_name = "NAME")]
    pub source: Option<String>,
    /// Send with this source token
    #[arg(long, value_parser = secret)]
    pub token: Option<Secret>,
    /// Backfill: only events that occurred since then (RFC 3339, or -2h); takes lines of `dlq export` and of
    /// `event --json` too
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub since: Option<String>,
    /// Backfill: only events that occurred before then; as --since
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub until: Option<String>,
    /// How long to go on trying while the daemon is away or cannot take more
    #[arg(long, value_name = "SPAN", default_value = "60s", value_parser = duration)]
    pub patience: DurationMs,
}

/// `postbackd preview`
#[derive(Args, Clone, Debug)]
pub struct PreviewArgs {
    /// The destination
    pub name: String,
    /// The file with the event, one JSON object; - for standard input
    pub file: PathBuf,
    /// As if this source had sent it [default: one the destination takes]
    #[arg(long, value_name = "NAME")]
    pub source: Option<String>,
    /// As if the destination called it so [default: by its events]
    #[arg(long, value_name = "NAME")]
    pub target: Option<String>,
}

/// `postbackd test`
#[derive(Args, Clone, Debug)]
pub struct TestArgs {
    /// The destination
    pub name: String,
    /// The file with the event to send, one JSON object; - for standard input [default: an ordinary one]
    pub file: Option<PathBuf>,
    /// The code of Meta's Test events page; without one a test would count as real
    #[arg(long, value_name = "CODE")]
    pub test_event_code: Option<String>,
}

/// `postbackd sink`
#[derive(Args, Clone, Debug)]
pub struct SinkArgs {
    /// Where to listen; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:9000", value_name = "ADDRESS")]
    pub listen: SocketAddr,
    /// The status of a normal answer
    #[arg(long, default_value_t = 200, value_name = "N", value_parser = clap::value_parser!(u16).range(200..=599))]
    pub status: u16,
    /// The body of a normal answer, in place of ok or what Meta would say
    #[arg(long, value_name = "TEXT")]
    pub answer: Option<String>,
    /// Fail: the first N requests (3), or a share of all (0.2, 20%), with 503 or a given status (3:429); may be repeated
    #[arg(long, value_name = "COUNT|RATE[:STATUS]")]
    pub fail: Vec<Fault>,
    /// Wait before every answer
    #[arg(long, value_name = "SPAN", value_parser = duration)]
    pub delay: Option<DurationMs>,
    /// Send Retry-After with every answer of 429 or 503
    #[arg(long, value_name = "SECONDS")]
    pub retry_after: Option<u64>,
    /// Reset this share of connections instead of answering
    #[arg(long, value_name = "RATE", value_parser = faults::rate)]
    pub reset: Option<f64>,
    /// Leave this share of requests without an answer
    #[arg(long, value_name = "RATE", value_parser = faults::rate)]
    pub hang: Option<f64>,
    /// Decides which requests the rates hit
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub seed: u64,
    /// Do not print requests
    #[arg(long)]
    pub quiet: bool,
    /// Append every request to this file, one JSON object per line
    #[arg(long, value_name = "FILE")]
    pub record: Option<PathBuf>,
}
