//! One operation: a command or a shell, from its acceptance until it is forgotten.
//!
//! ```text
//! Starting -> Running -> Exited
//!     \-----> Failed
//! ```

mod retained;

use std::cell::{Cell, Ref, RefCell, RefMut};
use std::rc::Rc;
use std::time::Duration;

use pyro_protocol::{self as protocol, ExitStatus, Exited, Phase, Started, Stream};
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::Instant;

use crate::children::Children;
use crate::launch::{Channel, Request};
use crate::pump::{self, Source};
use crate::shell::{self, Shell};
use crate::tree::{Launched, Tree, Trees};

pub(crate) use retained::Retained;

/// The end of a command whose warden did not live to report it: only SIGKILL ends a warden before its work is done, and
/// it comes from a command that kills all processes.
const LOST: ExitStatus = ExitStatus::Signal(9);

/// What the agent knows of an operation. Its task writes it, pumps fill it, and at most one connection follows it.
#[derive(Debug)]
pub(crate) struct Operation {
    number: u64,
    phase: RefCell<Phase>,
    /// What only a shell has.
    shell: Option<Rc<Shell>>,
    tree: RefCell<Option<Rc<Tree>>>,
    /// Somebody wanted it to end before there was a tree.
    kill_at_start: Cell<bool>,
    /// When the tree will be killed, and what will do it.
    doom: RefCell<Option<(Instant, JoinHandle<()>)>>,
    outputs: [RefCell<Retained>; 2],
    /// Number of the newest connection that follows it.
    follower: Cell<u64>,
    /// That connection is open and has not been sent the end.
    owes_the_end: Cell<bool>,
    changed: Notify,
    room: Notify,
}

impl Operation {
    pub(crate) fn new(request: &Request) -> Rc<Self> {
        Rc::new(Self {
            number: request.op(),
            phase: RefCell::new(Phase::Starting),
            shell: match request {
                Request::Exec(_) => None,
                Request::Shell(_) => Some(Rc::default()),
            },
            tree: RefCell::default(),
            kill_at_start: Cell::default(),
            doom: RefCell::default(),
            outputs: Default::default(),
            follower: Cell::default(),
            owes_the_end: Cell::default(),
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

    /// Returns what only a shell has; `None` for a command.
    pub(crate) const fn shell(&self) -> Option<&Rc<Shell>> {
        self.shell.as_ref()
    }

    /// Waits until it runs or never will.
    pub(crate) async fn settled(&self) {
        loop {
            let changed = self.changed.notified();
            if !matches!(*self.phase.borrow(), Phase::Starting) {
                return;
            }
            changed.await;
        }
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

    /// Says that there is more output, or that input has come further.
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
        self.owes_the_end.set(true);
        self.changed.notify_waiters();
        self.follower.get()
    }

    /// Returns whether no newer connection follows.
    pub(crate) fn is_followed_by(&self, follower: u64) -> bool {
        self.follower.get() == follower
    }

    /// Says that this connection has been sent the end, or is closed.
    pub(crate) fn told(&self, follower: u64) {
        if self.is_followed_by(follower) {
            self.owes_the_end.set(false);
            self.changed.notify_waiters();
        }
    }

    /// Waits until no connection follows that has not been sent the end.
    pub(crate) async fn all_told(&self) {
        loop {
            let changed = self.changed.notified();
            if !self.owes_the_end.get() {
                return;
            }
            changed.await;
        }
    }

    /// Ends the whole tree, at once or as soon as there is one.
    pub(crate) fn kill(&self) {
        match &*self.tree.borrow() {
            Some(tree) => tree.kill(),
            None => self.kill_at_start.set(true),
        }
    }

    /// Ends the whole tree after a time, unless that was wanted sooner. Without effect when there is no tree.
    pub(crate) fn kill_after(&self, grace: Duration) {
        let deadline = after(Instant::now(), grace);
        let mut doom = self.doom.borrow_mut();
        let Some(tree) = self.tree.borrow().clone() else { return };
        if doom.as_ref().is_some_and(|(known, _)| *known <= deadline) {
            return;
        }
        // It holds the tree and not the operation, which may be forgotten meanwhile.
        let task = spawn_local(async move {
            tokio::time::sleep_until(deadline).await;
            tree.kill();
        });
        if let Some((_, later)) = doom.replace((deadline, task)) {
            later.abort();
        }
    }

    /// Says that its process has ended, or that it never ran.
    fn end_shell(&self) {
        if let Some(shell) = &self.shell {
            shell.end();
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
pub(crate) async fn run(
    operation: Rc<Operation>,
    request: Request,
    trees: Rc<Trees>,
    children: Rc<Children>,
) {
    let timeout = request.timeout();
    let start = Instant::now();
    let mut running = match trees.launch(request, &children).await {
        Ok(launched) => Running::begin(&operation, launched),
        Err(failed) => {
            operation.end_shell();
            return operation.set_phase(Phase::Failed(failed));
        }
    };
    let status = running.end(&operation, timeout.map(|timeout| after(start, timeout))).await;
    let duration_ms =
        u64::try_from(start.elapsed().as_millis()).expect("a guest lives less than 584 million years");
    operation.end_shell();
    running.collect(&operation).await;
    let exited = Exited {
        status,
        duration_ms,
        stdout_len: operation.output(Stream::Stdout).end(),
        stderr_len: operation.output(Stream::Stderr).end(),
    };
    operation.set_phase(Phase::Exited(exited));
}

/// Returns the time so much after `start`. A year stands for times that the clock cannot hold.
pub(crate) fn after(start: Instant, time: Duration) -> Instant {
    start.checked_add(time).unwrap_or(start + Duration::from_secs(365 * 24 * 3600))
}

/// What only the task of a running operation needs.
struct Running {
    end: oneshot::Receiver<ExitStatus>,
    exited: watch::Sender<bool>,
    pumps: Vec<JoinHandle<Option<Source>>>,
}

impl Running {
    fn begin(operation: &Rc<Operation>, launched: Launched) -> Self {
        let Launched { pid, tree, end, channel } = launched;
        if operation.kill_at_start.get() {
            tree.kill();
        }
        *operation.tree.borrow_mut() = Some(Rc::new(tree));
        let (exited, seen) = watch::channel(false);
        let pump =
            |stream, source| spawn_local(pump::collect(Rc::clone(operation), stream, source, seen.clone()));
        let pumps = match channel {
            Channel::Pipes([stdout, stderr]) => {
                vec![pump(Stream::Stdout, Source::Pipe(stdout)), pump(Stream::Stderr, Source::Pipe(stderr))]
            }
            Channel::Terminal(terminal) => {
                let terminal = Rc::new(terminal);
                if let Some(shell) = &operation.shell {
                    shell.begin(Rc::clone(&terminal), pid);
                }
                spawn_local(shell::type_input(Rc::clone(operation), Rc::clone(&terminal), seen.clone()));
                vec![pump(Stream::Stdout, Source::Terminal(terminal))]
            }
        };
        operation.set_phase(Phase::Running(Started { pid }));
        Self { end, exited, pumps }
    }

    /// Waits for the end of the process, which comes at the deadline at the latest.
    async fn end(&mut self, operation: &Operation, deadline: Option<Instant>) -> ExitStatus {
        let timeout = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            end = &mut self.end => return end.unwrap_or(LOST),
            () = timeout => {}
        }
        operation.kill();
        let _killed = (&mut self.end).await;
        ExitStatus::TimedOut
    }

    /// Waits until the output that the command left behind is kept. What comes into its pipes later is discarded; its
    /// terminal is closed.
    async fn collect(&mut self, operation: &Operation) {
        self.exited.send_replace(true);
        for pump in &mut self.pumps {
            match pump.await.expect("pumps neither panic nor are aborted") {
                Some(Source::Pipe(pipe)) => drop(spawn_local(pump::discard(pipe))),
                Some(Source::Terminal(_)) | None => {}
            }
        }
        operation.advanced();
    }
}
