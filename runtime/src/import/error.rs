//! Why a source is not taken.

use core::fmt;
use std::borrow::Cow;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::time::Duration;

/// Most bytes of an entry's name in a message; a hostile one has a million.
const NAME_SHOWN_MAX: usize = 256;

/// Why a source was not read. Names are escaped, so the text can be shown as it is.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// Nothing is there.
    #[error("{} does not exist", quoted(path))]
    Missing {
        /// Where nothing is.
        path: PathBuf,
    },
    /// What is there is neither a directory nor an archive of a kind that can be read.
    #[error("{reason}")]
    Unsupported {
        /// What is there.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The source itself could not be opened or read.
    #[error("{} cannot be read", quoted(path))]
    Unreadable {
        /// Which one.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// An entry breaks a rule or a limit.
    #[error("entry {entry} {reason}")]
    Refused {
        /// Which one.
        entry: EntryName,
        /// The rule that it breaks.
        reason: Cow<'static, str>,
    },
    /// The archive as a whole breaks a rule.
    #[error("the archive {reason}")]
    RefusedArchive {
        /// The rule that it breaks.
        reason: Cow<'static, str>,
    },
    /// The check took too long.
    #[error("it takes longer than {} s to check", allowance.as_secs())]
    TooSlow {
        /// How long it may take.
        allowance: Duration,
    },
    /// Somebody changed a file or directory under the reader. It can be tried again.
    #[error("entry {entry} changed while it was read")]
    Changed {
        /// Which one.
        entry: EntryName,
    },
    /// An entry of a directory could not be read.
    #[error("entry {entry} cannot be read")]
    Entry {
        /// Which one.
        entry: EntryName,
        /// Why not.
        source: io::Error,
    },
    /// The caller wanted it to end.
    #[error("the reading was cancelled")]
    Cancelled,
}

impl SourceError {
    pub(super) fn refused(path: &[u8], reason: impl Into<Cow<'static, str>>) -> Self {
        Self::Refused { entry: EntryName::new(path), reason: reason.into() }
    }

    pub(super) fn refused_archive(reason: impl Into<Cow<'static, str>>) -> Self {
        Self::RefusedArchive { reason: reason.into() }
    }

    pub(super) fn changed(path: &[u8]) -> Self {
        Self::Changed { entry: EntryName::new(path) }
    }

    pub(super) fn entry(path: &[u8], error: impl Into<io::Error>) -> Self {
        Self::Entry { entry: EntryName::new(path), source: error.into() }
    }

    /// Tells whether the source breaks a rule or a limit: it is refused as it is and will be again.
    #[must_use]
    pub const fn is_refusal(&self) -> bool {
        match self {
            Self::Refused { .. } | Self::RefusedArchive { .. } | Self::TooSlow { .. } => true,
            Self::Missing { .. }
            | Self::Unsupported { .. }
            | Self::Unreadable { .. }
            | Self::Changed { .. }
            | Self::Entry { .. }
            | Self::Cancelled => false,
        }
    }

    /// Tells whether the path does not name a source at all: the argument is wrong.
    #[must_use]
    pub const fn is_bad_argument(&self) -> bool {
        match self {
            Self::Missing { .. } | Self::Unsupported { .. } => true,
            Self::Unreadable { .. }
            | Self::Refused { .. }
            | Self::RefusedArchive { .. }
            | Self::TooSlow { .. }
            | Self::Changed { .. }
            | Self::Entry { .. }
            | Self::Cancelled => false,
        }
    }
}

/// Why a source did not get into a sink.
#[derive(Debug, thiserror::Error)]
pub enum ReadError<E> {
    /// The source was not read to its end.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The sink took no more.
    #[error(transparent)]
    Sink(E),
}

/// The name of an entry for people: escaped, in quotes, and cut when it is very long.
#[derive(Clone, PartialEq, Eq)]
pub struct EntryName {
    start: Box<[u8]>,
    cut: bool,
}

impl EntryName {
    pub(crate) fn new(path: &[u8]) -> Self {
        let start = &path[..path.len().min(NAME_SHOWN_MAX)];
        Self { start: start.into(), cut: start.len() < path.len() }
    }
}

impl fmt::Display for EntryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Debug is the escaped form, also for bytes that are not UTF-8.
        write!(f, "{:?}{}", OsStr::from_bytes(&self.start), if self.cut { " and so on" } else { "" })
    }
}

impl fmt::Debug for EntryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn quoted(path: &PathBuf) -> String {
    format!("{path:?}")
}

#[cfg(test)]
mod tests {
    use super::{EntryName, NAME_SHOWN_MAX};

    #[test]
    fn names_are_escaped_and_cut() {
        let cases: [(&[u8], &str); 4] = [
            (b"a\nb", r#""a\nb""#),
            ("\u{1b}[31mrot\u{202e}ä".as_bytes(), r#""\u{1b}[31mrot\u{202e}ä""#),
            (b"\xff/\"", r#""\xFF/\"""#),
            (b"", r#""""#),
        ];
        for (name, shown) in cases {
            assert_eq!(EntryName::new(name).to_string(), shown);
        }
        let long = EntryName::new(&[b'n'; 1 << 20]).to_string();
        assert!(long.ends_with("n\" and so on") && long.len() < NAME_SHOWN_MAX + 20, "{long}");
    }
}
