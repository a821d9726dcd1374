//! What goes over the socket as JSON, and the handshake.

use pyro_core::{Face, RequestId};
use serde::{Deserialize, Serialize};

use crate::error::ApiError;
use crate::frame::Input;
use crate::frame::Stream;
use crate::operation::{Request, Response};
use crate::request::WindowSize;
use crate::response::{CommandRecord, LogEvent, SyncResult};

/// Version of everything that goes over the socket. Client and daemon must agree on it.
///
/// The frames, [`Hello`] and the refusal of it stay as they are in all versions: a client can always find out with whom it
/// cannot talk.
pub const API_VERSION: u32 = 6;

/// What a client sends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientMessage {
    /// The first message of a connection.
    Hello(Hello),
    /// Asks for an operation; the next one may follow its reply.
    Request(Request),
    /// Ends the operation that is under way. Its reply still comes; when there is none, nothing happens.
    Cancel,
    /// What a person types into the shell that the client is attached to. It travels as a frame of its own kind, not as
    /// JSON. [`Progress::Typed`] acknowledges it.
    #[serde(skip)]
    Input(Input),
    /// The client's terminal has another size from now on.
    Resize(WindowSize),
}

/// Who connects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The [`API_VERSION`] that it speaks.
    pub api: u32,
    /// Version of the program.
    pub version: String,
    /// Name and version of the program, such as `pyro/2.5.0`, for the log.
    pub client: String,
    /// The way by which its requests come in.
    #[serde(with = "face")]
    pub face: Face,
}

/// What a daemon sends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServerMessage {
    /// Answers [`Hello`]: requests may follow.
    Welcome(Welcome),
    /// Answers [`Hello`] or something that breaks the rules: the connection ends.
    Refused(ApiError),
    /// The operation under way got on.
    Progress(Progress),
    /// The log has an event.
    Event(LogEvent),
    /// The operation under way has ended.
    Reply(Box<Result<Response, ApiError>>),
}

/// Who answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The [`API_VERSION`] that it speaks.
    pub api: u32,
    /// Version of the program.
    pub version: String,
    /// Process id of the daemon.
    pub pid: u32,
}

/// How far an operation has come.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Progress {
    /// An environment is being installed; a `run` does so when it is missing.
    Pull(PullProgress),
    /// A command is about to run.
    Run(RunProgress),
    /// A command that ended; its output follows.
    Record(CommandRecord),
    /// Files are on their way.
    Sync(SyncProgress),
    /// A push that is one of several has ended.
    Synced(SyncResult),
    /// A push that is one of several had no effect; it is tried again with the next change.
    SyncFailed(ApiError),
    /// A client follows a shell or is attached to it; it comes before the output.
    Joined {
        /// Where the output begins that comes from now on.
        cursor: u64,
    },
    /// A client that follows the log has all that was there when it asked; what comes now is new.
    CaughtUp {
        /// Number of the last event that cannot come any more, wanted or not; 0 when the first one can.
        seq: u64,
    },
    /// What a client typed is durable, up to this piece of it: it reaches the shell once, whatever becomes of the daemon.
    Typed {
        /// The id of the piece.
        #[serde(with = "crate::request_id::required")]
        request_id: RequestId,
    },
    /// Bytes of the output are not there any more; what follows comes from behind them.
    Gap {
        /// Of which stream; a terminal is standard output.
        stream: Stream,
        /// Position of the first of them.
        from: u64,
        /// Position behind the last of them.
        to: u64,
        /// Why.
        cause: GapCause,
    },
}

/// Why bytes of the output are not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GapCause {
    /// There was too much: they were dropped, and an event says so.
    Retention,
    /// The log tells of them, and their file does not have them: somebody has shortened or deleted it.
    Missing,
}

/// How far files have come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncProgress {
    /// What is being done.
    pub phase: SyncPhase,
    /// Files, directories and links that are done in this phase.
    pub entries: u64,
    /// Bytes that are done in this phase.
    pub bytes: u64,
    /// Files, directories and links in all; `None` while that is being found out.
    pub entries_total: Option<u64>,
    /// Bytes in all; `None` while that is being found out.
    pub bytes_total: Option<u64>,
}

/// What is being done with files that are brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SyncPhase {
    /// They are read and checked.
    Check,
    /// They are sent to the guest.
    Send,
}

/// How far the installation of an environment has come.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PullProgress {
    /// Which environment.
    pub environment: String,
    /// What is being done, in one word; the last one is `ready`.
    pub phase: String,
    /// Part of the whole that is done, from 0 to 1, never falling; `None` while that cannot be known.
    pub fraction: Option<f64>,
    /// What is being done, for people.
    pub detail: String,
}

/// How far a `run` has come. The phases come in this order, and again from the first after a new connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunProgress {
    /// The VM is being created.
    Create {
        /// Its environment.
        environment: String,
    },
    /// The VM boots.
    Start {
        /// Its id.
        vm_id: String,
    },
    /// The command is sent to the guest.
    Execute {
        /// Id of the VM.
        vm_id: String,
    },
}

/// The words for [`Face`] on the socket.
pub(crate) mod face {
    use pyro_core::Face;
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer, de};

    const WORDS: [(Face, &str); 5] = [
        (Face::Daemon, "daemon"),
        (Face::Cli, "cli"),
        (Face::Mcp, "mcp"),
        (Face::Python, "python"),
        (Face::Fuse, "fuse"),
    ];

    /// Returns the face that a word stands for; `None` when it stands for none.
    #[must_use]
    pub fn face_of(word: &str) -> Option<Face> {
        WORDS.iter().find(|(_, known)| *known == word).map(|(face, _)| *face)
    }

    pub(crate) fn serialize<S: Serializer>(face: &Face, serializer: S) -> Result<S::Ok, S::Error> {
        let word = WORDS.iter().find(|(known, _)| known == face).map(|(_, word)| *word);
        word.expect("every face has a word").serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Face, D::Error> {
        let text = String::deserialize(deserializer)?;
        face_of(&text).ok_or_else(|| de::Error::custom(format_args!("unknown face {text:?}")))
    }
}
