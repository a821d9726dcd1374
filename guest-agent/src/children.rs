//! Ends of child processes. As PID 1 or a subreaper, the agent also gets the orphans.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;

use pyro_protocol::ExitStatus;
use rustix::io::Errno;
use rustix::process::{Pid, WaitId, WaitIdOptions, WaitOptions, WaitStatus};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, oneshot};

/// The children whose end somebody waits for.
#[derive(Debug, Default)]
pub(crate) struct Children {
    waiting: RefCell<HashMap<Pid, oneshot::Sender<ExitStatus>>>,
    reaped: Notify,
}

impl Children {
    /// Returns what gives the end of `pid`.
    ///
    /// To be called without an `await` after the spawn: the single thread cannot reap in between.
    pub(crate) fn watch(&self, pid: Pid) -> oneshot::Receiver<ExitStatus> {
        let (sender, receiver) = oneshot::channel();
        self.waiting.borrow_mut().insert(pid, sender);
        receiver
    }

    /// Reaps as long as the agent lives.
    pub(crate) async fn reap(&self, mut ended: Signal) {
        loop {
            while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
                if let (Some(watcher), Some(status)) =
                    (self.waiting.borrow_mut().remove(&pid), exit_status(status))
                {
                    // The watcher is gone when the agent is about to end.
                    let _unwatched = watcher.send(status);
                }
            }
            self.reaped.notify_waiters();
            if ended.recv().await.is_none() {
                return;
            }
        }
    }

    /// Waits until this process has no child. For PID 1 that is when no other process is left.
    pub(crate) async fn all_ended(&self) {
        loop {
            let reaped = self.reaped.notified();
            let looked = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
            if matches!(rustix::process::waitid(WaitId::All, looked), Err(Errno::CHILD)) {
                return;
            }
            reaped.await;
        }
    }
}

/// Returns the signal that says that children ended; from here on none is missed.
pub(crate) fn ended() -> io::Result<Signal> {
    signal(SignalKind::child())
}

/// Returns how a process ended; `None` when it only stopped or went on.
pub(crate) fn exit_status(status: WaitStatus) -> Option<ExitStatus> {
    let byte = |number: i32| u8::try_from(number).expect("the kernel reports codes and signals below 256");
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Some(ExitStatus::Code(byte(code))),
        (None, Some(signal)) => Some(ExitStatus::Signal(byte(signal))),
        (None, None) => None,
    }
}
