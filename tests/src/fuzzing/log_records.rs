//! Records of the log, with right checksums and hashes around any payload.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use pyro_core::{Envelope, Event, Seq, State, evolve};
use pyro_store::{Corruption, Draft, EventLog, Fault, HostDisk, Options, Report, verify_records};

use super::log_segment::layout::{self, Record};
use super::log_segment::{FIRST_SEGMENT, scratch};

pub(super) const WORDS: &[&[u8]] = &[
    b"\x01\x00\x01\x00",
    b"\x1e\x00\x01\x00",
    b"\x33\x00\x02\x00",
    b"\xfd\xff",
    b"\x00\x00\x00\x00\xfd\xff\xff\xff\xff\xff\xff\xff\xff",
    b"\xfb\x00\x00",
    b"\xfc\x00\x00\x00\x00",
    b"\xfd\x00\x00\x00\x00\x00\x00\x00\x00",
    b"\xfe",
    b"\xed\xa0\x80",
];

/// Most records of one input, so that it takes about as long as any other.
const RECORDS_MAX: usize = 64;

/// Takes the input for records, each with kind, version, length (u16, little-endian, each) and payload; the last one may
/// be cut. The log reads them up to the first that does not decode, names that one, folds the others, and what is
/// appended again is read as it was.
pub(super) fn run(input: &[u8]) {
    let records = records(input);
    if records.is_empty() {
        return;
    }
    let (_, hash) = layout::segment(&records);
    let (mut read, report) = verified(&records);
    match report.damage {
        None => assert_eq!((report.head.seq.0, report.head.hash), (records.len() as u64, hash)),
        Some(Corruption::Record { seq, fault: Fault::Payload, .. }) => {
            assert_eq!(read.len() as u64 + 1, seq.0, "another record is blamed");
        }
        other => panic!("the records are all right but for their payloads: {other:?}"),
    }
    let mut state = State::default();
    for (record, raw) in read.iter().zip(&records) {
        assert_eq!((record.seq(), record.version), (Seq(raw.seq), raw.version));
        if let Event::Unknown(unknown) = &record.envelope.event {
            assert_eq!((unknown.kind, unknown.version), (raw.kind, raw.version));
            assert!(raw.payload.ends_with(&unknown.payload), "what is unknown is kept as it is");
        }
        evolve(&mut state, &record.envelope);
        assert_eq!(state.seq, record.seq());
    }
    let is_known = |record: &pyro_store::Record| !matches!(record.envelope.event, Event::Unknown(_));
    if let Some(place) = read.iter().position(is_known) {
        check_longer(&records[place]);
    }
    read.retain(is_known);
    append_again(&read.into_iter().map(|record| record.envelope).collect::<Vec<_>>());
}

/// Writes a log of these records; returns what verification shows of it, and its report.
fn verified(records: &[Record]) -> (Vec<pyro_store::Record>, Report) {
    let dir = scratch();
    let (segment, hash) = layout::segment(records);
    let anchor = layout::anchor(records.len() as u64, &hash);
    fs::write(dir.path().join(FIRST_SEGMENT), segment).expect("there is room for a segment");
    fs::write(dir.path().join("anchor"), anchor).expect("there is room for an anchor");
    let mut shown = Vec::new();
    let report = verify_records(dir.path(), |record| shown.push(record)).expect("the files can be read");
    (shown, report)
}

/// Takes the input apart. Each record is a batch of its own, so that those before a bad one are shown.
fn records(mut input: &[u8]) -> Vec<Record> {
    let mut records = Vec::new();
    while let ([a, b, c, d, e, f, rest @ ..], true) = (input, records.len() < RECORDS_MAX) {
        let len = usize::from(u16::from_le_bytes([*e, *f])).min(rest.len());
        let (payload, after) = rest.split_at(len);
        input = after;
        if payload.is_empty() {
            continue;
        }
        records.push(Record {
            seq: records.len() as u64 + 1,
            kind: u16::from_le_bytes([*a, *b]),
            version: u16::from_le_bytes([*c, *d]),
            flags: 1,
            payload: payload.to_vec(),
            offset: 0,
        });
    }
    records
}

/// Checks that a byte behind the payload of a record is not passed over.
fn check_longer(record: &Record) {
    let payload = [&record.payload[..], b"\0"].concat();
    let (shown, report) = verified(&[Record { seq: 1, payload, ..record.clone() }]);
    let is_refused = matches!(report.damage, Some(Corruption::Record { fault: Fault::Payload, .. }));
    assert!(is_refused, "a byte behind the payload is passed over: {shown:?}");
}

/// Returns where records and payloads begin.
pub(super) fn fields(input: &[u8]) -> Vec<usize> {
    let mut fields = Vec::new();
    let mut place = 0;
    while let Some([low, high]) = input.get(place + 4..place + 6) {
        fields.extend([place, place + 2, place + 4, place + 6]);
        place += 6 + usize::from(u16::from_le_bytes([*low, *high]));
    }
    fields
}

/// Appends events to a log of their own and checks that it gives them back as they were.
fn append_again(envelopes: &[Envelope]) {
    let dir = scratch();
    let draft = |envelope: &Envelope| Draft {
        at: envelope.at,
        actor: envelope.actor.clone(),
        cause: envelope.cause,
        event: envelope.event.clone(),
    };
    let drafts: Vec<_> = envelopes.iter().map(draft).collect();
    let log =
        EventLog::open_on(Arc::new(HostDisk), dir.path(), Options::default()).expect("an empty log opens");
    log.append(drafts.clone()).expect("what was read can be written");
    let read = log.reader().read(Seq(1)).collect::<Result<Vec<_>, _>>();
    let read: Vec<_> = read.expect("what was written can be read").iter().map(draft).collect();
    assert!(read == drafts, "an event changed on its way through the log: {read:?}, {drafts:?}");
}

/// Returns the records of the golden files of each kind, one file at a time and all in one log.
pub(super) fn seeds() -> Vec<Vec<u8>> {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../store/tests/golden/v1");
    let paths = fs::read_dir(golden).expect("the golden files are there");
    let mut paths: Vec<_> = paths.map(|entry| entry.expect("the directory can be read").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "seg"));
    paths.sort();
    let mut seeds: Vec<Vec<u8>> = paths
        .iter()
        .map(|path| {
            let records = layout::records(&fs::read(path).expect("a golden file can be read"));
            records.iter().flat_map(to_input).collect()
        })
        .collect();
    seeds.push(seeds.concat());
    seeds
}

fn to_input(record: &Record) -> Vec<u8> {
    let len = u16::try_from(record.payload.len()).expect("golden records are short");
    [&record.kind.to_le_bytes()[..], &record.version.to_le_bytes(), &len.to_le_bytes(), &record.payload]
        .concat()
}
