//! `log_compact`: drops the beginning of the event log.

use pyro_api::{ApiError, ErrorCode, LogCompactRequest, LogCompactResult, LogDropped};
use pyro_core::{RetentionPolicy, Seq};
use pyro_store::{AppendError, CompactError, Dropped};

use super::log::unreadable;
use super::{Failure, Session, chain, error_of};
use crate::compaction::{self, CompactionError, Purpose, Surplus};
use crate::engine::Refusal;
use crate::{clock, describe};

impl Session {
    pub(super) async fn log_compact(&self, request: LogCompactRequest) -> Result<LogCompactResult, Failure> {
        let before = request.before.map(Seq);
        let asked = RetentionPolicy { keep_days: request.keep_days, keep_mib: request.keep_mib, before };
        let policy = [asked, self.context.config.retention.log()];
        let Some(policy) = policy.into_iter().find(|policy| *policy != RetentionPolicy::default()) else {
            let message = "nothing says what of the log is to be kept";
            let hint = "give --keep-days, --keep-mib or --before, or set log_days or log_mib under [retention] in config.toml";
            return Err(ApiError::new(ErrorCode::InvalidArgument, message).with_hint(hint).into());
        };
        let purpose = if request.dry_run { Purpose::Look } else { Purpose::Drop(self.origin(None)) };
        let surplus = compaction::compact(&self.context, policy, purpose).await.map_err(told)?;
        let Some(Surplus { dropped, signed_off }) = surplus else {
            let first_seq = self.context.engine.reader().first().0;
            return Ok(LogCompactResult { first_seq, dropped: None, signed_off_seq: None });
        };
        Ok(LogCompactResult {
            first_seq: dropped.first.0,
            dropped: Some(log_dropped(dropped)),
            signed_off_seq: signed_off.map(|seq| seq.0),
        })
    }
}

fn log_dropped(dropped: Dropped) -> LogDropped {
    LogDropped {
        from_seq: dropped.first.0 - dropped.records,
        events: dropped.records,
        segments: dropped.segments,
        bytes: dropped.bytes,
        since: clock::rfc3339(dropped.since),
        until: clock::rfc3339(dropped.until),
        hash: describe::hex(&dropped.hash),
    }
}

fn told(error: CompactionError) -> Failure {
    let error = match error {
        CompactionError::Store(CompactError::Read(error)) => return unreadable(error),
        CompactionError::Refused(refusal) => error_of(refusal),
        CompactionError::Roll(error) => error_of(Refusal::Append(std::sync::Arc::<AppendError>::new(error))),
        CompactionError::Store(error) => {
            let code = match &error {
                CompactError::State { .. } | CompactError::Read(_) => ErrorCode::LogCorrupt,
                CompactError::Carried { .. } => ErrorCode::Internal,
                CompactError::Overtaken => ErrorCode::InvalidState,
                CompactError::Io { .. } => ErrorCode::StorageFailed,
            };
            ApiError::new(code, chain(&error))
        }
    };
    error.into()
}
