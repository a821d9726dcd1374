//! Directories as they are found, and those that somebody changes under the reader.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use pyro_protocol::{Entry, EntryKind};
use pyro_runtime::import::{ReadError, Sink, Source, SourceError, check, read};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use tempfile::TempDir;

use super::collected::{Collected, collect, detect};

/// A sink that does something with each call, given the entry's path and whether it is content.
struct Acting<F> {
    collected: Collected,
    act: F,
}

impl<F: FnMut(&str, bool) -> io::Result<()>> Sink for Acting<F> {
    type Error = io::Error;

    fn entry(&mut self, entry: &Entry) -> io::Result<()> {
        (self.act)(str::from_utf8(&entry.path).unwrap(), false)?;
        match self.collected.entry(entry) {
            Ok(()) => Ok(()),
        }
    }

    fn content(&mut self, bytes: &[u8]) -> io::Result<()> {
        let path = self.collected.entries.last().unwrap().0.path.clone();
        (self.act)(str::from_utf8(&path).unwrap(), true)?;
        match self.collected.content(bytes) {
            Ok(()) => Ok(()),
        }
    }
}

/// Something that is done to what is at a path.
type Change<'a> = &'a dyn Fn(&Path) -> io::Result<()>;

/// Reads a directory while `act` does something to it, and returns the lines with what went wrong.
fn read_acting(dir: &Path, act: impl FnMut(&str, bool) -> io::Result<()>) -> (Vec<String>, Option<String>) {
    let mut sink = Acting { collected: Collected::default(), act };
    let result = read(&detect(dir), &mut sink, &AtomicBool::new(false));
    (sink.collected.lines(), result.err().map(|error| error.to_string()))
}

fn write(dir: &TempDir, path: &str, content: impl AsRef<[u8]>) {
    let path = dir.path().join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

#[test]
fn a_checkout_comes_whole_and_in_order() {
    let dir = tempfile::tempdir().unwrap();
    write(&dir, "node_modules/tool/cli.js", "#!node\n");
    write(&dir, ".git/HEAD", "ref: x\n");
    write(&dir, ".gitignore", "node_modules\n");
    write(&dir, "a-b", "");
    write(&dir, "a/x", "1");
    fs::set_permissions(dir.path().join("node_modules/tool/cli.js"), Permissions::from_mode(0o4755)).unwrap();
    fs::create_dir(dir.path().join("node_modules/.bin")).unwrap();
    symlink("../tool/cli.js", dir.path().join("node_modules/.bin/tool")).unwrap();
    symlink("/usr/bin/python3", dir.path().join("python")).unwrap();
    fs::hard_link(dir.path().join("a/x"), dir.path().join("z")).unwrap();
    fs::set_permissions(dir.path().join("a"), Permissions::from_mode(0o3750)).unwrap();
    let collected = collect(&detect(dir.path())).unwrap();
    let lines = [
        ".git/",
        r".git/HEAD=ref: x\n",
        r".gitignore=node_modules\n",
        "a/",
        "a/x=1",
        "a-b=",
        "node_modules/",
        "node_modules/.bin/",
        "node_modules/.bin/tool->../tool/cli.js",
        "node_modules/tool/",
        r"node_modules/tool/cli.js=#!node\n",
        "python->/usr/bin/python3",
        "z=>a/x",
    ];
    let mut found = collected.lines();
    let mut expected = lines.map(str::to_owned).to_vec();
    // Names are in order within a directory: `a` and what is in it stand before `a-b`.
    assert_eq!(found, expected);
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
    assert_eq!(collected.get("node_modules/tool/cli.js").0.mode, 0o755);
    assert_eq!(collected.get("a").0.mode, 0o1750);
    let metadata = fs::symlink_metadata(dir.path().join("python")).unwrap();
    let modified = collected.get("python").0.modified;
    assert_eq!(
        (modified.seconds, i64::from(modified.nanoseconds)),
        (metadata.mtime(), metadata.mtime_nsec())
    );
}

#[test]
fn long_content_comes_in_pieces_and_whole() {
    let dir = tempfile::tempdir().unwrap();
    let content = (0..1_000_000_u32).map(|number| number.to_le_bytes()[0] ^ 0x5a).collect::<Vec<_>>();
    write(&dir, "big", &content);
    write(&dir, "exact", &content[..256 * 1024]);
    let collected = collect(&detect(dir.path())).unwrap();
    assert!(collected.get("big").1 == content && collected.get("exact").1 == content[..256 * 1024]);
}

#[test]
fn what_is_no_file_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("d/x\n");
    fs::create_dir(dir.path().join("d")).unwrap();
    let refused = |reason: &str| {
        let error = collect(&detect(dir.path())).err().unwrap();
        assert_eq!(error.to_string(), format!(r#"entry "d/x\n" {reason}"#));
        assert!(error.is_refusal());
        fs::remove_file(&path).unwrap();
    };
    mknodat(CWD, &path, FileType::Fifo, Mode::RUSR, 0).unwrap();
    refused("is a FIFO");
    drop(UnixListener::bind(&path).unwrap());
    refused("is a socket");
    // Only a privileged user can make a device; the number is that of /dev/null.
    if mknodat(CWD, &path, FileType::CharacterDevice, Mode::RUSR, rustix::fs::makedev(1, 3)).is_ok() {
        refused("is a character device");
    } else {
        eprintln!("skipped: no right to make a device");
    }
    for target in ["../..", "../../etc", "y/../../../z"] {
        symlink(target, &path).unwrap();
        refused("is a link that leads out of the workspace");
    }
}

#[test]
fn paths_are_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let mut inner = rustix::fs::open(dir.path(), rustix::fs::OFlags::DIRECTORY, Mode::empty()).unwrap();
    for depth in 1..=257 {
        rustix::fs::mkdirat(&inner, "d", Mode::RWXU).unwrap();
        inner = rustix::fs::openat(&inner, "d", rustix::fs::OFlags::DIRECTORY, Mode::empty()).unwrap();
        if depth == 256 {
            assert_eq!(collect(&detect(dir.path())).unwrap().entries.len(), 256);
        }
    }
    let error = collect(&detect(dir.path())).err().unwrap().to_string();
    assert!(error.ends_with("has a name of more than 256 components"), "{error}");
}

#[test]
fn a_file_that_shrinks_or_grows_is_named() {
    let changes: [Change<'_>; 4] = [
        &|path| File::options().write(true).open(path)?.set_len(300_000),
        &|path| File::options().write(true).open(path)?.set_len(0),
        &|path| File::options().write(true).open(path)?.set_len(700_000),
        // Its length stays, and its content is another one.
        &|path| {
            let file = File::options().write(true).open(path)?;
            file.set_modified(std::time::SystemTime::UNIX_EPOCH)
        },
    ];
    for (index, change) in changes.iter().enumerate() {
        let dir = tempfile::tempdir().unwrap();
        write(&dir, "f\t", vec![7; 600_000]);
        let mut once = true;
        let (_, error) = read_acting(dir.path(), |_, is_content| {
            if is_content && std::mem::take(&mut once) { change(&dir.path().join("f\t")) } else { Ok(()) }
        });
        assert_eq!(error.as_deref(), Some(r#"entry "f\t" changed while it was read"#), "{index}");
    }
}

#[test]
fn nothing_is_reached_through_a_link_that_took_a_place() {
    let outside = tempfile::tempdir().unwrap();
    write(&outside, "b/secret", "secret");
    // What is swapped in after the directory was listed, for what was a directory or a file there.
    let swaps: [(&str, Change<'_>); 5] = [
        ("b", &|path| symlink(outside.path().join("b"), path)),
        ("c", &|path| symlink(outside.path().join("b/secret"), path)),
        ("c", &|path| fs::create_dir(path)),
        ("c", &|path| Ok(mknodat(CWD, path, FileType::Fifo, Mode::RUSR, 0)?)),
        ("c", &|path| UnixListener::bind(path).map(drop)),
    ];
    for (name, swap) in swaps {
        let dir = tempfile::tempdir().unwrap();
        write(&dir, "a", "");
        write(&dir, "b/secret", "mine");
        write(&dir, "c", "mine");
        let (lines, error) = read_acting(dir.path(), |path, _| {
            if path == "a" {
                let path = dir.path().join(name);
                fs::rename(&path, dir.path().join("away"))?;
                swap(&path)?;
            }
            Ok(())
        });
        assert_eq!(error.unwrap(), format!("entry {name:?} changed while it was read"));
        assert!(!lines.iter().any(|line| line.contains("secret=secret")), "{lines:?}");
    }
}

#[test]
fn a_directory_that_is_moved_away_is_read_where_it_is() {
    let outside = tempfile::tempdir().unwrap();
    write(&outside, "b/f", "secret");
    let dir = tempfile::tempdir().unwrap();
    write(&dir, "b/e", "");
    write(&dir, "b/f", "mine");
    // The directory is open by now: its names are looked up in it, not in what has its name.
    let (lines, error) = read_acting(dir.path(), |path, _| {
        if path == "b/e" {
            fs::rename(dir.path().join("b"), dir.path().join("away"))?;
            symlink(outside.path().join("b"), dir.path().join("b"))?;
        }
        Ok(())
    });
    assert_eq!((lines, error), (vec!["b/".into(), "b/e=".into(), "b/f=mine".into()], None));
}

#[test]
fn what_goes_away_while_it_is_read_is_named() {
    let dir = tempfile::tempdir().unwrap();
    write(&dir, "a", "");
    write(&dir, "b", "");
    let (_, error) = read_acting(dir.path(), |path, _| match path {
        "a" => fs::remove_file(dir.path().join("b")),
        _ => Ok(()),
    });
    assert_eq!(error.as_deref(), Some(r#"entry "b" changed while it was read"#));
}

#[test]
fn the_first_error_of_the_sink_ends_the_reading() {
    let dir = tempfile::tempdir().unwrap();
    write(&dir, "a", "1");
    write(&dir, "b", "2");
    let mut calls = 0;
    let (lines, error) = read_acting(dir.path(), |_, _| {
        calls += 1;
        if calls == 2 { Err(io::Error::other("the guest is gone")) } else { Ok(()) }
    });
    assert_eq!((calls, lines.len(), error.as_deref()), (2, 1, Some("the guest is gone")));
}

#[test]
fn it_ends_when_it_is_cancelled() {
    let dir = tempfile::tempdir().unwrap();
    write(&dir, "a", vec![1; 600_000]);
    let source = detect(dir.path());
    let cancel = AtomicBool::new(false);
    let act = |_: &str, is_content: bool| {
        cancel.fetch_or(is_content, Ordering::Relaxed);
        Ok(())
    };
    let mut sink = Acting { collected: Collected::default(), act };
    let result = read(&source, &mut sink, &cancel);
    assert!(matches!(result, Err(ReadError::Source(SourceError::Cancelled))), "{result:?}");
    assert_eq!(sink.collected.entries[0].1.len(), 256 * 1024);
    let result = check(&source, &cancel, |_| ());
    assert!(matches!(result, Err(SourceError::Cancelled)), "{result:?}");
    fs::write(dir.path().join("a.tar"), [0; 1024]).unwrap();
    let result = check(&detect(&dir.path().join("a.tar")), &cancel, |_| ());
    assert!(matches!(result, Err(SourceError::Cancelled)), "{result:?}");
}

#[test]
fn a_source_that_is_gone_or_replaced_by_now_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("d")).unwrap();
    fs::write(dir.path().join("a.tar"), [0; 1024]).unwrap();
    for name in ["d", "a.tar"] {
        let source = detect(&dir.path().join(name));
        collect(&source).unwrap();
        let away = dir.path().join("away");
        fs::rename(source.path(), &away).unwrap();
        assert!(collect(&source).err().unwrap().is_bad_argument());
        symlink(&away, source.path()).unwrap();
        let error = collect(&source).err().unwrap();
        assert!(matches!(error, SourceError::Unreadable { .. }), "{error}");
        fs::remove_file(source.path()).unwrap();
        mknodat(CWD, source.path(), FileType::Fifo, Mode::RWXU, 0).unwrap();
        collect(&source).err().unwrap();
        fs::remove_file(&away).or_else(|_| fs::remove_dir(&away)).unwrap();
    }
}

#[test]
fn names_need_not_be_text() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(std::ffi::OsStr::from_bytes(b"caf\xe9\n")), "x").unwrap();
    let collected = collect(&Source::Directory(dir.path().to_owned())).unwrap();
    assert_eq!(collected.entries[0].0.path, b"caf\xe9\n");
    assert_eq!(collected.entries[0].0.kind, EntryKind::File { len: 1 });
}
