//! Where the files of a log are: the file systems of the host, or something that behaves worse on purpose.
//!
//! Everything that the log reads and writes goes through [`Disk`], but for its lock and its index: both belong to the
//! host, and the log is right without the second.

mod faults;
mod memory;

use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::files;

pub use faults::{Call, Failure, Fault, Times};
pub use memory::{Honesty, MemoryDisk};

/// A place for files, with the promises of a Unix file system: what is not synced may be gone after a power cut, and so
/// may the entry of a file whose directory is not synced.
pub trait Disk: fmt::Debug + Send + Sync {
    /// Creates a directory and its parents, readable only by their owner; an existing one is left as it is.
    ///
    /// # Errors
    ///
    /// What the disk says.
    fn create_dir(&self, path: &Path) -> io::Result<()>;

    /// Returns the paths of all entries of a directory, in no order.
    ///
    /// # Errors
    ///
    /// What the disk says; [`io::ErrorKind::NotFound`] when there is no such directory.
    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>>;

    /// Opens an existing file for reading.
    ///
    /// # Errors
    ///
    /// What the disk says; [`io::ErrorKind::NotFound`] when there is no such file.
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// Opens an existing file for reading and writing.
    ///
    /// # Errors
    ///
    /// As [`Self::open`].
    fn open_for_writing(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// Creates an empty file that only its owner can read, for reading and writing; an existing one is emptied.
    ///
    /// # Errors
    ///
    /// What the disk says.
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// Gives a file another name in the same directory, in the place of a file that had it.
    ///
    /// # Errors
    ///
    /// What the disk says.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    ///
    /// What the disk says; [`io::ErrorKind::NotFound`] when there is no such file.
    fn remove_file(&self, path: &Path) -> io::Result<()>;

    /// Makes the entries of a directory durable.
    ///
    /// # Errors
    ///
    /// What the disk says; nothing is known of the entries then.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
}

/// An open file of a [`Disk`].
pub trait DiskFile: fmt::Debug + Send + Sync {
    /// Returns the length, in bytes.
    ///
    /// # Errors
    ///
    /// What the disk says.
    fn len_bytes(&self) -> io::Result<u64>;

    /// Reads some bytes from an offset on and returns how many; 0 at the end.
    ///
    /// # Errors
    ///
    /// What the disk says; [`io::ErrorKind::Interrupted`] asks for another try.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes some bytes at an offset and returns how many.
    ///
    /// # Errors
    ///
    /// What the disk says; [`io::ErrorKind::Interrupted`] asks for another try.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize>;

    /// Cuts the file, or fills it with zeros up to a length in bytes.
    ///
    /// # Errors
    ///
    /// What the disk says.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Makes the bytes and the length durable.
    ///
    /// # Errors
    ///
    /// What the disk says; nothing is known of the bytes then, and another try proves nothing.
    fn sync_data(&self) -> io::Result<()>;

    /// Makes everything about the file durable.
    ///
    /// # Errors
    ///
    /// As [`Self::sync_data`].
    fn sync_all(&self) -> io::Result<()>;
}

/// The file systems of the host.
#[derive(Clone, Copy, Debug, Default)]
pub struct HostDisk;

impl Disk for HostDisk {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        files::create_dir(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        std::fs::read_dir(dir)?.map(|entry| entry.map(|entry| entry.path())).collect()
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(File::open(path)?))
    }

    fn open_for_writing(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(files::private().read(true).write(true).open(path)?))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(files::private().read(true).write(true).create(true).truncate(true).open(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        files::sync_dir(path)
    }
}

impl DiskFile for File {
    fn len_bytes(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        std::os::unix::fs::FileExt::read_at(self, buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        std::os::unix::fs::FileExt::write_at(self, bytes, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        Self::set_len(self, len)
    }

    fn sync_data(&self) -> io::Result<()> {
        Self::sync_data(self)
    }

    fn sync_all(&self) -> io::Result<()> {
        Self::sync_all(self)
    }
}

/// Fills the buffer from an offset on.
pub(crate) fn read_exact_at(file: &dyn DiskFile, mut buffer: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !buffer.is_empty() {
        match file.read_at(buffer, offset) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                buffer = &mut buffer[count..];
                offset += files::len_u64(count);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Writes all bytes at an offset.
pub(crate) fn write_all_at(file: &dyn DiskFile, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.write_at(bytes, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => {
                bytes = &bytes[count..];
                offset += files::len_u64(count);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The directory of a log, and the disk that it is on.
#[derive(Clone, Debug)]
pub(crate) struct LogDir {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) path: PathBuf,
}

impl LogDir {
    /// Names a directory of the host.
    pub(crate) fn of_host(path: &Path) -> Self {
        Self { disk: Arc::new(HostDisk), path: path.to_owned() }
    }

    /// Reads a file as a whole.
    pub(crate) fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        let file = self.disk.open(&self.path.join(name))?;
        let len = usize::try_from(file.len_bytes()?).map_err(io::Error::other)?;
        let mut bytes = vec![0; len];
        read_exact_at(file.as_ref(), &mut bytes, 0)?;
        Ok(bytes)
    }

    /// Puts a file in place so that it exists complete and durable or not at all.
    pub(crate) fn publish(&self, path: &Path, content: &[u8]) -> io::Result<Box<dyn DiskFile>> {
        let temporary = files::temporary(path);
        let result = self.write_and_rename(&temporary, path, content);
        if result.is_err() {
            // Best effort: opening the log removes what is left.
            drop(self.disk.remove_file(&temporary));
        }
        result
    }

    fn write_and_rename(
        &self,
        temporary: &Path,
        path: &Path,
        content: &[u8],
    ) -> io::Result<Box<dyn DiskFile>> {
        let file = self.disk.create(temporary)?;
        write_all_at(file.as_ref(), content, 0)?;
        file.sync_all()?;
        self.disk.rename(temporary, path)?;
        self.disk.sync_dir(&self.path)?;
        Ok(file)
    }

    /// Makes the entries of the directory durable.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.disk.sync_dir(&self.path)
    }
}
