//! A walk through a directory by descriptors, with nothing between what is listed and what is opened.
//!
//! Somebody may change the tree meanwhile. Each name is opened in the directory in which it was listed, as the kind
//! of thing that it was then and never through a link, so what is reached is always below the top.

use std::ffi::CString;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::vec;

use pyro_protocol::{COMPONENTS_MAX, ModifiedAt, PATH_LEN_MAX};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RawDir, Stat, fstat, openat, readlinkat, statat};
use rustix::io::Errno;

use super::delivery::too_many;
use super::error::SourceError;
use super::path::{TOO_DEEP, check_target};

/// Room for the entries of a directory that are read at once.
const ENTRIES_LEN: usize = 32 * 1024;

/// How directories are opened.
const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// How files are opened. The flags against waiting are for what has taken the place of a file.
const FILE: OFlags = OFlags::RDONLY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY)
    .union(OFlags::CLOEXEC);

/// A walk. Children come in the order of their names, before what follows their parent.
#[derive(Debug)]
pub(super) struct Walk {
    levels: Vec<Level>,
    path: Vec<u8>,
    /// Names that were listed so far, each of which will be an entry.
    listed: u64,
    listed_max: u64,
}

#[derive(Debug)]
struct Level {
    dir: OwnedFd,
    /// What is left of its names, with their kinds.
    names: vec::IntoIter<(CString, FileType)>,
    /// Length of the directory's own path.
    path_len: usize,
}

/// Something in a directory.
#[derive(Debug)]
pub(super) struct Found<'a> {
    dir: &'a OwnedFd,
    name: CString,
    /// Path below the top.
    pub(super) path: &'a [u8],
    /// What it was when it was listed.
    pub(super) kind: FileType,
}

/// What was found, opened as far as that is needed.
#[derive(Debug)]
pub(super) enum Opened {
    /// A directory.
    Directory(OwnedFd, Stat),
    /// A regular file, at its start.
    File(OwnedFd, Stat),
    /// A symbolic link with its target.
    Symlink(Vec<u8>, Stat),
}

impl Walk {
    /// Opens the top.
    pub(super) fn open(top: &Path, listed_max: u64) -> Result<Self, SourceError> {
        let mut walk = Self { levels: Vec::new(), path: Vec::new(), listed: 0, listed_max };
        walk.enter(open_top(top)?)?;
        Ok(walk)
    }

    /// Goes on to what is next; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<Found<'_>>, SourceError> {
        let (name, kind) = loop {
            let Some(level) = self.levels.last_mut() else { return Ok(None) };
            self.path.truncate(level.path_len);
            match level.names.next() {
                Some(next) => break next,
                None => {
                    self.levels.pop();
                }
            }
        };
        if !self.path.is_empty() {
            self.path.push(b'/');
        }
        self.path.extend_from_slice(name.as_bytes());
        if self.levels.len() > COMPONENTS_MAX {
            return Err(SourceError::refused(&self.path, TOO_DEEP));
        }
        if self.path.len() > PATH_LEN_MAX {
            return Err(SourceError::refused(&self.path, "has a name of more than 4096 bytes"));
        }
        let dir = self.levels.last().map(|level| &level.dir).expect("the loop ended at a level");
        Ok(Some(Found { dir, name, path: &self.path, kind }))
    }

    /// Goes into the directory that was found last.
    pub(super) fn enter(&mut self, dir: OwnedFd) -> Result<(), SourceError> {
        let mut names = list(&dir).map_err(|error| match error {
            // It was removed.
            Errno::NOENT => SourceError::changed(&self.path),
            other => SourceError::entry(&self.path, other),
        })?;
        self.listed = self.listed.saturating_add(names.len() as u64);
        if self.listed > self.listed_max {
            let reason = format!("holds what {}", too_many(self.listed_max));
            return Err(SourceError::refused(&self.path, reason));
        }
        names.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        self.levels.push(Level { dir, names: names.into_iter(), path_len: self.path.len() });
        Ok(())
    }
}

impl<'a> Found<'a> {
    /// Finds a name that is known to be wanted; `None` when it is not there.
    pub(super) fn look(dir: &'a OwnedFd, name: CString, path: &'a [u8]) -> Result<Option<Self>, SourceError> {
        match statat(dir, &name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(Self { dir, name, path, kind: FileType::from_raw_mode(stat.st_mode) })),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(SourceError::entry(path, error)),
        }
    }

    /// Opens it as what it was found to be, or says why it is refused.
    pub(super) fn open(&self) -> Result<Opened, SourceError> {
        Ok(match self.kind {
            FileType::Directory => {
                let (dir, stat) = self.open_with(DIRECTORY)?;
                Opened::Directory(dir, stat)
            }
            FileType::RegularFile => {
                let (file, stat) = self.open_with(FILE)?;
                Opened::File(file, stat)
            }
            FileType::Symlink => Opened::Symlink(self.target()?, self.stat()?),
            FileType::Fifo
            | FileType::Socket
            | FileType::CharacterDevice
            | FileType::BlockDevice
            | FileType::Unknown => return Err(self.refused()),
        })
    }

    fn open_with(&self, flags: OFlags) -> Result<(OwnedFd, Stat), SourceError> {
        let opened = openat(self.dir, &self.name, flags, Mode::empty())
            .and_then(|opened| fstat(&opened).map(|stat| (opened, stat)))
            .map_err(|error| self.failed(error))?;
        if FileType::from_raw_mode(opened.1.st_mode) != self.kind {
            return Err(SourceError::changed(self.path));
        }
        Ok(opened)
    }

    /// Returns what is known without opening it.
    pub(super) fn stat(&self) -> Result<Stat, SourceError> {
        let stat =
            statat(self.dir, &self.name, AtFlags::SYMLINK_NOFOLLOW).map_err(|error| self.failed(error))?;
        if FileType::from_raw_mode(stat.st_mode) != self.kind {
            return Err(SourceError::changed(self.path));
        }
        Ok(stat)
    }

    /// Returns the target of what was found to be a symbolic link.
    pub(super) fn target(&self) -> Result<Vec<u8>, SourceError> {
        let target =
            readlinkat(self.dir, &self.name, Vec::new()).map_err(|error| self.failed(error))?.into_bytes();
        check_target(self.path, &target).map_err(|reason| SourceError::refused(self.path, reason))?;
        Ok(target)
    }

    /// Says why something that is neither file, directory nor link is refused.
    pub(super) fn refused(&self) -> SourceError {
        let reason = match self.kind {
            FileType::Fifo => "is a FIFO",
            FileType::Socket => "is a socket",
            FileType::CharacterDevice => "is a character device",
            FileType::BlockDevice => "is a block device",
            FileType::RegularFile | FileType::Directory | FileType::Symlink | FileType::Unknown => {
                "is of an unknown kind"
            }
        };
        SourceError::refused(self.path, reason)
    }

    fn failed(&self, error: Errno) -> SourceError {
        match error {
            // It is not there any more, or not as what it was listed; a socket cannot be opened at all.
            Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NXIO | Errno::INVAL | Errno::STALE => {
                SourceError::changed(self.path)
            }
            other => SourceError::entry(self.path, other),
        }
    }
}

/// Opens the directory of a source.
pub(super) fn open_top(top: &Path) -> Result<OwnedFd, SourceError> {
    openat(CWD, top, DIRECTORY, Mode::empty()).map_err(|error| match error {
        Errno::NOENT => SourceError::Missing { path: top.to_owned() },
        other => SourceError::Unreadable { path: top.to_owned(), source: other.into() },
    })
}

/// Returns the time of the last change.
pub(super) fn modified_at(stat: &Stat) -> ModifiedAt {
    ModifiedAt { seconds: stat.st_mtime, nanoseconds: u32::try_from(stat.st_mtime_nsec).unwrap_or(0) }
}

fn list(dir: &OwnedFd) -> rustix::io::Result<Vec<(CString, FileType)>> {
    let mut buffer = vec![MaybeUninit::uninit(); ENTRIES_LEN];
    let mut entries = RawDir::new(dir, &mut buffer);
    let mut names = Vec::new();
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let kind = match entry.file_type() {
            // Not every file system tells the kind.
            FileType::Unknown => match statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => FileType::from_raw_mode(stat.st_mode),
                Err(Errno::NOENT) => continue,
                Err(error) => return Err(error),
            },
            known => known,
        };
        names.push((name.to_owned(), kind));
    }
    Ok(names)
}
