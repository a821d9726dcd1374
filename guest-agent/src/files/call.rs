//! What the host can do with files, one function for each call.

use std::fs::File;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use pyro_protocol::{
    Existing, FILE_DATA_MAX, FileAccess, FileAnswer, FileCall, FileKind, FileStat, FileTarget, NewFile,
    Space, StatChanges,
};
use rustix::fs::{AtFlags, FallocateFlags, FileType, Mode, OFlags, RenameFlags, SeekFrom};
use rustix::io::Errno;

use super::attributes::{self, Changed};
use super::handles::{Handles, Open, OpenDirectory};
use super::root::{self, Root};
use crate::files::path::EntryPath;
use crate::launch;

/// How often a file is looked for and made in turn, when others make and remove it all the time.
const CREATE_TRIES: u32 = 16;

/// The files of a connection.
#[derive(Debug)]
pub(super) struct Tree {
    pub(super) root: Root,
    pub(super) handles: Handles,
}

/// What a call gives.
#[derive(Debug)]
pub(super) enum Given {
    Answer(FileAnswer),
    /// A file was opened; the host may have its descriptor.
    Opened {
        handle: u64,
        stat: FileStat,
        file: Arc<Open>,
    },
    Data(Vec<u8>),
}

impl From<FileAnswer> for Given {
    fn from(answer: FileAnswer) -> Self {
        Self::Answer(answer)
    }
}

impl Tree {
    /// Carries a call out.
    pub(super) fn perform(&self, call: FileCall) -> Result<Given, Errno> {
        let done = |()| FileAnswer::Done.into();
        let stat = |stat| FileAnswer::Stat(stat).into();
        match call {
            FileCall::Stat(target) => self.stat(target).map(stat),
            FileCall::SetStat { target, changes } => self.set_stat(target, &changes).map(stat),
            FileCall::ReadLink { path } => self.read_link(path).map(Into::into),
            FileCall::Open { path, access, truncate } => self.open(path, access, truncate),
            FileCall::Create { path, access, exclusive, truncate, new } => {
                self.create(path, access, exclusive, truncate, new)
            }
            FileCall::OpenDir { path } => self.open_dir(path).map(Into::into),
            FileCall::ReadDir { handle } => {
                let entries = self.handles.get(handle)?.directory()?.read()?;
                Ok(FileAnswer::Entries(entries).into())
            }
            FileCall::Read { handle, offset, len } => self.read(handle, offset, len),
            FileCall::Sync { handle, data_only } => self.sync(handle, data_only).map(done),
            FileCall::Allocate { handle, mode, offset, len } => {
                let flags = FallocateFlags::from_bits(mode).ok_or(Errno::OPNOTSUPP)?;
                rustix::fs::fallocate(self.handles.get(handle)?.file()?, flags, offset, len).map(done)
            }
            FileCall::Seek { handle, offset, hole } => {
                let from = if hole { SeekFrom::Hole(offset) } else { SeekFrom::Data(offset) };
                let position = rustix::fs::seek(self.handles.get(handle)?.file()?, from)?;
                Ok(FileAnswer::Position(position).into())
            }
            FileCall::Close { handle } => self.handles.close(handle).map(done),
            FileCall::MakeDir { path, new } => self.make_dir(path, new).map(stat),
            FileCall::MakeNode { path, kind, new } => self.make_node(path, kind, new).map(stat),
            FileCall::Symlink { path, target, new } => self.symlink(path, &target, new).map(stat),
            FileCall::Link { from, path } => self.link(from, path).map(stat),
            FileCall::Unlink { path } => self.unlink(path, AtFlags::empty()).map(done),
            FileCall::RemoveDir { path } => self.unlink(path, AtFlags::REMOVEDIR).map(done),
            FileCall::Rename { from, to, existing } => self.rename(from, to, existing).map(done),
            FileCall::Space => self.space().map(Into::into),
        }
    }

    /// Writes into an open file and returns how many bytes it took.
    pub(super) fn write(&self, handle: u64, offset: u64, data: &[u8]) -> Result<Given, Errno> {
        let open = self.handles.get(handle)?;
        let file = open.file()?;
        let mut written = 0;
        while written < data.len() {
            match file.write_at(&data[written..], offset.saturating_add(len_u64(written))) {
                Ok(0) => break,
                Ok(count) => written += count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) if written == 0 => return Err(errno(&error)),
                Err(_) => break,
            }
        }
        let len = u32::try_from(written).map_err(|_| Errno::INVAL)?;
        Ok(FileAnswer::Written { len }.into())
    }

    fn stat(&self, target: FileTarget) -> Result<FileStat, Errno> {
        match target {
            FileTarget::Handle(handle) => attributes::of_open(self.handles.get(handle)?.fd()),
            FileTarget::Path(path) if path.is_empty() => attributes::of_open(self.root.fd()),
            FileTarget::Path(path) => {
                let path = root::parse(path)?;
                let (parent, name) = self.root.parent(&path)?;
                attributes::of_name(parent.fd(), name)
            }
        }
    }

    fn set_stat(&self, target: FileTarget, changes: &StatChanges) -> Result<FileStat, Errno> {
        match target {
            FileTarget::Handle(handle) => {
                let open = self.handles.get(handle)?;
                if let Some(size) = changes.size {
                    rustix::fs::ftruncate(open.file()?, size)?;
                }
                Changed::Open(open.fd()).apply(changes)?;
                attributes::of_open(open.fd())
            }
            FileTarget::Path(path) => {
                let path = root::parse(path)?;
                if let Some(size) = changes.size {
                    let file =
                        regular(self.root.open_at(&path, flags(FileAccess::Write, false), Mode::empty())?)?;
                    rustix::fs::ftruncate(&file, size)?;
                }
                let named = self.root.open_at(&path, OFlags::PATH, Mode::empty())?;
                Changed::Named(named.as_fd()).apply(changes)?;
                attributes::of_open(&named)
            }
        }
    }

    fn read_link(&self, path: Vec<u8>) -> Result<FileAnswer, Errno> {
        let path = root::parse(path)?;
        let (parent, name) = self.root.parent(&path)?;
        let target = rustix::fs::readlinkat(parent.fd(), name, Vec::new())?;
        Ok(FileAnswer::Link(target.into_bytes()))
    }

    fn open(&self, path: Vec<u8>, access: FileAccess, truncate: bool) -> Result<Given, Errno> {
        let path = root::parse(path)?;
        let file = regular(self.root.open_at(&path, flags(access, truncate), Mode::empty())?)?;
        self.opened(file)
    }

    fn create(
        &self,
        path: Vec<u8>,
        access: FileAccess,
        exclusive: bool,
        truncate: bool,
        new: NewFile,
    ) -> Result<Given, Errno> {
        let path = root::parse(path)?;
        let mode = Mode::from_raw_mode(new.mode);
        let make = flags(access, truncate) | OFlags::CREATE | OFlags::EXCL;
        for _ in 0..CREATE_TRIES {
            match self.root.open_at(&path, make, mode) {
                Ok(file) => {
                    Changed::Open(file.as_fd()).hand_over(new, &attributes::of_open(&file)?)?;
                    return self.opened(file.into());
                }
                Err(Errno::EXIST) if !exclusive => {}
                Err(error) => return Err(error),
            }
            match self.root.open_at(&path, flags(access, truncate), Mode::empty()) {
                Ok(file) => return self.opened(regular(file)?),
                Err(Errno::NOENT) => {}
                Err(error) => return Err(error),
            }
        }
        Err(Errno::BUSY)
    }

    fn opened(&self, file: File) -> Result<Given, Errno> {
        let stat = attributes::of_open(&file)?;
        let (handle, file) = self.handles.add(Open::File(file))?;
        Ok(Given::Opened { handle, stat, file })
    }

    fn open_dir(&self, path: Vec<u8>) -> Result<FileAnswer, Errno> {
        let path = root::parse(path)?;
        let directory = self.root.open_at(&path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())?;
        let stat = attributes::of_open(&directory)?;
        let (handle, _) = self.handles.add(Open::Directory(OpenDirectory::new(directory)?))?;
        Ok(FileAnswer::Opened { handle, stat, passed: false })
    }

    fn read(&self, handle: u64, offset: u64, len: u32) -> Result<Given, Errno> {
        let len = usize::try_from(len).ok().filter(|len| *len <= FILE_DATA_MAX).ok_or(Errno::INVAL)?;
        let open = self.handles.get(handle)?;
        let file = open.file()?;
        let mut data = vec![0; len];
        let mut read = 0;
        while read < len {
            match file.read_at(&mut data[read..], offset.saturating_add(len_u64(read))) {
                Ok(0) => break,
                Ok(count) => read += count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(errno(&error)),
            }
        }
        data.truncate(read);
        Ok(Given::Data(data))
    }

    fn sync(&self, handle: u64, data_only: bool) -> Result<(), Errno> {
        let open = self.handles.get(handle)?;
        if data_only { rustix::fs::fdatasync(open.fd()) } else { rustix::fs::fsync(open.fd()) }
    }

    fn make_dir(&self, path: Vec<u8>, new: NewFile) -> Result<FileStat, Errno> {
        let path = root::parse(path)?;
        let (parent, name) = self.root.parent(&path).map_err(there_already)?;
        rustix::fs::mkdirat(parent.fd(), name, Mode::from_raw_mode(new.mode))?;
        self.hand_over(&path, new)
    }

    fn make_node(&self, path: Vec<u8>, kind: FileKind, new: NewFile) -> Result<FileStat, Errno> {
        let kind = match kind {
            FileKind::Fifo => FileType::Fifo,
            FileKind::Socket => FileType::Socket,
            // Devices lead out of the workspace.
            FileKind::CharDevice | FileKind::BlockDevice => return Err(Errno::PERM),
            FileKind::Regular | FileKind::Directory | FileKind::Symlink => return Err(Errno::INVAL),
        };
        let path = root::parse(path)?;
        let (parent, name) = self.root.parent(&path).map_err(there_already)?;
        rustix::fs::mknodat(parent.fd(), name, kind, Mode::from_raw_mode(new.mode), 0)?;
        self.hand_over(&path, new)
    }

    fn symlink(&self, path: Vec<u8>, target: &[u8], new: NewFile) -> Result<FileStat, Errno> {
        let path = root::parse(path)?;
        let (parent, name) = self.root.parent(&path).map_err(there_already)?;
        rustix::fs::symlinkat(target, parent.fd(), name)?;
        self.hand_over(&path, new)
    }

    /// Gives what was made at a path to its owner, and tells what it is.
    fn hand_over(&self, path: &EntryPath, new: NewFile) -> Result<FileStat, Errno> {
        let named = self.root.open_at(path, OFlags::PATH, Mode::empty())?;
        Changed::Named(named.as_fd()).hand_over(new, &attributes::of_open(&named)?)?;
        attributes::of_open(&named)
    }

    fn link(&self, from: Vec<u8>, path: Vec<u8>) -> Result<FileStat, Errno> {
        let (from, path) = (root::parse(from)?, root::parse(path)?);
        let (old_parent, old) = self.root.parent(&from).map_err(|_root| Errno::PERM)?;
        let (parent, name) = self.root.parent(&path).map_err(there_already)?;
        rustix::fs::linkat(old_parent.fd(), old, parent.fd(), name, AtFlags::empty())?;
        attributes::of_name(parent.fd(), name)
    }

    fn unlink(&self, path: Vec<u8>, flags: AtFlags) -> Result<(), Errno> {
        let path = root::parse(path)?;
        let (parent, name) = self.root.parent(&path)?;
        rustix::fs::unlinkat(parent.fd(), name, flags)
    }

    fn rename(&self, from: Vec<u8>, to: Vec<u8>, existing: Existing) -> Result<(), Errno> {
        let (from, to) = (root::parse(from)?, root::parse(to)?);
        let (old_parent, old) = self.root.parent(&from)?;
        let (new_parent, new) = self.root.parent(&to)?;
        let flags = match existing {
            Existing::Replace => RenameFlags::empty(),
            Existing::Keep => RenameFlags::NOREPLACE,
            Existing::Exchange => RenameFlags::EXCHANGE,
        };
        rustix::fs::renameat_with(old_parent.fd(), old, new_parent.fd(), new, flags)
    }

    fn space(&self) -> Result<FileAnswer, Errno> {
        let space = rustix::fs::fstatvfs(self.root.fd())?;
        Ok(FileAnswer::Space(Space {
            block_len: u32::try_from(space.f_frsize).unwrap_or(4096),
            blocks: space.f_blocks,
            free: space.f_bfree,
            available: space.f_bavail,
            files: space.f_files,
            files_free: space.f_ffree,
        }))
    }
}

const fn there_already(error: Errno) -> Errno {
    match error {
        Errno::BUSY => Errno::EXIST,
        error => error,
    }
}

fn flags(access: FileAccess, truncate: bool) -> OFlags {
    let access = match access {
        FileAccess::Read => OFlags::RDONLY,
        FileAccess::Write => OFlags::WRONLY,
        FileAccess::ReadWrite => OFlags::RDWR,
    };
    let truncate = if truncate { OFlags::TRUNC } else { OFlags::empty() };
    // A named pipe or a terminal that took the place of a file must not hold the worker.
    access | truncate | OFlags::NONBLOCK | OFlags::NOCTTY
}

/// Returns an open file that has bytes.
fn regular(file: OwnedFd) -> Result<File, Errno> {
    match FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode) {
        FileType::RegularFile => Ok(file.into()),
        FileType::Directory => Err(Errno::ISDIR),
        _ => Err(Errno::NXIO),
    }
}

fn errno(error: &std::io::Error) -> Errno {
    Errno::from_raw_os_error(launch::errno(error))
}

fn len_u64(len: usize) -> u64 {
    u64::try_from(len).expect("memory is shorter than 2^64 bytes")
}
