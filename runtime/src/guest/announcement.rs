//! The guest's first word: it connects to the host once it has booted.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pyro_protocol::{ANNOUNCE_PORT, BootId, GenerationRange, GuestFrame};
use tokio::net::UnixListener;

use super::connection::{Connection, Deadline};
use super::error::{GuestError, cut};
use super::socket_path::SocketPath;

/// Time for the agent to send its announcement once it has connected.
const ANNOUNCE_ALLOWANCE: Duration = Duration::from_secs(10);

/// Longest version of an agent that is kept, in bytes: it goes into the log.
const VERSION_LEN_MAX: usize = 64;

/// What a guest says of itself after its boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// Version of the agent, for people. The guest's text, cut to 64 bytes.
    pub agent_version: String,
    /// Which run of the agent this is.
    pub boot_id: BootId,
}

/// The socket on which the announcement of one guest arrives. It is removed when this is dropped, so that nothing in
/// the guest can reach the host afterwards.
#[derive(Debug)]
pub struct Announcements {
    listener: UnixListener,
    path: PathBuf,
}

impl Announcements {
    /// Listens where the vsock bridge at `uds` connects to when the guest does.
    ///
    /// # Errors
    ///
    /// When the socket cannot be made.
    pub fn bind(uds: &Path) -> io::Result<Self> {
        let mut path = uds.as_os_str().to_owned();
        path.push(format!("_{ANNOUNCE_PORT}"));
        let path = PathBuf::from(path);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => (),
        }
        let listener = UnixListener::bind(SocketPath::of(&path)?.as_path())?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        Ok(Self { listener, path })
    }

    /// Waits until the guest announces itself, however long that takes.
    ///
    /// # Errors
    ///
    /// [`GuestError::Incompatible`] when the agent speaks another protocol, and those of a failed connection.
    pub async fn next(&self) -> Result<Announcement, GuestError> {
        let (stream, _address) = self.listener.accept().await.map_err(GuestError::Broken)?;
        let mut connection = Connection::over(Box::new(stream));
        match connection.receive_by(Deadline::within(ANNOUNCE_ALLOWANCE), "an announcement").await? {
            GuestFrame::Announce(announce) => {
                if GenerationRange::SUPPORTED.newest_common(announce.generations).is_none() {
                    return Err(GuestError::Incompatible { agent: announce.generations });
                }
                let agent_version = cut(announce.agent_version, VERSION_LEN_MAX);
                Ok(Announcement { agent_version, boot_id: announce.boot_id })
            }
            _ => Err(GuestError::Protocol("its first frame is no announcement")),
        }
    }
}

impl Drop for Announcements {
    fn drop(&mut self) {
        // A socket file that stays is found and removed with its directory.
        drop(fs::remove_file(&self.path));
    }
}
