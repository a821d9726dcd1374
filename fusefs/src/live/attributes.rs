//! What `stat` tells of a live file.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{FileAttr, FileType, INodeNo, TimeOrNow};
use pyro_protocol::{FileKind, FileStat, ModifiedAt, NewTime};

use super::Told;

/// Whose the files of guests are on this side.
///
/// The root of a guest is the user who mounted: what commands made can be changed, and what is made here is theirs. Other
/// users keep their numbers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Owners {
    /// The user and the group that mounted.
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl Owners {
    pub(super) const fn to_guest(self, uid: u32, gid: u32) -> (u32, u32) {
        (if uid == self.uid { 0 } else { uid }, if gid == self.gid { 0 } else { gid })
    }

    const fn to_host(self, uid: u32, gid: u32) -> (u32, u32) {
        (if uid == 0 { self.uid } else { uid }, if gid == 0 { self.gid } else { gid })
    }

    /// Returns what the kernel is told of a file.
    pub(super) fn attributes(self, told: &Told) -> FileAttr {
        let Told { number, stat } = told;
        let (uid, gid) = self.to_host(stat.uid, stat.gid);
        FileAttr {
            ino: INodeNo(*number),
            size: stat.size,
            blocks: stat.blocks,
            atime: time(stat.accessed),
            mtime: time(stat.modified),
            ctime: time(stat.changed),
            crtime: UNIX_EPOCH,
            kind: kind(stat.kind),
            perm: u16::try_from(stat.mode & 0o7777).unwrap_or_default(),
            nlink: stat.links,
            uid,
            gid,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        }
    }
}

/// Returns what is told of the files of a workspace without a guest.
pub(super) const fn empty_directory() -> FileStat {
    const NEVER: ModifiedAt = ModifiedAt { seconds: 0, nanoseconds: 0 };
    FileStat {
        device: 0,
        inode: 0,
        kind: FileKind::Directory,
        mode: 0o555,
        links: 2,
        uid: 0,
        gid: 0,
        size: 0,
        blocks: 0,
        accessed: NEVER,
        modified: NEVER,
        changed: NEVER,
    }
}

/// Returns the kernel's word for a kind of file.
pub(super) const fn kind(kind: FileKind) -> FileType {
    match kind {
        FileKind::Regular => FileType::RegularFile,
        FileKind::Directory => FileType::Directory,
        FileKind::Symlink => FileType::Symlink,
        FileKind::Fifo => FileType::NamedPipe,
        FileKind::Socket => FileType::Socket,
        FileKind::CharDevice => FileType::CharDevice,
        FileKind::BlockDevice => FileType::BlockDevice,
    }
}

/// Returns a time of the guest's as one of the host's.
fn time(time: ModifiedAt) -> SystemTime {
    let seconds = Duration::from_secs(time.seconds.unsigned_abs());
    let whole =
        if time.seconds < 0 { UNIX_EPOCH.checked_sub(seconds) } else { UNIX_EPOCH.checked_add(seconds) };
    let exact = whole.and_then(|whole| whole.checked_add(Duration::from_nanos(time.nanoseconds.into())));
    exact.unwrap_or(UNIX_EPOCH)
}

/// Returns a time of the host's as the guest is told it.
pub(super) fn new_time(time: TimeOrNow) -> NewTime {
    let at = match time {
        TimeOrNow::Now => return NewTime::Now,
        TimeOrNow::SpecificTime(at) => at,
    };
    let seconds = |duration: Duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    NewTime::At(match at.duration_since(UNIX_EPOCH) {
        Ok(since) => ModifiedAt { seconds: seconds(since), nanoseconds: since.subsec_nanos() },
        Err(before) => {
            let before = before.duration();
            let nanoseconds = before.subsec_nanos();
            if nanoseconds == 0 {
                ModifiedAt { seconds: -seconds(before), nanoseconds: 0 }
            } else {
                ModifiedAt { seconds: -seconds(before) - 1, nanoseconds: 1_000_000_000 - nanoseconds }
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Catches times before 1970 that come back as others.
    #[test]
    fn times_come_back_as_they_went() {
        for (seconds, nanoseconds) in [(0, 0), (1, 999_999_999), (-1, 0), (-1, 1), (-5, 999_999_999)] {
            let at = ModifiedAt { seconds, nanoseconds };
            assert_eq!(new_time(TimeOrNow::SpecificTime(time(at))), NewTime::At(at));
        }
    }

    /// Catches files of commands that the user who mounted cannot change.
    #[test]
    fn the_guests_root_is_the_user_who_mounted() {
        let owners = Owners { uid: 1000, gid: 100 };
        assert_eq!((owners.to_guest(1000, 100), owners.to_host(0, 0)), ((0, 0), (1000, 100)));
        assert_eq!((owners.to_guest(7, 8), owners.to_host(7, 8)), ((7, 8), (7, 8)));
        let root = Owners { uid: 0, gid: 0 };
        assert_eq!((root.to_guest(0, 0), root.to_host(1000, 0)), ((0, 0), (1000, 0)));
    }
}
