//! Lists that are printed page by page as they are read, however long they are: a few pages of memory do for millions of rows.

use std::process::ExitCode;

use super::args::ExportFormat;
use super::client::Daemon;
use super::deliveries::Listing;
use super::out;
use super::sheet::{self, Column};

/// Prints everything that a listing gives, so many rows asked for at once.
pub async fn all(
    daemon: &Daemon,
    listing: &Listing<'_>,
    rows: u32,
    (format, columns): (ExportFormat, &[Column]),
) -> anyhow::Result<ExitCode> {
    let mut cursor = None;
    if format == ExportFormat::Csv {
        out::raw(&sheet::bytes(columns, None)?)?;
    }
    loop {
        let page = listing.page(daemon, rows, cursor.as_deref()).await?;
        match format {
            ExportFormat::Ndjson => {
                let lines: Vec<String> = page.rows.iter().map(|row| format!("{row}\n")).collect();
                out::raw(lines.concat().as_bytes())?;
            }
            ExportFormat::Csv => out::raw(&sheet::rows(columns, &page.rows)?)?,
        }
        cursor = page.cursor;
        if cursor.is_none() {
            return Ok(ExitCode::SUCCESS);
        }
    }
}
