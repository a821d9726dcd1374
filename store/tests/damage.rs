//! Damage to segments and anchor: an exact prefix, or an error that names the first bad record. Never a panic, never an
//! event that differs from what was written.

use std::fs;
use std::path::Path;

use pyro_core::{Envelope, Seq};
use pyro_store::{Corruption, EventLog, Fault, OpenError, Options, ReadError, verify};

use crate::layout::{self, HEAD_LEN, HEADER_LEN};
use crate::sample;

const FIRST_SEGMENT: &str = "00000000000000000001.seg";

/// How many records each batch of the log below has.
const BATCHES: [u32; 4] = [1, 3, 1, 2];

/// A log of one segment as it stands on disk, and what is in it.
struct Image {
    segment: Vec<u8>,
    anchor: Vec<u8>,
    /// The anchor of the empty log, as after a power cut that lost all newer ones.
    old_anchor: Vec<u8>,
    events: Vec<Envelope>,
}

impl Image {
    fn take() -> Self {
        let dir = sample::dir();
        drop(sample::open(dir.path()));
        let old_anchor = fs::read(dir.path().join("anchor")).unwrap();
        let log = sample::open(dir.path());
        let mut start = 0;
        for len in BATCHES {
            log.append(sample::drafts(start..start + len)).unwrap();
            start += len;
        }
        let events = sample::read(&log);
        drop(log);
        let segment = fs::read(dir.path().join(FIRST_SEGMENT)).unwrap();
        let anchor = fs::read(dir.path().join("anchor")).unwrap();
        Self { segment, anchor, old_anchor, events }
    }

    fn restore(&self, dir: &Path, segment: &[u8], anchor: &[u8]) {
        fs::write(dir.join(FIRST_SEGMENT), segment).unwrap();
        fs::write(dir.join("anchor"), anchor).unwrap();
    }

    /// Returns the record that a byte of the segment is in; 1 for the header.
    fn record_at(&self, place: usize) -> u64 {
        let records = layout::records(&self.segment);
        records.iter().rev().find(|record| record.offset <= place).map_or(1, |record| record.seq)
    }

    /// Returns the last record of the last complete batch before a record.
    fn batch_end_before(&self, seq: u64) -> u64 {
        let records = layout::records(&self.segment);
        records
            .iter()
            .rev()
            .find(|record| record.seq < seq && record.flags == 1)
            .map_or(0, |record| record.seq)
    }
}

fn open(dir: &Path) -> Result<EventLog, OpenError> {
    EventLog::open(dir, Options::default())
}

/// Catches a flip that goes unnoticed or is blamed on another record. Every bit, against `verify`.
#[test]
fn verify_names_the_record_of_every_flipped_bit() {
    let image = Image::take();
    sample::in_parallel(image.segment.len() * 8, |bit, dir| {
        let mut segment = image.segment.clone();
        segment[bit / 8] ^= 1 << (bit % 8);
        image.restore(dir, &segment, &image.anchor);
        let report = verify(dir).unwrap();
        let bad = image.record_at(bit / 8);
        let named = report.damage.as_ref().and_then(Corruption::first_bad);
        assert_eq!(named, Some(Seq(bad)), "bit {bit}: {report:?}");
        assert_eq!(report.head.seq, Seq(image.batch_end_before(bad)), "bit {bit}");
    });
}

/// Catches a flip after which the log opens as if nothing had happened, or panics. One bit of every byte, against `open`.
#[test]
fn open_refuses_every_flipped_byte_before_the_anchor() {
    let image = Image::take();
    sample::in_parallel(image.segment.len(), |place, dir| {
        let mut segment = image.segment.clone();
        segment[place] ^= 1 << (place % 8);
        image.restore(dir, &segment, &image.anchor);
        match open(dir) {
            Err(OpenError::Corrupt(corruption)) => {
                assert_eq!(corruption.first_bad(), Some(Seq(image.record_at(place))), "byte {place}");
            }
            other => panic!("byte {place}: {other:?}"),
        }
    });
}

/// Catches a torn tail that is believed, and one that takes complete batches with it: a flip after the anchor.
#[test]
fn a_flip_after_the_anchor_leaves_an_exact_prefix() {
    let image = Image::take();
    sample::in_parallel(image.segment.len() - HEADER_LEN, |place, dir| {
        let place = place + HEADER_LEN;
        let mut segment = image.segment.clone();
        segment[place] ^= 1 << (place % 8);
        image.restore(dir, &segment, &image.old_anchor);
        check_prefix(&image, dir, image.batch_end_before(image.record_at(place)));
    });
}

/// Catches a cut that is not noticed, or a batch of which a part comes back. Every length, with both anchors.
#[test]
fn every_truncation_is_a_prefix_or_an_error() {
    let image = Image::take();
    sample::in_parallel(image.segment.len(), |len, dir| {
        image.restore(dir, &image.segment[..len], &image.anchor);
        let whole = Seq(image.batch_end_before(image.record_at(len)));
        match open(dir) {
            Err(OpenError::Corrupt(corruption)) => {
                let named = corruption.first_bad().unwrap();
                assert!(named > whole && named <= Seq(image.record_at(len)), "length {len}: {corruption}");
            }
            other => panic!("length {len}: {other:?}"),
        }
        image.restore(dir, &image.segment[..len], &image.old_anchor);
        if len < HEADER_LEN {
            assert!(matches!(open(dir), Err(OpenError::Corrupt(_))), "a header is written before the name");
        } else {
            check_prefix(&image, dir, whole.0);
        }
    });
}

/// Opens a log that must end after record `end`, reads it, appends to it and reads it again.
fn check_prefix(image: &Image, dir: &Path, end: u64) {
    let log = open(dir).unwrap();
    let mut expected = image.events[..usize::try_from(end).unwrap()].to_vec();
    assert_eq!(sample::read(&log), expected);
    expected.extend(log.append(sample::drafts(90..92)).unwrap());
    assert_eq!(expected[expected.len() - 2].seq, Seq(end + 1));
    drop(log);
    let log = open(dir).unwrap();
    assert_eq!(log.recovered().torn_len, 0, "the torn tail is gone");
    assert_eq!(sample::read(&log), expected);
    drop(log);
    fs::remove_dir_all(dir.join("index")).unwrap();
}

/// Catches rubbish behind the log that is taken for damage, or left there.
#[test]
fn a_torn_tail_is_cut_and_reported() {
    let image = Image::take();
    for tail in [vec![0; 1], vec![0; 5_000], vec![0xff; 700], image.segment[HEADER_LEN..].to_vec()] {
        let dir = sample::dir();
        image.restore(dir.path(), &[image.segment.as_slice(), &tail].concat(), &image.anchor);
        let report = verify(dir.path()).unwrap();
        let tail_len = u64::try_from(tail.len()).unwrap();
        assert_eq!((report.damage, report.torn_len), (None, tail_len));
        let log = open(dir.path()).unwrap();
        assert_eq!(log.recovered().torn_len, tail_len);
        assert_eq!(sample::read(&log), image.events);
        drop(log);
        assert_eq!(fs::read(dir.path().join(FIRST_SEGMENT)).unwrap(), image.segment);
    }
}

/// Catches a log that lost its end, or was replaced by an older copy of itself, and opens all the same.
#[test]
fn a_log_shorter_than_its_anchor_is_corrupt() {
    let image = Image::take();
    let dir = sample::dir();
    let second = layout::records(&image.segment)[1].offset;
    image.restore(dir.path(), &image.segment[..second], &image.anchor);
    let shortened = Corruption::Shortened { anchor: Seq(7), head: Seq(1) };
    assert!(matches!(open(dir.path()), Err(OpenError::Corrupt(found)) if found == shortened));
    assert_eq!(verify(dir.path()).unwrap().damage, Some(shortened));
    fs::remove_file(dir.path().join(FIRST_SEGMENT)).unwrap();
    let gone = Corruption::Shortened { anchor: Seq(7), head: Seq(0) };
    assert!(matches!(open(dir.path()), Err(OpenError::Corrupt(found)) if found == gone));
    assert_eq!(verify(dir.path()).unwrap().damage, Some(gone));
}

/// Catches a way around the anchor: to remove or spoil it.
#[test]
fn a_log_without_its_anchor_is_corrupt() {
    let image = Image::take();
    let dir = sample::dir();
    image.restore(dir.path(), &image.segment, &[]);
    for _ in 0..2 {
        assert!(matches!(open(dir.path()), Err(OpenError::Corrupt(Corruption::NoAnchor))));
        assert_eq!(verify(dir.path()).unwrap().damage, Some(Corruption::NoAnchor));
        drop(fs::remove_file(dir.path().join("anchor")));
    }
}

/// Catches an anchor whose torn write makes a whole log unusable.
#[test]
fn one_damaged_slot_of_the_anchor_is_no_damage() {
    let image = Image::take();
    let dir = sample::dir();
    for slot in [0, 512] {
        let mut anchor = image.anchor.clone();
        anchor[slot..slot + 512].fill(0x77);
        image.restore(dir.path(), &image.segment, &anchor);
        assert_eq!(verify(dir.path()).unwrap().damage, None);
        assert_eq!(sample::read(&open(dir.path()).unwrap()), image.events);
    }
}

/// Catches edits by hand: the checksum is right, the hash chain is not.
#[test]
fn an_edit_with_a_right_checksum_breaks_the_chain() {
    let image = Image::take();
    let dir = sample::dir();
    for record in layout::records(&image.segment) {
        let mut segment = image.segment.clone();
        segment[record.offset + HEAD_LEN] ^= 1;
        layout::correct_checksum(&mut segment, record.offset);
        image.restore(dir.path(), &segment, &image.anchor);
        let damage = verify(dir.path()).unwrap().damage;
        let Some(Corruption::Record { seq, fault: Fault::Chain, .. }) = damage else { panic!("{damage:?}") };
        assert_eq!(seq, Seq(record.seq));
        assert!(matches!(open(dir.path()), Err(OpenError::Corrupt(found)) if found.first_bad() == Some(seq)));
    }
}

/// Catches a log that was rewritten as a whole, with checksums, hashes and numbers all consistent.
#[test]
fn a_rewritten_log_does_not_fit_its_anchor() {
    let image = Image::take();
    let dir = sample::dir();
    let mut records = layout::records(&image.segment);
    records.swap(5, 6);
    (records[5].seq, records[6].seq) = (6, 7);
    (records[5].flags, records[6].flags) = (0, 1);
    let (segment, _) = layout::segment(&records);
    image.restore(dir.path(), &segment, &image.anchor);
    let rewritten = Corruption::Rewritten { seq: Seq(7) };
    assert!(matches!(open(dir.path()), Err(OpenError::Corrupt(found)) if found == rewritten));
    assert_eq!(verify(dir.path()).unwrap().damage, Some(rewritten));
}

/// Catches a payload that decodes to something else, or makes the decoder allocate without bound.
#[test]
fn a_payload_that_does_not_decode_is_an_error() {
    let image = Image::take();
    let dir = sample::dir();
    let endless = b"\x00\x00\x00\x00\xfd\xff\xff\xff\xff\xff\xff\xff\xff".to_vec();
    let mut longer = layout::records(&image.segment)[3].payload.clone();
    longer.push(0);
    for payload in [endless, longer, vec![0xff; 40]] {
        let mut records = layout::records(&image.segment);
        records[3].payload = payload;
        let (segment, hash) = layout::segment(&records);
        image.restore(dir.path(), &segment, &layout::anchor(7, &hash));
        drop(fs::remove_dir_all(dir.path().join("index")));
        assert!(
            matches!(open(dir.path()), Err(OpenError::Corrupt(found)) if found.first_bad() == Some(Seq(4)))
        );
        assert_eq!(verify(dir.path()).unwrap().damage.unwrap().first_bad(), Some(Seq(4)));
    }
}

/// Catches segments in the middle of the log that are gone, exchanged, shortened or lengthened.
#[test]
fn older_segments_are_guarded_by_their_successors() {
    let original = sample::dir();
    let log = sample::open_small(original.path());
    for n in 0..200 {
        log.append(sample::drafts(n..n + 1)).unwrap();
    }
    drop(log);
    let paths = sample::segments(original.path());
    let names: Vec<_> = paths.iter().map(|path| path.file_name().unwrap()).collect();
    let third = names[2].to_str().unwrap().trim_end_matches(".seg").parse().unwrap();
    let len = fs::metadata(&paths[2]).unwrap().len();
    let damages: [&dyn Fn(&Path); 5] = [
        &|dir| fs::remove_file(dir.join(names[2])).unwrap(),
        &|dir| assert_ne!(fs::copy(dir.join(names[3]), dir.join(names[2])).unwrap(), 0),
        &|dir| set_len(&dir.join(names[2]), len - 1),
        &|dir| set_len(&dir.join(names[2]), len + 1),
        &|dir| set_len(&dir.join(names[2]), 80),
    ];
    for (number, damage) in damages.iter().enumerate() {
        let dir = sample::dir();
        sample::copy_log(original.path(), dir.path());
        damage(dir.path());
        let Err(OpenError::Corrupt(found)) = open(dir.path()) else { panic!("damage {number}") };
        let fourth = Seq(names[3].to_str().unwrap().trim_end_matches(".seg").parse().unwrap());
        let named = found.first_bad().unwrap();
        assert!(named >= Seq(third) && named <= fourth, "damage {number}: {found}");
        assert!(verify(dir.path()).unwrap().damage.is_some(), "damage {number}");
    }
}

fn set_len(path: &Path, len: u64) {
    fs::File::options().write(true).open(path).unwrap().set_len(len).unwrap();
}

/// Catches damage inside an older segment that a reader passes over, and events after it that are believed.
#[test]
fn readers_stop_at_damage_in_an_older_segment() {
    let dir = sample::dir();
    let log = sample::open_small(dir.path());
    for n in 0..200 {
        log.append(sample::drafts(n..n + 1)).unwrap();
    }
    let path = &sample::segments(dir.path())[2];
    let mut bytes = fs::read(path).unwrap();
    let record = layout::records(&bytes)[4].clone();
    bytes[record.offset + HEAD_LEN + 3] ^= 0x40;
    fs::write(path, bytes).unwrap();
    let events: Vec<_> = log.reader().read(Seq(1)).collect();
    let (last, before) = events.split_last().unwrap();
    assert_eq!(u64::try_from(before.len()).unwrap(), record.seq - 1);
    assert!(before.iter().all(Result::is_ok));
    let Err(ReadError::Corrupt(found)) = last else { panic!("{last:?}") };
    assert_eq!(found.first_bad(), Some(Seq(record.seq)));
    assert_eq!(
        log.reader().read(Seq(record.seq + 50)).count(),
        usize::try_from(200 - record.seq - 49).unwrap()
    );
}
