//! A segment file of the log.

#[expect(clippy::unwrap_used, reason = "it belongs to the tests of the store")]
#[path = "../../../store/tests/layout.rs"]
pub(super) mod layout;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use pyro_core::Seq;
use pyro_store::{
    Corruption, EventLog, Fault, GENESIS, HostDisk, Options, RepairError, Report, repair, verify_records,
};

use tempfile::TempDir;

use layout::{HEAD_LEN, HEADER_LEN, correct_checksum};

/// Name of a log's first segment.
pub(super) const FIRST_SEGMENT: &str = "00000000000000000001.seg";

pub(super) const WORDS: &[&[u8]] = &[
    b"PYROSEG\0",
    b"\x01\x00\x00\x00",
    b"\x00\x00\x10\x00",
    b"\x01\x00\x10\x00",
    b"\xff\xff\xff\xff",
    b"\xff\xff\xff\xff\xff\xff\xff\xff",
];

/// Where the hash stands in a record.
const HASH: std::ops::Range<usize> = 24..HEAD_LEN;

/// Longest payload of a record, in bytes.
const PAYLOAD_LEN_MAX: usize = 1 << 20;

/// Takes the input for the only segment of a log whose anchor guards nothing, as it is, with right checksums, and with
/// right hashes too. What is shown is a prefix, and so is what a log shows that opens; after a repair it is all that
/// there is.
pub(super) fn run(input: &[u8]) {
    check(input);
    let mut corrected = input.to_vec();
    correct(&mut corrected, &[]);
    if corrected != input {
        check(&corrected);
    }
    let mut chained = input.to_vec();
    let places = records(input);
    correct(&mut chained, &places);
    if chained != corrected {
        check(&chained);
    }
}

fn check(segment: &[u8]) {
    let dir = scratch();
    fs::write(dir.path().join(FIRST_SEGMENT), segment).expect("there is room for a segment");
    fs::write(dir.path().join("anchor"), layout::anchor(0, &GENESIS)).expect("there is room for an anchor");
    let (shown, report) = read(dir.path());
    assert_eq!(report.head.seq, Seq(shown.len() as u64), "what is shown ends with the head");
    let places = shown.iter().map(|(seq, _)| *seq);
    assert!(places.eq((1..).map(Seq).take(shown.len())), "records are shown in order, without gaps");
    assert!(report.torn_len <= segment.len() as u64);
    match repair(dir.path()) {
        Ok(repaired) => {
            assert_eq!(repaired.damage, report.damage, "repair and verify see the same");
            assert_eq!(repaired.head, report.head);
        }
        Err(RepairError::NewerFormat { .. }) => {
            assert!(matches!(report.damage, Some(Corruption::Record { fault: Fault::Format { .. }, .. })));
            return;
        }
        Err(error) => panic!("the log cannot be repaired: {error}"),
    }
    let (kept, after) = read(dir.path());
    assert_eq!(after.damage, None, "a repaired log is whole");
    assert_eq!(
        (&kept, after.head),
        (&shown, report.head),
        "a repair keeps all that can be trusted, as it was"
    );
    let log = EventLog::open_on(Arc::new(HostDisk), dir.path(), Options::default());
    let log = log.expect("a repaired log opens");
    assert_eq!((log.head(), log.recovered().torn_len), (after.head, after.torn_len));
    let opened = log.reader().records(Seq(1)).map(|record| shown_as(&record.expect("it is whole")));
    assert!(opened.eq(kept), "a log shows what its verification does");
}

/// Returns an empty directory where `TMPDIR` says, or in memory: the log makes durable what it writes.
pub(super) fn scratch() -> TempDir {
    let memory = Path::new("/dev/shm");
    let dir = if std::env::var_os("TMPDIR").is_none() && memory.is_dir() {
        tempfile::tempdir_in(memory)
    } else {
        tempfile::tempdir()
    };
    dir.expect("there is room for a directory")
}

/// Returns what verification shows of a log, and its report.
fn read(dir: &Path) -> (Vec<(Seq, String)>, Report) {
    let mut shown = Vec::new();
    let report = verify_records(dir, |record| shown.push(shown_as(&record)));
    (shown, report.expect("the files can be read"))
}

fn shown_as(record: &pyro_store::Record) -> (Seq, String) {
    (record.seq(), format!("{record:?}"))
}

/// Corrects the checksums of header and records, and before that the hashes of the records at these places.
fn correct(segment: &mut [u8], chained: &[usize]) {
    if segment.len() < HEADER_LEN {
        return;
    }
    let mut hash = GENESIS;
    for place in chained {
        let len = payload_len(&segment[*place..]).expect("a record is there as a whole");
        let record = &mut segment[*place..place + HEAD_LEN + len];
        record[HASH].copy_from_slice(&hash);
        hash = *blake3::hash(&record[4..]).as_bytes();
        record[HASH].copy_from_slice(&hash);
    }
    let checksum = crc32fast::hash(&segment[12..HEADER_LEN]);
    segment[8..12].copy_from_slice(&checksum.to_le_bytes());
    for place in records(segment) {
        correct_checksum(segment, place);
    }
}

/// Returns where records begin that are there as a whole, by their lengths.
fn records(segment: &[u8]) -> Vec<usize> {
    let mut places = Vec::new();
    let mut place = HEADER_LEN;
    while let Some(len) = segment.get(place..).and_then(payload_len) {
        places.push(place);
        place += HEAD_LEN + len;
    }
    places
}

/// Returns where the fields of header and records begin.
pub(super) fn fields(input: &[u8]) -> Vec<usize> {
    let header = [0, 8, 12, 16, 24, 32, 40, 72].into_iter().filter(|at| *at < input.len());
    let heads = records(input);
    let heads = heads.iter().flat_map(|place| [0, 4, 8, 16, 18, 20, 24, 56].map(|at| place + at));
    header.chain(heads).collect()
}

/// Returns the length of the payload of a record that is there as a whole.
fn payload_len(record: &[u8]) -> Option<usize> {
    let field = record.get(4..8)?.try_into().ok()?;
    let len = usize::try_from(u32::from_le_bytes(field)).ok()?;
    (len <= PAYLOAD_LEN_MAX && HEAD_LEN + len <= record.len()).then_some(len)
}

/// Returns a log of golden records, an empty one, and one with a record cut short.
pub(super) fn seeds() -> Vec<Vec<u8>> {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../store/tests/golden/v1");
    let golden = |kind: &str| {
        let segment = fs::read(golden.join(kind).with_extension("seg")).expect("the golden file is there");
        layout::records(&segment)
    };
    let mut records = [golden("workspace_created"), golden("exec_exited"), golden("shell_exited")].concat();
    for (record, seq) in records.iter_mut().zip(1..) {
        (record.seq, record.flags) = (seq, u32::from(seq % 3 != 1));
    }
    let (whole, _) = layout::segment(&records);
    let (empty, _) = layout::segment(&[]);
    let cut = whole[..whole.len() - 9].to_vec();
    vec![whole, empty, cut]
}
