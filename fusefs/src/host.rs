//! What the tree needs from the daemon that serves it.

use std::fmt;
use std::io;
use std::sync::Arc;

use pyro_core::{Envelope, ExecNumber, Shell, ShellId, ShellSignal, TerminalSize, Workspace, WorkspaceId};

use crate::history::ExecRecord;
use crate::live::Files;

/// The daemon: it has the words of the contract, and it decides.
pub trait Host: fmt::Debug + Send + Sync + 'static {
    /// Returns an event as the line of JSON that `pyro log --json` prints, without a line end. The same event gives the
    /// same line.
    fn event(&self, envelope: &Envelope) -> String;

    /// Returns a workspace as JSON.
    fn workspace(&self, id: WorkspaceId, workspace: &Workspace) -> String;

    /// Returns a command as one line of JSON without a line end. The same record gives the same line.
    fn exec(&self, workspace: WorkspaceId, record: &ExecRecord) -> String;

    /// Returns a shell as JSON.
    fn shell(&self, workspace: WorkspaceId, id: ShellId, shell: &Shell) -> String;

    /// Returns what was installed as an environment, by its name; `None` when it was removed since.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    fn manifest(&self, environment: &str) -> io::Result<Option<Vec<u8>>>;

    /// Returns the files in the guests of workspaces.
    fn files(&self) -> Arc<dyn Files>;

    /// Carries out a wish. `done` is called once, from any thread, when it is durable or refused; until then the writer
    /// waits.
    fn perform(&self, wish: Wish, writer: Writer, done: Done);
}

/// Takes what became of a wish. A wish for a command gives the command's number.
pub type Done = Box<dyn FnOnce(Result<Option<ExecNumber>, Refusal>) + Send>;

/// Who writes, by what the kernel says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Writer {
    /// User id.
    pub uid: u32,
    /// Process id.
    pub pid: u32,
}

/// What somebody wants who writes into a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Run a command in a workspace.
    Exec {
        /// Where.
        workspace: WorkspaceId,
        /// Text for `/bin/sh -lc`.
        command: String,
        /// Time after which it is ended, in seconds; `None` for that of the contract.
        timeout_seconds: Option<u64>,
    },
    /// Boot the guest of a workspace.
    Start(WorkspaceId),
    /// Stop the guest of a workspace.
    Stop(WorkspaceId),
    /// Delete a workspace.
    Delete(WorkspaceId),
    /// Type into a shell.
    Type {
        /// Where.
        workspace: WorkspaceId,
        /// Into which one.
        shell: ShellId,
        /// What.
        data: Vec<u8>,
    },
    /// Send a signal to a shell.
    Signal {
        /// Where.
        workspace: WorkspaceId,
        /// To which one.
        shell: ShellId,
        /// Which signal.
        signal: ShellSignal,
    },
    /// Give a shell's terminal another size.
    Resize {
        /// Where.
        workspace: WorkspaceId,
        /// Which one.
        shell: ShellId,
        /// The size.
        size: TerminalSize,
    },
    /// Close a shell.
    Close {
        /// Where.
        workspace: WorkspaceId,
        /// Which one.
        shell: ShellId,
    },
}

/// Why a wish was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// What the writer can do about it.
    pub kind: RefusalKind,
    /// Why, for people.
    pub message: String,
}

/// What the writer can do about a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalKind {
    /// Write something else.
    Invalid,
    /// Nothing: what it is about is gone.
    Gone,
    /// Wait until it is in another state.
    WrongState,
    /// Try again later.
    NoRoom,
    /// Free some space.
    StorageFull,
    /// Look after the daemon.
    Failed,
}
