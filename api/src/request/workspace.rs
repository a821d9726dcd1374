//! Requests about workspaces.

use std::collections::BTreeMap;

use pyro_core::RequestId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[cfg(feature = "clap")]
use super::{MEM_MIB, TIMEOUT_SECONDS, TTL_SECONDS, VCPU_COUNT};
use super::{Resume, mem_mib, timeout_seconds, ttl_seconds, vcpu_count};
use crate::log_point::LogPoint;
#[cfg(feature = "clap")]
use crate::request_id::parse_request_id;

/// Creates a workspace and starts it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
#[serde(deny_unknown_fields)]
pub struct WorkspaceCreateRequest {
    /// Environment of the workspace, such as debian:12; `pyro env list` shows all of them
    #[cfg_attr(feature = "clap", arg(value_name = "ENVIRONMENT"))]
    pub environment: String,
    /// Virtual CPUs, 1 to 32
    #[serde(default = "vcpu_count")]
    #[cfg_attr(feature = "clap", arg(long, value_name = "N", default_value_t = VCPU_COUNT))]
    #[schemars(range(min = 1))]
    pub vcpu_count: u32,
    /// Memory in MiB, 128 up to what the host can spare
    #[serde(default = "mem_mib")]
    #[cfg_attr(feature = "clap", arg(long, value_name = "MIB", default_value_t = MEM_MIB))]
    #[schemars(range(min = 128))]
    pub mem_mib: u64,
    /// Time to live from now on in seconds, 60 to 2592000 (30 days); 0 sets no end
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
    /// Directory or .tar, .tar.gz or .tgz archive of the host whose files the workspace begins with
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "clap", arg(long, value_name = "PATH", value_hint = clap::ValueHint::AnyPath))]
    pub seed_path: Option<String>,
    /// Name that no other workspace has
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "clap", arg(long, value_name = "NAME"))]
    pub name: Option<String>,
    /// Labels by key
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[cfg_attr(feature = "clap", arg(skip))]
    pub labels: BTreeMap<String, String>,
    /// Makes a repetition harmless: a second request with the same UUID gets the outcome of the first
    #[serde(default, with = "crate::request_id", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    #[cfg_attr(feature = "clap", arg(long, value_name = "UUID", value_parser = parse_request_id))]
    pub request_id: Option<RequestId>,
}

/// Lists all workspaces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
#[serde(deny_unknown_fields)]
pub struct WorkspaceListRequest {
    /// As it was right after the event of this number or at this time
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "clap", arg(long, value_name = "SEQ|TIME"))]
    pub at: Option<LogPoint>,
}

/// Tells about a workspace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
#[serde(deny_unknown_fields)]
pub struct WorkspaceStatusRequest {
    /// Id of the workspace, at least its first 4 characters if no other begins so, or its name
    #[cfg_attr(feature = "clap", arg(value_name = "WORKSPACE_ID"))]
    pub workspace_id: String,
    /// As it was right after the event of this number or at this time
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "clap", arg(long, value_name = "SEQ|TIME"))]
    pub at: Option<LogPoint>,
}

/// Runs one command in a started workspace, in `/workspace`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
#[serde(deny_unknown_fields)]
pub struct WorkspaceExecRequest {
    /// Id of the workspace, at least its first 4 characters if no other begins so, or its name
    #[cfg_attr(feature = "clap", arg(value_name = "WORKSPACE_ID"))]
    pub workspace_id: String,
    /// Command line for `/bin/sh -lc`
    #[cfg_attr(feature = "clap", arg(skip))]
    pub command: String,
    /// Time for the command in seconds; then it is killed with all it started, and the exit code is 124
    #[serde(default = "timeout_seconds")]
    #[cfg_attr(feature = "clap", arg(long, value_name = "SECONDS", default_value_t = TIMEOUT_SECONDS))]
    #[schemars(range(min = 1))]
    pub timeout_seconds: u64,
    /// Makes a repetition harmless: a second request with the same UUID gets the outcome of the first
    #[serde(default, with = "crate::request_id", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    #[cfg_attr(feature = "clap", arg(long, value_name = "UUID", value_parser = parse_request_id))]
    pub request_id: Option<RequestId>,
    /// What the client has of the output when it comes back on a new connection
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    #[cfg_attr(feature = "clap", arg(skip))]
    pub resume: Option<Resume>,
}

const DESTINATION: &str = "/workspace";

fn destination() -> String {
    DESTINATION.to_owned()
}

/// Brings files of the host into a started workspace: all of them, or none when something is wrong with one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
#[serde(deny_unknown_fields)]
pub struct WorkspaceSyncPushRequest {
    /// Id of the workspace, at least its first 4 characters if no other begins so, or its name
    #[cfg_attr(feature = "clap", arg(value_name = "WORKSPACE_ID"))]
    pub workspace_id: String,
    /// Directory or .tar, .tar.gz or .tgz archive of the host
    #[cfg_attr(feature = "clap", arg(value_name = "SOURCE_PATH", value_hint = clap::ValueHint::AnyPath))]
    pub source_path: String,
    /// Directory in the workspace that the files go to: /workspace or below it; a relative one is below it
    #[serde(default = "destination")]
    #[cfg_attr(feature = "clap", arg(long = "dest", value_name = "WORKSPACE_PATH", default_value = DESTINATION))]
    pub dest: String,
    /// Keep pushing what changes in the directory, removals too, until interrupted
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    #[schemars(skip)]
    #[cfg_attr(feature = "clap", arg(long))]
    pub watch: bool,
    /// Makes a repetition harmless: a second request with the same UUID gets the outcome of the first
    #[serde(default, with = "crate::request_id", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    #[cfg_attr(feature = "clap", arg(long, value_name = "UUID", value_parser = parse_request_id))]
    pub request_id: Option<RequestId>,
}

/// Sends the commands that ended in a workspace, with their output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
#[serde(deny_unknown_fields)]
pub struct WorkspaceLogsRequest {
    /// Id of the workspace, at least its first 4 characters if no other begins so, or its name
    #[cfg_attr(feature = "clap", arg(value_name = "WORKSPACE_ID"))]
    pub workspace_id: String,
    /// Number of one command; without it, all of them
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "clap", arg(value_name = "SEQUENCE"))]
    pub sequence: Option<u32>,
    /// Those that had ended right after the event of this number or at this time
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "clap", arg(long, value_name = "SEQ|TIME"))]
    pub at: Option<LogPoint>,
}

macro_rules! changing_requests {
    ($($(#[$doc:meta])* $name:ident,)+) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
            #[cfg_attr(feature = "clap", derive(clap::Args))]
            #[serde(deny_unknown_fields)]
            pub struct $name {
                /// Id of the workspace, at least its first 4 characters if no other begins so, or its name
                #[cfg_attr(feature = "clap", arg(value_name = "WORKSPACE_ID"))]
                pub workspace_id: String,
                /// Makes a repetition harmless: a second request with the same UUID gets the outcome of the first
                #[serde(default, with = "crate::request_id", skip_serializing_if = "Option::is_none")]
                #[schemars(with = "Option<String>")]
                #[cfg_attr(feature = "clap", arg(long, value_name = "UUID", value_parser = parse_request_id))]
                pub request_id: Option<RequestId>,
            }
        )+
    };
}

changing_requests! {
    /// Boots a workspace that is stopped; its files are as they were.
    WorkspaceStartRequest,
    /// Stops the guest of a workspace; its files stay.
    WorkspaceStopRequest,
    /// Deletes a workspace with everything in it; its events stay in the log.
    WorkspaceDeleteRequest,
}
