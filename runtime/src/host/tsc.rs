//! The frequency of this processor's time stamp counter.
#![expect(unsafe_code, reason = "the counter can only be read by an instruction")]

use std::arch::x86_64::_rdtsc;
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Span between the two readings. Each reading is exact to well below a microsecond, so this gives a frequency
/// exact to some 20 parts per million, while a caller hardly notices the wait.
const SPAN: Duration = Duration::from_millis(25);

/// Tries per reading. The best one counts, because a reading that was interrupted shows a wide bracket.
const TRIES: u32 = 32;

/// Returns the frequency of the time stamp counter in kHz.
///
/// The first call measures for about 25 ms against `CLOCK_MONOTONIC_RAW`, later calls return the same number.
/// Measuring is right everywhere, whereas the processor's own statement (CPUID leaf 0x15) is missing on AMD
/// and wrong in some virtual machines. QEMU without KVM passes the host's counter on to its guests, whose
/// own calibration is unreliable under emulation: this number is for their `tsc_early_khz`.
#[must_use]
pub fn tsc_khz() -> u64 {
    static KHZ: OnceLock<u64> = OnceLock::new();
    *KHZ.get_or_init(measure)
}

/// One reading of both clocks at the same moment.
#[derive(Clone, Copy)]
struct Reading {
    ticks: u64,
    nanos: u64,
}

fn measure() -> u64 {
    let start = read_both();
    thread::sleep(SPAN);
    let end = read_both();
    let ticks = u128::from(end.ticks.saturating_sub(start.ticks));
    let nanos = u128::from(end.nanos.saturating_sub(start.nanos)).max(1);
    u64::try_from(ticks * 1_000_000 / nanos).unwrap_or(u64::MAX)
}

fn read_both() -> Reading {
    let mut best = (u64::MAX, Reading { ticks: 0, nanos: 0 });
    for _ in 0..TRIES {
        let before = ticks();
        let nanos = nanos();
        let width = ticks().saturating_sub(before);
        if width < best.0 {
            best = (width, Reading { ticks: before + width / 2, nanos });
        }
    }
    best.1
}

fn ticks() -> u64 {
    // SAFETY: RDTSC only reads a counter. It exists on every x86-64 processor, and Linux leaves it enabled
    // for user space unless a process asked for a signal instead (PR_SET_TSC), which pyro never does.
    unsafe { _rdtsc() }
}

fn nanos() -> u64 {
    let now = clock_gettime(ClockId::MonotonicRaw);
    let nanos = i128::from(now.tv_sec) * 1_000_000_000 + i128::from(now.tv_nsec);
    u64::try_from(nanos).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::measure;

    #[test]
    fn two_measurements_agree() {
        // A wrong unit or a bracket that was not the best one shows as a difference far above 1 part in 500.
        let (one, two) = (measure(), measure());
        assert!((500_000..10_000_000).contains(&one), "{one} kHz is no clock of a PC");
        assert!(one.abs_diff(two) < one / 500, "{one} kHz and {two} kHz");
    }
}
