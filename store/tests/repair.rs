//! `repair`: the log opens again with an exact prefix, and nothing that was taken out is gone.

use std::fs;
use std::path::Path;

use pyro_core::Seq;
use pyro_store::{Corruption, EventLog, OpenError, Options, RepairError, repair, repair_at, verify};

use crate::layout::{self, HEAD_LEN};
use crate::sample;

const FIRST_SEGMENT: &str = "00000000000000000001.seg";

fn fill(dir: &Path) {
    let log = sample::open_small(dir);
    for n in 0..100 {
        log.append(sample::drafts(2 * n..2 * n + 2)).unwrap();
    }
}

/// Repairs, and checks that the log then holds the first `end` events and takes more.
fn repair_to(dir: &Path, end: u64) -> pyro_store::Repaired {
    assert!(matches!(EventLog::open(dir, Options::default()), Err(OpenError::Corrupt(_))));
    let repaired = repair(dir).unwrap();
    assert_eq!(repaired.head.seq, Seq(end));
    assert_eq!(verify(dir).unwrap().damage, None);
    let log = sample::open_small(dir);
    assert_eq!(log.recovered().torn_len, 0);
    let kept = sample::envelopes(&sample::drafts(0..u32::try_from(end).unwrap()));
    assert_eq!(sample::read(&log), kept);
    assert_eq!(log.append(sample::drafts(0..1)).unwrap()[0].seq, Seq(end + 1));
    drop(log);
    assert_eq!(sample::read(&sample::open_small(dir)).len(), kept.len() + 1);
    repaired
}

/// Catches a repair that cuts inside a batch, cuts too much, or loses what it cuts.
#[test]
fn damage_is_cut_before_its_batch_and_kept_aside() {
    let dir = sample::dir();
    fill(dir.path());
    let paths = sample::segments(dir.path());
    let mut bytes = fs::read(&paths[3]).unwrap();
    let record = layout::records(&bytes).into_iter().filter(|record| record.flags == 1).nth(2).unwrap();
    bytes[record.offset + HEAD_LEN] ^= 1;
    fs::write(&paths[3], &bytes).unwrap();
    // The first segments are read when the index is built, so the damage shows at once.
    fs::remove_dir_all(dir.path().join("index")).unwrap();

    let repaired = repair_to(dir.path(), record.seq - 2);
    assert_eq!(repaired.damage.unwrap().first_bad(), Some(Seq(record.seq)));
    let backup = repaired.backup.unwrap();
    assert_eq!(fs::read(backup.join(paths[3].file_name().unwrap())).unwrap(), bytes);
    for path in &paths[4..] {
        assert!(backup.join(path.file_name().unwrap()).exists(), "{} is kept", path.display());
    }
    assert!(backup.join("anchor").exists());
}

/// Catches a repair that cannot deal with a segment of which not even the header is left.
#[test]
fn a_segment_without_header_is_taken_out() {
    let dir = sample::dir();
    fill(dir.path());
    let paths = sample::segments(dir.path());
    let first = layout::records(&fs::read(&paths[2]).unwrap())[0].seq;
    fs::write(&paths[2], b"").unwrap();
    repair_to(dir.path(), first - 1);
}

/// Catches a repair that fails on the first segment, where nothing is left.
#[test]
fn a_log_without_a_valid_record_starts_again() {
    let dir = sample::dir();
    fill(dir.path());
    fs::write(dir.path().join(FIRST_SEGMENT), [0; 300]).unwrap();
    let repaired = repair_to(dir.path(), 0);
    assert_eq!(fs::read(repaired.backup.unwrap().join(FIRST_SEGMENT)).unwrap(), [0; 300]);
}

/// Catches a first segment that claims a past, with a right checksum: once taken for a torn tail by `verify` and `repair`,
/// which so left a log that never opens.
#[test]
fn a_header_with_a_right_checksum_is_no_torn_tail() {
    let dir = sample::dir();
    let path = dir.path().join(FIRST_SEGMENT);
    drop(sample::open(dir.path()));
    let old_anchor = fs::read(dir.path().join("anchor")).unwrap();
    sample::open(dir.path()).append(sample::drafts(0..2)).unwrap();
    let mut bytes = fs::read(&path).unwrap();
    bytes[50] = 0xff;
    let checksum = crc32fast::hash(&bytes[12..80]);
    bytes[8..12].copy_from_slice(&checksum.to_le_bytes());
    fs::write(&path, &bytes).unwrap();
    fs::write(dir.path().join("anchor"), old_anchor).unwrap();
    assert_eq!(verify(dir.path()).unwrap().damage.unwrap().first_bad(), Some(Seq(1)));
    let repaired = repair_to(dir.path(), 0);
    assert_eq!(fs::read(repaired.backup.unwrap().join(FIRST_SEGMENT)).unwrap(), bytes);
}

/// Catches a log that lost its end, or its anchor, and can never be opened again.
#[test]
fn a_wrong_anchor_is_replaced() {
    let dir = sample::dir();
    fill(dir.path());
    let last = sample::segments(dir.path()).pop().unwrap();
    let bytes = fs::read(&last).unwrap();
    let second = layout::records(&bytes)[2].clone();
    fs::write(&last, &bytes[..second.offset]).unwrap();
    let repaired = repair_to(dir.path(), second.seq - 1);
    let shortened = Corruption::Shortened { anchor: Seq(200), head: Seq(second.seq - 1) };
    assert_eq!(repaired.damage, Some(shortened));

    let dir = sample::dir();
    fill(dir.path());
    fs::remove_file(dir.path().join("anchor")).unwrap();
    assert_eq!(repair_to(dir.path(), 200).damage, Some(Corruption::NoAnchor));
}

/// Catches a cut at another place than the one that was asked for, and one that keeps the damage.
#[test]
fn a_damaged_log_can_be_cut_earlier() {
    for at in [1, 2, 3, 20, 21, 39, 40] {
        let dir = sample::dir();
        fill(dir.path());
        let paths = sample::segments(dir.path());
        let place =
            paths.iter().position(|path| layout::records(&fs::read(path).unwrap())[0].seq > 40).unwrap();
        let mut bytes = fs::read(&paths[place]).unwrap();
        let first = layout::records(&bytes)[0].seq;
        bytes[HEAD_LEN + 100] ^= 1;
        fs::write(&paths[place], &bytes).unwrap();
        let behind = repair_at(dir.path(), Seq(first + 1));
        assert!(matches!(behind, Err(RepairError::BehindDamage { head, .. }) if head == Seq(first - 1)));
        let repaired = repair_at(dir.path(), Seq(at)).unwrap();
        // Batches are of two records, and a batch is kept whole or not at all.
        let kept = (at - 1) / 2 * 2;
        assert_eq!((repaired.head.seq, repaired.reached), (Seq(kept), Seq(200)));
        assert_eq!(verify(dir.path()).unwrap().damage, None);
        let expected = sample::envelopes(&sample::drafts(0..u32::try_from(kept).unwrap()));
        assert_eq!(sample::read(&sample::open_small(dir.path())), expected);
    }
}

/// Catches a repair that touches a log which is fine or in use.
#[test]
fn a_whole_log_and_an_open_log_are_left_alone() {
    let dir = sample::dir();
    fill(dir.path());
    let before = fs::read(&sample::segments(dir.path())[1]).unwrap();
    let repaired = repair(dir.path()).unwrap();
    assert_eq!((repaired.damage, repaired.backup, repaired.head.seq), (None, None, Seq(200)));
    assert_eq!(repair_at(dir.path(), Seq(5)).unwrap().head.seq, Seq(200), "there is no damage to cut");
    assert_eq!(fs::read(&sample::segments(dir.path())[1]).unwrap(), before);
    let log = sample::open(dir.path());
    assert!(matches!(repair(dir.path()), Err(RepairError::Locked { pid }) if pid == std::process::id()));
    assert_eq!(log.recovered().torn_len, 0);
}

/// Catches an old program that takes the log of a newer one for damaged and cuts it.
#[test]
fn a_newer_format_is_not_damage() {
    let dir = sample::dir();
    fill(dir.path());
    let path = dir.path().join(FIRST_SEGMENT);
    let mut bytes = fs::read(&path).unwrap();
    bytes[12..16].copy_from_slice(&2_u32.to_le_bytes());
    let checksum = crc32fast::hash(&bytes[12..80]);
    bytes[8..12].copy_from_slice(&checksum.to_le_bytes());
    fs::write(&path, &bytes).unwrap();
    assert!(matches!(repair(dir.path()), Err(RepairError::NewerFormat { found: 2 })));
    assert_eq!(fs::read(&path).unwrap(), bytes);
}
