//! What VMs and workspaces have in common: how they are found, started, stopped and deleted, and what is told of them.

use std::collections::BTreeMap;

use pyro_api::{ApiError, ErrorCode, LogPoint};
use pyro_core::{
    Command, DeleteReason, Event, ExecutionMode, Phase, RequestId, Seq, State, StopReason, Stopped,
    Workspace, WorkspaceId, WorkspaceKind,
};

use super::repeat::{Moment, is_met, same};
use super::{Failure, Session, error_of};
use crate::engine::{Engine, Refusal};

/// Shortest beginning of an id that stands for it.
const PREFIX_LEN_MIN: usize = 4;

impl Session {
    /// Returns the VM or workspace of an id or of an unambiguous beginning of one.
    pub(super) fn find(&self, text: &str, kind: WorkspaceKind) -> Result<WorkspaceId, Failure> {
        match find_in(&self.context.engine.state(), text, kind)? {
            Some(id) => Ok(id),
            None if self.has_expired(text) => Err(expired(text).into()),
            None => Err(ApiError::new(unknown(kind), format!("no {} {text} exists", noun(kind))).into()),
        }
    }

    /// Tells whether a whole id belonged to something whose time to live was over.
    fn has_expired(&self, text: &str) -> bool {
        let Ok(id) = text.parse() else { return false };
        let reader = self.context.engine.reader();
        tokio::task::block_in_place(|| {
            reader.read_workspace(id, Seq(1)).flatten().any(|envelope| {
                matches!(&envelope.event, Event::WorkspaceDeleted(event) if event.reason == DeleteReason::Expired)
            })
        })
    }

    /// Starts and returns when it answered.
    pub(super) async fn start(
        &self,
        workspace: WorkspaceId,
        kind: WorkspaceKind,
        request_id: Option<RequestId>,
    ) -> Result<Moment, Failure> {
        let wish = Command::StartWorkspace { workspace };
        let outcome = self.context.engine.submit(wish, self.origin(request_id)).await?;
        let first = same(&outcome, |event| {
            matches!(event, Event::WorkspaceStarting(_))
                && !outcome.envelopes().iter().any(|other| matches!(other.event, Event::WorkspaceCreated(_)))
        })?;
        let ((), started) = until_at(&self.context.engine, workspace, first, |event| match event {
            Event::WorkspaceStarted(_) => Some(Ok(())),
            Event::WorkspaceStartFailed(event) => {
                Some(Err(ApiError::new(ErrorCode::GuestUnavailable, &event.reason)))
            }
            Event::WorkspaceDeleted(_) => Some(Err(gone(workspace, kind))),
            _ => None,
        })
        .await?;
        Ok(Moment::of(&outcome, started))
    }

    /// Stops and returns when its guest was gone.
    pub(super) async fn stop(
        &self,
        workspace: WorkspaceId,
        kind: WorkspaceKind,
        request_id: Option<RequestId>,
    ) -> Result<Moment, Failure> {
        let wish = Command::StopWorkspace { workspace };
        let outcome = self.context.engine.submit(wish, self.origin(request_id)).await?;
        let is_met = |event: &Event| is_met(event, "stop_workspace");
        let first = same(&outcome, |event| matches!(event, Event::WorkspaceStopping(_)) || is_met(event))?;
        if outcome.envelopes().iter().any(|envelope| is_met(&envelope.event)) {
            // It was stopped, or somebody else's stop was under way: this one ends with that.
            let then = self.state_at(LogPoint::Seq(first)).await?;
            let phase = then.workspace(workspace).map(|workspace| &workspace.phase);
            if phase != Some(&Phase::Stopping) {
                return Ok(Moment::of(&outcome, first));
            }
        }
        let ((), stopped) = until_at(&self.context.engine, workspace, first, |event| match event {
            Event::WorkspaceStopped(_) => Some(Ok(())),
            Event::WorkspaceDeleted(_) => Some(Err(gone(workspace, kind))),
            _ => None,
        })
        .await?;
        Ok(Moment::of(&outcome, stopped))
    }

    /// Deletes and returns the reason, which is another one when somebody else was faster.
    pub(super) async fn delete(
        &self,
        workspace: WorkspaceId,
        request_id: Option<RequestId>,
    ) -> Result<DeleteReason, Failure> {
        let wish = Command::DeleteWorkspace { workspace, reason: DeleteReason::Explicit };
        let outcome = self.context.engine.submit(wish, self.origin(request_id)).await?;
        let first = same(&outcome, |event| match event {
            Event::WorkspaceDeleting(event) => event.reason == DeleteReason::Explicit,
            event => is_met(event, "delete_workspace"),
        })?;
        self.until_deleted(workspace, first).await
    }

    pub(super) async fn until_deleted(
        &self,
        workspace: WorkspaceId,
        first: Seq,
    ) -> Result<DeleteReason, Failure> {
        let deleted = |event: &Event| match event {
            Event::WorkspaceDeleted(event) => Some(Ok(event.reason)),
            _ => None,
        };
        until(&self.context.engine, workspace, first, deleted).await
    }
}

/// Returns the one VM or workspace of a state whose id begins so; `None` when there is none.
pub(super) fn find_in(
    state: &State,
    text: &str,
    kind: WorkspaceKind,
) -> Result<Option<WorkspaceId>, ApiError> {
    let noun = noun(kind);
    check_beginning(noun, text)?;
    let same_kind = state.workspaces.iter().filter(|(_, workspace)| workspace.kind == kind);
    let mut matching = same_kind.filter(|(id, _)| id.to_string().starts_with(text)).map(|(id, _)| *id);
    match (matching.next(), matching.next()) {
        (found, None) => Ok(found),
        (_, Some(_)) => {
            let message = format!("more than one {noun} id begins with {text}");
            Err(ApiError::new(ErrorCode::AmbiguousId, message))
        }
    }
}

/// Refuses what is neither an id nor a beginning of one that is long enough.
pub(super) fn check_beginning(noun: &str, text: &str) -> Result<(), ApiError> {
    let hexadecimal = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if hexadecimal && (PREFIX_LEN_MIN..=WorkspaceId::TEXT_LEN).contains(&text.len()) {
        return Ok(());
    }
    let message =
        format!("a {noun} id is 12 lower-case hexadecimal characters, or the first 4 or more of them");
    Err(ApiError::new(ErrorCode::InvalidArgument, message))
}

/// Waits for an event of a workspace that decides a request.
pub(super) async fn until<T>(
    engine: &Engine,
    workspace: WorkspaceId,
    first: Seq,
    decide: impl Fn(&Event) -> Option<Result<T, ApiError>>,
) -> Result<T, Failure> {
    until_at(engine, workspace, first, decide).await.map(|(decided, _)| decided)
}

/// Waits for an event of a workspace that decides a request, and returns its position as well.
pub(super) async fn until_at<T>(
    engine: &Engine,
    workspace: WorkspaceId,
    first: Seq,
    decide: impl Fn(&Event) -> Option<Result<T, ApiError>>,
) -> Result<(T, Seq), Failure> {
    let mut follower = engine.follow(first);
    loop {
        let envelope = follower.next().await.map_err(|error| ApiError::new(ErrorCode::LogCorrupt, error))?;
        let Some(envelope) = envelope else { return Err(error_of(Refusal::Stopping).into()) };
        if envelope.event.workspace() == Some(workspace)
            && let Some(decided) = decide(&envelope.event)
        {
            return Ok((decided?, envelope.seq));
        }
    }
}

pub(super) const fn noun(kind: WorkspaceKind) -> &'static str {
    match kind {
        WorkspaceKind::Vm => "VM",
        WorkspaceKind::Workspace => "workspace",
    }
}

const fn unknown(kind: WorkspaceKind) -> ErrorCode {
    match kind {
        WorkspaceKind::Vm => ErrorCode::UnknownVm,
        WorkspaceKind::Workspace => ErrorCode::UnknownWorkspace,
    }
}

pub(super) fn expired(id: impl std::fmt::Display) -> ApiError {
    ApiError::new(ErrorCode::Expired, format!("the time to live of {id} was over; it was deleted"))
        .with_hint("a longer --ttl-seconds gives the next one more time, 0 sets no end")
}

pub(super) fn gone(workspace: WorkspaceId, kind: WorkspaceKind) -> ApiError {
    ApiError::new(unknown(kind), format!("{workspace} was deleted"))
}

/// Returns how commands get into the guest, or got into the last one.
pub(super) fn execution_mode(workspace: &Workspace) -> ExecutionMode {
    match (&workspace.phase, &workspace.guest) {
        (Phase::Created | Phase::Starting, _) | (_, None) => ExecutionMode::Pending,
        (_, Some(guest)) => guest.backend.execution_mode(),
    }
}

pub(super) fn metadata(workspace: &Workspace) -> BTreeMap<String, String> {
    let mut metadata = BTreeMap::from([
        ("allow_host_compat".to_owned(), workspace.spec.allow_host_compat.to_string()),
        ("environment_version".to_owned(), workspace.spec.environment_version.clone()),
        ("network_enabled".to_owned(), workspace.spec.network.to_string()),
    ]);
    if let Some(guest) = &workspace.guest {
        metadata.insert("backend".to_owned(), guest.backend.as_str().to_owned());
        metadata.insert("accelerator".to_owned(), guest.accelerator.as_str().to_owned());
        metadata.insert("boot_ms".to_owned(), guest.boot_ms.to_string());
    }
    match &workspace.phase {
        Phase::Stopped(Stopped::BootFailed(reason)) => {
            metadata.insert("boot_failure".to_owned(), reason.clone());
        }
        Phase::Stopped(Stopped::Guest(reason)) => {
            let reason = match reason {
                StopReason::Requested => "requested".to_owned(),
                StopReason::GuestDied(seen) => format!("the guest died: {seen}"),
            };
            metadata.insert("stop_reason".to_owned(), reason);
        }
        Phase::Created | Phase::Starting | Phase::Started | Phase::Stopping | Phase::Deleting { .. } => {}
    }
    metadata
}
