//! The event log: opening it and appending to it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, SyncSender};
use std::thread::JoinHandle;

use pyro_core::{Actor, Cause, Envelope, Event, Seq, Timestamp};

use crate::anchor::Anchor;
use crate::base::Base;
use crate::beginning::{self, Beginning};
use crate::checkpoint::Checkpoints;
use crate::codec::{self, CodecError};
use crate::compaction::Compactor;
use crate::corruption::Corruption;
use crate::disk::{self, Disk, DiskFile, LogDir};
use crate::files;
use crate::frame::{self, PAYLOAD_LEN_MAX};
use crate::index::Index;
use crate::indexer::{self, Indexer};
use crate::lock::{Lock, LockError};
use crate::reader::{ReadError, Reader};
use crate::recovery::{self, End};
use crate::segment::{FIRST_RECORD, Header, Segment};
use crate::shared::{Committed, Head, Shared};
use crate::writer::{Order, Submission, Writer};

/// Most batches that wait for the writer; further callers wait for a place.
const QUEUE_LEN: usize = 1024;

/// How much is written again at once when a log is opened, in bytes.
const REWRITE_LEN: u64 = 1 << 20;

/// How a log is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Length from which on a segment is followed by a new one, in bytes. The last segment is read whenever the log is
    /// opened, so this bounds the time which that takes.
    pub segment_len_max: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { segment_len_max: 16 << 20 }
    }
}

/// An event that is to be appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// When the daemon accepted the command that led to the event.
    pub at: Timestamp,
    /// Who asked.
    pub actor: Actor,
    /// Why.
    pub cause: Cause,
    /// What happened.
    pub event: Event,
}

impl Draft {
    fn into_envelope(self, seq: Seq) -> Envelope {
        Envelope { seq, at: self.at, actor: self.actor, cause: self.cause, event: self.event }
    }
}

/// What opening a log found and did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// Length of the torn tail that was cut off, in bytes. Nobody was told of what stood there.
    pub torn_len: u64,
    /// Whether the index had to be built from the segments; checkpoints are lost then.
    pub index_rebuilt: bool,
}

/// A log that could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has the log open.
    #[error("the log is in use by process {pid}")]
    Locked {
        /// That process.
        pid: u32,
    },
    /// The log is not what was written. `repair` cuts it, on request only.
    #[error(transparent)]
    Corrupt(#[from] Corruption),
    /// There is no space to open it.
    #[error("no space left to open the log in {}", .path.display())]
    StorageFull {
        /// Where.
        path: PathBuf,
    },
    /// The operating system refused something.
    #[error("cannot open the log in {}", .path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
}

impl OpenError {
    pub(crate) fn io(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        if files::is_full(&source) { Self::StorageFull { path } } else { Self::Io { path, source } }
    }
}

impl From<ReadError> for OpenError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Io { path, source } => Self::io(&path, source),
            ReadError::Corrupt(corruption) => Self::Corrupt(corruption),
            // Nobody compacts a log that is being opened.
            ReadError::Compacted { .. } => Self::Io { path: PathBuf::new(), source: io::Error::other(error) },
        }
    }
}

/// A batch that was not appended.
///
/// After [`Self::Io`] it is unknown whether the batch is there when the log is opened again; after every other error it
/// is not.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AppendError {
    /// An event is longer than a record can be.
    #[error("an event is longer than {PAYLOAD_LEN_MAX} bytes")]
    TooLong,
    /// The event is one that this version does not know; only the version that knows it can write it.
    #[error("an unknown event cannot be appended")]
    UnknownEvent,
    /// The disk is full. The log is as it was, and appending works again when there is space.
    #[error("no space left for the event log")]
    StorageFull,
    /// The operating system refused to write or to make durable. Nothing is appended any more.
    #[error("cannot write the event log")]
    Io {
        /// What it said.
        source: Arc<io::Error>,
    },
    /// An earlier batch failed. Nothing is appended until the log is opened again.
    #[error("the event log takes no more events after an earlier failure")]
    Poisoned {
        /// That failure.
        source: Arc<io::Error>,
    },
}

/// The open event log. Clones are handles to the same log, which is closed when the last one is dropped.
#[derive(Clone, Debug)]
pub struct EventLog {
    open: Arc<Open>,
}

/// Fields are dropped in this order; `Drop` ends the threads before.
#[derive(Debug)]
struct Open {
    queue: Option<SyncSender<Order>>,
    writer: Option<JoinHandle<()>>,
    /// `None` without an index.
    indexer: Option<Indexer>,
    shared: Arc<Shared>,
    recovered: Recovered,
    /// `None` on a disk that is not the host's.
    lock: Option<Lock>,
}

impl EventLog {
    /// Opens the log in a directory, or begins one there.
    ///
    /// A torn tail of the last segment is cut off. A missing or damaged index is built anew, which reads the whole log.
    ///
    /// # Errors
    ///
    /// [`OpenError::Locked`] at once when another process has it open, [`OpenError::Corrupt`] when a record that was
    /// durable is damaged or missing as far as this shows without reading all segments.
    pub fn open(dir: impl AsRef<Path>, options: Options) -> Result<Self, OpenError> {
        let dir = LogDir::of_host(dir.as_ref());
        let io = |source| OpenError::io(&dir.path, source);
        dir.disk.create_dir(&dir.path).map_err(io)?;
        let lock = Lock::take(&dir.path).map_err(|error| match error {
            LockError::Held { pid } => OpenError::Locked { pid },
            LockError::Io(source) => io(source),
        })?;
        let ready = Ready::make(&dir)?;
        let (index, is_new) =
            Index::open(&dir.path, |seq| ready.hash_at(dir.disk.as_ref(), seq)).map_err(io)?;
        let index_rebuilt = is_new && ready.end.head.seq > Seq::ZERO;
        let mut open = Open::start(dir.clone(), ready, index, options)?;
        open.recovered.index_rebuilt = index_rebuilt;
        open.lock = Some(lock);
        // An index that cannot forget is given up; lookups read the segments then.
        open.shared.index.begin_at(open.shared.committed().first()).unwrap_or_default();
        indexer::catch_up(&open.shared)?;
        open.indexer = Some(Indexer::spawn(&open.shared).map_err(io)?);
        Ok(Self { open: Arc::new(open) })
    }

    /// Opens the log in a directory of a disk that is not the host's, or begins one there: for tests of what is built on
    /// the log.
    ///
    /// There is no index, whose files are the host's: lookups read the segments, and there are no checkpoints. There is no
    /// lock either: who opens a log twice at a time damages it.
    ///
    /// # Errors
    ///
    /// As [`Self::open`].
    pub fn open_on(disk: Arc<dyn Disk>, dir: impl AsRef<Path>, options: Options) -> Result<Self, OpenError> {
        let dir = LogDir { disk, path: dir.as_ref().to_owned() };
        dir.disk.create_dir(&dir.path).map_err(|source| OpenError::io(&dir.path, source))?;
        let ready = Ready::make(&dir)?;
        let open = Open::start(dir.clone(), ready, Index::none(&dir.path), options)?;
        open.shared.indexer_ended();
        Ok(Self { open: Arc::new(open) })
    }

    /// Appends events as one batch and returns when they are durable and visible to readers.
    ///
    /// They get consecutive numbers. After a crash either all of them are there or none. This blocks; batches of
    /// concurrent callers share one `fdatasync`. No events are no batch: nothing is written.
    ///
    /// # Errors
    ///
    /// See [`AppendError`].
    pub fn append(&self, drafts: Vec<Draft>) -> Result<Vec<Envelope>, AppendError> {
        if drafts.is_empty() {
            return Ok(Vec::new());
        }
        let frames = encode(&drafts)?;
        let (reply, answer) = mpsc::sync_channel(1);
        let submission = Submission { frames, requests: requests(&drafts), reply };
        self.queue().send(Order::Append(submission)).map_err(|_| writer_ended())?;
        let mut seq = answer.recv().map_err(|_| writer_ended())??;
        let mut envelopes = Vec::with_capacity(drafts.len());
        for draft in drafts {
            envelopes.push(draft.into_envelope(seq));
            seq = seq.next();
        }
        Ok(envelopes)
    }

    /// Begins a new segment, unless the present one has no record.
    pub(crate) fn roll(&self) -> Result<(), AppendError> {
        let (reply, answer) = mpsc::sync_channel(1);
        self.queue().send(Order::Roll(reply)).map_err(|_| writer_ended())?;
        answer.recv().map_err(|_| writer_ended())?
    }

    fn queue(&self) -> &SyncSender<Order> {
        self.open.queue.as_ref().expect("the queue is closed only when the last handle is dropped")
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.open.shared
    }

    /// Returns what can compact this log.
    #[must_use]
    pub fn compactor(&self) -> Compactor {
        Compactor::new(self.clone())
    }

    /// Returns a reader of this log.
    #[must_use]
    pub fn reader(&self) -> Reader {
        Reader::new(Arc::clone(&self.open.shared))
    }

    /// Returns the last durable record.
    #[must_use]
    pub fn head(&self) -> Head {
        self.open.shared.head()
    }

    /// Returns what opening the log found and did.
    #[must_use]
    pub fn recovered(&self) -> Recovered {
        self.open.recovered
    }

    /// Returns the saved folds of this log.
    #[must_use]
    pub fn checkpoints(&self) -> Checkpoints {
        Checkpoints::new(Arc::clone(&self.open.shared))
    }
}

impl Open {
    fn start(dir: LogDir, ready: Ready, index: Index, options: Options) -> Result<Self, OpenError> {
        let Ready { end, base, file, segment, anchor } = ready;
        let recovered = Recovered { torn_len: end.torn_len, index_rebuilt: false };
        let committed = Committed { head: end.head, segments: end.segments.into(), base };
        let path = dir.path.clone();
        let shared = Arc::new(Shared::new(dir, index, committed));
        let writer = Writer {
            shared: Arc::clone(&shared),
            anchor,
            segment,
            file,
            len: end.valid_len,
            head: end.head,
            segment_len_max: options.segment_len_max,
            half_rolled: false,
            poison: None,
        };
        let (queue, submissions) = mpsc::sync_channel(QUEUE_LEN);
        let writer = std::thread::Builder::new()
            .name("log-writer".to_owned())
            .spawn(move || writer.run(&submissions))
            .map_err(|source| OpenError::io(&path, source))?;
        let (queue, writer) = (Some(queue), Some(writer));
        Ok(Self { queue, writer, indexer: None, shared, recovered, lock: None })
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        // The writer ends when the queue is empty and closed.
        self.queue = None;
        if let Some(writer) = self.writer.take() {
            // A writer that panicked has answered nobody; the panic was reported when it happened.
            drop(writer.join());
        }
        if let Some(indexer) = self.indexer.take() {
            indexer.end(&self.shared);
        }
        self.shared.index.close();
    }
}

/// A log whose end is known, whole and durable.
struct Ready {
    end: End,
    base: Option<Arc<Base>>,
    /// The last segment.
    segment: Segment,
    file: Box<dyn DiskFile>,
    anchor: Anchor,
}

impl Ready {
    fn make(dir: &LogDir) -> Result<Self, OpenError> {
        let io = |source| OpenError::io(&dir.path, source);
        recovery::remove_temporary(dir).map_err(io)?;
        let beginning = Beginning::find(dir)?;
        let end = match recovery::find_end(dir, &beginning)? {
            Some(end) => end,
            None => begin(dir, beginning.dropped()).map_err(io)?,
        };
        beginning::remove(dir, &beginning.obsolete).map_err(io)?;
        Self::settle(dir, end, beginning.base).map_err(io)
    }

    /// Cuts the torn tail and makes durable what will be shown.
    fn settle(dir: &LogDir, end: End, base: Option<Arc<Base>>) -> io::Result<Self> {
        let segment = end.segments.last().expect("a log has a segment").clone();
        let file = dir.disk.open_for_writing(&segment.path)?;
        if end.torn_len > 0 {
            file.set_len(end.valid_len)?;
        }
        rewrite(file.as_ref(), end.anchored_len, end.valid_len)?;
        file.sync_all()?;
        dir.sync()?;
        let anchor = Anchor::create(dir, end.head)?;
        Ok(Self { end, base, segment, file, anchor })
    }

    /// Gives the hash of a record, so that an index of another log is recognised.
    fn hash_at(&self, disk: &dyn Disk, seq: Seq) -> Option<[u8; 32]> {
        if seq > self.end.head.seq {
            None
        } else if seq == self.end.head.seq {
            Some(self.end.head.hash)
        } else if seq < beginning::dropped(self.base.as_deref()).seq {
            None
        } else {
            recovery::hash_at(disk, &self.end.segments, seq).ok()
        }
    }
}

/// Writes what stands between two offsets once more.
///
/// An earlier process may have failed to sync it. The kernel then shows it, holds it for clean and never writes it, so
/// that a sync alone would prove nothing.
fn rewrite(file: &dyn DiskFile, mut from: u64, to: u64) -> io::Result<()> {
    let mut buffer = Vec::new();
    while from < to {
        let len = (to - from).min(REWRITE_LEN);
        buffer.resize(usize::try_from(len).map_err(io::Error::other)?, 0);
        disk::read_exact_at(file, &mut buffer, from)?;
        disk::write_all_at(file, &buffer, from)?;
        from += len;
    }
    Ok(())
}

/// Makes a log without records behind what was dropped, except for its anchor: there is nothing more to guard yet.
fn begin(dir: &LogDir, dropped: Head) -> io::Result<End> {
    let segment = Segment::new(&dir.path, dropped.seq.next());
    let header = Header {
        first: segment.first,
        previous_first: Seq::ZERO,
        previous_len: 0,
        previous_hash: dropped.hash,
    };
    drop(segment.create(dir, &header)?);
    if let Some(parent) = dir.path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        dir.disk.sync_dir(parent)?;
    }
    Ok(End {
        head: dropped,
        segments: vec![segment],
        anchored_len: FIRST_RECORD,
        valid_len: FIRST_RECORD,
        torn_len: 0,
    })
}

fn encode(drafts: &[Draft]) -> Result<Vec<u8>, AppendError> {
    let mut frames = Vec::with_capacity(drafts.len() * 256);
    let mut start = 0;
    for draft in drafts {
        start = frame::begin(&mut frames);
        let (kind, version) = codec::encode(draft, &mut frames).map_err(|error| match error {
            CodecError::Unknown => AppendError::UnknownEvent,
            CodecError::TooLong | CodecError::Invalid => AppendError::TooLong,
        })?;
        frame::finish(&mut frames, start, kind, version).map_err(|_| AppendError::TooLong)?;
    }
    frame::mark_last(&mut frames, start);
    Ok(frames)
}

fn requests(drafts: &[Draft]) -> Vec<pyro_core::RequestId> {
    let mut requests = Vec::new();
    for draft in drafts {
        match draft.cause {
            Cause::Request(request) if !requests.contains(&request) => requests.push(request),
            Cause::Request(_) | Cause::Observation => {}
        }
    }
    requests
}

fn writer_ended() -> AppendError {
    AppendError::Poisoned { source: Arc::new(io::Error::other("the writer of the event log has ended")) }
}
