//! Responses, with exactly the keys of the contract. Keys that `skip_serializing_if` leaves out appear only when they
//! have something to say.

mod access;
mod mount;
mod shell;
mod tree;
mod workspace;

use std::collections::BTreeMap;

use pyro_core::Face;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::captured::{CapturedOutput, CapturedStream};

pub use access::AccessRefusedResult;
pub use mount::{MountObject, UmountResult};
pub use shell::{
    ShellCloseResult, ShellFollowEnd, ShellList, ShellObject, ShellReadResult, ShellSignalResult,
    ShellWriteResult,
};
pub use tree::TreePart;
pub use workspace::{
    CommandRecord, ExecOutcome, ExecResult, LastCommand, LogEntry, SyncResult, WorkspaceDeleteResult,
    WorkspaceList, WorkspaceLogs, WorkspaceLogsEnd, WorkspaceObject, WorkspaceSeed, WorkspaceSync,
};

const fn is_false(value: &bool) -> bool {
    !*value
}

const fn is_zero(value: &u64) -> bool {
    *value == 0
}

/// How a command in a VM ended, without its output, which went over the socket before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunOutcome {
    /// The VM.
    pub vm_id: String,
    /// Its environment.
    pub environment: String,
    /// Version of the environment.
    pub environment_version: Option<String>,
    /// The command line that `/bin/sh -lc` got.
    pub command: String,
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
    /// What became of the VM.
    pub cleanup: Cleanup,
    /// Length of standard output, in bytes.
    pub stdout_bytes: u64,
    /// Length of standard error, in bytes.
    pub stderr_bytes: u64,
}

/// What became of a VM after its command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Cleanup {
    /// The VM.
    pub vm_id: String,
    /// Whether it is deleted.
    pub deleted: bool,
    /// Why.
    pub reason: String,
}

/// How a command in a VM ended, with its output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RunResult {
    /// The VM.
    pub vm_id: String,
    /// Its environment.
    pub environment: String,
    /// Version of the environment.
    pub environment_version: Option<String>,
    /// The command line that `/bin/sh -lc` got.
    pub command: String,
    /// Exit code; 128 and the signal's number after a signal, 124 after the timeout.
    pub exit_code: u8,
    /// Run time as measured in the guest, in milliseconds.
    pub duration_ms: u64,
    /// How the command got into the guest: `guest_vsock` or `host_compat`.
    pub execution_mode: String,
    /// What became of the VM.
    pub cleanup: Cleanup,
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

impl RunResult {
    /// Joins the end of a command with its output.
    #[must_use]
    pub fn new(outcome: RunOutcome, output: CapturedOutput) -> Self {
        Self {
            vm_id: outcome.vm_id,
            environment: outcome.environment,
            environment_version: outcome.environment_version,
            command: outcome.command,
            exit_code: outcome.exit_code,
            duration_ms: outcome.duration_ms,
            execution_mode: outcome.execution_mode,
            cleanup: outcome.cleanup,
            signal: outcome.signal,
            timed_out: outcome.timed_out,
            output: output.into_text(),
        }
    }
}

/// What a command printed, as text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OutputText {
    /// Standard output: all of it, or beginning and end.
    pub stdout: String,
    /// Standard error: all of it, or beginning and end.
    pub stderr: String,
    /// Present when the middle of standard output is left out.
    #[serde(default, skip_serializing_if = "is_false")]
    pub stdout_truncated: bool,
    /// Length of all of standard output in bytes, when part of it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdout_bytes: Option<u64>,
    /// Present when standard output was not UTF-8 and bytes of it are replaced.
    #[serde(default, skip_serializing_if = "is_false")]
    pub stdout_lossy: bool,
    /// Present when the middle of standard error is left out.
    #[serde(default, skip_serializing_if = "is_false")]
    pub stderr_truncated: bool,
    /// Length of all of standard error in bytes, when part of it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stderr_bytes: Option<u64>,
    /// Present when standard error was not UTF-8 and bytes of it are replaced.
    #[serde(default, skip_serializing_if = "is_false")]
    pub stderr_lossy: bool,
}

impl OutputText {
    /// Makes text of what was kept of both streams.
    #[must_use]
    pub fn new(stdout: CapturedStream, stderr: CapturedStream) -> Self {
        let (stdout, stderr) = (stdout.into_text(), stderr.into_text());
        Self {
            stdout_truncated: stdout.truncated,
            stdout_bytes: stdout.truncated.then_some(stdout.len_bytes),
            stdout_lossy: stdout.lossy,
            stdout: stdout.text,
            stderr_truncated: stderr.truncated,
            stderr_bytes: stderr.truncated.then_some(stderr.len_bytes),
            stderr_lossy: stderr.lossy,
            stderr: stderr.text,
        }
    }
}

/// The catalog of environments.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EnvList {
    /// Version of the catalog.
    pub catalog_version: String,
    /// The environments, sorted by name.
    pub environments: Vec<EnvObject>,
}

/// An environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EnvObject {
    /// Stable name, such as `debian:12`.
    pub name: String,
    /// Version of its recipe.
    pub version: String,
    /// One sentence about it.
    pub description: String,
    /// Name of the distribution.
    pub distribution: String,
    /// Version of the distribution.
    pub distribution_version: String,
    /// Operating system and processor.
    pub platform: String,
    /// Range of versions of pyro that have it.
    pub compatibility: String,
    /// Version of the catalog.
    pub catalog_version: String,
    /// Packages that are there for sure.
    pub default_packages: Vec<String>,
    /// Directory of all environments.
    pub cache_dir: String,
    /// Directory of its installation, there or not.
    pub install_dir: String,
    /// Host of the registry that it comes from; `None` when it is built here.
    pub oci_registry: Option<String>,
    /// Repository there.
    pub oci_repository: Option<String>,
    /// Tag or digest there.
    pub oci_reference: Option<String>,
    /// SHA-256 of the root file system, in hexadecimal; `None` when it is built here.
    pub source_digest: Option<String>,
    /// Whether it can be used without a pull.
    pub installed: bool,
    /// Manifest of the installation; only there when it is installed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub install_manifest: Option<String>,
}

/// An installed environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PullResult {
    /// The environment.
    #[serde(flatten)]
    pub environment: EnvObject,
    /// Its kernel.
    pub kernel_image: String,
    /// Its root file system.
    pub rootfs_image: String,
    /// Where it came from.
    pub source: String,
}

/// What was removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PruneResult {
    /// The directories, sorted.
    pub deleted_environment_dirs: Vec<String>,
    /// How many.
    pub count: u64,
}

/// A VM.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct VmObject {
    /// Its id.
    pub vm_id: String,
    /// Its environment.
    pub environment: String,
    /// Version of the environment.
    pub environment_version: Option<String>,
    /// Where it is in its life, such as `created`, `started` or `stopped`.
    pub state: String,
    /// Virtual CPUs.
    pub vcpu_count: u32,
    /// Memory in MiB.
    pub mem_mib: u64,
    /// Time to live in seconds; 0 for no end.
    pub ttl_seconds: u64,
    /// When it was created, in seconds since 1970.
    pub created_at: f64,
    /// When its time to live is over, in seconds since 1970; `null` for never.
    pub expires_at: Option<f64>,
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
    /// More about it, such as `backend` and `accelerator`.
    pub metadata: BTreeMap<String, String>,
}

/// A deleted VM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeleteResult {
    /// The VM.
    pub vm_id: String,
    /// Always true.
    pub deleted: bool,
    /// Why.
    pub reason: String,
}

/// VMs and workspaces that were deleted because their time to live was over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReapResult {
    /// Ids of the VMs, sorted.
    pub deleted_vm_ids: Vec<String>,
    /// Ids of the workspaces, sorted; only there when there are some.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deleted_workspace_ids: Vec<String>,
    /// How many of both.
    pub count: u64,
}

/// The network of a VM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum NetworkInfo {
    /// It has outbound access.
    Connected(ConnectedNetwork),
    /// It has loopback only.
    None(NoNetwork),
}

/// The network of a VM with outbound access.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConnectedNetwork {
    /// The VM.
    pub vm_id: String,
    /// Always true.
    pub network_enabled: bool,
    /// Its network device on the host; `null` with user-mode networking.
    pub tap_name: Option<String>,
    /// Address of the guest.
    pub guest_ip: String,
    /// Address of the gateway.
    pub gateway_ip: String,
    /// The network that both are in.
    pub subnet_cidr: String,
    /// Hardware address of the guest.
    pub mac_address: String,
    /// Name servers that the guest uses.
    pub dns_servers: Vec<String>,
    /// Whether connections to the outside should succeed.
    pub outbound_connectivity_expected: bool,
}

/// The network of a VM with loopback only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NoNetwork {
    /// The VM.
    pub vm_id: String,
    /// Always false.
    pub network_enabled: bool,
    /// Always false.
    pub outbound_connectivity_expected: bool,
    /// Why there is none.
    pub reason: String,
}

/// An event of the log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LogEvent {
    /// Its position in the log; the first is 1.
    pub seq: u64,
    /// When it happened, as in RFC 3339, in UTC.
    pub at: String,
    /// Who asked.
    pub actor: EventActor,
    /// What happened, in one word.
    pub kind: String,
    /// The workspace or VM that it is about; `null` for the whole host.
    pub workspace_id: Option<String>,
    /// The request that led to it; `null` for what was observed.
    pub request_id: Option<String>,
    /// More about it; the keys depend on the kind.
    pub data: serde_json::Value,
    /// Version of the record; only where it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u16>,
    /// Its hash in hexadecimal, which stands for all events up to it; only where it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
}

/// One event, and what it has to do with others.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LogExplanation {
    /// The event, with version and hash.
    pub event: LogEvent,
    /// What events of this kind mean, for people.
    pub meaning: String,
    /// Hash of the event before it, in hexadecimal; zeros for the first one.
    pub previous_hash: String,
    /// All events that the same request caused, this one among them; empty for what was observed.
    pub request: Vec<LogEvent>,
    /// The last event of the same workspace before it; `null` when there is none.
    pub workspace_before: Option<LogEvent>,
    /// The next event of the same workspace; `null` when there is none.
    pub workspace_after: Option<LogEvent>,
}

/// What compacting the log did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LogCompactResult {
    /// The first event that is kept.
    pub first_seq: u64,
    /// What was dropped, or would be; `null` when there is nothing to drop.
    pub dropped: Option<LogDropped>,
    /// The event that says so; `null` when nothing was dropped.
    pub signed_off_seq: Option<u64>,
}

/// Events that are dropped from the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LogDropped {
    /// The first of them.
    pub from_seq: u64,
    /// How many they are.
    pub events: u64,
    /// How many segment files held them.
    pub segments: u64,
    /// Length of these files, in bytes.
    pub bytes: u64,
    /// When the first of the events was accepted, as in RFC 3339.
    pub since: String,
    /// When the last of them was accepted, as in RFC 3339.
    pub until: String,
    /// Hash of the last of them, in hexadecimal: what continues the chain in the first event that is kept.
    pub hash: String,
}

/// Where the log ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LogHead {
    /// Number of the last event; 0 for an empty log.
    pub seq: u64,
    /// Its hash in hexadecimal, which stands for all events up to it.
    pub hash: String,
    /// Digest of the state that these events give, in hexadecimal. It depends on the version of the program.
    pub state_digest: String,
}

/// Who asked for something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EventActor {
    /// The way in: `daemon`, `cli`, `mcp`, `python` or `fuse`.
    #[serde(with = "crate::message::face")]
    #[schemars(with = "String")]
    pub face: Face,
    /// User id.
    pub uid: u32,
    /// Process id.
    pub pid: u32,
    /// What the client called itself.
    pub client: String,
}

/// The end of the events that were asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LogEnd {
    /// Position of the last event; 0 for an empty log.
    pub head_seq: u64,
}

/// What this host can do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DoctorReport {
    /// Platform of the guests.
    pub platform: String,
    /// Whether pyro has all parts of its own.
    pub runtime_ok: bool,
    /// What is wrong or missing and what to do about it, one sentence each.
    pub issues: Vec<String>,
    /// The device `/dev/kvm`.
    pub kvm: KvmReport,
    /// Networks of guests.
    pub networking: NetworkingReport,
    /// Parts of pyro; absent when they are not complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime: Option<RuntimeReport>,
    /// The backend that the next guest will get; `null` when there is none.
    pub backend: Option<String>,
    /// The accelerator that the next guest will get; `null` when there is none.
    pub accelerator: Option<String>,
    /// Every way to run guests, best first.
    pub backends: Vec<BackendReport>,
    /// Time from the start of the VMM to the agent's first word at the last boot, in milliseconds.
    pub last_boot_ms: Option<u64>,
    /// Programs of the host that pyro calls.
    pub tools: Vec<ToolReport>,
}

/// The device `/dev/kvm`. That it opens does not prove that a guest boots with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KvmReport {
    /// It is there.
    pub exists: bool,
    /// It can be opened for reading.
    pub readable: bool,
    /// It can be opened for writing.
    pub writable: bool,
}

/// Networks of guests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NetworkingReport {
    /// Whether guests get a network without being asked.
    pub enabled_by_default: bool,
    /// Whether `/dev/net/tun` is there.
    pub tun_available: bool,
    /// Whether the host forwards packets.
    pub ip_forward_enabled: bool,
    /// Path of `ip`.
    pub ip_binary: Option<String>,
    /// Path of `nft`.
    pub nft_binary: Option<String>,
    /// Path of `iptables`.
    pub iptables_binary: Option<String>,
}

/// Parts of pyro.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RuntimeReport {
    /// Directory of the installation.
    pub bundle_root: String,
    /// What describes it.
    pub manifest_path: String,
    /// Path of `firecracker`.
    pub firecracker_bin: String,
    /// Path of `jailer`.
    pub jailer_bin: String,
    /// Path of the guest agent.
    pub guest_agent_path: Option<String>,
    /// Path of the guest's init; `null` when the agent is the init.
    pub guest_init_path: Option<String>,
    /// Directory of what is shipped for guests.
    pub artifacts_dir: String,
    /// Path of the licences.
    pub notice_path: String,
    /// Whether that directory is complete.
    pub artifacts_present: bool,
    /// Version of the installation.
    pub bundle_version: String,
    /// Versions of the programs in it and of those that it uses.
    pub component_versions: BTreeMap<String, String>,
    /// What guests can do.
    pub capabilities: Capabilities,
    /// Version of the catalog of environments.
    pub catalog_version: String,
    /// Directory of all environments.
    pub cache_dir: String,
    /// The environments, sorted by name.
    pub environments: Vec<EnvObject>,
}

/// What guests can do on this host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Capabilities {
    /// A VM boots.
    pub supports_vm_boot: bool,
    /// Commands run in it.
    pub supports_guest_exec: bool,
    /// It can have outbound network access.
    pub supports_guest_network: bool,
    /// Why something of it is not possible.
    pub reason: Option<String>,
}

/// One way to run guests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BackendReport {
    /// Name of the backend: `firecracker`, `qemu` or `host_sandbox`.
    pub backend: String,
    /// What executes the guest's instructions: `kvm`, `tcg` or `native`.
    pub accelerator: String,
    /// What is known of it: `works`, `fails`, `untested` or `missing`.
    pub verdict: String,
    /// Why it cannot be used or was not tried, or what it means to use it.
    pub reason: Option<String>,
    /// What to install or to change to make it work.
    pub remedy: Option<String>,
    /// Its guests can have a network.
    pub network: bool,
    /// Time of its last boot in milliseconds.
    pub boot_ms: Option<u64>,
}

/// A program of the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ToolReport {
    /// Its file name.
    pub name: String,
    /// Where it is; `null` when it is nowhere.
    pub path: Option<String>,
    /// What brings it, for people: a Debian package in most cases.
    pub package: String,
}

/// The daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DaemonStatus {
    /// Its process id.
    pub pid: u32,
    /// Its version.
    pub version: String,
    /// Version of what goes over its socket.
    pub api: u32,
    /// The home that it owns.
    pub home: String,
    /// The file that it writes its own messages to.
    pub log_file: String,
    /// How long it has been running, in seconds.
    pub uptime_seconds: u64,
    /// Position of the last event; 0 for an empty log.
    pub head_seq: u64,
    /// How many guests run, boot or stop.
    pub guests: u64,
    /// How many workspaces and VMs there are.
    pub workspaces: u64,
    /// How many clients are connected, this one included.
    pub clients: u64,
    /// Where the tree of files is mounted.
    pub mounts: Vec<MountObject>,
}

/// The end of a daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DaemonStopped {
    /// Its process id; it ends right after the answer.
    pub pid: u32,
}
