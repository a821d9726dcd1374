//! Refusals: why a command was not accepted. Nothing is written for a refused command.

use alloc::string::String;

use crate::environment::CATALOG;
use crate::ids::{ExecNumber, ShellId, WorkspaceId};

/// Why a command was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// The catalog has no such environment.
    #[error("unknown environment {name:?}; known: {}", known_environments())]
    UnknownEnvironment {
        /// What was asked for.
        name: String,
    },
    /// No such workspace or VM exists now.
    #[error("{workspace} does not exist")]
    UnknownWorkspace {
        /// What was asked for.
        workspace: WorkspaceId,
    },
    /// The id is taken; the caller draws another.
    #[error("{workspace} exists already")]
    WorkspaceExists {
        /// The id.
        workspace: WorkspaceId,
    },
    /// The workspace has no unfinished exec of that number.
    #[error("{workspace} has no unfinished exec {exec}")]
    UnknownExec {
        /// Where.
        workspace: WorkspaceId,
        /// What was asked for.
        exec: ExecNumber,
    },
    /// The workspace has no such shell, or it was closed.
    #[error("no shell {shell} exists in {workspace}")]
    UnknownShell {
        /// Where.
        workspace: WorkspaceId,
        /// What was asked for.
        shell: ShellId,
    },
    /// The id is taken; the caller draws another.
    #[error("shell {shell} exists already")]
    ShellExists {
        /// The id.
        shell: ShellId,
    },
    /// The shell is not in a state that allows the operation.
    #[error("cannot {operation} shell {shell}: it is {phase}")]
    WrongShellPhase {
        /// Which one.
        shell: ShellId,
        /// What was asked for.
        operation: &'static str,
        /// The state it is in.
        phase: &'static str,
    },
    /// A number is outside its bounds.
    #[error("{field} must be between {min} and {max}, not {value}")]
    OutOfRange {
        /// Name of the argument in the contract.
        field: &'static str,
        /// What was asked for.
        value: u64,
        /// Least allowed value.
        min: u64,
        /// Greatest allowed value.
        max: u64,
    },
    /// A text breaks the rule for it.
    #[error("{field} must be {rule}")]
    InvalidText {
        /// Name of the argument in the contract.
        field: &'static str,
        /// What it must be.
        rule: &'static str,
    },
    /// Another workspace has the name.
    #[error("{workspace} has the name {name} already")]
    NameTaken {
        /// The name.
        name: String,
        /// Who has it.
        workspace: WorkspaceId,
    },
    /// There is nothing to run.
    #[error("the command must not be empty")]
    EmptyCommand,
    /// The command line holds a NUL byte, which no program can receive.
    #[error("the command must not contain NUL bytes")]
    NulInCommand,
    /// The command line is too long.
    #[error("the command is {len} bytes long; at most {max} are possible")]
    CommandTooLong {
        /// Its length, in bytes.
        len: u64,
        /// Greatest allowed length, in bytes.
        max: u64,
    },
    /// The workspace is not in a state that allows the operation.
    #[error("cannot {operation} {workspace}: it is {phase}")]
    WrongPhase {
        /// Which one.
        workspace: WorkspaceId,
        /// What was asked for.
        operation: &'static str,
        /// The state it is in.
        phase: &'static str,
    },
    /// A bound on the host's resources is reached.
    #[error("{what}: {used} of {max} in use, {wanted} more wanted")]
    LimitReached {
        /// What is bounded.
        what: &'static str,
        /// How much is in use.
        used: u64,
        /// How much was asked for.
        wanted: u64,
        /// The bound.
        max: u64,
    },
    /// A reported fact is not news: it was recorded before, or something else happened meanwhile.
    #[error("already recorded or overtaken")]
    Stale,
}

fn known_environments() -> String {
    let mut text = String::new();
    for entry in CATALOG {
        if !text.is_empty() {
            text.push_str(", ");
        }
        text.push_str(entry.name);
    }
    text
}
