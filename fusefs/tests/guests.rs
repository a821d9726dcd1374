//! Real agents in the place of guests: their files are those of a directory of the test.

use std::collections::HashMap;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::pin::Pin;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use pyro_core::WorkspaceId;
use pyro_fusefs::{Answering, FileError, Files, LiveFile};
use pyro_protocol::{FileAnswer, FileCall};
use pyro_runtime::guest::{FilesError, Guest, GuestFiles, Transport};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process};
use tokio::runtime::Runtime;

/// Names the guest agent.
const AGENT: &str = "PYRO_TEST_AGENT";

/// Time that a call has. A test in which an agent hangs waits so long.
const ALLOWANCE: Duration = Duration::from_secs(2);

/// Starts the agent with the listening socket, which is this shell's stdin, as descriptor 3.
const START: &str = r#"exec "$0" --listen-fd 3 --stage-root "$1" 3<&0 0</dev/null"#;

/// The guests of a test.
#[derive(Debug)]
pub(crate) struct Guests {
    runtime: Runtime,
    running: Mutex<HashMap<WorkspaceId, Running>>,
}

#[derive(Debug)]
struct Running {
    agent: Child,
    files: GuestFiles,
    _socket: tempfile::TempDir,
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may be stopped.
        let _ended = self.agent.kill();
        let _ended = self.agent.wait();
    }
}

impl Guests {
    pub(crate) fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        Self { runtime: runtime.unwrap(), running: Mutex::default() }
    }

    /// Tells why no agent can be started; `None` when one can.
    pub(crate) fn obstacle() -> Option<String> {
        std::env::var_os(AGENT).is_none().then(|| format!("skipped: {AGENT} is not set"))
    }

    pub(crate) fn start(&self, id: WorkspaceId, root: &Path) {
        let socket = tempfile::tempdir().unwrap();
        let path = socket.path().join("agent");
        let listener = UnixListener::bind(&path).unwrap();
        let agent = Command::new("sh")
            .args(["-c", START])
            .arg(std::env::var_os(AGENT).unwrap())
            .arg(socket.path().canonicalize().unwrap().join("stages"))
            .stdin(Stdio::from(std::os::fd::OwnedFd::from(listener)))
            .spawn()
            .unwrap();
        let guest = Guest::new(Transport::Unix { path });
        let files = self.runtime.block_on(guest.files(root.to_str().unwrap(), ALLOWANCE)).unwrap();
        let running = Running { agent, files, _socket: socket };
        self.running.lock().unwrap().insert(id, running);
    }

    pub(crate) fn signal(&self, id: WorkspaceId, signal: Signal) {
        let running = self.running.lock().unwrap();
        let agent = Pid::from_child(&running[&id].agent);
        kill_process(agent, signal).unwrap();
        if signal == Signal::STOP {
            // It may go on for a moment on another processor.
            let stopped = WaitIdOptions::STOPPED | WaitIdOptions::NOWAIT;
            rustix::process::waitid(WaitId::Pid(agent), stopped).unwrap();
        }
    }

    /// Ends all of them, also when something still holds this.
    pub(crate) fn end_all(&self) {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn files(&self, id: WorkspaceId) -> Result<GuestFiles, FileError> {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.get(&id).map(|running| running.files.clone()).ok_or(FileError::Stopped)
    }
}

fn failure(error: FilesError) -> FileError {
    match error {
        FilesError::Refused { errno } => FileError::Refused(errno),
        FilesError::Silent { .. } | FilesError::Gone => FileError::Failed,
    }
}

impl Files for Guests {
    fn call(&self, workspace: WorkspaceId, call: FileCall) -> Answering<FileAnswer> {
        let files = self.files(workspace);
        Box::pin(async move { files?.call(call).await.map_err(failure) })
    }

    fn open(&self, workspace: WorkspaceId, call: FileCall) -> Answering<LiveFile> {
        let files = self.files(workspace);
        Box::pin(async move {
            let opened = files?.open(call).await.map_err(failure)?;
            Ok(LiveFile { handle: opened.handle, stat: opened.stat, local: opened.local })
        })
    }

    fn read(&self, workspace: WorkspaceId, handle: u64, offset: u64, len: u32) -> Answering<Bytes> {
        let files = self.files(workspace);
        Box::pin(async move { files?.read(handle, offset, len).await.map_err(failure) })
    }

    fn write(&self, workspace: WorkspaceId, handle: u64, offset: u64, data: Bytes) -> Answering<u32> {
        let files = self.files(workspace);
        Box::pin(async move { files?.write(handle, offset, data).await.map_err(failure) })
    }

    fn spawn(&self, task: Pin<Box<dyn Future<Output = ()> + Send>>) {
        self.runtime.spawn(task);
    }
}
