//! Commands: wishes, and facts reported from outside. A command may be refused.

use alloc::string::String;
use alloc::vec::Vec;

use crate::event::{
    AccessRefused, BackendProbed, ClockObserved, DaemonStarted, DaemonStopped, DeleteReason,
    EnvironmentInstallFailed, EnvironmentInstalled, EnvironmentRemoved, ExecExited, ExecFailed, ExecLost,
    ExecStarted, Lifetime, LogCompacted, Mounted, OperationResolved, OutputDropped, ShellExited, ShellFailed,
    ShellLost, ShellSignal, ShellStarted, SyncChanges, SyncFailed, SyncFinished, SyncLost, SyncSource,
    TerminalSize, Unmounted, WorkspaceKind, WorkspaceSpec, WorkspaceStartFailed, WorkspaceStarted,
    WorkspaceStopped,
};
use crate::ids::{ExecNumber, ShellId, SyncNumber, Timestamp, WorkspaceId};
use crate::limits::Limits;
use crate::tags::Tags;

/// The directory of a guest in which a workspace keeps its files and runs its commands.
pub const WORKSPACE_PATH: &str = "/workspace";

/// What can be asked of pyro or told to it. Names that start with `Record` are facts: a late or repeated one is
/// refused like any other command and changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// A daemon opened the log.
    RecordDaemonStarted(DaemonStarted),
    /// The daemon is about to end in order.
    RecordDaemonStopped(DaemonStopped),
    /// The bounds that the host and its configuration give.
    RecordLimits(Limits),
    /// The host's clocks were read.
    RecordClock(ClockObserved),
    /// The tree of files is shown at a place.
    RecordMounted(Mounted),
    /// The tree of files is not shown at a place any more.
    RecordUnmounted(Unmounted),
    /// Somebody was not let in.
    RecordAccessRefused(AccessRefused),
    /// The beginning of the log can be dropped: a base that stands for it is durable.
    CompactLog(LogCompacted),
    /// A way to run guests was tried.
    RecordProbe(BackendProbed),
    /// An environment was installed.
    RecordEnvironmentInstalled(EnvironmentInstalled),
    /// An environment could not be installed.
    RecordEnvironmentInstallFailed(EnvironmentInstallFailed),
    /// Installed environments were removed, possibly none.
    RecordEnvironmentsRemoved(Vec<EnvironmentRemoved>),
    /// Create a workspace or VM without starting it.
    CreateWorkspace {
        /// Its id, drawn by the daemon.
        workspace: WorkspaceId,
        /// Which contract it follows.
        kind: WorkspaceKind,
        /// What ends it.
        lifetime: Lifetime,
        /// What it shall be.
        spec: WorkspaceSpec,
    },
    /// Create a workspace that persists, start it and bring its first files: accepted or refused as a whole.
    OpenWorkspace {
        /// Its id, drawn by the daemon.
        workspace: WorkspaceId,
        /// What it shall be.
        spec: WorkspaceSpec,
        /// What it shall be called.
        tags: Tags,
        /// What it shall begin with; `None` for nothing.
        seed: Option<SyncSource>,
    },
    /// Create a VM, start it, run one command in it and delete it: accepted or refused as a whole.
    Run {
        /// Its id, drawn by the daemon.
        workspace: WorkspaceId,
        /// What it shall be.
        spec: WorkspaceSpec,
        /// Text for `/bin/sh -lc`.
        command: String,
        /// Time after which the command is ended, in milliseconds.
        timeout_ms: u64,
    },
    /// Boot the guest.
    StartWorkspace {
        /// Which one.
        workspace: WorkspaceId,
    },
    /// The guest answers.
    RecordStarted(WorkspaceStarted),
    /// The guest could not be booted.
    RecordStartFailed(WorkspaceStartFailed),
    /// Stop the guest; its disk stays.
    StopWorkspace {
        /// Which one.
        workspace: WorkspaceId,
    },
    /// The guest is gone.
    RecordStopped(WorkspaceStopped),
    /// Delete everything but the events.
    DeleteWorkspace {
        /// Which one.
        workspace: WorkspaceId,
        /// Why.
        reason: DeleteReason,
    },
    /// Delete everything whose time to live is over.
    ReapExpired {
        /// The time now.
        now: Timestamp,
    },
    /// Everything is deleted.
    RecordDeleted {
        /// Which one.
        workspace: WorkspaceId,
    },
    /// Run a command in a started guest.
    RequestExec {
        /// Where.
        workspace: WorkspaceId,
        /// Text for `/bin/sh -lc`.
        command: String,
        /// Directory to run in; `None` leaves it to the guest.
        cwd: Option<String>,
        /// Time after which the command is ended, in milliseconds.
        timeout_ms: u64,
    },
    /// The guest runs the command.
    RecordExecStarted(ExecStarted),
    /// The command ended.
    RecordExecExited(ExecExited),
    /// The command never ran.
    RecordExecFailed(ExecFailed),
    /// What became of the command cannot be known.
    RecordExecLost(ExecLost),
    /// End a command now.
    CancelExec {
        /// Where.
        workspace: WorkspaceId,
        /// Which one.
        exec: ExecNumber,
    },
    /// Open a shell in a started guest.
    OpenShell {
        /// Where.
        workspace: WorkspaceId,
        /// Its id, drawn by the daemon.
        shell: ShellId,
        /// Directory to begin in; a relative one is below [`WORKSPACE_PATH`].
        cwd: String,
        /// Size of its terminal.
        size: TerminalSize,
    },
    /// The guest runs the shell.
    RecordShellStarted(ShellStarted),
    /// The shell never ran.
    RecordShellFailed(ShellFailed),
    /// The shell ended.
    RecordShellExited(ShellExited),
    /// What became of the shell cannot be known.
    RecordShellLost(ShellLost),
    /// Type into a running shell.
    TypeInput {
        /// Where.
        workspace: WorkspaceId,
        /// Into which one.
        shell: ShellId,
        /// What.
        data: Vec<u8>,
    },
    /// Give a shell's terminal another size.
    ResizeShell {
        /// Where.
        workspace: WorkspaceId,
        /// Which one.
        shell: ShellId,
        /// The size.
        size: TerminalSize,
    },
    /// Send a signal to a running shell.
    SignalShell {
        /// Where.
        workspace: WorkspaceId,
        /// To which one.
        shell: ShellId,
        /// Which signal.
        signal: ShellSignal,
    },
    /// End a shell if it runs, and forget it.
    CloseShell {
        /// Where.
        workspace: WorkspaceId,
        /// Which one.
        shell: ShellId,
    },
    /// Bring files into a started guest.
    RequestSync {
        /// Where.
        workspace: WorkspaceId,
        /// Where the files come from.
        source: SyncSource,
        /// Directory in the guest; a relative one is below [`WORKSPACE_PATH`].
        destination: String,
        /// The paths that differ since the sync before; `None` for all of the source.
        changes: Option<SyncChanges>,
    },
    /// The files are in place.
    RecordSyncFinished(SyncFinished),
    /// Nothing was brought.
    RecordSyncFailed(SyncFailed),
    /// Whether the files are in place cannot be known.
    RecordSyncLost(SyncLost),
    /// The guest was asked what became of work that an earlier daemon had left open.
    RecordResolved(OperationResolved),
    /// A part of stored output is about to be dropped.
    RecordOutputDropped(OutputDropped),
    /// End a sync now.
    CancelSync {
        /// Where.
        workspace: WorkspaceId,
        /// Which one.
        sync: SyncNumber,
    },
}
