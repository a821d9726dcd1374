//! The fold: how an event changes the state. Total and free of rules: whatever is in the log is folded.

use alloc::sync::Arc;

use crate::event::{Envelope, Event, ExecExited, ExecRequested, WorkspaceCreated};
use crate::ids::{ExecNumber, Timestamp, WorkspaceId};
use crate::state::{EndedExec, Exec, ExecPhase, Phase, State, Stopped, Workspace};

/// Folds one event into the state.
///
/// Events about a workspace that the state does not hold change nothing but [`State::seq`].
pub fn evolve(state: &mut State, envelope: &Envelope) {
    state.seq = envelope.seq;
    match &envelope.event {
        Event::DaemonStarted(event) => state.daemon = Some(event.clone()),
        Event::LimitsChanged(event) => state.limits = event.limits,
        Event::BackendProbed(event) => {
            state.probes.insert((event.backend, event.accelerator), event.clone());
        }
        Event::EnvironmentInstalled(event) => {
            state.environments.insert(event.name.clone(), event.clone());
        }
        Event::DaemonStopped(_)
        | Event::EnvironmentInstallFailed(_)
        | Event::EnvironmentRemoved(_)
        | Event::Unknown(_) => {}
        Event::WorkspaceCreated(event) => create(state, event, envelope.at),
        Event::WorkspaceLabeled(event) => change(state, event.workspace, |workspace| {
            workspace.name.clone_from(&event.name);
            workspace.labels.clone_from(&event.labels);
        }),
        Event::WorkspaceStarting(event) => change(state, event.workspace, |workspace| {
            workspace.phase = Phase::Starting;
            workspace.boots = event.boot;
        }),
        Event::WorkspaceStarted(event) => {
            state.last_boot = Some(event.clone());
            change(state, event.workspace, |workspace| {
                workspace.phase = Phase::Started;
                workspace.guest = Some(event.clone());
            });
        }
        Event::WorkspaceStartFailed(event) => change(state, event.workspace, |workspace| {
            workspace.phase = Phase::Stopped(Stopped::BootFailed(event.reason.clone()));
        }),
        Event::WorkspaceStopping(event) => {
            change(state, event.workspace, |workspace| workspace.phase = Phase::Stopping);
        }
        Event::WorkspaceStopped(event) => change(state, event.workspace, |workspace| {
            workspace.phase = Phase::Stopped(Stopped::Guest(event.reason.clone()));
        }),
        Event::WorkspaceDeleting(event) => {
            change(state, event.workspace, |workspace| {
                let guest = workspace.phase.has_guest();
                workspace.phase = Phase::Deleting { reason: event.reason, guest };
            });
        }
        Event::WorkspaceDeleted(event) => {
            state.workspaces.remove(&event.workspace);
        }
        Event::ExecRequested(event) => request_exec(state, event, envelope.at),
        Event::ExecStarted(event) => {
            change_exec(state, event.workspace, event.exec, |exec| exec.phase = ExecPhase::Started)
        }
        Event::ExecExited(event) => exit_exec(state, event),
        Event::ExecFailed(event) => end_exec(state, event.workspace, event.exec),
        Event::ExecLost(event) => end_exec(state, event.workspace, event.exec),
        Event::ExecCancelRequested(event) => {
            change_exec(state, event.workspace, event.exec, |exec| exec.cancel_requested = true);
        }
    }
}

fn create(state: &mut State, event: &WorkspaceCreated, at: Timestamp) {
    let workspace = Workspace {
        kind: event.kind,
        lifetime: event.lifetime,
        spec: event.spec.clone(),
        name: None,
        labels: alloc::collections::BTreeMap::new(),
        created_at: at,
        phase: Phase::Created,
        boots: 0,
        guest: None,
        exec_count: 0,
        open_execs: alloc::collections::BTreeMap::new(),
        last_exec: None,
    };
    state.workspaces.insert(event.workspace, Arc::new(workspace));
}

fn change(state: &mut State, id: WorkspaceId, edit: impl FnOnce(&mut Workspace)) {
    if let Some(workspace) = state.workspaces.get_mut(&id) {
        edit(Arc::make_mut(workspace));
    }
}

fn request_exec(state: &mut State, event: &ExecRequested, at: Timestamp) {
    let exec = Exec {
        command: event.command.clone(),
        cwd: event.cwd.clone(),
        timeout_ms: event.timeout_ms,
        requested_at: at,
        phase: ExecPhase::Requested,
        cancel_requested: false,
    };
    change(state, event.workspace, |workspace| {
        workspace.exec_count = event.exec.0;
        workspace.open_execs.insert(event.exec, exec);
    });
}

fn change_exec(state: &mut State, id: WorkspaceId, number: ExecNumber, edit: impl FnOnce(&mut Exec)) {
    change(state, id, |workspace| {
        if let Some(exec) = workspace.open_execs.get_mut(&number) {
            edit(exec);
        }
    });
}

fn exit_exec(state: &mut State, event: &ExecExited) {
    change(state, event.workspace, |workspace| {
        if let Some(exec) = workspace.open_execs.remove(&event.exec) {
            workspace.last_exec = Some(EndedExec {
                number: event.exec,
                command: exec.command,
                cwd: exec.cwd,
                status: event.status,
                duration_ms: event.duration_ms,
                backend: workspace.guest.as_ref().map(|guest| guest.backend),
            });
        }
    });
}

fn end_exec(state: &mut State, id: WorkspaceId, number: ExecNumber) {
    change(state, id, |workspace| {
        workspace.open_execs.remove(&number);
    });
}
