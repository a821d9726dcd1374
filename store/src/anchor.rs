//! The head anchor: a lower bound of the log, kept outside the segments (`docs/log-format.md`, "Anchor").

use std::io;

use pyro_core::Seq;

use crate::disk::{self, DiskFile, LogDir};
use crate::frame::array;
use crate::shared::Head;

const NAME: &str = "anchor";
const MAGIC: [u8; 8] = *b"PYROANC\0";
const FORMAT: u32 = 1;
const CHECKED_FROM: usize = 12;
const SLOT_LEN: usize = 56;

/// Distance of the slots, in bytes: the size of a sector, so that a torn write hits one of them only.
const SLOT_STRIDE: usize = 512;
const SLOT_COUNT: usize = 2;

/// What the anchor file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Anchored {
    /// This record was durable once.
    At(Head),
    /// There is no file, or nothing in it can be read.
    Unreadable,
}

/// Reads the anchor of a log.
pub(crate) fn read(dir: &LogDir) -> io::Result<Anchored> {
    let bytes = match dir.read(NAME) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Anchored::Unreadable),
        Err(error) => return Err(error),
    };
    let newest = (0..SLOT_COUNT)
        .filter_map(|slot| bytes.get(slot * SLOT_STRIDE..).and_then(from_bytes))
        .max_by_key(|head| head.seq);
    Ok(newest.map_or(Anchored::Unreadable, Anchored::At))
}

/// The open anchor file.
#[derive(Debug)]
pub(crate) struct Anchor {
    file: Box<dyn DiskFile>,
    /// The slot that is written next; the other one holds the newest anchor.
    slot: usize,
}

impl Anchor {
    /// Makes or replaces the anchor, durable.
    pub(crate) fn create(dir: &LogDir, head: Head) -> io::Result<Self> {
        let mut bytes = [0; SLOT_COUNT * SLOT_STRIDE];
        bytes[..SLOT_LEN].copy_from_slice(&to_bytes(head));
        let file = dir.publish(&dir.path.join(NAME), &bytes)?;
        Ok(Self { file, slot: 1 })
    }

    /// Moves the anchor, as a rule unsynced: whatever reaches the disk is a lower bound.
    pub(crate) fn set(&mut self, head: Head) -> io::Result<()> {
        let offset = u64::try_from(self.slot * SLOT_STRIDE).map_err(io::Error::other)?;
        let bytes = to_bytes(head);
        match self.file.write_at(&bytes, offset) {
            Ok(SLOT_LEN) => {}
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            Ok(_) | Err(_) => {
                // In pieces, a slot is not safe from a power cut, which must not find the other one in pieces as well.
                disk::write_all_at(self.file.as_ref(), &bytes, offset)?;
                self.sync()?;
            }
        }
        self.slot = (self.slot + 1) % SLOT_COUNT;
        Ok(())
    }

    /// Makes the anchor durable.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

fn to_bytes(head: Head) -> [u8; SLOT_LEN] {
    let mut bytes = [0; SLOT_LEN];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[12..16].copy_from_slice(&FORMAT.to_le_bytes());
    bytes[16..24].copy_from_slice(&head.seq.0.to_le_bytes());
    bytes[24..].copy_from_slice(&head.hash);
    let checksum = crc32fast::hash(&bytes[CHECKED_FROM..]);
    bytes[8..12].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

fn from_bytes(slot: &[u8]) -> Option<Head> {
    let bytes = slot.get(..SLOT_LEN)?;
    let checksum = u32::from_le_bytes(array(bytes, 8..12));
    let format = u32::from_le_bytes(array(bytes, 12..16));
    if bytes[..8] != MAGIC || format != FORMAT || checksum != crc32fast::hash(&bytes[CHECKED_FROM..]) {
        return None;
    }
    Some(Head { seq: Seq(u64::from_le_bytes(array(bytes, 16..24))), hash: array(bytes, 24..56) })
}
