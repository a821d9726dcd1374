//! How much output is kept: `[retention]` in the configuration.
//!
//! ```text
//! a stream grows over its bound --> event --> its middle is dropped, in steps
//! a workspace grows over its own --> event --> its oldest ended streams are dropped, then the middles of those that grow
//! ```
//!
//! The event is durable before a byte goes. Watchers learn of a gap before the bytes go, so that nobody takes a hole for
//! output. A daemon that died in between is followed by one that drops again.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ops::Range;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use pyro_core::{Command, DropPolicy, Gaps, OutputDropped, Phase, State, StreamId, Workspace, WorkspaceId};
use pyro_store::outputs::{OutputError, Outputs, StoredStream};

use crate::config::RetentionConfig;
use crate::context::Context;
use crate::engine::Refusal;

/// Most bytes that are kept of the beginning of a stream: it says what was run and what went wrong first.
const HEAD_LEN_MAX: u64 = 1 << 20;

/// Unit of what is dropped, in bytes: blocks of a file system.
const BLOCK_LEN: u64 = 4096;

/// Part of a bound that is dropped at once, so that there are few events.
const STEPS: u64 = 8;

/// A stream that grows keeps so much whatever its workspace holds, in bytes: room for its beginning, for a step, and for
/// what is on its way to its client.
const GROWING_LEN_MIN: u64 = 1 << 20;

/// How long not to look for streams that can go after there were too few: a look takes as long as there are streams.
const LOOK_DISTANCE: Duration = Duration::from_secs(1);

/// Bounds on stored output, and what is there of each workspace that writes.
#[derive(Debug)]
pub(crate) struct Retention {
    stream_max: Option<u64>,
    workspace_max: Option<u64>,
    able: OnceLock<bool>,
    usage: Mutex<HashMap<WorkspaceId, Usage>>,
}

/// What the streams of a workspace take.
#[derive(Clone, Copy, Debug)]
struct Usage {
    space_bytes: u64,
    /// When somebody looked for streams that can go and found too few; `None` before the first time.
    failed_at: Option<Instant>,
}

/// A part that is to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Due {
    pub(crate) part: Range<u64>,
    /// By how much the bound is exceeded, in bytes.
    pub(crate) surplus: u64,
    pub(crate) policy: DropPolicy,
}

/// What became of a part that should go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dropping {
    /// It is gone.
    Done,
    /// There is no need any more: it is gone already, or everything is about to go.
    Needless,
    /// It could not be recorded, so it stays.
    Failed,
}

impl Retention {
    pub(crate) fn new(config: &RetentionConfig) -> Self {
        Self::with_bounds(config.stream_bytes(), config.workspace_bytes())
    }

    fn with_bounds(stream_max: Option<u64>, workspace_max: Option<u64>) -> Self {
        Self { stream_max, workspace_max, able: OnceLock::new(), usage: Mutex::default() }
    }

    /// Begins to count what a workspace has, before more is written.
    pub(crate) fn begin(&self, context: &Context, workspace: WorkspaceId) -> Result<(), OutputError> {
        let mut usage = self.usage.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Vacant(vacant) = usage.entry(workspace) {
            let state = context.engine.state();
            let streams = context.outputs.streams(workspace)?;
            let space = streams.iter().map(|known| {
                let len = known.len_bytes;
                space_of(len - gaps_in(&state, workspace, known.stream).dropped_in(0..len))
            });
            vacant.insert(Usage { space_bytes: space.sum(), failed_at: None });
        }
        Ok(())
    }

    /// Takes note that a stream takes another amount of space than before.
    pub(crate) fn count(&self, workspace: WorkspaceId, before: u64, now: u64) {
        let mut usage = self.usage.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(usage) = usage.get_mut(&workspace) {
            usage.space_bytes = (usage.space_bytes + now).saturating_sub(before);
        }
    }

    /// Forgets a workspace whose output is removed.
    pub(crate) fn forget(&self, workspace: WorkspaceId) {
        self.usage.lock().unwrap_or_else(PoisonError::into_inner).remove(&workspace);
    }

    /// Returns by how much a workspace exceeds its bound, in bytes, and the bound; `None` when it does not.
    fn excess(&self, workspace: WorkspaceId) -> Option<(u64, u64)> {
        let usage = self.usage.lock().unwrap_or_else(PoisonError::into_inner);
        let max = self.workspace_max?;
        let excess = usage.get(&workspace)?.space_bytes.checked_sub(max)?;
        (excess > 0).then_some((excess, max))
    }

    fn exceeds(&self, workspace: WorkspaceId, bytes: u64) -> bool {
        let usage = self.usage.lock().unwrap_or_else(PoisonError::into_inner);
        usage.get(&workspace).is_some_and(|usage| usage.space_bytes > bytes)
    }

    /// Tells whether to look for streams that can go: not again and again where there are none.
    fn may_look(&self, workspace: WorkspaceId) -> bool {
        let usage = self.usage.lock().unwrap_or_else(PoisonError::into_inner);
        let failed_at = usage.get(&workspace).and_then(|usage| usage.failed_at);
        failed_at.is_none_or(|failed_at| failed_at.elapsed() >= LOOK_DISTANCE)
    }

    /// Takes note that there were not enough streams that can go.
    fn note_failure(&self, workspace: WorkspaceId) {
        let mut usage = self.usage.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(usage) = usage.get_mut(&workspace) {
            usage.failed_at = Some(Instant::now());
        }
    }

    fn is_able(&self, outputs: &Outputs) -> bool {
        *self.able.get_or_init(|| {
            let able = tokio::task::block_in_place(|| outputs.can_drop());
            let able = able.unwrap_or_else(|error| {
                tracing::warn!(%error, "failed to try whether parts of output files can be dropped");
                false
            });
            if !able {
                tracing::warn!("the file system cannot drop parts of files: all output is kept");
            }
            able
        })
    }

    /// Returns the next part to go of a stream of `len` bytes that grows; `None` when it may stay as it is.
    ///
    /// Drops output of others that have ended, when that is what the workspace has too much of.
    pub(crate) async fn part_to_drop(
        context: &Context,
        workspace: WorkspaceId,
        len: u64,
        gaps: &Gaps,
    ) -> Option<Due> {
        let own = &context.retention;
        let kept = len - gaps.dropped_in(0..len);
        if let Some(bytes_max) = own.stream_max
            && let Some(part) = part_over(len, gaps, bytes_max)
        {
            let due = Due { part, surplus: kept - bytes_max, policy: DropPolicy::Stream { bytes_max } };
            return own.is_able(&context.outputs).then_some(due);
        }
        let (_, bytes_max) = own.excess(workspace)?;
        if !own.is_able(&context.outputs) {
            return None;
        }
        if own.may_look(workspace) {
            drop_ended(context, workspace, bytes_max).await;
            if own.exceeds(workspace, bytes_max) {
                own.note_failure(workspace);
            }
        }
        let (surplus, _) = own.excess(workspace)?;
        let left = kept.saturating_sub(surplus + bytes_max / STEPS).max(GROWING_LEN_MIN);
        let part = part_over(len, gaps, left)?;
        Some(Due { part, surplus, policy: DropPolicy::Workspace { bytes_max } })
    }
}

/// Drops a part of a stream once that is recorded.
pub(crate) async fn drop_part(
    context: &Context,
    workspace: WorkspaceId,
    stream: StreamId,
    part: Range<u64>,
    policy: DropPolicy,
) -> Dropping {
    let live = context.streams.of(workspace, stream);
    live.learn_gaps(&gaps_in(&context.engine.state(), workspace, stream));
    let gaps = live.gaps();
    let digest = tokio::task::block_in_place(|| {
        context.outputs.read(workspace, stream).and_then(|file| file.digest(part.clone(), &gaps))
    });
    let digest = match digest {
        Ok(digest) => digest,
        Err(error) => {
            tracing::error!(%workspace, %stream, %error, "failed to read output that should be dropped");
            return Dropping::Failed;
        }
    };
    let fact = OutputDropped { workspace, stream, from: part.start, to: part.end, digest, policy };
    match context.record(Command::RecordOutputDropped(fact)).await {
        Ok(_) => {}
        Err(Refusal::Rejected(_)) => return Dropping::Needless,
        Err(Refusal::Append(_) | Refusal::Read(_) | Refusal::Stopping) => return Dropping::Failed,
    }
    let mut gap = Gaps::default();
    gap.add(part.clone());
    live.learn_gaps(&gap);
    let dropped = tokio::task::block_in_place(|| context.outputs.drop_part(workspace, stream, part));
    if let Err(error) = dropped {
        // Readers leave it out all the same, and the next daemon tries again.
        tracing::error!(%workspace, %stream, %error, "failed to drop output");
    }
    Dropping::Done
}

/// Drops streams that have ended, those first that ended a long time ago, until the workspace is a step below its
/// bound. What a client still takes stays.
async fn drop_ended(context: &Context, workspace: WorkspaceId, bytes_max: u64) {
    let room = bytes_max / STEPS;
    let streams = match tokio::task::block_in_place(|| context.outputs.streams(workspace)) {
        Ok(streams) => streams,
        Err(error) => {
            tracing::error!(%workspace, %error, "failed to look for output that can be dropped");
            return;
        }
    };
    for StoredStream { stream, len_bytes, .. } in streams {
        // Others may drop at the same time.
        if !context.retention.exceeds(workspace, bytes_max - room) {
            return;
        }
        let state = context.engine.state();
        let kept = len_bytes - gaps_in(&state, workspace, stream).dropped_in(0..len_bytes);
        let is_held = context.streams.of(workspace, stream).holds().free() < len_bytes;
        if kept == 0 || is_held || !has_ended(&state, workspace, stream) {
            continue;
        }
        let policy = DropPolicy::Workspace { bytes_max };
        match drop_part(context, workspace, stream, 0..len_bytes, policy).await {
            Dropping::Done => context.retention.count(workspace, space_of(kept), 0),
            Dropping::Needless => {}
            Dropping::Failed => return,
        }
    }
}

/// Drops again what an earlier daemon recorded as dropped: it may have died before it did so.
pub(crate) fn drop_again(context: &Arc<Context>) {
    let state = context.engine.state();
    let dropped: Vec<_> = state
        .workspaces
        .iter()
        .filter(|(_, workspace)| !workspace.dropped.is_empty())
        .map(|(id, workspace)| (*id, Arc::clone(&workspace.dropped)))
        .collect();
    if dropped.is_empty() {
        return;
    }
    let outputs = context.outputs.clone();
    tokio::task::spawn_blocking(move || {
        for (workspace, dropped) in dropped {
            for (stream, gaps) in dropped.iter() {
                for gap in gaps.iter() {
                    if let Err(error) = outputs.drop_part(workspace, *stream, gap) {
                        tracing::warn!(%workspace, %stream, %error, "failed to drop output again");
                    }
                }
            }
        }
    });
}

/// Returns what is dropped of a stream, as far as the state knows it.
pub(crate) fn gaps_in(state: &State, workspace: WorkspaceId, stream: StreamId) -> Gaps {
    let gaps = state.workspace(workspace).and_then(|workspace| workspace.dropped.get(&stream));
    gaps.cloned().unwrap_or_default()
}

/// Returns the space that so many bytes take in files of their own, in bytes: theirs and that of their times.
pub(crate) const fn space_of(len: u64) -> u64 {
    if len == 0 { 0 } else { len.next_multiple_of(BLOCK_LEN) + BLOCK_LEN }
}

/// Returns the part that makes a growing stream of `len` bytes fit into a bound: behind its head, of whole blocks, and at
/// least a step of the bound.
fn part_over(len: u64, gaps: &Gaps, bytes_max: u64) -> Option<Range<u64>> {
    let surplus = (len - gaps.dropped_in(0..len)).checked_sub(bytes_max).filter(|surplus| *surplus > 0)?;
    let head = blocks(HEAD_LEN_MAX.min(bytes_max / 4));
    let from = gaps.skip(head);
    let mut wanted = surplus.next_multiple_of(BLOCK_LEN).max(blocks(bytes_max / STEPS));
    // What is dropped already, by a bound that was larger, does not count once more.
    let to = gaps.kept_in(from..len).find_map(|kept| {
        let taken = wanted.min(kept.end - kept.start);
        wanted -= taken;
        (wanted == 0).then_some(kept.start + taken)
    });
    // A stream without room for all of this is shorter than any that somebody would want bounded.
    to.filter(|to| *to < len).map(|to| from..to)
}

/// Returns the length of the whole blocks in so many bytes, at least one.
const fn blocks(len: u64) -> u64 {
    if len < BLOCK_LEN { BLOCK_LEN } else { len - len % BLOCK_LEN }
}

fn has_ended(state: &State, workspace: WorkspaceId, stream: StreamId) -> bool {
    let ended = |workspace: &Workspace| match stream {
        StreamId::Exec(exec, _) => !workspace.open_execs.contains_key(&exec),
        StreamId::Shell(shell) => workspace.shells.get(&shell).is_none_or(|shell| !shell.phase.is_open()),
    };
    state
        .workspace(workspace)
        .is_some_and(|workspace| !matches!(workspace.phase, Phase::Deleting { .. }) && ended(workspace))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KIB: u64 = 1024;

    /// Catches a stream that keeps more than its bound, loses its beginning or its end, or leads to an event for each
    /// write.
    #[test]
    fn a_growing_stream_keeps_its_head_and_its_tail() {
        let bound = 1024 * KIB;
        let (mut gaps, mut len, mut events) = (Gaps::default(), 0, 0);
        while len < 100 * bound {
            len += 7_001;
            while let Some(part) = part_over(len, &gaps, bound) {
                gaps.add(part);
                events += 1;
            }
            let kept: Vec<_> = gaps.kept_in(0..len).collect();
            assert!(kept.iter().map(|range| range.end - range.start).sum::<u64>() <= bound);
            assert!(kept.len() <= 2 && (len < bound || kept[0] == (0..256 * KIB)), "{kept:?}");
            assert!(len < bound || len - kept[1].start >= 512 * KIB, "{kept:?}");
        }
        assert!(events <= 800, "{events} events for 100 times the bound");
    }

    /// Catches a smaller bound that counts what a larger one has dropped.
    #[test]
    fn a_part_goes_beyond_what_is_dropped_already() {
        let (len, mut gaps) = (2_760_486_670, Gaps::default());
        for bound in [401_166, 64 * KIB] {
            gaps.add(part_over(len, &gaps, bound).unwrap());
            assert!(len - gaps.dropped_in(0..len) <= bound);
        }
    }

    proptest! {
        /// Catches a part that reaches the end of a stream which grows, or does not bring it below its bound, whatever
        /// the bound was before.
        #[test]
        fn a_part_leaves_what_fits(len in 0_u64..1 << 33, before in 1_u64..1 << 32, bytes_max in 64 * KIB..1 << 32) {
            let mut gaps = Gaps::default();
            if let Some(part) = part_over(len, &gaps, before.max(64 * KIB)) {
                gaps.add(part);
            }
            let kept = len - gaps.dropped_in(0..len);
            match part_over(len, &gaps, bytes_max) {
                None => prop_assert!(kept <= bytes_max),
                Some(part) => {
                    prop_assert!(part.start > 0 && part.end < len);
                    gaps.add(part);
                    prop_assert!(len - gaps.dropped_in(0..len) <= bytes_max);
                }
            }
        }
    }
}
