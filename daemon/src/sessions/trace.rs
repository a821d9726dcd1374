//! What is known of a shell, also when it is not there any more: the log remembers all of them.

use pyro_api::{ApiError, ErrorCode, ShellObject};
use pyro_core::{
    Envelope, ExecutionMode, ExitStatus, Seq, Shell, ShellEnd, ShellId, ShellPhase, State, WorkspaceId,
    evolve,
};

use super::Failure;
use super::log::unreadable;
use crate::clock;
use crate::context::Context;

/// A shell as it stood last.
#[derive(Debug)]
pub(super) struct Trace {
    workspace: WorkspaceId,
    shell: ShellId,
    state: State,
    last: Option<Shell>,
}

impl Trace {
    /// Returns the trace of a shell up to the state; later events are to be shown to it.
    pub(super) fn new(state: State, workspace: WorkspaceId, shell: ShellId) -> Self {
        let last = look(&state, workspace, shell).cloned();
        Self { workspace, shell, state, last }
    }

    /// Returns the trace of a shell by all that the log says of it.
    pub(super) fn of_log(context: &Context, workspace: WorkspaceId, shell: ShellId) -> Result<Self, Failure> {
        let mut trace = Self::new(State::default(), workspace, shell);
        tokio::task::block_in_place(|| {
            for envelope in context.engine.reader().read_workspace(workspace, Seq(1)) {
                trace.see(&envelope?);
            }
            Ok(trace)
        })
        .map_err(unreadable)
    }

    /// Returns the position of the last event that it has seen.
    pub(super) const fn seq(&self) -> Seq {
        self.state.seq
    }

    /// Takes note of the next event.
    pub(super) fn see(&mut self, envelope: &Envelope) {
        evolve(&mut self.state, envelope);
        if let Some(known) = look(&self.state, self.workspace, self.shell) {
            self.last = Some(known.clone());
        }
    }

    /// Tells whether the shell prints no more.
    pub(super) fn is_over(&self) -> bool {
        !is_open(&self.state, self.workspace, self.shell)
    }

    /// Tells whether the shell is not there any more.
    pub(super) fn is_gone(&self) -> bool {
        look(&self.state, self.workspace, self.shell).is_none()
    }

    /// Returns what to tell of it.
    pub(super) fn object(&self) -> Result<ShellObject, Failure> {
        match &self.last {
            Some(known) => Ok(object(self.workspace, self.shell, known)),
            None => Err(unknown(self.workspace, self.shell).into()),
        }
    }
}

/// Returns a shell; `None` when there is none now.
pub(super) fn look(state: &State, workspace: WorkspaceId, shell: ShellId) -> Option<&Shell> {
    state.workspace(workspace)?.shells.get(&shell)
}

/// Tells whether a shell runs or is about to.
pub(super) fn is_open(state: &State, workspace: WorkspaceId, shell: ShellId) -> bool {
    look(state, workspace, shell).is_some_and(|known| known.phase.is_open())
}

pub(super) fn unknown(workspace: WorkspaceId, shell: impl std::fmt::Display) -> ApiError {
    ApiError::new(ErrorCode::UnknownShell, format!("no shell {shell} exists in {workspace}"))
        .with_hint("`pyro workspace shell list` shows the shells of a workspace")
}

/// Returns what to tell of a shell.
pub(super) fn object(workspace: WorkspaceId, id: ShellId, shell: &Shell) -> ShellObject {
    let mode = shell.backend.map_or(ExecutionMode::Pending, |backend| backend.execution_mode());
    let (ended_at, exit_code, error) = match &shell.phase {
        ShellPhase::Requested | ShellPhase::Running => (None, None, None),
        ShellPhase::Ended { at, end: ShellEnd::Exited(status) } => {
            (Some(*at), Some(ExitStatus::exit_code(*status)), None)
        }
        ShellPhase::Ended { at, end: ShellEnd::Lost(reason) } => (Some(*at), None, Some(reason.clone())),
    };
    ShellObject {
        workspace_id: workspace.to_string(),
        shell_id: id.to_string(),
        cwd: shell.cwd.clone(),
        cols: shell.size.columns,
        rows: shell.size.rows,
        state: if shell.phase.is_open() { "running" } else { "stopped" }.to_owned(),
        started_at: clock::epoch_seconds(shell.requested_at),
        ended_at: ended_at.map(clock::epoch_seconds),
        exit_code,
        execution_mode: mode.as_str().to_owned(),
        error,
    }
}
