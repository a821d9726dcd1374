//! Events to write, and directories to write them to.

mod work;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use pyro_core::{
    Accelerator, Actor, Backend, BackendProbed, Cause, DaemonStarted, DaemonStopped, DeleteReason, Envelope,
    EnvironmentInstallFailed, EnvironmentInstalled, EnvironmentName, EnvironmentRemoved, Event,
    ExecCancelRequested, ExecExited, ExecFailed, ExecLost, ExecNumber, ExecRequested, ExecStarted,
    ExitStatus, Face, Lifetime, Limits, LimitsChanged, ProbeVerdict, Process, RequestId, Seq, StopReason,
    StreamSummary, Timestamp, WorkspaceCreated, WorkspaceDeleted, WorkspaceDeleting, WorkspaceId,
    WorkspaceKind, WorkspaceLabeled, WorkspaceSpec, WorkspaceStartFailed, WorkspaceStarted,
    WorkspaceStarting, WorkspaceStopped, WorkspaceStopping,
};
use pyro_store::{Draft, EventLog, Options};
use tempfile::TempDir;

/// Makes a directory in memory where there is one: these tests sync thousands of times and never lose power.
pub(crate) fn dir() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory).unwrap() } else { tempfile::tempdir().unwrap() }
}

/// Runs a case for each number, on all processors, each with a directory of its own.
pub(crate) fn in_parallel(cases: usize, run: impl Fn(usize, &Path) + Sync) {
    let threads = 4;
    let run = &run;
    std::thread::scope(|scope| {
        for thread in 0..threads {
            scope.spawn(move || {
                let dir = dir();
                for case in (thread..cases).step_by(threads) {
                    run(case, dir.path());
                }
            });
        }
    });
}

/// Waits until the threads of an index that was closed before have let go of its files. Whoever opens the log sooner
/// builds the index anew, which is right and not what these tests are about.
pub(crate) fn await_index(dir: &Path) {
    if let Ok(file) = std::fs::File::open(dir.join("index/db")) {
        while file.try_lock().is_err() {
            std::thread::yield_now();
        }
    }
}

pub(crate) fn open(dir: impl AsRef<Path>) -> EventLog {
    await_index(dir.as_ref());
    EventLog::open(dir, Options::default()).unwrap()
}

/// Opens a log whose segments hold only a few records.
pub(crate) fn open_small(dir: impl AsRef<Path>) -> EventLog {
    await_index(dir.as_ref());
    EventLog::open(dir, Options { segment_len_max: 2_000 }).unwrap()
}

pub(crate) fn read(log: &EventLog) -> Vec<Envelope> {
    let reader = log.reader();
    reader.read(reader.first()).collect::<Result<_, _>>().unwrap()
}

/// Copies segments, bases and anchor, without the index: what a backup or a disk image has.
pub(crate) fn copy_log(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for path in [segments(from), bases(from)].concat() {
        std::fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
    std::fs::copy(from.join("anchor"), to.join("anchor")).unwrap();
}

/// Returns the name of a file.
pub(crate) fn name(path: &Path) -> String {
    path.file_name().unwrap().to_str().unwrap().to_owned()
}

pub(crate) fn segments(dir: &Path) -> Vec<PathBuf> {
    files(dir, "seg")
}

pub(crate) fn bases(dir: &Path) -> Vec<PathBuf> {
    files(dir, "base")
}

fn files(dir: &Path, extension: &str) -> Vec<PathBuf> {
    let paths = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<_> =
        paths.filter(|path| path.extension().is_some_and(|name| name == extension)).collect();
    paths.sort();
    paths
}

pub(crate) fn workspace(number: u8) -> WorkspaceId {
    WorkspaceId::from_bytes([number, 2, 3, 4, 5, 0xff])
}

pub(crate) fn request(number: u64) -> RequestId {
    let mut bytes = [0xee; 16];
    bytes[8..].copy_from_slice(&number.to_be_bytes());
    RequestId::from_bytes(bytes)
}

/// A small event that differs with each number.
pub(crate) fn draft(number: u32) -> Draft {
    let exec = ExecNumber(number);
    let event = Event::ExecStarted(ExecStarted { workspace: workspace(1), exec, guest_pid: number });
    Draft { at: Timestamp(u64::from(number)), actor: actor(Face::Daemon), cause: Cause::Observation, event }
}

pub(crate) fn drafts(numbers: std::ops::Range<u32>) -> Vec<Draft> {
    numbers.map(draft).collect()
}

/// What the log must hold after these drafts were appended to an empty one.
pub(crate) fn envelopes(drafts: &[Draft]) -> Vec<Envelope> {
    let numbered = drafts.iter().cloned().zip(1..);
    let build = |(draft, seq): (Draft, u64)| Envelope {
        seq: Seq(seq),
        at: draft.at,
        actor: draft.actor,
        cause: draft.cause,
        event: draft.event,
    };
    numbered.map(build).collect()
}

pub(crate) fn actor(face: Face) -> Actor {
    Actor { face, uid: 1000, pid: 4_000_000, client: "pyro/2.5.0".to_owned() }
}

/// Returns drafts of every kind of event, grouped by kind, with every variant of the enums in them.
pub(crate) fn every_kind() -> Vec<Vec<Draft>> {
    let mut kinds = Vec::new();
    let mut events = daemon_started();
    while !events.is_empty() {
        let following = following_kind(&events[0]);
        kinds.push(events.into_iter().zip(0..).map(|(event, number)| framed(event, number)).collect());
        events = following;
    }
    kinds
}

fn framed(event: Event, number: u64) -> Draft {
    let faces = [Face::Daemon, Face::Cli, Face::Mcp, Face::Python, Face::Fuse];
    let face = faces[usize::try_from(number).unwrap() % faces.len()];
    let cause = if number.is_multiple_of(2) { Cause::Request(request(number)) } else { Cause::Observation };
    Draft { at: Timestamp(1_760_000_000_000_000 + number), actor: actor(face), cause, event }
}

/// Leads through all kinds: a new kind does not compile until it has samples, and so a golden file.
fn following_kind(event: &Event) -> Vec<Event> {
    match event {
        Event::DaemonStarted(_) => vec![Event::DaemonStopped(DaemonStopped { reason: text() })],
        Event::DaemonStopped(_) => vec![Event::LimitsChanged(LimitsChanged { limits: Limits::default() })],
        Event::LimitsChanged(_) => backend_probed(),
        Event::BackendProbed(_) => environment_installed(),
        Event::EnvironmentInstalled(_) => {
            let (name, version, reason) = (environment(), text(), text());
            vec![Event::EnvironmentInstallFailed(EnvironmentInstallFailed { name, version, reason })]
        }
        Event::EnvironmentInstallFailed(_) => {
            vec![Event::EnvironmentRemoved(EnvironmentRemoved { directory: text() })]
        }
        Event::EnvironmentRemoved(_) => workspace_created(),
        Event::WorkspaceCreated(_) => {
            vec![Event::WorkspaceStarting(WorkspaceStarting { workspace: workspace(1), boot: u32::MAX })]
        }
        Event::WorkspaceStarting(_) => workspace_started(),
        Event::WorkspaceStarted(_) => {
            let event = WorkspaceStartFailed { workspace: workspace(1), reason: text() };
            vec![Event::WorkspaceStartFailed(event)]
        }
        Event::WorkspaceStartFailed(_) => {
            vec![Event::WorkspaceStopping(WorkspaceStopping { workspace: workspace(1) })]
        }
        Event::WorkspaceStopping(_) => workspace_stopped(),
        Event::WorkspaceStopped(_) => each_delete_reason(|reason| {
            Event::WorkspaceDeleting(WorkspaceDeleting { workspace: workspace(1), reason })
        }),
        Event::WorkspaceDeleting(_) => each_delete_reason(|reason| {
            Event::WorkspaceDeleted(WorkspaceDeleted { workspace: workspace(1), reason })
        }),
        Event::WorkspaceDeleted(_) => workspace_labeled(),
        Event::WorkspaceLabeled(_) => exec_requested(),
        Event::ExecRequested(_) => {
            let (workspace, exec) = (workspace(1), ExecNumber(1));
            vec![Event::ExecStarted(ExecStarted { workspace, exec, guest_pid: 77 })]
        }
        Event::ExecStarted(_) => exec_exited(),
        Event::ExecExited(_) => {
            let (workspace, exec, reason) = (workspace(1), ExecNumber(1), text());
            vec![Event::ExecFailed(ExecFailed { workspace, exec, reason })]
        }
        Event::ExecFailed(_) => exec_lost(),
        Event::ExecLost(_) => {
            let (workspace, exec) = (workspace(1), ExecNumber(u32::MAX));
            vec![Event::ExecCancelRequested(ExecCancelRequested { workspace, exec })]
        }
        Event::Unknown(_) => Vec::new(),
        event => work::following_kind(event),
    }
}

fn text() -> String {
    "why: \"ünïcode\"\n".to_owned()
}

fn environment() -> EnvironmentName {
    "debian:12".parse().unwrap()
}

fn process() -> Process {
    Process { pid: 4242, start_ticks: u64::MAX }
}

fn daemon_started() -> Vec<Event> {
    let (version, host_boot_id) = ("2.5.0".to_owned(), "c0ffee".to_owned());
    vec![Event::DaemonStarted(DaemonStarted { process: process(), version, host_boot_id })]
}

fn backend_probed() -> Vec<Event> {
    let works = ProbeVerdict::Works { boot_ms: 300 };
    let fails = ProbeVerdict::Fails { reason: text() };
    [
        (Backend::Firecracker, Accelerator::Kvm, fails),
        (Backend::Qemu, Accelerator::Tcg, works.clone()),
        (Backend::HostSandbox, Accelerator::Native, works),
    ]
    .into_iter()
    .map(|(backend, accelerator, verdict)| {
        Event::BackendProbed(BackendProbed { backend, accelerator, fingerprint: text(), verdict })
    })
    .collect()
}

fn environment_installed() -> Vec<Event> {
    vec![Event::EnvironmentInstalled(EnvironmentInstalled {
        name: environment(),
        version: "1.0.0".to_owned(),
        source: text(),
        manifest_digest: "ab".repeat(32),
    })]
}

fn workspace_created() -> Vec<Event> {
    [(WorkspaceKind::Vm, Lifetime::Client), (WorkspaceKind::Workspace, Lifetime::Ttl)]
        .into_iter()
        .map(|(kind, lifetime)| {
            let spec = WorkspaceSpec {
                environment: environment(),
                environment_version: "1.0.0".to_owned(),
                vcpu_count: 2,
                mem_mib: 1024,
                ttl_seconds: 600,
                network: true,
                allow_host_compat: false,
            };
            Event::WorkspaceCreated(WorkspaceCreated { workspace: workspace(1), kind, lifetime, spec })
        })
        .collect()
}

fn workspace_labeled() -> Vec<Event> {
    let labels = [("a".to_owned(), text()), ("b.c-d".to_owned(), String::new())];
    [(None, labels.into()), (Some("web_1".to_owned()), BTreeMap::new())]
        .into_iter()
        .map(|(name, labels)| {
            Event::WorkspaceLabeled(WorkspaceLabeled { workspace: workspace(1), name, labels })
        })
        .collect()
}

fn workspace_started() -> Vec<Event> {
    vec![Event::WorkspaceStarted(WorkspaceStarted {
        workspace: workspace(1),
        backend: Backend::Qemu,
        accelerator: Accelerator::Tcg,
        process: process(),
        boot_ms: 2_500,
    })]
}

fn workspace_stopped() -> Vec<Event> {
    [StopReason::Requested, StopReason::GuestDied(text())]
        .into_iter()
        .map(|reason| Event::WorkspaceStopped(WorkspaceStopped { workspace: workspace(1), reason }))
        .collect()
}

fn each_delete_reason(build: fn(DeleteReason) -> Event) -> Vec<Event> {
    [
        DeleteReason::Explicit,
        DeleteReason::PostExec,
        DeleteReason::RunError,
        DeleteReason::ClientGone,
        DeleteReason::Expired,
    ]
    .map(build)
    .into()
}

fn exec_requested() -> Vec<Event> {
    [None, Some("/workspace".to_owned())]
        .into_iter()
        .map(|cwd| {
            let (workspace, exec, command) = (workspace(1), ExecNumber(1), text());
            Event::ExecRequested(ExecRequested { workspace, exec, command, cwd, timeout_ms: 30_000 })
        })
        .collect()
}

fn summary(len_bytes: u64) -> StreamSummary {
    StreamSummary { len_bytes, digest: [0x5a; 32] }
}

fn exec_exited() -> Vec<Event> {
    [ExitStatus::Code(255), ExitStatus::Signal(9), ExitStatus::TimedOut]
        .into_iter()
        .map(|status| {
            Event::ExecExited(ExecExited {
                workspace: workspace(1),
                exec: ExecNumber(1),
                status,
                duration_ms: 1,
                stdout: summary(0),
                stderr: summary(u64::MAX),
            })
        })
        .collect()
}

fn exec_lost() -> Vec<Event> {
    [None, Some(summary(7))]
        .into_iter()
        .map(|stdout| {
            let (workspace, exec, reason) = (workspace(1), ExecNumber(1), text());
            Event::ExecLost(ExecLost { workspace, exec, reason, stdout, stderr: None })
        })
        .collect()
}
