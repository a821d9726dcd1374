//! Answers about mounts.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A place where the tree of files is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MountObject {
    /// The directory.
    pub path: String,
    /// Whether other users can look into it.
    pub allow_other: bool,
}

/// A mount that was taken away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UmountResult {
    /// The directory.
    pub path: String,
    /// Always `true`.
    pub unmounted: bool,
}
