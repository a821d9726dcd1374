//! Actions: effects that must follow once an event is durable.

use alloc::vec::Vec;

use crate::event::{ShellSignal, TerminalSize};
use crate::ids::{ExecNumber, ShellId, SyncNumber, WorkspaceId};

/// Something to do outside the log. An action is data; the daemon's drivers perform it and report what came of it as
/// a `Record…` command. Replay drops actions.
#[derive(Clone, Debug, PartialEq, Eq)]
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
    /// Open a shell in a started guest.
    OpenShell {
        /// Where.
        workspace: WorkspaceId,
        /// Which one.
        shell: ShellId,
    },
    /// Type into a shell.
    TypeInput {
        /// Where.
        workspace: WorkspaceId,
        /// Into which one.
        shell: ShellId,
        /// Position of the first byte in all input of the shell.
        offset: u64,
        /// The bytes.
        data: Vec<u8>,
    },
    /// Give a shell's terminal another size.
    ResizeShell {
        /// Where.
        workspace: WorkspaceId,
        /// Which one.
        shell: ShellId,
        /// The size.
        size: TerminalSize,
    },
    /// Send a signal to a shell.
    SignalShell {
        /// Where.
        workspace: WorkspaceId,
        /// To which one.
        shell: ShellId,
        /// Which signal.
        signal: ShellSignal,
    },
    /// Hang a shell up and end what is left of it after a while.
    CloseShell {
        /// Where.
        workspace: WorkspaceId,
        /// Which one.
        shell: ShellId,
    },
    /// Bring files into a started guest.
    Sync {
        /// Where.
        workspace: WorkspaceId,
        /// Which one.
        sync: SyncNumber,
    },
    /// End a sync; what it has brought so far is dropped.
    CancelSync {
        /// Where.
        workspace: WorkspaceId,
        /// Which one.
        sync: SyncNumber,
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
    /// Find the guest of an earlier daemon and go on with its open work, or record that it is gone.
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
            | Self::OpenShell { workspace, .. }
            | Self::TypeInput { workspace, .. }
            | Self::ResizeShell { workspace, .. }
            | Self::SignalShell { workspace, .. }
            | Self::CloseShell { workspace, .. }
            | Self::Sync { workspace, .. }
            | Self::CancelSync { workspace, .. }
            | Self::Stop { workspace }
            | Self::Delete { workspace }
            | Self::Adopt { workspace }
            | Self::AbandonBoot { workspace } => *workspace,
        }
    }
}
