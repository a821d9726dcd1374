//! Runs the external programs of a pull so that none of them outlives it.
//!
//! Each program is the first process of a process namespace, so killing it ends whatever it started, at once and
//! without exception. It is killed when the pull is cancelled and, by `setpriv --pdeathsig`, when pyro itself is.
//! Its mount namespace ends with it: without one, a killed mmdebstrap would leave the host's `/sys` and `/dev/shm`
//! mounted in its temporary directory, where the next removal would empty them.
//!
//! An ordinary user's programs run as root of a user namespace with all subordinate ids, so that they see the
//! files of an environment with their true owners.
//!
//! The lock of the environment is the standard input of every program: even in the instant between the death of
//! pyro and theirs no other pull starts over the same files.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, geteuid, kill_process_group, waitid};

use super::pull::PullError;
use crate::host::{Tool, Tools};

/// Bytes kept of the end of what a program wrote to standard error, for the message if it fails.
const TAIL_BYTES: usize = 4096;

/// Arguments of `unshare` by which an ordinary user becomes root of a namespace.
const MAPPED_ROOT: &[&str] = &["--user", "--map-root-user", "--map-auto", "--"];

/// Arguments of `unshare` by which a program and all it starts become mortal and keep their mounts to themselves.
const OWN_NAMESPACES: &[&str] = &["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--"];

/// The switch by which a pull is ended from outside.
#[derive(Clone, Debug, Default)]
pub(super) struct Cancel(Arc<Mutex<Running>>);

#[derive(Debug, Default)]
struct Running {
    cancelled: bool,
    /// The group of the running program. Set only while its leader is not reaped, so the number cannot mean
    /// another process.
    group: Option<Pid>,
}

impl Running {
    fn kill(&self) {
        if let Some(group) = self.group {
            // The only possible failure is that all its processes have ended.
            kill_process_group(group, Signal::KILL).ok();
        }
    }
}

impl Cancel {
    /// Ends the running program and lets no further one start.
    pub(super) fn cancel(&self) {
        let mut running = self.lock();
        running.cancelled = true;
        running.kill();
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.lock().cancelled
    }

    /// Returns [`PullError::Cancelled`] once the pull was cancelled.
    pub(super) fn check(&self) -> Result<(), PullError> {
        if self.is_cancelled() { Err(PullError::Cancelled) } else { Ok(()) }
    }

    fn lock(&self) -> MutexGuard<'_, Running> {
        // Both fields are valid at any time, so a panic elsewhere spoils nothing.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a program unless the pull was cancelled, with no moment in between.
    fn start(&self, command: &mut Command) -> Result<io::Result<Child>, PullError> {
        let mut running = self.lock();
        if running.cancelled {
            return Err(PullError::Cancelled);
        }
        let child = command.spawn();
        running.group = child.as_ref().ok().map(Pid::from_child);
        Ok(child)
    }

    fn reap(&self, child: &mut Child) -> io::Result<ExitStatus> {
        // Wait first without the lock: the leader becomes a zombie, which still owns its number.
        loop {
            match waitid(WaitId::Pid(Pid::from_child(child)), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT) {
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
                Ok(_) => break,
            }
        }
        self.lock().group = None;
        child.wait()
    }
}

/// Starts programs on behalf of one pull.
#[derive(Debug)]
pub(super) struct Runner<'a> {
    pub(super) tools: &'a Tools,
    pub(super) cancel: &'a Cancel,
    /// Open lock of the environment.
    pub(super) lock: &'a File,
    /// Working directory of the programs.
    pub(super) dir: &'a Path,
}

impl Runner<'_> {
    /// Runs a tool to its end and returns what it wrote to standard output.
    ///
    /// Every line of its standard error is given to `line` as it comes.
    pub(super) fn run(
        &self,
        tool: Tool,
        arguments: &[&str],
        line: &mut dyn FnMut(&str),
    ) -> Result<Vec<u8>, PullError> {
        let (setpriv, unshare) = (self.tools.require(Tool::Setpriv)?, self.tools.require(Tool::Unshare)?);
        let mut command = if geteuid().is_root() {
            Command::new(setpriv)
        } else {
            // Becoming root of a namespace clears the wish to die with the parent, so that comes afterwards.
            let mut mapped = Command::new(&unshare);
            mapped.args(MAPPED_ROOT).arg(setpriv);
            mapped
        };
        command.args(["--pdeathsig", "KILL", "--"]).arg(unshare).args(OWN_NAMESPACES);
        command.arg(self.tools.require(tool)?).args(arguments);
        let failed = |source| PullError::Io { doing: "run", path: tool.binary().into(), source };
        command
            .env("LC_ALL", "C")
            // What a killed program leaves is then taken away with the rest.
            .env("TMPDIR", self.dir)
            .current_dir(self.dir)
            .stdin(self.lock.try_clone().map_err(failed)?)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        let mut child = self.cancel.start(&mut command)?.map_err(failed)?;
        let mut lines = Lines { line, partial: Vec::new(), tail: Vec::new() };
        let output = self.collect(&mut child, &mut lines);
        if output.is_err() {
            self.cancel.lock().kill();
        }
        let status = self.cancel.reap(&mut child).map_err(failed)?;
        let output = output.map_err(failed)?;
        self.cancel.check()?;
        if status.success() {
            return Ok(output);
        }
        let tail = String::from_utf8_lossy(&lines.tail).trim().to_owned();
        Err(PullError::ToolFailed { tool: tool.binary(), status, output: tail })
    }

    /// Reads both streams until every process that holds them has ended.
    fn collect(&self, child: &mut Child, lines: &mut Lines<'_>) -> io::Result<Vec<u8>> {
        let mut output = Vec::new();
        let (mut stdout, mut stderr) = (child.stdout.take(), child.stderr.take());
        let mut buffer = [0; 8192];
        while stdout.is_some() || stderr.is_some() {
            let (first, second) = {
                let streams = [stdout.as_ref().map(AsFd::as_fd), stderr.as_ref().map(AsFd::as_fd)];
                let mut waiting =
                    streams.iter().flatten().map(|fd| PollFd::new(fd, PollFlags::IN)).collect::<Vec<_>>();
                match poll(&mut waiting, None) {
                    Ok(_) | Err(rustix::io::Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                }
                let mut ready = waiting.iter().map(|fd| !fd.revents().is_empty());
                (
                    streams[0].is_some() && ready.next() == Some(true),
                    streams[1].is_some() && ready.next() == Some(true),
                )
            };
            if first && let Some(stream) = &mut stdout {
                match stream.read(&mut buffer)? {
                    0 => stdout = None,
                    length => output.extend_from_slice(&buffer[..length]),
                }
            }
            if second && let Some(stream) = &mut stderr {
                match stream.read(&mut buffer)? {
                    0 => stderr = None,
                    length => lines.push(&buffer[..length]),
                }
            }
        }
        Ok(output)
    }
}

/// Splits standard error into lines and keeps its end.
struct Lines<'a> {
    line: &'a mut dyn FnMut(&str),
    partial: Vec<u8>,
    tail: Vec<u8>,
}

impl Lines<'_> {
    fn push(&mut self, bytes: &[u8]) {
        self.tail.extend_from_slice(bytes);
        let surplus = self.tail.len().saturating_sub(TAIL_BYTES);
        self.tail.drain(..surplus);
        for byte in bytes {
            // A program that never ends its line must not fill the memory.
            if *byte == b'\n' || self.partial.len() == TAIL_BYTES {
                (self.line)(&String::from_utf8_lossy(&self.partial));
                self.partial.clear();
            } else {
                self.partial.push(*byte);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Cancel, Runner};
    use crate::environment::pull::PullError;
    use crate::host::{Tool, Tools};
    use std::fs::File;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    /// Gives a shell the name of a tool, so that a test can say what the tool does.
    fn shell_as(tool: Tool, dir: &Path) -> Tools {
        symlink("/bin/sh", dir.join(tool.binary())).unwrap();
        Tools::in_dirs(vec![dir.to_owned(), "/usr/bin".into(), "/bin".into()])
    }

    fn run(
        dir: &Path,
        cancel: &Cancel,
        script: &str,
        line: &mut dyn FnMut(&str),
    ) -> Result<Vec<u8>, PullError> {
        let tools = shell_as(Tool::Mmdebstrap, dir);
        let lock = File::create(dir.join("lock")).unwrap();
        let runner = Runner { tools: &tools, cancel, lock: &lock, dir };
        runner.run(Tool::Mmdebstrap, &["-c", script], line)
    }

    #[test]
    fn output_and_lines_are_separate_and_a_failure_tells_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let mut seen = Vec::new();
        let error = run(
            dir.path(),
            &Cancel::default(),
            "echo out; echo one >&2; echo two >&2; exit 3",
            &mut |line| {
                seen.push(line.to_owned());
            },
        );
        assert_eq!(seen, ["one", "two"]);
        let PullError::ToolFailed { tool: "mmdebstrap", status, output } = error.unwrap_err() else {
            panic!("the tool failed")
        };
        assert_eq!((status.code(), output.as_str()), (Some(3), "one\ntwo"));
    }

    #[test]
    fn a_cancelled_tool_ends_with_all_it_started_and_no_other_starts() {
        let dir = tempfile::tempdir().unwrap();
        let cancel = Cancel::default();
        // The streams close only when the last process has ended, so returning proves that all of them died: the
        // child in a session of its own, and the shell that ignores polite requests.
        let script = "trap '' TERM; setsid sleep 1000 & echo ready >&2; wait";
        let from_inside = cancel.clone();
        let result = run(dir.path(), &cancel, script, &mut |_| from_inside.cancel());
        assert!(matches!(result, Err(PullError::Cancelled)));
        let next = tempfile::tempdir().unwrap();
        assert!(matches!(run(next.path(), &cancel, "exit 0", &mut |_| {}), Err(PullError::Cancelled)));
    }

    #[test]
    fn mounts_of_a_tool_stay_with_it() {
        let dir = tempfile::tempdir().unwrap();
        run(dir.path(), &Cancel::default(), "mount -t tmpfs none .", &mut |_| {}).unwrap();
        assert!(dir.path().join("lock").exists(), "an empty file system covers the directory");
    }
}
