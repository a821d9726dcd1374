//! Responses about shells.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{is_false, is_zero};

/// A shell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ShellObject {
    /// Its workspace.
    pub workspace_id: String,
    /// Its id.
    pub shell_id: String,
    /// Directory that it began in.
    pub cwd: String,
    /// Width of its terminal in characters.
    pub cols: u16,
    /// Height of its terminal in characters.
    pub rows: u16,
    /// `running` or `stopped`.
    pub state: String,
    /// When it was opened, in seconds since 1970.
    pub started_at: f64,
    /// When it ended, in seconds since 1970; `null` while it runs.
    pub ended_at: Option<f64>,
    /// Exit code, 128 and the signal's number after a signal; `null` while it runs and when its guest went before it.
    pub exit_code: Option<u8>,
    /// How commands get into its guest: `guest_vsock` or `host_compat`.
    pub execution_mode: String,
    /// Why it stopped without an exit code; only there when it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// The shells of a workspace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ShellList {
    /// The workspace.
    pub workspace_id: String,
    /// How many.
    pub count: u64,
    /// They, oldest first.
    pub shells: Vec<ShellObject>,
}

/// What a shell printed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ShellReadResult {
    /// The shell.
    #[serde(flatten)]
    pub shell: ShellObject,
    /// Where the output begins: the cursor that was asked for, or the end when that lies before it. A number of bytes.
    pub cursor: u64,
    /// The cursor for what comes behind.
    pub next_cursor: u64,
    /// The output, in whole characters.
    pub output: String,
    /// Whether there is more behind it already.
    pub truncated: bool,
    /// How many bytes between `cursor` and the output are not there any more; only there when there are any.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub dropped_bytes: u64,
    /// Present when the output was not UTF-8 and bytes of it are replaced.
    #[serde(default, skip_serializing_if = "is_false")]
    pub output_lossy: bool,
    /// Present when what steers the terminal is left out.
    #[serde(default, skip_serializing_if = "is_false")]
    pub plain: bool,
}

/// The end of what a shell sent to a client that follows it or is attached to it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ShellFollowEnd {
    /// The shell.
    #[serde(flatten)]
    pub shell: ShellObject,
    /// The cursor behind what was sent.
    pub next_cursor: u64,
}

/// Text that was typed into a shell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ShellWriteResult {
    /// The shell.
    #[serde(flatten)]
    pub shell: ShellObject,
    /// Characters of the text, without Enter.
    pub input_length: u64,
    /// Whether Enter was typed behind it.
    pub append_newline: bool,
}

/// A signal that was sent to a shell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ShellSignalResult {
    /// The shell.
    #[serde(flatten)]
    pub shell: ShellObject,
    /// Which signal, without `SIG`.
    pub signal: String,
}

/// A shell that was closed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ShellCloseResult {
    /// The shell, as it was last.
    #[serde(flatten)]
    pub shell: ShellObject,
    /// Always true.
    pub closed: bool,
}
