//! Rules for files that are brought into a workspace.
//!
//! ```text
//! Requested -> Finished | Failed | Lost
//! ```

use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::vec;
use alloc::vec::Vec;

use crate::command::WORKSPACE_PATH;
use crate::event::{
    DeleteReason, Event, SyncCancelRequested, SyncChanges, SyncFailed, SyncFinished, SyncLost, SyncPurpose,
    SyncRequested, SyncSource, WorkspaceDeleting,
};
use crate::ids::{SyncNumber, WorkspaceId};
use crate::rejection::Rejection;
use crate::state::{Phase, State, Sync, Workspace};

use super::workspace::{check_room, existing, wrong_phase};

/// Most syncs of one workspace that are under way at once: each has a thread in the guest.
const OPEN_SYNCS_MAX: u64 = 8;

/// Longest path, in bytes.
const PATH_LEN_MAX: usize = 4096;

pub(super) fn request(
    state: &State,
    id: WorkspaceId,
    source: &SyncSource,
    destination: &str,
    changes: Option<&SyncChanges>,
) -> Result<Vec<Event>, Rejection> {
    let workspace = existing(state, id)?;
    let destination = sync_destination(destination)?;
    if workspace.phase != Phase::Started {
        return Err(wrong_phase(id, "push files into", &workspace.phase));
    }
    check_room("syncs", workspace.open_syncs.len() as u64, 1, OPEN_SYNCS_MAX)?;
    Ok(vec![Event::SyncRequested(SyncRequested {
        workspace: id,
        sync: SyncNumber(workspace.sync_count + 1),
        purpose: SyncPurpose::Push,
        source: source.clone(),
        destination,
        changes: changes.cloned(),
    })])
}

/// Returns the event of the files that a new workspace begins with.
pub(super) fn seed(workspace: WorkspaceId, source: &SyncSource) -> Event {
    Event::SyncRequested(SyncRequested {
        workspace,
        sync: SyncNumber(1),
        purpose: SyncPurpose::Seed,
        source: source.clone(),
        destination: WORKSPACE_PATH.to_string(),
        changes: None,
    })
}

/// Returns the directory of a guest that is meant by the destination of a sync: absolute, without `.` and doubled
/// slashes.
///
/// # Errors
///
/// When it does not lie in the workspace.
pub fn sync_destination(text: &str) -> Result<String, Rejection> {
    let refused = Rejection::InvalidText {
        field: "dest",
        rule: "/workspace or a path below it, of at most 4096 bytes and without `..`",
    };
    let below = match text.strip_prefix(WORKSPACE_PATH) {
        Some(below) if below.is_empty() || below.starts_with('/') => below,
        _ if text.starts_with('/') || text.is_empty() => return Err(refused),
        _ => text,
    };
    let mut destination = WORKSPACE_PATH.to_string();
    for component in below.split('/') {
        match component {
            "" | "." => {}
            ".." => return Err(refused),
            _ => destination = format!("{destination}/{component}"),
        }
    }
    if destination.len() > PATH_LEN_MAX || destination.contains('\0') {
        return Err(refused);
    }
    Ok(destination)
}

fn open_sync(state: &State, id: WorkspaceId, number: SyncNumber) -> Result<(&Workspace, &Sync), Rejection> {
    let workspace = existing(state, id)?;
    let sync = workspace.open_syncs.get(&number).ok_or(Rejection::Stale)?;
    Ok((workspace, sync))
}

pub(super) fn finished(state: &State, fact: &SyncFinished) -> Result<Vec<Event>, Rejection> {
    open_sync(state, fact.workspace, fact.sync)?;
    Ok(vec![Event::SyncFinished(fact.clone())])
}

pub(super) fn failed(state: &State, fact: &SyncFailed) -> Result<Vec<Event>, Rejection> {
    let (workspace, sync) = open_sync(state, fact.workspace, fact.sync)?;
    Ok(with_cleanup(fact.workspace, workspace, sync, Event::SyncFailed(fact.clone())))
}

pub(super) fn lost(state: &State, fact: &SyncLost) -> Result<Vec<Event>, Rejection> {
    let (workspace, sync) = open_sync(state, fact.workspace, fact.sync)?;
    Ok(with_cleanup(fact.workspace, workspace, sync, Event::SyncLost(fact.clone())))
}

/// A workspace without its seed is not the one that was asked for: it goes in the same batch.
fn with_cleanup(id: WorkspaceId, workspace: &Workspace, sync: &Sync, end: Event) -> Vec<Event> {
    let mut events = vec![end];
    if sync.purpose == SyncPurpose::Seed {
        events.extend(delete_unless_deleting(id, workspace));
    }
    events
}

fn delete_unless_deleting(id: WorkspaceId, workspace: &Workspace) -> Option<Event> {
    let deleting = matches!(workspace.phase, Phase::Deleting { .. });
    let reason = DeleteReason::RunError;
    (!deleting).then_some(Event::WorkspaceDeleting(WorkspaceDeleting { workspace: id, reason }))
}

pub(super) fn cancel(state: &State, id: WorkspaceId, number: SyncNumber) -> Result<Vec<Event>, Rejection> {
    let (_, sync) = open_sync(state, id, number)?;
    if sync.cancel_requested {
        return Ok(Vec::new());
    }
    Ok(vec![Event::SyncCancelRequested(SyncCancelRequested { workspace: id, sync: number })])
}

/// Returns the failure of all syncs whose guest never was.
pub(super) fn fail_open(id: WorkspaceId, workspace: &Workspace, reason: &str) -> Vec<Event> {
    let failed = |sync: &SyncNumber| {
        Event::SyncFailed(SyncFailed {
            workspace: id,
            sync: *sync,
            reason: reason.to_string(),
            refused: false,
        })
    };
    workspace.open_syncs.keys().map(failed).collect()
}

/// Returns the loss of all syncs that a guest takes with it.
pub(super) fn lose_open(id: WorkspaceId, workspace: &Workspace, reason: &str) -> Vec<Event> {
    let lost = |sync: &SyncNumber| {
        Event::SyncLost(SyncLost { workspace: id, sync: *sync, reason: reason.to_string() })
    };
    workspace.open_syncs.keys().map(lost).collect()
}

/// Tells whether the workspace waits for its seed.
pub(super) fn awaits_seed(workspace: &Workspace) -> bool {
    workspace.open_syncs.values().any(|sync| sync.purpose == SyncPurpose::Seed)
}

#[cfg(test)]
mod tests {
    use super::sync_destination;

    #[test]
    fn destinations_stay_in_the_workspace() {
        for (text, expected) in [
            ("/workspace", "/workspace"),
            ("/workspace/", "/workspace"),
            ("/workspace//a/./b/", "/workspace/a/b"),
            ("a/b", "/workspace/a/b"),
            (".", "/workspace"),
            ("workspace", "/workspace/workspace"),
        ] {
            assert_eq!(sync_destination(text).as_deref(), Ok(expected), "{text:?}");
        }
        for text in ["", "/", "/etc", "/workspacex", "..", "a/../b", "/workspace/..", "a\0b"] {
            assert!(sync_destination(text).is_err(), "{text:?}");
        }
    }
}
