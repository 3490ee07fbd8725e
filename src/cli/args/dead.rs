//! What the verbs about the DLQ and its jobs take.

#![allow(clippy::doc_markdown, reason = "the doc comments are the texts of --help, which knows no Markdown")]

use clap::{Args, Subcommand};

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
    /// Give dead deliveries up for good; by their ids also damaged ones, which can neither be sent nor end by themselves
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
    /// List rows of the store that cannot be read, with the deliveries they keep from ending; discard gives those up
    Damaged {
        /// Look through the whole store for them, not only at what was met since the daemon started
        #[arg(long)]
        all: bool,
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

/// How rows are printed that are printed as they come.
#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum ExportFormat {
    Ndjson,
    Csv,
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
