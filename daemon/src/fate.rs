//! What work in a guest learns of the end of the guest, so that its record says more than that a connection broke.

use std::sync::Arc;
use std::time::Duration;

use pyro_core::{Phase, WorkspaceId};
use tokio::sync::watch;

use crate::context::Context;

/// How long whoever watches the guest's process may take to see its end after a connection to it broke.
const PATIENCE: Duration = Duration::from_millis(200);

/// The driver's side: it sees the process of the guest end.
#[derive(Debug, Default)]
pub(crate) struct Witness {
    gone: watch::Sender<Option<Arc<str>>>,
}

impl Witness {
    /// Takes note of a new guest.
    pub(crate) fn begin(&self) {
        self.gone.send_replace(None);
    }

    /// Tells all work what was seen of the guest's end.
    pub(crate) fn tell(&self, seen: &str) {
        self.gone.send_replace(Some(seen.into()));
    }

    /// Returns what a piece of work asks.
    pub(crate) fn fate(&self, context: &Arc<Context>, workspace: WorkspaceId) -> Fate {
        Fate { context: Arc::clone(context), workspace, gone: self.gone.subscribe() }
    }
}

/// The side of a piece of work.
#[derive(Debug)]
pub(crate) struct Fate {
    context: Arc<Context>,
    workspace: WorkspaceId,
    gone: watch::Receiver<Option<Arc<str>>>,
}

impl Fate {
    /// Returns why there is no guest to go on with; `None` when there should be one. It does not return when the daemon
    /// ends: then the connection broke on this side.
    pub(crate) async fn ended(&self) -> Option<String> {
        if self.context.engine.is_closed() {
            return std::future::pending().await;
        }
        match self.context.engine.state().workspace(self.workspace).map(|workspace| &workspace.phase) {
            Some(Phase::Started) => self.witnessed().await,
            Some(Phase::Deleting { .. }) | None => Some("deleted before it ended".to_owned()),
            Some(Phase::Stopping | Phase::Stopped(_)) => Some("stopped before it ended".to_owned()),
            Some(Phase::Created | Phase::Starting) => Some("the guest is gone".to_owned()),
        }
    }

    async fn witnessed(&self) -> Option<String> {
        let mut gone = self.gone.clone();
        let seen = tokio::time::timeout(PATIENCE, gone.wait_for(Option::is_some)).await.ok()?.ok()?;
        seen.as_deref().map(|seen| format!("the guest died: {seen}"))
    }
}
