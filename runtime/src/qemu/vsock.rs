//! How vsock gets from a guest to this process.
//!
//! Where the host has `/dev/vhost-vsock`, its kernel carries it and guests have addresses that must differ on the whole
//! host. Elsewhere a process per guest, `vhost-device-vsock`, bridges to Unix sockets in the workspace's directory.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pyro_core::WorkspaceId;
use tokio::time::{sleep, timeout};

use super::error::{BootError, LastWords};
use crate::guest::{CONNECTOR, Transport, connect_unix, listen_beside, socket_beside};
use crate::host::{MissingTool, Tool, Tools};
use crate::process::{Detached, Ended, ProcessRef};

/// Device of the host's kernel.
const VHOST_VSOCK: &str = "/dev/vhost-vsock";

/// Socket over which QEMU and the bridge share the device, in the workspace's directory.
const DEVICE_SOCKET: &str = "v.sock";

/// Socket over which the host reaches the guest, in the workspace's directory.
const HOST_SOCKET: &str = "v.uds";

/// Address of a guest behind a bridge of its own, where no other guest can be.
const BRIDGED_CID: u32 = 3;

/// Time for the bridge to listen. It takes milliseconds.
const LISTEN_ALLOWANCE: Duration = Duration::from_secs(10);

/// Time between two looks whether the bridge listens.
const LISTEN_PAUSE: Duration = Duration::from_millis(1);

/// The way of one guest's vsock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Vsock {
    /// The host's kernel.
    Kernel { cid: u32 },
    /// A process that is to be started from this program.
    Bridge { program: PathBuf },
}

impl Vsock {
    /// Chooses the way that this host has.
    pub(super) fn choose(tools: &Tools, workspace: WorkspaceId) -> Result<Self, MissingTool> {
        if File::options().read(true).write(true).open(VHOST_VSOCK).is_ok() {
            return Ok(Self::Kernel { cid: cid_of(workspace) });
        }
        Ok(Self::Bridge { program: tools.require(Tool::VhostDeviceVsock)? })
    }

    /// Returns how the guest is reached.
    pub(super) fn transport(&self, dir: &Path) -> Transport {
        match self {
            Self::Kernel { cid } => Transport::Vsock { cid: *cid },
            Self::Bridge { .. } => Transport::VsockBridge { uds: dir.join(HOST_SOCKET) },
        }
    }
}

/// Returns how the guest of an earlier daemon is reached.
pub(super) fn transport_of(workspace: WorkspaceId, dir: &Path) -> Transport {
    let uds = dir.join(HOST_SOCKET);
    if uds.exists() { Transport::VsockBridge { uds } } else { Transport::Vsock { cid: cid_of(workspace) } }
}

/// Removes the sockets of a bridge that is gone.
pub(super) fn remove_sockets(dir: &Path) -> io::Result<()> {
    let uds = dir.join(HOST_SOCKET);
    for path in [dir.join(DEVICE_SOCKET), socket_beside(&uds), uds] {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => (),
        }
    }
    Ok(())
}

/// Returns the address of a workspace's guest on a host that carries vsock itself: drawn from the id, so that a later
/// daemon knows it, and above those that people give to their machines by hand.
fn cid_of(workspace: WorkspaceId) -> u32 {
    let [first, second, third, fourth, ..] = *workspace.as_bytes();
    u32::from_be_bytes([first & 0x7f, second, third, fourth]) | 0x4000_0000
}

/// A started bridge and its connection for QEMU.
///
/// QEMU gets the connection instead of the path, because the socket's file appears a moment before anybody listens.
pub(super) struct Bridge {
    pub(super) ended: Ended,
    pub(super) device: OwnedFd,
}

/// Starts the bridge of a guest; `started` learns of its process at once.
pub(super) async fn start_bridge(
    program: &Path,
    dir: &Path,
    output: OwnedFd,
    started: &mut Vec<ProcessRef>,
) -> Result<Bridge, BootError> {
    const NAME: &str = "vhost-device-vsock";
    let failed = |source| BootError::Run { program: NAME, source };
    let vm = format!("guest-cid={BRIDGED_CID},socket={DEVICE_SOCKET},uds-path={HOST_SOCKET}");
    let (process, mut ended) =
        Detached::new(program, dir).args(["--vm", &vm]).output(output).spawn().map_err(failed)?;
    started.push(process);
    let socket = dir.join(DEVICE_SOCKET);
    let device = tokio::select! {
        connected = timeout(LISTEN_ALLOWANCE, connect_when_listening(&socket)) => match connected {
            Ok(connected) => connected.map_err(failed)?,
            Err(_elapsed) => {
                let console = LastWords::default();
                return Err(BootError::Silent { waited: LISTEN_ALLOWANCE, console });
            }
        },
        status = ended.wait() => {
            let status = status.map_err(failed)?;
            return Err(BootError::Ended { program: NAME, status, console: LastWords::default() });
        }
    };
    Ok(Bridge { ended, device })
}

/// Starts what connects to the guest of a bridge that listens; `started` learns of its process at once.
pub(super) fn start_connector(
    program: &Path,
    dir: &Path,
    started: &mut Vec<ProcessRef>,
) -> Result<(), BootError> {
    let failed = |source| BootError::Run { program: CONNECTOR, source };
    let asked = listen_beside(&dir.join(HOST_SOCKET)).map_err(failed)?;
    let connector = Detached::new(program, dir).args([CONNECTOR, HOST_SOCKET]).stdin(asked);
    // Without it, connections are made as if there had never been one.
    let (process, _its_end_is_that_of_the_guest) = connector.spawn().map_err(failed)?;
    started.push(process);
    Ok(())
}

async fn connect_when_listening(socket: &Path) -> io::Result<OwnedFd> {
    loop {
        match connect_unix(socket).await {
            Ok(stream) => return Ok(stream.into_std()?.into()),
            Err(error) => match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => sleep(LISTEN_PAUSE).await,
                _ => return Err(error),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_guests_are_neither_reserved_nor_small() {
        for bytes in [[0; 6], [0xff; 6], [0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc]] {
            let cid = cid_of(WorkspaceId::from_bytes(bytes));
            assert!((0x4000_0000..=0x7fff_ffff).contains(&cid), "{cid:#x}");
        }
    }
}
