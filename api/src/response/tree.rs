//! Answers about the tree of files.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A part of a file of the tree; its bytes went over the socket before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TreePart {
    /// The workspace.
    pub workspace_id: String,
    /// Path of the file below the directory of the workspace.
    pub path: String,
    /// Where the part begins, in bytes.
    pub offset: u64,
    /// Length of the part, in bytes.
    pub len_bytes: u64,
    /// Length of the whole file at that moment, in bytes.
    pub file_bytes: u64,
}
