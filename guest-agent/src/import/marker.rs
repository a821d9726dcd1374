//! The file that says that an import is decided: from here on it is finished, also after a crash.
//!
//! It is the host's frames of the import without what lies in the stage: `Import`, an `Entry` for each removal and
//! for each directory that was there already, `Commit`. A file without the last one was cut by a crash, and then
//! nothing was moved.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd};

use pyro_protocol::{Decoder, Entry, EntryKind, Frame as _, HostFrame, Import, ModifiedAt};
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use super::failure::{Doing as _, Failure};
use super::plan::Plan;
use super::stage::{Decided, attributes};
use crate::files::cursor::Attributes;
use crate::files::path::EntryPath;

/// Names of the marker: removals come first and must not be done again once something was moved in, because it may
/// lie at the same path.
const REMOVING: &str = "removing";
const MOVING: &str = "moving";

/// Bytes that are written at once.
const CHUNK: usize = 64 * 1024;

/// Writes the marker to disk.
pub(super) fn write(stage: BorrowedFd<'_>, import: &Import, plan: &Plan) -> Result<(), Failure> {
    let name = if plan.removals.is_empty() { MOVING } else { REMOVING };
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let written = rustix::fs::openat(stage, name, flags, Mode::RUSR | Mode::WUSR)
        .map_err(Into::into)
        .and_then(|file| write_frames(File::from(file), import, plan))
        .and_then(|()| Ok(rustix::fs::fsync(stage)?));
    written
        .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
        .doing("note that the import is decided")
}

fn write_frames(mut file: File, import: &Import, plan: &Plan) -> std::io::Result<()> {
    let removals = plan.removals.iter().map(|path| entry(path, EntryKind::Absent, None));
    let directories = plan
        .directories
        .iter()
        .filter_map(|directory| Some(entry(&directory.path, EntryKind::Directory, Some(directory.after?))));
    let frames = std::iter::once(HostFrame::Import(import.clone()))
        .chain(removals.chain(directories).map(HostFrame::Entry))
        .chain([HostFrame::Commit]);
    let mut bytes = Vec::new();
    for frame in frames {
        frame.encode(&mut bytes).map_err(std::io::Error::other)?;
        if bytes.len() >= CHUNK {
            file.write_all(&bytes)?;
            bytes.clear();
        }
    }
    file.write_all(&bytes)?;
    file.sync_data()
}

fn entry(path: &EntryPath, kind: EntryKind, attributes: Option<Attributes>) -> Entry {
    let (mode, modified) = attributes.map_or((0, ModifiedAt::default()), |Attributes { mode, modified }| {
        let nanoseconds = u32::try_from(modified.tv_nsec).expect("it came as a number of this size");
        (mode.as_raw_mode(), ModifiedAt { seconds: modified.tv_sec, nanoseconds })
    });
    Entry { path: path.as_bytes().to_vec(), kind, mode, modified }
}

/// Notes that all removals are done. It needs no sync of its own: file systems keep the order of names that change.
pub(super) fn advance(stage: BorrowedFd<'_>) -> Result<(), Failure> {
    rustix::fs::renameat(stage, REMOVING, stage, MOVING).doing("note that the removals are done")
}

/// Notes that removals are to be made again, because they are taken back.
pub(super) fn retreat(stage: BorrowedFd<'_>) -> Result<(), Errno> {
    match rustix::fs::renameat(stage, MOVING, stage, REMOVING) {
        // There is none, or no removal was made.
        Err(Errno::NOENT) => Ok(()),
        renamed => renamed,
    }
}

/// Removes the marker.
pub(super) fn erase(stage: impl AsFd) -> Result<(), Errno> {
    for name in [REMOVING, MOVING] {
        match rustix::fs::unlinkat(&stage, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Reads the marker; `None` when the import was not decided.
///
/// Everybody with the rights of root in the guest can write it, so nothing in it is believed that a host would not
/// be.
pub(super) fn read(stage: impl AsFd) -> Result<Option<(Import, Decided)>, Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    for (name, removals_are_done) in [(MOVING, true), (REMOVING, false)] {
        match rustix::fs::openat(&stage, name, flags, Mode::empty()) {
            Err(Errno::NOENT) => {}
            Err(error) => return Err(error),
            Ok(file) => {
                return Ok(read_frames(File::from(file)).map(|(import, mut decided)| {
                    if removals_are_done {
                        decided.absent.clear();
                    }
                    (import, decided)
                }));
            }
        }
    }
    Ok(None)
}

fn read_frames(mut file: File) -> Option<(Import, Decided)> {
    let mut decoder = Decoder::new();
    let (mut import, mut decided) = (None, Decided::default());
    let mut bytes = vec![0; CHUNK];
    loop {
        match decoder.next_frame().ok()? {
            Some(HostFrame::Import(frame)) => import = Some(frame),
            Some(HostFrame::Entry(entry)) => {
                let path = EntryPath::parse(entry.path).ok()?;
                if entry.kind == EntryKind::Absent {
                    decided.absent.insert(path);
                } else {
                    decided.directories.insert(path, attributes(entry.mode, entry.modified).ok()?);
                }
            }
            Some(HostFrame::Commit) => return Some((import?, decided)),
            Some(_) => return None,
            None => match file.read(&mut bytes).ok()? {
                0 => return None,
                n => decoder.push(&bytes[..n]),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::fd::OwnedFd;

    use rustix::fs::Timespec;

    use super::*;
    use crate::import::plan::Merged;

    fn path(path: &str) -> EntryPath {
        EntryPath::parse(path.into()).expect("a good path")
    }

    /// A marker of which a crash has kept a part must not be taken for an import with less in it.
    #[test]
    fn a_marker_is_read_whole_or_not_at_all() {
        let directory = tempfile::tempdir().unwrap();
        let stage: OwnedFd = fs::File::open(directory.path()).unwrap().into();
        let modified = Timespec { tv_sec: -1, tv_nsec: 999_999_999 };
        let after = Attributes { mode: Mode::from_raw_mode(0o1755), modified };
        let merged = |name, after| Merged { path: path(name), before: None, after };
        let plan = Plan {
            removals: vec![path("a"), path("b/c")],
            directories: vec![merged("", None), merged("d", Some(after))],
            ..Plan::default()
        };
        let import = Import { op: 7, destination: "/workspace".to_owned() };
        write(stage.as_fd(), &import, &plan).unwrap();

        let whole = fs::read(directory.path().join(REMOVING)).unwrap();
        for len in 0..whole.len() {
            fs::write(directory.path().join(REMOVING), &whole[..len]).unwrap();
            assert!(read(&stage).unwrap().is_none(), "{len} bytes");
        }
        fs::write(directory.path().join(REMOVING), &whole).unwrap();
        let (read_import, decided) = read(&stage).unwrap().unwrap();
        assert_eq!(read_import, import);
        assert_eq!(decided.absent.into_iter().collect::<Vec<_>>(), plan.removals);
        assert_eq!(decided.directories.into_iter().collect::<Vec<_>>(), [(path("d"), after)]);

        advance(stage.as_fd()).unwrap();
        assert!(read(&stage).unwrap().unwrap().1.absent.is_empty());
        retreat(stage.as_fd()).unwrap();
        assert_eq!(read(&stage).unwrap().unwrap().1.absent.len(), 2);
        erase(&stage).unwrap();
        assert!(read(&stage).unwrap().is_none());
        retreat(stage.as_fd()).unwrap();
    }
}
