//! Rules for commands in guests.
//!
//! ```text
//! Requested -> Started -> Exited
//!     |           +-----> Lost
//!     +-> Failed | Lost | Exited (the report of the start was lost with a daemon)
//! ```

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use crate::event::{
    DeleteReason, Event, ExecCancelRequested, ExecExited, ExecFailed, ExecLost, ExecRequested, ExecStarted,
    WorkspaceDeleting, WorkspaceKind,
};
use crate::ids::{ExecNumber, WorkspaceId};
use crate::limits::Limits;
use crate::rejection::Rejection;
use crate::state::{Exec, ExecPhase, Phase, State, Workspace};

use super::workspace::{check_range, existing, wrong_phase};

pub(super) fn check_command(limits: &Limits, command: &str, timeout_ms: u64) -> Result<(), Rejection> {
    if command.trim().is_empty() {
        return Err(Rejection::EmptyCommand);
    }
    if command.contains('\0') {
        return Err(Rejection::NulInCommand);
    }
    let (len, max) = (command.len() as u64, u64::from(limits.command_len_max));
    if len > max {
        return Err(Rejection::CommandTooLong { len, max });
    }
    check_range("timeout_seconds", timeout_ms.div_ceil(1000), 1, limits.timeout_seconds_max)
}

pub(super) fn request(
    state: &State,
    id: WorkspaceId,
    command: &str,
    cwd: Option<&String>,
    timeout_ms: u64,
) -> Result<Vec<Event>, Rejection> {
    let workspace = existing(state, id)?;
    check_command(&state.limits, command, timeout_ms)?;
    if workspace.phase != Phase::Started {
        return Err(wrong_phase(id, "run a command in", &workspace.phase));
    }
    let open = workspace.open_execs.len() as u64;
    let max = match workspace.kind {
        WorkspaceKind::Vm => 1,
        WorkspaceKind::Workspace => u64::from(state.limits.open_execs_max),
    };
    if open >= max {
        return Err(Rejection::LimitReached { what: "running commands", used: open, wanted: 1, max });
    }
    Ok(vec![Event::ExecRequested(ExecRequested {
        workspace: id,
        exec: ExecNumber(workspace.exec_count + 1),
        command: command.into(),
        cwd: cwd.cloned(),
        timeout_ms,
    })])
}

fn open_exec(state: &State, id: WorkspaceId, number: ExecNumber) -> Result<(&Workspace, &Exec), Rejection> {
    let workspace = existing(state, id)?;
    let exec =
        workspace.open_execs.get(&number).ok_or(Rejection::UnknownExec { workspace: id, exec: number })?;
    Ok((workspace, exec))
}

pub(super) fn started(state: &State, fact: &ExecStarted) -> Result<Vec<Event>, Rejection> {
    let (_, exec) = open_exec(state, fact.workspace, fact.exec)?;
    match exec.phase {
        ExecPhase::Requested => Ok(vec![Event::ExecStarted(fact.clone())]),
        ExecPhase::Started => Err(Rejection::Stale),
    }
}

pub(super) fn exited(state: &State, fact: &ExecExited) -> Result<Vec<Event>, Rejection> {
    let (workspace, _) = open_exec(state, fact.workspace, fact.exec)?;
    Ok(with_cleanup(fact.workspace, workspace, Event::ExecExited(fact.clone()), DeleteReason::PostExec))
}

pub(super) fn failed(state: &State, fact: &ExecFailed) -> Result<Vec<Event>, Rejection> {
    let (workspace, _) = open_exec(state, fact.workspace, fact.exec)?;
    Ok(with_cleanup(fact.workspace, workspace, Event::ExecFailed(fact.clone()), DeleteReason::RunError))
}

pub(super) fn lost(state: &State, fact: &ExecLost) -> Result<Vec<Event>, Rejection> {
    let (workspace, _) = open_exec(state, fact.workspace, fact.exec)?;
    Ok(with_cleanup(fact.workspace, workspace, Event::ExecLost(fact.clone()), DeleteReason::RunError))
}

/// A VM is for one command: its end is the end of the VM, in the same batch, so that no crash can come between.
fn with_cleanup(id: WorkspaceId, workspace: &Workspace, end: Event, reason: DeleteReason) -> Vec<Event> {
    let deleting = matches!(workspace.phase, Phase::Deleting { .. });
    match workspace.kind {
        WorkspaceKind::Vm if !deleting => {
            vec![end, Event::WorkspaceDeleting(WorkspaceDeleting { workspace: id, reason })]
        }
        WorkspaceKind::Vm | WorkspaceKind::Workspace => vec![end],
    }
}

pub(super) fn cancel(state: &State, id: WorkspaceId, number: ExecNumber) -> Result<Vec<Event>, Rejection> {
    let (_, exec) = open_exec(state, id, number)?;
    if exec.cancel_requested {
        return Ok(Vec::new());
    }
    Ok(vec![Event::ExecCancelRequested(ExecCancelRequested { workspace: id, exec: number })])
}
