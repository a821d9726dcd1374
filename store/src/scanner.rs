//! Reads the records of one segment in order, checking each.

use std::io;

use pyro_core::Seq;

use crate::corruption::Fault;
use crate::disk::{Disk, DiskFile};
use crate::files;
use crate::frame::{self, Frame, HEAD_LEN, Hash};
use crate::reader::ReadError;
use crate::segment::{FIRST_RECORD, Segment};

/// How much is read at once, in bytes. Larger reads do not make a replay faster.
const CHUNK_LEN: usize = 128 << 10;

/// A position in a segment. After an error it must not be used further.
#[derive(Debug)]
pub(crate) struct Scanner {
    segment: Segment,
    file: Box<dyn DiskFile>,
    /// Bytes of the file from `offset` on are in `buffer[start..end]`.
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    offset: u64,
    expected: Seq,
    previous: Option<Hash>,
}

impl Scanner {
    /// Begins at the first record.
    pub(crate) fn open(disk: &dyn Disk, segment: &Segment) -> Result<Self, ReadError> {
        let (file, header) = segment.open(disk)?;
        Ok(Self {
            segment: segment.clone(),
            file,
            buffer: Vec::new(),
            start: 0,
            end: 0,
            offset: FIRST_RECORD,
            expected: segment.first,
            previous: Some(header.previous_hash),
        })
    }

    /// Begins at a record whose place is known. Its link to the record before is not checked.
    pub(crate) fn open_at(
        disk: &dyn Disk,
        segment: &Segment,
        seq: Seq,
        offset: u64,
    ) -> Result<Self, ReadError> {
        let mut scanner = Self::open(disk, segment)?;
        if offset > FIRST_RECORD {
            scanner.offset = offset;
            scanner.expected = seq;
            scanner.previous = None;
        }
        Ok(scanner)
    }

    /// Returns the number that the next record must have.
    pub(crate) const fn expected(&self) -> Seq {
        self.expected
    }

    /// Returns the hash of the record before; `None` when it was not read.
    pub(crate) const fn previous(&self) -> Option<Hash> {
        self.previous
    }

    /// Returns the offset of the next record.
    pub(crate) const fn offset(&self) -> u64 {
        self.offset
    }

    /// Returns the segment that is read.
    pub(crate) const fn segment(&self) -> &Segment {
        &self.segment
    }

    /// Returns the next record; `None` at the end of the file.
    pub(crate) fn next(&mut self) -> Result<Option<Frame<'_>>, ReadError> {
        let offset = self.offset;
        match self.fill(HEAD_LEN)? {
            0 => return Ok(None),
            available if available < HEAD_LEN => return Err(self.fault(Fault::CutShort)),
            _ => {}
        }
        let len = match frame::payload_len(&self.buffer[self.start..self.end]) {
            Ok(len) => HEAD_LEN + len,
            Err(fault) => return Err(self.fault(fault)),
        };
        if self.fill(len)? < len {
            return Err(self.fault(Fault::CutShort));
        }
        let bytes = &mut self.buffer[self.start..self.start + len];
        let frame =
            match frame::check(bytes, (self.segment.first, offset), self.expected, self.previous.as_ref()) {
                Ok(frame) => frame,
                Err(fault) => return Err(self.segment.corrupt(self.expected, offset, fault)),
            };
        self.start += len;
        self.offset = frame.end;
        self.expected = frame.seq.next();
        self.previous = Some(frame.hash);
        Ok(Some(frame))
    }

    /// Tells whether a valid record stands here, without moving.
    pub(crate) fn peek(&mut self) -> bool {
        let (offset, expected, previous) = (self.offset, self.expected, self.previous);
        let Ok(Some(frame)) = self.next() else { return false };
        let len = frame.payload.len() + HEAD_LEN;
        self.start -= len;
        (self.offset, self.expected, self.previous) = (offset, expected, previous);
        true
    }

    fn fault(&self, fault: Fault) -> ReadError {
        self.segment.corrupt(self.expected, self.offset, fault)
    }

    /// Reads until `needed` bytes are in the buffer or the file ends; returns how many there are.
    fn fill(&mut self, needed: usize) -> Result<usize, ReadError> {
        if self.end - self.start >= needed {
            return Ok(self.end - self.start);
        }
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        let room = needed.max(CHUNK_LEN);
        if self.buffer.len() < room {
            // Pages that nobody reads into are never touched, which `resize` would do.
            let mut larger = vec![0; room];
            larger[..self.end].copy_from_slice(&self.buffer[..self.end]);
            self.buffer = larger;
        }
        while self.end < needed {
            let held = files::len_u64(self.end);
            match self.file.read_at(&mut self.buffer[self.end..], self.offset + held) {
                Ok(0) => break,
                Ok(count) => self.end += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.segment.io(error)),
            }
        }
        Ok(self.end)
    }
}
