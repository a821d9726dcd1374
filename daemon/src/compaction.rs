//! Drops the beginning of the event log, as far as `[retention]` or somebody who asks does not keep it.

use std::sync::Arc;
use std::time::Duration;

use pyro_core::{Cause, Command, LogCompacted, Rejection, RetentionPolicy, Seq, Timestamp};
use pyro_store::{AppendError, BaseInfo, CompactError, Compaction, Dropped, Retention, WrittenBase};

use crate::clock;
use crate::context::{Context, daemon_actor};
use crate::engine::{Origin, Outcome, Refusal};

/// How often the configured policy is applied, by the time since the boot.
const DISTANCE: Duration = Duration::from_secs(3600);

/// Longest sleep: a timer stands still in a suspend, so the policy is late by this much at the most.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

const DAY_SECONDS: u64 = 86_400;

/// Why nothing was dropped.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CompactionError {
    #[error(transparent)]
    Store(#[from] CompactError),
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The log could not begin a new segment.
    #[error("failed to begin a new segment: {0}")]
    Roll(#[from] AppendError),
}

/// What is to be done with what a policy does not keep.
#[derive(Clone, Debug)]
pub(crate) enum Purpose {
    /// Tell only.
    Look,
    /// Drop it, on behalf of somebody.
    Drop(Origin),
}

/// What a policy does not keep.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Surplus {
    pub(crate) dropped: Dropped,
    /// The event that signs it off; `None` when nobody wanted it dropped.
    pub(crate) signed_off: Option<Seq>,
}

/// Applies the configured policy at the start and then from time to time, for as long as the daemon runs.
pub(crate) async fn run(context: Arc<Context>) {
    let policy = context.config.retention.log();
    if policy == RetentionPolicy::default() {
        return;
    }
    loop {
        let origin = Origin { actor: daemon_actor(), cause: Cause::Observation };
        match compact(&context, policy, Purpose::Drop(origin)).await {
            Ok(Some(Surplus { dropped: Dropped { first, records, bytes, .. }, .. })) => {
                tracing::info!(%first, records, bytes, "compacted the event log");
            }
            Ok(None) => {}
            // The next try may succeed; meanwhile the log is longer than it should be.
            Err(error) => tracing::warn!(%error, "failed to compact the event log"),
        }
        let done_at = clock::since_boot();
        while clock::since_boot().saturating_sub(done_at) < DISTANCE {
            tokio::select! {
                () = tokio::time::sleep(LOOK_AGAIN) => {}
                () = context.stopping.cancelled() => return,
            }
        }
    }
}

/// Finds what a policy does not keep and does with it what is wanted; `None` when it keeps everything.
pub(crate) async fn compact(
    context: &Arc<Context>,
    policy: RetentionPolicy,
    purpose: Purpose,
) -> Result<Option<Surplus>, CompactionError> {
    let _one_at_a_time = context.compacting.lock().await;
    let now = context.engine.now().await;
    let (compactor, head) = (context.engine.compactor().clone(), context.engine.reader().head().seq);
    let plan = blocking(move || {
        // All that is there is in the way of a new segment only.
        if policy.before.is_some_and(|before| before > head) {
            compactor.roll()?;
        }
        Ok::<_, CompactionError>(compactor.plan(retention(policy, now))?)
    });
    let Some(compaction) = plan.await? else { return Ok(None) };
    let dropped = compaction.dropped();
    match purpose {
        Purpose::Look => Ok(Some(Surplus { dropped, signed_off: None })),
        Purpose::Drop(origin) => {
            let signed_off = Some(drop_planned(context, compaction, policy, origin).await?);
            Ok(Some(Surplus { dropped, signed_off }))
        }
    }
}

async fn drop_planned(
    context: &Context,
    compaction: Compaction,
    policy: RetentionPolicy,
    origin: Origin,
) -> Result<Seq, CompactionError> {
    let Dropped { first, hash, records, bytes, since, until, .. } = compaction.dropped();
    let written = blocking(move || compaction.write()).await?;
    let base = written.info().digest;
    let event = LogCompacted { first, hash, base, records, bytes, since, until, policy };
    let refusal = match context.engine.submit(Command::CompactLog(event), origin).await {
        Ok(Outcome::Done(envelopes)) => {
            blocking(move || written.finish()).await?;
            return Ok(envelopes.last().expect("a compaction is one event").seq);
        }
        // The same request has signed off another base.
        Ok(Outcome::Repeated(_)) => Refusal::Rejected(Rejection::Stale),
        Err(refusal) => refusal,
    };
    if is_recorded_nowhere(&refusal) {
        blocking(move || WrittenBase::withdraw(written)).await?;
    }
    Err(refusal.into())
}

/// Tells whether the event is certainly not in the log. Otherwise the next open of the log looks for it.
fn is_recorded_nowhere(refusal: &Refusal) -> bool {
    match refusal {
        Refusal::Rejected(_) | Refusal::Read(_) => true,
        Refusal::Append(error) => !matches!(**error, AppendError::Io { .. }),
        Refusal::Stopping => false,
    }
}

/// Signs off a base whose event was cut off by a repair.
pub(crate) fn signature(base: BaseInfo) -> Command {
    Command::CompactLog(LogCompacted {
        first: base.first,
        hash: base.dropped.hash,
        base: base.digest,
        records: base.dropped.seq.0,
        bytes: base.bytes,
        since: base.since,
        until: base.until,
        policy: RetentionPolicy::default(),
    })
}

fn retention(policy: RetentionPolicy, now: Timestamp) -> Retention {
    let us = |days: u32| u64::from(days) * DAY_SECONDS * 1_000_000;
    Retention {
        since: policy.keep_days.map(|days| Timestamp(now.0.saturating_sub(us(days)))),
        len: policy.keep_mib.map(|mib| mib.saturating_mul(1 << 20)),
        before: policy.before,
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.expect("compacting does not panic and is not aborted")
}
