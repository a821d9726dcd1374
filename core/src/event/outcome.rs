//! Events about how things came out: requests that had nothing to do, and work that an earlier daemon left open.

use alloc::string::String;

use serde::{Deserialize, Serialize};

use super::ExitStatus;
use crate::ids::{ExecNumber, ShellId, SyncNumber, WorkspaceId};

/// What a request asked for was so already. It is on record so that a repetition of the request gets this outcome, also
/// when it is not so any more by then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestMet {
    /// Whom it was about; `None` for the whole host.
    pub workspace: Option<WorkspaceId>,
    /// What was asked for, as a snake-case word.
    pub wish: String,
}

/// A daemon asked the guest what became of work that an earlier daemon had left open. Its outcome comes later, by this or
/// by what is seen then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperationResolved {
    /// Where.
    pub workspace: WorkspaceId,
    /// Which one.
    pub operation: Operation,
    /// What there was to see.
    pub evidence: Evidence,
}

/// Work in a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Operation {
    /// A command.
    Exec(ExecNumber),
    /// A shell.
    Shell(ShellId),
    /// Files on their way into the guest.
    Sync(SyncNumber),
}

/// What the journal of a guest's agent says of a piece of work, or why it says nothing. Reported by the guest, not
/// verified.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Evidence {
    /// The agent does not know it: it never reached the guest, and it never will.
    Unknown,
    /// It is under way.
    Running {
        /// Bytes of standard output so far, or of what a terminal showed.
        stdout_len: u64,
        /// Bytes of standard error so far.
        stderr_len: u64,
    },
    /// A command or shell ended.
    Exited {
        /// How.
        status: ExitStatus,
    },
    /// The files are in place.
    InPlace,
    /// It had no effect.
    Failed {
        /// Why, for people.
        reason: String,
    },
    /// The guest lives, and its agent did not answer.
    Silent {
        /// What was seen, for people.
        seen: String,
    },
    /// The guest is dead.
    GuestGone {
        /// What was seen, for people.
        seen: String,
    },
}
