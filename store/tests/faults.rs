//! Every call that the log makes to its disk fails once, or from then on: opening, appending, rolling, opening again.

use std::sync::Arc;

use pyro_store::disk::{Call, Failure, Fault, MemoryDisk, Times};
use pyro_store::{AppendError, OpenError, verify_on};

use crate::images::{Answers, DIR, open};

/// Batches before and after the log is opened again: enough for several segments.
const BATCHES: u32 = 7;

/// Which calls of which kind fail, and how.
pub(crate) fn sweeps() -> impl Iterator<Item = (Option<Call>, Failure, Times)> {
    let calls = Call::ALL.into_iter().map(Some).chain([None]);
    calls.flat_map(|call| {
        let always = [Failure::Io, Failure::Full].into_iter();
        let partly = [Failure::Interrupted, Failure::Short].into_iter();
        // A call that is interrupted for ever is made for ever: no signal comes so often.
        let once = always.clone().chain(partly).map(move |failure| (call, failure, Times::Once));
        once.chain(always.chain([Failure::Short]).map(move |failure| (call, failure, Times::ForEver)))
    })
}

/// Opens and appends twice. What fails must say so, and what is said must be true.
fn live(disk: &MemoryDisk, answers: &mut Answers, what: &str) {
    for _ in 0..2 {
        let log = match open(disk) {
            Ok(log) => log,
            Err(OpenError::Corrupt(corruption)) => panic!("{what}: {corruption}"),
            Err(OpenError::Locked { .. }) => panic!("{what}: there is no lock"),
            // The next one may find a disk that works again.
            Err(OpenError::StorageFull { .. } | OpenError::Io { .. }) => continue,
        };
        let mut poisoned = false;
        for _ in 0..BATCHES {
            let head = log.head();
            match answers.append(&log) {
                Ok(()) => assert!(!poisoned, "{what}: a log that has failed goes on"),
                Err(AppendError::StorageFull) => {
                    assert!(!poisoned, "{what}: a log that has failed says so");
                    assert_eq!(log.head(), head, "{what}: the log is as it was");
                }
                Err(AppendError::Io { .. }) => {
                    assert!(!poisoned, "{what}: a log fails once");
                    poisoned = true;
                }
                Err(AppendError::Poisoned { .. }) => poisoned = true,
                Err(error @ (AppendError::TooLong | AppendError::UnknownEvent)) => panic!("{what}: {error}"),
            }
        }
    }
}

/// Lets one call fail; returns whether there was such a call.
fn fail(fault: Fault) -> bool {
    let what = format!("{fault:?}");
    let disk = MemoryDisk::new();
    let mut answers = Answers::default();
    disk.plant(fault);
    live(&disk, &mut answers, &what);
    let fired = disk.fired() > 0;
    disk.heal();
    // Once with what the last process left, once with what a power cut leaves of that.
    for disk in [disk.after_kill(), disk.after_power_cut(fault.after)] {
        let mut answers = answers.clone();
        let log = open(&disk).unwrap_or_else(|error| panic!("{what}: {error}"));
        answers.check(&log, &what);
        answers.append(&log).unwrap_or_else(|error| panic!("{what}: {error}"));
        drop(log);
        let report = verify_on(Arc::new(disk.clone()), DIR).unwrap();
        assert_eq!((report.damage, report.torn_len), (None, 0), "{what}");
        let log =
            open(&disk.after_power_cut(fault.after + 1)).unwrap_or_else(|error| panic!("{what}: {error}"));
        answers.check(&log, &what);
    }
    fired
}

/// Catches an error that is swallowed, a log that goes on after one that it must not survive or gives up after one that
/// passes, half a batch, and a file that is left in the way.
#[test]
fn each_call_fails_in_turn_and_nothing_acknowledged_is_lost() {
    let mut failures = 0;
    for (call, failure, times) in sweeps() {
        let mut after = 0;
        while fail(Fault { call, after, failure, times }) {
            after += 1;
        }
        failures += after;
    }
    assert!(failures > 1_000, "the sweep did something: {failures}");
}

/// Catches a log that does not go on when there is space again, or loses what it had when there was none.
#[test]
fn space_runs_out_anywhere_and_comes_back() {
    let mut refused = 0;
    for space in 0..3_000 {
        let disk = MemoryDisk::new();
        let mut answers = Answers::default();
        let log = open(&disk).unwrap();
        disk.set_space_left(Some(space));
        while answers.next < 2 * BATCHES {
            if let Err(error) = answers.append(&log) {
                assert!(matches!(error, AppendError::StorageFull), "{space}: {error}");
                refused += 1;
            }
        }
        disk.set_space_left(None);
        for _ in 0..BATCHES {
            answers.append(&log).unwrap();
        }
        drop(log);
        answers.check(&open(&disk.after_power_cut(space)).unwrap(), &format!("{space} bytes"));
    }
    assert!(refused > 1_000, "space ran out: {refused}");
}
