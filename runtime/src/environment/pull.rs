//! The course of a pull: lock, look, build aside, verify, swap.
//!
//! ```text
//! waiting for the lock --> whole? --yes--------------------------------> initramfs --> Installed
//!                             no: packages --> kernel --> image --> verify --> swap --^
//! ```
//! A cancellation or an error at any point removes the partial directory and releases the lock.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::thread;

use pyro_core::{CatalogEntry, EnvironmentName};
use tokio::sync::oneshot;

use super::build;
use super::command::{Cancel, Runner};
use super::installed::Installed;
use super::kernel::KernelError;
use super::lock::Lock;
use super::manifest::Damage;
use super::modules::ModulesError;
use super::tree;
use crate::host::{MissingTool, Tool, Tools};

/// End of the name under which a damaged installation waits for its removal.
pub(super) const REPLACED_SUFFIX: &str = ".replaced";

/// A part of a pull.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PullPhase {
    /// Another pull of the same environment is going on.
    Waiting,
    /// An existing installation is compared with its digests.
    Checking,
    /// Packages are downloaded and unpacked.
    Packages,
    /// The kernel and its modules are unpacked.
    Kernel,
    /// The image and the tree are made.
    Image,
    /// Digests are taken and everything is written to the disk.
    Verify,
    /// The environment can be used.
    Ready,
}

/// How far a pull has come.
#[derive(Clone, Debug, PartialEq)]
pub struct PullProgress {
    /// What is being done.
    pub phase: PullPhase,
    /// Part of the whole pull that is done, from 0 to 1, never falling; `None` while that cannot be known.
    pub fraction: Option<f32>,
    /// What is being done, for people.
    pub detail: String,
}

/// Why an environment could not be installed.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// A program is missing.
    #[error(transparent)]
    MissingTool(#[from] MissingTool),
    /// A file of another package is missing.
    #[error("{path} is not there; it comes with the Debian package {package}")]
    MissingFile {
        /// Which file.
        path: &'static str,
        /// What brings it.
        package: &'static str,
    },
    /// A program failed.
    #[error("{tool} failed with {status}: {output}")]
    ToolFailed {
        /// Which one.
        tool: &'static str,
        /// How it ended.
        status: ExitStatus,
        /// The end of what it wrote to standard error.
        output: String,
    },
    /// A file could not be read or written.
    #[error("cannot {doing} {path}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The package does not hold what it should.
    #[error("the kernel package is not as expected: {0}")]
    Package(&'static str),
    /// The kernel cannot be used.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// The modules cannot be used.
    #[error(transparent)]
    Modules(#[from] ModulesError),
    /// What was written reads back differently.
    #[error("the new installation does not read back as it was written")]
    Damaged(#[source] Damage),
    /// The pull was cancelled.
    #[error("the pull was cancelled")]
    Cancelled,
}

/// Everything a pull needs to know.
pub(super) struct Job {
    pub(super) name: EnvironmentName,
    pub(super) entry: &'static CatalogEntry,
    pub(super) tools: Tools,
    pub(super) agent: PathBuf,
    /// Directory of the other three.
    pub(super) parent: PathBuf,
    pub(super) target: PathBuf,
    pub(super) partial: PathBuf,
    pub(super) lock: PathBuf,
    pub(super) progress: Box<dyn FnMut(PullProgress) + Send>,
}

/// Cancels when the future of the pull is dropped; without effect once the pull has ended.
struct CancelOnDrop(Cancel);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// Runs a job on a thread of its own.
///
/// The thread lives exactly as long as the pull: the programs it starts are told to die with the thread that started them,
/// so a borrowed thread of a pool would end them at random.
pub(super) async fn pull(mut job: Job) -> Result<Installed, PullError> {
    let (sender, receiver) = oneshot::channel();
    let cancel = CancelOnDrop(Cancel::default());
    let inside = cancel.0.clone();
    let parent = job.parent.clone();
    let work = move || {
        // Nobody is left to hear the result of a cancelled pull.
        sender.send(job.run(&inside)).ok();
    };
    thread::Builder::new().name("pull".to_owned()).spawn(work).map_err(|source| PullError::Io {
        doing: "start a thread for",
        path: parent,
        source,
    })?;
    receiver.await.unwrap_or(Err(PullError::Cancelled))
}

impl Job {
    fn run(&mut self, cancel: &Cancel) -> Result<Installed, PullError> {
        make_private_dirs(&self.parent)?;
        let progress = &mut self.progress;
        let lock = Lock::take(self.lock.clone(), cancel, || {
            let detail = "another pull of this environment is going on".to_owned();
            progress(PullProgress { phase: PullPhase::Waiting, fraction: None, detail });
        })?;
        if let Some(installed) = self.whole() {
            return self.ready(installed);
        }
        let built = self.build(cancel, &lock.0);
        let cleared = self.clear(cancel, &lock.0);
        built?;
        cleared?;
        match Installed::open(self.target.clone(), &self.name, self.entry) {
            Ok(installed) => self.ready(installed),
            Err(super::NotInstalled::Damaged { source, .. }) => Err(PullError::Damaged(source)),
            Err(super::NotInstalled::Absent(_)) => Err(PullError::Cancelled),
        }
    }

    /// Returns the installation if every byte of it is right.
    fn whole(&mut self) -> Option<Installed> {
        let found = Installed::open(self.target.clone(), &self.name, self.entry).ok()?;
        self.report(PullPhase::Checking, None, "comparing the installation with its digests");
        found.verify().ok()
    }

    fn ready(&mut self, installed: Installed) -> Result<Installed, PullError> {
        let failed = |source| PullError::Io { doing: "pack the agent", path: self.agent.clone(), source };
        installed.initramfs(&self.agent).map_err(failed)?;
        self.report(PullPhase::Ready, Some(1.0), "ready");
        Ok(installed)
    }

    fn build(&mut self, cancel: &Cancel, lock: &File) -> Result<(), PullError> {
        build::require(&self.tools)?;
        self.clear_leftovers(cancel, lock)?;
        make_private_dirs(&self.partial)?;
        let runner = Runner { tools: &self.tools, cancel, lock, dir: &self.partial };
        build::build(&runner, self.entry, &mut self.progress)?;
        cancel.check()?;
        self.swap()
    }

    /// Gives the finished installation its name. The former one, which is damaged, goes out of the way first: for a
    /// moment there is none, which is the truth.
    fn swap(&self) -> Result<(), PullError> {
        let failed = |source| PullError::Io { doing: "rename", path: self.target.clone(), source };
        if self.target.exists() {
            fs::rename(&self.target, self.replaced()).map_err(failed)?;
        }
        fs::rename(&self.partial, &self.target).map_err(failed)?;
        File::open(&self.parent).and_then(|dir| dir.sync_all()).map_err(failed)
    }

    fn replaced(&self) -> PathBuf {
        let mut name = self.partial.clone().into_os_string();
        name.push(REPLACED_SUFFIX);
        name.into()
    }

    fn clear_leftovers(&self, cancel: &Cancel, lock: &File) -> Result<(), PullError> {
        cancel.check()?;
        self.clear(cancel, lock)
    }

    /// Removes the partial directory and what was replaced, whether or not the pull was cancelled.
    fn clear(&self, cancel: &Cancel, lock: &File) -> Result<(), PullError> {
        for path in [self.partial.clone(), self.replaced()] {
            match tree::remove(&path) {
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    self.clear_mapped(&path, cancel, lock)?
                }
                Err(source) => return Err(PullError::Io { doing: "remove", path, source }),
                Ok(()) => {}
            }
        }
        Ok(())
    }

    /// Removes a tree that holds files of the user's subordinate ids, which only a user namespace may touch.
    fn clear_mapped(&self, path: &Path, cancel: &Cancel, lock: &File) -> Result<(), PullError> {
        // A cancelled pull still has to clean up, which is short: its own switch would refuse to run anything.
        let own_switch = Cancel::default();
        let cancel = if cancel.is_cancelled() { &own_switch } else { cancel };
        let runner = Runner { tools: &self.tools, cancel, lock, dir: &self.parent };
        let arguments = ["-c", r#"rm -rf -- "$1""#, "sh", &path.to_string_lossy()];
        runner.run(Tool::Sh, &arguments, &mut |_| {}).map(drop)
    }

    fn report(&mut self, phase: PullPhase, fraction: Option<f32>, detail: &str) {
        (self.progress)(PullProgress { phase, fraction, detail: detail.to_owned() });
    }
}

/// Makes a directory that only its owner may enter, with its parents.
fn make_private_dirs(path: &Path) -> Result<(), PullError> {
    use std::os::unix::fs::DirBuilderExt as _;
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|source| PullError::Io { doing: "make the directory", path: path.to_owned(), source })
}
