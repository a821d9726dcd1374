//! The daemon as a process: starting it detached, and ending it.
//!
//! ```text
//! start.lock held --> dial (somebody was faster?) --> spawn `pyro daemon run --report-ready` --> wait for its line
//! ```
//!
//! The lock makes one of many clients start the daemon while the others wait for it. It does not make the daemon the only
//! one: the log's own lock does that, and a daemon that comes too late says so and ends.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt::socket_peercred;
use rustix::process::{PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::client::{Client, ClientInfo, ConnectError, TransportError, is_full, open};
use crate::error::{ApiError, ErrorCode};
use crate::home::{Home, HomeError};
use crate::readiness::{READINESS_LEN_MAX, Readiness};
use crate::request::DaemonStopRequest;

/// Time within which a daemon must be ready: replaying a log of several million events fits.
const START_DEADLINE: Duration = Duration::from_secs(120);

/// Time within which a daemon must have ended after it was asked to.
const STOP_DEADLINE: Duration = Duration::from_secs(30);

/// First and longest pause before another attempt, while an earlier daemon is about to end.
const PAUSE_MIN: Duration = Duration::from_millis(5);
const PAUSE_MAX: Duration = Duration::from_millis(200);

/// Variables that a daemon and the programs it calls make use of. The others stay out of it: what the environment of one
/// client holds is nobody's business later.
const KEPT_VARIABLES: &[&str] = &[
    "HOME",
    "LANG",
    "LC_ALL",
    "LOGNAME",
    "PATH",
    "RUST_BACKTRACE",
    "RUST_LOG",
    "TMPDIR",
    "TZ",
    "USER",
    "XDG_CACHE_HOME",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "XDG_RUNTIME_DIR",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "NO_PROXY",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
];

/// Why a daemon could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The home cannot be used.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// A file in `run/` cannot be used.
    #[error("failed to use {path}: {source}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The program cannot be run.
    #[error("failed to start {program}: {source}", program = program.display())]
    Spawn {
        /// The program.
        program: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// It said why it cannot run.
    #[error(transparent)]
    Failed(ApiError),
    /// It ended without a word.
    #[error("the daemon ended while it started")]
    Died {
        /// Where its messages are.
        log: PathBuf,
    },
    /// It is still not ready.
    #[error("the daemon was not ready in {} s", START_DEADLINE.as_secs())]
    Late {
        /// Where its messages are.
        log: PathBuf,
    },
}

impl From<StartError> for ApiError {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Home(error) => error.into(),
            StartError::Failed(error) => error,
            StartError::File { ref source, .. } if is_full(source) => {
                Self::new(ErrorCode::StorageFull, error)
                    .with_hint("free some space in PYRO_HOME and try again")
            }
            StartError::File { .. } => Self::new(ErrorCode::HomeUnusable, error)
                .with_hint("PYRO_HOME must be writable; the next command starts the daemon when it is"),
            StartError::Spawn { .. } => Self::new(ErrorCode::DaemonUnavailable, error),
            StartError::Died { ref log } | StartError::Late { ref log } => {
                let hint = format!("its messages are in {}", log.display());
                Self::new(ErrorCode::DaemonUnavailable, error).with_hint(hint)
            }
        }
    }
}

/// The one client that may start a daemon for a home; the others wait until it is dropped.
#[derive(Debug)]
pub(crate) struct Starter<'a> {
    home: &'a Home,
    program: &'a Path,
    deadline: Instant,
    pause: Duration,
    _lock: File,
}

impl<'a> Starter<'a> {
    /// Makes the home and waits until no other client is starting a daemon.
    pub(crate) fn new(home: &'a Home, program: &'a Path) -> Result<Self, StartError> {
        home.create()?;
        let path = home.start_lock();
        let lock = append(&path).and_then(|file| file.lock().map(|()| file));
        let lock = lock.map_err(|source| StartError::File { path, source })?;
        let deadline = Instant::now() + START_DEADLINE;
        Ok(Self { home, program, deadline, pause: PAUSE_MIN, _lock: lock })
    }

    /// Starts a daemon and waits until it is ready. `Ok` says that it is worth trying to connect.
    pub(crate) fn attempt(&mut self) -> Result<(), StartError> {
        let late = || StartError::Late { log: self.home.daemon_log() };
        if Instant::now() >= self.deadline {
            return Err(late());
        }
        let stdout = self.spawn()?;
        match read_line(stdout, self.deadline).as_deref().map(Readiness::parse) {
            Ok(Some(Readiness::Ready)) => {}
            // An earlier one is still there: one that was started by hand, or one that is about to end.
            Ok(Some(Readiness::Failed(error))) if error.code == ErrorCode::DaemonRunning => {}
            Ok(Some(Readiness::Failed(error))) => return Err(StartError::Failed(error)),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => return Err(late()),
            Ok(None) | Err(_) => return Err(StartError::Died { log: self.home.daemon_log() }),
        }
        if self.pause > PAUSE_MIN {
            std::thread::sleep(self.pause);
        }
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        Ok(())
    }

    fn spawn(&self) -> Result<ChildStdout, StartError> {
        let path = self.home.daemon_log();
        let log = append(&path).map_err(|source| StartError::File { path, source })?;
        let mut child = Command::new(self.program)
            .args(["daemon", "run", "--report-ready"])
            .env_clear()
            .envs(kept_variables())
            .env("PYRO_HOME", self.home.root())
            .env("PYRO_ENVIRONMENT_CACHE_DIR", self.home.environments())
            // It must not keep a file system busy that the client happens to be in.
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .map_err(|source| StartError::Spawn { program: self.program.to_owned(), source })?;
        let stdout = child.stdout.take().expect("standard output is a pipe");
        // It is a child of this process. Where this process goes on, somebody must take note of its end.
        std::thread::spawn(move || child.wait());
        Ok(stdout)
    }
}

fn kept_variables() -> impl Iterator<Item = (OsString, OsString)> {
    std::env::vars_os().filter(|(name, _)| {
        name.to_str().is_some_and(|name| KEPT_VARIABLES.contains(&name) || name.starts_with("PYRO_"))
    })
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

/// Reads up to the first line end or the end of the stream.
fn read_line(mut from: ChildStdout, deadline: Instant) -> io::Result<String> {
    let mut line = Vec::new();
    let mut chunk = [0; 4096];
    while !line.contains(&b'\n') && u64::try_from(line.len()).is_ok_and(|len| len < READINESS_LEN_MAX) {
        wait_readable(&from, deadline)?;
        let len = from.read(&mut chunk)?;
        if len == 0 {
            break;
        }
        line.extend_from_slice(&chunk[..len]);
    }
    String::from_utf8(line).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// Waits until a read would not block.
fn wait_readable(file: &impl AsFd, deadline: Instant) -> io::Result<()> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).map_err(io::Error::other)?;
        match poll(&mut [PollFd::from_borrowed_fd(file.as_fd(), PollFlags::IN)], Some(&timeout)) {
            Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
            Ok(_) => return Ok(()),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Ends the daemon of a home and waits until it is gone. Guests go on.
///
/// Returns its process id; `None` when none runs. A daemon of another version is ended by a signal.
///
/// # Errors
///
/// When it cannot be reached, refuses, or does not end in time.
pub fn stop_daemon(home: &Home, info: &ClientInfo) -> Result<Option<u32>, ConnectError> {
    let io_error = |error: rustix::io::Errno| ConnectError::Transport(TransportError::Io(error.into()));
    let Some(stream) = open(home)? else { return Ok(None) };
    let pid = socket_peercred(&stream).map_err(io_error)?.pid;
    let process = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(process) => process,
        Err(rustix::io::Errno::SRCH) => return Ok(None),
        Err(error) => return Err(io_error(error)),
    };
    // Whoever answers now was alive when the handle was opened, so the handle is that of the daemon.
    match Client::handshake(stream, info) {
        Ok(mut client) => match client.call(DaemonStopRequest::default(), drop) {
            Ok(_) | Err(crate::CallError::Transport(TransportError::Lost)) => {}
            Err(crate::CallError::Failed(error)) => return Err(ConnectError::Refused(error)),
            Err(crate::CallError::Transport(error)) => return Err(error.into()),
            Err(crate::CallError::Connect(error)) => return Err(error),
        },
        Err(ConnectError::Refused(error)) if error.code == ErrorCode::VersionMismatch => {
            pidfd_send_signal(&process, Signal::TERM).map_err(io_error)?;
        }
        Err(ConnectError::Refused(error)) if error.code == ErrorCode::DaemonStopping => {}
        Err(ConnectError::Transport(TransportError::Lost)) => {}
        Err(error) => return Err(error),
    }
    wait_readable(&process, Instant::now() + STOP_DEADLINE)
        .map_err(|error| ConnectError::Transport(TransportError::Io(error)))?;
    Ok(u32::try_from(pid.as_raw_nonzero().get()).ok())
}
