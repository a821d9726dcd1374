//! `pyro vsock-connector`: makes connections to a guest behind a bridge, and passes them on.
//!
//! `vhost-device-vsock` 0.3.0 does not bear a connection that ends before the guest has answered: until it has read
//! `CONNECT`, it spins, and when it cannot write `OK`, its only thread ends by a panic, so that the guest stays out of
//! reach for good. A daemon can be killed at any time. So this process, which lives as long as the bridge, asks for the
//! connection and keeps it until there is an answer, whoever wants it by then.

use std::cell::Cell;
use std::ffi::OsString;
use std::io::{self, IoSlice, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use tokio::io::AsyncReadExt as _;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::{LocalSet, spawn_local};

use super::passing::{Descriptors, PassingStream};
use super::socket_path::SocketPath;
use super::transport::{connect_bridge, connect_unix};

/// The argument that stands before those of [`connector_main`].
pub(crate) const COMMAND: &str = "vsock-connector";

/// Name of the socket on which it is asked, beside that of the bridge.
const NAME: &str = "c.sock";

/// What comes with a connection: a message has to have a byte.
const HERE: &[u8] = b"!";

/// Most connections that are under way. A guest that has stopped answers none, and daemons ask again and again.
const UNDER_WAY_MAX: usize = 256;

/// Pause after a failed accept, so that a lack of descriptors does not make it spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Returns where the connector of the bridge at `uds` is asked.
pub(crate) fn socket_beside(uds: &Path) -> PathBuf {
    uds.with_file_name(NAME)
}

/// Listens beside the bridge at `uds`; the socket is to be the standard input of a connector.
pub(crate) fn listen_beside(uds: &Path) -> io::Result<OwnedFd> {
    let path = socket_beside(uds);
    let listener = std::os::unix::net::UnixListener::bind(SocketPath::of(&path)?.as_path())?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener.into())
}

/// Returns a connection to the guest that its connector made; `None` when it has no connector, or none any more.
pub(super) async fn connect_through(uds: &Path) -> io::Result<Option<UnixStream>> {
    let asked = match connect_unix(&socket_beside(uds)).await {
        Ok(asked) => asked,
        Err(error) => {
            return match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Ok(None),
                _ => Err(error),
            };
        }
    };
    let descriptors = Descriptors::default();
    let mut answer = [0; HERE.len()];
    let said = PassingStream::new(asked, descriptors.clone()).read(&mut answer).await?;
    match descriptors.take() {
        Some(connection) if said == HERE.len() => {
            let connection = std::os::unix::net::UnixStream::from(connection);
            connection.set_nonblocking(true)?;
            UnixStream::from_std(connection).map(Some)
        }
        _ => Err(io::Error::new(io::ErrorKind::ConnectionRefused, "nobody listens in the guest")),
    }
}

/// Serves on the standard input, a listening socket. The one argument is the bridge's socket. It returns when it cannot
/// serve: it is killed with its guest.
#[must_use]
pub fn connector_main(arguments: &[OsString]) -> ExitCode {
    let [uds] = arguments else {
        complain(&"it is started by the daemon only");
        return ExitCode::FAILURE;
    };
    match serve(Path::new(uds)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

fn complain(what: &dyn std::fmt::Display) {
    // Nobody is left to tell when stderr is gone.
    let _unwritable = writeln!(io::stderr(), "pyro {COMMAND}: {what}");
}

fn serve(uds: &Path) -> io::Result<()> {
    let listener = std::os::unix::net::UnixListener::from(rustix::stdio::stdin().try_clone_to_owned()?);
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, async {
        let listener = UnixListener::from_std(listener)?;
        let under_way = Rc::new(Cell::new(0));
        loop {
            let Ok((asked, _)) = listener.accept().await else {
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            };
            if under_way.get() == UNDER_WAY_MAX {
                continue;
            }
            under_way.set(under_way.get() + 1);
            let (uds, under_way) = (uds.to_owned(), Rc::clone(&under_way));
            spawn_local(async move {
                // Who asked sees that there is no connection, and the bridge that it is not wanted.
                let _refused_or_unwanted = answer(&uds, &asked).await;
                under_way.set(under_way.get() - 1);
            });
        }
    })
}

async fn answer(uds: &Path, asked: &UnixStream) -> io::Result<()> {
    let connection = connect_bridge(uds).await?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let descriptors = [connection.as_fd()];
    ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
    // Nothing was sent before, so there is room.
    rustix::net::sendmsg(asked, &[IoSlice::new(HERE)], &mut ancillary, SendFlags::NOSIGNAL)?;
    Ok(())
}
