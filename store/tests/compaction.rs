//! Compaction: what is dropped is gone, what is kept is as before, and a crash in the middle is one or the other.

use std::fs;
use std::path::Path;

use pyro_core::{Cause, Envelope, Seq, Timestamp, evolve};
use pyro_store::{
    CompactError, Corruption, Dropped, EventLog, OpenError, Options, ReadError, Record, RepairError,
    Retention, repair, repair_at, verify,
};

use crate::history::{self, LIVE, compact, fill, fold, signature};
use crate::sample;

const BEFORE: u64 = 90;

fn before(seq: u64) -> Retention {
    Retention { before: Some(Seq(seq)), ..Retention::default() }
}

fn records(log: &EventLog) -> Vec<Record> {
    let reader = log.reader();
    reader.records(reader.first()).map(Result::unwrap).collect()
}

/// Checks that a log is whole, holds these records behind what was dropped, and gives this state.
fn check(log: &EventLog, dir: &Path, expected: &[Record], all: &[Envelope]) {
    let kept: Vec<_> = records(log).into_iter().take(expected.len()).collect();
    assert_eq!(kept, expected);
    let mut state = log.reader().beginning();
    kept.iter().for_each(|record| evolve(&mut state, &record.envelope));
    assert_eq!(state, fold(all));
    assert_eq!(verify(dir).unwrap().damage, None);
}

fn open_error(dir: &Path) -> Option<Corruption> {
    match EventLog::open(dir, Options::default()) {
        Err(OpenError::Corrupt(corruption)) => Some(corruption),
        Err(error) => panic!("{error}"),
        Ok(_) => None,
    }
}

/// Catches a compaction that alters what it keeps, forgets what is still needed, or keeps what it was to drop.
#[test]
fn what_is_dropped_is_gone_and_the_rest_is_as_before() {
    let dir = sample::dir();
    let log = fill(dir.path());
    let (all, whole) = (sample::read(&log), records(&log));
    let live = sample::workspace(LIVE);
    let history = |log: &EventLog| -> Vec<_> {
        let events = log.reader().read_workspace(live, Seq(1)).map(Result::unwrap);
        events.filter(|envelope| envelope.event.kind() != "exec_started").collect()
    };
    let commands = history(&log);
    let dropped = compact(&log, BEFORE);
    let first = usize::try_from(dropped.first.0).unwrap();
    assert!((BEFORE / 2..=BEFORE).contains(&dropped.first.0), "{dropped:?}");
    assert_eq!((dropped.records, dropped.hash), (first as u64 - 1, whole[first - 2].hash));
    let look = |log: &EventLog| {
        check(log, dir.path(), &whole[first - 1..], &all);
        let reader = log.reader();
        assert_eq!(reader.first(), dropped.first);
        for early in [1, first - 1] {
            let read = reader.read(Seq(early as u64)).next();
            assert!(matches!(read, Some(Err(ReadError::Compacted { first })) if first == dropped.first));
        }
        assert_eq!(reader.hash(Seq(dropped.first.0 - 1)).unwrap(), Some(dropped.hash));
        assert!(reader.hash(Seq(dropped.first.0 - 2)).is_err());
        assert_eq!(history(log), commands, "a workspace that lives keeps its commands");
        let request = reader.request(sample::request(13)).unwrap();
        let kinds: Vec<_> = request.iter().map(|envelope| envelope.event.kind()).collect();
        assert_eq!(kinds, ["exec_requested", "exec_exited"]);
        assert_eq!(
            reader.request(sample::request(11)).unwrap(),
            [],
            "of a deleted workspace nothing is left"
        );
        assert_eq!(reader.read_workspace(sample::workspace(101), Seq(1)).count(), 0);
        assert_eq!(reader.workspaces("01").unwrap().len(), 1);
    };
    look(&log);
    drop(log);
    look(&sample::open_small(dir.path()));
    fs::remove_dir_all(dir.path().join("index")).unwrap();
    let log = sample::open_small(dir.path());
    assert!(log.recovered().index_rebuilt);
    look(&log);
}

/// Catches a request id that is dropped, comes again, and is then not found.
#[test]
fn a_request_id_that_was_dropped_is_a_new_one() {
    let dir = sample::dir();
    let log = fill(dir.path());
    compact(&log, BEFORE);
    let mut again = history::batches()[2].clone();
    again.truncate(1);
    let appended = log.append(again).unwrap();
    assert_eq!(log.reader().request(sample::request(11)).unwrap(), appended);
    drop(log);
    assert_eq!(sample::open_small(dir.path()).reader().request(sample::request(11)).unwrap(), appended);
}

/// Catches a compaction of a log that was compacted before that loses what the first one had carried over.
#[test]
fn a_second_compaction_goes_on_where_the_first_one_ended() {
    let dir = sample::dir();
    let log = fill(dir.path());
    let (all, whole) = (sample::read(&log), records(&log));
    let first = compact(&log, 40);
    let second = compact(&log, BEFORE);
    assert!(second.first > first.first && second.since > first.until);
    assert_eq!(sample::bases(dir.path()).len(), 1);
    let base = log.reader().base().unwrap();
    assert_eq!((base.bytes, base.since), (first.bytes + second.bytes, first.since));
    let kept = &whole[usize::try_from(second.first.0).unwrap() - 1..];
    check(&log, dir.path(), kept, &all);
    drop(log);
    check(&sample::open_small(dir.path()), dir.path(), kept, &all);
}

/// A log with the files of each moment of its second compaction.
struct Moments {
    dir: tempfile::TempDir,
    dropped: Dropped,
    all: Vec<Envelope>,
    whole: Vec<Record>,
    /// Names of the files that are removed, in the order in which they are.
    removed: Vec<String>,
}

impl Moments {
    fn make() -> Self {
        let dir = sample::dir();
        let log = fill(&dir.path().join("log"));
        let (all, whole) = (sample::read(&log), records(&log));
        compact(&log, 40);
        let path = dir.path().join("log");
        let moment = |name: &str| sample::copy_log(&path, &dir.path().join(name));
        let compaction = log.compactor().plan(before(BEFORE)).unwrap().unwrap();
        let dropped = compaction.dropped();
        let written = compaction.write().unwrap();
        moment("written");
        log.append(vec![signature(dropped, written.info())]).unwrap();
        moment("signed");
        let names = |dir: &Path| -> Vec<String> {
            let paths = [sample::segments(dir), sample::bases(dir)].concat();
            paths.iter().map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect()
        };
        let before = names(&path);
        written.finish().unwrap();
        let after = names(&path);
        let removed = before.into_iter().filter(|name| !after.contains(name)).collect();
        drop(log);
        Self { dir, dropped, all, whole, removed }
    }

    /// Copies the log of a moment, without its first files that are to be removed.
    fn at(&self, name: &str, removed: usize) -> tempfile::TempDir {
        let dir = sample::dir();
        sample::copy_log(&self.dir.path().join(name), dir.path());
        self.removed.iter().take(removed).for_each(|name| fs::remove_file(dir.path().join(name)).unwrap());
        dir
    }

    /// Opens a log that was compacted, and checks that nothing else is left in it.
    fn check_compacted(&self, dir: &Path) {
        assert_eq!(verify(dir).unwrap().damage, None);
        let log = sample::open_small(dir);
        assert_eq!(log.reader().first(), self.dropped.first);
        let first = usize::try_from(self.dropped.first.0).unwrap();
        check(&log, dir, &self.whole[first - 1..], &self.all);
        assert!(self.removed.iter().all(|name| !dir.join(name).exists()));
    }
}

/// Catches a crash that leaves a log which does not open, has lost something, or keeps what was dropped for ever.
#[test]
fn a_crash_at_any_step_leaves_the_whole_log_or_the_compacted_one() {
    let moments = Moments::make();
    assert!(moments.removed.len() > 3, "several segments and a base go: {:?}", moments.removed);
    let dir = moments.at("written", 0);
    assert_eq!(sample::bases(dir.path()).len(), 2);
    assert_eq!(verify(dir.path()).unwrap().damage, None);
    let log = sample::open_small(dir.path());
    assert!(log.reader().first() < moments.dropped.first, "nothing signed it off");
    assert_eq!(sample::bases(dir.path()).len(), 1);
    let first = usize::try_from(log.reader().first().0).unwrap();
    check(&log, dir.path(), &moments.whole[first - 1..], &moments.all);
    for removed in 0..=moments.removed.len() {
        moments.check_compacted(moments.at("signed", removed).path());
    }
}

/// Catches a base whose event was never durable because a crash tore it, and that counts all the same.
#[test]
fn a_torn_signature_signs_nothing_off() {
    let moments = Moments::make();
    let dir = moments.at("signed", 0);
    let written = moments.at("written", 0);
    let last = sample::segments(dir.path()).pop().unwrap();
    let bytes = fs::read(&last).unwrap();
    fs::write(&last, &bytes[..bytes.len() - 1]).unwrap();
    fs::copy(written.path().join("anchor"), dir.path().join("anchor")).unwrap();
    assert_eq!(verify(dir.path()).unwrap().damage, None);
    let log = sample::open_small(dir.path());
    assert!(log.recovered().torn_len > 0);
    assert!(log.reader().first() < moments.dropped.first);
}

/// Catches a base that was changed, exchanged or removed and nobody notices.
#[test]
fn a_base_that_is_not_the_one_that_was_signed_off_is_noticed() {
    let moments = Moments::make();
    let removed = moments.removed.len();
    let dir = moments.at("signed", removed);
    let path = sample::bases(dir.path()).pop().unwrap();
    let bytes = fs::read(&path).unwrap();
    for place in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[place] ^= 1 << (place % 8);
        fs::write(&path, &changed).unwrap();
        let damage = verify(dir.path()).unwrap().damage;
        assert!(matches!(damage, Some(Corruption::Base { .. })), "byte {place}: {damage:?}");
        if place % 50 == 0 {
            assert_eq!(open_error(dir.path()), damage);
        }
    }
    for len in [0, 10, 127, 128, bytes.len() - 1] {
        fs::write(&path, &bytes[..len]).unwrap();
        assert!(matches!(open_error(dir.path()), Some(Corruption::Base { .. })), "cut to {len}");
    }
    fs::remove_file(&path).unwrap();
    let missing = open_error(dir.path()).unwrap();
    assert!(matches!(missing, Corruption::NoBase { first, .. } if first == moments.dropped.first));
    assert_eq!(verify(dir.path()).unwrap().damage, Some(missing));
    // While nothing was removed, a damaged base is not needed.
    let dir = moments.at("signed", 0);
    let path = sample::bases(dir.path()).pop().unwrap();
    fs::write(&path, &bytes[..9]).unwrap();
    assert_eq!(open_error(dir.path()), None);
    assert!(!path.exists());
}

/// Makes a log whose base is a valid one of the same place, and not the one that was signed off.
fn exchanged() -> tempfile::TempDir {
    let dir = sample::dir();
    let log = fill(dir.path());
    let write = || log.compactor().plan(before(BEFORE)).unwrap().unwrap().write().unwrap();
    let other = write();
    let path = sample::bases(dir.path()).pop().unwrap();
    let bytes = fs::read(&path).unwrap();
    other.withdraw().unwrap();
    assert!(!path.exists());
    // The base says how far the log had come.
    log.append(sample::drafts(0..1)).unwrap();
    compact(&log, BEFORE);
    assert!(fs::read(&path).unwrap() != bytes);
    fs::write(path, bytes).unwrap();
    drop(log);
    dir
}

/// Catches a check that believes every base that is intact.
#[test]
fn an_exchanged_base_is_named_with_the_event_that_knows_better() {
    let dir = exchanged();
    let damage = verify(dir.path()).unwrap().damage;
    let Some(Corruption::Exchanged { seq, .. }) = damage else { panic!("{damage:?}") };
    assert_eq!(records(&sample::open_small(dir.path())).last().unwrap().seq(), seq);
}

/// Catches a repair that keeps a base which cannot be trusted, or loses it.
#[test]
fn a_bad_base_is_taken_out_with_what_follows_from_it() {
    let damaged = Moments::make();
    let damaged = damaged.at("signed", damaged.removed.len());
    let path = sample::bases(damaged.path()).pop().unwrap();
    let mut bytes = fs::read(&path).unwrap();
    bytes[200] ^= 1;
    fs::write(&path, bytes).unwrap();
    for dir in [damaged, exchanged()] {
        let base = sample::bases(dir.path()).pop().unwrap();
        let segments = sample::segments(dir.path());
        let repaired = repair(dir.path()).unwrap();
        assert_eq!((repaired.head.seq, repaired.damage.unwrap().first_bad()), (Seq::ZERO, Some(Seq(1))));
        let backup = repaired.backup.unwrap();
        for path in segments.iter().chain([&base]) {
            assert!(!path.exists() && backup.join(path.file_name().unwrap()).exists());
        }
        let log = sample::open_small(dir.path());
        assert_eq!(log.append(sample::drafts(0..1)).unwrap()[0].seq, Seq(1));
    }
}

/// Catches a repair that cuts into what was compacted, or leaves a log behind its base that does not open.
#[test]
fn a_repair_cuts_behind_the_base() {
    let moments = Moments::make();
    let removed = moments.removed.len();
    let first = moments.dropped.first;
    for (offset, cut) in [(10, 0), (200, 0), (usize::MAX, 1)] {
        let dir = moments.at("signed", removed);
        let paths = sample::segments(dir.path());
        let path = &paths[cut];
        let mut bytes = fs::read(path).unwrap();
        let place = offset.min(bytes.len() - 1);
        bytes[place] ^= 1;
        fs::write(path, bytes).unwrap();
        assert!(open_error(dir.path()).is_some() || cut > 0 || offset == 200);
        let early = repair_at(dir.path(), Seq(first.0 - 1));
        assert!(matches!(early, Err(RepairError::Compacted { .. })), "{early:?}");
        let repaired = repair(dir.path()).unwrap();
        assert_eq!(repaired.head.seq.next() == first, cut == 0);
        let report = verify(dir.path()).unwrap();
        assert!(matches!(report.damage, Some(Corruption::Unsigned { .. })), "{report:?}");
        assert_eq!(repair(dir.path()).unwrap().damage, None, "there is nothing to cut");
        let log = sample::open_small(dir.path());
        assert_eq!(log.head(), repaired.head);
        let base = log.reader().base().unwrap();
        log.append(vec![signature(moments.dropped, base)]).unwrap();
        assert_eq!(verify(dir.path()).unwrap().damage, None);
        assert_eq!(log.reader().beginning(), fold(&moments.all[..usize::try_from(first.0).unwrap() - 1]));
    }
}

/// Catches a compaction that drops the last proof of damage, or writes anything before it has looked.
#[test]
fn damage_is_not_dropped() {
    let dir = sample::dir();
    let log = fill(dir.path());
    let paths = sample::segments(dir.path());
    let mut bytes = fs::read(&paths[1]).unwrap();
    bytes[150] ^= 1;
    fs::write(&paths[1], bytes).unwrap();
    let error = log.compactor().plan(before(BEFORE)).unwrap_err();
    assert!(matches!(error, CompactError::Read(ReadError::Corrupt(_))), "{error}");
    assert_eq!(sample::segments(dir.path()), paths);
    assert!(sample::bases(dir.path()).is_empty());
}

/// Catches a compaction of events that do not give what was known of them.
#[test]
fn a_checkpoint_that_differs_is_not_dropped() {
    let dir = sample::dir();
    let log = fill(dir.path());
    let all = sample::read(&log);
    let mut state = fold(&all[..20]);
    log.checkpoints().save(&state).unwrap();
    assert!(log.compactor().plan(before(BEFORE)).unwrap().is_some());
    state.limits.guests_max += 1;
    log.checkpoints().save(&state).unwrap();
    let error = log.compactor().plan(before(BEFORE)).unwrap_err();
    assert!(matches!(error, CompactError::State { seq: Seq(20) }), "{error}");
}

/// Catches a reader that gets a gap or a wrong record, and not an error, when its segments go.
#[test]
fn readers_go_on_or_are_told() {
    let dir = sample::dir();
    let log = fill(dir.path());
    let all = sample::read(&log);
    let mut early = log.reader().read(Seq(1));
    let mut late = log.reader().read(Seq(BEFORE));
    for seq in [1, BEFORE] {
        let reader = if seq == 1 { &mut early } else { &mut late };
        assert_eq!(reader.next().unwrap().unwrap().seq, Seq(seq));
    }
    let first = compact(&log, BEFORE).first;
    let mut read: Vec<_> = early.collect();
    let end = read.pop().unwrap();
    assert!(matches!(end, Err(ReadError::Compacted { first: told }) if told == first), "{end:?}");
    let read: Vec<_> = read.into_iter().map(Result::unwrap).collect();
    assert_eq!(read[..], all[1..=read.len()], "up to the end of the segment that was open");
    assert_eq!(late.map(Result::unwrap).collect::<Vec<_>>(), all[usize::try_from(BEFORE).unwrap()..]);
}

/// Catches a bound that keeps too much or too little, and one that another bound overrules.
#[test]
fn the_longest_bound_counts() {
    let dir = sample::dir();
    let log = fill(dir.path());
    let all = sample::read(&log);
    let lens: Vec<_> =
        sample::segments(dir.path()).iter().map(|path| fs::metadata(path).unwrap().len()).collect();
    let plan = |retention| log.compactor().plan(retention).unwrap().map(|plan| plan.dropped());
    assert_eq!(plan(Retention::default()), None, "without a bound everything is kept");
    let everything = plan(before(u64::MAX)).unwrap();
    assert_eq!(everything.segments, lens.len() as u64 - 1, "but the segment that is written to");
    let since = |time| Retention { since: Some(Timestamp(time)), ..Retention::default() };
    assert_eq!(plan(since(u64::MAX)), Some(everything));
    assert_eq!(plan(since(0)), None);
    let middle = all[usize::try_from(BEFORE).unwrap()].at;
    let dropped = plan(since(middle.0)).unwrap();
    let first = usize::try_from(dropped.first.0).unwrap();
    assert!(all[..first - 1].iter().all(|envelope| envelope.at < middle), "{dropped:?}");
    assert_eq!(dropped.until, all[first - 2].at);
    let len = |len| Retention { len: Some(len), ..Retention::default() };
    let behind: u64 = lens[3..].iter().sum();
    assert_eq!(plan(len(behind)).unwrap().segments, 3);
    assert_eq!(plan(len(behind + 1)).unwrap().segments, 2);
    assert_eq!(plan(len(u64::MAX)), None);
    assert_eq!(plan(Retention { len: Some(behind), ..since(0) }), None);
    assert_eq!(plan(Retention { len: Some(behind), ..before(u64::MAX) }).unwrap().segments, 3);
}

/// Catches a log of one segment that can never be compacted.
#[test]
fn a_new_segment_makes_room_for_a_compaction() {
    let dir = sample::dir();
    let log = sample::open(dir.path());
    log.append(history::batches().concat()).unwrap();
    let all = sample::read(&log);
    let head = log.head();
    assert!(log.compactor().plan(before(u64::MAX)).unwrap().is_none());
    for _twice in 0..2 {
        log.compactor().roll().unwrap();
    }
    assert_eq!(sample::segments(dir.path()).len(), 2, "a segment without records is not left behind");
    let dropped = compact(&log, u64::MAX);
    assert_eq!((dropped.first, dropped.hash), (head.seq.next(), head.hash));
    assert_eq!(log.reader().beginning(), fold(&all));
    assert_eq!(verify(dir.path()).unwrap().damage, None);
    drop(log);
    assert_eq!(sample::open(dir.path()).reader().beginning(), fold(&all));
}

/// Catches a request that is not found, an index that is given up, or a wrong record, when segments go beside it.
#[test]
fn compactions_go_on_beside_everything_else() {
    let dir = sample::dir();
    let log = sample::open_small(dir.path());
    let batches = history::batches();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for batch in &batches {
                let appended = log.append(batch.clone()).unwrap();
                let Cause::Request(request) = batch[0].cause else { panic!("it has a cause") };
                let found = log.reader().request(request).unwrap();
                // What is needed no more may be gone already.
                assert!(found.iter().all(|envelope| appended.contains(envelope)), "{found:?}");
            }
        });
        scope.spawn(|| {
            for _ in 0..20 {
                log.compactor().roll().unwrap();
                if let Some(compaction) = log.compactor().plan(before(u64::MAX)).unwrap() {
                    let dropped = compaction.dropped();
                    let written = compaction.write().unwrap();
                    log.append(vec![signature(dropped, written.info())]).unwrap();
                    written.finish().unwrap();
                }
            }
        });
        scope.spawn(|| {
            for _ in 0..50 {
                let reader = log.reader();
                let mut expected = reader.first();
                for read in reader.read(expected) {
                    match read {
                        Ok(envelope) => assert_eq!(envelope.seq, expected),
                        Err(error) => assert!(matches!(error, ReadError::Compacted { .. }), "{error}"),
                    }
                    expected = expected.next();
                }
            }
        });
    });
    let mut state = log.reader().beginning();
    sample::read(&log).iter().for_each(|envelope| evolve(&mut state, envelope));
    let workspace = state.workspace(sample::workspace(LIVE)).unwrap();
    assert_eq!((state.workspaces.len(), workspace.exec_count), (1, 20));
    log.checkpoints().save(&state).unwrap();
    assert_eq!(verify(dir.path()).unwrap().damage, None);
}
