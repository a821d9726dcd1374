//! What can go wrong with output files.

use std::io;
use std::path::{Path, PathBuf};

use crate::files;

/// Output that could not be stored or read.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// The bytes do not follow on those that are there; some in between were never given.
    #[error("output for offset {offset} cannot be stored: bytes from {expected} on are missing")]
    Hole {
        /// Where the stream ends.
        expected: u64,
        /// Where the bytes would begin.
        offset: u64,
    },
    /// There is output under this name already; it can be resumed.
    #[error("there is output already in {}", .path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The disk is full. What was stored before is intact, and appending works again when there is space.
    #[error("no space left for {}", .path.display())]
    StorageFull {
        /// The file.
        path: PathBuf,
    },
    /// An earlier sync failed: nothing that was written since the last good one can be relied on.
    #[error("{} takes no more output after an earlier failure", .path.display())]
    Poisoned {
        /// The file.
        path: PathBuf,
    },
    /// The operating system refused something.
    #[error("cannot access {}", .path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
}

impl OutputError {
    pub(crate) fn io(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        if files::is_full(&source) { Self::StorageFull { path } } else { Self::Io { path, source } }
    }
}
