//! Reading the log: what everybody but the writer does.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use pyro_core::{Cause, Envelope, RequestId, Seq, State, WorkspaceId};

use crate::base::{BaseInfo, Place};
use crate::beginning;
use crate::codec;
use crate::corruption::Corruption;
use crate::frame::{Frame, Hash};
use crate::frames::Frames;
use crate::index::{BLOCK_LEN, block_of};
use crate::record::Record;
use crate::segment::Segment;
use crate::shared::{Committed, Head, Shared};

/// Events that could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The log is not what was written.
    #[error(transparent)]
    Corrupt(#[from] Corruption),
    /// The log begins behind what was to be read.
    #[error("history before event {first} was compacted")]
    Compacted {
        /// The first event that is there.
        first: Seq,
    },
    /// The operating system refused to read.
    #[error("cannot read {}", .path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
}

/// Reads the log. Clones are cheap; a reader also works after the log was closed, and then sees no new events.
#[derive(Clone, Debug)]
pub struct Reader {
    shared: Arc<Shared>,
}

impl Reader {
    pub(crate) const fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Returns the last durable record.
    #[must_use]
    pub fn head(&self) -> Head {
        self.shared.head()
    }

    /// Returns the first event that was not compacted, or that will be there when the log is empty.
    #[must_use]
    pub fn first(&self) -> Seq {
        self.shared.committed().first()
    }

    /// Returns what stands in the place of all that was compacted; `None` when nothing was.
    #[must_use]
    pub fn base(&self) -> Option<BaseInfo> {
        self.shared.committed().base.map(|base| base.info())
    }

    /// Returns the state before the first event that is there: the fold of all that was compacted.
    #[must_use]
    pub fn beginning(&self) -> State {
        self.shared.committed().base.map_or_else(State::default, |base| base.state().clone())
    }

    /// Returns the hash of a record, also of the last one that was compacted, and of none for [`Seq::ZERO`].
    ///
    /// # Errors
    ///
    /// [`ReadError::Compacted`] for earlier ones.
    pub fn hash(&self, seq: Seq) -> Result<Option<Hash>, ReadError> {
        let committed = self.shared.committed();
        let dropped = beginning::dropped(committed.base.as_deref());
        if seq == dropped.seq {
            return Ok(Some(dropped.hash));
        }
        if seq > committed.head.seq {
            return Ok(None);
        }
        let mut frames = Frames::open(&self.shared, &committed, seq, seq)?;
        frames.next().map(|frame| frame.map(|frame| frame.hash)).map_err(|error| self.shared.explain(error))
    }

    /// Reads all events from `from` on, up to the head at the time of this call.
    ///
    /// The iterator ends after its first error, which is [`ReadError::Compacted`] at once when `from` lies before
    /// [`Self::first`].
    #[must_use]
    pub fn read(&self, from: Seq) -> Read {
        Read { records: self.records(from) }
    }

    /// Reads all events from `from` on with their hashes, as [`Self::read`] does.
    #[must_use]
    pub fn records(&self, from: Seq) -> ReadRecords {
        let committed = self.shared.committed();
        let last = committed.head.seq;
        self.read_range(committed, from, last)
    }

    /// Reads the events of one workspace from `from` on, up to the head at the time of this call.
    ///
    /// Of what was compacted it gives the events that were carried over: for a workspace that was not deleted then, all
    /// that matters of its commands. The iterator ends after its first error.
    #[must_use]
    pub fn read_workspace(&self, workspace: WorkspaceId, from: Seq) -> ReadWorkspace {
        let committed = self.shared.committed();
        let ranges = self.ranges(workspace, from.max(committed.first()), committed.head.seq);
        let places = committed.base.iter().flat_map(|base| base.of_workspace(workspace));
        let carried = places.copied().filter(|place| place.seq >= from).collect();
        ReadWorkspace { reader: self.clone(), committed, carried, workspace, ranges, current: None }
    }

    /// Returns the events of the first batch that has this request as its cause; none when there is no such batch.
    ///
    /// It sees every batch that was acknowledged before the call.
    ///
    /// # Errors
    ///
    /// See [`ReadError`].
    pub fn request(&self, request: RequestId) -> Result<Vec<Envelope>, ReadError> {
        loop {
            match self.look_up(request).map_err(|error| self.shared.explain(error)) {
                // A segment went while it was looked through.
                Err(ReadError::Compacted { .. }) => {}
                found => return found,
            }
        }
    }

    fn look_up(&self, request: RequestId) -> Result<Vec<Envelope>, ReadError> {
        let committed = self.shared.committed();
        if let Some(base) = &committed.base {
            let places = base.of_request(request).iter();
            let carried: Vec<_> =
                places.map(|place| Ok(base.record(*place)?.envelope)).collect::<Result<_, ReadError>>()?;
            if !carried.is_empty() {
                return Ok(carried);
            }
        }
        // In this order: the indexer fills the index before it forgets what is recent.
        let recent = self.shared.recent_request(request);
        let first = match self.shared.index.request(request) {
            Ok(indexed) => {
                let indexed = indexed.filter(|first| *first >= committed.first());
                indexed.into_iter().chain(recent).min()
            }
            Err(_) => self.find_request(request)?,
        };
        let Some(first) = first else { return Ok(Vec::new()) };
        let committed = self.shared.committed();
        if first > committed.head.seq {
            // Noted by the writer, but not acknowledged yet.
            return Ok(Vec::new());
        }
        let last = committed.head.seq;
        let mut frames = Frames::open(&self.shared, &committed, first, last)?;
        let mut batch = Vec::new();
        while let Some(frame) = frames.next()? {
            batch.push(envelope(&self.shared, &frame)?);
            if frame.last_of_batch {
                break;
            }
        }
        Ok(batch)
    }

    /// Looks for a request without the index.
    fn find_request(&self, request: RequestId) -> Result<Option<Seq>, ReadError> {
        let committed = self.shared.committed();
        let mut batch_first = committed.first();
        if batch_first > committed.head.seq {
            return Ok(None);
        }
        let mut frames = Frames::open(&self.shared, &committed, batch_first, committed.head.seq)?;
        while let Some(frame) = frames.next()? {
            if codec::decode_cause(frame.payload) == Some(Cause::Request(request)) {
                return Ok(Some(batch_first));
            }
            if frame.last_of_batch {
                batch_first = frame.seq.next();
            }
        }
        Ok(None)
    }

    /// Returns the workspaces whose ids begin with these hexadecimal digits, sorted: all that the log names, also those that
    /// were deleted.
    ///
    /// # Errors
    ///
    /// See [`ReadError`].
    pub fn workspaces(&self, beginning: &str) -> Result<BTreeSet<WorkspaceId>, ReadError> {
        let index = &self.shared.index;
        // The watermark first: what is added to the index after it is read as well.
        let indexed = index.watermark().and_then(|watermark| Ok((watermark.seq, index.workspaces()?)));
        let (watermark, mut found) = indexed.unwrap_or_default();
        let committed = self.shared.committed();
        found.extend(committed.base.iter().flat_map(|base| base.workspaces()));
        for envelope in self.read(watermark.next().max(committed.first())) {
            found.extend(envelope?.event.workspace());
        }
        found.retain(|workspace| workspace.to_string().starts_with(beginning));
        Ok(found)
    }

    fn read_range(&self, committed: Committed, from: Seq, last: Seq) -> ReadRecords {
        ReadRecords {
            shared: Arc::clone(&self.shared),
            from: from.max(Seq(1)),
            last,
            state: ReadState::Closed(committed),
        }
    }

    /// Finds where events of a workspace can be: blocks that the index names, and all that it does not have yet.
    fn ranges(&self, workspace: WorkspaceId, from: Seq, last: Seq) -> VecDeque<(Seq, Seq)> {
        let index = &self.shared.index;
        // The watermark first: blocks that are added meanwhile are read twice by nobody, as ranges end at it.
        let indexed = index.watermark().map_or(Seq::ZERO, |head| head.seq.min(last));
        let Ok(blocks) = index.blocks(workspace, block_of(from), indexed) else {
            return VecDeque::from([(from, last)]);
        };
        let mut ranges: VecDeque<(Seq, Seq)> = VecDeque::new();
        let ends =
            blocks.into_iter().map(|first| (first.max(from), Seq(first.0 + BLOCK_LEN - 1).min(indexed)));
        for (first, end) in ends.chain([(indexed.next().max(from), last)]) {
            match ranges.back_mut() {
                Some(range) if first <= range.1.next() => range.1 = range.1.max(end),
                Some(_) | None if first > end => {}
                Some(_) | None => ranges.push_back((first, end)),
            }
        }
        ranges
    }
}

/// Events in order; see [`Reader::read`].
#[derive(Debug)]
pub struct Read {
    records: ReadRecords,
}

impl Iterator for Read {
    type Item = Result<Envelope, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.records.next().map(|record| record.map(|record| record.envelope))
    }
}

/// Events in order, with their hashes; see [`Reader::records`].
#[derive(Debug)]
pub struct ReadRecords {
    shared: Arc<Shared>,
    from: Seq,
    last: Seq,
    state: ReadState,
}

#[derive(Debug)]
enum ReadState {
    /// Nothing was read yet.
    Closed(Committed),
    Open {
        frames: Box<Frames>,
        head: Head,
    },
    Ended,
}

impl ReadRecords {
    fn step(&mut self) -> Result<Option<Record>, ReadError> {
        if let ReadState::Closed(committed) = &self.state {
            if self.from > self.last {
                return Ok(None);
            }
            let frames = Frames::open(&self.shared, committed, self.from, self.last)?;
            self.state = ReadState::Open { frames: Box::new(frames), head: committed.head };
        }
        let ReadState::Open { frames, head } = &mut self.state else { return Ok(None) };
        let Some(frame) = frames.next()? else { return Ok(None) };
        if frame.seq == head.seq && frame.hash != head.hash {
            return Err(ReadError::Corrupt(Corruption::Rewritten { seq: frame.seq }));
        }
        record(&self.shared, &frame).map(Some)
    }
}

impl Iterator for ReadRecords {
    type Item = Result<Record, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        let step = self.step().map_err(|error| self.shared.explain(error)).transpose();
        if !matches!(step, Some(Ok(_))) {
            self.state = ReadState::Ended;
        }
        step
    }
}

/// Events of one workspace in order; see [`Reader::read_workspace`].
#[derive(Debug)]
pub struct ReadWorkspace {
    reader: Reader,
    committed: Committed,
    /// What the base has of the workspace.
    carried: VecDeque<Place>,
    workspace: WorkspaceId,
    ranges: VecDeque<(Seq, Seq)>,
    current: Option<ReadRecords>,
}

impl Iterator for ReadWorkspace {
    type Item = Result<Envelope, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some((place, base)) = self.carried.pop_front().zip(self.committed.base.as_ref()) {
            return Some(base.record(place).map(|record| record.envelope));
        }
        loop {
            let Some(current) = &mut self.current else {
                let (from, last) = self.ranges.pop_front()?;
                self.current = Some(self.reader.read_range(self.committed.clone(), from, last));
                continue;
            };
            match current.next() {
                Some(Ok(Record { envelope, .. })) if envelope.event.workspace() == Some(self.workspace) => {
                    return Some(Ok(envelope));
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => {
                    self.ranges.clear();
                    self.current = None;
                    return Some(Err(error));
                }
                None => self.current = None,
            }
        }
    }
}

/// Decodes a record.
pub(crate) fn envelope(shared: &Shared, frame: &Frame<'_>) -> Result<Envelope, ReadError> {
    record(shared, frame).map(|record| record.envelope)
}

fn record(shared: &Shared, frame: &Frame<'_>) -> Result<Record, ReadError> {
    Record::of(frame).map_err(|fault| {
        Segment::new(&shared.dir.path, frame.segment).corrupt(frame.seq, frame.offset, fault)
    })
}
