//! Files on their way into a guest: read by a thread that may block, sent by a task that does not.
//!
//! ```text
//! source --entries, content--> Outlet --chunks of frames, a few MiB--> ImportSession --> guest
//!                                                                           ^-- ImportFailed, at any time
//! ```
//!
//! Nothing is visible in the guest before [`ImportSession::commit`]; dropping the session before drops what was sent.

use core::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pyro_protocol::{CONTENT_MAX, Entry, Frame as _, GuestFrame, HostFrame, content_head};
use tokio::sync::{mpsc, oneshot};

use super::connection::{Connection, Deadline};
use super::error::{GuestError, MESSAGE_LEN_MAX, cut};
use crate::import::{EntryName, ReadError, Sink, SourceError, Totals};

/// Bytes of frames that go from the reading thread to the sending task at once: enough that waking the other side costs
/// nothing beside moving them.
const CHUNK_LEN: usize = 512 * 1024;

/// Chunks that wait to be sent: with the one being filled and the one being sent, at most 5 MiB a session.
const CHUNKS_WAITING_MAX: usize = 4;

/// Time in which the guest must take some of what is sent, and answer the commit before it is asked otherwise. Its agent
/// gives a silent host the same.
const PROGRESS_ALLOWANCE: Duration = Duration::from_secs(60);

/// An import that the guest is ready to receive.
#[derive(Debug)]
pub struct ImportSession {
    connection: Connection,
}

/// What was sent in one import.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// How much it was.
    pub totals: Totals,
    /// BLAKE3 digest of all frames of entries and content in their order, each from its length field on.
    pub digest: [u8; 32],
}

/// Why an import was not completed.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The source was not read to its end.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The guest could not take it, and is as before.
    #[error("{0}")]
    Failed(ImportFailure),
    /// The guest could not be talked to.
    #[error(transparent)]
    Guest(#[from] GuestError),
    /// The host has no thread left to read the source.
    #[error("start a thread to read the source")]
    Thread(#[source] io::Error),
}

/// Why the guest did not take an import: nothing happened in it.
///
/// The text is the guest's, cut to 1,024 bytes, and may hold anything; the name is escaped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportFailure {
    /// Entry at which it failed; `None` when it was not about one.
    pub entry: Option<EntryName>,
    /// Linux error number as the guest gave it.
    pub errno: i32,
    /// What failed.
    pub message: String,
}

/// What became of an import.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImportState {
    /// The guest does not know it: it never got so far, or was followed by many others.
    Unknown,
    /// It is under way.
    Running,
    /// It is in place.
    Imported(Totals),
    /// It had no effect.
    Failed(ImportFailure),
}

impl ImportSession {
    pub(super) const fn new(connection: Connection) -> Self {
        Self { connection }
    }

    /// Sends what `read` puts into its outlet. `read` runs on a thread of its own and ends early once its flag is true,
    /// which it becomes when this future ends or is dropped. `progress` is called with what the guest has been sent.
    ///
    /// # Errors
    ///
    /// Any error leaves the guest as it was; the session is of no more use.
    ///
    /// # Panics
    ///
    /// When `read` does.
    pub async fn send<R>(&mut self, read: R, progress: impl Fn(Totals)) -> Result<Sent, ImportError>
    where
        R: FnOnce(&mut Outlet, &AtomicBool) -> Result<Totals, ReadError<OutletClosed>> + Send + 'static,
    {
        let (chunks, mut waiting) = mpsc::channel(CHUNKS_WAITING_MAX);
        let cancel = CancelOnDrop::default();
        let cancelled = Arc::clone(&cancel.0);
        let (outcome, reader) = oneshot::channel();
        // Not one of the runtime's threads for blocking work: guests that do not read could hold all of them.
        let thread = std::thread::Builder::new().name("import".to_owned());
        let started = thread.spawn(move || {
            let mut outlet = Outlet::new(chunks);
            let read = read(&mut outlet, &cancelled);
            // Nobody waits when the import has ended early.
            let _unheard = outcome.send(read.and_then(|_| outlet.finish().map_err(ReadError::Sink)));
        });
        started.map_err(ImportError::Thread)?;
        loop {
            let frame = tokio::select! {
                chunk = waiting.recv() => match chunk {
                    Some(Chunk { frames, totals }) => {
                        let frame = self.connection.send_listening(&frames, PROGRESS_ALLOWANCE).await;
                        progress(totals);
                        frame
                    }
                    None => break,
                },
                frame = self.connection.receive() => frame.map(Some),
            };
            match frame {
                Ok(None) => {}
                Ok(Some(frame)) => return Err(early(frame)),
                Err(error) => return Err(self.last_word(error).await),
            }
        }
        match reader.await.expect("reading a source does not panic") {
            Ok(sent) => Ok(sent),
            Err(ReadError::Source(error)) => Err(error.into()),
            Err(ReadError::Sink(OutletClosed)) => unreachable!("the channel was open to the reader's end"),
        }
    }

    /// Returns why the guest has hung up, if it said so before.
    async fn last_word(&mut self, error: GuestError) -> ImportError {
        if matches!(error, GuestError::Broken(_))
            && let Ok(frame) =
                self.connection.receive_by(Deadline::within(PROGRESS_ALLOWANCE), "an answer").await
        {
            return early(frame);
        }
        error.into()
    }

    /// Has the guest put everything in place.
    ///
    /// # Errors
    ///
    /// [`ImportError::Failed`] when the guest could not and is as before. After [`ImportError::Guest`] it may still do
    /// it or have done it: [`Guest::ask_import`](super::Guest::ask_import) tells.
    pub async fn commit(mut self, sent: Sent) -> Result<(), ImportError> {
        let deadline = Deadline::within(PROGRESS_ALLOWANCE);
        self.connection.send_by(&HostFrame::Commit, deadline).await?;
        match self.connection.receive_by(deadline, "the end of the import").await? {
            GuestFrame::Imported(imported) if Totals::from(imported) == sent.totals => Ok(()),
            GuestFrame::Imported(_) => {
                Err(GuestError::Protocol("it has imported something else than it was sent").into())
            }
            GuestFrame::ImportFailed(failed) => Err(ImportError::Failed(failed.into())),
            _ => Err(GuestError::Protocol("its answer to Commit is of another kind").into()),
        }
    }
}

/// Returns what a frame before the commit means.
fn early(frame: GuestFrame) -> ImportError {
    match frame {
        GuestFrame::ImportFailed(failed) => ImportError::Failed(failed.into()),
        _ => GuestError::Protocol("it answered an import that was not complete").into(),
    }
}

/// Tells the reading thread that nobody waits for it.
#[derive(Default)]
struct CancelOnDrop(Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Frames that are ready to be sent.
struct Chunk {
    frames: Vec<u8>,
    /// What all chunks up to this one hold.
    totals: Totals,
}

/// The reading thread's end of an import. It makes the thread wait while the guest is slower.
#[derive(Debug)]
pub struct Outlet {
    chunks: mpsc::Sender<Chunk>,
    frames: Vec<u8>,
    totals: Totals,
    hasher: blake3::Hasher,
}

/// Nobody sends any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("send to the guest: the import has ended")]
pub struct OutletClosed;

impl Outlet {
    fn new(chunks: mpsc::Sender<Chunk>) -> Self {
        Self { chunks, frames: new_frames(), totals: Totals::default(), hasher: blake3::Hasher::new() }
    }

    fn finish(mut self) -> Result<Sent, OutletClosed> {
        if !self.frames.is_empty() {
            self.hand_over()?;
        }
        Ok(Sent { totals: self.totals, digest: *self.hasher.finalize().as_bytes() })
    }

    fn hand_over_full(&mut self) -> Result<(), OutletClosed> {
        if self.frames.len() < CHUNK_LEN { Ok(()) } else { self.hand_over() }
    }

    fn hand_over(&mut self) -> Result<(), OutletClosed> {
        self.hasher.update(&self.frames);
        let frames = core::mem::replace(&mut self.frames, new_frames());
        self.chunks.blocking_send(Chunk { frames, totals: self.totals }).map_err(|_closed| OutletClosed)
    }
}

/// Returns room for a chunk, which is full once its last frame has gone beyond its length.
fn new_frames() -> Vec<u8> {
    Vec::with_capacity(CHUNK_LEN + CONTENT_MAX + 4096)
}

impl Sink for Outlet {
    type Error = OutletClosed;

    fn entry(&mut self, entry: &Entry) -> Result<(), OutletClosed> {
        let frame = HostFrame::Entry(entry.clone());
        frame.encode(&mut self.frames).expect("two paths of at most 4 KiB fit into a frame");
        self.totals.entries += 1;
        self.hand_over_full()
    }

    fn content(&mut self, bytes: &[u8]) -> Result<(), OutletClosed> {
        self.frames.extend_from_slice(&content_head(bytes.len()));
        self.frames.extend_from_slice(bytes);
        self.totals.bytes += bytes.len() as u64;
        self.hand_over_full()
    }
}

impl From<pyro_protocol::Imported> for Totals {
    fn from(imported: pyro_protocol::Imported) -> Self {
        let pyro_protocol::Imported { entries, bytes } = imported;
        Self { entries, bytes }
    }
}

impl From<pyro_protocol::ImportFailed> for ImportFailure {
    fn from(failed: pyro_protocol::ImportFailed) -> Self {
        let pyro_protocol::ImportFailed { path, errno, message } = failed;
        Self { entry: path.map(|path| EntryName::new(&path)), errno, message: cut(message, MESSAGE_LEN_MAX) }
    }
}

impl From<pyro_protocol::ImportState> for ImportState {
    fn from(state: pyro_protocol::ImportState) -> Self {
        match state {
            pyro_protocol::ImportState::Unknown => Self::Unknown,
            pyro_protocol::ImportState::Running => Self::Running,
            pyro_protocol::ImportState::Imported(imported) => Self::Imported(imported.into()),
            pyro_protocol::ImportState::Failed(failed) => Self::Failed(failed.into()),
        }
    }
}

impl fmt::Display for ImportFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(entry) = &self.entry {
            write!(f, "entry {entry}: ")?;
        }
        write!(f, "the guest failed to {}", self.message)?;
        match self.errno {
            0 => Ok(()),
            errno => write!(f, ": {}", io::Error::from_raw_os_error(errno)),
        }
    }
}
