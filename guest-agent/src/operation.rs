//! One operation: a command, from its acceptance until it is forgotten.
//!
//! ```text
//! Starting -> Running -> Exited
//!     \-----> Failed
//! ```

use std::cell::{Cell, Ref, RefCell, RefMut};
use std::io;
use std::rc::Rc;
use std::time::Duration;

use pyro_protocol::{self as protocol, Exec, ExitStatus, Exited, Failed, Phase, Stage, Started, Stream};
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::spawn_local;
use tokio::time::Instant;

use crate::children::Children;
use crate::launch;
use crate::pump;
use crate::retained::Retained;
use crate::tree::{Launched, Tree, Trees};

/// The end of a command whose warden did not live to report it: only SIGKILL ends a warden before its work is done, and
/// it comes from a command that kills all processes.
const LOST: ExitStatus = ExitStatus::Signal(9);

/// What the agent knows of an operation. Its task writes it, pumps fill it, and at most one connection follows it.
#[derive(Debug)]
pub(crate) struct Operation {
    number: u64,
    phase: RefCell<Phase>,
    tree: RefCell<Option<Tree>>,
    /// Somebody wanted it to end before there was a tree.
    kill_at_start: Cell<bool>,
    outputs: [RefCell<Retained>; 2],
    /// Number of the newest connection that follows it.
    follower: Cell<u64>,
    changed: Notify,
    room: Notify,
}

impl Operation {
    pub(crate) fn new(number: u64) -> Rc<Self> {
        Rc::new(Self {
            number,
            phase: RefCell::new(Phase::Starting),
            tree: RefCell::default(),
            kill_at_start: Cell::default(),
            outputs: Default::default(),
            follower: Cell::default(),
            changed: Notify::new(),
            room: Notify::new(),
        })
    }

    /// Returns the host's number.
    pub(crate) const fn number(&self) -> u64 {
        self.number
    }

    pub(crate) fn phase(&self) -> Phase {
        self.phase.borrow().clone()
    }

    fn set_phase(&self, phase: Phase) {
        *self.phase.borrow_mut() = phase;
        self.changed.notify_waiters();
    }

    /// Returns what is kept of a stream.
    pub(crate) fn output(&self, stream: Stream) -> Ref<'_, Retained> {
        self.cell(stream).borrow()
    }

    /// Returns where what is kept of a stream starts and ends.
    pub(crate) fn kept(&self, stream: Stream) -> (u64, u64) {
        let output = self.output(stream);
        (output.start(), output.end())
    }

    /// Returns what is kept of a stream, to add to it. [`advanced`](Self::advanced) is to be called after it.
    pub(crate) fn output_mut(&self, stream: Stream) -> RefMut<'_, Retained> {
        self.cell(stream).borrow_mut()
    }

    const fn cell(&self, stream: Stream) -> &RefCell<Retained> {
        match stream {
            Stream::Stdout => &self.outputs[0],
            Stream::Stderr => &self.outputs[1],
        }
    }

    /// Says that there is more output.
    pub(crate) fn advanced(&self) {
        self.changed.notify_waiters();
    }

    /// Drops acknowledged output.
    pub(crate) fn release(&self, stream: Stream, offset: u64) {
        let mut output = self.output_mut(stream);
        output.release(offset);
        if matches!(*self.phase.borrow(), Phase::Exited(_)) {
            output.shrink();
        }
        self.room.notify_waiters();
    }

    /// Returns what wakes when phase, output or follower changed after this call.
    pub(crate) const fn changed(&self) -> &Notify {
        &self.changed
    }

    /// Returns what wakes when output was dropped.
    pub(crate) const fn room(&self) -> &Notify {
        &self.room
    }

    /// Makes the caller the one connection that follows the operation; returns its number.
    pub(crate) fn follow(&self) -> u64 {
        self.follower.set(self.follower.get() + 1);
        self.changed.notify_waiters();
        self.follower.get()
    }

    /// Returns whether no newer connection follows.
    pub(crate) fn is_followed_by(&self, follower: u64) -> bool {
        self.follower.get() == follower
    }

    /// Ends the whole tree, at once or as soon as there is one.
    pub(crate) fn kill(&self) {
        match &*self.tree.borrow() {
            Some(tree) => tree.kill(),
            None => self.kill_at_start.set(true),
        }
    }

    /// Returns what the agent's journal says of it.
    pub(crate) fn summary(&self) -> protocol::Operation {
        let kept = |stream| {
            let (start, end) = self.kept(stream);
            protocol::Retained { start, end }
        };
        protocol::Operation {
            op: self.number,
            phase: self.phase(),
            stdout: kept(Stream::Stdout),
            stderr: kept(Stream::Stderr),
        }
    }
}

/// Runs the operation from its start to its exit.
pub(crate) async fn run(operation: Rc<Operation>, exec: Exec, trees: Rc<Trees>, children: Rc<Children>) {
    let timeout = Duration::from_millis(exec.timeout_ms);
    let start = Instant::now();
    let attempt = match trees.launch(exec, &children).await {
        Ok(launched) => Running::begin(&operation, launched),
        Err(failed) => Err(failed),
    };
    let mut running = match attempt {
        Ok(running) => running,
        Err(failed) => return operation.set_phase(Phase::Failed(failed)),
    };
    let status = match tokio::time::timeout_at(deadline(start, timeout), &mut running.end).await {
        Ok(end) => end.unwrap_or(LOST),
        Err(_elapsed) => {
            operation.kill();
            let _killed = (&mut running.end).await;
            ExitStatus::TimedOut
        }
    };
    let duration_ms =
        u64::try_from(start.elapsed().as_millis()).expect("a guest lives less than 584 million years");
    running.collect(&operation).await;
    let exited = Exited {
        status,
        duration_ms,
        stdout_len: operation.output(Stream::Stdout).end(),
        stderr_len: operation.output(Stream::Stderr).end(),
    };
    operation.set_phase(Phase::Exited(exited));
}

/// A year stands for times that the clock cannot hold.
fn deadline(start: Instant, timeout: Duration) -> Instant {
    start.checked_add(timeout).unwrap_or(start + Duration::from_secs(365 * 24 * 3600))
}

/// What only the task of a running operation needs.
struct Running {
    end: oneshot::Receiver<ExitStatus>,
    exited: watch::Sender<bool>,
    pumps: [tokio::task::JoinHandle<Option<tokio::net::unix::pipe::Receiver>>; 2],
}

impl Running {
    fn begin(operation: &Rc<Operation>, launched: Launched) -> Result<Self, Failed> {
        let Launched { pid, tree, end, outputs } = launched;
        let receivers = outputs.map(tokio::net::unix::pipe::Receiver::from_owned_fd);
        let [stdout, stderr] = match receivers {
            [Ok(stdout), Ok(stderr)] => [stdout, stderr],
            [Err(error), _] | [_, Err(error)] => {
                tree.kill();
                return Err(pipes_failed(&error));
            }
        };
        if operation.kill_at_start.get() {
            tree.kill();
        }
        *operation.tree.borrow_mut() = Some(tree);
        operation.set_phase(Phase::Running(Started { pid }));
        let (exited, seen) = watch::channel(false);
        let pump =
            |stream, pipe| spawn_local(pump::collect(Rc::clone(operation), stream, pipe, seen.clone()));
        let pumps = [pump(Stream::Stdout, stdout), pump(Stream::Stderr, stderr)];
        Ok(Self { end, exited, pumps })
    }

    /// Waits until the output that the command left in the pipes is kept; what comes later is discarded.
    async fn collect(&mut self, operation: &Operation) {
        self.exited.send_replace(true);
        for pump in &mut self.pumps {
            if let Some(pipe) = pump.await.expect("pumps neither panic nor are aborted") {
                spawn_local(pump::discard(pipe));
            }
        }
        operation.advanced();
    }
}

fn pipes_failed(error: &io::Error) -> Failed {
    launch::failed(Stage::Prepare, error, "watch the pipes".to_owned())
}
