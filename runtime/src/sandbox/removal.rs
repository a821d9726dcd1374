//! Removing what a sandbox has left, which may be hostile: directories that nobody may enter, or that lie in each other
//! deeper than a path, a stack or the number of open files reaches.
//!
//! So nothing here goes down. A directory within another one is moved up to the top, where it is the next to be emptied.

use std::ffi::CStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, RawDir, ResolveFlags, SeekFrom, chmodat, fchmod, fstat, open, openat2,
    renameat, rmdir, seek, unlinkat,
};
use rustix::io::Errno;

/// Size of the buffer for the entries of a directory, in bytes. Two of them are on the stack.
const ENTRIES_LEN: usize = 16 * 1024;

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Removes a directory with all that is in it. Links are not followed; a mount in it makes it fail. That there is no
/// such directory is no error.
///
/// No process that changes something in it may be left. It blocks.
pub(super) fn remove_tree(path: &Path) -> io::Result<()> {
    let dir = match open(path, DIRECTORY, Mode::empty()) {
        Ok(dir) => dir,
        Err(Errno::NOENT) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let mut top = Top { dir, removed: 0, moved: 0 };
    loop {
        let before = top.removed;
        top.empty_directories()?;
        match rmdir(path) {
            // What was moved up meanwhile.
            Err(Errno::NOTEMPTY) if top.removed > before => (),
            done => return Ok(done?),
        }
    }
}

/// The directory whose content is removed.
struct Top {
    dir: OwnedFd,
    /// Number of entries that were removed, on whatever level.
    removed: u64,
    /// Number in the name of the next directory that is moved up.
    moved: u64,
}

impl Top {
    /// Removes what is there. Directories that are moved up in the meantime may stay.
    fn empty_directories(&mut self) -> rustix::io::Result<()> {
        let Self { dir: top, removed, moved } = self;
        seek(&*top, SeekFrom::Start(0))?;
        let mut buffer = [MaybeUninit::uninit(); ENTRIES_LEN];
        let mut entries = RawDir::new(&*top, &mut buffer);
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let name = entry.file_name();
            if !remains_as_directory(top, name, entry.file_type(), removed)? {
                continue;
            }
            let dir = open_within(top, name)?;
            empty(&dir, top, removed, moved)?;
            match unlinkat(&*top, name, AtFlags::REMOVEDIR) {
                Ok(()) => *removed += 1,
                // Some file systems pass over an entry when others are removed. There is another round.
                Err(Errno::NOTEMPTY) => (),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Removes all from a directory; the directories in it are moved to the top.
fn empty(dir: &OwnedFd, top: &OwnedFd, removed: &mut u64, moved: &mut u64) -> rustix::io::Result<()> {
    let mut buffer = [MaybeUninit::uninit(); ENTRIES_LEN];
    let mut entries = RawDir::new(dir, &mut buffer);
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name();
        if remains_as_directory(dir, name, entry.file_type(), removed)? {
            move_up(dir, name, top, moved)?;
        }
    }
    Ok(())
}

/// Removes an entry unless it is a directory to be emptied first, and tells whether it is.
fn remains_as_directory(
    dir: &OwnedFd,
    name: &CStr,
    kind: FileType,
    removed: &mut u64,
) -> rustix::io::Result<bool> {
    if name == c"." || name == c".." {
        return Ok(false);
    }
    if kind == FileType::Directory {
        return Ok(true);
    }
    match unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) => {
            *removed += 1;
            Ok(false)
        }
        // Not every file system tells the kind.
        Err(Errno::ISDIR) => Ok(true),
        Err(error) => Err(error),
    }
}

/// Opens a directory whose entries can be removed then, whatever its mode was. A mount is refused.
fn open_within(at: &OwnedFd, name: &CStr) -> rustix::io::Result<OwnedFd> {
    let resolve = ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS;
    let opened = || openat2(at, name, DIRECTORY, Mode::empty(), resolve);
    let dir = opened().or_else(|error| retry_allowed(error, at, name, opened))?;
    if !Mode::from_raw_mode(fstat(&dir)?.st_mode).contains(Mode::RWXU) {
        fchmod(&dir, Mode::RWXU)?;
    }
    Ok(dir)
}

/// Gives a directory a place at the top, under a name that is free there.
fn move_up(dir: &OwnedFd, name: &CStr, top: &OwnedFd, moved: &mut u64) -> rustix::io::Result<()> {
    loop {
        let new_name = format!("removed-{moved}");
        *moved += 1;
        let rename = || renameat(dir, name, top, new_name.as_str());
        match rename().or_else(|error| retry_allowed(error, dir, name, rename)) {
            Ok(()) => return Ok(()),
            // Left over from a removal that was interrupted, or what the sandbox had there.
            Err(Errno::EXIST | Errno::NOTEMPTY | Errno::NOTDIR) => (),
            Err(error) => return Err(error),
        }
    }
}

/// Does something again after an ordinary user was refused, for whom the mode of his own directory counts.
fn retry_allowed<T>(
    error: Errno,
    at: &OwnedFd,
    name: &CStr,
    again: impl FnOnce() -> rustix::io::Result<T>,
) -> rustix::io::Result<T> {
    if error != Errno::ACCESS {
        return Err(error);
    }
    chmodat(at, name, Mode::RWXU, AtFlags::empty())?;
    again()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    #[test]
    fn closed_directories_go_and_targets_of_links_stay() {
        let home = tempfile::tempdir().unwrap();
        let outside = home.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("file"), "").unwrap();
        let dir = home.path().join("w");
        fs::create_dir_all(dir.join("disk/work/work/inner")).unwrap();
        // The name that the first directory is to be moved to.
        fs::create_dir_all(dir.join("removed-0/full")).unwrap();
        fs::write(dir.join("removed-1"), "").unwrap();
        symlink(&outside, dir.join("disk/link")).unwrap();
        symlink(&outside, dir.join("link")).unwrap();
        for closed in ["disk/work/work/inner", "disk/work/work", "disk/work"] {
            fs::set_permissions(dir.join(closed), Permissions::from_mode(0o000)).unwrap();
        }
        remove_tree(&dir).unwrap();
        assert!(!dir.exists() && outside.join("file").exists());
        remove_tree(&dir).unwrap();
        symlink(&outside, &dir).unwrap();
        remove_tree(&dir).unwrap_err();
        assert!(outside.join("file").exists());
    }

    #[test]
    fn directories_go_however_deep_and_many_they_are() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("w");
        fs::create_dir(&dir).unwrap();
        // Far more than a path may have, and more than the stack of the thread below bears.
        let mut inner = open(&dir, DIRECTORY, Mode::empty()).unwrap();
        for _ in 0..4_000 {
            rustix::fs::mkdirat(&inner, "d", Mode::RWXU).unwrap();
            inner = open_within(&inner, c"d").unwrap();
        }
        drop(inner);
        for number in 0..2_000 {
            fs::create_dir_all(dir.join(format!("wide/{number}/more"))).unwrap();
            fs::write(dir.join(format!("wide/{number}.txt")), "").unwrap();
        }
        let removed = dir.clone();
        let thread = std::thread::Builder::new().stack_size(128 * 1024);
        thread.spawn(move || remove_tree(&removed)).unwrap().join().unwrap().unwrap();
        assert!(!dir.exists());
    }
}
