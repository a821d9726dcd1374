//! Starting commands.

#![expect(unsafe_code, reason = "what a child does between fork and exec is outside of Rust's rules")]

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use pyro_protocol::{Exec, Failed, Stage};
use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, FdFlags};
use rustix::pipe::PipeFlags;
use rustix::process::Pid;

/// The environment that every command has, before its own variables.
const ENVIRONMENT: [(&str, &str); 4] = [
    ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
    ("HOME", "/root"),
    ("LANG", "C.UTF-8"),
    ("TERM", "dumb"),
];

/// Bytes that a pipe holds, in place of the kernel's 64 KiB: fewer switches between the command and the agent.
const PIPE_BYTES: usize = 256 * 1024;

/// Everything that a command needs before its process exists.
#[derive(Debug)]
pub(crate) struct Prepared {
    command: String,
    env: Vec<(String, String)>,
    cwd: OwnedFd,
    write: [OwnedFd; 2],
    /// The read ends of stdout and stderr.
    pub(crate) read: [OwnedFd; 2],
}

impl Prepared {
    /// Opens the working directory and the pipes.
    pub(crate) fn new(exec: Exec) -> Result<Self, Failed> {
        let cwd = exec.cwd.as_deref().unwrap_or("/");
        let cwd = open_cwd(Path::new(cwd), exec.create_cwd)
            .map_err(|error| failed(Stage::Cwd, &error, format!("open the working directory {cwd:?}")))?;
        let pipes = pipe().and_then(|stdout| Ok((stdout, pipe()?)));
        let (stdout, stderr) =
            pipes.map_err(|error| failed(Stage::Prepare, &error, "make the pipes".to_owned()))?;
        Ok(Self {
            command: exec.command,
            env: exec.env,
            cwd,
            write: [stdout.1, stderr.1],
            read: [stdout.0, stderr.0],
        })
    }

    /// Starts the shell itself, as a member of the cgroup whose `cgroup.procs` is given.
    pub(crate) fn spawn_in_cgroup(self, procs: OwnedFd) -> Result<(Pid, [OwnedFd; 2]), Failed> {
        let (mut command, cwd, read) = self.into_command("/bin/sh", &[]);
        // SAFETY: only system calls that are safe after fork, also beside threads of imports; no allocation, no lock.
        unsafe {
            command.pre_exec(move || {
                rustix::process::fchdir(&cwd)?;
                rustix::io::write(&procs, b"0")?;
                rustix::process::setsid()?;
                Ok(())
            });
        }
        Ok((spawn(&mut command).map_err(shell_failed)?, read))
    }

    /// Starts a warden that starts the shell; `report` is the warden's end of the socket.
    pub(crate) fn spawn_warden(self, report: OwnedFd) -> Result<[OwnedFd; 2], Failed> {
        let number = report.as_raw_fd().to_string();
        let (mut command, cwd, read) = self.into_command("/proc/self/exe", &["--warden", &number, "/bin/sh"]);
        // SAFETY: as above.
        unsafe {
            command.pre_exec(move || {
                rustix::process::fchdir(&cwd)?;
                rustix::io::fcntl_setfd(&report, FdFlags::empty())?;
                Ok(())
            });
        }
        spawn(&mut command).map_err(|error| failed(Stage::Spawn, &error, "start the warden".to_owned()))?;
        Ok(read)
    }

    fn into_command(self, program: &str, arguments: &[&str]) -> (Command, OwnedFd, [OwnedFd; 2]) {
        let [stdout, stderr] = self.write;
        let mut command = Command::new(program);
        command.args(arguments).args(["-lc", &self.command]).env_clear().envs(ENVIRONMENT).envs(self.env);
        command.stdin(Stdio::null()).stdout(stdout).stderr(stderr);
        (command, self.cwd, self.read)
    }
}

/// Starts a program in a session of its own, with everything else as it is here.
pub(crate) fn spawn_in_new_session(words: &[impl AsRef<OsStr>]) -> io::Result<Pid> {
    let (program, arguments) = words.split_first().ok_or(Errno::INVAL)?;
    let mut command = Command::new(program);
    command.args(arguments);
    // SAFETY: a single system call that is safe after fork.
    unsafe {
        command.pre_exec(|| {
            rustix::process::setsid()?;
            Ok(())
        });
    }
    spawn(&mut command)
}

/// Starts the command; the caller sees to its end.
fn spawn(command: &mut Command) -> io::Result<Pid> {
    let child = command.spawn()?;
    Ok(Pid::from_raw(child.id().cast_signed()).expect("a child has a process id"))
}

fn open_cwd(path: &Path, create: bool) -> io::Result<OwnedFd> {
    if !path.is_absolute() {
        return Err(Errno::INVAL.into());
    }
    if create {
        std::fs::create_dir_all(path)?;
    }
    Ok(rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let ends = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    // Only a matter of speed, and refused where the user's share of pipe memory is used up.
    let _size = rustix::pipe::fcntl_setpipe_size(&ends.0, PIPE_BYTES);
    Ok(ends)
}

/// Returns the failure of a shell that could not be started.
pub(crate) fn shell_failed(error: io::Error) -> Failed {
    failed(Stage::Spawn, &error, "start /bin/sh".to_owned())
}

/// Returns the failure of an operation that never ran.
pub(crate) fn failed(stage: Stage, error: &io::Error, message: String) -> Failed {
    Failed { stage, errno: errno(error), message }
}

/// Returns the error number; where the standard library refused before the kernel could, it is that of a bad argument.
pub(crate) fn errno(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(Errno::INVAL.raw_os_error())
}
