//! VMs that go when their client goes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pyro_core::{Command, DeleteReason, Lifetime, Phase, State, WorkspaceId};

use tokio::sync::Notify;

use crate::context::Context;

/// How long the client of a `run` may take to come back after the daemon was restarted. It reconnects at once when it
/// still lives; the limit is for a host under load.
const RETURN_DEADLINE: Duration = Duration::from_secs(10);

/// Counts the clients that hold on to each VM.
#[derive(Debug, Default)]
pub(crate) struct Tethers {
    clients: Mutex<HashMap<WorkspaceId, usize>>,
    attached: Notify,
}

/// A client's hold on a VM; dropping it lets go.
#[derive(Debug)]
pub(crate) struct Tether {
    context: Arc<Context>,
    workspace: WorkspaceId,
}

impl Tether {
    pub(crate) fn attach(context: &Arc<Context>, workspace: WorkspaceId) -> Self {
        let mut clients = context.tethers.clients.lock().unwrap_or_else(PoisonError::into_inner);
        *clients.entry(workspace).or_default() += 1;
        drop(clients);
        context.tethers.attached.notify_waiters();
        Self { context: Arc::clone(context), workspace }
    }
}

impl Drop for Tether {
    fn drop(&mut self) {
        let mut clients = self.context.tethers.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = clients.get_mut(&self.workspace) {
            *count -= 1;
            if *count == 0 {
                clients.remove(&self.workspace);
                drop(clients);
                release(&self.context, self.workspace);
            }
        }
    }
}

impl Tethers {
    /// Returns when a client holds on to a VM, or has had its time to come back.
    pub(crate) async fn held_or_late(&self, workspace: WorkspaceId) {
        let held = async {
            loop {
                let attached = self.attached.notified();
                if self.is_held(workspace) {
                    return;
                }
                attached.await;
            }
        };
        // A client that is late is gone.
        let _late = tokio::time::timeout(RETURN_DEADLINE, held).await;
    }

    fn is_held(&self, workspace: WorkspaceId) -> bool {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&workspace)
    }
}

/// Deletes a VM whose last client is gone; one that has ended by itself is not there any more.
fn release(context: &Arc<Context>, workspace: WorkspaceId) {
    let context = Arc::clone(context);
    if context.engine.state().workspace(workspace).is_none() {
        return;
    }
    tokio::spawn(async move {
        context.record_fact(Command::DeleteWorkspace { workspace, reason: DeleteReason::ClientGone }).await;
    });
}

/// Gives the clients of VMs that an earlier daemon left some time to come back.
pub(crate) fn await_clients(context: &Arc<Context>, state: &State) {
    for (id, workspace) in &state.workspaces {
        if workspace.lifetime == Lifetime::Client && !matches!(workspace.phase, Phase::Deleting { .. }) {
            let (context, id) = (Arc::clone(context), *id);
            tokio::spawn(async move {
                tokio::time::sleep(RETURN_DEADLINE).await;
                if !context.tethers.is_held(id) {
                    release(&context, id);
                }
            });
        }
    }
}
