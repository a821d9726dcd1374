//! What is different in a directory, and that sending it makes a copy equal again.

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use pyro_protocol::{Entry, EntryKind};
use pyro_runtime::import::{Changes, ReadError, Sink, Snapshot, SourceError, read_changes};
use tempfile::TempDir;

use super::collected::{Collected, collect, detect};

/// What a destination holds.
type Copy = BTreeMap<Vec<u8>, (Entry, Vec<u8>)>;

fn take(dir: &TempDir) -> Snapshot {
    Snapshot::take(dir.path(), &AtomicBool::new(false)).unwrap()
}

fn send(dir: &TempDir, changes: &Changes) -> Collected {
    let mut collected = Collected::default();
    let totals = read_changes(dir.path(), changes, &mut collected, &AtomicBool::new(false)).unwrap();
    assert_eq!(totals.entries, collected.entries.len() as u64);
    collected
}

/// Does to a copy what a guest does; panics where a guest would refuse.
fn apply(copy: &mut Copy, collected: &Collected) {
    for (entry, content) in &collected.entries {
        let below = [&entry.path[..], b"/"].concat();
        if entry.kind == EntryKind::Absent {
            copy.retain(|path, _| *path != entry.path && !path.starts_with(&below));
            continue;
        }
        if let Some(slash) = entry.path.iter().rposition(|byte| *byte == b'/') {
            assert_eq!(copy[&entry.path[..slash]].0.kind, EntryKind::Directory, "{entry:?}");
        }
        let was_directory = copy.get(&entry.path).map(|(before, _)| before.kind == EntryKind::Directory);
        assert!(was_directory.is_none_or(|was| was == (entry.kind == EntryKind::Directory)), "{entry:?}");
        copy.insert(entry.path.clone(), (entry.clone(), content.clone()));
    }
}

fn copy_of(dir: &TempDir) -> Copy {
    let mut copy = Copy::new();
    apply(&mut copy, &collect(&detect(dir.path())).unwrap());
    copy
}

fn write(dir: &TempDir, path: &str, content: &str) {
    let path = dir.path().join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

fn lines(paths: &[Vec<u8>]) -> Vec<String> {
    paths.iter().map(|path| path.escape_ascii().to_string()).collect()
}

/// Changes a directory, and checks what is found and that a copy can follow. Times of directories are put back, so that
/// only what is named counts.
#[track_caller]
fn check_change(dir: &TempDir, change: impl FnOnce(&Path), changed: &[&str], removed: &[&str]) {
    let (before, mut copy) = (take(dir), copy_of(dir));
    change(dir.path());
    let after = take(dir);
    let changes = before.changes(&after);
    let is_directory =
        |path: &String| dir.path().join(path).symlink_metadata().is_ok_and(|found| found.is_dir());
    let found = lines(&changes.changed);
    let named = found.iter().filter(|path| !is_directory(path) || changed.contains(&path.as_str()));
    assert_eq!(named.collect::<Vec<_>>(), changed.iter().collect::<Vec<_>>());
    assert_eq!(lines(&changes.removed), removed);
    apply(&mut copy, &send(dir, &changes));
    assert_eq!(copy, copy_of(dir));
    assert!(take(dir).changes(&after).is_empty());
}

fn sample() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for path in ["d/a", "d/b/c", "d/b/e/f", "d-x", "g"] {
        write(&dir, path, path);
    }
    symlink("d/a", dir.path().join("link")).unwrap();
    dir
}

#[test]
fn the_same_tree_has_no_changes() {
    let dir = sample();
    let snapshot = take(&dir);
    assert!(snapshot.changes(&take(&dir)).is_empty());
    let all = Snapshot::default().changes(&snapshot);
    assert_eq!(lines(&all.changed), ["d", "d/a", "d/b", "d/b/c", "d/b/e", "d/b/e/f", "d-x", "g", "link"]);
    let mut copy = Copy::new();
    apply(&mut copy, &send(&dir, &all));
    assert_eq!(copy, copy_of(&dir));
}

#[test]
fn content_modes_times_and_targets_are_seen() {
    let dir = sample();
    check_change(&dir, |top| fs::write(top.join("d/b/c"), "longer than it was").unwrap(), &["d/b/c"], &[]);
    let mode = |mode| Permissions::from_mode(mode);
    check_change(&dir, |top| fs::set_permissions(top.join("g"), mode(0o755)).unwrap(), &["g"], &[]);
    check_change(&dir, |top| fs::set_permissions(top.join("d/b"), mode(0o700)).unwrap(), &["d/b"], &[]);
    let touch = |top: &Path| {
        let time = std::time::SystemTime::UNIX_EPOCH;
        File::options().write(true).open(top.join("d-x")).unwrap().set_modified(time).unwrap();
    };
    check_change(&dir, touch, &["d-x"], &[]);
    let turn = |top: &Path| {
        fs::remove_file(top.join("link")).unwrap();
        symlink("g", top.join("link")).unwrap();
    };
    check_change(&dir, turn, &["link"], &[]);
}

#[test]
fn a_file_put_in_the_place_of_its_like_is_seen() {
    let dir = sample();
    let replace = |top: &Path| {
        let modified = fs::metadata(top.join("g")).unwrap().modified().unwrap();
        fs::write(top.join("new"), "G").unwrap();
        File::options().write(true).open(top.join("new")).unwrap().set_modified(modified).unwrap();
        fs::rename(top.join("new"), top.join("g")).unwrap();
    };
    check_change(&dir, replace, &["g"], &[]);
}

#[test]
fn a_tree_that_goes_is_one_removal() {
    let dir = sample();
    check_change(&dir, |top| fs::remove_dir_all(top.join("d")).unwrap(), &[], &["d"]);
    let remove = |top: &Path| {
        fs::remove_file(top.join("d-x")).unwrap();
        fs::remove_file(top.join("g")).unwrap();
    };
    check_change(&dir, remove, &[], &["d-x", "g"]);
}

#[test]
fn a_new_tree_comes_with_its_directories_first() {
    let dir = sample();
    let add = |top: &Path| {
        fs::create_dir_all(top.join("d/new/er")).unwrap();
        fs::write(top.join("d/new/er/file"), "1").unwrap();
        fs::write(top.join("d/new-file"), "2").unwrap();
    };
    check_change(&dir, add, &["d/new", "d/new/er", "d/new/er/file", "d/new-file"], &[]);
}

#[test]
fn what_becomes_another_kind_is_removed_first() {
    let dir = sample();
    let to_file = |top: &Path| {
        fs::remove_dir_all(top.join("d")).unwrap();
        fs::write(top.join("d"), "now a file").unwrap();
    };
    check_change(&dir, to_file, &["d"], &["d"]);
    let to_directory = |top: &Path| {
        fs::remove_file(top.join("d")).unwrap();
        fs::create_dir(top.join("d")).unwrap();
        fs::write(top.join("d/a"), "back").unwrap();
    };
    check_change(&dir, to_directory, &["d", "d/a"], &["d"]);
    let to_link = |top: &Path| {
        fs::rename(top.join("d"), top.join("moved")).unwrap();
        symlink("moved", top.join("d")).unwrap();
    };
    check_change(&dir, to_link, &["d", "moved", "moved/a"], &["d"]);
}

#[test]
fn names_of_one_file_stay_one_file() {
    let dir = sample();
    check_change(&dir, |top| fs::hard_link(top.join("g"), top.join("h")).unwrap(), &["g", "h"], &[]);
    let snapshot = take(&dir);
    fs::write(dir.path().join("h"), "other content").unwrap();
    let collected = send(&dir, &snapshot.changes(&take(&dir)));
    assert_eq!(collected.lines(), ["g=other content", "h=>g"]);
    check_change(&dir, |top| fs::rename(top.join("h"), top.join("i")).unwrap(), &["g", "i"], &["h"]);
}

#[test]
fn parents_are_sent_once_and_before() {
    let dir = sample();
    let snapshot = take(&dir);
    for path in ["d/b/c", "d/b/e/f", "d/a"] {
        fs::write(dir.path().join(path), "new").unwrap();
    }
    let collected = send(&dir, &snapshot.changes(&take(&dir)));
    assert_eq!(collected.lines(), ["d/", "d/a=new", "d/b/", "d/b/c=new", "d/b/e/", "d/b/e/f=new"]);
}

#[test]
fn what_is_gone_by_now_is_passed_over() {
    let dir = sample();
    let snapshot = take(&dir);
    for path in ["d/b/c", "d/b/e/f", "g"] {
        fs::write(dir.path().join(path), "new").unwrap();
    }
    let changes = snapshot.changes(&take(&dir));
    fs::remove_file(dir.path().join("g")).unwrap();
    fs::remove_dir_all(dir.path().join("d/b/e")).unwrap();
    fs::rename(dir.path().join("d"), dir.path().join("away")).unwrap();
    assert_eq!(send(&dir, &changes).lines(), Vec::<String>::new());
    // What leads elsewhere by now is not followed.
    symlink("away", dir.path().join("d")).unwrap();
    assert_eq!(send(&dir, &changes).lines(), Vec::<String>::new());
    fs::remove_file(dir.path().join("d")).unwrap();
    fs::rename(dir.path().join("away"), dir.path().join("d")).unwrap();
    assert_eq!(send(&dir, &changes).lines(), ["d/", "d/b/", "d/b/c=new"]);
}

#[test]
fn snapshots_keep_the_rules() {
    let dir = sample();
    symlink("../..", dir.path().join("d/out")).unwrap();
    let error = Snapshot::take(dir.path(), &AtomicBool::new(false)).unwrap_err();
    assert_eq!(error.to_string(), r#"entry "d/out" is a link that leads out of the workspace"#);
    let error = Snapshot::take(dir.path(), &AtomicBool::new(true)).unwrap_err();
    assert!(matches!(error, SourceError::Cancelled));
    let error = Snapshot::take(&dir.path().join("none"), &AtomicBool::new(false)).unwrap_err();
    assert!(error.is_bad_argument());
}

#[test]
fn changes_do_not_lead_out_of_the_directory() {
    let dir = sample();
    for path in ["../x", "d/../../x", "/etc/passwd", "d//a", "./g", "d/", "", "a\0b"] {
        let path = vec![path.as_bytes().to_vec()];
        let changed = Changes { changed: path.clone(), removed: Vec::new() };
        let removed = Changes { changed: Vec::new(), removed: path };
        for changes in [changed, removed] {
            let mut collected = Collected::default();
            let error =
                read_changes(dir.path(), &changes, &mut collected, &AtomicBool::new(false)).unwrap_err();
            assert!(matches!(error, ReadError::Source(error) if error.is_refusal()), "{changes:?}");
            assert!(collected.entries.is_empty());
        }
    }
}

#[test]
fn a_file_that_changes_while_it_is_sent_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    write(&dir, "f", "content");
    let changes = Snapshot::default().changes(&take(&dir));
    let mut sink = Truncating(dir.path().join("f"));
    let error = read_changes(dir.path(), &changes, &mut sink, &AtomicBool::new(false)).unwrap_err();
    assert_eq!(error.to_string(), r#"entry "f" changed while it was read"#);
}

/// A sink that empties a file when its content comes.
struct Truncating(PathBuf);

impl Sink for Truncating {
    type Error = std::io::Error;

    fn entry(&mut self, _: &Entry) -> std::io::Result<()> {
        Ok(())
    }

    fn content(&mut self, _: &[u8]) -> std::io::Result<()> {
        File::options().write(true).open(&self.0)?.set_len(0)
    }
}
