//! Reading the log: what everybody but the writer does.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use pyro_core::{Cause, Envelope, RequestId, Seq, WorkspaceId};

use crate::codec;
use crate::corruption::Corruption;
use crate::frame::Frame;
use crate::frames::Frames;
use crate::index::{BLOCK_LEN, block_of};
use crate::record::Record;
use crate::shared::{Committed, Head, Shared};

/// Events that could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The log is not what was written.
    #[error(transparent)]
    Corrupt(#[from] Corruption),
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

    /// Reads all events from `from` on, up to the head at the time of this call.
    ///
    /// The iterator ends after its first error.
    #[must_use]
    pub fn read(&self, from: Seq) -> Read {
        Read { records: self.records(from) }
    }

    /// Reads all events from `from` on with their hashes, up to the head at the time of this call.
    ///
    /// The iterator ends after its first error.
    #[must_use]
    pub fn records(&self, from: Seq) -> ReadRecords {
        let committed = self.shared.committed();
        let last = committed.head.seq;
        self.read_range(committed, from, last)
    }

    /// Reads the events of one workspace from `from` on, up to the head at the time of this call.
    ///
    /// The iterator ends after its first error.
    #[must_use]
    pub fn read_workspace(&self, workspace: WorkspaceId, from: Seq) -> ReadWorkspace {
        let committed = self.shared.committed();
        let ranges = self.ranges(workspace, from.max(Seq(1)), committed.head.seq);
        ReadWorkspace { reader: self.clone(), committed, workspace, ranges, current: None }
    }

    /// Returns the events of the first batch that has this request as its cause; none when there is no such batch.
    ///
    /// It sees every batch that was acknowledged before the call.
    ///
    /// # Errors
    ///
    /// See [`ReadError`].
    pub fn request(&self, request: RequestId) -> Result<Vec<Envelope>, ReadError> {
        // In this order: the indexer fills the index before it forgets what is recent.
        let recent = self.shared.recent_request(request);
        let first = match self.shared.index.request(request) {
            Ok(indexed) => indexed.into_iter().chain(recent).min(),
            Err(_) => self.find_request(request)?,
        };
        let Some(first) = first else { return Ok(Vec::new()) };
        let committed = self.shared.committed();
        if first > committed.head.seq {
            // Noted by the writer, but not acknowledged yet.
            return Ok(Vec::new());
        }
        let last = committed.head.seq;
        let mut frames = Frames::open(&self.shared, committed.segments, first, last)?;
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
        if committed.head.seq == Seq::ZERO {
            return Ok(None);
        }
        let mut batch_first = Seq(1);
        let mut frames = Frames::open(&self.shared, committed.segments, batch_first, committed.head.seq)?;
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

    /// Returns the workspaces whose ids begin with these hexadecimal digits, sorted: all that the log has ever named,
    /// also those that were deleted.
    ///
    /// # Errors
    ///
    /// See [`ReadError`].
    pub fn workspaces(&self, beginning: &str) -> Result<BTreeSet<WorkspaceId>, ReadError> {
        let index = &self.shared.index;
        // The watermark first: what is added to the index after it is read as well.
        let indexed = index.watermark().and_then(|watermark| Ok((watermark.seq, index.workspaces()?)));
        let (watermark, mut found) = indexed.unwrap_or_default();
        for envelope in self.read(watermark.next()) {
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
            let frames = Frames::open(&self.shared, Arc::clone(&committed.segments), self.from, self.last)?;
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
        let step = self.step().transpose();
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
    workspace: WorkspaceId,
    ranges: VecDeque<(Seq, Seq)>,
    current: Option<ReadRecords>,
}

impl Iterator for ReadWorkspace {
    type Item = Result<Envelope, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
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
        let segments = shared.committed().segments;
        let following = segments.partition_point(|segment| segment.first <= frame.seq);
        segments[following.saturating_sub(1)].corrupt(frame.seq, frame.offset, fault)
    })
}
