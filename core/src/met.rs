//! What stands in the log for a request that had nothing to do.

use crate::command::Command;
use crate::event::{Event, RequestMet};
use crate::ids::WorkspaceId;

/// Returns the record of a request that was accepted and led to no event; `None` for a command that nobody requests or
/// that always leads to one.
///
/// Without a record a repetition could not be told from a new request. It would be carried out when what was asked for
/// is not so any more.
#[must_use]
pub fn met(command: &Command) -> Option<Event> {
    let about = |workspace: &WorkspaceId, wish| (Some(*workspace), wish);
    let (workspace, wish) = match command {
        Command::StopWorkspace { workspace } => about(workspace, "stop_workspace"),
        Command::DeleteWorkspace { workspace, .. } => about(workspace, "delete_workspace"),
        Command::TypeInput { workspace, .. } => about(workspace, "type_input"),
        Command::ResizeShell { workspace, .. } => about(workspace, "resize_shell"),
        Command::CloseShell { workspace, .. } => about(workspace, "close_shell"),
        Command::ReapExpired { .. } => (None, "reap_expired"),
        Command::RecordEnvironmentsRemoved(_) => (None, "prune_environments"),
        Command::RecordDaemonStarted(_)
        | Command::RecordDaemonStopped(_)
        | Command::RecordLimits(_)
        | Command::RecordClock(_)
        | Command::RecordMounted(_)
        | Command::RecordUnmounted(_)
        | Command::RecordAccessRefused(_)
        | Command::RecordProbe(_)
        | Command::RecordEnvironmentInstalled(_)
        | Command::RecordEnvironmentInstallFailed(_)
        | Command::CreateWorkspace { .. }
        | Command::OpenWorkspace { .. }
        | Command::Run { .. }
        | Command::StartWorkspace { .. }
        | Command::RecordStarted(_)
        | Command::RecordStartFailed(_)
        | Command::RecordStopped(_)
        | Command::RecordDeleted { .. }
        | Command::RequestExec { .. }
        | Command::RecordExecStarted(_)
        | Command::RecordExecExited(_)
        | Command::RecordExecFailed(_)
        | Command::RecordExecLost(_)
        | Command::CancelExec { .. }
        | Command::OpenShell { .. }
        | Command::RecordShellStarted(_)
        | Command::RecordShellFailed(_)
        | Command::RecordShellExited(_)
        | Command::RecordShellLost(_)
        | Command::SignalShell { .. }
        | Command::RequestSync { .. }
        | Command::RecordSyncFinished(_)
        | Command::RecordSyncFailed(_)
        | Command::RecordSyncLost(_)
        | Command::CancelSync { .. }
        | Command::RecordResolved(_)
        | Command::RecordOutputDropped(_)
        | Command::CompactLog(_) => return None,
    };
    Some(Event::RequestMet(RequestMet { workspace, wish: wish.into() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Catches a request about a workspace whose record cannot be found among those of the workspace.
    #[test]
    fn the_record_names_whom_it_is_about() {
        let workspace = WorkspaceId::from_bytes([3; 6]);
        let told = met(&Command::StopWorkspace { workspace }).unwrap();
        assert_eq!((told.workspace(), told.kind()), (Some(workspace), "request_met"));
        assert_eq!(met(&Command::StartWorkspace { workspace }), None);
    }
}
