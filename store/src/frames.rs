//! Walks over the records of a log across its segments.

use std::sync::Arc;

use pyro_core::Seq;

use crate::corruption::Fault;
use crate::disk::Disk;
use crate::frame::Frame;
use crate::index::Position;
use crate::reader::ReadError;
use crate::scanner::Scanner;
use crate::segment::Segment;
use crate::shared::{Committed, Shared};

/// A position in the log that moves up to a fixed end. After an error it must not be used further.
#[derive(Debug)]
pub(crate) struct Frames {
    disk: Arc<dyn Disk>,
    segments: Arc<[Segment]>,
    place: usize,
    scanner: Scanner,
    last: Seq,
}

impl Frames {
    /// Stands before record `from`; the last record to be read is `last`, which is durable.
    ///
    /// [`ReadError::Compacted`] for a record before the first one that is there.
    pub(crate) fn open(
        shared: &Shared,
        committed: &Committed,
        from: Seq,
        last: Seq,
    ) -> Result<Self, ReadError> {
        if from < committed.first() {
            return Err(ReadError::Compacted { first: committed.first() });
        }
        let segments = Arc::clone(&committed.segments);
        let following = segments.partition_point(|segment| segment.first <= from);
        let place = following.saturating_sub(1);
        let segment = &segments[place];
        let disk = Arc::clone(&shared.dir.disk);
        let hint = shared.index.position(from).ok().flatten();
        let hint = hint.filter(|position| position.segment == segment.first && position.seq <= from);
        let hinted = hint.and_then(|position| seek_hint(disk.as_ref(), segment, position, from));
        let scanner = match hinted {
            Some(scanner) => scanner,
            None => seek(Scanner::open(disk.as_ref(), segment)?, from, last)?,
        };
        Ok(Self { disk, segments, place, scanner, last })
    }

    /// Returns the next record; `None` after the last one.
    pub(crate) fn next(&mut self) -> Result<Option<Frame<'_>>, ReadError> {
        if self.scanner.expected() > self.last {
            return Ok(None);
        }
        let next = self.segments.get(self.place + 1);
        if let Some(next) = next.filter(|next| next.first == self.scanner.expected()) {
            let scanner = Scanner::open(self.disk.as_ref(), next)?;
            if self.scanner.previous().is_some_and(|hash| scanner.previous() != Some(hash)) {
                return Err(next.corrupt(next.first, 0, Fault::Chain));
            }
            self.scanner = scanner;
            self.place += 1;
        }
        let (expected, offset) = (self.scanner.expected(), self.scanner.offset());
        let segment = &self.segments[self.place];
        match self.scanner.next()? {
            Some(frame) => Ok(Some(frame)),
            None => Err(segment.corrupt(expected, offset, Fault::Link)),
        }
    }
}

/// Uses a position from the index, which may be wrong: then the segment is read from its beginning.
fn seek_hint(disk: &dyn Disk, segment: &Segment, position: Position, from: Seq) -> Option<Scanner> {
    let mut scanner = Scanner::open_at(disk, segment, position.seq, position.offset).ok()?;
    if !scanner.peek() {
        return None;
    }
    seek(scanner, from, from).ok()
}

/// Moves to a record of the same segment, or to the end of the segment when `from` is right behind it.
fn seek(mut scanner: Scanner, from: Seq, last: Seq) -> Result<Scanner, ReadError> {
    while scanner.expected() < from && scanner.expected() <= last {
        if scanner.next()?.is_none() {
            return Err(scanner.segment().corrupt(scanner.expected(), scanner.offset(), Fault::Link));
        }
    }
    Ok(scanner)
}
