//! What the mounts ask of the daemon: how things are told, and what is written into files.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use pyro_api::{CommandRecord, json, signal_name};
use pyro_core::{
    Actor, Cause, Command, DeleteReason, Envelope, Event, ExecNumber, ExitStatus, Face, Rejection, Shell,
    ShellId, WORKSPACE_PATH, Workspace, WorkspaceId,
};
use pyro_fusefs::{
    Done, ExecEnd, ExecRecord, Files, Host, Outcome as ExecOutcome, Refusal, RefusalKind, Wish, Writer,
};
use pyro_store::AppendError;
use tokio::runtime::Handle;
use tokio::time::timeout;

use super::log::log_event;
use super::run::signal_of;
use super::trace;
use super::typist::{Attempt, Typist};
use super::workspace::object;
use crate::clock;
use crate::context::Context;
use crate::engine::{self, Origin};

/// Time for a command that is asked for without one, in seconds: that of the contract.
const TIMEOUT_SECONDS: u64 = 30;

/// How long the guest of a new shell may take to say that it takes input. The writer waits meanwhile.
const INPUT_DEADLINE: Duration = Duration::from_secs(1);

/// The daemon, as the mounts see it.
pub(crate) struct MountHost {
    context: Arc<Context>,
    runtime: Handle,
}

impl fmt::Debug for MountHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MountHost").finish_non_exhaustive()
    }
}

impl MountHost {
    pub(crate) const fn new(context: Arc<Context>, runtime: Handle) -> Self {
        Self { context, runtime }
    }
}

/// Returns a document without its line end: the mount adds one.
fn without_end(mut document: String) -> String {
    document.truncate(document.trim_end().len());
    document
}

impl Host for MountHost {
    fn event(&self, envelope: &Envelope) -> String {
        without_end(json::line(&log_event(envelope)))
    }

    fn workspace(&self, id: WorkspaceId, workspace: &Workspace) -> String {
        without_end(json::document(&object(&self.context, id, workspace)))
    }

    fn exec(&self, _: WorkspaceId, record: &ExecRecord) -> String {
        let mut told = serde_json::to_value(command_record(record)).unwrap_or_default();
        if let Some(told) = told.as_object_mut() {
            // The tree has the files of the output in it.
            told.retain(|key, _| !matches!(key.as_str(), "stdout_file" | "stderr_file"));
            told.insert("requested_at".to_owned(), clock::epoch_seconds(record.requested_at).into());
            told.insert("state".to_owned(), if record.end.is_some() { "ended" } else { "running" }.into());
            if record.end.is_none() {
                told.insert("recorded_at".to_owned(), serde_json::Value::Null);
            }
        }
        without_end(json::line(&told))
    }

    fn shell(&self, workspace: WorkspaceId, id: ShellId, shell: &Shell) -> String {
        without_end(json::document(&trace::object(workspace, id, shell)))
    }

    fn manifest(&self, environment: &str) -> io::Result<Option<Vec<u8>>> {
        let Ok(name) = environment.parse() else { return Ok(None) };
        let Ok(installed) = self.context.environments.installed(&name) else { return Ok(None) };
        match std::fs::read(installed.manifest_path()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            read => read.map(Some),
        }
    }

    fn files(&self) -> Arc<dyn Files> {
        Arc::clone(&self.context.live_files) as Arc<dyn Files>
    }

    fn perform(&self, wish: Wish, writer: Writer, done: Done) {
        let context = Arc::clone(&self.context);
        self.runtime.spawn(async move { done(perform(&context, wish, writer).await) });
    }
}

/// Returns what `pyro workspace logs` tells of a command, with what is not known yet left at nothing.
fn command_record(record: &ExecRecord) -> CommandRecord {
    let exit = record.exit();
    let error = match &record.end {
        Some(ExecEnd { outcome: ExecOutcome::Failed(reason), .. }) => Some(reason.clone()),
        Some(ExecEnd { outcome: ExecOutcome::Lost(reason), .. }) => Some(format!("lost: {reason}")),
        Some(ExecEnd { outcome: ExecOutcome::Exited { .. }, .. }) | None => None,
    };
    let recorded_at = record.end.as_ref().map_or(record.requested_at, |end| end.at);
    CommandRecord {
        sequence: record.number.0,
        command: record.command.clone(),
        cwd: record.cwd.clone().unwrap_or_else(|| WORKSPACE_PATH.to_owned()),
        exit_code: exit.map(|(status, _)| status.exit_code()),
        duration_ms: exit.map_or(0, |(_, duration_ms)| duration_ms),
        execution_mode: record.mode.as_str().to_owned(),
        recorded_at: clock::epoch_seconds(recorded_at),
        stdout_file: String::new(),
        stderr_file: String::new(),
        signal: exit.and_then(|(status, _)| signal_of(status)).map(signal_name),
        timed_out: exit.is_some_and(|(status, _)| status == ExitStatus::TimedOut),
        error,
    }
}

async fn perform(context: &Arc<Context>, wish: Wish, writer: Writer) -> Result<Option<ExecNumber>, Refusal> {
    let client = concat!("pyro/", env!("CARGO_PKG_VERSION")).to_owned();
    let actor = Actor { face: Face::Fuse, uid: writer.uid, pid: writer.pid, client };
    let command = match wish {
        Wish::Exec { workspace, command, timeout_seconds } => {
            let timeout_ms = timeout_seconds.unwrap_or(TIMEOUT_SECONDS).saturating_mul(1000);
            Command::RequestExec { workspace, command, cwd: Some(WORKSPACE_PATH.to_owned()), timeout_ms }
        }
        Wish::Start(workspace) => Command::StartWorkspace { workspace },
        Wish::Stop(workspace) => Command::StopWorkspace { workspace },
        Wish::Delete(workspace) => Command::DeleteWorkspace { workspace, reason: DeleteReason::Explicit },
        Wish::Type { workspace, shell, data } => {
            return type_input(&Typist::new(context, &actor, workspace, shell), data).await;
        }
        Wish::Signal { workspace, shell, signal } => Command::SignalShell { workspace, shell, signal },
        Wish::Resize { workspace, shell, size } => Command::ResizeShell { workspace, shell, size },
        Wish::Close { workspace, shell } => Command::CloseShell { workspace, shell },
    };
    let origin = Origin { actor, cause: Cause::Request(pyro_api::new_request_id()) };
    let outcome = context.engine.submit(command, origin).await.map_err(refused)?;
    Ok(outcome.envelopes().iter().find_map(|envelope| match &envelope.event {
        Event::ExecRequested(event) => Some(event.exec),
        _ => None,
    }))
}

async fn type_input(typist: &Typist, data: Vec<u8>) -> Result<Option<ExecNumber>, Refusal> {
    // A shell that has ended says nothing; the rules say so.
    let ready = timeout(INPUT_DEADLINE, typist.until(|typed| typed.is_some())).await;
    let no_room = |message: String| Refusal { kind: RefusalKind::NoRoom, message };
    if ready.is_err() {
        return Err(no_room("nothing was typed: the guest does not answer".to_owned()));
    }
    match typist.try_type(data, pyro_api::new_request_id()).await {
        Ok(Attempt::Recorded(_)) => Ok(None),
        Ok(Attempt::NoRoom { held }) => {
            Err(no_room(format!("nothing was typed: the job does not read, and {held} bytes wait for it")))
        }
        Err(refusal) => Err(refused(refusal)),
    }
}

fn refused(refusal: engine::Refusal) -> Refusal {
    let kind = match &refusal {
        engine::Refusal::Rejected(rejection) => kind_of(rejection),
        engine::Refusal::Append(error) => match **error {
            AppendError::StorageFull => RefusalKind::StorageFull,
            AppendError::TooLong => RefusalKind::Invalid,
            AppendError::Io { .. } | AppendError::Poisoned { .. } | AppendError::UnknownEvent => {
                RefusalKind::Failed
            }
        },
        engine::Refusal::Read(_) | engine::Refusal::Stopping => RefusalKind::Failed,
    };
    Refusal { kind, message: refusal.to_string() }
}

const fn kind_of(rejection: &Rejection) -> RefusalKind {
    match rejection {
        Rejection::UnknownWorkspace { .. }
        | Rejection::UnknownExec { .. }
        | Rejection::UnknownShell { .. } => RefusalKind::Gone,
        Rejection::WrongPhase { .. } | Rejection::WrongShellPhase { .. } | Rejection::Stale => {
            RefusalKind::WrongState
        }
        Rejection::LimitReached { .. } => RefusalKind::NoRoom,
        Rejection::UnknownEnvironment { .. }
        | Rejection::WorkspaceExists { .. }
        | Rejection::ShellExists { .. }
        | Rejection::OutOfRange { .. }
        | Rejection::InvalidText { .. }
        | Rejection::NameTaken { .. }
        | Rejection::EmptyCommand
        | Rejection::NulInCommand
        | Rejection::CommandTooLong { .. } => RefusalKind::Invalid,
    }
}
