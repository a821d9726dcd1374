//! The socket on which the agent serves.

use std::io;
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, SocketFlags, SocketType};
use tokio::io::unix::AsyncFd;

use crate::connection::Connection;
use crate::readiness;
use crate::vsock::VsockAddress;

/// Connections that may wait to be accepted; accepting is fast, so that only a burst gets here.
const BACKLOG: i32 = 128;

/// A listening socket, of vsock or Unix.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: AsyncFd<OwnedFd>,
}

impl Listener {
    /// Listens on a vsock port of this machine.
    pub(crate) fn vsock(port: u32) -> io::Result<Self> {
        let socket =
            rustix::net::socket_with(AddressFamily::VSOCK, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        rustix::net::bind(&socket, &VsockAddress::any(port))?;
        rustix::net::listen(&socket, BACKLOG)?;
        Self::new(socket)
    }

    /// Takes over a socket that listens already.
    pub(crate) fn new(socket: OwnedFd) -> io::Result<Self> {
        Ok(Self { socket: readiness::watch(socket)? })
    }

    /// Returns the next connection.
    pub(crate) async fn accept(&self) -> io::Result<Connection> {
        loop {
            let mut ready = self.socket.readable().await?;
            let accept =
                |socket: &AsyncFd<OwnedFd>| Ok(rustix::net::accept_with(socket, SocketFlags::CLOEXEC)?);
            match ready.try_io(accept) {
                Ok(socket) => return Connection::new(socket?),
                Err(_not_ready) => {}
            }
        }
    }
}
