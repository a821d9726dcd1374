//! What came of a run.

use std::fmt::{self, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use super::ending::indented;
use super::history::{Answer, Operation, Told, Violation};
use super::nemesis::Deeds;
use super::{Guests, Settings};
use crate::Pyro;

/// Most violations that are shown in full.
const SHOWN_MAX: usize = 20;
/// Most characters of one that are shown; the history that is kept has the rest.
const SHOWN_CHARS_MAX: usize = 1_200;

/// What came of a run; shown as a table.
#[derive(Clone, Debug)]
pub struct Report {
    /// What was to be done.
    pub settings: Settings,
    /// What the nemesis did.
    pub deeds: Deeds,
    /// What clients were told.
    pub told: Vec<Told>,
    /// How many events the log has.
    pub events: usize,
    /// What must never be.
    pub violations: Vec<Violation>,
    /// How long it took.
    pub took: Duration,
}

impl Report {
    fn done(&self) -> usize {
        self.told.iter().filter(|told| matches!(told.answer, Answer::Done(_))).count()
    }

    fn cut(&self) -> usize {
        self.told.iter().filter(|told| told.answer == Answer::Cut).count()
    }

    /// Returns tokens seen in guests and bytes of output compared.
    fn measures(&self) -> (usize, u64) {
        self.told.iter().fold((0, 0), |(tokens, bytes), told| match &told.operation {
            Operation::Look { tokens: seen, .. } => (tokens + seen.len(), bytes),
            Operation::Exec { stdout, .. } | Operation::Run { stdout, .. } => {
                (tokens, bytes + stdout.len_bytes)
            }
            Operation::Follow { output, .. } => (tokens, bytes + output.len_bytes),
            Operation::Create
            | Operation::Change { .. }
            | Operation::Open { .. }
            | Operation::Type { .. }
            | Operation::Close { .. }
            | Operation::Push { .. }
            | Operation::List => (tokens, bytes),
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Deeds { kills, kills_in_recovery, guests, recoveries } = &self.deeds;
        let mut recoveries = recoveries.clone();
        recoveries.sort_unstable();
        let median = recoveries.get(recoveries.len() / 2).copied().unwrap_or_default();
        let max = recoveries.last().copied().unwrap_or_default();
        let (tokens, bytes) = self.measures();
        writeln!(f, "| what | count |\n|---|---|")?;
        writeln!(f, "| daemons killed | {kills} |")?;
        writeln!(f, "| of these while they started | {kills_in_recovery} |")?;
        writeln!(f, "| guests killed | {guests} |")?;
        writeln!(f, "| clients killed | {} |", self.cut())?;
        writeln!(f, "| calls | {} |", self.told.len())?;
        writeln!(f, "| of these done | {} |", self.done())?;
        writeln!(f, "| events in the log | {} |", self.events)?;
        writeln!(f, "| tokens found in guests | {tokens} |")?;
        writeln!(f, "| bytes of output compared | {bytes} |")?;
        writeln!(f, "| recoveries | {} |", recoveries.len())?;
        writeln!(f, "| time to first answer, median | {} ms |", median.as_millis())?;
        writeln!(f, "| time to first answer, longest | {} ms |", max.as_millis())?;
        writeln!(f, "| time for all | {} s |", self.took.as_secs())?;
        writeln!(f, "| violations | {} |", self.violations.len())?;
        for Violation { rule, what } in self.violations.iter().take(SHOWN_MAX) {
            let shown: String = what.chars().take(SHOWN_CHARS_MAX).collect();
            let more = if shown.len() < what.len() { " ..." } else { "" };
            write!(f, "violation: {rule}\n{}", indented(&format!("{shown}{more}")))?;
        }
        if !self.violations.is_empty() {
            let Settings { kills, seed, guests, .. } = self.settings;
            let backend = if guests == Guests::Qemu { "PYRO_TORTURE_GUESTS=qemu " } else { "" };
            writeln!(f, "again: {backend}PYRO_TORTURE_SEED={seed} PYRO_TORTURE_KILLS={kills} make torture")?;
        }
        Ok(())
    }
}

/// Keeps what is needed to understand violations, if there are some.
pub(super) fn keep(violations: &[Violation], pyro: &Pyro, seed: u64, export: &str, told: &[Told]) {
    if violations.is_empty() {
        return;
    }
    let directory: PathBuf = std::env::temp_dir().join(format!("pyro-torture-{seed}"));
    let mut history = String::new();
    for one in told {
        writeln!(history, "{one:?}").expect("a string takes everything");
    }
    let messages = std::fs::read(pyro.home().join("run/daemon.log")).unwrap_or_default();
    let found: String = violations.iter().map(|one| format!("{}: {}\n", one.rule, one.what)).collect();
    let files: [(&str, &[u8]); 4] = [
        ("violations", found.as_bytes()),
        ("export.jsonl", export.as_bytes()),
        ("history", history.as_bytes()),
        ("daemon.log", &messages),
    ];
    // The violations are reported in any case.
    let _kept = std::fs::create_dir_all(&directory).and_then(|()| {
        files.iter().try_for_each(|(name, bytes)| std::fs::write(directory.join(name), bytes))
    });
}
