//! What alerts remember, and its rows in both directions.

use std::sync::Arc;

use redb::{ReadOnlyTable, ReadTransaction, ReadableTable, TableError};

use super::Reader;
use crate::domain::alert::{AlertMemory, Notice, NoticeKind, Problem, Rhythm, Rule, Severity, Waiting};
use crate::domain::time::UnixMs;
use crate::store::StoreError;
use crate::store::row::{ProblemRow, RhythmRow, RowError, WaitingRow};
use crate::store::schema::{ALERTS, ALERTS_PROBLEM, ALERTS_RHYTHM, ALERTS_WAITING};

type Table = ReadOnlyTable<&'static str, &'static [u8]>;

/// `None` in a file in which nothing was ever told.
pub(in crate::store) fn table(transaction: &ReadTransaction) -> Result<Option<Table>, StoreError> {
    match transaction.open_table(ALERTS) {
        Ok(table) => Ok(Some(table)),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

impl Reader {
    /// What was told and is not over, how often sources send, and what no channel has taken yet.
    pub fn alerts(&self) -> Result<AlertMemory, StoreError> {
        self.shared.read(|transaction| {
            let mut memory = AlertMemory::default();
            let Some(table) = table(transaction)? else { return Ok(memory) };
            let damage = &self.shared.damage;
            for entry in table.iter()? {
                let (key, bytes) = entry?;
                let (key, bytes) = (key.value(), bytes.value());
                if let Some(id) = key.strip_prefix(ALERTS_PROBLEM) {
                    let problem = damage.read::<ProblemRow, Problem>("alerts", key.as_bytes(), bytes);
                    memory.open.extend(problem.map(|problem| Problem { id: id.to_owned(), ..problem }));
                } else if let Some(source) = key.strip_prefix(ALERTS_RHYTHM).and_then(|name| name.parse().ok())
                    && let Some(rhythm) = damage.read::<RhythmRow, Rhythm>("alerts", key.as_bytes(), bytes)
                {
                    memory.rhythms.insert(source, rhythm);
                } else if key.starts_with(ALERTS_WAITING) {
                    memory.waiting.extend(damage.read::<WaitingRow, Waiting>("alerts", key.as_bytes(), bytes));
                }
            }
            Ok(memory)
        })
    }
}

impl From<&Problem> for ProblemRow {
    fn from(problem: &Problem) -> Self {
        Self {
            rule: problem.rule.as_str().to_owned(),
            // How bad it is now is found out by the next look.
            severity: problem.worst.as_str().to_owned(),
            title: problem.title.clone(),
            text: problem.text.clone(),
            remedy: problem.remedy.clone(),
            since: problem.since.0,
            told_at: problem.told_at.map(|at| at.0),
            told: problem.told,
            good_since: problem.good_since.map(|at| at.0),
        }
    }
}

/// Its id is the key.
impl TryFrom<ProblemRow> for Problem {
    type Error = RowError;

    fn try_from(row: ProblemRow) -> Result<Self, RowError> {
        let rule = Rule::ALL.into_iter().find(|rule| rule.as_str() == row.rule);
        let severity = severity(&row.severity)?;
        Ok(Self {
            id: String::new(),
            rule: rule.ok_or(RowError::Value("rule of an alert"))?,
            severity,
            worst: severity,
            title: row.title,
            text: row.text,
            remedy: row.remedy,
            since: UnixMs(row.since),
            told_at: row.told_at.map(UnixMs),
            told: row.told,
            good_since: row.good_since.map(UnixMs),
        })
    }
}

fn severity(word: &str) -> Result<Severity, RowError> {
    let known = Severity::ALL.into_iter().find(|severity| severity.as_str() == word);
    known.ok_or(RowError::Value("severity of an alert"))
}

impl From<&Waiting> for WaitingRow {
    fn from(Waiting { channel, notice }: &Waiting) -> Self {
        let why = match notice.kind {
            NoticeKind::Closed(why) => Some(why.as_str().to_owned()),
            NoticeKind::Problem
            | NoticeKind::Worse
            | NoticeKind::Reminder
            | NoticeKind::Recovered
            | NoticeKind::Test => None,
        };
        Self {
            channel: channel.clone(),
            kind: notice.kind.as_str().to_owned(),
            why,
            at: notice.at.0,
            id: notice.problem.id.clone(),
            severity: notice.problem.severity.as_str().to_owned(),
            problem: ProblemRow::from(&notice.problem),
        }
    }
}

impl TryFrom<WaitingRow> for Waiting {
    type Error = RowError;

    fn try_from(row: WaitingRow) -> Result<Self, RowError> {
        let kind = NoticeKind::parse(&row.kind, row.why.as_deref()).ok_or(RowError::Value("kind of a message"))?;
        let problem = Problem::try_from(row.problem)?;
        let problem = Problem { id: row.id, severity: severity(&row.severity)?, ..problem };
        Ok(Self { channel: row.channel, notice: Arc::new(Notice { kind, problem, at: UnixMs(row.at) }) })
    }
}

impl From<&Rhythm> for RhythmRow {
    fn from(rhythm: &Rhythm) -> Self {
        Self {
            total: rhythm.total,
            last_event_at: rhythm.last_event_at.map(|at| at.0),
            newest: rhythm.newest,
            counts: rhythm.counts.clone(),
        }
    }
}

impl From<RhythmRow> for Rhythm {
    fn from(row: RhythmRow) -> Self {
        Self { total: row.total, last_event_at: row.last_event_at.map(UnixMs), newest: row.newest, counts: row.counts }
    }
}
