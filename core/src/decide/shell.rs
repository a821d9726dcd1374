//! Rules for shells.
//!
//! ```text
//! Requested -> Running -> Ended -> (closed)
//!     \-----> (failed)      ^
//!      \---- lost ----------/
//! ```

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use crate::event::{
    Event, ShellClosed, ShellClosing, ShellExited, ShellFailed, ShellInput, ShellLost, ShellRequested,
    ShellResized, ShellSignal, ShellSignaled, ShellStarted, TerminalSize,
};
use crate::ids::{ShellId, WorkspaceId};
use crate::rejection::Rejection;
use crate::state::{Phase, Shell, ShellPhase, State, Workspace};

use super::workspace::{check_range, check_room, existing, wrong_phase};
use crate::command::WORKSPACE_PATH;

/// Most shells of one workspace, closed ones not counted: each can hold two full buffers in the guest.
const SHELLS_MAX: u64 = 128;

/// Longest path of a directory, in bytes.
const CWD_LEN_MAX: usize = 4096;

/// Most input of one event, in bytes: one frame of the guest's.
const INPUT_PART_MAX: usize = 64 * 1024;

/// Most input of one command, in bytes.
const INPUT_LEN_MAX: u64 = 1024 * 1024;

pub(super) fn open(
    state: &State,
    id: WorkspaceId,
    shell: ShellId,
    cwd: &str,
    size: TerminalSize,
) -> Result<Vec<Event>, Rejection> {
    let workspace = existing(state, id)?;
    check_size(size)?;
    let cwd = absolute_cwd(cwd)?;
    if workspace.phase != Phase::Started {
        return Err(wrong_phase(id, "open a shell in", &workspace.phase));
    }
    if workspace.shells.contains_key(&shell) {
        return Err(Rejection::ShellExists { shell });
    }
    check_room("shells", workspace.shells.len() as u64, 1, SHELLS_MAX)?;
    Ok(vec![Event::ShellRequested(ShellRequested { workspace: id, shell, cwd, size })])
}

fn check_size(size: TerminalSize) -> Result<(), Rejection> {
    check_range("cols", size.columns.into(), 1, u16::MAX.into())?;
    check_range("rows", size.rows.into(), 1, u16::MAX.into())
}

/// Where a shell begins is the guest's business: only the guest can resolve a path, so anything that can be one is
/// passed on.
fn absolute_cwd(cwd: &str) -> Result<String, Rejection> {
    if cwd.is_empty() || cwd.len() > CWD_LEN_MAX || cwd.contains('\0') {
        let rule = "a path of 1 to 4096 bytes without NUL";
        return Err(Rejection::InvalidText { field: "cwd", rule });
    }
    Ok(if cwd.starts_with('/') { cwd.into() } else { format!("{WORKSPACE_PATH}/{cwd}") })
}

fn known(state: &State, id: WorkspaceId, shell: ShellId) -> Result<(&Workspace, &Shell), Rejection> {
    let workspace = existing(state, id)?;
    let known = workspace.shells.get(&shell).ok_or(Rejection::UnknownShell { workspace: id, shell })?;
    Ok((workspace, known))
}

fn running<'a>(
    state: &'a State,
    id: WorkspaceId,
    shell: ShellId,
    operation: &'static str,
) -> Result<&'a Shell, Rejection> {
    let (workspace, known) = known(state, id, shell)?;
    match known.phase {
        ShellPhase::Running if known.closing => {
            Err(Rejection::WrongShellPhase { shell, operation, phase: "closing" })
        }
        ShellPhase::Running if workspace.phase == Phase::Started => Ok(known),
        ShellPhase::Running => Err(wrong_phase(id, operation, &workspace.phase)),
        ShellPhase::Requested => Err(Rejection::WrongShellPhase { shell, operation, phase: "starting" }),
        ShellPhase::Ended { .. } => Err(Rejection::WrongShellPhase { shell, operation, phase: "stopped" }),
    }
}

pub(super) fn started(state: &State, fact: &ShellStarted) -> Result<Vec<Event>, Rejection> {
    match known(state, fact.workspace, fact.shell)?.1.phase {
        ShellPhase::Requested => Ok(vec![Event::ShellStarted(fact.clone())]),
        ShellPhase::Running | ShellPhase::Ended { .. } => Err(Rejection::Stale),
    }
}

pub(super) fn failed(state: &State, fact: &ShellFailed) -> Result<Vec<Event>, Rejection> {
    match known(state, fact.workspace, fact.shell)?.1.phase {
        ShellPhase::Requested => Ok(vec![Event::ShellFailed(fact.clone())]),
        ShellPhase::Running | ShellPhase::Ended { .. } => Err(Rejection::Stale),
    }
}

pub(super) fn exited(state: &State, fact: &ShellExited) -> Result<Vec<Event>, Rejection> {
    ended(state, fact.workspace, fact.shell, Event::ShellExited(fact.clone()))
}

pub(super) fn lost(state: &State, fact: &ShellLost) -> Result<Vec<Event>, Rejection> {
    ended(state, fact.workspace, fact.shell, Event::ShellLost(fact.clone()))
}

/// A shell that somebody closes is closed by its end, in the same batch.
fn ended(state: &State, workspace: WorkspaceId, shell: ShellId, end: Event) -> Result<Vec<Event>, Rejection> {
    let (_, known) = known(state, workspace, shell)?;
    if !known.phase.is_open() {
        return Err(Rejection::Stale);
    }
    let mut events = vec![end];
    if known.closing {
        events.push(Event::ShellClosed(ShellClosed { workspace, shell }));
    }
    Ok(events)
}

pub(super) fn input(
    state: &State,
    workspace: WorkspaceId,
    shell: ShellId,
    data: &[u8],
) -> Result<Vec<Event>, Rejection> {
    let known = running(state, workspace, shell, "write to")?;
    check_range("the length of the input", data.len() as u64, 0, INPUT_LEN_MAX)?;
    let mut offset = known.input_len;
    let mut events = Vec::new();
    for part in data.chunks(INPUT_PART_MAX) {
        events.push(Event::ShellInput(ShellInput { workspace, shell, offset, data: part.to_vec() }));
        offset += part.len() as u64;
    }
    Ok(events)
}

pub(super) fn resize(
    state: &State,
    workspace: WorkspaceId,
    shell: ShellId,
    size: TerminalSize,
) -> Result<Vec<Event>, Rejection> {
    check_size(size)?;
    if running(state, workspace, shell, "resize")?.size == size {
        return Ok(Vec::new());
    }
    Ok(vec![Event::ShellResized(ShellResized { workspace, shell, size })])
}

pub(super) fn signal(
    state: &State,
    workspace: WorkspaceId,
    shell: ShellId,
    signal: ShellSignal,
) -> Result<Vec<Event>, Rejection> {
    running(state, workspace, shell, "signal")?;
    Ok(vec![Event::ShellSignaled(ShellSignaled { workspace, shell, signal })])
}

pub(super) fn close(state: &State, workspace: WorkspaceId, shell: ShellId) -> Result<Vec<Event>, Rejection> {
    let (_, known) = known(state, workspace, shell)?;
    Ok(match known.phase {
        ShellPhase::Ended { .. } => vec![Event::ShellClosed(ShellClosed { workspace, shell })],
        ShellPhase::Requested | ShellPhase::Running if known.closing => Vec::new(),
        ShellPhase::Requested | ShellPhase::Running => {
            vec![Event::ShellClosing(ShellClosing { workspace, shell })]
        }
    })
}

/// Returns the loss of all shells that a guest takes with it.
pub(super) fn lose_open(id: WorkspaceId, workspace: &Workspace, reason: &str) -> Vec<Event> {
    let open = workspace.shells.iter().filter(|(_, shell)| shell.phase.is_open());
    open.flat_map(|(shell, known)| {
        let lost = ShellLost { workspace: id, shell: *shell, reason: reason.into(), output: None };
        let closed = ShellClosed { workspace: id, shell: *shell };
        [Some(Event::ShellLost(lost)), known.closing.then_some(Event::ShellClosed(closed))]
    })
    .flatten()
    .collect()
}
