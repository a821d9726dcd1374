//! A full disk: a clear error, and everything goes on when there is space. Needs root for a small tmpfs.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use pyro_core::{ExecNumber, Timestamp};
use pyro_store::outputs::{OutputError, Outputs, Stream, StreamId};
use pyro_store::{AppendError, EventLog, OpenError, Options, verify};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::sample;

/// A file system of 8 MiB; unmounted when it is dropped.
struct SmallDisk {
    dir: tempfile::TempDir,
}

impl SmallDisk {
    /// Returns `None`, and says why, where nothing can be mounted.
    fn mount() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        match mount("tmpfs", dir.path(), "tmpfs", MountFlags::empty(), Some(c"size=8m,mode=0700")) {
            Ok(()) => Some(Self { dir }),
            Err(error) => {
                writeln!(std::io::stderr(), "skipped: a tmpfs cannot be mounted here: {error}").unwrap();
                None
            }
        }
    }

    /// Takes all space; what is returned gives it back when it is removed.
    fn fill(&self) -> PathBuf {
        let path = self.dir.path().join("filler");
        let mut file = fs::File::create(&path).unwrap();
        while file.write_all(&[0; 4096]).is_ok() {}
        while file.write_all(&[0]).is_ok() {}
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        unmount(self.dir.path(), UnmountFlags::DETACH).unwrap();
    }
}

/// Appends until the disk is full and returns how many events were acknowledged.
fn append_until_full(log: &EventLog, start: u32) -> u32 {
    for number in start.. {
        match log.append(sample::drafts(number..number + 1)) {
            Ok(_) => {}
            Err(AppendError::StorageFull) => return number,
            Err(error) => panic!("{error}"),
        }
    }
    unreachable!("no disk holds 2^32 events")
}

fn check(dir: &Path, count: u32) {
    assert_eq!(verify(dir).unwrap().damage, None);
    assert_eq!(sample::read(&sample::open(dir)), sample::envelopes(&sample::drafts(0..count)));
}

/// Catches half a record that stays, a log that stays poisoned, and acknowledged events that are lost.
#[test]
fn the_log_goes_on_when_there_is_space_again() {
    let Some(disk) = SmallDisk::mount() else { return };
    let dir = disk.dir.path().join("log");
    let log = sample::open_small(&dir);
    log.append(sample::drafts(0..10)).unwrap();
    let mut count = 10;
    for _ in 0..3 {
        let filler = disk.fill();
        count = append_until_full(&log, count);
        assert!(matches!(log.append(sample::drafts(0..1)), Err(AppendError::StorageFull)));
        fs::remove_file(filler).unwrap();
        log.append(sample::drafts(count..count + 40)).unwrap();
        count += 40;
    }
    assert_eq!(sample::read(&log), sample::envelopes(&sample::drafts(0..count)));
    drop(log);
    check(&dir, count);
}

/// Catches a log that cannot be closed or opened again because the disk is full.
#[test]
fn a_log_that_was_closed_on_a_full_disk_opens_again() {
    let Some(disk) = SmallDisk::mount() else { return };
    let dir = disk.dir.path().join("log");
    let log = sample::open(&dir);
    let filler = disk.fill();
    let count = append_until_full(&log, 0);
    drop(log);
    match EventLog::open(&dir, Options::default()) {
        Ok(_) | Err(OpenError::StorageFull { .. }) => {}
        Err(error) => panic!("{error}"),
    }
    fs::remove_file(filler).unwrap();
    check(&dir, count);
}

/// Catches output that is half stored, or a stream that is lost for good.
#[test]
fn output_goes_on_when_there_is_space_again() {
    let Some(disk) = SmallDisk::mount() else { return };
    let outputs = Outputs::open(disk.dir.path().join("outputs")).unwrap();
    let (workspace, stream) = (sample::workspace(1), StreamId::Exec(ExecNumber(1), Stream::Stdout));
    let mut writer = outputs.create(workspace, stream).unwrap();
    let mut expected = b"before".to_vec();
    writer.append(0, &expected, Timestamp(0)).unwrap();
    let filler = disk.fill();
    let chunk = vec![b'x'; 100_000];
    let full = writer.append(6, &chunk, Timestamp(1));
    assert!(matches!(full, Err(OutputError::StorageFull { .. })), "{full:?}");
    assert_eq!(writer.len_bytes(), 6);
    fs::remove_file(filler).unwrap();
    writer.append(6, &chunk, Timestamp(2)).unwrap();
    expected.extend(chunk);
    let summary = writer.finish(&pyro_core::Gaps::default()).unwrap();
    assert_eq!(fs::read(outputs.path(workspace, stream)).unwrap(), expected);
    assert_eq!(summary.digest, *blake3::hash(&expected).as_bytes());
}
