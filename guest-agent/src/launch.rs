//! Starting commands and shells.

#![expect(unsafe_code, reason = "what a child does between fork and exec is outside of Rust's rules")]

mod descriptors;

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use pyro_protocol::{Exec, Failed, Shell, Stage};
use rustix::fs::{Access, Mode, OFlags};
use rustix::io::Errno;
use rustix::pipe::PipeFlags;
use rustix::process::Pid;
use tokio::io::unix::AsyncFd;

use crate::readiness;
use crate::terminal::Terminal;
use crate::warden::Job;

pub(crate) use descriptors::raise as raise_descriptors;

/// The environment that every command has, before its own variables.
const ENVIRONMENT: [(&str, &str); 4] = [
    ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
    ("HOME", "/root"),
    ("LANG", "C.UTF-8"),
    ("TERM", "dumb"),
];

/// What a shell has over it, before its own variables.
const SHELL_ENVIRONMENT: [(&str, &str); 3] =
    [("TERM", "xterm-256color"), ("PS1", "pyro$ "), ("PROMPT_COMMAND", "")];

/// The shell of people, where there is one.
const BASH: &str = "/bin/bash";

/// The shell of commands, and of people where there is no other.
const SH: &str = "/bin/sh";

/// Bytes that a pipe holds, in place of the kernel's 64 KiB: fewer switches between the command and the agent.
const PIPE_BYTES: usize = 256 * 1024;

/// What is to be started.
#[derive(Debug)]
pub(crate) enum Request {
    /// A command.
    Exec(Exec),
    /// A shell.
    Shell(Shell),
}

impl Request {
    /// Returns the host's number of the operation.
    pub(crate) const fn op(&self) -> u64 {
        match self {
            Self::Exec(Exec { op, .. }) | Self::Shell(Shell { op, .. }) => *op,
        }
    }

    /// Returns the time after which it is ended; `None` when it may run for ever.
    pub(crate) const fn timeout(&self) -> Option<Duration> {
        match self {
            Self::Exec(exec) => Some(Duration::from_millis(exec.timeout_ms)),
            Self::Shell(_) => None,
        }
    }
}

/// The session that a program leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Session {
    /// One without a terminal.
    Plain,
    /// One whose controlling terminal is stdin.
    OnTerminal,
}

impl Session {
    /// Makes this process the leader of such a session, as programs expect to find it. Only system calls that are safe after fork.
    fn begin(self) -> io::Result<()> {
        descriptors::lower()?;
        rustix::process::setsid()?;
        match self {
            Self::Plain => Ok(()),
            Self::OnTerminal => Ok(rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?),
        }
    }
}

/// The agent's side of what a program is connected to.
#[derive(Debug)]
pub(crate) enum Channel {
    /// The read ends of stdout and stderr.
    Pipes([AsyncFd<OwnedFd>; 2]),
    /// The terminal that is stdin, stdout and stderr.
    Terminal(Terminal),
}

/// Everything that a command or shell needs before its process exists.
#[derive(Debug)]
pub(crate) struct Prepared {
    /// Path of the shell that is started, in both cases.
    pub(crate) program: &'static str,
    /// The session that it shall lead.
    pub(crate) session: Session,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    cwd: OwnedFd,
    /// Its stdin, stdout and stderr.
    stdio: [OwnedFd; 3],
    channel: Channel,
}

impl Prepared {
    /// Opens the working directory, and the pipes or the terminal.
    pub(crate) fn new(request: Request) -> Result<Self, Failed> {
        match request {
            Request::Exec(exec) => Self::of_command(exec),
            Request::Shell(shell) => Self::of_shell(shell),
        }
    }

    fn of_command(exec: Exec) -> Result<Self, Failed> {
        let cwd = open_cwd(exec.cwd.as_deref().unwrap_or("/"), exec.create_cwd)?;
        let pipes = pipe().and_then(|stdout| Ok((null()?, stdout, pipe()?)));
        let (stdin, stdout, stderr) =
            pipes.map_err(|error| failed(Stage::Prepare, &error, "make the pipes".to_owned()))?;
        Ok(Self {
            program: SH,
            session: Session::Plain,
            arguments: vec!["-lc".to_owned(), exec.command],
            environment: exec.env,
            cwd,
            stdio: [stdin, stdout.1, stderr.1],
            channel: Channel::Pipes([stdout.0, stderr.0]),
        })
    }

    fn of_shell(shell: Shell) -> Result<Self, Failed> {
        let cwd = open_cwd(&shell.cwd, shell.create_cwd)?;
        let terminal = Terminal::open(shell.size).and_then(|terminal| {
            let stdio = [terminal.slave()?, terminal.slave()?, terminal.slave()?];
            Ok((terminal, stdio))
        });
        let (terminal, stdio) =
            terminal.map_err(|error| failed(Stage::Prepare, &error, "open the terminal".to_owned()))?;
        let (program, arguments) = match rustix::fs::access(BASH, Access::EXEC_OK) {
            Ok(()) => (BASH, &["--noprofile", "--norc", "-i"][..]),
            Err(_absent) => (SH, &["-i"][..]),
        };
        let own = SHELL_ENVIRONMENT.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Ok(Self {
            program,
            session: Session::OnTerminal,
            arguments: arguments.iter().map(|&argument| argument.to_owned()).collect(),
            environment: own.into_iter().chain(shell.env).collect(),
            cwd,
            stdio,
            channel: Channel::Terminal(terminal),
        })
    }

    /// Starts the shell itself, as a member of the cgroup whose `cgroup.procs` is given.
    pub(crate) fn spawn_in_cgroup(self, procs: OwnedFd) -> Result<(Pid, Channel), Failed> {
        let (program, session) = (self.program, self.session);
        let (mut command, cwd, channel) = self.into_command();
        // SAFETY: only system calls that are safe after fork, also beside threads of imports; no allocation, no lock.
        unsafe {
            command.pre_exec(move || {
                rustix::process::fchdir(&cwd)?;
                rustix::io::write(&procs, b"0")?;
                session.begin()
            });
        }
        Ok((spawn(&mut command).map_err(|error| shell_failed(program, &error))?, channel))
    }

    /// Makes a job of it for a warden.
    pub(crate) fn into_job(self) -> (Job, Channel) {
        let words = std::iter::once(self.program.into()).chain(self.arguments.into_iter().map(Into::into));
        let base = ENVIRONMENT.map(|(name, value)| (name.into(), value.into()));
        let own = self.environment.into_iter().map(|(name, value)| (name.into(), value.into()));
        let job = Job {
            session: self.session,
            words: words.collect(),
            environment: base.into_iter().chain(own).collect(),
            cwd: self.cwd,
            stdio: self.stdio,
        };
        (job, self.channel)
    }

    fn into_command(self) -> (Command, OwnedFd, Channel) {
        let [stdin, stdout, stderr] = self.stdio;
        let mut command = Command::new(self.program);
        command.args(self.arguments).env_clear().envs(ENVIRONMENT).envs(self.environment);
        command.stdin(stdin).stdout(stdout).stderr(stderr);
        (command, self.cwd, self.channel)
    }
}

/// Starts a warden, which waits for its job on the socket that it has as stdin.
pub(crate) fn spawn_warden(socket: OwnedFd) -> io::Result<()> {
    let mut command = Command::new("/proc/self/exe");
    command.arg("--warden").env_clear();
    command.stdin(socket).stdout(Stdio::null()).stderr(Stdio::null());
    spawn(&mut command).map(drop)
}

/// Starts a program as the leader of a session, with working directory and standard descriptors as they are here.
pub(crate) fn spawn_in_session(
    words: &[OsString],
    environment: &[(OsString, OsString)],
    session: Session,
) -> io::Result<Pid> {
    let (program, arguments) = words.split_first().ok_or(Errno::INVAL)?;
    let mut command = Command::new(program);
    command.args(arguments).env_clear().envs(environment.iter().map(|(name, value)| (name, value)));
    // SAFETY: only system calls that are safe after fork.
    unsafe {
        command.pre_exec(move || session.begin());
    }
    spawn(&mut command)
}

/// Starts the command; the caller sees to its end.
fn spawn(command: &mut Command) -> io::Result<Pid> {
    let child = command.spawn()?;
    Ok(Pid::from_raw(child.id().cast_signed()).expect("a child has a process id"))
}

fn open_cwd(path: &str, create: bool) -> Result<OwnedFd, Failed> {
    open_directory(Path::new(path), create)
        .map_err(|error| failed(Stage::Cwd, &error, format!("open the working directory {path:?}")))
}

fn open_directory(path: &Path, create: bool) -> io::Result<OwnedFd> {
    if !path.is_absolute() {
        return Err(Errno::INVAL.into());
    }
    if create {
        std::fs::create_dir_all(path)?;
    }
    Ok(rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

fn null() -> io::Result<OwnedFd> {
    Ok(rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)
}

/// Makes a pipe; returns the end to read and the end to write.
fn pipe() -> io::Result<(AsyncFd<OwnedFd>, OwnedFd)> {
    let (read, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    // Only a matter of speed, and refused where the user's share of pipe memory is used up.
    let _size = rustix::pipe::fcntl_setpipe_size(&read, PIPE_BYTES);
    Ok((readiness::watch(read)?, write))
}

/// Returns the failure of a shell that could not be started.
pub(crate) fn shell_failed(program: &str, error: &io::Error) -> Failed {
    failed(Stage::Spawn, error, format!("start {program}"))
}

/// Returns the failure of an operation that never ran.
pub(crate) fn failed(stage: Stage, error: &io::Error, message: String) -> Failed {
    Failed { stage, errno: errno(error), message }
}

/// Returns the error number; where the standard library refused before the kernel could, it is that of a bad argument.
pub(crate) fn errno(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(Errno::INVAL.raw_os_error())
}
