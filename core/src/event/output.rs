//! What happens to stored output.

use serde::{Deserialize, Serialize};

use crate::ids::WorkspaceId;
use crate::stream::StreamId;

/// A part of a stream is about to be dropped: nothing is kept of it but its length and its digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputDropped {
    /// Where.
    pub workspace: WorkspaceId,
    /// Of what.
    pub stream: StreamId,
    /// Offset of its first byte.
    pub from: u64,
    /// Offset behind its last byte.
    pub to: u64,
    /// BLAKE3 digest of those of its bytes that were not dropped before.
    pub digest: [u8; 32],
    /// Why.
    pub policy: DropPolicy,
}

/// Which bound made a part of a stream go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DropPolicy {
    /// At most so many bytes of one stream are kept.
    Stream {
        /// How many.
        bytes_max: u64,
    },
    /// At most so many bytes of all streams of one workspace are kept.
    Workspace {
        /// How many.
        bytes_max: u64,
    },
}
