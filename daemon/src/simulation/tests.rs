//! The simulation as tests, and what people start by hand.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::defect::Defect;
use super::world::{self, History, Outcome};

/// The seed of the one schedule that is to be replayed, with its history.
const SEED_VARIABLE: &str = "PYRO_SIMULATION_SEED";
/// How many schedules are run, when another number than the default is wanted.
const SCHEDULES_VARIABLE: &str = "PYRO_SIMULATION_SCHEDULES";
/// The first seed, when it is not to be 0.
const FIRST_VARIABLE: &str = "PYRO_SIMULATION_FIRST";
/// The name of a [`Defect`] that is planted.
const BREAK_VARIABLE: &str = "PYRO_SIMULATION_BREAK";

/// Schedules of the normal test run.
const SCHEDULES: u64 = 2_000;
/// Schedules within which each planted defect must be found.
const SCHEDULES_TO_FIND: u64 = 2_000;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect(variable))
}

fn planted() -> Option<Defect> {
    let name = std::env::var(BREAK_VARIABLE).ok()?;
    let named = Defect::ALL.into_iter().find(|defect| format!("{defect:?}") == name);
    Some(named.unwrap_or_else(|| panic!("{BREAK_VARIABLE} is none of {:?}", Defect::ALL)))
}

fn report(seed: u64, violation: &str, defect: Option<Defect>) -> String {
    let planted = defect.map(|defect| format!("{BREAK_VARIABLE}={defect:?} ")).unwrap_or_default();
    let test = "cargo test -p pyro-daemon simulation::tests::schedules -- --nocapture";
    format!("seed {seed}: {violation}\nreplay: {planted}{SEED_VARIABLE}={seed} {test}")
}

/// Runs schedules on all processors and returns the first seed with a violation, and how many were run.
fn search(first: u64, count: u64, defect: Option<Defect>) -> (Option<(u64, String)>, u64) {
    let next = AtomicU64::new(first);
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let run = || {
        let mut ran = 0;
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + count {
                return (None, ran);
            }
            ran += 1;
            if let Some(violation) = world::run(seed, defect, History::Dropped).violation {
                next.store(first + count, Ordering::Relaxed);
                return (Some((seed, violation)), ran);
            }
        }
    };
    let results: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
        threads.into_iter().map(|thread| thread.join().expect("a schedule catches its panics")).collect()
    });
    let ran = results.iter().map(|(_, ran)| ran).sum();
    (results.into_iter().filter_map(|(found, _)| found).min(), ran)
}

/// Catches everything that the model in `model` forbids, at the first seed where it comes.
#[test]
fn schedules() {
    let defect = planted();
    if let Some(seed) = number(SEED_VARIABLE) {
        let Outcome { violation, history } = world::run(seed, defect, History::Kept);
        let history = history.into_iter().fold(String::new(), |mut text, line| {
            writeln!(text, "{line}").expect("a string takes all");
            text
        });
        // The test's own output, which the harness shows when it is asked to.
        std::io::Write::write_all(&mut std::io::stderr(), history.as_bytes()).unwrap();
        assert_eq!(violation, None, "seed {seed}");
        return;
    }
    let count = number(SCHEDULES_VARIABLE).unwrap_or(SCHEDULES);
    let since = Instant::now();
    let (found, ran) = search(number(FIRST_VARIABLE).unwrap_or(0), count, defect);
    let seconds = since.elapsed().as_secs_f64();
    let line = format!("{ran} schedules in {seconds:.1} s, {:.0} a minute\n", ran as f64 * 60.0 / seconds);
    std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes()).unwrap();
    if let Some((seed, violation)) = found {
        panic!("{}", report(seed, &violation, defect));
    }
}

/// Catches a schedule that depends on anything but its seed: its replay would show something else.
#[test]
fn the_same_seed_gives_the_same_history() {
    let mut lines = 0;
    for seed in 0..40 {
        let run = || world::run(seed, None, History::Kept);
        let (first, second) = (run(), run());
        assert_eq!(first.history, second.history, "seed {seed}");
        lines += first.history.len();
    }
    assert!(lines > 10_000, "and something happens: {lines}");
}

/// Catches a simulation that looks away: each defect of the list must be found soon.
#[test]
fn planted_defects_are_found() {
    for defect in Defect::ALL {
        let (found, _) = search(0, SCHEDULES_TO_FIND, Some(defect));
        assert!(found.is_some(), "{defect:?} is not found in {SCHEDULES_TO_FIND} schedules");
    }
}
