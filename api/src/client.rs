//! The blocking client. It needs threads of nobody and starts in a fraction of a millisecond.

use std::io::{self, BufReader, Read as _, Write as _};
use std::net::Shutdown;
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pyro_core::Face;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt::socket_peercred;

use crate::daemon_process::{self, StartError};
use crate::error::{ApiError, ErrorCode};
use crate::frame::{
    FRAME_HEAD_BYTES, Frame, FrameError, FrameHead, FrameKind, Input, Stream, encode_input, encode_message,
};
use crate::home::{Home, HomeError};
use crate::message::{API_VERSION, ClientMessage, Hello, Progress, ServerMessage, Welcome};
use crate::operation::{Operation, Request, Response};
use crate::request::WindowSize;
use crate::response::LogEvent;

/// Time within which a daemon that took the connection must answer the handshake: it does nothing else for it.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);

/// Who the client is, for the handshake and for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientInfo {
    /// Name and version, such as `pyro/2.5.0`.
    pub client: String,
    /// The way by which requests come in.
    pub face: Face,
}

/// What to do when no daemon runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// Start one.
    IfNeeded {
        /// The program `pyro`.
        program: PathBuf,
    },
    /// Fail.
    Never,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The home cannot be used.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// No daemon runs, and none was to be started.
    #[error("no daemon runs for {home}", home = home.display())]
    NotRunning {
        /// The home that it would own.
        home: PathBuf,
    },
    /// A daemon could not be started.
    #[error(transparent)]
    Start(#[from] StartError),
    /// Somebody else listens on the socket.
    #[error("the socket of the daemon is served by user {uid}")]
    Stranger {
        /// User id of the process that listens.
        uid: u32,
    },
    /// The daemon does not want this client.
    #[error(transparent)]
    Refused(ApiError),
    /// The connection failed.
    #[error(transparent)]
    Transport(#[from] TransportError),
}

/// Why nothing more comes over a connection.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// The daemon ended, or closed the connection.
    #[error("the connection to the daemon is lost")]
    Lost,
    /// The system refused to read or write.
    #[error("failed to talk to the daemon: {0}")]
    Io(#[source] io::Error),
    /// The daemon sent something that is not a message.
    #[error("failed to understand the daemon: {0}")]
    Frame(#[from] FrameError),
    /// The daemon sent a message at a moment when it must not.
    #[error("the daemon sent something unexpected: {what}")]
    Unexpected {
        /// What came, in a few words.
        what: &'static str,
    },
}

impl From<io::Error> for TransportError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => {
                Self::Lost
            }
            _ => Self::Io(error),
        }
    }
}

/// Why an operation has no result.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// There is no connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The connection ended before the reply.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// The daemon refused or failed.
    #[error(transparent)]
    Failed(ApiError),
}

impl From<ConnectError> for ApiError {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::Refused(refusal) => refusal,
            ConnectError::Start(error) => error.into(),
            ConnectError::Transport(error) => error.into(),
            ConnectError::NotRunning { .. } => Self::new(ErrorCode::DaemonUnavailable, error)
                .with_hint("every other command starts it, `pyro daemon run` runs it in the foreground"),
            ConnectError::Stranger { .. } => Self::new(ErrorCode::DaemonUnavailable, error),
            ConnectError::Home(error) => error.into(),
        }
    }
}

impl From<HomeError> for ApiError {
    fn from(error: HomeError) -> Self {
        let code = match &error {
            HomeError::Io { source, .. } if is_full(source) => ErrorCode::StorageFull,
            HomeError::Io { .. }
            | HomeError::Unset
            | HomeError::TooLong { .. }
            | HomeError::NotOwned { .. }
            | HomeError::Writable { .. } => ErrorCode::HomeUnusable,
        };
        Self::new(code, error).with_hint("PYRO_HOME names the directory that is used")
    }
}

/// Tells whether an error means that there is no room.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

impl From<TransportError> for ApiError {
    fn from(error: TransportError) -> Self {
        let code = match &error {
            TransportError::Lost | TransportError::Io(_) => ErrorCode::DaemonUnavailable,
            TransportError::Frame(_) | TransportError::Unexpected { .. } => ErrorCode::ProtocolViolation,
        };
        Self::new(code, error)
    }
}

impl From<CallError> for ApiError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Connect(error) => error.into(),
            CallError::Transport(error) => error.into(),
            CallError::Failed(error) => error,
        }
    }
}

/// What a daemon sends while an operation is under way.
#[derive(Clone, Debug, PartialEq)]
pub enum Incoming {
    /// The operation got on.
    Progress(Progress),
    /// The command printed something.
    Output(Stream, Vec<u8>),
    /// The log has an event.
    Event(LogEvent),
    /// The operation has ended.
    Reply(Box<Result<Response, ApiError>>),
}

/// A connection to the daemon after its handshake.
#[derive(Debug)]
pub struct Client {
    reader: BufReader<UnixStream>,
    sender: Sender,
    welcome: Welcome,
}

/// The sending side of a connection, for other threads that type or want to end what is under way.
#[derive(Clone, Debug)]
pub struct Sender {
    stream: Arc<Mutex<UnixStream>>,
}

impl Sender {
    /// Asks the daemon to end what is under way; the reply still comes.
    ///
    /// # Errors
    ///
    /// When the connection is lost.
    pub fn cancel(&self) -> Result<(), TransportError> {
        self.send(&ClientMessage::Cancel)
    }

    /// Types into the shell that the connection is attached to.
    ///
    /// # Errors
    ///
    /// When the connection is lost or the piece longer than a frame may be.
    pub fn input(&self, input: &Input) -> Result<(), TransportError> {
        let mut frame = Vec::new();
        encode_input(input, &mut frame)?;
        self.write(&frame)
    }

    /// Tells the size of the terminal that is attached to a shell.
    ///
    /// # Errors
    ///
    /// When the connection is lost.
    pub fn resize(&self, size: WindowSize) -> Result<(), TransportError> {
        self.send(&ClientMessage::Resize(size))
    }

    fn send(&self, message: &ClientMessage) -> Result<(), TransportError> {
        let mut bytes = Vec::new();
        encode_message(message, &mut bytes)?;
        self.write(&bytes)
    }

    fn write(&self, bytes: &[u8]) -> Result<(), TransportError> {
        // A message goes out whole, whichever thread comes first.
        let mut stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(stream.write_all(bytes)?)
    }
}

impl Client {
    /// Connects to the daemon of a home, starting it if that is wanted and needed.
    ///
    /// # Errors
    ///
    /// When no daemon can be reached or started, or when it does not want this client.
    pub fn connect(home: &Home, info: &ClientInfo, start: &Start) -> Result<Self, ConnectError> {
        match (Self::dial(home, info)?, start) {
            (Some(client), _) => Ok(client),
            (None, Start::Never) => Err(ConnectError::NotRunning { home: home.root().to_owned() }),
            (None, Start::IfNeeded { program }) => Self::connect_starting(home, info, program),
        }
    }

    fn connect_starting(home: &Home, info: &ClientInfo, program: &Path) -> Result<Self, ConnectError> {
        let mut starter = daemon_process::Starter::new(home, program)?;
        loop {
            // Another client may have started it while this one waited for the lock.
            if let Some(client) = Self::dial(home, info)? {
                return Ok(client);
            }
            starter.attempt()?;
        }
    }

    /// Connects to a daemon that runs; `None` when none does or when it is about to end.
    fn dial(home: &Home, info: &ClientInfo) -> Result<Option<Self>, ConnectError> {
        let Some(stream) = open(home)? else { return Ok(None) };
        match Self::handshake(stream, info) {
            Ok(client) => Ok(Some(client)),
            Err(ConnectError::Transport(TransportError::Lost)) => Ok(None),
            Err(ConnectError::Refused(error)) if error.code == ErrorCode::DaemonStopping => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Introduces the client on a connection that was just opened.
    pub(crate) fn handshake(stream: UnixStream, info: &ClientInfo) -> Result<Self, ConnectError> {
        let welcome = Welcome { api: 0, version: String::new(), pid: 0 };
        let writer = stream.try_clone().map_err(TransportError::from)?;
        let sender = Sender { stream: Arc::new(Mutex::new(writer)) };
        let mut client = Self { reader: BufReader::new(stream), sender, welcome };
        let timeout =
            |stream: &UnixStream, limit| stream.set_read_timeout(limit).map_err(TransportError::from);
        timeout(client.reader.get_ref(), Some(HANDSHAKE_DEADLINE))?;
        client.sender.send(&ClientMessage::Hello(Hello {
            api: API_VERSION,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            client: info.client.clone(),
            face: info.face,
        }))?;
        client.welcome = match client.read_frame()?.message().map_err(TransportError::from)? {
            ServerMessage::Welcome(welcome) => welcome,
            ServerMessage::Refused(error) => return Err(ConnectError::Refused(error)),
            ServerMessage::Progress(_) | ServerMessage::Event(_) | ServerMessage::Reply(_) => {
                return Err(TransportError::Unexpected { what: "a message before the handshake" }.into());
            }
        };
        timeout(client.reader.get_ref(), None)?;
        Ok(client)
    }

    /// Returns who answered the handshake.
    #[must_use]
    pub const fn daemon(&self) -> &Welcome {
        &self.welcome
    }

    /// Returns a handle with which another thread can type or end what is under way.
    #[must_use]
    pub fn sender(&self) -> Sender {
        self.sender.clone()
    }

    /// Sends a request; [`receive`](Self::receive) then gives what comes, up to the reply.
    ///
    /// # Errors
    ///
    /// When the connection is lost or the request longer than a message may be.
    pub fn send(&mut self, request: impl Into<Request>) -> Result<(), TransportError> {
        self.sender.send(&ClientMessage::Request(request.into()))
    }

    /// Tells whether at least the beginning of a message is here already.
    #[must_use]
    pub fn has_buffered(&self) -> bool {
        !self.reader.buffer().is_empty()
    }

    /// Waits until a message begins, something can be read from `woken`, or the time is over; tells whether the first
    /// holds.
    pub(crate) fn wait(&self, woken: Option<BorrowedFd<'_>>, limit: Option<Duration>) -> io::Result<bool> {
        if self.has_buffered() {
            return Ok(true);
        }
        let mut polled = vec![PollFd::new(self.reader.get_ref(), PollFlags::IN)];
        polled.extend(woken.as_ref().map(|woken| PollFd::new(woken, PollFlags::IN)));
        let limit = limit.map(|limit| Timespec::try_from(limit).expect("limits are short"));
        match poll(&mut polled, limit.as_ref()) {
            Ok(_) => Ok(!polled[0].revents().is_empty()),
            Err(rustix::io::Errno::INTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Ends the connection also for threads that write to it at this moment.
    pub(crate) fn shut_down(&self) {
        // One that is not connected any more is what is wanted.
        let _ended = self.reader.get_ref().shutdown(Shutdown::Both);
    }

    /// Waits for the next message.
    ///
    /// # Errors
    ///
    /// When the connection is lost or the daemon breaks the rules.
    pub fn receive(&mut self) -> Result<Incoming, TransportError> {
        let frame = self.read_frame()?;
        match frame.kind {
            FrameKind::Output(stream) => return Ok(Incoming::Output(stream, frame.payload)),
            FrameKind::Input => return Err(TransportError::Unexpected { what: "input" }),
            FrameKind::Json => {}
        }
        match frame.message()? {
            ServerMessage::Progress(progress) => Ok(Incoming::Progress(progress)),
            ServerMessage::Event(event) => Ok(Incoming::Event(event)),
            ServerMessage::Reply(reply) => Ok(Incoming::Reply(reply)),
            ServerMessage::Refused(error) => Ok(Incoming::Reply(Box::new(Err(error)))),
            ServerMessage::Welcome(_) => Err(TransportError::Unexpected { what: "a second handshake" }),
        }
    }

    /// Asks for an operation and waits for its reply. What comes before the reply goes to `observe`.
    ///
    /// # Errors
    ///
    /// When the daemon refuses or fails, or the connection is lost.
    pub fn call<O: Operation>(
        &mut self,
        operation: O,
        mut observe: impl FnMut(Incoming),
    ) -> Result<O::Response, CallError> {
        self.send(operation)?;
        loop {
            match self.receive()? {
                Incoming::Reply(reply) => return take_reply::<O>(*reply),
                incoming => observe(incoming),
            }
        }
    }

    fn read_frame(&mut self) -> Result<Frame, TransportError> {
        let mut head = [0; FRAME_HEAD_BYTES];
        self.reader.read_exact(&mut head)?;
        let head = FrameHead::decode(head)?;
        let mut payload = vec![0; head.len_bytes()];
        self.reader.read_exact(&mut payload)?;
        Ok(Frame { kind: head.kind(), payload })
    }
}

/// Takes the answer to an operation out of a reply.
pub(crate) fn take_reply<O: Operation>(reply: Result<Response, ApiError>) -> Result<O::Response, CallError> {
    let response = reply.map_err(CallError::Failed)?;
    let unexpected = TransportError::Unexpected { what: "the reply to another operation" };
    O::response(response).ok_or_else(|| unexpected.into())
}

/// Opens the socket of a home; `None` when nobody listens.
pub(crate) fn open(home: &Home) -> Result<Option<UnixStream>, ConnectError> {
    let stream = match UnixStream::connect(home.socket()) {
        Ok(stream) => stream,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            return Ok(None);
        }
        Err(source) => return Err(HomeError::Io { path: home.socket(), source }.into()),
    };
    let peer = socket_peercred(&stream).map_err(|error| TransportError::Io(error.into()))?;
    if peer.uid == rustix::process::geteuid() {
        Ok(Some(stream))
    } else {
        Err(ConnectError::Stranger { uid: peer.uid.as_raw() })
    }
}
