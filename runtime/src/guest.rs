//! A booted guest, seen from the host: the host's end of `docs/guest-protocol.md`, the same for every backend.
//!
//! Each operation has a connection of its own, and everything that comes back is hostile input: frames are bounded by
//! the codec, every answer that is due has a deadline, and an answer that the state does not allow ends the
//! connection with [`GuestError::Protocol`]. What a connection's end means for the commands behind it is decided by
//! the caller: the agent keeps them, and [`Guest::attach`] goes on where the host stands.

mod announcement;
mod connection;
mod connector;
mod error;
mod files;
mod import;
mod input;
mod operation;
mod passing;
mod socket_path;
#[cfg(test)]
mod tests;
mod transport;

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use pyro_core::Evidence;
use pyro_protocol::{
    Attach, BootId, Exec, Files, Generation, GuestFrame, HostFrame, Import, OPERATIONS_MAX,
    Operation as KeptOperation, Phase, Shell,
};
use tokio::time::Instant;

use connection::{Connection, Deadline};
use input::InputSide;
use passing::Descriptors;

pub use announcement::{Announcement, Announcements};
pub use connector::connector_main;
pub(crate) use connector::{COMMAND as CONNECTOR, listen_beside, socket_beside};
pub use error::{Failure, GuestError};
pub use files::{FilesError, GuestFiles, OpenFile};
pub use import::{ImportError, ImportFailure, ImportSession, ImportState, Outlet, OutletClosed, Sent};
pub use operation::{Observation, Operation};
pub use transport::Transport;

pub use pyro_protocol::{FileAnswer, FileCall, INPUT_HELD_MAX, Stream, TerminalSize};
pub(crate) use transport::connect_unix;

/// Time for a guest to take a connection and to answer a request. A busy guest under TCG on a loaded host has been
/// seen to need seconds; one that needs longer is not going to answer.
const ANSWER_ALLOWANCE: Duration = Duration::from_secs(30);

/// A guest whose agent can be talked to. Clones talk to the same agent.
#[derive(Clone, Debug)]
pub struct Guest {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    transport: Transport,
    boot_id: OnceLock<BootId>,
    /// A connection on which the last question was answered, for the next request: to open one takes two round trips,
    /// which are 10 ms under TCG.
    idle: Mutex<Option<Connection>>,
}

/// A command to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecSpec {
    /// The host's number of the operation; it runs at most once in the life of the guest.
    pub op: u64,
    /// Text for `/bin/sh -lc`.
    pub command: String,
    /// Absolute path of the working directory; `None` leaves it to the guest (`/`).
    pub cwd: Option<String>,
    /// Whether the guest makes that directory when it is missing, or fails then.
    pub create_cwd: bool,
    /// Time after which the guest ends the command's process tree, counted from its start.
    pub timeout: Duration,
}

/// A shell to open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShellSpec {
    /// The host's number of the operation, among those of commands; it is opened at most once in the life of the guest.
    pub op: u64,
    /// Absolute path of the directory to begin in.
    pub cwd: String,
    /// Whether the guest makes that directory when it is missing, or fails then.
    pub create_cwd: bool,
    /// Size of the terminal.
    pub size: TerminalSize,
    /// Variables laid over those that every shell has.
    pub env: Vec<(String, String)>,
}

impl Guest {
    /// Returns the guest behind a transport; nothing is sent yet.
    #[must_use]
    pub fn new(transport: Transport) -> Self {
        Self::with(transport, OnceLock::new())
    }

    /// Returns the guest that announced itself: an agent of another boot id is not taken for it.
    #[must_use]
    pub fn announced(transport: Transport, announcement: &Announcement) -> Self {
        Self::with(transport, OnceLock::from(announcement.boot_id))
    }

    fn with(transport: Transport, boot_id: OnceLock<BootId>) -> Self {
        Self { shared: Arc::new(Shared { transport, boot_id, idle: Mutex::new(None) }) }
    }

    /// Returns how the guest is reached.
    #[must_use]
    pub fn transport(&self) -> &Transport {
        &self.shared.transport
    }

    /// Runs a command. When the guest has an operation of that number already, nothing runs and that one is followed
    /// from the start of what the guest keeps of it.
    ///
    /// # Errors
    ///
    /// [`GuestError::TooLong`] when the request does not fit into a frame, and those of a failed connection. An error
    /// does not tell whether the guest got the request: [`operations`](Self::operations) does.
    pub async fn exec(&self, spec: ExecSpec) -> Result<Operation, GuestError> {
        let ExecSpec { op, command, cwd, create_cwd, timeout } = spec;
        let timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        let exec = Exec { op, command, cwd, create_cwd, env: Vec::new(), timeout_ms };
        let connection = self.request(&HostFrame::Exec(exec)).await?;
        self.keep_one_ready();
        Ok(Operation::executed(connection, op, timeout))
    }

    /// Opens a shell. When the guest has an operation of that number already, that one is followed from the start of
    /// what the guest keeps of it. What its terminal shows is [`Stream::Stdout`].
    ///
    /// # Errors
    ///
    /// [`GuestError::TooOld`], and those of [`exec`](Self::exec).
    pub async fn open_shell(&self, spec: ShellSpec) -> Result<Operation, GuestError> {
        let ShellSpec { op, cwd, create_cwd, size, env } = spec;
        let shell = HostFrame::Shell(Shell { op, cwd, create_cwd, env, size });
        let connection = self.request_of(Generation::SECOND, "shells", &shell).await?;
        Ok(Operation::opened(connection, op))
    }

    /// Follows a shell from the first byte of its output that the host lacks. `input_len` counts the bytes that were
    /// ever to be typed into it: the guest may have fewer of them.
    ///
    /// Whether the guest knows the shell is told by the first [`Operation::next`].
    ///
    /// # Errors
    ///
    /// [`GuestError::TooOld`], and those of a failed connection.
    pub async fn attach_shell(&self, op: u64, offset: u64, input_len: u64) -> Result<Operation, GuestError> {
        let attach = Attach { op, stdout_offset: offset, stderr_offset: 0 };
        let request = HostFrame::Attach(attach);
        let connection = self.request_of(Generation::SECOND, "shells", &request).await?;
        Ok(Operation::attached(connection, attach, Some(InputSide::new(input_len))))
    }

    /// Follows a command from the first byte of each stream that the host lacks.
    ///
    /// Whether the guest knows the command is told by the first [`Operation::next`].
    ///
    /// # Errors
    ///
    /// Those of a failed connection.
    pub async fn attach(
        &self,
        op: u64,
        stdout_offset: u64,
        stderr_offset: u64,
    ) -> Result<Operation, GuestError> {
        let attach = Attach { op, stdout_offset, stderr_offset };
        let connection = self.request(&HostFrame::Attach(attach)).await?;
        Ok(Operation::attached(connection, attach, None))
    }

    /// Begins to bring files into a directory of the guest, which is made when it is missing. A number is carried out at
    /// most once in the life of the guest.
    ///
    /// # Errors
    ///
    /// [`GuestError::TooOld`], and those of a failed connection. Nothing has happened in the guest then.
    pub async fn import(&self, op: u64, destination: &str) -> Result<ImportSession, GuestError> {
        let import = Import { op, destination: destination.to_owned() };
        let request = HostFrame::Import(import);
        Ok(ImportSession::new(self.request_of(Generation::SECOND, "imports", &request).await?))
    }

    /// Returns what became of an import. The guest remembers the last 64.
    ///
    /// # Errors
    ///
    /// [`GuestError::TooOld`], and those of a failed connection.
    pub async fn ask_import(&self, op: u64) -> Result<ImportState, GuestError> {
        let request = HostFrame::AskImport { op };
        let connection = self.request_of(Generation::SECOND, "imports", &request).await?;
        match self.answer(connection).await? {
            GuestFrame::ImportState(state) => Ok(ImportState::from(state)),
            _ => Err(GuestError::Protocol("its answer to AskImport is of another kind")),
        }
    }

    /// Asks for the files of a directory, which is made when it is missing. Each call has `allowance` to be answered.
    ///
    /// # Errors
    ///
    /// [`GuestError::TooOld`], [`GuestError::Failed`] when the directory cannot be opened, and those of a failed connection.
    pub async fn files(&self, root: &str, allowance: Duration) -> Result<GuestFiles, GuestError> {
        let deadline = Deadline::within(allowance.min(ANSWER_ALLOWANCE));
        let descriptors = Descriptors::default();
        let opened = Connection::open_passing(&self.shared.transport, &descriptors, deadline).await?;
        let mut connection = self.welcomed(opened, deadline).await?;
        if connection.generation() < files::SINCE {
            return Err(GuestError::TooOld { what: "files" });
        }
        let files = Files { root: root.to_owned(), create_root: true };
        connection.send_by(&HostFrame::Files(files), deadline).await?;
        match connection.receive_by(deadline, "an answer").await? {
            GuestFrame::Done => Ok(GuestFiles::start(connection, descriptors, allowance)),
            GuestFrame::Failed(failed) => Err(GuestError::Failed(Failure::from(failed))),
            _ => Err(GuestError::Protocol("its answer to Files is of another kind")),
        }
    }

    /// Returns the operations that the guest keeps, by ascending number.
    ///
    /// # Errors
    ///
    /// Those of a failed connection.
    pub async fn operations(&self) -> Result<Vec<KeptOperation>, GuestError> {
        match self.ask(&HostFrame::Operations).await? {
            GuestFrame::Operations(operations) => {
                let ascending = operations.is_sorted_by(|left, right| left.op < right.op);
                if operations.len() > OPERATIONS_MAX || !ascending {
                    return Err(GuestError::Protocol("its list of operations is too long or out of order"));
                }
                Ok(operations)
            }
            _ => Err(GuestError::Protocol("its answer to Operations is of another kind")),
        }
    }

    /// Returns what the guest's journal says of a command or shell.
    ///
    /// # Errors
    ///
    /// Those of a failed connection.
    pub async fn evidence(&self, op: u64) -> Result<Evidence, GuestError> {
        let kept = self.operations().await?.into_iter().find(|kept| kept.op == op);
        let Some(kept) = kept else { return Ok(Evidence::Unknown) };
        Ok(match kept.phase {
            Phase::Starting | Phase::Running(_) => {
                Evidence::Running { stdout_len: kept.stdout.end, stderr_len: kept.stderr.end }
            }
            Phase::Exited(exited) => Evidence::Exited { status: operation::status_of(exited.status)? },
            Phase::Failed(failed) => Evidence::Failed { reason: Failure::from(failed).to_string() },
        })
    }

    /// Sets the guest's clock to a time in microseconds since 1970-01-01 00:00 UTC.
    ///
    /// # Errors
    ///
    /// [`GuestError::Failed`] when the guest could not, and those of a failed connection.
    pub async fn set_clock(&self, unix_micros: u64) -> Result<(), GuestError> {
        match self.ask(&HostFrame::SetClock { unix_micros }).await? {
            GuestFrame::Done => Ok(()),
            GuestFrame::Failed(failed) => Err(GuestError::Failed(Failure::from(failed))),
            _ => Err(GuestError::Protocol("its answer to SetClock is of another kind")),
        }
    }

    /// Asks the guest to end itself: it kills every process, syncs its file systems and powers off. Returns when it
    /// has agreed, not when it is gone.
    ///
    /// # Errors
    ///
    /// Those of a failed connection.
    pub async fn shutdown(&self) -> Result<(), GuestError> {
        match self.ask(&HostFrame::Shutdown).await? {
            GuestFrame::Done => Ok(()),
            _ => Err(GuestError::Protocol("its answer to Shutdown is of another kind")),
        }
    }

    /// Asks the guest to end itself as [`shutdown`](Self::shutdown) does, and to give its commands and shells `grace` to
    /// end by themselves before. An agent that is too old for it kills them at once.
    ///
    /// # Errors
    ///
    /// Those of a failed connection.
    pub async fn terminate(&self, grace: Duration) -> Result<(), GuestError> {
        let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        let request = HostFrame::Terminate { grace_ms };
        let connection = match self.request_of(Generation::SECOND, "a gentle end", &request).await {
            Err(GuestError::TooOld { .. }) => return self.shutdown().await,
            connection => connection?,
        };
        match self.answer(connection).await? {
            GuestFrame::Done => Ok(()),
            _ => Err(GuestError::Protocol("its answer to Terminate is of another kind")),
        }
    }

    /// Asks for a sign of life and returns how long it took.
    ///
    /// # Errors
    ///
    /// Those of a failed connection.
    pub async fn ping(&self) -> Result<Duration, GuestError> {
        let asked = Instant::now();
        match self.ask(&HostFrame::Ping).await? {
            GuestFrame::Pong => Ok(asked.elapsed()),
            _ => Err(GuestError::Protocol("its answer to Ping is of another kind")),
        }
    }

    /// Sends a request that has one answer.
    async fn ask(&self, request: &HostFrame) -> Result<GuestFrame, GuestError> {
        let connection = self.request(request).await?;
        self.answer(connection).await
    }

    /// Returns the one answer to a request, and keeps the connection for the next one.
    async fn answer(&self, mut connection: Connection) -> Result<GuestFrame, GuestError> {
        let answer = connection.receive_by(Deadline::within(ANSWER_ALLOWANCE), "an answer").await?;
        if matches!(answer, GuestFrame::Done | GuestFrame::Pong) {
            *self.idle() = Some(connection);
        }
        Ok(answer)
    }

    /// Makes a connection for the next request while this one is under way.
    fn keep_one_ready(&self) {
        let guest = self.clone();
        tokio::spawn(async move {
            // The next request makes its own where this one fails, and tells why.
            if let Ok(connection) = guest.connect(Deadline::within(ANSWER_ALLOWANCE)).await {
                guest.idle().get_or_insert(connection);
            }
        });
    }

    async fn connect(&self, deadline: Deadline) -> Result<Connection, GuestError> {
        let opened = Connection::open(&self.shared.transport, deadline).await?;
        self.welcomed(opened, deadline).await
    }

    async fn welcomed(
        &self,
        mut connection: Connection,
        deadline: Deadline,
    ) -> Result<Connection, GuestError> {
        let welcome = connection.welcome(deadline).await?;
        if *self.shared.boot_id.get_or_init(|| welcome.boot_id) != welcome.boot_id {
            return Err(GuestError::Restarted);
        }
        Ok(connection)
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Option<Connection>> {
        self.shared.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a request, on the idle connection if there is one and it takes it.
    async fn request(&self, request: &HostFrame) -> Result<Connection, GuestError> {
        self.request_of(Generation::FIRST, "this version", request).await
    }

    /// Sends a request that exists since a generation; `what` is what an older agent cannot do.
    async fn request_of(
        &self,
        since: Generation,
        what: &'static str,
        request: &HostFrame,
    ) -> Result<Connection, GuestError> {
        let deadline = Deadline::within(ANSWER_ALLOWANCE);
        let idle = self.idle().take();
        if let Some(mut connection) = idle
            && connection.generation() >= since
            && connection.send_by(request, deadline).await.is_ok()
        {
            return Ok(connection);
        }
        let mut connection = self.connect(deadline).await?;
        if connection.generation() < since {
            return Err(GuestError::TooOld { what });
        }
        connection.send_by(request, deadline).await?;
        Ok(connection)
    }
}
