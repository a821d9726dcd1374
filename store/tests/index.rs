//! The index can be lost or damaged at any time: the answers stay the same.

use std::fs;
use std::path::Path;

use pyro_core::{Cause, Envelope, Seq};
use pyro_store::{Draft, EventLog};

use crate::sample;

const EVENTS: u32 = 1_200;

fn fill(dir: &Path) -> Vec<Vec<Envelope>> {
    let log = sample::open_small(dir);
    let caused = |n: u32| Draft { cause: Cause::Request(sample::request(u64::from(n))), ..sample::draft(n) };
    let batches: Vec<_> = (0..EVENTS / 2).map(|n| vec![caused(n), sample::draft(n)]).collect();
    for batch in batches.chunks(20) {
        for batch in batch {
            log.append(batch.clone()).unwrap();
        }
    }
    answers(&log)
}

/// Asks everything that the index is for.
fn answers(log: &EventLog) -> Vec<Vec<Envelope>> {
    let reader = log.reader();
    let mut answers: Vec<_> =
        (0..u64::from(EVENTS)).step_by(7).map(|n| reader.request(sample::request(n)).unwrap()).collect();
    for from in [1, 255, 256, 257, 258, 1_000, 1_200] {
        answers.push(reader.read(Seq(from)).map(Result::unwrap).collect());
        let stream = reader.read_workspace(sample::workspace(1), Seq(from));
        answers.push(stream.map(Result::unwrap).collect());
    }
    answers
}

/// Catches an index that holds something which the segments do not.
#[test]
fn a_deleted_index_is_rebuilt() {
    let dir = sample::dir();
    let before = fill(dir.path());
    for name in ["index", "index.state"] {
        let path = dir.path().join(name);
        if path.is_dir() {
            fs::remove_dir_all(&path).unwrap()
        } else {
            fs::remove_file(&path).unwrap()
        }
        let log = sample::open_small(dir.path());
        assert_eq!(answers(&log), before, "without {name}");
        assert!(log.recovered().index_rebuilt, "without {name}");
    }
}

/// Catches a sled that fails, panics or silently forgets, and takes the log with it.
#[test]
fn a_damaged_index_never_changes_an_answer() {
    let dir = sample::dir();
    let before = fill(dir.path());
    let good = fs::read(dir.path().join("index/db")).unwrap();
    let conf = fs::read(dir.path().join("index/conf")).unwrap();
    for round in 0..40 {
        let mut bytes = good.clone();
        let place = (good.len() - 1) * round / 40;
        match round % 4 {
            0 => bytes[place] ^= 0x10,
            1 => bytes.truncate(place),
            2 => bytes[place..(place + 512).min(good.len())].fill(0),
            _ => bytes[..place].fill(0xff),
        }
        fs::remove_dir_all(dir.path().join("index")).unwrap();
        fs::create_dir(dir.path().join("index")).unwrap();
        fs::write(dir.path().join("index/conf"), &conf).unwrap();
        fs::write(dir.path().join("index/db"), bytes).unwrap();
        fs::write(dir.path().join("index.state"), "clean\n").unwrap();
        let log = sample::open_small(dir.path());
        assert_eq!(answers(&log), before, "round {round}");
    }
}

/// Catches positions of another log being believed.
#[test]
fn the_index_of_another_log_is_rebuilt() {
    let (ours, other) = (sample::dir(), sample::dir());
    let before = fill(ours.path());
    let log = sample::open(other.path());
    log.append(sample::every_kind().concat()).unwrap();
    drop(log);
    fs::remove_dir_all(ours.path().join("index")).unwrap();
    fs::rename(other.path().join("index"), ours.path().join("index")).unwrap();
    let log = sample::open_small(ours.path());
    assert!(log.recovered().index_rebuilt);
    assert_eq!(answers(&log), before);
}

/// Catches an index that is believed although the host went down while it was open.
#[test]
fn an_index_of_another_boot_is_rebuilt() {
    let dir = sample::dir();
    let before = fill(dir.path());
    fs::write(dir.path().join("index.state"), "00000000-0000-0000-0000-000000000000\n").unwrap();
    let log = sample::open_small(dir.path());
    assert!(log.recovered().index_rebuilt);
    assert_eq!(answers(&log), before);
}

/// Catches an overwritten index that sled takes for an empty one, and that is told to be whole.
#[test]
fn an_overwritten_index_is_rebuilt() {
    let dir = sample::dir();
    let before = fill(dir.path());
    sample::await_index(dir.path());
    fs::write(dir.path().join("index/db"), [0x5a; 4096]).unwrap();
    let log = sample::open_small(dir.path());
    assert!(log.recovered().index_rebuilt);
    assert_eq!(answers(&log), before);
}

/// Catches an index that is thrown away without need: checkpoints would be worthless.
#[test]
fn a_closed_index_is_kept() {
    let dir = sample::dir();
    fill(dir.path());
    assert!(!sample::open_small(dir.path()).recovered().index_rebuilt);
}
