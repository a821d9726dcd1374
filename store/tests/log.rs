//! Appending, reading, the lock.

use std::collections::BTreeSet;

use pyro_core::{Cause, Event, Seq, UnknownEvent};
use pyro_store::{AppendError, Draft, EventLog, Head, OpenError, Options, verify, verify_records};

use crate::sample;

/// Catches an event that is not read back as it was written, before and after reopening.
#[test]
fn every_kind_round_trips() {
    let dir = sample::dir();
    let log = sample::open(dir.path());
    let drafts = sample::every_kind().concat();
    assert_eq!(log.append(drafts.clone()).unwrap(), sample::envelopes(&drafts));
    assert_eq!(sample::read(&log), sample::envelopes(&drafts));
    drop(log);
    assert_eq!(sample::read(&sample::open(dir.path())), sample::envelopes(&drafts));
}

/// Catches numbers that are not dense, shared by two callers, or not contiguous within a batch.
#[test]
fn concurrent_batches_get_contiguous_numbers() {
    let dir = sample::dir();
    let log = sample::open_small(dir.path());
    let clients = 16;
    let batches: Vec<_> = std::thread::scope(|scope| {
        let append = |client: u32| {
            let log = log.clone();
            move || {
                (0..20)
                    .map(|n| log.append(sample::drafts(n..n + 1 + client % 3)).unwrap())
                    .collect::<Vec<_>>()
            }
        };
        let threads: Vec<_> = (0..clients).map(|client| scope.spawn(append(client))).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let mut seen = BTreeSet::new();
    for batch in &batches {
        let first = batch[0].seq.0;
        for (envelope, seq) in batch.iter().zip(first..) {
            assert_eq!(envelope.seq, Seq(seq));
            assert!(seen.insert(seq), "{seq} was given twice");
        }
    }
    let mut expected = batches.concat();
    expected.sort_by_key(|envelope| envelope.seq);
    assert_eq!(expected.last().unwrap().seq.0, u64::try_from(seen.len()).unwrap());
    assert_eq!(sample::read(&log), expected);
    drop(log);
    assert_eq!(sample::read(&sample::open_small(dir.path())), expected);
}

/// Catches a reader that starts at the wrong place, whatever the segment and however far the index is.
#[test]
fn reading_starts_at_every_number() {
    let dir = sample::dir();
    let log = sample::open_small(dir.path());
    let drafts = sample::drafts(0..600);
    for batch in drafts.chunks(3) {
        log.append(batch.to_vec()).unwrap();
    }
    assert!(sample::segments(dir.path()).len() > 10, "the log spans segments");
    let expected = sample::envelopes(&drafts);
    let check = |log: &EventLog| {
        for from in 0..=602 {
            let read: Vec<_> = log.reader().read(Seq(from)).map(Result::unwrap).collect();
            let skipped = usize::try_from(from.saturating_sub(1)).unwrap().min(600);
            assert_eq!(read, expected[skipped..], "from {from}");
        }
    };
    check(&log);
    drop(log);
    check(&sample::open_small(dir.path()));
}

/// Catches an iterator that runs into what was appended after it was made.
#[test]
fn reading_ends_at_the_head_of_the_call() {
    let dir = sample::dir();
    let log = sample::open(dir.path());
    log.append(sample::drafts(0..2)).unwrap();
    let read = log.reader().read(Seq(1));
    log.append(sample::drafts(2..4)).unwrap();
    assert_eq!(read.count(), 2);
    assert_eq!(log.reader().read(Seq(1)).count(), 4);
}

/// Catches a request whose outcome is not found at once, found in part, or replaced by a later one.
#[test]
fn request_finds_its_first_batch() {
    let dir = sample::dir();
    let log = sample::open_small(dir.path());
    let with_request = |numbers: std::ops::Range<u32>, request| {
        let caused = |draft: Draft| Draft { cause: Cause::Request(sample::request(request)), ..draft };
        sample::drafts(numbers).into_iter().map(caused).collect::<Vec<_>>()
    };
    let mut batches = Vec::new();
    for n in 0..300 {
        log.append(sample::drafts(n..n + 1)).unwrap();
        let batch = log.append(with_request(n..n + 1 + n % 3, u64::from(n))).unwrap();
        assert_eq!(
            log.reader().request(sample::request(u64::from(n))).unwrap(),
            batch,
            "right after the append"
        );
        batches.push(batch);
    }
    log.append(with_request(0..2, 7)).unwrap();
    let check = |log: &EventLog| {
        for (batch, n) in batches.iter().zip(0..) {
            assert_eq!(&log.reader().request(sample::request(n)).unwrap(), batch);
        }
        assert_eq!(log.reader().request(sample::request(9_999)).unwrap(), []);
    };
    check(&log);
    let reader = log.reader();
    drop(log);
    assert_eq!(reader.request(sample::request(7)).unwrap(), batches[7], "after closing, without the index");
    check(&sample::open_small(dir.path()));
}

/// Catches events of a workspace that are left out, doubled or mixed with others.
#[test]
fn read_workspace_gives_exactly_its_events() {
    let dir = sample::dir();
    let log = sample::open_small(dir.path());
    let drafts: Vec<_> = (0..1_500).map(|n| in_workspace(n, if n % 400 == 0 { 9 } else { 1 })).collect();
    let expected = sample::envelopes(&drafts);
    let check = |log: &EventLog| {
        for (workspace, from) in
            [(1, 1), (9, 0), (9, 401), (9, 402), (1, 700), (1, 1_500), (9, 1_501), (8, 1)]
        {
            let id = sample::workspace(workspace);
            let read: Vec<_> = log.reader().read_workspace(id, Seq(from)).map(Result::unwrap).collect();
            let wanted = |envelope: &&_| is_in(envelope, workspace) && envelope.seq >= Seq(from);
            assert_eq!(read, expected.iter().filter(wanted).cloned().collect::<Vec<_>>());
        }
    };
    for batch in drafts.chunks(100) {
        log.append(batch.to_vec()).unwrap();
    }
    check(&log);
    let reader = log.reader();
    drop(log);
    assert_eq!(
        reader.read_workspace(sample::workspace(9), Seq(1)).count(),
        4,
        "after closing, without the index"
    );
    check(&sample::open_small(dir.path()));
}

/// Catches a workspace that is not found any more, be it in the index, behind it, or without it.
#[test]
fn workspaces_are_found_by_the_beginning_of_their_ids() {
    let dir = sample::dir();
    let log = sample::open_small(dir.path());
    let check = |log: &EventLog, ids: &[u8]| {
        let found =
            |beginning: &str| log.reader().workspaces(beginning).unwrap().into_iter().collect::<Vec<_>>();
        assert_eq!(found(""), ids.iter().map(|id| sample::workspace(*id)).collect::<Vec<_>>());
        assert_eq!(
            (found("0902"), found("09020"), found("ff")),
            (vec![sample::workspace(9)], found("090"), vec![])
        );
    };
    for batch in (0..40_000_u32).collect::<Vec<_>>().chunks(2_000) {
        log.append(batch.iter().map(|n| in_workspace(*n, if *n == 30_000 { 9 } else { 1 })).collect())
            .unwrap();
    }
    log.append(vec![in_workspace(0, 9), sample::every_kind()[0][0].clone()]).unwrap();
    check(&log, &[1, 9]);
    let reader = log.reader();
    drop(log);
    assert_eq!(reader.workspaces("0902").unwrap().len(), 1, "after closing, without the index");
    let log = sample::open_small(dir.path());
    log.append(vec![in_workspace(0, 3)]).unwrap();
    check(&log, &[1, 3, 9]);
}

/// Catches a hash that is not the one of its record, wherever reading begins.
#[test]
fn records_carry_the_hashes_of_the_chain() {
    let dir = sample::dir();
    let log = sample::open_small(dir.path());
    log.append(sample::every_kind().concat()).unwrap();
    let mut verified = Vec::new();
    let report = verify_records(dir.path(), |record| verified.push(record)).unwrap();
    assert_eq!(
        verified.last().map(|record| (record.seq(), record.hash)),
        Some((report.head.seq, report.head.hash))
    );
    for from in 1..=verified.len() + 1 {
        let read: Vec<_> = log.reader().records(Seq(from as u64)).map(Result::unwrap).collect();
        assert_eq!(read, verified[from - 1..]);
    }
    let plain: Vec<_> = verified.into_iter().map(|record| record.envelope).collect();
    assert_eq!(plain, sample::read(&log));
}

/// Catches a kind that filters do not know, or know by another name.
#[test]
fn names_of_kinds_are_those_of_the_events() {
    let mut kinds: Vec<_> = sample::every_kind().iter().map(|drafts| drafts[0].event.kind()).collect();
    kinds.push(Event::Unknown(UnknownEvent { kind: 9, version: 1, payload: Vec::new() }).kind());
    let mut known = Event::KINDS.to_vec();
    kinds.sort_unstable();
    known.sort_unstable();
    assert_eq!(known, kinds);
}

fn in_workspace(number: u32, workspace: u8) -> Draft {
    let mut draft = sample::draft(number);
    if let Event::ExecStarted(event) = &mut draft.event {
        event.workspace = sample::workspace(workspace);
    }
    draft
}

fn is_in(envelope: &pyro_core::Envelope, workspace: u8) -> bool {
    envelope.event.workspace() == Some(sample::workspace(workspace))
}

/// Catches a batch without events that blocks or takes a number, and heads that are not the log's.
#[test]
fn an_empty_batch_is_nothing() {
    let dir = sample::dir();
    let log = sample::open(dir.path());
    assert_eq!(log.head(), Head { seq: Seq::ZERO, hash: [0; 32] });
    assert_eq!(log.append(Vec::new()).unwrap(), []);
    assert_eq!(log.head().seq, Seq::ZERO);
    log.append(sample::drafts(0..1)).unwrap();
    assert_eq!(log.head().seq, Seq(1));
    assert_ne!(log.head().hash, [0; 32]);
    assert_eq!(log.reader().head(), log.head());
}

/// Catches a record that could be written and then not be read.
#[test]
fn what_no_record_can_hold_is_refused() {
    let dir = sample::dir();
    let log = sample::open(dir.path());
    let mut long = sample::draft(1);
    long.actor.client = "x".repeat(2 << 20);
    assert!(matches!(log.append(vec![sample::draft(0), long]), Err(AppendError::TooLong)));
    let event = Event::Unknown(UnknownEvent { kind: 51, version: 1, payload: Vec::new() });
    let unknown = Draft { event, ..sample::draft(1) };
    assert!(matches!(log.append(vec![unknown]), Err(AppendError::UnknownEvent)));
    log.append(sample::drafts(0..1)).unwrap();
    assert_eq!(sample::read(&log), sample::envelopes(&sample::drafts(0..1)));
}

/// Catches two writers on one log, and a lock that outlives its holder.
#[test]
fn the_second_opener_is_told_who_has_the_log() {
    let dir = sample::dir();
    let log = sample::open(dir.path());
    let second = EventLog::open(dir.path(), Options::default());
    assert!(matches!(second, Err(OpenError::Locked { pid }) if pid == std::process::id()), "{second:?}");
    let handle = log.clone();
    drop(log);
    assert!(EventLog::open(dir.path(), Options::default()).is_err(), "a handle is left");
    drop(handle);
    sample::open(dir.path());
}

/// Catches files that other users can read.
#[test]
fn files_are_private() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = sample::dir();
    let log_dir = dir.path().join("a/log");
    let log = sample::open_small(&log_dir);
    log.append(sample::drafts(0..100)).unwrap();
    assert_eq!(log_dir.metadata().unwrap().permissions().mode() & 0o777, 0o700);
    for name in ["lock", "anchor", "index.state", "00000000000000000001.seg"] {
        assert_eq!(log_dir.join(name).metadata().unwrap().permissions().mode() & 0o777, 0o600, "{name}");
    }
}

/// Catches a `verify` that takes a log for damaged because somebody appends to it.
#[test]
fn verify_may_run_beside_the_writer() {
    let dir = sample::dir();
    let log = sample::open_small(dir.path());
    std::thread::scope(|scope| {
        let appender =
            scope.spawn(|| (0..400).for_each(|n| drop(log.append(sample::drafts(n..n + 3)).unwrap())));
        while !appender.is_finished() {
            let before = log.head().seq;
            let report = verify(dir.path()).unwrap();
            assert_eq!(report.damage, None);
            assert!(report.head.seq >= before);
        }
    });
}
