//! Files of the guest, as the host reads and changes them. Since generation 3.
//!
//! A file is named by its path below the root, or by a handle when it is open: a handle goes on naming its file when that is
//! renamed or removed. Handles belong to their connection and end with it.

use bytes::{Buf as _, Bytes};
use serde::{Deserialize, Serialize};

use crate::import::ModifiedAt;

/// Kind of a frame that writes into a file.
pub(crate) const WRITE_KIND: u8 = 0x42;

/// Kind of a frame with bytes of a file.
pub(crate) const DATA_KIND: u8 = 0xc1;

/// Most bytes that one request reads or writes.
pub const FILE_DATA_MAX: usize = 256 * 1024;

/// Most handles of one connection.
pub const FILE_HANDLES_MAX: usize = 4096;

/// Most entries in one answer to [`FileCall::ReadDir`].
pub const LISTED_MAX: usize = 512;

/// A directory whose files are asked for on this connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Files {
    /// Absolute path of the directory.
    pub root: String,
    /// Whether it is made when it is missing, with its parents, instead of being a failure.
    pub create_root: bool,
}

/// Something to do with files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRequest {
    /// The host's number of the request, which its answer carries. Answers come in any order.
    pub tag: u64,
    /// What to do.
    pub call: FileCall,
}

/// What to do with files. No call follows a symbolic link.
///
/// A path is relative to the root: components that are neither empty nor `.` nor `..`, joined by `/`; empty for the root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FileCall {
    /// Tells what a file is. Answered by [`FileAnswer::Stat`].
    Stat(FileTarget),
    /// Changes what a file is, then tells it. Answered by [`FileAnswer::Stat`].
    SetStat {
        /// The file.
        target: FileTarget,
        /// What to change.
        changes: StatChanges,
    },
    /// Tells where a symbolic link leads. Answered by [`FileAnswer::Link`].
    ReadLink {
        /// The link.
        path: Vec<u8>,
    },
    /// Opens a regular file. Answered by [`FileAnswer::Opened`].
    Open {
        /// The file.
        path: Vec<u8>,
        /// For what.
        access: FileAccess,
        /// Whether it is emptied.
        truncate: bool,
    },
    /// Makes a regular file and opens it. Answered by [`FileAnswer::Opened`].
    Create {
        /// The file.
        path: Vec<u8>,
        /// For what it is opened.
        access: FileAccess,
        /// Whether one that is there is a failure; otherwise it is opened.
        exclusive: bool,
        /// Whether one that is there is emptied.
        truncate: bool,
        /// Permission bits and owner of a new one.
        new: NewFile,
    },
    /// Opens a directory for reading. Answered by [`FileAnswer::Opened`].
    OpenDir {
        /// The directory.
        path: Vec<u8>,
    },
    /// Reads further entries of an open directory, `.` and `..` left out. Answered by [`FileAnswer::Entries`], without an
    /// entry at the end.
    ReadDir {
        /// The open directory.
        handle: u64,
    },
    /// Reads from an open file. Answered by [`FileData`], shorter than asked for only at the end of the file.
    Read {
        /// The open file.
        handle: u64,
        /// Position of the first byte.
        offset: u64,
        /// Bytes, at most [`FILE_DATA_MAX`].
        len: u32,
    },
    /// Makes an open file durable. Answered by [`FileAnswer::Done`].
    Sync {
        /// The open file or directory.
        handle: u64,
        /// Whether what is not needed to read the bytes back may be left out.
        data_only: bool,
    },
    /// Reserves or gives back space of an open file. Answered by [`FileAnswer::Done`].
    Allocate {
        /// The open file.
        handle: u64,
        /// As in `fallocate`.
        mode: u32,
        /// Position of the first byte.
        offset: u64,
        /// Bytes.
        len: u64,
    },
    /// Finds data or a hole. Answered by [`FileAnswer::Position`].
    Seek {
        /// The open file.
        handle: u64,
        /// From where.
        offset: u64,
        /// Whether a hole is looked for, instead of data.
        hole: bool,
    },
    /// Ends a handle. Answered by [`FileAnswer::Done`].
    Close {
        /// The handle.
        handle: u64,
    },
    /// Makes a directory. Answered by [`FileAnswer::Stat`].
    MakeDir {
        /// The directory.
        path: Vec<u8>,
        /// Permission bits and owner.
        new: NewFile,
    },
    /// Makes a FIFO or a socket. Answered by [`FileAnswer::Stat`].
    MakeNode {
        /// The file.
        path: Vec<u8>,
        /// What it is: [`FileKind::Fifo`] or [`FileKind::Socket`].
        kind: FileKind,
        /// Permission bits and owner.
        new: NewFile,
    },
    /// Makes a symbolic link. Answered by [`FileAnswer::Stat`].
    Symlink {
        /// The link.
        path: Vec<u8>,
        /// Where it leads; not looked at.
        target: Vec<u8>,
        /// Its owner; permission bits are of no meaning.
        new: NewFile,
    },
    /// Gives a file another name. Answered by [`FileAnswer::Stat`].
    Link {
        /// The file; not a directory.
        from: Vec<u8>,
        /// The new name.
        path: Vec<u8>,
    },
    /// Removes a name. Answered by [`FileAnswer::Done`].
    Unlink {
        /// The name; not that of a directory.
        path: Vec<u8>,
    },
    /// Removes an empty directory. Answered by [`FileAnswer::Done`].
    RemoveDir {
        /// The directory; not the root.
        path: Vec<u8>,
    },
    /// Moves a file or directory. Answered by [`FileAnswer::Done`].
    Rename {
        /// From.
        from: Vec<u8>,
        /// To.
        to: Vec<u8>,
        /// What happens when there is something already.
        existing: Existing,
    },
    /// Tells how much room there is. Answered by [`FileAnswer::Space`].
    Space,
}

impl FileCall {
    /// Returns the handle that the call is about; `None` when it is about none.
    pub const fn handle_mut(&mut self) -> Option<&mut u64> {
        match self {
            Self::Stat(FileTarget::Handle(handle))
            | Self::SetStat { target: FileTarget::Handle(handle), .. }
            | Self::ReadDir { handle }
            | Self::Read { handle, .. }
            | Self::Sync { handle, .. }
            | Self::Allocate { handle, .. }
            | Self::Seek { handle, .. }
            | Self::Close { handle } => Some(handle),
            Self::Stat(FileTarget::Path(_))
            | Self::SetStat { target: FileTarget::Path(_), .. }
            | Self::ReadLink { .. }
            | Self::Open { .. }
            | Self::Create { .. }
            | Self::OpenDir { .. }
            | Self::MakeDir { .. }
            | Self::MakeNode { .. }
            | Self::Symlink { .. }
            | Self::Link { .. }
            | Self::Unlink { .. }
            | Self::RemoveDir { .. }
            | Self::Rename { .. }
            | Self::Space => None,
        }
    }
}

/// A file that something is done with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FileTarget {
    /// The one that has this path.
    Path(Vec<u8>),
    /// The one that is open.
    Handle(u64),
}

/// For what a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FileAccess {
    /// To be read.
    Read,
    /// To be written.
    Write,
    /// For both.
    ReadWrite,
}

/// A file that is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewFile {
    /// Permission bits, at most 0o7777.
    pub mode: u32,
    /// User that it belongs to, in the guest.
    pub uid: u32,
    /// Group that it belongs to, in the guest, unless its directory hands its own down.
    pub gid: u32,
}

/// What a rename does when there is something already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Existing {
    /// Takes its place.
    Replace,
    /// Fails.
    Keep,
    /// Both change places.
    Exchange,
}

/// What to change about a file; `None` leaves it as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatChanges {
    /// Permission bits, at most 0o7777.
    pub mode: Option<u32>,
    /// User, in the guest.
    pub uid: Option<u32>,
    /// Group, in the guest.
    pub gid: Option<u32>,
    /// Length, in bytes.
    pub size: Option<u64>,
    /// Time of the last access.
    pub accessed: Option<NewTime>,
    /// Time of the last change of its content.
    pub modified: Option<NewTime>,
}

/// A time that a file gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NewTime {
    /// That of the guest's clock.
    Now,
    /// This one.
    At(ModifiedAt),
}

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileStat {
    /// Device that it is on; with `inode`, its identity as long as it exists.
    pub device: u64,
    /// Its number there.
    pub inode: u64,
    /// What kind of file it is.
    pub kind: FileKind,
    /// Permission bits, at most 0o7777.
    pub mode: u32,
    /// How many names it has.
    pub links: u32,
    /// User, in the guest.
    pub uid: u32,
    /// Group, in the guest.
    pub gid: u32,
    /// Length, in bytes.
    pub size: u64,
    /// Space that it takes, in units of 512 bytes.
    pub blocks: u64,
    /// Time of the last access.
    pub accessed: ModifiedAt,
    /// Time of the last change of its content.
    pub modified: ModifiedAt,
    /// Time of the last change of what is told here.
    pub changed: ModifiedAt,
}

/// A kind of file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FileKind {
    /// A regular file.
    Regular,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// A device of characters.
    CharDevice,
    /// A device of blocks.
    BlockDevice,
}

/// An entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// Its name: 1 to 255 bytes, without `/` and zero.
    pub name: Vec<u8>,
    /// What it is.
    pub stat: FileStat,
}

/// Room for files, in blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Space {
    /// Length of a block, in bytes.
    pub block_len: u32,
    /// Blocks in all.
    pub blocks: u64,
    /// Blocks that are free.
    pub free: u64,
    /// Blocks that users without privileges can fill.
    pub available: u64,
    /// Files that there can be.
    pub files: u64,
    /// Files that can still be made.
    pub files_free: u64,
}

/// The answer to a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileReply {
    /// That of the request.
    pub tag: u64,
    /// What came of it, or a Linux error number; then nothing was changed, unless the call has several parts.
    pub result: Result<FileAnswer, i32>,
}

/// What came of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FileAnswer {
    /// It was carried out.
    Done,
    /// What the file is now.
    Stat(FileStat),
    /// It is open.
    Opened {
        /// Names it from now on.
        handle: u64,
        /// What it is.
        stat: FileStat,
        /// Whether the open descriptor itself comes along, as `SCM_RIGHTS` of this frame: only on a Unix socket.
        passed: bool,
    },
    /// Where the link leads.
    Link(Vec<u8>),
    /// Entries of the directory, at most [`LISTED_MAX`]; none at its end.
    Entries(Vec<Listed>),
    /// So many bytes were written.
    Written {
        /// Bytes.
        len: u32,
    },
    /// What was looked for is here.
    Position(u64),
    /// How much room there is.
    Space(Space),
}

/// Bytes that are written into an open file. Answered by [`FileAnswer::Written`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileWrite {
    /// The host's number of the request.
    pub tag: u64,
    /// The open file.
    pub handle: u64,
    /// Position of the first byte.
    pub offset: u64,
    /// The bytes; 1 to [`FILE_DATA_MAX`].
    pub data: Bytes,
}

impl FileWrite {
    pub(crate) fn decode(mut body: Bytes) -> Option<Self> {
        let tag = body.try_get_u64_le().ok()?;
        let handle = body.try_get_u64_le().ok()?;
        let offset = body.try_get_u64_le().ok()?;
        let fits = !body.is_empty() && body.len() <= FILE_DATA_MAX;
        fits.then_some(Self { tag, handle, offset, data: body })
    }

    pub(crate) fn encode(&self, into: &mut Vec<u8>) {
        for number in [self.tag, self.handle, self.offset] {
            into.extend_from_slice(&number.to_le_bytes());
        }
        into.extend_from_slice(&self.data);
    }
}

/// Bytes that were read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileData {
    /// That of the request.
    pub tag: u64,
    /// The bytes, at most [`FILE_DATA_MAX`]; none behind the end of the file.
    pub data: Bytes,
}

impl FileData {
    pub(crate) fn decode(mut body: Bytes) -> Option<Self> {
        let tag = body.try_get_u64_le().ok()?;
        (body.len() <= FILE_DATA_MAX).then_some(Self { tag, data: body })
    }

    pub(crate) fn encode(&self, into: &mut Vec<u8>) {
        into.extend_from_slice(&self.tag.to_le_bytes());
        into.extend_from_slice(&self.data);
    }
}
