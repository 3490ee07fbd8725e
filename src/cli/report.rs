//! `postbackd report`: what was taken in and sent, by hour or day, to be held against a network's own figures.

use std::collections::BTreeMap;
use std::process::ExitCode;

use serde_json::{Value, json};

use super::args::ReportArgs;
use super::client::{self, Daemon};
use super::deliveries::cell;
use super::{cursor, out};
use crate::domain::sum::Sum;

/// Counts of a row, as the API names them.
const COUNTS: [&str; 7] = ["accepted", "sent", "pending", "failed", "failed_permanently", "skipped", "discarded"];

/// One period of one destination.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Tally {
    counts: [u64; 7],
    value: BTreeMap<String, Sum>,
}

/// By period and destination.
type Tallies = BTreeMap<(String, String), Tally>;

pub async fn report(daemon: &Daemon, args: &ReportArgs, json: bool) -> anyhow::Result<ExitCode> {
    let mut tallies = Tallies::new();
    let mut at: Option<String> = None;
    loop {
        let parameters = [
            ("by", Some(args.by.as_str())),
            ("destination", args.destination.as_deref()),
            ("event", args.event.as_deref()),
            ("since", args.since.as_deref()),
            ("until", args.until.as_deref()),
            ("cursor", at.as_deref()),
        ];
        let page = daemon.get(&client::query("/v1/report", &parameters)).await?;
        add(&mut tallies, &page)?;
        at = cursor::next(&page, at.as_deref())?;
        if at.is_none() {
            break;
        }
    }
    if json {
        out::json(&Value::Array(tallies.iter().map(row_json).collect()))?;
    } else if args.csv {
        out::raw(csv(&tallies).as_bytes())?;
    } else if tallies.is_empty() {
        out::note("no deliveries");
    } else {
        out::line(&table(&tallies))?;
        out::note("Periods are in UTC and go by when events were received, not by when they occurred.");
    }
    Ok(ExitCode::SUCCESS)
}

/// Adds a piece of the report.
fn add(tallies: &mut Tallies, page: &Value) -> anyhow::Result<()> {
    let Some(rows) = page.get("rows").and_then(Value::as_array) else {
        anyhow::bail!("the answer has no list \"rows\"; is it a postbackd that answers at this address?");
    };
    for row in rows {
        let tally = tallies.entry((cell(row, "/period"), cell(row, "/destination"))).or_default();
        for (count, name) in tally.counts.iter_mut().zip(COUNTS) {
            *count = count.saturating_add(row.get(name).and_then(Value::as_u64).unwrap_or_default());
        }
        for (currency, sum) in row.get("value").and_then(Value::as_object).into_iter().flatten() {
            let sum = sum.as_str().and_then(|sum| sum.parse().ok());
            let sum: Sum = sum.ok_or_else(|| anyhow::anyhow!("the answer holds a value that is no amount"))?;
            tally.value.entry(currency.clone()).or_default().add(sum);
        }
    }
    Ok(())
}

fn row_json(((period, destination), tally): (&(String, String), &Tally)) -> Value {
    let mut row = json!({ "period": period, "destination": destination });
    if let Some(row) = row.as_object_mut() {
        row.extend(COUNTS.iter().zip(tally.counts).map(|(name, count)| ((*name).to_owned(), count.into())));
        let value = tally.value.iter().map(|(currency, sum)| (currency.clone(), sum.to_string().into()));
        row.insert("value".to_owned(), Value::Object(value.collect()));
    }
    row
}

/// A line for each currency, so that every line has one amount; a period that sent nothing of value has one without.
fn csv(tallies: &Tallies) -> String {
    let mut lines = vec![format!("period,destination,{},currency,value\r\n", COUNTS.join(","))];
    for ((period, destination), tally) in tallies {
        let counts = tally.counts.map(|count| count.to_string()).join(",");
        if tally.value.is_empty() {
            lines.push(format!("{period},{destination},{counts},,\r\n"));
        }
        let worth = tally.value.iter();
        lines.extend(worth.map(|(currency, sum)| format!("{period},{destination},{counts},{currency},{sum}\r\n")));
    }
    lines.concat()
}

fn table(tallies: &Tallies) -> String {
    let header = [
        "PERIOD",
        "DESTINATION",
        "ACCEPTED",
        "SENT",
        "PENDING",
        "FAILED",
        "DEAD",
        "SKIPPED",
        "DISCARDED",
        "VALUE SENT",
    ];
    let row = |((period, destination), tally): (&(String, String), &Tally)| {
        let mut row = vec![period.replace(":00.000Z", "Z"), destination.clone()];
        row.extend(tally.counts.iter().map(ToString::to_string));
        let value: Vec<String> = tally.value.iter().map(|(currency, sum)| format!("{sum} {currency}")).collect();
        row.push(if value.is_empty() { "-".to_owned() } else { value.join(", ") });
        row
    };
    out::table(&header, tallies.iter().map(row).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_a_period_are_added_together() {
        let piece = |sent: u64, value: &str| {
            json!({ "rows": [{ "period": "2026-11-21T00:00:00.000Z", "destination": "crm", "accepted": sent + 1, "sent": sent,
                "skipped": 1, "value": { "USD": value } }] })
        };
        let mut tallies = Tallies::new();
        add(&mut tallies, &piece(2, "10.10")).unwrap();
        add(&mut tallies, &piece(3, "0.20")).unwrap();
        insta::assert_snapshot!(table(&tallies), @r"
        PERIOD             DESTINATION  ACCEPTED  SENT  PENDING  FAILED  DEAD  SKIPPED  DISCARDED  VALUE SENT
        2026-11-21T00:00Z  crm          7         5     0        0       0     2        0          10.30 USD
        ");
        assert_eq!(csv(&tallies).lines().nth(1), Some("2026-11-21T00:00:00.000Z,crm,7,5,0,0,0,2,0,USD,10.30"));
        assert!(add(&mut tallies, &json!({})).is_err());
    }
}
