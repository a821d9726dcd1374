//! `pyro sandbox-init`: makes the namespaces and gives them their ids.
#![expect(unsafe_code, reason = "the standard library has neither fork nor clone")]

use std::ffi::OsString;
use std::fs::{self, DirBuilder};
use std::io::{self, PipeReader, PipeWriter, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use rustix::fs::Mode;

use super::control::Word;
use super::network::Uplink;
use super::{first, limits, network};
use crate::environment::{SANDBOX_UID_BASE, SANDBOX_UID_COUNT};
use crate::process::ProcessRef;

/// The hidden command that leads here.
const COMMAND: &str = "sandbox-init";

/// What the sandbox writes, in the workspace's directory.
pub(super) const UPPER: &str = "disk/upper";

/// Where overlayfs prepares what goes there.
pub(super) const WORK: &str = "disk/work";

/// All that a process can have of its own but time, which is nobody's secret.
const NAMESPACES: libc::c_int = libc::CLONE_NEWUSER
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWCGROUP;

/// What the first processes need to know. Their working directory is the workspace's, their standard input the
/// listening socket, their standard output the [control](super::control) socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Arguments {
    pub(super) rootfs: PathBuf,
    pub(super) agent: PathBuf,
    pub(super) hostname: String,
    /// The program that carries the network; `None` leaves the sandbox with loopback only.
    pub(super) slirp4netns: Option<PathBuf>,
}

impl Arguments {
    pub(super) fn to_words(&self) -> Vec<OsString> {
        let Self { rootfs, agent, hostname, slirp4netns } = self;
        let mut words = vec![COMMAND.into(), rootfs.into(), agent.into(), hostname.into()];
        words.extend(slirp4netns.as_ref().map(OsString::from));
        words
    }

    fn from_words(words: Vec<OsString>) -> Option<Self> {
        let mut words = words.into_iter();
        let arguments = Self {
            rootfs: words.next()?.into(),
            agent: words.next()?.into(),
            hostname: words.next()?.into_string().ok()?,
            slirp4netns: words.next().map(PathBuf::from),
        };
        words.next().is_none().then_some(arguments)
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

/// Which ids a sandbox has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ids {
    /// The daemon is root: a whole range, which nobody on the host has.
    Range,
    /// The daemon is an ordinary user, and the sandbox's root is that user. There are no other ids.
    Single { uid: u32, gid: u32 },
}

impl Ids {
    fn of_this_process() -> Self {
        match rustix::process::geteuid() {
            root if root.is_root() => Self::Range,
            uid => Self::Single { uid: uid.as_raw(), gid: rustix::process::getegid().as_raw() },
        }
    }
}

/// Runs as the first process of a sandbox, in a program that has a single thread. `words` are the arguments behind
/// `sandbox-init`, and working directory and standard descriptors are as [`boot`](super::boot) sets them up.
#[must_use]
pub fn init_main(words: Vec<OsString>) -> ExitCode {
    let started = match Arguments::from_words(words) {
        Some(arguments) => start(&arguments).map_err(|error| error.to_string()),
        None => Err(format!(
            "usage: {COMMAND} ROOTFS AGENT HOSTNAME [SLIRP4NETNS], which only the daemon can know"
        )),
    };
    match started {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            say(&Word::Failed(why));
            ExitCode::FAILURE
        }
    }
}

/// Tells the daemon. Without it there is nobody else to tell, and PID 1 notices by itself.
fn say(word: &Word) {
    let _gone = io::stdout().write_all(word.to_line().as_bytes());
}

fn start(arguments: &Arguments) -> Result<(), InitError> {
    // What is made from here on has the modes that are written down.
    rustix::process::umask(Mode::WGRP | Mode::WOTH);
    let ids = Ids::of_this_process();
    limits::offer_to_oom_killer()?;
    for dir in [UPPER, WORK] {
        make_disk(Path::new(dir), ids).doing("make the workspace's disk")?;
    }
    let (mapped, map) = io::pipe().doing("make a pipe")?;
    let network = match &arguments.slirp4netns {
        Some(program) => Some((program, network::ends().doing("make the ends of the network")?)),
        None => None,
    };
    match clone_into_namespaces().doing("make namespaces")? {
        Cloned::Child => {
            drop(map);
            be_first(arguments, ids, mapped, network.map(|(_, (uplink, _helper))| uplink))
        }
        Cloned::Parent { child } => {
            drop(mapped);
            introduce(child, ids, map)?;
            let Some((program, (_uplink, helper))) = network else { return Ok(()) };
            match helper.become_slirp4netns(program, child)? {}
        }
    }
}

/// Makes a directory that belongs to the sandbox's root. One that is there keeps the owner that it has, because the
/// sandbox can give its root directory to somebody else: so it is not there before it has its first one.
fn make_disk(dir: &Path, ids: Ids) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    let new = dir.with_extension("new");
    // The upper directory lends its mode to the root of the sandbox.
    DirBuilder::new().recursive(true).mode(0o755).create(&new)?;
    match ids {
        Ids::Range => chown(&new, Some(SANDBOX_UID_BASE), Some(SANDBOX_UID_BASE))?,
        Ids::Single { .. } => {}
    }
    fs::rename(&new, dir)
}

/// Which of the two processes this is.
enum Cloned {
    Parent { child: u32 },
    Child,
}

/// Forks a child that is the first in namespaces of its own.
fn clone_into_namespaces() -> io::Result<Cloned> {
    // SAFETY: all fields are numbers, for which zero is valid and means that nothing is asked for.
    let mut how: libc::clone_args = unsafe { std::mem::zeroed() };
    how.flags = u64::from(NAMESPACES.cast_unsigned());
    how.exit_signal = u64::from(libc::SIGCHLD.cast_unsigned());
    // SAFETY: without CLONE_VM and a stack this is fork: the child has a copy of all memory. The process has a
    // single thread, so that no lock can be held for ever in the copy.
    let child = unsafe { libc::syscall(libc::SYS_clone3, &raw mut how, size_of_val(&how)) };
    match u32::try_from(child) {
        Ok(0) => Ok(Cloned::Child),
        Ok(child) => Ok(Cloned::Parent { child }),
        Err(_negative) => Err(io::Error::last_os_error()),
    }
}

/// Goes on as PID 1, and never comes back.
fn be_first(arguments: &Arguments, ids: Ids, mut mapped: PipeReader, uplink: Option<Uplink>) -> ! {
    // The pipe stays open until the reason is told: an end of it would be a failure for the parent to tell first.
    let Err(error) = first::become_agent(arguments, ids, &mut mapped, uplink);
    say(&Word::Failed(error.to_string()));
    // SAFETY: ends the process, without the hooks for the end of a program that is still to end in the parent.
    unsafe { libc::_exit(1) }
}

/// Gives PID 1 its ids and tells the daemon which process it is.
fn introduce(child: u32, ids: Ids, mut map: PipeWriter) -> Result<(), InitError> {
    let proc = PathBuf::from(format!("/proc/{child}"));
    let (uids, gids) = match ids {
        Ids::Range => {
            let range = format!("0 {SANDBOX_UID_BASE} {SANDBOX_UID_COUNT}");
            (range.clone(), range)
        }
        Ids::Single { uid, gid } => {
            // Groups that took something away could be left otherwise.
            fs::write(proc.join("setgroups"), "deny").doing("map the sandbox's groups")?;
            (format!("0 {uid} 1"), format!("0 {gid} 1"))
        }
    };
    fs::write(proc.join("uid_map"), uids).doing("map the sandbox's users")?;
    fs::write(proc.join("gid_map"), gids).doing("map the sandbox's groups")?;
    map.write_all(b"m").doing("let the sandbox's PID 1 go on")?;
    // Nobody waits for the child, so that its pid is not given to another process in the meantime.
    let first = ProcessRef::of_pid(child).doing("look at the sandbox's PID 1")?;
    let first = first.ok_or(io::ErrorKind::NotFound).doing("look at the sandbox's PID 1")?;
    say(&Word::First(first.process()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_survive_the_command_line() {
        for slirp4netns in [None, Some("/usr/bin/slirp4netns".into())] {
            let (rootfs, agent) = ("/a b/rootfs".into(), "/agent".into());
            let arguments = Arguments { rootfs, agent, hostname: "0123".to_owned(), slirp4netns };
            let words = arguments.to_words();
            assert_eq!(words[0], COMMAND);
            assert_eq!(Arguments::from_words(words[1..].to_vec()), Some(arguments));
            assert_eq!(Arguments::from_words(words[1..3].to_vec()), None);
        }
        assert_eq!(Arguments::from_words(vec!["word".into(); 5]), None);
    }
}
