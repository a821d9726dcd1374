//! Requests about the log.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::log_point::LogPoint;

/// Sends the events of the log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
#[serde(deny_unknown_fields)]
pub struct LogRequest {
    /// Begin with the event of this number or at this time; without it, begin with the first
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "clap", arg(long, value_name = "SEQ|TIME"))]
    pub since: Option<LogPoint>,
    /// End with the event of this number or at this time
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "clap", arg(long, value_name = "SEQ|TIME", conflicts_with = "follow"))]
    pub until: Option<LogPoint>,
    /// Only events of this workspace or VM, also after it was deleted: its id or the first 4 or more characters of it; or by the name that it has now
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "clap", arg(long, value_name = "ID"))]
    pub workspace: Option<String>,
    /// Only events of this kind, or of all that begin so, as exec_*; can be given several times
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "clap", arg(long = "kind", value_name = "KIND"))]
    pub kinds: Vec<String>,
    /// Only what was caused by this way in (daemon, cli, mcp, python or fuse), user (uid:N) or program (pyro)
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "clap", arg(long, value_name = "WHO"))]
    pub actor: Option<String>,
    /// Only the last N of the events that the other options leave
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "clap", arg(long, value_name = "N"))]
    pub limit: Option<u64>,
    /// Wait for more events at the end, until interrupted
    #[serde(default)]
    #[cfg_attr(feature = "clap", arg(long, short))]
    pub follow: bool,
    /// Send the version and the hash of each record along; not possible together with `follow`.
    #[serde(default)]
    #[cfg_attr(feature = "clap", arg(skip))]
    pub hashes: bool,
}

/// Explains one event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
#[serde(deny_unknown_fields)]
pub struct LogShowRequest {
    /// Number of the event
    #[cfg_attr(feature = "clap", arg(value_name = "SEQ"))]
    pub seq: u64,
}

/// Tells where the log ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LogHeadRequest {}

/// Drops the beginning of the log. What goes is older than all that any of the bounds keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
#[serde(deny_unknown_fields)]
pub struct LogCompactRequest {
    /// Keep the events of the last N days
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "clap", arg(long, value_name = "N"))]
    pub keep_days: Option<u32>,
    /// Keep the last N MiB of segments
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "clap", arg(long, value_name = "N"))]
    pub keep_mib: Option<u64>,
    /// Keep the event of this number and those behind it; a number behind the last event keeps none
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "clap", arg(long, value_name = "SEQ"))]
    pub before: Option<u64>,
    /// Only check what would be dropped, and tell
    #[serde(default)]
    #[cfg_attr(feature = "clap", arg(long))]
    pub dry_run: bool,
}
