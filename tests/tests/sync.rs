//! Seeds and syncs: what is brought is the same as what is there, and it is brought as a whole or not at all.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::{Child, Command};

use pyro_tests::{Output, Pyro, QEMU, SANDBOX, finish, signal};
use rustix::process::Signal;
use tempfile::TempDir;

/// Lists a tree with everything that is to be the same on both sides: kinds, modes, sizes, times, links.
const LISTING: &str = "find . -mindepth 1 \\( -type l -printf '%P %y %l\\n' -o -type d -printf '%P %y %m\\n' \
                       -o -printf '%P %y %m %s %n %T@\\n' \\) | LC_ALL=C sort; \
                       find . -type f -exec sha256sum {} + | LC_ALL=C sort -k 2";

#[track_caller]
fn inside(pyro: &Pyro, id: &str, script: &str) -> String {
    let output = pyro.run(&["workspace", "exec", id, "--", "sh", "-c", script]);
    assert_eq!(output.code, Some(0), "{}{}", output.out(), output.err());
    output.out()
}

/// Returns what a script prints in a directory of the host.
fn outside(dir: &Path, script: &str) -> String {
    let output = Command::new("sh").args(["-c", script]).current_dir(dir).output().unwrap();
    assert!(output.status.success(), "{}", output.stderr.escape_ascii());
    String::from_utf8(output.stdout).unwrap()
}

#[track_caller]
fn push(pyro: &Pyro, id: &str, source: &Path, options: &[&str]) -> Output {
    pyro.run(&[&["workspace", "sync", "push", id, source.to_str().unwrap()], options].concat())
}

/// Makes a checkout as programs make them: links of npm and of a virtualenv, exec bits, hard links, odd names.
fn checkout() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    let write = |path: &str, text: &str, mode: u32| {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    };
    write("run.sh", "#!/bin/sh\ncat data/a data/b && node_modules/.bin/tool && echo done\n", 0o755);
    write("data/a", "a\n", 0o640);
    fs::hard_link(root.join("data/a"), root.join("data/b")).unwrap();
    write("node_modules/pkg/cli.sh", "#!/bin/sh\necho tool\n", 0o755);
    fs::create_dir_all(root.join("node_modules/.bin")).unwrap();
    symlink("../pkg/cli.sh", root.join("node_modules/.bin/tool")).unwrap();
    fs::create_dir_all(root.join("venv/bin")).unwrap();
    symlink("/usr/bin/perl", root.join("venv/bin/python")).unwrap();
    symlink("nowhere", root.join("dangling")).unwrap();
    write(".git/HEAD", "ref: refs/heads/main\n", 0o444);
    write("odd/new\nline \u{1b}[2J ü 'q'", "odd", 0o600);
    fs::create_dir_all(root.join("empty/below")).unwrap();
    for number in 0..500 {
        write(&format!("many/{}/{number}", number % 7), &"x".repeat(number), 0o644);
    }
    fs::set_permissions(root.join("empty"), fs::Permissions::from_mode(0o700)).unwrap();
    let touched =
        Command::new("touch").args(["-d", "2001-02-03T04:05:06.789"]).arg(root.join("data/a")).status();
    assert!(touched.unwrap().success());
    dir
}

#[track_caller]
fn seeded(pyro: &Pyro, options: &[&str]) {
    let checkout = checkout();
    let expected = outside(checkout.path(), LISTING);
    let id = pyro.create(&[options, &["--seed-path", checkout.path().to_str().unwrap()]].concat());
    assert_eq!(inside(pyro, &id, LISTING), expected);
    assert_eq!(inside(pyro, &id, "./run.sh"), "a\na\ntool\ndone\n");
    let status = pyro.run(&["workspace", "status", &id, "--json"]).json();
    let seed = &status["workspace_seed"];
    assert_eq!((&seed["mode"], &seed["destination"]), (&"directory".into(), &"/workspace".into()));
    assert_eq!(seed["seed_path"], checkout.path().canonicalize().unwrap().to_str().unwrap());

    // The same as an archive, somewhere else.
    let archives = tempfile::tempdir().unwrap();
    let archive = archives.path().join("checkout.TAR.gz");
    let packed = Command::new("tar")
        .args(["--posix", "-czf"])
        .arg(&archive)
        .arg("-C")
        .arg(checkout.path())
        .arg(".")
        .status();
    assert!(packed.unwrap().success());
    let output = push(pyro, &id, &archive, &["--dest", "copy", "--json"]);
    let sync = &output.json()["workspace_sync"];
    assert_eq!((&sync["mode"], &sync["destination"]), (&"tar_archive".into(), &"/workspace/copy".into()));
    assert_eq!(inside(pyro, &id, &format!("cd copy; {LISTING}")), expected);
}

#[test]
fn tree_is_the_same_in_the_sandbox() {
    seeded(&Pyro::new().config(SANDBOX), &["--allow-host-compat"]);
}

#[test]
fn tree_is_the_same_in_a_vm() {
    seeded(&Pyro::new().config(QEMU), &[]);
}

/// Makes an archive whose last entry must not be there; the ones before it are good.
fn hostile(dir: &Path, make: &[&str], name: &str) -> std::path::PathBuf {
    fs::write(dir.join("good"), "good").unwrap();
    let archive = dir.join(name);
    let packed = Command::new("tar").arg("-cPf").arg(&archive).args(make).current_dir(dir).output().unwrap();
    assert!(packed.status.success(), "{}", packed.stderr.escape_ascii());
    archive
}

/// Catches an entry that is written although another one is refused, and a refusal that does not say which.
#[test]
fn hostile_archive_is_refused_and_the_workspace_is_as_before() {
    let (pyro, id) = Pyro::with_sandbox();
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("bad"), "bad").unwrap();
    symlink("../../etc/passwd", dir.path().join("escape")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, dir.path().join("pipe"), 0o644.into()).unwrap();
    let table: [(&[&str], &str); 4] = [
        (&["good", "--transform=s,^bad,../bad,", "bad"], "../bad"),
        (&["good", "--transform=s,^bad,/etc/bad,", "bad"], "/etc/bad"),
        (&["good", "escape"], "escape"),
        (&["good", "pipe"], "pipe"),
    ];
    let _made = inside(&pyro, &id, "echo mine >good; mkdir d; echo x >d/x");
    let before = inside(&pyro, &id, LISTING);
    for (number, (make, named)) in table.into_iter().enumerate() {
        let archive = hostile(dir.path(), make, &format!("{number}.tar"));
        let output = push(&pyro, &id, &archive, &["--json"]);
        let error = output.json();
        assert_eq!((output.code, &error["code"]), (Some(1), &"source_refused".into()), "{error}");
        assert!(error["error"].as_str().unwrap().contains(named), "{error}");
        assert_eq!(inside(&pyro, &id, LISTING), before);
        let seed = archive.to_str().unwrap();
        let created =
            pyro.run(&["workspace", "create", "debian:12", "--allow-host-compat", "--seed-path", seed]);
        assert!(created.code == Some(1) && created.err().contains(named), "{}", created.err());
    }
    assert_eq!(pyro.run(&["workspace", "list", "--json"]).json()["count"], 1);
    let outside = push(&pyro, &id, dir.path(), &["--dest", "../etc", "--json"]);
    assert_eq!((outside.code, &outside.json()["code"]), (Some(1), &"invalid_argument".into()));
}

/// Makes a tree that takes a while.
fn large() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for number in 0..3000 {
        fs::write(dir.path().join(number.to_string()), vec![b'x'; 20_000]).unwrap();
    }
    dir
}

/// Tells how many files are in the destination, which must be none or all.
#[track_caller]
fn arrived(pyro: &Pyro, id: &str) -> bool {
    let count = inside(pyro, id, "ls large 2>/dev/null | wc -l");
    let sizes = inside(pyro, id, "find large -type f -size -20000c 2>/dev/null | wc -l; true");
    assert_eq!(sizes, "0\n", "no file is cut");
    match count.trim() {
        "0" => false,
        "3000" => true,
        some => panic!("{some} of 3000 files"),
    }
}

/// Starts a push that cannot get to its end: the guest is frozen, and what is pushed does not fit into a socket. Returns
/// when it is on record.
#[track_caller]
fn half_way(pyro: &Pyro, id: &str, source: &Path) -> (Child, i32) {
    let started = pyro.wait_for("workspace_started");
    let guest = i32::try_from(started["data"]["pid"].as_i64().unwrap()).unwrap();
    signal(guest, Signal::STOP);
    let path = source.to_str().unwrap();
    let child = pyro.spawn(&["workspace", "sync", "push", id, path, "--dest", "large", "--json"]);
    let _requested = pyro.wait_for("sync_requested");
    (child, guest)
}

/// Catches a push that is half there, and one whose outcome is told wrong.
#[test]
fn killed_daemon_in_mid_push_leaves_nothing() {
    let (pyro, id) = Pyro::with_sandbox();
    let large = large();
    let (child, guest) = half_way(&pyro, &id, large.path());
    signal(pyro.daemon_pid(), Signal::KILL);
    signal(guest, Signal::CONT);
    let output = finish(child);
    assert_eq!((output.code, &output.json()["code"]), (Some(1), &"sync_failed".into()), "{}", output.out());
    assert!(!arrived(&pyro, &id));
    let log = pyro.log();
    let kinds = log.iter().map(|event| event["kind"].as_str().unwrap());
    let told: Vec<_> = kinds.filter(|kind| ["operation_resolved", "sync_failed"].contains(kind)).collect();
    assert_eq!(told, ["operation_resolved", "sync_failed"], "the evidence, then the outcome");
    let again = push(&pyro, &id, large.path(), &["--dest", "large"]);
    assert!(again.code == Some(0) && arrived(&pyro, &id), "{}", again.err());
}

/// Catches a Ctrl-C that waits for a guest that does not answer, and one that leaves a part behind.
#[test]
fn interrupt_in_mid_push_leaves_nothing() {
    let (pyro, id) = Pyro::with_sandbox();
    let large = large();
    let (child, guest) = half_way(&pyro, &id, large.path());
    signal(i32::try_from(child.id()).unwrap(), Signal::INT);
    let output = finish(child);
    signal(guest, Signal::CONT);
    assert_eq!((output.code, &output.json()["code"]), (Some(130), &"canceled".into()), "{}", output.out());
    assert!(!arrived(&pyro, &id));
}

/// Catches a change or removal that does not arrive, and a watch that does not end.
#[test]
fn watch_brings_changes_and_removals() {
    let (pyro, id) = Pyro::with_sandbox();
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("kept"), "kept").unwrap();
    fs::write(dir.path().join("changed"), "old").unwrap();
    fs::write(dir.path().join("removed"), "x").unwrap();
    let path = dir.path().to_str().unwrap();
    let mut child = pyro.spawn(&["workspace", "sync", "push", &id, path, "--dest", "w", "--watch"]);
    let mut pushes = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = || pushes.next().unwrap().unwrap();
    assert!(next().contains(" entry_count=3 "));
    assert_eq!(inside(&pyro, &id, "cat w/kept w/changed w/removed"), "keptoldx");
    // One change at a time: each is a push of its own.
    fs::write(dir.path().join("changed.new"), "new").unwrap();
    let _push = next();
    fs::rename(dir.path().join("changed.new"), dir.path().join("changed")).unwrap();
    let _push = next();
    assert_eq!(inside(&pyro, &id, "cat w/changed; ls w"), "newchanged\nkept\nremoved\n");
    fs::remove_file(dir.path().join("removed")).unwrap();
    let _push = next();
    assert_eq!(inside(&pyro, &id, "ls w"), "changed\nkept\n");
    signal(i32::try_from(child.id()).unwrap(), Signal::INT);
    let end = child.wait_with_output().unwrap();
    assert_eq!(
        (end.status.code(), end.stderr.as_slice()),
        (Some(0), b"".as_slice()),
        "{}",
        end.stderr.escape_ascii()
    );
}
