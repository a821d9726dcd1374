//! The [network](crate::network) of a sandbox: slirp4netns, which makes the sandbox's connections its own.
//!
//! ```text
//! sandbox-init                                  PID 1
//!   becomes slirp4netns                           |  makes its root
//!   |---a device in PID 1's network               |
//!   |---"1"-------------------------------------->|  configures the device
//!   |                                             |  becomes the agent
//!   |<--end of the stream-------------------------|  ends, however
//!   ends
//! ```
//!
//! What must stay true:
//! - slirp4netns ends with PID 1, whoever kills what, because PID 1 has the only other end of its `--exit-fd`. PID 1
//!   does not mind when slirp4netns ends.
//! - slirp4netns is the parent of PID 1 and does not wait for it, so that the pid which it is given cannot become
//!   another process's.
//! - PID 1 is not the agent before slirp4netns is ready, which enters its namespaces until then: an ordinary user may
//!   not look into the agent.
//! - Its command line begins with the workspace's directory, by which
//!   [`processes_with`](crate::process::processes_with) finds it.

use std::convert::Infallible;
use std::env;
use std::fs::File;
use std::io::{self, PipeReader, PipeWriter, Read as _, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::io::{FdFlags, fcntl_setfd};

use super::init::{Doing as _, InitError};
use super::interfaces::{self, MTU, OUTSIDE};
use super::resolver::{self, RESOLVER};
use crate::host::{MissingTool, Tool, Tools};
use crate::network::{NAME_SERVER, SUBNET};

/// The device from which all devices of user-mode networks are made.
const TUN: &str = "/dev/net/tun";

/// Most that is told of what slirp4netns complains of, in bytes.
const COMPLAINTS_LEN_MAX: u64 = 1024;

/// Why no sandbox of this host can have a network.
#[derive(Debug, thiserror::Error)]
pub enum NetworkObstacle {
    /// A program is not there.
    #[error(transparent)]
    MissingTool(#[from] MissingTool),
    /// The device is not there or is not for this user.
    #[error(
        "{TUN} cannot be opened; root can bring it with `modprobe tun` and open it to all with mode 0666"
    )]
    Tun(#[source] io::Error),
}

/// Returns what a sandbox's network lacks on this host; `None` when it lacks nothing.
#[must_use]
pub fn network_obstacle(tools: &Tools) -> Option<NetworkObstacle> {
    slirp4netns(tools).err()
}

/// Returns where slirp4netns is, on a host where it can work.
pub(super) fn slirp4netns(tools: &Tools) -> Result<PathBuf, NetworkObstacle> {
    let program = tools.require(Tool::Slirp4netns)?;
    // Only to open it shows whether the kernel has what is behind it.
    let opened = File::options().read(true).write(true).open(TUN);
    opened.map_err(NetworkObstacle::Tun)?;
    Ok(program)
}

/// What PID 1 has of its network.
#[derive(Debug)]
pub(super) struct Uplink {
    link: UnixStream,
    complaints: PipeReader,
}

/// What the process has that becomes slirp4netns.
#[derive(Debug)]
pub(super) struct Helper {
    link: UnixStream,
    complaints: PipeWriter,
}

/// Makes both ends. Each of the two processes must drop the other one's.
pub(super) fn ends() -> io::Result<(Uplink, Helper)> {
    let (ours, theirs) = UnixStream::pair()?;
    let (read, write) = io::pipe()?;
    Ok((Uplink { link: ours, complaints: read }, Helper { link: theirs, complaints: write }))
}

impl Helper {
    /// Replaces the program of this process, which works in the workspace's directory, by slirp4netns for the network
    /// namespace of `first`.
    pub(super) fn become_slirp4netns(mut self, program: &Path, first: u32) -> Result<Infallible, InitError> {
        const DOING: &str = "start slirp4netns";
        // It closes the first of the two once it is ready.
        let ready = self.link.try_clone().doing(DOING)?;
        for inherited in [&ready, &self.link] {
            fcntl_setfd(inherited, FdFlags::empty()).doing(DOING)?;
        }
        let dir = env::current_dir().doing(DOING)?;
        let error = Command::new(program)
            .arg0(dir.join(Tool::Slirp4netns.binary()))
            .arg(format!("--ready-fd={}", ready.as_raw_fd()))
            .arg(format!("--exit-fd={}", self.link.as_raw_fd()))
            .arg(format!("--cidr={SUBNET}"))
            .arg(format!("--mtu={MTU}"))
            .args(["--enable-sandbox", "--enable-seccomp", &first.to_string(), OUTSIDE])
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            // Once PID 1 is the agent, nobody reads it any more, and complaints are lost without harm.
            .stderr(self.complaints.try_clone().doing(DOING)?)
            .exec();
        // PID 1 may be the first to tell that there is no network, and is to know why.
        let _gone = write!(self.complaints, "{error}");
        Err(error).doing(DOING)
    }
}

impl Uplink {
    /// Waits for slirp4netns and configures the network, in the sandbox's root file system. Returns what has to stay
    /// open as long as the network is wanted.
    pub(super) fn connect(mut self) -> Result<OwnedFd, InitError> {
        self.until_ready().doing("start slirp4netns")?;
        interfaces::connect_outside().doing("configure the network")?;
        resolver::name_server(Path::new(RESOLVER), NAME_SERVER).doing("name the name server")?;
        Ok(self.link.into())
    }

    fn until_ready(&mut self) -> io::Result<()> {
        match self.link.read_exact(&mut [0]) {
            // It has ended and has no more to say.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                let mut said = Vec::new();
                (&mut self.complaints).take(COMPLAINTS_LEN_MAX).read_to_end(&mut said)?;
                let said = String::from_utf8_lossy(&said);
                Err(io::Error::other(match said.trim_end() {
                    "" => "it ended without a word".to_owned(),
                    said => said.to_owned(),
                }))
            }
            done => done,
        }
    }
}
