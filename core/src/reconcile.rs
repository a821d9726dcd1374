//! What a new daemon must do about work that an earlier one left open.

use alloc::vec::Vec;

use crate::action::Action;
use crate::state::{Phase, State};

/// Returns one action for each workspace with open work. Nothing that an earlier daemon may have done is done again:
/// a guest is adopted or found dead, an exec is asked about and never re-sent.
#[must_use]
pub fn reconcile(state: &State) -> Vec<Action> {
    state
        .workspaces
        .iter()
        .filter_map(|(id, workspace)| match workspace.phase {
            Phase::Created | Phase::Stopped(_) => None,
            Phase::Starting => Some(Action::AbandonBoot { workspace: *id }),
            Phase::Started => Some(Action::Adopt { workspace: *id }),
            Phase::Stopping => Some(Action::Stop { workspace: *id }),
            Phase::Deleting { .. } => Some(Action::Delete { workspace: *id }),
        })
        .collect()
}
