//! The binary: reads the command line, starts a runtime, and leaves the rest to the library.

use std::process::ExitCode;

use clap::Parser;
use postbackd::cli::{self, args::Cli, out};

/// Every event is made on one thread and given back on another; the allocator of glibc takes a lock for that, and threads that
/// wait for it took a third of the processor's time. How it behaves is set in `.cargo/config.toml`.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(refused) => return cli::refused(&refused),
    };
    if let Err(error) = postbackd::egress::tls::install() {
        out::note(&format!("postbackd: {error}"));
        return ExitCode::FAILURE;
    }
    // While there is but one thread: it changes the environment.
    let passed = postbackd::app::Passed::take();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            out::note(&format!("postbackd: the runtime cannot start: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(cli::run(cli, |order| postbackd::app::run(order, passed)));
    postbackd::telemetry::log_queue::flush();
    // What has to end in order has ended; nobody waits for a name lookup that hangs.
    runtime.shutdown_background();
    code
}
