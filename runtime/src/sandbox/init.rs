//! The first processes of a sandbox: `pyro sandbox-init` and the PID 1 that it forks.
#![expect(unsafe_code, reason = "a process with one thread forks")]

use std::ffi::{CString, OsString};
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use nix::sched::{CloneFlags, unshare};
use nix::unistd::{
    ForkResult, Gid, Pid, Uid, execveat, fork, setgroups, sethostname, setresgid, setresuid, setsid,
};
use rustix::fs::{MemfdFlags, SealFlags};

use super::{confine, loopback, mounts, record};
use crate::environment::{SANDBOX_UID_BASE, SANDBOX_UID_COUNT};
use crate::process::ProcessRef;

/// The hidden command that leads here.
const COMMAND: &str = "sandbox-init";

/// Descriptor on which the agent finds its listening socket.
const LISTEN_FD: i32 = 3;

/// What the first process needs to know. Its working directory is the workspace's, its standard input the listening
/// socket, its standard output the pipe for what goes wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Arguments {
    pub(super) rootfs: PathBuf,
    pub(super) agent: PathBuf,
    pub(super) hostname: String,
}

impl Arguments {
    pub(super) fn to_words(&self) -> [OsString; 4] {
        [COMMAND.into(), self.rootfs.clone().into(), self.agent.clone().into(), self.hostname.clone().into()]
    }

    fn from_words(words: Vec<OsString>) -> Option<Self> {
        let [rootfs, agent, hostname] = <[OsString; 3]>::try_from(words).ok()?;
        Some(Self { rootfs: rootfs.into(), agent: agent.into(), hostname: hostname.into_string().ok()? })
    }
}

/// What went wrong, for the person who reads the report.
#[derive(Debug, thiserror::Error)]
#[error("{doing}: {source}")]
pub(super) struct InitError {
    doing: &'static str,
    source: io::Error,
}

/// Adds to an error what was being done.
pub(super) trait Doing<T> {
    fn doing(self, doing: &'static str) -> Result<T, InitError>;
}

impl<T, E: Into<io::Error>> Doing<T> for Result<T, E> {
    fn doing(self, doing: &'static str) -> Result<T, InitError> {
        self.map_err(|error| InitError { doing, source: error.into() })
    }
}

/// Whose privileges the sandbox is made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Maker {
    /// Root: the sandbox's ids are mapped to a range that nobody on the host has.
    Root,
    /// An ordinary user: the sandbox's root is that user, and there are no other ids.
    User { uid: u32, gid: u32 },
}

/// Runs as the first process of a sandbox, in a program with a single thread. `words` are the arguments behind
/// `sandbox-init`, and the standard descriptors are as the daemon sets them up. Nobody else calls it.
#[must_use]
pub fn init_main(words: Vec<OsString>) -> ExitCode {
    let Some(arguments) = Arguments::from_words(words) else {
        return fail("sandbox-init is started by the daemon only");
    };
    match launch(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error.to_string()),
    }
}

fn fail(report: &str) -> ExitCode {
    // Without a reader nobody wants to know.
    let _reader_gone = writeln!(io::stdout(), "{report}");
    ExitCode::FAILURE
}

/// Makes the namespaces, forks PID 1, puts it on record and lets it go.
fn launch(arguments: &Arguments) -> Result<(), InitError> {
    let user = rustix::process::geteuid();
    let maker = if user.is_root() {
        Maker::Root
    } else {
        Maker::User { uid: user.as_raw(), gid: rustix::process::getegid().as_raw() }
    };
    let agent = sealed_copy(&arguments.agent).doing("copy the guest agent")?;
    if let Maker::User { uid, gid } = maker {
        unshare(CloneFlags::CLONE_NEWUSER).doing("make a user namespace")?;
        fs::write("/proc/self/setgroups", "deny").doing("map the user")?;
        fs::write("/proc/self/uid_map", format!("0 {uid} 1")).doing("map the user")?;
        fs::write("/proc/self/gid_map", format!("0 {gid} 1")).doing("map the user's group")?;
    }
    let apart = CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWNET;
    unshare(apart | CloneFlags::CLONE_NEWCGROUP).doing("make namespaces")?;
    let (wait_for_map, ask_for_map) = io::pipe().doing("open a pipe")?;
    let (wait_for_go, go) = io::pipe().doing("open a pipe")?;
    // SAFETY: this process has one thread, so the child may do whatever the parent may.
    match unsafe { fork() }.doing("fork the sandbox's PID 1")? {
        ForkResult::Child => {
            drop((wait_for_map, go));
            let error = match first(
                arguments,
                maker,
                agent,
                File::from(OwnedFd::from(ask_for_map)),
                wait_for_go.into(),
            ) {
                Ok(never) => match never {},
                Err(error) => error,
            };
            fail(&error.to_string());
            // SAFETY: ends this process without running what the parent registered for its own end.
            unsafe { libc::_exit(1) }
        }
        ForkResult::Parent { child } => {
            drop((ask_for_map, wait_for_go));
            release(
                child,
                maker,
                &mut File::from(OwnedFd::from(wait_for_map)),
                &mut File::from(OwnedFd::from(go)),
            )
        }
    }
}

/// Records PID 1 and gives it its ids.
fn release(child: Pid, maker: Maker, wait_for_map: &mut File, go: &mut File) -> Result<(), InitError> {
    let pid = u32::try_from(child.as_raw()).map_err(io::Error::other).doing("record the sandbox's PID 1")?;
    let process = ProcessRef::of_pid(pid)
        .and_then(|process| process.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound)));
    record::write(Path::new("."), process.doing("record the sandbox's PID 1")?.process())
        .doing("record the sandbox's PID 1")?;
    go.write_all(b"g").doing("let the sandbox's PID 1 go")?;
    // The end of the pipe without a byte means that it failed before, and it has said why.
    let asked = wait_for_map.read(&mut [0]).doing("wait for the sandbox's PID 1")?;
    if asked == 1 && maker == Maker::Root {
        let map = format!("0 {SANDBOX_UID_BASE} {SANDBOX_UID_COUNT}");
        fs::write(format!("/proc/{pid}/uid_map"), &map).doing("map the sandbox's users")?;
        fs::write(format!("/proc/{pid}/gid_map"), &map).doing("map the sandbox's groups")?;
        go.write_all(b"m").doing("let the sandbox's PID 1 go")?;
    }
    Ok(())
}

/// PID 1: builds the sandbox around itself and becomes the agent.
fn first(
    arguments: &Arguments,
    maker: Maker,
    agent: OwnedFd,
    mut ask_for_map: File,
    wait_for_go: OwnedFd,
) -> Result<std::convert::Infallible, InitError> {
    let mut wait_for_go = File::from(wait_for_go);
    // Whoever finds no record must find no process either.
    wait_for_go.read_exact(&mut [0]).doing("wait for the record")?;
    setsid().doing("leave the session")?;
    unshare(CloneFlags::CLONE_NEWNS).doing("make a mount namespace")?;
    mounts::enter_root(&arguments.rootfs, maker)?;
    sethostname(&arguments.hostname).doing("set the host name")?;
    loopback::bring_up().doing("bring the loopback interface up")?;
    if maker == Maker::Root {
        unshare(CloneFlags::CLONE_NEWUSER).doing("make a user namespace")?;
    }
    ask_for_map.write_all(b"m").doing("ask for the ids")?;
    if maker == Maker::Root {
        wait_for_go.read_exact(&mut [0]).doing("wait for the ids")?;
        setgroups(&[]).doing("leave the groups")?;
    }
    setresgid(Gid::from_raw(0), Gid::from_raw(0), Gid::from_raw(0))
        .doing("become the sandbox's root group")?;
    setresuid(Uid::from_raw(0), Uid::from_raw(0), Uid::from_raw(0)).doing("become the sandbox's root")?;
    confine::confine()?;
    become_agent(&agent)
}

/// Moves the descriptors to where the agent expects them and replaces this program.
fn become_agent(agent: &OwnedFd) -> Result<std::convert::Infallible, InitError> {
    let null = File::options().read(true).write(true).open("/dev/null").doing("open /dev/null")?;
    // The report stays open until the exec succeeded, and has the mark to be closed by it.
    let report =
        rustix::io::fcntl_dupfd_cloexec(io::stdout().as_fd(), LISTEN_FD + 1).doing("keep the report")?;
    let listener =
        rustix::io::fcntl_dupfd_cloexec(io::stdin().as_fd(), LISTEN_FD + 1).doing("keep the listener")?;
    let agent = rustix::io::fcntl_dupfd_cloexec(agent, LISTEN_FD + 1).doing("keep the guest agent")?;
    // SAFETY: plain descriptor numbers; whatever is needed of what may be open as 3 has a higher number as well.
    if unsafe { libc::dup2(listener.as_raw_fd(), LISTEN_FD) } < 0 {
        return Err(io::Error::last_os_error()).doing("place the listener");
    }
    let placed = rustix::stdio::dup2_stdin(&null)
        .and_then(|()| rustix::stdio::dup2_stdout(&null))
        .and_then(|()| rustix::stdio::dup2_stderr(&null));
    let words = [c"pyro-guest-agent".to_owned(), c"--listen-fd".to_owned(), c"3".to_owned()];
    let environment: [CString; 0] = [];
    let replaced = placed
        .map_err(io::Error::from)
        .and_then(|()| Ok(execveat(&agent, c"", &words, &environment, nix::fcntl::AtFlags::AT_EMPTY_PATH)?));
    rustix::stdio::dup2_stdout(&report).doing("take the report back")?;
    replaced.doing("start the guest agent")
}

/// Returns a copy of the agent that nobody can write to: a program in the sandbox can open `/proc/1/exe`, and what it
/// gets must not be the file that other sandboxes are started from.
fn sealed_copy(agent: &Path) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Kernels before 6.3 do not know the flag and let every such file be executed.
    let copy = rustix::fs::memfd_create(c"agent", flags | MemfdFlags::EXEC)
        .or_else(|_| rustix::fs::memfd_create(c"agent", flags))?;
    let mut copy = File::from(copy);
    io::copy(&mut File::open(agent)?, &mut copy)?;
    copy.rewind()?;
    rustix::fs::fcntl_add_seals(
        &copy,
        SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE,
    )?;
    Ok(copy.into())
}
