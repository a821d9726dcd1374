//! One shell in one guest: what its terminal shows goes to its output file, what is typed goes to the guest, its end into
//! the log.
//!
//! Input is in the log before it is here. The guest says how much of it it has: the rest is kept until then and typed
//! over the next connection. A new daemon reads it from the log.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pyro_core::{
    Command, Event, ExitStatus, Operation as Work, Seq, Shell, ShellExited, ShellFailed, ShellId, ShellLost,
    ShellPhase, ShellSignal, ShellStarted, TerminalSize, WORKSPACE_PATH, WorkspaceId,
};
use pyro_runtime::guest::{self, Guest, GuestError, Observation, Operation, ShellSpec};
use pyro_store::outputs::{OutputError, StreamId};
use tokio::sync::mpsc;

use crate::context::{Context, Recorded};
use crate::evidence;
use crate::fate::Fate;
use crate::sessions::chain;
use crate::sink::{self, Pace, Sink};
use crate::streams::{LiveInput, Typed};

/// How often in a row a broken connection to a living guest is made anew before the shell is given up.
const RECONNECTS_MAX: u32 = 5;

/// How long a connection must last not to count as one of a row of broken ones.
const STEADY: Duration = Duration::from_secs(30);

/// Time that a shell and its jobs have to end once it is closed.
const CLOSE_GRACE: Duration = Duration::from_secs(5);

/// The number of SIGINT.
const SIGINT: u8 = 2;
/// The number of SIGTERM.
const SIGTERM: u8 = 15;

/// How a shell comes to this daemon.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Begin {
    /// It was requested now; the guest does not know of it.
    Send,
    /// An earlier daemon may have sent it.
    Attach,
}

/// What somebody wants of a running shell.
#[derive(Debug)]
pub(crate) enum Order {
    /// These bytes of its input are in the log.
    Type { offset: u64, data: Vec<u8> },
    /// Its terminal has another size.
    Resize(TerminalSize),
    /// It gets a signal.
    Signal(ShellSignal),
    /// It shall end.
    Close,
}

/// Moves output and input of one shell and records what becomes of it.
pub(crate) struct Pump {
    context: Arc<Context>,
    workspace: WorkspaceId,
    shell: ShellId,
    guest: Guest,
    fate: Fate,
    /// Unbounded, because the rules bound it: as much input as the guest holds, and for the rest the pace of the log.
    orders: mpsc::UnboundedReceiver<Order>,
    output: Sink,
    live: Arc<LiveInput>,
    /// `None` until the guest has said what it received from an earlier daemon.
    input: Option<Unreceived>,
    killed: bool,
    closing: bool,
}

/// Input that the guest has not said to have.
#[derive(Debug, Default)]
struct Unreceived {
    /// Position of the first byte in all input of the shell.
    offset: u64,
    data: Vec<u8>,
}

impl Unreceived {
    fn end(&self) -> u64 {
        self.offset + self.data.len() as u64
    }

    /// Takes what is new of a part of the input.
    fn take(&mut self, offset: u64, data: &[u8]) {
        let Some(known) = self.end().checked_sub(offset) else {
            debug_assert!(false, "input comes in its order");
            return;
        };
        let known = usize::try_from(known).unwrap_or(usize::MAX);
        self.data.extend_from_slice(data.get(known..).unwrap_or_default());
    }

    /// Drops what the guest has; `false` when it has less than it had before.
    fn received(&mut self, position: u64) -> bool {
        let Some(received) = position.checked_sub(self.offset) else { return false };
        let received = usize::try_from(received).unwrap_or(usize::MAX).min(self.data.len());
        self.data.drain(..received);
        self.offset += received as u64;
        true
    }
}

/// The end of a shell, and the connection on which the guest told it, if it did.
struct Ended {
    end: End,
    operation: Option<Operation>,
}

impl Ended {
    const fn lost(reason: String) -> Self {
        Self { end: End::Lost { reason }, operation: None }
    }
}

/// How a shell ended, as far as this daemon could see.
enum End {
    Exited { status: ExitStatus },
    Failed { reason: String },
    Lost { reason: String },
}

/// Returns the number of a shell's operation in the guest, beyond those of commands.
fn op_of(shell: ShellId) -> u64 {
    let [a, b, c, d, e, f] = *shell.as_bytes();
    1 << 63 | u64::from_be_bytes([0, 0, a, b, c, d, e, f])
}

const fn size_of(size: TerminalSize) -> guest::TerminalSize {
    guest::TerminalSize { columns: size.columns, rows: size.rows }
}

impl Pump {
    /// Returns the pump and the way to it.
    pub(crate) fn new(
        context: &Arc<Context>,
        workspace: WorkspaceId,
        shell: ShellId,
        guest: Guest,
        fate: Fate,
    ) -> (Self, mpsc::UnboundedSender<Order>) {
        let (sender, orders) = mpsc::unbounded_channel();
        let pump = Self {
            context: Arc::clone(context),
            workspace,
            shell,
            guest,
            fate,
            orders,
            output: Sink::new(context, workspace, StreamId::Shell(shell)),
            live: context.streams.input(workspace, shell),
            input: None,
            killed: false,
            closing: false,
        };
        (pump, sender)
    }

    pub(crate) async fn run(mut self, begin: Begin) {
        match begin {
            Begin::Send => self.input = Some(Unreceived::default()),
            Begin::Attach => {
                let (operation, op) = (Work::Shell(self.shell), op_of(self.shell));
                evidence::gather(&self.context, self.workspace, operation, &self.guest, op).await;
            }
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
                // Without a place for its output the shell must not go on: its record could not be complete.
                self.end_in_guest().await;
                self.record(End::Lost { reason: format!("failed to store its output: {error}") }).await;
            }
        }
    }

    /// Talks to the guest, over several connections if need be, until the shell has ended.
    async fn converse(&mut self, mut begin: Begin) -> Result<Ended, OutputError> {
        let mut broken = 0;
        while broken < RECONNECTS_MAX {
            let since = Instant::now();
            let operation = match begin {
                Begin::Send => self.send().await,
                Begin::Attach => self.attach().await?,
            };
            let error = match operation {
                Ok(operation) => match self.listen(operation, begin).await? {
                    Ok(ended) => return Ok(ended),
                    Err(error) => error,
                },
                Err(error) => error,
            };
            match error {
                GuestError::UnknownOperation { .. } => {
                    return Ok(self.not_there("it never reached the guest".to_owned(), None));
                }
                error @ (GuestError::TooOld { .. } | GuestError::TooLong(_)) => {
                    return Ok(self.not_there(chain(&error), None));
                }
                error if error.is_breach() => {
                    return Ok(Ended::lost(format!("the guest broke the protocol: {error}")));
                }
                error => {
                    tracing::debug!(workspace = %self.workspace, shell = %self.shell, %error, "connection broke");
                }
            }
            if let Some(reason) = self.fate.ended().await {
                return Ok(Ended::lost(reason));
            }
            broken = if since.elapsed() < STEADY { broken + 1 } else { 1 };
            begin = Begin::Attach;
        }
        self.end_in_guest().await;
        Ok(Ended::lost("the guest does not answer any more".to_owned()))
    }

    /// Returns the end of a shell that the guest does not have: it never ran, unless it has been seen to run.
    fn not_there(&self, reason: String, operation: Option<Operation>) -> Ended {
        let ran = self.known(|shell| shell.phase == ShellPhase::Running) == Some(true);
        let end = if ran { End::Lost { reason } } else { End::Failed { reason } };
        Ended { end, operation }
    }

    fn known<T>(&self, look: impl FnOnce(&Shell) -> T) -> Option<T> {
        let state = self.context.engine.state();
        state.workspace(self.workspace).and_then(|workspace| workspace.shells.get(&self.shell)).map(look)
    }

    async fn send(&self) -> Result<Operation, GuestError> {
        let op = op_of(self.shell);
        let Some((cwd, size)) = self.known(|shell| (shell.cwd.clone(), shell.size)) else {
            return Err(GuestError::UnknownOperation { op });
        };
        // A workspace begins without a file, so its directory is made by what comes first.
        let create_cwd = cwd == WORKSPACE_PATH;
        self.guest.open_shell(ShellSpec { op, cwd, create_cwd, size: size_of(size), env: Vec::new() }).await
    }

    /// Goes on where the output file ends.
    async fn attach(&mut self) -> Result<Result<Operation, GuestError>, OutputError> {
        let offset = self.output.resume()?;
        let logged = self.known(|shell| shell.input_len).unwrap_or(0);
        let input_len = self.input.as_ref().map_or(0, Unreceived::end).max(logged);
        Ok(self.guest.attach_shell(op_of(self.shell), offset, input_len).await)
    }

    /// Moves output and input until the end of the shell or of the connection.
    async fn listen(
        &mut self,
        mut operation: Operation,
        begin: Begin,
    ) -> Result<Result<Ended, GuestError>, OutputError> {
        if let Begin::Attach = begin
            && let Err(error) = self.repeat_orders(&mut operation)
        {
            return Ok(Err(error));
        }
        self.settle(&mut operation).await;
        loop {
            let observation = tokio::select! {
                observation = operation.next() => observation,
                Some(order) = self.orders.recv() => match self.pass_on(&mut operation, order) {
                    Ok(()) => continue,
                    Err(error) => Err(error),
                },
                () = self.output.unblocked() => {
                    self.settle(&mut operation).await;
                    continue;
                }
            };
            match observation {
                Ok(Observation::Started { pid }) => self.record_started(pid).await,
                Ok(Observation::Output { stream, offset, data }) => {
                    if stream != guest::Stream::Stdout {
                        return Ok(Ok(Ended::lost(
                            "the guest broke the protocol: a terminal is one stream".to_owned(),
                        )));
                    }
                    self.output.store(offset, &data)?;
                    self.settle(&mut operation).await;
                }
                Ok(Observation::Input { received, consumed }) => {
                    if let Err(reason) = self.typed(&mut operation, Typed { received, consumed }) {
                        return Ok(Ok(Ended::lost(reason)));
                    }
                }
                Ok(Observation::Exited { status, .. }) => {
                    return Ok(Ok(Ended { end: End::Exited { status }, operation: Some(operation) }));
                }
                Ok(Observation::Gap { from, to, .. }) => {
                    return Ok(Ok(Ended::lost(format!(
                        "the guest has lost bytes {from} to {to} of its output"
                    ))));
                }
                Ok(Observation::Failed(failure)) => {
                    return Ok(Ok(self.not_there(failure.to_string(), Some(operation))));
                }
                Err(error) => return Ok(Err(error)),
            }
        }
    }

    /// Acknowledges what is stored. Nobody has a claim on all that a shell shows: who is slow sees a gap.
    async fn settle(&mut self, operation: &mut Operation) {
        if let Some(end) = self.output.settle(Pace::OfClient).await {
            operation.acknowledge(guest::Stream::Stdout, end);
        }
    }

    /// Asks again for what an earlier connection or daemon may not have got through. All of it can be asked for twice.
    fn repeat_orders(&mut self, operation: &mut Operation) -> Result<(), GuestError> {
        let known = self.known(|shell| (shell.size, shell.closing));
        if let Some((size, closing)) = known {
            self.closing |= closing;
            operation.resize(size_of(size))?;
        }
        if self.closing {
            hang_up_for_good(operation)?;
        }
        if self.killed { operation.kill() } else { Ok(()) }
    }

    fn pass_on(&mut self, operation: &mut Operation, order: Order) -> Result<(), GuestError> {
        match order {
            Order::Type { offset, data } => match &mut self.input {
                Some(input) => {
                    input.take(offset, &data);
                    operation.input(input.offset, &input.data)
                }
                // It is read from the log as soon as the guest has said where it stands.
                None => Ok(()),
            },
            Order::Resize(size) => operation.resize(size_of(size)),
            Order::Signal(ShellSignal::Int) => operation.signal(SIGINT),
            Order::Signal(ShellSignal::Term) => operation.signal(SIGTERM),
            // Those who want more than the signal close the shell.
            Order::Signal(ShellSignal::Hup) => operation.hang_up(Duration::MAX),
            Order::Signal(ShellSignal::Kill) => {
                self.killed = true;
                operation.kill()
            }
            Order::Close => {
                self.closing = true;
                hang_up_for_good(operation)
            }
        }
    }

    /// Takes note of what the guest has of the input and gives it what it lacks; an error tells why that is not possible.
    fn typed(&mut self, operation: &mut Operation, typed: Typed) -> Result<(), String> {
        let input = match &mut self.input {
            Some(input) => input,
            None => {
                let read = tokio::task::block_in_place(|| self.read_input(typed.received));
                self.input.insert(read.map_err(|error| format!("failed to read its input: {error}"))?)
            }
        };
        if !input.received(typed.received) {
            return Err("the guest broke the protocol: its shell has less input than before".to_owned());
        }
        operation.input(input.offset, &input.data).map_err(|error| error.to_string())?;
        self.live.set_typed(typed);
        Ok(())
    }

    /// Returns the input from a position on, as it stands in the log.
    fn read_input(&self, from: u64) -> Result<Unreceived, pyro_store::ReadError> {
        let mut input = Unreceived { offset: from, data: Vec::new() };
        if self.known(|shell| shell.input_len) == Some(from) {
            // Whatever was recorded since comes as an order of its own.
            return Ok(input);
        }
        for envelope in self.context.engine.reader().read_workspace(self.workspace, Seq(1)) {
            if let Event::ShellInput(event) = envelope?.event
                && event.shell == self.shell
                && event.offset + event.data.len() as u64 > from
            {
                let known = usize::try_from(from.saturating_sub(event.offset)).unwrap_or(usize::MAX);
                let position = event.offset.max(from);
                input.take(position, event.data.get(known..).unwrap_or_default());
            }
        }
        Ok(input)
    }

    async fn record_started(&self, guest_pid: u32) {
        let fact = ShellStarted { workspace: self.workspace, shell: self.shell, guest_pid };
        self.context.record_fact(Command::RecordShellStarted(fact)).await;
    }

    async fn record(&mut self, end: End) -> Recorded {
        let (workspace, shell) = (self.workspace, self.shell);
        let command = match (end, self.output.finish()) {
            (End::Exited { status }, Ok(output)) => {
                Command::RecordShellExited(ShellExited { workspace, shell, status, output })
            }
            (End::Failed { reason }, _) => {
                Command::RecordShellFailed(ShellFailed { workspace, shell, reason })
            }
            (End::Lost { reason }, Ok(output)) => {
                Command::RecordShellLost(ShellLost { workspace, shell, reason, output: Some(output) })
            }
            (End::Exited { .. } | End::Lost { .. }, Err(error)) => {
                let reason = format!("failed to make its output durable: {error}");
                Command::RecordShellLost(ShellLost { workspace, shell, reason, output: None })
            }
        };
        self.context.record_fact(command).await
    }

    /// Ends the shell in a guest to which no connection is open.
    async fn end_in_guest(&self) {
        let attached = self.guest.attach_shell(op_of(self.shell), 0, u64::MAX).await;
        let Ok(mut operation) = attached else { return };
        operation.must_end_within(Duration::ZERO);
        if operation.kill().is_ok() {
            // Whatever comes of it: the record says that the shell is lost.
            while let Ok(observation) = operation.next().await {
                match observation {
                    // The end comes behind the output, for which a full ring must have room.
                    Observation::Output { stream, offset, data } => {
                        operation.acknowledge(stream, offset + data.len() as u64);
                    }
                    Observation::Exited { .. } | Observation::Failed(_) => return,
                    Observation::Started { .. } | Observation::Input { .. } | Observation::Gap { .. } => {}
                }
            }
        }
    }
}

/// Hangs a shell up whose end is wanted, and expects it.
fn hang_up_for_good(operation: &mut Operation) -> Result<(), GuestError> {
    operation.must_end_within(CLOSE_GRACE);
    operation.hang_up(CLOSE_GRACE)
}

/// Records the loss of a shell whose guest is gone, with what an earlier daemon stored of its output.
pub(crate) async fn record_lost(context: &Context, workspace: WorkspaceId, shell: ShellId, reason: &str) {
    evidence::of_dead(context, workspace, Work::Shell(shell), reason).await;
    let output = sink::stored(context, workspace, StreamId::Shell(shell));
    let lost = ShellLost { workspace, shell, reason: reason.to_owned(), output };
    context.record_fact(Command::RecordShellLost(lost)).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Catches bytes that are typed twice or never when the log, the orders and the guest tell of the same ones.
    #[test]
    fn each_byte_of_input_is_kept_once_until_it_is_received() {
        let mut input = Unreceived { offset: 3, data: Vec::new() };
        input.take(3, b"de");
        input.take(0, b"abcdefg");
        input.take(3, b"d");
        assert_eq!((input.data.as_slice(), input.end()), (&b"defg"[..], 7));
        assert!(input.received(5));
        assert_eq!((input.offset, input.data.as_slice()), (5, &b"fg"[..]));
        assert!(!input.received(4), "a guest that has less than before is not ours");
        assert!(input.received(9), "a guest cannot have more; that is seen elsewhere");
        assert_eq!((input.offset, input.data.len()), (7, 0));
    }

    #[test]
    fn operations_of_shells_are_beyond_those_of_commands() {
        assert_eq!(op_of(ShellId::from_bytes([0; 6])), 1 << 63);
        assert_eq!(op_of(ShellId::from_bytes([0xff; 6])), 1 << 63 | 0xffff_ffff_ffff);
    }
}
