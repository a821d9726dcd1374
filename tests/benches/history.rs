//! A long history: what a host has in its log after years of use, made by the real rules and kept by the real log.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use pyro_core::{
    Accelerator, Actor, Backend, Cause, Command, DaemonStarted, DeleteReason, Envelope, ExecExited,
    ExecNumber, ExecStarted, ExitStatus, Face, Limits, Process, RequestId, Seq, ShellExited, ShellId,
    ShellStarted, State, StopReason, StreamSummary, SyncFinished, SyncNumber, SyncSource, SyncSourceKind,
    Tags, TerminalSize, Timestamp, WorkspaceId, WorkspaceSpec, WorkspaceStarted, WorkspaceStopped, decide,
    evolve,
};
use pyro_store::{Draft, EventLog, Options};

/// Workspaces that are there at the end; all that were opened besides are deleted.
const WORKSPACES: usize = 1_000;
/// Guests at work at a time, whose events lie between each other.
const GUESTS: usize = 32;
/// Events of one batch: what a busy daemon makes durable at once.
const BATCH_LEN: usize = 32;
/// Events between two checkpoints, as the daemon makes them.
const CHECKPOINT_DISTANCE: u64 = 20_000;
/// Time between two events, so that a million of them end within the time to live of every workspace.
const EVENT_US: u64 = 1_500_000;
const TTL_SECONDS: u64 = 30 * 24 * 3600;

/// Writes a history of at least so many events into the log in a directory. All guests are stopped at its end, and it ends
/// now.
pub(crate) fn write(dir: &Path, events: u64) -> State {
    let log = EventLog::open(dir, Options::default()).expect("a new log can be opened");
    let mut author = Author::new(log, events);
    while author.state.seq.0 < events {
        author.go_on();
    }
    while let Some(workspace) = author.at_work.pop() {
        author.stop(workspace);
    }
    author.flush();
    author.state
}

/// Writes a history of one workspace in which so many commands have ended, and returns it. Its guest is stopped.
pub(crate) fn write_one(dir: &Path, execs: u64) -> WorkspaceId {
    /// Asked for, started, ended.
    const EVENTS_PER_EXEC: u64 = 3;
    let log = EventLog::open(dir, Options::default()).expect("a new log can be opened");
    let mut author = Author::new(log, execs * EVENTS_PER_EXEC);
    let workspace = author.open();
    author.run(workspace);
    for _ in 0..execs {
        author.exec(workspace);
    }
    author.stop(workspace);
    author.flush();
    workspace
}

struct Author {
    log: EventLog,
    state: State,
    batch: Vec<Draft>,
    at_work: Vec<WorkspaceId>,
    stopped: Vec<WorkspaceId>,
    checkpoint: Seq,
    now: Timestamp,
    random: u64,
}

impl Author {
    fn new(log: EventLog, events: u64) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970").as_micros();
        let now = u64::try_from(now).expect("the clock is before the year 500,000");
        let mut author = Self {
            log,
            state: State::default(),
            batch: Vec::new(),
            at_work: Vec::new(),
            stopped: Vec::new(),
            checkpoint: Seq::ZERO,
            now: Timestamp(now - events * EVENT_US),
            random: 1,
        };
        let process = Process { pid: 4242, start_ticks: 1 };
        let (version, host_boot_id) = ("2.4.0".to_owned(), "6f5c2b6e-3f0a-4c5b-9a53-1f0c7f1f5d11".to_owned());
        author.record(Command::RecordDaemonStarted(DaemonStarted { process, version, host_boot_id }));
        let limits = Limits { workspaces_max: 2_000, mem_mib_total: 1 << 20, ..Limits::default() };
        author.record(Command::RecordLimits(limits));
        author
    }

    /// Does one thing: mostly a command in one of the guests at work.
    fn go_on(&mut self) {
        if self.at_work.len() < GUESTS {
            return self.begin_work();
        }
        let place = self.below(GUESTS);
        let workspace = self.at_work[place];
        match self.below(100) {
            0..4 => {
                self.at_work.swap_remove(place);
                self.stop(workspace);
            }
            4..8 => self.push(workspace),
            8..12 => self.type_in_shell(workspace),
            _ => self.exec(workspace),
        }
    }

    /// Starts a guest: of a new workspace, or of one that was stopped.
    fn begin_work(&mut self) {
        let workspace = if self.state.workspaces.len() >= WORKSPACES && self.below(3) == 0 {
            let place = self.below(self.stopped.len());
            let workspace = self.stopped.swap_remove(place);
            self.ask(Command::StartWorkspace { workspace });
            workspace
        } else {
            self.open()
        };
        self.run(workspace);
        self.at_work.push(workspace);
    }

    fn run(&mut self, workspace: WorkspaceId) {
        self.record(Command::RecordStarted(WorkspaceStarted {
            workspace,
            backend: Backend::Firecracker,
            accelerator: Accelerator::Kvm,
            process: Process { pid: 100_000, start_ticks: self.now.0 / 10_000 },
            boot_ms: 140,
        }));
    }

    fn open(&mut self) -> WorkspaceId {
        if self.state.workspaces.len() >= WORKSPACES {
            let place = self.below(self.stopped.len());
            let workspace = self.stopped.swap_remove(place);
            self.ask(Command::DeleteWorkspace { workspace, reason: DeleteReason::Explicit });
            self.record(Command::RecordDeleted { workspace });
        }
        let workspace = WorkspaceId::from_bytes(self.bytes());
        let spec = WorkspaceSpec {
            environment: "debian:12".parse().expect("the name is in the catalog"),
            environment_version: "1.0.0".to_owned(),
            vcpu_count: 2,
            mem_mib: 512,
            ttl_seconds: TTL_SECONDS,
            network: false,
            allow_host_compat: false,
        };
        let labels = BTreeMap::from([("team".to_owned(), "backend".to_owned())]);
        let tags = Tags { name: Some(format!("task-{workspace}")), labels };
        self.ask(Command::OpenWorkspace { workspace, spec, tags, seed: None });
        workspace
    }

    fn stop(&mut self, workspace: WorkspaceId) {
        self.ask(Command::StopWorkspace { workspace });
        let reason = StopReason::Requested;
        self.record(Command::RecordStopped(WorkspaceStopped { workspace, reason }));
        self.stopped.push(workspace);
    }

    fn exec(&mut self, workspace: WorkspaceId) {
        let commands = [
            "cargo test --workspace --quiet 2>&1 | tail -n 40",
            "git status --short && git diff --stat",
            "rg -n 'fn open' src | head",
            "sed -n 1,120p src/main.rs",
            "python3 -m pytest -x -q tests/unit",
        ];
        let command = commands[self.below(commands.len())].to_owned();
        let exec = ExecNumber(self.state.workspaces[&workspace].exec_count + 1);
        let cwd = Some("/workspace".to_owned());
        self.ask(Command::RequestExec { workspace, command, cwd, timeout_ms: 600_000 });
        let guest_pid = 300 + exec.0;
        self.record(Command::RecordExecStarted(ExecStarted { workspace, exec, guest_pid }));
        let status = ExitStatus::Code(u8::from(self.below(8) == 0));
        let duration_ms = 20 + self.draw() % 5_000;
        // Silent commands: their digests are as long as all others, and no files need to be made for them.
        let (stdout, stderr) = (silence(), silence());
        self.record(Command::RecordExecExited(ExecExited {
            workspace,
            exec,
            status,
            duration_ms,
            stdout,
            stderr,
        }));
    }

    fn push(&mut self, workspace: WorkspaceId) {
        let sync = SyncNumber(self.state.workspaces[&workspace].sync_count + 1);
        let path = "/home/someone/projects/service".to_owned();
        let source = SyncSource { kind: SyncSourceKind::Directory, path };
        let destination = "/workspace".to_owned();
        self.ask(Command::RequestSync { workspace, source, destination, changes: None });
        let (entry_count, bytes_written) = (1 + self.draw() % 500, self.draw() % (1 << 24));
        let digest = Some([7; 32]);
        let finished = SyncFinished { workspace, sync, entry_count, bytes_written, digest };
        self.record(Command::RecordSyncFinished(finished));
    }

    fn type_in_shell(&mut self, workspace: WorkspaceId) {
        let shell = ShellId::from_bytes(self.bytes());
        let size = TerminalSize { columns: 120, rows: 40 };
        self.ask(Command::OpenShell { workspace, shell, cwd: "/workspace".to_owned(), size });
        self.record(Command::RecordShellStarted(ShellStarted { workspace, shell, guest_pid: 299 }));
        for data in [&b"ls -la\r"[..], b"git log --oneline | head\r", b"exit\r"] {
            self.ask(Command::TypeInput { workspace, shell, data: data.to_vec() });
        }
        let (status, output) = (ExitStatus::Code(0), silence());
        self.record(Command::RecordShellExited(ShellExited { workspace, shell, status, output }));
        self.ask(Command::CloseShell { workspace, shell });
    }

    /// Has a client ask for something.
    fn ask(&mut self, command: Command) {
        let face = [Face::Cli, Face::Mcp, Face::Python][self.below(3)];
        let client = match face {
            Face::Mcp => "an-agent/1.12.0",
            Face::Python => "pyro-python/2.4.0",
            Face::Cli | Face::Daemon | Face::Fuse => "pyro/2.4.0",
        };
        let pid = u32::try_from(1_000 + self.below(30_000)).expect("the number is small");
        // As a version 7 UUID: the time comes first.
        let mut request = [0; 16];
        request[..6].copy_from_slice(&(self.now.0 / 1_000).to_be_bytes()[2..]);
        request[6..14].copy_from_slice(&self.draw().to_be_bytes());
        let cause = Cause::Request(RequestId::from_bytes(request));
        self.submit(command, Actor { face, uid: 1000, pid, client: client.to_owned() }, cause);
    }

    /// Has the daemon see something.
    fn record(&mut self, command: Command) {
        let actor = Actor { face: Face::Daemon, uid: 1000, pid: 4242, client: "pyro/2.4.0".to_owned() };
        self.submit(command, actor, Cause::Observation);
    }

    fn submit(&mut self, command: Command, actor: Actor, cause: Cause) {
        let events = decide(&self.state, &command).expect("the history keeps to the rules");
        for event in events {
            self.now.0 += EVENT_US;
            let at = self.now;
            let seq = self.state.seq.next();
            let envelope = Envelope { seq, at, actor: actor.clone(), cause, event: event.clone() };
            evolve(&mut self.state, &envelope);
            self.batch.push(Draft { at, actor: actor.clone(), cause, event });
        }
        if self.batch.len() >= BATCH_LEN {
            self.flush();
        }
    }

    fn flush(&mut self) {
        self.log.append(std::mem::take(&mut self.batch)).expect("the disk has room");
        if self.state.seq.0 >= self.checkpoint.0 + CHECKPOINT_DISTANCE {
            self.checkpoint = self.state.seq;
            self.log.checkpoints().save(&self.state).expect("the log reaches this far");
        }
    }

    fn bytes(&mut self) -> [u8; 6] {
        *self.draw().to_be_bytes().first_chunk().expect("eight are more than six")
    }

    fn below(&mut self, limit: usize) -> usize {
        let limit = u64::try_from(limit).expect("a usize has 64 bits");
        usize::try_from(self.draw() % limit).expect("it is below a usize")
    }

    /// Draws a number by splitmix64: the same history in each run, but for its times.
    fn draw(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

fn silence() -> StreamSummary {
    StreamSummary { len_bytes: 0, digest: *blake3::hash(b"").as_bytes() }
}
