//! Requests about who was not let in.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Records that a server of this user's did not let somebody in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AccessRefusedRequest {
    /// What was wrong
    pub reason: AccessFault,
    /// Where the caller connected from: an address and a port, at most 100 bytes
    pub peer: String,
    /// User id of the caller; absent when it is not known
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer_uid: Option<u32>,
    /// What the caller claimed, at most 300 bytes; empty for a token
    pub claimed: String,
    /// Refusals before this one that are not recorded, because there were too many
    pub left_out: u64,
}

/// What is wrong with a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AccessFault {
    /// It asks for a host that this server is not
    Host,
    /// It is a page of another site
    Origin,
    /// It has no token, or a wrong one
    Token,
}
