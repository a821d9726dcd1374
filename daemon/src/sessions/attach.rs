//! Following a shell, and sitting at its terminal.
//!
//! Output and input go at the same time: neither a client that does not read nor a job that does not read stops the other
//! direction, and no other client notices.

use std::collections::VecDeque;
use std::pin::pin;
use std::time::Duration;

use pyro_api::{
    ApiError, ClientMessage, ErrorCode, Input, Progress, ShellAttachRequest, ShellFollowEnd,
    ShellFollowRequest, Stream, WindowSize,
};
use pyro_core::{RequestId, ShellId, TerminalSize, WorkspaceId};
use pyro_store::outputs::StreamId;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::trace::Trace;
use super::typist::Typist;
use super::{Failure, Session, error_of};
use crate::engine::Refusal;
use crate::follower::Follower;
use crate::peer::{Inbox, Outbox};
use crate::streams::{LiveStream, Tail, catch_up};

/// How much of what was shown before a client sees that says not where to begin, in bytes.
const SHOWN_AGAIN: u64 = 64 * 1024;

/// How far a line is followed to begin at the next one, in bytes.
const LINE_BYTES_MAX: usize = 4096;

/// Most input of one client that is taken before there is room for it, in bytes; then its socket fills.
const AHEAD_MAX: usize = 1024 * 1024;

/// How long what was typed before a client left may take to find room.
const LEAVE_DEADLINE: Duration = Duration::from_secs(1);

impl Session {
    pub(super) async fn shell_follow(
        &mut self,
        request: ShellFollowRequest,
    ) -> Result<ShellFollowEnd, Failure> {
        let (workspace, shell) = self.find_shell(&request.workspace_id, &request.shell_id, None).await?;
        self.show(workspace, shell, Some(request.cursor), None).await
    }

    pub(super) async fn shell_attach(
        &mut self,
        request: ShellAttachRequest,
    ) -> Result<ShellFollowEnd, Failure> {
        let (workspace, shell) = self.find_shell(&request.workspace_id, &request.shell_id, None).await?;
        let typist = Typist::new(&self.context, &self.actor, workspace, shell);
        if let Some(size) = request.size {
            accepted(typist.resize(size_of(size)).await)?;
        }
        self.show(workspace, shell, request.cursor, Some(typist)).await
    }

    /// Sends what a shell shows until it has ended or the client leaves; types what the client types if it may.
    async fn show(
        &mut self,
        workspace: WorkspaceId,
        shell: ShellId,
        cursor: Option<u64>,
        typist: Option<Typist>,
    ) -> Result<ShellFollowEnd, Failure> {
        let live = self.context.streams.of(workspace, StreamId::Shell(shell));
        catch_up(&self.context, workspace, StreamId::Shell(shell), &live);
        let begin = cursor.map_or_else(|| shown_again(&live), |cursor| cursor.min(live.len()));
        let trace = Trace::new((*self.context.engine.state()).clone(), workspace, shell);
        let follower = self.context.engine.follow(trace.seq().next());
        let (typed, acknowledged) = watch::channel(None);
        let mut screen = Screen { tail: Tail::new(live, begin), trace, follower, acknowledged };
        // A client that comes back later begins where it was.
        self.peer.progress(Progress::Joined { cursor: begin }).await?;
        let (outbox, inbox) = self.peer.split();
        let leave = CancellationToken::new();
        {
            let mut output = pin!(screen.send(outbox, &leave));
            let input = pin!(receive(inbox, typist, &typed));
            tokio::select! {
                sent = &mut output => sent?,
                received = input => {
                    // A frame that has begun must be sent to its end.
                    leave.cancel();
                    match received {
                        Err(Failure::Gone(gone)) => return Err(Failure::Gone(gone)),
                        told => output.await.and(told)?,
                    }
                }
            }
        }
        Ok(ShellFollowEnd { shell: screen.trace.object()?, next_cursor: screen.tail.position() })
    }
}

/// What a client sees of a shell.
struct Screen {
    tail: Tail,
    trace: Trace,
    follower: Follower,
    /// The last piece of input that is durable; `None` before the first.
    acknowledged: watch::Receiver<Option<RequestId>>,
}

impl Screen {
    async fn send(&mut self, outbox: &mut Outbox, leave: &CancellationToken) -> Result<(), Failure> {
        while !self.trace.is_over() {
            tokio::select! {
                () = leave.cancelled() => return Ok(()),
                gone = outbox.gone() => return Err(gone.into()),
                () = self.tail.grown() => {}
                Ok(()) = self.acknowledged.changed() => {
                    let last = *self.acknowledged.borrow_and_update();
                    if let Some(request_id) = last {
                        outbox.progress(Progress::Typed { request_id }).await?;
                    }
                    continue;
                }
                envelope = self.follower.next() => {
                    let envelope = envelope.map_err(|error| ApiError::new(ErrorCode::LogCorrupt, error))?;
                    self.trace.see(&*envelope.ok_or_else(|| error_of(Refusal::Stopping))?);
                    continue;
                }
            }
            self.send_next(outbox).await?;
        }
        while self.tail.has_more() && !leave.is_cancelled() {
            self.send_next(outbox).await?;
        }
        Ok(())
    }

    async fn send_next(&mut self, outbox: &mut Outbox) -> Result<(), Failure> {
        let piece = self.tail.read().map_err(|error| ApiError::new(ErrorCode::StorageFailed, error))?;
        Ok(outbox.piece(Stream::Stdout, piece).await?)
    }
}

/// Takes what a client types until it leaves. `typed` tells which piece was recorded last.
async fn receive(
    inbox: &mut Inbox,
    typist: Option<Typist>,
    typed: &watch::Sender<Option<RequestId>>,
) -> Result<(), Failure> {
    let mut keys = Keys::default();
    let mut typing = None;
    loop {
        if let Some(typist) = typist.as_ref().filter(|_| typing.is_none()) {
            typing = keys.next().map(|input| Box::pin(type_one(typist, input, typed)));
        }
        tokio::select! {
            message = inbox.next(), if keys.len_bytes < AHEAD_MAX => match message {
                Some(Ok(ClientMessage::Input(input))) if typist.is_some() => keys.push(input),
                Some(Ok(ClientMessage::Resize(size))) => if let Some(typist) = &typist {
                    accepted(typist.resize(size_of(size)).await)?;
                },
                Some(Ok(ClientMessage::Cancel)) => {
                    let rest = async {
                        if let Some(typing) = typing {
                            accepted(typing.await)?;
                        }
                        for input in keys {
                            if let Some(typist) = &typist {
                                accepted(type_one(typist, input, typed).await)?;
                            }
                        }
                        Ok(())
                    };
                    // What finds no room is not typed: nobody is there any more who would wait for it.
                    return timeout(LEAVE_DEADLINE, rest).await.unwrap_or(Ok(()));
                }
                Some(Ok(ClientMessage::Hello(_) | ClientMessage::Request(_) | ClientMessage::Input(_))) => {}
                Some(Err(error)) => return Err(Failure::Gone(error.into())),
                None => {
                    let reset = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
                    return Err(Failure::Gone(reset.into()));
                }
            },
            recorded = async { typing.as_mut().expect("it is there").await }, if typing.is_some() => {
                typing = None;
                accepted(recorded)?;
            }
        }
    }
}

/// Records one piece under its own id, so that a client that sends it again types it once.
async fn type_one(
    typist: &Typist,
    input: Input,
    typed: &watch::Sender<Option<RequestId>>,
) -> Result<(), Refusal> {
    let Input { request_id, data } = input;
    typist.type_patiently(data, request_id).await?;
    typed.send_replace(Some(request_id));
    Ok(())
}

/// What a client has typed ahead of its shell.
#[derive(Debug, Default)]
struct Keys {
    pieces: VecDeque<Input>,
    len_bytes: usize,
}

impl Keys {
    /// Returns the memory that a piece takes: one that is empty takes some as well.
    const fn room_of(input: &Input) -> usize {
        core::mem::size_of::<Input>() + input.data.len()
    }

    fn push(&mut self, input: Input) {
        self.len_bytes += Self::room_of(&input);
        self.pieces.push_back(input);
    }
}

impl Iterator for Keys {
    type Item = Input;

    fn next(&mut self) -> Option<Input> {
        let input = self.pieces.pop_front()?;
        self.len_bytes -= Self::room_of(&input);
        Some(input)
    }
}

/// A shell that ends while somebody types is no error: its end is on the way.
fn accepted(result: Result<(), Refusal>) -> Result<(), Failure> {
    match result {
        Ok(()) | Err(Refusal::Rejected(_)) => Ok(()),
        Err(refusal) => Err(refusal.into()),
    }
}

const fn size_of(size: WindowSize) -> TerminalSize {
    TerminalSize { columns: size.cols, rows: size.rows }
}

/// Returns where the last part of a stream begins, at the beginning of a line if there is one: a terminal that is shown
/// half a sequence shows nonsense.
fn shown_again(live: &LiveStream) -> u64 {
    let begin = live.len().saturating_sub(SHOWN_AGAIN);
    let mut line = [0; LINE_BYTES_MAX];
    let read = match live.file() {
        Some(file) if begin > 0 => file.read_at(&mut line, begin).unwrap_or(0),
        Some(_) | None => 0,
    };
    let end_of_line = line[..read].iter().position(|byte| *byte == b'\n');
    begin + end_of_line.map_or(0, |position| position as u64 + 1)
}
