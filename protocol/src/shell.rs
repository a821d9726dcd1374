//! Shells: commands on a terminal, which take input. Since generation 2.
//!
//! A shell is an operation. It is followed, acknowledged, killed and forgotten as a command is; what the terminal shows
//! is its stdout, and its stderr stays empty.

use bytes::{Buf as _, Bytes};
use serde::{Deserialize, Serialize};

/// Most bytes of data in one [`Input`].
pub const INPUT_DATA_MAX: usize = 64 * 1024;

/// Most bytes of input that the agent holds for a shell whose job does not read. A host that keeps the bound never sees
/// a connection end because of it.
pub const INPUT_HELD_MAX: usize = 1024 * 1024;

/// A shell to open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shell {
    /// The host's number of the operation, among those of commands.
    pub op: u64,
    /// Absolute path of the working directory.
    pub cwd: String,
    /// Whether a missing `cwd` is made, with its parents, instead of being a failure.
    pub create_cwd: bool,
    /// Variables laid over the agent's base environment, in this order.
    pub env: Vec<(String, String)>,
    /// Size of the terminal.
    pub size: TerminalSize,
}

/// Size of a terminal, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalSize {
    /// Width.
    pub columns: u16,
    /// Height.
    pub rows: u16,
}

/// Bytes that are typed into a shell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    /// Position of the first byte in all input of the shell.
    pub offset: u64,
    /// The bytes; 1 to [`INPUT_DATA_MAX`].
    pub data: Bytes,
}

impl Input {
    pub(crate) fn decode(mut body: Bytes) -> Option<Self> {
        let offset = body.try_get_u64_le().ok()?;
        (!body.is_empty() && body.len() <= INPUT_DATA_MAX).then_some(Self { offset, data: body })
    }

    pub(crate) fn encode(&self, into: &mut Vec<u8>) {
        into.extend_from_slice(&self.offset.to_le_bytes());
        into.extend_from_slice(&self.data);
    }
}

/// How far the input of a shell has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputProgress {
    /// The agent has the bytes before this position.
    pub received: u64,
    /// The terminal has taken the bytes before this position.
    pub consumed: u64,
}
