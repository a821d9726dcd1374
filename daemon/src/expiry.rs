//! The end of what has lived its time.

use std::sync::Arc;
use std::time::Duration;

use pyro_core::{Command, Phase, State, Timestamp};

use crate::clock;
use crate::context::Context;

/// Longest sleep: after the wall clock was set, expiry is late by this much at the most.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// Deletes workspaces and VMs when their time to live is over, for as long as the daemon runs.
pub(crate) async fn run(context: Arc<Context>) {
    let mut states = context.engine.states();
    loop {
        reap(&context).await;
        let state = Arc::clone(&states.borrow_and_update());
        let pause = next_expiry(&state).map_or(LOOK_AGAIN, |at| until(at).min(LOOK_AGAIN));
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            changed = states.changed() => if changed.is_err() { return },
        }
    }
}

/// Deletes what is expired now.
async fn reap(context: &Context) {
    let now = context.engine.now().await;
    if next_expiry(&context.engine.state()).is_some_and(|at| at <= now) {
        context.record_quietly(Command::ReapExpired { now }).await;
    }
}

fn next_expiry(state: &State) -> Option<Timestamp> {
    state
        .workspaces
        .values()
        .filter(|workspace| !matches!(workspace.phase, Phase::Deleting { .. }))
        .filter_map(|workspace| workspace.expires_at())
        .min()
}

fn until(at: Timestamp) -> Duration {
    Duration::from_micros(at.0.saturating_sub(clock::now().0))
}
