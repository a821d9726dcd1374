//! Saved folds. They shorten a replay and may be lost.

use std::sync::Arc;

use pyro_core::{Seq, State};

use crate::codec;
use crate::frame::array;
use crate::frames::Frames;
use crate::index::IndexError;
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
        intact(&self.shared)
            .find_map(|(seq, bytes)| codec::decode_state(&bytes).filter(|state| state.seq == seq))
    }
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
    let mut frames = Frames::open(shared, shared.committed().segments, seq, seq)?;
    let frame = frames.next()?;
    Ok(frame.expect("a record up to the head is there or is an error").hash)
}
