//! Checkpoints, so that a start does not replay the whole log.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use pyro_core::{Seq, State};
use pyro_store::Checkpoints;

/// Events between two checkpoints: a replay of so many takes some ten milliseconds.
const DISTANCE: u64 = 20_000;

/// Saves the state from time to time, beside the engine.
#[derive(Debug)]
pub(crate) struct Saver {
    checkpoints: Checkpoints,
    last: Seq,
    saving: Arc<AtomicBool>,
}

impl Saver {
    pub(crate) fn new(checkpoints: Checkpoints) -> Self {
        Self { checkpoints, last: Seq::ZERO, saving: Arc::default() }
    }

    /// Takes a state whose events are durable.
    pub(crate) fn see(&mut self, state: Arc<State>) {
        if state.seq.0 < self.last.0 + DISTANCE || self.saving.swap(true, Ordering::AcqRel) {
            return;
        }
        self.last = state.seq;
        let (checkpoints, saving) = (self.checkpoints.clone(), Arc::clone(&self.saving));
        let save = move || {
            // Without checkpoints a start takes longer, and nothing else is different.
            if let Err(error) = checkpoints.save(&state) {
                tracing::warn!(%error, seq = %state.seq, "failed to save a checkpoint");
            }
            saving.store(false, Ordering::Release);
        };
        if let Err(error) = std::thread::Builder::new().name("checkpoint".into()).spawn(save) {
            tracing::warn!(%error, "failed to start a thread for a checkpoint");
            self.saving.store(false, Ordering::Release);
        }
    }
}
