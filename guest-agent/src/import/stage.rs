//! The private directory in which an import is complete before anything of it is visible.
//!
//! ```text
//! import-<op>/new/      what is to be moved in: the tree as it stands below the destination
//!             old/      what was moved away
//!             removing  the import is decided, and removals are under way
//!             moving    the import is decided, and all removals are done
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use pyro_protocol::{Entry, EntryKind, ModifiedAt, PATH_LEN_MAX};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags, Timespec};
use rustix::io::Errno;

use super::failure::{Doing as _, Failure};
use super::{marker, removal};
use crate::agent;
use crate::files::cursor::{Attributes, Cursor, Missing, look_at, open_directory, open_root, timestamps};
use crate::files::path::EntryPath;

const NEW: &str = "new";
const OLD: &str = "old";

/// Permission bits that an entry can have. A guest's own files may be set-user-id; nothing from outside becomes so.
const MODE_MAX: u32 = 0o1777;

/// The stage of one import.
#[derive(Debug)]
pub(super) struct Stage {
    /// The directory of all stages.
    place: OwnedFd,
    name: String,
    directory: OwnedFd,
    old: OwnedFd,
    /// Leads through what is to be moved in.
    new: Cursor,
    /// Leads there as well, to files that get another name.
    sources: Cursor,
    /// How many files lie in `old` because a later entry took their place.
    discarded: u64,
    decided: Decided,
    /// It holds something of the destination that could not be put back.
    retained: bool,
}

/// The part of an import that is no file in the stage.
#[derive(Debug, Default)]
pub(super) struct Decided {
    /// Directories that have an entry.
    pub(super) directories: BTreeMap<EntryPath, Attributes>,
    /// Paths at which nothing shall be, before the new is moved in.
    pub(super) absent: BTreeSet<EntryPath>,
}

/// A file in the stage whose content is to come.
#[derive(Debug)]
pub(super) struct StagedFile {
    file: File,
    path: EntryPath,
    mode: Mode,
    modified: Timespec,
    /// Bytes of its content in all.
    pub(super) len: u64,
}

impl Stage {
    /// Makes the stage of the import `op` in the directory `place`. What another import with this number left is
    /// removed.
    pub(super) fn create(place: &EntryPath, op: u64) -> Result<Self, Failure> {
        let name = format!("import-{op}");
        let make = || {
            let place = open_place(place, Missing::Make)?;
            match removal::remove(&place, name.as_bytes()) {
                Err(Errno::NOTDIR) => rustix::fs::unlinkat(&place, &name, AtFlags::empty())?,
                Ok(()) | Err(Errno::NOENT) => {}
                Err(error) => return Err(error),
            }
            rustix::fs::mkdirat(&place, &name, Mode::RWXU)?;
            let directory = open_directory(&place, name.as_bytes())?;
            rustix::fs::mkdirat(&directory, NEW, Mode::RWXU)?;
            rustix::fs::mkdirat(&directory, OLD, Mode::RWXU)?;
            Self::of(place, name.clone(), directory)
        };
        make().doing("make a private directory for the import")
    }

    /// Opens a stage that an agent before this one left.
    pub(super) fn reopen(place: OwnedFd, name: String, decided: Decided) -> Result<Self, Errno> {
        let directory = open_directory(&place, name.as_bytes())?;
        // What was moved away is not coming back, and new names must be free.
        removal::remove(&directory, OLD.as_bytes())?;
        rustix::fs::mkdirat(&directory, OLD, Mode::RWXU)?;
        Ok(Self { decided, ..Self::of(place, name, directory)? })
    }

    fn of(place: OwnedFd, name: String, directory: OwnedFd) -> Result<Self, Errno> {
        let new = || Ok::<_, Errno>(Cursor::new(open_directory(&directory, NEW.as_bytes())?));
        let (new, sources) = (new()?, new()?);
        let old = open_directory(&directory, OLD.as_bytes())?;
        Ok(Self {
            place,
            name,
            directory,
            old,
            new,
            sources,
            discarded: 0,
            decided: Decided::default(),
            retained: false,
        })
    }

    /// Takes an entry; returns the file whose content is to come, if it is one.
    pub(super) fn add(&mut self, entry: Entry) -> Result<Option<StagedFile>, Failure> {
        let path = parse(entry.path)?;
        // Mode and time mean something for some kinds only.
        let attributes = |mode| {
            let taken = attributes(mode, entry.modified);
            taken.doing_at(&path, "take an entry whose mode or time is out of range")
        };
        match entry.kind {
            EntryKind::Directory => {
                let attributes = attributes(entry.mode)?;
                let made = self.new.open(path.borrowed(), Missing::Make).map(drop);
                made.doing_at(&path, "stage the directory")?;
                self.decided.directories.insert(path, attributes);
            }
            EntryKind::File { len } => {
                let attributes = attributes(entry.mode)?;
                return self.add_file(path, attributes, len).map(Some);
            }
            EntryKind::Symlink { target } => {
                let Attributes { modified, .. } = attributes(0)?;
                self.add_symlink(&path, modified, &target).doing_at(&path, "stage the symbolic link")?;
            }
            EntryKind::HardLink { target } => {
                let target = parse(target)?;
                self.add_hard_link(&path, &target).doing_at(&path, "stage the hard link")?;
            }
            EntryKind::Absent => {
                self.discard(&path).doing_at(&path, "take the removal")?;
                self.decided.absent.insert(path);
            }
        }
        Ok(None)
    }

    fn add_file(&mut self, path: EntryPath, attributes: Attributes, len: u64) -> Result<StagedFile, Failure> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let create =
            |parent: BorrowedFd<'_>, name: &[u8]| rustix::fs::openat(parent, name, flags, Mode::RUSR);
        let file = put(&mut self.new, &path, create).doing_at(&path, "stage the file")?;
        let Attributes { mode, modified } = attributes;
        Ok(StagedFile { file: File::from(file), path, mode, modified, len })
    }

    fn add_symlink(&mut self, path: &EntryPath, modified: Timespec, target: &[u8]) -> Result<(), Errno> {
        if target.is_empty() || target.len() > PATH_LEN_MAX || target.contains(&0) {
            return Err(Errno::INVAL);
        }
        let times = timestamps(modified);
        put(&mut self.new, path, |parent, name| {
            rustix::fs::symlinkat(target, parent, name)?;
            rustix::fs::utimensat(parent, name, &times, AtFlags::SYMLINK_NOFOLLOW)
        })
    }

    fn add_hard_link(&mut self, path: &EntryPath, target: &EntryPath) -> Result<(), Errno> {
        let (directory, source) = target.split().ok_or(Errno::INVAL)?;
        let directory = self.sources.open(directory, Missing::Fail)?;
        let stat = look_at(directory, source)?.ok_or(Errno::NOENT)?;
        if path == target || FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(Errno::INVAL);
        }
        put(&mut self.new, path, |parent, name| {
            rustix::fs::linkat(directory, source, parent, name, AtFlags::empty())
        })
    }

    /// Takes out of the stage what an entry brought before.
    fn discard(&mut self, path: &EntryPath) -> Result<(), Errno> {
        let (directory, name) = path.split().ok_or(Errno::INVAL)?;
        let parent = match self.new.open(directory, Missing::Fail) {
            Err(Errno::NOENT) => return Ok(()),
            opened => opened?,
        };
        let away = format!("discarded-{}", self.discarded);
        match rustix::fs::renameat_with(parent, name, &self.old, &away, RenameFlags::NOREPLACE) {
            Err(Errno::NOENT) => return Ok(()),
            moved => moved?,
        }
        self.discarded += 1;
        self.new.forget();
        self.sources.forget();
        self.decided.directories.retain(|directory, _| !directory.is_in(path));
        Ok(())
    }

    /// Gives the directories their modes and times. To be called when all entries are there, because each changes the
    /// time of its directory.
    pub(super) fn complete(&mut self) -> Result<(), Failure> {
        // Children come before their parents, whose modes may close the way to them.
        for (path, attributes) in self.decided.directories.iter().rev() {
            let directory = self.new.open(path.borrowed(), Missing::Fail);
            directory
                .and_then(|directory| attributes.apply(directory))
                .doing_at(path, "set mode and time of the staged directory")?;
        }
        self.sources.forget();
        Ok(())
    }

    /// Keeps what lies in `old` until the next start of an agent.
    pub(super) const fn retain(&mut self) {
        self.retained = true;
    }

    /// Removes the stage. A stage that cannot be removed is left to the next agent, which knows by the missing marker
    /// that nothing of it is to be moved in.
    pub(super) fn remove(self) {
        let mut removed = marker::erase(&self.directory);
        if !self.retained {
            removed = removed.and_then(|()| removal::remove(&self.place, self.name.as_bytes()));
        }
        if let Err(failure) = removed.doing("remove the private directory of the import") {
            agent::complain(&failure);
        }
    }

    /// What is to be moved in.
    pub(super) const fn staged(&mut self) -> &mut Cursor {
        &mut self.new
    }

    /// Both what is to be moved in and where to what is in the way goes.
    pub(super) fn staged_and_old(&mut self) -> (&mut Cursor, BorrowedFd<'_>) {
        (&mut self.new, self.old.as_fd())
    }

    /// Where to what is in the way is moved.
    pub(super) fn old(&self) -> BorrowedFd<'_> {
        self.old.as_fd()
    }

    /// The stage itself, which holds the marker.
    pub(super) fn directory(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }

    pub(super) const fn decided(&self) -> &Decided {
        &self.decided
    }
}

impl StagedFile {
    /// Appends content.
    pub(super) fn write(&mut self, content: &[u8]) -> Result<(), Failure> {
        self.file.write_all(content).map_err(|error| errno(&error)).doing_at(&self.path, "write the file")
    }

    /// Gives the file its mode and time.
    pub(super) fn finish(self) -> Result<(), Failure> {
        let set = rustix::fs::fchmod(&self.file, self.mode)
            .and_then(|()| rustix::fs::futimens(&self.file, &timestamps(self.modified)));
        set.doing_at(&self.path, "set mode and time of the file")
    }
}

/// Opens the directory of all stages.
pub(super) fn open_place(place: &EntryPath, missing: Missing) -> Result<OwnedFd, Errno> {
    let mut root = Cursor::new(open_root()?);
    rustix::io::fcntl_dupfd_cloexec(root.open(place.borrowed(), missing)?, 0)
}

/// Makes something at the path; what an earlier entry made there goes, unless it is a directory.
fn put<T>(
    cursor: &mut Cursor,
    path: &EntryPath,
    make: impl Fn(BorrowedFd<'_>, &[u8]) -> Result<T, Errno>,
) -> Result<T, Errno> {
    let (directory, name) = path.split().ok_or(Errno::ISDIR)?;
    let parent = cursor.open(directory, Missing::Make)?;
    match make(parent, name) {
        Err(Errno::EXIST) => {
            rustix::fs::unlinkat(parent, name, AtFlags::empty())?;
            make(parent, name)
        }
        made => made,
    }
}

fn parse(path: Vec<u8>) -> Result<EntryPath, Failure> {
    EntryPath::parse(path.clone()).map_err(|error| Failure::at(&path, error.to_string(), Errno::INVAL))
}

/// Returns mode and time as the file system takes them.
pub(super) fn attributes(mode: u32, modified: ModifiedAt) -> Result<Attributes, Errno> {
    if mode > MODE_MAX || modified.nanoseconds >= 1_000_000_000 {
        return Err(Errno::INVAL);
    }
    let modified = Timespec { tv_sec: modified.seconds, tv_nsec: modified.nanoseconds.into() };
    Ok(Attributes { mode: Mode::from_raw_mode(mode), modified })
}

fn errno(error: &io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}
