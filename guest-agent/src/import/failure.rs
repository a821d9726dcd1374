//! Why an import has no effect.

use std::fmt;

use pyro_protocol::ImportFailed;
use rustix::io::Errno;

use crate::files::path::EntryPath;

/// What failed, and where.
#[derive(Debug, thiserror::Error)]
#[error("{message}{}", Quoted(path.as_deref()))]
pub(super) struct Failure {
    /// Path of the entry below the destination; `None` when it is not about one.
    path: Option<Vec<u8>>,
    message: String,
    source: Errno,
}

/// A path at the end of a message.
struct Quoted<'a>(Option<&'a [u8]>);

impl Failure {
    /// Returns the failure of something that is about no entry.
    pub(super) fn new(message: impl Into<String>, source: Errno) -> Self {
        Self { path: None, message: message.into(), source }
    }

    /// Returns the failure at an entry whose path may be anything.
    pub(super) fn at(path: &[u8], message: impl Into<String>, source: Errno) -> Self {
        Self { path: Some(path.to_vec()), message: message.into(), source }
    }

    /// Returns the failure with something added to its message.
    pub(super) fn and(mut self, addition: &str) -> Self {
        self.message.push_str(addition);
        self
    }

    /// Returns the entry's path, to compare failures by it.
    pub(super) fn path(&self) -> Option<&[u8]> {
        self.path.as_deref()
    }
}

impl From<Failure> for ImportFailed {
    fn from(failure: Failure) -> Self {
        Self { path: failure.path, errno: failure.source.raw_os_error(), message: failure.message }
    }
}

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(path) => write!(f, " at {:?}", String::from_utf8_lossy(path)),
            None => Ok(()),
        }
    }
}

/// Names what was being done when the kernel refused.
pub(super) trait Doing<T> {
    /// Names it for something that is about no entry.
    fn doing(self, message: &str) -> Result<T, Failure>;

    /// Names it for an entry.
    fn doing_at(self, path: &EntryPath, message: &str) -> Result<T, Failure>;
}

impl<T> Doing<T> for Result<T, Errno> {
    fn doing(self, message: &str) -> Result<T, Failure> {
        self.map_err(|errno| Failure::new(message, errno))
    }

    fn doing_at(self, path: &EntryPath, message: &str) -> Result<T, Failure> {
        self.map_err(|errno| Failure::at(path.as_bytes(), message, errno))
    }
}
