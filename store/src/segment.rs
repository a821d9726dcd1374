//! Segment files: names and headers (`docs/log-format.md`, "Segment").

use std::io;
use std::path::{Path, PathBuf};

use pyro_core::Seq;

use crate::corruption::{Corruption, Fault};
use crate::disk::{self, Disk, DiskFile, LogDir};
use crate::files;
use crate::frame::{Hash, array};
use crate::reader::ReadError;
use crate::shared::Head;

/// Length of a segment's header, in bytes.
pub(crate) const HEADER_LEN: usize = 80;

/// Offset of a segment's first record.
pub(crate) const FIRST_RECORD: u64 = 80;

const MAGIC: [u8; 8] = *b"PYROSEG\0";
const FORMAT: u32 = 1;
const CHECKED_FROM: usize = 12;
const NAME_DIGITS: usize = 20;
const EXTENSION: &str = "seg";

/// A segment of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    /// Number of its first record.
    pub(crate) first: Seq,
    pub(crate) path: PathBuf,
}

impl Segment {
    pub(crate) fn new(dir: &Path, first: Seq) -> Self {
        Self { first, path: dir.join(format!("{:0NAME_DIGITS$}.{EXTENSION}", first.0)) }
    }

    /// Makes the file, complete with header and durable.
    pub(crate) fn create(&self, dir: &LogDir, header: &Header) -> io::Result<Box<dyn DiskFile>> {
        dir.publish(&self.path, &header.to_bytes())
    }

    /// Opens the file and checks its header.
    pub(crate) fn open(&self, disk: &dyn Disk) -> Result<(Box<dyn DiskFile>, Header), ReadError> {
        let file = disk.open(&self.path).map_err(|source| self.io(source))?;
        let mut bytes = [0; HEADER_LEN];
        match disk::read_exact_at(file.as_ref(), &mut bytes, 0) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(self.corrupt(self.first, 0, Fault::Header));
            }
            Err(error) => return Err(self.io(error)),
        }
        let header = Header::from_bytes(&bytes).map_err(|fault| self.corrupt(self.first, 0, fault))?;
        if header.first != self.first {
            return Err(self.corrupt(self.first, 0, Fault::Header));
        }
        Ok((file, header))
    }

    pub(crate) fn io(&self, source: io::Error) -> ReadError {
        ReadError::Io { path: self.path.clone(), source }
    }

    pub(crate) fn corrupt(&self, seq: Seq, offset: u64, fault: Fault) -> ReadError {
        ReadError::Corrupt(Corruption::Record { seq, segment: self.path.clone(), offset, fault })
    }
}

/// What a segment says of itself and of the one before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) first: Seq,
    /// Number of the first record of the segment before; zero in the first segment.
    pub(crate) previous_first: Seq,
    /// Length of the segment before, in bytes; zero in the first segment.
    pub(crate) previous_len: u64,
    /// Hash of the last record before this segment.
    pub(crate) previous_hash: Hash,
}

impl Header {
    fn to_bytes(&self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[12..16].copy_from_slice(&FORMAT.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.first.0.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.previous_first.0.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.previous_len.to_le_bytes());
        bytes[40..72].copy_from_slice(&self.previous_hash);
        let checksum = crc32fast::hash(&bytes[CHECKED_FROM..]);
        bytes[8..12].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8; HEADER_LEN]) -> Result<Self, Fault> {
        let checksum = u32::from_le_bytes(array(bytes, 8..12));
        if bytes[..8] != MAGIC || checksum != crc32fast::hash(&bytes[CHECKED_FROM..]) {
            return Err(Fault::Header);
        }
        let format = u32::from_le_bytes(array(bytes, 12..16));
        if format != FORMAT {
            return Err(Fault::Format { found: format });
        }
        Ok(Self {
            first: Seq(u64::from_le_bytes(array(bytes, 16..24))),
            previous_first: Seq(u64::from_le_bytes(array(bytes, 24..32))),
            previous_len: u64::from_le_bytes(array(bytes, 32..40)),
            previous_hash: array(bytes, 40..72),
        })
    }
}

/// Picks the segments of a log among its files, in order.
pub(crate) fn of_paths(paths: &[PathBuf]) -> Vec<Segment> {
    let first = |path: &PathBuf| files::number_of(path, EXTENSION, NAME_DIGITS).map(Seq);
    let segments = paths.iter().filter_map(|path| Some(Segment { first: first(path)?, path: path.clone() }));
    let mut segments: Vec<_> = segments.collect();
    segments.sort_by_key(|segment| segment.first);
    segments
}

/// Checks that each segment continues the one before, by headers and file lengths alone. The first one continues what was
/// dropped.
pub(crate) fn check_links(disk: &dyn Disk, segments: &[Segment], dropped: Head) -> Result<(), ReadError> {
    let mut previous: Option<(&Segment, u64)> = None;
    for segment in segments {
        let (file, header) = segment.open(disk)?;
        let len = file.len_bytes().map_err(|source| segment.io(source))?;
        let Some((before, before_len)) = previous else {
            check_first(segment, &header, dropped)?;
            previous = Some((segment, len));
            continue;
        };
        if header.previous_first != before.first {
            return Err(segment.corrupt(header.previous_first, 0, Fault::Link));
        }
        if header.previous_len != before_len {
            // Which record is the first bad one shows when the segment is read.
            return Err(first_fault(disk, before, segment.first, before_len)?);
        }
        previous = Some((segment, len));
    }
    Ok(())
}

/// Checks that the first segment continues what was dropped, if anything was.
pub(crate) fn check_first(segment: &Segment, header: &Header, dropped: Head) -> Result<(), ReadError> {
    let first = dropped.seq.next();
    if segment.first != first {
        let path = segment.path.clone();
        return Err(ReadError::Corrupt(Corruption::NoBase { first: segment.first, expected: first, path }));
    }
    let is_whole = dropped.seq == Seq::ZERO;
    if is_whole && (header.previous_first, header.previous_len) != (Seq::ZERO, 0) {
        return Err(segment.corrupt(first, 0, Fault::Link));
    }
    if header.previous_hash == dropped.hash { Ok(()) } else { Err(segment.corrupt(first, 0, Fault::Chain)) }
}

/// Finds the place where a segment with the wrong length goes wrong.
fn first_fault(disk: &dyn Disk, segment: &Segment, next: Seq, len: u64) -> Result<ReadError, ReadError> {
    let mut scanner = crate::scanner::Scanner::open(disk, segment)?;
    while let Some(frame) = scanner.next()? {
        if frame.seq >= next {
            return Ok(segment.corrupt(frame.seq, frame.offset, Fault::Link));
        }
    }
    Ok(segment.corrupt(scanner.expected(), len, Fault::Link))
}
