//! What the guest sends. All of it is hostile input to the host.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::codec;
use crate::decoder::DecodeError;
use crate::files::{self, FileData, FileReply};
use crate::frame::Frame;
use crate::generation::{Generation, GenerationRange};
use crate::import::{ImportFailed, ImportState, Imported};
use crate::output::{self, Output};
use crate::shell::InputProgress;

/// Most operations that an agent keeps, running and finished together.
///
/// It bounds the guest's memory: each can hold two full streams. A host that forgets what it has recorded stays far
/// below.
pub const OPERATIONS_MAX: usize = 512;

/// A frame from the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GuestFrame {
    /// Answers `Hello`.
    Welcome(Welcome),
    /// The request is not served; the connection ends.
    Refused(Refusal),
    /// The guest has booted. The only frame on a connection that the guest opened.
    Announce(Announce),
    /// The command runs.
    Started(Started),
    /// The command wrote.
    Output(Output),
    /// The command ended, and all its output has been sent.
    Exited(Exited),
    /// The request had no effect: a command or shell never ran, or the clock was not set.
    Failed(Failed),
    /// No operation has the number that was to be attached to.
    UnknownOperation,
    /// Answers `Ping`.
    Pong,
    /// Answers `Operations`, by ascending number.
    Operations(Vec<Operation>),
    /// The request was carried out.
    Done,
    /// How far the input of a shell has come.
    InputProgress(InputProgress),
    /// The import is in place.
    Imported(Imported),
    /// The import had no effect.
    ImportFailed(ImportFailed),
    /// Answers `AskImport`.
    ImportState(ImportState),
    /// Answers a request about files.
    FileReply(FileReply),
    /// Answers a request to read from a file.
    FileData(FileData),
}

/// Random identity of one run of an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BootId(pub [u8; 16]);

/// Answers `Hello`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// What both sides speak from now on.
    pub generation: Generation,
    /// Version of the agent, for people.
    pub agent_version: String,
    /// Which run of the agent this is.
    pub boot_id: BootId,
}

/// Why a request is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    /// No generation is spoken by both sides.
    Generation {
        /// What the agent speaks.
        supported: GenerationRange,
    },
    /// The host claims to have more of a stream than was ever written.
    OffsetBeyondEnd,
}

/// The guest has booted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announce {
    /// What the agent speaks.
    pub generations: GenerationRange,
    /// Version of the agent, for people.
    pub agent_version: String,
    /// Which run of the agent this is.
    pub boot_id: BootId,
}

/// The command runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    /// Process id of the shell, in the guest.
    pub pid: u32,
}

/// The command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exited {
    /// How.
    pub status: ExitStatus,
    /// Time from the start of the command to its end, in milliseconds.
    pub duration_ms: u64,
    /// Bytes of stdout in all.
    pub stdout_len: u64,
    /// Bytes of stderr in all.
    pub stderr_len: u64,
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExitStatus {
    /// It exited with this code.
    Code(u8),
    /// This signal ended it.
    Signal(u8),
    /// Its time was up and its tree was ended.
    TimedOut,
}

/// The request had no effect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    /// Where it failed.
    pub stage: Stage,
    /// Linux error number.
    pub errno: i32,
    /// What failed, for people; without the text of `errno`.
    pub message: String,
}

/// Where a request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    /// The agent keeps as many operations as it can. The operation is not kept and may be sent again.
    Admission,
    /// Pipes and process tree.
    Prepare,
    /// The working directory.
    Cwd,
    /// Starting the shell.
    Spawn,
    /// Setting the clock.
    Clock,
}

/// An operation that the agent keeps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    /// The host's number.
    pub op: u64,
    /// How far it is.
    pub phase: Phase,
    /// What is kept of stdout.
    pub stdout: Retained,
    /// What is kept of stderr.
    pub stderr: Retained,
}

/// How far an operation is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Accepted; whether it will run is not known yet.
    Starting,
    /// It runs.
    Running(Started),
    /// It ended.
    Exited(Exited),
    /// It never ran.
    Failed(Failed),
}

/// Part of a stream that the agent keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retained {
    /// Position of the first byte that has not been acknowledged.
    pub start: u64,
    /// Position behind the last byte that was read from the command.
    pub end: u64,
}

impl Frame for GuestFrame {
    fn decode(kind: u8, body: Bytes) -> Result<Self, DecodeError> {
        let frame = match kind {
            0x81 => codec::decode(&body).map(Self::Welcome),
            0x82 => codec::decode(&body).map(Self::Refused),
            0x83 => codec::decode(&body).map(Self::Announce),
            0x84 => codec::decode(&body).map(Self::Started),
            output::KIND => Output::decode(body).map(Self::Output),
            0x86 => codec::decode(&body).map(Self::Exited),
            0x87 => codec::decode(&body).map(Self::Failed),
            0x88 => codec::decode(&body).map(|()| Self::UnknownOperation),
            0x89 => codec::decode(&body).map(|()| Self::Pong),
            0x8a => codec::decode(&body).map(Self::Operations),
            0x8b => codec::decode(&body).map(|()| Self::Done),
            0xa0 => codec::decode(&body).map(Self::InputProgress),
            0xb0 => codec::decode(&body).map(Self::Imported),
            0xb1 => codec::decode(&body).map(Self::ImportFailed),
            0xb2 => codec::decode(&body).map(Self::ImportState),
            0xc0 => codec::decode(&body).map(Self::FileReply),
            files::DATA_KIND => FileData::decode(body).map(Self::FileData),
            _ => return Err(DecodeError::UnknownKind { kind }),
        };
        frame.ok_or(DecodeError::Body { kind })
    }

    fn kind(&self) -> u8 {
        match self {
            Self::Welcome(_) => 0x81,
            Self::Refused(_) => 0x82,
            Self::Announce(_) => 0x83,
            Self::Started(_) => 0x84,
            Self::Output(_) => output::KIND,
            Self::Exited(_) => 0x86,
            Self::Failed(_) => 0x87,
            Self::UnknownOperation => 0x88,
            Self::Pong => 0x89,
            Self::Operations(_) => 0x8a,
            Self::Done => 0x8b,
            Self::InputProgress(_) => 0xa0,
            Self::Imported(_) => 0xb0,
            Self::ImportFailed(_) => 0xb1,
            Self::ImportState(_) => 0xb2,
            Self::FileReply(_) => 0xc0,
            Self::FileData(_) => files::DATA_KIND,
        }
    }

    fn encode_body(&self, into: &mut Vec<u8>) {
        match self {
            Self::Welcome(body) => codec::encode(body, into),
            Self::Refused(body) => codec::encode(body, into),
            Self::Announce(body) => codec::encode(body, into),
            Self::Started(body) => codec::encode(body, into),
            Self::Output(body) => body.encode(into),
            Self::Exited(body) => codec::encode(body, into),
            Self::Failed(body) => codec::encode(body, into),
            Self::Operations(body) => codec::encode(body, into),
            Self::InputProgress(body) => codec::encode(body, into),
            Self::Imported(body) => codec::encode(body, into),
            Self::ImportFailed(body) => codec::encode(body, into),
            Self::ImportState(body) => codec::encode(body, into),
            Self::FileReply(body) => codec::encode(body, into),
            Self::FileData(body) => body.encode(into),
            Self::UnknownOperation | Self::Pong | Self::Done => (),
        }
    }
}
