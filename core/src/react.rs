//! What must be done once an event is durable.

use alloc::vec;
use alloc::vec::Vec;

use crate::action::Action;
use crate::event::{Event, ExecCancelRequested, ShellInput, ShellResized, ShellSignaled};
use crate::ids::WorkspaceId;
use crate::state::{ExecPhase, Phase, State};

/// Returns the actions that follow from an event; `state` already has it folded in.
///
/// Called once for each new event, never during a replay.
#[must_use]
pub fn react(state: &State, event: &Event) -> Vec<Action> {
    match event {
        Event::WorkspaceStarting(event) => vec![Action::Boot { workspace: event.workspace }],
        Event::WorkspaceStarted(event) => begin_open_work(state, event.workspace),
        Event::ExecRequested(event) if is_started(state, event.workspace) => {
            vec![Action::Exec { workspace: event.workspace, exec: event.exec }]
        }
        &Event::ExecCancelRequested(ExecCancelRequested { workspace, exec }) => {
            vec![Action::KillExec { workspace, exec }]
        }
        Event::ShellRequested(event) => {
            vec![Action::OpenShell { workspace: event.workspace, shell: event.shell }]
        }
        Event::ShellInput(event) => {
            let ShellInput { workspace, shell, offset, data } = event.clone();
            vec![Action::TypeInput { workspace, shell, offset, data }]
        }
        &Event::ShellResized(ShellResized { workspace, shell, size }) => {
            vec![Action::ResizeShell { workspace, shell, size }]
        }
        Event::ShellSignaled(event) => {
            let ShellSignaled { workspace, shell, signal } = *event;
            vec![Action::SignalShell { workspace, shell, signal }]
        }
        Event::ShellClosing(event) => {
            vec![Action::CloseShell { workspace: event.workspace, shell: event.shell }]
        }
        Event::SyncRequested(event) if is_started(state, event.workspace) => {
            vec![Action::Sync { workspace: event.workspace, sync: event.sync }]
        }
        Event::SyncCancelRequested(event) => {
            vec![Action::CancelSync { workspace: event.workspace, sync: event.sync }]
        }
        Event::WorkspaceStopping(event) => vec![Action::Stop { workspace: event.workspace }],
        Event::WorkspaceDeleting(event) => vec![Action::Delete { workspace: event.workspace }],
        Event::DaemonStarted(_)
        | Event::DaemonStopped(_)
        | Event::LimitsChanged(_)
        | Event::ClockObserved(_)
        | Event::Mounted(_)
        | Event::Unmounted(_)
        | Event::AccessRefused(_)
        | Event::LogCompacted(_)
        | Event::BackendProbed(_)
        | Event::EnvironmentInstalled(_)
        | Event::EnvironmentInstallFailed(_)
        | Event::EnvironmentRemoved(_)
        | Event::WorkspaceCreated(_)
        | Event::WorkspaceLabeled(_)
        | Event::WorkspaceStartFailed(_)
        | Event::WorkspaceStopped(_)
        | Event::WorkspaceDeleted(_)
        | Event::ExecRequested(_)
        | Event::ExecStarted(_)
        | Event::ExecExited(_)
        | Event::ExecFailed(_)
        | Event::ExecLost(_)
        | Event::ShellStarted(_)
        | Event::ShellFailed(_)
        | Event::ShellExited(_)
        | Event::ShellLost(_)
        | Event::ShellClosed(_)
        | Event::SyncRequested(_)
        | Event::SyncFinished(_)
        | Event::SyncFailed(_)
        | Event::SyncLost(_)
        | Event::OperationResolved(_)
        | Event::RequestMet(_)
        | Event::OutputDropped(_)
        | Event::Unknown(_) => Vec::new(),
    }
}

/// What was requested together with the boot waits for it.
fn begin_open_work(state: &State, id: WorkspaceId) -> Vec<Action> {
    let Some(workspace) = state.workspace(id) else { return Vec::new() };
    let syncs = workspace.open_syncs.keys().map(|sync| Action::Sync { workspace: id, sync: *sync });
    let execs = workspace.open_execs.iter().filter(|(_, exec)| exec.phase == ExecPhase::Requested);
    syncs.chain(execs.map(|(exec, _)| Action::Exec { workspace: id, exec: *exec })).collect()
}

fn is_started(state: &State, id: WorkspaceId) -> bool {
    state.workspace(id).is_some_and(|workspace| workspace.phase == Phase::Started)
}
