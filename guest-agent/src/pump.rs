//! From the pipes of a command into what is kept of it.

use std::io;
use std::rc::Rc;

use pyro_protocol::Stream;
use tokio::net::unix::pipe::Receiver;
use tokio::sync::watch;

use crate::operation::Operation;

/// Bytes that are thrown away at once.
const DISCARD_BYTES: usize = 16 * 1024;

/// Reads the pipe until its end or, after the command exited, until what is in it then has been read. Returns the pipe
/// when its end was not reached: something in the background holds it.
pub(crate) async fn collect(
    operation: Rc<Operation>,
    stream: Stream,
    pipe: Receiver,
    mut exited: watch::Receiver<bool>,
) -> Option<Receiver> {
    let at_end = tokio::select! {
        biased;
        _ = exited.wait_for(|exited| *exited) => false,
        () = read(&operation, stream, &pipe, usize::MAX) => true,
    };
    if at_end {
        return None;
    }
    // A child in the background may write faster than the host takes: only what the command can have written counts.
    let left = rustix::io::ioctl_fionread(&pipe).unwrap_or(0);
    read(&operation, stream, &pipe, usize::try_from(left).expect("a pipe fits into memory")).await;
    Some(pipe)
}

/// Moves `left` bytes, or all up to the end of the pipe. It waits while the host has not taken enough.
async fn read(operation: &Operation, stream: Stream, pipe: &Receiver, mut left: usize) {
    while left > 0 {
        let room = operation.room().notified();
        if operation.output(stream).is_full() {
            room.await;
            continue;
        }
        if pipe.readable().await.is_err() {
            return;
        }
        let read = operation.output_mut(stream).fill(left, |space| pipe.try_read(space));
        match read {
            Ok(0) => return,
            Ok(n) => {
                left -= n;
                operation.advanced();
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}

/// Reads what children in the background still write. With the pipe closed, their writes would end them.
pub(crate) async fn discard(pipe: Receiver) {
    let mut bytes = vec![0; DISCARD_BYTES];
    while pipe.readable().await.is_ok() {
        match pipe.try_read(&mut bytes) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}
