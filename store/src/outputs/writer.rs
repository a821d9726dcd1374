//! Writing a stream.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use pyro_core::{Gaps, StreamSummary, Timestamp};

use super::error::OutputError;
use super::reader::{ENTRY_LEN, OutputReader, TimeEntry};
use super::stream::times_path;
use crate::files;

/// Least distance of two entries in the file of times, in microseconds: many small writes must not make it larger than
/// the output.
const ENTRY_DISTANCE_US: u64 = 10_000;

/// After so many entries the least distance doubles, and again after as many: the file of a stream that is written for a
/// year has 16 MiB.
const ENTRIES_PER_DISTANCE: u64 = 65_536;

/// A stream that is written. There is one writer per stream.
#[derive(Debug)]
pub struct OutputWriter {
    path: PathBuf,
    file: File,
    len: u64,
    /// Bytes up to here survive a power cut.
    durable_len: u64,
    /// Of all bytes; `None` when some of them are dropped, and the digest is that of the others in the end.
    hasher: Option<blake3::Hasher>,
    times: Option<Times>,
    /// The directory entries are durable.
    entered: bool,
    poisoned: bool,
}

/// The open file of times.
#[derive(Debug)]
struct Times {
    file: File,
    len: u64,
    last: Option<Timestamp>,
}

impl OutputWriter {
    pub(super) fn create(path: PathBuf) -> Result<Self, OutputError> {
        match files::private().write(true).create_new(true).open(&path) {
            Ok(file) => Ok(Self::new(path, file, 0, Some(blake3::Hasher::new()))),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(OutputError::Exists { path }),
            Err(source) => Err(OutputError::io(&path, source)),
        }
    }

    pub(super) fn resume(path: PathBuf, gaps: &Gaps) -> Result<Self, OutputError> {
        let file = open(files::private().write(true).create(true).truncate(false), &path)?;
        let reader = OutputReader::open(path.clone())?;
        let len = reader.len_bytes()?;
        let mut hasher = gaps.is_empty().then(blake3::Hasher::new);
        if let Some(hasher) = &mut hasher {
            reader.hash(0..len, hasher)?;
        }
        let mut writer = Self::new(path, file, len, hasher);
        if len > 0 {
            writer.times = Some(Times::resume(&times_path(&writer.path), len)?);
        }
        Ok(writer)
    }

    fn new(path: PathBuf, file: File, len: u64, hasher: Option<blake3::Hasher>) -> Self {
        Self { path, file, len, durable_len: 0, hasher, times: None, entered: false, poisoned: false }
    }

    /// Returns how many bytes there are.
    #[must_use]
    pub const fn len_bytes(&self) -> u64 {
        self.len
    }

    /// Returns the file with the bytes.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends bytes that begin at `offset` of the stream and arrived at `at`; returns the new length.
    ///
    /// Bytes that are there already are skipped, so a sender may repeat what it does not know to have arrived.
    /// They can be read at once, but survive a power cut only after [`Self::sync`].
    ///
    /// # Errors
    ///
    /// [`OutputError::Hole`] when `offset` lies behind the end, [`OutputError::StorageFull`] on a full disk; the
    /// stream is then as it was.
    pub fn append(&mut self, offset: u64, bytes: &[u8], at: Timestamp) -> Result<u64, OutputError> {
        if self.poisoned {
            return Err(OutputError::Poisoned { path: self.path.clone() });
        }
        let Some(known) = self.len.checked_sub(offset) else {
            return Err(OutputError::Hole { expected: self.len, offset });
        };
        let new = usize::try_from(known).ok().and_then(|known| bytes.get(known..)).unwrap_or_default();
        if new.is_empty() {
            return Ok(self.len);
        }
        if let Err(source) = self.file.write_all_at(new, self.len) {
            self.poisoned = self.file.set_len(self.len).is_err();
            return Err(OutputError::io(&self.path, source));
        }
        if let Some(hasher) = &mut self.hasher {
            hasher.update(new);
        }
        let first = self.len;
        self.len += u64::try_from(new.len()).expect("a slice is shorter than 2^64");
        self.note_time(TimeEntry { offset: first, at })?;
        Ok(self.len)
    }

    /// Makes all bytes durable and returns how many there are.
    ///
    /// # Errors
    ///
    /// [`OutputError`]; the stream takes no more output then, as it cannot be known what the disk has.
    pub fn sync(&mut self) -> Result<u64, OutputError> {
        if self.poisoned {
            return Err(OutputError::Poisoned { path: self.path.clone() });
        }
        if self.durable_len < self.len
            && let Err(source) = self.sync_files()
        {
            self.poisoned = true;
            return Err(OutputError::io(&self.path, source));
        }
        self.durable_len = self.len;
        Ok(self.durable_len)
    }

    /// Makes all bytes durable and returns length and digest of the stream: of all its bytes, or of those outside of the
    /// gaps when there are any.
    ///
    /// # Errors
    ///
    /// As [`Self::sync`]; [`OutputError::Io`] when bytes that are kept cannot be read.
    pub fn finish(mut self, gaps: &Gaps) -> Result<StreamSummary, OutputError> {
        let len_bytes = self.sync()?;
        let digest = match self.hasher.take().filter(|_| gaps.is_empty()) {
            Some(hasher) => *hasher.finalize().as_bytes(),
            None => OutputReader::open(self.path)?.digest(0..len_bytes, gaps)?,
        };
        Ok(StreamSummary { len_bytes, digest })
    }

    fn sync_files(&mut self) -> io::Result<()> {
        self.file.sync_data()?;
        if let Some(times) = &self.times {
            times.file.sync_data()?;
        }
        if !self.entered {
            for dir in self.path.ancestors().skip(1).take(2) {
                files::sync_dir(dir)?;
            }
            self.entered = true;
        }
        Ok(())
    }

    /// Times are a convenience: without space for them the bytes still count.
    fn note_time(&mut self, entry: TimeEntry) -> Result<(), OutputError> {
        let path = times_path(&self.path);
        let noted = match &mut self.times {
            Some(times) => times.note(&path, entry),
            None => Times::resume(&path, entry.offset)
                .and_then(|times| self.times.insert(times).note(&path, entry)),
        };
        match noted {
            Ok(()) | Err(OutputError::StorageFull { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

impl Times {
    /// Opens the file and cuts what does not belong to the first `data_len` bytes of the stream.
    fn resume(path: &Path, data_len: u64) -> Result<Self, OutputError> {
        let io = |source| OutputError::io(path, source);
        let file = open(files::private().read(true).write(true).create(true).truncate(false), path)?;
        let entry_len = u64::try_from(ENTRY_LEN).expect("16 fits");
        let found = file.metadata().map_err(io)?.len();
        let mut len = found - found % entry_len;
        let mut last = None;
        while len > 0 {
            let mut bytes = [0; ENTRY_LEN];
            file.read_exact_at(&mut bytes, len - entry_len).map_err(io)?;
            let entry = TimeEntry::from_bytes(&bytes);
            if entry.offset < data_len {
                last = Some(entry.at);
                break;
            }
            len -= entry_len;
        }
        if len < found {
            file.set_len(len).map_err(io)?;
        }
        Ok(Self { file, len, last })
    }

    const fn distance_us(&self) -> u64 {
        let doublings = self.len / ENTRY_LEN as u64 / ENTRIES_PER_DISTANCE;
        // A distance of 10,000 years is reached with 17 doublings less.
        ENTRY_DISTANCE_US << if doublings < 48 { doublings } else { 48 }
    }

    fn note(&mut self, path: &Path, entry: TimeEntry) -> Result<(), OutputError> {
        // A clock that went back gets an entry too: times are what the clock said.
        if self.last.is_some_and(|last| last.0 <= entry.at.0 && entry.at.0 - last.0 < self.distance_us()) {
            return Ok(());
        }
        // A torn entry is overwritten by the next one.
        self.file
            .write_all_at(&entry.to_bytes(), self.len)
            .map_err(|source| OutputError::io(path, source))?;
        self.len += u64::try_from(ENTRY_LEN).expect("16 fits");
        self.last = Some(entry.at);
        Ok(())
    }
}

fn open(options: &OpenOptions, path: &Path) -> Result<File, OutputError> {
    options.open(path).map_err(|source| OutputError::io(path, source))
}
