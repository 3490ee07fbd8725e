//! The daemon of the demo: this same program in a process of its own, so that it can be killed for real.

use std::fs::OpenOptions;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};

use super::workspace::Workspace;
use crate::cli::client::Daemon;
use crate::env::clock::Clock;

/// How long the daemon may take to come up, and to stop.
const STARTUP: Duration = Duration::from_secs(15);
const STOP: Duration = Duration::from_secs(10);
/// How often the demo looks whether something has happened.
pub const GLANCE: Duration = Duration::from_millis(10);

/// A running daemon; killed when dropped.
#[derive(Debug)]
pub struct DaemonProcess {
    child: Child,
}

impl DaemonProcess {
    /// Starts the daemon and waits until it is ready.
    pub async fn start(workspace: &Workspace, daemon: &Daemon, clock: &dyn Clock) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("the path of this program is not known")?;
        let log = OpenOptions::new().create(true).append(true).open(workspace.log())?;
        let mut command = Command::new(program);
        command.arg("run").arg("--config").arg(workspace.config());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        // The demo may itself run under a service manager, whose readiness and sockets are not the child's.
        for name in ["NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "WATCHDOG_USEC", "POSTBACKD_ADMIN_TOKEN"] {
            command.env_remove(name);
        }
        let mut process = Self { child: command.spawn().context("the daemon cannot be started")? };
        process.wait_ready(daemon, clock).await?;
        Ok(process)
    }

    async fn wait_ready(&mut self, daemon: &Daemon, clock: &dyn Clock) -> anyhow::Result<()> {
        let deadline = clock.monotonic().saturating_add(STARTUP);
        while clock.monotonic() < deadline {
            if let Some(status) = self.child.try_wait()? {
                bail!("the daemon ended while starting ({status})");
            }
            if daemon.ask("/readyz", "application/json").await.is_ok_and(|answer| answer.status == 200) {
                return Ok(());
            }
            tokio::time::sleep(GLANCE).await;
        }
        Err(anyhow!("the daemon was not ready after {} s", STARTUP.as_secs()))
    }

    /// SIGKILL: what a power cut or the kernel's memory killer does to a process.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        let status = self.child.wait()?;
        if status.signal() == Some(9) { Ok(()) } else { Err(anyhow!("the daemon had ended by itself ({status})")) }
    }

    /// SIGTERM, and the wait for a clean end.
    pub async fn stop(&mut self, clock: &dyn Clock) -> anyhow::Result<ExitStatus> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        let deadline = clock.monotonic().saturating_add(STOP);
        while clock.monotonic() < deadline {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            tokio::time::sleep(GLANCE).await;
        }
        Err(anyhow!("the daemon did not stop within {} s of SIGTERM", STOP.as_secs()))
    }
}

impl Drop for DaemonProcess {
    fn drop(&mut self) {
        // Both fail where it has ended already, which is what is wanted.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
