//! The bytes of an archive, unpacked from gzip when its name says so.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;
use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, openat};

use super::error::SourceError;
use super::limits::{PADDING_MAX, Watch};
use super::source::says_gzip;

/// Bytes that are read from the file at once.
const BUFFER_LEN: usize = 64 * 1024;

/// Bytes of a header, and the unit in which archives are laid out.
pub(super) const BLOCK_LEN: usize = 512;

/// First bytes of a gzip stream.
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// The archive as a reader. What goes wrong is kept, because [`io::Error`] does not tell what it was.
#[derive(Debug)]
pub(super) struct Stream<'a> {
    bytes: Bytes<'a>,
    /// Bytes that were read so far.
    position: u64,
    /// Whether the end was found.
    ended: bool,
    fault: Option<SourceError>,
}

#[derive(Debug)]
enum Bytes<'a> {
    Plain(BufReader<Watched<'a>>),
    Gzip(Box<MultiGzDecoder<BufReader<Watched<'a>>>>),
}

/// The file, whose reading can be ended from outside.
#[derive(Debug)]
struct Watched<'a> {
    file: File,
    path: PathBuf,
    watch: Watch<'a>,
    fault: Option<SourceError>,
}

impl<'a> Stream<'a> {
    /// Opens an archive and looks whether it is compressed as its name says.
    pub(super) fn open(path: &Path, watch: Watch<'a>) -> Result<Self, SourceError> {
        let file = Watched { file: open(path)?, path: path.to_owned(), watch, fault: None };
        let mut file = BufReader::with_capacity(BUFFER_LEN, file);
        let starts_as_gzip = match file.fill_buf() {
            Ok(start) => start.starts_with(&GZIP_MAGIC),
            Err(source) => {
                let fault = file.get_mut().fault.take();
                return Err(fault.unwrap_or(SourceError::Unreadable { path: path.to_owned(), source }));
            }
        };
        let bytes = match (says_gzip(path), starts_as_gzip) {
            (false, false) => Bytes::Plain(file),
            (true, true) => Bytes::Gzip(Box::new(MultiGzDecoder::new(file))),
            (false, true) => {
                return Err(SourceError::refused_archive(
                    "is compressed with gzip, but its name ends in .tar",
                ));
            }
            (true, false) => {
                return Err(SourceError::refused_archive("is not compressed with gzip, as its name says"));
            }
        };
        Ok(Self { bytes, position: 0, ended: false, fault: None })
    }

    /// Returns what was wrong when reading failed, or `None` when the bytes could be read: then they are not an archive.
    pub(super) fn take_fault(&mut self) -> Option<SourceError> {
        self.fault.take()
    }

    /// Tells whether the end was found.
    pub(super) const fn has_ended(&self) -> bool {
        self.ended
    }

    /// Reads what is behind the last entry, which ended at `end`: a marker of two blocks of zeros, and nothing but zeros
    /// to the last byte. With gzip the checksums stand there, and are right when this returns.
    pub(super) fn finish(&mut self, end: u64) -> Result<(), SourceError> {
        let mut buffer = vec![0; BUFFER_LEN];
        loop {
            let read = self.read(&mut buffer);
            let count = match read {
                Ok(0) => break,
                Ok(count) => count,
                Err(_) => {
                    let fault = self.take_fault();
                    return Err(fault.unwrap_or_else(|| SourceError::refused_archive("cannot be read")));
                }
            };
            if buffer[..count].iter().any(|byte| *byte != 0) {
                return Err(SourceError::refused_archive("has something behind its end"));
            }
            if self.position - end > PADDING_MAX {
                return Err(SourceError::refused_archive("has more than 4 MiB of zeros behind its end"));
            }
        }
        match self.position - end {
            0 => Err(SourceError::refused_archive("has no end marker")),
            found if found < 2 * BLOCK_LEN as u64 => {
                Err(SourceError::refused_archive("ends within its end marker"))
            }
            _ => Ok(()),
        }
    }

    fn fault_of(&mut self, error: &io::Error) -> SourceError {
        let (file, is_gzip) = match &mut self.bytes {
            Bytes::Plain(file) => (file.get_mut(), false),
            Bytes::Gzip(decoder) => (decoder.get_mut().get_mut(), true),
        };
        let of_gzip = |error: &io::Error| match error.kind() {
            io::ErrorKind::UnexpectedEof => "has a gzip stream that ends too early",
            _ => "has a damaged gzip stream",
        };
        match file.fault.take() {
            Some(fault) => fault,
            None if is_gzip => SourceError::refused_archive(of_gzip(error)),
            None => SourceError::Unreadable { path: file.path.clone(), source: error.kind().into() },
        }
    }
}

impl Read for Stream<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = match &mut self.bytes {
            Bytes::Plain(file) => file.read(into),
            Bytes::Gzip(decoder) => decoder.read(into),
        };
        match read {
            Ok(count) => {
                self.position += count as u64;
                self.ended |= count == 0 && !into.is_empty();
                Ok(count)
            }
            Err(error) => {
                self.fault = Some(self.fault_of(&error));
                Err(error)
            }
        }
    }
}

impl Read for Watched<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Err(fault) = self.watch.check() {
                self.fault = Some(fault);
                return Err(io::ErrorKind::Other.into());
            }
            match self.file.read(into) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
                Err(source) => {
                    let kind = source.kind();
                    self.fault = Some(SourceError::Unreadable { path: self.path.clone(), source });
                    return Err(kind.into());
                }
                Ok(count) => return Ok(count),
            }
        }
    }
}

/// Opens a regular file without following a link, or waiting for anybody when it is something else by now.
fn open(path: &Path) -> Result<File, SourceError> {
    let unreadable = |error: rustix::io::Errno| match error {
        rustix::io::Errno::NOENT => SourceError::Missing { path: path.to_owned() },
        _ => SourceError::Unreadable { path: path.to_owned(), source: error.into() },
    };
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = openat(CWD, path, flags, Mode::empty()).map_err(unreadable)?;
    let stat = fstat(&file).map_err(unreadable)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        let reason = format!("{path:?} is not a regular file");
        return Err(SourceError::Unsupported { path: path.to_owned(), reason });
    }
    Ok(File::from(file))
}
