//! One installation of pyro for one test.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// A configuration in which guests are host sandboxes, for those who opt in.
pub const SANDBOX: &str = "backend = \"host_sandbox\"\n";
/// A configuration in which guests are VMs, wherever the tests run.
pub const QEMU: &str = "backend = \"qemu\"\naccelerator = \"tcg\"\n";

/// Longest time that one command of a test may take, on a loaded machine without KVM.
const COMMAND_DEADLINE: Duration = Duration::from_secs(180);

/// Returns the directory that `make build` fills, or another one that is laid out like it and named by `PYRO_DIST`.
///
/// # Panics
///
/// When it is not there: the tests are about the binaries that users get.
#[must_use]
pub fn dist() -> PathBuf {
    let dist = std::env::var_os("PYRO_DIST").map_or_else(|| repository().join("target/dist"), PathBuf::from);
    assert!(dist.join("bin/pyro").exists(), "{} is missing: run `make build` first", dist.display());
    dist
}

/// Returns the directory of the environments that `make environment` builds.
#[must_use]
pub fn environments() -> PathBuf {
    std::env::var_os("PYRO_ENVIRONMENT_CACHE_DIR")
        .map_or_else(|| repository().join("target/environments"), PathBuf::from)
}

/// Returns the directory in which `make` installs the programs of others that tests run.
#[must_use]
pub fn tools() -> PathBuf {
    std::env::var_os("PYRO_TOOLS").map_or_else(|| repository().join("target/tools"), PathBuf::from)
}

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate is in a folder of the repository")
}

/// A `PYRO_HOME` with the daemon that its commands start. Dropping it ends the daemon and every process that mentions
/// the home, and removes it.
#[derive(Debug)]
pub struct Pyro {
    home: TempDir,
    variables: Vec<(String, String)>,
}

/// What a finished command left.
#[derive(Debug)]
pub struct Output {
    /// Its exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// Its standard output, byte for byte.
    pub stdout: Vec<u8>,
    /// Its standard error, byte for byte.
    pub stderr: Vec<u8>,
}

impl Output {
    /// Returns standard output as text.
    #[must_use]
    pub fn out(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Returns standard error as text.
    #[must_use]
    pub fn err(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    /// Returns standard output as JSON.
    ///
    /// # Panics
    ///
    /// When it is not JSON.
    #[must_use]
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}\n{}", self.out(), self.err()))
    }
}

impl Pyro {
    /// Makes a new home.
    ///
    /// # Panics
    ///
    /// When there is no room for a temporary directory.
    #[must_use]
    pub fn new() -> Self {
        let home =
            tempfile::Builder::new().prefix("pyro").tempdir().expect("a temporary directory can be made");
        Self { home, variables: Vec::new() }
    }

    /// Sets an environment variable for all commands of this home.
    #[must_use]
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Writes the home's `config.toml`.
    ///
    /// # Panics
    ///
    /// When it cannot be written.
    #[must_use]
    pub fn config(self, text: &str) -> Self {
        std::fs::write(self.home().join("config.toml"), text).expect("the home can be written");
        self
    }

    /// Makes a new home with one workspace in the host sandbox, and returns its id as well.
    ///
    /// # Panics
    ///
    /// When the workspace cannot be created.
    #[must_use]
    #[track_caller]
    pub fn with_sandbox() -> (Self, String) {
        let pyro = Self::new().config(SANDBOX);
        let id = pyro.create(&["--allow-host-compat"]);
        (pyro, id)
    }

    /// Creates a workspace and returns its id.
    ///
    /// # Panics
    ///
    /// When it cannot be created.
    #[must_use]
    #[track_caller]
    pub fn create(&self, options: &[&str]) -> String {
        let arguments = ["workspace", "create", "debian:12", "--id-only", "--mem-mib", "512"];
        let output = self.run(&[&arguments, options].concat());
        assert_eq!(output.code, Some(0), "{}", output.err());
        output.out().trim_end().to_owned()
    }

    /// Returns the home.
    #[must_use]
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// Prepares a command without running it.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(dist().join("bin/pyro"));
        command
            .args(arguments)
            .env_remove("XDG_DATA_HOME")
            .env("PYRO_HOME", self.home())
            .env("PYRO_ENVIRONMENT_CACHE_DIR", environments())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        for (name, value) in &self.variables {
            command.env(name, value);
        }
        command
    }

    /// Starts a command.
    ///
    /// # Panics
    ///
    /// When the program cannot be started.
    #[must_use]
    pub fn spawn(&self, arguments: &[&str]) -> Child {
        self.command(arguments).spawn().expect("pyro can be started")
    }

    /// Runs a command to its end.
    ///
    /// # Panics
    ///
    /// When it does not end in time.
    #[must_use]
    #[track_caller]
    pub fn run(&self, arguments: &[&str]) -> Output {
        finish(self.spawn(arguments))
    }

    /// Returns the events of the log, oldest first.
    ///
    /// # Panics
    ///
    /// When `pyro log` fails.
    #[must_use]
    #[track_caller]
    pub fn log(&self) -> Vec<Value> {
        let output = self.run(&["log", "--json"]);
        assert_eq!(output.code, Some(0), "{}", output.err());
        output.out().lines().map(|line| serde_json::from_str(line).expect("each line is JSON")).collect()
    }

    /// Returns the kinds of the events of the log, oldest first.
    #[must_use]
    #[track_caller]
    pub fn kinds(&self) -> Vec<String> {
        self.log().iter().map(|event| event["kind"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// Follows the log until an event of this kind comes, and returns it.
    ///
    /// # Panics
    ///
    /// When the log ends before.
    #[must_use]
    #[track_caller]
    pub fn wait_for(&self, kind: &str) -> Value {
        let mut follower = self.spawn(&["log", "--json", "--follow"]);
        let lines = BufReader::new(follower.stdout.take().expect("it is piped")).lines();
        let events = lines.map(|line| {
            serde_json::from_str::<Value>(&line.expect("a pipe can be read")).expect("each line is JSON")
        });
        let found = events.into_iter().find(|event| event["kind"] == kind);
        follower.kill().expect("a child can be killed");
        follower.wait().expect("a child can be waited for");
        found.unwrap_or_else(|| panic!("the log ended before {kind}"))
    }

    /// Returns the daemon's process id, starting it if need be.
    ///
    /// # Panics
    ///
    /// When `pyro daemon status` fails.
    #[must_use]
    #[track_caller]
    pub fn daemon_pid(&self) -> i32 {
        // Another command starts the daemon; `status` by itself only looks.
        let _listed = self.run(&["env", "list"]);
        let status = self.run(&["daemon", "status", "--json"]).json();
        status["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok()).expect("the daemon has a pid")
    }

    /// Returns the processes that belong to this home.
    #[must_use]
    pub fn processes(&self) -> Vec<(i32, String)> {
        processes_mentioning(self.home().as_os_str())
    }
}

impl Default for Pyro {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Pyro {
    fn drop(&mut self) {
        let _stopped = self.command(&["daemon", "stop"]).output();
        for (pid, _) in self.processes() {
            let Some(pid) = Pid::from_raw(pid) else { continue };
            // It may have ended by itself meanwhile.
            let _gone = kill_process(pid, Signal::KILL);
        }
    }
}

/// Sends a signal to a process of the test.
///
/// # Panics
///
/// When there is no such process.
#[track_caller]
pub fn signal(pid: i32, signal: Signal) {
    let pid = Pid::from_raw(pid).expect("a pid is positive");
    kill_process(pid, signal).expect("the process is there");
}

/// Waits for a started command, reading all that it prints.
///
/// # Panics
///
/// When it does not end in time; it is killed then.
#[must_use]
#[track_caller]
pub fn finish(mut child: Child) -> Output {
    let mut stdout = child.stdout.take().expect("it is piped");
    let mut stderr = child.stderr.take().expect("it is piped");
    let out = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        stdout.read_to_end(&mut bytes).map(|_| bytes)
    });
    let err = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        stderr.read_to_end(&mut bytes).map(|_| bytes)
    });
    let status = wait(&mut child, COMMAND_DEADLINE);
    let stdout = out.join().expect("the reader does not panic").expect("a pipe can be read");
    let stderr = err.join().expect("the reader does not panic").expect("a pipe can be read");
    let Some(status) = status else {
        panic!(
            "no end in time; it printed {}\n{}",
            String::from_utf8_lossy(&stdout),
            String::from_utf8_lossy(&stderr)
        );
    };
    Output { code: status.code(), stdout, stderr }
}

fn wait(child: &mut Child, deadline: Duration) -> Option<std::process::ExitStatus> {
    let end = Instant::now() + deadline;
    let pid = Pid::from_child(child);
    let pidfd =
        rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).expect("a child has a pidfd");
    let mut polled = [rustix::event::PollFd::new(&pidfd, rustix::event::PollFlags::IN)];
    let left = end.saturating_duration_since(Instant::now());
    let timeout =
        rustix::event::Timespec { tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX), tv_nsec: 0 };
    let ready = rustix::event::poll(&mut polled, Some(&timeout)).unwrap_or(0);
    if ready == 0 {
        child.kill().expect("a child can be killed");
        child.wait().expect("a child can be waited for");
        return None;
    }
    Some(child.wait().expect("a child can be waited for"))
}

/// Returns the processes whose command line contains a path, that work below it, or that hold a socket which was bound
/// there: the first process of a host sandbox shows neither of the others.
fn processes_mentioning(path: &OsStr) -> Vec<(i32, String)> {
    let path = path.as_encoded_bytes();
    let sockets = sockets_below(path);
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let process = entry.path();
            let line = std::fs::read(process.join("cmdline")).ok()?;
            let mentioned = line.windows(path.len()).any(|window| window == path);
            let inside = || {
                let cwd = std::fs::read_link(process.join("cwd"));
                cwd.is_ok_and(|cwd| cwd.as_os_str().as_encoded_bytes().starts_with(path))
            };
            let holds = || {
                let fds = std::fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
                fds.filter_map(|fd| std::fs::read_link(fd.path()).ok())
                    .any(|target| sockets.contains(&target))
            };
            (mentioned || inside() || holds())
                .then(|| (pid, String::from_utf8_lossy(&line).replace('\0', " ")))
        })
        .collect()
}

/// Returns the sockets bound below a path, as `/proc` shows them among the descriptors of a process.
fn sockets_below(path: &[u8]) -> Vec<PathBuf> {
    let table = std::fs::read("/proc/net/unix").unwrap_or_default();
    table
        .split(|byte| *byte == b'\n')
        .filter_map(|line| {
            let fields: Vec<_> = line.split(|byte| *byte == b' ').filter(|field| !field.is_empty()).collect();
            let [.., inode, bound] = fields[..] else { return None };
            let inode = std::str::from_utf8(inode).ok()?;
            bound.starts_with(path).then(|| PathBuf::from(format!("socket:[{inode}]")))
        })
        .collect()
}
