//! Real processes: found, watched, ended.

use std::io::Read as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Stdio};

use super::*;

/// Starts a process that does nothing for long.
fn sleeper(dir: &Path) -> (ProcessRef, Ended) {
    Detached::new(Path::new("/bin/sleep"), dir).args(["1000"]).spawn().unwrap()
}

#[tokio::test]
async fn a_process_is_known_by_its_start_time() {
    let dir = tempfile::tempdir().unwrap();
    let (process, mut ended) = sleeper(dir.path());
    let recorded = process.process();
    let found = ProcessRef::find(recorded).unwrap().expect("it runs");
    assert_eq!(found.process(), recorded);
    let other = Process { start_ticks: recorded.start_ticks + 1, ..recorded };
    assert!(ProcessRef::find(other).unwrap().is_none(), "a pid that was given away is trusted");

    assert!(process.is_alive().unwrap());
    found.kill().unwrap();
    let (one, two, status) = tokio::join!(process.exited(), found.exited(), ended.wait());
    one.unwrap();
    two.unwrap();
    assert_eq!(status.unwrap().signal(), Some(9));
    assert!(!process.is_alive().unwrap());
    assert!(ProcessRef::find(recorded).unwrap().is_none());
    process.kill().unwrap();
    process.terminate().unwrap();
}

#[tokio::test]
async fn what_is_no_process_is_not_found() {
    for pid in [0, u32::MAX, i32::MAX.cast_unsigned()] {
        assert!(ProcessRef::find(Process { pid, start_ticks: 1 }).unwrap().is_none(), "{pid}");
    }
}

#[tokio::test]
async fn a_detached_process_has_nothing_of_its_parent() {
    let dir = tempfile::tempdir().unwrap();
    // Not close-on-exec, as a descriptor that the daemon was started with would be.
    let inherited = std::fs::File::open(dir.path()).unwrap();
    rustix::io::fcntl_setfd(&inherited, rustix::io::FdFlags::empty()).unwrap();
    let (mut reader, writer) = std::io::pipe().unwrap();
    let report = "ls -1 /proc/self/fd; cat /proc/self/environ; pwd; read line || echo no input";
    let (_process, mut ended) = Detached::new(Path::new("/bin/sh"), dir.path())
        .args(["-c", report])
        .output(writer.into())
        .spawn()
        .unwrap();
    let said = tokio::task::spawn_blocking(move || {
        let mut said = String::new();
        reader.read_to_string(&mut said).unwrap();
        said
    });
    assert!(ended.wait().await.unwrap().success());
    let said = said.await.unwrap();
    // The fourth descriptor is the directory that `ls` reads. The shell sets PWD by itself.
    let dir = dir.path().canonicalize().unwrap();
    let expected = format!("0\n1\n2\n3\nPWD={0}\0{0}\nno input\n", dir.display());
    assert_eq!(said, expected);
}

#[tokio::test]
async fn a_directorys_processes_are_those_that_were_detached_for_it() {
    let home = tempfile::tempdir().unwrap();
    let (dir, longer) = (home.path().join("ab"), home.path().join("abc"));
    std::fs::create_dir(&dir).unwrap();
    std::fs::create_dir(&longer).unwrap();
    let (works_there, _) = sleeper(&dir);
    let (elsewhere, _) = sleeper(&longer);
    let mention = format!("file={}/disk", dir.display());
    let arguments = ["-c", "sleep 1000; :", "sh", mention.as_str()];
    let (mentions_it, _) = Detached::new(Path::new("/bin/sh"), home.path()).args(arguments).spawn().unwrap();
    // Somebody's own look at the directory, which must not be killed with it.
    let mut visitor =
        Command::new("/bin/sleep").arg("1000").current_dir(&dir).stdin(Stdio::null()).spawn().unwrap();

    let found = processes_with(&dir).unwrap();
    let mut pids = found.iter().map(|process| process.process().pid).collect::<Vec<_>>();
    pids.sort_unstable();
    let mut expected = [works_there.process().pid, mentions_it.process().pid];
    expected.sort_unstable();

    visitor.kill().unwrap();
    visitor.wait().unwrap();
    // The child of the shell is in its session and does not end with it.
    let session = rustix::process::Pid::from_raw(mentions_it.process().pid.cast_signed()).unwrap();
    rustix::process::kill_process_group(session, Signal::KILL).unwrap();
    for process in [&works_there, &elsewhere, &mentions_it] {
        process.kill().unwrap();
        process.exited().await.unwrap();
    }
    assert_eq!(pids, expected);
    assert!(processes_with(&dir).unwrap().is_empty());
}

#[test]
fn a_name_with_parentheses_does_not_shift_the_fields() {
    let line = b"77 (a) R 1 (b) S 1 77 77 34816 77 4194304 1 2 3 4 5 6 7 8 20 0 1 0 987654 1 2\n";
    let expected = Stat { session: Some(77), has_terminal: true, start_ticks: 987_654 };
    assert_eq!(Stat::parse(line), Some(expected));
}

#[test]
fn only_the_whole_path_is_a_mention() {
    let dir = OsStr::new("/p/workspaces/ab");
    for line in
        ["qemu\0-drive\0file=/p/workspaces/ab/disk,if=none", "x\0/p/workspaces/ab\0", "x\0a:/p/workspaces/ab"]
    {
        assert!(mentions(line.as_bytes(), dir), "{line:?}");
    }
    for line in ["x\0/p/workspaces/abc\0", "x\0/q/p/workspaces/ab\0", "x\0/p/workspaces/a", ""] {
        assert!(!mentions(line.as_bytes(), dir), "{line:?}");
    }
}
