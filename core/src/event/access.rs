//! Who was not let in.

use alloc::string::String;

use serde::{Deserialize, Serialize};

/// A server of this user's did not let somebody in. It tells so itself: what it says is not verified.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessRefused {
    /// What was wrong.
    pub reason: AccessFault,
    /// Where the caller connected from: an address and a port.
    pub peer: String,
    /// User id of the caller; `None` when it is not known, as for those of other hosts.
    pub peer_uid: Option<u32>,
    /// What the caller claimed to ask for or from, cut; empty for a token, which is not repeated.
    pub claimed: String,
    /// Refusals before this one of which there is no event, because there were too many.
    pub left_out: u64,
}

/// What is wrong with a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AccessFault {
    /// It asks for a host that this server is not: a name that somebody made point here.
    Host,
    /// It is a page of another site.
    Origin,
    /// It has no token, or a wrong one.
    Token,
}

impl AccessFault {
    /// Returns the name that `pyro log` shows.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Origin => "origin",
            Self::Token => "token",
        }
    }
}
