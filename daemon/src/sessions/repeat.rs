//! Repeated requests: what they were about and how things stood then, also when none of it is there any more.

use std::sync::Arc;

use pyro_api::{ApiError, ErrorCode, LogPoint};
use pyro_core::{Envelope, Event, RequestId, Seq, Workspace, WorkspaceId, WorkspaceKind};

use super::life::{check_reference, gone};
use super::run::reused;
use super::{Failure, Session};
use crate::engine::Outcome;

/// Which state of something answers a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moment {
    /// The present one.
    Now,
    /// The one after this event: the request is an old one, and its answer is what it was then.
    Then(Seq),
}

impl Moment {
    /// Returns the moment for an outcome that was decided by an event.
    pub(super) const fn of(outcome: &Outcome, decided: Seq) -> Self {
        match outcome {
            Outcome::Done(_) => Self::Now,
            Outcome::Repeated(_) => Self::Then(decided),
        }
    }
}

impl Session {
    /// Returns the events of an earlier try of a request; none when there was none.
    pub(super) fn earlier(&self, request_id: Option<RequestId>) -> Result<Vec<Envelope>, Failure> {
        let Some(id) = request_id else { return Ok(Vec::new()) };
        let known = tokio::task::block_in_place(|| self.context.engine.earlier(id));
        Ok(known.map_err(|error| ApiError::new(ErrorCode::LogCorrupt, error))?)
    }

    /// Returns the VM or workspace that is meant by an id, a beginning of one, or a name. A request that is known finds the
    /// one that it was about, also when that is deleted.
    pub(super) fn find_for(
        &self,
        text: &str,
        kind: WorkspaceKind,
        request_id: Option<RequestId>,
    ) -> Result<WorkspaceId, Failure> {
        let known = self.earlier(request_id)?;
        if known.is_empty() {
            return self.find(text, kind);
        }
        check_reference(kind, text)?;
        let about = known.iter().find_map(|envelope| envelope.event.workspace());
        let is_meant = |id: &WorkspaceId| id.to_string().starts_with(text) || self.was_called(*id, text);
        about.filter(is_meant).ok_or_else(|| reused().into())
    }

    /// Tells whether a workspace has had this name.
    fn was_called(&self, workspace: WorkspaceId, name: &str) -> bool {
        let reader = self.context.engine.reader();
        tokio::task::block_in_place(|| {
            reader.read_workspace(workspace, Seq(1)).flatten().any(|envelope| {
                matches!(&envelope.event, Event::WorkspaceLabeled(event) if event.name.as_deref() == Some(name))
            })
        })
    }

    /// Returns a VM or workspace as it was at a moment.
    pub(super) async fn look_at(
        &self,
        id: WorkspaceId,
        kind: WorkspaceKind,
        moment: Moment,
    ) -> Result<Arc<Workspace>, Failure> {
        let state = match moment {
            Moment::Now => self.context.engine.state(),
            Moment::Then(seq) => self.state_at(LogPoint::Seq(seq)).await?,
        };
        Ok(state.workspaces.get(&id).cloned().ok_or_else(|| gone(id, kind))?)
    }
}

/// Returns the position of the first event of an outcome that is what the request leads to. An earlier try that led to
/// something else was another request.
pub(super) fn same(outcome: &Outcome, is_same: impl Fn(&Event) -> bool) -> Result<Seq, Failure> {
    let first = outcome.envelopes().iter().find(|envelope| is_same(&envelope.event));
    first.map(|envelope| envelope.seq).ok_or_else(|| reused().into())
}

/// Tells whether an event says that a wish was so already.
pub(super) fn is_met(event: &Event, wish: &str) -> bool {
    matches!(event, Event::RequestMet(event) if event.wish == wish)
}

/// Returns what to tell of something that was done and whose result is not there any more.
pub(super) fn result_gone(done: impl std::fmt::Display) -> ApiError {
    ApiError::new(ErrorCode::ResultGone, done)
        .with_hint("nothing was done now; `pyro log` has what is on record")
}
