//! What a directory looks like, and what is different later.

use core::cmp::Ordering;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use pyro_protocol::ModifiedAt;
use rustix::fs::{FileType, Stat};

use super::error::SourceError;
use super::limits::{ENTRIES_MAX, Watch};
use super::walk::{Found, Opened, Walk, modified_at};

/// What a directory looks like at one time: names, kinds, sizes, times, modes and targets, but no content.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// In the order of a walk.
    entries: Vec<(Box<[u8]>, State)>,
}

/// Paths at which two snapshots differ, relative to the directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// What is new or different, directories before what is in them.
    pub changed: Vec<Vec<u8>>,
    /// What is gone or has become something of another kind; not what was in it.
    pub removed: Vec<Vec<u8>>,
}

impl Changes {
    /// Tells whether the snapshots are the same.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.changed.is_empty() && self.removed.is_empty()
    }
}

/// What is known of an entry. Whatever changes the entry of an import changes this.
#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Directory { mode: u32, modified: ModifiedAt },
    File(FileState),
    Symlink { target: Box<[u8]>, modified: ModifiedAt },
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct FileState {
    mode: u32,
    modified: ModifiedAt,
    len: i64,
    /// Device and inode: a file that was put in the place of another can be like it in all else.
    inode: (u64, u64),
    /// Number of names and time of the last change of the inode, for files with several names. All names of a file are
    /// different when one comes or goes, so that they are sent together and stay one file.
    names: Option<Box<(u64, i64, u64)>>,
}

impl Snapshot {
    /// Looks at all that is in a directory. What goes away meanwhile is left out.
    ///
    /// # Errors
    ///
    /// The directory cannot be read or holds what cannot be imported, or `cancel` became true.
    pub fn take(dir: &Path, cancel: &AtomicBool) -> Result<Self, SourceError> {
        let watch = Watch::new(cancel);
        let mut walk = Walk::open(dir, ENTRIES_MAX)?;
        let mut entries = Vec::new();
        while let Some(found) = walk.next()? {
            watch.check()?;
            match State::of(&found) {
                Ok((state, below)) => {
                    entries.push((found.path.into(), state));
                    match below.map_or(Ok(()), |below| walk.enter(below)) {
                        Ok(()) | Err(SourceError::Changed { .. }) => (),
                        Err(error) => return Err(error),
                    }
                }
                Err(SourceError::Changed { .. }) => (),
                Err(error) => return Err(error),
            }
        }
        Ok(Self { entries })
    }

    /// Tells what has to be done to a copy of this one to make it like the newer one.
    #[must_use]
    pub fn changes(&self, newer: &Self) -> Changes {
        let mut changes = Changes::default();
        let mut old = self.entries.iter().peekable();
        let mut new = newer.entries.iter().peekable();
        loop {
            let order = match (old.peek(), new.peek()) {
                (Some((old, _)), Some((new, _))) => walk_order(old, new),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (None, None) => return changes,
            };
            let before = if order.is_le() { old.next() } else { None };
            let after = if order.is_ge() { new.next() } else { None };
            match (before, after) {
                (Some((_, before)), Some((_, after))) if before == after => (),
                (before, after) => {
                    if let Some((path, _)) = before.filter(|(_, before)| !before.stays(after)) {
                        changes.remove(path);
                    }
                    changes.changed.extend(after.map(|(path, _)| path.to_vec()));
                }
            }
        }
    }
}

impl Changes {
    /// Adds a removal, unless something above it goes.
    fn remove(&mut self, path: &[u8]) {
        let above = self.removed.last();
        let is_below = above.is_some_and(|above| {
            path.strip_prefix(&above[..]).is_some_and(|rest| rest.first() == Some(&b'/'))
        });
        if !is_below {
            self.removed.push(path.to_vec());
        }
    }
}

impl State {
    /// Looks at what was found. A directory comes back, to be entered; a file is not opened.
    fn of(found: &Found<'_>) -> Result<(Self, Option<OwnedFd>), SourceError> {
        if found.kind == FileType::RegularFile {
            return Ok((Self::File(FileState::of(&found.stat()?)), None));
        }
        Ok(match found.open()? {
            Opened::Directory(dir, stat) => {
                (Self::Directory { mode: stat.st_mode, modified: modified_at(&stat) }, Some(dir))
            }
            Opened::Symlink(target, stat) => {
                (Self::Symlink { target: target.into(), modified: modified_at(&stat) }, None)
            }
            Opened::File(_, stat) => (Self::File(FileState::of(&stat)), None),
        })
    }

    /// Tells whether what is there later is of the same kind, so that it can take the place of this.
    fn stays(&self, later: Option<&(Box<[u8]>, Self)>) -> bool {
        match (self, later) {
            (Self::Directory { .. }, Some((_, Self::Directory { .. })))
            | (Self::File(_), Some((_, Self::File(_))))
            | (Self::Symlink { .. }, Some((_, Self::Symlink { .. }))) => true,
            (Self::Directory { .. } | Self::File(_) | Self::Symlink { .. }, _) => false,
        }
    }
}

impl FileState {
    fn of(stat: &Stat) -> Self {
        let has_names = stat.st_nlink > 1;
        Self {
            mode: stat.st_mode,
            modified: modified_at(stat),
            len: stat.st_size,
            inode: (stat.st_dev, stat.st_ino),
            names: has_names.then(|| Box::new((stat.st_nlink, stat.st_ctime, stat.st_ctime_nsec))),
        }
    }
}

/// Compares paths as a walk meets them: what is in a directory comes right behind it.
fn walk_order(a: &[u8], b: &[u8]) -> Ordering {
    let rank = |byte: &u8| if *byte == b'/' { 0 } else { *byte };
    a.iter().map(rank).cmp(b.iter().map(rank))
}

#[cfg(test)]
mod tests {
    use super::walk_order;

    #[test]
    fn a_directory_and_what_is_in_it_stand_together() {
        let mut paths = ["a-b", "a/x", "a.b", "a", "a/x/y", "a/x-y", "B"];
        paths.sort_by(|a, b| walk_order(a.as_bytes(), b.as_bytes()));
        assert_eq!(paths, ["B", "a", "a/x", "a/x/y", "a/x-y", "a-b", "a.b"]);
    }
}
