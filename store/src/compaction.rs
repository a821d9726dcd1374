//! Drops the beginning of a log (`docs/log-format.md`, "Compaction").
//!
//! ```text
//! Compactor --plan--> Compaction --write--> WrittenBase --(its event is durable)--> finish
//!                                                        --(it was refused)-------> withdraw
//! ```
//!
//! Until the event is durable the log is whole without the base, and from then on without what stood before it. A crash
//! at any moment leaves one of the two, and the next open does the rest.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use pyro_core::{Carry, Seq, Timestamp};

use crate::base::{self, Base, BaseInfo, Header};
use crate::beginning;
use crate::checkpoint::Checkpoints;
use crate::files;
use crate::frame::{self, Hash};
use crate::frames::Frames;
use crate::log::{AppendError, EventLog};
use crate::reader::{self, ReadError};
use crate::segment::Segment;
use crate::shared::{Committed, Head, Shared};

/// What is to be kept: all that any of these bounds keeps. Without a bound everything is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// Events that were accepted at this time or later.
    pub since: Option<Timestamp>,
    /// The last so many bytes of segments.
    pub len: Option<u64>,
    /// This event and those behind it.
    pub before: Option<Seq>,
}

/// What a compaction drops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// The first record that is kept.
    pub first: Seq,
    /// Hash of the record before it.
    pub hash: Hash,
    /// How many records are dropped.
    pub records: u64,
    /// How many segments hold them.
    pub segments: u64,
    /// Length of these segments, in bytes.
    pub bytes: u64,
    /// When the first of the records was accepted.
    pub since: Timestamp,
    /// When the last of them was accepted.
    pub until: Timestamp,
}

/// A log that was not compacted.
#[derive(Debug, thiserror::Error)]
pub enum CompactError {
    /// What is to go cannot be read, or is not what was written.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// What is to go gives another state than the one that was saved.
    #[error("the events up to {seq} do not give the state that the checkpoint has")]
    State {
        /// The last event that the checkpoint holds.
        seq: Seq,
    },
    /// What would be carried over does not stand for what is to go.
    #[error("the events that would be carried over do not give the state of all events up to {seq}")]
    Carried {
        /// The last event that is to go.
        seq: Seq,
    },
    /// The log was compacted otherwise since it was planned.
    #[error("the log was compacted otherwise meanwhile")]
    Overtaken,
    /// Something could not be written or removed. What was signed off is finished when the log is opened again.
    #[error("cannot compact the log in {}", .path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
}

/// Compacts an open log, and does nothing else to it. It keeps the log open.
#[derive(Clone, Debug)]
pub struct Compactor {
    log: EventLog,
}

impl Compactor {
    pub(crate) const fn new(log: EventLog) -> Self {
        Self { log }
    }

    /// Begins a new segment, so that all records up to now can be dropped without those to come.
    ///
    /// # Errors
    ///
    /// See [`AppendError`].
    pub fn roll(&self) -> Result<(), AppendError> {
        self.log.roll()
    }

    /// Reads and checks the segments that a retention does not keep; `None` when it keeps all of them. The segment that is
    /// written to is always kept.
    ///
    /// # Errors
    ///
    /// [`CompactError`] when what is to be dropped is damaged.
    pub fn plan(&self, retention: Retention) -> Result<Option<Compaction>, CompactError> {
        let shared = self.log.shared();
        let committed = shared.committed();
        let lens = lens(shared, &committed.segments)?;
        let count = droppable(&committed.segments, &lens, retention);
        let Some(end) = committed.segments.get(count).filter(|_| count > 0) else { return Ok(None) };
        let mut frames = Frames::open(shared, &committed, committed.first(), Seq(end.first.0 - 1))?;
        let mut reading = Reading::begin(shared, committed.base.as_deref())?;
        let mut accepted = None;
        for (count, next) in (1..=count).zip(&committed.segments[1..]) {
            while reading.last.seq.next() < next.first {
                reading.step(shared, &mut frames)?;
            }
            if retention.since.is_some_and(|since| reading.newest >= since) {
                break;
            }
            accepted = Some((count, reading.clone()));
        }
        let Some((count, Reading { carry, last, since, until, .. })) = accepted else { return Ok(None) };
        let dropped = Dropped {
            first: last.seq.next(),
            hash: last.hash,
            records: last.seq.next().0 - committed.first().0,
            segments: files::len_u64(count),
            bytes: lens[..count].iter().sum(),
            since: since.unwrap_or_default(),
            until,
        };
        Ok(Some(Compaction { shared: Arc::clone(shared), committed, carry, dropped }))
    }
}

fn lens(shared: &Shared, segments: &[Segment]) -> Result<Vec<u64>, ReadError> {
    let len = |segment: &Segment| {
        let file = shared.dir.disk.open(&segment.path);
        file.and_then(|file| file.len_bytes()).map_err(|source| shared.explain(segment.io(source)))
    };
    segments.iter().map(len).collect()
}

/// Returns how many segments at the beginning a retention does not keep by number or length.
fn droppable(segments: &[Segment], lens: &[u64], retention: Retention) -> usize {
    let Retention { since, len, before } = retention;
    if since.is_none() && len.is_none() && before.is_none() {
        return 0;
    }
    let is_kept = |place: usize| {
        let behind: u64 = lens[place + 1..].iter().sum();
        len.is_some_and(|len| behind < len) || before.is_some_and(|before| segments[place + 1].first > before)
    };
    let last = segments.len() - 1;
    (0..last).find(|place| is_kept(*place)).unwrap_or(last)
}

/// What is known of the part that was read.
#[derive(Clone, Debug)]
struct Reading {
    carry: Carry,
    last: Head,
    /// When the first event was accepted; `None` before it was read.
    since: Option<Timestamp>,
    /// When the last event was accepted.
    until: Timestamp,
    /// The latest time of all events: clocks are set back now and then.
    newest: Timestamp,
    checkpoints: Arc<[pyro_core::State]>,
}

impl Reading {
    /// Begins with what the base carries.
    fn begin(shared: &Arc<Shared>, base: Option<&Base>) -> Result<Self, ReadError> {
        let mut carry = Carry::default();
        if let Some(base) = base {
            for place in base.places() {
                carry.see(&base.record(*place)?.envelope);
            }
        }
        let checkpoints = Checkpoints::new(Arc::clone(shared)).all();
        let (last, zero) = (beginning::dropped(base), Timestamp::default());
        Ok(Self { carry, last, since: None, until: zero, newest: zero, checkpoints: checkpoints.into() })
    }

    fn step(&mut self, shared: &Shared, frames: &mut Frames) -> Result<(), CompactError> {
        let frame = frames.next()?.expect("a record before the last segment is there or is an error");
        let envelope = reader::envelope(shared, &frame)?;
        self.carry.see(&envelope);
        self.last = Head::new(frame.seq, frame.hash);
        self.since.get_or_insert(envelope.at);
        self.until = envelope.at;
        self.newest = self.newest.max(envelope.at);
        match self.checkpoints.iter().find(|state| state.seq == frame.seq) {
            Some(state) if state != self.carry.state() => Err(CompactError::State { seq: frame.seq }),
            Some(_) | None => Ok(()),
        }
    }
}

/// A beginning of a log that was read, and found whole and not to be kept. Nothing was changed.
#[derive(Debug)]
pub struct Compaction {
    shared: Arc<Shared>,
    committed: Committed,
    carry: Carry,
    dropped: Dropped,
}

impl Compaction {
    /// Returns what would be dropped.
    #[must_use]
    pub const fn dropped(&self) -> Dropped {
        self.dropped
    }

    /// Makes the base, durable. It counts when the event that signs it off is durable.
    ///
    /// # Errors
    ///
    /// [`CompactError`]; the log is as it was then.
    pub fn write(self) -> Result<WrittenBase, CompactError> {
        let Self { shared, committed, carry, dropped } = self;
        let before = committed.base.as_deref().map(Base::info);
        let header = Header {
            first: dropped.first,
            hash: dropped.hash,
            head: shared.head().seq,
            bytes: before.map_or(0, |before| before.bytes) + dropped.bytes,
            since: before.map_or(dropped.since, |before| before.since),
            until: dropped.until,
        };
        let records = carried(&shared, &committed, &carry, dropped.first)?;
        let path = base::publish(&shared.dir, header, &records).map_err(|source| io(&shared, source))?;
        let base = Base::open(shared.dir.disk.as_ref(), &path).map(Arc::new);
        let written = match base {
            Ok(base) => WrittenBase { shared, committed, base },
            Err(error) => {
                beginning::remove(&shared.dir, &[path]).map_err(|source| io(&shared, source))?;
                return Err(error.into());
            }
        };
        if written.base.state() == carry.state() {
            return Ok(written);
        }
        written.withdraw()?;
        Err(CompactError::Carried { seq: carry.state().seq })
    }
}

/// Returns the records before `first` that something still needs, as they stand in base and segments.
fn carried(shared: &Shared, committed: &Committed, carry: &Carry, first: Seq) -> Result<Vec<u8>, ReadError> {
    let mut records = Vec::new();
    if let Some(base) = &committed.base {
        for place in base.places() {
            if carry.needs(&base.record(*place)?.envelope) {
                records.extend_from_slice(&base.bytes(*place)?);
            }
        }
    }
    let mut frames = Frames::open(shared, committed, committed.first(), Seq(first.0 - 1))?;
    while let Some(frame) = frames.next()? {
        if carry.needs(&reader::envelope(shared, &frame)?) {
            frame::copy(&frame, &mut records);
        }
    }
    Ok(records)
}

fn io(shared: &Shared, source: io::Error) -> CompactError {
    CompactError::Io { path: shared.dir.path.clone(), source }
}

/// A base that is durable and that no event has signed off yet. Whoever drops it leaves it to the next open, which looks
/// for the event.
#[derive(Debug)]
pub struct WrittenBase {
    shared: Arc<Shared>,
    committed: Committed,
    base: Arc<Base>,
}

impl WrittenBase {
    /// Returns what the event must say of the base.
    #[must_use]
    pub fn info(&self) -> BaseInfo {
        self.base.info()
    }

    /// Removes what the base stands for. The event that signs it off must be durable.
    ///
    /// Readers that are in the middle of it read on, or are told that it was compacted.
    ///
    /// # Errors
    ///
    /// [`CompactError::Io`] when a file stays, which is removed when the log is opened again, and
    /// [`CompactError::Overtaken`].
    pub fn finish(self) -> Result<(), CompactError> {
        let Self { shared, committed, base } = self;
        let first = base.first();
        if !shared.begin_at(committed.first(), &base) {
            return Err(CompactError::Overtaken);
        }
        let dropped = committed.segments.iter().filter(|segment| segment.first < first);
        let paths = dropped.map(|segment| segment.path.clone());
        let before = committed.base.iter().map(|base| base.path().to_owned());
        let obsolete: Vec<_> = paths.chain(before).collect();
        beginning::remove(&shared.dir, &obsolete).map_err(|source| io(&shared, source))?;
        // An index that cannot forget is given up; lookups read the segments then.
        shared.index.begin_at(first).unwrap_or_default();
        Ok(())
    }

    /// Removes the base.
    ///
    /// # Errors
    ///
    /// [`CompactError::Io`] when it stays, which is removed when the log is opened again.
    pub fn withdraw(self) -> Result<(), CompactError> {
        let path = self.base.path().to_owned();
        beginning::remove(&self.shared.dir, &[path]).map_err(|source| io(&self.shared, source))
    }
}
