//! Calls of the kernel: each becomes a question to the view, and what it says becomes a reply or an error number.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{
    BackingId, BsdFileFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation,
    INodeNo, InitFlags, KernelConfig, LockOwner, OpenAccMode, OpenFlags, PollEvents, PollFlags, PollNotifier,
    RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty,
    ReplyEntry, ReplyLseek, ReplyOpen, ReplyPoll, ReplyStatfs, ReplyWrite, Request, TimeOrNow, WriteFlags,
};
use pyro_core::ExecNumber;

use crate::attributes::{Attributes, Kind};
use crate::content::Content;
use crate::host::Writer;
use crate::live::{At, LiveCalls, Owners, Wanted, is_live};
use crate::node::{Node, WorkspaceFile};
use crate::nodes::Nodes;
use crate::passthrough::Backings;
use crate::signals::{Caller, process_of};
use crate::tree;
use crate::view::{View, ViewError};
use crate::waiting::{NoBytes, Read, Waiting};
use crate::writing::Writing;

/// How long the kernel may keep what never changes while it is there. When it goes, the kernel is told; a lookup that is
/// answered at that very moment can outlive the word by this.
const SETTLED_TTL: Duration = Duration::from_secs(60);

/// Most bytes of one write. More come as several.
const WRITE_MAX: u32 = 1 << 20;

/// The kind of seek that looks for a hole, as the kernel numbers it.
const SEEK_HOLE: i32 = 4;

/// What callers are told who want to change the tree itself.
const FIXED: Errno = Errno::EPERM;

/// What `poll` tells of a file that can be read at once.
const READABLE: PollEvents = PollEvents::POLLIN.union(PollEvents::POLLRDNORM);

/// What `poll` tells of a file that never waits, as of any regular file.
const ALWAYS: PollEvents = READABLE.union(PollEvents::POLLOUT).union(PollEvents::POLLWRNORM);

/// The nodes of the tree, by the numbers that the kernel has for them.
pub(crate) type SharedNodes = Arc<Mutex<Nodes>>;

/// What the kernel talks to.
#[derive(Debug)]
pub(crate) struct Adapter {
    view: Arc<View>,
    waiting: Arc<Waiting>,
    live: LiveCalls,
    nodes: SharedNodes,
    handles: Mutex<HashMap<u64, Arc<Handle>>>,
    next_handle: AtomicU64,
    backings: Backings,
    owner: (u32, u32),
}

/// Something that is open.
#[derive(Debug)]
enum Handle {
    File {
        node: Node,
        content: Content,
        /// The number of the command that was run through it and that nobody has read yet.
        number: Arc<Mutex<Option<ExecNumber>>>,
        /// Position behind the last byte that was read; told by the kernel with reads only, and needed for polls.
        position: Arc<AtomicU64>,
        /// What the kernel reads from by itself, held until the file is closed.
        _backing: Option<Arc<BackingId>>,
    },
    Directory {
        /// What it had when it was opened.
        entries: Vec<(String, Node)>,
    },
}

impl Handle {
    const fn follows(&self) -> bool {
        match self {
            Self::File { node, .. } => node.follows(),
            Self::Directory { .. } => false,
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn errno(error: &ViewError) -> Errno {
    if !matches!(error, ViewError::Gone | ViewError::NotADirectory | ViewError::NotALink) {
        tracing::warn!(%error, "the mount cannot show a file");
    }
    error.into()
}

const fn file_type(kind: Kind) -> FileType {
    match kind {
        Kind::Directory => FileType::Directory,
        Kind::File => FileType::RegularFile,
        Kind::Link => FileType::Symlink,
    }
}

const fn ttl(attributes: &Attributes) -> Duration {
    if attributes.settled { SETTLED_TTL } else { Duration::ZERO }
}

impl Adapter {
    pub(crate) fn new(view: Arc<View>, waiting: Arc<Waiting>, nodes: SharedNodes) -> Self {
        let owner = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let (handles, next_handle) = (Mutex::default(), AtomicU64::new(1));
        let live = LiveCalls::new(view.files(), Owners { uid: owner.0, gid: owner.1 });
        let backings = Backings::default();
        Self { view, waiting, live, nodes, handles, next_handle, backings, owner }
    }

    fn node(&self, ino: INodeNo) -> Result<Node, Errno> {
        locked(&self.nodes).node(ino.0).cloned().ok_or(Errno::ENOENT)
    }

    /// Returns the live file of a number; `None` for what is a node of the tree and no more, or was forgotten.
    fn at(&self, ino: INodeNo) -> Option<At> {
        if is_live(ino.0) {
            return self.live.at(ino.0);
        }
        match locked(&self.nodes).node(ino.0)? {
            Node::InWorkspace(id, WorkspaceFile::Files) => Some(At::top(*id, ino.0)),
            _ => None,
        }
    }

    /// Returns the number of the directory above a live one.
    fn above(&self, at: At) -> u64 {
        let node = if at.is_top() {
            Node::Workspace(at.workspace())
        } else {
            Node::InWorkspace(at.workspace(), WorkspaceFile::Files)
        };
        self.live.above(at).unwrap_or_else(|| locked(&self.nodes).number(&node))
    }

    fn attr(&self, number: u64, node: &Node, attributes: &Attributes) -> FileAttr {
        /// Unit of the space that a file takes, in bytes.
        const BLOCK_BYTES: u64 = 512;
        let time: SystemTime = UNIX_EPOCH + Duration::from_micros(attributes.time.0);
        FileAttr {
            ino: INodeNo(number),
            size: attributes.size,
            blocks: attributes.size.div_ceil(BLOCK_BYTES),
            atime: time,
            mtime: time,
            ctime: time,
            crtime: time,
            kind: file_type(attributes.kind),
            perm: node.permissions(),
            // One link says of a directory that its number of directories is not told.
            nlink: 1,
            uid: self.owner.0,
            gid: self.owner.1,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        }
    }

    fn add_handle(&self, handle: Handle) -> FileHandle {
        let number = self.next_handle.fetch_add(1, Ordering::Relaxed);
        locked(&self.handles).insert(number, Arc::new(handle));
        FileHandle(number)
    }

    fn handle(&self, handle: FileHandle) -> Result<Arc<Handle>, Errno> {
        locked(&self.handles).get(&handle.0).cloned().ok_or(Errno::EBADF)
    }

    fn entry(&self, parent: INodeNo, name: &OsStr) -> Result<(Attributes, FileAttr), Errno> {
        let parent = self.node(parent)?;
        let name = name.to_str().ok_or(Errno::ENOENT)?;
        let node = self.view.lookup(&parent, name).map_err(|error| errno(&error))?;
        let attributes = self.view.attributes(&node).map_err(|error| errno(&error))?;
        let number = locked(&self.nodes).tell(&node);
        Ok((attributes, self.attr(number, &node, &attributes)))
    }

    fn attributes(&self, ino: INodeNo) -> Result<(Attributes, FileAttr), Errno> {
        let node = self.node(ino)?;
        let attributes = self.view.attributes(&node).map_err(|error| errno(&error))?;
        Ok((attributes, self.attr(ino.0, &node, &attributes)))
    }

    fn opened(
        &self,
        ino: INodeNo,
        flags: OpenFlags,
        reply: &ReplyOpen,
    ) -> Result<(FileHandle, FopenFlags, Option<Arc<BackingId>>), Errno> {
        let node = self.node(ino)?;
        if flags.acc_mode() != OpenAccMode::O_RDONLY && !node.is_writable() {
            return Err(Errno::EPERM);
        }
        let content = self.view.open(&node).map_err(|error| errno(&error))?;
        let attributes = self.view.attributes(&node).map_err(|error| errno(&error))?;
        let backing = self.view.backing(&node).and_then(|path| self.backings.of(&node, &path, reply));
        let flags = if backing.is_some() {
            FopenFlags::empty()
        } else if node.follows() {
            FopenFlags::FOPEN_DIRECT_IO | FopenFlags::FOPEN_NONSEEKABLE
        } else if node.is_writable() {
            FopenFlags::FOPEN_DIRECT_IO | FopenFlags::FOPEN_STREAM
        } else if attributes.settled {
            FopenFlags::FOPEN_KEEP_CACHE
        } else {
            // The kernel would cut a read at the size that it heard of last.
            FopenFlags::FOPEN_DIRECT_IO
        };
        let (number, position) = (Arc::default(), Arc::default());
        let handle = Handle::File { node, content, number, position, _backing: backing.clone() };
        Ok((self.add_handle(handle), flags, backing))
    }

    fn entries(&self, ino: INodeNo) -> Result<FileHandle, Errno> {
        let node = self.node(ino)?;
        let children = self.view.list(&node).map_err(|error| errno(&error))?;
        let parent = tree::place(&node).map_or(Node::Root, |(parent, _)| parent);
        let entries = [(".".to_owned(), node), ("..".to_owned(), parent)].into_iter().chain(children);
        Ok(self.add_handle(Handle::Directory { entries: entries.collect() }))
    }
}

/// Answers with an error, or goes on with the value.
macro_rules! or_reply {
    ($result:expr, $reply:ident) => {
        match $result {
            Ok(value) => value,
            Err(error) => return $reply.error(error),
        }
    };
}

impl Filesystem for Adapter {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        let wanted = InitFlags::FUSE_DO_READDIRPLUS
            | InitFlags::FUSE_READDIRPLUS_AUTO
            | InitFlags::FUSE_PARALLEL_DIROPS;
        // A kernel without them asks more often.
        let _without = config.add_capabilities(wanted & config.capabilities());
        let _nearest = config.set_max_write(WRITE_MAX);
        self.backings.negotiate(config);
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        if let Some(at) = self.at(parent) {
            return self.live.lookup(at, name, reply);
        }
        let (attributes, attr) = or_reply!(self.entry(parent, name), reply);
        // A name leads to the same node as long as that is there, and when it goes the kernel is told.
        reply.entry_with_ttls(&ttl(&attributes), &SETTLED_TTL, &attr, Generation(0));
    }

    fn forget(&self, _: &Request, ino: INodeNo, lookups: u64) {
        if is_live(ino.0) {
            self.live.forget(ino.0, lookups);
        } else {
            locked(&self.nodes).forget(ino.0, lookups);
        }
    }

    fn getattr(&self, _: &Request, ino: INodeNo, handle: Option<FileHandle>, reply: ReplyAttr) {
        if let Some(at) = self.at(ino) {
            return self.live.getattr(at, handle.filter(|_| is_live(ino.0)), reply);
        }
        let (attributes, attr) = or_reply!(self.attributes(ino), reply);
        reply.attr(&ttl(&attributes), &attr);
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _: Option<SystemTime>,
        handle: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        if let Some(at) = self.at(ino) {
            let wanted = Wanted { mode, uid, gid, size, accessed: atime, modified: mtime };
            return self.live.setattr(at, handle.filter(|_| is_live(ino.0)), wanted, reply);
        }
        let node = or_reply!(self.node(ino), reply);
        // A shell's `>` makes a file empty before it writes. What takes commands is empty.
        let changes = mode.is_some() || uid.is_some() || gid.is_some() || atime.is_some() || mtime.is_some();
        let emptied =
            node.is_writable() && size == Some(0) && mode.is_none() && uid.is_none() && gid.is_none();
        if !emptied && (changes || size.is_some()) {
            return reply.error(Errno::EPERM);
        }
        let (attributes, attr) = or_reply!(self.attributes(ino), reply);
        reply.attr(&ttl(&attributes), &attr);
    }

    fn readlink(&self, _: &Request, ino: INodeNo, reply: ReplyData) {
        if let Some(at) = self.at(ino) {
            return self.live.readlink(at, reply);
        }
        let node = or_reply!(self.node(ino), reply);
        let target = or_reply!(self.view.target(&node).map_err(|error| errno(&error)), reply);
        reply.data(target.as_bytes());
    }

    fn open(&self, _: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        if let Some(at) = self.at(ino) {
            return self.live.open(at, flags, reply);
        }
        let (handle, flags, backing) = or_reply!(self.opened(ino, flags, &reply), reply);
        match backing {
            Some(backing) => reply.opened_passthrough(handle, flags, &backing),
            None => reply.opened(handle, flags),
        }
    }

    fn read(
        &self,
        request: &Request,
        ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        flags: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        if is_live(ino.0) {
            return self.live.read(handle, offset, size, reply);
        }
        let handle = or_reply!(self.handle(handle), reply);
        let Handle::File { node, content, number, position, .. } = &*handle else {
            return reply.error(Errno::EISDIR);
        };
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        if node.follows() {
            let position = Arc::clone(position);
            let answer = move |read: Result<Vec<u8>, NoBytes>| match read {
                Ok(bytes) => {
                    position.store(offset + bytes.len() as u64, Ordering::Relaxed);
                    reply.data(&bytes);
                }
                Err(NoBytes::View(error)) => reply.error(errno(&error)),
                Err(NoBytes::Interrupted(interruption)) => reply.error(interruption.into()),
            };
            return self.waiting.read(Read {
                content: content.clone(),
                offset,
                size,
                caller: Caller::seen(request.pid()),
                blocks: !is_nonblocking(flags),
                answer: Box::new(answer),
            });
        }
        if matches!(node, Node::InWorkspace(_, WorkspaceFile::Clone)) {
            let number = locked(number).take().map_or_else(String::new, |number| format!("{number}\n"));
            return reply.data(&number.as_bytes()[..number.len().min(size)]);
        }
        let bytes = or_reply!(self.view.read(content, offset, size).map_err(|error| errno(&error)), reply);
        reply.data(&bytes);
    }

    fn write(
        &self,
        request: &Request,
        ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        if is_live(ino.0) {
            return self.live.write(handle, offset, data, reply);
        }
        let handle = or_reply!(self.handle(handle), reply);
        let Handle::File { node, number, .. } = &*handle else { return reply.error(Errno::EISDIR) };
        let slot = Arc::clone(number);
        let done = move |written: Result<(usize, Option<ExecNumber>), Errno>| match written {
            Ok((len, number)) => {
                *locked(&slot) = number;
                reply.written(u32::try_from(len).expect("a write is at most 1 MiB long"));
            }
            Err(error) => reply.error(error),
        };
        Writing {
            view: Arc::clone(&self.view),
            node: node.clone(),
            writer: Writer { uid: request.uid(), pid: process_of(request.pid()) },
            data: data.to_vec(),
            done: Box::new(done),
        }
        .begin();
    }

    fn release(
        &self,
        _: &Request,
        ino: INodeNo,
        handle: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        if is_live(ino.0) {
            return self.live.release(handle, reply);
        }
        let closed = locked(&self.handles).remove(&handle.0);
        if closed.is_some_and(|handle| handle.follows()) {
            self.waiting.closed(handle.0);
        }
        reply.ok();
    }

    fn opendir(&self, _: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        if self.at(ino).is_some() {
            return self.live.opendir(reply);
        }
        let handle = or_reply!(self.entries(ino), reply);
        reply.opened(handle, FopenFlags::empty());
    }

    fn readdir(&self, _: &Request, ino: INodeNo, handle: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        if let Some(at) = self.at(ino) {
            return self.live.readdir(at, self.above(at), handle, offset, reply);
        }
        let handle = or_reply!(self.handle(handle), reply);
        let Handle::Directory { entries } = &*handle else { return reply.error(Errno::ENOTDIR) };
        let mut nodes = locked(&self.nodes);
        for (next, (name, node)) in (1..).zip(entries).skip(position(offset)) {
            if reply.add(INodeNo(nodes.number(node)), next, file_type(node.kind()), name) {
                break;
            }
        }
        drop(nodes);
        reply.ok();
    }

    fn readdirplus(
        &self,
        _: &Request,
        ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        if let Some(at) = self.at(ino) {
            return self.live.readdirplus(at, self.above(at), handle, offset, reply);
        }
        let handle = or_reply!(self.handle(handle), reply);
        let Handle::Directory { entries } = &*handle else { return reply.error(Errno::ENOTDIR) };
        for (next, (name, node)) in (1..).zip(entries).skip(position(offset)) {
            // What went since the directory was opened is left out.
            let Ok(attributes) = self.view.attributes(node) else { continue };
            let mut nodes = locked(&self.nodes);
            let attr = self.attr(nodes.number(node), node, &attributes);
            if reply.add(attr.ino, next, name, &ttl(&attributes), &attr, Generation(0)) {
                break;
            }
            // The kernel does not count these two.
            if name != "." && name != ".." {
                nodes.tell(node);
            }
        }
        reply.ok();
    }

    fn releasedir(&self, _: &Request, ino: INodeNo, handle: FileHandle, _: OpenFlags, reply: ReplyEmpty) {
        if self.at(ino).is_some() {
            return self.live.releasedir(handle, reply);
        }
        locked(&self.handles).remove(&handle.0);
        reply.ok();
    }

    fn poll(
        &self,
        _: &Request,
        ino: INodeNo,
        handle: FileHandle,
        notifier: PollNotifier,
        _: PollEvents,
        flags: PollFlags,
        reply: ReplyPoll,
    ) {
        if self.at(ino).is_some() {
            return reply.poll(ALWAYS);
        }
        let number = handle.0;
        let handle = or_reply!(self.handle(handle), reply);
        let Handle::File { node, content, position, .. } = &*handle else {
            return reply.error(Errno::EISDIR);
        };
        if !node.follows() {
            return reply.poll(ALWAYS);
        }
        let notify = move || {
            if let Err(error) = notifier.notify() {
                tracing::debug!(%error, "nobody polls any more");
            }
        };
        let wanted = flags.contains(PollFlags::FUSE_POLL_SCHEDULE_NOTIFY);
        let tell = wanted.then(|| Box::new(notify) as Box<dyn FnOnce() + Send>);
        let ready = self.waiting.poll(content, position.load(Ordering::Relaxed), number, tell);
        let ready = or_reply!(ready.map_err(|error| errno(&error)), reply);
        reply.poll(if ready { READABLE } else { PollEvents::empty() });
    }

    fn mknod(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _: u32,
        _: u32,
        reply: ReplyEntry,
    ) {
        let at = or_reply!(self.at(parent).ok_or(FIXED), reply);
        self.live.mknod((at, name), mode, request, reply);
    }

    fn mkdir(&self, request: &Request, parent: INodeNo, name: &OsStr, mode: u32, _: u32, reply: ReplyEntry) {
        let at = or_reply!(self.at(parent).ok_or(FIXED), reply);
        self.live.mkdir((at, name), mode, request, reply);
    }

    fn symlink(&self, request: &Request, parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry) {
        let at = or_reply!(self.at(parent).ok_or(FIXED), reply);
        self.live.symlink((at, name), target, request, reply);
    }

    fn link(&self, _: &Request, ino: INodeNo, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let at = or_reply!(self.at(ino).ok_or(FIXED), reply);
        let to = or_reply!(self.at(parent).ok_or(FIXED), reply);
        self.live.link(at, (to, name), reply);
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let at = or_reply!(self.at(parent).ok_or(FIXED), reply);
        self.live.unlink((at, name), reply);
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let at = or_reply!(self.at(parent).ok_or(FIXED), reply);
        self.live.rmdir((at, name), reply);
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let at = or_reply!(self.at(parent).ok_or(FIXED), reply);
        let to = or_reply!(self.at(new_parent).ok_or(FIXED), reply);
        self.live.rename((at, name), (to, new_name), flags, reply);
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let at = or_reply!(self.at(parent).ok_or(FIXED), reply);
        self.live.create((at, name), mode, flags, request, reply);
    }

    // The kernel would never ask again, for live files neither, if one of these were not known.

    fn fsync(&self, _: &Request, ino: INodeNo, handle: FileHandle, data_only: bool, reply: ReplyEmpty) {
        if is_live(ino.0) {
            return self.live.fsync(handle, data_only, reply);
        }
        reply.ok();
    }

    fn fsyncdir(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fallocate(
        &self,
        _: &Request,
        ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        len: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        if is_live(ino.0) {
            return self.live.fallocate(handle, (offset, len), mode, reply);
        }
        reply.error(FIXED);
    }

    fn lseek(
        &self,
        _: &Request,
        ino: INodeNo,
        handle: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        if is_live(ino.0) {
            return self.live.lseek(handle, offset, whence, reply);
        }
        let (attributes, _) = or_reply!(self.attributes(ino), reply);
        // There are no holes: all is data, and behind it is the one that every file ends with.
        match i64::try_from(attributes.size) {
            Ok(size) if whence == SEEK_HOLE && offset <= size => reply.offset(size),
            Ok(size) if whence != SEEK_HOLE && offset < size => reply.offset(offset),
            Ok(_) | Err(_) => reply.error(Errno::ENXIO),
        }
    }

    fn statfs(&self, _: &Request, ino: INodeNo, reply: ReplyStatfs) {
        if let Some(at) = self.at(ino) {
            return self.live.statfs(at, reply);
        }
        reply.statfs(0, 0, 0, 0, 0, 512, 255, 0);
    }
}

fn position(offset: u64) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX)
}

/// Tells whether a descriptor must not block.
fn is_nonblocking(flags: OpenFlags) -> bool {
    let flags = rustix::fs::OFlags::from_bits_retain(flags.0.cast_unsigned());
    flags.contains(rustix::fs::OFlags::NONBLOCK)
}
