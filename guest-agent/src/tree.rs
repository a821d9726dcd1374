//! Process trees that can be ended whole.
//!
//! In a virtual machine a tree is a cgroup. Where the agent has no cgroup of its own, it is what lives below a
//! [warden](crate::warden).

use std::cell::{Cell, RefCell};
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use pyro_protocol::{ExitStatus, Failed, Stage};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, Shutdown, SocketFlags, SocketType};
use rustix::process::{Pid, Signal};
use tokio::io::unix::AsyncFd;
use tokio::sync::{Notify, oneshot};
use tokio::task::spawn_local;

use crate::children::Children;
use crate::launch::{self, Channel, Prepared, Request, Session};
use crate::readiness;
use crate::warden::Job;
use crate::warden::{self, Report};

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

/// A command or shell that was started.
#[derive(Debug)]
pub(crate) struct Launched {
    /// Process id of the shell.
    pub(crate) pid: u32,
    /// What the shell belongs to.
    pub(crate) tree: Tree,
    /// What gives the end of the shell; without a value, it is lost.
    pub(crate) end: oneshot::Receiver<ExitStatus>,
    /// What it is connected to.
    pub(crate) channel: Channel,
}

impl Trees {
    /// Makes ready for the first command.
    pub(crate) fn prepare(&self) {
        match self {
            Self::Cgroups(_) => {}
            Self::Wardens(wardens) => wardens.hire(),
        }
    }

    /// Starts the command or shell as a tree of its own.
    pub(crate) async fn launch(&self, request: Request, children: &Children) -> Result<Launched, Failed> {
        let op = request.op();
        let prepared = Prepared::new(request)?;
        let (program, session) = (prepared.program, prepared.session);
        match self {
            Self::Cgroups(cgroups) => {
                let (cgroup, procs) = cgroups.create(op, session).map_err(|error| prepare_failed(&error))?;
                let (pid, channel) = prepared.spawn_in_cgroup(procs)?;
                let end = children.watch(pid);
                Ok(Launched {
                    pid: pid.as_raw_pid().cast_unsigned(),
                    tree: Tree::Cgroup(cgroup),
                    end,
                    channel,
                })
            }
            Self::Wardens(wardens) => {
                let (job, channel) = prepared.into_job();
                let (warden, pid) = wardens.employ(&job, program).await?;
                let (warden, end) = wardens.keep(warden);
                Ok(Launched { pid, tree: Tree::Warden(warden), end, channel })
            }
        }
    }

    /// Asks all processes of all trees to end, also those of operations that are forgotten, and waits until they have.
    pub(crate) async fn terminate_all(&self, children: &Children) {
        match self {
            Self::Cgroups(cgroups) => {
                cgroups.terminate_all();
                children.all_ended().await;
            }
            Self::Wardens(wardens) => wardens.order_all(Warden::terminate).await,
        }
    }

    /// Ends all trees, also those of operations that are forgotten, and waits for their last process.
    ///
    /// Cgroups are left to PID 1, which ends everything on the machine.
    pub(crate) async fn end_all(&self) {
        match self {
            Self::Cgroups(_) => {}
            Self::Wardens(wardens) => wardens.order_all(Warden::kill).await,
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

/// What follows the number in the name of a shell's cgroup.
const SHELL_SUFFIX: &str = ".shell";

/// The directory in which each command and shell has its cgroup.
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

    fn create(&self, op: u64, session: Session) -> io::Result<(Cgroup, OwnedFd)> {
        self.inhabited.borrow_mut().retain(|path| fs::remove_dir(path).is_err_and(|error| is_busy(&error)));
        let path = self.root.join(match session {
            Session::Plain => op.to_string(),
            Session::OnTerminal => format!("{op}{SHELL_SUFFIX}"),
        });
        fs::create_dir(&path)?;
        let procs = fs::File::options().write(true).open(path.join("cgroup.procs"))?;
        Ok((Cgroup { path, inhabited: Rc::clone(&self.inhabited) }, procs.into()))
    }

    /// Asks every process on the machine to end.
    fn terminate_all(&self) {
        let everyone = |signal| {
            // For `kill`, the group of PID 1 is the number -1, which means every other process on the machine.
            let _none_left = rustix::process::kill_process_group(Pid::INIT, signal);
        };
        everyone(Signal::TERM);
        for pid in self.of_shells() {
            // It may have ended by itself.
            let _ended = rustix::process::kill_process(pid, Signal::HUP);
        }
        everyone(Signal::CONT);
    }

    /// Returns the members of the cgroups of shells.
    fn of_shells(&self) -> Vec<Pid> {
        let cgroups = fs::read_dir(&self.root).into_iter().flatten().flatten();
        let shells =
            cgroups.filter(|entry| entry.file_name().as_encoded_bytes().ends_with(SHELL_SUFFIX.as_bytes()));
        let members = shells.filter_map(|entry| fs::read_to_string(entry.path().join("cgroup.procs")).ok());
        let pids = members.flat_map(|pids| pids.lines().map(str::to_owned).collect::<Vec<_>>());
        pids.filter_map(|pid| Pid::from_raw(pid.parse().ok()?)).collect()
    }
}

fn is_busy(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::BUSY.raw_os_error())
}

/// The cgroup of one command or shell; removed as soon as nobody wants to kill it and nothing lives in it.
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
    /// One that waits for the next job.
    spare: RefCell<Option<Warden>>,
    living: RefCell<Vec<Rc<Warden>>>,
    ended: Notify,
    /// What all were ordered, for those that are yet to come.
    order: Cell<Option<fn(&Warden)>>,
}

impl Wardens {
    /// Has a warden do a job; returns it with the process id of the shell.
    async fn employ(&self, job: &Job, program: &str) -> Result<(Warden, u32), Failed> {
        for _killed_before_it_began in 0..WARDENS_MAX {
            let warden = self.give(job).map_err(|error| prepare_failed(&error))?;
            self.hire();
            if let Some(pid) = warden.started(program).await? {
                return Ok((warden, pid));
            }
        }
        Err(prepare_failed(&Errno::SRCH.into()))
    }

    /// Gives a job to the warden that waits, or to a new one.
    fn give(&self, job: &Job) -> io::Result<Warden> {
        let spare = self.spare.take();
        // A command can have killed the one that waited.
        if let Some(warden) = spare.filter(|warden| job.send(&warden.socket).is_ok()) {
            return Ok(warden);
        }
        let warden = Warden::start()?;
        job.send(&warden.socket)?;
        Ok(warden)
    }

    /// Makes a warden that waits for the next job. Without one, that job waits for a new warden.
    fn hire(&self) {
        self.spare.replace(Warden::start().ok());
    }

    /// Keeps a warden until it is gone; returns it with what gives the end of its shell.
    fn keep(self: &Rc<Self>, warden: Warden) -> (Rc<Warden>, oneshot::Receiver<ExitStatus>) {
        let (ended, end) = oneshot::channel();
        let warden = Rc::new(warden);
        if let Some(order) = self.order.get() {
            order(&warden);
        }
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

    /// Gives an order to all that live and all that are yet to come, and waits until none lives.
    async fn order_all(&self, order: fn(&Warden)) {
        self.order.set(Some(order));
        self.living.borrow().iter().for_each(|warden| order(warden));
        loop {
            let ended = self.ended.notified();
            if self.living.borrow().is_empty() {
                return;
            }
            ended.await;
        }
    }
}

/// Wardens that are given one job, each after the one before was killed before it began with it: a command that kills
/// everybody again and again makes others fail in the end.
const WARDENS_MAX: usize = 8;

/// Process id of a shell whose warden was killed before it could tell.
const UNKNOWN_PID: u32 = 0;

/// The agent's side of a warden.
#[derive(Debug)]
pub(crate) struct Warden {
    socket: AsyncFd<OwnedFd>,
}

impl Warden {
    /// Starts one, which waits for its job.
    fn start() -> io::Result<Self> {
        let (ours, theirs) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        let warden = Self { socket: readiness::watch(ours)? };
        launch::spawn_warden(theirs)?;
        Ok(warden)
    }

    fn kill(&self) {
        // It fails only when the warden is gone, which it is after its last descendant.
        let _gone = rustix::net::shutdown(&self.socket, Shutdown::Write);
    }

    fn terminate(&self) {
        // As above. It takes orders at once, and there are few.
        let _gone = rustix::net::send(&self.socket, &warden::TERMINATE, SendFlags::NOSIGNAL);
    }

    /// Waits until it has started the program; returns the process id. `None` when it ended before it began with its job,
    /// which another one can have.
    async fn started(&self, program: &str) -> Result<Option<u32>, Failed> {
        let mut begun = false;
        loop {
            match self.report().await {
                Some(Report::Begun) => begun = true,
                Some(Report::Started { pid }) => return Ok(Some(pid)),
                Some(Report::Failed { errno }) => {
                    return Err(launch::shell_failed(program, &io::Error::from_raw_os_error(errno)));
                }
                // It was killed before it could tell. The command may have run, and may itself have been the killer: its
                // end is that of a command whose warden is lost.
                Some(Report::Exited(_)) | None => return Ok(begun.then_some(UNKNOWN_PID)),
            }
        }
    }

    /// Returns the next report; `None` when the warden is gone.
    async fn report(&self) -> Option<Report> {
        loop {
            let mut ready = self.socket.readable().await.ok()?;
            let mut bytes = [0; Report::BYTES];
            let received =
                ready.try_io(|socket| Ok(rustix::net::recv(socket, &mut bytes[..], RecvFlags::empty())?.1));
            match received {
                Ok(Ok(received)) => return Report::from_bytes(&bytes[..received]),
                // It ended without having taken an order. What it said before that is still there.
                Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionReset => {}
                Ok(Err(_)) => return None,
                Err(_not_ready) => {}
            }
        }
    }
}
