//! Responses about workspaces.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{OutputText, is_false};
use crate::captured::CapturedOutput;

/// A workspace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WorkspaceObject {
    /// Its id.
    pub workspace_id: String,
    /// Its environment.
    pub environment: String,
    /// Version of the environment.
    pub environment_version: Option<String>,
    /// Virtual CPUs.
    pub vcpu_count: u32,
    /// Memory in MiB.
    pub mem_mib: u64,
    /// Time to live from its creation, in seconds; 0 for no end.
    pub ttl_seconds: u64,
    /// When it was created, in seconds since 1970.
    pub created_at: f64,
    /// When its time to live is over, in seconds since 1970; `null` for never.
    pub expires_at: Option<f64>,
    /// Where it is in its life: `starting`, `started`, `stopping`, `stopped` or `deleting`.
    pub state: String,
    /// Whether it has outbound network access.
    pub network_enabled: bool,
    /// Whether namespaces of the host's kernel were accepted in place of a VM.
    pub allow_host_compat: bool,
    /// Its address; `null` when it has none that the host could use.
    pub guest_ip: Option<String>,
    /// Its network device on the host; `null` when it has none.
    pub tap_name: Option<String>,
    /// How commands get into the guest: `pending`, `guest_vsock` or `host_compat`.
    pub execution_mode: String,
    /// The directory of its files, in the guest.
    pub workspace_path: String,
    /// What it was filled with when it was created.
    pub workspace_seed: WorkspaceSeed,
    /// How many commands were run in it.
    pub command_count: u32,
    /// The command that exited last; `null` before the first.
    pub last_command: Option<LastCommand>,
    /// More about it, such as `backend`, `accelerator` and, when it is stopped, `stop_reason`.
    pub metadata: BTreeMap<String, String>,
    /// Its name; only there when it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its labels; only there when it has some.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// What a workspace was filled with when it was created.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WorkspaceSeed {
    /// The kind of source; `empty` for none.
    pub mode: String,
    /// The source on the host; `null` for none.
    pub seed_path: Option<String>,
    /// Where it went, in the guest.
    pub destination: String,
    /// How many files and directories it had.
    pub entry_count: u64,
    /// How many bytes its files had.
    pub bytes_written: u64,
}

/// Files that were brought into a workspace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SyncResult {
    /// The workspace.
    pub workspace_id: String,
    /// How commands get into its guest: `guest_vsock` or `host_compat`.
    pub execution_mode: String,
    /// What was brought.
    pub workspace_sync: WorkspaceSync,
}

/// What was brought into a workspace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WorkspaceSync {
    /// The kind of source: `directory` or `tar_archive`.
    pub mode: String,
    /// The source on the host.
    pub source_path: String,
    /// Where it went, in the guest.
    pub destination: String,
    /// How many files, directories and links it had; removals count as well.
    pub entry_count: u64,
    /// How many bytes its files had.
    pub bytes_written: u64,
}

/// The command that exited last in a workspace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LastCommand {
    /// Its number; the first is 1.
    pub sequence: u32,
    /// The command line that `/bin/sh -lc` got.
    pub command: String,
    /// The directory that it ran in.
    pub cwd: String,
    /// Exit code; 128 and the signal's number after a signal, 124 after the timeout.
    pub exit_code: u8,
    /// Run time as measured in the guest, in milliseconds.
    pub duration_ms: u64,
    /// How it got into the guest: `guest_vsock` or `host_compat`.
    pub execution_mode: String,
}

/// All workspaces.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WorkspaceList {
    /// How many.
    pub count: u64,
    /// They, oldest first.
    pub workspaces: Vec<WorkspaceObject>,
}

/// How a command in a workspace ended, without its output, which went over the socket before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecOutcome {
    /// The workspace.
    pub workspace_id: String,
    /// Its environment.
    pub environment: String,
    /// Version of the environment.
    pub environment_version: Option<String>,
    /// The command line that `/bin/sh -lc` got.
    pub command: String,
    /// Number of the command in its workspace; the first is 1.
    pub sequence: u32,
    /// The directory that it ran in.
    pub cwd: String,
    /// Exit code; 128 and the signal's number after a signal, 124 after the timeout.
    pub exit_code: u8,
    /// Name of the signal that ended it, such as `KILL`; `None` when none did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<String>,
    /// Whether the timeout ended it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub timed_out: bool,
    /// Run time as measured in the guest, in milliseconds.
    pub duration_ms: u64,
    /// How the command got into the guest: `guest_vsock` or `host_compat`.
    pub execution_mode: String,
    /// Length of standard output, in bytes.
    pub stdout_bytes: u64,
    /// Length of standard error, in bytes.
    pub stderr_bytes: u64,
}

/// How a command in a workspace ended, with its output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ExecResult {
    /// The workspace.
    pub workspace_id: String,
    /// Its environment.
    pub environment: String,
    /// Version of the environment.
    pub environment_version: Option<String>,
    /// The command line that `/bin/sh -lc` got.
    pub command: String,
    /// Number of the command in its workspace; the first is 1.
    pub sequence: u32,
    /// The directory that it ran in.
    pub cwd: String,
    /// Exit code; 128 and the signal's number after a signal, 124 after the timeout.
    pub exit_code: u8,
    /// Run time as measured in the guest, in milliseconds.
    pub duration_ms: u64,
    /// How the command got into the guest: `guest_vsock` or `host_compat`.
    pub execution_mode: String,
    /// Name of the signal that ended it, such as `KILL`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<String>,
    /// Present when the timeout ended it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub timed_out: bool,
    /// What it printed.
    #[serde(flatten)]
    pub output: OutputText,
}

impl ExecResult {
    /// Joins the end of a command with its output.
    #[must_use]
    pub fn new(outcome: ExecOutcome, output: CapturedOutput) -> Self {
        Self {
            workspace_id: outcome.workspace_id,
            environment: outcome.environment,
            environment_version: outcome.environment_version,
            command: outcome.command,
            sequence: outcome.sequence,
            cwd: outcome.cwd,
            exit_code: outcome.exit_code,
            duration_ms: outcome.duration_ms,
            execution_mode: outcome.execution_mode,
            signal: outcome.signal,
            timed_out: outcome.timed_out,
            output: output.into_text(),
        }
    }
}

/// A command that ended in a workspace, without its output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CommandRecord {
    /// Its number; the first is 1.
    pub sequence: u32,
    /// The command line that `/bin/sh -lc` got.
    pub command: String,
    /// The directory that it ran in.
    pub cwd: String,
    /// Exit code; 128 and the signal's number after a signal, 124 after the timeout; `null` when there is an `error`.
    pub exit_code: Option<u8>,
    /// Run time as measured in the guest, in milliseconds; 0 when it is not known.
    pub duration_ms: u64,
    /// How it got into the guest: `guest_vsock` or `host_compat`; `pending` when it did not.
    pub execution_mode: String,
    /// When its end was recorded, in seconds since 1970.
    pub recorded_at: f64,
    /// The file with its standard output, on the host; not there when it printed nothing.
    pub stdout_file: String,
    /// The file with its standard error, on the host; not there when it printed nothing.
    pub stderr_file: String,
    /// Name of the signal that ended it, such as `KILL`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<String>,
    /// Present when the timeout ended it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub timed_out: bool,
    /// Why there is no exit code: it never ran, or what became of it cannot be known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A command that ended in a workspace, with its output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LogEntry {
    /// The command.
    #[serde(flatten)]
    pub record: CommandRecord,
    /// What it printed.
    #[serde(flatten)]
    pub output: OutputText,
}

/// The commands that ended in a workspace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WorkspaceLogs {
    /// The workspace.
    pub workspace_id: String,
    /// How many there are here.
    pub count: u64,
    /// They, by their numbers.
    pub entries: Vec<LogEntry>,
}

/// The end of the commands that were asked for; they went over the socket before, each followed by its output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkspaceLogsEnd {
    /// The workspace.
    pub workspace_id: String,
    /// How many there were.
    pub count: u64,
}

/// A deleted workspace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WorkspaceDeleteResult {
    /// The workspace.
    pub workspace_id: String,
    /// Always true.
    pub deleted: bool,
    /// Why.
    pub reason: String,
}
