//! Output that is still growing: how far each stream of each running command and shell has come, for those who watch it
//! live, and how far the input of each shell.
//!
//! The bytes themselves are read from the output file. Its handle is shared here, so that a watcher can read to the end
//! even when the workspace is deleted meanwhile.

use std::collections::HashMap;
use std::hash::Hash;
use std::ops::Range;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use pyro_api::{GapCause, OUTPUT_LEN_MAX};
use pyro_core::{Gaps, ShellId, WorkspaceId};
use pyro_store::outputs::{OutputError, OutputReader, StreamId};
use tokio::sync::watch;

use crate::context::Context;
use crate::holds::{Hold, Holds};
use crate::retention::gaps_in;

/// One output stream of a running command or shell.
#[derive(Debug)]
pub(crate) struct LiveStream {
    file: OnceLock<OutputReader>,
    len: watch::Sender<u64>,
    /// What is dropped, or about to be.
    gaps: Mutex<Gaps>,
    holds: Arc<Holds>,
}

impl LiveStream {
    fn new() -> Self {
        let (file, len) = (OnceLock::new(), watch::channel(0).0);
        Self { file, len, gaps: Mutex::default(), holds: Arc::default() }
    }

    /// Gives the watchers the file to read; later calls change nothing.
    pub(crate) fn set_file(&self, file: OutputReader) {
        self.file.get_or_init(|| file);
    }

    /// Tells the watchers that the file holds `len` bytes now; it never shrinks.
    pub(crate) fn grow_to(&self, len: u64) {
        self.len.send_if_modified(|known| {
            let grown = len > *known;
            *known = len.max(*known);
            grown
        });
    }

    /// Returns the file; `None` as long as nothing was printed.
    pub(crate) fn file(&self) -> Option<&OutputReader> {
        self.file.get()
    }

    /// Returns how many bytes the file holds.
    pub(crate) fn len(&self) -> u64 {
        *self.len.borrow()
    }

    /// Tells the watchers what is dropped; it must be told before the bytes go.
    pub(crate) fn learn_gaps(&self, gaps: &Gaps) {
        self.gaps.lock().unwrap_or_else(PoisonError::into_inner).add_all(gaps);
    }

    /// Returns what is dropped. Bytes that were read before the call and lie outside are what was printed.
    pub(crate) fn gaps(&self) -> Gaps {
        self.gaps.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns what the clients have that must get every byte.
    pub(crate) const fn holds(&self) -> &Arc<Holds> {
        &self.holds
    }

    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.len.subscribe()
    }
}

/// How far the input of a shell has come, by what its guest said last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Typed {
    /// The guest has the bytes before this position.
    pub(crate) received: u64,
    /// The terminal has taken the bytes before this position.
    pub(crate) consumed: u64,
}

/// The input of a running shell.
#[derive(Debug)]
pub(crate) struct LiveInput {
    typed: watch::Sender<Option<Typed>>,
    /// Held between the look at how much input waits and the record of more, so that two clients do not both take the
    /// room that is there for one.
    pub(crate) turn: tokio::sync::Mutex<()>,
}

impl LiveInput {
    /// Tells those who type what the guest said.
    pub(crate) fn set_typed(&self, typed: Typed) {
        self.typed.send_replace(Some(typed));
    }

    /// Returns a receiver of what the guest says; `None` as long as it has said nothing.
    pub(crate) fn typed(&self) -> watch::Receiver<Option<Typed>> {
        self.typed.subscribe()
    }
}

/// All streams and inputs that somebody produces or watches; an entry lives as long as one of them.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    streams: Registry<(WorkspaceId, StreamId), LiveStream>,
    inputs: Registry<(WorkspaceId, ShellId), LiveInput>,
}

impl Streams {
    /// Returns a stream; producer and watchers may come in any order.
    pub(crate) fn of(&self, workspace: WorkspaceId, stream: StreamId) -> Arc<LiveStream> {
        self.streams.get(&(workspace, stream), LiveStream::new)
    }

    /// Returns the input of a shell; its pump and those who type may come in any order.
    pub(crate) fn input(&self, workspace: WorkspaceId, shell: ShellId) -> Arc<LiveInput> {
        let new = || LiveInput { typed: watch::channel(None).0, turn: tokio::sync::Mutex::default() };
        self.inputs.get(&(workspace, shell), new)
    }
}

/// Values that exist as long as somebody holds them.
#[derive(Debug)]
struct Registry<K, V> {
    held: Mutex<HashMap<K, Weak<V>>>,
}

impl<K, V> Default for Registry<K, V> {
    fn default() -> Self {
        Self { held: Mutex::default() }
    }
}

impl<K: Copy + Eq + Hash, V> Registry<K, V> {
    fn get(&self, key: &K, new: impl FnOnce() -> V) -> Arc<V> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = held.get(key).and_then(Weak::upgrade) {
            return known;
        }
        held.retain(|_, known| known.strong_count() > 0);
        let new = Arc::new(new());
        held.insert(*key, Arc::downgrade(&new));
        new
    }
}

/// Shows what an earlier daemon stored of a stream, or this one before all watchers went. Nobody else would, once its
/// command or shell has ended.
pub(crate) fn catch_up(context: &Context, workspace: WorkspaceId, stream: StreamId, live: &LiveStream) {
    live.learn_gaps(&gaps_in(&context.engine.state(), workspace, stream));
    let opened = context.outputs.read(workspace, stream).and_then(|file| Ok((file.len_bytes()?, file)));
    match opened {
        Ok((0, _)) => {}
        Ok((len, file)) => {
            live.set_file(file);
            live.grow_to(len);
        }
        Err(error) => tracing::warn!(%workspace, %stream, %error, "stored output cannot be read"),
    }
}

/// Returns what a file does not have of the stream that its last event tells of: `stored` bytes are there, and `told` were.
pub(crate) fn lost_end(stored: u64, told: u64, gaps: &Gaps) -> Vec<(Range<u64>, GapCause)> {
    let mut lost = Vec::new();
    let mut from = stored;
    while from < told {
        let (to, cause) = match gaps.skip(from) {
            behind if behind > from => (behind, GapCause::Retention),
            _ => (gaps.next_begin(from).unwrap_or(told), GapCause::Missing),
        };
        lost.push((from..to.min(told), cause));
        from = to;
    }
    lost
}

/// The end of a stream, as far as one watcher has read it.
#[derive(Debug)]
pub(crate) struct Tail {
    live: Arc<LiveStream>,
    len: watch::Receiver<u64>,
    read: u64,
    buffer: Vec<u8>,
    hold: Option<Hold>,
}

/// What comes next in a stream.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece<'a> {
    /// Bytes; none when there are none yet.
    Bytes(&'a [u8]),
    /// Bytes that are dropped.
    Gap(Range<u64>),
}

impl Tail {
    /// Returns the end behind `read`, for somebody who looks on: what is dropped meanwhile is shown as a gap.
    pub(crate) fn new(live: Arc<LiveStream>, read: u64) -> Self {
        let len = live.watch();
        Self { live, len, read, buffer: Vec::new(), hold: None }
    }

    /// Returns the end behind `read`, for the client of a command: what it has not taken is not dropped.
    pub(crate) fn of_client(live: Arc<LiveStream>, read: u64) -> Self {
        let hold = Some(Hold::new(live.holds(), read));
        Self { hold, ..Self::new(live, read) }
    }

    /// Takes note that everything that was read has been sent.
    pub(crate) fn sent(&self) {
        if let Some(hold) = &self.hold {
            hold.advance(self.read);
        }
    }

    /// Returns the position behind what was read.
    pub(crate) const fn position(&self) -> u64 {
        self.read
    }

    pub(crate) fn has_more(&self) -> bool {
        *self.len.borrow() > self.read
    }

    /// Returns when there is something to read. Cancel safe.
    pub(crate) async fn grown(&mut self) {
        let read = self.read;
        if self.len.wait_for(|len| *len > read).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Returns the next piece.
    pub(crate) fn read(&mut self) -> Result<Piece<'_>, OutputError> {
        let Some(file) = self.live.file() else { return Ok(Piece::Bytes(&[])) };
        self.buffer.resize(OUTPUT_LEN_MAX, 0);
        let len = file.read_at(&mut self.buffer, self.read)?;
        let from = self.read;
        // Only now: what was dropped before the bytes were read is known by now.
        let gaps = self.live.gaps();
        let behind = gaps.skip(from).min(self.live.len());
        if behind > from {
            self.read = behind;
            return Ok(Piece::Gap(from..behind));
        }
        let kept = gaps.next_begin(from).map_or(u64::MAX, |gap| gap - from);
        let len = usize::try_from(kept).map_or(len, |kept| len.min(kept));
        self.read += len as u64;
        Ok(Piece::Bytes(&self.buffer[..len]))
    }
}

#[cfg(test)]
mod tests {
    use pyro_core::ExecNumber;
    use pyro_store::outputs::Stream;

    use super::*;

    /// Catches a watcher that came before the command or shell and never sees a byte, and entries that stay for ever.
    #[test]
    fn producer_and_watchers_meet_in_any_order() {
        let streams = Streams::default();
        let workspace = WorkspaceId::from_bytes([1; 6]);
        let shell = ShellId::from_bytes([2; 6]);
        let tail = Tail::new(streams.of(workspace, StreamId::Shell(shell)), 3);
        let producer = streams.of(workspace, StreamId::Shell(shell));
        producer.grow_to(5);
        producer.grow_to(4);
        assert!(tail.has_more() && producer.len() == 5);
        let other = streams.of(workspace, StreamId::Exec(ExecNumber(1), Stream::Stdout));
        assert_eq!(other.len(), 0);
        drop((tail, producer));
        assert_eq!(streams.of(workspace, StreamId::Shell(shell)).len(), 0, "nobody held it");

        let typed = Typed { received: 2, consumed: 1 };
        let typist = streams.input(workspace, shell);
        streams.input(workspace, shell).set_typed(typed);
        assert_eq!(*typist.typed().borrow(), Some(typed));
    }

    /// Catches a hole that is shown as zeros, a gap that is told twice or not at all, and bytes beside it that are lost.
    #[test]
    fn who_looks_on_is_told_of_gaps() {
        let dir = tempfile::tempdir().unwrap();
        let outputs = pyro_store::outputs::Outputs::open(dir.path()).unwrap();
        let (workspace, stream) =
            (WorkspaceId::from_bytes([1; 6]), StreamId::Exec(ExecNumber(1), Stream::Stdout));
        let mut writer = outputs.create(workspace, stream).unwrap();
        writer.append(0, b"abcdefgh", pyro_core::Timestamp(1)).unwrap();
        let live = Arc::new(LiveStream::new());
        let mut tail = Tail::new(Arc::clone(&live), 0);
        let client = Tail::of_client(Arc::clone(&live), 1);
        assert_eq!(tail.read().unwrap(), Piece::Bytes(b""), "nothing was printed yet");
        live.set_file(outputs.read(workspace, stream).unwrap());
        live.grow_to(8);
        let mut gaps = Gaps::default();
        gaps.add(2..5);
        live.learn_gaps(&gaps);
        assert_eq!(tail.read().unwrap(), Piece::Bytes(b"ab"));
        assert_eq!(tail.read().unwrap(), Piece::Gap(2..5));
        assert_eq!(tail.read().unwrap(), Piece::Bytes(b"fgh"));
        assert!(!tail.has_more() && tail.position() == 8);
        let mut late = Tail::new(Arc::clone(&live), 3);
        assert_eq!(late.read().unwrap(), Piece::Gap(3..5));
        gaps.add(0..20);
        live.learn_gaps(&gaps);
        assert_eq!(late.read().unwrap(), Piece::Gap(5..8), "there is nothing behind the end");
        tail.sent();
        assert_eq!(live.holds().free(), 1, "who looks on holds nothing");
        drop(client);
        assert_eq!(live.holds().free(), u64::MAX);
    }

    /// Catches a file that lost its end and is shown as whole, and bytes that were dropped before and are blamed on that.
    #[test]
    fn what_a_file_has_lost_is_told_apart_from_what_was_dropped() {
        let mut gaps = Gaps::default();
        gaps.add(3..5);
        gaps.add(7..9);
        let (dropped, missing) = (GapCause::Retention, GapCause::Missing);
        assert_eq!(lost_end(10, 10, &gaps), []);
        assert_eq!(lost_end(11, 10, &gaps), [], "a file that is longer has lost nothing");
        assert_eq!(lost_end(8, 10, &gaps), [(8..9, dropped), (9..10, missing)]);
        let all = [(0..3, missing), (3..5, dropped), (5..7, missing), (7..9, dropped), (9..10, missing)];
        assert_eq!(lost_end(0, 10, &gaps), all);
        assert_eq!(lost_end(4, 8, &gaps), [(4..5, dropped), (5..7, missing), (7..8, dropped)]);
    }
}
