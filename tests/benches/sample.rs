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

pub(crate) fn interleaved(rounds: usize, mut ours: impl FnMut(), mut baseline: impl FnMut()) -> Samples {
    let time = |work: &mut dyn FnMut()| {
        let begun = Instant::now();
        work();
        begun.elapsed()
    };
    let mut samples = Samples { ours: Vec::new(), baseline: Vec::new() };
    for _ in 0..rounds {
        samples.ours.push(time(&mut ours));
        samples.baseline.push(time(&mut baseline));
    }
    samples
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
