//! One command in one guest: its output goes to the output files, its end into the log.

use std::sync::Arc;
use std::time::Duration;

use pyro_core::{
    Command, ExecExited, ExecFailed, ExecLost, ExecNumber, ExecStarted, ExitStatus, Operation as Work,
    WORKSPACE_PATH, WorkspaceId,
};
use pyro_runtime::guest::{ExecSpec, Guest, GuestError, Observation, Operation, Stream as GuestStream};
use pyro_store::outputs::{OutputError, Stream, StreamId};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::context::{Context, Recorded};
use crate::evidence;
use crate::fate::Fate;
use crate::sink::{self, Pace, Sink};

/// How often a broken connection to a living guest is made anew before the exec is given up.
const RECONNECTS_MAX: u32 = 5;

/// How an exec comes to this daemon.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Begin {
    /// It was requested now; the guest does not know of it.
    Send,
    /// An earlier daemon may have sent it.
    Attach,
}

/// Moves the output of one exec and records what becomes of it.
pub(crate) struct Pump {
    context: Arc<Context>,
    workspace: WorkspaceId,
    number: ExecNumber,
    guest: Guest,
    fate: Fate,
    kill: CancellationToken,
    stdout: Sink,
    stderr: Sink,
    /// When its timeout is over, from which time on it does not wait for its client; `None` before its start.
    due: Option<Instant>,
}

/// The end of an exec, and the connection on which the guest told it, if it did.
struct Ended {
    end: End,
    operation: Option<Operation>,
}

impl Ended {
    fn failed(reason: &str) -> Self {
        Self { end: End::Failed { reason: reason.to_owned() }, operation: None }
    }

    const fn lost(reason: String) -> Self {
        Self { end: End::Lost { reason }, operation: None }
    }
}

/// How an exec ended, as far as this daemon could see.
enum End {
    Exited { status: ExitStatus, duration_ms: u64 },
    Failed { reason: String },
    Lost { reason: String },
}

impl Pump {
    pub(crate) fn new(
        context: &Arc<Context>,
        workspace: WorkspaceId,
        number: ExecNumber,
        guest: Guest,
        fate: Fate,
        kill: CancellationToken,
    ) -> Self {
        let sink = |stream| {
            let sink = Sink::new(context, workspace, StreamId::Exec(number, stream));
            sink.await_client();
            sink
        };
        Self {
            context: Arc::clone(context),
            workspace,
            number,
            guest,
            fate,
            kill,
            stdout: sink(Stream::Stdout),
            stderr: sink(Stream::Stderr),
            due: None,
        }
    }

    pub(crate) async fn run(mut self, begin: Begin) {
        if let Begin::Attach = begin {
            let (operation, op) = (Work::Exec(self.number), self.number.0.into());
            evidence::gather(&self.context, self.workspace, operation, &self.guest, op).await;
        }
        match self.converse(begin).await {
            Ok(Ended { end, operation }) => {
                let recorded = self.record(end).await;
                if let (Some(operation), Recorded::Yes) = (operation, recorded) {
                    // The record is durable; the guest need not keep it. If this is lost, it keeps it a little longer.
                    let _kept = operation.forget().await;
                }
            }
            Err(error) => {
                // Without a place for its output the command must not go on: its record could not be complete.
                self.end_in_guest().await;
                self.record(End::Lost { reason: format!("failed to store its output: {error}") }).await;
            }
        }
    }

    /// Talks to the guest, over several connections if need be, until the exec has ended.
    async fn converse(&mut self, begin: Begin) -> Result<Ended, OutputError> {
        let mut begin = begin;
        for _ in 0..RECONNECTS_MAX {
            let operation = match begin {
                Begin::Send if self.kill.is_cancelled() => {
                    return Ok(Ended::failed("canceled before it ran"));
                }
                Begin::Send => self.send().await,
                Begin::Attach => self.attach().await?,
            };
            let error = match operation {
                Ok(operation) => match self.listen(operation).await? {
                    Ok(ended) => return Ok(ended),
                    Err(error) => error,
                },
                Err(error) => error,
            };
            match error {
                GuestError::UnknownOperation { .. } => {
                    return Ok(Ended::failed("it never reached the guest"));
                }
                error if error.is_breach() => {
                    return Ok(Ended::lost(format!("the guest broke the protocol: {error}")));
                }
                error => {
                    tracing::debug!(workspace = %self.workspace, exec = %self.number, %error, "connection broke");
                }
            }
            if let Some(reason) = self.fate.ended().await {
                return Ok(Ended::lost(reason));
            }
            begin = Begin::Attach;
        }
        self.end_in_guest().await;
        Ok(Ended::lost("the guest does not answer any more".to_owned()))
    }

    fn timeout(&self) -> Duration {
        let state = self.context.engine.state();
        let exec =
            state.workspace(self.workspace).and_then(|workspace| workspace.open_execs.get(&self.number));
        Duration::from_millis(exec.map_or(0, |exec| exec.timeout_ms))
    }

    async fn send(&self) -> Result<Operation, GuestError> {
        let op = u64::from(self.number.0);
        let state = self.context.engine.state();
        let exec =
            state.workspace(self.workspace).and_then(|workspace| workspace.open_execs.get(&self.number));
        let Some(exec) = exec else { return Err(GuestError::UnknownOperation { op }) };
        let (command, cwd) = (exec.command.clone(), exec.cwd.clone());
        let timeout = Duration::from_millis(exec.timeout_ms);
        // A workspace begins without a file, so its directory is made by the first command.
        let create_cwd = cwd.as_deref() == Some(WORKSPACE_PATH);
        self.guest.exec(ExecSpec { op, command, cwd, create_cwd, timeout }).await
    }

    /// Goes on where the output files end.
    async fn attach(&mut self) -> Result<Result<Operation, GuestError>, OutputError> {
        let stdout_offset = self.stdout.resume()?;
        let stderr_offset = self.stderr.resume()?;
        let attached = self.guest.attach(self.number.0.into(), stdout_offset, stderr_offset).await;
        self.due = Some(Instant::now() + self.timeout());
        Ok(attached.map(|mut operation| {
            operation.must_end_within(self.timeout());
            operation
        }))
    }

    /// Moves output until the end of the exec or of the connection.
    async fn listen(&mut self, mut operation: Operation) -> Result<Result<Ended, GuestError>, OutputError> {
        let kill = self.kill.clone();
        let mut killed = false;
        self.settle_all(&mut operation).await;
        loop {
            let observation = tokio::select! {
                observation = operation.next() => observation,
                () = kill.cancelled(), if !killed => {
                    killed = true;
                    match operation.kill() {
                        Ok(()) => {
                            self.settle_all(&mut operation).await;
                            continue;
                        }
                        Err(error) => Err(error),
                    }
                }
                () = self.unblocked() => {
                    self.settle_all(&mut operation).await;
                    continue;
                }
            };
            match observation {
                Ok(Observation::Started { pid }) => {
                    self.due = Some(Instant::now() + self.timeout());
                    self.record_started(pid).await;
                }
                // Only shells take any.
                Ok(Observation::Input { .. }) => {}
                Ok(Observation::Output { stream, offset, data }) => {
                    self.sink(stream).store(offset, &data)?;
                    self.settle(&mut operation, stream).await;
                }
                Ok(Observation::Exited { status, duration_ms, .. }) => {
                    let end = End::Exited { status, duration_ms };
                    return Ok(Ok(Ended { end, operation: Some(operation) }));
                }
                Ok(Observation::Gap { from, to, .. }) => {
                    return Ok(Ok(Ended::lost(format!(
                        "the guest has lost bytes {from} to {to} of its output"
                    ))));
                }
                Ok(Observation::Failed(failure)) => {
                    let end = End::Failed { reason: failure.to_string() };
                    return Ok(Ok(Ended { end, operation: Some(operation) }));
                }
                Err(error) => return Ok(Err(error)),
            }
        }
    }

    /// Acknowledges what is stored of a stream, unless its client is to take some of it first.
    async fn settle(&mut self, operation: &mut Operation, stream: GuestStream) {
        let pace = self.pace();
        if let Some(end) = self.sink(stream).settle(pace).await {
            operation.acknowledge(stream, end);
        }
    }

    async fn settle_all(&mut self, operation: &mut Operation) {
        for stream in [GuestStream::Stdout, GuestStream::Stderr] {
            self.settle(operation, stream).await;
        }
    }

    /// Returns when what could not be acknowledged perhaps can be. Cancel safe.
    async fn unblocked(&self) {
        let due = async {
            match self.due.filter(|_| self.pace() == Pace::OfClient) {
                Some(due) => sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.stdout.unblocked() => {}
            () = self.stderr.unblocked() => {}
            () = due => {}
        }
    }

    fn pace(&self) -> Pace {
        let is_late = self.due.is_some_and(|due| due <= Instant::now());
        if is_late || self.kill.is_cancelled() { Pace::Ending } else { Pace::OfClient }
    }

    const fn sink(&mut self, stream: GuestStream) -> &mut Sink {
        match stream {
            GuestStream::Stdout => &mut self.stdout,
            GuestStream::Stderr => &mut self.stderr,
        }
    }

    async fn record_started(&self, guest_pid: u32) {
        let fact = ExecStarted { workspace: self.workspace, exec: self.number, guest_pid };
        // A short command has ended by the time this is durable: both go to the disk at once.
        self.context.note(Command::RecordExecStarted(fact)).await;
    }

    async fn record(&mut self, end: End) -> Recorded {
        let (workspace, exec) = (self.workspace, self.number);
        let summaries =
            self.stdout.finish().and_then(|stdout| self.stderr.finish().map(|stderr| (stdout, stderr)));
        let command = match (end, summaries) {
            (End::Exited { status, duration_ms }, Ok((stdout, stderr))) => {
                Command::RecordExecExited(ExecExited { workspace, exec, status, duration_ms, stdout, stderr })
            }
            (End::Failed { reason }, _) => Command::RecordExecFailed(ExecFailed { workspace, exec, reason }),
            (End::Lost { reason }, Ok((stdout, stderr))) => Command::RecordExecLost(ExecLost {
                workspace,
                exec,
                reason,
                stdout: Some(stdout),
                stderr: Some(stderr),
            }),
            (End::Exited { .. } | End::Lost { .. }, Err(error)) => {
                let reason = format!("failed to make its output durable: {error}");
                Command::RecordExecLost(ExecLost { workspace, exec, reason, stdout: None, stderr: None })
            }
        };
        self.context.record_fact(command).await
    }

    /// Ends the command in a guest to which no connection is open.
    async fn end_in_guest(&self) {
        let Ok(mut operation) = self.guest.attach(self.number.0.into(), 0, 0).await else { return };
        operation.must_end_within(Duration::ZERO);
        if operation.kill().is_ok() {
            // Whatever comes of it: the record says that the exec is lost.
            while let Ok(observation) = operation.next().await {
                match observation {
                    // The end comes behind the output, for which a full ring must have room.
                    Observation::Output { stream, offset, data } => {
                        operation.acknowledge(stream, offset + data.len() as u64);
                    }
                    Observation::Exited { .. } | Observation::Failed(_) => return,
                    Observation::Started { .. } | Observation::Gap { .. } | Observation::Input { .. } => {}
                }
            }
        }
    }
}

/// Records the loss of an exec whose guest is gone, with what an earlier daemon stored of its output.
pub(crate) async fn record_lost(context: &Context, workspace: WorkspaceId, exec: ExecNumber, reason: &str) {
    evidence::of_dead(context, workspace, Work::Exec(exec), reason).await;
    let stdout = sink::stored(context, workspace, StreamId::Exec(exec, Stream::Stdout));
    let stderr = sink::stored(context, workspace, StreamId::Exec(exec, Stream::Stderr));
    let lost = ExecLost { workspace, exec, reason: reason.to_owned(), stdout, stderr };
    context.record_fact(Command::RecordExecLost(lost)).await;
}
