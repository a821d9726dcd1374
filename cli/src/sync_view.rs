//! Files on their way into a workspace, as people see them: a bar, but only on a terminal and when it takes a while.

use std::time::{Duration, Instant};

use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressStyle};
use pyro_api::{SyncPhase, SyncProgress};

use crate::sink::Sink;

/// What is done within this time is not worth a bar.
const PATIENCE: Duration = Duration::from_secs(1);

/// How often the time on the bar is redrawn when nothing else changes.
const TICK: Duration = Duration::from_millis(200);

/// Shows one push or seed after the other.
#[derive(Debug)]
pub(crate) struct SyncView {
    /// `None` where nothing is to be shown.
    bar: Option<ProgressBar>,
    /// When the first progress of what is under way came.
    since: Option<Instant>,
    phase: Option<SyncPhase>,
}

impl SyncView {
    /// Shows nothing yet.
    pub(crate) fn new(stderr: &Sink) -> Self {
        let bar = stderr.is_terminal().then(ProgressBar::hidden);
        Self { bar, since: None, phase: None }
    }

    /// Shows how far it has come.
    pub(crate) fn update(&mut self, progress: &SyncProgress) {
        let Some(bar) = &mut self.bar else { return };
        if self.since.get_or_insert_with(Instant::now).elapsed() < PATIENCE {
            return;
        }
        if self.phase != Some(progress.phase) {
            bar.finish_and_clear();
            *bar = new_bar(progress.phase);
            self.phase = Some(progress.phase);
        }
        let part = part(progress);
        bar.set_length(part.1);
        bar.set_position(part.0);
        bar.set_message(message(progress));
    }

    /// Takes the bar away.
    pub(crate) fn clear(&mut self) {
        if let Some(bar) = &mut self.bar {
            bar.finish_and_clear();
            *bar = ProgressBar::hidden();
        }
        (self.since, self.phase) = (None, None);
    }
}

impl Drop for SyncView {
    fn drop(&mut self) {
        self.clear();
    }
}

fn new_bar(phase: SyncPhase) -> ProgressBar {
    let template = match phase {
        SyncPhase::Check => "{spinner} {elapsed} {wide_msg}",
        SyncPhase::Send => "[{bar:30}] {percent:>3}% {elapsed} {wide_msg}",
    };
    let style =
        ProgressStyle::with_template(template).expect("the template is well formed").progress_chars("=> ");
    let bar = ProgressBar::new(0).with_style(style);
    bar.enable_steady_tick(TICK);
    bar
}

/// Returns how much is done, and of how much: bytes count, and entries where there are no bytes.
fn part(progress: &SyncProgress) -> (u64, u64) {
    match (progress.bytes_total, progress.entries_total) {
        (Some(bytes @ 1..), _) => (progress.bytes, bytes),
        (_, Some(entries @ 1..)) => (progress.entries, entries),
        (_, _) => (0, 1),
    }
}

fn message(progress: &SyncProgress) -> String {
    let entries = HumanCount(progress.entries);
    let bytes = HumanBytes(progress.bytes);
    match (progress.phase, progress.entries_total, progress.bytes_total) {
        (SyncPhase::Send, Some(entries_total), Some(bytes_total)) => {
            let (entries_total, bytes_total) = (HumanCount(entries_total), HumanBytes(bytes_total));
            format!("sending {entries} of {entries_total} entries, {bytes} of {bytes_total}")
        }
        (SyncPhase::Send, _, _) => format!("sending {entries} entries, {bytes}"),
        (SyncPhase::Check, _, _) => format!("checking {entries} entries, {bytes}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_in_bytes_or_else_in_entries() {
        let progress = |phase, entries_total, bytes_total| SyncProgress {
            phase,
            entries: 1234,
            bytes: 2048,
            entries_total,
            bytes_total,
        };
        let table = [
            (progress(SyncPhase::Check, None, None), (0, 1), "checking 1,234 entries, 2.00 KiB"),
            (
                progress(SyncPhase::Send, Some(20_000), Some(4096)),
                (2048, 4096),
                "sending 1,234 of 20,000 entries, 2.00 KiB of 4.00 KiB",
            ),
            (
                progress(SyncPhase::Send, Some(20_000), Some(0)),
                (1234, 20_000),
                "sending 1,234 of 20,000 entries, 2.00 KiB of 0 B",
            ),
        ];
        for (progress, expected_part, expected) in table {
            assert_eq!((part(&progress), message(&progress).as_str()), (expected_part, expected));
        }
    }
}
