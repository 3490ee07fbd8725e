//! What the verbs that show something take.

#![allow(clippy::doc_markdown, reason = "the doc comments are the texts of --help, which knows no Markdown")]

use clap::Args;

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
    /// All of them, printed as they are read: with --csv, or one JSON object a line
    #[arg(long, conflicts_with_all = ["limit", "cursor"])]
    pub all: bool,
    /// Print CSV for a spreadsheet
    #[arg(long, conflicts_with = "json")]
    pub csv: bool,
    /// Go on showing deliveries as they come and change, one a line, until interrupted
    #[arg(long, conflicts_with_all = ["cursor", "until", "csv", "all"])]
    pub follow: bool,
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
