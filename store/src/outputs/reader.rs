//! Reading a stream, also while it is written.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use pyro_core::{Gaps, Timestamp};

use super::error::OutputError;
use super::stream::times_path;
use crate::frame::array;

/// Length of an entry in the file of times, in bytes.
pub(super) const ENTRY_LEN: usize = 16;

/// How much is read at once for a digest, in bytes.
const CHUNK_LEN: usize = 256 << 10;

/// When bytes of a stream arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeEntry {
    /// Offset of the first of them.
    pub offset: u64,
    /// When it arrived; those up to the next entry arrived then or shortly after.
    pub at: Timestamp,
}

impl TimeEntry {
    pub(super) fn to_bytes(self) -> [u8; ENTRY_LEN] {
        let mut bytes = [0; ENTRY_LEN];
        bytes[..8].copy_from_slice(&self.offset.to_le_bytes());
        bytes[8..].copy_from_slice(&self.at.0.to_le_bytes());
        bytes
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Self {
        let offset = u64::from_le_bytes(array(bytes, 0..8));
        Self { offset, at: Timestamp(u64::from_le_bytes(array(bytes, 8..16))) }
    }
}

/// A stream that is read.
#[derive(Debug)]
pub struct OutputReader {
    path: PathBuf,
    /// `None` when there was no file: nothing was written.
    file: Option<File>,
}

impl OutputReader {
    pub(super) fn open(path: PathBuf) -> Result<Self, OutputError> {
        match File::open(&path) {
            Ok(file) => Ok(Self { path, file: Some(file) }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self { path, file: None }),
            Err(source) => Err(OutputError::io(&path, source)),
        }
    }

    /// Returns how many bytes there are now. They need not be durable yet.
    ///
    /// # Errors
    ///
    /// [`OutputError::Io`].
    pub fn len_bytes(&self) -> Result<u64, OutputError> {
        let Some(file) = &self.file else { return Ok(0) };
        Ok(file.metadata().map_err(|source| OutputError::io(&self.path, source))?.len())
    }

    /// Reads bytes from an offset on and returns how many; 0 at the present end.
    ///
    /// # Errors
    ///
    /// [`OutputError::Io`].
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize, OutputError> {
        let Some(file) = &self.file else { return Ok(0) };
        loop {
            match file.read_at(buffer, offset) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result.map_err(|source| OutputError::io(&self.path, source)),
            }
        }
    }

    /// Returns when the bytes arrived, in order of their offsets.
    ///
    /// # Errors
    ///
    /// [`OutputError::Io`].
    pub fn times(&self) -> Result<Vec<TimeEntry>, OutputError> {
        let path = times_path(&self.path);
        match std::fs::read(&path) {
            Ok(bytes) => Ok(bytes.chunks_exact(ENTRY_LEN).map(TimeEntry::from_bytes).collect()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(source) => Err(OutputError::io(&path, source)),
        }
    }

    /// Returns how many bytes had arrived at a time, by what the clock said; all of those that came within a few
    /// milliseconds of each other count as one. `len_bytes` is how many there are now.
    ///
    /// # Errors
    ///
    /// [`OutputError::Io`].
    pub fn len_at(&self, time: Timestamp, len_bytes: u64) -> Result<u64, OutputError> {
        let later = self.times()?.into_iter().find(|entry| entry.at > time);
        Ok(later.map_or(len_bytes, |entry| entry.offset.min(len_bytes)))
    }

    /// Returns the BLAKE3 digest of the bytes of a part that lie outside of the gaps, as far as they are there.
    ///
    /// # Errors
    ///
    /// [`OutputError::Io`].
    pub fn digest(&self, part: Range<u64>, gaps: &Gaps) -> Result<[u8; 32], OutputError> {
        let mut hasher = blake3::Hasher::new();
        for kept in gaps.kept_in(part) {
            self.hash(kept, &mut hasher)?;
        }
        Ok(*hasher.finalize().as_bytes())
    }

    /// Shows a part to a hasher, as far as it is there.
    pub(super) fn hash(&self, part: Range<u64>, hasher: &mut blake3::Hasher) -> Result<(), OutputError> {
        let mut buffer = vec![0; CHUNK_LEN];
        let mut offset = part.start;
        while offset < part.end {
            let len = usize::try_from(part.end - offset).unwrap_or(CHUNK_LEN).min(CHUNK_LEN);
            let count = self.read_at(&mut buffer[..len], offset)?;
            if count == 0 {
                break;
            }
            hasher.update(&buffer[..count]);
            offset += u64::try_from(count).expect("a buffer is shorter than 2^64");
        }
        Ok(())
    }
}
