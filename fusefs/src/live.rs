//! The directory `files` of a workspace: the live files of its guest, read and changed.
//!
//! Nothing is kept of them but numbers and names. A call holds no thread while the guest is asked; only bytes of files that the guest could hand over are moved by the thread that serves the kernel.

mod attributes;
mod files;
mod handles;
mod names;
mod serve;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use fuser::Errno;
use pyro_core::WorkspaceId;
use pyro_protocol::{
    FILE_DATA_MAX, FileAnswer, FileCall, FileStat, FileTarget, Listed, NewFile, Space, StatChanges,
};

pub(crate) use attributes::Owners;
pub use files::{Answering, FileError, Files, LiveFile};
pub(crate) use names::is_live;
pub(crate) use serve::{LiveCalls, Wanted};

use handles::{Handles, Held};
use names::{Names, Place};

/// How long the kernel may believe what it was told of a live file. A guest's own changes show after that.
const KEPT: Duration = Duration::from_secs(1);

/// Longest name in a directory, in bytes.
const NAME_LEN_MAX: usize = 255;

/// Most entries of a directory that is listed.
const LISTED_MAX: usize = 1 << 20;

/// The live files of all workspaces.
#[derive(Debug)]
struct Live {
    files: Arc<dyn Files>,
    owners: Owners,
    names: Mutex<Names>,
    handles: Mutex<Handles>,
}

/// A live file or directory that the kernel names.
#[derive(Clone, Copy, Debug)]
pub(crate) struct At {
    workspace: WorkspaceId,
    place: Place,
    /// As the kernel knows it.
    number: u64,
}

impl At {
    /// Returns the top of a workspace's files, which has the number of its node.
    pub(crate) const fn top(workspace: WorkspaceId, number: u64) -> Self {
        Self { workspace, place: Place::Top, number }
    }

    pub(crate) const fn workspace(&self) -> WorkspaceId {
        self.workspace
    }

    pub(crate) const fn is_top(&self) -> bool {
        matches!(self.place, Place::Top)
    }
}

/// A file as the kernel is told of it.
#[derive(Clone, Copy, Debug)]
struct Told {
    number: u64,
    stat: FileStat,
}

impl Live {
    fn new(files: Arc<dyn Files>, owners: Owners) -> Self {
        Self { files, owners, names: Mutex::default(), handles: Mutex::default() }
    }

    /// Returns the live file of a number; `None` for one that was forgotten.
    fn at(&self, number: u64) -> Option<At> {
        let workspace = self.names().workspace(number)?;
        Some(At { workspace, place: Place::Number(number), number })
    }

    /// The kernel forgets a number, so often.
    fn forget(&self, number: u64, lookups: u64) {
        self.names().forget(number, lookups);
    }

    async fn find(&self, at: At, name: &OsStr) -> Result<Told, Errno> {
        let name = name.as_bytes();
        let path = self.below(at, name)?;
        let found = self.stat(at.workspace, FileCall::Stat(FileTarget::Path(path))).await;
        if found.as_ref().is_err_and(|error| error.code() == Errno::ENOENT.code()) {
            self.names().removed(at.workspace, at.place, name);
        }
        Ok(self.tell(at, name, found?))
    }

    fn tell(&self, at: At, name: &[u8], stat: FileStat) -> Told {
        Told { number: self.names().tell(at.workspace, at.place, name, &stat), stat }
    }

    async fn attributes(&self, at: At, handle: Option<u64>) -> Result<FileStat, Errno> {
        let target = self.target(at, handle)?;
        let by_path = matches!(target, FileTarget::Path(_));
        let found = self.stat(at.workspace, FileCall::Stat(target)).await;
        if at.place == Place::Top {
            return match found {
                // It is there as an empty directory.
                Err(error) if error.code() == Errno::EBUSY.code() => Ok(attributes::empty_directory()),
                found => found,
            };
        }
        match found {
            Ok(stat) if !by_path || self.names().is_same(at.number, &stat) => Ok(stat),
            // Another file has its name now.
            Ok(_) => Err(Errno::ESTALE),
            Err(error) if by_path && error.code() == Errno::ENOENT.code() => {
                // It was removed by the guest; whoever has it open still can look at it.
                let open = self.handles().of(at.number).ok_or(Errno::ESTALE)?;
                self.stat(at.workspace, FileCall::Stat(FileTarget::Handle(open))).await
            }
            Err(error) => Err(error),
        }
    }

    async fn change(&self, at: At, handle: Option<u64>, changes: StatChanges) -> Result<FileStat, Errno> {
        let target = self.target(at, handle)?;
        self.stat(at.workspace, FileCall::SetStat { target, changes }).await.map_err(stale)
    }

    async fn read_link(&self, at: At) -> Result<Vec<u8>, Errno> {
        match self.call(at.workspace, FileCall::ReadLink { path: self.path(at)? }).await.map_err(stale)? {
            FileAnswer::Link(target) => Ok(target),
            _ => Err(Errno::EIO),
        }
    }

    /// Makes something that is no regular file.
    async fn make(
        &self,
        at: At,
        name: &OsStr,
        call: impl FnOnce(Vec<u8>) -> FileCall,
    ) -> Result<Told, Errno> {
        let path = self.below(at, name.as_bytes())?;
        let stat = self.stat(at.workspace, call(path)).await?;
        Ok(self.tell(at, name.as_bytes(), stat))
    }

    async fn link(&self, at: At, to: At, name: &OsStr) -> Result<Told, Errno> {
        if at.workspace != to.workspace {
            return Err(Errno::EXDEV);
        }
        let from = self.path(at)?;
        self.make(to, name, |path| FileCall::Link { from, path }).await
    }

    async fn remove(
        &self,
        at: At,
        name: &OsStr,
        call: impl FnOnce(Vec<u8>) -> FileCall,
    ) -> Result<(), Errno> {
        let path = self.below(at, name.as_bytes())?;
        self.done(at.workspace, call(path)).await?;
        self.names().removed(at.workspace, at.place, name.as_bytes());
        Ok(())
    }

    async fn rename(
        &self,
        (at, name): (At, &OsStr),
        (to, new_name): (At, &OsStr),
        existing: pyro_protocol::Existing,
    ) -> Result<(), Errno> {
        if at.workspace != to.workspace {
            return Err(Errno::EXDEV);
        }
        let from = self.below(at, name.as_bytes())?;
        let call = FileCall::Rename { from, to: self.below(to, new_name.as_bytes())?, existing };
        self.done(at.workspace, call).await?;
        let exchanged = existing == pyro_protocol::Existing::Exchange;
        let (old, new) = ((at.place, name.as_bytes()), (to.place, new_name.as_bytes()));
        self.names().renamed(at.workspace, old, new, exchanged);
        Ok(())
    }

    /// Opens a file and returns the number under which the kernel has it open.
    async fn open(&self, at: At, call: impl FnOnce(Vec<u8>) -> FileCall) -> Result<u64, Errno> {
        let file = self.files.open(at.workspace, call(self.path(at)?)).await.map_err(errno).map_err(stale)?;
        if !self.names().is_same(at.number, &file.stat) {
            // Another file has its name now.
            self.close(at.workspace, file.handle).await;
            return Err(Errno::ESTALE);
        }
        Ok(self.handles().add(Held { workspace: at.workspace, number: at.number, file }))
    }

    async fn create(
        &self,
        at: At,
        name: &OsStr,
        call: impl FnOnce(Vec<u8>) -> FileCall,
    ) -> Result<(Told, u64), Errno> {
        let path = self.below(at, name.as_bytes())?;
        let file = self.files.open(at.workspace, call(path)).await.map_err(errno)?;
        let told = self.tell(at, name.as_bytes(), file.stat);
        let held = Held { workspace: at.workspace, number: told.number, file };
        Ok((told, self.handles().add(held)))
    }

    async fn release(&self, handle: u64) {
        let held = self.handles().remove(handle);
        if let Some(held) = held {
            self.close(held.workspace, held.file.handle).await;
        }
    }

    async fn close(&self, workspace: WorkspaceId, handle: u64) {
        // A guest that is gone has closed it.
        let _closed = self.files.call(workspace, FileCall::Close { handle }).await;
    }

    /// Reads up to `len` bytes, fewer only at the end of the file.
    async fn read(&self, handle: u64, offset: u64, len: u32) -> Result<Vec<u8>, Errno> {
        let held = self.held(handle)?;
        let mut data = Vec::new();
        while let Some(left) = u32::try_from(data.len()).ok().and_then(|read| len.checked_sub(read))
            && left > 0
        {
            let part = left.min(DATA_MAX);
            let from = offset.saturating_add(len_u64(data.len()));
            let read = self.files.read(held.workspace, held.file.handle, from, part).await.map_err(errno)?;
            data.extend_from_slice(&read);
            if len_u64(read.len()) < u64::from(part) {
                break;
            }
        }
        Ok(data)
    }

    /// Writes and returns how many bytes were written.
    async fn write(&self, handle: u64, offset: u64, mut data: Bytes) -> Result<u32, Errno> {
        let held = self.held(handle)?;
        let mut written = 0_u32;
        while !data.is_empty() {
            let part = data.split_to(data.len().min(FILE_DATA_MAX));
            let all = len_u64(part.len());
            let from = offset.saturating_add(written.into());
            match self.files.write(held.workspace, held.file.handle, from, part).await {
                Ok(count) => {
                    written = written.saturating_add(count);
                    if u64::from(count) < all {
                        break;
                    }
                }
                Err(error) if written == 0 => return Err(errno(error)),
                Err(_) => break,
            }
        }
        Ok(written)
    }

    /// Carries a call about an open file out.
    async fn with_handle(
        &self,
        handle: u64,
        call: impl FnOnce(u64) -> FileCall,
    ) -> Result<FileAnswer, Errno> {
        let held = self.held(handle)?;
        self.call(held.workspace, call(held.file.handle)).await
    }

    /// Lists a directory as it is now.
    async fn list(&self, at: At) -> Result<Vec<Listed>, Errno> {
        let opened = self.files.open(at.workspace, FileCall::OpenDir { path: self.path(at)? }).await;
        let directory = match opened {
            Err(FileError::Stopped) if at.place == Place::Top => return Ok(Vec::new()),
            opened => opened.map_err(errno).map_err(stale)?,
        };
        let listed = self.list_open(at.workspace, directory.handle).await;
        self.close(at.workspace, directory.handle).await;
        listed
    }

    async fn list_open(&self, workspace: WorkspaceId, handle: u64) -> Result<Vec<Listed>, Errno> {
        let mut all = Vec::new();
        loop {
            match self.call(workspace, FileCall::ReadDir { handle }).await? {
                FileAnswer::Entries(entries) if entries.is_empty() => return Ok(all),
                // A guest can make a directory that never ends.
                FileAnswer::Entries(_) if all.len() > LISTED_MAX => return Err(Errno::EOVERFLOW),
                FileAnswer::Entries(entries) => all.extend(entries),
                _ => return Err(Errno::EIO),
            }
        }
    }

    async fn space(&self, at: At) -> Result<Space, Errno> {
        match self.call(at.workspace, FileCall::Space).await? {
            FileAnswer::Space(space) => Ok(space),
            _ => Err(Errno::EIO),
        }
    }

    async fn call(&self, workspace: WorkspaceId, call: FileCall) -> Result<FileAnswer, Errno> {
        self.files.call(workspace, call).await.map_err(errno)
    }

    async fn stat(&self, workspace: WorkspaceId, call: FileCall) -> Result<FileStat, Errno> {
        match self.call(workspace, call).await? {
            FileAnswer::Stat(stat) => Ok(stat),
            _ => Err(Errno::EIO),
        }
    }

    /// Carries a call out that changes something.
    async fn done(&self, workspace: WorkspaceId, call: FileCall) -> Result<(), Errno> {
        match self.call(workspace, call).await? {
            FileAnswer::Done => Ok(()),
            _ => Err(Errno::EIO),
        }
    }

    /// Returns by what the guest knows a file: open by the kernel's handle, or by its path, or open by any handle.
    fn target(&self, at: At, handle: Option<u64>) -> Result<FileTarget, Errno> {
        if let Some(handle) = handle {
            return Ok(FileTarget::Handle(self.held(handle)?.file.handle));
        }
        match self.path(at) {
            Ok(path) => Ok(FileTarget::Path(path)),
            Err(error) => self.handles().of(at.number).map(FileTarget::Handle).ok_or(error),
        }
    }

    fn held(&self, handle: u64) -> Result<Held, Errno> {
        self.handles().get(handle).ok_or(Errno::EBADF)
    }

    fn path(&self, at: At) -> Result<Vec<u8>, Errno> {
        self.names().path(at.place).ok_or(Errno::ESTALE)
    }

    /// Returns the path of a name in a directory.
    fn below(&self, at: At, name: &[u8]) -> Result<Vec<u8>, Errno> {
        if name.len() > NAME_LEN_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        let mut path = self.path(at)?;
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        Ok(path)
    }

    fn new_file(&self, mode: u32, uid: u32, gid: u32) -> NewFile {
        let (uid, gid) = self.owners.to_guest(uid, gid);
        NewFile { mode: mode & 0o7777, uid, gid }
    }

    fn names(&self) -> MutexGuard<'_, Names> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn handles(&self) -> MutexGuard<'_, Handles> {
        self.handles.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Most bytes of one read.
const DATA_MAX: u32 = 256 << 10;
const _: () = assert!(DATA_MAX as usize == FILE_DATA_MAX);

/// Returns what a caller is told when something fails.
fn errno(error: FileError) -> Errno {
    match error {
        FileError::Refused(errno) => Errno::from_i32(errno),
        FileError::Stopped => Errno::EBUSY,
        FileError::Gone => Errno::ENOENT,
        FileError::Failed => Errno::EIO,
    }
}

/// Returns the error of a file that the kernel knows and that is not where it was: the kernel then looks for it anew.
fn stale(error: Errno) -> Errno {
    if error.code() == Errno::ENOENT.code() { Errno::ESTALE } else { error }
}

fn len_u64(len: usize) -> u64 {
    u64::try_from(len).expect("memory is shorter than 2^64 bytes")
}
