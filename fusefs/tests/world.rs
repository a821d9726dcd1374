//! A daemon without guests: a real log with the real rules, real output files, and tests in the place of guests and
//! clients.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pyro_core::{
    Accelerator, Actor, Backend, Cause, Command, DeleteReason, Envelope, EnvironmentInstalled, Event,
    ExecExited, ExecNumber, ExecutionMode, ExitStatus, Face, Gaps, Process, Rejection, Shell, ShellExited,
    ShellId, ShellStarted, State, StreamSummary, Tags, TerminalSize, Timestamp, Workspace, WorkspaceId,
    WorkspaceSpec, WorkspaceStarted, decide, evolve,
};
use pyro_fusefs::{
    Done, ExecRecord, Files, Host, Mount, Refusal, RefusalKind, View, Visibility, Wish, Writer,
};
use pyro_store::outputs::{OutputWriter, Outputs, Stream, StreamId};
use pyro_store::{Draft, EventLog, Options, Reader};
use serde_json::json;
use tempfile::TempDir;

use crate::guests::Guests;

/// The size of terminals, unless a test says otherwise.
pub(crate) const SIZE: TerminalSize = TerminalSize { columns: 80, rows: 24 };

/// One second, in microseconds. Each batch of events is one later than the one before.
pub(crate) const SECOND: u64 = 1_000_000;

/// A daemon without guests. Dropping it takes its mounts away.
#[derive(Debug)]
pub(crate) struct World {
    inner: Arc<Inner>,
}

/// What the mounts hold of it.
#[derive(Clone, Debug)]
struct Served(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    outputs: Outputs,
    engine: Mutex<Engine>,
    mounts: Mutex<Vec<Arc<Mount>>>,
    guests: Arc<Guests>,
    dir: TempDir,
}

#[derive(Debug)]
struct Engine {
    log: EventLog,
    state: State,
    now: Timestamp,
    ids: u8,
    /// What was typed; a guest would have it.
    typed: Vec<u8>,
    /// What the next wish is refused with, in the place of a disk that has no room or fails.
    refusal: Option<RefusalKind>,
}

impl World {
    pub(crate) fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("pyro-fusefs").tempdir().unwrap();
        let log = EventLog::open(dir.path().join("log"), Options::default()).unwrap();
        let outputs = Outputs::open(dir.path().join("outputs")).unwrap();
        let (state, now) = (State::default(), Timestamp(SECOND));
        let engine = Engine { log, state, now, ids: 0, typed: Vec::new(), refusal: None };
        let guests = Arc::new(Guests::new());
        let inner = Inner { outputs, engine: Mutex::new(engine), mounts: Mutex::default(), guests, dir };
        Self { inner: Arc::new(inner) }
    }

    fn engine(&self) -> MutexGuard<'_, Engine> {
        self.inner.engine()
    }

    pub(crate) fn dir(&self) -> &std::path::Path {
        self.inner.dir.path()
    }

    /// Gives a workspace a real agent, whose files are in the directory that is returned.
    pub(crate) fn start_agent(&self, id: WorkspaceId) -> std::path::PathBuf {
        let root = self.dir().canonicalize().unwrap().join(format!("{id}.files"));
        self.inner.guests.start(id, &root);
        root
    }

    pub(crate) fn guests(&self) -> &Guests {
        &self.inner.guests
    }

    pub(crate) fn reader(&self) -> Reader {
        self.engine().log.reader()
    }

    pub(crate) fn state(&self) -> State {
        self.engine().state.clone()
    }

    pub(crate) fn typed(&self) -> Vec<u8> {
        self.engine().typed.clone()
    }

    pub(crate) fn refuse_next(&self, kind: RefusalKind) {
        self.engine().refusal = Some(kind);
    }

    pub(crate) fn view(&self) -> View {
        let (state, reader) = (self.state(), self.reader());
        View::new(state, reader, self.inner.outputs.clone(), Arc::new(Served(Arc::clone(&self.inner))))
    }

    /// Mounts the tree at a new directory, until the world goes.
    pub(crate) fn mount(&self, visibility: Visibility) -> Arc<Mount> {
        let path = self.dir().join("mnt");
        let mount = Arc::new(Mount::new(&path, visibility, self.view()).unwrap());
        self.inner.mounts.lock().unwrap().push(Arc::clone(&mount));
        mount
    }

    /// Lets the rules decide a command, as the daemon's engine does.
    pub(crate) fn submit(&self, command: Command) -> Result<Vec<Envelope>, Rejection> {
        let face = Actor { face: Face::Cli, uid: 0, pid: 1, client: "test".to_owned() };
        self.inner.submit_as(command, face)
    }

    pub(crate) fn tell(&self, command: Command) -> Vec<Envelope> {
        self.submit(command).unwrap()
    }

    fn draw(&self) -> [u8; 6] {
        let mut engine = self.engine();
        engine.ids += 1;
        [engine.ids; 6]
    }

    pub(crate) fn install(&self, name: &str) {
        self.tell(Command::RecordEnvironmentInstalled(EnvironmentInstalled {
            name: name.parse().unwrap(),
            version: "1.0.0".to_owned(),
            source: "test".to_owned(),
            manifest_digest: "00".to_owned(),
        }));
    }

    /// Creates a workspace with a guest.
    pub(crate) fn create(&self, name: Option<&str>) -> WorkspaceId {
        let workspace = WorkspaceId::from_bytes(self.draw());
        let spec = WorkspaceSpec {
            environment: "debian:12".parse().unwrap(),
            environment_version: "1.0.0".to_owned(),
            vcpu_count: 1,
            mem_mib: 128,
            ttl_seconds: 0,
            network: false,
            allow_host_compat: false,
        };
        let tags = Tags { name: name.map(str::to_owned), ..Tags::default() };
        self.tell(Command::OpenWorkspace { workspace, spec, tags, seed: None });
        self.tell(Command::RecordStarted(WorkspaceStarted {
            workspace,
            backend: Backend::Qemu,
            accelerator: Accelerator::Tcg,
            process: Process { pid: 7, start_ticks: 8 },
            boot_ms: 9,
        }));
        workspace
    }

    pub(crate) fn delete(&self, workspace: WorkspaceId) {
        self.tell(Command::DeleteWorkspace { workspace, reason: DeleteReason::Explicit });
        self.inner.outputs.remove_workspace(workspace).unwrap();
        self.tell(Command::RecordDeleted { workspace });
    }

    pub(crate) fn exec(&self, workspace: WorkspaceId, command: &str) -> ExecNumber {
        let (command, cwd) = (command.to_owned(), None);
        let told = self.tell(Command::RequestExec { workspace, command, cwd, timeout_ms: 1000 });
        told.iter().find_map(number_of).unwrap()
    }

    pub(crate) fn exit(&self, workspace: WorkspaceId, exec: ExecNumber, status: ExitStatus) {
        let summary = |stream| self.summary(workspace, StreamId::Exec(exec, stream));
        self.tell(Command::RecordExecExited(ExecExited {
            workspace,
            exec,
            status,
            duration_ms: 17,
            stdout: summary(Stream::Stdout),
            stderr: summary(Stream::Stderr),
        }));
    }

    fn summary(&self, workspace: WorkspaceId, stream: StreamId) -> StreamSummary {
        let summary = self.inner.outputs.summary(workspace, stream, &Gaps::default()).unwrap();
        summary.unwrap_or(StreamSummary { len_bytes: 0, digest: [0; 32] })
    }

    pub(crate) fn open_shell(&self, workspace: WorkspaceId, size: TerminalSize) -> ShellId {
        let shell = ShellId::from_bytes(self.draw());
        self.tell(Command::OpenShell { workspace, shell, cwd: "/workspace".to_owned(), size });
        self.tell(Command::RecordShellStarted(ShellStarted { workspace, shell, guest_pid: 9 }));
        shell
    }

    pub(crate) fn end_shell(&self, workspace: WorkspaceId, shell: ShellId) {
        let output = self.summary(workspace, StreamId::Shell(shell));
        let status = ExitStatus::Code(0);
        self.tell(Command::RecordShellExited(ShellExited { workspace, shell, status, output }));
    }

    /// Prints bytes into a stream, at the time of the last event.
    pub(crate) fn print(&self, workspace: WorkspaceId, stream: StreamId, bytes: &[u8]) {
        let at = self.engine().now;
        let mut writer: OutputWriter =
            self.inner.outputs.resume(workspace, stream, &Gaps::default()).unwrap();
        writer.append(writer.len_bytes(), bytes, at).unwrap();
        for mount in self.inner.mounts.lock().unwrap().iter() {
            mount.stream_grew(workspace, stream);
        }
    }

    /// Gives back the space of a part of a stream, as the daemon does when there is too much.
    pub(crate) fn drop_part(&self, workspace: WorkspaceId, stream: StreamId, part: std::ops::Range<u64>) {
        self.inner.outputs.drop_part(workspace, stream, part).unwrap();
    }

    /// Shortens an output file as somebody could who has no business with it; to nothing means that it is deleted.
    pub(crate) fn lose(&self, workspace: WorkspaceId, stream: StreamId, len: u64) {
        let path = self.inner.outputs.path(workspace, stream);
        if len == 0 {
            std::fs::remove_file(path).unwrap();
        } else {
            std::fs::OpenOptions::new().write(true).open(path).unwrap().set_len(len).unwrap();
        }
    }

    pub(crate) fn stdout(&self, workspace: WorkspaceId, exec: ExecNumber, text: &str) {
        self.print(workspace, StreamId::Exec(exec, Stream::Stdout), text.as_bytes());
    }

    pub(crate) fn show(&self, workspace: WorkspaceId, shell: ShellId, text: &str) {
        self.print(workspace, StreamId::Shell(shell), text.as_bytes());
    }

    /// Lets time go on, so that what comes next has another time than what was before.
    pub(crate) fn wait_a_second(&self) {
        self.engine().now.0 += SECOND;
    }
}

impl Inner {
    fn engine(&self) -> MutexGuard<'_, Engine> {
        self.engine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn submit_as(&self, command: Command, actor: Actor) -> Result<Vec<Envelope>, Rejection> {
        let mut engine = self.engine();
        let events = decide(&engine.state, &command)?;
        engine.now.0 += SECOND;
        let at = engine.now;
        let draft = |event| Draft { at, actor: actor.clone(), cause: Cause::Observation, event };
        let drafts: Vec<Draft> = events.into_iter().map(draft).collect();
        let envelopes = if drafts.is_empty() { Vec::new() } else { engine.log.append(drafts).unwrap() };
        for envelope in &envelopes {
            evolve(&mut engine.state, envelope);
        }
        drop(engine);
        for mount in self.mounts.lock().unwrap().iter() {
            mount.log_grew();
        }
        Ok(envelopes)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let mounts = std::mem::take(&mut *self.inner.mounts.lock().unwrap_or_else(PoisonError::into_inner));
        for mount in mounts {
            // A test that failed may have taken it away already.
            let _gone = mount.unmount();
        }
        self.inner.guests.end_all();
        // The threads of a mount hold the directory a moment longer, and the process may end before that.
        let _gone = std::fs::remove_dir_all(self.inner.dir.path());
    }
}

fn number_of(envelope: &Envelope) -> Option<ExecNumber> {
    match &envelope.event {
        Event::ExecRequested(event) => Some(event.exec),
        _ => None,
    }
}

impl Host for Served {
    fn event(&self, envelope: &Envelope) -> String {
        json!({ "seq": envelope.seq.0, "kind": envelope.event.kind() }).to_string()
    }

    fn workspace(&self, id: WorkspaceId, workspace: &Workspace) -> String {
        json!({ "id": id.to_string(), "state": workspace.phase.as_str() }).to_string()
    }

    fn exec(&self, _: WorkspaceId, record: &ExecRecord) -> String {
        let code = record.exit().map(|(status, _)| status.exit_code());
        let mode = ExecutionMode::as_str(record.mode);
        json!({ "sequence": record.number.0, "exit_code": code, "execution_mode": mode }).to_string()
    }

    fn shell(&self, _: WorkspaceId, id: ShellId, shell: &Shell) -> String {
        json!({ "id": id.to_string(), "cols": shell.size.columns }).to_string()
    }

    fn manifest(&self, environment: &str) -> io::Result<Option<Vec<u8>>> {
        Ok(Some(format!("{environment}\n").into_bytes()))
    }

    fn files(&self) -> Arc<dyn Files> {
        Arc::clone(&self.0.guests) as Arc<dyn Files>
    }

    fn perform(&self, wish: Wish, writer: Writer, done: Done) {
        if let Some(kind) = self.0.engine().refusal.take() {
            return done(Err(Refusal { kind, message: format!("{kind:?}") }));
        }
        let actor = Actor { face: Face::Fuse, uid: writer.uid, pid: writer.pid, client: "test".to_owned() };
        let command = match wish {
            Wish::Exec { workspace, command, timeout_seconds } => {
                let timeout_ms = timeout_seconds.unwrap_or(30) * 1000;
                Command::RequestExec { workspace, command, cwd: None, timeout_ms }
            }
            Wish::Start(workspace) => Command::StartWorkspace { workspace },
            Wish::Stop(workspace) => Command::StopWorkspace { workspace },
            Wish::Delete(workspace) => Command::DeleteWorkspace { workspace, reason: DeleteReason::Explicit },
            Wish::Type { workspace, shell, data } => {
                self.0.engine().typed.extend_from_slice(&data);
                Command::TypeInput { workspace, shell, data }
            }
            Wish::Signal { workspace, shell, signal } => Command::SignalShell { workspace, shell, signal },
            Wish::Resize { workspace, shell, size } => Command::ResizeShell { workspace, shell, size },
            Wish::Close { workspace, shell } => Command::CloseShell { workspace, shell },
        };
        let decided = self.0.submit_as(command, actor);
        done(match decided {
            Ok(envelopes) => Ok(envelopes.iter().find_map(number_of)),
            Err(rejection) => Err(Refusal { kind: kind_of(&rejection), message: rejection.to_string() }),
        });
    }
}

const fn kind_of(rejection: &Rejection) -> RefusalKind {
    match rejection {
        Rejection::UnknownWorkspace { .. } | Rejection::UnknownShell { .. } => RefusalKind::Gone,
        Rejection::WrongPhase { .. } | Rejection::WrongShellPhase { .. } => RefusalKind::WrongState,
        Rejection::LimitReached { .. } => RefusalKind::NoRoom,
        _ => RefusalKind::Invalid,
    }
}
