//! Addresses of Unix sockets, which have room for 107 bytes only.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

/// Longest path that fits into an address beside its final zero.
const ADDRESS_MAX: usize = 107;

/// A path to a socket, however long, in a form that can be bound to and connected to as long as this exists.
#[derive(Debug)]
pub(super) struct SocketPath {
    short: PathBuf,
    /// Directory that `short` goes through; `None` when the path itself is short enough.
    _dir: Option<OwnedFd>,
}

impl SocketPath {
    /// Returns the short form of a path whose directory exists.
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a socket has a name and a directory"));
        };
        if path.as_os_str().len() <= ADDRESS_MAX {
            return Ok(Self { short: path.to_owned(), _dir: None });
        }
        let dir = rustix::fs::open(dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let short = Path::new("/proc/self/fd").join(dir.as_raw_fd().to_string()).join(name);
        Ok(Self { short, _dir: Some(dir) })
    }

    pub(super) fn as_path(&self) -> &Path {
        &self.short
    }
}
