//! A Unix socket on which open files come along with the bytes.

use std::collections::VecDeque;
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::UnixStream;

/// Descriptors that one message of the agent can carry. It sends one; with less room the kernel would close some and
/// say nothing of it.
const PER_MESSAGE: usize = 4;

/// Most descriptors that came and were not taken. A guest that sends more breaks the protocol.
const WAITING_MAX: usize = 256;

/// The descriptors that came on a connection, in their order.
#[derive(Clone, Debug, Default)]
pub(super) struct Descriptors {
    waiting: Arc<Mutex<VecDeque<OwnedFd>>>,
}

impl Descriptors {
    /// Returns the next one; `None` when none came.
    pub(super) fn take(&self) -> Option<OwnedFd> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    fn add(&self, descriptors: impl Iterator<Item = OwnedFd>) -> io::Result<()> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.extend(descriptors);
        if waiting.len() > WAITING_MAX {
            waiting.clear();
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "too many open files came from the guest",
            ));
        }
        Ok(())
    }
}

/// The socket. Reading it puts descriptors aside.
#[derive(Debug)]
pub(super) struct PassingStream {
    stream: UnixStream,
    descriptors: Descriptors,
}

impl PassingStream {
    pub(super) const fn new(stream: UnixStream, descriptors: Descriptors) -> Self {
        Self { stream, descriptors }
    }

    fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.try_io(Interest::READABLE, || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(PER_MESSAGE))];
            let mut ancillary = RecvAncillaryBuffer::new(&mut space);
            let mut parts = [IoSliceMut::new(buffer)];
            let flags = RecvFlags::CMSG_CLOEXEC;
            let received = rustix::net::recvmsg(&self.stream, &mut parts, &mut ancillary, flags)?;
            let descriptors = ancillary.drain().filter_map(|message| match message {
                RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
                _ => None,
            });
            self.descriptors.add(descriptors.flatten())?;
            Ok(received.bytes)
        })
    }
}

impl AsyncRead for PassingStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.stream.poll_read_ready(context))?;
            match self.receive(buffer.initialize_unfilled()) {
                Ok(count) => {
                    buffer.advance(count);
                    return Poll::Ready(Ok(()));
                }
                // It was another one's readiness; the next poll waits.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for PassingStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
