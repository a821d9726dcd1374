//! What can go wrong between host and guest.

use core::fmt;
use std::io;
use std::time::Duration;

use pyro_protocol::{DecodeError, EncodeError, GenerationRange, Stage};

/// Longest text of a guest that is kept, in bytes: it goes into the log.
pub(super) const MESSAGE_LEN_MAX: usize = 1024;

/// Why the guest could not be asked, or its answer not be used.
#[derive(Debug, thiserror::Error)]
pub enum GuestError {
    /// No connection could be made: the guest is gone, or its agent does not listen.
    #[error("connect to the guest's agent")]
    Unreachable(#[source] io::Error),
    /// The connection ended. The operation behind it goes on, if the guest lives; attach to it again.
    #[error("follow the guest: its connection ended")]
    Closed,
    /// The connection broke. The operation behind it goes on, if the guest lives; attach to it again.
    #[error("talk to the guest")]
    Broken(#[source] io::Error),
    /// Something was due and did not come.
    #[error("wait for {what} of the guest: nothing for {} s", waited.as_secs())]
    Silent {
        /// What was due.
        what: &'static str,
        /// How long it was waited for.
        waited: Duration,
    },
    /// The guest sent bytes that are not a frame.
    #[error("understand the guest")]
    Malformed(#[from] DecodeError),
    /// The guest sent what it must not send now: its agent is broken or not ours.
    #[error("understand the guest: {0}")]
    Protocol(&'static str),
    /// The guest's agent speaks no generation that this program speaks.
    #[error(
        "talk to the guest: its agent speaks generations {} to {}, this program {} to {}",
        agent.min, agent.max, GenerationRange::SUPPORTED.min, GenerationRange::SUPPORTED.max
    )]
    Incompatible {
        /// What the agent speaks.
        agent: GenerationRange,
    },
    /// The guest's agent is of an earlier version, which cannot do it.
    #[error("ask the guest: its agent is too old for {what}; stop and start the workspace")]
    TooOld {
        /// What it cannot do.
        what: &'static str,
    },
    /// The agent is not the one of the earlier connections: what that one kept is gone.
    #[error("continue with the guest: its agent was started anew")]
    Restarted,
    /// The guest has no operation of that number.
    #[error("attach to operation {op}: the guest does not know it")]
    UnknownOperation {
        /// The number.
        op: u64,
    },
    /// The host has more of a stream than the guest ever wrote: one of them has the wrong operation.
    #[error("attach to operation {op}: the guest never wrote that much output")]
    OffsetBeyondEnd {
        /// The number.
        op: u64,
    },
    /// The request does not fit into a frame.
    #[error("ask the guest: the request is too long")]
    TooLong(#[from] EncodeError),
    /// The guest could not do what it was asked to.
    #[error("have the guest do it: {0}")]
    Failed(Failure),
}

impl GuestError {
    /// Tells whether the guest broke the protocol, which an agent of ours never does: the guest is not to be trusted
    /// with further requests.
    #[must_use]
    pub const fn is_breach(&self) -> bool {
        match self {
            Self::Malformed(_) | Self::Protocol(_) => true,
            Self::Unreachable(_)
            | Self::Closed
            | Self::Broken(_)
            | Self::Silent { .. }
            | Self::Incompatible { .. }
            | Self::TooOld { .. }
            | Self::Restarted
            | Self::UnknownOperation { .. }
            | Self::OffsetBeyondEnd { .. }
            | Self::TooLong(_)
            | Self::Failed(_) => false,
        }
    }
}

/// Why a guest did not do what it was asked to: nothing happened in it.
///
/// The text is the guest's, cut to 1,024 bytes, and may hold anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Where it failed.
    pub stage: Stage,
    /// Linux error number as the guest gave it.
    pub errno: i32,
    /// What failed.
    pub message: String,
}

impl From<pyro_protocol::Failed> for Failure {
    fn from(failed: pyro_protocol::Failed) -> Self {
        let pyro_protocol::Failed { stage, errno, message } = failed;
        Self { stage, errno, message: cut(message, MESSAGE_LEN_MAX) }
    }
}

/// Returns the text without the characters that do not fit into `len_max` bytes.
pub(super) fn cut(mut text: String, len_max: usize) -> String {
    if text.len() > len_max {
        let end = (0..=len_max).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
    }
    text
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stage = match self.stage {
            Stage::Admission => "the guest keeps too many operations",
            Stage::Prepare => "the guest could not prepare the command",
            Stage::Cwd => "the working directory cannot be used",
            Stage::Spawn => "the shell could not be started",
            Stage::Clock => "the clock could not be set",
        };
        write!(f, "{stage}")?;
        if !self.message.is_empty() {
            write!(f, ": {}", self.message)?;
        }
        match self.errno {
            0 => Ok(()),
            errno => write!(f, ": {}", io::Error::from_raw_os_error(errno)),
        }
    }
}
