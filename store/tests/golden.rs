//! Logs of format 1, one per kind of event. They were written by the version that introduced the kind and must be read for
//! ever. Set `PYRO_WRITE_GOLDEN=1` to write files for kinds that have none; existing files are never changed by that.

use std::path::PathBuf;

use pyro_core::{Event, UnknownEvent};

use crate::layout::{self, Record};
use crate::sample;

const FIRST_SEGMENT: &str = "00000000000000000001.seg";

fn golden(kind: &str, extension: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1").join(format!("{kind}.{extension}"))
}

/// Catches a changed encoding, layout or kind number.
#[test]
fn every_kind_is_written_as_in_version_1() {
    for drafts in sample::every_kind() {
        let kind = drafts[0].event.kind();
        let dir = sample::dir();
        sample::open(dir.path()).append(drafts).unwrap();
        for (name, extension) in [(FIRST_SEGMENT, "seg"), ("anchor", "anchor")] {
            let written = std::fs::read(dir.path().join(name)).unwrap();
            let golden = golden(kind, extension);
            if std::env::var_os("PYRO_WRITE_GOLDEN").is_some() && !golden.exists() {
                std::fs::write(&golden, &written).unwrap();
            }
            assert_eq!(written, std::fs::read(&golden).unwrap(), "{}", golden.display());
        }
    }
}

/// Catches a reader that no longer understands what an older version wrote.
#[test]
fn every_kind_of_version_1_is_read() {
    for drafts in sample::every_kind() {
        let kind = drafts[0].event.kind();
        let dir = sample::dir();
        std::fs::copy(golden(kind, "seg"), dir.path().join(FIRST_SEGMENT)).unwrap();
        std::fs::copy(golden(kind, "anchor"), dir.path().join("anchor")).unwrap();
        let log = sample::open(dir.path());
        assert_eq!(sample::read(&log), sample::envelopes(&drafts), "{kind}");
    }
}

/// Catches code and `docs/log-format.md` going apart: the second implementation builds the same bytes.
#[test]
fn layout_is_as_documented() {
    for drafts in sample::every_kind() {
        let bytes = std::fs::read(golden(drafts[0].event.kind(), "seg")).unwrap();
        let records = layout::records(&bytes);
        assert_eq!(records.len(), drafts.len());
        assert_eq!(records.iter().map(|record| record.flags).sum::<u32>(), 1, "one record ends the batch");
        assert_eq!(layout::segment(&records).0, bytes);
    }
}

/// Catches an old program that stops at, drops or alters what a newer one wrote.
#[test]
fn unknown_kinds_and_versions_are_kept_raw() {
    let drafts = sample::drafts(0..3);
    let dir = sample::dir();
    sample::open(dir.path()).append(drafts.clone()).unwrap();
    let path = dir.path().join(FIRST_SEGMENT);
    let mut records = layout::records(&std::fs::read(&path).unwrap());
    // The struct of these events: workspace, and two numbers of one byte each.
    let prefix_len = records[0].payload.len() - 8;
    let unknown = |record: &mut Record, kind, version| {
        (record.kind, record.version) = (kind, version);
        record.payload.truncate(prefix_len);
        record.payload.extend_from_slice(b"\xff\x00raw");
        Event::Unknown(UnknownEvent { kind, version, payload: b"\xff\x00raw".to_vec() })
    };
    let mut expected = sample::envelopes(&drafts);
    expected[1].event = unknown(&mut records[1], 65_000, 1);
    expected[2].event = unknown(&mut records[2], 51, 2);
    let (segment, hash) = layout::segment(&records);
    std::fs::write(&path, segment).unwrap();
    std::fs::write(dir.path().join("anchor"), layout::anchor(3, &hash)).unwrap();

    let log = sample::open(dir.path());
    assert_eq!(sample::read(&log), expected);
    log.append(sample::drafts(3..4)).unwrap();
    drop(log);
    assert_eq!(&sample::read(&sample::open(dir.path()))[..3], &expected, "appending left them as they were");
}
