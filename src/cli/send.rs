//! `postbackd send`: events from a file or pipe into the daemon, losing none of them silently.
//!
//! Every line ends as queued, duplicate or refused, or the command says from which line on nothing was sent. Repeating
//! is safe: the daemon recognises what it has. So whatever may pass (no connection, 429, 5xx) is tried again as long as
//! `--patience` lasts, and an answer that was lost on the way shows as duplicates, not as loss.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use serde_json::{Value, json};

use super::args::{Globals, SendArgs};
use super::backfill::Range;
use super::client::{self, Daemon};
use super::lines::{self, Batch};
use super::{Usage, out};
use crate::domain::limits;
use crate::domain::secret::Secret;
use crate::domain::time::{DurationMs, UnixMs};
use crate::egress::api_client::{ApiError, ApiResponse};
use crate::env::clock::Clock;

/// The first pause before trying again; it doubles up to the longest.
const PAUSE_FIRST: Duration = Duration::from_millis(200);
const PAUSE_LONGEST: Duration = Duration::from_secs(5);

pub async fn send(globals: &Globals, args: &SendArgs, clock: &dyn Clock) -> anyhow::Result<ExitCode> {
    let (source, now) = (args.source.as_deref(), clock.now());
    let range = Range::parse(args.since.as_deref(), args.until.as_deref(), source, now)?;
    let token = token(globals, args, now)?;
    let daemon = Daemon::connect(globals, clock.now())?;
    let name = args.file.display().to_string();
    let mut batches = open(&args.file).and_then(lines::read).with_context(|| format!("{name} cannot be read"))?;
    let (patience, sums) = (args.patience, Sums::default());
    let mut sender = Sender { daemon, token, patience, lines_max: usize::MAX, clock, name, sums };
    let mut ended = Ok(());
    while let Some(batch) = batches.recv().await {
        ended = match batch {
            Ok(batch) => {
                let batch = match &range {
                    Some(range) => sender.sift(range, batch),
                    None => batch,
                };
                sender.deliver(batch).await
            }
            Err(error) => Err(anyhow!(error).context(format!("{} cannot be read further", sender.name))),
        };
        if ended.is_err() {
            break;
        }
    }
    // Nobody reading the summary does not change what was sent.
    sender.sums.print(range.is_some(), globals.json).ok();
    ended?;
    Ok(if sender.sums.rejected == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn token(globals: &Globals, args: &SendArgs, now: UnixMs) -> anyhow::Result<Secret> {
    let name = match (&args.token, &args.source) {
        (Some(token), _) => return Ok(token.clone()),
        (None, Some(name)) => name,
        (None, None) => return Err(Usage("say who sends: --source NAME or --token TOKEN".to_owned()).into()),
    };
    let snapshot = client::load(globals, now).context("--source needs the configuration; --token does without")?;
    let Some(source) = snapshot.sources.get(name.as_str()) else {
        let known: Vec<&str> = snapshot.sources.keys().map(crate::domain::name::SourceName::as_str).collect();
        return Err(Usage(format!("there is no source \"{name}\"; the configuration has: {}", known.join(", "))).into());
    };
    let valid = source.tokens.iter().find(|token| token.until.is_none_or(|end| now < end));
    let valid = valid.ok_or_else(|| anyhow!("every token of source \"{name}\" has ended; add one without `until`"))?;
    Ok(valid.secret.clone())
}

fn open(file: &Path) -> io::Result<Box<dyn io::Read + Send>> {
    if file == Path::new("-") {
        return Ok(Box::new(io::stdin()));
    }
    let opened = std::fs::File::open(file)?;
    if opened.metadata()?.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    Ok(Box::new(opened))
}

struct Sender<'a> {
    daemon: Daemon,
    token: Secret,
    patience: DurationMs,
    /// Lines the daemon takes in one request, as far as it has said: every one above is refused, and counted so.
    lines_max: usize,
    clock: &'a dyn Clock,
    /// The file, for messages.
    name: String,
    sums: Sums,
}

/// What became of the lines.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Sums {
    lines: u64,
    queued: u64,
    duplicate: u64,
    conflicts: u64,
    rejected: u64,
    /// Lines of a backfill that were not meant; not in `lines`.
    out_of_range: u64,
}

/// What one answer of ingest means for the batch it answers.
#[derive(Debug)]
enum Judged {
    /// Every line was answered.
    Items(Vec<Value>),
    /// Too much at once.
    TooLarge(String),
    /// Too many events at once, however small they are, and how many may be.
    TooMany { said: String, limit: Option<usize> },
    /// The batch as a whole was refused; so would a repeat be.
    Refused(String),
    /// It may be taken later.
    Later(String),
    /// No batch would be taken.
    Never(String),
}

impl Sender<'_> {
    /// What of a batch is to be sent; the rest is counted and told.
    fn sift(&mut self, range: &Range, batch: Batch) -> Batch {
        let sifted = range.sift(batch);
        self.sums.out_of_range += sifted.out_of_range;
        for (number, why) in sifted.refused {
            self.refuse(&number.to_string(), "$", &why, 1);
        }
        sifted.batch
    }

    /// Sends a batch to its end, in smaller pieces where the daemon takes less at once.
    async fn deliver(&mut self, batch: Batch) -> anyhow::Result<()> {
        let mut waiting = VecDeque::from([batch]);
        while let Some(batch) = waiting.pop_front() {
            for number in &batch.too_long {
                let detail = format!("the line is longer than an event may be ({} bytes)", limits::EVENT_BYTES);
                self.refuse(&number.to_string(), "$", &detail, 1);
            }
            let batch = Batch { too_long: Vec::new(), ..batch };
            if batch.numbers.is_empty() {
                continue;
            }
            if batch.numbers.len() > self.lines_max
                && let Some((first, second)) = batch.clone().halves()
            {
                waiting.push_front(second);
                waiting.push_front(first);
                continue;
            }
            match self.exchange(&batch).await? {
                Judged::Items(items) => self.book(&batch, &items),
                Judged::TooMany { limit, .. } if batch.numbers.len() > 1 => {
                    let half = batch.numbers.len() / 2;
                    self.lines_max = limit.unwrap_or(half).clamp(1, half);
                    waiting.push_front(batch);
                }
                Judged::TooLarge(said) | Judged::TooMany { said, .. } => match batch.clone().halves() {
                    Some((first, second)) => {
                        waiting.push_front(second);
                        waiting.push_front(first);
                    }
                    None => self.refuse(&span(&batch), "$", &said, 1),
                },
                Judged::Refused(said) => self.refuse(&span(&batch), "$", &said, count(batch.numbers.len())),
                Judged::Later(said) | Judged::Never(said) => {
                    let first = batch.numbers.first().copied().unwrap_or(0);
                    bail!("{}:{first}: {said}; nothing from this line on was sent", self.name);
                }
            }
        }
        Ok(())
    }

    /// Posts until there is an answer that says something about the batch, or patience ends.
    async fn exchange(&self, batch: &Batch) -> anyhow::Result<Judged> {
        let deadline = self.clock.monotonic().saturating_add(self.patience.to_std());
        let mut pause = PAUSE_FIRST;
        let mut told = false;
        loop {
            let judged = match self.daemon.ingest(client::NDJSON, batch.body.clone(), &self.token).await {
                Ok(answer) => judge(&answer, batch.numbers.len()),
                Err(error) => judge_silence(&error),
            };
            let Judged::Later(said) = judged else { return Ok(judged) };
            if self.clock.monotonic().saturating_add(pause) > deadline {
                return Ok(Judged::Later(format!("{said}; gave up after {}", self.patience)));
            }
            if !told {
                out::note(&format!("{said}; trying again for {}", self.patience));
                told = true;
            }
            tokio::time::sleep(pause).await;
            pause = pause.saturating_mul(2).min(PAUSE_LONGEST);
        }
    }

    fn book(&mut self, batch: &Batch, items: &[Value]) {
        for ((index, number), item) in batch.numbers.iter().enumerate().zip(items) {
            let text = |name: &str| item.get(name).and_then(Value::as_str).unwrap_or_default();
            match text("status") {
                "queued" => self.sums.queued += 1,
                "duplicate" => {
                    self.sums.duplicate += 1;
                    self.sums.conflicts += u64::from(item.get("conflict").and_then(Value::as_bool) == Some(true));
                }
                _ => {
                    let (path, detail) = (item_path(text("path"), index), item_detail(text("detail")));
                    self.refuse(&number.to_string(), &path, detail, 1);
                    continue;
                }
            }
            self.sums.lines += 1;
        }
    }

    fn refuse(&mut self, place: &str, path: &str, detail: &str, lines: u64) {
        self.sums.lines += lines;
        self.sums.rejected += lines;
        out::note(&out::plain(&format!("{}:{place}: {path}: {detail}", self.name)));
    }
}

impl Sums {
    /// `ranged`: some lines may not have been meant.
    fn print(self, ranged: bool, json: bool) -> io::Result<()> {
        let Self { lines, queued, duplicate, conflicts, rejected, out_of_range } = self;
        if json {
            let mut sums = json!({
                "lines": lines, "queued": queued, "duplicate": duplicate, "conflicts": conflicts, "rejected": rejected,
            });
            if let (true, Some(sums)) = (ranged, sums.as_object_mut()) {
                sums.insert("out_of_range".to_owned(), out_of_range.into());
            }
            return out::json(&sums);
        }
        let rest = if ranged { format!(", {out_of_range} out of range") } else { String::new() };
        out::line(&format!(
            "sent {lines} lines: {queued} queued, {duplicate} duplicate ({conflicts} conflicts), {rejected} rejected{rest}"
        ))
    }
}

fn judge(answer: &ApiResponse, lines: usize) -> Judged {
    let said = || client::problem_text(answer);
    match answer.status {
        202 | 422 => match (items(answer), answer.status) {
            (Some(items), _) if items.len() == lines => Judged::Items(items),
            (None, 422) => Judged::Refused(said()),
            _ => Judged::Never("the answer does not tell what became of each line; is this a postbackd?".to_owned()),
        },
        400 => Judged::Refused(said()),
        413 => too_large(answer),
        408 | 425 | 429 | 500..=599 => Judged::Later(said()),
        _ => Judged::Never(said()),
    }
}

/// No answer: repeating is safe, so whatever may pass is tried again.
fn judge_silence(error: &ApiError) -> Judged {
    match error {
        ApiError::NotRunning { .. }
        | ApiError::Unreachable { .. }
        | ApiError::Timeout { .. }
        | ApiError::Broken { .. } => Judged::Later(error.to_string()),
        ApiError::Address { .. } | ApiError::Client(_) | ApiError::TooLarge { .. } | ApiError::Token => {
            Judged::Never(error.to_string())
        }
    }
}

/// What became of each line, in order.
fn items(answer: &ApiResponse) -> Option<Vec<Value>> {
    let body: Value = serde_json::from_slice(&answer.body).ok()?;
    body.get("results")?.as_array().cloned()
}

fn too_large(answer: &ApiResponse) -> Judged {
    let said = client::problem_text(answer);
    let body = serde_json::from_slice::<Value>(&answer.body).unwrap_or_default();
    if body.get("code").and_then(Value::as_str) != Some("too_many_events") {
        return Judged::TooLarge(said);
    }
    let limit = body.get("limit").and_then(Value::as_u64).and_then(|limit| usize::try_from(limit).ok());
    Judged::TooMany { said, limit }
}

/// A syntax fault names the line of the batch, as [`item_path`]; the column is the one in the line.
fn item_detail(detail: &str) -> &str {
    let place = detail.strip_prefix("line ").and_then(|rest| rest.split_once(' '));
    match place {
        Some((line, rest)) if line.bytes().all(|byte| byte.is_ascii_digit()) && rest.starts_with("column ") => rest,
        Some(_) | None => detail,
    }
}

/// The path inside the line: the daemon counts lines of the batch, the reader of the message has the line at hand.
fn item_path(path: &str, index: usize) -> String {
    match path.strip_prefix(&format!("$[{index}]")) {
        Some(rest) => format!("${rest}"),
        None if path.is_empty() => "$".to_owned(),
        None => path.to_owned(),
    }
}

/// `7` or `7-12`
fn span(batch: &Batch) -> String {
    match (batch.numbers.first(), batch.numbers.last()) {
        (Some(first), Some(last)) if first != last => format!("{first}-{last}"),
        (first, _) => first.map(ToString::to_string).unwrap_or_default(),
    }
}

fn count(lines: usize) -> u64 {
    u64::try_from(lines).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> ApiResponse {
        ApiResponse { status, content_type: String::new(), body: body.as_bytes().to_vec() }
    }

    #[test]
    fn every_line_must_be_answered_or_nothing_is_taken_as_sent() {
        let two = r#"{"ok":true,"results":[{"status":"queued"},{"status":"rejected"}]}"#;
        assert!(matches!(judge(&answer(202, two), 2), Judged::Items(_)));
        assert!(matches!(judge(&answer(422, two), 2), Judged::Items(_)));
        assert!(matches!(judge(&answer(202, two), 3), Judged::Never(_)));
        assert!(matches!(judge(&answer(202, "{}"), 2), Judged::Never(_)));
        assert!(matches!(judge(&answer(200, two), 2), Judged::Never(_)));
    }

    #[test]
    fn what_may_pass_is_tried_again_and_the_rest_is_not() {
        for status in [408, 425, 429, 500, 502, 503, 507] {
            assert!(matches!(judge(&answer(status, "{}"), 1), Judged::Later(_)), "{status}");
        }
        for status in [301, 401, 403, 404, 415] {
            assert!(matches!(judge(&answer(status, "{}"), 1), Judged::Never(_)), "{status}");
        }
        assert!(matches!(judge(&answer(422, r#"{"detail":"all"}"#), 1), Judged::Refused(_)));
        assert!(matches!(judge(&answer(400, "{}"), 1), Judged::Refused(_)));
        assert!(matches!(judge(&answer(413, "{}"), 1), Judged::TooLarge(_)));
        let too_many = judge(&answer(413, r#"{"code":"too_many_events","limit":5}"#), 9);
        assert!(matches!(too_many, Judged::TooMany { limit: Some(5), .. }));
        assert!(matches!(judge_silence(&ApiError::NotRunning { at: String::new() }), Judged::Later(_)));
        assert!(matches!(judge_silence(&ApiError::Token), Judged::Never(_)));
    }

    #[test]
    fn paths_are_those_inside_the_line() {
        assert_eq!(item_path("$[3].value", 3), "$.value");
        assert_eq!(item_path("$[3]", 3), "$");
        assert_eq!(item_path("$.value", 3), "$.value");
        assert_eq!(item_path("$[30].value", 3), "$[30].value");
        assert_eq!(item_path("", 0), "$");
        assert_eq!(item_detail("line 3 column 2: expected value"), "column 2: expected value");
        assert_eq!(item_detail("line up, please"), "line up, please");
    }
}
