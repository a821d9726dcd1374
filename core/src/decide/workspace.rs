//! Rules for the life of workspaces and VMs.

use alloc::string::ToString as _;
use alloc::vec;
use alloc::vec::Vec;

use crate::event::{
    DeleteReason, Event, ExecFailed, ExecLost, ExecRequested, Lifetime, Operation, OperationResolved,
    StopReason, SyncSource, WorkspaceCreated, WorkspaceDeleted, WorkspaceDeleting, WorkspaceKind,
    WorkspaceLabeled, WorkspaceSpec, WorkspaceStartFailed, WorkspaceStarted, WorkspaceStarting,
    WorkspaceStopped, WorkspaceStopping,
};
use crate::ids::{ExecNumber, Timestamp, WorkspaceId};
use crate::limits::Limits;
use crate::rejection::Rejection;
use crate::state::{Phase, State, Workspace};
use crate::tags::Tags;

pub(super) fn existing(state: &State, id: WorkspaceId) -> Result<&Workspace, Rejection> {
    state.workspace(id).ok_or(Rejection::UnknownWorkspace { workspace: id })
}

pub(super) const fn wrong_phase(workspace: WorkspaceId, operation: &'static str, phase: &Phase) -> Rejection {
    Rejection::WrongPhase { workspace, operation, phase: phase.as_str() }
}

pub(super) const fn check_range(
    field: &'static str,
    value: u64,
    min: u64,
    max: u64,
) -> Result<(), Rejection> {
    if min <= value && value <= max { Ok(()) } else { Err(Rejection::OutOfRange { field, value, min, max }) }
}

pub(super) fn create(
    state: &State,
    workspace: WorkspaceId,
    kind: WorkspaceKind,
    lifetime: Lifetime,
    spec: &WorkspaceSpec,
) -> Result<Vec<Event>, Rejection> {
    if state.workspaces.contains_key(&workspace) {
        return Err(Rejection::WorkspaceExists { workspace });
    }
    check_spec(&state.limits, spec)?;
    check_room("workspaces", state.workspaces.len() as u64, 1, u64::from(state.limits.workspaces_max))?;
    Ok(vec![Event::WorkspaceCreated(WorkspaceCreated { workspace, kind, lifetime, spec: spec.clone() })])
}

pub(super) fn open(
    state: &State,
    workspace: WorkspaceId,
    spec: &WorkspaceSpec,
    tags: &Tags,
    seed: Option<&SyncSource>,
) -> Result<Vec<Event>, Rejection> {
    tags.check()?;
    if let Some(name) = &tags.name
        && let Some((holder, _)) =
            state.workspaces.iter().find(|(_, other)| other.name.as_ref() == Some(name))
    {
        return Err(Rejection::NameTaken { name: name.clone(), workspace: *holder });
    }
    let mut events = create(state, workspace, WorkspaceKind::Workspace, Lifetime::Ttl, spec)?;
    check_guest_room(state, spec.mem_mib)?;
    if !tags.is_empty() {
        let Tags { name, labels } = tags.clone();
        events.push(Event::WorkspaceLabeled(WorkspaceLabeled { workspace, name, labels }));
    }
    events.extend(seed.map(|source| super::sync::seed(workspace, source)));
    events.push(Event::WorkspaceStarting(WorkspaceStarting { workspace, boot: 1 }));
    Ok(events)
}

fn check_spec(limits: &Limits, spec: &WorkspaceSpec) -> Result<(), Rejection> {
    check_range("vcpu_count", spec.vcpu_count.into(), 1, limits.vcpu_max.into())?;
    check_range("mem_mib", spec.mem_mib, limits.mem_mib_min, limits.mem_mib_total)?;
    if spec.ttl_seconds != 0 {
        check_range("ttl_seconds", spec.ttl_seconds, limits.ttl_seconds_min, limits.ttl_seconds_max)?;
    }
    Ok(())
}

pub(super) const fn check_room(
    what: &'static str,
    used: u64,
    wanted: u64,
    max: u64,
) -> Result<(), Rejection> {
    if used.saturating_add(wanted) <= max {
        Ok(())
    } else {
        Err(Rejection::LimitReached { what, used, wanted, max })
    }
}

fn check_guest_room(state: &State, mem_mib: u64) -> Result<(), Rejection> {
    check_room("running guests", state.guests() as u64, 1, u64::from(state.limits.guests_max))?;
    check_room("MiB of guest memory", state.mem_mib_reserved(), mem_mib, state.limits.mem_mib_total)
}

pub(super) fn run(
    state: &State,
    workspace: WorkspaceId,
    spec: &WorkspaceSpec,
    command: &str,
    timeout_ms: u64,
) -> Result<Vec<Event>, Rejection> {
    super::exec::check_command(&state.limits, command, timeout_ms)?;
    let mut events = create(state, workspace, WorkspaceKind::Vm, Lifetime::Client, spec)?;
    check_guest_room(state, spec.mem_mib)?;
    events.push(Event::WorkspaceStarting(WorkspaceStarting { workspace, boot: 1 }));
    events.push(Event::ExecRequested(ExecRequested {
        workspace,
        exec: ExecNumber(1),
        command: command.to_string(),
        cwd: None,
        timeout_ms,
    }));
    Ok(events)
}

pub(super) fn start(state: &State, id: WorkspaceId) -> Result<Vec<Event>, Rejection> {
    let workspace = existing(state, id)?;
    match workspace.phase {
        Phase::Created | Phase::Stopped(_) => {
            check_guest_room(state, workspace.spec.mem_mib)?;
            Ok(vec![Event::WorkspaceStarting(WorkspaceStarting { workspace: id, boot: workspace.boots + 1 })])
        }
        Phase::Starting | Phase::Started | Phase::Stopping | Phase::Deleting { .. } => {
            Err(wrong_phase(id, "start", &workspace.phase))
        }
    }
}

pub(super) fn started(state: &State, fact: &WorkspaceStarted) -> Result<Vec<Event>, Rejection> {
    match existing(state, fact.workspace)?.phase {
        Phase::Starting => Ok(vec![Event::WorkspaceStarted(fact.clone())]),
        Phase::Created | Phase::Started | Phase::Stopping | Phase::Stopped(_) | Phase::Deleting { .. } => {
            Err(Rejection::Stale)
        }
    }
}

pub(super) fn start_failed(state: &State, fact: &WorkspaceStartFailed) -> Result<Vec<Event>, Rejection> {
    let workspace = existing(state, fact.workspace)?;
    if workspace.phase != Phase::Starting {
        return Err(Rejection::Stale);
    }
    let mut events = vec![Event::WorkspaceStartFailed(fact.clone())];
    events.extend(workspace.open_execs.keys().map(|exec| {
        Event::ExecFailed(ExecFailed { workspace: fact.workspace, exec: *exec, reason: fact.reason.clone() })
    }));
    events.extend(super::sync::fail_open(fact.workspace, workspace, &fact.reason));
    events.extend(delete_with_client(fact.workspace, workspace));
    // Creating a workspace includes its first boot: it exists as a whole or not at all.
    if workspace.kind == WorkspaceKind::Workspace && workspace.boots == 1 {
        let reason = DeleteReason::RunError;
        events.push(Event::WorkspaceDeleting(WorkspaceDeleting { workspace: fact.workspace, reason }));
    }
    Ok(events)
}

/// A `run` whose guest is gone has nothing left to wait for.
fn delete_with_client(id: WorkspaceId, workspace: &Workspace) -> Option<Event> {
    match workspace.lifetime {
        Lifetime::Client => Some(Event::WorkspaceDeleting(WorkspaceDeleting {
            workspace: id,
            reason: DeleteReason::RunError,
        })),
        Lifetime::Ttl => None,
    }
}

pub(super) fn stop(state: &State, id: WorkspaceId) -> Result<Vec<Event>, Rejection> {
    let workspace = existing(state, id)?;
    match workspace.phase {
        Phase::Started => Ok(vec![Event::WorkspaceStopping(WorkspaceStopping { workspace: id })]),
        Phase::Created | Phase::Stopping | Phase::Stopped(_) => Ok(Vec::new()),
        Phase::Starting | Phase::Deleting { .. } => Err(wrong_phase(id, "stop", &workspace.phase)),
    }
}

pub(super) fn stopped(state: &State, fact: &WorkspaceStopped) -> Result<Vec<Event>, Rejection> {
    let workspace = existing(state, fact.workspace)?;
    let reason = match workspace.phase {
        Phase::Stopping => StopReason::Requested,
        Phase::Started => fact.reason.clone(),
        Phase::Created | Phase::Starting | Phase::Stopped(_) | Phase::Deleting { .. } => {
            return Err(Rejection::Stale);
        }
    };
    let mut events = lose_open_work(fact.workspace, workspace, "the guest is gone");
    events.push(Event::WorkspaceStopped(WorkspaceStopped { workspace: fact.workspace, reason }));
    events.extend(delete_with_client(fact.workspace, workspace));
    // Without its seed it is not the workspace that was asked for.
    if super::sync::awaits_seed(workspace) {
        let reason = DeleteReason::RunError;
        events.push(Event::WorkspaceDeleting(WorkspaceDeleting { workspace: fact.workspace, reason }));
    }
    Ok(events)
}

fn lose_open_work(id: WorkspaceId, workspace: &Workspace, reason: &str) -> Vec<Event> {
    let lost = |exec: &ExecNumber| {
        let (exec, reason) = (*exec, reason.to_string());
        Event::ExecLost(ExecLost { workspace: id, exec, reason, stdout: None, stderr: None })
    };
    let mut events: Vec<_> = workspace.open_execs.keys().map(lost).collect();
    events.extend(super::shell::lose_open(id, workspace, reason));
    events.extend(super::sync::lose_open(id, workspace, reason));
    events
}

pub(super) fn delete(state: &State, id: WorkspaceId, reason: DeleteReason) -> Result<Vec<Event>, Rejection> {
    let workspace = existing(state, id)?;
    match workspace.phase {
        Phase::Deleting { .. } => Ok(Vec::new()),
        Phase::Created | Phase::Starting | Phase::Started | Phase::Stopping | Phase::Stopped(_) => {
            Ok(vec![Event::WorkspaceDeleting(WorkspaceDeleting { workspace: id, reason })])
        }
    }
}

/// One batch, so that a request to reap has all that it led to.
pub(super) fn reap(state: &State, now: Timestamp) -> Vec<Event> {
    let expired = state.workspaces.iter().filter(|(_, workspace)| {
        workspace.expires_at().is_some_and(|at| at <= now)
            && !matches!(workspace.phase, Phase::Deleting { .. })
    });
    let reason = DeleteReason::Expired;
    expired.map(|(id, _)| Event::WorkspaceDeleting(WorkspaceDeleting { workspace: *id, reason })).collect()
}

/// What has ended meanwhile needs no evidence.
pub(super) fn resolved(state: &State, fact: &OperationResolved) -> Result<Vec<Event>, Rejection> {
    let workspace = existing(state, fact.workspace)?;
    let is_open = match fact.operation {
        Operation::Exec(exec) => workspace.open_execs.contains_key(&exec),
        Operation::Shell(shell) => workspace.shells.get(&shell).is_some_and(|shell| shell.phase.is_open()),
        Operation::Sync(sync) => workspace.open_syncs.contains_key(&sync),
    };
    if is_open { Ok(vec![Event::OperationResolved(fact.clone())]) } else { Err(Rejection::Stale) }
}

pub(super) fn deleted(state: &State, id: WorkspaceId) -> Result<Vec<Event>, Rejection> {
    let workspace = existing(state, id)?;
    match workspace.phase {
        Phase::Deleting { reason, .. } => {
            let mut events = lose_open_work(id, workspace, "deleted before it ended");
            events.push(Event::WorkspaceDeleted(WorkspaceDeleted { workspace: id, reason }));
            Ok(events)
        }
        Phase::Created | Phase::Starting | Phase::Started | Phase::Stopping | Phase::Stopped(_) => {
            Err(Rejection::Stale)
        }
    }
}
