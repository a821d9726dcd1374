//! What the host sends.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::codec;
use crate::decoder::DecodeError;
use crate::files::{self, FileRequest, FileWrite, Files};
use crate::frame::Frame;
use crate::generation::GenerationRange;
use crate::import::{self, Entry, Import};
use crate::output::Stream;
use crate::shell::{Input, Shell, TerminalSize};

/// A frame from the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostFrame {
    /// Opens a connection.
    Hello(Hello),
    /// Runs a command, or attaches when its number is known. Takes the connection over.
    Exec(Exec),
    /// Follows a command from where the host stands. Takes the connection over.
    Attach(Attach),
    /// Ends the guest.
    Shutdown,
    /// Sets the guest's clock.
    SetClock {
        /// Microseconds since 1970-01-01 00:00 UTC.
        unix_micros: u64,
    },
    /// Asks for a sign of life.
    Ping,
    /// Asks for all operations that the agent keeps.
    Operations,
    /// Says how much output is safe on the host.
    Ack(Ack),
    /// Ends the whole process tree of the command now.
    Kill,
    /// Drops the operation, whose end is safe on the host.
    Forget,
    /// Ends the guest, and gives its processes time to end by themselves.
    Terminate {
        /// Time between SIGTERM and SIGKILL, in milliseconds.
        grace_ms: u64,
    },
    /// Opens a shell, or attaches when its number is known. Takes the connection over.
    Shell(Shell),
    /// Types into the shell.
    Input(Input),
    /// Changes the size of the shell's terminal.
    Resize(TerminalSize),
    /// Sends a signal to the foreground job of the shell.
    Signal {
        /// Its number, 1 to 31.
        signal: u8,
    },
    /// Hangs the shell's terminal up, and ends what is left of its tree after a while.
    HangUp {
        /// Time between SIGHUP and SIGKILL, in milliseconds.
        grace_ms: u64,
    },
    /// Brings files into the guest. Takes the connection over.
    Import(Import),
    /// The next file of the import.
    Entry(Entry),
    /// Content of the file whose entry came last.
    Content(Bytes),
    /// The import is complete: it is put in place.
    Commit,
    /// Asks what became of an import.
    AskImport {
        /// The host's number of the import.
        op: u64,
    },
    /// Asks for the files of a directory. Takes the connection over.
    Files(Files),
    /// Does something with files.
    FileRequest(FileRequest),
    /// Writes into a file.
    FileWrite(FileWrite),
}

/// Opens a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// What the host speaks.
    pub generations: GenerationRange,
}

/// A command to run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exec {
    /// The host's number of the operation; a number runs at most once in the life of an agent.
    pub op: u64,
    /// Text for `/bin/sh -lc`.
    pub command: String,
    /// Absolute path of the working directory; `None` is `/`.
    pub cwd: Option<String>,
    /// Whether a missing `cwd` is made, with its parents, instead of being a failure.
    pub create_cwd: bool,
    /// Variables laid over the agent's base environment, in this order.
    pub env: Vec<(String, String)>,
    /// Time from the start of the command after which its tree is ended, in milliseconds.
    pub timeout_ms: u64,
}

/// An operation to follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attach {
    /// The host's number of the operation.
    pub op: u64,
    /// First byte of stdout that the host lacks.
    pub stdout_offset: u64,
    /// First byte of stderr that the host lacks.
    pub stderr_offset: u64,
}

/// Output that is safe on the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ack {
    /// Of which stream.
    pub stream: Stream,
    /// The bytes before this position may be dropped.
    pub offset: u64,
}

impl Frame for HostFrame {
    fn decode(kind: u8, body: Bytes) -> Result<Self, DecodeError> {
        let frame = match kind {
            0x01 => codec::decode(&body).map(Self::Hello),
            0x02 => codec::decode(&body).map(Self::Exec),
            0x03 => codec::decode(&body).map(Self::Attach),
            0x04 => codec::decode(&body).map(|()| Self::Shutdown),
            0x05 => codec::decode(&body).map(|unix_micros| Self::SetClock { unix_micros }),
            0x06 => codec::decode(&body).map(|()| Self::Ping),
            0x07 => codec::decode(&body).map(|()| Self::Operations),
            0x08 => codec::decode(&body).map(Self::Ack),
            0x09 => codec::decode(&body).map(|()| Self::Kill),
            0x0a => codec::decode(&body).map(|()| Self::Forget),
            0x0b => codec::decode(&body).map(|grace_ms| Self::Terminate { grace_ms }),
            0x20 => codec::decode(&body).map(Self::Shell),
            0x21 => Input::decode(body).map(Self::Input),
            0x22 => codec::decode(&body).map(Self::Resize),
            0x23 => codec::decode(&body).map(|signal| Self::Signal { signal }),
            0x24 => codec::decode(&body).map(|grace_ms| Self::HangUp { grace_ms }),
            0x30 => codec::decode(&body).map(Self::Import),
            0x31 => codec::decode(&body).map(Self::Entry),
            import::CONTENT_KIND => import::content(body).map(Self::Content),
            0x33 => codec::decode(&body).map(|()| Self::Commit),
            0x34 => codec::decode(&body).map(|op| Self::AskImport { op }),
            0x40 => codec::decode(&body).map(Self::Files),
            0x41 => codec::decode(&body).map(Self::FileRequest),
            files::WRITE_KIND => FileWrite::decode(body).map(Self::FileWrite),
            _ => return Err(DecodeError::UnknownKind { kind }),
        };
        frame.ok_or(DecodeError::Body { kind })
    }

    fn kind(&self) -> u8 {
        match self {
            Self::Hello(_) => 0x01,
            Self::Exec(_) => 0x02,
            Self::Attach(_) => 0x03,
            Self::Shutdown => 0x04,
            Self::SetClock { .. } => 0x05,
            Self::Ping => 0x06,
            Self::Operations => 0x07,
            Self::Ack(_) => 0x08,
            Self::Kill => 0x09,
            Self::Forget => 0x0a,
            Self::Terminate { .. } => 0x0b,
            Self::Shell(_) => 0x20,
            Self::Input(_) => 0x21,
            Self::Resize(_) => 0x22,
            Self::Signal { .. } => 0x23,
            Self::HangUp { .. } => 0x24,
            Self::Import(_) => 0x30,
            Self::Entry(_) => 0x31,
            Self::Content(_) => import::CONTENT_KIND,
            Self::Commit => 0x33,
            Self::AskImport { .. } => 0x34,
            Self::Files(_) => 0x40,
            Self::FileRequest(_) => 0x41,
            Self::FileWrite(_) => files::WRITE_KIND,
        }
    }

    fn encode_body(&self, into: &mut Vec<u8>) {
        match self {
            Self::Hello(body) => codec::encode(body, into),
            Self::Exec(body) => codec::encode(body, into),
            Self::Attach(body) => codec::encode(body, into),
            Self::SetClock { unix_micros } => codec::encode(unix_micros, into),
            Self::Ack(body) => codec::encode(body, into),
            Self::Terminate { grace_ms } | Self::HangUp { grace_ms } => codec::encode(grace_ms, into),
            Self::Shell(body) => codec::encode(body, into),
            Self::Input(body) => body.encode(into),
            Self::Resize(body) => codec::encode(body, into),
            Self::Signal { signal } => codec::encode(signal, into),
            Self::Import(body) => codec::encode(body, into),
            Self::Entry(body) => codec::encode(body, into),
            Self::Content(body) => into.extend_from_slice(body),
            Self::AskImport { op } => codec::encode(op, into),
            Self::Files(body) => codec::encode(body, into),
            Self::FileRequest(body) => codec::encode(body, into),
            Self::FileWrite(body) => body.encode(into),
            Self::Shutdown | Self::Ping | Self::Operations | Self::Kill | Self::Forget | Self::Commit => (),
        }
    }
}
