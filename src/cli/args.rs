//! The command line as clap sees it (SPEC 7, 8.1). The global options may stand before or after the verb.

#![allow(clippy::doc_markdown, reason = "the doc comments are the texts of --help, which knows no Markdown")]

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{ArgGroup, Args, Parser, Subcommand};

use super::sink::faults::Fault;
use crate::domain::secret::Secret;
use crate::domain::time::DurationMs;

/// Where the configuration is where `--config` does not say.
pub const DEFAULT_CONFIG: &str = "/etc/postbackd/config.toml";

/// Under which the options of every verb stand in the help.
const GLOBAL: &str = "Options of every command";

/// What the environment says to every verb.
const ENVIRONMENT: &str = "Environment:
  POSTBACKD_ADMIN_TOKEN  The administrator's token, where the configuration cannot be read or does not hold it
  POSTBACKD_OPERATOR     Your name in the audit trail, where it is not $USER
  POSTBACKD_LOG          What `run` logs: info (the default), warn, debug, or info,postbackd::store=debug
  NO_COLOR               No colours in the log and in `status`, whatever its value";

/// Durable delivery of ad and affiliate conversions: accepts each once, delivers it to every destination, and shows
/// what became of it.
#[derive(Parser, Debug)]
#[command(name = "postbackd", version, propagate_version = true, max_term_width = 110, after_help = ENVIRONMENT)]
pub struct Cli {
    #[command(flatten)]
    pub globals: Globals,
    #[command(subcommand)]
    pub verb: Verb,
}

/// Options of every verb.
#[derive(Args, Clone, Debug)]
pub struct Globals {
    /// The configuration file [default: /etc/postbackd/config.toml]
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The daemon's address, as http://127.0.0.1:8460 or unix:/path [default: the configuration's server.listen, else
    /// http://127.0.0.1:8460]
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "URL")]
    pub url: Option<String>,
    /// Print JSON, for scripts (sink: one object per request)
    #[arg(long, global = true, help_heading = GLOBAL)]
    pub json: bool,
    /// The administrator's token, where the configuration cannot be read or does not hold it
    #[arg(
        long = "admin-token",
        global = true, help_heading = GLOBAL,
        hide = true,
        env = "POSTBACKD_ADMIN_TOKEN",
        hide_env_values = true,
        value_parser = secret
    )]
    pub admin_token: Option<Secret>,
}

/// What to do.
#[derive(Subcommand, Debug)]
pub enum Verb {
    /// Run the daemon
    Run(RunArgs),
    /// Check the configuration: every problem at once, and what to look at before going live
    Check(CheckArgs),
    /// Show the state of the daemon and of every destination
    Status(StatusArgs),
    /// Send events from a file of one JSON object per line; exit code 1 if any line was refused
    Send(SendArgs),
    /// Show the delivery log, newest first
    Deliveries(DeliveriesArgs),
    /// Show what was taken in and sent by hour or day, to be held against a network's own figures
    Report(ReportArgs),
    /// Show one event with every delivery and every attempt
    Event {
        /// The event's evt_… id, or the sender's own id
        id: String,
    },
    /// Look at deliveries that failed permanently, deliver them again, or discard them
    #[command(subcommand)]
    Dlq(DlqVerb),
    /// Show replays and discards that go on by themselves, or cancel one
    Jobs(JobsArgs),
    /// Show what operators did, newest first
    Audit {
        /// How many to show at most
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
        limit: u32,
        /// Go on where an earlier answer ended
        #[arg(long)]
        cursor: Option<String>,
    },
    /// Send a destination nothing, for a span of time or until it is resumed
    Pause(PauseArgs),
    /// End a destination's pause
    Resume {
        /// The destination
        name: String,
    },
    /// A destination is well again: probe it now if it is held or its circuit is open, end its throttle
    Release {
        /// The destination
        name: String,
    },
    /// Give up what a destination is owed that is gone from the configuration; its DLQ stays
    Purge(PurgeArgs),
    /// Show the exact request a destination would get for an event; nothing is stored or sent
    Preview(PreviewArgs),
    /// Send one marked test event to a destination now and show the whole exchange; exit code 1 unless it was taken
    Test(TestArgs),
    /// See what alerts have told, or test whether they arrive
    #[command(subcommand)]
    Alerts(AlertsVerb),
    /// Have the daemon write a backup of its store while it runs, into backups/ in its data directory
    Backup(BackupArgs),
    /// Check a store or a backup that no daemon uses, page by page and row by row, without writing to it; exit code 1 if
    /// anything is wrong
    Verify(VerifyArgs),
    /// Put a backup in the place of the store, with every destination paused; the store that was there is set aside
    Restore(RestoreArgs),
    /// Give the free space of a store that no daemon uses back to the file system
    Compact(CompactArgs),
    /// Have the daemon read its configuration now; exit code 1 if it is refused
    Reload,
    /// Run a receiver that prints what arrives, and misbehaves if told to
    Sink(SinkArgs),
    /// Show the whole story in a temporary directory: daemon, failing receivers, retry, DLQ, replay, a crash
    Demo,
    /// Write the manual pages into a directory
    #[command(hide = true)]
    Man {
        /// The directory
        dir: PathBuf,
    },
    /// Print a completion script for a shell
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
}

/// `postbackd run`
#[derive(Args, Clone, Debug)]
pub struct RunArgs {
    /// How log lines look
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
    /// First give the free space of the store back to the file system; nothing is served before that is done
    #[arg(long)]
    pub compact: bool,
}

/// `postbackd check`
#[derive(Args, Clone, Debug)]
pub struct CheckArgs {
    /// Open a connection to every destination, without sending an event, and warn of those that cannot be reached
    #[arg(long)]
    pub probe: bool,
}

/// How log lines look.
#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogFormat {
    Text,
    Json,
}

/// `postbackd status`
#[derive(Args, Clone, Debug)]
pub struct StatusArgs {
    /// One line for a monitoring plugin; exit code 0 ok, 1 degraded, 2 failing or unreachable
    #[arg(long, conflicts_with = "json")]
    pub check: bool,
    /// Colour the states and what is wrong
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = Color::Auto)]
    pub color: Color,
}

/// When there is colour.
#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum Color {
    /// On a terminal, where NO_COLOR is not set
    Auto,
    Always,
    Never,
}

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

/// `postbackd deliveries`
#[derive(Args, Clone, Debug)]
pub struct DeliveriesArgs {
    /// Only this destination
    #[arg(long, value_name = "NAME")]
    pub destination: Option<String>,
    /// Only this status
    #[arg(long, value_parser = ["pending", "failed", "sent", "failed_permanently", "skipped", "discarded"])]
    pub status: Option<String>,
    /// Only this event name
    #[arg(long, value_name = "NAME")]
    pub event: Option<String>,
    /// Only this uid
    #[arg(long)]
    pub uid: Option<String>,
    /// Only this sender's id
    #[arg(long, value_name = "ID")]
    pub event_id: Option<String>,
    /// Received since then: RFC 3339, or -2h
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub since: Option<String>,
    /// Received before then: RFC 3339, or -2h
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub until: Option<String>,
    /// How many to show at most
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub limit: u32,
    /// Go on where an earlier answer ended
    #[arg(long)]
    pub cursor: Option<String>,
    /// Print CSV for a spreadsheet
    #[arg(long, conflicts_with = "json")]
    pub csv: bool,
    /// Go on showing deliveries as they come and change, one a line, until interrupted
    #[arg(long, conflicts_with_all = ["cursor", "until", "csv"])]
    pub follow: bool,
}

/// `postbackd jobs`
#[derive(Args, Clone, Debug)]
pub struct JobsArgs {
    /// Only this job_… id
    #[arg(value_name = "ID", conflicts_with = "cancel")]
    pub id: Option<String>,
    /// Cancel this job: what it has done stays done, the rest stays in the DLQ
    #[arg(long, value_name = "ID")]
    pub cancel: Option<String>,
}

/// How dead deliveries are printed.
#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum ExportFormat {
    Ndjson,
    Csv,
}

/// `postbackd report`: by the time of receipt, in UTC
#[derive(Args, Clone, Debug)]
pub struct ReportArgs {
    /// How long a period is; periods are in UTC and go by when events were received
    #[arg(long, default_value = "day", value_parser = ["hour", "day"])]
    pub by: String,
    /// Only this destination
    #[arg(long, value_name = "NAME")]
    pub destination: Option<String>,
    /// Only this event name
    #[arg(long, value_name = "NAME")]
    pub event: Option<String>,
    /// Received since then: RFC 3339, or -2h
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub since: Option<String>,
    /// Received before then: RFC 3339, or -2h
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub until: Option<String>,
    /// Print CSV, a line for each currency
    #[arg(long, conflicts_with = "json")]
    pub csv: bool,
}

/// `postbackd dlq …`
#[derive(Subcommand, Debug)]
pub enum DlqVerb {
    /// List dead deliveries, newest first
    List {
        #[command(flatten)]
        filter: DlqFilter,
        /// Only this reason: permanent, invalid, expired, attempts_exhausted, gave_up
        #[arg(long, visible_alias = "with-reason", value_name = "WORD")]
        reason: Option<String>,
        /// How many to show at most
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
        limit: u32,
        /// Go on where an earlier answer ended
        #[arg(long)]
        cursor: Option<String>,
    },
    /// Show one dead delivery: what was sent, what came back, what is wrong
    Show {
        /// The delivery's dlv_… id
        id: String,
    },
    /// Deliver dead deliveries again, with the same ids
    Replay {
        #[command(flatten)]
        which: DlqSelection,
        /// Only this reason: permanent, invalid, expired, attempts_exhausted, gave_up
        #[arg(long, value_name = "WORD")]
        with_reason: Option<String>,
        /// What somebody writes who means --with-reason, or that a replay takes a reason as a discard does
        #[arg(long, hide = true, value_name = "WORD")]
        reason: Option<String>,
        /// How fast, as 50/s
        #[arg(long, value_name = "RATE")]
        rate: Option<String>,
        /// Wait for the end of it, also where standard error is no terminal
        #[arg(long)]
        wait: bool,
    },
    /// Give dead deliveries up for good
    Discard {
        #[command(flatten)]
        which: DlqSelection,
        /// Only this reason: permanent, invalid, expired, attempts_exhausted, gave_up
        #[arg(long, value_name = "WORD")]
        with_reason: Option<String>,
        /// Why they are given up; kept with them
        #[arg(long, value_name = "TEXT")]
        reason: String,
        /// Wait for the end of it, also where standard error is no terminal
        #[arg(long)]
        wait: bool,
    },
    /// Count dead deliveries by what went wrong, with the filter that selects each group
    Groups {
        #[command(flatten)]
        filter: DlqFilter,
        /// Only this reason: permanent, invalid, expired, attempts_exhausted, gave_up
        #[arg(long, visible_alias = "with-reason", value_name = "WORD")]
        reason: Option<String>,
        /// Count on where an earlier answer ended
        #[arg(long)]
        cursor: Option<String>,
    },
    /// Print dead deliveries, one JSON object per line or as CSV for a spreadsheet
    Export {
        /// How
        #[arg(long, value_enum, default_value_t = ExportFormat::Ndjson)]
        format: ExportFormat,
        #[command(flatten)]
        filter: DlqFilter,
        /// Only this reason: permanent, invalid, expired, attempts_exhausted, gave_up
        #[arg(long, visible_alias = "with-reason", value_name = "WORD")]
        reason: Option<String>,
    },
}

/// `postbackd alerts …`
#[derive(Subcommand, Debug)]
pub enum AlertsVerb {
    /// List what is wrong since when, and how the channels are doing
    List,
    /// Send a test through a channel, or through all; exit code 1 if one does not take it
    Test {
        /// The channel [default: all that are enabled]
        channel: Option<String>,
    },
}

/// Which dead deliveries to look at.
#[derive(Args, Clone, Debug, Default)]
pub struct DlqFilter {
    /// Only those answered with this status, or none
    #[arg(long, value_name = "STATUS")]
    pub response_status: Option<String>,
    /// Only those whose detail holds these words
    #[arg(long, value_name = "TEXT")]
    pub detail: Option<String>,
    /// Only this fault, as `dlq groups` shows it
    #[arg(long, value_name = "FAULT")]
    pub fault: Option<String>,
    /// Only this destination
    #[arg(long, value_name = "NAME")]
    pub destination: Option<String>,
    /// Only this event name
    #[arg(long, value_name = "NAME")]
    pub event: Option<String>,
    /// Received since then: RFC 3339, or -2h
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub since: Option<String>,
    /// Received before then: RFC 3339, or -2h
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub until: Option<String>,
}

/// Which dead deliveries to change: ids, a filter, or all of them.
#[derive(Args, Clone, Debug, Default)]
pub struct DlqSelection {
    /// dlv_… ids
    #[arg(value_name = "ID")]
    pub ids: Vec<String>,
    /// All of them
    #[arg(long)]
    pub all: bool,
    #[command(flatten)]
    pub filter: DlqFilter,
    /// Count them, change nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// `postbackd pause`
#[derive(Args, Clone, Debug)]
pub struct PauseArgs {
    /// The destination
    pub name: String,
    /// Why; shown in the status
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    /// How long, as 2h; without it until `postbackd resume`
    #[arg(long = "for", value_name = "SPAN", value_parser = duration)]
    pub span: Option<DurationMs>,
}

/// `postbackd purge`
#[derive(Args, Clone, Debug)]
pub struct PurgeArgs {
    /// The destination, as it was called
    pub name: String,
    /// Why; every delivery that is given up shows it
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    /// Only count them
    #[arg(long)]
    pub dry_run: bool,
}

/// `postbackd backup`
#[derive(Args, Clone, Debug)]
pub struct BackupArgs {
    /// The file is called postbackd-NAME.redb instead of after the time
    #[arg(value_name = "NAME")]
    pub name: Option<String>,
}

/// `postbackd verify`
#[derive(Args, Clone, Debug)]
pub struct VerifyArgs {
    /// The file [default: the configured store]
    #[arg(value_name = "FILE", conflicts_with = "dir")]
    pub file: Option<PathBuf>,
    /// The data directory, where the configuration does not say
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

/// `postbackd restore`
#[derive(Args, Clone, Debug)]
pub struct RestoreArgs {
    /// The backup; it is copied, and stays as it is
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// What knows which deliveries were sent since the backup: a newer store or backup of the same daemon (the present one,
    /// or one that was set aside), or what `deliveries --status sent --json` printed; they are not owed again
    #[arg(long, value_name = "PATH")]
    pub settle_sent: Option<PathBuf>,
    /// The data directory, where the configuration does not say
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Only tell what would be
    #[arg(long)]
    pub dry_run: bool,
}

/// `postbackd compact`
#[derive(Args, Clone, Debug)]
pub struct CompactArgs {
    /// The data directory, where the configuration does not say
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
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
    #[arg(long, value_name = "RATE", value_parser = super::sink::faults::rate)]
    pub reset: Option<f64>,
    /// Leave this share of requests without an answer
    #[arg(long, value_name = "RATE", value_parser = super::sink::faults::rate)]
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

#[allow(clippy::unnecessary_wraps, reason = "clap asks for a function that may fail")]
fn secret(text: &str) -> Result<Secret, String> {
    Ok(Secret::new(text.to_owned()))
}

fn duration(text: &str) -> Result<DurationMs, String> {
    DurationMs::parse(text).ok_or_else(|| "write a span of time as 250ms, 30s, 5m or 1h30m".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn global_options_may_stand_after_the_verb() {
        let cli = Cli::try_parse_from(["postbackd", "dlq", "list", "--json", "--config", "x.toml"]).unwrap();
        assert!(cli.globals.json);
        assert_eq!(cli.globals.config, Some(PathBuf::from("x.toml")));
    }

    #[test]
    fn times_before_now_are_not_taken_for_options() {
        let cli = Cli::try_parse_from(["postbackd", "deliveries", "--since", "-2h", "--until=-1h"]).unwrap();
        let Verb::Deliveries(args) = cli.verb else { panic!("{:?}", cli.verb) };
        assert_eq!((args.since.as_deref(), args.until.as_deref()), (Some("-2h"), Some("-1h")));
    }

    #[test]
    fn send_wants_one_sender() {
        for wrong in [vec!["-"], vec!["-", "--source", "a", "--token", "b"]] {
            let line = ["postbackd", "send"].into_iter().chain(wrong);
            assert_eq!(Cli::try_parse_from(line).unwrap_err().exit_code(), 2);
        }
        assert!(Cli::try_parse_from(["postbackd", "send", "-", "--source", "a"]).is_ok());
    }

    #[test]
    fn tokens_are_not_in_the_debug_view_of_the_command_line() {
        let cli = Cli::try_parse_from(["postbackd", "send", "-", "--token", "canary"]).unwrap();
        assert!(!format!("{cli:?}").contains("canary"));
    }
}
