//! The clocks of the host, as data.

use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pyro_core::{ClockObserved, Timestamp};
use rustix::time::{ClockId, clock_gettime};

/// The wall clock, and how to tell when it was set: by the time since the boot, which nobody can set.
#[derive(Clone, Debug)]
pub(crate) struct Clock {
    host_boot_id: String,
    read: fn() -> Reading,
}

/// Both clocks at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reading {
    pub(crate) wall: Timestamp,
    pub(crate) since_boot_us: u64,
}

impl Clock {
    /// Returns the clock of this host.
    pub(crate) fn of_host() -> io::Result<Self> {
        let host_boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned();
        Ok(Self { host_boot_id, read })
    }

    /// Returns a clock that says what it is told to.
    #[cfg(test)]
    pub(crate) fn scripted(host_boot_id: &str, read: fn() -> Reading) -> Self {
        Self { host_boot_id: host_boot_id.to_owned(), read }
    }

    /// Returns the kernel's boot id.
    pub(crate) fn host_boot_id(&self) -> &str {
        &self.host_boot_id
    }

    /// Returns the time now, and what there is to say about the clocks.
    pub(crate) fn observe(&self) -> (Timestamp, ClockObserved) {
        let Reading { wall, since_boot_us } = (self.read)();
        let micros = |micros: u64| i64::try_from(micros).unwrap_or(i64::MAX);
        let offset_us = micros(wall.0).saturating_sub(micros(since_boot_us));
        (wall, ClockObserved { host_boot_id: self.host_boot_id.clone(), offset_us })
    }
}

fn read() -> Reading {
    let since_boot_us = u64::try_from(since_boot().as_micros()).unwrap_or(u64::MAX);
    Reading { wall: now(), since_boot_us }
}

/// Returns the time since the host was booted, which goes on in a suspend and which nobody can set.
pub(crate) fn since_boot() -> Duration {
    let since_boot = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(since_boot.tv_sec).unwrap_or(0);
    let nanoseconds = u64::try_from(since_boot.tv_nsec).unwrap_or(0);
    Duration::from_secs(seconds) + Duration::from_nanos(nanoseconds)
}

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
