//! The command line as clap sees it (SPEC 7, 8.1): the verbs, and by families what they take. The global options may stand
//! before or after the verb.

#![allow(clippy::doc_markdown, reason = "the doc comments are the texts of --help, which knows no Markdown")]

mod dead;
mod events;
mod offline;
mod seeing;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

pub use self::dead::{DlqFilter, DlqSelection, DlqVerb, ExportFormat, JobsArgs};
pub use self::events::{PreviewArgs, SendArgs, SinkArgs, TestArgs};
pub use self::offline::{BackupArgs, CompactArgs, RestoreArgs, VerifyArgs};
pub use self::seeing::{Color, DeliveriesArgs, ReportArgs, StatusArgs};
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
    Resume(EndArgs),
    /// A destination is well again: probe it now if it is held or its circuit is open, end its throttle
    Release(EndArgs),
    /// Give up what a destination is owed that is gone from the configuration; its DLQ stays
    Purge(PurgeArgs),
    /// Show the exact request a destination would get for an event; nothing is stored or sent
    Preview(PreviewArgs),
    /// Send one marked test event to a destination now and show the whole exchange; exit code 1 unless it was taken
    Test(TestArgs),
    /// Say that the clock is right where it is doubted
    #[command(subcommand)]
    Clock(ClockVerb),
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

/// `postbackd clock …`
#[derive(Subcommand, Debug)]
pub enum ClockVerb {
    /// Believe the clock at once and for good, also where it is years ahead of what is known: what is old by it may expire
    Confirm {
        /// How you know that it is right; kept in the audit trail
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
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

/// `postbackd resume` and `postbackd release`
#[derive(Args, Clone, Debug)]
pub struct EndArgs {
    /// The destination
    pub name: String,
    /// Why; kept in the audit trail
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
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
