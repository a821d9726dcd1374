//! A running sandbox: finding it again, ending it, removing what is left.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pyro_core::Process;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout_at};

use super::record::{self, Role};
use super::removal::remove_tree;
use crate::guest::{Guest, Transport};
use crate::process::{ProcessRef, kill_all};
use crate::qemu::{AdoptError, Stop};

/// Socket on which the agent listens, in the workspace's directory.
pub(super) const SOCKET: &str = "agent.sock";

/// Time beyond the grace period for the agent to kill what is left and to end.
const END_ALLOWANCE: Duration = Duration::from_secs(10);

/// A running sandbox. Dropping it leaves it running.
#[derive(Debug)]
pub struct Sandbox {
    dir: PathBuf,
    guest: Guest,
    process: ProcessRef,
    /// What carries the network; `None` without one, and when it has ended before.
    network: Option<ProcessRef>,
}

/// Returns how the agent of a workspace's sandbox is reached.
pub(super) fn transport(dir: &Path) -> Transport {
    Transport::Unix { path: dir.join(SOCKET) }
}

impl Sandbox {
    pub(super) const fn new(
        dir: PathBuf,
        guest: Guest,
        process: ProcessRef,
        network: Option<ProcessRef>,
    ) -> Self {
        Self { dir, guest, process, network }
    }

    /// Returns how its agent is talked to.
    #[must_use]
    pub const fn guest(&self) -> &Guest {
        &self.guest
    }

    /// Returns its PID 1, with which all others in it end.
    #[must_use]
    pub const fn process(&self) -> &ProcessRef {
        &self.process
    }

    /// Ends the sandbox; its files stay. Its commands and shells get SIGTERM and, after `grace`, SIGKILL. With a `grace`
    /// of zero all of it is killed at once.
    ///
    /// # Errors
    ///
    /// When the process cannot be ended or the socket not be removed.
    pub async fn stop(&self, grace: Duration) -> io::Result<Stop> {
        let stop = self.stop_agent(grace).await?;
        if let Some(network) = &self.network {
            // It notices the end of PID 1 by itself, but does not tell when.
            end(network).await?;
        }
        match fs::remove_file(self.dir.join(SOCKET)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(stop),
        }
    }

    async fn stop_agent(&self, grace: Duration) -> io::Result<Stop> {
        if !self.process.is_alive()? {
            return Ok(Stop::Gone);
        }
        if grace.is_zero() {
            // Nobody needs its files any more.
            end(&self.process).await?;
            return Ok(Stop::Forced);
        }
        let by = Instant::now() + grace + END_ALLOWANCE;
        // Whether the agent agreed does not matter: the end of the process is what is waited for.
        if let Ok(Ok(())) = timeout_at(by, self.guest.terminate(grace)).await
            && let Ok(exited) = timeout_at(by, self.process.exited()).await
        {
            exited?;
            return Ok(Stop::Graceful);
        }
        end(&self.process).await?;
        Ok(Stop::Forced)
    }
}

/// Returns the sandbox that an earlier daemon started since the host's boot.
///
/// # Errors
///
/// [`AdoptError::Gone`] when there is nothing to adopt. After any error [`clear`] or another boot ends what is left.
pub async fn adopt(dir: &Path, process: Process) -> Result<Sandbox, AdoptError> {
    let process = ProcessRef::find(process).map_err(AdoptError::System)?.ok_or(AdoptError::Gone)?;
    let guest = Guest::new(transport(dir));
    tokio::select! {
        answered = guest.ping() => answered.map(drop)?,
        exited = process.exited() => {
            exited.map_err(AdoptError::System)?;
            return Err(AdoptError::Gone);
        }
    }
    let network = record::find(dir, Role::Network).map_err(AdoptError::System)?;
    Ok(Sandbox::new(dir.to_owned(), guest, process, network))
}

/// Ends the recorded sandbox of a workspace, if it runs.
pub(super) async fn kill_recorded(dir: &Path) -> io::Result<()> {
    for role in [Role::First, Role::Network] {
        if let Some(process) = record::find(dir, role)? {
            end(&process).await?;
        }
    }
    Ok(())
}

/// Kills a process and waits for its end.
async fn end(process: &ProcessRef) -> io::Result<()> {
    process.kill()?;
    process.exited().await
}

/// Ends every process of a workspace's sandbox, whoever started it; its files stay. That nothing runs is no error.
///
/// # Errors
///
/// When a process cannot be ended.
pub async fn clear(dir: &Path) -> io::Result<()> {
    kill_all(dir).await?;
    kill_recorded(dir).await
}

/// Removes everything that is left of a workspace's sandbox: processes, files, directory. That nothing is left is no
/// error.
///
/// # Errors
///
/// When a process cannot be ended or a file not be removed.
pub async fn destroy(dir: &Path) -> io::Result<()> {
    clear(dir).await?;
    remove(dir).await
}

/// Removes the files of a workspace, of whose guest nothing runs any more. That there are none is no error.
///
/// # Errors
///
/// When a file cannot be removed.
pub async fn remove(dir: &Path) -> io::Result<()> {
    let dir = dir.to_owned();
    spawn_blocking(move || remove_tree(&dir)).await.map_err(io::Error::other)?
}
