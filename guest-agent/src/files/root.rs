//! The directory below which all files are.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use pyro_protocol::Files;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::files::cursor::{self, Cursor, Missing};
use crate::files::path::{Below, EntryPath, PathError};

/// No path leaves the root, and none leads through a link.
const BELOW: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);

/// The open root.
#[derive(Debug)]
pub(super) struct Root {
    directory: OwnedFd,
}

/// The directory that a name is in.
#[derive(Debug)]
pub(super) enum Parent<'a> {
    Root(BorrowedFd<'a>),
    Below(OwnedFd),
}

impl Parent<'_> {
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Root(root) => *root,
            Self::Below(directory) => directory.as_fd(),
        }
    }
}

impl Root {
    /// Opens the directory, or makes it.
    pub(super) fn open(files: &Files) -> Result<Self, Errno> {
        let path = EntryPath::parse_absolute(files.root.as_bytes()).map_err(errno)?;
        let missing = if files.create_root { Missing::Make } else { Missing::Fail };
        let directory =
            Cursor::new(cursor::open_root()?).open(path.borrowed(), missing)?.try_clone_to_owned();
        Ok(Self { directory: directory.map_err(|_full| Errno::MFILE)? })
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }

    /// Opens a file or directory, or makes a file.
    pub(super) fn open_at(&self, path: &EntryPath, flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let bytes = if path.as_bytes().is_empty() { b"." } else { path.as_bytes() };
        loop {
            match rustix::fs::openat2(&self.directory, bytes, flags, mode, BELOW) {
                // Something was renamed while the kernel looked.
                Err(Errno::AGAIN) => {}
                opened => return opened,
            }
        }
    }

    /// Opens the directory that holds the name at the end of a path, and returns that name.
    ///
    /// # Errors
    ///
    /// [`Errno::BUSY`] when the path is that of the root, which cannot be made, removed or moved.
    pub(super) fn parent<'a>(&'a self, path: &'a EntryPath) -> Result<(Parent<'a>, &'a [u8]), Errno> {
        let (directory, name) = path.split().ok_or(Errno::BUSY)?;
        Ok((self.directory_at(directory)?, name))
    }

    fn directory_at(&self, path: Below<'_>) -> Result<Parent<'_>, Errno> {
        if path.is_root() {
            return Ok(Parent::Root(self.fd()));
        }
        let opened = self.open_at(&path.to_owned(), OFlags::PATH | OFlags::DIRECTORY, Mode::empty());
        match opened {
            Ok(directory) => Ok(Parent::Below(directory)),
            // A link in the middle of a path is no directory.
            Err(Errno::LOOP) => Err(Errno::NOTDIR),
            Err(error) => Err(error),
        }
    }
}

/// Checks a path of the host's.
pub(super) fn parse(path: Vec<u8>) -> Result<EntryPath, Errno> {
    EntryPath::parse(path).map_err(errno)
}

const fn errno(error: PathError) -> Errno {
    match error {
        PathError::Component | PathError::Zero => Errno::INVAL,
        PathError::Long | PathError::Name => Errno::NAMETOOLONG,
    }
}
