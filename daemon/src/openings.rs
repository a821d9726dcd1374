//! Who waits for a workspace that is being created.
//!
//! Its id is in the answer, so a workspace whose client is gone before is of no use to anybody, and is given up. But the
//! client may have come back meanwhile, on another connection with the same request id: then that one gets the answer.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use pyro_core::WorkspaceId;

/// The openings that are under way.
#[derive(Debug, Default)]
pub(crate) struct Openings {
    waiting: Mutex<HashMap<WorkspaceId, Waiting>>,
}

#[derive(Debug, Default)]
struct Waiting {
    clients: usize,
    /// Whether the last one who leaves gives the workspace up: after a restart of the daemon nobody does.
    is_ours: bool,
    given_up: bool,
}

/// How a client came to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// Its request created the workspace.
    Creates,
    /// It repeats a request.
    Repeats,
}

/// A client that waits; one that is dropped has seen the end.
#[derive(Debug)]
pub(crate) struct Wait<'a> {
    openings: &'a Openings,
    workspace: WorkspaceId,
}

/// A workspace that nobody waits for any more. Nobody can join until it is dropped, which is right as soon as the deletion
/// is in the log: whoever comes then finds it there.
#[derive(Debug)]
pub(crate) struct Abandoned<'a> {
    openings: &'a Openings,
    workspace: WorkspaceId,
}

impl Openings {
    /// Adds a client; `None` when the workspace is being given up, and there is nothing to wait for but its end.
    pub(crate) fn join(&self, workspace: WorkspaceId, claim: Claim) -> Option<Wait<'_>> {
        let mut all = self.lock();
        let waiting = all.entry(workspace).or_default();
        if waiting.given_up {
            return None;
        }
        waiting.clients += 1;
        waiting.is_ours |= claim == Claim::Creates;
        Some(Wait { openings: self, workspace })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<WorkspaceId, Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<'a> Wait<'a> {
    /// Takes a client away that is gone. If it was the last one, the caller gives the workspace up.
    pub(crate) fn leave(self) -> Option<Abandoned<'a>> {
        let (openings, workspace) = (self.openings, self.workspace);
        let mut all = openings.lock();
        let waiting = all.get_mut(&workspace)?;
        waiting.given_up = waiting.clients == 1 && waiting.is_ours;
        waiting.given_up.then(|| Abandoned { openings, workspace })
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        let mut all = self.openings.lock();
        let Some(waiting) = all.get_mut(&self.workspace) else { return };
        waiting.clients -= 1;
        if waiting.clients == 0 && !waiting.given_up {
            all.remove(&self.workspace);
        }
    }
}

impl Drop for Abandoned<'_> {
    fn drop(&mut self) {
        self.openings.lock().remove(&self.workspace);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: WorkspaceId = WorkspaceId::from_bytes([1; 6]);

    /// Catches a client that is told of a workspace which goes with the connection it lost before.
    #[test]
    fn client_that_came_back_keeps_the_workspace() {
        let openings = Openings::default();
        let first = openings.join(ID, Claim::Creates).unwrap();
        let again = openings.join(ID, Claim::Repeats).unwrap();
        assert!(first.leave().is_none());
        assert!(again.leave().is_some(), "it has taken the place of the first");
        assert!(openings.lock().is_empty());
    }

    /// Catches a client that waits for the start of a workspace that is about to be deleted.
    #[test]
    fn client_that_comes_too_late_is_told() {
        let openings = Openings::default();
        let abandoned = openings.join(ID, Claim::Creates).unwrap().leave().unwrap();
        assert!(openings.join(ID, Claim::Repeats).is_none(), "the deletion is not in the log yet");
        drop(abandoned);
        assert!(openings.join(ID, Claim::Repeats).is_some());
    }

    /// Catches a workspace that is given up by somebody who only repeated the request of an earlier daemon's client.
    #[test]
    fn who_repeats_takes_nothing_along() {
        let openings = Openings::default();
        let wait = openings.join(ID, Claim::Repeats).unwrap();
        assert!(wait.leave().is_none());
        assert!(openings.lock().is_empty());
    }
}
