//! What VMs and workspaces have in common: how they are found, started, stopped and deleted, and what is told of them.

use std::collections::{BTreeMap, BTreeSet};

use pyro_api::{ApiError, ErrorCode, LogPoint};
use pyro_core::{
    Command, DeleteReason, Event, ExecutionMode, Phase, RequestId, Seq, State, StopReason, Stopped, Tags,
    Workspace, WorkspaceId, WorkspaceKind,
};

use super::repeat::{Moment, is_met, same};
use super::{Failure, Session, error_of};
use crate::engine::{Engine, Refusal};

/// Shortest beginning of an id that stands for it.
const PREFIX_LEN_MIN: usize = 4;

/// How many an error names to somebody who meant one that does not exist.
const NAMED_MAX: usize = 8;

impl Session {
    /// Returns the VM or workspace that is meant by an id, an unambiguous beginning of one, or a name.
    pub(super) fn find(&self, text: &str, kind: WorkspaceKind) -> Result<WorkspaceId, Failure> {
        match find_in(&self.context.engine.state(), text, kind)? {
            Some(id) => Ok(id),
            None if self.has_expired(text) => Err(expired(text).into()),
            None => {
                let error = ApiError::new(unknown(kind), format!("no {} {text} exists", noun(kind)));
                Err(error.with_hint(existing(&self.context.engine.state(), kind)).into())
            }
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

/// Returns the one VM or workspace of a state whose id begins so or that is called so; `None` when there is none.
///
/// A whole id is never taken for a name, so that nobody can hide a workspace behind another one's name.
pub(super) fn find_in(
    state: &State,
    text: &str,
    kind: WorkspaceKind,
) -> Result<Option<WorkspaceId>, ApiError> {
    if let Ok(id) = text.parse::<WorkspaceId>() {
        return Ok(state.workspace(id).filter(|workspace| workspace.kind == kind).map(|_| id));
    }
    check_reference(kind, text)?;
    let same_kind =
        state.workspaces.iter().filter(|(_, workspace)| workspace.kind == kind).map(|(id, _)| *id);
    let begins = |id: &WorkspaceId| text.len() >= PREFIX_LEN_MIN && id.to_string().starts_with(text);
    let mut found: BTreeSet<_> = same_kind.filter(begins).collect();
    found.extend(called(state, text).filter(|_| kind == WorkspaceKind::Workspace));
    if found.len() > 1 { Err(ambiguous(kind, text)) } else { Ok(found.pop_first()) }
}

/// Returns the workspace that has this name; `None` when there is none.
pub(super) fn called(state: &State, name: &str) -> Option<WorkspaceId> {
    let mut workspaces = state.workspaces.iter();
    workspaces.find(|(_, workspace)| workspace.name.as_deref() == Some(name)).map(|(id, _)| *id)
}

pub(super) fn ambiguous(kind: WorkspaceKind, text: &str) -> ApiError {
    ApiError::new(ErrorCode::AmbiguousId, format_args!("{text} means more than one {}", noun(kind)))
        .with_hint("a whole id never does")
}

/// Refuses what can mean no VM or workspace: it is no beginning of an id, and no name where there are names.
pub(super) fn check_reference(kind: WorkspaceKind, text: &str) -> Result<(), ApiError> {
    match kind {
        WorkspaceKind::Vm => check_beginning(noun(kind), text),
        WorkspaceKind::Workspace if Tags::is_name(text) => Ok(()),
        WorkspaceKind::Workspace => {
            let message =
                "a workspace is meant by its id, by the first 4 or more characters of it, or by its name";
            Err(ApiError::new(ErrorCode::InvalidArgument, message))
        }
    }
}

/// Says which ones there are.
fn existing(state: &State, kind: WorkspaceKind) -> String {
    let same_kind = state.workspaces.iter().filter(|(_, workspace)| workspace.kind == kind);
    let mut known = same_kind.map(|(id, workspace)| match &workspace.name {
        Some(name) => format!("{id} ({name})"),
        None => id.to_string(),
    });
    let named = known.by_ref().take(NAMED_MAX).collect::<Vec<_>>().join(", ");
    match known.count() {
        0 if named.is_empty() => format!("there is no {} at all", noun(kind)),
        0 => format!("existing: {named}"),
        more => format!("existing: {named} and {more} more"),
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
