//! The process between the agent and one command or shell where there is no cgroup to hold its tree.
//!
//! It is a subreaper: whatever the command starts, however it detaches itself, stays below the warden, because orphans
//! are given to the nearest subreaper. It tells the agent by [`Report`]s over a socket, and ends when it has no
//! descendant left. A message of the agent is the order to ask them all to end; the end of the agent's side, be it on purpose
//! or because the agent is gone, is the order to kill them.
//!
//! Two threads: one reaps, the other waits for orders.

mod job;

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use pyro_protocol::ExitStatus;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use rustix::process::{Pid, Signal, WaitOptions};

use crate::children;
use crate::inherited;
use crate::launch::{self, Session};

pub(crate) use job::Job;

/// What a warden tells the agent, one message each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Report {
    /// It is about to start the command. When it is killed before it says so, another warden can have the job.
    Begun,
    /// The command runs.
    Started {
        /// Its process id.
        pid: u32,
    },
    /// The command could not be started.
    Failed {
        /// Why.
        errno: i32,
    },
    /// The command ended; its descendants may live on.
    Exited(ExitStatus),
}

impl Report {
    /// Size of a message.
    pub(crate) const BYTES: usize = 5;

    const STARTED: u8 = 1;
    const FAILED: u8 = 2;
    const CODE: u8 = 3;
    const SIGNAL: u8 = 4;
    const BEGUN: u8 = 5;

    fn to_bytes(self) -> [u8; Self::BYTES] {
        let (tag, value) = match self {
            Self::Begun => (Self::BEGUN, [0; 4]),
            Self::Started { pid } => (Self::STARTED, pid.to_le_bytes()),
            Self::Failed { errno } => (Self::FAILED, errno.to_le_bytes()),
            Self::Exited(ExitStatus::Code(code)) => (Self::CODE, [code, 0, 0, 0]),
            Self::Exited(ExitStatus::Signal(signal)) => (Self::SIGNAL, [signal, 0, 0, 0]),
            Self::Exited(ExitStatus::TimedOut) => unreachable!("time is kept by the agent"),
        };
        let mut bytes = [tag; Self::BYTES];
        bytes[1..].copy_from_slice(&value);
        bytes
    }

    /// Returns the report that a warden sent; `None` when it is not one.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (&tag, value) = bytes.split_first()?;
        let value: [u8; 4] = value.try_into().ok()?;
        match tag {
            Self::STARTED => Some(Self::Started { pid: u32::from_le_bytes(value) }),
            Self::FAILED => Some(Self::Failed { errno: i32::from_le_bytes(value) }),
            Self::CODE => Some(Self::Exited(ExitStatus::Code(value[0]))),
            Self::BEGUN => Some(Self::Begun),
            Self::SIGNAL => Some(Self::Exited(ExitStatus::Signal(value[0]))),
            _ => None,
        }
    }
}

/// The message that orders a warden to have its descendants end by themselves.
pub(crate) const TERMINATE: [u8; 1] = [1];

/// Waits for a job, starts it, and stays until nothing of it is left. Stdin is the socket to the agent.
///
/// A warden is made before it is needed, so that a command does not wait for it.
pub(crate) fn run() -> ExitCode {
    // Without the socket, there is nobody to tell why.
    let Ok(agent) = inherited::take_stdin() else { return ExitCode::FAILURE };
    match Job::receive(&agent).and_then(|job| job.map_or(Ok(()), |job| watch(&agent, job))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tell(&agent, Report::Failed { errno: launch::errno(&error) });
            ExitCode::FAILURE
        }
    }
}

fn watch(agent: &OwnedFd, job: Job) -> io::Result<()> {
    // All that can fail comes before the command: a failure says that it never ran.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    let null = File::options().read(true).write(true).open("/dev/null")?;
    let Job { session, words, environment, cwd, stdio: [stdin, stdout, stderr] } = job;
    rustix::process::fchdir(&cwd)?;
    rustix::stdio::dup2_stdin(&stdin)?;
    rustix::stdio::dup2_stdout(&stdout)?;
    rustix::stdio::dup2_stderr(&stderr)?;
    drop((cwd, stdin, stdout, stderr));
    let killing = Arc::new(AtomicBool::new(false));
    let order = (agent.try_clone()?, Arc::clone(&killing));
    std::thread::Builder::new().spawn(move || obey(&order.0, session, &order.1))?;
    tell(agent, Report::Begun);
    let shell = launch::spawn_in_session(&words, &environment, session)?;
    tell(agent, Report::Started { pid: shell.as_raw_pid().cast_unsigned() });
    if killing.load(Ordering::SeqCst) {
        kill_descendants();
    }
    let_go(&null);
    reap(agent, shell, &killing);
    Ok(())
}

/// Lets go of what is the command's: as long as the warden held the pipes, nobody would see their end, it would keep a terminal
/// from being gone, and the working directory could not be unmounted. The command is not worse off where that fails.
fn let_go(null: &File) {
    let _stdio = rustix::stdio::dup2_stdin(null)
        .and_then(|()| rustix::stdio::dup2_stdout(null))
        .and_then(|()| rustix::stdio::dup2_stderr(null));
    let _cwd = std::env::set_current_dir("/");
}

/// Carries out the orders, until the last one, which is to kill.
fn obey(agent: &OwnedFd, session: Session, killing: &AtomicBool) {
    let mut order = [0; TERMINATE.len()];
    loop {
        match rustix::net::recv(agent, &mut order[..], RecvFlags::empty()) {
            Ok((_, 1..)) => terminate_descendants(session),
            Err(Errno::INTR) => {}
            Ok((_, 0)) | Err(_) => break,
        }
    }
    // From here on the other thread kills again after each end, for what was forked meanwhile.
    killing.store(true, Ordering::SeqCst);
    kill_descendants();
}

/// Reaps until no descendant is left: each is a child of the warden or below one.
fn reap(agent: &OwnedFd, shell: Pid, killing: &AtomicBool) {
    loop {
        match rustix::process::wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) => {
                if let Some(status) = children::exit_status(status).filter(|_| pid == shell) {
                    tell(agent, Report::Exited(status));
                }
                if killing.load(Ordering::SeqCst) {
                    kill_descendants();
                }
            }
            Ok(None) | Err(Errno::INTR) => {}
            Err(_no_child) => return,
        }
    }
}

/// Tells the agent. When it is gone, the order to kill is on its way instead of an answer.
fn tell(agent: &OwnedFd, report: Report) {
    let _gone = rustix::net::send(agent.as_fd(), &report.to_bytes(), SendFlags::NOSIGNAL);
}

/// Asks all descendants to end. Those that appear meanwhile may be what one of them starts in order to do so.
fn terminate_descendants(session: Session) {
    for pid in descendants() {
        for signal in farewell(session) {
            // It may have ended by itself.
            let _ended = rustix::process::kill_process(pid, *signal);
        }
    }
}

/// Returns the signals that ask what a command or shell started to end. A shell of people ignores SIGTERM, and a stopped
/// process takes a signal only when it goes on.
const fn farewell(session: Session) -> &'static [Signal] {
    match session {
        Session::Plain => &[Signal::TERM, Signal::CONT],
        Session::OnTerminal => &[Signal::TERM, Signal::HUP, Signal::CONT],
    }
}

/// Kills all descendants, and those that appear meanwhile.
fn kill_descendants() {
    let mut killed = HashSet::new();
    loop {
        let fresh: Vec<Pid> = descendants().into_iter().filter(|pid| killed.insert(*pid)).collect();
        if fresh.is_empty() {
            return;
        }
        for pid in fresh {
            // It may have ended by itself.
            let _ended = rustix::process::kill_process(pid, Signal::KILL);
        }
    }
}

/// Returns all processes below this one.
fn descendants() -> Vec<Pid> {
    let mut children: HashMap<Pid, Vec<Pid>> = HashMap::new();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    for pid in processes.filter_map(|entry| pid_of(entry.file_name().to_str()?)) {
        if let Some(parent) = fs::read_to_string(format!("/proc/{pid}/stat")).ok().as_deref().and_then(parent)
        {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut found = children.remove(&rustix::process::getpid()).unwrap_or_default();
    let mut next = 0;
    while let Some(pid) = found.get(next) {
        found.extend(children.remove(pid).unwrap_or_default());
        next += 1;
    }
    found
}

/// Returns the parent that a `/proc/PID/stat` names. The program's name in it is in parentheses and may hold anything.
fn parent(stat: &str) -> Option<Pid> {
    let (_, fields) = stat.rsplit_once(") ")?;
    pid_of(fields.split(' ').nth(1)?)
}

fn pid_of(text: &str) -> Option<Pid> {
    Pid::from_raw(text.parse().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_survive_the_socket() {
        for report in [
            Report::Begun,
            Report::Started { pid: 70_000 },
            Report::Failed { errno: 2 },
            Report::Exited(ExitStatus::Code(255)),
            Report::Exited(ExitStatus::Signal(9)),
        ] {
            assert_eq!(Report::from_bytes(&report.to_bytes()), Some(report));
        }
        assert_eq!(Report::from_bytes(&[]), None);
        assert_eq!(Report::from_bytes(&[9, 0, 0, 0, 0]), None);
    }

    #[test]
    fn a_hostile_program_name_does_not_hide_the_parent() {
        assert_eq!(parent("12 (a) S 1 (b) S 34 12 12 0"), Pid::from_raw(34));
        assert_eq!(parent("12 (sh) S 7 12 12 0"), Pid::from_raw(7));
        assert_eq!(parent("12 sh"), None);
    }
}
