//! Actions: effects that must follow once an event is durable.

use crate::ids::{ExecNumber, WorkspaceId};

/// Something to do outside the log. An action is data; the daemon's drivers perform it and report what came of it as
/// a `Record…` command. Replay drops actions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Boot the guest of a workspace.
    Boot {
        /// Which one.
        workspace: WorkspaceId,
    },
    /// Send a command to a started guest.
    Exec {
        /// Where.
        workspace: WorkspaceId,
        /// Which one.
        exec: ExecNumber,
    },
    /// End a command with everything it started.
    KillExec {
        /// Where.
        workspace: WorkspaceId,
        /// Which one.
        exec: ExecNumber,
    },
    /// Stop the guest; its disk stays.
    Stop {
        /// Which one.
        workspace: WorkspaceId,
    },
    /// Stop the guest if there is one and remove all that the workspace has on disk.
    Delete {
        /// Which one.
        workspace: WorkspaceId,
    },
    /// Find the guest of an earlier daemon and go on with its open execs, or record that it is gone.
    Adopt {
        /// Which one.
        workspace: WorkspaceId,
    },
    /// Remove what an earlier daemon left of a boot that it did not finish, and record the failure.
    AbandonBoot {
        /// Which one.
        workspace: WorkspaceId,
    },
}

impl Action {
    /// Returns the workspace whose driver performs the action.
    #[must_use]
    pub const fn workspace(&self) -> WorkspaceId {
        match self {
            Self::Boot { workspace }
            | Self::Exec { workspace, .. }
            | Self::KillExec { workspace, .. }
            | Self::Stop { workspace }
            | Self::Delete { workspace }
            | Self::Adopt { workspace }
            | Self::AbandonBoot { workspace } => *workspace,
        }
    }
}
