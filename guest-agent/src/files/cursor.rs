//! Directories below a directory, without following a link.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Dir, FileType, Mode, OFlags, Timespec, Timestamps};
use rustix::io::Errno;

use crate::files::path::Below;

/// Most directories that a cursor keeps open on its way down. It makes neighbours cheap, and eight imports with deep
/// paths do not use up the agent's descriptors.
const KEPT: usize = 16;

/// Mode of directories that have no entry of their own.
const IMPLIED: Mode = Mode::from_raw_mode(0o755);

/// Opens directories below a root, one after the other.
///
/// Each component is opened by its own call relative to its parent's descriptor, as a directory and not followed
/// when it is a link, and an [`EntryPath`](crate::files::path::EntryPath) has no component that leads up. So no path
/// leaves the root, as with `openat2` and `RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS`, also when somebody exchanges
/// directories for links meanwhile; but what two paths have in common is resolved once.
#[derive(Debug)]
pub(crate) struct Cursor {
    root: OwnedFd,
    /// The way to the directory that was opened last.
    levels: Vec<Level>,
}

#[derive(Debug)]
struct Level {
    name: Vec<u8>,
    /// `None` in the middle of a way that is longer than what is kept.
    directory: Option<OwnedFd>,
}

/// What becomes of a directory that is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Missing {
    /// Opening fails.
    Fail,
    /// It is made, and may be used by everybody.
    Make,
}

/// Mode and time of a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Attributes {
    pub(crate) mode: Mode,
    pub(crate) modified: Timespec,
}

impl Cursor {
    pub(crate) const fn new(root: OwnedFd) -> Self {
        Self { root, levels: Vec::new() }
    }

    /// Opens a directory below the root, or the root itself.
    ///
    /// # Errors
    ///
    /// [`Errno::NOTDIR`] when a component is a link or anything else that is no directory.
    pub(crate) fn open(&mut self, path: Below<'_>, missing: Missing) -> Result<BorrowedFd<'_>, Errno> {
        let same = self.levels.iter().zip(path.components());
        let common = same.take_while(|(level, component)| level.name == *component).count();
        self.levels.truncate(common);
        while self.levels.last().is_some_and(|level| level.directory.is_none()) {
            self.levels.pop();
        }
        for component in path.components().skip(self.levels.len()) {
            let parent = self.deepest();
            let directory = match open_directory(parent, component) {
                Err(Errno::NOENT) if missing == Missing::Make => make_directory(parent, component)?,
                opened => opened?,
            };
            if self.levels.len() >= KEPT
                && let Some(parent) = self.levels.last_mut()
            {
                parent.directory = None;
            }
            self.levels.push(Level { name: component.to_vec(), directory: Some(directory) });
        }
        Ok(self.deepest())
    }

    /// Closes all directories but the root. To be called when one of them was moved or removed.
    pub(crate) fn forget(&mut self) {
        self.levels.clear();
    }

    fn deepest(&self) -> BorrowedFd<'_> {
        let deepest = self.levels.last().and_then(|level| level.directory.as_ref());
        deepest.unwrap_or(&self.root).as_fd()
    }
}

impl Attributes {
    /// Returns those of the directory.
    pub(crate) fn of(stat: &rustix::fs::Stat) -> Self {
        Self {
            mode: Mode::from_raw_mode(stat.st_mode & 0o7777),
            modified: Timespec { tv_sec: stat.st_mtime, tv_nsec: stat.st_mtime_nsec.cast_signed() },
        }
    }

    /// Gives them to the directory.
    pub(crate) fn apply(&self, directory: impl AsFd) -> Result<(), Errno> {
        rustix::fs::fchmod(&directory, self.mode)?;
        rustix::fs::futimens(&directory, &timestamps(self.modified))
    }
}

/// Returns what sets the time of the last change, and that of the last access with it.
pub(crate) const fn timestamps(modified: Timespec) -> Timestamps {
    Timestamps { last_access: modified, last_modification: modified }
}

/// Opens a directory that is not behind a link.
pub(crate) fn open_directory(parent: impl AsFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(parent, name, flags, Mode::empty()) {
        Err(Errno::LOOP) => Err(Errno::NOTDIR),
        opened => opened,
    }
}

/// Opens the root of the guest.
pub(crate) fn open_root() -> Result<OwnedFd, Errno> {
    rustix::fs::open("/", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// Makes a directory that has no entry of its own.
pub(crate) fn make_directory(parent: impl AsFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    match rustix::fs::mkdirat(&parent, name, IMPLIED) {
        Ok(()) => {
            let made = open_directory(parent, name)?;
            // The file mode creation mask is that of whoever started the agent.
            rustix::fs::fchmod(&made, IMPLIED)?;
            Ok(made)
        }
        // Somebody was faster; whether it is a directory shows now.
        Err(Errno::EXIST) => open_directory(parent, name),
        Err(error) => Err(error),
    }
}

/// Calls `each` with name and type of everything in the directory.
pub(crate) fn for_each<E: From<Errno>>(
    directory: impl AsFd,
    mut each: impl FnMut(&[u8], FileType) -> Result<(), E>,
) -> Result<(), E> {
    for entry in Dir::read_from(&directory)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if matches!(name, b"." | b"..") {
            continue;
        }
        let kind = match entry.file_type() {
            // Not every file system says it.
            FileType::Unknown => match look_at(&directory, name)? {
                Some(stat) => FileType::from_raw_mode(stat.st_mode),
                None => continue,
            },
            kind => kind,
        };
        each(name, kind)?;
    }
    Ok(())
}

/// Returns what is known of a file, which is not followed when it is a link; `None` when it is not there.
pub(crate) fn look_at(directory: impl AsFd, name: &[u8]) -> Result<Option<rustix::fs::Stat>, Errno> {
    match rustix::fs::statat(directory, name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error),
    }
}
