//! One command, watched by its client until it is over.

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
use crate::follower::Follower;
use crate::streams::{Tail, catch_up};

impl Session {
    /// Streams output and progress until what is watched is over.
    pub(super) async fn watch(&mut self, mut watch: Watch) -> Result<Watch, Failure> {
        loop {
            tokio::select! {
                biased;
                message = self.peer.next() => match message {
                    Some(Ok(ClientMessage::Cancel)) => watch.cancel().await,
                    Some(Ok(
                        ClientMessage::Hello(_)
                        | ClientMessage::Request(_)
                        | ClientMessage::Input(_)
                        | ClientMessage::Resize(_),
                    )) => {}
                    Some(Err(error)) => return Err(Failure::Gone(error.into())),
                    None => return Err(Failure::Gone(std::io::Error::from(std::io::ErrorKind::ConnectionReset).into())),
                },
                () = watch.stdout.grown() => self.send_output(Stream::Stdout, &mut watch.stdout).await?,
                () = watch.stderr.grown() => self.send_output(Stream::Stderr, &mut watch.stderr).await?,
                envelope = watch.follower.next() => {
                    let envelope = envelope.map_err(|error| ApiError::new(ErrorCode::LogCorrupt, error))?;
                    let Some(envelope) = envelope else { return Err(error_of(crate::engine::Refusal::Stopping).into()) };
                    if let Some(progress) = watch.see(&envelope) {
                        self.peer.progress(progress).await?;
                    }
                    if watch.is_over() {
                        self.drain(&mut watch).await?;
                        return Ok(watch);
                    }
                }
            }
        }
    }

    /// Sends what is left of the output, once the exec has ended.
    async fn drain(&mut self, watch: &mut Watch) -> Result<(), Failure> {
        while watch.stdout.has_more() {
            self.send_output(Stream::Stdout, &mut watch.stdout).await?;
        }
        while watch.stderr.has_more() {
            self.send_output(Stream::Stderr, &mut watch.stderr).await?;
        }
        Ok(())
    }

    async fn send_output(&mut self, stream: Stream, tail: &mut Tail) -> Result<(), Failure> {
        let bytes = tail.read().map_err(|error| ApiError::new(ErrorCode::StorageFailed, error))?;
        Ok(self.peer.output(stream, bytes).await?)
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
    context: Arc<Context>,
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
            catch_up(&context.outputs, workspace, stream, &live);
            Tail::new(live, read)
        };
        let Resume { stdout_offset, stderr_offset } = resume.unwrap_or_default();
        Self {
            context: Arc::clone(context),
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

    /// The client does not want to wait any longer.
    async fn cancel(&self) {
        let workspace = self.workspace;
        let wish = match self.scope {
            Scope::Vm => Command::DeleteWorkspace { workspace, reason: DeleteReason::ClientGone },
            Scope::Exec => Command::CancelExec { workspace, exec: self.exec },
        };
        self.context.record_quietly(wish).await;
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
