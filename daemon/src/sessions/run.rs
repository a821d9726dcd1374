//! One command in a VM that goes with it: `run` and `vm_exec`.

use pyro_api::{
    ApiError, Cleanup, ErrorCode, Progress, Resume, RunOutcome, RunProgress, RunRequest, VmExecRequest,
    signal_name,
};
use pyro_core::{
    Command, DeleteReason, Event, ExecNumber, ExitStatus, RequestId, Seq, WorkspaceId, WorkspaceKind,
    WorkspaceSpec,
};

use super::repeat::Moment;
use super::spec::{AsksForGuest as _, asks_for};
use super::vm::of_vm;
use super::watch::{Scope, Watch};
use super::{Failure, Session, error_of};
use crate::backend;
use crate::engine::{Outcome, Refusal};
use crate::tethers::Tether;

/// Tries to draw an id that is not taken: with 48 random bits, one that fails three times is no accident.
const DRAWS_MAX: u32 = 3;

/// Least free space for a new guest, in MiB: its empty disk takes a few, and its first output wants some.
const FREE_MIB_MIN: u64 = 16;

impl Session {
    pub(super) async fn run_command(&mut self, request: RunRequest) -> Result<RunOutcome, Failure> {
        let spec = request.spec()?;
        let request_id = request.request_id.unwrap_or_else(pyro_api::new_request_id);
        let timeout_ms = request.timeout_seconds.saturating_mul(1000);
        let wish = |workspace| {
            let (spec, command) = (spec.clone(), request.command.clone());
            Command::Run { workspace, spec, command, timeout_ms }
        };
        // A request that is known goes on, whatever has become of the environment.
        let known = self.is_known(request_id);
        if !known {
            check_not_begun(request.resume)?;
            self.check_early(&wish(draw_id()), request_id).await?;
            self.check_network(&spec)?;
            self.check_space()?;
        }
        self.peer
            .progress(Progress::Run(RunProgress::Create { environment: request.environment.clone() }))
            .await?;
        if !known {
            self.installed(&spec.environment).await?;
        }
        let (workspace, first) =
            run_of(&self.submit_new(request_id, wish).await?, &spec, &request.command, timeout_ms)?;
        // The output files are open before the tether tells that they may go.
        let watched = Watch::new(&self.context, Scope::Vm, workspace, ExecNumber(1), first, request.resume);
        let tether = Tether::attach(&self.context, workspace);
        self.peer.progress(Progress::Run(RunProgress::Start { vm_id: workspace.to_string() })).await?;
        let ended = self.watch(watched).await;
        drop(tether);
        Ok(run_outcome(ended?)?)
    }

    /// Refuses before a long pull what would be refused after it. What stands in the way may be an earlier try of the
    /// request that was just being recorded.
    pub(super) async fn check_early(&self, wish: &Command, request_id: RequestId) -> Result<(), Failure> {
        let Err(rejection) = pyro_core::decide(&self.context.engine.state(), wish) else { return Ok(()) };
        // The engine answers in turn, so whatever it took before this is decided now.
        let _settled = self.context.engine.now().await;
        if self.is_known(request_id) { Ok(()) } else { Err(ApiError::from(rejection).into()) }
    }

    /// Refuses a network that no guest could have which this host can run and the client accepts.
    pub(super) fn check_network(&self, spec: &WorkspaceSpec) -> Result<(), Failure> {
        let obstacle = backend::network_obstacle(&self.context, spec);
        obstacle.map_or(Ok(()), |reason| {
            let message = format!("a guest cannot have a network: {reason}");
            Err(ApiError::new(ErrorCode::Unsupported, message).with_hint("`pyro doctor` tells more").into())
        })
    }

    /// Refuses a guest that would run out of disk while it boots.
    pub(super) fn check_space(&self) -> Result<(), Failure> {
        let root = self.context.home.root();
        let free_mib = match rustix::fs::statvfs(root) {
            Ok(space) => space.f_bavail.saturating_mul(space.f_frsize) / (1024 * 1024),
            Err(error) => {
                let message = format!("failed to ask for the free space of {}: {error}", root.display());
                return Err(ApiError::new(ErrorCode::StorageFailed, message).into());
            }
        };
        if free_mib < FREE_MIB_MIN {
            let message =
                format!("{} has {free_mib} MiB of free space, a guest needs {FREE_MIB_MIN}", root.display());
            let hint = "free some space there, or set PYRO_HOME to another file system";
            return Err(ApiError::new(ErrorCode::StorageFull, message).with_hint(hint).into());
        }
        Ok(())
    }

    /// Submits a command that creates something, under an id that is not taken.
    pub(super) async fn submit_new(
        &self,
        request_id: RequestId,
        command: impl Fn(WorkspaceId) -> Command,
    ) -> Result<Outcome, Failure> {
        let mut taken = 0;
        loop {
            match self.context.engine.submit(command(draw_id()), self.origin(Some(request_id))).await {
                Ok(outcome) => return Ok(outcome),
                Err(Refusal::Rejected(pyro_core::Rejection::WorkspaceExists { .. })) if taken < DRAWS_MAX => {
                    taken += 1;
                }
                Err(refusal) => return Err(error_of(refusal).into()),
            }
        }
    }

    /// Submits a command for a guest and returns where it runs, which may be from an earlier try.
    pub(super) async fn submit_exec(
        &self,
        workspace: WorkspaceId,
        command: String,
        cwd: Option<String>,
        timeout_ms: u64,
        request_id: Option<RequestId>,
    ) -> Result<Requested, Failure> {
        let wish = Command::RequestExec { workspace, command: command.clone(), cwd, timeout_ms };
        let outcome = self.context.engine.submit(wish, self.origin(request_id)).await?;
        let requested = outcome.envelopes().iter().find_map(|envelope| match &envelope.event {
            Event::ExecRequested(event) if event.command == command && event.timeout_ms == timeout_ms => {
                let moment = Moment::of(&outcome, envelope.seq);
                let (workspace, exec) = (event.workspace, event.exec);
                Some(Requested { workspace, exec, first: envelope.seq, moment })
            }
            _ => None,
        });
        requested.ok_or_else(|| reused().into())
    }

    /// Returns the watch over a command in a guest that was there before it.
    pub(super) async fn watch_of(
        &self,
        scope: Scope,
        requested: &Requested,
        resume: Option<Resume>,
    ) -> Result<Watch, Failure> {
        let Requested { workspace, exec, first, moment } = *requested;
        let kind = match scope {
            Scope::Vm => WorkspaceKind::Vm,
            Scope::Exec => WorkspaceKind::Workspace,
        };
        // The output files are opened before anything can wait.
        let mut watch = Watch::new(&self.context, scope, workspace, exec, first, resume);
        watch.see_guest(&*self.look_at(workspace, kind, moment).await?);
        Ok(watch)
    }

    /// Tells whether a request was accepted before.
    pub(super) fn is_known(&self, request_id: RequestId) -> bool {
        self.context.engine.reader().request(request_id).is_ok_and(|envelopes| !envelopes.is_empty())
    }

    pub(super) async fn vm_exec(&mut self, request: VmExecRequest) -> Result<RunOutcome, Failure> {
        let workspace = self.find_for(&request.vm_id, WorkspaceKind::Vm, request.request_id)?;
        if !request.request_id.is_some_and(|id| self.is_known(id)) {
            check_not_begun(request.resume)?;
        }
        let timeout_ms = request.timeout_seconds.saturating_mul(1000);
        let requested = self
            .submit_exec(workspace, request.command, None, timeout_ms, request.request_id)
            .await
            .map_err(of_vm)?;
        let watched = self.watch_of(Scope::Vm, &requested, request.resume).await?;
        Ok(run_outcome(self.watch(watched).await?)?)
    }
}

/// A command that is on record.
#[derive(Clone, Copy, Debug)]
pub(super) struct Requested {
    workspace: WorkspaceId,
    exec: ExecNumber,
    first: Seq,
    moment: Moment,
}

/// Refuses to begin again what the client has seen beginning.
pub(super) fn check_not_begun(resume: Option<Resume>) -> Result<(), Failure> {
    if resume.is_none() {
        return Ok(());
    }
    let message = "the command is lost: the event log does not know it any more";
    let hint = "it may have had effects; was PYRO_HOME replaced while it ran?";
    Err(ApiError::new(ErrorCode::ExecLost, message).with_hint(hint).into())
}

/// Returns the run that an accepted request led to, which may be that of an earlier try.
fn run_of(
    outcome: &Outcome,
    spec: &WorkspaceSpec,
    command: &str,
    timeout_ms: u64,
) -> Result<(WorkspaceId, Seq), Failure> {
    let mut envelopes = outcome.envelopes().iter();
    let created = envelopes.find_map(|envelope| match &envelope.event {
        Event::WorkspaceCreated(event) if asks_for(&event.spec, spec) => {
            Some((event.workspace, envelope.seq))
        }
        _ => None,
    });
    let same = envelopes.any(|envelope| {
        matches!(&envelope.event, Event::ExecRequested(event)
            if event.command == command && event.timeout_ms == timeout_ms)
    });
    created.filter(|_| same).ok_or_else(|| reused().into())
}

pub(super) fn reused() -> ApiError {
    ApiError::new(ErrorCode::RequestIdReused, "the request id was used before, for another request")
        .with_hint("draw a new request id for each new request")
}

/// Returns how a command in a VM ended, or what ended its VM before.
fn run_outcome(mut watch: Watch) -> Result<RunOutcome, ApiError> {
    let reason = match watch.deleted {
        Some(DeleteReason::ClientGone) => {
            return Err(ApiError::new(ErrorCode::Canceled, "canceled; the VM is deleted"));
        }
        Some(DeleteReason::Expired) => {
            let message = "the time to live was over before the command ended; the VM is deleted";
            let hint = "a longer --ttl-seconds gives it more time, 0 sets no end";
            return Err(ApiError::new(ErrorCode::Expired, message).with_hint(hint));
        }
        Some(reason) => reason,
        None => DeleteReason::PostExec,
    };
    let exited = watch.take_exit()?;
    let vm_id = watch.workspace.to_string();
    let (environment, version) = watch.environment.unwrap_or_default();
    Ok(RunOutcome {
        environment,
        environment_version: Some(version),
        command: watch.command,
        exit_code: exited.status.exit_code(),
        signal: signal_of(exited.status).map(signal_name),
        timed_out: exited.status == ExitStatus::TimedOut,
        duration_ms: exited.duration_ms,
        execution_mode: watch.execution_mode.as_str().to_owned(),
        cleanup: Cleanup { vm_id: vm_id.clone(), deleted: true, reason: reason.as_str().to_owned() },
        vm_id,
        stdout_bytes: exited.stdout.len_bytes,
        stderr_bytes: exited.stderr.len_bytes,
    })
}

/// Returns the signal that ended a command. The command is a child of a shell, which tells such an end as 128 and the
/// signal's number.
pub(super) const fn signal_of(status: ExitStatus) -> Option<u8> {
    const SIGNALS_END: u8 = 32;
    match status {
        ExitStatus::Signal(number) => Some(number),
        ExitStatus::Code(code) if code > 128 && code < 128 + SIGNALS_END => Some(code - 128),
        ExitStatus::Code(_) | ExitStatus::TimedOut => None,
    }
}

pub(super) fn draw_id() -> WorkspaceId {
    let [a, b, c, d, e, f, ..] = *uuid::Uuid::new_v4().as_bytes();
    WorkspaceId::from_bytes([a, b, c, d, e, f])
}
