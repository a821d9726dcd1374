//! A command that is followed through the end of its daemon: when the connection is lost, it goes on with a new daemon
//! where it was.

use pyro_core::RequestId;

use crate::cancel::CancelToken;
use crate::client::{CallError, Client, ClientInfo, Incoming, Start, TransportError, take_reply};
use crate::error::{ApiError, ErrorCode};
use crate::frame::Stream;
use crate::home::Home;
use crate::link::{Link, is_stopping};
use crate::message::{Progress, RunProgress};
use crate::operation::Operation;
use crate::request::{Resume, RunRequest, VmExecRequest, WorkspaceExecRequest};
use crate::request_id::new_request_id;
use crate::response::{ExecOutcome, RunOutcome};

/// A request whose output comes as it is printed, and which can be asked for again without running twice.
pub trait Followed: Operation {
    /// What makes a repetition harmless.
    fn request_id(&mut self) -> &mut Option<RequestId>;

    /// What the client has of the output already.
    fn resume(&mut self) -> &mut Option<Resume>;

    /// Returns the lengths of the whole output.
    fn output_len(outcome: &Self::Response) -> Resume;

    /// Returns the exit code of the command.
    fn exit_code(outcome: &Self::Response) -> u8;
}

impl Followed for RunRequest {
    fn request_id(&mut self) -> &mut Option<RequestId> {
        &mut self.request_id
    }

    fn resume(&mut self) -> &mut Option<Resume> {
        &mut self.resume
    }

    fn output_len(outcome: &RunOutcome) -> Resume {
        Resume { stdout_offset: outcome.stdout_bytes, stderr_offset: outcome.stderr_bytes }
    }

    fn exit_code(outcome: &RunOutcome) -> u8 {
        outcome.exit_code
    }
}

impl Followed for VmExecRequest {
    fn request_id(&mut self) -> &mut Option<RequestId> {
        &mut self.request_id
    }

    fn resume(&mut self) -> &mut Option<Resume> {
        &mut self.resume
    }

    fn output_len(outcome: &RunOutcome) -> Resume {
        RunRequest::output_len(outcome)
    }

    fn exit_code(outcome: &RunOutcome) -> u8 {
        outcome.exit_code
    }
}

impl Followed for WorkspaceExecRequest {
    fn request_id(&mut self) -> &mut Option<RequestId> {
        &mut self.request_id
    }

    fn resume(&mut self) -> &mut Option<Resume> {
        &mut self.resume
    }

    fn output_len(outcome: &ExecOutcome) -> Resume {
        Resume { stdout_offset: outcome.stdout_bytes, stderr_offset: outcome.stderr_bytes }
    }

    fn exit_code(outcome: &ExecOutcome) -> u8 {
        outcome.exit_code
    }
}

/// What happens in a run.
#[derive(Clone, Debug, PartialEq)]
pub enum RunEvent<Outcome = RunOutcome> {
    /// It got on. No phase comes twice.
    Progress(Progress),
    /// The command printed something. No byte comes twice, and none is lost without a word.
    Output(Stream, Vec<u8>),
    /// The daemon keeps only so much output, and so many bytes are not there any more: this client was too long away.
    Gap(Stream, u64),
    /// It has ended, and all of its output has come.
    Ended(Outcome),
}

/// A command that is followed to its end: a `run`, or an exec in a workspace.
#[derive(Debug)]
pub struct Run<Asked: Followed = RunRequest> {
    link: Link,
    cancel: CancelToken,
    request: Asked,
    client: Client,
    received: Resume,
    furthest: Phase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Begin,
    Create,
    Start,
    Execute,
}

impl<Asked: Followed> Run<Asked> {
    /// Sends the request, with a request id if it has none.
    ///
    /// # Errors
    ///
    /// When there is no connection, or when the end was asked for already.
    pub fn start(
        home: &Home,
        info: &ClientInfo,
        start: &Start,
        mut request: Asked,
        cancel: &CancelToken,
    ) -> Result<Self, CallError> {
        request.request_id().get_or_insert_with(new_request_id);
        let mut link = Link::new(home, info, start);
        let client = link.connect()?;
        let mut run = Self {
            link,
            cancel: cancel.clone(),
            request,
            client,
            received: Resume::default(),
            furthest: Phase::Begin,
        };
        if cancel.is_requested() {
            return Err(CallError::Failed(ApiError::new(
                ErrorCode::Canceled,
                "canceled before the command was sent",
            )));
        }
        match run.submit() {
            Err(TransportError::Lost) => run.reconnect()?,
            result => result?,
        }
        Ok(run)
    }

    /// Waits for the next event; there is none after [`RunEvent::Ended`] or an error.
    ///
    /// # Errors
    ///
    /// When the run is refused, fails or is canceled, or when no daemon can be reached any more.
    pub fn next_event(&mut self) -> Result<RunEvent<Asked::Response>, CallError> {
        loop {
            let incoming = match self.client.receive() {
                Err(TransportError::Lost) => {
                    self.reconnect()?;
                    continue;
                }
                result => result?,
            };
            match incoming {
                Incoming::Output(stream, bytes) => {
                    self.count(stream, u64::try_from(bytes.len()).expect("a frame is shorter than 2^64"));
                    return Ok(RunEvent::Output(stream, bytes));
                }
                Incoming::Progress(Progress::Gap { stream, from, to, .. }) => {
                    let len = to.saturating_sub(from);
                    self.count(stream, len);
                    return Ok(RunEvent::Gap(stream, len));
                }
                Incoming::Progress(progress) if self.is_news(&progress) => {
                    return Ok(RunEvent::Progress(progress));
                }
                Incoming::Progress(_) => {}
                Incoming::Event(_) => {
                    return Err(TransportError::Unexpected { what: "an event of the log" }.into());
                }
                // It ends in order, and the command goes on: the next daemon takes both over.
                Incoming::Reply(reply) if is_stopping(&reply) => self.reconnect()?,
                Incoming::Reply(reply) => {
                    let outcome = take_reply::<Asked>(*reply)?;
                    return self.check_complete(&outcome).map(|()| RunEvent::Ended(outcome));
                }
            }
        }
    }

    fn submit(&mut self) -> Result<(), TransportError> {
        self.client.send(self.request.clone())?;
        self.cancel.attach(self.client.sender());
        Ok(())
    }

    fn reconnect(&mut self) -> Result<(), CallError> {
        loop {
            self.client = self.link.reconnect()?;
            // A daemon that does not know a run which had begun has lost its log: it must not begin it again.
            let begun = self.furthest >= Phase::Start || self.received != Resume::default();
            *self.request.resume() = begun.then_some(self.received);
            match self.submit() {
                Err(TransportError::Lost) => {}
                result => return Ok(result?),
            }
        }
    }

    const fn count(&mut self, stream: Stream, len: u64) {
        let received = match stream {
            Stream::Stdout => &mut self.received.stdout_offset,
            Stream::Stderr => &mut self.received.stderr_offset,
        };
        *received = received.saturating_add(len);
    }

    fn is_news(&mut self, progress: &Progress) -> bool {
        let phase = match progress {
            Progress::Pull(_) => return self.furthest < Phase::Start,
            // Only other requests lead to them.
            Progress::Record(_)
            | Progress::Sync(_)
            | Progress::Synced(_)
            | Progress::SyncFailed(_)
            | Progress::Joined { .. }
            | Progress::Gap { .. }
            | Progress::CaughtUp { .. }
            | Progress::Typed { .. } => return false,
            Progress::Run(RunProgress::Create { .. }) => Phase::Create,
            Progress::Run(RunProgress::Start { .. }) => Phase::Start,
            Progress::Run(RunProgress::Execute { .. }) => Phase::Execute,
        };
        let news = phase > self.furthest;
        self.furthest = self.furthest.max(phase);
        news
    }

    /// The daemon sends all output before its reply; anything else would be a silent loss.
    fn check_complete(&self, outcome: &Asked::Response) -> Result<(), CallError> {
        let whole = Asked::output_len(outcome);
        if self.received == whole {
            return Ok(());
        }
        if self.received == Resume::default() {
            let message =
                format!("the request was answered before, with exit code {}", Asked::exit_code(outcome));
            let hint = "its output was deleted with its VM; draw a new request id to run the command again";
            return Err(CallError::Failed(ApiError::new(ErrorCode::InvalidState, message).with_hint(hint)));
        }
        let Resume { stdout_offset, stderr_offset } = self.received;
        Err(CallError::Failed(ApiError::new(
            ErrorCode::Internal,
            format_args!(
                "output is incomplete: {stdout_offset} of {} bytes of standard output and {stderr_offset} of {} bytes \
                 of standard error came",
                whole.stdout_offset, whole.stderr_offset
            ),
        )))
    }
}
