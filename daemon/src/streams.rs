//! Output that is still growing: how far each stream of each running exec has come, for those who watch it live.
//!
//! The bytes themselves are read from the output file. Its handle is shared here, so that a watcher can read to the end
//! even when the workspace is deleted meanwhile.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use pyro_core::{ExecNumber, WorkspaceId};
use pyro_store::outputs::OutputReader;
use tokio::sync::watch;

/// One output stream of a running exec.
#[derive(Debug)]
pub(crate) struct LiveStream {
    file: OnceLock<OutputReader>,
    len: watch::Sender<u64>,
}

impl LiveStream {
    fn new() -> Self {
        Self { file: OnceLock::new(), len: watch::channel(0).0 }
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

    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.len.subscribe()
    }
}

/// Both output streams of a running exec.
#[derive(Debug)]
pub(crate) struct LiveExec {
    pub(crate) stdout: LiveStream,
    pub(crate) stderr: LiveStream,
}

/// All execs whose output somebody produces or watches; an entry lives as long as one of them.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    live: Mutex<HashMap<(WorkspaceId, ExecNumber), Weak<LiveExec>>>,
}

impl Streams {
    /// Returns the streams of an exec; producer and watchers may come in any order.
    pub(crate) fn of(&self, workspace: WorkspaceId, exec: ExecNumber) -> Arc<LiveExec> {
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = live.get(&(workspace, exec)).and_then(Weak::upgrade) {
            return known;
        }
        live.retain(|_, known| known.strong_count() > 0);
        let new = Arc::new(LiveExec { stdout: LiveStream::new(), stderr: LiveStream::new() });
        live.insert((workspace, exec), Arc::downgrade(&new));
        new
    }
}
