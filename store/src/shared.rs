//! What the writer, the indexer and all readers of one open log share.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};

use pyro_core::{RequestId, Seq};

use crate::base::Base;
use crate::disk::LogDir;
use crate::frame::{GENESIS, Hash};
use crate::index::Index;
use crate::reader::ReadError;
use crate::segment::Segment;

/// Most request ids that wait for the index, about 20 MB of memory. Beyond it the writer waits.
const RECENT_MAX: usize = 1 << 18;

/// The end of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The last record; [`Seq::ZERO`] when the log is empty.
    pub seq: Seq,
    /// Its hash, which stands for all records up to it; zeros when the log is empty.
    pub hash: [u8; 32],
}

impl Head {
    /// The end of an empty log.
    pub(crate) const EMPTY: Self = Self { seq: Seq::ZERO, hash: GENESIS };

    pub(crate) const fn new(seq: Seq, hash: Hash) -> Self {
        Self { seq, hash }
    }
}

/// What is durable, and therefore visible.
#[derive(Clone, Debug)]
pub(crate) struct Committed {
    pub(crate) head: Head,
    pub(crate) segments: Arc<[Segment]>,
    /// What stands for the records before the first segment; `None` when nothing was dropped.
    pub(crate) base: Option<Arc<Base>>,
}

impl Committed {
    /// Returns the first record that is there, or would be.
    pub(crate) fn first(&self) -> Seq {
        self.base.as_ref().map_or(Seq::ZERO.next(), |base| base.first())
    }
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) dir: LogDir,
    pub(crate) index: Index,
    committed: RwLock<Committed>,
    recent: Mutex<Recent>,
    /// Signalled for the indexer: there is something to index, or the log closes.
    work: Condvar,
    /// Signalled for the writer: request ids went into the index.
    room: Condvar,
}

/// What the index does not have yet.
#[derive(Debug, Default)]
struct Recent {
    /// First record of the first batch with this request id.
    requests: HashMap<RequestId, Seq>,
    /// There are records that the indexer has not been told of.
    pending: bool,
    /// The indexer waits for `pending`.
    idle: bool,
    /// The log closes: the indexer finishes what there is and ends.
    closing: bool,
    /// The indexer ended: nothing will ever make room.
    ended: bool,
}

impl Shared {
    pub(crate) fn new(dir: LogDir, index: Index, committed: Committed) -> Self {
        Self {
            dir,
            index,
            committed: RwLock::new(committed),
            recent: Mutex::default(),
            work: Condvar::new(),
            room: Condvar::new(),
        }
    }

    pub(crate) fn committed(&self) -> Committed {
        self.committed.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn head(&self) -> Head {
        self.committed.read().unwrap_or_else(PoisonError::into_inner).head
    }

    /// Shows a new segment to readers; it has no records yet.
    pub(crate) fn add_segment(&self, segment: Segment) {
        let mut committed = self.committed.write().unwrap_or_else(PoisonError::into_inner);
        let mut segments = committed.segments.to_vec();
        segments.push(segment);
        committed.segments = segments.into();
    }

    /// Lets the log begin with a base, if it still begins with the record `before`.
    pub(crate) fn begin_at(&self, before: Seq, base: &Arc<Base>) -> bool {
        let mut committed = self.committed.write().unwrap_or_else(PoisonError::into_inner);
        if committed.first() != before {
            return false;
        }
        let kept = committed.segments.iter().filter(|segment| segment.first >= base.first());
        committed.segments = kept.cloned().collect();
        committed.base = Some(Arc::clone(base));
        drop(committed);
        self.recent().requests.retain(|_, seq| *seq >= base.first());
        true
    }

    /// Tells an error of reading a segment that was compacted meanwhile from one of the disk.
    pub(crate) fn explain(&self, error: ReadError) -> ReadError {
        let committed = self.committed();
        match error {
            ReadError::Io { path, source } if source.kind() == std::io::ErrorKind::NotFound => {
                match committed.segments.iter().any(|segment| segment.path == path) {
                    false => ReadError::Compacted { first: committed.first() },
                    true => ReadError::Io { path, source },
                }
            }
            error => error,
        }
    }

    /// Shows durable records to readers. Request ids come first: a reader that sees the records must find them.
    pub(crate) fn publish(&self, head: Head, requests: impl IntoIterator<Item = (RequestId, Seq)>) {
        let mut recent = self.recent();
        for (request, seq) in requests {
            recent.requests.entry(request).or_insert(seq);
        }
        self.committed.write().unwrap_or_else(PoisonError::into_inner).head = head;
        recent.pending = true;
        if recent.idle {
            self.work.notify_one();
        }
    }

    /// Waits until there is room for more request ids.
    pub(crate) fn wait_for_room(&self) {
        let recent = self.recent();
        let full = |recent: &mut Recent| recent.requests.len() >= RECENT_MAX && !recent.ended;
        drop(self.room.wait_while(recent, full).unwrap_or_else(PoisonError::into_inner));
    }

    /// Looks up a request id that is not in the index yet.
    pub(crate) fn recent_request(&self, request: RequestId) -> Option<Seq> {
        self.recent().requests.get(&request).copied()
    }

    /// Forgets the request ids up to a record: the index has them.
    pub(crate) fn forget_requests(&self, up_to: Seq) {
        self.recent().requests.retain(|_, seq| *seq > up_to);
        self.room.notify_all();
    }

    /// Tells the indexer to finish and end.
    pub(crate) fn close(&self) {
        self.recent().closing = true;
        self.work.notify_all();
    }

    /// Notes that nothing is indexed any more.
    pub(crate) fn indexer_ended(&self) {
        let mut recent = self.recent();
        recent.ended = true;
        recent.requests = HashMap::new();
        self.room.notify_all();
    }

    /// Waits until there is something to index. Returns false when there is not and the log closes.
    pub(crate) fn wait_for_work(&self, gather: std::time::Duration) -> bool {
        let mut recent = self.recent();
        recent.idle = true;
        recent = self
            .work
            .wait_while(recent, |recent| !recent.pending && !recent.closing)
            .unwrap_or_else(PoisonError::into_inner);
        recent.idle = false;
        // One wake-up for many commits: the index is cheaper to fill in larger steps.
        recent = self
            .work
            .wait_timeout_while(recent, gather, |recent| !recent.closing)
            .unwrap_or_else(PoisonError::into_inner)
            .0;
        std::mem::take(&mut recent.pending)
    }

    fn recent(&self) -> MutexGuard<'_, Recent> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
