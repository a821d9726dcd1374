//! Files: what the host asks for and changes, and that it never gets beyond the root.

use std::fs;
use std::io::{IoSliceMut, Read as _, Seek as _};
use std::mem::MaybeUninit;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::PathBuf;

use bytes::Bytes;
use pyro_protocol::{
    Existing, FILE_DATA_MAX, FILE_HANDLES_MAX, FileAccess, FileAnswer, FileCall, FileData, FileKind,
    FileReply, FileRequest, FileStat, FileTarget, FileWrite, Files, GuestFrame, HostFrame, LISTED_MAX,
    ModifiedAt, NewFile, NewTime, StatChanges,
};
use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use tempfile::TempDir;

use crate::host::{Agent, Link};

/// A directory of the guest, and a connection on which its files are asked for.
struct Guest {
    link: Link,
    last_tag: u64,
    directory: TempDir,
    agent: Agent,
}

impl Guest {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("the test's own files");
        let agent = Agent::start();
        let root = directory.path().canonicalize().expect("the test's own files").join("workspace");
        let root = root.to_str().expect("a plain path").to_owned();
        let mut link = agent.connect();
        assert_eq!(link.ask(&HostFrame::Files(Files { root, create_root: true })), GuestFrame::Done);
        Self { link, last_tag: 0, directory, agent }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.directory.path().join("workspace").join(path)
    }

    fn send(&mut self, call: FileCall) -> u64 {
        self.last_tag += 1;
        self.link.send(&HostFrame::FileRequest(FileRequest { tag: self.last_tag, call }));
        self.last_tag
    }

    fn ask(&mut self, call: FileCall) -> Result<FileAnswer, i32> {
        let sent = self.send(call);
        match self.link.expect() {
            GuestFrame::FileReply(FileReply { tag, result }) if tag == sent => result,
            other => panic!("{other:?} is no reply to {sent}"),
        }
    }

    #[track_caller]
    fn refused(&mut self, call: FileCall) -> Errno {
        Errno::from_raw_os_error(self.ask(call).expect_err("it is refused"))
    }

    #[track_caller]
    fn stat(&mut self, call: FileCall) -> FileStat {
        match self.ask(call) {
            Ok(FileAnswer::Stat(stat)) => stat,
            other => panic!("{other:?} does not say what the file is"),
        }
    }

    #[track_caller]
    fn open(&mut self, call: FileCall) -> (u64, FileStat) {
        match self.ask(call) {
            Ok(FileAnswer::Opened { handle, stat, .. }) => (handle, stat),
            other => panic!("{other:?} opens nothing"),
        }
    }

    #[track_caller]
    fn done(&mut self, call: FileCall) {
        assert_eq!(self.ask(call), Ok(FileAnswer::Done));
    }

    fn write(&mut self, handle: u64, offset: u64, data: &[u8]) -> Result<FileAnswer, i32> {
        self.last_tag += 1;
        let tag = self.last_tag;
        let data = Bytes::copy_from_slice(data);
        self.link.send(&HostFrame::FileWrite(FileWrite { tag, handle, offset, data }));
        match self.link.expect() {
            GuestFrame::FileReply(reply) if reply.tag == tag => reply.result,
            other => panic!("{other:?} is no reply to {tag}"),
        }
    }

    fn read(&mut self, handle: u64, offset: u64, len: usize) -> Vec<u8> {
        let len = u32::try_from(len).expect("a short read");
        let sent = self.send(FileCall::Read { handle, offset, len });
        match self.link.expect() {
            GuestFrame::FileData(FileData { tag, data }) if tag == sent => data.to_vec(),
            other => panic!("{other:?} has no bytes"),
        }
    }

    fn list(&mut self, path: &str) -> Vec<(String, FileKind)> {
        let (handle, _) = self.open(FileCall::OpenDir { path: path.into() });
        let mut all = Vec::new();
        loop {
            match self.ask(FileCall::ReadDir { handle }) {
                Ok(FileAnswer::Entries(entries)) if entries.is_empty() => break,
                Ok(FileAnswer::Entries(entries)) => {
                    assert!(entries.len() <= LISTED_MAX);
                    all.extend(entries.into_iter().map(|entry| {
                        (String::from_utf8(entry.name).expect("the test's names"), entry.stat.kind)
                    }));
                }
                other => panic!("{other:?} lists nothing"),
            }
        }
        self.done(FileCall::Close { handle });
        all.sort_by(|one, other| one.0.cmp(&other.0));
        all
    }
}

const fn new(mode: u32) -> NewFile {
    NewFile { mode, uid: 0, gid: 0 }
}

fn create(path: &str, mode: u32) -> FileCall {
    FileCall::Create {
        path: path.into(),
        access: FileAccess::ReadWrite,
        exclusive: true,
        truncate: false,
        new: new(mode),
    }
}

fn open(path: &str, access: FileAccess) -> FileCall {
    FileCall::Open { path: path.into(), access, truncate: false }
}

fn stat(path: &str) -> FileCall {
    FileCall::Stat(FileTarget::Path(path.into()))
}

/// Catches a handle that means a name and not a file, lost bytes at the ends of large writes, and a length that is not
/// told as it is.
#[test]
fn an_open_file_stays_itself_when_it_is_renamed_and_removed() {
    let mut guest = Guest::new();
    let (handle, made) = guest.open(create("f", 0o640));
    assert_eq!((made.kind, made.size, made.mode), (FileKind::Regular, 0, 0o640));
    let data: Vec<u8> = (0..FILE_DATA_MAX).map(|number| number.to_le_bytes()[0]).collect();
    let all = u32::try_from(data.len()).unwrap();
    assert_eq!(guest.write(handle, 3, &data), Ok(FileAnswer::Written { len: all }));
    let rename = FileCall::Rename { from: "f".into(), to: "g".into(), existing: Existing::Replace };
    guest.done(rename);
    assert_eq!(guest.refused(stat("f")), Errno::NOENT);
    guest.done(FileCall::Unlink { path: "g".into() });
    let open = guest.stat(FileCall::Stat(FileTarget::Handle(handle)));
    assert_eq!((open.inode, open.links, open.size), (made.inode, 0, u64::from(all) + 3));
    assert_eq!(guest.read(handle, 0, 4), [0, 0, 0, data[0]]);
    assert_eq!(guest.read(handle, 3, FILE_DATA_MAX), data);
    assert_eq!(guest.read(handle, u64::from(all) + 3, 10), b"");
    let changes = StatChanges { size: Some(5), ..StatChanges::default() };
    let cut = guest.stat(FileCall::SetStat { target: FileTarget::Handle(handle), changes });
    assert_eq!(cut.size, 5);
    guest.done(FileCall::Sync { handle, data_only: false });
    guest.done(FileCall::Close { handle });
    assert_eq!(guest.refused(FileCall::Close { handle }), Errno::BADF);
    assert_eq!(guest.write(handle, 0, b"x"), Err(Errno::BADF.raw_os_error()));
}

/// Catches a mask of the agent's that takes bits away, owners that are forgotten, and groups that are not handed down.
#[test]
fn what_is_made_has_the_mode_and_owner_that_the_host_says() {
    let mut guest = Guest::new();
    let (_, file) = guest.open(create("f", 0o666));
    assert_eq!(file.mode, 0o666);
    assert_eq!(guest.stat(FileCall::MakeDir { path: "d".into(), new: new(0o777) }).mode, 0o777);
    let pipe = FileCall::MakeNode { path: "p".into(), kind: FileKind::Fifo, new: new(0o622) };
    let pipe = guest.stat(pipe);
    assert_eq!((pipe.kind, pipe.mode), (FileKind::Fifo, 0o622));
    let device = FileCall::MakeNode { path: "n".into(), kind: FileKind::CharDevice, new: new(0o666) };
    assert_eq!(guest.refused(device), Errno::PERM);
    let outcome = guest.agent.run(crate::host::exec(1, "umask"));
    assert_ne!(outcome.stdout, b"0000\n", "the mask of commands is another matter");
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let owner = NewFile { mode: 0o4755, uid: 1000, gid: 2000 };
    let make = FileCall::Create {
        path: "owned".into(),
        access: FileAccess::Write,
        exclusive: true,
        truncate: false,
        new: owner,
    };
    guest.open(make);
    let owned = guest.stat(stat("owned"));
    assert_eq!((owned.uid, owned.gid, owned.mode), (1000, 2000, 0o4755));
    let link = FileCall::Symlink { path: "l".into(), target: b"owned".to_vec(), new: owner };
    let link = guest.stat(link);
    assert_eq!((link.kind, link.uid, link.gid), (FileKind::Symlink, 1000, 2000));
    let group = StatChanges { gid: Some(3000), mode: Some(0o2775), ..StatChanges::default() };
    guest.stat(FileCall::SetStat { target: FileTarget::Path("d".into()), changes: group });
    let below = guest.stat(FileCall::MakeDir { path: "d/e".into(), new: owner });
    assert_eq!((below.uid, below.gid, below.mode & 0o2000), (1000, 3000, 0o2000));
}

/// Catches a path that leaves the root, by its components or through a link, and a call that follows one.
#[test]
fn no_path_leads_out() {
    let mut guest = Guest::new();
    fs::write(guest.directory.path().join("secret"), "s").unwrap();
    symlink("..", guest.path("up")).unwrap();
    symlink("../secret", guest.path("link")).unwrap();
    symlink(guest.directory.path(), guest.path("absolute")).unwrap();
    for path in ["..", "../secret", "/", "a//b", "./a", "a/", "a/../..", "a\0b"] {
        assert_eq!(guest.refused(stat(path)), Errno::INVAL, "{path:?}");
    }
    assert_eq!(guest.refused(stat(&"a".repeat(256))), Errno::NAMETOOLONG);
    for path in ["up/secret", "absolute/secret"] {
        assert_eq!(guest.refused(stat(path)), Errno::NOTDIR, "{path:?}");
        let error = guest.refused(open(path, FileAccess::Read));
        assert!(matches!(error, Errno::LOOP | Errno::NOTDIR), "{path:?}: {error}");
        assert_eq!(guest.refused(FileCall::Unlink { path: path.into() }), Errno::NOTDIR);
    }
    assert_eq!(guest.refused(open("link", FileAccess::Read)), Errno::LOOP);
    let target = || FileTarget::Path("link".into());
    let shorter = StatChanges { size: Some(0), ..StatChanges::default() };
    assert_eq!(guest.refused(FileCall::SetStat { target: target(), changes: shorter }), Errno::LOOP);
    let then = ModifiedAt { seconds: 1, nanoseconds: 2 };
    let changes = StatChanges { modified: Some(NewTime::At(then)), ..StatChanges::default() };
    assert_eq!(guest.stat(FileCall::SetStat { target: target(), changes }).modified, then);
    assert_eq!(
        guest.ask(FileCall::ReadLink { path: "link".into() }),
        Ok(FileAnswer::Link("../secret".into()))
    );
    let exchange = FileCall::Rename { from: "link".into(), to: "up/x".into(), existing: Existing::Replace };
    assert_eq!(guest.refused(exchange), Errno::NOTDIR);
    let secret = fs::metadata(guest.directory.path().join("secret")).unwrap();
    assert!(secret.len() == 1 && secret.mtime() > 1);
}

/// Catches a root that is taken for a file of itself.
#[test]
fn the_root_stays() {
    let mut guest = Guest::new();
    assert_eq!(guest.stat(stat("")).kind, FileKind::Directory);
    assert_eq!(guest.refused(FileCall::RemoveDir { path: Vec::new() }), Errno::BUSY);
    assert_eq!(guest.refused(FileCall::MakeDir { path: Vec::new(), new: new(0o755) }), Errno::EXIST);
    assert_eq!(guest.refused(open("", FileAccess::Read)), Errno::ISDIR);
    let mode = StatChanges { mode: Some(0o750), ..StatChanges::default() };
    guest.stat(FileCall::SetStat { target: FileTarget::Path(Vec::new()), changes: mode });
    assert_eq!(fs::metadata(guest.path("")).unwrap().permissions().mode() & 0o777, 0o750);
}

/// Catches a worker that a named pipe holds for ever.
#[test]
fn a_named_pipe_holds_nobody() {
    let mut guest = Guest::new();
    for name in ["a", "b", "c", "d", "e"] {
        let path = || name.into();
        guest.stat(FileCall::MakeNode { path: path(), kind: FileKind::Fifo, new: new(0o600) });
        for access in [FileAccess::Read, FileAccess::Write, FileAccess::ReadWrite] {
            assert_eq!(guest.refused(open(name, access)), Errno::NXIO);
        }
    }
    assert_eq!(guest.list("").len(), 5);
}

/// Catches a listing that ends early or repeats, and one that stops at what vanishes.
#[test]
fn a_large_directory_is_listed_whole() {
    let mut guest = Guest::new();
    let expected: Vec<_> = (0..LISTED_MAX * 2 + 1).map(|number| format!("{number:05}")).collect();
    for name in &expected {
        fs::write(guest.path(name), name).unwrap();
    }
    let listed: Vec<_> = guest.list("").into_iter().map(|(name, _)| name).collect();
    assert_eq!(listed, expected);
    let (handle, _) = guest.open(FileCall::OpenDir { path: Vec::new() });
    assert_eq!(guest.refused(FileCall::Read { handle, offset: 0, len: 1 }), Errno::BADF);
    let (file, _) = guest.open(open("00000", FileAccess::Read));
    assert_eq!(guest.refused(FileCall::ReadDir { handle: file }), Errno::BADF);
}

#[test]
fn renames_replace_keep_or_exchange() {
    let mut guest = Guest::new();
    fs::write(guest.path("a"), "a").unwrap();
    fs::write(guest.path("b"), "b").unwrap();
    let rename = |existing| FileCall::Rename { from: "a".into(), to: "b".into(), existing };
    assert_eq!(guest.refused(rename(Existing::Keep)), Errno::EXIST);
    guest.done(rename(Existing::Exchange));
    assert_eq!(fs::read(guest.path("a")).unwrap(), b"b");
    guest.done(rename(Existing::Replace));
    assert_eq!(fs::read(guest.path("b")).unwrap(), b"b");
    assert_eq!(guest.list(""), [("b".to_owned(), FileKind::Regular)]);
    let linked = guest.stat(FileCall::Link { from: "b".into(), path: "c".into() });
    assert_eq!(linked.links, 2);
    guest.stat(FileCall::MakeDir { path: "d".into(), new: new(0o755) });
    fs::write(guest.path("d/f"), "").unwrap();
    assert_eq!(guest.refused(FileCall::RemoveDir { path: "d".into() }), Errno::NOTEMPTY);
    assert_eq!(guest.refused(FileCall::Unlink { path: "d".into() }), Errno::ISDIR);
}

/// Catches a file that is made anew, emptied or opened where the host did not ask for it.
#[test]
fn creation_is_exclusive_only_when_asked() {
    let mut guest = Guest::new();
    fs::write(guest.path("f"), "old").unwrap();
    let create = |exclusive, truncate| FileCall::Create {
        path: "f".into(),
        access: FileAccess::Write,
        exclusive,
        truncate,
        new: new(0o600),
    };
    assert_eq!(guest.refused(create(true, false)), Errno::EXIST);
    assert_eq!(guest.open(create(false, false)).1.size, 3);
    assert_eq!(guest.open(create(false, true)).1.size, 0);
    assert_ne!(fs::metadata(guest.path("f")).unwrap().permissions().mode() & 0o777, 0o600);
}

/// Catches an agent whose descriptors one host uses up.
#[test]
fn handles_have_a_bound() {
    let mut guest = Guest::new();
    fs::write(guest.path("f"), "").unwrap();
    let mut refused = None;
    for _ in 0..=FILE_HANDLES_MAX {
        if let Err(error) = guest.ask(open("f", FileAccess::Read)) {
            refused = Some(Errno::from_raw_os_error(error));
            break;
        }
    }
    // The test's own limit on descriptors may lie below.
    assert_eq!(refused, Some(Errno::MFILE));
    assert!(guest.agent.run(crate::host::exec(1, "true")).exited.stdout_len == 0);
}

/// Catches a descriptor that does not come along, or belongs to another file.
#[test]
fn a_local_host_gets_the_open_file_itself() {
    let mut guest = Guest::new();
    for name in ["a", "b"] {
        fs::write(guest.path(name), name).unwrap();
        let tag = guest.send(open(name, FileAccess::Read));
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut bytes = [0; 4096];
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let received =
            rustix::net::recvmsg(guest.link.stream(), &mut parts, &mut ancillary, RecvFlags::empty())
                .unwrap();
        let descriptors: Vec<_> = ancillary
            .drain()
            .flat_map(|message| match message {
                RecvAncillaryMessage::ScmRights(descriptors) => descriptors.collect(),
                _ => Vec::new(),
            })
            .collect();
        guest.link.push(&bytes[..received.bytes]);
        let GuestFrame::FileReply(FileReply { tag: answered, result: Ok(opened) }) = guest.link.expect()
        else {
            panic!("no reply");
        };
        assert!(matches!(opened, FileAnswer::Opened { passed: true, .. }) && answered == tag);
        let [descriptor] = <[_; 1]>::try_from(descriptors).expect("one file, one descriptor");
        let mut file = fs::File::from(descriptor);
        let mut content = String::new();
        file.read_to_string(&mut content).unwrap();
        assert_eq!(content, name);
        file.rewind().unwrap();
    }
}

#[test]
fn a_root_that_cannot_be_is_told() {
    let guest = Guest::new();
    fs::write(guest.path("f"), "").unwrap();
    let root = guest.path("f").canonicalize().unwrap().to_str().unwrap().to_owned();
    for (root, errno) in [(root, Errno::NOTDIR), ("relative".to_owned(), Errno::INVAL)] {
        let answer = guest.agent.connect().ask(&HostFrame::Files(Files { root, create_root: false }));
        assert!(
            matches!(&answer, GuestFrame::Failed(failed) if failed.errno == errno.raw_os_error()),
            "{answer:?}"
        );
    }
}

/// Catches files that are served while the connection follows a command, and threads that outlive their connection.
#[test]
fn other_frames_end_the_connection_and_free_its_place() {
    let mut guest = Guest::new();
    let root = guest.path("").canonicalize().unwrap().to_str().unwrap().to_owned();
    guest.link.send(&HostFrame::Ping);
    assert_eq!(guest.link.next(), None);
    for _ in 0..20 {
        // A place is free a moment after its connection was closed.
        loop {
            let mut link = guest.agent.connect();
            let files = Files { root: root.clone(), create_root: false };
            match link.ask(&HostFrame::Files(files)) {
                GuestFrame::Done => break,
                GuestFrame::Failed(failed) => assert_eq!(failed.errno, Errno::AGAIN.raw_os_error()),
                other => panic!("{other:?}"),
            }
        }
    }
}
