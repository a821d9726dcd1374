//! Names of what commands and shells write.

use core::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::{ExecNumber, ShellId};

/// One of the two output streams of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    /// Returns the name, as it stands in file names.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

impl fmt::Display for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An output stream of a workspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum StreamId {
    /// What a command wrote to one of its two streams.
    Exec(ExecNumber, Stream),
    /// What the terminal of a shell showed.
    Shell(ShellId),
}

impl fmt::Display for StreamId {
    /// Writes the name, as it stands in file names.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exec(exec, stream) => write!(f, "{exec}.{stream}"),
            Self::Shell(shell) => write!(f, "shell-{shell}"),
        }
    }
}
