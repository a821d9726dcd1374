//! The base: what stands in the place of a dropped beginning (`docs/log-format.md`, "Base").
//!
//! It holds those records of the dropped part that something still needs, byte for byte as they stood there. So every
//! later version can read it as it reads segments, and nothing that was made of events becomes a truth beside them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::path::{Path, PathBuf};

use pyro_core::{Cause, RequestId, Seq, State, Timestamp, WorkspaceId, evolve};

use crate::corruption::{Corruption, Fault};
use crate::disk::{self, Disk, DiskFile, LogDir};
use crate::files;
use crate::frame::{self, HEAD_LEN, Hash, array};
use crate::reader::ReadError;
use crate::record::Record;
use crate::shared::Head;

/// Length of a base's header, in bytes.
const HEADER_LEN: usize = 128;

const MAGIC: [u8; 8] = *b"PYROBAS\0";
const FORMAT: u32 = 1;
const CHECKED_FROM: usize = 12;
const NAME_DIGITS: usize = 20;
const EXTENSION: &str = "base";

/// What a base says of all that was dropped, by however many compactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BaseInfo {
    /// The first record that was kept.
    pub first: Seq,
    /// The last record that was dropped.
    pub dropped: Head,
    /// BLAKE3 of the file.
    pub digest: Hash,
    /// Length of the segments that were dropped, in bytes.
    pub bytes: u64,
    /// When the first event of the log was accepted.
    pub since: Timestamp,
    /// When the last event that was dropped was accepted.
    pub until: Timestamp,
    /// How many of the dropped records the base holds.
    pub carried: u64,
}

/// What stands at the beginning of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) first: Seq,
    /// Hash of the last record before it.
    pub(crate) hash: Hash,
    /// The last record of the log when the base was made: the event that signs it off comes behind it.
    pub(crate) head: Seq,
    pub(crate) bytes: u64,
    pub(crate) since: Timestamp,
    pub(crate) until: Timestamp,
}

/// Makes a base, complete and durable; `records` are records as they stood in segments, in order.
pub(crate) fn publish(dir: &LogDir, header: Header, records: &[u8]) -> io::Result<PathBuf> {
    let path = dir.path.join(format!("{:0NAME_DIGITS$}.{EXTENSION}", header.first.0));
    let bytes = [header.to_bytes(records).as_slice(), records].concat();
    dir.publish(&path, &bytes)?;
    Ok(path)
}

/// Returns the first kept record that the name of a base tells; `None` for other files.
pub(crate) fn first_of(path: &Path) -> Option<Seq> {
    files::number_of(path, EXTENSION, NAME_DIGITS).map(Seq)
}

/// An intact base that is open for reading.
#[derive(Debug)]
pub(crate) struct Base {
    path: PathBuf,
    file: Box<dyn DiskFile>,
    header: Header,
    digest: Hash,
    places: Vec<Place>,
    workspaces: BTreeMap<WorkspaceId, Vec<Place>>,
    requests: HashMap<RequestId, Vec<Place>>,
    /// The fold of the records, at the position of the last dropped one.
    state: State,
}

/// Where a record stands in the base.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) seq: Seq,
    offset: u64,
    len: usize,
}

impl Base {
    /// Opens a base and checks all of it.
    pub(crate) fn open(disk: &dyn Disk, path: &Path) -> Result<Self, ReadError> {
        let io = |source| ReadError::Io { path: path.to_owned(), source };
        let damaged = |fault| ReadError::Corrupt(Corruption::Base { path: path.to_owned(), fault });
        let file = disk.open(path).map_err(io)?;
        let len = usize::try_from(file.len_bytes().map_err(io)?);
        let mut bytes = vec![0; len.map_err(|error| io(io::Error::other(error)))?];
        disk::read_exact_at(file.as_ref(), &mut bytes, 0).map_err(io)?;
        let header = Header::of_file(&bytes).map_err(damaged)?;
        if first_of(path) != Some(header.first) {
            return Err(damaged(Fault::Header));
        }
        let mut base = Self {
            path: path.to_owned(),
            file,
            header,
            digest: *blake3::hash(&bytes).as_bytes(),
            places: Vec::new(),
            workspaces: BTreeMap::new(),
            requests: HashMap::new(),
            state: State::default(),
        };
        base.note_records(&mut bytes).map_err(damaged)?;
        base.state.seq = base.dropped().seq;
        Ok(base)
    }

    fn note_records(&mut self, bytes: &mut [u8]) -> Result<(), Fault> {
        let mut start = HEADER_LEN;
        while start < bytes.len() {
            let head = bytes.get(start..start + HEAD_LEN).ok_or(Fault::CutShort)?;
            let (len, seq) = (HEAD_LEN + frame::payload_len(head)?, frame::seq(head));
            let last = self.places.last().map_or(Seq::ZERO, |place| place.seq);
            if seq <= last || seq >= self.header.first {
                return Err(Fault::Order { found: seq });
            }
            let place = Place { seq, offset: files::len_u64(start), len };
            let bytes = bytes.get_mut(start..start + len).ok_or(Fault::CutShort)?;
            let record = self.check(place, bytes)?;
            self.places.push(place);
            if let Some(workspace) = record.envelope.event.workspace() {
                self.workspaces.entry(workspace).or_default().push(place);
            }
            if let Cause::Request(request) = record.envelope.cause {
                self.requests.entry(request).or_default().push(place);
            }
            evolve(&mut self.state, &record.envelope);
            start += len;
        }
        Ok(())
    }

    /// Checks the bytes of a record. Its link to the record before it went with that one.
    fn check(&self, place: Place, bytes: &mut [u8]) -> Result<Record, Fault> {
        Record::of(&frame::check(bytes, (self.header.first, place.offset), place.seq, None)?)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) const fn first(&self) -> Seq {
        self.header.first
    }

    /// Returns the last record that was dropped.
    pub(crate) const fn dropped(&self) -> Head {
        Head::new(Seq(self.header.first.0 - 1), self.header.hash)
    }

    /// Returns the last record of the log when the base was made.
    pub(crate) const fn head(&self) -> Seq {
        self.header.head
    }

    /// Returns the fold of all that was dropped.
    pub(crate) const fn state(&self) -> &State {
        &self.state
    }

    pub(crate) fn info(&self) -> BaseInfo {
        let Header { first, bytes, since, until, .. } = self.header;
        let (dropped, carried) = (self.dropped(), files::len_u64(self.places.len()));
        BaseInfo { first, dropped, digest: self.digest, bytes, since, until, carried }
    }

    /// Returns the places of all records.
    pub(crate) fn places(&self) -> &[Place] {
        &self.places
    }

    /// Returns the places of the records about a workspace.
    pub(crate) fn of_workspace(&self, workspace: WorkspaceId) -> &[Place] {
        self.workspaces.get(&workspace).map_or(&[], Vec::as_slice)
    }

    /// Returns the places of the records that a request led to.
    pub(crate) fn of_request(&self, request: RequestId) -> &[Place] {
        self.requests.get(&request).map_or(&[], Vec::as_slice)
    }

    /// Returns all workspaces that have records.
    pub(crate) fn workspaces(&self) -> BTreeSet<WorkspaceId> {
        self.workspaces.keys().copied().collect()
    }

    /// Reads a record.
    pub(crate) fn record(&self, place: Place) -> Result<Record, ReadError> {
        let mut bytes = self.bytes(place)?;
        self.check(place, &mut bytes)
            .map_err(|fault| ReadError::Corrupt(Corruption::Base { path: self.path.clone(), fault }))
    }

    /// Reads the bytes of a record.
    pub(crate) fn bytes(&self, place: Place) -> Result<Vec<u8>, ReadError> {
        let mut bytes = vec![0; place.len];
        match disk::read_exact_at(self.file.as_ref(), &mut bytes, place.offset) {
            Ok(()) => Ok(bytes),
            Err(source) => Err(ReadError::Io { path: self.path.clone(), source }),
        }
    }
}

impl Header {
    fn to_bytes(self, records: &[u8]) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[12..16].copy_from_slice(&FORMAT.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.first.0.to_le_bytes());
        bytes[24..56].copy_from_slice(&self.hash);
        bytes[56..64].copy_from_slice(&self.head.0.to_le_bytes());
        bytes[64..72].copy_from_slice(&self.bytes.to_le_bytes());
        bytes[72..80].copy_from_slice(&self.since.0.to_le_bytes());
        bytes[80..88].copy_from_slice(&self.until.0.to_le_bytes());
        bytes[88..96].copy_from_slice(&files::len_u64(records.len()).to_le_bytes());
        bytes[96..128].copy_from_slice(blake3::hash(records).as_bytes());
        let checksum = crc32fast::hash(&bytes[CHECKED_FROM..]);
        bytes[8..12].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// Takes the header of a whole file apart, which must be as long and have the digest that it says.
    fn of_file(file: &[u8]) -> Result<Self, Fault> {
        let (bytes, records) = file.split_at_checked(HEADER_LEN).ok_or(Fault::CutShort)?;
        let number = |from: usize| u64::from_le_bytes(array(bytes, from..from + 8));
        let checksum = u32::from_le_bytes(array(bytes, 8..12));
        if bytes[..8] != MAGIC || checksum != crc32fast::hash(&bytes[CHECKED_FROM..]) {
            return Err(Fault::Header);
        }
        let format = u32::from_le_bytes(array(bytes, 12..16));
        if format != FORMAT {
            return Err(Fault::Format { found: format });
        }
        if number(88) != files::len_u64(records.len()) {
            return Err(Fault::CutShort);
        }
        if *blake3::hash(records).as_bytes() != array::<32>(bytes, 96..128) {
            return Err(Fault::Checksum);
        }
        let (first, head) = (Seq(number(16)), Seq(number(56)));
        // A record before the first kept one was dropped, and the log had reached it.
        if first.0 < 2 || head.next() < first {
            return Err(Fault::Header);
        }
        let (since, until) = (Timestamp(number(72)), Timestamp(number(80)));
        Ok(Self { first, hash: array(bytes, 24..56), head, bytes: number(64), since, until })
    }
}
