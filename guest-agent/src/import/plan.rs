//! What an import would do, found before anything is done.

use std::os::fd::BorrowedFd;

use rustix::fs::{AtFlags, FileType};
use rustix::io::Errno;

use super::failure::{Doing as _, Failure};
use super::stage::Stage;
use crate::files::cursor::{Attributes, Cursor, Missing, for_each, look_at};
use crate::files::path::EntryPath;

/// The changes of an import, in the order in which they are made.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// What is there and shall not be.
    pub(super) removals: Vec<EntryPath>,
    /// Directories of stage and destination, parents before their children; the first is the destination itself.
    pub(super) directories: Vec<Merged>,
    /// What is moved as it is.
    pub(super) moves: Vec<Move>,
    pub(super) conflicts: Conflicts,
}

/// A directory that is in the stage and in the destination.
#[derive(Debug)]
pub(super) struct Merged {
    pub(super) path: EntryPath,
    /// What it has; `None` for a destination that is not there yet.
    pub(super) before: Option<Attributes>,
    /// What its entry gives it; `None` when it has none.
    pub(super) after: Option<Attributes>,
}

/// Something that moves from a directory of the stage into the same one of the destination.
#[derive(Debug)]
pub(super) struct Move {
    /// Index of the directory in the plan.
    pub(super) directory: usize,
    pub(super) name: Box<[u8]>,
    pub(super) spot: Spot,
}

/// What is where something moves to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spot {
    Free,
    /// A file or link, which moves away.
    Taken,
}

/// What stands in the way of the import.
#[derive(Debug, Default)]
pub(super) struct Conflicts {
    /// The one whose path comes first, so that the answer does not depend on the order of a directory.
    first: Option<Failure>,
    count: u64,
}

impl Plan {
    /// Compares the stage with the destination, which is `None` when it is not there. Nothing is changed.
    pub(super) fn draw(stage: &mut Stage, mut destination: Option<&mut Cursor>) -> Result<Self, Failure> {
        let mut plan = Self::default();
        let mut before = None;
        if let Some(destination) = destination.as_deref_mut() {
            plan.find_removals(stage, destination)?;
            let root = destination.open(EntryPath::default().borrowed(), Missing::Fail);
            let stat = root.and_then(rustix::fs::fstat).doing("look at the destination")?;
            before = Some(Attributes::of(&stat));
        }
        plan.add_directory(stage, EntryPath::default(), before);
        let mut next = 0;
        while next < plan.directories.len() {
            plan.compare(next, stage, destination.as_deref_mut())?;
            next += 1;
        }
        Ok(plan)
    }

    /// Returns how many changes there are besides removals.
    pub(super) fn len(&self) -> usize {
        let attributes = self.directories.iter().filter(|directory| directory.after.is_some()).count();
        self.moves.len() + attributes
    }

    fn find_removals(&mut self, stage: &Stage, destination: &mut Cursor) -> Result<(), Failure> {
        for path in &stage.decided().absent {
            let Some((directory, name)) = path.split() else { continue };
            match destination.open(directory, Missing::Fail).and_then(|parent| look_at(parent, name)) {
                Ok(Some(_)) => self.removals.push(path.clone()),
                Ok(None) | Err(Errno::NOENT) => {}
                Err(Errno::NOTDIR) => {
                    self.conflicts.add(path, "remove below something that is no directory", Errno::NOTDIR);
                }
                Err(error) => return Err(error).doing_at(path, "look for what is to be removed"),
            }
        }
        Ok(())
    }

    fn add_directory(&mut self, stage: &Stage, path: EntryPath, before: Option<Attributes>) {
        let after = stage.decided().directories.get(&path).copied();
        self.directories.push(Merged { path, before, after });
    }

    fn compare(
        &mut self,
        directory: usize,
        stage: &mut Stage,
        destination: Option<&mut Cursor>,
    ) -> Result<(), Failure> {
        let path = self.directories[directory].path.clone();
        let there = destination
            .map(|destination| destination.open(path.borrowed(), Missing::Fail))
            .transpose()
            .doing_at(&path, "open the directory")?;
        let mut children = Vec::new();
        stage
            .staged()
            .open(path.borrowed(), Missing::Fail)
            .and_then(|staged| {
                for_each(staged, |name, kind| {
                    children.push((Box::<[u8]>::from(name), kind));
                    Ok(())
                })
            })
            .doing_at(&path, "read the staged directory")?;
        for (name, kind) in children {
            let child = path.child(&name);
            let found = match there {
                Some(there) if !stage.decided().absent.contains(&child) => {
                    look_at(there, &name).doing_at(&child, "look at what is there")?
                }
                Some(_) | None => None,
            };
            let Some(found) = found else {
                self.moves.push(Move { directory, name, spot: Spot::Free });
                continue;
            };
            let found_kind = FileType::from_raw_mode(found.st_mode);
            match (kind, found_kind) {
                (FileType::Directory, FileType::Directory) => {
                    self.add_directory(stage, child, Some(Attributes::of(&found)));
                }
                (FileType::Directory, _) => {
                    self.conflicts.add(&child, "put a directory over something else", Errno::NOTDIR);
                }
                (_, FileType::Directory) => {
                    self.conflicts.add(&child, "put something else over a directory", Errno::ISDIR);
                }
                (FileType::RegularFile, FileType::Symlink) if leads_to_directory(there, &name) => {
                    let message = "put a file over a link that leads to a directory";
                    self.conflicts.add(&child, message, Errno::ISDIR);
                }
                (_, _) => self.moves.push(Move { directory, name, spot: Spot::Taken }),
            }
        }
        Ok(())
    }
}

/// Follows a link only to learn what it leads to.
fn leads_to_directory(directory: Option<BorrowedFd<'_>>, name: &[u8]) -> bool {
    directory
        .and_then(|directory| rustix::fs::statat(directory, name, AtFlags::empty()).ok())
        .is_some_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
}

impl Conflicts {
    fn add(&mut self, path: &EntryPath, message: &str, errno: Errno) {
        self.count += 1;
        let is_first = |first: &Failure| Some(path.as_bytes()) < first.path();
        if self.first.as_ref().is_none_or(is_first) {
            self.first = Some(Failure::at(path.as_bytes(), message, errno));
        }
    }

    /// Returns the first conflict, which counts the others; `None` when there is none.
    pub(super) fn take(&mut self) -> Option<Failure> {
        let first = self.first.take()?;
        Some(match self.count {
            1 => first,
            count => first.and(&format!(" (the first of {count} conflicts)")),
        })
    }
}
