//! Events: what happened. They are never refused and never edited.
//!
//! Every variant of [`Event`] wraps a struct of its own, because the store writes one record kind and version per
//! struct. Changing a struct that has been released means adding a new one beside it (see `docs/log-format.md`).

mod access;
mod kind;
mod mount;
mod outcome;
mod output;
mod shell;
mod sync;

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::environment::EnvironmentName;
use crate::ids::{ExecNumber, RequestId, Seq, Timestamp, WorkspaceId};
use crate::limits::Limits;

pub use access::{AccessFault, AccessRefused};
pub use mount::{Mounted, Unmounted};
pub use outcome::{Evidence, Operation, OperationResolved, RequestMet};
pub use output::{DropPolicy, OutputDropped};
pub use shell::{
    ShellClosed, ShellClosing, ShellExited, ShellFailed, ShellInput, ShellLost, ShellRequested, ShellResized,
    ShellSignal, ShellSignaled, ShellStarted, TerminalSize,
};
pub use sync::{
    SyncCancelRequested, SyncChanges, SyncFailed, SyncFinished, SyncLost, SyncPurpose, SyncRequested,
    SyncSource, SyncSourceKind,
};

/// An event as it stands in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// Position in the log.
    pub seq: Seq,
    /// When the daemon accepted the command that led to the event.
    pub at: Timestamp,
    /// Who asked.
    pub actor: Actor,
    /// Why: the request that led to the event.
    pub cause: Cause,
    /// What happened.
    pub event: Event,
}

/// Who asked for something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    /// The way in.
    pub face: Face,
    /// User id of the peer, as the kernel reported it.
    pub uid: u32,
    /// Process id of the peer, as the kernel reported it.
    pub pid: u32,
    /// Name and version that the client gave of itself, such as `pyro/2.5.0`. Not verified.
    pub client: String,
}

/// The way by which a request came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Face {
    /// The daemon itself: timers, guests, recovery.
    Daemon,
    /// The command line.
    Cli,
    /// The MCP server.
    Mcp,
    /// The Python package.
    Python,
    /// The mount.
    Fuse,
}

/// What led to an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cause {
    /// Nobody asked: a fact was observed.
    Observation,
    /// A request of a client.
    Request(RequestId),
}

/// Everything that can happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A daemon opened the log.
    DaemonStarted(DaemonStarted),
    /// A daemon ended in order.
    DaemonStopped(DaemonStopped),
    /// The bounds changed.
    LimitsChanged(LimitsChanged),
    /// The host's clocks were read, and they are not as before.
    ClockObserved(ClockObserved),
    /// The tree of files is shown at a place from now on.
    Mounted(Mounted),
    /// It is not shown there any more.
    Unmounted(Unmounted),
    /// Somebody was not let in.
    AccessRefused(AccessRefused),
    /// The beginning of the log was dropped.
    LogCompacted(LogCompacted),
    /// A way to run guests was tried on this host.
    BackendProbed(BackendProbed),
    /// An environment was installed.
    EnvironmentInstalled(EnvironmentInstalled),
    /// An environment could not be installed.
    EnvironmentInstallFailed(EnvironmentInstallFailed),
    /// An installed environment was removed.
    EnvironmentRemoved(EnvironmentRemoved),
    /// A workspace or VM exists from now on.
    WorkspaceCreated(WorkspaceCreated),
    /// It has a name or labels from now on.
    WorkspaceLabeled(WorkspaceLabeled),
    /// Its guest is about to be booted.
    WorkspaceStarting(WorkspaceStarting),
    /// Its guest answers.
    WorkspaceStarted(WorkspaceStarted),
    /// Its guest could not be booted.
    WorkspaceStartFailed(WorkspaceStartFailed),
    /// Its guest is about to be stopped.
    WorkspaceStopping(WorkspaceStopping),
    /// Its guest is gone.
    WorkspaceStopped(WorkspaceStopped),
    /// It is about to be deleted with everything in it.
    WorkspaceDeleting(WorkspaceDeleting),
    /// Nothing of it is left but its events.
    WorkspaceDeleted(WorkspaceDeleted),
    /// A command shall run; it has not been sent to the guest yet.
    ExecRequested(ExecRequested),
    /// The guest runs the command.
    ExecStarted(ExecStarted),
    /// The command ended, or its timeout ended it.
    ExecExited(ExecExited),
    /// The command never ran.
    ExecFailed(ExecFailed),
    /// What became of the command cannot be known any more.
    ExecLost(ExecLost),
    /// Somebody wants the command to end now.
    ExecCancelRequested(ExecCancelRequested),
    /// A shell shall be opened; the guest has not been asked yet.
    ShellRequested(ShellRequested),
    /// The guest runs the shell.
    ShellStarted(ShellStarted),
    /// The shell never ran.
    ShellFailed(ShellFailed),
    /// The shell ended.
    ShellExited(ShellExited),
    /// What became of the shell cannot be known any more.
    ShellLost(ShellLost),
    /// Somebody types; the guest has not been given it yet.
    ShellInput(ShellInput),
    /// The terminal has another size from now on.
    ShellResized(ShellResized),
    /// Somebody sends a signal.
    ShellSignaled(ShellSignaled),
    /// The shell is about to be closed.
    ShellClosing(ShellClosing),
    /// The shell is closed: it does not exist any more.
    ShellClosed(ShellClosed),
    /// Files shall be brought into the guest; nothing has been sent yet.
    SyncRequested(SyncRequested),
    /// The files are in place.
    SyncFinished(SyncFinished),
    /// Nothing was brought: the workspace is as before.
    SyncFailed(SyncFailed),
    /// Whether the files are in place cannot be known any more.
    SyncLost(SyncLost),
    /// Somebody wants the sync to end now.
    SyncCancelRequested(SyncCancelRequested),
    /// The guest was asked what became of work that an earlier daemon had left open.
    OperationResolved(OperationResolved),
    /// What a request asked for was so already.
    RequestMet(RequestMet),
    /// A part of stored output is about to be dropped.
    OutputDropped(OutputDropped),
    /// A record of a kind that this version does not know; it has no effect on the state.
    Unknown(UnknownEvent),
}

impl Event {
    /// Returns the workspace that the event is about; `None` for events of the whole host.
    #[must_use]
    pub const fn workspace(&self) -> Option<WorkspaceId> {
        match self {
            Self::DaemonStarted(_)
            | Self::DaemonStopped(_)
            | Self::LimitsChanged(_)
            | Self::ClockObserved(_)
            | Self::Mounted(_)
            | Self::Unmounted(_)
            | Self::AccessRefused(_)
            | Self::LogCompacted(_)
            | Self::BackendProbed(_)
            | Self::EnvironmentInstalled(_)
            | Self::EnvironmentInstallFailed(_)
            | Self::EnvironmentRemoved(_)
            | Self::Unknown(_) => None,
            Self::WorkspaceCreated(event) => Some(event.workspace),
            Self::WorkspaceLabeled(event) => Some(event.workspace),
            Self::WorkspaceStarting(event) => Some(event.workspace),
            Self::WorkspaceStarted(event) => Some(event.workspace),
            Self::WorkspaceStartFailed(event) => Some(event.workspace),
            Self::WorkspaceStopping(event) => Some(event.workspace),
            Self::WorkspaceStopped(event) => Some(event.workspace),
            Self::WorkspaceDeleting(event) => Some(event.workspace),
            Self::WorkspaceDeleted(event) => Some(event.workspace),
            Self::ExecRequested(event) => Some(event.workspace),
            Self::ExecStarted(event) => Some(event.workspace),
            Self::ExecExited(event) => Some(event.workspace),
            Self::ExecFailed(event) => Some(event.workspace),
            Self::ExecLost(event) => Some(event.workspace),
            Self::ExecCancelRequested(event) => Some(event.workspace),
            Self::ShellRequested(event) => Some(event.workspace),
            Self::ShellStarted(event) => Some(event.workspace),
            Self::ShellFailed(event) => Some(event.workspace),
            Self::ShellExited(event) => Some(event.workspace),
            Self::ShellLost(event) => Some(event.workspace),
            Self::ShellInput(event) => Some(event.workspace),
            Self::ShellResized(event) => Some(event.workspace),
            Self::ShellSignaled(event) => Some(event.workspace),
            Self::ShellClosing(event) => Some(event.workspace),
            Self::ShellClosed(event) => Some(event.workspace),
            Self::SyncRequested(event) => Some(event.workspace),
            Self::SyncFinished(event) => Some(event.workspace),
            Self::SyncFailed(event) => Some(event.workspace),
            Self::SyncLost(event) => Some(event.workspace),
            Self::SyncCancelRequested(event) => Some(event.workspace),
            Self::OperationResolved(event) => Some(event.workspace),
            Self::RequestMet(event) => event.workspace,
            Self::OutputDropped(event) => Some(event.workspace),
        }
    }

    /// Returns the stable snake-case name of the kind of event, as `pyro log` shows it.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::DaemonStarted(_) => "daemon_started",
            Self::DaemonStopped(_) => "daemon_stopped",
            Self::LimitsChanged(_) => "limits_changed",
            Self::ClockObserved(_) => "clock_observed",
            Self::Mounted(_) => "mounted",
            Self::Unmounted(_) => "unmounted",
            Self::AccessRefused(_) => "access_refused",
            Self::LogCompacted(_) => "log_compacted",
            Self::BackendProbed(_) => "backend_probed",
            Self::EnvironmentInstalled(_) => "environment_installed",
            Self::EnvironmentInstallFailed(_) => "environment_install_failed",
            Self::EnvironmentRemoved(_) => "environment_removed",
            Self::WorkspaceCreated(_) => "workspace_created",
            Self::WorkspaceLabeled(_) => "workspace_labeled",
            Self::WorkspaceStarting(_) => "workspace_starting",
            Self::WorkspaceStarted(_) => "workspace_started",
            Self::WorkspaceStartFailed(_) => "workspace_start_failed",
            Self::WorkspaceStopping(_) => "workspace_stopping",
            Self::WorkspaceStopped(_) => "workspace_stopped",
            Self::WorkspaceDeleting(_) => "workspace_deleting",
            Self::WorkspaceDeleted(_) => "workspace_deleted",
            Self::ExecRequested(_) => "exec_requested",
            Self::ExecStarted(_) => "exec_started",
            Self::ExecExited(_) => "exec_exited",
            Self::ExecFailed(_) => "exec_failed",
            Self::ExecLost(_) => "exec_lost",
            Self::ExecCancelRequested(_) => "exec_cancel_requested",
            Self::ShellRequested(_) => "shell_requested",
            Self::ShellStarted(_) => "shell_started",
            Self::ShellFailed(_) => "shell_failed",
            Self::ShellExited(_) => "shell_exited",
            Self::ShellLost(_) => "shell_lost",
            Self::ShellInput(_) => "shell_input",
            Self::ShellResized(_) => "shell_resized",
            Self::ShellSignaled(_) => "shell_signaled",
            Self::ShellClosing(_) => "shell_closing",
            Self::ShellClosed(_) => "shell_closed",
            Self::SyncRequested(_) => "sync_requested",
            Self::SyncFinished(_) => "sync_finished",
            Self::SyncFailed(_) => "sync_failed",
            Self::SyncLost(_) => "sync_lost",
            Self::SyncCancelRequested(_) => "sync_cancel_requested",
            Self::OperationResolved(_) => "operation_resolved",
            Self::RequestMet(_) => "request_met",
            Self::OutputDropped(_) => "output_dropped",
            Self::Unknown(_) => "unknown",
        }
    }
}

/// A daemon opened the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DaemonStarted {
    /// The daemon.
    pub process: Process,
    /// Version of the program.
    pub version: String,
    /// The kernel's boot id: guests of another boot are gone.
    pub host_boot_id: String,
}

/// A daemon ended in order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DaemonStopped {
    /// Why, for people: `requested`, `signal TERM`, `idle`.
    pub reason: String,
}

/// The bounds changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitsChanged {
    /// The bounds from now on.
    pub limits: Limits,
}

/// The host's clocks were read, and they are not as before: the host was booted, or somebody set its wall clock.
///
/// The time since the boot cannot be set and goes on in a suspend. What lies between two events by that clock is their
/// distance by the wall clock, less what the wall clock jumped in between.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockObserved {
    /// The kernel's boot id: times since the boot of different ids cannot be compared.
    pub host_boot_id: String,
    /// Wall clock less time since the boot, in microseconds.
    pub offset_us: i64,
}

/// The beginning of the log was dropped, and a base stands in its place. This event signs it off: it says what was dropped
/// by whose wish, and which base it left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogCompacted {
    /// The first event that was kept.
    pub first: Seq,
    /// Hash of the record before it, the last one that was dropped.
    pub hash: [u8; 32],
    /// BLAKE3 of the base.
    pub base: [u8; 32],
    /// How many records were dropped this time.
    pub records: u64,
    /// Length of the segments that held them, in bytes.
    pub bytes: u64,
    /// When the first of them was accepted.
    pub since: Timestamp,
    /// When the last of them was accepted.
    pub until: Timestamp,
    /// What was to be kept.
    pub policy: RetentionPolicy,
}

/// What of the log is to be kept: all that any of these bounds keeps. Without a bound it keeps everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetentionPolicy {
    /// Events of the last so many days; `None` for no such bound.
    pub keep_days: Option<u32>,
    /// The last so many MiB of segments; `None` for no such bound.
    pub keep_mib: Option<u64>,
    /// Events from this one on; `None` for no such bound.
    pub before: Option<Seq>,
}

/// A way to run guests was tried on this host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackendProbed {
    /// Which one.
    pub backend: Backend,
    /// With which accelerator.
    pub accelerator: Accelerator,
    /// What everything depends on that can change the verdict: host kernel, VMM version, environment. Another
    /// fingerprint makes the verdict void.
    pub fingerprint: String,
    /// What came of it.
    pub verdict: ProbeVerdict,
}

/// What came of a probe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProbeVerdict {
    /// A guest booted and answered.
    Works {
        /// Time from the start of the VMM to the agent's first word, in milliseconds.
        boot_ms: u64,
    },
    /// No guest answered.
    Fails {
        /// Why, for people.
        reason: String,
    },
}

/// A program that runs guests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Backend {
    /// Firecracker.
    Firecracker,
    /// QEMU, machine `microvm`.
    Qemu,
    /// Namespaces of the host's kernel: weaker than a VM.
    HostSandbox,
}

impl Backend {
    /// Returns the name as it stands in `metadata.backend`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Firecracker => "firecracker",
            Self::Qemu => "qemu",
            Self::HostSandbox => "host_sandbox",
        }
    }

    /// Returns how commands get into a guest of this backend.
    #[must_use]
    pub const fn execution_mode(self) -> ExecutionMode {
        match self {
            Self::Firecracker | Self::Qemu => ExecutionMode::GuestVsock,
            Self::HostSandbox => ExecutionMode::HostCompat,
        }
    }
}

/// What executes the guest's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Accelerator {
    /// The processor, through `/dev/kvm`.
    Kvm,
    /// QEMU's translator: works everywhere, 5 to 15 times slower.
    Tcg,
    /// The host's kernel runs the processes directly.
    Native,
}

impl Accelerator {
    /// Returns the name as it stands in `metadata.accelerator`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
            Self::Native => "native",
        }
    }
}

/// How commands get into a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExecutionMode {
    /// There is no guest yet.
    Pending,
    /// Over vsock into a virtual machine.
    GuestVsock,
    /// Into namespaces on the host, after an explicit opt-in.
    HostCompat,
}

impl ExecutionMode {
    /// Returns the value of the contract's `execution_mode`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::GuestVsock => "guest_vsock",
            Self::HostCompat => "host_compat",
        }
    }
}

/// An environment was installed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvironmentInstalled {
    /// Which one.
    pub name: EnvironmentName,
    /// Version of its recipe.
    pub version: String,
    /// Where it came from, as `env inspect` shows it.
    pub source: String,
    /// BLAKE3 digest of its manifest, in hexadecimal.
    pub manifest_digest: String,
}

/// An environment could not be installed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvironmentInstallFailed {
    /// Which one.
    pub name: EnvironmentName,
    /// Version of its recipe.
    pub version: String,
    /// Why, for people.
    pub reason: String,
}

/// An installed environment was removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvironmentRemoved {
    /// Directory that was removed; unknown names can stand there, hence not an [`EnvironmentName`].
    pub directory: String,
}

/// A workspace or VM exists from now on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkspaceCreated {
    /// Its id.
    pub workspace: WorkspaceId,
    /// Which of the two it is.
    pub kind: WorkspaceKind,
    /// What ends it.
    pub lifetime: Lifetime,
    /// What was asked for.
    pub spec: WorkspaceSpec,
}

/// It has a name or labels from now on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkspaceLabeled {
    /// Which one.
    pub workspace: WorkspaceId,
    /// Its name, which no other workspace has at that time; `None` for none.
    pub name: Option<String>,
    /// Its labels, by key.
    pub labels: BTreeMap<String, String>,
}

/// What ends a workspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Lifetime {
    /// Its client: `pyro run` takes its VM with it when it goes.
    Client,
    /// A delete or its time to live, whichever comes first.
    Ttl,
}

/// Which contract a workspace follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WorkspaceKind {
    /// `vm_*`: one command, then it is deleted.
    Vm,
    /// `workspace_*`: persists until deleted.
    Workspace,
}

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkspaceSpec {
    /// Root file system and kernel.
    pub environment: EnvironmentName,
    /// Version of the environment.
    pub environment_version: String,
    /// Virtual CPUs.
    pub vcpu_count: u32,
    /// Memory, in MiB.
    pub mem_mib: u64,
    /// Time to live from creation, in seconds; `0` for no end.
    pub ttl_seconds: u64,
    /// Whether the guest has outbound network access.
    pub network: bool,
    /// Whether the host sandbox may be used when no VM can be had.
    pub allow_host_compat: bool,
}

/// Its guest is about to be booted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkspaceStarting {
    /// Which one.
    pub workspace: WorkspaceId,
    /// Number of this boot; the first is 1.
    pub boot: u32,
}

/// Its guest answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkspaceStarted {
    /// Which one.
    pub workspace: WorkspaceId,
    /// What runs it.
    pub backend: Backend,
    /// What executes its instructions.
    pub accelerator: Accelerator,
    /// The process that is the guest, seen from the host.
    pub process: Process,
    /// Time from the start of the VMM to the agent's first word, in milliseconds.
    pub boot_ms: u64,
}

/// A process, so named that another one which got the same pid later is not mistaken for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Process id on the host.
    pub pid: u32,
    /// Start time in clock ticks since boot (field 22 of `/proc/PID/stat`).
    pub start_ticks: u64,
}

/// Its guest could not be booted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkspaceStartFailed {
    /// Which one.
    pub workspace: WorkspaceId,
    /// Why and what to do, for people.
    pub reason: String,
}

/// Its guest is about to be stopped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkspaceStopping {
    /// Which one.
    pub workspace: WorkspaceId,
}

/// Its guest is gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkspaceStopped {
    /// Which one.
    pub workspace: WorkspaceId,
    /// Why.
    pub reason: StopReason,
}

/// Why a guest is gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StopReason {
    /// Somebody asked for it.
    Requested,
    /// It went by itself; the text says what was seen.
    GuestDied(String),
}

/// It is about to be deleted with everything in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkspaceDeleting {
    /// Which one.
    pub workspace: WorkspaceId,
    /// Why.
    pub reason: DeleteReason,
}

/// Nothing of it is left but its events.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkspaceDeleted {
    /// Which one.
    pub workspace: WorkspaceId,
    /// Why.
    pub reason: DeleteReason,
}

/// Why a workspace was deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeleteReason {
    /// Somebody asked for it.
    Explicit,
    /// The one command of a VM ended.
    PostExec,
    /// A `run` failed before its command could run, or a workspace did not boot when it was created.
    RunError,
    /// The client of a `run` went away.
    ClientGone,
    /// Its time to live was over.
    Expired,
}

impl DeleteReason {
    /// Returns the value of the contract's `reason`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Explicit => "explicit_delete",
            Self::PostExec => "post_exec_cleanup",
            Self::RunError => "run_vm_error_cleanup",
            Self::ClientGone => "client_gone",
            Self::Expired => "expired",
        }
    }
}

/// A command shall run; it has not been sent to the guest yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecRequested {
    /// Where.
    pub workspace: WorkspaceId,
    /// Its number there.
    pub exec: ExecNumber,
    /// Text for `/bin/sh -lc`.
    pub command: String,
    /// Directory to run in; `None` leaves it to the guest (`/`).
    pub cwd: Option<String>,
    /// Time after which it is ended, in milliseconds from its start in the guest.
    pub timeout_ms: u64,
}

/// The guest runs the command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecStarted {
    /// Where.
    pub workspace: WorkspaceId,
    /// Its number there.
    pub exec: ExecNumber,
    /// Process id in the guest. Reported by the guest, not verified.
    pub guest_pid: u32,
}

/// The command ended, or its timeout ended it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecExited {
    /// Where.
    pub workspace: WorkspaceId,
    /// Its number there.
    pub exec: ExecNumber,
    /// How it ended.
    pub status: ExitStatus,
    /// Run time as measured in the guest, in milliseconds.
    pub duration_ms: u64,
    /// Its standard output.
    pub stdout: StreamSummary,
    /// Its standard error.
    pub stderr: StreamSummary,
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExitStatus {
    /// It exited with this code, 0 to 255.
    Code(u8),
    /// This signal killed it.
    Signal(u8),
    /// Its timeout ended it.
    TimedOut,
}

impl ExitStatus {
    /// Returns the exit code of the contract: the code itself, 128 plus the signal, or 124 after a timeout.
    #[must_use]
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => 128_u8.saturating_add(signal),
            Self::TimedOut => 124,
        }
    }
}

/// A finished output stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamSummary {
    /// Its length, in bytes.
    pub len_bytes: u64,
    /// BLAKE3 digest of its bytes.
    pub digest: [u8; 32],
}

/// The command never ran.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecFailed {
    /// Where.
    pub workspace: WorkspaceId,
    /// Its number there.
    pub exec: ExecNumber,
    /// Why, for people.
    pub reason: String,
}

/// What became of the command cannot be known any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecLost {
    /// Where.
    pub workspace: WorkspaceId,
    /// Its number there.
    pub exec: ExecNumber,
    /// What was seen, for people.
    pub reason: String,
    /// The part of standard output that the host has; `None` when nothing had been received.
    pub stdout: Option<StreamSummary>,
    /// The part of standard error that the host has; `None` when nothing had been received.
    pub stderr: Option<StreamSummary>,
}

/// Somebody wants the command to end now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecCancelRequested {
    /// Where.
    pub workspace: WorkspaceId,
    /// Its number there.
    pub exec: ExecNumber,
}

/// A record of a kind that this version does not know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownEvent {
    /// Kind number of the record.
    pub kind: u16,
    /// Version of that kind.
    pub version: u16,
    /// The payload, untouched.
    pub payload: Vec<u8>,
}
