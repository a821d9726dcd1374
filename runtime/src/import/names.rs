//! The names that an archive has given so far.

use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;

use super::delivery::too_many;

/// Bytes of a path's digest: enough that nobody finds two paths with the same one.
const DIGEST_LEN: usize = 16;

/// Digest of a path, from that of its parent and its last component. One of fixed size is kept in place of the path,
/// and a deep path costs as much as a flat one of the same length.
type Digest = [u8; DIGEST_LEN];

/// The destination itself.
const ROOT: Digest = [0; DIGEST_LEN];

/// What an archive gave under a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Given {
    /// A directory, by an entry or as a parent.
    Directory,
    /// A regular file.
    File,
    /// Another name of a regular file.
    HardLink,
    /// A symbolic link.
    Symlink,
}

/// All names of an archive, in less than 64 bytes each.
#[derive(Debug)]
pub(super) struct Names {
    given: HashMap<Digest, Given>,
    count_max: u64,
}

impl Names {
    pub(super) fn new(count_max: u64) -> Self {
        Self { given: HashMap::new(), count_max }
    }

    /// Returns what the archive gave as `path` so far.
    pub(super) fn get(&self, path: &[u8]) -> Option<Given> {
        let digest = components(path).fold(ROOT, |parent, name| child(&parent, name));
        self.given.get(&digest).copied()
    }

    /// Takes in a name, or says why there must be no such entry now.
    pub(super) fn add(&mut self, path: &[u8], given: Given) -> Result<(), Cow<'static, str>> {
        let mut digest = ROOT;
        let mut names = components(path).peekable();
        while let Some(name) = names.next() {
            digest = child(&digest, name);
            let is_parent = names.peek().is_some();
            let wanted = if is_parent { Given::Directory } else { given };
            let count = self.given.len() as u64;
            match self.given.entry(digest) {
                Slot::Vacant(slot) if count < self.count_max => {
                    slot.insert(wanted);
                }
                Slot::Vacant(_) => return Err(too_many(self.count_max).into()),
                Slot::Occupied(slot) => check_again(*slot.get(), wanted, is_parent)?,
            }
        }
        Ok(())
    }
}

/// Says why a name that was given as one thing cannot be given again, or have something below it.
fn check_again(before: Given, now: Given, is_parent: bool) -> Result<(), &'static str> {
    if is_parent {
        return match before {
            Given::Directory => Ok(()),
            Given::File | Given::HardLink => Err("lies below a file of the same archive"),
            Given::Symlink => Err("lies below a link of the same archive"),
        };
    }
    match now {
        _ if before != now => Err("is given twice, as different things"),
        Given::Directory | Given::File => Ok(()),
        Given::HardLink | Given::Symlink => Err("is a link given twice"),
    }
}

fn components(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/')
}

fn child(parent: &Digest, name: &[u8]) -> Digest {
    let mut hasher = blake3::Hasher::new();
    hasher.update(parent).update(name);
    let mut digest = ROOT;
    hasher.finalize_xof().fill(&mut digest);
    digest
}
