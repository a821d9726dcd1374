//! The entries of a directory.

use core::ops::Range;
use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use pyro_protocol::{CONTENT_MAX, Entry, EntryKind, ModifiedAt};
use rustix::fs::{Stat, fstat};
use rustix::io::Errno;

use super::archive::{DIRECTORY_MODE, FILE_MODE};
use super::delivery::Delivery;
use super::error::{ReadError, SourceError};
use super::limits::{LINKED_NAMES_MAX, Limits, Watch};
use super::path::Name;
use super::snapshot::Changes;
use super::walk::{Found, Opened, Walk, modified_at, open_top};
use super::{Sink, Totals};

/// What happens to the content of files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Contents {
    /// It is read and handed over.
    Delivered,
    /// Only its length is taken; the file is opened, so that one that cannot be read is found.
    Measured,
}

/// Hands all that is in a directory over.
pub(super) fn read<S: Sink>(
    top: &Path,
    contents: Contents,
    delivery: &mut Delivery<'_, S>,
) -> Result<(), ReadError<S::Error>> {
    let mut walk = Walk::open(top, delivery.limits().entries)?;
    let mut reader = Reader::new(contents, delivery);
    while let Some(found) = walk.next()? {
        let opened = found.open()?;
        if let Some(dir) = reader.hand_over(found.path, opened)? {
            walk.enter(dir)?;
        }
    }
    Ok(())
}

/// Hands over what changed in a directory, removals first. What is gone by now is passed over: the next snapshot
/// tells of it.
///
/// The directories above a change come before it, because the destination may have lost them.
///
/// # Errors
///
/// As [`read`](super::read).
pub fn read_changes<S: Sink>(
    dir: &Path,
    changes: &Changes,
    sink: &mut S,
    cancel: &AtomicBool,
) -> Result<Totals, ReadError<S::Error>> {
    let mut delivery = Delivery::new(sink, Limits::DEFAULT, Watch::new(cancel));
    for path in changes.removed.iter().chain(&changes.changed) {
        check_path(path)?;
    }
    for path in &changes.removed {
        let (kind, modified) = (EntryKind::Absent, ModifiedAt::default());
        delivery.entry(&Entry { path: path.clone(), kind, mode: 0, modified })?;
    }
    let mut parents = Parents { top: open_top(dir)?, below: Vec::new() };
    let mut reader = Reader::new(Contents::Delivered, &mut delivery);
    for path in &changes.changed {
        parents.hand_over(path, &mut reader)?;
    }
    Ok(delivery.totals())
}

/// Refuses a path that no walk gives: it must not lead out of the directory.
fn check_path(path: &[u8]) -> Result<(), SourceError> {
    match Name::parse(path) {
        Ok(name) if name.path == path => Ok(()),
        Ok(_) => Err(SourceError::refused(path, "has a name that is not in its shortest form")),
        Err(reason) => Err(SourceError::refused(path, reason)),
    }
}

/// The open directories above what was handed over last, all of which were handed over too.
struct Parents {
    top: OwnedFd,
    below: Vec<(Vec<u8>, OwnedFd)>,
}

impl Parents {
    /// Hands over what is at `path` now, and the directories above it unless they are still open.
    fn hand_over<S: Sink>(
        &mut self,
        path: &[u8],
        reader: &mut Reader<'_, '_, S>,
    ) -> Result<(), ReadError<S::Error>> {
        let names = path.split(|byte| *byte == b'/').collect::<Vec<_>>();
        let (last, above) = names.split_last().expect("a split gives at least one part");
        let open = self.below.iter().zip(above).take_while(|((open, _), name)| open == *name).count();
        self.below.truncate(open);
        let mut len = above[..open].iter().map(|name| name.len() + 1).sum::<usize>();
        for name in above[open..].iter().chain([last]) {
            len += name.len();
            let dir = self.below.last().map_or(&self.top, |(_, dir)| dir);
            let Some(opened) = open_if_there(dir, name, &path[..len])? else { return Ok(()) };
            let is_parent = len < path.len();
            if is_parent && !matches!(opened, Opened::Directory(..)) {
                return Ok(());
            }
            if let Some(dir) = reader.hand_over(&path[..len], opened)? {
                self.below.push((name.to_vec(), dir));
            }
            len += 1;
        }
        Ok(())
    }
}

/// Opens what is there under a name; `None` when there is nothing, or when it just changes.
fn open_if_there(dir: &OwnedFd, name: &[u8], path: &[u8]) -> Result<Option<Opened>, SourceError> {
    let Ok(name) = CString::new(name) else { return Ok(None) };
    let Some(found) = Found::look(dir, name, path)? else { return Ok(None) };
    match found.open() {
        Ok(opened) => Ok(Some(opened)),
        Err(SourceError::Changed { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Turns what is opened into entries and content.
struct Reader<'a, 'b, S> {
    contents: Contents,
    delivery: &'a mut Delivery<'b, S>,
    linked: Linked,
    buffer: Vec<u8>,
}

impl<'a, 'b, S: Sink> Reader<'a, 'b, S> {
    fn new(contents: Contents, delivery: &'a mut Delivery<'b, S>) -> Self {
        let buffer = match contents {
            Contents::Delivered => vec![0; CONTENT_MAX],
            Contents::Measured => Vec::new(),
        };
        Self { contents, delivery, linked: Linked::default(), buffer }
    }

    /// Hands one entry over, and the content of a file. A directory comes back, to be entered.
    fn hand_over(&mut self, path: &[u8], opened: Opened) -> Result<Option<OwnedFd>, ReadError<S::Error>> {
        match opened {
            Opened::Directory(dir, stat) => {
                self.delivery.entry(&entry(path, EntryKind::Directory, &stat))?;
                Ok(Some(dir))
            }
            Opened::Symlink(target, stat) => {
                self.delivery.entry(&entry(path, EntryKind::Symlink { target }, &stat))?;
                Ok(None)
            }
            Opened::File(file, stat) => {
                self.file(path, &file, &stat)?;
                Ok(None)
            }
        }
    }

    fn file(&mut self, path: &[u8], file: &OwnedFd, stat: &Stat) -> Result<(), ReadError<S::Error>> {
        if stat.st_nlink > 1
            && let Some(target) = self.linked.first_name(stat, path)?
        {
            return self.delivery.entry(&entry(path, EntryKind::HardLink { target }, stat));
        }
        let len = u64::try_from(stat.st_size).map_err(|_| SourceError::changed(path))?;
        self.delivery.entry(&entry(path, EntryKind::File { len }, stat))?;
        match self.contents {
            Contents::Delivered => self.content(path, file, stat, len),
            Contents::Measured => Ok(()),
        }
    }

    /// Hands exactly `len` bytes over, unless the file turns out to be another one than when it was opened.
    fn content(
        &mut self,
        path: &[u8],
        file: &OwnedFd,
        before: &Stat,
        len: u64,
    ) -> Result<(), ReadError<S::Error>> {
        let mut remaining = len;
        while remaining > 0 {
            let wanted = usize::try_from(remaining).map_or(CONTENT_MAX, |len| len.min(CONTENT_MAX));
            let count = match rustix::io::read(file, &mut self.buffer[..wanted]) {
                Ok(0) => return Err(SourceError::changed(path).into()),
                Ok(count) => count,
                Err(Errno::INTR) => continue,
                Err(error) => return Err(SourceError::entry(path, error).into()),
            };
            self.delivery.content(&self.buffer[..count])?;
            remaining -= count as u64;
        }
        let after = fstat(file).map_err(|error| SourceError::entry(path, error))?;
        if after.st_size != before.st_size || modified_at(&after) != modified_at(before) {
            return Err(SourceError::changed(path).into());
        }
        Ok(())
    }
}

fn entry(path: &[u8], kind: EntryKind, stat: &Stat) -> Entry {
    let mode = match kind {
        EntryKind::Directory => stat.st_mode & DIRECTORY_MODE,
        EntryKind::File { .. }
        | EntryKind::Symlink { .. }
        | EntryKind::HardLink { .. }
        | EntryKind::Absent => stat.st_mode & FILE_MODE,
    };
    Entry { path: path.to_vec(), kind, mode, modified: modified_at(stat) }
}

/// First names of the files that have several.
#[derive(Default)]
struct Linked {
    /// Where each one stands in `names`, by device and inode.
    ranges: HashMap<(u64, u64), Range<usize>>,
    names: Vec<u8>,
}

impl Linked {
    /// Returns the name under which the file came before; `None` when this is the first.
    fn first_name(&mut self, stat: &Stat, path: &[u8]) -> Result<Option<Vec<u8>>, SourceError> {
        let start = self.names.len();
        match self.ranges.entry((stat.st_dev, stat.st_ino)) {
            Slot::Occupied(first) => Ok(Some(self.names[first.get().clone()].to_vec())),
            Slot::Vacant(_) if path.len() > LINKED_NAMES_MAX - start => {
                let reason = "is one hard link too many: the limit is 64 MiB of their names";
                Err(SourceError::refused(path, reason))
            }
            Slot::Vacant(slot) => {
                self.names.extend_from_slice(path);
                slot.insert(start..self.names.len());
                Ok(None)
            }
        }
    }
}
