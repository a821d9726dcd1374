//! The daemon as the nemesis sees it: a process with a home, and a lock that says who may start the next one.

use std::fs::{File, OpenOptions};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::Pyro;

/// Longest time between SIGKILL and the end of the process, on a loaded machine.
const DEATH_DEADLINE: Timespec = Timespec { tv_sec: 30, tv_nsec: 0 };

/// A daemon, held so that no other process can be taken for it.
#[derive(Debug)]
pub(super) struct Daemon {
    pidfd: OwnedFd,
}

impl Daemon {
    /// Finds the daemon of a home, also one that is not ready yet; `None` when there is none.
    #[must_use]
    pub(super) fn find(pyro: &Pyro) -> Option<Self> {
        let variable = [b"PYRO_HOME=", pyro.home().as_os_str().as_encoded_bytes()].concat();
        std::fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
            let pid = Pid::from_raw(entry.file_name().to_str()?.parse().ok()?)?;
            // Opened first: what is read below is then about this process or about none.
            let pidfd = pidfd_open(pid, PidfdFlags::empty()).ok()?;
            let line = std::fs::read(entry.path().join("cmdline")).ok()?;
            let of_the_daemon = line.windows(12).any(|words| words == b"\0daemon\0run\0");
            let environment = of_the_daemon.then(|| std::fs::read(entry.path().join("environ")).ok())??;
            environment.split(|byte| *byte == 0).any(|one| one == variable).then_some(Self { pidfd })
        })
    }

    /// Kills it and waits until it is gone; tells whether it was there to be killed.
    #[must_use]
    pub(super) fn kill(&self) -> bool {
        let killed = pidfd_send_signal(&self.pidfd, Signal::KILL).is_ok();
        let gone = poll(&mut [PollFd::new(&self.pidfd, PollFlags::IN)], Some(&DEATH_DEADLINE));
        assert!(gone.is_ok_and(|gone| gone > 0), "a killed daemon does not go");
        killed
    }

    /// Lets so much time pass, or less when the daemon ends by itself.
    pub(super) fn linger(&self, time: Duration) {
        let time = Timespec::try_from(time).expect("pauses are short");
        // Whatever comes first is what is wanted.
        let _waited = poll(&mut [PollFd::new(&self.pidfd, PollFlags::IN)], Some(&time));
    }
}

/// While it is held, clients wait and no daemon is started.
#[derive(Debug)]
pub(super) struct StartLock(#[expect(dead_code, reason = "closing the file gives the lock back")] File);

impl StartLock {
    /// Waits until no client starts a daemon, and keeps it so.
    #[must_use]
    pub(super) fn hold(pyro: &Pyro) -> Self {
        let path = pyro.home().join("run/start.lock");
        let file = OpenOptions::new().append(true).create(true).open(path).expect("the home can be written");
        file.lock().expect("a file can be locked");
        Self(file)
    }
}

/// What a daemon does to the files of its home while it starts.
#[derive(Debug)]
pub(super) struct Traces(OwnedFd);

impl Traces {
    /// Watches from now on.
    #[must_use]
    pub(super) fn watch(home: &Path) -> Self {
        let watch = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)
            .expect("files can be watched");
        let flags = inotify::WatchFlags::CREATE
            | inotify::WatchFlags::DELETE
            | inotify::WatchFlags::OPEN
            | inotify::WatchFlags::MODIFY;
        for directory in ["run", "log"] {
            inotify::add_watch(&watch, home.join(directory), flags).expect("a directory can be watched");
        }
        Self(watch)
    }

    /// Waits for so many traces, but not longer than that.
    pub(super) fn wait(&self, mut count: u64, limit: Duration) {
        let limit = Timespec::try_from(limit).expect("limits are short");
        let mut buffer = [MaybeUninit::uninit(); 4096];
        while count > 0 && poll(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(&limit)).unwrap_or(0) > 0 {
            let mut events = inotify::Reader::new(&self.0, &mut buffer);
            while count > 0 && events.next().is_ok() {
                count -= 1;
            }
        }
    }
}
