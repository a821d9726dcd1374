//! Requests about mounts.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Mounts the tree of files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MountRequest {
    /// The directory; absolute. It is made if it is missing, and must be empty
    pub path: String,
    /// Let other users look into it
    #[serde(default)]
    pub allow_other: bool,
}

/// Takes a mount away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UmountRequest {
    /// The directory; absolute. Without it, the only one there is
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}
