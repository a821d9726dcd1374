//! Following a shell, and sitting at its terminal.
//!
//! Output and input go at the same time: neither a client that does not read nor a job that does not read stops the other
//! direction, and no other client notices.

use std::pin::pin;
use std::time::Duration;

use pyro_api::{
    ApiError, ClientMessage, ErrorCode, Progress, ShellAttachRequest, ShellFollowEnd, ShellFollowRequest,
    Stream, WindowSize,
};
use pyro_core::{ShellId, TerminalSize, WorkspaceId};
use pyro_store::outputs::StreamId;
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

/// Most input that is recorded as one, in bytes.
const PART_MAX: usize = 64 * 1024;

/// How long what was typed before a client left may take to find room.
const LEAVE_DEADLINE: Duration = Duration::from_secs(1);

impl Session {
    pub(super) async fn shell_follow(
        &mut self,
        request: ShellFollowRequest,
    ) -> Result<ShellFollowEnd, Failure> {
        let (workspace, shell) = self.find_shell(&request.workspace_id, &request.shell_id, None)?;
        self.show(workspace, shell, Some(request.cursor), None).await
    }

    pub(super) async fn shell_attach(
        &mut self,
        request: ShellAttachRequest,
    ) -> Result<ShellFollowEnd, Failure> {
        let (workspace, shell) = self.find_shell(&request.workspace_id, &request.shell_id, None)?;
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
        let mut screen = Screen { tail: Tail::new(live, begin), trace, follower };
        // A client that comes back later begins where it was.
        self.peer.progress(Progress::Joined { cursor: begin }).await?;
        let (outbox, inbox) = self.peer.split();
        let leave = CancellationToken::new();
        {
            let mut output = pin!(screen.send(outbox, &leave));
            let input = pin!(receive(inbox, typist));
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
}

impl Screen {
    async fn send(&mut self, outbox: &mut Outbox, leave: &CancellationToken) -> Result<(), Failure> {
        while !self.trace.is_over() {
            tokio::select! {
                () = leave.cancelled() => return Ok(()),
                gone = outbox.gone() => return Err(gone.into()),
                () = self.tail.grown() => {}
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

/// Takes what a client types until it leaves.
async fn receive(inbox: &mut Inbox, typist: Option<Typist>) -> Result<(), Failure> {
    let mut keys = Vec::new();
    let mut typing = None;
    loop {
        if let Some(typist) = typist.as_ref().filter(|_| typing.is_none() && !keys.is_empty()) {
            typing = Some(Box::pin(typist.type_patiently(next_part(&mut keys))));
        }
        tokio::select! {
            message = inbox.next(), if keys.len() < AHEAD_MAX => match message {
                Some(Ok(ClientMessage::Input(bytes))) if typist.is_some() => keys.extend(bytes),
                Some(Ok(ClientMessage::Resize(size))) => if let Some(typist) = &typist {
                    accepted(typist.resize(size_of(size)).await)?;
                },
                Some(Ok(ClientMessage::Cancel)) => {
                    let rest = async {
                        if let Some(typing) = typing {
                            accepted(typing.await)?;
                        }
                        while let Some(typist) = typist.as_ref().filter(|_| !keys.is_empty()) {
                            accepted(typist.type_patiently(next_part(&mut keys)).await)?;
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
            typed = async { typing.as_mut().expect("it is there").await }, if typing.is_some() => {
                typing = None;
                accepted(typed)?;
            }
        }
    }
}

/// Takes the beginning of what is to be typed.
fn next_part(keys: &mut Vec<u8>) -> Vec<u8> {
    let rest = keys.split_off(keys.len().min(PART_MAX));
    std::mem::replace(keys, rest)
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
