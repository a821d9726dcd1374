//! Dropping parts of streams.

use std::fs::File;
use std::io::{self, Write as _};
use std::ops::Range;
use std::path::Path;
use std::time::UNIX_EPOCH;

use pyro_core::{ExecNumber, Stream, StreamId, Timestamp, WorkspaceId};
use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

use super::error::OutputError;
use super::stream::{Outputs, times_path};
use crate::files;

/// What is dropped to see whether the file system can: more than one block of any of them.
const PROBE_LEN: usize = 256 << 10;

/// No file system has larger blocks, in bytes.
const BLOCK_LEN_MAX: u64 = 1 << 20;

/// A stream that has a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredStream {
    /// Which one.
    pub stream: StreamId,
    /// Its length, in bytes, with what was dropped of it.
    pub len_bytes: u64,
    /// When it was written last, by the file system's clock.
    pub modified_at: Timestamp,
}

impl Outputs {
    /// Tells whether the file system can give back the space of a part of a file.
    ///
    /// # Errors
    ///
    /// [`OutputError`] when that cannot be tried.
    pub fn can_drop(&self) -> Result<bool, OutputError> {
        let path = self.dir().join("probe.tmp");
        let probe = |path: &Path| -> io::Result<bool> {
            let mut file = files::private().write(true).create(true).truncate(true).open(path)?;
            file.write_all(&vec![1; PROBE_LEN])?;
            match punch(&file, 0..PROBE_LEN as u64) {
                Ok(()) => Ok(true),
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(false),
                Err(error) => Err(error.into()),
            }
        };
        let probed = probe(&path);
        let removed = std::fs::remove_file(&path);
        probed.and_then(|able| removed.map(|()| able)).map_err(|source| OutputError::io(&path, source))
    }

    /// Drops a part of a stream; its length and all other bytes stay. It can be done again, and a stream without a file has
    /// nothing to drop. A part that reaches the end must be of a stream that does not grow any more. Who drops the first bytes of a stream has no use for its times either: they go too.
    ///
    /// # Errors
    ///
    /// [`OutputError::Io`]; the part may be there, or not, or in part.
    pub fn drop_part(
        &self,
        workspace: WorkspaceId,
        stream: StreamId,
        part: Range<u64>,
    ) -> Result<(), OutputError> {
        let path = self.path(workspace, stream);
        let file = match files::private().write(true).open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(source) => return Err(OutputError::io(&path, source)),
        };
        let len_bytes = file.metadata().map_err(|source| OutputError::io(&path, source))?.len();
        // The last block is given back only when all of it is meant, beyond the end of the file.
        let end = if part.end >= len_bytes { part.end.saturating_add(BLOCK_LEN_MAX) } else { part.end };
        punch(&file, part.start..end).map_err(|error| OutputError::io(&path, error.into()))?;
        if part.start == 0 {
            let times = times_path(&path);
            match std::fs::remove_file(&times) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(OutputError::io(&times, error));
                }
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }

    /// Returns the streams of a workspace that have a file, those first that were written last a long time ago.
    ///
    /// # Errors
    ///
    /// [`OutputError::Io`] when the directory cannot be read.
    pub fn streams(&self, workspace: WorkspaceId) -> Result<Vec<StoredStream>, OutputError> {
        let dir = self.workspace_dir(workspace);
        let read = || -> io::Result<Vec<StoredStream>> {
            let mut streams = Vec::new();
            let entries = match std::fs::read_dir(&dir) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(streams),
                entries => entries?,
            };
            for entry in entries {
                let entry = entry?;
                let Some(stream) = entry.file_name().to_str().and_then(stream_of) else { continue };
                let metadata = entry.metadata()?;
                // A clock before 1970 counts as 1970.
                let modified = metadata.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
                let modified_at = Timestamp(u64::try_from(modified.as_micros()).unwrap_or(u64::MAX));
                streams.push(StoredStream { stream, len_bytes: metadata.len(), modified_at });
            }
            streams.sort_unstable_by_key(|known| (known.modified_at, known.stream));
            Ok(streams)
        };
        read().map_err(|source| OutputError::io(&dir, source))
    }
}

/// Gives the space of a part of a file back, as far as it fills blocks, and lets the rest of it read as zeros.
fn punch(file: &File, part: Range<u64>) -> Result<(), Errno> {
    if part.is_empty() {
        return Ok(());
    }
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    loop {
        match fallocate(file, flags, part.start, part.end - part.start) {
            Err(Errno::INTR) => {}
            result => return result,
        }
    }
}

/// Returns the stream whose bytes are in a file of that name; `None` for all other names.
fn stream_of(name: &str) -> Option<StreamId> {
    if let Some(shell) = name.strip_prefix("shell-") {
        return shell.parse().ok().map(StreamId::Shell);
    }
    let (exec, stream) = name.split_once('.')?;
    let streams = [Stream::Stdout, Stream::Stderr];
    let stream = streams.into_iter().find(|known| known.as_str() == stream)?;
    exec.parse().ok().map(|exec| StreamId::Exec(ExecNumber(exec), stream))
}
