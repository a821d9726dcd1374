//! Process trees that can be ended whole.
//!
//! In a virtual machine a tree is a cgroup. Where the agent has no cgroup of its own, it is what lives below a
//! [warden](crate::warden).

use std::cell::RefCell;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use pyro_protocol::{Exec, ExitStatus, Failed, Stage};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, Shutdown, SocketFlags, SocketType};
use tokio::io::unix::AsyncFd;
use tokio::sync::{Notify, oneshot};
use tokio::task::spawn_local;

use crate::children::Children;
use crate::launch::{self, Prepared};
use crate::readiness;
use crate::warden::Report;

/// How trees are made here.
#[derive(Debug)]
pub(crate) enum Trees {
    /// A cgroup each, below this directory.
    Cgroups(Cgroups),
    /// A warden each.
    Wardens(Rc<Wardens>),
}

/// A running tree.
#[derive(Debug)]
pub(crate) enum Tree {
    /// All members of a cgroup.
    Cgroup(Cgroup),
    /// All descendants of a warden.
    Warden(Rc<Warden>),
}

/// A command that was started.
#[derive(Debug)]
pub(crate) struct Launched {
    /// Process id of the shell.
    pub(crate) pid: u32,
    /// What the shell belongs to.
    pub(crate) tree: Tree,
    /// What gives the end of the shell; without a value, it is lost.
    pub(crate) end: oneshot::Receiver<ExitStatus>,
    /// The read ends of stdout and stderr.
    pub(crate) outputs: [OwnedFd; 2],
}

impl Trees {
    /// Starts the command as a tree of its own.
    pub(crate) async fn launch(&self, exec: Exec, children: &Children) -> Result<Launched, Failed> {
        let op = exec.op;
        let prepared = Prepared::new(exec)?;
        match self {
            Self::Cgroups(cgroups) => {
                let (cgroup, procs) = cgroups.create(op).map_err(|error| prepare_failed(&error))?;
                let (pid, outputs) = prepared.spawn_in_cgroup(procs)?;
                let end = children.watch(pid);
                Ok(Launched {
                    pid: pid.as_raw_pid().cast_unsigned(),
                    tree: Tree::Cgroup(cgroup),
                    end,
                    outputs,
                })
            }
            Self::Wardens(wardens) => {
                let (ours, theirs) = rustix::net::socketpair(
                    AddressFamily::UNIX,
                    SocketType::SEQPACKET,
                    SocketFlags::CLOEXEC,
                    None,
                )
                .map_err(|error| prepare_failed(&error.into()))?;
                let warden = Warden::new(ours).map_err(|error| prepare_failed(&error))?;
                let outputs = prepared.spawn_warden(theirs)?;
                let pid = warden.started().await?;
                let (warden, end) = wardens.keep(warden);
                Ok(Launched { pid, tree: Tree::Warden(warden), end, outputs })
            }
        }
    }

    /// Ends all trees, also those of operations that are forgotten, and waits for their last process.
    ///
    /// Cgroups are left to PID 1, which ends everything on the machine.
    pub(crate) async fn end_all(&self) {
        match self {
            Self::Cgroups(_) => {}
            Self::Wardens(wardens) => wardens.end_all().await,
        }
    }
}

impl Tree {
    /// Kills all processes of the tree.
    pub(crate) fn kill(&self) {
        match self {
            Self::Cgroup(cgroup) => cgroup.kill(),
            Self::Warden(warden) => warden.kill(),
        }
    }
}

fn prepare_failed(error: &io::Error) -> Failed {
    launch::failed(Stage::Prepare, error, "make the process tree".to_owned())
}

/// The directory in which each command has its cgroup.
#[derive(Debug)]
pub(crate) struct Cgroups {
    root: PathBuf,
    /// Cgroups of ended commands that could not be removed, because something of them lives on.
    inhabited: Rc<RefCell<Vec<PathBuf>>>,
}

impl Cgroups {
    /// Makes the directory in the cgroup2 file system at `mount`.
    pub(crate) fn new(mount: &Path) -> io::Result<Self> {
        let root = mount.join("pyro");
        fs::create_dir_all(&root)?;
        // Absent before Linux 5.14: a tree could not be ended.
        fs::metadata(root.join("cgroup.kill"))?;
        Ok(Self { root, inhabited: Rc::default() })
    }

    fn create(&self, op: u64) -> io::Result<(Cgroup, OwnedFd)> {
        self.inhabited.borrow_mut().retain(|path| fs::remove_dir(path).is_err_and(|error| is_busy(&error)));
        let path = self.root.join(op.to_string());
        fs::create_dir(&path)?;
        let procs = fs::File::options().write(true).open(path.join("cgroup.procs"))?;
        Ok((Cgroup { path, inhabited: Rc::clone(&self.inhabited) }, procs.into()))
    }
}

fn is_busy(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::BUSY.raw_os_error())
}

/// The cgroup of one command; removed as soon as nobody wants to kill it and nothing lives in it.
#[derive(Debug)]
pub(crate) struct Cgroup {
    path: PathBuf,
    inhabited: Rc<RefCell<Vec<PathBuf>>>,
}

impl Cgroup {
    fn kill(&self) {
        // The only errors are those of a cgroup that is gone, and with it its members.
        let _gone = fs::write(self.path.join("cgroup.kill"), "1");
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        if fs::remove_dir(&self.path).is_err_and(|error| is_busy(&error)) {
            self.inhabited.borrow_mut().push(std::mem::take(&mut self.path));
        }
    }
}

/// The wardens that live.
#[derive(Debug, Default)]
pub(crate) struct Wardens {
    living: RefCell<Vec<Rc<Warden>>>,
    ended: Notify,
}

impl Wardens {
    /// Keeps a warden until it is gone; returns it with what gives the end of its shell.
    fn keep(self: &Rc<Self>, warden: Warden) -> (Rc<Warden>, oneshot::Receiver<ExitStatus>) {
        let (ended, end) = oneshot::channel();
        let warden = Rc::new(warden);
        self.living.borrow_mut().push(Rc::clone(&warden));
        spawn_local(Rc::clone(self).attend(Rc::clone(&warden), ended));
        (warden, end)
    }

    async fn attend(self: Rc<Self>, warden: Rc<Warden>, ended: oneshot::Sender<ExitStatus>) {
        let mut ended = Some(ended);
        while let Some(report) = warden.report().await {
            if let (Report::Exited(status), Some(ended)) = (report, ended.take()) {
                // The operation is gone when the agent is about to end.
                let _unwatched = ended.send(status);
            }
        }
        self.living.borrow_mut().retain(|living| !Rc::ptr_eq(living, &warden));
        self.ended.notify_waiters();
    }

    async fn end_all(&self) {
        loop {
            let ended = self.ended.notified();
            self.living.borrow().iter().for_each(|warden| warden.kill());
            if self.living.borrow().is_empty() {
                return;
            }
            ended.await;
        }
    }
}

/// Process id of a shell whose warden was killed before it could tell.
const UNKNOWN_PID: u32 = 0;

/// The agent's side of a warden.
#[derive(Debug)]
pub(crate) struct Warden {
    socket: AsyncFd<OwnedFd>,
}

impl Warden {
    fn new(socket: OwnedFd) -> io::Result<Self> {
        Ok(Self { socket: readiness::watch(socket)? })
    }

    fn kill(&self) {
        // It fails only when the warden is gone, which it is after its last descendant.
        let _gone = rustix::net::shutdown(&self.socket, Shutdown::Write);
    }

    async fn started(&self) -> Result<u32, Failed> {
        match self.report().await {
            Some(Report::Started { pid }) => Ok(pid),
            Some(Report::Failed { errno }) => Err(launch::shell_failed(io::Error::from_raw_os_error(errno))),
            // It was killed before it could tell. The command may have run, and may itself have been the killer: its
            // end is that of a command whose warden is lost.
            Some(Report::Exited(_)) | None => Ok(UNKNOWN_PID),
        }
    }

    /// Returns the next report; `None` when the warden is gone.
    async fn report(&self) -> Option<Report> {
        loop {
            let mut ready = self.socket.readable().await.ok()?;
            let mut bytes = [0; Report::BYTES];
            let received =
                ready.try_io(|socket| Ok(rustix::net::recv(socket, &mut bytes[..], RecvFlags::empty())?.1));
            if let Ok(received) = received {
                return Report::from_bytes(&bytes[..received.ok()?]);
            }
        }
    }
}
