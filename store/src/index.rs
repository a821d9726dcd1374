//! The index: everything that is looked up. The only module that names sled.
//!
//! sled panics on damage that it finds at the wrong moment, and may have lost what it said it kept. So every call is
//! caught, the first failure closes the index for good, and callers then read the segments instead.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

use pyro_core::{RequestId, Seq, WorkspaceId};

use crate::chunk::Chunk;
use crate::disk::LogDir;
use crate::files;
use crate::frame::array;
use crate::shared::Head;

const NAME: &str = "index";
const STATE_NAME: &str = "index.state";
const CLEAN: &[u8] = b"clean\n";

/// Identifies the time since the host started: data that was not synced is lost when this changes.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

const FORMAT: u32 = 2;
const FORMAT_KEY: &[u8] = b"format";
const WATERMARK_KEY: &[u8] = b"watermark";
const BEGINNING_KEY: &[u8] = b"beginning";

/// Memory that sled may fill, in bytes. Its own default is a gigabyte.
const CACHE_LEN: u64 = 32 << 20;

/// How many checkpoints are kept: the newest, and one for the case that it is damaged.
const CHECKPOINTS_KEPT: usize = 2;

/// Lower bound of the first chunk of request ids.
const LOWEST_ID: &[u8] = &[0; 16];

/// Records per block: the index knows positions of blocks and which blocks a workspace has events in.
pub(crate) const BLOCK_LEN: u64 = 256;

/// Records per group: 64 blocks, one bit each. An insert into sled costs as much as decoding ten events, so one per
/// workspace and group is affordable, one per workspace and block is not.
const GROUP_LEN: u64 = BLOCK_LEN * 64;

/// Returns the first record of the block that a record is in.
pub(crate) const fn block_of(seq: Seq) -> Seq {
    Seq((seq.0 - 1) / BLOCK_LEN * BLOCK_LEN + 1)
}

const fn group_of(seq: Seq) -> Seq {
    Seq((seq.0 - 1) / GROUP_LEN * GROUP_LEN + 1)
}

/// Where a record stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) seq: Seq,
    /// First record of its segment.
    pub(crate) segment: Seq,
    /// Offset in the segment, in bytes.
    pub(crate) offset: u64,
}

/// What is added to the index in one step.
#[derive(Debug, Default)]
pub(crate) struct Additions {
    pub(crate) positions: Vec<Position>,
    /// Per workspace and group, the blocks that have events of the workspace.
    workspaces: BTreeMap<(WorkspaceId, Seq), u64>,
    /// Requests and the first records of their batches, in order.
    pub(crate) requests: Vec<(RequestId, Seq)>,
}

impl Additions {
    /// Notes that a record is about a workspace.
    pub(crate) fn add_workspace(&mut self, workspace: WorkspaceId, seq: Seq) {
        let group = group_of(seq);
        *self.workspaces.entry((workspace, group)).or_default() |= 1 << ((seq.0 - group.0) / BLOCK_LEN);
    }
}

/// The index cannot answer; the segments can.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the index is unusable: {reason}")]
pub(crate) struct IndexError {
    reason: String,
    kind: io::ErrorKind,
}

#[derive(Debug)]
pub(crate) struct Index {
    /// Directory of the log.
    dir: PathBuf,
    /// `None` after a failure or after closing.
    trees: RwLock<Option<Trees>>,
}

#[derive(Debug)]
struct Trees {
    positions: sled::Tree,
    workspaces: sled::Tree,
    requests: sled::Tree,
    checkpoints: sled::Tree,
    meta: sled::Tree,
    /// Last, because its drop closes the files.
    db: sled::Db,
}

impl Index {
    /// Opens the index, or begins a new one when there is none that can be trusted; tells whether it is new. `hash_at`
    /// gives the hash of a record of the log.
    pub(crate) fn open(dir: &Path, hash_at: impl Fn(Seq) -> Option<[u8; 32]>) -> io::Result<(Self, bool)> {
        if dir.join(NAME).exists() && is_trusted(dir) {
            let index = Self::try_open(dir);
            let belongs = |index: &Self| {
                let watermark = index.watermark().ok()?;
                (hash_at(watermark.seq)? == watermark.hash).then_some(watermark)
            };
            if let Ok(index) = index
                && let Some(watermark) = belongs(&index)
            {
                // sled takes some damaged files for empty ones.
                return Ok((index, watermark == Head::EMPTY));
            }
        }
        remove(dir)?;
        let index = Self::try_open(dir).map_err(|error| io::Error::new(error.kind, error))?;
        Ok((index, true))
    }

    /// Returns the index of a log that has none: lookups read the segments.
    pub(crate) fn none(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), trees: RwLock::new(None) }
    }

    /// Opens the index if there is one whose files can be what was written; `None` otherwise, and nothing is changed.
    pub(crate) fn open_trusted(dir: &Path) -> Option<Self> {
        let trusted = dir.join(NAME).exists() && is_trusted(dir);
        trusted.then(|| Self::try_open(dir).ok()).flatten()
    }

    fn try_open(dir: &Path) -> Result<Self, IndexError> {
        mark(dir, &boot_id())
            .map_err(|error| IndexError { reason: error.to_string(), kind: error.kind() })?;
        let trees = guarded(|| Trees::open(&dir.join(NAME)))?;
        Ok(Self { dir: dir.to_owned(), trees: RwLock::new(Some(trees)) })
    }

    /// Returns the last record that is in the index.
    pub(crate) fn watermark(&self) -> Result<Head, IndexError> {
        self.with(|trees| {
            Ok(trees.meta.get(WATERMARK_KEY)?.map_or(Head::EMPTY, |value| {
                if value.len() == 40 { Head::new(seq_of(&value), array(&value, 8..40)) } else { Head::EMPTY }
            }))
        })
    }

    /// Returns a known position at or before a record.
    pub(crate) fn position(&self, seq: Seq) -> Result<Option<Position>, IndexError> {
        self.with(|trees| {
            let Some((key, value)) = trees.positions.get_lt(key_of(seq.next()))? else { return Ok(None) };
            if key.len() != 8 || value.len() != 16 {
                return Ok(None);
            }
            let offset = u64::from_be_bytes(array(&value, 8..16));
            Ok(Some(Position { seq: seq_of(&key), segment: seq_of(&value), offset }))
        })
    }

    /// Returns the blocks from `from` to `last` that have events of a workspace.
    pub(crate) fn blocks(
        &self,
        workspace: WorkspaceId,
        from: Seq,
        last: Seq,
    ) -> Result<Vec<Seq>, IndexError> {
        let mut blocks = Vec::new();
        if from > last {
            return Ok(blocks);
        }
        self.with(|trees| {
            let range = workspace_key(workspace, group_of(from))..=workspace_key(workspace, last);
            for entry in trees.workspaces.range(range) {
                let (key, bits) = entry?;
                let (group, bits) = (seq_of(key.get(6..).unwrap_or_default()), bits_of(&bits));
                let set = (0..64).filter(|bit| bits >> bit & 1 == 1);
                blocks.extend(set.map(|bit| Seq(group.0 + bit * BLOCK_LEN)));
            }
            Ok(())
        })?;
        blocks.retain(|block| (from..=last).contains(block));
        Ok(blocks)
    }

    /// Returns all workspaces that have events.
    pub(crate) fn workspaces(&self) -> Result<BTreeSet<WorkspaceId>, IndexError> {
        self.with(|trees| {
            let mut workspaces = BTreeSet::new();
            let mut next = trees.workspaces.first()?;
            while let Some((key, _)) = next {
                // A key that is too short is none of ours; it sorts before what it could hide.
                let Some(id) = key.first_chunk() else {
                    next = trees.workspaces.get_gt(&key)?;
                    continue;
                };
                let workspace = WorkspaceId::from_bytes(*id);
                workspaces.insert(workspace);
                // One look for each workspace, however many groups it has.
                next = trees.workspaces.get_gt(workspace_key(workspace, Seq(u64::MAX)))?;
            }
            Ok(workspaces)
        })
    }

    /// Returns the first record of the first batch with this request id.
    pub(crate) fn request(&self, request: RequestId) -> Result<Option<Seq>, IndexError> {
        self.with(|trees| {
            let chunk = trees.chunk_of(request)?;
            Ok(chunk.and_then(|(_, chunk)| Chunk::find(&chunk, request)))
        })
    }

    /// Adds the records up to `watermark`.
    pub(crate) fn add(&self, additions: &Additions, watermark: Head) -> Result<(), IndexError> {
        self.with(|trees| {
            let mut batch = sled::Batch::default();
            for position in &additions.positions {
                let value = [position.segment.0.to_be_bytes(), position.offset.to_be_bytes()].concat();
                batch.insert(&key_of(position.seq), value);
            }
            trees.positions.apply_batch(batch)?;
            let mut batch = sled::Batch::default();
            for ((workspace, group), bits) in &additions.workspaces {
                let key = workspace_key(*workspace, *group);
                let known = trees.workspaces.get(&key)?.map_or(0, |known| bits_of(&known));
                batch.insert(key, &(known | bits).to_be_bytes());
            }
            trees.workspaces.apply_batch(batch)?;
            trees.add_requests(&additions.requests)?;
            // After all else: sled keeps a prefix of what was written, so what the watermark covers is there.
            let value = [watermark.seq.0.to_be_bytes().as_slice(), &watermark.hash].concat();
            trees.meta.insert(WATERMARK_KEY, value).map(drop)
        })
    }

    /// Forgets all records before `first`, which were compacted. Lookups do without this; it saves space, and a request id
    /// that comes again is a new one.
    pub(crate) fn begin_at(&self, first: Seq) -> Result<(), IndexError> {
        self.with(|trees| {
            if trees.beginning()? == first {
                return Ok(());
            }
            for key in trees.positions.range(..key_of(first)).keys() {
                trees.positions.remove(key?)?;
            }
            for key in trees.workspaces.iter().keys() {
                let key = key?;
                if seq_of(key.get(6..).unwrap_or_default()).0 + GROUP_LEN <= first.0 {
                    trees.workspaces.remove(key)?;
                }
            }
            for entry in &trees.requests {
                let (key, value) = entry?;
                let mut chunk = Chunk::decode(&value);
                if chunk.begin_at(first) {
                    if chunk.is_empty() {
                        trees.requests.remove(key)?;
                    } else {
                        trees.requests.insert(key, chunk.encode())?;
                    }
                }
            }
            trees.meta.insert(BEGINNING_KEY, &key_of(first)).map(drop)
        })
    }

    /// Saves a checkpoint and forgets old ones.
    pub(crate) fn put_checkpoint(&self, seq: Seq, value: &[u8]) -> Result<(), IndexError> {
        self.with(|trees| {
            trees.checkpoints.insert(key_of(seq), value)?;
            let keys: Vec<_> = trees.checkpoints.iter().keys().rev().skip(CHECKPOINTS_KEPT).collect();
            for key in keys {
                trees.checkpoints.remove(key?)?;
            }
            Ok(())
        })
    }

    /// Returns the kept checkpoints, the newest first.
    pub(crate) fn checkpoints(&self) -> Result<Vec<(Seq, Vec<u8>)>, IndexError> {
        self.with(|trees| {
            let entries = trees.checkpoints.iter().rev();
            entries.map(|entry| entry.map(|(key, value)| (seq_of(&key), value.to_vec()))).collect()
        })
    }

    /// Closes the index in order, so that the next open can trust it even after a power cut.
    pub(crate) fn close(&self) {
        let flushed = self.with(|trees| trees.db.flush().map(drop));
        self.drop_trees();
        if flushed.is_ok() {
            // When this fails, the index is built anew after the host has been restarted: slow, but right.
            drop(sync_files(&self.dir.join(NAME)).and_then(|()| mark(&self.dir, CLEAN)));
        }
    }

    /// Gives up the index: lookups read the segments, and the next open builds a new one.
    pub(crate) fn distrust(&self) {
        self.drop_trees();
        // When this fails, the watermark still keeps the next open from believing more than there is.
        drop(std::fs::remove_file(self.dir.join(STATE_NAME)));
    }

    fn with<T>(&self, call: impl FnOnce(&Trees) -> Result<T, sled::Error>) -> Result<T, IndexError> {
        let guard = self.trees.read().unwrap_or_else(PoisonError::into_inner);
        let Some(trees) = guard.as_ref() else {
            return Err(IndexError { reason: "it is closed".to_owned(), kind: io::ErrorKind::Other });
        };
        let result = guarded(|| call(trees));
        drop(guard);
        if result.is_err() {
            self.distrust();
        }
        result
    }

    fn drop_trees(&self) {
        let trees = self.trees.write().unwrap_or_else(PoisonError::into_inner).take();
        // A sled that has failed may panic again while it closes its files.
        drop(catch_unwind(AssertUnwindSafe(|| drop(trees))));
    }
}

impl Trees {
    fn open(path: &Path) -> Result<Self, sled::Error> {
        let db = sled::Config::default().path(path).cache_capacity(CACHE_LEN).open()?;
        let trees = Self {
            positions: db.open_tree("positions")?,
            workspaces: db.open_tree("workspaces")?,
            requests: db.open_tree("requests")?,
            checkpoints: db.open_tree("checkpoints")?,
            meta: db.open_tree("meta")?,
            db,
        };
        let format = FORMAT.to_be_bytes();
        match trees.meta.get(FORMAT_KEY)? {
            Some(found) if found == format => {}
            None if trees.meta.is_empty() => drop(trees.meta.insert(FORMAT_KEY, &format)?),
            Some(_) | None => return Err(sled::Error::Unsupported("another format of the index".to_owned())),
        }
        Ok(trees)
    }

    /// Returns the chunk in whose range a request id is, with the lower bound of the range; `None` when there is none yet.
    fn chunk_of(&self, request: RequestId) -> Result<Option<(sled::IVec, sled::IVec)>, sled::Error> {
        self.requests.range(..=request.as_bytes().as_slice()).next_back().transpose()
    }

    /// Adds requests, of which the first place counts, also of one that is there already.
    fn add_requests(&self, requests: &[(RequestId, Seq)]) -> Result<(), sled::Error> {
        let beginning = self.beginning()?;
        let mut requests = requests.to_vec();
        requests.sort_by_key(|(request, _)| *request);
        requests.dedup_by_key(|(request, _)| *request);
        let mut batch = sled::Batch::default();
        let mut rest = &requests[..];
        while let Some((first, _)) = rest.first() {
            let (bound, chunk) = match self.chunk_of(*first)? {
                Some((bound, chunk)) => (bound, Chunk::decode(&chunk)),
                None => (LOWEST_ID.into(), Chunk::default()),
            };
            let next = self.requests.get_gt(&bound)?.map(|(next, _)| next);
            let belongs = |(request, _): &(RequestId, Seq)| {
                next.as_ref().is_none_or(|next| request.as_bytes().as_slice() < next.as_ref())
            };
            let (added, others) = rest.split_at(rest.partition_point(belongs));
            let (chunk, pieces) = chunk.add(added, beginning);
            batch.insert(bound, chunk.encode());
            for (bound, chunk) in pieces {
                batch.insert(bound.as_bytes(), chunk.encode());
            }
            rest = others;
        }
        self.requests.apply_batch(batch)
    }

    /// Returns the record before which all are forgotten.
    fn beginning(&self) -> Result<Seq, sled::Error> {
        Ok(self.meta.get(BEGINNING_KEY)?.map_or(Seq::ZERO.next(), |value| seq_of(&value)))
    }
}

/// Removes the index; whoever opens the log next builds a new one.
pub(crate) fn remove(dir: &Path) -> io::Result<()> {
    for result in [std::fs::remove_file(dir.join(STATE_NAME)), std::fs::remove_dir_all(dir.join(NAME))] {
        match result {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

/// Tells whether what was written to the index can still be there.
fn is_trusted(dir: &Path) -> bool {
    let boot_id = boot_id();
    std::fs::read(dir.join(STATE_NAME))
        .is_ok_and(|state| state == CLEAN || (!boot_id.is_empty() && state == boot_id))
}

/// Returns the boot id; empty when the host does not tell it, and then no index that was not closed is trusted.
fn boot_id() -> Vec<u8> {
    std::fs::read(BOOT_ID).unwrap_or_default()
}

/// Writes the state, durable: it must not say more than what is on the disk.
fn mark(dir: &Path, state: &[u8]) -> io::Result<()> {
    LogDir::of_host(dir).publish(&dir.join(STATE_NAME), state).map(drop)
}

/// sled never syncs its files itself.
fn sync_files(index: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(index)? {
        let path = entry?.path();
        if path.is_dir() {
            sync_files(&path)?;
        }
        File::open(path)?.sync_all()?;
    }
    files::sync_dir(index)
}

/// Runs a call into sled; a panic becomes an error.
fn guarded<T>(call: impl FnOnce() -> Result<T, sled::Error>) -> Result<T, IndexError> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => {
            let kind = if let sled::Error::Io(error) = &error { error.kind() } else { io::ErrorKind::Other };
            Err(IndexError { reason: error.to_string(), kind })
        }
        Err(panic) => Err(IndexError { reason: panic_text(panic.as_ref()), kind: io::ErrorKind::Other }),
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("sled panicked").to_owned()
}

const fn key_of(seq: Seq) -> [u8; 8] {
    seq.0.to_be_bytes()
}

/// Reads a number at the beginning of a key or value; what is too short names no record.
fn seq_of(bytes: &[u8]) -> Seq {
    if bytes.len() < 8 { Seq::ZERO } else { Seq(u64::from_be_bytes(array(bytes, 0..8))) }
}

/// Reads the blocks of a group; what is too short has none.
fn bits_of(bytes: &[u8]) -> u64 {
    if bytes.len() < 8 { 0 } else { u64::from_be_bytes(array(bytes, 0..8)) }
}

fn workspace_key(workspace: WorkspaceId, block: Seq) -> Vec<u8> {
    [workspace.as_bytes().as_slice(), &key_of(block)].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(dir: &Path) -> (Index, bool) {
        Index::open(dir, |seq| Some([u8::try_from(seq.0).unwrap(); 32])).unwrap()
    }

    /// Catches an index of an older program that is read as if it were one of today's.
    #[test]
    fn an_index_of_another_format_is_begun_anew() {
        let dir = tempfile::tempdir().unwrap();
        let id = RequestId::from_bytes([7; 16]);
        let (index, _) = open(dir.path());
        let additions = Additions { requests: vec![(id, Seq(1))], ..Additions::default() };
        index.add(&additions, Head::new(Seq(1), [1; 32])).unwrap();
        index.close();
        let (index, is_new) = open(dir.path());
        assert_eq!((index.request(id).unwrap(), is_new), (Some(Seq(1)), false));
        index.with(|trees| trees.meta.insert(FORMAT_KEY, &1_u32.to_be_bytes())).unwrap();
        index.close();
        let (index, is_new) = open(dir.path());
        assert_eq!((index.request(id).unwrap(), is_new), (None, true));
    }

    /// Catches a chunk that is found for ids outside of its range, in whatever order and steps they come.
    #[test]
    fn requests_are_found_in_any_order_of_their_ids() {
        let dir = tempfile::tempdir().unwrap();
        let (index, _) = open(dir.path());
        let ids = (1..=1_000_u64).map(|n| {
            let spread = u128::from(n).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
            (RequestId::from_bytes(spread.to_be_bytes()), Seq(n))
        });
        let ids = ids.collect::<Vec<_>>();
        for step in ids.chunks(90) {
            let requests = step.iter().rev().chain(&ids[..5]).copied().collect();
            let additions = Additions { requests, ..Additions::default() };
            index.add(&additions, Head::new(Seq(1), [1; 32])).unwrap();
        }
        for (id, seq) in &ids {
            assert_eq!(index.request(*id).unwrap(), Some(*seq));
        }
        assert_eq!(index.request(RequestId::from_bytes([0; 16])).unwrap(), None);
        index.begin_at(Seq(500)).unwrap();
        assert_eq!(index.request(ids[498].0).unwrap(), None);
        assert_eq!(index.request(ids[499].0).unwrap(), Some(Seq(500)));
    }
}
