//! A disk in memory that knows what is durable.
//!
//! ```text
//! write, set_len --> page cache --sync--> durable
//! create, rename, remove --> entries --sync_dir--> durable
//! ```
//!
//! After a power cut, whatever is not durable is there, is not there, or is there in part: sector by sector, each
//! independent of all others, also across files.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::faults::{Call, Failure, Fault, Faults};
use super::{Disk, DiskFile};
use crate::files;

/// What reaches a device as a whole or not at all, in bytes.
const SECTOR_LEN: u64 = 512;

/// A disk in memory, for tests of what is built on the log. Clones are handles to the same disk.
///
/// It does what [`Disk`] promises and no more, and goes wrong where a [`Fault`] says so. The same calls on a new disk
/// have the same outcome.
#[derive(Clone, Debug, Default)]
pub struct MemoryDisk {
    content: Arc<Mutex<Content>>,
}

/// What a sync of this disk is worth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Honesty {
    /// What was synced is durable.
    #[default]
    Honest,
    /// Syncs do nothing and say that all is well, as some devices do.
    Lying,
}

#[derive(Clone, Debug, Default)]
struct Content {
    dirs: BTreeSet<PathBuf>,
    /// Every file that had a name once; open ones outlive their names.
    inodes: Vec<Inode>,
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    /// Changes of entries that are not durable, in their order.
    changes: Vec<Change>,
    faults: Faults,
    /// Bytes that files can still grow by; `None` for no bound.
    space_left: Option<u64>,
    honesty: Honesty,
    /// How many draws were made of what a failed sync leaves.
    draws: u64,
}

#[derive(Clone, Debug, Default)]
struct Inode {
    /// What readers see.
    bytes: Vec<u8>,
    durable: Vec<u8>,
    /// What is not durable, in its order.
    pending: Vec<Pending>,
}

#[derive(Clone, Debug)]
enum Pending {
    Write { offset: u64, bytes: Vec<u8> },
    SetLen(u64),
}

#[derive(Clone, Debug)]
enum Change {
    Name { path: PathBuf, inode: usize },
    Rename { from: PathBuf, to: PathBuf, inode: usize },
    Remove { path: PathBuf },
}

impl Change {
    fn dir(&self) -> Option<&Path> {
        match self {
            Self::Name { path, .. } | Self::Remove { path } => path.parent(),
            Self::Rename { to, .. } => to.parent(),
        }
    }

    fn apply(&self, names: &mut BTreeMap<PathBuf, usize>) {
        match self {
            Self::Name { path, inode } => drop(names.insert(path.clone(), *inode)),
            Self::Rename { from, to, inode } => {
                if names.get(from) == Some(inode) {
                    names.remove(from);
                }
                names.insert(to.clone(), *inode);
            }
            Self::Remove { path } => drop(names.remove(path)),
        }
    }
}

impl MemoryDisk {
    /// Returns an empty disk without faults or bounds.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Plants a fault. Several can be planted; the earliest one counts where they meet.
    pub fn plant(&self, fault: Fault) {
        self.content().faults.plant(fault);
    }

    /// Takes all faults back, but not what they have done.
    pub fn heal(&self) {
        self.content().faults.clear();
    }

    /// Returns how many calls have failed by a planted fault.
    #[must_use]
    pub fn fired(&self) -> u64 {
        self.content().faults.fired()
    }

    /// Returns how many calls of a kind were made.
    #[must_use]
    pub fn calls(&self, call: Call) -> u64 {
        self.content().faults.calls(call)
    }

    /// Tells whether [`Failure::Gone`] has come.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.content().faults.is_gone()
    }

    /// Bounds how much files can grow from now on, in bytes; `None` takes the bound back.
    ///
    /// A write that does not fit writes what does. Without any space no file can be created either.
    pub fn set_space_left(&self, space_left: Option<u64>) {
        self.content().space_left = space_left;
    }

    /// Sets what syncs are worth from now on.
    pub fn set_honesty(&self, honesty: Honesty) {
        self.content().honesty = honesty;
    }

    /// Returns the disk as it is found after whoever used it was killed: all that was written is there, and what was not
    /// synced is still not durable. Faults and bounds are gone; this disk is not to be used any more.
    #[must_use]
    pub fn after_kill(&self) -> Self {
        let mut content = self.content().clone();
        content.reset();
        Self { content: Arc::new(Mutex::new(content)) }
    }

    /// Returns the disk as it is found after a power cut. The seed decides what is left of what was not durable: all,
    /// nothing, or some sectors and some entries. Faults and bounds are gone.
    #[must_use]
    pub fn after_power_cut(&self, seed: u64) -> Self {
        let mut content = self.content().clone();
        content.cut_power(&mut Draw::new(seed));
        content.reset();
        Self { content: Arc::new(Mutex::new(content)) }
    }

    fn content(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn handle(&self, inode: usize) -> Box<dyn DiskFile> {
        Box::new(MemoryFile { content: Arc::clone(&self.content), inode })
    }
}

impl Content {
    fn reset(&mut self) {
        self.faults = Faults::default();
        self.space_left = None;
        self.honesty = Honesty::Honest;
    }

    /// Takes note of a call for which there is nothing between all and nothing.
    fn meet(&mut self, call: Call) -> io::Result<()> {
        match self.faults.meet(call) {
            // The kernel makes such calls again by itself, or does them whole.
            None | Some(Failure::Interrupted | Failure::Short) => Ok(()),
            Some(failure @ (Failure::Io | Failure::Full | Failure::Gone)) => Err(failure.error()),
        }
    }

    fn find(&self, path: &Path) -> io::Result<usize> {
        self.names.get(path).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.names);
        self.changes.push(change);
    }

    fn sync_dir(&mut self, dir: &Path) {
        let changes = std::mem::take(&mut self.changes).into_iter();
        let (durable, pending): (Vec<_>, Vec<_>) = changes.partition(|change| change.dir() == Some(dir));
        for change in durable {
            change.apply(&mut self.durable_names);
        }
        self.changes = pending;
    }

    fn cut_power(&mut self, draw: &mut Draw) {
        let fate = Fate::draw(draw);
        for change in std::mem::take(&mut self.changes) {
            if fate.keeps(draw) {
                change.apply(&mut self.durable_names);
            }
        }
        self.names = self.durable_names.clone();
        for inode in &mut self.inodes {
            inode.settle(draw, fate);
        }
    }

    /// Returns how many of the bytes fit.
    fn room(&self, inode: usize, offset: u64, len: usize) -> usize {
        let known = files::len_u64(self.inodes[inode].bytes.len());
        let Some(space_left) = self.space_left else { return len };
        let room = known.saturating_sub(offset).saturating_add(space_left);
        usize::try_from(room).unwrap_or(usize::MAX).min(len)
    }

    fn take_space(&mut self, before: usize, after: usize) {
        if let Some(space_left) = &mut self.space_left {
            *space_left =
                space_left.saturating_add(files::len_u64(before)).saturating_sub(files::len_u64(after));
        }
    }

    fn write(&mut self, inode: usize, bytes: &[u8], offset: u64) -> usize {
        let before = self.inodes[inode].bytes.len();
        self.inodes[inode].push(Pending::Write { offset, bytes: bytes.to_vec() });
        self.take_space(before, self.inodes[inode].bytes.len());
        bytes.len()
    }

    fn sync(&mut self, inode: usize) -> io::Result<()> {
        let failure = self.faults.meet(Call::Sync);
        let inode = &mut self.inodes[inode];
        match failure {
            None | Some(Failure::Interrupted | Failure::Short) => {
                if self.honesty == Honesty::Honest {
                    for pending in std::mem::take(&mut inode.pending) {
                        pending.apply(&mut inode.durable);
                    }
                }
                Ok(())
            }
            Some(failure @ (Failure::Io | Failure::Full)) => {
                // The kernel takes the pages for clean now, wherever they are.
                self.draws += 1;
                inode.settle_unseen(&mut Draw::new(self.draws));
                Err(failure.error())
            }
            Some(failure @ Failure::Gone) => Err(failure.error()),
        }
    }
}

impl Inode {
    fn push(&mut self, pending: Pending) {
        pending.apply(&mut self.bytes);
        self.pending.push(pending);
    }

    /// Makes durable what the fate leaves of what is not.
    fn settle(&mut self, draw: &mut Draw, fate: Fate) {
        for pending in std::mem::take(&mut self.pending) {
            pending.settle(&mut self.durable, draw, fate);
        }
        self.bytes = self.durable.clone();
    }

    /// Does the same, but readers go on to see what was written.
    fn settle_unseen(&mut self, draw: &mut Draw) {
        for pending in std::mem::take(&mut self.pending) {
            pending.settle(&mut self.durable, draw, Fate::Some);
        }
    }
}

impl Pending {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Write { offset, bytes: written } => put(bytes, *offset, written),
            Self::SetLen(len) => bytes.resize(index(*len), 0),
        }
    }

    /// Applies the sectors that have reached the device.
    fn settle(&self, durable: &mut Vec<u8>, draw: &mut Draw, fate: Fate) {
        match self {
            Self::SetLen(_) => {
                if fate.keeps(draw) {
                    self.apply(durable);
                }
            }
            Self::Write { offset, bytes } => {
                let end = offset + files::len_u64(bytes.len());
                let mut from = *offset;
                while from < end {
                    let to = ((from / SECTOR_LEN + 1) * SECTOR_LEN).min(end);
                    if fate.keeps(draw) {
                        put(durable, from, &bytes[index(from - offset)..index(to - offset)]);
                    } else if fate == Fate::Some && draw.bit() && index(to) > durable.len() {
                        // The file has got its length, and the sector never its bytes.
                        durable.resize(index(to), 0);
                    }
                    from = to;
                }
            }
        }
    }
}

/// What a power cut leaves of what was not durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    All,
    None,
    Some,
}

impl Fate {
    fn draw(draw: &mut Draw) -> Self {
        match draw.next() % 8 {
            0 => Self::All,
            1 => Self::None,
            _ => Self::Some,
        }
    }

    fn keeps(self, draw: &mut Draw) -> bool {
        match self {
            Self::All => true,
            Self::None => false,
            Self::Some => draw.bit(),
        }
    }
}

/// Numbers that look random and follow from a seed (SplitMix64).
#[derive(Clone, Copy, Debug)]
struct Draw(u64);

impl Draw {
    const fn new(seed: u64) -> Self {
        Self(seed)
    }

    const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    const fn bit(&mut self) -> bool {
        self.next() >> 63 == 1
    }
}

fn index(offset: u64) -> usize {
    usize::try_from(offset).expect("a file in memory is shorter than memory")
}

fn put(bytes: &mut Vec<u8>, offset: u64, written: &[u8]) {
    let (start, end) = (index(offset), index(offset) + written.len());
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    bytes[start..end].copy_from_slice(written);
}

impl Disk for MemoryDisk {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let mut content = self.content();
        content.meet(Call::Create)?;
        content.dirs.extend(path.ancestors().map(Path::to_owned));
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        let mut content = self.content();
        content.meet(Call::List)?;
        if !content.dirs.contains(dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(content.names.keys().filter(|path| path.parent() == Some(dir)).cloned().collect())
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut content = self.content();
        content.meet(Call::Open)?;
        content.find(path).map(|inode| self.handle(inode))
    }

    fn open_for_writing(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.open(path)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut content = self.content();
        content.meet(Call::Create)?;
        if let Ok(inode) = content.find(path) {
            let before = content.inodes[inode].bytes.len();
            content.inodes[inode].push(Pending::SetLen(0));
            content.take_space(before, 0);
            return Ok(self.handle(inode));
        }
        if content.space_left == Some(0) {
            return Err(Failure::Full.error());
        }
        let inode = content.inodes.len();
        content.inodes.push(Inode::default());
        content.change(Change::Name { path: path.to_owned(), inode });
        Ok(self.handle(inode))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut content = self.content();
        content.meet(Call::Rename)?;
        let inode = content.find(from)?;
        content.change(Change::Rename { from: from.to_owned(), to: to.to_owned(), inode });
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut content = self.content();
        content.meet(Call::Remove)?;
        let inode = content.find(path)?;
        let len = content.inodes[inode].bytes.len();
        content.take_space(len, 0);
        content.change(Change::Remove { path: path.to_owned() });
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut content = self.content();
        content.meet(Call::SyncDir)?;
        if content.honesty == Honesty::Honest {
            content.sync_dir(path);
        }
        Ok(())
    }
}

/// An open file of a [`MemoryDisk`].
#[derive(Debug)]
struct MemoryFile {
    content: Arc<Mutex<Content>>,
    inode: usize,
}

impl MemoryFile {
    fn content(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl DiskFile for MemoryFile {
    fn len_bytes(&self) -> io::Result<u64> {
        let mut content = self.content();
        content.meet(Call::Read)?;
        Ok(files::len_u64(content.inodes[self.inode].bytes.len()))
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut content = self.content();
        let failure = content.faults.meet(Call::Read);
        let bytes = content.inodes[self.inode].bytes.get(index(offset)..).unwrap_or_default();
        let len = match failure {
            None => buffer.len().min(bytes.len()),
            Some(Failure::Short) => buffer.len().min(bytes.len()).div_ceil(2),
            Some(failure) => return Err(failure.error()),
        };
        buffer[..len].copy_from_slice(&bytes[..len]);
        Ok(len)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let mut content = self.content();
        let was_gone = content.faults.is_gone();
        match content.faults.meet(Call::Write) {
            None => {
                let room = content.room(self.inode, offset, bytes.len());
                if room == 0 && !bytes.is_empty() {
                    return Err(Failure::Full.error());
                }
                Ok(content.write(self.inode, &bytes[..room], offset))
            }
            Some(Failure::Short) => Ok(content.write(self.inode, &bytes[..bytes.len().div_ceil(2)], offset)),
            Some(failure) => {
                // Who goes in the middle of a write has written some of its sectors.
                if failure == Failure::Gone && !was_gone {
                    let middle = (offset + files::len_u64(bytes.len()) / 2) / SECTOR_LEN * SECTOR_LEN;
                    content.write(self.inode, &bytes[..index(middle.saturating_sub(offset))], offset);
                }
                Err(failure.error())
            }
        }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut content = self.content();
        content.meet(Call::SetLen)?;
        let before = content.inodes[self.inode].bytes.len();
        content.inodes[self.inode].push(Pending::SetLen(len));
        content.take_space(before, index(len));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.content().sync(self.inode)
    }

    fn sync_all(&self) -> io::Result<()> {
        self.content().sync(self.inode)
    }
}
