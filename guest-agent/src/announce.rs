//! Telling the host that the guest has booted.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use pyro_protocol::{ANNOUNCE_PORT, Announce, GuestFrame};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use crate::connection::{Connection, ConnectionError};
use crate::vsock::VsockAddress;

/// How often the host is tried. A daemon that restarts during the boot is back within this many pauses; after that it
/// finds the agent by connecting.
const ATTEMPTS: u32 = 20;

/// Time between two attempts.
const PAUSE: Duration = Duration::from_millis(100);

/// Announces the agent to the host; gives up in silence.
pub(crate) async fn announce(announcement: Announce) {
    let frame = GuestFrame::Announce(announcement);
    for _ in 0..ATTEMPTS {
        if attempt(&frame).await.is_ok() {
            return;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn attempt(frame: &GuestFrame) -> Result<(), ConnectionError> {
    Connection::new(connect()?)?.send(frame).await
}

/// Begins to connect. The connection becomes writable when it is made or has failed, and then the first write says
/// which.
fn connect() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::VSOCK, SocketType::STREAM, flags, None)?;
    match rustix::net::connect(&socket, &VsockAddress::host(ANNOUNCE_PORT)) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(error) => Err(error.into()),
    }
}
