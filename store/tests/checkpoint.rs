//! Saved folds: they are read back, or everything is replayed.

use pyro_core::{Seq, State, evolve};
use pyro_store::{CheckpointError, Draft, SavedState, saved_state, state_digest};

use crate::sample;

/// Returns a state in which every part holds something.
fn state() -> State {
    let ends = ["workspace_deleting", "workspace_deleted", "shell_failed", "shell_closed", "sync_lost"];
    // Kinds without an effect on the state would only move the position of its end.
    let idle = ["operation_resolved", "request_met"];
    let begins = ["exec_requested", "sync_requested"];
    let kinds = sample::every_kind();
    let kept =
        |kind: &&Vec<Draft>| !ends.iter().chain(&idle).any(|left_out| *left_out == kind[0].event.kind());
    let again = |kind: &&Vec<Draft>| begins.contains(&kind[0].event.kind());
    let drafts: Vec<_> =
        kinds.iter().filter(kept).chain(kinds.iter().filter(again)).flatten().cloned().collect();
    let mut state = State::default();
    for envelope in sample::envelopes(&drafts) {
        evolve(&mut state, &envelope);
    }
    state
}

/// Catches checkpoints that are lost, altered, or not the newest.
#[test]
fn the_latest_one_is_kept() {
    let dir = sample::dir();
    let log = sample::open_small(dir.path());
    let at = |seq| State { seq: Seq(seq), ..state() };
    assert_eq!(log.checkpoints().latest(), None);
    assert!(matches!(log.checkpoints().save(&at(1)), Err(CheckpointError::NoRecord { .. })));
    log.append(sample::drafts(0..700)).unwrap();
    for seq in [5, 699, 300, 700] {
        log.checkpoints().save(&at(seq)).unwrap();
    }
    assert!(log.checkpoints().save(&at(701)).is_err());
    assert_eq!(log.checkpoints().latest_until(Seq(699)), Some(at(699)));
    assert_eq!(log.checkpoints().latest_until(Seq(5)), None, "only two are kept");
    drop(log);
    assert_eq!(sample::open_small(dir.path()).checkpoints().latest(), Some(at(700)));
}

/// Catches a saved state that cannot be read beside the log, or that is read while somebody writes.
#[test]
fn the_latest_one_is_read_without_the_log() {
    let dir = sample::dir();
    let log = sample::open_small(dir.path());
    log.append(sample::drafts(0..7)).unwrap();
    let state = State { seq: Seq(7), ..state() };
    log.checkpoints().save(&state).unwrap();
    assert_eq!(saved_state(dir.path()), None, "the log is open");
    let hash = log.head().hash;
    drop(log);
    // The index lets go of its files a moment after the log, when its own threads have ended.
    let mut tries = (0..10_000).map(|_| {
        std::thread::yield_now();
        saved_state(dir.path())
    });
    let digest = state_digest(&state).unwrap();
    assert_eq!(tries.find_map(|saved| saved), Some(SavedState { seq: Seq(7), hash, digest }));
}

/// Catches a state whose shape changed while its version did not: an old checkpoint would be read as something else.
/// Raise `STATE_VERSION` in `store/src/codec.rs` together with this digest.
#[test]
fn another_shape_has_another_version() {
    let digest = state_digest(&state()).unwrap();
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, "c4488974543eb51301d9e234e4bf3e355f655e929b12ce9d77560814795566ec", "version 3");
}
