//! Processes that outlive the daemon, and the certainty that a signal reaches the one that was meant.

mod detached;
mod readiness;
#[cfg(test)]
mod tests;

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;

use pyro_core::Process;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

pub use detached::{Detached, Ended};

/// A process, held by a descriptor: whatever becomes of its pid, no other process is taken for it.
///
/// A process that has ended and was not waited for counts as gone.
#[derive(Clone, Debug)]
pub struct ProcessRef {
    process: Process,
    pidfd: Arc<OwnedFd>,
}

impl ProcessRef {
    /// Returns the process that was recorded, `None` when it is gone.
    ///
    /// A start time is counted since the boot of the host: a record from before a reboot is not to be looked up.
    ///
    /// # Errors
    ///
    /// When the system refuses to tell.
    pub fn find(process: Process) -> io::Result<Option<Self>> {
        let Some(found) = Self::of_pid(process.pid)? else {
            return Ok(None);
        };
        Ok((found.process == process && found.is_alive()?).then_some(found))
    }

    /// Returns the process that calls.
    ///
    /// # Errors
    ///
    /// When the system refuses to tell, as without `/proc`.
    pub fn own() -> io::Result<Self> {
        Self::of_pid(std::process::id())?.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }

    /// Returns the process that has this pid now, `None` when there is none.
    pub(crate) fn of_pid(pid: u32) -> io::Result<Option<Self>> {
        let Some(raw) = i32::try_from(pid).ok().and_then(Pid::from_raw) else {
            return Ok(None);
        };
        let pidfd = match pidfd_open(raw, PidfdFlags::empty()) {
            Ok(pidfd) => pidfd,
            // A thread that leads no process gives EINVAL.
            Err(Errno::SRCH | Errno::INVAL) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        // Read after the open. If the pid was given to another process in between, the start time is that one's and
        // the descriptor's process is gone, which `is_alive` notices.
        let Some(stat) = Stat::read(pid)? else {
            return Ok(None);
        };
        let process = Process { pid, start_ticks: stat.start_ticks };
        Ok(Some(Self { process, pidfd: Arc::new(pidfd) }))
    }

    /// Returns the record by which a later daemon finds the process.
    #[must_use]
    pub const fn process(&self) -> Process {
        self.process
    }

    /// Tells whether the process has not ended.
    ///
    /// # Errors
    ///
    /// When the system refuses to tell.
    pub fn is_alive(&self) -> io::Result<bool> {
        let mut fds = [PollFd::new(&*self.pidfd, PollFlags::IN)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        loop {
            match rustix::event::poll(&mut fds, Some(&now)) {
                Ok(ready) => return Ok(ready == 0),
                Err(Errno::INTR) => (),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Asks the process to end. That it is gone already is no error.
    ///
    /// # Errors
    ///
    /// When the system refuses.
    pub fn terminate(&self) -> io::Result<()> {
        self.signal(Signal::TERM)
    }

    /// Kills the process. That it is gone already is no error.
    ///
    /// # Errors
    ///
    /// When the system refuses.
    pub fn kill(&self) -> io::Result<()> {
        self.signal(Signal::KILL)
    }

    fn signal(&self, signal: Signal) -> io::Result<()> {
        match pidfd_send_signal(&self.pidfd, signal) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits until the process has ended. It can be cancelled and called from several tasks.
    ///
    /// # Errors
    ///
    /// When the system refuses to tell.
    pub async fn exited(&self) -> io::Result<()> {
        // A descriptor can be waited for once at a time, so that each wait has its own.
        readiness::readable(self.pidfd.as_fd().try_clone_to_owned()?).await
    }
}

/// Kills the detached processes that belong to a directory and waits for their end; see [`processes_with`].
///
/// # Errors
///
/// When `/proc` cannot be read or the system refuses.
pub async fn kill_all(dir: &Path) -> io::Result<()> {
    let dir = dir.to_owned();
    let processes =
        tokio::task::spawn_blocking(move || processes_with(&dir)).await.map_err(io::Error::other)??;
    for process in &processes {
        process.kill()?;
    }
    for process in &processes {
        process.exited().await?;
    }
    Ok(())
}

/// Returns the detached processes of this user that belong to a directory: their working directory is there, or
/// their command line mentions it.
///
/// Only leaders of sessions without a terminal count, which [`Detached`] makes: an editor or a `tail -f` that
/// somebody opened on a file in the directory does not.
///
/// # Errors
///
/// When `/proc` cannot be read.
pub fn processes_with(dir: &Path) -> io::Result<Vec<ProcessRef>> {
    let dir = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
    let uid = rustix::process::geteuid().as_raw();
    let own = std::process::id();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        if pid == own || entry.metadata().map(|metadata| metadata.uid()).ok() != Some(uid) {
            continue;
        }
        // The descriptor comes first, so that what is read belongs to the process that is returned.
        let Some(process) = ProcessRef::of_pid(pid)? else {
            continue;
        };
        if belongs_to(&entry.path(), pid, &dir)? && process.is_alive()? {
            found.push(process);
        }
    }
    Ok(found)
}

fn belongs_to(proc: &Path, pid: u32, dir: &Path) -> io::Result<bool> {
    match Stat::read(pid)? {
        Some(stat) if stat.session == Some(pid) && !stat.has_terminal => (),
        Some(_) | None => return Ok(false),
    }
    // Either file may be gone or refused when the process ends meanwhile; then it is not worth finding.
    let works_there = fs::read_link(proc.join("cwd")).is_ok_and(|cwd| cwd.starts_with(dir));
    Ok(works_there || fs::read(proc.join("cmdline")).is_ok_and(|line| mentions(&line, dir.as_os_str())))
}

/// Tells whether a command line has the path in it, as a whole argument or as a part such as `file=<path>/disk`.
fn mentions(command_line: &[u8], path: &OsStr) -> bool {
    let path = path.as_bytes();
    let ends_path = |byte: Option<&u8>| matches!(byte, None | Some(0 | b'/' | b','));
    let begins_path = |byte: Option<&u8>| matches!(byte, None | Some(0 | b'=' | b',' | b':'));
    command_line.windows(path.len()).enumerate().any(|(start, window)| {
        let before = start.checked_sub(1).and_then(|before| command_line.get(before));
        window == path && begins_path(before) && ends_path(command_line.get(start + path.len()))
    })
}

/// What is needed of `/proc/PID/stat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stat {
    /// `None` when the leader is in another pid namespace.
    session: Option<u32>,
    has_terminal: bool,
    start_ticks: u64,
}

impl Stat {
    /// Reads the line of a process; `None` when there is no such process.
    fn read(pid: u32) -> io::Result<Option<Self>> {
        match fs::read(format!("/proc/{pid}/stat")) {
            Ok(line) => Self::parse(&line).map(Some).ok_or_else(|| {
                io::Error::new(io::ErrorKind::InvalidData, format!("/proc/{pid}/stat has an unknown form"))
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) if error.raw_os_error() == Some(Errno::SRCH.raw_os_error()) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Understands a line. The name in it is the process's own choice, may hold blanks and parentheses, and ends at
    /// the last of them.
    fn parse(line: &[u8]) -> Option<Self> {
        let behind_name = line.iter().rposition(|byte| *byte == b')')? + 1;
        let text = str::from_utf8(line.get(behind_name..)?).ok()?;
        // The first field behind the name is number 3 of proc_pid_stat(5).
        let fields = text.split_ascii_whitespace().collect::<Vec<_>>();
        let field = |number: usize| fields.get(number - 3).copied();
        Some(Self {
            session: field(6)?.parse().ok().filter(|session| *session != 0),
            has_terminal: field(7)? != "0",
            start_ticks: field(22)?.parse().ok()?,
        })
    }
}
