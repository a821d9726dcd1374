//! State: the fold of all events.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::environment::EnvironmentName;
use crate::event::{
    Accelerator, Backend, BackendProbed, ClockObserved, DaemonStarted, DeleteReason, EnvironmentInstalled,
    ExitStatus, Lifetime, LogCompacted, Mounted, StopReason, SyncChanges, SyncPurpose, SyncSource,
    TerminalSize, WorkspaceKind, WorkspaceSpec, WorkspaceStarted,
};
use crate::gaps::Gaps;
use crate::ids::{ExecNumber, Seq, ShellId, SyncNumber, Timestamp, WorkspaceId};
use crate::limits::Limits;
use crate::stream::StreamId;

/// Everything that is true now. Only [`crate::evolve`] changes it.
///
/// A clone is cheap: workspaces are shared until one of them changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Position of the last event that was folded in.
    pub seq: Seq,
    /// The bounds in force.
    pub limits: Limits,
    /// The daemon that opened the log last; `None` before the first.
    pub daemon: Option<DaemonStarted>,
    /// The host's clocks as they were read last; `None` before the first time.
    pub clock: Option<ClockObserved>,
    /// The last compaction of the log; `None` when nothing was dropped.
    pub compacted: Option<LogCompacted>,
    /// The last verdict on each way to run guests.
    pub probes: BTreeMap<(Backend, Accelerator), BackendProbed>,
    /// Environments that were installed through this log.
    pub environments: BTreeMap<EnvironmentName, EnvironmentInstalled>,
    /// Workspaces and VMs that are not deleted.
    pub workspaces: BTreeMap<WorkspaceId, Arc<Workspace>>,
    /// Where the tree of files is shown, by directory.
    pub mounts: BTreeMap<String, Mounted>,
    /// How long the last boot took in each way in which a guest has been booted, in milliseconds.
    pub boots_ms: BTreeMap<(Backend, Accelerator), u64>,
}

impl State {
    /// Returns a workspace or VM by id; `None` when there is none now.
    #[must_use]
    pub fn workspace(&self, id: WorkspaceId) -> Option<&Workspace> {
        self.workspaces.get(&id).map(Arc::as_ref)
    }

    /// Returns the memory that guests occupy or have reserved, in MiB.
    #[must_use]
    pub fn mem_mib_reserved(&self) -> u64 {
        self.workspaces
            .values()
            .filter(|workspace| workspace.phase.has_guest())
            .map(|workspace| workspace.spec.mem_mib)
            .sum()
    }

    /// Returns how many guests run, boot or stop.
    #[must_use]
    pub fn guests(&self) -> usize {
        self.workspaces.values().filter(|workspace| workspace.phase.has_guest()).count()
    }
}

/// A workspace or VM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workspace {
    /// Which contract it follows.
    pub kind: WorkspaceKind,
    /// What ends it.
    pub lifetime: Lifetime,
    /// What was asked for.
    pub spec: WorkspaceSpec,
    /// Its name; `None` for none.
    pub name: Option<String>,
    /// Its labels, by key.
    pub labels: BTreeMap<String, String>,
    /// When it was created.
    pub created_at: Timestamp,
    /// How far the wall clock was set forward since then, in microseconds; negative when it was set back.
    pub clock_shift_us: i64,
    /// Where it is in its life.
    pub phase: Phase,
    /// How many boots were begun.
    pub boots: u32,
    /// The last guest that answered; `None` before the first.
    pub guest: Option<WorkspaceStarted>,
    /// How many execs were requested.
    pub exec_count: u32,
    /// Execs that have not ended.
    pub open_execs: BTreeMap<ExecNumber, Exec>,
    /// The exec that exited last; `None` before the first.
    pub last_exec: Option<EndedExec>,
    /// Shells that are not closed.
    pub shells: BTreeMap<ShellId, Shell>,
    /// How many syncs were requested.
    pub sync_count: u32,
    /// Syncs that have not ended.
    pub open_syncs: BTreeMap<SyncNumber, Sync>,
    /// What it began with; `None` when it began empty.
    pub seed: Option<Seed>,
    /// What is not kept any more of the output of its execs and shells, also of those that have ended. Shared, because
    /// it is long where many have written much, and seldom changes.
    pub dropped: Arc<BTreeMap<StreamId, Gaps>>,
}

impl Workspace {
    /// Returns when its time to live is over, by the wall clock as it goes now; `None` for never.
    #[must_use]
    pub const fn expires_at(&self) -> Option<Timestamp> {
        match self.spec.ttl_seconds {
            0 => None,
            seconds => {
                let Timestamp(end) = self.created_at.plus_seconds(seconds);
                Some(Timestamp(end.saturating_add_signed(self.clock_shift_us)))
            }
        }
    }
}

/// Where a workspace is in its life.
///
/// ```text
/// Created -> Starting -> Started -> Stopping -> Stopped
///               ^  |        |                     ^ |
///               |  +--------|---- failed ---------+ |
///               |           +---- guest died -------+
///               +-----------------------------------+
/// any of them -> Deleting -> (gone)
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Never started.
    Created,
    /// A boot is under way.
    Starting,
    /// The guest answers.
    Started,
    /// The guest is being stopped.
    Stopping,
    /// There is no guest.
    Stopped(Stopped),
    /// It is being deleted.
    Deleting {
        /// Why.
        reason: DeleteReason,
        /// Whether there was a guest when the deletion began: it occupies memory until the deletion is done.
        guest: bool,
    },
}

/// Why there is no guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stopped {
    /// It was stopped or died.
    Guest(StopReason),
    /// It did not boot; the text says why.
    BootFailed(String),
}

impl Phase {
    /// Returns the contract's word for the phase.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Starting => "starting",
            Self::Started => "started",
            Self::Stopping => "stopping",
            Self::Stopped(_) => "stopped",
            Self::Deleting { .. } => "deleting",
        }
    }

    /// Tells whether memory of the host is in use or reserved for a guest.
    #[must_use]
    pub const fn has_guest(&self) -> bool {
        match self {
            Self::Starting | Self::Started | Self::Stopping | Self::Deleting { guest: true, .. } => true,
            Self::Created | Self::Stopped(_) | Self::Deleting { guest: false, .. } => false,
        }
    }
}

/// An exec that has not ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exec {
    /// Text for `/bin/sh -lc`.
    pub command: String,
    /// Directory to run in; `None` leaves it to the guest.
    pub cwd: Option<String>,
    /// Time after which it is ended, in milliseconds.
    pub timeout_ms: u64,
    /// When it was requested.
    pub requested_at: Timestamp,
    /// How far it has come.
    pub phase: ExecPhase,
    /// Whether somebody asked for its end.
    pub cancel_requested: bool,
}

/// An exec that has exited.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndedExec {
    /// Its number.
    pub number: ExecNumber,
    /// Text for `/bin/sh -lc`.
    pub command: String,
    /// Directory that it ran in; `None` when it was left to the guest.
    pub cwd: Option<String>,
    /// How it ended.
    pub status: ExitStatus,
    /// Run time as measured in the guest, in milliseconds.
    pub duration_ms: u64,
    /// What ran the guest; `None` when that is not known.
    pub backend: Option<Backend>,
}

/// How far an unfinished exec has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExecPhase {
    /// It is durable, and nothing says yet that the guest has it.
    Requested,
    /// The guest runs it.
    Started,
}

/// A shell that is not closed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shell {
    /// Directory that it began in.
    pub cwd: String,
    /// Size of its terminal.
    pub size: TerminalSize,
    /// When it was requested.
    pub requested_at: Timestamp,
    /// What ran its guest.
    pub backend: Option<Backend>,
    /// How far it has come.
    pub phase: ShellPhase,
    /// How many bytes were typed into it.
    pub input_len: u64,
    /// Whether somebody closes it.
    pub closing: bool,
}

/// How far a shell has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ShellPhase {
    /// It is durable, and nothing says yet that the guest has it.
    Requested,
    /// The guest runs it.
    Running,
    /// It ended, and its output can be read until it is closed.
    Ended {
        /// When its end was recorded.
        at: Timestamp,
        /// How.
        end: ShellEnd,
    },
}

impl ShellPhase {
    /// Tells whether the guest has the shell or is about to get it.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        match self {
            Self::Requested | Self::Running => true,
            Self::Ended { .. } => false,
        }
    }
}

/// How a shell ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ShellEnd {
    /// It exited.
    Exited(ExitStatus),
    /// Its guest is gone; the text says what was seen.
    Lost(String),
}

/// A sync that has not ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sync {
    /// What for.
    pub purpose: SyncPurpose,
    /// Where the files come from.
    pub source: SyncSource,
    /// Directory in the guest that they go to.
    pub destination: String,
    /// The paths that differ since the sync before; `None` for all of the source.
    pub changes: Option<SyncChanges>,
    /// Whether somebody asked for its end.
    pub cancel_requested: bool,
}

/// What a workspace began with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seed {
    /// Where the files came from.
    pub source: SyncSource,
    /// Files, directories and links.
    pub entry_count: u64,
    /// Bytes of all files.
    pub bytes_written: u64,
}
