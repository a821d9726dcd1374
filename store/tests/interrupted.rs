//! Compactions that fail or are cut off at any call to the disk: the whole log or the compacted one, and nothing between.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use pyro_core::{Envelope, Event, Seq, evolve};
use pyro_store::disk::{Call, Disk, Failure, Fault, MemoryDisk, Times};
use pyro_store::{AppendError, CompactError, EventLog, OpenError, Options, ReadError, Retention, verify_on};

use crate::faults::sweeps;
use crate::history::{self, fold, signature};
use crate::images::DIR;
use crate::sample;

/// Records before which the compactions of a test drop. The first one makes a base, so that the others replace one; the
/// last one shows that the log can be compacted after all that went wrong.
const BEFORE: [u64; 4] = [25, 40, 55, 70];

/// Batches of the history that are there before: enough for segments to drop and to keep.
const BATCHES: usize = 45;

/// Power cuts, each of which leaves another disk, for each call.
const CUTS: u64 = 3;

fn open(disk: &MemoryDisk) -> Result<EventLog, OpenError> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    EventLog::open_on(disk, DIR, Options { segment_len_max: 2_000 })
}

fn retention(before: u64) -> Retention {
    Retention { before: Some(Seq(before)), ..Retention::default() }
}

/// How far a compaction came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compacted {
    /// Nothing was signed off.
    Not,
    /// Neither was anything, and the log takes no more events.
    Failed,
    /// Nobody knows whether the event that signs it off is there.
    Perhaps,
    /// It was signed off, and so it counts.
    Signed,
}

/// What is known of a log.
#[derive(Clone, Debug, Default)]
struct Known {
    /// All events that were ever there, also what was dropped since.
    events: Vec<Envelope>,
    /// The first record that is kept.
    first: Seq,
    /// The event that may stand behind those, and where the log begins if it does. There is at most one: who does not know
    /// what became of an event writes no other.
    open: Option<(Event, Seq)>,
}

impl Known {
    /// Fills a log and compacts it once.
    fn prepare(disk: &MemoryDisk) -> Self {
        let log = open(disk).unwrap();
        let mut known = Self { first: Seq(1), ..Self::default() };
        for batch in history::batches().into_iter().take(BATCHES) {
            known.events.extend(log.append(batch).unwrap());
        }
        assert_eq!(known.compact(&log, BEFORE[0], "at first"), Compacted::Signed);
        known
    }

    /// Compacts as the daemon does.
    fn compact(&mut self, log: &EventLog, before: u64, what: &str) -> Compacted {
        match log.compactor().roll() {
            Ok(()) => {}
            Err(AppendError::StorageFull) => return Compacted::Not,
            Err(AppendError::Io { .. }) => return Compacted::Failed,
            Err(error) => panic!("{what}: {error}"),
        }
        let compaction = match log.compactor().plan(retention(before)) {
            Ok(compaction) => compaction.unwrap_or_else(|| panic!("{what}: there is something to drop")),
            Err(error) => {
                expect_io(&error, what);
                return Compacted::Not;
            }
        };
        let dropped = compaction.dropped();
        let written = match compaction.write() {
            Ok(written) => written,
            Err(error) => {
                expect_io(&error, what);
                return Compacted::Not;
            }
        };
        let draft = signature(dropped, written.info());
        let event = draft.event.clone();
        match log.append(vec![draft]) {
            Ok(envelopes) => self.events.extend(envelopes),
            Err(AppendError::Io { .. }) => {
                self.open = Some((event, dropped.first));
                return Compacted::Perhaps;
            }
            Err(AppendError::StorageFull | AppendError::Poisoned { .. }) => {
                written.withdraw().unwrap_or_else(|error| expect_io(&error, what));
                return Compacted::Not;
            }
            Err(error @ (AppendError::TooLong | AppendError::UnknownEvent)) => panic!("{what}: {error}"),
        }
        self.first = dropped.first;
        written.finish().unwrap_or_else(|error| expect_io(&error, what));
        Compacted::Signed
    }

    fn append(&mut self, log: &EventLog) -> Result<(), AppendError> {
        let draft = sample::draft(u32::try_from(self.events.len()).unwrap());
        let event = draft.event.clone();
        match log.append(vec![draft]) {
            Ok(envelopes) => self.events.extend(envelopes),
            Err(error) => {
                if matches!(error, AppendError::Io { .. }) {
                    self.open = Some((event, self.first));
                }
                return Err(error);
            }
        }
        Ok(())
    }

    /// Checks an open log against what is known, and takes note of what has become known.
    fn check(&mut self, log: &EventLog, what: &str) {
        let reader = log.reader();
        if let Some((event, first)) = self.open.take()
            && let Some(last) = sample::read(log).pop().filter(|last| last.event == event)
        {
            self.events.push(last);
            self.first = first;
        }
        assert_eq!(reader.first(), self.first, "{what}");
        let (dropped, kept) = self.events.split_at(usize::try_from(self.first.0 - 1).unwrap());
        assert_eq!(sample::read(log), kept, "{what}");
        let mut state = reader.beginning();
        assert_eq!(state, fold(dropped), "{what}");
        kept.iter().for_each(|envelope| evolve(&mut state, envelope));
        assert_eq!(state, fold(&self.events), "{what}");
        // The first command of the workspace that lives on stands before all that is dropped.
        let carried = reader.request(sample::request(13)).unwrap();
        assert!(!carried.is_empty(), "{what}: what is needed is carried over");
    }

    /// Opens what a disk holds, checks it, and compacts it to the end.
    fn recover(mut self, disk: &MemoryDisk, what: &str) {
        let report = verify_on(Arc::new(disk.clone()), DIR).unwrap();
        assert_eq!(report.damage, None, "{what}");
        let log = open(disk).unwrap_or_else(|error| panic!("{what}: {error}"));
        self.check(&log, what);
        self.append(&log).unwrap();
        assert_eq!(self.compact(&log, BEFORE[3], what), Compacted::Signed, "{what}");
        self.check(&log, what);
        drop(log);
        let report = verify_on(Arc::new(disk.clone()), DIR).unwrap();
        assert_eq!((report.damage, report.torn_len), (None, 0), "{what}");
        let names = disk.list(Path::new(DIR)).unwrap();
        let ours = |path: &&PathBuf| {
            let name = sample::name(path);
            let first = name.split('.').next().and_then(|digits| digits.parse::<u64>().ok());
            first.is_some_and(|first| first < self.first.0)
        };
        assert_eq!(names.iter().find(ours), None, "{what}: nothing is left of what was dropped");
        self.check(&open(disk).unwrap(), what);
    }
}

fn expect_io(error: &CompactError, what: &str) {
    assert!(
        matches!(error, CompactError::Io { .. } | CompactError::Read(ReadError::Io { .. })),
        "{what}: {error:?}"
    );
}

/// Lets one call of a compaction fail; returns whether there was such a call.
fn fail(prepared: &MemoryDisk, known: &Known, fault: Fault) -> bool {
    let what = format!("{fault:?}");
    let disk = prepared.after_kill();
    let mut known = known.clone();
    let log = open(&disk).unwrap();
    disk.plant(fault);
    let compacted = known.compact(&log, BEFORE[1], &what);
    let fired = disk.fired() > 0;
    match known.append(&log) {
        Ok(()) | Err(AppendError::Io { .. }) => {}
        Err(AppendError::StorageFull) => assert_eq!(fault.failure, Failure::Full, "{what}"),
        Err(AppendError::Poisoned { .. }) => assert_ne!(compacted, Compacted::Not, "{what}"),
        Err(error @ (AppendError::TooLong | AppendError::UnknownEvent)) => panic!("{what}: {error}"),
    }
    disk.heal();
    known.clone().recover(&disk.after_kill(), &what);
    known.clone().recover(&disk.after_power_cut(fault.after), &what);
    // The same process tries again, unless the log has failed it.
    if known.append(&log).is_ok() {
        assert_eq!(known.compact(&log, BEFORE[3], &what), Compacted::Signed, "{what}");
        known.check(&log, &what);
        drop(log);
        known.check(&open(&disk).unwrap(), &what);
    }
    fired
}

/// Catches an error of the disk that is swallowed, one that the log does not survive although nothing was signed off, and a
/// base, a segment or an event that is lost or left over.
#[test]
fn each_call_of_a_compaction_fails_in_turn() {
    let prepared = MemoryDisk::new();
    let known = Known::prepare(&prepared);
    let mut failures = 0;
    for (call, failure, times) in sweeps() {
        let mut after = 0;
        while fail(&prepared, &known, Fault { call, after, failure, times }) {
            after += 1;
        }
        failures += after;
    }
    assert!(failures > 500, "the sweep did something: {failures}");
}

/// What an earlier compaction of the same process has left behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    Nothing,
    /// A base that nobody signed off and that could not be removed.
    Base,
}

fn leave_base(disk: &MemoryDisk, log: &EventLog) {
    let written = log.compactor().plan(retention(BEFORE[1])).unwrap().unwrap().write().unwrap();
    let (call, failure) = (Some(Call::Remove), Failure::Io);
    disk.plant(Fault { call, after: 0, failure, times: Times::Once });
    assert!(matches!(written.withdraw(), Err(CompactError::Io { .. })));
}

/// Catches a base that was signed off and is taken for one that was not because the disk failed while the log was opened.
#[test]
fn each_call_of_the_opening_that_finishes_a_compaction_fails_in_turn() {
    let prepared = MemoryDisk::new();
    let mut known = Known::prepare(&prepared);
    let log = open(&prepared).unwrap();
    let compaction = log.compactor().plan(retention(BEFORE[1])).unwrap().unwrap();
    let dropped = compaction.dropped();
    let written = compaction.write().unwrap();
    known.events.extend(log.append(vec![signature(dropped, written.info())]).unwrap());
    known.first = dropped.first;
    drop((written, log));
    for (call, failure, times) in sweeps() {
        let mut after = 0;
        loop {
            let fault = Fault { call, after, failure, times };
            let what = format!("{fault:?}");
            let disk = prepared.after_kill();
            disk.plant(fault);
            let opened = open(&disk);
            let fired = disk.fired() > 0;
            disk.heal();
            match opened {
                Ok(log) => known.clone().check(&log, &what),
                Err(OpenError::Io { .. } | OpenError::StorageFull { .. }) => {}
                Err(error) => panic!("{what}: {error}"),
            }
            known.clone().recover(&disk.after_power_cut(after), &what);
            if !fired {
                break;
            }
            after += 1;
        }
    }
}

/// Catches a new segment behind the rest of a write that a full disk has refused: what was cut off comes back with a power
/// cut, and is damage there.
#[test]
fn what_a_full_disk_refused_does_not_come_back_before_a_new_segment() {
    let mut refused = 0;
    for space in 0..150 {
        let disk = MemoryDisk::new();
        let mut known = Known::prepare(&disk);
        let log = open(&disk).unwrap();
        known.append(&log).unwrap();
        disk.set_space_left(Some(space));
        refused += u32::from(known.append(&log).is_err());
        disk.set_space_left(None);
        log.compactor().roll().unwrap();
        for cut in 0..CUTS {
            known
                .clone()
                .recover(&disk.after_power_cut(space * CUTS + cut), &format!("{space} bytes, cut {cut}"));
        }
    }
    assert!(refused > 50, "space ran out: {refused}");
}

/// Cuts the power in a compaction, and then while the log is opened; returns whether the compaction was cut.
fn cut(prepared: &MemoryDisk, known: &Known, left: Left, after: u64, seed: u64) -> bool {
    let what = format!("cut at call {after}, seed {seed}");
    let disk = prepared.after_kill();
    let mut known = known.clone();
    let log = open(&disk).unwrap();
    let gone = |after| Fault { call: None, after, failure: Failure::Gone, times: Times::Once };
    if left == Left::Base {
        leave_base(&disk, &log);
    }
    disk.plant(gone(after));
    known.compact(&log, BEFORE[2], &what);
    let cut = disk.is_gone();
    let disk = disk.after_power_cut(seed);
    disk.plant(gone(seed % 60));
    drop(open(&disk));
    known.recover(&disk.after_power_cut(seed + 1), &what);
    cut
}

/// Catches a removal before the event that signs it off is durable, a base that counts without that event or because
/// another one was left behind, and an opening that is not safe from the next power cut.
#[test]
fn a_power_cut_at_any_call_leaves_the_whole_log_or_the_compacted_one() {
    let prepared = MemoryDisk::new();
    let known = Known::prepare(&prepared);
    for left in [Left::Nothing, Left::Base] {
        let mut after = 0;
        while (0..CUTS).all(|seed| cut(&prepared, &known, left, after, after * 7 + seed)) {
            after += 1;
        }
        assert!(after > 30, "a compaction makes calls: {after}");
    }
}
