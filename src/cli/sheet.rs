//! Rows of the API as CSV (RFC 4180) for a spreadsheet.
//!
//! A cell that begins with `=`, `+`, `-` or `@` gets a leading `'`: a spreadsheet would take it for a formula, and what stands in
//! events comes from strangers. So does one that begins with a tab or a line end, which some spreadsheets skip.

use serde_json::Value;

/// A column: its title, and where the value stands in a row.
pub type Column = (&'static str, &'static str);

/// Of `deliveries`.
pub const DELIVERIES: [Column; 13] = [
    ("id", "/id"),
    ("event_id", "/event/event_id"),
    ("event", "/event/event"),
    ("evt", "/event/id"),
    ("destination", "/destination"),
    ("status", "/status"),
    ("target", "/target"),
    ("reason", "/reason"),
    ("received_at", "/received_at"),
    ("attempt_count", "/attempt_count"),
    ("last_status", "/last_status"),
    ("last_at", "/last_at"),
    ("next_attempt_at", "/next_attempt_at"),
];

/// Of `dlq export`.
pub const DEAD: [Column; 17] = [
    ("id", "/id"),
    ("destination", "/destination"),
    ("event_id", "/event/event_id"),
    ("event", "/event/event"),
    ("evt", "/event/id"),
    ("source", "/event/source"),
    ("uid", "/event/uid"),
    ("received_at", "/event/received_at"),
    ("value", "/event/value"),
    ("currency", "/event/currency"),
    ("target", "/target"),
    ("reason", "/reason"),
    ("detail", "/detail"),
    ("response_status", "/response/status"),
    ("attempt_count", "/attempt_count"),
    ("first_attempt_at", "/first_attempt_at"),
    ("last_attempt_at", "/last_attempt_at"),
];

/// A header, and rows where there are any.
pub fn bytes(columns: &[Column], data: Option<&[Value]>) -> anyhow::Result<Vec<u8>> {
    let mut writer = writer();
    writer.write_record(columns.iter().map(|(title, _)| title))?;
    let mut whole = writer.into_inner()?;
    whole.extend(rows(columns, data.unwrap_or_default())?);
    Ok(whole)
}

/// Rows without a header.
pub fn rows(columns: &[Column], rows: &[Value]) -> anyhow::Result<Vec<u8>> {
    let mut writer = writer();
    for row in rows {
        writer.write_record(columns.iter().map(|(_, at)| harmless(row.pointer(at))))?;
    }
    Ok(writer.into_inner()?)
}

fn writer() -> csv::Writer<Vec<u8>> {
    csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(Vec::new())
}

fn harmless(value: Option<&Value>) -> String {
    let text = match value {
        None | Some(Value::Null) => return String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    };
    if text.starts_with(['=', '+', '-', '@', '\t', '\r', '\n']) { format!("'{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn cells_are_quoted_by_rfc_4180_and_are_no_formulas() {
        let columns = [("a", "/a"), ("b", "/b/c")];
        let data = [
            json!({ "a": "=cmd|'/C calc'!A0", "b": { "c": "x,\"y\"\nz" } }),
            json!({ "a": "-25.00", "b": { "c": null } }),
            json!({ "a": 7, "b": {} }),
            json!({ "a": "@x", "b": { "c": "\t=1" } }),
        ];
        let sheet = String::from_utf8(bytes(&columns, Some(&data)).unwrap()).unwrap();
        assert_eq!(sheet, "a,b\r\n'=cmd|'/C calc'!A0,\"x,\"\"y\"\"\nz\"\r\n'-25.00,\r\n7,\r\n'@x,'\t=1\r\n");
    }
}
