//! Ways to reach the agent of a guest.

use std::io;
use std::path::{Path, PathBuf};

use pyro_protocol::AGENT_PORT;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio_vsock::{VsockAddr, VsockStream};

use super::connector::connect_through;
use super::passing::{Descriptors, PassingStream};
use super::socket_path::SocketPath;

/// Longest answer of the bridge to `CONNECT`: `OK `, a number of 32 bits, a line feed, and some room.
const BRIDGE_ANSWER_MAX: usize = 32;

/// How the agent of a guest is reached.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// The Unix socket of a process that bridges to the guest's vsock, as `vhost-device-vsock` and Firecracker do. Where a
    /// connector listens beside it, that one is asked.
    VsockBridge {
        /// The socket.
        uds: PathBuf,
    },
    /// The Unix socket on which the agent itself listens.
    Unix {
        /// The socket.
        path: PathBuf,
    },
    /// `AF_VSOCK` of the host's kernel.
    Vsock {
        /// Address of the guest.
        cid: u32,
    },
}

/// A byte stream to an agent.
pub(super) trait Duplex: AsyncRead + AsyncWrite + Send + Sync + Unpin {}

impl Duplex for UnixStream {}
impl Duplex for VsockStream {}
impl Duplex for PassingStream {}

impl Transport {
    /// Connects to the agent.
    pub(super) async fn connect(&self) -> io::Result<Box<dyn Duplex>> {
        match self {
            Self::VsockBridge { uds } => match connect_through(uds).await? {
                Some(stream) => Ok(Box::new(stream)),
                None => Ok(Box::new(connect_bridge(uds).await?)),
            },
            Self::Unix { path } => Ok(Box::new(connect_unix(path).await?)),
            Self::Vsock { cid } => {
                Ok(Box::new(VsockStream::connect(VsockAddr::new(*cid, AGENT_PORT)).await?))
            }
        }
    }
}

impl Transport {
    /// Connects to the agent; open files that it sends along are put aside, where the transport can carry any.
    pub(super) async fn connect_passing(&self, descriptors: &Descriptors) -> io::Result<Box<dyn Duplex>> {
        match self {
            Self::Unix { path } => {
                Ok(Box::new(PassingStream::new(connect_unix(path).await?, descriptors.clone())))
            }
            Self::VsockBridge { .. } | Self::Vsock { .. } => self.connect().await,
        }
    }
}

/// Connects to the agent behind the bridge at `uds`.
pub(super) async fn connect_bridge(uds: &Path) -> io::Result<UnixStream> {
    let mut stream = connect_unix(uds).await?;
    stream.write_all(format!("CONNECT {AGENT_PORT}\n").as_bytes()).await?;
    accept_bridge_answer(&mut stream).await?;
    Ok(stream)
}

/// Connects to a Unix socket by a path of any length.
pub(crate) async fn connect_unix(path: &Path) -> io::Result<UnixStream> {
    UnixStream::connect(SocketPath::of(path)?.as_path()).await
}

/// Reads `OK <number>\n` and not a byte more. The number is the bridge's own port and of no use.
async fn accept_bridge_answer(stream: &mut UnixStream) -> io::Result<()> {
    let mut answer = Vec::with_capacity(BRIDGE_ANSWER_MAX);
    loop {
        match stream.read_u8().await {
            Ok(b'\n') => break,
            Ok(byte) => answer.push(byte),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(io::Error::new(io::ErrorKind::ConnectionRefused, "nobody listens in the guest"));
            }
            Err(error) => return Err(error),
        }
        if answer.len() > BRIDGE_ANSWER_MAX {
            return Err(unexpected_bridge_answer());
        }
    }
    let number = answer.strip_prefix(b"OK ").ok_or_else(unexpected_bridge_answer)?;
    if number.is_empty() || !number.iter().all(u8::is_ascii_digit) {
        return Err(unexpected_bridge_answer());
    }
    Ok(())
}

fn unexpected_bridge_answer() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the vsock bridge did not answer OK")
}
