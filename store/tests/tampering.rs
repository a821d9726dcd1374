//! Edits by somebody who knows the format: every one of them is found with the anchor, or with a head that was kept
//! elsewhere.
//!
//! The first kind of attacker corrects checksums, numbers and the headers of segments, and stops at the hashes. The second
//! one computes all hashes anew and writes an anchor to go with them.

use std::cell::Cell;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{TestRng, TestRunner};
use pyro_core::{Envelope, Seq};
use pyro_store::{Draft, EventLog, Hash, HostDisk, Options, verify_records};
use tempfile::TempDir;

use crate::layout::{self, HEAD_LEN, HEADER_LEN, Record};
use crate::sample;

/// Edits of each kind of attacker.
const EDITS: u32 = 1_100;

/// So many of them must be edits: to exchange a record with itself is none.
const REAL_EDITS_MIN: u32 = 1_000;

/// Records of the log that is edited.
const RECORDS: u32 = 90;

/// What an attacker does to a log. The places are taken by the length of what there is.
#[derive(Clone, Debug)]
enum Edit {
    /// Another byte in a payload.
    Change { at: Index, byte: Index, by: u8 },
    /// A record goes.
    Delete(Index),
    /// Two records stand in each other's place.
    Exchange(Index, Index),
    /// A record comes again, before another: what stands behind the last one is a torn tail, or news.
    Insert { copied: Index, before: Index },
    /// The end goes, from a record on.
    CutTail(Index),
}

fn edit() -> impl Strategy<Value = Edit> {
    let at = any::<Index>;
    prop_oneof![
        (at(), at(), 1_u8..).prop_map(|(at, byte, by)| Edit::Change { at, byte, by }),
        at().prop_map(Edit::Delete),
        (at(), at()).prop_map(|(one, other)| Edit::Exchange(one, other)),
        (at(), at()).prop_map(|(copied, before)| Edit::Insert { copied, before }),
        at().prop_map(Edit::CutTail),
    ]
}

impl Edit {
    /// Does it to a list; `change` does it to one element.
    fn apply<T: Clone>(&self, list: &mut Vec<T>, change: impl FnOnce(&mut T, &Index, u8)) {
        let len = list.len();
        match self {
            Self::Change { at, byte, by } => change(&mut list[at.index(len)], byte, *by),
            Self::Delete(at) => drop(list.remove(at.index(len))),
            Self::Exchange(one, other) => list.swap(one.index(len), other.index(len)),
            Self::Insert { copied, before } => {
                let copy = list[copied.index(len)].clone();
                list.insert(before.index(len), copy);
            }
            Self::CutTail(at) => list.truncate(at.index(len)),
        }
    }
}

/// A log as it was written.
struct Original {
    dir: TempDir,
    events: Vec<Envelope>,
    /// The head that somebody kept elsewhere.
    kept: (Seq, Hash),
    /// An anchor from the middle of its life.
    old_anchor: Vec<u8>,
}

fn original() -> Original {
    let dir = sample::dir();
    let append = |numbers: std::ops::Range<u32>| {
        let log = sample::open_small(dir.path());
        for number in numbers {
            log.append(sample::drafts(number..number + 1)).unwrap();
        }
        log
    };
    drop(append(0..RECORDS / 2));
    let old_anchor = fs::read(dir.path().join("anchor")).unwrap();
    let log = append(RECORDS / 2..RECORDS);
    let (events, head) = (sample::read(&log), log.head());
    drop(log);
    assert!(sample::segments(dir.path()).len() > 3, "there are segments to exchange");
    Original { dir, events, kept: (head.seq, head.hash), old_anchor }
}

/// Catches an edit that is not found because checksums, numbers and headers were corrected.
#[test]
fn edits_with_right_checksums_break_the_chain() {
    let original = original();
    let segments: Vec<_> =
        sample::segments(original.dir.path()).iter().map(|path| frames(&fs::read(path).unwrap())).collect();
    let whole = segments.concat();
    let lens: Vec<_> = segments.iter().map(Vec::len).collect();
    let real = Cell::new(0);
    let strategy = (edit(), proptest::bool::weighted(0.1));
    let edits = runner(EDITS).run(&strategy, |(edit, exchanges_anchor)| {
        let mut edited = whole.clone();
        edit.apply(&mut edited, |frame, byte, by| {
            let byte = HEAD_LEN + byte.index(frame.len() - HEAD_LEN);
            frame[byte] ^= by;
        });
        let dir = sample::dir();
        fs::write(dir.path().join("anchor"), fs::read(original.dir.path().join("anchor")).unwrap()).unwrap();
        if exchanges_anchor {
            fs::write(dir.path().join("anchor"), &original.old_anchor).unwrap();
        }
        write(dir.path(), &edited, &lens);
        real.set(real.get() + u32::from(edited != whole));
        let expected = if edited == whole {
            [Found::Nothing; 2]
        } else if exchanges_anchor {
            // It guards half of the log only. What is cut or broken behind it looks like what was never there.
            [Found::ByAnchor, Found::ByHead]
        } else {
            [Found::ByAnchor; 2]
        };
        let found = found(dir.path(), original.kept);
        prop_assert!(expected.contains(&found), "{edit:?}: {found:?}");
        let opened = EventLog::open_on(Arc::new(HostDisk), dir.path(), Options::default());
        let is_whole = |log: EventLog| log.reader().read(Seq(1)).all(|event| event.is_ok());
        prop_assert!(found != Found::ByAnchor || !opened.is_ok_and(is_whole), "{edit:?} is read as if whole");
        Ok(())
    });
    edits.unwrap();
    assert!(real.get() >= REAL_EDITS_MIN);
}

/// Returns the records of a segment as bytes.
fn frames(segment: &[u8]) -> Vec<Vec<u8>> {
    let records = layout::records(segment).into_iter();
    let frame = |record: Record| segment[record.offset..][..HEAD_LEN + record.payload.len()].to_vec();
    records.map(frame).collect()
}

/// Writes records to segments of so many records, the rest to the last one, with right names, headers, numbers and
/// checksums. The hashes stay as they are.
fn write(dir: &Path, frames: &[Vec<u8>], lens: &[usize]) {
    let (mut seq, mut previous) = (1_u64, (0_u64, 0_u64, vec![0; 32]));
    let mut rest = frames;
    for (number, len) in lens.iter().enumerate() {
        let is_last = number + 1 == lens.len() || rest.len() <= *len;
        let (here, behind) = if is_last { (rest, &rest[..0]) } else { rest.split_at(*len) };
        let mut bytes = vec![0; HEADER_LEN];
        bytes[..8].copy_from_slice(b"PYROSEG\0");
        bytes[12..16].copy_from_slice(&1_u32.to_le_bytes());
        bytes[16..24].copy_from_slice(&seq.to_le_bytes());
        bytes[24..32].copy_from_slice(&previous.0.to_le_bytes());
        bytes[32..40].copy_from_slice(&previous.1.to_le_bytes());
        bytes[40..72].copy_from_slice(&previous.2);
        let checksum = crc32fast::hash(&bytes[12..]);
        bytes[8..12].copy_from_slice(&checksum.to_le_bytes());
        let (path, first) = (dir.join(format!("{seq:020}.seg")), seq);
        for frame in here {
            let place = bytes.len();
            bytes.extend_from_slice(frame);
            bytes[place + 8..place + 16].copy_from_slice(&seq.to_le_bytes());
            layout::correct_checksum(&mut bytes, place);
            previous.2 = frame[24..HEAD_LEN].to_vec();
            seq += 1;
        }
        (previous.0, previous.1) = (first, u64::try_from(bytes.len()).unwrap());
        fs::write(path, bytes).unwrap();
        if is_last {
            break;
        }
        rest = behind;
    }
}

/// Catches segments that stand in each other's place, also when their headers and names fit.
#[test]
fn exchanged_segments_break_the_chain() {
    let original = original();
    let paths = sample::segments(original.dir.path());
    for one in 0..paths.len() {
        for other in 0..paths.len() {
            if one == other {
                continue;
            }
            let dir = sample::dir();
            sample::copy_log(original.dir.path(), dir.path());
            let header = fs::read(&paths[one]).unwrap()[..HEADER_LEN].to_vec();
            let records = fs::read(&paths[other]).unwrap()[HEADER_LEN..].to_vec();
            let bytes = [header, records].concat();
            fs::write(dir.path().join(sample::name(&paths[one])), bytes).unwrap();
            assert_eq!(found(dir.path(), original.kept), Found::ByAnchor, "{other} in the place of {one}");
        }
    }
}

/// Catches a history that was written anew, chain and anchor included, and passes for the first one: the anchor cannot
/// tell, and a kept head can.
#[test]
fn only_a_kept_head_tells_a_rewritten_log() {
    let original = original();
    let real = Cell::new(0);
    runner(EDITS)
        .run(&edit(), |edit| {
            let mut drafts: Vec<_> = original.events.iter().map(draft).collect();
            let before = drafts.clone();
            edit.apply(&mut drafts, |draft, _, by| draft.at.0 ^= u64::from(by));
            let dir = sample::dir();
            let options = Options { segment_len_max: 2_000 };
            let log = EventLog::open_on(Arc::new(HostDisk), dir.path(), options).unwrap();
            for draft in &drafts {
                log.append(vec![draft.clone()]).unwrap();
            }
            drop(log);
            real.set(real.get() + u32::from(drafts != before));
            let expected = if drafts == before { Found::Nothing } else { Found::ByHead };
            prop_assert_eq!(found(dir.path(), original.kept), expected, "{:?}", edit);
            Ok(())
        })
        .unwrap();
    assert!(real.get() >= REAL_EDITS_MIN);
}

/// What shows that a log is not the one that was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    /// The log by itself, together with its anchor.
    ByAnchor,
    /// Only the head that was kept elsewhere.
    ByHead,
    Nothing,
}

fn found(dir: &Path, (seq, hash): (Seq, Hash)) -> Found {
    let mut at_kept = None;
    let report = verify_records(dir, |record| {
        if record.seq() == seq {
            at_kept = Some(record.hash);
        }
    });
    if report.unwrap().damage.is_some() {
        return Found::ByAnchor;
    }
    if at_kept == Some(hash) { Found::Nothing } else { Found::ByHead }
}

/// Returns a runner that does the same every time.
fn runner(cases: u32) -> TestRunner {
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    let rng = TestRng::deterministic_rng(config.rng_algorithm);
    TestRunner::new_with_rng(config, rng)
}

fn draft(envelope: &Envelope) -> Draft {
    Draft {
        at: envelope.at,
        actor: envelope.actor.clone(),
        cause: envelope.cause,
        event: envelope.event.clone(),
    }
}
