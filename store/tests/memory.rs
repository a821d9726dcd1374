//! The disk in memory: it must be as bad as a real one can be, and no worse.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use pyro_store::disk::{Call, Disk as _, DiskFile, Failure, Fault, Honesty, MemoryDisk, Times};

const SEEDS: u64 = 200;

fn path() -> &'static Path {
    Path::new("/log/file")
}

fn disk() -> MemoryDisk {
    let disk = MemoryDisk::new();
    disk.create_dir(Path::new("/log")).unwrap();
    disk
}

fn content(disk: &MemoryDisk) -> Option<Vec<u8>> {
    let file = disk.open(path()).ok()?;
    let mut bytes = vec![0; usize::try_from(file.len_bytes().unwrap()).unwrap()];
    let len = bytes.len();
    assert_eq!(file.read_at(&mut bytes, 0).unwrap(), len);
    Some(bytes)
}

fn durable(disk: &MemoryDisk, bytes: &[u8]) -> Box<dyn DiskFile> {
    let file = disk.create(path()).unwrap();
    assert_eq!(file.write_at(bytes, 0).unwrap(), bytes.len());
    file.sync_data().unwrap();
    disk.sync_dir(Path::new("/log")).unwrap();
    file
}

/// Catches a disk that loses what was synced, and one that loses nothing: a test on it would prove nothing.
#[test]
fn a_power_cut_takes_what_was_not_synced_sector_by_sector() {
    let disk = disk();
    let file = durable(&disk, &[1; 600]);
    file.write_at(&[2; 2048], 600).unwrap();
    let images: BTreeSet<_> = (0..SEEDS).map(|seed| content(&disk.after_power_cut(seed)).unwrap()).collect();
    assert!(images.iter().all(|image| image[..600] == [1; 600]), "what was synced is there");
    assert!(images.contains(&vec![1; 600]), "nothing else");
    assert!(images.iter().any(|image| image.len() == 2648 && image[600..] == [2; 2048]), "or all");
    // 424 bytes share a sector with what is durable; each sector is new or old as a whole.
    assert!(
        images.iter().any(|image| image.len() > 1024 && image[600..1024] == [0; 424] && image[1024] == 2)
    );
    assert_eq!(content(&disk.after_kill()).unwrap().len(), 2648, "a killed process loses nothing");
    let same = |seed| content(&disk.after_power_cut(seed));
    assert_eq!(same(7), same(7), "the seed decides");
}

/// Catches names that are durable without the sync of their directory, or never.
#[test]
fn names_are_durable_with_their_directory() {
    let disk = disk();
    drop(disk.create(path()).unwrap());
    let there = |disk: &MemoryDisk| {
        (0..SEEDS).map(|seed| usize::from(content(&disk.after_power_cut(seed)).is_some())).sum::<usize>()
    };
    let kept = there(&disk);
    assert!(kept > 0 && kept < usize::try_from(SEEDS).unwrap(), "by the seed");
    disk.sync_dir(Path::new("/log")).unwrap();
    assert_eq!(there(&disk), usize::try_from(SEEDS).unwrap());
    disk.remove_file(path()).unwrap();
    let kept = there(&disk);
    assert!(kept > 0 && kept < usize::try_from(SEEDS).unwrap(), "a removal as well");
}

/// Catches a fault that comes at another call than the one that was named, or more often.
#[test]
fn a_fault_comes_where_it_was_planted() {
    let disk = disk();
    let file = durable(&disk, b"");
    let fault = |failure, times| Fault { call: Some(Call::Write), after: 1, failure, times };
    disk.plant(fault(Failure::Full, Times::Once));
    file.sync_data().unwrap();
    assert_eq!(file.write_at(b"ab", 0).unwrap(), 2);
    assert_eq!(file.write_at(b"cd", 2).unwrap_err().kind(), io::ErrorKind::StorageFull);
    assert_eq!(file.write_at(b"cd", 2).unwrap(), 2);
    disk.plant(fault(Failure::Short, Times::ForEver));
    assert_eq!([0, 1, 2].map(|_| file.write_at(b"efgh", 4).unwrap()), [4, 2, 2]);
    disk.heal();
    assert_eq!(file.write_at(b"efgh", 4).unwrap(), 4);
    assert_eq!((disk.fired(), content(&disk).unwrap()), (3, b"abcdefgh".to_vec()));
}

/// Catches a sync that failed and is made good by the next one: the kernel has forgotten the pages.
#[test]
fn a_failed_sync_is_not_made_good_by_the_next_one() {
    let lost = (0..20).any(|number| {
        let disk = disk();
        let file = durable(&disk, b"");
        for fault in 0..=number {
            if fault == number {
                file.write_at(b"new", 0).unwrap();
            }
            disk.plant(Fault { call: Some(Call::Sync), after: 0, failure: Failure::Io, times: Times::Once });
            assert!(file.sync_data().is_err(), "{fault}");
        }
        file.sync_data().unwrap();
        assert_eq!(content(&disk).unwrap(), b"new", "readers see it");
        content(&disk.after_power_cut(0)).unwrap() != b"new"
    });
    assert!(lost);
}

/// Catches space that is never used up, or does not come back.
#[test]
fn space_is_used_and_given_back() {
    let disk = disk();
    let file = durable(&disk, b"abc");
    disk.set_space_left(Some(2));
    assert_eq!(file.write_at(b"defg", 3).unwrap(), 2, "what fits");
    assert_eq!(file.write_at(b"fg", 5).unwrap_err().kind(), io::ErrorKind::StorageFull);
    assert_eq!(file.write_at(b"xyz", 0).unwrap(), 3, "in place");
    assert_eq!(disk.create(Path::new("/log/other")).unwrap_err().kind(), io::ErrorKind::StorageFull);
    file.set_len(3).unwrap();
    assert_eq!(file.write_at(b"de", 3).unwrap(), 2);
}

/// Catches a disk that goes on for a process that is gone, and a liar that makes something durable.
#[test]
fn who_is_gone_does_nothing_more_and_a_liar_keeps_nothing() {
    let disk = disk();
    let file = durable(&disk, &[1; 1024]);
    disk.plant(Fault { call: Some(Call::Write), after: 0, failure: Failure::Gone, times: Times::Once });
    assert!(file.write_at(&[2; 1024], 0).is_err());
    assert!(file.write_at(&[3; 1024], 0).is_err() && file.sync_data().is_err() && disk.is_gone());
    let after = disk.after_kill();
    assert_eq!(
        content(&after).unwrap(),
        [[2; 512], [1; 512]].concat(),
        "half of the call that was under way"
    );
    let file = durable(&after, b"old");
    drop(file);
    let file = after.open_for_writing(path()).unwrap();
    after.set_honesty(Honesty::Lying);
    file.write_at(b"lie", 0).unwrap();
    file.sync_data().unwrap();
    assert!((0..SEEDS).any(|seed| content(&after.after_power_cut(seed)).unwrap()[..3] == *b"old"));
}
