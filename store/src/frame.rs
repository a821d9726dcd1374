//! One record as bytes (`docs/log-format.md`, "Record").

use pyro_core::Seq;

use crate::corruption::Fault;

/// A BLAKE3 hash that chains a record to all before it.
pub type Hash = [u8; 32];

/// What the first record has as the hash of the record before.
pub const GENESIS: Hash = [0; 32];

/// Length of everything before the payload, in bytes.
pub(crate) const HEAD_LEN: usize = 56;

/// Longest payload, in bytes. The longest command line is 128 KiB; the rest is room for future kinds.
pub(crate) const PAYLOAD_LEN_MAX: usize = 1 << 20;

const LAST_OF_BATCH: u32 = 1;

const CHECKSUM: std::ops::Range<usize> = 0..4;
const CHECKED_FROM: usize = 4;
const LENGTH: std::ops::Range<usize> = 4..8;
const SEQ: std::ops::Range<usize> = 8..16;
const KIND: std::ops::Range<usize> = 16..18;
const VERSION: std::ops::Range<usize> = 18..20;
const FLAGS: std::ops::Range<usize> = 20..24;
const HASH: std::ops::Range<usize> = 24..HEAD_LEN;

/// A record that was read and found valid.
#[derive(Debug)]
pub(crate) struct Frame<'a> {
    pub(crate) seq: Seq,
    pub(crate) kind: u16,
    pub(crate) version: u16,
    pub(crate) last_of_batch: bool,
    pub(crate) hash: Hash,
    pub(crate) payload: &'a [u8],
    /// First record of its segment.
    pub(crate) segment: Seq,
    /// Offset of its first byte in the segment.
    pub(crate) offset: u64,
    /// Offset of the byte after it.
    pub(crate) end: u64,
}

/// Appends room for the fields before the payload and returns where it begins.
pub(crate) fn begin(buffer: &mut Vec<u8>) -> usize {
    let start = buffer.len();
    buffer.resize(start + HEAD_LEN, 0);
    start
}

/// Fills in what is known before the record has its place in the log.
///
/// # Errors
///
/// Gives the length of the payload when no record can hold it.
pub(crate) fn finish(buffer: &mut [u8], start: usize, kind: u16, version: u16) -> Result<(), usize> {
    let frame = &mut buffer[start..];
    let len = frame.len() - HEAD_LEN;
    if len == 0 || len > PAYLOAD_LEN_MAX {
        return Err(len);
    }
    let field = u32::try_from(len).map_err(|_| len)?;
    frame[LENGTH].copy_from_slice(&field.to_le_bytes());
    frame[KIND].copy_from_slice(&kind.to_le_bytes());
    frame[VERSION].copy_from_slice(&version.to_le_bytes());
    Ok(())
}

/// Marks the record that begins at `start` as the last one of its batch.
pub(crate) fn mark_last(buffer: &mut [u8], start: usize) {
    buffer[start..][FLAGS].copy_from_slice(&LAST_OF_BATCH.to_le_bytes());
}

/// Gives the records of a batch their places: numbers, hashes and checksums. Returns the last number and hash.
pub(crate) fn seal(batch: &mut [u8], mut seq: Seq, mut previous: Hash) -> (Seq, Hash) {
    let mut rest = batch;
    while !rest.is_empty() {
        let len = HEAD_LEN + payload_len(rest).expect("finish wrote a valid length");
        let (frame, after) = rest.split_at_mut(len);
        seq = seq.next();
        frame[SEQ].copy_from_slice(&seq.0.to_le_bytes());
        frame[HASH].copy_from_slice(&previous);
        previous = *blake3::hash(&frame[CHECKED_FROM..]).as_bytes();
        frame[HASH].copy_from_slice(&previous);
        let checksum = crc32fast::hash(&frame[CHECKED_FROM..]);
        frame[CHECKSUM].copy_from_slice(&checksum.to_le_bytes());
        rest = after;
    }
    (seq, previous)
}

/// Returns the length of the payload of the record whose head begins here.
pub(crate) fn payload_len(head: &[u8]) -> Result<usize, Fault> {
    let len = usize::try_from(u32::from_le_bytes(array(head, LENGTH))).map_err(|_| Fault::Length)?;
    if len == 0 || len > PAYLOAD_LEN_MAX { Err(Fault::Length) } else { Ok(len) }
}

/// Returns the number of the record whose head begins here.
pub(crate) fn seq(head: &[u8]) -> Seq {
    Seq(u64::from_le_bytes(array(head, SEQ)))
}

/// Appends a record that was read as it stood in its segment.
pub(crate) fn copy(frame: &Frame<'_>, buffer: &mut Vec<u8>) {
    let start = begin(buffer);
    buffer.extend_from_slice(frame.payload);
    finish(buffer, start, frame.kind, frame.version).expect("the payload was read from a record");
    if frame.last_of_batch {
        mark_last(buffer, start);
    }
    let copy = &mut buffer[start..];
    copy[SEQ].copy_from_slice(&frame.seq.0.to_le_bytes());
    copy[HASH].copy_from_slice(&frame.hash);
    let checksum = crc32fast::hash(&copy[CHECKED_FROM..]);
    copy[CHECKSUM].copy_from_slice(&checksum.to_le_bytes());
}

/// Checks a complete record and takes it apart; `previous` is `None` where the record before was not read.
///
/// The hash field of the buffer is overwritten on the way and restored, which is why the buffer is mutable.
pub(crate) fn check<'a>(
    frame: &'a mut [u8],
    (segment, offset): (Seq, u64),
    expected: Seq,
    previous: Option<&Hash>,
) -> Result<Frame<'a>, Fault> {
    if crc32fast::hash(&frame[CHECKED_FROM..]) != u32::from_le_bytes(array(frame, CHECKSUM)) {
        return Err(Fault::Checksum);
    }
    let seq = seq(frame);
    if seq != expected {
        return Err(Fault::Order { found: seq });
    }
    let flags = u32::from_le_bytes(array(frame, FLAGS));
    if flags & !LAST_OF_BATCH != 0 {
        return Err(Fault::Flags);
    }
    let hash: Hash = array(frame, HASH);
    if let Some(previous) = previous {
        frame[HASH].copy_from_slice(previous);
        let computed = blake3::hash(&frame[CHECKED_FROM..]);
        frame[HASH].copy_from_slice(&hash);
        if *computed.as_bytes() != hash {
            return Err(Fault::Chain);
        }
    }
    let len = u64::try_from(frame.len()).map_err(|_| Fault::Length)?;
    Ok(Frame {
        seq,
        kind: u16::from_le_bytes(array(frame, KIND)),
        version: u16::from_le_bytes(array(frame, VERSION)),
        last_of_batch: flags & LAST_OF_BATCH != 0,
        hash,
        payload: &frame[HEAD_LEN..],
        segment,
        offset,
        end: offset + len,
    })
}

/// Copies a field of fixed width; the caller has checked that the bytes are there.
pub(crate) fn array<const N: usize>(bytes: &[u8], range: std::ops::Range<usize>) -> [u8; N] {
    bytes[range].try_into().expect("the range is as long as the field")
}
