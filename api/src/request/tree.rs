//! Requests about the tree of files, for those who read it without a mount.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Reads a part of a file that a mount shows below a workspace; sends its bytes as output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TreeReadRequest {
    /// Id of the workspace, at least its first 4 characters if no other begins so, or its name
    pub workspace_id: String,
    /// Path of the file below the directory of the workspace, such as `logs/1/stdout`
    pub path: String,
    /// Where to begin, in bytes; one behind the end begins there
    #[serde(default)]
    pub offset: u64,
    /// Most bytes to send, 0 to 262144
    pub len_bytes: u64,
}
