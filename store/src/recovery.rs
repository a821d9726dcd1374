//! Finds the end of a log and checks it against the anchor (`docs/log-format.md`, "Opening").

use std::io;

use pyro_core::Seq;

use crate::anchor::{self, Anchored};
use crate::beginning::Beginning;
use crate::corruption::{Corruption, Fault};
use crate::disk::{Disk, LogDir};
use crate::reader::ReadError;
use crate::scanner::Scanner;
use crate::segment::{self, FIRST_RECORD, Segment};
use crate::shared::Head;

/// Where a log ends.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) head: Head,
    pub(crate) segments: Vec<Segment>,
    /// Length of the part of the last segment that the anchor vouches for, in bytes.
    pub(crate) anchored_len: u64,
    /// Length of the valid part of the last segment, in bytes.
    pub(crate) valid_len: u64,
    /// Length of what follows the valid part, in bytes.
    pub(crate) torn_len: u64,
}

/// What reading one segment gave.
#[derive(Debug)]
pub(crate) struct Scanned {
    /// The last record of the last complete batch.
    pub(crate) head: Head,
    /// Offset of the byte after it.
    pub(crate) valid_len: u64,
    /// What stands after it; `None` when the segment ends there.
    pub(crate) damage: Option<Corruption>,
}

/// Finds the end of a log without changing it; `None` when it has no segment yet.
pub(crate) fn find_end(dir: &LogDir, beginning: &Beginning) -> Result<Option<End>, ReadError> {
    let io = |source| ReadError::Io { path: dir.path.clone(), source };
    // The anchor first: another process may be appending, and the log must not be older than its anchor.
    let anchored = anchor::read(dir).map_err(io)?;
    let (segments, dropped) = (beginning.segments.clone(), beginning.dropped());
    let Some(last) = segments.last() else {
        return match anchored {
            Anchored::At(Head { seq: anchor, .. }) if anchor > dropped.seq => {
                Err(ReadError::Corrupt(Corruption::Shortened { anchor, head: dropped.seq }))
            }
            Anchored::Unreadable if dropped != Head::EMPTY => Err(ReadError::Corrupt(Corruption::NoAnchor)),
            Anchored::At(_) | Anchored::Unreadable => Ok(None),
        };
    };
    segment::check_links(dir.disk.as_ref(), &segments, dropped)?;
    let (mut anchored_hash, mut anchored_len) = (None, FIRST_RECORD);
    let scanned = scan(dir.disk.as_ref(), last, |frame| {
        if matches!(anchored, Anchored::At(anchor) if anchor.seq == frame.seq) {
            (anchored_hash, anchored_len) = (Some(frame.hash), frame.end);
        }
        Ok(())
    })?;
    match anchored {
        Anchored::At(anchor) => check_anchor(dir.disk.as_ref(), &segments, &scanned, anchor, anchored_hash)?,
        Anchored::Unreadable if scanned.head == Head::EMPTY => {}
        Anchored::Unreadable => return Err(ReadError::Corrupt(Corruption::NoAnchor)),
    }
    let len = last_len(dir, last).map_err(|source| last.io(source))?;
    let torn_len = len.saturating_sub(scanned.valid_len);
    Ok(Some(End { head: scanned.head, anchored_len, valid_len: scanned.valid_len, torn_len, segments }))
}

fn last_len(dir: &LogDir, last: &Segment) -> io::Result<u64> {
    dir.disk.open(&last.path)?.len_bytes()
}

/// Reads a segment up to its end or its first fault and shows each valid record.
pub(crate) fn scan(
    disk: &dyn Disk,
    segment: &Segment,
    mut visit: impl FnMut(&crate::frame::Frame<'_>) -> Result<(), Fault>,
) -> Result<Scanned, ReadError> {
    let mut scanner = Scanner::open(disk, segment)?;
    let before = Seq(segment.first.0.saturating_sub(1));
    let hash = scanner.previous().expect("a scanner at the first record knows the hash before");
    let mut scanned = Scanned { head: Head::new(before, hash), valid_len: FIRST_RECORD, damage: None };
    loop {
        let frame = match scanner.next() {
            Ok(Some(frame)) => frame,
            Ok(None) => break,
            Err(error) => {
                scanned.damage = Some(corruption(error)?);
                return Ok(scanned);
            }
        };
        if let Err(fault) = visit(&frame) {
            scanned.damage = Some(corruption(segment.corrupt(frame.seq, frame.offset, fault))?);
            return Ok(scanned);
        }
        if frame.last_of_batch {
            scanned.head = Head::new(frame.seq, frame.hash);
            scanned.valid_len = frame.end;
        }
    }
    if scanner.offset() != scanned.valid_len {
        let damage = segment.corrupt(scanner.expected(), scanner.offset(), Fault::OpenBatch);
        scanned.damage = Some(corruption(damage)?);
    }
    Ok(scanned)
}

fn corruption(error: ReadError) -> Result<Corruption, ReadError> {
    match error {
        ReadError::Corrupt(corruption) => Ok(corruption),
        ReadError::Io { .. } | ReadError::Compacted { .. } => Err(error),
    }
}

fn check_anchor(
    disk: &dyn Disk,
    segments: &[Segment],
    scanned: &Scanned,
    anchor: Head,
    anchored_hash: Option<[u8; 32]>,
) -> Result<(), ReadError> {
    if anchor.seq > scanned.head.seq {
        let shortened = Corruption::Shortened { anchor: anchor.seq, head: scanned.head.seq };
        return Err(ReadError::Corrupt(scanned.damage.clone().unwrap_or(shortened)));
    }
    let hash = match anchored_hash {
        Some(hash) => hash,
        None => hash_at(disk, segments, anchor.seq)?,
    };
    if hash == anchor.hash {
        Ok(())
    } else {
        Err(ReadError::Corrupt(Corruption::Rewritten { seq: anchor.seq }))
    }
}

/// Reads the hash of a record that stands in the segments, before their last one or right at its beginning, or before all of
/// them.
pub(crate) fn hash_at(disk: &dyn Disk, segments: &[Segment], seq: Seq) -> Result<[u8; 32], ReadError> {
    let following = segments.partition_point(|segment| segment.first <= seq.next());
    let segment = &segments[following.saturating_sub(1)];
    let mut scanner = Scanner::open(disk, segment)?;
    while scanner.expected() <= seq {
        if scanner.next()?.is_none() {
            return Err(segment.corrupt(scanner.expected(), scanner.offset(), Fault::Link));
        }
    }
    Ok(scanner.previous().expect("a scanner that began at the first record knows the hash before"))
}

/// Removes what an interrupted process left under a temporary name.
pub(crate) fn remove_temporary(dir: &LogDir) -> io::Result<()> {
    for path in dir.disk.list(&dir.path)? {
        if path.extension().is_some_and(|extension| extension == crate::files::TEMPORARY) {
            dir.disk.remove_file(&path)?;
        }
    }
    Ok(())
}
