//! Starting a process that has nothing to do with the daemon but its existence.
#![expect(unsafe_code, reason = "a session is made between fork and exec")]

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use tokio::task::JoinHandle;

use super::ProcessRef;

/// A program to start in a session of its own, so that it lives on when the daemon ends, however that happens.
///
/// It gets an empty environment, no descriptors but the three standard ones, and no controlling terminal.
#[derive(Debug)]
pub struct Detached {
    program: PathBuf,
    arguments: Vec<OsString>,
    dir: PathBuf,
    stdin: Option<OwnedFd>,
    output: Option<OwnedFd>,
}

impl Detached {
    /// Describes a program that works in `dir`, by which [`processes_with`](super::processes_with) finds it.
    #[must_use]
    pub fn new(program: &Path, dir: &Path) -> Self {
        Self {
            program: program.to_owned(),
            arguments: Vec::new(),
            dir: dir.to_owned(),
            stdin: None,
            output: None,
        }
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: Into<OsString>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Sets what the program has as its standard input, `/dev/null` otherwise.
    #[must_use]
    pub fn stdin(mut self, stdin: OwnedFd) -> Self {
        self.stdin = Some(stdin);
        self
    }

    /// Sets where its output and its errors go, `/dev/null` otherwise.
    #[must_use]
    pub fn output(mut self, output: OwnedFd) -> Self {
        self.output = Some(output);
        self
    }

    /// Starts the program. Must be called in a tokio runtime, which takes note of its end.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub fn spawn(self) -> io::Result<(ProcessRef, Ended)> {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).current_dir(&self.dir).env_clear();
        command.stdin(self.stdin.map_or_else(Stdio::null, Stdio::from));
        match self.output {
            Some(output) => {
                command.stdout(output.try_clone()?);
                command.stderr(output);
            }
            None => {
                command.stdout(Stdio::null()).stderr(Stdio::null());
            }
        }
        // SAFETY: the closure runs in the child between fork and exec, where other threads' locks may be held for
        // ever. It makes two system calls and touches neither the heap nor any lock.
        unsafe {
            command.pre_exec(|| {
                rustix::process::setsid()?;
                close_on_exec_from(3)
            });
        }
        let mut child = command.spawn()?;
        let process = ProcessRef::of_pid(child.id())?
            .ok_or_else(|| io::Error::other("a child that nobody has waited for has no pid"))?;
        let watched = process.clone();
        // Without a wait it would stay a zombie as long as the daemon lives.
        let task = tokio::spawn(async move {
            watched.exited().await?;
            child.wait()
        });
        Ok((process, Ended { task }))
    }
}

/// Has all descriptors from `first` on closed by exec: std marks its own, but not those that the daemon was started
/// with.
fn close_on_exec_from(first: u32) -> io::Result<()> {
    // SAFETY: close_range with CLOSE_RANGE_CLOEXEC closes nothing and touches no memory.
    match unsafe { libc::close_range(first, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC.cast_signed()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The end of a process that this daemon started. Dropping it changes nothing.
#[derive(Debug)]
pub struct Ended {
    task: JoinHandle<io::Result<ExitStatus>>,
}

impl Ended {
    /// Waits for the end and returns how it came. It can be cancelled, and is not to be called again once it returned.
    ///
    /// # Errors
    ///
    /// When the system refuses to tell.
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        (&mut self.task).await.map_err(io::Error::other)?
    }
}
