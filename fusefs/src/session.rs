//! A tree that is mounted.
//!
//! ```text
//! (nothing) -> mounted -> detached by us, or by somebody else -> ended
//! ```
//!
//! A mount whose process died is left behind by the kernel: each call on it fails with `ENOTCONN`. It is cleared before
//! the next one takes its place.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use fuser::{Config, INodeNo, MountOption, Notifier, Session, SessionACL};
use pyro_core::WorkspaceId;
use pyro_store::outputs::StreamId;
use rustix::io::{Errno, FdFlags, fcntl_setfd};
use rustix::mount::UnmountFlags;

use crate::adapter::{Adapter, SharedNodes};
use crate::node::Node;
use crate::nodes::Nodes;
use crate::tree;
use crate::view::{Change, View};
use crate::waiting::Waiting;

/// Threads that answer the kernel: one that reads from a slow disk does not hold up the others.
const THREADS: usize = 4;

/// How long the place of a mount may take to answer: another mount there may hang.
const PROBE_DEADLINE: Duration = Duration::from_secs(2);

/// Time between two looks whether a mount has ended.
const END_PAUSE: Duration = Duration::from_millis(1);

/// What the mount table shows as the source.
const SOURCE: &str = "pyro";

/// The program that mounts and unmounts for users.
const FUSERMOUNT: &str = "fusermount3";

/// Who can enter a mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visibility {
    /// The user whose process serves it.
    Owner,
    /// Everybody, to read.
    Everybody,
}

/// Why a tree cannot be mounted or unmounted.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// There is something in the directory, which the mount would hide.
    #[error("{} is not empty", .path.display())]
    NotEmpty {
        /// The directory.
        path: PathBuf,
    },
    /// Something is mounted there that does not answer.
    #[error("{} does not answer; is a stopped process serving it?", .path.display())]
    Hung {
        /// The directory.
        path: PathBuf,
    },
    /// The operating system refused something.
    #[error("cannot mount at {}: {source}", .path.display())]
    Io {
        /// The directory.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
}

/// A mounted tree. Dropping it leaves it mounted as long as the process lives.
#[derive(Debug)]
pub struct Mount {
    path: PathBuf,
    visibility: Visibility,
    waiting: Arc<Waiting>,
    ended: Arc<AtomicBool>,
}

impl Mount {
    /// Mounts a tree at an empty directory, which is made if it is missing. A dead mount that is there is cleared.
    ///
    /// # Errors
    ///
    /// [`MountError`] when there is no such place or no right to mount.
    pub fn new(path: &Path, visibility: Visibility, view: View) -> Result<Self, MountError> {
        let error = |source| MountError::Io { path: path.to_owned(), source };
        prepare(path)?;
        let view = Arc::new(view);
        let waiting = Arc::new(Waiting::new(Arc::clone(&view)));
        let nodes: SharedNodes = Arc::new(Mutex::new(Nodes::new()));
        let adapter = Adapter::new(Arc::clone(&view), Arc::clone(&waiting), Arc::clone(&nodes));
        let session = Session::new(adapter, path, &options(visibility)).map_err(error)?;
        // A guest that inherited the connection would keep a dead mount alive, and its callers waiting.
        fcntl_setfd(&session, FdFlags::CLOEXEC).map_err(|source| error(source.into()))?;
        let notifier = session.notifier();
        let ended = Arc::new(AtomicBool::new(false));
        let mount = Self { path: path.to_owned(), visibility, waiting, ended };
        mount.serve(session, view, nodes, notifier).map_err(error)?;
        Ok(mount)
    }

    fn serve(
        &self,
        session: Session<Adapter>,
        view: Arc<View>,
        nodes: SharedNodes,
        notifier: Notifier,
    ) -> io::Result<()> {
        let (waiting, ended) = (Arc::clone(&self.waiting), Arc::clone(&self.ended));
        let serve = move || {
            if let Err(error) = session.run() {
                tracing::warn!(%error, "the mount ended");
            }
            ended.store(true, Ordering::Release);
            waiting.close();
        };
        thread::Builder::new().name("mount".into()).spawn(serve)?;
        let waiting = Arc::clone(&self.waiting);
        let wake = move || waiting.run(|changes| tell_kernel(changes, &view, &nodes, &notifier));
        thread::Builder::new().name("mount-waker".into()).spawn(wake)?;
        Ok(())
    }

    /// Returns where it is mounted.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns who can enter it.
    #[must_use]
    pub const fn visibility(&self) -> Visibility {
        self.visibility
    }

    /// Tells whether it is not mounted any more, whoever took it away.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Waits until it has ended, but not longer than that.
    pub fn wait_for_end(&self, longest: Duration) {
        let begun = Instant::now();
        while !self.has_ended() && begun.elapsed() < longest {
            thread::sleep(END_PAUSE);
        }
    }

    /// Tells whether the kernel still has it where it was mounted: it can take a moment until a mount that somebody else took
    /// away has ended. When the kernel does not tell, it is believed to be there.
    #[must_use]
    pub fn is_there(&self) -> bool {
        !self.has_ended()
            && fs::read("/proc/self/mountinfo").map_or(true, |table| is_listed(&table, &self.path))
    }

    /// Returns how many reads wait for more.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.count()
    }

    /// There is more in the log. Never waits.
    pub fn log_grew(&self) {
        self.waiting.log_grew();
    }

    /// There is more of an output stream. Never waits.
    pub fn stream_grew(&self, workspace: WorkspaceId, stream: StreamId) {
        self.waiting.stream_grew(workspace, stream);
    }

    /// Takes it away. Reads that wait end; what else is open there stays readable as long as the process lives.
    ///
    /// # Errors
    ///
    /// [`MountError::Io`] when the operating system does not take it away.
    pub fn unmount(&self) -> Result<(), MountError> {
        if !self.has_ended() {
            detach(&self.path)?;
        }
        self.waiting.close();
        Ok(())
    }
}

fn options(visibility: Visibility) -> Config {
    let mut config = Config::default();
    config.mount_options = vec![
        MountOption::FSName(SOURCE.to_owned()),
        MountOption::NoSuid,
        MountOption::NoDev,
        MountOption::NoExec,
        MountOption::NoAtime,
        MountOption::DefaultPermissions,
    ];
    config.acl = match visibility {
        Visibility::Owner => SessionACL::Owner,
        Visibility::Everybody => SessionACL::All,
    };
    config.n_threads = Some(THREADS);
    config
}

/// Tells whether the kernel's table of mounts has one of ours at a path.
fn is_listed(table: &[u8], path: &Path) -> bool {
    let escaped = path.as_os_str().as_bytes().iter().fold(Vec::new(), |mut escaped, byte| {
        match byte {
            b' ' | b'\t' | b'\n' | b'\\' => escaped.extend(format!("\\{byte:03o}").into_bytes()),
            byte => escaped.push(*byte),
        }
        escaped
    });
    table.split(|byte| *byte == b'\n').any(|line| {
        let words: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
        // The place is the fifth word; type and source follow a dash, behind as many words as there are marks.
        let kind = words.iter().position(|word| *word == b"-").and_then(|dash| words.get(dash + 1..dash + 3));
        words.get(4) == Some(&escaped.as_slice())
            && kind.is_some_and(|kind| kind[0].starts_with(b"fuse") && kind[1] == SOURCE.as_bytes())
    })
}

/// Makes the kernel forget what is gone.
fn tell_kernel(changes: &[Change], view: &View, nodes: &SharedNodes, notifier: &Notifier) {
    for change in changes {
        let Change::Gone(gone) = change else { continue };
        let parent = tree::place(gone).and_then(|(parent, name)| {
            let nodes = nodes.lock().unwrap_or_else(PoisonError::into_inner);
            Some((nodes.known(&parent)?, name))
        });
        if let Some((parent, name)) = parent
            && let Err(error) = notifier.inval_entry(INodeNo(parent), OsStr::new(&name))
        {
            tracing::debug!(%error, name, "the kernel was not told that a file is gone");
        }
        let below = |node: &Node| match (gone, gone.shell()) {
            (Node::Workspace(id), _) => node.workspace() == Some(*id),
            (_, Some(shell)) => (node.workspace(), node.shell()) == (gone.workspace(), Some(shell)),
            (gone, None) => node == gone,
        };
        nodes.lock().unwrap_or_else(PoisonError::into_inner).remove(below);
        if let Node::Workspace(id) = gone {
            view.forget(*id);
        }
    }
}

/// Makes the directory ready to be mounted at.
fn prepare(path: &Path) -> Result<(), MountError> {
    let error = |source| MountError::Io { path: path.to_owned(), source };
    loop {
        match probe(path)? {
            Place::Missing => fs::create_dir_all(path).map_err(error)?,
            Place::Dead => detach(path)?,
            Place::Empty => return Ok(()),
            Place::Occupied => return Err(MountError::NotEmpty { path: path.to_owned() }),
        }
    }
}

/// What is where somebody wants to mount.
enum Place {
    Missing,
    /// A mount whose process is gone.
    Dead,
    Empty,
    Occupied,
}

/// Looks at a place that may hang.
fn probe(path: &Path) -> Result<Place, MountError> {
    let (sender, answer) = mpsc::channel();
    let asked = path.to_owned();
    let look = move || {
        let is_link = fs::symlink_metadata(&asked).is_ok_and(|metadata| metadata.is_symlink());
        // The mount would be where the link leads, and be looked for here.
        let entries = if is_link {
            Err(io::ErrorKind::NotADirectory.into())
        } else {
            fs::read_dir(&asked).map(|mut entries| entries.next().is_some())
        };
        // Whoever asked may have given up.
        let _late = sender.send(entries);
    };
    let error = |source| MountError::Io { path: path.to_owned(), source };
    thread::Builder::new().name("mount-probe".into()).spawn(look).map_err(error)?;
    match answer.recv_timeout(PROBE_DEADLINE) {
        Ok(Ok(false)) => Ok(Place::Empty),
        Ok(Ok(true)) => Ok(Place::Occupied),
        Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => Ok(Place::Missing),
        Ok(Err(error)) if Errno::from_io_error(&error) == Some(Errno::NOTCONN) => Ok(Place::Dead),
        Ok(Err(source)) => Err(error(source)),
        Err(_) => Err(MountError::Hung { path: path.to_owned() }),
    }
}

/// Clears a mount whose process died; does nothing when there is none.
///
/// # Errors
///
/// [`MountError`] when the place hangs or the mount cannot be cleared.
pub fn clear(path: &Path) -> Result<(), MountError> {
    while let Place::Dead = probe(path)? {
        detach(path)?;
    }
    Ok(())
}

/// Takes the mount away from the directory tree; what is open there stays open.
fn detach(path: &Path) -> Result<(), MountError> {
    let error = |source| MountError::Io { path: path.to_owned(), source };
    match rustix::mount::unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
        Ok(()) => return Ok(()),
        Err(Errno::PERM) => {}
        Err(errno) => return Err(error(errno.into())),
    }
    let mut command = Command::new(FUSERMOUNT);
    command.args(["-u", "-z", "-q", "--"]).arg(path).stdin(Stdio::null());
    let output = command.output().map_err(error)?;
    if output.status.success() {
        return Ok(());
    }
    Err(error(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Catches a mount that is believed to be there after somebody took it away, and one with a strange name that is not found.
    #[test]
    fn the_kernels_table_of_mounts() {
        let table = b"22 1 0:21 / /proc rw - proc proc rw\n\
            90 22 0:50 / /mnt/a\\040b rw,nosuid shared:7 - fuse pyro rw,user_id=0\n\
            91 22 0:51 / /mnt/c rw - fuse other rw\n";
        let is_there = |path: &str| is_listed(table, Path::new(path));
        assert!(is_there("/mnt/a b"));
        assert!(
            !is_there("/mnt/a")
                && !is_there("/mnt/c")
                && !is_there("/proc")
                && !is_listed(b"", Path::new("/"))
        );
    }
}
