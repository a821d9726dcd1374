//! Moving a complete stage in, and taking it back when that fails.
//!
//! ```text
//! plan -> marker -> destination made -> removals -> moves -> modes and times -> stage removed
//!                         \------------ on an error: all taken back ----------> stage removed
//! ```

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;

use pyro_protocol::{COMPONENTS_MAX, Import};
use rustix::fs::{AtFlags, Gid, Mode, RenameFlags, Uid};
use rustix::io::Errno;

use super::failure::{Doing as _, Failure};
use super::marker;
use super::plan::{Plan, Spot};
use super::stage::Stage;
use crate::agent;
use crate::files::cursor::{Attributes, Cursor, Missing, for_each, open_directory, open_root};
use crate::files::path::EntryPath;

/// The directory into which an import goes.
#[derive(Debug)]
pub(super) struct Destination {
    /// It, or the deepest of its parents that is there.
    existing: OwnedFd,
    /// Names from there on.
    missing: Vec<Vec<u8>>,
}

/// A commit under way: what is done, so that it can be taken back.
#[derive(Debug)]
pub(super) struct Commit<'a> {
    stage: &'a mut Stage,
    destination: Destination,
    /// Leads through the destination, once it is there.
    cursor: Cursor,
    plan: &'a Plan,
    /// How many missing parts of the destination were made.
    made: usize,
    removed: Vec<Removed>,
    /// How many moves were made.
    moved: usize,
    /// Directories of the plan that are not as they were.
    touched: BTreeSet<usize>,
}

/// Something that was removed.
#[derive(Debug)]
struct Removed {
    path: EntryPath,
    how: How,
    /// What its directory had before.
    parent: Attributes,
}

#[derive(Debug)]
enum How {
    /// It was moved to `old`, where it has the number of the removal.
    Moved,
    /// A directory that could not be moved; what it held was removed one by one.
    Emptied { attributes: Attributes, owner: Uid, group: Gid },
}

/// Puts the import in place. On an error everything is as it was.
pub(super) fn commit(stage: &mut Stage, import: &Import) -> Result<(), Failure> {
    let (destination, mut plan) = draw(stage, &import.destination)?;
    if let Some(conflict) = plan.conflicts.take() {
        return Err(conflict);
    }
    // A single move is made or not; there is nothing to finish. A removal may be many changes.
    let marked = !plan.removals.is_empty() || plan.len() + destination.missing.len() > 1;
    if marked {
        marker::write(stage.directory(), import, &plan)?;
    }
    let mut commit = Commit::new(stage, destination, &plan)?;
    commit.run(marked).map_err(|failure| match commit.take_back() {
        0 => failure,
        left => {
            commit.stage.retain();
            failure.and(&format!(" ({left} changes could not be taken back)"))
        }
    })
}

/// Finds the destination and what the import would do to it.
pub(super) fn draw(stage: &mut Stage, destination: &str) -> Result<(Destination, Plan), Failure> {
    let destination = Destination::find(destination)?;
    let mut cursor = match destination.missing.as_slice() {
        [] => Some(destination.cursor().doing("open the destination")?),
        [_, ..] => None,
    };
    let plan = Plan::draw(stage, cursor.as_mut())?;
    Ok((destination, plan))
}

impl Destination {
    /// Opens what is there of the destination, following no link.
    fn find(path: &str) -> Result<Self, Failure> {
        let refused = |error: &dyn std::fmt::Display| format!("use {path:?} as destination: {error}");
        let path = EntryPath::parse_absolute(path.as_bytes())
            .map_err(|error| Failure::new(refused(&error), Errno::INVAL))?;
        let mut existing = open_root().doing("open the root")?;
        let mut components = path.borrowed().components();
        let mut missing = Vec::new();
        for component in components.by_ref() {
            match open_directory(&existing, component) {
                Ok(directory) => existing = directory,
                Err(Errno::NOENT) => {
                    missing.push(component.to_vec());
                    break;
                }
                Err(error) => {
                    let name = String::from_utf8_lossy(component).into_owned();
                    return Err(Failure::new(refused(&format_args!("open {name:?} in it")), error));
                }
            }
        }
        missing.extend(components.map(<[u8]>::to_vec));
        Ok(Self { existing, missing })
    }

    fn cursor(&self) -> Result<Cursor, Errno> {
        Ok(Cursor::new(rustix::io::fcntl_dupfd_cloexec(&self.existing, 0)?))
    }
}

impl<'a> Commit<'a> {
    pub(super) fn new(
        stage: &'a mut Stage,
        destination: Destination,
        plan: &'a Plan,
    ) -> Result<Self, Failure> {
        let cursor = destination.cursor().doing("open the destination")?;
        Ok(Self {
            stage,
            destination,
            cursor,
            plan,
            made: 0,
            removed: Vec::new(),
            moved: 0,
            touched: BTreeSet::new(),
        })
    }

    fn run(&mut self, marked: bool) -> Result<(), Failure> {
        self.make_destination()?;
        for path in &self.plan.removals {
            self.remove(path).doing_at(path, "remove what is there")?;
        }
        if marked {
            self.note_removals()?;
        }
        for index in 0..self.plan.moves.len() {
            self.move_in(index)?;
        }
        (0..self.plan.directories.len()).try_for_each(|index| self.finish_directory(index))
    }

    /// Makes the missing parts of the destination.
    pub(super) fn make_destination(&mut self) -> Result<(), Failure> {
        if self.destination.missing.is_empty() {
            return Ok(());
        }
        let mut directory = self.destination.cursor().doing("open the destination")?;
        let mut path = EntryPath::default();
        for name in &self.destination.missing {
            path = path.child(name);
            directory.open(path.borrowed(), Missing::Make).map(drop).doing("make the destination")?;
            self.made += 1;
        }
        let made = directory.open(path.borrowed(), Missing::Fail);
        let root = made.and_then(|made| rustix::io::fcntl_dupfd_cloexec(made, 0));
        self.cursor = Cursor::new(root.doing("open the destination")?);
        Ok(())
    }

    /// Moves what is at the path to the stage. That nothing is there any more is no error.
    pub(super) fn remove(&mut self, path: &EntryPath) -> Result<(), Errno> {
        let (directory, name) = path.split().ok_or(Errno::INVAL)?;
        let parent = match self.cursor.open(directory, Missing::Fail) {
            // A removal before this one took its directory along.
            Err(Errno::NOENT) => return Ok(()),
            opened => opened?,
        };
        let before = Attributes::of(&rustix::fs::fstat(parent)?);
        let away = removed_name(self.removed.len());
        let how =
            match rustix::fs::renameat_with(parent, name, self.stage.old(), &away, RenameFlags::NOREPLACE) {
                Ok(()) => How::Moved,
                Err(Errno::NOENT) => return Ok(()),
                // An overlay does not move directories of its lower layer.
                Err(Errno::XDEV) => self.empty(path)?,
                Err(error) => return Err(error),
            };
        // Below it nothing is where it was.
        self.cursor.forget();
        self.removed.push(Removed { path: path.clone(), how, parent: before });
        Ok(())
    }

    /// Removes a directory by what it holds.
    fn empty(&mut self, path: &EntryPath) -> Result<How, Errno> {
        // No environment is so deep, but what a guest has mounted may be, and each level takes some of the stack.
        if path.borrowed().components().count() > COMPONENTS_MAX {
            return Err(Errno::XDEV);
        }
        let directory = match self.cursor.open(path.borrowed(), Missing::Fail) {
            // It was a file that could not be moved, and that has no other way.
            Err(Errno::NOTDIR) => return Err(Errno::XDEV),
            opened => opened?,
        };
        let stat = rustix::fs::fstat(directory)?;
        let mut names = Vec::new();
        for_each(directory, |name, _| {
            names.push(name.to_vec());
            Ok::<_, Errno>(())
        })?;
        for name in names {
            self.remove(&path.child(&name))?;
        }
        let (parent, name) = path.split().ok_or(Errno::INVAL)?;
        let parent = self.cursor.open(parent, Missing::Fail)?;
        rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)?;
        let (owner, group) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
        Ok(How::Emptied { attributes: Attributes::of(&stat), owner, group })
    }

    /// Notes in the marker that no removal is to be made again.
    pub(super) fn note_removals(&self) -> Result<(), Failure> {
        if self.plan.removals.is_empty() { Ok(()) } else { marker::advance(self.stage.directory()) }
    }

    /// Makes the move with this number.
    ///
    /// A file that is in the way gets a second name in `old` and is then replaced, which nobody sees half done.
    /// Exchanging the two would do the same, but after a crash nobody could tell which of them is the new one: this
    /// way, what is in the stage has not been moved in yet.
    pub(super) fn move_in(&mut self, index: usize) -> Result<(), Failure> {
        let step = &self.plan.moves[index];
        let directory = &self.plan.directories[step.directory].path;
        let name = &*step.name;
        let (new, old) = self.stage.staged_and_old();
        let moved = (|| {
            let from = new.open(directory.borrowed(), Missing::Fail)?;
            let to = self.cursor.open(directory.borrowed(), Missing::Fail)?;
            match step.spot {
                Spot::Free => rustix::fs::renameat_with(from, name, to, name, RenameFlags::NOREPLACE),
                Spot::Taken => {
                    let kept = replaced_name(index);
                    rustix::fs::linkat(to, name, old, &kept, AtFlags::empty())?;
                    rustix::fs::renameat(from, name, to, name)
                }
            }
        })();
        moved.doing_at(&directory.child(name), "move the entry in")?;
        self.moved = index + 1;
        self.touched.insert(step.directory);
        Ok(())
    }

    /// Gives a directory that was there what its entry says.
    pub(super) fn finish_directory(&mut self, index: usize) -> Result<(), Failure> {
        let directory = &self.plan.directories[index];
        let Some(after) = directory.after else { return Ok(()) };
        let opened = self.cursor.open(directory.path.borrowed(), Missing::Fail);
        opened
            .and_then(|opened| after.apply(opened))
            .doing_at(&directory.path, "set mode and time of the directory")?;
        self.touched.insert(index);
        Ok(())
    }

    /// Takes back all that was done, the last first; returns how many changes could not be taken back.
    ///
    /// What was moved in goes back to where it came from and the marker stays until the stage is removed: a crash
    /// meanwhile finds the import decided, with all it takes to go through with it.
    fn take_back(&mut self) -> usize {
        let mut left = 0;
        let mut count = |result: Result<(), Failure>| {
            if let Err(failure) = result {
                agent::complain(&failure);
                left += 1;
            }
        };
        for index in (0..self.moved).rev() {
            count(self.move_back(index));
        }
        count(marker::retreat(self.stage.directory()).doing("note that removals are taken back"));
        for directory in self.touched.iter().map(|index| &self.plan.directories[*index]) {
            if let Some(before) = directory.before {
                let opened = self.cursor.open(directory.path.borrowed(), Missing::Fail);
                let restored = opened.and_then(|opened| before.apply(opened));
                count(restored.doing_at(&directory.path, "take mode and time of the directory back"));
            }
        }
        while let Some(removed) = self.removed.pop() {
            count(self.bring_back(&removed).doing_at(&removed.path, "take the removal back"));
        }
        count(self.unmake_destination().doing("take the destination back"));
        left
    }

    fn move_back(&mut self, index: usize) -> Result<(), Failure> {
        let step = &self.plan.moves[index];
        let directory = &self.plan.directories[step.directory].path;
        let name = &*step.name;
        let (new, old) = self.stage.staged_and_old();
        let moved = (|| {
            let from = self.cursor.open(directory.borrowed(), Missing::Fail)?;
            let back = new.open(directory.borrowed(), Missing::Fail)?;
            match step.spot {
                Spot::Free => rustix::fs::renameat_with(from, name, back, name, RenameFlags::NOREPLACE),
                Spot::Taken => {
                    // The old is back at the moment when the new goes.
                    let kept = replaced_name(index);
                    rustix::fs::renameat_with(from, name, old, &kept, RenameFlags::EXCHANGE)?;
                    rustix::fs::renameat(old, &kept, back, name)
                }
            }
        })();
        moved.doing_at(&directory.child(name), "take the move back")
    }

    fn bring_back(&mut self, removed: &Removed) -> Result<(), Errno> {
        let (directory, name) = removed.path.split().ok_or(Errno::INVAL)?;
        let parent = self.cursor.open(directory, Missing::Fail)?;
        match &removed.how {
            How::Moved => {
                let away = removed_name(self.removed.len());
                let flags = RenameFlags::NOREPLACE;
                rustix::fs::renameat_with(self.stage.old(), &away, parent, name, flags)?;
            }
            How::Emptied { attributes, owner, group } => {
                rustix::fs::mkdirat(parent, name, Mode::RWXU)?;
                let made = open_directory(parent, name)?;
                rustix::fs::fchown(&made, Some(*owner), Some(*group))?;
                attributes.apply(&made)?;
            }
        }
        removed.parent.apply(parent)
    }

    fn unmake_destination(&mut self) -> Result<(), Errno> {
        let mut directory = self.destination.cursor()?;
        while self.made > 0 {
            let names = &self.destination.missing[..self.made];
            let path = names.iter().fold(EntryPath::default(), |path, name| path.child(name));
            let (parent, name) = path.split().ok_or(Errno::INVAL)?;
            let parent = directory.open(parent, Missing::Fail)?;
            rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)?;
            self.made -= 1;
        }
        Ok(())
    }
}

fn removed_name(number: usize) -> String {
    format!("removed-{number}")
}

fn replaced_name(index: usize) -> String {
    format!("replaced-{index}")
}
