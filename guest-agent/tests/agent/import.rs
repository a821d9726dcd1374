//! Imports: what arrives, what is refused, and that nothing lies between the two.

mod commit;
mod intake;
mod recovery;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use pyro_protocol::{
    CONTENT_MAX, Entry, EntryKind, Frame as _, GuestFrame, HostFrame, Import, ImportFailed, ImportState,
    Imported, ModifiedAt,
};
use tempfile::TempDir;

use crate::host::{Agent, Link};

/// The time that entries have when a test is not about it.
const THEN: ModifiedAt = ModifiedAt { seconds: 1_000_000_000, nanoseconds: 123_456_789 };

/// A guest's file system in small: a directory for stages, and one into which files are imported.
struct Guest {
    directory: TempDir,
}

impl Guest {
    fn new() -> Self {
        let guest = Self { directory: tempfile::tempdir().expect("the test's own files") };
        fs::create_dir(guest.destination()).expect("the test's own files");
        guest
    }

    fn root(&self) -> PathBuf {
        // No component of a destination may be a link, and the directory for temporary files may be behind one.
        self.directory.path().canonicalize().expect("the test's own files")
    }

    fn stages(&self) -> PathBuf {
        self.root().join("stages")
    }

    fn destination(&self) -> PathBuf {
        self.root().join("workspace")
    }

    fn path(&self, path: &str) -> PathBuf {
        self.destination().join(path)
    }

    fn write(&self, path: &str, content: &str) {
        fs::create_dir_all(self.path(path).parent().expect("the test's own files"))
            .expect("the test's own files");
        fs::write(self.path(path), content).expect("the test's own files");
    }

    fn start(&self) -> Agent {
        Agent::start_staging(&self.stages())
    }

    fn import(&self, op: u64) -> HostFrame {
        import_into(op, &self.destination())
    }

    fn has_no_stage(&self) -> bool {
        !self.stages().exists() || fs::read_dir(self.stages()).expect("the test's own files").count() == 0
    }
}

fn import_into(op: u64, destination: &Path) -> HostFrame {
    HostFrame::Import(Import {
        op,
        destination: destination.to_str().expect("the test's own files").to_owned(),
    })
}

fn entry(path: impl AsRef<[u8]>, kind: EntryKind, mode: u32) -> HostFrame {
    HostFrame::Entry(Entry { path: path.as_ref().to_vec(), kind, mode, modified: THEN })
}

fn directory(path: &str, mode: u32) -> Vec<HostFrame> {
    vec![entry(path, EntryKind::Directory, mode)]
}

fn file(path: &str, content: impl AsRef<[u8]>) -> Vec<HostFrame> {
    let content = content.as_ref();
    let kind = EntryKind::File { len: content.len() as u64 };
    let chunks = content.chunks(CONTENT_MAX).map(|chunk| HostFrame::Content(chunk.to_vec().into()));
    [entry(path, kind, 0o644)].into_iter().chain(chunks).collect()
}

fn symlink(path: &str, target: &str) -> Vec<HostFrame> {
    vec![entry(path, EntryKind::Symlink { target: target.into() }, u32::MAX)]
}

fn hard_link(path: &str, target: &str) -> Vec<HostFrame> {
    vec![entry(path, EntryKind::HardLink { target: target.into() }, 0o644)]
}

fn absent(path: &str) -> Vec<HostFrame> {
    vec![entry(path, EntryKind::Absent, 0)]
}

/// Sends the import whole; returns its answer.
fn send(agent: &Agent, import: HostFrame, entries: &[Vec<HostFrame>]) -> GuestFrame {
    let mut link = begin(agent, import, entries);
    link.ask(&HostFrame::Commit)
}

/// Sends all of an import but its end.
fn begin(agent: &Agent, import: HostFrame, entries: &[Vec<HostFrame>]) -> Link {
    let mut link = agent.connect();
    let mut bytes = Vec::new();
    for frame in [import].iter().chain(entries.iter().flatten()) {
        frame.encode(&mut bytes).expect("the test's own files");
    }
    link.send_bytes(&bytes);
    link
}

fn state(agent: &Agent, op: u64) -> ImportState {
    match agent.connect().ask(&HostFrame::AskImport { op }) {
        GuestFrame::ImportState(state) => state,
        other => panic!("{other:?} is no state"),
    }
}

/// Waits for something that the agent does. It is asked for a sign of life meanwhile, which it gives in the midst
/// of imports.
fn wait_until(agent: &Agent, what: impl Fn() -> bool) {
    let mut link = agent.connect();
    let start = std::time::Instant::now();
    while !what() {
        assert!(start.elapsed().as_secs() < 60, "it does not happen");
        assert_eq!(link.ask(&HostFrame::Ping), GuestFrame::Pong);
    }
}

fn imported(entries: u64, bytes: u64) -> GuestFrame {
    GuestFrame::Imported(Imported { entries, bytes })
}

fn failed(answer: GuestFrame) -> (String, i32) {
    match answer {
        GuestFrame::ImportFailed(ImportFailed { path, errno, .. }) => {
            (String::from_utf8(path.unwrap_or_default()).expect("the test's own files"), errno)
        }
        other => panic!("{other:?} is no failure"),
    }
}

/// All that can be seen of a file.
#[derive(Debug, PartialEq)]
struct Seen {
    mode: u32,
    modified: (i64, i64),
    inode: u64,
    /// Content of a file, target of a link.
    content: Vec<u8>,
}

/// Returns all below the directory, and itself.
fn look(root: &Path) -> BTreeMap<PathBuf, Seen> {
    let mut seen = BTreeMap::new();
    let mut waiting = vec![root.to_owned()];
    while let Some(path) = waiting.pop() {
        let metadata = path.symlink_metadata().expect("the test's own files");
        let content = if metadata.is_dir() {
            waiting.extend(
                fs::read_dir(&path)
                    .expect("the test's own files")
                    .map(|child| child.expect("the test's own files").path()),
            );
            Vec::new()
        } else if metadata.is_symlink() {
            fs::read_link(&path).expect("the test's own files").into_os_string().into_encoded_bytes()
        } else {
            fs::read(&path).expect("the test's own files")
        };
        let (mode, inode) = (metadata.mode(), metadata.ino());
        let modified = (metadata.mtime(), metadata.mtime_nsec());
        let below = path.strip_prefix(root).expect("the test's own files").to_owned();
        seen.insert(below, Seen { mode, modified, inode, content });
    }
    seen
}
