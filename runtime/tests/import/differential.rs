//! Archives that other programs write, against the walk of the same tree.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use pyro_protocol::{EntryKind, ModifiedAt};

use super::collected::{Collected, collect, detect};

/// What an entry is, with all names of a file together.
#[derive(Debug, PartialEq, Eq)]
enum Kind {
    Directory { mode: u32 },
    File { mode: u32, content: Vec<u8>, names: Vec<Vec<u8>> },
    Symlink { target: Vec<u8> },
}

/// How exactly a format keeps times.
#[derive(Clone, Copy)]
enum Times {
    Seconds,
    Nanoseconds,
    /// Python goes through a floating point number.
    Microseconds,
}

type Tree = BTreeMap<Vec<u8>, (Kind, ModifiedAt)>;

fn tree(collected: &Collected, times: Times) -> Tree {
    let first = |path: &[u8]| {
        let (entry, _) = collected.entries.iter().find(|(entry, _)| entry.path == path).unwrap();
        match &entry.kind {
            EntryKind::HardLink { target } => target.clone(),
            _ => entry.path.clone(),
        }
    };
    let names = |path: &[u8]| {
        let same = |other: &Vec<u8>| first(other) == first(path);
        let mut names =
            collected.entries.iter().map(|(entry, _)| entry.path.clone()).filter(same).collect::<Vec<_>>();
        names.sort();
        names
    };
    let find = |path: &[u8]| collected.entries.iter().find(|(entry, _)| entry.path == path).unwrap();
    collected
        .entries
        .iter()
        .map(|(entry, _)| {
            let (own, content) = find(&first(&entry.path));
            let kind = match &entry.kind {
                EntryKind::Directory => Kind::Directory { mode: entry.mode },
                EntryKind::File { .. } | EntryKind::HardLink { .. } => {
                    Kind::File { mode: own.mode, content: content.clone(), names: names(&entry.path) }
                }
                EntryKind::Symlink { target } => Kind::Symlink { target: target.clone() },
                EntryKind::Absent => panic!("nothing is removed here"),
            };
            (entry.path.clone(), (kind, rounded(own.modified, times)))
        })
        .collect()
}

fn rounded(mut modified: ModifiedAt, times: Times) -> ModifiedAt {
    modified.nanoseconds = match times {
        Times::Seconds => 0,
        Times::Nanoseconds => modified.nanoseconds,
        Times::Microseconds => modified.nanoseconds / 1_000_000 * 1_000_000,
    };
    modified
}

/// What all formats can hold.
fn make_tree(top: &Path) {
    for dir in ["empty", "node_modules/.bin", "node_modules/tool", "venv/bin", "tmp"] {
        fs::create_dir_all(top.join(dir)).unwrap();
    }
    let content = (0..300_000_u32).flat_map(|number| number.wrapping_mul(2_654_435_761).to_be_bytes());
    fs::write(top.join("big"), content.take(300_001).collect::<Vec<_>>()).unwrap();
    fs::write(top.join("node_modules/tool/cli.js"), "#!/usr/bin/env node\n").unwrap();
    for (name, content) in [("empty.txt", ""), (".hidden", "h"), ("with space", "s"), ("new\nline", "n")] {
        fs::write(top.join(name), content).unwrap();
    }
    fs::write(top.join("exact"), [b'x'; 512]).unwrap();
    let long = format!("{}/{}", "d".repeat(90), "f".repeat(95));
    fs::create_dir(top.join("d".repeat(90))).unwrap();
    fs::write(top.join(long), "long").unwrap();
    fs::set_permissions(top.join("node_modules/tool/cli.js"), Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(top.join(".hidden"), Permissions::from_mode(0o400)).unwrap();
    fs::set_permissions(top.join("tmp"), Permissions::from_mode(0o1777)).unwrap();
    symlink("../tool/cli.js", top.join("node_modules/.bin/tool")).unwrap();
    symlink("/usr/bin/python3", top.join("venv/bin/python")).unwrap();
    symlink("nowhere", top.join("dangling")).unwrap();
    fs::hard_link(top.join("node_modules/tool/cli.js"), top.join("a-hard-link")).unwrap();
    fs::hard_link(top.join("node_modules/tool/cli.js"), top.join("z-hard-link")).unwrap();
    // A fraction that is above 0 in every precision, so that one rounded the wrong way is seen.
    set_modified(&top.join("exact"), SystemTime::UNIX_EPOCH + Duration::new(1_700_000_000, 123_456_789));
}

/// What only the newer formats can hold.
fn add_long_and_old(top: &Path) {
    let deep = (0..8).map(|index| index.to_string().repeat(60)).collect::<Vec<_>>().join("/");
    fs::create_dir_all(top.join(&deep)).unwrap();
    fs::write(top.join(&deep).join("n".repeat(255)), "deep").unwrap();
    symlink("t".repeat(300), top.join("long-target")).unwrap();
    symlink(format!("/{deep}"), top.join(format!("{}-link", "l".repeat(120)))).unwrap();
    fs::write(top.join("süß"), "utf-8").unwrap();
    fs::write(top.join(OsStr::from_bytes(b"caf\xe9")), "latin").unwrap();
    fs::write(top.join("old"), "before the epoch").unwrap();
    set_modified(&top.join("old"), SystemTime::UNIX_EPOCH - Duration::from_secs(5));
    fs::hard_link(top.join(&deep).join("n".repeat(255)), top.join("h".repeat(200))).unwrap();
}

fn set_modified(path: &Path, time: SystemTime) {
    File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
}

/// Runs a program; `false` when this machine has none of that name.
fn run(program: &str, arguments: &[&OsStr]) -> bool {
    match Command::new(program).args(arguments).env("LC_ALL", "C.UTF-8").output() {
        Ok(output) => {
            assert!(output.status.success(), "{program}: {}", output.stderr.escape_ascii());
            true
        }
        Err(error) => {
            eprintln!("skipped: {program}: {error}");
            false
        }
    }
}

#[track_caller]
fn check_archive(dir: &Path, archive: &Path, times: Times) {
    let walked = collect(&detect(dir)).unwrap();
    let read = collect(&detect(archive)).unwrap();
    let (walked, read) = (tree(&walked, times), tree(&read, times));
    for (path, entry) in &walked {
        assert_eq!(read.get(path), Some(entry), "{}", path.escape_ascii());
    }
    assert_eq!(read.len(), walked.len());
}

#[test]
fn archives_of_gnu_tar_hold_the_tree() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("tree");
    fs::create_dir(&dir).unwrap();
    make_tree(&dir);
    let formats = [
        ("ustar", Times::Seconds),
        ("gnu", Times::Seconds),
        ("oldgnu", Times::Seconds),
        ("pax", Times::Nanoseconds),
    ];
    for (index, (format, times)) in formats.into_iter().enumerate() {
        if index == 1 {
            add_long_and_old(&dir);
        }
        for ending in ["tar", "tar.gz"] {
            let archive = home.path().join(format!("{format}.{ending}"));
            let format = format!("--format={format}");
            let compress = if ending == "tar" { "--no-auto-compress" } else { "--gzip" };
            let arguments =
                [compress, &format, "-C", dir.to_str().unwrap(), "-cf", archive.to_str().unwrap(), "."];
            if !run("tar", &arguments.map(OsStr::new)) {
                return;
            }
            check_archive(&dir, &archive, times);
        }
    }
}

#[test]
fn archives_of_python_hold_the_tree() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("tree");
    fs::create_dir(&dir).unwrap();
    make_tree(&dir);
    let program = concat!(
        "import sys, tarfile\n",
        "mode, form, archive, top = sys.argv[1:]\n",
        "with tarfile.open(archive, mode, format=getattr(tarfile, form)) as tar: tar.add(top, arcname='.')\n",
    );
    let formats = [
        ("USTAR_FORMAT", Times::Seconds),
        ("GNU_FORMAT", Times::Seconds),
        ("PAX_FORMAT", Times::Microseconds),
    ];
    for (index, (format, times)) in formats.into_iter().enumerate() {
        if index == 1 {
            add_long_and_old(&dir);
        }
        for (mode, ending) in [("w", "tar"), ("w:gz", "tgz")] {
            let archive = home.path().join(format!("{format}.{ending}"));
            let arguments = ["-c", program, mode, format, archive.to_str().unwrap(), dir.to_str().unwrap()];
            if !run("python3", &arguments.map(OsStr::new)) {
                return;
            }
            check_archive(&dir, &archive, times);
        }
    }
}

#[test]
fn an_archive_that_was_appended_to_holds_the_later_files() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("tree");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("a"), "first").unwrap();
    let archive = home.path().join("a.tar");
    let tar = |action: &str| {
        run("tar", &["-C", dir.to_str().unwrap(), action, archive.to_str().unwrap(), "."].map(OsStr::new))
    };
    if !tar("-cf") {
        return;
    }
    fs::write(dir.join("a"), "second").unwrap();
    assert!(tar("-rf"));
    assert_eq!(collect(&detect(&archive)).unwrap().lines(), ["a=first", "a=second"]);
}
