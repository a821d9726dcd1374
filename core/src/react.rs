//! What must be done once an event is durable.

use alloc::vec;
use alloc::vec::Vec;

use crate::action::Action;
use crate::event::Event;
use crate::state::{ExecPhase, Phase, State};

/// Returns the actions that follow from an event; `state` already has it folded in.
///
/// Called once for each new event, never during a replay.
#[must_use]
pub fn react(state: &State, event: &Event) -> Vec<Action> {
    match event {
        Event::WorkspaceStarting(event) => vec![Action::Boot { workspace: event.workspace }],
        Event::WorkspaceStarted(event) => {
            state.workspace(event.workspace).map_or_else(Vec::new, |workspace| {
                workspace
                    .open_execs
                    .iter()
                    .filter(|(_, exec)| exec.phase == ExecPhase::Requested)
                    .map(|(number, _)| Action::Exec { workspace: event.workspace, exec: *number })
                    .collect()
            })
        }
        Event::ExecRequested(event) => match state.workspace(event.workspace) {
            Some(workspace) if workspace.phase == Phase::Started => {
                vec![Action::Exec { workspace: event.workspace, exec: event.exec }]
            }
            _ => Vec::new(),
        },
        Event::ExecCancelRequested(event) => {
            vec![Action::KillExec { workspace: event.workspace, exec: event.exec }]
        }
        Event::WorkspaceStopping(event) => vec![Action::Stop { workspace: event.workspace }],
        Event::WorkspaceDeleting(event) => vec![Action::Delete { workspace: event.workspace }],
        Event::DaemonStarted(_)
        | Event::DaemonStopped(_)
        | Event::LimitsChanged(_)
        | Event::BackendProbed(_)
        | Event::EnvironmentInstalled(_)
        | Event::EnvironmentInstallFailed(_)
        | Event::EnvironmentRemoved(_)
        | Event::WorkspaceCreated(_)
        | Event::WorkspaceLabeled(_)
        | Event::WorkspaceStartFailed(_)
        | Event::WorkspaceStopped(_)
        | Event::WorkspaceDeleted(_)
        | Event::ExecStarted(_)
        | Event::ExecExited(_)
        | Event::ExecFailed(_)
        | Event::ExecLost(_)
        | Event::Unknown(_) => Vec::new(),
    }
}
