//! Why a guest did not boot.

use core::fmt;
use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use crate::guest::GuestError;
use crate::host::MissingTool;

/// Lines of the console that stand in a message; the whole is in [`BootError::console`].
const LINES_SHOWN: usize = 4;

/// Why a guest did not boot. Nothing of it runs any more.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// A program is not there.
    #[error("boot a guest")]
    MissingTool(#[from] MissingTool),
    /// Something on the host's disk could not be made.
    #[error("{what} ({})", path.display())]
    Prepare {
        /// What was to be done.
        what: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A program could not be started or looked after.
    #[error("run {program}")]
    Run {
        /// Which one.
        program: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// A program ended before the guest answered.
    #[error("boot a guest: {program} ended ({status}){console}")]
    Ended {
        /// Which one.
        program: &'static str,
        /// How it ended.
        status: ExitStatus,
        /// What was said last.
        console: LastWords,
    },
    /// The guest did not answer in time.
    #[error("boot a guest: it did not answer within {:.1} s{console}", waited.as_secs_f64())]
    Silent {
        /// How long it was waited for.
        waited: Duration,
        /// What was said last.
        console: LastWords,
    },
    /// What answered is not an agent that this program can work with.
    #[error("boot a guest: its agent cannot be used{console}")]
    Agent {
        /// Why not.
        source: GuestError,
        /// What was said last.
        console: LastWords,
    },
}

impl BootError {
    /// Returns the error with what was said last, which is known only when all writers have ended.
    pub(super) fn with_console(self, console: LastWords) -> Self {
        match self {
            Self::Ended { program, status, .. } => Self::Ended { program, status, console },
            Self::Silent { waited, .. } => Self::Silent { waited, console },
            Self::Agent { source, .. } => Self::Agent { source, console },
            Self::MissingTool(_) | Self::Prepare { .. } | Self::Run { .. } => self,
        }
    }

    /// Returns the end of what the guest's console and the processes around it said; `None` when nothing was started.
    #[must_use]
    pub fn console(&self) -> Option<&str> {
        match self {
            Self::Ended { console, .. } | Self::Silent { console, .. } | Self::Agent { console, .. } => {
                Some(&console.0)
            }
            Self::MissingTool(_) | Self::Prepare { .. } | Self::Run { .. } => None,
        }
    }

    /// Returns what can be done about it, for people; `None` when that is not known.
    #[must_use]
    pub const fn hint(&self) -> Option<&'static str> {
        match self {
            Self::MissingTool(_) => Some("install what is missing; `pyro doctor` lists all of it"),
            Self::Prepare { .. } => Some("check the free space and the permissions of PYRO_HOME"),
            Self::Run { .. } => None,
            Self::Ended { .. } => Some("see what the console said; `pyro doctor` checks the host"),
            Self::Silent { .. } => {
                Some("the host may be overloaded: try again with fewer guests, or see `pyro doctor`")
            }
            Self::Agent { .. } => Some("pull the environment again: its agent is from another version"),
        }
    }
}

/// The end of a console. Shown, it is the last few lines of it; see [`BootError::console`] for all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LastWords(pub(super) String);

impl fmt::Display for LastWords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = self.0.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect::<Vec<_>>();
        for (index, line) in lines.iter().skip(lines.len().saturating_sub(LINES_SHOWN)).enumerate() {
            write!(f, "{}{line}", if index == 0 { "; console: " } else { " | " })?;
        }
        Ok(())
    }
}
