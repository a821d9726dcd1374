//! The host's side of the tests: an agent process, and connections to it.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use pyro_protocol::{
    Ack, Attach, Decoder, Exec, Exited, Frame as _, GenerationRange, GuestFrame, Hello, HostFrame, Operation,
    Stream,
};
use rustix::process::{Pid, Signal};
use tempfile::TempDir;

/// Time after which a test that waits for the agent fails. It is for a loaded machine; nothing here takes long.
const PATIENCE: Duration = Duration::from_secs(60);

/// Starts the agent with the listening socket, which is this shell's stdin, as descriptor 3, and with signals ignored
/// as a careless parent leaves them.
const START: &str = r#"trap '' HUP INT QUIT USR1; exec "$0" --listen-fd 3 "$@" 3<&0 0</dev/null"#;

/// A running agent, with a directory for its test.
pub(crate) struct Agent {
    process: Child,
    directory: TempDir,
}

impl Agent {
    pub(crate) fn start() -> Self {
        let mut shell = Command::new("sh");
        shell.args(["-c", START]);
        Self::start_by(shell, &[])
    }

    /// Starts an agent that is given fewer descriptors than it needs, and may have more.
    pub(crate) fn start_with_few_descriptors() -> Self {
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("ulimit -S -n 32; {START}")]);
        Self::start_by(shell, &[])
    }

    /// Starts an agent that stages imports in this directory.
    pub(crate) fn start_staging(stages: &Path) -> Self {
        let mut shell = Command::new("sh");
        shell.args(["-c", START]);
        Self::start_by(shell, &[Path::new("--stage-root"), stages])
    }

    /// Starts an agent that stages imports in this directory, in a mount namespace that the script has changed.
    pub(crate) fn start_staging_behind(script: &str, stages: &Path) -> Self {
        let mut unshare = Command::new("unshare");
        unshare.args(["--user", "--map-root-user", "--mount", "sh", "-c"]);
        unshare.arg(format!("set -e; {script}; {START}"));
        Self::start_by(unshare, &[Path::new("--stage-root"), stages])
    }

    /// Starts an agent in a mount namespace that has no `/bin/sh`.
    pub(crate) fn start_without_shell() -> Self {
        let mut unshare = Command::new("unshare");
        unshare.args(["--user", "--map-root-user", "--mount", "sh", "-c"]);
        unshare.arg(format!(r#"mount -t tmpfs none "$(readlink -f /bin)" && {START}"#));
        Self::start_by(unshare, &[])
    }

    /// Starts an agent in a mount namespace that has no `bash`.
    pub(crate) fn start_without_bash() -> Self {
        let mut unshare = Command::new("unshare");
        unshare.args(["--user", "--map-root-user", "--mount", "sh", "-c"]);
        unshare.arg(format!(r#"mount --bind /dev/null "$(readlink -f /bin/bash)" && {START}"#));
        Self::start_by(unshare, &[])
    }

    fn start_by(mut starter: Command, arguments: &[&Path]) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let listener = UnixListener::bind(directory.path().join("agent")).expect("a socket");
        starter
            .arg(env!("CARGO_BIN_EXE_pyro-guest-agent"))
            .args(arguments)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        let process =
            starter.stdin(Stdio::from(std::os::fd::OwnedFd::from(listener))).spawn().expect("an agent");
        Self { process, directory }
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.process)
    }

    /// Waits for the end of the agent.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        self.process.wait().expect("a child of ours")
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Returns a connection on which nothing has been sent.
    pub(crate) fn dial(&self) -> Link {
        let stream = UnixStream::connect(self.path("agent")).expect("an agent that listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        Link { stream, decoder: Decoder::new() }
    }

    /// Returns a connection that has been greeted.
    pub(crate) fn connect(&self) -> Link {
        let mut link = self.dial();
        link.send(&HostFrame::Hello(Hello { generations: GenerationRange::SUPPORTED }));
        assert!(matches!(link.expect(), GuestFrame::Welcome(_)));
        link
    }

    /// Sends the command on a connection of its own.
    pub(crate) fn exec(&self, exec: Exec) -> Link {
        let mut link = self.connect();
        link.send(&HostFrame::Exec(exec));
        link
    }

    /// Sends the command and waits until it runs.
    pub(crate) fn started(&self, op: u64, command: &str) -> Link {
        let mut link = self.exec(exec(op, command));
        assert!(matches!(link.expect(), GuestFrame::Started(_)));
        link
    }

    /// Runs the command to its end and forgets it.
    pub(crate) fn run(&self, exec: Exec) -> Outcome {
        let mut link = self.exec(exec);
        let outcome = link.outcome();
        link.forget();
        outcome
    }

    pub(crate) fn attach(&self, op: u64, stdout_offset: u64, stderr_offset: u64) -> Link {
        let mut link = self.connect();
        link.send(&HostFrame::Attach(Attach { op, stdout_offset, stderr_offset }));
        link
    }

    pub(crate) fn operations(&self) -> Vec<Operation> {
        match self.connect().ask(&HostFrame::Operations) {
            GuestFrame::Operations(operations) => operations,
            other => panic!("{other:?} is no list of operations"),
        }
    }

    /// Returns a named pipe that says by its end that all processes that opened it are gone.
    pub(crate) fn lifeline(&self) -> Lifeline {
        let path = self.path("lifeline");
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, mode).expect("a named pipe");
        Lifeline { path }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // It ends its commands first, and it is gone already where the test was about its end.
        let _ended = rustix::process::kill_process(self.pid(), Signal::TERM);
        let _ended = self.process.wait();
    }
}

/// A named pipe that the processes of a tree hold.
pub(crate) struct Lifeline {
    path: PathBuf,
}

impl Lifeline {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Waits until somebody holds it; returns what sees its end.
    pub(crate) fn held(&self) -> File {
        File::open(&self.path).expect("a named pipe that somebody opens for writing")
    }
}

/// Waits until nobody holds the lifeline; returns what was written to it.
pub(crate) fn released(mut lifeline: File) -> String {
    let mut text = String::new();
    lifeline.read_to_string(&mut text).expect("a pipe that ends");
    text
}

/// A connection to an agent.
pub(crate) struct Link {
    stream: UnixStream,
    decoder: Decoder<GuestFrame>,
}

impl Link {
    pub(crate) const fn stream(&self) -> &UnixStream {
        &self.stream
    }

    /// Takes bytes that were received in another way.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.decoder.push(bytes);
    }

    pub(crate) fn send(&mut self, frame: &HostFrame) {
        let mut bytes = Vec::new();
        frame.encode(&mut bytes).expect("a short frame");
        self.send_bytes(&bytes);
    }

    pub(crate) fn send_bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("an agent that reads");
    }

    /// Sends nothing more.
    pub(crate) fn finish(&self) {
        self.stream.shutdown(Shutdown::Write).expect("an agent that is there");
    }

    /// Returns the next frame; `None` when the agent has closed the connection.
    pub(crate) fn next(&mut self) -> Option<GuestFrame> {
        loop {
            if let Some(frame) = self.decoder.next_frame().expect("an agent sends frames") {
                return Some(frame);
            }
            let mut bytes = [0; 64 * 1024];
            match self.stream.read(&mut bytes) {
                Ok(0) => return None,
                Ok(n) => self.decoder.push(&bytes[..n]),
                // An agent that closes with unread frames in its socket resets the connection.
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("the agent is silent: {error}"),
            }
        }
    }

    pub(crate) fn expect(&mut self) -> GuestFrame {
        self.next().expect("an agent that answers")
    }

    pub(crate) fn ask(&mut self, frame: &HostFrame) -> GuestFrame {
        self.send(frame);
        self.expect()
    }

    pub(crate) fn ack(&mut self, stream: Stream, offset: u64) {
        self.send(&HostFrame::Ack(Ack { stream, offset }));
    }

    pub(crate) fn forget(&mut self) {
        assert_eq!(self.ask(&HostFrame::Forget), GuestFrame::Done);
        assert_eq!(self.next(), None);
    }

    /// Takes output, acknowledging all of it, up to the exit.
    pub(crate) fn outcome(&mut self) -> Outcome {
        let mut outputs = [Vec::new(), Vec::new()];
        loop {
            match self.expect() {
                GuestFrame::Started(_) => {}
                GuestFrame::Output(output) => {
                    let taken = &mut outputs[index(output.stream)];
                    assert_eq!(output.offset, taken.len() as u64, "a byte is lost or doubled");
                    taken.extend_from_slice(&output.data);
                    let end = taken.len() as u64;
                    self.ack(output.stream, end);
                }
                GuestFrame::Exited(exited) => {
                    let [stdout, stderr] = outputs;
                    assert_eq!(
                        (exited.stdout_len, exited.stderr_len),
                        (stdout.len() as u64, stderr.len() as u64)
                    );
                    return Outcome { stdout, stderr, exited };
                }
                other => panic!("{other:?} in place of output or exit"),
            }
        }
    }
}

/// What became of a command.
pub(crate) struct Outcome {
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
    pub(crate) exited: Exited,
}

pub(crate) const fn index(stream: Stream) -> usize {
    match stream {
        Stream::Stdout => 0,
        Stream::Stderr => 1,
    }
}

/// Returns a command with nothing special about it.
pub(crate) fn exec(op: u64, command: &str) -> Exec {
    Exec { op, command: command.to_owned(), cwd: None, create_cwd: false, env: vec![], timeout_ms: 120_000 }
}
