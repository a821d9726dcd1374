//! Samples of two things in turn, and their comparison.

use std::fmt;
use std::time::{Duration, Instant};

/// What a ratio should be.
#[derive(Clone, Copy)]
pub(crate) enum Goal {
    AtMost(f64),
}

/// Times of ours and of the baseline, taken in turn so that both see the same machine.
pub(crate) struct Samples {
    ours: Vec<Duration>,
    baseline: Vec<Duration>,
}

/// One line of the table.
pub(crate) struct Row {
    what: String,
    baseline: String,
    medians: [Duration; 2],
    goal: Goal,
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
    pub(crate) fn row(self, what: &str, baseline: &str, goal: Goal) -> Row {
        let medians = [median(self.ours), median(self.baseline)];
        Row { what: what.to_owned(), baseline: baseline.to_owned(), medians, goal }
    }
}

fn median(mut samples: Vec<Duration>) -> Duration {
    samples.sort_unstable();
    samples[samples.len() / 2]
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [ours, baseline] = self.medians.map(|median| median.as_secs_f64() * 1e3);
        let ratio = ours / baseline;
        let Goal::AtMost(goal) = self.goal;
        let reached = if ratio <= goal { "reached" } else { "missed" };
        let (what, by) = (&self.what, &self.baseline);
        write!(
            f,
            "| {what} | {ours:.2} ms | {by} | {baseline:.2} ms | {ratio:.2} | at most {goal}: {reached} |"
        )
    }
}
