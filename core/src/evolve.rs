//! The fold: how an event changes the state. Total and free of rules: whatever is in the log is folded.

use alloc::sync::Arc;

use crate::event::{
    ClockObserved, Envelope, Event, ExecExited, ExecRequested, OutputDropped, ShellClosed, ShellFailed,
    SyncFinished, SyncPurpose, SyncRequested, WorkspaceCreated,
};
use crate::ids::{ExecNumber, ShellId, SyncNumber, Timestamp, WorkspaceId};
use crate::state::{
    EndedExec, Exec, ExecPhase, Phase, Seed, Shell, ShellEnd, ShellPhase, State, Stopped, Sync, Workspace,
};

/// Folds one event into the state.
///
/// Events about a workspace that the state does not hold change nothing but [`State::seq`].
pub fn evolve(state: &mut State, envelope: &Envelope) {
    state.seq = envelope.seq;
    match &envelope.event {
        Event::DaemonStarted(event) => state.daemon = Some(event.clone()),
        Event::LimitsChanged(event) => state.limits = event.limits,
        Event::ClockObserved(event) => observe_clock(state, event),
        Event::Mounted(event) => drop(state.mounts.insert(event.path.clone(), event.clone())),
        Event::Unmounted(event) => drop(state.mounts.remove(&event.path)),
        Event::LogCompacted(event) => state.compacted = Some(event.clone()),
        Event::BackendProbed(event) => {
            state.probes.insert((event.backend, event.accelerator), event.clone());
        }
        Event::EnvironmentInstalled(event) => {
            state.environments.insert(event.name.clone(), event.clone());
        }
        Event::DaemonStopped(_)
        | Event::EnvironmentInstallFailed(_)
        | Event::EnvironmentRemoved(_)
        | Event::OperationResolved(_)
        | Event::RequestMet(_)
        | Event::AccessRefused(_)
        | Event::Unknown(_) => {}
        Event::WorkspaceCreated(_)
        | Event::WorkspaceLabeled(_)
        | Event::WorkspaceStarting(_)
        | Event::WorkspaceStarted(_)
        | Event::WorkspaceStartFailed(_)
        | Event::WorkspaceStopping(_)
        | Event::WorkspaceStopped(_)
        | Event::WorkspaceDeleting(_)
        | Event::WorkspaceDeleted(_) => evolve_workspace(state, &envelope.event, envelope.at),
        Event::ExecRequested(_)
        | Event::ExecStarted(_)
        | Event::ExecExited(_)
        | Event::ExecFailed(_)
        | Event::ExecLost(_)
        | Event::ExecCancelRequested(_) => evolve_exec(state, &envelope.event, envelope.at),
        Event::ShellRequested(_)
        | Event::ShellStarted(_)
        | Event::ShellFailed(_)
        | Event::ShellExited(_)
        | Event::ShellLost(_)
        | Event::ShellInput(_)
        | Event::ShellResized(_)
        | Event::ShellSignaled(_)
        | Event::ShellClosing(_)
        | Event::ShellClosed(_) => evolve_shell(state, &envelope.event, envelope.at),
        Event::SyncRequested(event) => change(state, event.workspace, |workspace| {
            workspace.sync_count = event.sync.0;
            workspace.open_syncs.insert(event.sync, sync_of(event));
        }),
        Event::SyncFinished(event) => finish_sync(state, event),
        Event::SyncFailed(event) => end_sync(state, event.workspace, event.sync),
        Event::SyncLost(event) => end_sync(state, event.workspace, event.sync),
        Event::SyncCancelRequested(event) => change(state, event.workspace, |workspace| {
            if let Some(sync) = workspace.open_syncs.get_mut(&event.sync) {
                sync.cancel_requested = true;
            }
        }),
        Event::OutputDropped(event) => drop_output(state, event),
    }
}

fn evolve_workspace(state: &mut State, event: &Event, at: Timestamp) {
    match event {
        Event::WorkspaceCreated(event) => create(state, event, at),
        Event::WorkspaceLabeled(event) => change(state, event.workspace, |workspace| {
            workspace.name.clone_from(&event.name);
            workspace.labels.clone_from(&event.labels);
        }),
        Event::WorkspaceStarting(event) => change(state, event.workspace, |workspace| {
            workspace.phase = Phase::Starting;
            workspace.boots = event.boot;
        }),
        Event::WorkspaceStarted(event) => {
            state.boots_ms.insert((event.backend, event.accelerator), event.boot_ms);
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
        _ => {}
    }
}

fn evolve_exec(state: &mut State, event: &Event, at: Timestamp) {
    match event {
        Event::ExecRequested(event) => request_exec(state, event, at),
        Event::ExecStarted(event) => {
            change_exec(state, event.workspace, event.exec, |exec| exec.phase = ExecPhase::Started)
        }
        Event::ExecExited(event) => exit_exec(state, event),
        Event::ExecFailed(event) => end_exec(state, event.workspace, event.exec),
        Event::ExecLost(event) => end_exec(state, event.workspace, event.exec),
        Event::ExecCancelRequested(event) => {
            change_exec(state, event.workspace, event.exec, |exec| exec.cancel_requested = true);
        }
        _ => {}
    }
}

fn evolve_shell(state: &mut State, event: &Event, at: Timestamp) {
    match event {
        Event::ShellRequested(event) => change(state, event.workspace, |workspace| {
            let shell = Shell {
                cwd: event.cwd.clone(),
                size: event.size,
                requested_at: at,
                backend: workspace.guest.as_ref().map(|guest| guest.backend),
                phase: ShellPhase::Requested,
                input_len: 0,
                closing: false,
            };
            workspace.shells.insert(event.shell, shell);
        }),
        Event::ShellStarted(event) => {
            change_shell(state, event.workspace, event.shell, |shell| shell.phase = ShellPhase::Running);
        }
        Event::ShellExited(event) => change_shell(state, event.workspace, event.shell, |shell| {
            shell.phase = ShellPhase::Ended { at, end: ShellEnd::Exited(event.status) };
        }),
        Event::ShellLost(event) => change_shell(state, event.workspace, event.shell, |shell| {
            shell.phase = ShellPhase::Ended { at, end: ShellEnd::Lost(event.reason.clone()) };
        }),
        Event::ShellInput(event) => change_shell(state, event.workspace, event.shell, |shell| {
            shell.input_len = event.offset + event.data.len() as u64;
        }),
        Event::ShellResized(event) => {
            change_shell(state, event.workspace, event.shell, |shell| shell.size = event.size);
        }
        Event::ShellClosing(event) => {
            change_shell(state, event.workspace, event.shell, |shell| shell.closing = true);
        }
        Event::ShellFailed(ShellFailed { workspace, shell, .. })
        | Event::ShellClosed(ShellClosed { workspace, shell }) => change(state, *workspace, |workspace| {
            workspace.shells.remove(shell);
        }),
        _ => {}
    }
}

fn change_shell(state: &mut State, id: WorkspaceId, shell: ShellId, edit: impl FnOnce(&mut Shell)) {
    change(state, id, |workspace| {
        if let Some(shell) = workspace.shells.get_mut(&shell) {
            edit(shell);
        }
    });
}

fn sync_of(event: &SyncRequested) -> Sync {
    Sync {
        purpose: event.purpose,
        source: event.source.clone(),
        destination: event.destination.clone(),
        changes: event.changes.clone(),
        cancel_requested: false,
    }
}

fn finish_sync(state: &mut State, event: &SyncFinished) {
    change(state, event.workspace, |workspace| {
        if let Some(sync) = workspace.open_syncs.remove(&event.sync)
            && sync.purpose == SyncPurpose::Seed
        {
            workspace.seed = Some(Seed {
                source: sync.source,
                entry_count: event.entry_count,
                bytes_written: event.bytes_written,
            });
        }
    });
}

fn end_sync(state: &mut State, id: WorkspaceId, sync: SyncNumber) {
    change(state, id, |workspace| {
        workspace.open_syncs.remove(&sync);
    });
}

fn drop_output(state: &mut State, event: &OutputDropped) {
    change(state, event.workspace, |workspace| {
        let dropped = Arc::make_mut(&mut workspace.dropped);
        dropped.entry(event.stream).or_default().add(event.from..event.to);
    });
}

/// A wall clock that was set moves the ends of all lives along, so that nobody lives longer or shorter for it.
fn observe_clock(state: &mut State, event: &ClockObserved) {
    let known = state.clock.replace(event.clone());
    let Some(known) = known.filter(|known| known.host_boot_id == event.host_boot_id) else { return };
    let shift = event.offset_us.saturating_sub(known.offset_us);
    for workspace in state.workspaces.values_mut() {
        let workspace = Arc::make_mut(workspace);
        workspace.clock_shift_us = workspace.clock_shift_us.saturating_add(shift);
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
        clock_shift_us: 0,
        phase: Phase::Created,
        boots: 0,
        guest: None,
        exec_count: 0,
        open_execs: alloc::collections::BTreeMap::new(),
        last_exec: None,
        shells: alloc::collections::BTreeMap::new(),
        sync_count: 0,
        open_syncs: alloc::collections::BTreeMap::new(),
        seed: None,
        dropped: Arc::default(),
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
