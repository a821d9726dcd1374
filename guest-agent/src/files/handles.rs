//! Files and directories that the host has open.

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pyro_protocol::{FILE_HANDLES_MAX, LISTED_MAX, Listed};
use rustix::fs::Dir;
use rustix::io::Errno;

use super::attributes;

/// Something that is open.
#[derive(Debug)]
pub(super) enum Open {
    File(File),
    Directory(OpenDirectory),
}

/// A directory that is read.
#[derive(Debug)]
pub(super) struct OpenDirectory {
    directory: OwnedFd,
    /// How far it was read.
    entries: Mutex<Dir>,
}

impl Open {
    /// Returns the file.
    ///
    /// # Errors
    ///
    /// [`Errno::BADF`] when it is a directory.
    pub(super) const fn file(&self) -> Result<&File, Errno> {
        match self {
            Self::File(file) => Ok(file),
            Self::Directory(_) => Err(Errno::BADF),
        }
    }

    /// Returns the directory.
    ///
    /// # Errors
    ///
    /// [`Errno::BADF`] when it is a file.
    pub(super) const fn directory(&self) -> Result<&OpenDirectory, Errno> {
        match self {
            Self::Directory(directory) => Ok(directory),
            Self::File(_) => Err(Errno::BADF),
        }
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::File(file) => file.as_fd(),
            Self::Directory(OpenDirectory { directory, .. }) => directory.as_fd(),
        }
    }
}

impl OpenDirectory {
    pub(super) fn new(directory: OwnedFd) -> Result<Self, Errno> {
        let entries = Mutex::new(Dir::read_from(&directory)?);
        Ok(Self { directory, entries })
    }

    /// Returns the next entries; none at the end.
    pub(super) fn read(&self) -> Result<Vec<Listed>, Errno> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let mut listed = Vec::new();
        while listed.len() < LISTED_MAX {
            let Some(entry) = entries.read() else { break };
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            match attributes::of_name(self.directory.as_fd(), name) {
                Ok(stat) => listed.push(Listed { name: name.to_vec(), stat }),
                // It was removed in this moment.
                Err(Errno::NOENT) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(listed)
    }
}

/// All that is open on a connection.
#[derive(Debug, Default)]
pub(super) struct Handles {
    open: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    last: u64,
    by_handle: HashMap<u64, Arc<Open>>,
}

impl Handles {
    /// Takes something open in and returns its handle.
    ///
    /// # Errors
    ///
    /// [`Errno::MFILE`] when there are too many.
    pub(super) fn add(&self, open: Open) -> Result<(u64, Arc<Open>), Errno> {
        let open = Arc::new(open);
        let mut table = self.table();
        if table.by_handle.len() >= FILE_HANDLES_MAX {
            return Err(Errno::MFILE);
        }
        table.last += 1;
        let handle = table.last;
        table.by_handle.insert(handle, Arc::clone(&open));
        Ok((handle, open))
    }

    /// Returns what is open under a handle.
    ///
    /// # Errors
    ///
    /// [`Errno::BADF`] when nothing is.
    pub(super) fn get(&self, handle: u64) -> Result<Arc<Open>, Errno> {
        self.table().by_handle.get(&handle).map(Arc::clone).ok_or(Errno::BADF)
    }

    /// Ends a handle.
    ///
    /// # Errors
    ///
    /// [`Errno::BADF`] when there is none.
    pub(super) fn close(&self, handle: u64) -> Result<(), Errno> {
        let closed = self.table().by_handle.remove(&handle);
        closed.map(drop).ok_or(Errno::BADF)
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
