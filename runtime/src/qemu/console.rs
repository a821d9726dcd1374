//! What a guest's console and the processes around it said last.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe::{self, Receiver};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Bytes that are kept: a kernel panic with its call trace, and what led to it. Older ones are dropped, so that a
/// guest that floods its console costs neither memory nor disk.
const KEPT_BYTES: usize = 64 * 1024;

/// Time for the last bytes to arrive once their writers have ended.
const DRAIN_ALLOWANCE: Duration = Duration::from_secs(1);

/// The console of one guest since its start. It ends with the daemon: the writers then write into the void.
#[derive(Debug)]
pub(super) struct Console {
    kept: Arc<Mutex<VecDeque<u8>>>,
    reader: JoinHandle<()>,
}

impl Console {
    /// Returns a console and the end of it that the processes write to.
    pub(super) fn open() -> io::Result<(Self, OwnedFd)> {
        let (writer, receiver) = pipe::pipe()?;
        let kept = Arc::new(Mutex::new(VecDeque::new()));
        let reader = tokio::spawn(keep_last(receiver, Arc::clone(&kept)));
        Ok((Self { kept, reader }, writer.into_blocking_fd()?))
    }

    /// Returns what is kept, whatever bytes a hostile guest put there made readable.
    pub(super) fn text(&self) -> String {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = kept.iter().copied().collect::<Vec<_>>();
        drop(kept);
        readable(&String::from_utf8_lossy(&bytes))
    }

    /// Returns what is kept once all writers have ended.
    pub(super) async fn last_words(&mut self) -> String {
        // A writer that lives on keeps the pipe open; then what has come has to do.
        drop(timeout(DRAIN_ALLOWANCE, &mut self.reader).await);
        self.text()
    }
}

async fn keep_last(mut receiver: Receiver, kept: Arc<Mutex<VecDeque<u8>>>) {
    let mut buffer = vec![0; KEPT_BYTES];
    // An error means the same as an end: nothing more will come.
    while let Ok(read @ 1..) = receiver.read(&mut buffer).await {
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend(&buffer[..read]);
        let excess = kept.len().saturating_sub(KEPT_BYTES);
        kept.drain(..excess);
    }
}

/// Returns the text with line feeds and without other control characters, which could act on a terminal.
fn readable(text: &str) -> String {
    text.chars().filter(|character| *character == '\n' || !character.is_control()).collect()
}
