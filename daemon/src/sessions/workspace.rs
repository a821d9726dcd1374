//! The `workspace_*` operations.

use std::sync::Arc;

use pyro_api::{
    ApiError, ErrorCode, ExecOutcome, LastCommand, SyncPhase, WorkspaceCreateRequest, WorkspaceDeleteRequest,
    WorkspaceDeleteResult, WorkspaceExecRequest, WorkspaceList, WorkspaceListRequest, WorkspaceObject,
    WorkspaceSeed, WorkspaceStartRequest, WorkspaceStatusRequest, WorkspaceStopRequest, signal_name,
};
use pyro_core::{
    Command, DeleteReason, EndedExec, Event, ExecutionMode, ExitStatus, Seed, Seq, SyncNumber, SyncPurpose,
    Tags, WORKSPACE_PATH, Workspace, WorkspaceId, WorkspaceKind,
};
use pyro_runtime::import::Totals;

use super::life::{self, execution_mode, gone, metadata, until_at};
use super::repeat::Moment;
use super::run::{check_not_begun, reused, signal_of};
use super::spec::{AsksForGuest as _, asks_for};
use super::sync::{Leave, absolute, detected, reports, sync_end};
use super::watch::{Scope, Watch};
use super::{Failure, Session};
use crate::clock;
use crate::context::Context;
use crate::engine::Outcome;
use crate::openings::{Abandoned, Claim};

const KIND: WorkspaceKind = WorkspaceKind::Workspace;

/// The number of the sync that a workspace begins with.
const SEED: SyncNumber = SyncNumber(1);

impl Session {
    pub(super) async fn workspace_create(
        &mut self,
        request: WorkspaceCreateRequest,
    ) -> Result<WorkspaceObject, Failure> {
        let spec = request.spec()?;
        let request_id = request.request_id.unwrap_or_else(pyro_api::new_request_id);
        let tags = Tags { name: request.name, labels: request.labels };
        let wish = |workspace, seed| {
            let (spec, tags) = (spec.clone(), tags.clone());
            Command::OpenWorkspace { workspace, spec, tags, seed }
        };
        let mut seed = None;
        // A request that is known goes on, whatever has become of environment and seed.
        if !self.is_known(request_id) {
            self.check_early(&wish(super::run::draw_id(), None), request_id).await?;
            self.check_network(&spec)?;
            self.check_space()?;
            if let Some(path) = request.seed_path {
                seed = Some(self.checked(detected(&absolute(&path)?).await?).await?);
            }
            self.installed(&spec.environment).await?;
        }
        let (seed, totals) = seed.map(|seed| (seed.source, seed.totals)).unzip();
        let outcome = self.submit_new(request_id, |workspace| wish(workspace, seed.clone())).await?;
        let opened = outcome.envelopes().iter().find_map(|envelope| match &envelope.event {
            Event::WorkspaceCreated(event) if event.kind == KIND && asks_for(&event.spec, &spec) => {
                Some((event.workspace, envelope.seq))
            }
            _ => None,
        });
        let (workspace, first) = opened.ok_or_else(reused)?;
        let seeded = outcome.envelopes().iter().any(|envelope| {
            matches!(&envelope.event, Event::SyncRequested(event) if event.purpose == SyncPurpose::Seed)
        });
        let claim = match outcome {
            Outcome::Done(_) => Claim::Creates,
            Outcome::Repeated(_) => Claim::Repeats,
        };
        let complete = self.opened(Opening { workspace, first, claim, seeded, totals }).await?;
        self.workspace_object(workspace, Moment::of(&outcome, complete)).await
    }

    /// Waits for the first boot and the seed, and returns when both were there. A client that goes meanwhile never learns
    /// the id: its workspace goes as well, unless it has come back for the answer.
    async fn opened(&mut self, opening: Opening) -> Result<Seq, Failure> {
        let Opening { workspace, first, claim, seeded, totals } = opening;
        let context = Arc::clone(&self.context);
        let wait = context.openings.join(workspace, claim);
        let Some(wait) = wait.filter(|_| claim == Claim::Creates || !self.is_abandoned(workspace, first))
        else {
            self.until_deleted(workspace, first).await?;
            return Err(gone(workspace, KIND).into());
        };
        let opened = until_at(&context.engine, workspace, first, |event| opening_end(event, seeded));
        let mut opened = Box::pin(opened);
        let live = context.syncs.of(workspace, SEED);
        let mut reports = reports();
        let (end, seq) = loop {
            tokio::select! {
                biased;
                opened = &mut opened => break opened?,
                leave = self.leave() => return Err(self.left(wait.leave(), leave, workspace, first).await),
                _ = reports.tick(), if seeded => {
                    let sent = *live.borrow();
                    if sent.entries > 0 {
                        self.report(SyncPhase::Send, sent, totals).await?;
                    }
                }
            }
        };
        let Err(failure) = end else { return Ok(seq) };
        match self.until_deleted(workspace, first).await? {
            DeleteReason::RunError => Err(failure.into()),
            DeleteReason::Expired => Err(life::expired(workspace).into()),
            DeleteReason::Explicit | DeleteReason::PostExec | DeleteReason::ClientGone => {
                Err(gone(workspace, KIND).into())
            }
        }
    }

    /// Gives up a workspace that nobody waits for any more, and returns what its last client is told.
    async fn left(
        &self,
        abandoned: Option<Abandoned<'_>>,
        leave: Leave,
        workspace: WorkspaceId,
        first: Seq,
    ) -> Failure {
        let is_given_up = abandoned.is_some();
        if is_given_up {
            let wish = Command::DeleteWorkspace { workspace, reason: DeleteReason::ClientGone };
            self.context.record_quietly(wish).await;
        }
        drop(abandoned);
        match leave {
            Leave::Gone(error) => Failure::Gone(error),
            Leave::Canceled if is_given_up => match self.until_deleted(workspace, first).await {
                Ok(_) => ApiError::new(ErrorCode::Canceled, "canceled; the workspace is deleted").into(),
                Err(failure) => failure,
            },
            Leave::Canceled => {
                let message = "canceled; the workspace stays, for the request was sent twice";
                ApiError::new(ErrorCode::Canceled, message).into()
            }
        }
    }

    /// Tells whether a workspace was given up because its client was gone.
    fn is_abandoned(&self, workspace: WorkspaceId, first: Seq) -> bool {
        let reader = self.context.engine.reader();
        tokio::task::block_in_place(|| {
            reader.read_workspace(workspace, first).flatten().any(|envelope| {
                matches!(&envelope.event, Event::WorkspaceDeleting(event) if event.reason == DeleteReason::ClientGone)
            })
        })
    }

    pub(super) async fn workspace_list(
        &self,
        request: WorkspaceListRequest,
    ) -> Result<WorkspaceList, Failure> {
        let state = match request.at {
            Some(point) => self.state_at(point).await?,
            None => self.context.engine.state(),
        };
        let mut own: Vec<_> =
            state.workspaces.iter().filter(|(_, workspace)| workspace.kind == KIND).collect();
        own.sort_by_key(|(id, workspace)| (workspace.created_at, **id));
        let workspaces: Vec<_> =
            own.into_iter().map(|(id, workspace)| object(&self.context, *id, workspace)).collect();
        Ok(WorkspaceList { count: workspaces.len() as u64, workspaces })
    }

    pub(super) async fn workspace_status(
        &self,
        request: &WorkspaceStatusRequest,
    ) -> Result<WorkspaceObject, Failure> {
        let Some(point) = request.at else {
            return self.workspace_object(self.find(&request.workspace_id, KIND)?, Moment::Now).await;
        };
        let state = self.state_at(point).await?;
        let id = life::find_in(&state, &request.workspace_id, KIND)?;
        let id = id.ok_or_else(|| {
            let message = format_args!("no workspace {} existed then", request.workspace_id);
            ApiError::new(ErrorCode::UnknownWorkspace, message)
        })?;
        let workspace = state.workspace(id).ok_or_else(|| gone(id, KIND))?;
        Ok(object(&self.context, id, workspace))
    }

    pub(super) async fn workspace_exec(
        &mut self,
        request: WorkspaceExecRequest,
    ) -> Result<ExecOutcome, Failure> {
        let workspace = self.find_for(&request.workspace_id, KIND, request.request_id)?;
        if !request.request_id.is_some_and(|id| self.is_known(id)) {
            check_not_begun(request.resume)?;
        }
        let timeout_ms = request.timeout_seconds.saturating_mul(1000);
        let cwd = Some(WORKSPACE_PATH.to_owned());
        let requested =
            self.submit_exec(workspace, request.command, cwd, timeout_ms, request.request_id).await;
        let requested = requested.map_err(|failure| match failure {
            Failure::Told(error) if error.code == ErrorCode::InvalidState => {
                let hint = "`pyro workspace start` boots one that is stopped; its files are as they were";
                Failure::Told(error.with_hint(hint))
            }
            failure => failure,
        })?;
        let watched = self.watch_of(Scope::Exec, &requested, request.resume).await?;
        Ok(exec_outcome(self.watch(watched).await?)?)
    }

    pub(super) async fn workspace_start(
        &mut self,
        request: WorkspaceStartRequest,
    ) -> Result<WorkspaceObject, Failure> {
        let workspace = self.find_for(&request.workspace_id, KIND, request.request_id)?;
        let state = self.context.engine.state();
        if let Some(known) = state.workspace(workspace)
            && !request.request_id.is_some_and(|id| self.is_known(id))
        {
            self.installed(&known.spec.environment).await?;
        }
        let started = self.start(workspace, KIND, request.request_id).await?;
        self.workspace_object(workspace, started).await
    }

    pub(super) async fn workspace_stop(
        &self,
        request: WorkspaceStopRequest,
    ) -> Result<WorkspaceObject, Failure> {
        let workspace = self.find_for(&request.workspace_id, KIND, request.request_id)?;
        let stopped = self.stop(workspace, KIND, request.request_id).await?;
        self.workspace_object(workspace, stopped).await
    }

    pub(super) async fn workspace_delete(
        &self,
        request: WorkspaceDeleteRequest,
    ) -> Result<WorkspaceDeleteResult, Failure> {
        let workspace = self.find_for(&request.workspace_id, KIND, request.request_id)?;
        let reason = self.delete(workspace, request.request_id).await?.as_str().to_owned();
        Ok(WorkspaceDeleteResult { workspace_id: workspace.to_string(), deleted: true, reason })
    }

    async fn workspace_object(&self, id: WorkspaceId, moment: Moment) -> Result<WorkspaceObject, Failure> {
        Ok(object(&self.context, id, &*self.look_at(id, KIND, moment).await?))
    }
}

/// Returns what is told of a workspace.
pub(super) fn object(context: &Context, id: WorkspaceId, workspace: &Workspace) -> WorkspaceObject {
    let spec = &workspace.spec;
    let mut metadata = metadata(workspace);
    metadata.insert("workspace_path".to_owned(), WORKSPACE_PATH.to_owned());
    let host_dir = context.workspace_dir(id).display().to_string();
    metadata.insert("workspace_host_dir".to_owned(), host_dir);
    WorkspaceObject {
        workspace_id: id.to_string(),
        environment: spec.environment.to_string(),
        environment_version: Some(spec.environment_version.clone()),
        vcpu_count: spec.vcpu_count,
        mem_mib: spec.mem_mib,
        ttl_seconds: spec.ttl_seconds,
        created_at: clock::epoch_seconds(workspace.created_at),
        expires_at: workspace.expires_at().map(clock::epoch_seconds),
        state: workspace.phase.as_str().to_owned(),
        network_enabled: spec.network,
        allow_host_compat: spec.allow_host_compat,
        guest_ip: None,
        tap_name: None,
        execution_mode: execution_mode(workspace).as_str().to_owned(),
        workspace_path: WORKSPACE_PATH.to_owned(),
        workspace_seed: workspace_seed(workspace.seed.as_ref()),
        command_count: workspace.exec_count,
        last_command: workspace.last_exec.as_ref().map(last_command),
        metadata,
        name: workspace.name.clone(),
        labels: workspace.labels.clone(),
    }
}

/// A workspace on its way to its client.
struct Opening {
    workspace: WorkspaceId,
    first: Seq,
    claim: Claim,
    seeded: bool,
    /// What its seed holds; `None` without one, or when an earlier try found it out.
    totals: Option<Totals>,
}

/// Returns whether a workspace is complete or will never be, if the event tells it.
fn opening_end(event: &Event, seeded: bool) -> Option<Result<Result<(), ApiError>, ApiError>> {
    match event {
        Event::WorkspaceStarted(_) if !seeded => Some(Ok(Ok(()))),
        Event::WorkspaceStartFailed(event) => {
            Some(Ok(Err(ApiError::new(ErrorCode::GuestUnavailable, &event.reason))))
        }
        event => match sync_end(event, SEED)? {
            Ok(_) => Some(Ok(Ok(()))),
            Err(error) => Some(Ok(Err(error))),
        },
    }
}

fn workspace_seed(seed: Option<&Seed>) -> WorkspaceSeed {
    WorkspaceSeed {
        mode: seed.map_or("empty", |seed| seed.source.kind.as_str()).to_owned(),
        seed_path: seed.map(|seed| seed.source.path.clone()),
        destination: WORKSPACE_PATH.to_owned(),
        entry_count: seed.map_or(0, |seed| seed.entry_count),
        bytes_written: seed.map_or(0, |seed| seed.bytes_written),
    }
}

fn last_command(exec: &EndedExec) -> LastCommand {
    let mode = exec.backend.map_or(ExecutionMode::Pending, |backend| backend.execution_mode());
    LastCommand {
        sequence: exec.number.0,
        command: exec.command.clone(),
        cwd: exec.cwd.clone().unwrap_or_else(|| WORKSPACE_PATH.to_owned()),
        exit_code: exec.status.exit_code(),
        duration_ms: exec.duration_ms,
        execution_mode: mode.as_str().to_owned(),
    }
}

/// Returns how a command in a workspace ended.
fn exec_outcome(mut watch: Watch) -> Result<ExecOutcome, ApiError> {
    if watch.deleting == Some(DeleteReason::Expired) {
        return Err(life::expired(watch.workspace));
    }
    let exited = watch.take_exit()?;
    let (environment, version) = watch.environment.unwrap_or_default();
    Ok(ExecOutcome {
        workspace_id: watch.workspace.to_string(),
        environment,
        environment_version: Some(version),
        command: watch.command,
        sequence: watch.exec.0,
        cwd: WORKSPACE_PATH.to_owned(),
        exit_code: exited.status.exit_code(),
        signal: signal_of(exited.status).map(signal_name),
        timed_out: exited.status == ExitStatus::TimedOut,
        duration_ms: exited.duration_ms,
        execution_mode: watch.execution_mode.as_str().to_owned(),
        stdout_bytes: exited.stdout.len_bytes,
        stderr_bytes: exited.stderr.len_bytes,
    })
}
