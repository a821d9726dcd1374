//! What files are, in the words of the protocol.

use std::os::fd::{AsFd, BorrowedFd};

use pyro_protocol::{FileKind, FileStat, ModifiedAt, NewFile, NewTime, StatChanges};
use rustix::fs::{AtFlags, FileType, Gid, Mode, Stat, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, Uid};
use rustix::io::Errno;

/// Permission bits that a mode can have.
const MODE_BITS: u32 = 0o7777;

/// Those that the kernel takes away when a file changes its owner.
const PRIVILEGED: u32 = 0o6000;

/// Returns what is known of a file.
///
/// # Errors
///
/// [`Errno::IO`] for a kind of file that there is no word for.
pub(super) fn described(stat: &Stat) -> Result<FileStat, Errno> {
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => FileKind::Regular,
        FileType::Directory => FileKind::Directory,
        FileType::Symlink => FileKind::Symlink,
        FileType::Fifo => FileKind::Fifo,
        FileType::Socket => FileKind::Socket,
        FileType::CharacterDevice => FileKind::CharDevice,
        FileType::BlockDevice => FileKind::BlockDevice,
        FileType::Unknown => return Err(Errno::IO),
    };
    let time = |seconds, nanoseconds: u64| ModifiedAt {
        seconds,
        nanoseconds: u32::try_from(nanoseconds).unwrap_or_default(),
    };
    Ok(FileStat {
        device: stat.st_dev,
        inode: stat.st_ino,
        kind,
        mode: stat.st_mode & MODE_BITS,
        links: u32::try_from(stat.st_nlink).unwrap_or(u32::MAX),
        uid: stat.st_uid,
        gid: stat.st_gid,
        size: u64::try_from(stat.st_size).unwrap_or_default(),
        blocks: u64::try_from(stat.st_blocks).unwrap_or_default(),
        accessed: time(stat.st_atime, stat.st_atime_nsec),
        modified: time(stat.st_mtime, stat.st_mtime_nsec),
        changed: time(stat.st_ctime, stat.st_ctime_nsec),
    })
}

/// Returns what an open file is.
pub(super) fn of_open(file: impl AsFd) -> Result<FileStat, Errno> {
    described(&rustix::fs::fstat(file)?)
}

/// Returns what a name stands for; a link is not followed.
pub(super) fn of_name(directory: BorrowedFd<'_>, name: &[u8]) -> Result<FileStat, Errno> {
    described(&rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?)
}

/// A file whose attributes change.
#[derive(Clone, Copy, Debug)]
pub(super) enum Changed<'a> {
    /// An open one.
    Open(BorrowedFd<'a>),
    /// One that is only named, by a descriptor which can do nothing else.
    Named(BorrowedFd<'a>),
}

impl Changed<'_> {
    /// Changes permission bits, owner and times; the length is another matter.
    pub(super) fn apply(self, changes: &StatChanges) -> Result<(), Errno> {
        if changes.uid.is_some() || changes.gid.is_some() {
            self.set_owner(changes.uid, changes.gid)?;
        }
        if let Some(mode) = changes.mode {
            self.set_mode(mode)?;
        }
        if changes.accessed.is_some() || changes.modified.is_some() {
            let times = Timestamps {
                last_access: timespec(changes.accessed),
                last_modification: timespec(changes.modified),
            };
            match self {
                Self::Open(file) => rustix::fs::futimens(file, &times)?,
                Self::Named(file) => {
                    rustix::fs::utimensat(file, c"", &times, AtFlags::EMPTY_PATH)?;
                }
            }
        }
        Ok(())
    }

    fn set_mode(self, mode: u32) -> Result<(), Errno> {
        let mode = Mode::from_raw_mode(mode & MODE_BITS);
        match self {
            Self::Open(file) => rustix::fs::fchmod(file, mode),
            // The kernel has no call for a descriptor that only names a file, but its own link to it.
            Self::Named(file) => rustix::fs::chmod(own_link(file), mode),
        }
    }

    fn set_owner(self, uid: Option<u32>, gid: Option<u32>) -> Result<(), Errno> {
        let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
        match self {
            Self::Open(file) => rustix::fs::fchown(file, uid, gid),
            Self::Named(file) => rustix::fs::chownat(file, c"", uid, gid, AtFlags::EMPTY_PATH),
        }
    }

    /// Gives a file that was just made to its owner.
    pub(super) fn hand_over(self, new: NewFile, made: &FileStat) -> Result<(), Errno> {
        // A directory that hands its group down has done so already.
        let group = (made.gid == 0 && new.gid != 0).then_some(new.gid);
        let user = (made.uid != new.uid).then_some(new.uid);
        if user.is_none() && group.is_none() {
            return Ok(());
        }
        self.set_owner(user, group)?;
        if made.kind == FileKind::Regular && new.mode & PRIVILEGED != 0 {
            self.set_mode(new.mode)?;
        }
        Ok(())
    }
}

/// Returns a path that leads to what a descriptor names, and nowhere else.
pub(super) fn own_link(file: BorrowedFd<'_>) -> String {
    use std::os::fd::AsRawFd as _;
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

fn timespec(time: Option<NewTime>) -> Timespec {
    match time {
        None => Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        Some(NewTime::Now) => Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
        Some(NewTime::At(ModifiedAt { seconds, nanoseconds })) => {
            Timespec { tv_sec: seconds, tv_nsec: nanoseconds.into() }
        }
    }
}
