//! What the daemon and the first processes of a sandbox say to each other, over a pair of sockets.
//!
//! ```text
//! to the daemon:  pid <pid> <start ticks>\n    PID 1 exists and has its ids; once
//!                 failed <why>\n               from either process, which then ends
//! to PID 1:       one byte                     it is on record
//! ```
//!
//! The stream ends when PID 1 has become the agent, or when both are gone.

use std::io;

use pyro_core::Process;

/// Most that is read of one sandbox's words, in bytes.
pub(super) const WORDS_LEN_MAX: u64 = 4096;

/// The byte that lets PID 1 become the agent.
pub(super) const GO: u8 = b'g';

/// A line to the daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// PID 1, as the host sees it.
    First(Process),
    /// Why there will be no sandbox.
    Failed(String),
}

impl Word {
    pub(super) fn to_line(&self) -> String {
        match self {
            Self::First(Process { pid, start_ticks }) => format!("pid {pid} {start_ticks}\n"),
            Self::Failed(why) => format!("failed {}\n", why.replace('\n', " ")),
        }
    }

    pub(super) fn parse(line: &str) -> io::Result<Self> {
        let parsed = match line.split_once(' ') {
            Some(("pid", numbers)) => numbers.split_once(' ').and_then(|(pid, start_ticks)| {
                let process = Process { pid: pid.parse().ok()?, start_ticks: start_ticks.parse().ok()? };
                Some(Self::First(process))
            }),
            Some(("failed", why)) => Some(Self::Failed(why.to_owned())),
            Some(_) | None => None,
        };
        parsed
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("sandbox-init says {line:?}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_survive_the_way() {
        let first = Word::First(Process { pid: 4711, start_ticks: u64::MAX });
        for word in [first, Word::Failed("make a namespace: no space left".to_owned())] {
            assert_eq!(Word::parse(word.to_line().trim_end_matches('\n')).unwrap(), word);
        }
        assert_eq!(Word::Failed("two\nlines".to_owned()).to_line(), "failed two lines\n");
    }

    #[test]
    fn other_words_are_refused() {
        for line in ["", "pid", "pid 1", "pid x 1", "pid 1 -1", "hello 1 2", "failed"] {
            assert!(Word::parse(line).is_err(), "{line}");
        }
    }
}
