//! What happens to shells.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::{ExitStatus, StreamSummary};
use crate::ids::{ShellId, WorkspaceId};

/// Size of a terminal, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalSize {
    /// Width.
    pub columns: u16,
    /// Height.
    pub rows: u16,
}

/// A shell shall be opened; the guest has not been asked yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShellRequested {
    /// Where.
    pub workspace: WorkspaceId,
    /// Its id.
    pub shell: ShellId,
    /// Directory that it begins in; absolute.
    pub cwd: String,
    /// Size of its terminal.
    pub size: TerminalSize,
}

/// The guest runs the shell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShellStarted {
    /// Where.
    pub workspace: WorkspaceId,
    /// Which one.
    pub shell: ShellId,
    /// Process id in the guest. Reported by the guest, not verified.
    pub guest_pid: u32,
}

/// The shell never ran.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShellFailed {
    /// Where.
    pub workspace: WorkspaceId,
    /// Which one.
    pub shell: ShellId,
    /// Why, for people.
    pub reason: String,
}

/// The shell ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShellExited {
    /// Where.
    pub workspace: WorkspaceId,
    /// Which one.
    pub shell: ShellId,
    /// How; never [`ExitStatus::TimedOut`].
    pub status: ExitStatus,
    /// All that its terminal showed.
    pub output: StreamSummary,
}

/// What became of the shell cannot be known any more: its guest is gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShellLost {
    /// Where.
    pub workspace: WorkspaceId,
    /// Which one.
    pub shell: ShellId,
    /// What was seen, for people.
    pub reason: String,
    /// The part of its output that the host has; `None` when nothing had been received.
    pub output: Option<StreamSummary>,
}

/// Somebody types; the guest has not been given it yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShellInput {
    /// Where.
    pub workspace: WorkspaceId,
    /// Into which one.
    pub shell: ShellId,
    /// Position of the first byte in all input of the shell.
    pub offset: u64,
    /// The bytes; at least one.
    pub data: Vec<u8>,
}

/// The terminal has another size from now on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShellResized {
    /// Where.
    pub workspace: WorkspaceId,
    /// Which one.
    pub shell: ShellId,
    /// The size.
    pub size: TerminalSize,
}

/// Somebody sends a signal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShellSignaled {
    /// Where.
    pub workspace: WorkspaceId,
    /// To which one.
    pub shell: ShellId,
    /// Which signal.
    pub signal: ShellSignal,
}

/// A signal that can be sent to a shell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ShellSignal {
    /// Hangs the terminal up: the shell and its foreground job get SIGHUP.
    Hup,
    /// Interrupts the foreground job.
    Int,
    /// Asks the foreground job to end.
    Term,
    /// Ends the shell with all that it started.
    Kill,
}

impl ShellSignal {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Hup, Self::Int, Self::Term, Self::Kill];

    /// Returns the name in the contract, without `SIG`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hup => "HUP",
            Self::Int => "INT",
            Self::Term => "TERM",
            Self::Kill => "KILL",
        }
    }
}

/// The shell is about to be closed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShellClosing {
    /// Where.
    pub workspace: WorkspaceId,
    /// Which one.
    pub shell: ShellId,
}

/// The shell is closed: it does not exist any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShellClosed {
    /// Where.
    pub workspace: WorkspaceId,
    /// Which one.
    pub shell: ShellId,
}
