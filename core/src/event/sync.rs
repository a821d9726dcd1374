//! What happens to files that are brought into a workspace.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::ids::{SyncNumber, WorkspaceId};

/// Files shall be brought into the guest; nothing has been sent yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncRequested {
    /// Where.
    pub workspace: WorkspaceId,
    /// Its number there.
    pub sync: SyncNumber,
    /// What for.
    pub purpose: SyncPurpose,
    /// Where the files come from.
    pub source: SyncSource,
    /// Directory in the guest that they go to; absolute.
    pub destination: String,
    /// The paths that differ since the sync before; `None` for all of the source.
    pub changes: Option<SyncChanges>,
}

/// What files are brought for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SyncPurpose {
    /// They are what the workspace begins with: without them there is no workspace.
    Seed,
    /// They are added to it.
    Push,
}

/// Where files come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncSource {
    /// What it is.
    pub kind: SyncSourceKind,
    /// Its absolute path on the host.
    pub path: String,
}

/// What files come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SyncSourceKind {
    /// A directory.
    Directory,
    /// A tar archive, compressed or not.
    Archive,
}

impl SyncSourceKind {
    /// Returns the contract's word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Directory => "directory",
            Self::Archive => "tar_archive",
        }
    }
}

/// Paths below the source, as bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncChanges {
    /// New or changed ones, parents first.
    pub changed: Vec<Vec<u8>>,
    /// Those that are gone.
    pub removed: Vec<Vec<u8>>,
}

/// The files are in place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncFinished {
    /// Where.
    pub workspace: WorkspaceId,
    /// Its number there.
    pub sync: SyncNumber,
    /// Files, directories and links.
    pub entry_count: u64,
    /// Bytes of all files.
    pub bytes_written: u64,
    /// BLAKE3 digest of all entries with their content, as they were sent; `None` when the daemon that sent them did not
    /// live to record it.
    pub digest: Option<[u8; 32]>,
}

/// Nothing was brought: the workspace is as before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncFailed {
    /// Where.
    pub workspace: WorkspaceId,
    /// Its number there.
    pub sync: SyncNumber,
    /// Why, for people.
    pub reason: String,
    /// Whether what was to be brought is not allowed, or could not be.
    pub refused: bool,
}

/// Whether the files are in place cannot be known any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncLost {
    /// Where.
    pub workspace: WorkspaceId,
    /// Its number there.
    pub sync: SyncNumber,
    /// What was seen, for people.
    pub reason: String,
}

/// Somebody wants the sync to end now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncCancelRequested {
    /// Where.
    pub workspace: WorkspaceId,
    /// Its number there.
    pub sync: SyncNumber,
}
