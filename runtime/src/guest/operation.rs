//! One command or shell in a guest, followed over one connection.
//!
//! ```text
//!  Asked ---> Running ---> Ended
//!     \---- Failed ---------^
//! ```

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use pyro_core::ExitStatus;
use pyro_protocol::{
    Ack, Attach, Exited, GuestFrame, HostFrame, InputProgress, Output, Refusal, Stream, TerminalSize,
};
use tokio::time::Instant;

use super::connection::{Connection, Deadline, index};
use super::error::{Failure, GuestError};
use super::input::InputSide;

/// Time for the guest to say that a command runs, or that it has forgotten one.
const ANSWER_ALLOWANCE: Duration = Duration::from_secs(30);

/// Time after a command's own timeout in which the guest must have ended it and sent its last output. Ending a tree
/// of a few thousand processes under TCG takes seconds.
const END_ALLOWANCE: Duration = Duration::from_secs(60);

const STREAMS: usize = Stream::ALL.len();

/// Highest signal number of Linux.
const SIGNAL_MAX: u8 = 64;

/// A command or shell in a guest, followed until its end. Dropping it leaves it running.
#[derive(Debug)]
pub struct Operation {
    connection: Connection,
    op: u64,
    phase: Phase,
    asked: Asked,
    /// Position behind the last byte received, or behind the last one that the host had when it attached.
    received: [u64; STREAMS],
    /// Whether any output has come over this connection: only the first may leave a gap.
    begun: [bool; STREAMS],
    /// What was understood together with the last observation: what stands behind a gap.
    pending: VecDeque<Observation>,
    /// `None` for a command, which takes none.
    input: Option<InputSide>,
    end_due: Option<Deadline>,
}

/// What the connection was opened with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Exec { timeout: Duration },
    Shell,
    Attach,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Asked { since: Instant },
    Running,
    Ended,
}

/// Something that happened to a command or shell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Observation {
    /// It runs. Seen again after each attach.
    Started {
        /// Process id of its shell in the guest, as the guest says.
        pid: u32,
    },
    /// The guest no longer has bytes that the host lacks. Only where an operation is not followed from its start on,
    /// and only before the first output of the stream.
    Gap {
        /// Of which stream.
        stream: Stream,
        /// First byte that is lost.
        from: u64,
        /// First byte behind it that the guest still has.
        to: u64,
    },
    /// It wrote.
    Output {
        /// To which stream.
        stream: Stream,
        /// Position of the first byte: exactly behind the output or gap before it.
        offset: u64,
        /// The bytes; at least one.
        data: Bytes,
    },
    /// Its input got on. Seen after each start or attach, and only of a shell.
    Input {
        /// The guest has the bytes before this position.
        received: u64,
        /// The terminal has taken the bytes before this position.
        consumed: u64,
    },
    /// It ended; all output was observed before.
    Exited {
        /// How.
        status: ExitStatus,
        /// Time from its start to its end as the guest measured it, in milliseconds.
        duration_ms: u64,
        /// Bytes of standard output in all.
        stdout_len: u64,
        /// Bytes of standard error in all.
        stderr_len: u64,
    },
    /// It never ran.
    Failed(Failure),
}

impl Operation {
    pub(super) fn executed(connection: Connection, op: u64, timeout: Duration) -> Self {
        let nothing = Attach { op, stdout_offset: 0, stderr_offset: 0 };
        Self::asked(connection, nothing, Asked::Exec { timeout }, None)
    }

    pub(super) fn opened(connection: Connection, op: u64) -> Self {
        let nothing = Attach { op, stdout_offset: 0, stderr_offset: 0 };
        Self::asked(connection, nothing, Asked::Shell, Some(InputSide::new(0)))
    }

    pub(super) fn attached(connection: Connection, attach: Attach, input: Option<InputSide>) -> Self {
        Self::asked(connection, attach, Asked::Attach, input)
    }

    fn asked(connection: Connection, from: Attach, asked: Asked, input: Option<InputSide>) -> Self {
        Self {
            connection,
            op: from.op,
            phase: Phase::Asked { since: Instant::now() },
            asked,
            received: [from.stdout_offset, from.stderr_offset],
            begun: [false; STREAMS],
            pending: VecDeque::new(),
            input,
            end_due: None,
        }
    }

    /// Returns the host's number of the operation.
    #[must_use]
    pub const fn op(&self) -> u64 {
        self.op
    }

    /// Sets until when the command must have ended, counted from now. [`Guest::exec`](super::Guest::exec) does so by
    /// itself with the command's timeout; who attaches knows what is left of it. Some time to end it is added.
    pub fn must_end_within(&mut self, remaining: Duration) {
        self.end_due = Some(Deadline::within(remaining.saturating_add(END_ALLOWANCE)));
    }

    /// Waits for what happens next, and meanwhile sends what was acknowledged and asked for.
    ///
    /// It can be cancelled and called again without losing anything. After [`Observation::Exited`] and
    /// [`Observation::Failed`] nothing more happens.
    ///
    /// # Errors
    ///
    /// After any error the connection is of no more use. [`GuestError::UnknownOperation`] and
    /// [`GuestError::OffsetBeyondEnd`] answer an attach; [`GuestError::Closed`] also means that a later connection has
    /// taken the operation over.
    pub async fn next(&mut self) -> Result<Observation, GuestError> {
        if let Some(observation) = self.pending.pop_front() {
            return Ok(observation);
        }
        let (due, what) = match (self.phase, self.end_due) {
            (Phase::Asked { since }, _) => {
                (Some(Deadline::since(since, ANSWER_ALLOWANCE)), "the start of the command")
            }
            (Phase::Running, due) => (due, "the end of the command"),
            (Phase::Ended, _) => return Err(GuestError::Closed),
        };
        let frame = match due {
            Some(due) if due.is_long_past() => return Err(due.missed(what)),
            Some(due) => self.connection.receive_by(due, what).await?,
            None => self.connection.receive().await?,
        };
        match self.phase {
            Phase::Asked { .. } => self.on_answer(frame),
            Phase::Running => self.on_running(frame),
            Phase::Ended => Err(GuestError::Closed),
        }
    }

    /// Says that the bytes of a stream before `offset` are safe on the host; the guest may drop them. It is sent while
    /// [`next`](Self::next) waits.
    ///
    /// # Panics
    ///
    /// When the bytes have not been observed: an acknowledgement of them would lose output.
    pub fn acknowledge(&mut self, stream: Stream, offset: u64) {
        assert!(offset <= self.received[index(stream)], "only observed bytes can be acknowledged");
        self.connection.acknowledge(Ack { stream, offset });
    }

    /// Types into the shell, which takes each byte once: what was given over this connection is skipped, and so is what
    /// its guest has no room for. Those bytes are to be given again when [`Observation::Input`] tells of progress. They
    /// are sent while [`next`](Self::next) waits. Without effect on a command and after the end.
    ///
    /// # Errors
    ///
    /// Never in practice: no part is too long for a frame.
    ///
    /// # Panics
    ///
    /// When bytes between those given before and these are missing.
    pub fn input(&mut self, offset: u64, data: &[u8]) -> Result<(), GuestError> {
        let Some(input) = self.input.as_mut().filter(|_| self.phase != Phase::Ended) else { return Ok(()) };
        for part in input.give(offset, data) {
            self.connection.queue(&HostFrame::Input(part))?;
        }
        Ok(())
    }

    /// Gives the terminal of the shell another size. It is sent while [`next`](Self::next) waits.
    ///
    /// # Errors
    ///
    /// As [`kill`](Self::kill).
    pub fn resize(&mut self, size: TerminalSize) -> Result<(), GuestError> {
        self.connection.queue(&HostFrame::Resize(size))
    }

    /// Sends a signal, 1 to 64, to the foreground job of the shell. It is sent while [`next`](Self::next) waits.
    ///
    /// # Errors
    ///
    /// As [`kill`](Self::kill).
    pub fn signal(&mut self, signal: u8) -> Result<(), GuestError> {
        self.connection.queue(&HostFrame::Signal { signal })
    }

    /// Takes the terminal away from the shell, which ends it as a rule, and has what is left of it killed after `grace`.
    /// It is sent while [`next`](Self::next) waits, which then tells the end as usual.
    ///
    /// # Errors
    ///
    /// As [`kill`](Self::kill).
    pub fn hang_up(&mut self, grace: Duration) -> Result<(), GuestError> {
        let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        self.connection.queue(&HostFrame::HangUp { grace_ms })
    }

    /// Ends the command's whole process tree. It is sent while [`next`](Self::next) waits, which then tells the end as
    /// usual.
    ///
    /// # Errors
    ///
    /// Never in practice: the request has no parts that could be too long.
    pub fn kill(&mut self) -> Result<(), GuestError> {
        self.connection.queue(&HostFrame::Kill)
    }

    /// Lets the guest drop an operation whose end was observed, with all its output.
    ///
    /// # Errors
    ///
    /// Those of a failed connection. The guest may or may not have dropped it then; asking again after an attach is
    /// harmless.
    pub async fn forget(mut self) -> Result<(), GuestError> {
        let deadline = Deadline::within(ANSWER_ALLOWANCE);
        self.connection.send_by(&HostFrame::Forget, deadline).await?;
        match self.connection.receive_by(deadline, "a sign that it forgot").await? {
            GuestFrame::Done => Ok(()),
            _ => Err(GuestError::Protocol("its answer to Forget is of another kind")),
        }
    }

    fn on_answer(&mut self, frame: GuestFrame) -> Result<Observation, GuestError> {
        match (frame, self.asked) {
            (GuestFrame::Started(started), asked) => {
                self.phase = Phase::Running;
                if let Asked::Exec { timeout } = asked {
                    self.must_end_within(timeout);
                }
                Ok(Observation::Started { pid: started.pid })
            }
            (GuestFrame::Failed(failed), _) => {
                self.phase = Phase::Ended;
                Ok(Observation::Failed(Failure::from(failed)))
            }
            // It has ended already: nobody says any more that it runs.
            (frame @ (GuestFrame::Output(_) | GuestFrame::Exited(_)), Asked::Attach) => {
                self.phase = Phase::Running;
                self.on_running(frame)
            }
            (GuestFrame::UnknownOperation, Asked::Attach) => {
                Err(GuestError::UnknownOperation { op: self.op })
            }
            (GuestFrame::Refused(Refusal::OffsetBeyondEnd), Asked::Attach) => {
                Err(GuestError::OffsetBeyondEnd { op: self.op })
            }
            _ => Err(GuestError::Protocol("its answer to the command is of another kind")),
        }
    }

    fn on_running(&mut self, frame: GuestFrame) -> Result<Observation, GuestError> {
        match frame {
            GuestFrame::Output(output) => self.on_output(output),
            GuestFrame::Exited(exited) => self.on_exited(exited),
            GuestFrame::InputProgress(progress) => self.on_progress(progress),
            _ => Err(GuestError::Protocol("it sent something else than output and end of a running command")),
        }
    }

    fn on_output(&mut self, output: Output) -> Result<Observation, GuestError> {
        let Output { stream, offset, data } = output;
        let position = &mut self.received[index(stream)];
        let first = !core::mem::replace(&mut self.begun[index(stream)], true);
        let from = *position;
        if offset < from || (offset > from && !first) {
            return Err(GuestError::Protocol("its output does not follow on the output before"));
        }
        let len = u64::try_from(data.len()).expect("a frame is far smaller than 2^64 bytes");
        *position = offset
            .checked_add(len)
            .ok_or(GuestError::Protocol("its output lies beyond the last position"))?;
        let observation = Observation::Output { stream, offset, data };
        if offset == from {
            return Ok(observation);
        }
        self.pending.push_back(observation);
        Ok(Observation::Gap { stream, from, to: offset })
    }

    fn on_progress(&mut self, progress: InputProgress) -> Result<Observation, GuestError> {
        let Some(input) = &mut self.input else {
            return Err(GuestError::Protocol("it tells of input of a command, which takes none"));
        };
        input.observe(progress).map_err(GuestError::Protocol)?;
        let InputProgress { received, consumed } = progress;
        Ok(Observation::Input { received, consumed })
    }

    fn on_exited(&mut self, exited: Exited) -> Result<Observation, GuestError> {
        let Exited { status, duration_ms, stdout_len, stderr_len } = exited;
        for (stream, len) in Stream::ALL.into_iter().zip([stdout_len, stderr_len]) {
            let from = self.received[index(stream)];
            if len < from || (len > from && self.begun[index(stream)]) {
                return Err(GuestError::Protocol("the length it tells is not that of the output it sent"));
            }
            if len > from {
                self.pending.push_back(Observation::Gap { stream, from, to: len });
            }
        }
        let status = status_of(status)?;
        self.phase = Phase::Ended;
        let exited = Observation::Exited { status, duration_ms, stdout_len, stderr_len };
        match self.pending.pop_front() {
            Some(gap) => {
                self.pending.push_back(exited);
                Ok(gap)
            }
            None => Ok(exited),
        }
    }
}

/// Returns how a command ended, as far as that is possible on Linux.
pub(super) const fn status_of(status: pyro_protocol::ExitStatus) -> Result<ExitStatus, GuestError> {
    match status {
        pyro_protocol::ExitStatus::Code(code) => Ok(ExitStatus::Code(code)),
        pyro_protocol::ExitStatus::Signal(signal @ 1..=SIGNAL_MAX) => Ok(ExitStatus::Signal(signal)),
        pyro_protocol::ExitStatus::Signal(_) => {
            Err(GuestError::Protocol("a signal of that number does not exist"))
        }
        pyro_protocol::ExitStatus::TimedOut => Ok(ExitStatus::TimedOut),
    }
}
