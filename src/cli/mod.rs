//! The command line: one file for each family of verbs (SPEC 7).
//!
//! Verbs about a running daemon talk to its HTTP API (`client`) and never touch its files. `check` reads the
//! configuration, `sink` and `demo` bring their own servers. `run` does not name the application: it is handed the
//! function that starts it, so that the layers stay in order. All printing goes through [`out`].

mod alerts;
pub mod args;
mod audit;
mod backfill;
mod backup;
mod check;
mod client;
mod controls;
mod cursor;
mod damaged;
mod deliveries;
mod demo;
mod dlq;
mod exchange;
mod export;
mod follow;
mod groups;
mod jobs;
mod lines;
mod look;
mod man;
mod offline;
pub mod out;
mod paint;
mod reload;
mod report;
mod run;
mod send;
mod sheet;
pub mod sink;
mod status;

use std::future::Future;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::CommandFactory;

use self::args::{Cli, Globals, Verb};
use self::client::Daemon;
pub use self::run::Order;
use crate::env::clock::{Clock, SystemClock};
use crate::pipeline::WriterFault;
use crate::store::{OpenError, StoreError};
use crate::telemetry::log_queue;

/// Exit code of a command line that cannot be obeyed, as clap's own.
const USAGE: u8 = 2;
/// Exit code where a disk failed, as `sysexits.h` has it.
const IO_ERROR: u8 = 74;

/// The command line asks for something that makes no sense; says what to write instead.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Usage(String);

/// Does what the command line says. `start` runs the daemon as ordered until it is told to stop.
pub async fn run<F, R>(cli: Cli, start: F) -> ExitCode
where
    F: FnOnce(Order) -> R,
    R: Future<Output = anyhow::Result<()>>,
{
    match Box::pin(dispatch(cli, start)).await {
        Ok(code) => code,
        Err(error) if closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            last_words(&format!("postbackd: {}", out::plain_lines(&format!("{error:#}"))));
            exit_code(&error)
        }
    }
}

/// Says why the program ends, after everything the log has to say, and waits for nobody who does not read it.
fn last_words(text: &str) {
    const PATIENCE: Duration = Duration::from_secs(1);
    log_queue::flush();
    let (said, heard) = std::sync::mpsc::channel();
    let text = text.to_owned();
    let told = std::thread::Builder::new().spawn(move || {
        out::note(&text);
        // Whoever waited may have given up.
        said.send(()).ok();
    });
    if told.is_ok() {
        heard.recv_timeout(PATIENCE).ok();
    }
}

fn exit_code(error: &anyhow::Error) -> ExitCode {
    if error.is::<Usage>() {
        return ExitCode::from(USAGE);
    }
    // Found out by the daemon's writer, before there was one, or by a verb that works on files.
    let of_the_writer = error.downcast_ref::<WriterFault>().is_some_and(WriterFault::is_of_the_medium);
    let at_opening = error.downcast_ref::<OpenError>().is_some_and(|error| error.medium().is_some());
    let behind_it = matches!(error.downcast_ref::<StoreError>(), Some(StoreError::Medium(_)));
    if of_the_writer || at_opening || behind_it { ExitCode::from(IO_ERROR) } else { ExitCode::FAILURE }
}

/// Tells what clap has to say (help, version, or what is wrong with the command line).
pub fn refused(told: &clap::Error) -> ExitCode {
    told.print().ok();
    u8::try_from(told.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from)
}

async fn dispatch<F, R>(cli: Cli, start: F) -> anyhow::Result<ExitCode>
where
    F: FnOnce(Order) -> R,
    R: Future<Output = anyhow::Result<()>>,
{
    let Cli { globals, verb } = cli;
    let clock = SystemClock::new();
    let connect = |globals: &Globals| Daemon::connect(globals, clock.now());
    match verb {
        Verb::Run(args) => run::run(&globals, &args, clock.now(), start).await,
        Verb::Check(args) => check::check(&globals, &args, Arc::new(clock)).await,
        Verb::Status(args) => status::status(&globals, &args, clock.now()).await,
        Verb::Send(args) => send::send(&globals, &args, &clock).await,
        Verb::Deliveries(args) => deliveries::deliveries(&connect(&globals)?, &args, globals.json).await,
        Verb::Report(args) => report::report(&connect(&globals)?, &args, globals.json).await,
        Verb::Event { id } => deliveries::event(&connect(&globals)?, &id, globals.json).await,
        Verb::Dlq(verb) => dlq::dlq(&globals, verb, &clock).await,
        Verb::Jobs(args) => jobs::jobs(&connect(&globals)?, &args, globals.json).await,
        Verb::Audit { limit, cursor } => audit::audit(&connect(&globals)?, limit, cursor, globals.json).await,
        Verb::Pause(args) => controls::pause(&connect(&globals)?, &args, globals.json).await,
        Verb::Resume(args) => controls::resume(&connect(&globals)?, &args, globals.json).await,
        Verb::Release(args) => controls::release(&connect(&globals)?, &args, globals.json).await,
        Verb::Purge(args) => controls::purge(&globals, &args, clock.now()).await,
        Verb::Preview(args) => look::preview(&globals, &args, clock.now()).await,
        Verb::Test(args) => look::test(&globals, &args, clock.now()).await,
        Verb::Clock(verb) => controls::clock(&connect(&globals)?, &verb, globals.json).await,
        Verb::Alerts(verb) => alerts::alerts(&connect(&globals)?, &verb, globals.json).await,
        Verb::Backup(args) => backup::backup(&globals, &args, clock.now()).await,
        Verb::Verify(args) => offline::verify(&globals, &args, clock.now()),
        Verb::Restore(args) => offline::restore(&globals, &args, clock.now()),
        Verb::Compact(args) => offline::compact(&globals, &args, clock.now()),
        Verb::Reload => reload::reload(&globals, clock.now()).await,
        Verb::Sink(args) => sink::verb::run(&args, globals.json).await,
        Verb::Demo => demo::run(&clock).await,
        Verb::Man { dir } => man::man(&dir),
        Verb::Completions { shell } => completions(shell),
    }
}

fn completions(shell: clap_complete::Shell) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "postbackd", &mut script);
    out::raw(&script)?;
    Ok(ExitCode::SUCCESS)
}

fn closed_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}
