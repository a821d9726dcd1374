//! Saved folds. They shorten a replay and may be lost.

use std::path::Path;
use std::sync::Arc;

use pyro_core::{Seq, State};

use crate::codec;
use crate::frame::array;
use crate::frames::Frames;
use crate::index::{Index, IndexError};
use crate::lock::Lock;
use crate::reader::ReadError;
use crate::shared::{Head, Shared};

/// Length of what stands before the bytes of a checkpoint: hash of the record, digest of the bytes.
const PREFIX_LEN: usize = 64;

/// The saved folds of a log. Clones belong to the same log.
#[derive(Clone, Debug)]
pub struct Checkpoints {
    shared: Arc<Shared>,
}

impl Checkpoints {
    pub(crate) const fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Saves the fold of all events up to its own position. It may be lost; the log never depends on it.
    ///
    /// # Errors
    ///
    /// [`CheckpointError`] when the log does not reach that position or the index cannot be written.
    pub fn save(&self, state: &State) -> Result<(), CheckpointError> {
        save(&self.shared, state.seq, &encode(state)?)
    }

    /// Returns the newest fold that belongs to this log and that this version can read; `None` when there is none, and
    /// then everything is to be replayed.
    #[must_use]
    pub fn latest(&self) -> Option<State> {
        self.latest_until(Seq(u64::MAX))
    }

    /// Returns all such folds, the newest first.
    pub(crate) fn all(&self) -> Vec<State> {
        let decode =
            |(seq, bytes): (Seq, Vec<u8>)| codec::decode_state(&bytes).filter(|state| state.seq == seq);
        intact(&self.shared).filter_map(decode).collect()
    }

    /// Returns the newest such fold of events up to `last`.
    #[must_use]
    pub fn latest_until(&self, last: Seq) -> Option<State> {
        intact(&self.shared)
            .filter(|(seq, _)| *seq <= last)
            .find_map(|(seq, bytes)| codec::decode_state(&bytes).filter(|state| state.seq == seq))
    }
}

/// What is known of a saved fold without the log that it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SavedState {
    /// The last record that was folded in.
    pub seq: Seq,
    /// The hash which that record had.
    pub hash: [u8; 32],
    /// Digest of the fold, as [`state_digest`] gives it.
    pub digest: [u8; 32],
}

/// Returns the newest saved fold beside a log that no process has open; `None` when there is none that can be read, or
/// when a process has the log open.
///
/// Saved folds are no part of the log, so whatever keeps one from being read is not damage.
#[must_use]
pub fn saved_state(dir: impl AsRef<Path>) -> Option<SavedState> {
    let dir = dir.as_ref();
    let lock = Lock::take(dir).ok()?;
    let index = Index::open_trusted(dir)?;
    let saved = index.checkpoints().unwrap_or_default().into_iter().find_map(|(seq, value)| {
        let bytes = value.get(PREFIX_LEN..)?;
        let digest = *blake3::hash(bytes).as_bytes();
        let intact = digest == array(&value, 32..PREFIX_LEN) && codec::is_present_version(bytes);
        intact.then(|| SavedState { seq, hash: array(&value, 0..32), digest })
    });
    index.close();
    drop(lock);
    saved
}

/// A checkpoint that was not saved.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The log does not have this record yet.
    #[error("there is no record {seq} for a checkpoint; the log ends at {head}")]
    NoRecord {
        /// The record that was named.
        seq: Seq,
        /// The last record.
        head: Seq,
    },
    /// The fold is too large.
    #[error("the state is too large for a checkpoint")]
    TooLarge,
    /// The record could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The index could not be written.
    #[error("the index takes no checkpoint")]
    Index {
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl From<IndexError> for CheckpointError {
    fn from(error: IndexError) -> Self {
        Self::Index { source: Box::new(error) }
    }
}

/// Returns the BLAKE3 digest of a state as checkpoints hold it: equal states have equal digests.
///
/// # Errors
///
/// [`CheckpointError::TooLarge`].
pub fn state_digest(state: &State) -> Result<[u8; 32], CheckpointError> {
    encode(state).map(|bytes| *blake3::hash(&bytes).as_bytes())
}

fn encode(state: &State) -> Result<Vec<u8>, CheckpointError> {
    codec::encode_state(state).map_err(|_too_long| CheckpointError::TooLarge)
}

fn save(shared: &Shared, seq: Seq, bytes: &[u8]) -> Result<(), CheckpointError> {
    let head = shared.head();
    if seq == Seq::ZERO || seq > head.seq {
        return Err(CheckpointError::NoRecord { seq, head: head.seq });
    }
    let hash = hash_at(shared, head, seq)?;
    let value = [hash.as_slice(), blake3::hash(bytes).as_bytes(), bytes].concat();
    Ok(shared.index.put_checkpoint(seq, &value)?)
}

/// Returns the checkpoints whose bytes are intact and whose record is in this log, the newest first.
fn intact(shared: &Shared) -> impl Iterator<Item = (Seq, Vec<u8>)> {
    let head = shared.head();
    shared.index.checkpoints().unwrap_or_default().into_iter().filter_map(move |(seq, value)| {
        let bytes = value.get(PREFIX_LEN..)?;
        let intact = *blake3::hash(bytes).as_bytes() == array(&value, 32..PREFIX_LEN);
        let ours = seq > Seq::ZERO
            && seq <= head.seq
            && hash_at(shared, head, seq).is_ok_and(|hash| hash == array(&value, 0..32));
        (intact && ours).then(|| (seq, bytes.to_vec()))
    })
}

fn hash_at(shared: &Shared, head: Head, seq: Seq) -> Result<[u8; 32], ReadError> {
    if seq == head.seq {
        return Ok(head.hash);
    }
    let committed = shared.committed();
    if let Some(dropped) = committed.base.as_ref().map(|base| base.dropped()).filter(|head| head.seq == seq) {
        return Ok(dropped.hash);
    }
    let mut frames = Frames::open(shared, &committed, seq, seq)?;
    let frame = frames.next()?;
    Ok(frame.expect("a record up to the head is there or is an error").hash)
}
