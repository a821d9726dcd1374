//! Samples of two things in turn, or of one alone, and what they come to.

use std::fmt;
use std::time::{Duration, Instant};

/// What a ratio should be.
#[derive(Clone, Copy)]
pub(crate) enum Goal {
    /// Our time is at most that many times the baseline's.
    AtMost(f64),
    /// Our speed is at least that part of the baseline's.
    SpeedAtLeast(f64),
    /// Our time is below that, whatever others take.
    Below(Duration),
    /// Our time is less than that longer than the baseline's.
    BelowAbove(Duration),
    /// The ratio is that of the speeds, and only reported.
    Speed,
    /// It is only reported.
    None,
}

/// Times of ours and of the baseline, taken in turn so that both see the same machine.
pub(crate) struct Samples {
    ours: Vec<Duration>,
    baseline: Vec<Duration>,
}

/// One line of the table.
pub(crate) struct Row {
    what: String,
    ours: String,
    baseline: String,
    base: String,
    ratio: Option<f64>,
    goal: String,
}

/// Returns how long the work takes.
pub(crate) fn timed(work: impl FnOnce()) -> Duration {
    let begun = Instant::now();
    work();
    begun.elapsed()
}

/// Calls both in turn; they return what they took.
pub(crate) fn interleaved(
    rounds: usize,
    mut ours: impl FnMut() -> Duration,
    mut baseline: impl FnMut() -> Duration,
) -> Samples {
    let (ours, baseline) = (0..rounds).map(|_round| (ours(), baseline())).unzip();
    Samples { ours, baseline }
}

impl Samples {
    /// Returns samples of something that has no baseline.
    pub(crate) const fn alone(ours: Vec<Duration>) -> Self {
        Self { ours, baseline: Vec::new() }
    }

    pub(crate) fn row(self, what: &str, baseline: &str, goal: Goal) -> Row {
        let ours = median(self.ours).expect("something was measured");
        let base = median(self.baseline);
        let ms = |time: Duration| format!("{:.2} ms", time.as_secs_f64() * 1e3);
        let times = base.map(|base| ours.as_secs_f64() / base.as_secs_f64());
        let verdict = match goal {
            Goal::AtMost(most) => within(times, most),
            Goal::SpeedAtLeast(least) => {
                let reached = times.is_some_and(|times| times.recip() >= least);
                format!("speed at least {least}: {}", verdict(reached))
            }
            Goal::Below(limit) => format!("below {} ms: {}", limit.as_millis(), verdict(ours < limit)),
            Goal::BelowAbove(limit) => {
                let reached = base.is_some_and(|base| ours.saturating_sub(base) < limit);
                format!("below {} ms above: {}", limit.as_millis(), verdict(reached))
            }
            Goal::None | Goal::Speed => String::new(),
        };
        let ratio = match goal {
            Goal::SpeedAtLeast(_) | Goal::Speed => times.map(f64::recip),
            Goal::AtMost(_) | Goal::Below(_) | Goal::BelowAbove(_) | Goal::None => times,
        };
        let (what, baseline) = (what.to_owned(), baseline.to_owned());
        Row { what, ours: ms(ours), baseline, base: base.map_or_else(String::new, ms), ratio, goal: verdict }
    }
}

impl Row {
    /// Compares lengths, both in bytes; the goal is the most that the first may be of the second.
    pub(crate) fn of_lengths(what: &str, ours: u64, baseline: &str, base: u64, most: f64) -> Self {
        let mib = |len: u64| format!("{:.1} MiB", as_f64(len) / as_f64(1 << 20));
        let ratio = Some(as_f64(ours) / as_f64(base));
        let (what, baseline, goal) = (what.to_owned(), baseline.to_owned(), within(ratio, most));
        Self { what, ours: mib(ours), baseline, base: mib(base), ratio, goal }
    }

    /// Tells a figure that has no baseline.
    pub(crate) fn of_figure(what: &str, ours: String, goal: &str, reached: bool) -> Self {
        let (what, goal) = (what.to_owned(), format!("{goal}: {}", verdict(reached)));
        Self { what, ours, baseline: String::new(), base: String::new(), ratio: None, goal }
    }
}

fn within(ratio: Option<f64>, most: f64) -> String {
    format!("at most {most}: {}", verdict(ratio.is_some_and(|ratio| ratio <= most)))
}

const fn verdict(reached: bool) -> &'static str {
    if reached { "reached" } else { "missed" }
}

/// Returns a length that is small enough to be exact.
fn as_f64(len: u64) -> f64 {
    let (high, low) = (len >> 32, len & u64::from(u32::MAX));
    let part = |part: u64| f64::from(u32::try_from(part).expect("it has 32 bits"));
    part(high) * part(1 << 31) * 2.0 + part(low)
}

fn median(mut samples: Vec<Duration>) -> Option<Duration> {
    samples.sort_unstable();
    samples.get(samples.len() / 2).copied()
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, ours, baseline, base, ratio, goal } = self;
        let ratio = ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}"));
        write!(f, "| {what} | {ours} | {baseline} | {base} | {ratio} | {goal} |")
    }
}
