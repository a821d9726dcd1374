//! Files on their way into a guest. Since generation 2.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::frame::FRAME_HEAD_BYTES;

/// Kind of a content frame.
pub(crate) const CONTENT_KIND: u8 = 0x32;

/// Most bytes of file content in one frame.
pub const CONTENT_MAX: usize = 256 * 1024;

/// Longest path of an entry and longest target of a symbolic link, in bytes.
pub const PATH_LEN_MAX: usize = 4096;

/// Most components of a path.
pub const COMPONENTS_MAX: usize = 256;

/// Most imports of which the agent remembers what became of them.
pub const IMPORTS_REMEMBERED: usize = 64;

/// Files to bring into a directory: all of them or none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Import {
    /// The host's number of the import; a number is carried out at most once in the life of an agent.
    pub op: u64,
    /// Absolute path of the directory, which is made when it is missing.
    pub destination: String,
}

/// A file, directory or link of an import, or something to remove. An entry stands behind those of its parents.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Path below the destination: components that are neither empty nor `.` nor `..`, joined by `/`. Empty for the
    /// destination itself, which can only be a directory.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: EntryKind,
    /// Permission bits, at most 0o1777. Of no meaning for links and removals.
    pub mode: u32,
    /// Time of the last change of its content. Of no meaning for hard links and removals.
    pub modified: ModifiedAt,
}

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EntryKind {
    /// A directory. One that is there stays, with what it holds.
    Directory,
    /// A regular file; its content follows in [`HostFrame::Content`](crate::HostFrame::Content) frames.
    File {
        /// Length of the content, in bytes.
        len: u64,
    },
    /// A symbolic link.
    Symlink {
        /// Where it leads; never empty.
        target: Vec<u8>,
    },
    /// Another name of a regular file that came before in the same import.
    HardLink {
        /// Path of the file, as it stood in its entry.
        target: Vec<u8>,
    },
    /// Nothing: what is there is removed, directories with all they hold. That nothing is there is no error.
    Absent,
}

/// A time of the file system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModifiedAt {
    /// Seconds since 1970-01-01 00:00 UTC.
    pub seconds: i64,
    /// Nanoseconds after that, below 1,000,000,000.
    pub nanoseconds: u32,
}

/// Part of the content of the file whose entry came last; 1 to [`CONTENT_MAX`] bytes.
pub(crate) fn content(body: Bytes) -> Option<Bytes> {
    (!body.is_empty() && body.len() <= CONTENT_MAX).then_some(body)
}

/// Returns what stands before `len` bytes of content in their frame, for senders that write the content from where it
/// lies.
///
/// # Panics
///
/// When `len` is zero or more than [`CONTENT_MAX`].
#[must_use]
pub fn content_head(len: usize) -> [u8; FRAME_HEAD_BYTES] {
    assert!(len > 0 && len <= CONTENT_MAX, "a content frame holds 1 to {CONTENT_MAX} bytes");
    let length = u32::try_from(len + 1).expect("a content frame is far below the limit");
    let [a, b, c, d] = length.to_le_bytes();
    [a, b, c, d, CONTENT_KIND]
}

/// An import is in place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Imported {
    /// Entries in all, removals and the destination itself included.
    pub entries: u64,
    /// Bytes of content in all.
    pub bytes: u64,
}

/// An import that had no effect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportFailed {
    /// Entry at which it failed; `None` when it was not about one.
    pub path: Option<Vec<u8>>,
    /// Linux error number.
    pub errno: i32,
    /// What failed, for people; without the text of `errno`.
    pub message: String,
}

/// What became of an import.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ImportState {
    /// The agent does not know it, or not any more.
    Unknown,
    /// It is under way.
    Running,
    /// It is in place.
    Imported(Imported),
    /// It had no effect.
    Failed(ImportFailed),
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::{CONTENT_MAX, content_head};
    use crate::{Frame as _, HostFrame};

    #[test]
    fn the_head_is_that_of_the_frame() {
        for len in [1, 255, CONTENT_MAX] {
            let mut frame = Vec::new();
            HostFrame::Content(Bytes::from(vec![7; len])).encode(&mut frame).unwrap();
            assert_eq!(frame[..frame.len() - len], content_head(len), "{len}");
        }
    }
}
