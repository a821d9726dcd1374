//! Calls of the kernel about live files, and their replies.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fuser::{
    Errno, FileHandle, FileType, FopenFlags, Generation, INodeNo, OpenFlags, RenameFlags, ReplyAttr,
    ReplyCreate, ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyLseek,
    ReplyOpen, ReplyStatfs, ReplyWrite, Request, TimeOrNow,
};
use pyro_protocol::{
    Existing, FileAccess, FileAnswer, FileCall, FileKind, FileStat, Listed, NewFile, Space, StatChanges,
};
use rustix::fs::OFlags;

use super::files::Files;
use super::handles::Held;
use super::names::Place;
use super::{At, KEPT, Live, Owners, Told, attributes, len_u64};

/// What is said of a file whose number the kernel was not told.
const UNKNOWN: INodeNo = INodeNo(0xffff_ffff);

/// What `setattr` can change.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wanted {
    pub(crate) mode: Option<u32>,
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
    pub(crate) size: Option<u64>,
    pub(crate) accessed: Option<TimeOrNow>,
    pub(crate) modified: Option<TimeOrNow>,
}

/// The calls about live files.
#[derive(Clone, Debug)]
pub(crate) struct LiveCalls {
    live: Arc<Live>,
}

impl LiveCalls {
    pub(crate) fn new(files: Arc<dyn Files>, owners: Owners) -> Self {
        Self { live: Arc::new(Live::new(files, owners)) }
    }

    /// Returns the live file of a number; `None` for one that was forgotten.
    pub(crate) fn at(&self, number: u64) -> Option<At> {
        self.live.at(number)
    }

    /// Returns the number of the directory above a live directory; `None` for one that is no live directory itself, or that
    /// is the top of them.
    pub(crate) fn above(&self, at: At) -> Option<u64> {
        match at.place {
            Place::Top => None,
            Place::Number(number) => match self.live.names().above(number)? {
                Place::Top => None,
                Place::Number(above) => Some(above),
            },
        }
    }

    /// The kernel forgets a number, so often.
    pub(crate) fn forget(&self, number: u64, lookups: u64) {
        self.live.forget(number, lookups);
    }

    pub(crate) fn lookup(&self, at: At, name: &OsStr, reply: ReplyEntry) {
        let name = name.to_owned();
        self.entry(reply, move |live| async move { live.find(at, &name).await });
    }

    pub(crate) fn getattr(&self, at: At, handle: Option<FileHandle>, reply: ReplyAttr) {
        self.attr(
            at,
            reply,
            move |live| async move { live.attributes(at, handle.map(|handle| handle.0)).await },
        );
    }

    pub(crate) fn setattr(&self, at: At, handle: Option<FileHandle>, wanted: Wanted, reply: ReplyAttr) {
        let (uid, gid) = (wanted.uid, wanted.gid);
        let changes = StatChanges {
            mode: wanted.mode.map(|mode| mode & 0o7777),
            uid: uid.map(|uid| self.live.owners.to_guest(uid, 0).0),
            gid: gid.map(|gid| self.live.owners.to_guest(0, gid).1),
            size: wanted.size,
            accessed: wanted.accessed.map(attributes::new_time),
            modified: wanted.modified.map(attributes::new_time),
        };
        let handle = handle.map(|handle| handle.0);
        self.attr(at, reply, move |live| async move { live.change(at, handle, changes).await });
    }

    pub(crate) fn readlink(&self, at: At, reply: ReplyData) {
        self.run(move |live| async move {
            match live.read_link(at).await {
                Ok(target) => reply.data(&target),
                Err(error) => reply.error(error),
            }
        });
    }

    pub(crate) fn mknod(&self, (at, name): (At, &OsStr), mode: u32, request: &Request, reply: ReplyEntry) {
        let new = self.live.new_file(mode, request.uid(), request.gid());
        let kind = match rustix::fs::FileType::from_raw_mode(mode) {
            rustix::fs::FileType::Fifo => FileKind::Fifo,
            rustix::fs::FileType::Socket => FileKind::Socket,
            rustix::fs::FileType::RegularFile => return self.make_regular((at, name), new, reply),
            // Devices lead out of the workspace.
            _ => return reply.error(Errno::EPERM),
        };
        self.made((at, name), reply, move |path| FileCall::MakeNode { path, kind, new });
    }

    fn make_regular(&self, (at, name): (At, &OsStr), new: NewFile, reply: ReplyEntry) {
        let name = name.to_owned();
        self.entry(reply, move |live| async move {
            let access = FileAccess::Read;
            let create = |path| FileCall::Create { path, access, exclusive: true, truncate: false, new };
            let (told, handle) = live.create(at, &name, create).await?;
            live.release(handle).await;
            Ok(told)
        });
    }

    pub(crate) fn mkdir(&self, place: (At, &OsStr), mode: u32, request: &Request, reply: ReplyEntry) {
        let new = self.live.new_file(mode, request.uid(), request.gid());
        self.made(place, reply, move |path| FileCall::MakeDir { path, new });
    }

    pub(crate) fn symlink(&self, place: (At, &OsStr), target: &Path, request: &Request, reply: ReplyEntry) {
        let new = self.live.new_file(0o777, request.uid(), request.gid());
        let target = target.as_os_str().as_bytes().to_vec();
        self.made(place, reply, move |path| FileCall::Symlink { path, target, new });
    }

    pub(crate) fn link(&self, at: At, (to, name): (At, &OsStr), reply: ReplyEntry) {
        let name = name.to_owned();
        self.entry(reply, move |live| async move { live.link(at, to, &name).await });
    }

    pub(crate) fn unlink(&self, place: (At, &OsStr), reply: ReplyEmpty) {
        self.removed(place, reply, |path| FileCall::Unlink { path });
    }

    pub(crate) fn rmdir(&self, place: (At, &OsStr), reply: ReplyEmpty) {
        self.removed(place, reply, |path| FileCall::RemoveDir { path });
    }

    pub(crate) fn rename(
        &self,
        (at, name): (At, &OsStr),
        (to, new_name): (At, &OsStr),
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let existing = if flags.is_empty() {
            Existing::Replace
        } else if flags == RenameFlags::RENAME_NOREPLACE {
            Existing::Keep
        } else if flags == RenameFlags::RENAME_EXCHANGE {
            Existing::Exchange
        } else {
            return reply.error(Errno::EINVAL);
        };
        let (name, new_name) = (name.to_owned(), new_name.to_owned());
        self.empty(
            reply,
            move |live| async move { live.rename((at, &name), (to, &new_name), existing).await },
        );
    }

    pub(crate) fn open(&self, at: At, flags: OpenFlags, reply: ReplyOpen) {
        let (access, truncate) = (access(flags.0), has(flags.0, OFlags::TRUNC));
        self.run(move |live| async move {
            match live.open(at, |path| FileCall::Open { path, access, truncate }).await {
                Ok(handle) => reply.opened(FileHandle(handle), FopenFlags::empty()),
                Err(error) => reply.error(error),
            }
        });
    }

    pub(crate) fn create(
        &self,
        (at, name): (At, &OsStr),
        mode: u32,
        flags: i32,
        request: &Request,
        reply: ReplyCreate,
    ) {
        let new = self.live.new_file(mode, request.uid(), request.gid());
        let (access, exclusive, truncate) =
            (access(flags), has(flags, OFlags::EXCL), has(flags, OFlags::TRUNC));
        let name = name.to_owned();
        self.run(move |live| async move {
            let create = |path| FileCall::Create { path, access, exclusive, truncate, new };
            match live.create(at, &name, create).await {
                Ok((told, handle)) => reply.created(
                    &KEPT,
                    &live.owners.attributes(&told),
                    Generation(0),
                    FileHandle(handle),
                    FopenFlags::empty(),
                ),
                Err(error) => reply.error(error),
            }
        });
    }

    pub(crate) fn read(&self, handle: FileHandle, offset: u64, len: u32, reply: ReplyData) {
        let local = self.live.handles().get(handle.0).and_then(|held| held.file.local);
        if let Some(file) = local {
            return match read_all(&file, offset, len) {
                Ok(data) => reply.data(&data),
                Err(error) => reply.error(error.into()),
            };
        }
        self.run(move |live| async move {
            match live.read(handle.0, offset, len).await {
                Ok(data) => reply.data(&data),
                Err(error) => reply.error(error),
            }
        });
    }

    pub(crate) fn write(&self, handle: FileHandle, offset: u64, data: &[u8], reply: ReplyWrite) {
        let held = self.live.handles().get(handle.0);
        if let Some(Held { file, .. }) = held
            && let Some(local) = file.local
        {
            return match local.write_all_at(data, offset) {
                Ok(()) => reply.written(u32::try_from(data.len()).unwrap_or(u32::MAX)),
                Err(error) => reply.error(error.into()),
            };
        }
        let data = Bytes::copy_from_slice(data);
        self.run(move |live| async move {
            match live.write(handle.0, offset, data).await {
                Ok(written) => reply.written(written),
                Err(error) => reply.error(error),
            }
        });
    }

    pub(crate) fn release(&self, handle: FileHandle, reply: ReplyEmpty) {
        self.run(move |live| async move {
            live.release(handle.0).await;
            reply.ok();
        });
    }

    pub(crate) fn fsync(&self, handle: FileHandle, data_only: bool, reply: ReplyEmpty) {
        self.empty(reply, move |live| async move {
            live.with_handle(handle.0, |handle| FileCall::Sync { handle, data_only }).await.map(drop)
        });
    }

    pub(crate) fn fallocate(
        &self,
        handle: FileHandle,
        (offset, len): (u64, u64),
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let Ok(mode) = u32::try_from(mode) else { return reply.error(Errno::EINVAL) };
        self.empty(reply, move |live| async move {
            let call = |handle| FileCall::Allocate { handle, mode, offset, len };
            live.with_handle(handle.0, call).await.map(drop)
        });
    }

    /// Finds data or a hole; other positions are the kernel's matter.
    pub(crate) fn lseek(&self, handle: FileHandle, offset: i64, whence: i32, reply: ReplyLseek) {
        /// As the kernel numbers the two kinds of seek that it leaves to a file system.
        const DATA: i32 = 3;
        const HOLE: i32 = 4;
        let hole = match whence {
            DATA => false,
            HOLE => true,
            _ => return reply.error(Errno::EINVAL),
        };
        let Ok(offset) = u64::try_from(offset) else { return reply.error(Errno::ENXIO) };
        self.run(move |live| async move {
            let found = live.with_handle(handle.0, |handle| FileCall::Seek { handle, offset, hole }).await;
            match found.map(|answer| position_of(&answer)) {
                Ok(Some(position)) => reply.offset(position),
                Ok(None) => reply.error(Errno::EIO),
                Err(error) => reply.error(error),
            }
        });
    }

    pub(crate) fn opendir(&self, reply: ReplyOpen) {
        reply.opened(FileHandle(self.live.handles().add_directory()), FopenFlags::empty());
    }

    /// Lists a directory: from the beginning as it is now, further on as it was then.
    pub(crate) fn readdir(
        &self,
        at: At,
        above: u64,
        handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let listed = self.live.handles().listed(handle.0).filter(|_| offset > 0);
        if let Some(listed) = listed {
            fill(&self.live, at, above, &listed, offset, &mut reply);
            return reply.ok();
        }
        self.run(move |live| async move {
            match list_anew(&live, at, handle).await {
                Ok(listed) => {
                    fill(&live, at, above, &listed, offset, &mut reply);
                    reply.ok();
                }
                Err(error) => reply.error(error),
            }
        });
    }

    /// Does the same, and tells the kernel what each file is.
    pub(crate) fn readdirplus(
        &self,
        at: At,
        above: u64,
        handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let listed = self.live.handles().listed(handle.0).filter(|_| offset > 0);
        if let Some(listed) = listed {
            fill_plus(&self.live, at, above, &listed, offset, &mut reply);
            return reply.ok();
        }
        self.run(move |live| async move {
            match list_anew(&live, at, handle).await {
                Ok(listed) => {
                    fill_plus(&live, at, above, &listed, offset, &mut reply);
                    reply.ok();
                }
                Err(error) => reply.error(error),
            }
        });
    }

    pub(crate) fn releasedir(&self, handle: FileHandle, reply: ReplyEmpty) {
        self.live.handles().remove_directory(handle.0);
        reply.ok();
    }

    pub(crate) fn statfs(&self, at: At, reply: ReplyStatfs) {
        self.run(move |live| async move {
            match live.space(at).await {
                Ok(Space { block_len, blocks, free, available, files, files_free }) => {
                    let name_len = 255;
                    reply.statfs(blocks, free, available, files, files_free, block_len, name_len, block_len);
                }
                Err(error) => reply.error(error),
            }
        });
    }

    fn made(
        &self,
        (at, name): (At, &OsStr),
        reply: ReplyEntry,
        call: impl FnOnce(Vec<u8>) -> FileCall + Send + 'static,
    ) {
        let name = name.to_owned();
        self.entry(reply, move |live| async move { live.make(at, &name, call).await });
    }

    fn removed(
        &self,
        (at, name): (At, &OsStr),
        reply: ReplyEmpty,
        call: impl FnOnce(Vec<u8>) -> FileCall + Send + 'static,
    ) {
        let name = name.to_owned();
        self.empty(reply, move |live| async move { live.remove(at, &name, call).await });
    }

    fn entry<F>(&self, reply: ReplyEntry, work: impl FnOnce(Arc<Live>) -> F)
    where
        F: Future<Output = Result<Told, Errno>> + Send + 'static,
    {
        let (owners, found) = (self.live.owners, work(Arc::clone(&self.live)));
        self.live.files.spawn(Box::pin(async move {
            match found.await {
                Ok(told) => reply.entry(&KEPT, &owners.attributes(&told), Generation(0)),
                Err(error) => reply.error(error),
            }
        }));
    }

    fn attr<F>(&self, at: At, reply: ReplyAttr, work: impl FnOnce(Arc<Live>) -> F)
    where
        F: Future<Output = Result<FileStat, Errno>> + Send + 'static,
    {
        let (owners, found) = (self.live.owners, work(Arc::clone(&self.live)));
        self.live.files.spawn(Box::pin(async move {
            match found.await {
                Ok(stat) => reply.attr(&KEPT, &owners.attributes(&Told { number: at.number, stat })),
                Err(error) => reply.error(error),
            }
        }));
    }

    fn empty<F>(&self, reply: ReplyEmpty, work: impl FnOnce(Arc<Live>) -> F)
    where
        F: Future<Output = Result<(), Errno>> + Send + 'static,
    {
        let done = work(Arc::clone(&self.live));
        self.live.files.spawn(Box::pin(async move {
            match done.await {
                Ok(()) => reply.ok(),
                Err(error) => reply.error(error),
            }
        }));
    }

    fn run<F>(&self, work: impl FnOnce(Arc<Live>) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.live.files.spawn(Box::pin(work(Arc::clone(&self.live))));
    }
}

async fn list_anew(live: &Live, at: At, handle: FileHandle) -> Result<Arc<[Listed]>, Errno> {
    let listed: Arc<[Listed]> = live.list(at).await?.into();
    live.handles().set_listed(handle.0, Arc::clone(&listed));
    Ok(listed)
}

/// Entries of every directory before those that it lists.
const DOTS: usize = 2;

fn dots(at: At, above: u64) -> [(INodeNo, FileType, &'static OsStr); DOTS] {
    let dots = [(INodeNo(at.number), "."), (INodeNo(above), "..")];
    dots.map(|(number, name)| (number, FileType::Directory, OsStr::new(name)))
}

fn position(offset: u64) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX)
}

fn has(flags: i32, flag: OFlags) -> bool {
    OFlags::from_bits_retain(flags.cast_unsigned()).contains(flag)
}

fn access(flags: i32) -> FileAccess {
    let mode = OFlags::from_bits_retain(flags.cast_unsigned()) & OFlags::RWMODE;
    if mode == OFlags::RDONLY {
        FileAccess::Read
    } else if mode == OFlags::WRONLY {
        FileAccess::Write
    } else {
        FileAccess::ReadWrite
    }
}

/// Reads up to `len` bytes, fewer only at the end of the file.
fn read_all(file: &File, offset: u64, len: u32) -> io::Result<Vec<u8>> {
    let mut data = vec![0; usize::try_from(len).map_err(io::Error::other)?];
    let mut read = 0;
    while read < data.len() {
        match file.read_at(&mut data[read..], offset.saturating_add(len_u64(read))) {
            Ok(0) => break,
            Ok(count) => read += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    data.truncate(read);
    Ok(data)
}

fn position_of(answer: &FileAnswer) -> Option<i64> {
    match answer {
        FileAnswer::Position(position) => i64::try_from(*position).ok(),
        _ => None,
    }
}

fn fill(live: &Live, at: At, above: u64, listed: &[Listed], offset: u64, reply: &mut ReplyDirectory) {
    let numbers = live.names();
    let entries = listed.iter().map(|entry| {
        let number = numbers.number(at.workspace, &entry.stat).map_or(UNKNOWN, INodeNo);
        (number, attributes::kind(entry.stat.kind), OsStr::from_bytes(&entry.name))
    });
    let all = dots(at, above).into_iter().chain(entries).zip(1_u64..);
    for ((number, kind, name), following) in all.skip(position(offset)) {
        if reply.add(number, following, kind, name) {
            return;
        }
    }
}

fn fill_plus(
    live: &Live,
    at: At,
    above: u64,
    listed: &[Listed],
    offset: u64,
    reply: &mut ReplyDirectoryPlus,
) {
    let mut following = offset;
    for (number, _, name) in dots(at, above).into_iter().skip(position(offset)) {
        following += 1;
        // The kernel knows these two, and takes only number and kind from here.
        let told = Told { number: number.0, stat: attributes::empty_directory() };
        let attr = live.owners.attributes(&told);
        if reply.add(number, following, name, &Duration::ZERO, &attr, Generation(0)) {
            return;
        }
    }
    for entry in listed.iter().skip(position(following).saturating_sub(DOTS)) {
        following += 1;
        let told = live.tell(at, &entry.name, entry.stat);
        let attr = live.owners.attributes(&told);
        let name = OsStr::from_bytes(&entry.name);
        if reply.add(attr.ino, following, name, &KEPT, &attr, Generation(0)) {
            // There was no room for it: the kernel was not told.
            live.forget(told.number, 1);
            return;
        }
    }
}
