//! One connection of the host: frames in, frames out.

use std::io::{self, IoSlice};
use std::os::fd::OwnedFd;

use pyro_protocol::{DecodeError, Decoder, EncodeError, Frame as _, GuestFrame, HostFrame};
use rustix::net::{SendAncillaryBuffer, SendFlags};
use tokio::io::unix::AsyncFd;

use crate::readiness;
use crate::shell::InputError;

/// Bytes that are read at once. What the host sends is small, except for commands, input and files.
const READ_BYTES: usize = 16 * 1024;

/// A stream socket, of vsock or Unix.
#[derive(Debug)]
pub(crate) struct Connection {
    socket: AsyncFd<OwnedFd>,
}

/// Why a connection ended before its request was served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectionError {
    /// The socket failed, or the host is gone.
    #[error("use the connection")]
    Io(#[from] io::Error),
    /// The bytes are not frames.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// An answer does not fit into a frame.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The host hung up in the middle of a frame.
    #[error("read a frame: the stream ends within it")]
    Cut,
    /// The frame is not allowed in this state.
    #[error("accept a frame of kind {:#04x} in this state", .0.kind())]
    Unexpected(HostFrame),
    /// The input is not for this shell, or too much.
    #[error(transparent)]
    Input(#[from] InputError),
    /// The host was silent.
    #[error("wait for the first frame")]
    Silent,
    /// A newer connection follows the operation.
    #[error("follow the operation: a newer connection does")]
    Superseded,
}

impl Connection {
    /// Takes over a connected socket.
    pub(crate) fn new(socket: OwnedFd) -> io::Result<Self> {
        Ok(Self { socket: readiness::watch(socket)? })
    }

    /// Gives the socket up; its calls block from now on.
    pub(crate) fn into_blocking(self) -> io::Result<OwnedFd> {
        let socket = self.socket.into_inner();
        rustix::io::ioctl_fionbio(&socket, false)?;
        Ok(socket)
    }

    /// Returns the next frame; `None` when the host hung up between two.
    ///
    /// Nothing is lost when it is cancelled.
    pub(crate) async fn receive(
        &self,
        decoder: &mut Decoder<HostFrame>,
    ) -> Result<Option<HostFrame>, ConnectionError> {
        loop {
            if let Some(frame) = decoder.next_frame()? {
                return Ok(Some(frame));
            }
            let mut ready = self.socket.readable().await?;
            let mut bytes = [0; READ_BYTES];
            match ready.try_io(|socket| Ok(rustix::io::read(socket, &mut bytes)?)) {
                Ok(Ok(0)) if decoder.is_mid_frame() => return Err(ConnectionError::Cut),
                Ok(Ok(0)) => return Ok(None),
                Ok(Ok(n)) => decoder.push(&bytes[..n]),
                Ok(Err(error)) => return Err(error.into()),
                Err(_not_ready) => {}
            }
        }
    }

    /// Sends a frame.
    pub(crate) async fn send(&self, frame: &GuestFrame) -> Result<(), ConnectionError> {
        let mut bytes = Vec::new();
        frame.encode(&mut bytes)?;
        let mut sent = 0;
        while sent < bytes.len() {
            sent += self.write(|write| write(&[IoSlice::new(&bytes[sent..])])).await?;
        }
        Ok(())
    }

    /// Waits until the socket takes bytes, then lets `gather` write some; returns how many went.
    ///
    /// The bytes are asked for only when they can go, so that they need not be held across the wait.
    pub(crate) async fn write(
        &self,
        mut gather: impl FnMut(&mut dyn FnMut(&[IoSlice<'_>]) -> io::Result<usize>) -> io::Result<usize>,
    ) -> io::Result<usize> {
        loop {
            let mut ready = self.socket.writable().await?;
            let attempt = ready.try_io(|socket| {
                gather(&mut |parts| {
                    Ok(rustix::net::sendmsg(
                        socket,
                        parts,
                        &mut SendAncillaryBuffer::default(),
                        SendFlags::NOSIGNAL,
                    )?)
                })
            });
            if let Ok(result) = attempt {
                return result;
            }
        }
    }
}
