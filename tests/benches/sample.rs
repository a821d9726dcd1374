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
    baseline: String,
    ours: Duration,
    base: Option<Duration>,
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
    /// Returns samples of something that has no baseline.
    pub(crate) const fn alone(ours: Vec<Duration>) -> Self {
        Self { ours, baseline: Vec::new() }
    }

    pub(crate) fn row(self, what: &str, baseline: &str, goal: Goal) -> Row {
        let ours = median(self.ours).expect("something was measured");
        Row { what: what.to_owned(), baseline: baseline.to_owned(), ours, base: median(self.baseline), goal }
    }
}

fn median(mut samples: Vec<Duration>) -> Option<Duration> {
    samples.sort_unstable();
    samples.get(samples.len() / 2).copied()
}

impl Row {
    /// Returns the ratio that the goal is about, and what there is to say of the goal.
    fn judge(&self) -> (Option<f64>, String) {
        let ours = self.ours.as_secs_f64();
        let ratio = self.base.map(|base| ours / base.as_secs_f64());
        let verdict = |reached: bool| if reached { "reached" } else { "missed" };
        match self.goal {
            Goal::AtMost(goal) => {
                let reached = ratio.is_some_and(|ratio| ratio <= goal);
                (ratio, format!("at most {goal}: {}", verdict(reached)))
            }
            Goal::SpeedAtLeast(goal) => {
                let speed = ratio.map(f64::recip);
                let reached = speed.is_some_and(|speed| speed >= goal);
                (speed, format!("speed at least {goal}: {}", verdict(reached)))
            }
            Goal::Below(limit) => {
                (ratio, format!("below {} ms: {}", limit.as_millis(), verdict(self.ours < limit)))
            }
            Goal::None => (ratio, String::new()),
        }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |time: Duration| format!("{:.2} ms", time.as_secs_f64() * 1e3);
        let (ratio, goal) = self.judge();
        let ratio = ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}"));
        let (what, by, ours) = (&self.what, &self.baseline, ms(self.ours));
        let base = self.base.map_or_else(String::new, ms);
        write!(f, "| {what} | {ours} | {by} | {base} | {ratio} | {goal} |")
    }
}
