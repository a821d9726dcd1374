//! Reads that wait for more. None of them holds a thread: one thread wakes them all.
//!
//! ```text
//! read -> NotYet -> parked under its key -> [key woken] -> read again -> answered, or parked again
//!                                        -> [signal]   -> EINTR
//! ```
//!
//! A key is woken after there is more to read, and a read is parked before it looks once more, so no wake is missed.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pyro_core::WorkspaceId;
use pyro_store::outputs::StreamId;

use crate::content::{Content, Held};
use crate::signals::{Caller, Look};
use crate::view::{Change, Next, View, ViewError};

/// How often it is looked whether those who wait have a signal to take.
const SIGNAL_CHECK: Duration = Duration::from_millis(50);

/// How many of those who wait are looked at each time: bounds the work for many who wait for long. All of 1,000 are looked at
/// within two seconds.
const CHECKED_AT_ONCE: usize = 32;

/// What a read waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Key {
    /// The next event.
    Events,
    /// More of a stream, or its end.
    Stream(WorkspaceId, StreamId),
}

impl Content {
    /// Returns what a read of it waits for; `None` when it never waits.
    pub(crate) fn key(&self) -> Option<Key> {
        match &self.0 {
            Held::Stream(stream) => Some(Key::Stream(stream.workspace, stream.stream)),
            Held::Events(_) => Some(Key::Events),
            Held::Fixed(_) | Held::Logs(_) | Held::Cast(_) => None,
        }
    }
}

/// Why a read that would wait has no bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interruption {
    /// The caller has a signal to take.
    Signal,
    /// The caller does not want to wait.
    WouldWait,
    /// The mount is taken away.
    Unmounted,
    /// The caller's signals cannot be seen: it is in a namespace where it has no process id for this process.
    Unseen,
}

/// Why a read has no bytes.
#[derive(Debug)]
pub(crate) enum NoBytes {
    View(ViewError),
    Interrupted(Interruption),
}

impl From<ViewError> for NoBytes {
    fn from(error: ViewError) -> Self {
        Self::View(error)
    }
}

/// Takes the bytes of a read; none at the end of the file.
type Answer = Box<dyn FnOnce(Result<Vec<u8>, NoBytes>) + Send>;

/// Called once when there is something to read.
type Tell = Box<dyn FnOnce() + Send>;

/// A read.
pub(crate) struct Read {
    pub(crate) content: Content,
    pub(crate) offset: u64,
    pub(crate) size: usize,
    /// The thread that reads; `None` when it cannot be seen.
    pub(crate) caller: Option<Caller>,
    pub(crate) blocks: bool,
    pub(crate) answer: Answer,
}

/// Those who wait.
pub(crate) struct Waiting {
    view: Arc<View>,
    inner: Mutex<Inner>,
    /// Signalled for the thread that wakes.
    work: Condvar,
}

#[derive(Default)]
struct Inner {
    reads: HashMap<Key, Vec<Read>>,
    /// Those who poll, by the number of what they have open.
    polls: HashMap<Key, HashMap<u64, Tell>>,
    /// Keys for which there may be more.
    woken: HashSet<Key>,
    /// There may be more events.
    log_grew: bool,
    /// How many of those who wait come before the one that is looked at next.
    check_next: usize,
    /// When they are looked at next; `None` when nobody waited the last time.
    check_at: Option<Instant>,
    closed: bool,
}

impl fmt::Debug for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waiting").field("reads", &self.count()).finish_non_exhaustive()
    }
}

/// What the waking thread finds to do.
enum Work {
    Wake { keys: HashSet<Key>, log_grew: bool },
    CheckSignals,
    End,
}

impl Waiting {
    pub(crate) fn new(view: Arc<View>) -> Self {
        Self { view, inner: Mutex::default(), work: Condvar::new() }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns how many reads wait.
    pub(crate) fn count(&self) -> usize {
        self.inner().reads.values().map(Vec::len).sum()
    }

    /// Answers a read at once, or when there is something to answer it with.
    pub(crate) fn read(&self, read: Read) {
        if let Some(read) = self.try_answer(read) {
            self.park(read);
        }
    }

    /// Answers a read if that is possible now, and returns it if it is not.
    fn try_answer(&self, read: Read) -> Option<Read> {
        match self.view.follow(&read.content, read.offset, read.size) {
            Ok(Next::NotYet) if read.blocks => return Some(read),
            Ok(Next::NotYet) => (read.answer)(Err(NoBytes::Interrupted(Interruption::WouldWait))),
            Ok(Next::Bytes(bytes)) => (read.answer)(Ok(bytes)),
            Ok(Next::End) => (read.answer)(Ok(Vec::new())),
            Err(error) => (read.answer)(Err(error.into())),
        }
        None
    }

    fn park(&self, read: Read) {
        let Some(key) = read.content.key() else { return (read.answer)(Ok(Vec::new())) };
        if read.caller.is_none() {
            return (read.answer)(Err(NoBytes::Interrupted(Interruption::Unseen)));
        }
        let mut inner = self.inner();
        if inner.closed {
            drop(inner);
            return (read.answer)(Err(NoBytes::Interrupted(Interruption::Unmounted)));
        }
        inner.reads.entry(key).or_default().push(read);
        inner.check_at.get_or_insert_with(|| Instant::now() + SIGNAL_CHECK);
        inner.woken.insert(key);
        self.work.notify_one();
    }

    /// Tells whether a read at an offset would not wait; if it would, `tell` is called as soon as that has changed. Of one
    /// handle only the last one is called.
    pub(crate) fn poll(
        &self,
        content: &Content,
        offset: u64,
        handle: u64,
        tell: Option<Tell>,
    ) -> Result<bool, ViewError> {
        if self.view.follow(content, offset, 1)? != Next::NotYet {
            return Ok(true);
        }
        if let (Some(key), Some(tell)) = (content.key(), tell) {
            self.inner().polls.entry(key).or_default().insert(handle, tell);
        }
        // Once more: what came in between has woken nobody.
        Ok(self.view.follow(content, offset, 1)? != Next::NotYet)
    }

    /// A handle was closed: nobody polls it any more.
    pub(crate) fn closed(&self, handle: u64) {
        let mut inner = self.inner();
        inner.polls.retain(|_, polls| {
            polls.remove(&handle);
            !polls.is_empty()
        });
    }

    /// There is more of a stream.
    pub(crate) fn stream_grew(&self, workspace: WorkspaceId, stream: StreamId) {
        self.wake(Key::Stream(workspace, stream));
    }

    /// There are more events.
    pub(crate) fn log_grew(&self) {
        self.inner().log_grew = true;
        self.work.notify_one();
    }

    fn wake(&self, key: Key) {
        let mut inner = self.inner();
        if inner.reads.contains_key(&key) || inner.polls.contains_key(&key) {
            inner.woken.insert(key);
            self.work.notify_one();
        }
    }

    /// Ends all reads that wait, and those to come.
    pub(crate) fn close(&self) {
        self.inner().closed = true;
        self.work.notify_one();
    }

    /// Wakes those who wait, until [`close`](Self::close). `changed` is told of everything that was done.
    pub(crate) fn run(&self, mut changed: impl FnMut(&[Change])) {
        loop {
            match self.next_work() {
                Work::Wake { mut keys, log_grew } => {
                    if log_grew {
                        self.see_changes(&mut keys, &mut changed);
                    }
                    for key in keys {
                        self.retry(key);
                    }
                }
                Work::CheckSignals => self.check_signals(),
                Work::End => break,
            }
        }
        let reads = std::mem::take(&mut self.inner().reads);
        for read in reads.into_values().flatten() {
            (read.answer)(Err(NoBytes::Interrupted(Interruption::Unmounted)));
        }
    }

    fn next_work(&self) -> Work {
        let mut inner = self.inner();
        loop {
            if inner.closed {
                return Work::End;
            }
            // Before the wakes, of which there may be no end.
            if inner.check_at.is_some_and(|at| at <= Instant::now()) {
                inner.check_at = Some(Instant::now() + SIGNAL_CHECK);
                return Work::CheckSignals;
            }
            if inner.log_grew || !inner.woken.is_empty() {
                let (keys, log_grew) =
                    (std::mem::take(&mut inner.woken), std::mem::take(&mut inner.log_grew));
                return Work::Wake { keys, log_grew };
            }
            if inner.reads.is_empty() {
                inner.check_at = None;
                inner = self.work.wait(inner).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let left = inner.check_at.map_or(SIGNAL_CHECK, |at| at.saturating_duration_since(Instant::now()));
            inner = self.work.wait_timeout(inner, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn see_changes(&self, keys: &mut HashSet<Key>, changed: &mut impl FnMut(&[Change])) {
        let changes = match self.view.changes() {
            Ok(changes) => changes,
            Err(error) => return tracing::error!(%error, "the mount cannot follow the event log"),
        };
        let inner = self.inner();
        for change in &changes {
            match change {
                Change::Events => drop(keys.insert(Key::Events)),
                Change::Ended(workspace, stream) => drop(keys.insert(Key::Stream(*workspace, *stream))),
                Change::Gone(node) => {
                    let gone = |key: &&Key| match key {
                        Key::Events => false,
                        Key::Stream(workspace, StreamId::Shell(shell)) if node.shell().is_some() => {
                            (node.workspace(), node.shell()) == (Some(*workspace), Some(*shell))
                        }
                        Key::Stream(workspace, _) => {
                            node.shell().is_none() && node.workspace() == Some(*workspace)
                        }
                    };
                    keys.extend(inner.reads.keys().chain(inner.polls.keys()).filter(gone));
                }
            }
        }
        drop(inner);
        changed(&changes);
    }

    /// Looks again at those who wait for a key.
    fn retry(&self, key: Key) {
        let mut inner = self.inner();
        // The key stays, so that a wake in the meantime is not taken for one that nobody waits for.
        let reads = inner.reads.get_mut(&key).map(std::mem::take).unwrap_or_default();
        let polls = inner.polls.remove(&key).unwrap_or_default();
        drop(inner);
        for tell in polls.into_values() {
            tell();
        }
        let waiting: Vec<Read> = reads.into_iter().filter_map(|read| self.try_answer(read)).collect();
        let mut inner = self.inner();
        let parked = inner.reads.entry(key).or_default();
        parked.extend(waiting);
        if parked.is_empty() {
            inner.reads.remove(&key);
        }
    }

    fn check_signals(&self) {
        let look = Look::needed();
        let mut ended = Vec::new();
        let mut inner = self.inner();
        let checked = inner.check_next..inner.check_next + CHECKED_AT_ONCE;
        let mut place = 0..;
        let mut is_over = |read: &mut Read| {
            let is_checked = place.next().is_some_and(|place| checked.contains(&place));
            is_checked && read.caller.as_mut().is_none_or(|caller| caller.is_signalled(look))
        };
        for reads in inner.reads.values_mut() {
            ended.extend(reads.extract_if(.., &mut is_over));
        }
        inner.reads.retain(|_, reads| !reads.is_empty());
        inner.check_next = if place.start > checked.end { checked.end - ended.len() } else { 0 };
        drop(inner);
        for read in ended {
            (read.answer)(Err(NoBytes::Interrupted(Interruption::Signal)));
        }
    }
}
