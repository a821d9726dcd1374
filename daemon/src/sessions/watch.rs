//! One command, watched by its client until it is over.
//!
//! Output goes out and what the client wants comes in at the same time: a client that does not read can cancel.

use std::pin::pin;
use std::sync::Arc;

use pyro_api::{ApiError, ClientMessage, ErrorCode, Progress, Resume, RunProgress, Stream};
use pyro_core::{
    Command, DeleteReason, Envelope, Event, ExecExited, ExecNumber, ExecutionMode, Seq, Workspace,
    WorkspaceId,
};
use pyro_store::outputs::{Stream as StoredStream, StreamId};

use super::repeat::result_gone;
use super::{Failure, Session, error_of};
use crate::context::Context;
use crate::engine::Refusal;
use crate::follower::Follower;
use crate::peer::Outbox;
use crate::streams::{Tail, catch_up};

impl Session {
    /// Streams output and progress until what is watched is over.
    pub(super) async fn watch(&mut self, mut watch: Watch) -> Result<Watch, Failure> {
        let wish = watch.cancellation();
        let context = Arc::clone(&self.context);
        let (outbox, inbox) = self.peer.split();
        {
            let mut output = pin!(watch.send(outbox));
            loop {
                tokio::select! {
                    biased;
                    message = inbox.next() => match message {
                        Some(Ok(ClientMessage::Cancel)) => context.record_quietly(wish.clone()).await,
                        Some(Ok(
                            ClientMessage::Hello(_)
                            | ClientMessage::Request(_)
                            | ClientMessage::Input(_)
                            | ClientMessage::Resize(_),
                        )) => {}
                        Some(Err(error)) => return Err(Failure::Gone(error.into())),
                        None => {
                            let reset = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
                            return Err(Failure::Gone(reset.into()));
                        }
                    },
                    sent = &mut output => {
                        sent?;
                        break;
                    }
                }
            }
        }
        Ok(watch)
    }
}

/// What goes with the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// Its VM: the watch ends when that is deleted, and whoever cancels deletes it.
    Vm,
    /// Nothing: the workspace stays, and whoever cancels ends the command.
    Exec,
}

/// What a session knows of the exec that it watches.
pub(super) struct Watch {
    scope: Scope,
    pub(super) workspace: WorkspaceId,
    pub(super) exec: ExecNumber,
    follower: Follower,
    stdout: Tail,
    stderr: Tail,
    pub(super) environment: Option<(String, String)>,
    pub(super) command: String,
    pub(super) execution_mode: ExecutionMode,
    pub(super) deleting: Option<DeleteReason>,
    pub(super) deleted: Option<DeleteReason>,
    end: Option<End>,
    boot_failure: Option<String>,
}

enum End {
    Exited(ExecExited),
    Failed(String),
    Lost(String),
}

impl Watch {
    pub(super) fn new(
        context: &Arc<Context>,
        scope: Scope,
        workspace: WorkspaceId,
        exec: ExecNumber,
        first: Seq,
        resume: Option<Resume>,
    ) -> Self {
        let tail = |stream, read| {
            let stream = StreamId::Exec(exec, stream);
            let live = context.streams.of(workspace, stream);
            catch_up(context, workspace, stream, &live);
            Tail::of_client(live, read)
        };
        let Resume { stdout_offset, stderr_offset } = resume.unwrap_or_default();
        Self {
            scope,
            workspace,
            exec,
            follower: context.engine.follow(first),
            stdout: tail(StoredStream::Stdout, stdout_offset),
            stderr: tail(StoredStream::Stderr, stderr_offset),
            environment: None,
            command: String::new(),
            execution_mode: ExecutionMode::Pending,
            deleting: None,
            deleted: None,
            end: None,
            boot_failure: None,
        }
    }

    /// Takes note of the guest in which the command runs.
    pub(super) fn see_guest(&mut self, workspace: &Workspace) {
        let spec = &workspace.spec;
        self.environment = Some((spec.environment.to_string(), spec.environment_version.clone()));
        if let Some(guest) = &workspace.guest {
            self.execution_mode = guest.backend.execution_mode();
        }
    }

    /// Sends output and progress until all is over.
    async fn send(&mut self, outbox: &mut Outbox) -> Result<(), Failure> {
        while !self.is_over() {
            tokio::select! {
                biased;
                () = self.stdout.grown() => send_next(outbox, Stream::Stdout, &mut self.stdout).await?,
                () = self.stderr.grown() => send_next(outbox, Stream::Stderr, &mut self.stderr).await?,
                envelope = self.follower.next() => {
                    let envelope = envelope.map_err(|error| ApiError::new(ErrorCode::LogCorrupt, error))?;
                    let envelope = envelope.ok_or_else(|| error_of(Refusal::Stopping))?;
                    if let Some(progress) = self.see(&envelope) {
                        outbox.progress(progress).await?;
                    }
                }
            }
        }
        while self.stdout.has_more() {
            send_next(outbox, Stream::Stdout, &mut self.stdout).await?;
        }
        while self.stderr.has_more() {
            send_next(outbox, Stream::Stderr, &mut self.stderr).await?;
        }
        Ok(())
    }

    /// Takes note of an event and returns what to tell the client.
    fn see(&mut self, envelope: &Envelope) -> Option<Progress> {
        if envelope.event.workspace() != Some(self.workspace) {
            return None;
        }
        match &envelope.event {
            Event::WorkspaceCreated(event) => {
                self.environment =
                    Some((event.spec.environment.to_string(), event.spec.environment_version.clone()));
            }
            Event::WorkspaceStarted(event) => {
                self.execution_mode = event.backend.execution_mode();
                return (self.scope == Scope::Vm)
                    .then(|| Progress::Run(RunProgress::Execute { vm_id: self.workspace.to_string() }));
            }
            Event::WorkspaceStartFailed(event) => self.boot_failure = Some(event.reason.clone()),
            Event::WorkspaceDeleting(event) => self.deleting = Some(event.reason),
            Event::WorkspaceDeleted(event) => self.deleted = Some(event.reason),
            Event::ExecRequested(event) if event.exec == self.exec => self.command.clone_from(&event.command),
            Event::ExecExited(event) if event.exec == self.exec => {
                self.end = Some(End::Exited(event.clone()))
            }
            Event::ExecFailed(event) if event.exec == self.exec => {
                self.end = Some(End::Failed(event.reason.clone()))
            }
            Event::ExecLost(event) if event.exec == self.exec => {
                self.end = Some(End::Lost(event.reason.clone()))
            }
            _ => {}
        }
        None
    }

    const fn is_over(&self) -> bool {
        match self.scope {
            Scope::Vm => self.deleted.is_some(),
            Scope::Exec => self.end.is_some() || self.deleted.is_some(),
        }
    }

    /// Returns what it means when the client does not want to wait any longer.
    const fn cancellation(&self) -> Command {
        let workspace = self.workspace;
        match self.scope {
            Scope::Vm => Command::DeleteWorkspace { workspace, reason: DeleteReason::ClientGone },
            Scope::Exec => Command::CancelExec { workspace, exec: self.exec },
        }
    }

    /// Takes out how the command exited, or says why it did not.
    pub(super) fn take_exit(&mut self) -> Result<ExecExited, ApiError> {
        match self.end.take() {
            Some(End::Exited(exited)) => {
                let sent = (self.stdout.position(), self.stderr.position());
                if sent.0 >= exited.stdout.len_bytes && sent.1 >= exited.stderr.len_bytes {
                    return Ok(exited);
                }
                // A repeated request, for which half of the output would be worse than none.
                let code = exited.status.exit_code();
                Err(result_gone(format_args!(
                    "the command ran and ended with exit code {code}; its output is deleted"
                )))
            }
            Some(End::Failed(reason)) => {
                let (code, reason) = match self.boot_failure.take() {
                    Some(reason) => (ErrorCode::GuestUnavailable, reason),
                    None => (ErrorCode::ExecFailed, reason),
                };
                Err(ApiError::new(code, reason))
            }
            Some(End::Lost(reason)) => {
                let error = ApiError::new(ErrorCode::ExecLost, format!("the command is lost: {reason}"));
                Err(error.with_hint(
                    "its outcome is unknown: it may have had effects; `pyro log` shows what was seen",
                ))
            }
            None => {
                let message = "the guest is gone without a word about its command";
                Err(ApiError::new(ErrorCode::Internal, message))
            }
        }
    }
}

async fn send_next(outbox: &mut Outbox, stream: Stream, tail: &mut Tail) -> Result<(), Failure> {
    let piece = tail.read().map_err(|error| ApiError::new(ErrorCode::StorageFailed, error))?;
    outbox.piece(stream, piece).await?;
    tail.sent();
    Ok(())
}
