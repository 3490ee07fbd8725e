//! What backups and the verbs about a store that no daemon uses take.

#![allow(clippy::doc_markdown, reason = "the doc comments are the texts of --help, which knows no Markdown")]

use std::path::PathBuf;

use clap::Args;

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
    /// or one that was set aside), or what `deliveries --status sent --all` printed; they are not owed again
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
