//! What a request can fail with. All codes are here; `docs/exit-codes.md` explains each.

use std::fmt;

use pyro_core::Rejection;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A failure as clients see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// What to tell programs.
    pub code: ErrorCode,
    /// What to tell people: one sentence without a full stop.
    pub message: String,
    /// What they can do about it; `None` when there is nothing to say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl ApiError {
    /// Returns an error without a hint.
    pub fn new(code: ErrorCode, message: impl fmt::Display) -> Self {
        Self { code, message: message.to_string(), hint: None }
    }

    /// Adds what people can do about it.
    #[must_use]
    pub fn with_hint(mut self, hint: impl fmt::Display) -> Self {
        self.hint = Some(hint.to_string());
        self
    }
}

impl From<Rejection> for ApiError {
    fn from(rejection: Rejection) -> Self {
        let code = match &rejection {
            Rejection::UnknownEnvironment { .. } => ErrorCode::UnknownEnvironment,
            Rejection::UnknownWorkspace { .. } => ErrorCode::UnknownWorkspace,
            Rejection::UnknownExec { .. } => ErrorCode::UnknownExec,
            Rejection::UnknownShell { .. } => ErrorCode::UnknownShell,
            Rejection::OutOfRange { .. }
            | Rejection::InvalidText { .. }
            | Rejection::EmptyCommand
            | Rejection::NulInCommand
            | Rejection::CommandTooLong { .. } => ErrorCode::InvalidArgument,
            Rejection::NameTaken { .. } => ErrorCode::NameTaken,
            Rejection::WrongPhase { .. } | Rejection::WrongShellPhase { .. } => ErrorCode::InvalidState,
            Rejection::LimitReached { .. } => ErrorCode::LimitReached,
            // They are about ids and facts that only the daemon makes up.
            Rejection::WorkspaceExists { .. } | Rejection::ShellExists { .. } | Rejection::Stale => {
                ErrorCode::Internal
            }
        };
        Self::new(code, rejection)
    }
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $word:literal,)+) => {
        /// A stable word for programs.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum ErrorCode {
            $($(#[$doc])* $name,)+
        }

        impl ErrorCode {
            /// All codes, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// Returns the word.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $word,)+
                }
            }
        }
    };
}

codes! {
    /// An argument has a value that is never possible.
    InvalidArgument = "invalid_argument",
    /// The catalog has no such environment.
    UnknownEnvironment = "unknown_environment",
    /// There is no such VM.
    UnknownVm = "unknown_vm",
    /// There is no such workspace.
    UnknownWorkspace = "unknown_workspace",
    /// There is no such command in the workspace, or it has ended.
    UnknownExec = "unknown_exec",
    /// There is no such shell in the workspace, or it was closed.
    UnknownShell = "unknown_shell",
    /// More than one VM, workspace or shell begins so.
    AmbiguousId = "ambiguous_id",
    /// Another workspace has the name.
    NameTaken = "name_taken",
    /// The VM or workspace is in a state in which this is not possible.
    InvalidState = "invalid_state",
    /// Its time to live was over, so it was deleted.
    Expired = "expired",
    /// A bound on the host's resources is reached.
    LimitReached = "limit_reached",
    /// The request id was used before, for another request.
    RequestIdReused = "request_id_reused",
    /// The request was carried out before, and its result cannot be given any more; the message says what came of it.
    ResultGone = "result_gone",
    /// The request was canceled.
    Canceled = "canceled",
    /// The environment could not be installed, or its files are damaged.
    EnvironmentUnavailable = "environment_unavailable",
    /// A program that is needed is not installed on the host.
    ToolMissing = "tool_missing",
    /// No guest could be booted.
    GuestUnavailable = "guest_unavailable",
    /// The command could not be started in the guest.
    ExecFailed = "exec_failed",
    /// What became of the command cannot be known.
    ExecLost = "exec_lost",
    /// The shell could not be started in the guest.
    ShellFailed = "shell_failed",
    /// The shell's job does not read, and no more input can be held for it.
    ShellBusy = "shell_busy",
    /// The shell ended before it took the input, which is on record.
    ShellEnded = "shell_ended",
    /// The guest of the shell is gone.
    ShellLost = "shell_lost",
    /// The seed or source is not there, or is neither a directory nor an archive.
    SourceUnusable = "source_unusable",
    /// The seed or source holds something that is not allowed; nothing was brought.
    SourceRefused = "source_refused",
    /// The files could not be brought into the guest; the workspace is as before.
    SyncFailed = "sync_failed",
    /// Whether the files are in place cannot be known.
    SyncLost = "sync_lost",
    /// The tree of files could not be mounted, or a mount could not be taken away.
    MountFailed = "mount_failed",
    /// The disk that holds pyro's files is full.
    StorageFull = "storage_full",
    /// Pyro's files could not be read or written.
    StorageFailed = "storage_failed",
    /// The event log had a write error and takes no more events until the daemon is restarted.
    LogPoisoned = "log_poisoned",
    /// The event log is damaged.
    LogCorrupt = "log_corrupt",
    /// The beginning of the event log that was asked for is not kept any more.
    HistoryCompacted = "history_compacted",
    /// The home cannot be used.
    HomeUnusable = "home_unusable",
    /// The configuration file is wrong.
    InvalidConfig = "invalid_config",
    /// There is no daemon, and it could not be started or is not wanted.
    DaemonUnavailable = "daemon_unavailable",
    /// Another daemon owns the home.
    DaemonRunning = "daemon_running",
    /// The daemon is about to end.
    DaemonStopping = "daemon_stopping",
    /// Client and daemon do not speak the same version.
    VersionMismatch = "version_mismatch",
    /// The peer broke the rules of the socket.
    ProtocolViolation = "protocol_violation",
    /// The operation does not exist on this host or in this version.
    Unsupported = "unsupported",
    /// The client could not print what it got.
    OutputFailed = "output_failed",
    /// A defect of pyro.
    Internal = "internal",
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for ErrorCode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for ErrorCode {
    /// A word of a newer version counts as a defect that cannot be told apart, so that its message still gets through.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let word = String::deserialize(deserializer)?;
        Ok(Self::ALL.iter().copied().find(|code| code.as_str() == word).unwrap_or(Self::Internal))
    }
}

impl JsonSchema for ErrorCode {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ErrorCode".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let words: Vec<_> = Self::ALL.iter().map(|code| code.as_str()).collect();
        schemars::json_schema!({ "type": "string", "enum": words })
    }
}
