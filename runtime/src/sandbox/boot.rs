//! The host's side: starting a sandbox, finding it again, ending it.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use pyro_core::{Process, WorkspaceId};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::init::Arguments;
use super::record;
use crate::guest::{Guest, GuestError, Transport};
use crate::process::{Detached, ProcessRef, kill_all};

/// Socket on which the agent listens, in the workspace's directory.
const SOCKET: &str = "agent.sock";

/// Longest report of a sandbox that does not start, in bytes.
const REPORT_LEN_MAX: u64 = 4096;

/// Time for a sandbox to answer. It takes milliseconds.
const BOOT_DEADLINE: Duration = Duration::from_secs(20);

/// A sandbox to start.
#[derive(Clone, Debug)]
pub struct SandboxSpec {
    /// Whose sandbox it is; its host name.
    pub workspace: WorkspaceId,
    /// Directory of the workspace, made when it is missing: files and the socket are in it.
    pub dir: PathBuf,
    /// The root file system, as [`Installed::rootfs_tree`](crate::environment::Installed::rootfs_tree) has it. Only
    /// read.
    pub rootfs: PathBuf,
    /// The guest agent, statically linked.
    pub agent: PathBuf,
    /// A program that calls [`init_main`](super::init_main) when it is given the argument `sandbox-init`.
    pub program: PathBuf,
}

/// A sandbox that has just answered for the first time.
#[derive(Debug)]
pub struct Booted {
    /// The sandbox.
    pub sandbox: Sandbox,
    /// Time from the start of its first process to the agent's first word, in milliseconds.
    pub boot_ms: u64,
}

/// A running sandbox. Dropping it leaves it running.
#[derive(Debug)]
pub struct Sandbox {
    guest: Guest,
    process: ProcessRef,
}

/// Why a sandbox did not start. Nothing of it runs any more.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// Something on the host's disk could not be made.
    #[error("{what} ({})", path.display())]
    Prepare {
        /// What was to be done.
        what: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Its first process could not be started or looked after.
    #[error("start the first process of the sandbox")]
    Start(#[source] io::Error),
    /// Its first process says why it could not become a sandbox.
    #[error("{0}")]
    Init(String),
    /// Its agent does not answer.
    #[error("talk to the sandbox's agent")]
    Agent(#[from] GuestError),
    /// Nothing happened for too long.
    #[error("start the sandbox: it did not answer within {} s", BOOT_DEADLINE.as_secs())]
    Silent,
}

/// Why a sandbox cannot be adopted.
#[derive(Debug, thiserror::Error)]
pub enum AdoptError {
    /// Its first process is gone.
    #[error("find the sandbox: its first process is gone")]
    Gone,
    /// Its agent does not answer.
    #[error("find the sandbox: its agent does not answer")]
    Agent(#[from] GuestError),
    /// The system refuses to tell.
    #[error("find the sandbox")]
    System(#[source] io::Error),
}

impl Sandbox {
    /// Returns how its agent is talked to.
    #[must_use]
    pub const fn guest(&self) -> &Guest {
        &self.guest
    }

    /// Returns its first process, with which all others in it end.
    #[must_use]
    pub const fn process(&self) -> &ProcessRef {
        &self.process
    }

    /// Ends the sandbox; its files stay. Within `grace` its agent may end the commands.
    ///
    /// # Errors
    ///
    /// When the process cannot be ended.
    pub async fn stop(&self, grace: Duration) -> io::Result<()> {
        let asked = async {
            if self.guest.shutdown().await.is_ok() {
                // Whether it ended is asked below.
                drop(self.process.exited().await);
            }
        };
        if !grace.is_zero() {
            // A sandbox that does not end by itself is killed.
            let _in_time = timeout(grace, asked).await;
        }
        self.process.kill()?;
        self.process.exited().await
    }
}

/// Starts a sandbox. Dropping the future ends what was started.
///
/// # Errors
///
/// See [`BootError`].
pub async fn boot(spec: &SandboxSpec) -> Result<Booted, BootError> {
    let begun = Instant::now();
    let listener = prepare(spec)?;
    let mut attempt = Attempt { unfinished: Some(&spec.dir) };
    let booted = timeout(BOOT_DEADLINE, start(spec, listener)).await.map_err(|_| BootError::Silent);
    let sandbox = match booted.and_then(|started| started) {
        Ok(sandbox) => sandbox,
        Err(error) => {
            kill_recorded(&spec.dir).await.map_err(BootError::Start)?;
            return Err(error);
        }
    };
    attempt.unfinished = None;
    let boot_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok(Booted { sandbox, boot_ms })
}

/// Kills the sandbox of a boot whose future is dropped.
struct Attempt<'a> {
    unfinished: Option<&'a Path>,
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if let Some(dir) = self.unfinished
            && let Ok(Some(process)) = record::find(dir)
        {
            drop(process.kill());
        }
    }
}

fn prepare(spec: &SandboxSpec) -> Result<UnixListener, BootError> {
    let failed = |what| {
        let path = spec.dir.clone();
        move |source| BootError::Prepare { what, path, source }
    };
    let mut private = DirBuilder::new();
    private.recursive(true).mode(0o700);
    private.create(&spec.dir).map_err(failed("make the workspace's directory"))?;
    let socket = spec.dir.join(SOCKET);
    match fs::remove_file(&socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(failed("remove an old socket")(error));
        }
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(&socket).map_err(failed("listen for the agent"))?;
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o600)).map_err(failed("protect the socket"))?;
    Ok(listener)
}

async fn start(spec: &SandboxSpec, listener: UnixListener) -> Result<Sandbox, BootError> {
    let (report, output) = io::pipe().map_err(BootError::Start)?;
    let arguments = Arguments {
        rootfs: spec.rootfs.clone(),
        agent: spec.agent.clone(),
        hostname: spec.workspace.to_string(),
    };
    let (_, mut ended) = Detached::new(&spec.program, &spec.dir)
        .args(arguments.to_words())
        .stdin(OwnedFd::from(listener))
        .output(OwnedFd::from(output))
        .spawn()
        .map_err(BootError::Start)?;
    let report = spawn_blocking(move || read_report(report.into()))
        .await
        .map_err(io::Error::other)
        .map_err(BootError::Start)?;
    let report = report.map_err(BootError::Start)?;
    let status = ended.wait().await.map_err(BootError::Start)?;
    if !report.is_empty() || !status.success() {
        let report =
            if report.is_empty() { format!("its first process ended with {status}") } else { report };
        return Err(BootError::Init(report));
    }
    let process = record::find(&spec.dir).map_err(BootError::Start)?;
    let process = process.ok_or_else(|| BootError::Init("its agent ended at once".to_owned()))?;
    let guest = Guest::new(Transport::Unix { path: spec.dir.join(SOCKET) });
    guest.ping().await?;
    Ok(Sandbox { guest, process })
}

/// Reads what the first processes say until both are gone or have become the agent, which closes the pipe.
fn read_report(report: OwnedFd) -> io::Result<String> {
    let mut text = Vec::new();
    File::from(report).take(REPORT_LEN_MAX).read_to_end(&mut text)?;
    Ok(String::from_utf8_lossy(&text).trim().to_owned())
}

/// Returns the sandbox that an earlier daemon started since the host's boot.
///
/// # Errors
///
/// [`AdoptError::Gone`] when there is nothing to adopt.
pub async fn adopt(dir: &Path, process: Process) -> Result<Sandbox, AdoptError> {
    let process = ProcessRef::find(process).map_err(AdoptError::System)?.ok_or(AdoptError::Gone)?;
    let guest = Guest::new(Transport::Unix { path: dir.join(SOCKET) });
    tokio::select! {
        answered = guest.ping() => answered.map(drop)?,
        exited = process.exited() => {
            exited.map_err(AdoptError::System)?;
            return Err(AdoptError::Gone);
        }
    }
    Ok(Sandbox { guest, process })
}

/// Ends every process of a workspace's sandbox; its files stay. That nothing runs is no error.
async fn kill_recorded(dir: &Path) -> io::Result<()> {
    if let Some(process) = record::find(dir)? {
        process.kill()?;
        process.exited().await?;
    }
    kill_all(dir).await
}

/// Removes everything that is left of a workspace's sandbox. That nothing is left is no error.
///
/// # Errors
///
/// When a process cannot be ended or a file not be removed.
pub async fn destroy(dir: &Path) -> io::Result<()> {
    // A sandbox-init that still lives could record a process after the look at the record.
    kill_all(dir).await?;
    kill_recorded(dir).await?;
    let dir = dir.to_owned();
    spawn_blocking(move || remove_tree(&dir)).await.map_err(io::Error::other)?
}

fn remove_tree(dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(dir) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            open_directories(dir)?;
            fs::remove_dir_all(dir)
        }
        Err(error) => Err(error),
    }
}

/// Gives their owner access to all directories below one: overlayfs and the sandbox's programs make some without. Links
/// are not followed.
fn open_directories(dir: &Path) -> io::Result<()> {
    fs::set_permissions(dir, fs::Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            open_directories(&entry.path())?;
        }
    }
    Ok(())
}
