//! Segment files: names and headers (`docs/log-format.md`, "Segment").

use std::io;
use std::path::{Path, PathBuf};

use pyro_core::Seq;

use crate::corruption::{Corruption, Fault};
use crate::disk::{self, Disk, DiskFile, LogDir};
use crate::frame::{Hash, array};
use crate::reader::ReadError;

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

/// Lists the segments of a log in order. Files with other names are not segments.
pub(crate) fn list(dir: &LogDir) -> io::Result<Vec<Segment>> {
    let paths = dir.disk.list(&dir.path)?.into_iter();
    let mut segments: Vec<_> =
        paths.filter_map(|path| first_of(&path).map(|first| Segment { first, path })).collect();
    segments.sort_by_key(|segment| segment.first);
    Ok(segments)
}

fn first_of(path: &Path) -> Option<Seq> {
    let name = path.file_name()?.to_str()?;
    let digits = name.strip_suffix(EXTENSION)?.strip_suffix('.')?;
    if digits.len() != NAME_DIGITS || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok().map(Seq)
}

/// Checks that each segment continues the one before, by headers and file lengths alone.
pub(crate) fn check_links(disk: &dyn Disk, segments: &[Segment]) -> Result<(), ReadError> {
    let mut previous: Option<(&Segment, u64)> = None;
    for segment in segments {
        let (file, header) = segment.open(disk)?;
        let len = file.len_bytes().map_err(|source| segment.io(source))?;
        let (first, expected_first, expected_len) = match previous {
            None => (Seq::ZERO.next(), Seq::ZERO, 0),
            Some((before, len)) => (segment.first, before.first, len),
        };
        if segment.first != first || header.previous_first != expected_first {
            let missing = if previous.is_none() { first } else { header.previous_first };
            return Err(segment.corrupt(missing, 0, Fault::Link));
        }
        if let (Some((before, _)), true) = (previous, header.previous_len != expected_len) {
            // Which record is the first bad one shows when the segment is read.
            return Err(first_fault(disk, before, segment.first, expected_len)?);
        }
        previous = Some((segment, len));
    }
    Ok(())
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
