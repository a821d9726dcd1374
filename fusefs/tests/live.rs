//! Live files through a real mount, with a real agent on the other side.

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use pyro_core::WorkspaceId;
use pyro_fusefs::Visibility;
use rustix::event::{PollFd, PollFlags};
use rustix::fs::{AtFlags, CWD, Mode, RenameFlags};
use rustix::io::Errno;
use rustix::process::Signal;

use crate::guests::Guests;
use crate::tree::obstacle;
use crate::world::World;

/// Runs a case with the live files of a workspace, through the mount and as the guest has them.
fn live(case: impl Fn(&World, WorkspaceId, &Path, &Path)) {
    if let Some(obstacle) = obstacle().or_else(Guests::obstacle) {
        return eprintln!("{obstacle}");
    }
    let world = World::new();
    let mount = world.mount(Visibility::Owner);
    let id = world.create(None);
    let inside = world.start_agent(id);
    case(&world, id, &mount.path().join(id.to_string()).join("files"), &inside);
}

fn errno<T: std::fmt::Debug>(result: std::io::Result<T>) -> Errno {
    Errno::from_io_error(&result.unwrap_err()).unwrap()
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// > `files` is the live `/workspace` of the guest: what either side writes, the other reads.
#[test]
fn both_sides_have_the_same_files() {
    live(|_, _, files, inside| {
        fs::write(inside.join("theirs"), "from inside").unwrap();
        assert_eq!(fs::read_to_string(files.join("theirs")).unwrap(), "from inside");
        fs::create_dir_all(files.join("a/b")).unwrap();
        fs::write(files.join("a/b/ours"), vec![7; 3_000_000]).unwrap();
        assert_eq!(fs::read(inside.join("a/b/ours")).unwrap(), vec![7; 3_000_000]);
        let open = File::open(files.join("a/b/ours")).unwrap();
        let mut polled = [PollFd::new(&open, PollFlags::IN)];
        assert_eq!(rustix::event::poll(&mut polled, None), Ok(1));
        assert_eq!(polled[0].revents(), PollFlags::IN, "a pager takes an error for the end");
        symlink("../theirs", files.join("a/link")).unwrap();
        assert_eq!(fs::read_to_string(files.join("a/link")).unwrap(), "from inside");
        fs::hard_link(files.join("theirs"), files.join("other")).unwrap();
        assert_eq!(fs::metadata(inside.join("other")).unwrap().nlink(), 2);
        assert_eq!(
            fs::metadata(files.join("other")).unwrap().ino(),
            fs::metadata(files.join("theirs")).unwrap().ino()
        );
        assert_eq!(names(files), ["a", "other", "theirs"]);
        fs::rename(files.join("a/b"), files.join("b")).unwrap();
        assert_eq!(names(&inside.join("b")), ["ours"]);
        fs::remove_dir_all(files.join("b")).unwrap();
        fs::remove_file(files.join("other")).unwrap();
        assert_eq!(names(inside), ["a", "theirs"]);
    });
}

/// > What the guest changes shows within a second, and in a file that is opened after it at once.
#[test]
fn changes_of_the_guest_show() {
    live(|_, _, files, inside| {
        let path = files.join("f");
        fs::write(&path, "one").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "one");
        fs::write(inside.join("f"), "three").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "three");
        let mut open = File::open(&path).unwrap();
        fs::write(inside.join("f"), "fourth").unwrap();
        let mut text = String::new();
        open.read_to_string(&mut text).unwrap();
        assert_eq!(text, "fourth");
        // Without an end when it never shows.
        fs::remove_file(inside.join("f")).unwrap();
        while path.exists() {
            std::thread::yield_now();
        }
        fs::create_dir(inside.join("d")).unwrap();
        while fs::metadata(files.join("d")).is_err() {
            std::thread::yield_now();
        }
    });
}

/// > An open file stays the same file, whatever becomes of its name.
#[test]
fn an_open_file_outlives_its_name() {
    live(|_, _, files, inside| {
        let path = files.join("f");
        let options = || OpenOptions::new().read(true).write(true).create(true).clone();
        let mut file = options().open(&path).unwrap();
        file.write_all(b"one").unwrap();
        fs::rename(&path, files.join("g")).unwrap();
        fs::write(&path, "another").unwrap();
        fs::remove_file(files.join("g")).unwrap();
        file.write_all(b"two").unwrap();
        file.set_len(5).unwrap();
        let metadata = file.metadata().unwrap();
        assert_eq!((metadata.len(), metadata.nlink()), (5, 0));
        file.rewind().unwrap();
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "onetw");
        fs::remove_file(inside.join("f")).unwrap();
        let mut theirs = options().open(&path).unwrap();
        fs::remove_file(inside.join("f")).unwrap();
        theirs.write_all(b"x").unwrap();
        file.sync_all().unwrap();
    });
}

/// > Names, modes, times, links and errors are those of the guest's file system; devices cannot be made, and there are no
/// > extended attributes.
#[test]
fn attributes_are_changed() {
    live(|_, _, files, inside| {
        let device = rustix::fs::mknodat(
            CWD,
            files.join("c"),
            rustix::fs::FileType::CharacterDevice,
            Mode::from_raw_mode(0o600),
            rustix::fs::makedev(1, 3),
        );
        assert_eq!(device, Err(Errno::PERM));
        let attribute = rustix::fs::setxattr(files, "user.x", b"y", rustix::fs::XattrFlags::empty());
        assert_eq!(attribute, Err(Errno::OPNOTSUPP));
        let path = files.join("f");
        fs::write(&path, "0123456789").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o4751)).unwrap();
        let at = std::time::UNIX_EPOCH + std::time::Duration::new(1_000_000_000, 123_456_789);
        File::options().write(true).open(&path).unwrap().set_modified(at).unwrap();
        let theirs = fs::metadata(inside.join("f")).unwrap();
        assert_eq!((theirs.mode() & 0o7777, theirs.modified().unwrap()), (0o4751, at));
        let ours = fs::metadata(&path).unwrap();
        assert_eq!((ours.mode(), ours.modified().unwrap(), ours.size()), (theirs.mode(), at, 10));
        rustix::fs::mknodat(CWD, files.join("p"), rustix::fs::FileType::Fifo, Mode::from_raw_mode(0o600), 0)
            .unwrap();
        assert!(fs::metadata(inside.join("p")).unwrap().file_type().is_fifo());
        let times = rustix::fs::Timestamps {
            last_access: rustix::fs::Timespec { tv_sec: 5, tv_nsec: 6 },
            last_modification: rustix::fs::Timespec { tv_sec: -7, tv_nsec: 0 },
        };
        symlink("nowhere", files.join("l")).unwrap();
        rustix::fs::utimensat(CWD, files.join("l"), &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
        let link = fs::symlink_metadata(inside.join("l")).unwrap();
        assert_eq!((link.mtime(), link.atime(), link.atime_nsec()), (-7, 5, 6));
    });
}

/// Catches renames whose flags are forgotten, and errors that become others on the way.
#[test]
fn errors_are_those_of_the_guest() {
    live(|_, _, files, _| {
        fs::write(files.join("a"), "a").unwrap();
        fs::write(files.join("b"), "b").unwrap();
        fs::create_dir(files.join("d")).unwrap();
        fs::write(files.join("d/f"), "").unwrap();
        let rename = |flags| rustix::fs::renameat_with(CWD, files.join("a"), CWD, files.join("b"), flags);
        assert_eq!(rename(RenameFlags::NOREPLACE), Err(Errno::EXIST));
        rename(RenameFlags::EXCHANGE).unwrap();
        assert_eq!(fs::read_to_string(files.join("a")).unwrap(), "b");
        assert_eq!(errno(fs::remove_dir(files.join("d"))), Errno::NOTEMPTY);
        assert_eq!(errno(fs::remove_file(files.join("d"))), Errno::ISDIR);
        assert_eq!(errno(fs::read(files.join("a/x"))), Errno::NOTDIR);
        assert_eq!(errno(fs::create_dir(files.join("a"))), Errno::EXIST);
        assert_eq!(errno(fs::write(files.join("n".repeat(256)), "")), Errno::NAMETOOLONG);
        assert_eq!(errno(fs::rename(files.join("a"), files.join("../ctl"))), Errno::PERM);
        let mut file = File::open(files.join("a")).unwrap();
        file.seek(SeekFrom::Start(5)).unwrap();
        assert_eq!(rustix::fs::seek(&file, rustix::fs::SeekFrom::Data(7)), Err(Errno::NXIO));
    });
}

/// Catches a listing that misses what is behind its first part, and one that shows what is gone.
#[test]
fn a_large_directory_is_listed_whole() {
    live(|_, _, files, inside| {
        let expected: Vec<_> = (0..3000).map(|number| format!("{number:04}")).collect();
        for name in &expected {
            fs::write(inside.join(name), "").unwrap();
        }
        assert_eq!(names(files), expected);
        let output = Command::new("ls").args(["-l"]).arg(files).output().unwrap();
        assert_eq!(output.stdout.split(|byte| *byte == b'\n').count(), 3002);
        fs::remove_dir_all(files.join("../files/nothing")).unwrap_err();
        for name in &expected[1..] {
            fs::remove_file(inside.join(name)).unwrap();
        }
        assert_eq!(names(files), expected[..1]);
    });
}

/// > The `files` of a workspace without a guest are an empty directory.
#[test]
fn without_a_guest_there_is_nothing() {
    live(|world, _, files, _| {
        let other = world.create(None);
        let empty = files.parent().unwrap().parent().unwrap().join(other.to_string()).join("files");
        assert!(names(&empty).is_empty());
        assert!(fs::metadata(&empty).unwrap().is_dir());
        assert_eq!(errno(fs::write(empty.join("f"), "")), Errno::BUSY);
    });
}

/// > A guest that does not answer fails the calls about its files with `EIO`; all else stays readable.
#[test]
fn a_guest_that_hangs_holds_nobody() {
    live(|world, id, files, _| {
        fs::write(files.join("f"), "x").unwrap();
        world.guests().signal(id, Signal::STOP);
        assert_eq!(errno(fs::write(files.join("g"), "")), Errno::IO);
        assert_eq!(fs::read_to_string(files.parent().unwrap().join("state")).unwrap(), "started\n");
        world.guests().signal(id, Signal::CONT);
        fs::write(files.join("h"), "").unwrap();
    });
}

/// Programs as people use them.
#[test]
fn git_and_an_archive_work() {
    live(|_, _, files, inside| {
        let run = |directory: &Path, line: &str| {
            let output = Command::new("sh").args(["-ec", line]).current_dir(directory).output().unwrap();
            assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap()
        };
        let git = "git -c user.name=t -c user.email=t@example.org -c safe.directory='*'";
        run(files, &format!("git init -q r && cd r && seq 1000 > f && {git} add . && {git} commit -qm one"));
        assert_eq!(run(files, &format!("cd r && {git} status --porcelain")), "");
        run(inside, "cd r && echo more >> f");
        run(
            files,
            "mkdir t && cd t && seq 100000 > a && cp a b && tar cf ../t.tar . && mkdir ../u && tar xf ../t.tar -C ../u",
        );
        assert_eq!(run(inside, "cmp t/a u/b && wc -c < u/a"), "588895\n");
        let elsewhere: PathBuf = inside.with_extension("copy");
        run(files, &format!("cp -a t {}", elsewhere.display()));
        assert_eq!(names(&elsewhere), ["a", "b"]);
    });
}
