//! The inode numbers of live files, and by which names they can be reached.
//!
//! The guest knows files by device and inode, and calls them by paths; the kernel knows them by the numbers that are given out
//! here. A file keeps its number as long as the kernel remembers it, whatever it is called: a number leads to a path
//! through the directories that it was found in, so the rename of a directory moves all that is below it.

use std::collections::HashMap;

use pyro_core::WorkspaceId;
use pyro_protocol::{FileKind, FileStat};

/// The first number of a live file: far above those of other nodes.
const FIRST: u64 = 1 << 48;

/// Most directories above a file: what is deeper has no path that a guest takes.
const DEPTH_MAX: usize = 4096;

/// A directory of live files: the top of a workspace's files, or one with a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Place {
    /// The directory `files`.
    Top,
    /// One below it.
    Number(u64),
}

/// A name in a directory.
type Name = (WorkspaceId, Place, Vec<u8>);

/// What identifies a file of a workspace as long as it exists.
type Identity = (WorkspaceId, u64, u64);

/// Numbers and names.
#[derive(Debug, Default)]
pub(super) struct Names {
    by_number: HashMap<u64, Known>,
    by_identity: HashMap<Identity, u64>,
    by_name: HashMap<Name, u64>,
    given_out: u64,
}

/// A file that the kernel was told of.
#[derive(Debug)]
struct Known {
    workspace: WorkspaceId,
    identity: Identity,
    kind: FileKind,
    /// Where it was found, the last place at the end.
    names: Vec<(Place, Vec<u8>)>,
    /// How often the kernel was told of it since it forgot it.
    lookups: u64,
}

/// Tells whether a number is that of a live file.
pub(crate) const fn is_live(number: u64) -> bool {
    number >= FIRST
}

impl Names {
    /// Returns the number of a file that was found under a name; the kernel is told of it.
    pub(super) fn tell(&mut self, workspace: WorkspaceId, place: Place, name: &[u8], stat: &FileStat) -> u64 {
        let identity = (workspace, stat.device, stat.inode);
        let same = |number: &u64| self.by_number.get(number).is_some_and(|known| known.kind == stat.kind);
        let number = match self.by_identity.get(&identity).copied().filter(same) {
            Some(number) => number,
            None => self.add(workspace, identity, stat.kind),
        };
        self.call(number, workspace, place, name);
        if let Some(known) = self.by_number.get_mut(&number) {
            known.lookups += 1;
        }
        number
    }

    fn add(&mut self, workspace: WorkspaceId, identity: Identity, kind: FileKind) -> u64 {
        let number = FIRST + self.given_out;
        self.given_out += 1;
        let known = Known { workspace, identity, kind, names: Vec::new(), lookups: 0 };
        self.by_number.insert(number, known);
        self.by_identity.insert(identity, number);
        number
    }

    /// Notes that a name stands for a file, whatever it stood for before.
    fn call(&mut self, number: u64, workspace: WorkspaceId, place: Place, name: &[u8]) {
        self.uncall(workspace, place, name);
        self.by_name.insert((workspace, place, name.to_vec()), number);
        if let Some(known) = self.by_number.get_mut(&number) {
            known.names.push((place, name.to_vec()));
        }
    }

    /// Notes that a name stands for nothing, and returns what it stood for.
    fn uncall(&mut self, workspace: WorkspaceId, place: Place, name: &[u8]) -> Option<u64> {
        let number = self.by_name.remove(&(workspace, place, name.to_vec()))?;
        if let Some(known) = self.by_number.get_mut(&number) {
            known
                .names
                .retain(|(known_place, known_name)| (*known_place, known_name.as_slice()) != (place, name));
        }
        Some(number)
    }

    /// Notes that a name was removed. A file without a name gets another number should its identity come again: the
    /// guest gives inodes out anew.
    pub(super) fn removed(&mut self, workspace: WorkspaceId, place: Place, name: &[u8]) {
        let Some(number) = self.uncall(workspace, place, name) else { return };
        let Some(known) = self.by_number.get(&number) else { return };
        if known.names.is_empty() && self.by_identity.get(&known.identity) == Some(&number) {
            self.by_identity.remove(&known.identity);
        }
    }

    /// Notes that a file has another name.
    pub(super) fn renamed(
        &mut self,
        workspace: WorkspaceId,
        (from, old): (Place, &[u8]),
        (to, new): (Place, &[u8]),
        exchanged: bool,
    ) {
        let moved = self.uncall(workspace, from, old);
        let replaced = self.by_name.get(&(workspace, to, new.to_vec())).copied();
        if exchanged {
            self.uncall(workspace, to, new);
            if let Some(replaced) = replaced {
                self.call(replaced, workspace, from, old);
            }
        } else {
            self.removed(workspace, to, new);
        }
        if let Some(moved) = moved {
            self.call(moved, workspace, to, new);
        }
    }

    /// Returns the number of a file that the kernel was told of; `None` for another.
    pub(super) fn number(&self, workspace: WorkspaceId, stat: &FileStat) -> Option<u64> {
        self.by_identity.get(&(workspace, stat.device, stat.inode)).copied()
    }

    /// Returns the workspace of a number; `None` for one that was forgotten.
    pub(super) fn workspace(&self, number: u64) -> Option<WorkspaceId> {
        self.by_number.get(&number).map(|known| known.workspace)
    }

    /// Tells whether what the guest says is of the file with this number.
    pub(super) fn is_same(&self, number: u64, stat: &FileStat) -> bool {
        self.by_number.get(&number).is_some_and(|known| {
            known.identity == (known.workspace, stat.device, stat.inode) && known.kind == stat.kind
        })
    }

    /// Returns the directory that a file was found in last; `None` when no name of it is known any more.
    pub(super) fn above(&self, number: u64) -> Option<Place> {
        self.by_number.get(&number)?.names.last().map(|(above, _)| *above)
    }

    /// Returns the path of a directory or file below the top; `None` when no name of it is known any more.
    pub(super) fn path(&self, place: Place) -> Option<Vec<u8>> {
        let mut names: Vec<&[u8]> = Vec::new();
        let mut place = place;
        while let Place::Number(number) = place {
            let (above, name) = self.by_number.get(&number)?.names.last()?;
            names.push(name);
            if names.len() > DEPTH_MAX {
                return None;
            }
            place = *above;
        }
        names.reverse();
        Some(names.join(&b'/'))
    }

    /// The kernel forgets a number, so often.
    pub(super) fn forget(&mut self, number: u64, lookups: u64) {
        let Some(known) = self.by_number.get_mut(&number) else { return };
        known.lookups = known.lookups.saturating_sub(lookups);
        if known.lookups > 0 {
            return;
        }
        let Some(known) = self.by_number.remove(&number) else { return };
        for (place, name) in known.names {
            self.by_name.remove(&(known.workspace, place, name));
        }
        if self.by_identity.get(&known.identity) == Some(&number) {
            self.by_identity.remove(&known.identity);
        }
    }
}

#[cfg(test)]
mod tests {
    use pyro_protocol::ModifiedAt;

    use super::*;

    const WORKSPACE: WorkspaceId = WorkspaceId::from_bytes([1; 6]);
    const THEN: ModifiedAt = ModifiedAt { seconds: 0, nanoseconds: 0 };

    fn stat(inode: u64, kind: FileKind) -> FileStat {
        FileStat {
            device: 1,
            inode,
            kind,
            mode: 0o644,
            links: 1,
            uid: 0,
            gid: 0,
            size: 0,
            blocks: 0,
            accessed: THEN,
            modified: THEN,
            changed: THEN,
        }
    }

    fn file(inode: u64) -> FileStat {
        stat(inode, FileKind::Regular)
    }

    fn path(names: &Names, number: u64) -> Option<String> {
        names.path(Place::Number(number)).map(|path| String::from_utf8(path).unwrap())
    }

    /// Catches a file that stays where its directory was.
    #[test]
    fn what_is_below_a_renamed_directory_moves_along() {
        let mut names = Names::default();
        let outer = names.tell(WORKSPACE, Place::Top, b"a", &stat(1, FileKind::Directory));
        let inner = names.tell(WORKSPACE, Place::Number(outer), b"b", &stat(2, FileKind::Directory));
        let leaf = names.tell(WORKSPACE, Place::Number(inner), b"c", &file(3));
        assert_eq!(path(&names, leaf).unwrap(), "a/b/c");
        names.renamed(WORKSPACE, (Place::Top, b"a"), (Place::Top, b"z"), false);
        names.renamed(WORKSPACE, (Place::Number(outer), b"b"), (Place::Top, b"y"), false);
        assert_eq!((path(&names, leaf).unwrap(), path(&names, outer).unwrap()), ("y/c".into(), "z".into()));
    }

    /// Catches two numbers for two names of one file, and a path through a name that is gone.
    #[test]
    fn names_of_one_file_have_one_number() {
        let mut names = Names::default();
        let number = names.tell(WORKSPACE, Place::Top, b"a", &file(1));
        assert_eq!(names.tell(WORKSPACE, Place::Top, b"b", &file(1)), number);
        assert_eq!(path(&names, number).unwrap(), "b");
        names.removed(WORKSPACE, Place::Top, b"b");
        assert_eq!(path(&names, number).unwrap(), "a");
        names.renamed(WORKSPACE, (Place::Top, b"a"), (Place::Top, b"c"), false);
        assert_eq!(path(&names, number).unwrap(), "c");
        names.removed(WORKSPACE, Place::Top, b"c");
        assert_eq!(path(&names, number), None);
        assert!(names.is_same(number, &file(1)));
    }

    /// Catches a new file that is taken for the one which had its inode before.
    #[test]
    fn an_inode_that_comes_again_is_another_file() {
        let mut names = Names::default();
        let removed = names.tell(WORKSPACE, Place::Top, b"a", &file(1));
        names.removed(WORKSPACE, Place::Top, b"a");
        let anew = names.tell(WORKSPACE, Place::Top, b"a", &file(1));
        assert_ne!(anew, removed);
        let directory = names.tell(WORKSPACE, Place::Top, b"a", &stat(1, FileKind::Directory));
        assert_ne!(directory, anew, "somebody in the guest replaced it");
        assert_eq!(path(&names, anew), None);
        let other = names.tell(WorkspaceId::from_bytes([2; 6]), Place::Top, b"a", &file(1));
        assert!(other != directory && names.workspace(other) != names.workspace(directory));
    }

    #[test]
    fn replaced_and_exchanged_files_keep_their_numbers() {
        let mut names = Names::default();
        let one = names.tell(WORKSPACE, Place::Top, b"one", &file(1));
        let two = names.tell(WORKSPACE, Place::Top, b"two", &file(2));
        names.renamed(WORKSPACE, (Place::Top, b"one"), (Place::Top, b"two"), true);
        assert_eq!((path(&names, one).unwrap(), path(&names, two).unwrap()), ("two".into(), "one".into()));
        names.renamed(WORKSPACE, (Place::Top, b"one"), (Place::Top, b"two"), false);
        assert_eq!((path(&names, two).unwrap(), path(&names, one)), ("two".into(), None));
    }

    /// Catches numbers and names that are kept for ever.
    #[test]
    fn what_the_kernel_forgets_is_forgotten() {
        let mut names = Names::default();
        let number = names.tell(WORKSPACE, Place::Top, b"a", &file(1));
        assert_eq!(names.tell(WORKSPACE, Place::Top, b"a", &file(1)), number);
        names.forget(number, 1);
        assert_eq!(path(&names, number).unwrap(), "a");
        names.forget(number, 1);
        assert!(names.by_number.is_empty() && names.by_name.is_empty() && names.by_identity.is_empty());
        assert_ne!(names.tell(WORKSPACE, Place::Top, b"a", &file(1)), number);
        names.forget(number, 1);
    }
}
