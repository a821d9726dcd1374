//! The wall clock, as data.

use std::time::{SystemTime, UNIX_EPOCH};

use pyro_core::Timestamp;

/// Returns the time now; a clock before 1970 counts as 1970.
pub(crate) fn now() -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since_epoch.as_micros()).unwrap_or(u64::MAX))
}

/// Returns a time as in RFC 3339, in UTC with microseconds.
pub(crate) fn rfc3339(at: Timestamp) -> String {
    let micros = i64::try_from(at.0).unwrap_or(i64::MAX);
    jiff::Timestamp::from_microsecond(micros).map_or_else(|_| "-".to_owned(), |time| format!("{time:.6}"))
}

/// Returns a time in seconds since 1970.
#[expect(clippy::cast_precision_loss, reason = "a double holds microseconds exactly for the next 200 years")]
pub(crate) fn epoch_seconds(at: Timestamp) -> f64 {
    at.0 as f64 / 1e6
}
