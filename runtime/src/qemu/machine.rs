//! A running guest: finding it again, ending it, removing what is left.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pyro_core::{Process, WorkspaceId};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout, timeout_at};

use super::console::Console;
use super::vsock;
use crate::guest::{Guest, GuestError};
use crate::process::{ProcessRef, kill_all};

/// Time for QEMU to end by itself once it was told to.
const TERMINATE_ALLOWANCE: Duration = Duration::from_secs(2);

/// Time beyond the grace period for a guest to kill what is left, to make its file systems clean and to power off.
const END_ALLOWANCE: Duration = Duration::from_secs(10);

/// A running guest. Dropping it leaves the guest running.
#[derive(Debug)]
pub struct Machine {
    dir: PathBuf,
    guest: Guest,
    process: ProcessRef,
    /// `None` when an earlier daemon booted the guest.
    console: Option<Console>,
}

/// How a guest was stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// It was gone already.
    Gone,
    /// It ended itself: its file systems are clean.
    Graceful,
    /// It did not end in time and was ended: its disk is as after a power cut.
    Forced,
}

/// Why a guest cannot be adopted.
#[derive(Debug, thiserror::Error)]
pub enum AdoptError {
    /// Its process is gone.
    #[error("find the guest: its process is gone")]
    Gone,
    /// Its process is there and its agent does not answer as it should.
    #[error("find the guest: its process runs, its agent does not answer")]
    Agent(#[from] GuestError),
    /// The system refuses to tell.
    #[error("find the guest")]
    System(#[source] io::Error),
}

impl Machine {
    pub(super) const fn booted(dir: PathBuf, guest: Guest, process: ProcessRef, console: Console) -> Self {
        Self { dir, guest, process, console: Some(console) }
    }

    /// Returns how its agent is talked to.
    #[must_use]
    pub const fn guest(&self) -> &Guest {
        &self.guest
    }

    /// Returns its process.
    #[must_use]
    pub const fn process(&self) -> &ProcessRef {
        &self.process
    }

    /// Returns the end of what its console said, at most 64 KiB; `None` when an earlier daemon booted it.
    #[must_use]
    pub fn console(&self) -> Option<String> {
        self.console.as_ref().map(Console::text)
    }

    /// Ends the guest with everything that belongs to it; its disk stays. Its commands and shells get SIGTERM and, after
    /// `grace`, SIGKILL; then it makes its file systems clean. With a `grace` of zero it is killed at once.
    ///
    /// # Errors
    ///
    /// When a process cannot be ended or a socket not be removed.
    pub async fn stop(&self, grace: Duration) -> io::Result<Stop> {
        let stop = self.stop_vmm(grace).await?;
        // The bridge does not end with QEMU.
        kill_all(&self.dir).await?;
        self.process.exited().await?;
        vsock::remove_sockets(&self.dir)?;
        Ok(stop)
    }

    async fn stop_vmm(&self, grace: Duration) -> io::Result<Stop> {
        if !self.process.is_alive()? {
            return Ok(Stop::Gone);
        }
        if grace.is_zero() {
            // Nobody needs its disk any more. While it ends, the bridge is looked for and killed.
            self.process.kill()?;
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
        self.process.terminate()?;
        match timeout(TERMINATE_ALLOWANCE, self.process.exited()).await {
            Ok(exited) => exited?,
            Err(_elapsed) => {
                self.process.kill()?;
                self.process.exited().await?;
            }
        }
        Ok(Stop::Forced)
    }
}

/// Returns the guest of an earlier daemon, which recorded its process since the host's boot.
///
/// # Errors
///
/// [`AdoptError::Gone`] when there is nothing to adopt. After any error [`destroy`] or another boot clears what is left.
pub async fn adopt(workspace: WorkspaceId, dir: &Path, process: Process) -> Result<Machine, AdoptError> {
    let process = ProcessRef::find(process).map_err(AdoptError::System)?.ok_or(AdoptError::Gone)?;
    let guest = Guest::new(vsock::transport_of(workspace, dir));
    tokio::select! {
        answered = guest.ping() => answered.map(drop)?,
        exited = process.exited() => {
            exited.map_err(AdoptError::System)?;
            return Err(AdoptError::Gone);
        }
    }
    Ok(Machine { dir: dir.to_owned(), guest, process, console: None })
}

/// Removes everything that is left of a workspace's guest: processes, sockets, disk, directory. That nothing is left is
/// no error.
///
/// # Errors
///
/// When a process cannot be ended or a file not be removed.
pub async fn destroy(dir: &Path) -> io::Result<()> {
    kill_all(dir).await?;
    let dir = dir.to_owned();
    spawn_blocking(move || match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    })
    .await
    .map_err(io::Error::other)?
}
