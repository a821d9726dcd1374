//! Requests. The documentation of a field is also its help on the command line and its description in schemas.

mod access;
mod log;
mod mount;
mod shell;
mod tree;
mod workspace;

use pyro_core::RequestId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[cfg(feature = "clap")]
use crate::request_id::parse_request_id;

pub use access::{AccessFault, AccessRefusedRequest};
pub use log::{LogCompactRequest, LogHeadRequest, LogRequest, LogShowRequest};
pub use mount::{MountRequest, UmountRequest};
pub use shell::{
    ShellAttachRequest, ShellCloseRequest, ShellFollowRequest, ShellListRequest, ShellOpenRequest,
    ShellReadRequest, ShellResizeRequest, ShellSignalRequest, ShellWriteRequest, WindowSize,
};
pub use tree::TreeReadRequest;
pub use workspace::{
    WorkspaceCreateRequest, WorkspaceDeleteRequest, WorkspaceExecRequest, WorkspaceListRequest,
    WorkspaceLogsRequest, WorkspaceStartRequest, WorkspaceStatusRequest, WorkspaceStopRequest,
    WorkspaceSyncPushRequest,
};

const VCPU_COUNT: u32 = 1;
const MEM_MIB: u64 = 1024;
const TIMEOUT_SECONDS: u64 = 30;
const TTL_SECONDS: u64 = 600;
const PLATFORM: &str = "linux-x86_64";

const fn vcpu_count() -> u32 {
    VCPU_COUNT
}

const fn mem_mib() -> u64 {
    MEM_MIB
}

const fn timeout_seconds() -> u64 {
    TIMEOUT_SECONDS
}

const fn ttl_seconds() -> u64 {
    TTL_SECONDS
}

fn platform() -> String {
    PLATFORM.to_owned()
}

/// Runs one command in a new VM and deletes the VM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
#[serde(deny_unknown_fields)]
pub struct RunRequest {
    /// Environment to run in, such as debian:12; `pyro env list` shows all of them
    #[cfg_attr(feature = "clap", arg(value_name = "ENVIRONMENT"))]
    pub environment: String,
    /// Command line for `/bin/sh -lc`
    #[cfg_attr(feature = "clap", arg(skip))]
    pub command: String,
    /// Virtual CPUs of the VM, 1 to 32
    #[serde(default = "vcpu_count")]
    #[cfg_attr(feature = "clap", arg(long, value_name = "N", default_value_t = VCPU_COUNT))]
    #[schemars(range(min = 1))]
    pub vcpu_count: u32,
    /// Memory of the VM in MiB, 128 up to what the host can spare
    #[serde(default = "mem_mib")]
    #[cfg_attr(feature = "clap", arg(long, value_name = "MIB", default_value_t = MEM_MIB))]
    #[schemars(range(min = 128))]
    pub mem_mib: u64,
    /// Time for the command in seconds; then it is killed with all it started, and the exit code is 124
    #[serde(default = "timeout_seconds")]
    #[cfg_attr(feature = "clap", arg(long, value_name = "SECONDS", default_value_t = TIMEOUT_SECONDS))]
    #[schemars(range(min = 1))]
    pub timeout_seconds: u64,
    /// Time to live of the VM in seconds, 60 to 2592000 (30 days); 0 sets no end
    #[serde(default = "ttl_seconds")]
    #[cfg_attr(feature = "clap", arg(long, value_name = "SECONDS", default_value_t = TTL_SECONDS))]
    pub ttl_seconds: u64,
    /// Give the guest outbound network access; without it there is loopback only
    #[serde(default)]
    #[cfg_attr(feature = "clap", arg(long))]
    pub network: bool,
    /// Accept namespaces of the host's kernel in place of a VM: a weaker border
    #[serde(default)]
    #[cfg_attr(feature = "clap", arg(long))]
    pub allow_host_compat: bool,
    /// Makes a repetition harmless: a second request with the same UUID gets the outcome of the first
    #[serde(default, with = "crate::request_id", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    #[cfg_attr(feature = "clap", arg(long, value_name = "UUID", value_parser = parse_request_id))]
    pub request_id: Option<RequestId>,
    /// What the client has of the output when it comes back on a new connection. A daemon that does not know the
    /// request refuses it then: the command ran, and nobody can tell any more what became of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    #[cfg_attr(feature = "clap", arg(skip))]
    pub resume: Option<Resume>,
}

impl RunRequest {
    /// Returns a request with the defaults of the contract.
    #[must_use]
    pub fn new(environment: impl Into<String>, command: impl Into<String>) -> Self {
        Self {
            environment: environment.into(),
            command: command.into(),
            vcpu_count: VCPU_COUNT,
            mem_mib: MEM_MIB,
            timeout_seconds: TIMEOUT_SECONDS,
            ttl_seconds: TTL_SECONDS,
            network: false,
            allow_host_compat: false,
            request_id: None,
            resume: None,
        }
    }
}

/// How much of each output stream a client has: sending goes on behind it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Resume {
    /// Bytes of standard output.
    pub stdout_offset: u64,
    /// Bytes of standard error.
    pub stderr_offset: u64,
}

macro_rules! empty_requests {
    ($($(#[$doc:meta])* $name:ident,)+) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
            #[serde(deny_unknown_fields)]
            pub struct $name {}
        )+
    };
}

empty_requests! {
    /// Lists the catalog of environments.
    EnvListRequest,
    /// Tells about the daemon.
    DaemonStatusRequest,
}

/// Removes what is left of old and unfinished installations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EnvPruneRequest {
    /// Makes a repetition harmless: a second request with the same UUID gets the outcome of the first
    #[serde(default, with = "crate::request_id", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub request_id: Option<RequestId>,
}

/// Ends the daemon in order; guests go on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DaemonStopRequest {
    /// Makes a repetition harmless: a second request with the same UUID gets the outcome of the first
    #[serde(default, with = "crate::request_id", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub request_id: Option<RequestId>,
}

/// Installs an environment, or repairs its installation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
#[serde(deny_unknown_fields)]
pub struct EnvPullRequest {
    /// Environment to install, such as debian:12
    #[cfg_attr(feature = "clap", arg(value_name = "ENVIRONMENT"))]
    pub environment: String,
    /// Makes a repetition harmless: a second request with the same UUID gets the outcome of the first
    #[serde(default, with = "crate::request_id", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    #[cfg_attr(feature = "clap", arg(long, value_name = "UUID", value_parser = parse_request_id))]
    pub request_id: Option<RequestId>,
}

/// Tells about one environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
#[serde(deny_unknown_fields)]
pub struct EnvInspectRequest {
    /// Environment to show, such as debian:12
    #[cfg_attr(feature = "clap", arg(value_name = "ENVIRONMENT"))]
    pub environment: String,
}

/// Creates a VM without starting it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VmCreateRequest {
    /// Environment of the VM, such as debian:12
    pub environment: String,
    /// Virtual CPUs, 1 to 32
    #[serde(default = "vcpu_count")]
    #[schemars(range(min = 1))]
    pub vcpu_count: u32,
    /// Memory in MiB, 128 up to what the host can spare
    #[serde(default = "mem_mib")]
    #[schemars(range(min = 128))]
    pub mem_mib: u64,
    /// Time to live in seconds, 60 to 2592000 (30 days); 0 sets no end
    #[serde(default = "ttl_seconds")]
    pub ttl_seconds: u64,
    /// Give the guest outbound network access; without it there is loopback only
    #[serde(default)]
    pub network: bool,
    /// Accept namespaces of the host's kernel in place of a VM: a weaker border
    #[serde(default)]
    pub allow_host_compat: bool,
    /// Makes a repetition harmless: a second request with the same UUID gets the outcome of the first
    #[serde(default, with = "crate::request_id", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub request_id: Option<RequestId>,
}

/// Runs one command in a started VM and deletes the VM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VmExecRequest {
    /// Id of the VM, or an unambiguous beginning of it of at least 4 characters
    pub vm_id: String,
    /// Command line for `/bin/sh -lc`
    pub command: String,
    /// Time for the command in seconds; then it is killed with all it started, and the exit code is 124
    #[serde(default = "timeout_seconds")]
    #[schemars(range(min = 1))]
    pub timeout_seconds: u64,
    /// Makes a repetition harmless: a second request with the same UUID gets the outcome of the first
    #[serde(default, with = "crate::request_id", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub request_id: Option<RequestId>,
    /// What the client has of the output when it comes back on a new connection
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    pub resume: Option<Resume>,
}

macro_rules! vm_requests {
    ($($(#[$doc:meta])* $name:ident,)+) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
            #[serde(deny_unknown_fields)]
            pub struct $name {
                /// Id of the VM, or an unambiguous beginning of it of at least 4 characters
                pub vm_id: String,
                /// Makes a repetition harmless: a second request with the same UUID gets the outcome of the first
                #[serde(default, with = "crate::request_id", skip_serializing_if = "Option::is_none")]
                #[schemars(with = "Option<String>")]
                pub request_id: Option<RequestId>,
            }
        )+
    };
}

vm_requests! {
    /// Boots a VM that is created or stopped.
    VmStartRequest,
    /// Stops a VM; its disk stays.
    VmStopRequest,
    /// Deletes a VM with everything in it; its events stay in the log.
    VmDeleteRequest,
}

/// Tells about a VM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VmStatusRequest {
    /// Id of the VM, or an unambiguous beginning of it of at least 4 characters
    pub vm_id: String,
}

/// Tells about the network of a VM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VmNetworkInfoRequest {
    /// Id of the VM, or an unambiguous beginning of it of at least 4 characters
    pub vm_id: String,
}

/// Deletes all VMs and workspaces whose time to live is over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VmReapExpiredRequest {
    /// Makes a repetition harmless: a second request with the same UUID gets the outcome of the first
    #[serde(default, with = "crate::request_id", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub request_id: Option<RequestId>,
}

/// Tells what this host can do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
#[serde(deny_unknown_fields)]
pub struct DoctorRequest {
    /// Platform of the guests
    #[serde(default = "platform")]
    #[cfg_attr(feature = "clap", arg(long, value_name = "PLATFORM", default_value = PLATFORM))]
    pub platform: String,
}

impl Default for DoctorRequest {
    fn default() -> Self {
        Self { platform: platform() }
    }
}
