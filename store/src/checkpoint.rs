//! Saved folds. They shorten a replay and may be lost.

use pyro_core::Seq;

use crate::frame::array;
use crate::frames::Frames;
use crate::index::IndexError;
use crate::reader::ReadError;
use crate::shared::{Head, Shared};

/// Length of what stands before the bytes of a checkpoint: hash of the record, digest of the bytes.
const PREFIX_LEN: usize = 64;

/// The fold of all events up to a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The last event that is in it.
    pub seq: Seq,
    /// What was saved.
    pub bytes: Vec<u8>,
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

pub(crate) fn save(shared: &Shared, seq: Seq, bytes: &[u8]) -> Result<(), CheckpointError> {
    let head = shared.head();
    if seq == Seq::ZERO || seq > head.seq {
        return Err(CheckpointError::NoRecord { seq, head: head.seq });
    }
    let hash = hash_at(shared, head, seq)?;
    let value = [hash.as_slice(), blake3::hash(bytes).as_bytes(), bytes].concat();
    Ok(shared.index.put_checkpoint(seq, &value)?)
}

/// Returns the newest checkpoint whose bytes are intact and whose record is in this log.
pub(crate) fn latest(shared: &Shared) -> Option<Checkpoint> {
    let head = shared.head();
    shared.index.checkpoints().ok()?.into_iter().find_map(|(seq, value)| {
        let bytes = value.get(PREFIX_LEN..)?;
        let intact = *blake3::hash(bytes).as_bytes() == array(&value, 32..PREFIX_LEN);
        let ours = seq > Seq::ZERO
            && seq <= head.seq
            && hash_at(shared, head, seq).is_ok_and(|hash| hash == array(&value, 0..32));
        (intact && ours).then(|| Checkpoint { seq, bytes: bytes.to_vec() })
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
