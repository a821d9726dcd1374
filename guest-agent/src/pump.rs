//! From the pipes of a command, or the terminal of a shell, into what is kept of it.

use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use pyro_protocol::Stream;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;

use crate::operation::Operation;
use crate::terminal::{self, Terminal};

/// Bytes that are thrown away at once.
const DISCARD_BYTES: usize = 16 * 1024;

/// Where output is read.
#[derive(Debug)]
pub(crate) enum Source {
    /// The read end of a pipe.
    Pipe(AsyncFd<OwnedFd>),
    /// A terminal.
    Terminal(Rc<Terminal>),
}

impl Source {
    fn fd(&self) -> &AsyncFd<OwnedFd> {
        match self {
            Self::Pipe(pipe) => pipe,
            Self::Terminal(terminal) => terminal.master(),
        }
    }

    /// Returns how many bytes can be in it now.
    fn held(&self) -> usize {
        match self {
            Self::Pipe(pipe) => {
                let left = rustix::io::ioctl_fionread(pipe).unwrap_or(0);
                usize::try_from(left).expect("a pipe fits into memory")
            }
            // It counts only one of its buffers.
            Self::Terminal(_) => terminal::HELD_MAX,
        }
    }
}

/// Reads the source until its end or, after the command exited, until what is in it then has been read. Returns the
/// source when its end was not reached: something in the background holds it.
pub(crate) async fn collect(
    operation: Rc<Operation>,
    stream: Stream,
    source: Source,
    mut exited: watch::Receiver<bool>,
) -> Option<Source> {
    let at_end = tokio::select! {
        biased;
        _ = exited.wait_for(|exited| *exited) => false,
        () = read(&operation, stream, &source) => true,
    };
    if at_end {
        return None;
    }
    drain(&operation, stream, &source).await;
    Some(source)
}

/// Moves all bytes up to the end of the source. It waits while the host has not taken enough.
async fn read(operation: &Operation, stream: Stream, source: &Source) {
    loop {
        has_room(operation, stream).await;
        let Ok(mut ready) = source.fd().readable().await else { return };
        let read = |space: &mut [u8]| match ready.try_io(|fd| Ok(rustix::io::read(fd, space)?)) {
            Ok(result) => result,
            Err(_not_ready) => Err(io::ErrorKind::WouldBlock.into()),
        };
        match operation.output_mut(stream).fill(usize::MAX, read) {
            Ok(0) => return,
            Ok(_) => operation.advanced(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}

/// Moves the bytes that are in the source now.
async fn drain(operation: &Operation, stream: Stream, source: &Source) {
    // A child in the background may write faster than the host takes: only what the command can have written counts.
    let mut left = source.held();
    while left > 0 {
        has_room(operation, stream).await;
        // Past the runtime, which need not have seen yet that there is something.
        let read = |space: &mut [u8]| rustix::io::read(source.fd(), space);
        match operation.output_mut(stream).fill(left, read) {
            Ok(0) | Err(_) => return,
            Ok(n) => {
                left -= n;
                operation.advanced();
            }
        }
    }
}

async fn has_room(operation: &Operation, stream: Stream) {
    loop {
        let room = operation.room().notified();
        if !operation.output(stream).is_full() {
            return;
        }
        room.await;
    }
}

/// Reads what children in the background still write. With the pipe closed, their writes would end them.
pub(crate) async fn discard(pipe: AsyncFd<OwnedFd>) {
    let mut bytes = vec![0; DISCARD_BYTES];
    while let Ok(mut ready) = pipe.readable().await {
        if let Ok(Ok(0) | Err(_)) = ready.try_io(|pipe| Ok(rustix::io::read(pipe, &mut bytes[..])?)) {
            return;
        }
    }
}
