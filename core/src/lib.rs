//! What can happen in pyro and what follows from it: commands, events, state and the pure functions between them.
//!
//! Nothing in this crate reads a clock, a file or a random number. Time and ids arrive inside commands, so replaying
//! the same events always gives the same [`State`].
//!
//! ```text
//! Command --decide--> [Event] --(made durable by the store)--> evolve --> State
//!                                                               react ---> [Action]
//! ```
#![no_std]

extern crate alloc;

mod action;
mod carry;
mod command;
mod decide;
mod environment;
mod event;
mod evolve;
mod gaps;
mod ids;
mod limits;
mod met;
mod react;
mod reconcile;
mod rejection;
mod state;
mod stream;
mod tags;

pub use action::Action;
pub use carry::{Carry, UNRECEIVED_LEN_MAX};
pub use command::{Command, WORKSPACE_PATH};
pub use decide::{decide, sync_destination};
pub use environment::{CATALOG, CatalogEntry, EnvironmentName};
pub use event::{
    Accelerator, AccessFault, AccessRefused, Actor, Backend, BackendProbed, Cause, ClockObserved,
    DaemonStarted, DaemonStopped, DeleteReason, DropPolicy, Envelope, EnvironmentInstallFailed,
    EnvironmentInstalled, EnvironmentRemoved, Event, Evidence, ExecCancelRequested, ExecExited, ExecFailed,
    ExecLost, ExecRequested, ExecStarted, ExecutionMode, ExitStatus, Face, Lifetime, LimitsChanged,
    LogCompacted, Mounted, Operation, OperationResolved, OutputDropped, ProbeVerdict, Process, RequestMet,
    RetentionPolicy, ShellClosed, ShellClosing, ShellExited, ShellFailed, ShellInput, ShellLost,
    ShellRequested, ShellResized, ShellSignal, ShellSignaled, ShellStarted, StopReason, StreamSummary,
    SyncCancelRequested, SyncChanges, SyncFailed, SyncFinished, SyncLost, SyncPurpose, SyncRequested,
    SyncSource, SyncSourceKind, TerminalSize, UnknownEvent, Unmounted, WorkspaceCreated, WorkspaceDeleted,
    WorkspaceDeleting, WorkspaceKind, WorkspaceLabeled, WorkspaceSpec, WorkspaceStartFailed,
    WorkspaceStarted, WorkspaceStarting, WorkspaceStopped, WorkspaceStopping,
};
pub use evolve::evolve;
pub use gaps::Gaps;
pub use ids::{ExecNumber, IdError, RequestId, Seq, ShellId, SyncNumber, Timestamp, WorkspaceId};
pub use limits::Limits;
pub use met::met;
pub use react::react;
pub use reconcile::reconcile;
pub use rejection::Rejection;
pub use state::{
    EndedExec, Exec, ExecPhase, Phase, Seed, Shell, ShellEnd, ShellPhase, State, Stopped, Sync, Workspace,
};
pub use stream::{Stream, StreamId};
pub use tags::Tags;
