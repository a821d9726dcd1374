//! Starting a sandbox.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream as StdUnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use pyro_core::{Process, WorkspaceId};
use rustix::fs::{Mode, OFlags};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::control::{GO, WORDS_LEN_MAX, Word};
use super::init::Arguments;
use super::network::{NetworkObstacle, slirp4netns};
use super::record::{self, Role};
use super::running::{SOCKET, Sandbox, kill_recorded, transport};
use crate::guest::{Guest, GuestError};
use crate::host::Tools;
use crate::process::{Detached, ProcessRef};

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
    /// Whether it has a way out; the loopback interface it always has.
    pub network: bool,
    /// Where programs of the host are looked for.
    pub tools: Tools,
}

/// A sandbox that has just answered for the first time.
#[derive(Debug)]
pub struct Booted {
    /// The sandbox.
    pub sandbox: Sandbox,
    /// Time from the start of its first process to the agent's first word, in milliseconds.
    pub boot_ms: u64,
}

/// Why a sandbox did not start. Nothing of it runs any more.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// It was to have a network.
    #[error("give the sandbox a network")]
    Network(#[from] NetworkObstacle),
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
    #[error("start the sandbox's first process")]
    Start(#[source] io::Error),
    /// Its first process says why it could not become a sandbox.
    #[error("make the sandbox: {0}")]
    Init(String),
    /// Its agent does not answer.
    #[error("talk to the sandbox's agent")]
    Agent(#[from] GuestError),
    /// Nothing happened for too long.
    #[error("start the sandbox: it did not answer within {} s", BOOT_DEADLINE.as_secs())]
    Silent,
}

/// Starts a sandbox. Dropping the future ends what was started; the directory stays.
///
/// # Errors
///
/// See [`BootError`].
pub async fn boot(spec: &SandboxSpec) -> Result<Booted, BootError> {
    let slirp4netns = spec.network.then(|| slirp4netns(&spec.tools)).transpose()?;
    let failed = |what| move |source| BootError::Prepare { what, path: spec.dir.clone(), source };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&spec.dir)
        .map_err(failed("make the workspace's directory"))?;
    kill_recorded(&spec.dir).await.map_err(failed("end an earlier sandbox"))?;
    let listener = listen(&spec.dir).map_err(failed("listen for the agent"))?;
    let begun = Instant::now();
    let started = timeout(BOOT_DEADLINE, start(spec, slirp4netns, listener)).await;
    let sandbox = started.map_err(|_elapsed| BootError::Silent)??;
    let boot_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok(Booted { sandbox, boot_ms })
}

/// Makes the socket that the agent inherits. On the host its address tells whose it is, which nothing else does of a
/// sandbox's PID 1; in the sandbox nobody can ask for it.
fn listen(dir: &Path) -> io::Result<UnixListener> {
    let socket = dir.join(SOCKET);
    match fs::remove_file(&socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(&socket).or_else(|error| match error.kind() {
        // The path is too long for an address, as one through a descriptor never is.
        io::ErrorKind::InvalidInput => {
            let handle =
                rustix::fs::open(dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
            let through = PathBuf::from(format!("/proc/self/fd/{}", handle.as_raw_fd()));
            UnixListener::bind(through.join(SOCKET))
        }
        _ => Err(error),
    })?;
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// The processes of a sandbox that does not answer yet. They are killed when this is dropped.
#[derive(Default)]
struct Unfinished {
    first: Option<ProcessRef>,
    /// What carries the network, in a sandbox with one.
    network: Option<ProcessRef>,
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        for process in [&self.first, &self.network].into_iter().flatten() {
            // It cannot be refused: the process was started by this one.
            let _killed = process.kill();
        }
    }
}

async fn start(
    spec: &SandboxSpec,
    slirp4netns: Option<PathBuf>,
    listener: UnixListener,
) -> Result<Sandbox, BootError> {
    let arguments = Arguments {
        rootfs: spec.rootfs.clone(),
        agent: spec.agent.clone(),
        hostname: spec.workspace.to_string(),
        slirp4netns,
    };
    let mut unfinished = Unfinished::default();
    let control = (|| {
        let (ours, theirs) = StdUnixStream::pair()?;
        ours.set_nonblocking(true)?;
        // When this future is dropped, the end of the stream makes the first processes end.
        let (init, _ended) = Detached::new(&spec.program, &spec.dir)
            .args(arguments.to_words())
            .stdin(OwnedFd::from(listener))
            .output(OwnedFd::from(theirs))
            .spawn()?;
        unfinished.network = spec.network.then_some(init);
        UnixStream::from_std(ours)
    })()
    .map_err(BootError::Start)?;
    let said = follow(control, &spec.dir, &mut unfinished).await.map_err(BootError::Start)?;
    let process = match (said, unfinished.first.clone()) {
        (None, Some(process)) => process,
        (None, None) => return Err(BootError::Init("its first process ended without a word".to_owned())),
        (Some(why), _) => return Err(BootError::Init(why)),
    };
    let guest = Guest::new(transport(&spec.dir));
    guest.ping().await?;
    unfinished.first = None;
    Ok(Sandbox::new(spec.dir.clone(), guest, process, unfinished.network.take()))
}

/// Listens to the first processes until PID 1 has become the agent or they are gone. Returns why they failed if they
/// did.
async fn follow(
    mut control: UnixStream,
    dir: &Path,
    unfinished: &mut Unfinished,
) -> io::Result<Option<String>> {
    let (words, mut go) = control.split();
    let mut words = BufReader::new(words.take(WORDS_LEN_MAX)).lines();
    while let Some(line) = words.next_line().await? {
        match Word::parse(&line)? {
            Word::First(process) => {
                if let Some(network) = &unfinished.network {
                    record::write(dir, Role::Network, network.process())?;
                }
                unfinished.first = record_first(dir, process)?;
                // A PID 1 that is gone has told why, or will not be there to be asked.
                let _gone = go.write_all(&[GO]).await;
            }
            Word::Failed(why) => return Ok(Some(why)),
        }
    }
    Ok(None)
}

/// Puts PID 1 on record; `None` when it has ended by now.
fn record_first(dir: &Path, process: Process) -> io::Result<Option<ProcessRef>> {
    let found = ProcessRef::find(process)?;
    if found.is_some() {
        record::write(dir, Role::First, process)?;
    }
    Ok(found)
}
