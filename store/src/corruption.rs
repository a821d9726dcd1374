//! What can be wrong with the bytes of a log.

use std::path::PathBuf;

use pyro_core::Seq;

/// A log that is not what was written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Corruption {
    /// A record, or the segment that should hold it, is not what was written.
    #[error("record {seq} is damaged: {fault} ({} at byte {offset})", .segment.display())]
    Record {
        /// The first record that cannot be trusted.
        seq: Seq,
        /// The segment where it stands or should stand.
        segment: PathBuf,
        /// Offset in the segment, in bytes.
        offset: u64,
        /// What is wrong.
        fault: Fault,
    },
    /// The log ends before a record that was once durable.
    #[error("the log ends after record {head}, but had reached record {anchor}")]
    Shortened {
        /// The record that the anchor names.
        anchor: Seq,
        /// The last record of the log.
        head: Seq,
    },
    /// The record that the anchor names has another hash: the log is not the one that the anchor was written for.
    #[error("the log up to record {seq} is not the one that was written: its hash is not the anchor's")]
    Rewritten {
        /// The record that the anchor names.
        seq: Seq,
    },
    /// The log does not begin with its first record, nor with the one behind its base.
    #[error("records {expected} to {} are missing: the log begins with record {first}, and no base stands for what was before", .first.0.saturating_sub(1))]
    NoBase {
        /// The first record that is there.
        first: Seq,
        /// The record with which it should begin.
        expected: Seq,
        /// The segment with the first record that is there.
        path: PathBuf,
    },
    /// The base, which stands for records that were dropped, is not what was written.
    #[error("the base {} is damaged: {fault}", .path.display())]
    Base {
        /// The base.
        path: PathBuf,
        /// What is wrong.
        fault: Fault,
    },
    /// The log was compacted to another base than the one that is there.
    #[error("the base {} is not the one that event {seq} has signed off", .path.display())]
    Exchanged {
        /// The base.
        path: PathBuf,
        /// The event.
        seq: Seq,
    },
    /// The log has no event that says where its base comes from.
    #[error("no event has signed off the base {}; the next start of the daemon does", .path.display())]
    Unsigned {
        /// The base.
        path: PathBuf,
    },
    /// The log has records, but no anchor that can be read.
    #[error("the anchor of the log is missing or damaged")]
    NoAnchor,
}

impl Corruption {
    /// Returns the first record that cannot be trusted; `None` when all records of the log can be.
    #[must_use]
    pub const fn first_bad(&self) -> Option<Seq> {
        match self {
            Self::Record { seq, .. } => Some(*seq),
            Self::Shortened { head, .. } => Some(head.next()),
            Self::NoBase { expected, .. } => Some(*expected),
            Self::Base { .. } | Self::Exchanged { .. } => Some(Seq(1)),
            Self::Rewritten { .. } | Self::Unsigned { .. } | Self::NoAnchor => None,
        }
    }
}

/// What is wrong with a record or segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The file ends inside the record.
    #[error("the file ends inside the record")]
    CutShort,
    /// The length field holds a value that no record has.
    #[error("impossible length")]
    Length,
    /// The bytes do not match their checksum.
    #[error("wrong checksum")]
    Checksum,
    /// Another sequence number stands where this one belongs.
    #[error("record {found} stands in its place")]
    Order {
        /// The number that stands there.
        found: Seq,
    },
    /// Flags are set that this format does not have.
    #[error("unknown flags")]
    Flags,
    /// The record does not continue the hash chain.
    #[error("broken hash chain")]
    Chain,
    /// The payload is not what its kind and version say.
    #[error("undecodable payload")]
    Payload,
    /// The segment ends inside a batch.
    #[error("the segment ends inside a batch")]
    OpenBatch,
    /// The segment has no valid header.
    #[error("invalid segment header")]
    Header,
    /// The segment has a format that this version does not know.
    #[error("format {found} is not known to this version")]
    Format {
        /// The format.
        found: u32,
    },
    /// A segment is missing, or has another length than its successor says.
    #[error("a segment is missing or has the wrong length")]
    Link,
}
