//! Checking and repairing the log: what is asked for and what comes of it.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::response::LogHead;

/// Length of a hash in hexadecimal, in characters.
const HASH_LEN: usize = 64;

/// An event and the hash that it had once, to be kept outside of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogMark {
    /// Number of the event; 0 for the empty log.
    pub seq: u64,
    /// Its hash in hexadecimal.
    pub hash: String,
}

/// A text that is no mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not HASH@SEQ, as `pyro log head` prints it: 64 hexadecimal digits, @ and a number")]
pub struct LogMarkError;

impl FromStr for LogMark {
    type Err = LogMarkError;

    fn from_str(text: &str) -> Result<Self, LogMarkError> {
        let (hash, seq) = text.trim().split_once('@').ok_or(LogMarkError)?;
        let seq = seq.parse().map_err(|_| LogMarkError)?;
        if hash.len() == HASH_LEN && hash.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            Ok(Self { seq, hash: hash.to_ascii_lowercase() })
        } else {
            Err(LogMarkError)
        }
    }
}

impl fmt::Display for LogMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.hash, self.seq)
    }
}

/// What a log is compared with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogCheck {
    /// What was kept elsewhere.
    pub expected: Vec<LogMark>,
    /// What the daemon says that owns the log; `None` when none runs.
    pub live: Option<LogHead>,
}

/// How far a check has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogCheckProgress {
    /// Events that were read.
    pub events: u64,
    /// Output files that were read.
    pub outputs: u64,
    /// Bytes of them.
    pub output_bytes: u64,
}

/// What checking a whole log showed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LogVerdict {
    /// Whether there is no problem.
    pub whole: bool,
    /// What is wrong, worst first.
    pub problems: Vec<LogProblem>,
    /// The first event that cannot be trusted; `null` when all can be, or when nobody knows which.
    pub first_bad_seq: Option<u64>,
    /// The last event before any damage; 0 when there is none.
    pub seq: u64,
    /// Its hash in hexadecimal.
    pub hash: String,
    /// How many segment files there are.
    pub segments: u64,
    /// What was dropped before the first event that is kept; `null` when nothing was.
    pub compacted: Option<LogCompacted>,
    /// Bytes behind the last event that an interrupted write left; nobody was told of what stood there.
    pub torn_bytes: u64,
    /// What the state that the events give was compared with: `daemon`, `checkpoint` or `nothing`.
    pub state_compared_with: String,
    /// Output files that were compared with their digests.
    pub outputs_checked: u64,
    /// Bytes of them.
    pub output_bytes: u64,
    /// Output files that are gone because their workspaces were deleted.
    pub outputs_deleted: u64,
}

/// What was dropped from the beginning of a log, by however many compactions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LogCompacted {
    /// The first event that is kept: all before it were dropped.
    pub first_seq: u64,
    /// Hash of the event before it, in hexadecimal.
    pub hash: String,
    /// BLAKE3 digest of the base that stands for what was dropped, in hexadecimal.
    pub base: String,
    /// Length of the segment files that were dropped, in bytes.
    pub bytes: u64,
    /// When the first event of the log was accepted, as in RFC 3339.
    pub since: String,
    /// When the last event that was dropped was accepted, as in RFC 3339.
    pub until: String,
    /// How many of the dropped events the base has carried over.
    pub carried: u64,
}

/// Something that is not what was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LogProblem {
    /// What it is about: `log`, `expected`, `daemon`, `state` or `output`.
    pub about: String,
    /// The event; `null` when there is no such event.
    pub seq: Option<u64>,
    /// The file; `null` when it is not about one file.
    pub file: Option<String>,
    /// What is wrong, for people.
    pub message: String,
}

/// What repairing a log did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LogRepaired {
    /// What was wrong; `null` when nothing was, and then nothing was changed.
    pub damage: Option<String>,
    /// The last event now; 0 when there is none.
    pub seq: u64,
    /// Its hash in hexadecimal.
    pub hash: String,
    /// The last event that the log is known to have had before: those behind `seq` are lost.
    pub reached_seq: u64,
    /// Directory with everything that was taken out; `null` when nothing was changed.
    pub kept_in: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_read_as_they_are_printed() {
        let hash = "0123456789abcdef".repeat(4);
        let mark = LogMark { seq: 120, hash: hash.clone() };
        assert_eq!(mark.to_string(), format!("{hash}@120"));
        assert_eq!(format!("{}@120\n", hash.to_uppercase()).parse(), Ok(mark));
        for wrong in
            ["", "120", &hash, &format!("{hash}@"), &format!("{hash}0@1"), &format!("{}@1", "g".repeat(64))]
        {
            assert!(wrong.parse::<LogMark>().is_err(), "{wrong}");
        }
    }
}
