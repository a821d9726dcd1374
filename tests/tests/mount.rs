//! The mount of a real daemon with real guests.

#![expect(clippy::print_stderr, reason = "a skipped test says why")]
#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use pyro_tests::{MountPoint, Pyro, SANDBOX, finish, signal};
use rustix::process::Signal;

/// Returns a place to mount at; `None` where nobody can mount.
fn place() -> Option<MountPoint> {
    MountPoint::new().inspect_err(|error| eprintln!("skipped: /dev/fuse: {error}")).ok()
}

fn mounts_of(place: &MountPoint) -> usize {
    let table = fs::read_to_string("/proc/self/mounts").unwrap();
    table.lines().filter(|line| line.split(' ').nth(1) == Some(&place.text())).count()
}

fn sandbox(place: &MountPoint) -> (Pyro, String) {
    let pyro = Pyro::new().config(SANDBOX);
    let id = pyro.create(&["--allow-host-compat", "--name", "web"]);
    assert_eq!(pyro.run(&["mount", &place.text()]).out(), format!("Mounted: {}\n", place.text()));
    (pyro, id)
}

fn bash(dir: &Path, script: &str) -> Child {
    let mut command = Command::new("bash");
    command.args(["-c", script]).current_dir(dir).stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Kills the daemon and starts another.
fn restart(pyro: &Pyro) {
    signal(pyro.daemon_pid(), Signal::KILL);
    let listed = pyro.run(&["workspace", "list"]);
    assert_eq!(listed.code, Some(0), "{}", listed.err());
}

/// Returns the commands of a page with what each prints.
fn session(page: &str) -> Vec<(String, String)> {
    let mut steps: Vec<(String, String)> = Vec::new();
    let mut in_session = false;
    for line in page.lines() {
        match (line, line.strip_prefix("$ ")) {
            ("```console", _) => in_session = true,
            ("```", _) => in_session = false,
            (_, Some(command)) if in_session => steps.push((command.to_owned(), String::new())),
            (line, None) if in_session => {
                let (_, printed) = steps.last_mut().expect("a session begins with a command");
                printed.push_str(line);
                printed.push('\n');
            }
            _ => {}
        }
    }
    steps
}

/// Catches a documentation that tells what is not so.
#[test]
fn the_session_of_the_documentation() {
    let Some(place) = place() else { return };
    let (pyro, id) = sandbox(&place);
    let open = ["workspace", "shell", "open", &id, "--cols", "80", "--rows", "24"];
    assert_eq!(pyro.run(&open).code, Some(0));
    for (command, printed) in session(include_str!("../../docs/mount.md")) {
        let output = finish(bash(&place.path(), &command));
        let seen = output.out().replace(&id, "5f0c2a9be1d4");
        assert_eq!(seen, printed, "{command}\n{}", output.err());
    }
}

/// Catches readers that hang on a daemon that is gone, a mount that stays dead, and bytes that differ by the way they are read.
#[test]
fn a_daemon_that_is_killed_takes_no_reader_with_it() {
    let Some(place) = place() else { return };
    let (pyro, id) = sandbox(&place);
    let logs = place.path().join(&id).join("logs");
    let script =
        "i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); [ $((i % 100)) = 0 ] && sleep 0.1; done";
    let ctl = place.path().join(&id).join("ctl");
    fs::write(&ctl, format!("exec timeout=120 {script} | tee copy\n")).unwrap();
    for _ in 0..3 {
        let readers: Vec<Child> = (0..100)
            .map(|number| {
                let file = if number % 2 == 0 { "events.follow" } else { "by-name/web/logs/1/stdout.follow" };
                bash(&place.path(), &format!("cat {file} | wc -c"))
            })
            .collect();
        restart(&pyro);
        for reader in readers {
            assert_eq!(finish(reader).code, Some(0));
        }
        assert_eq!(mounts_of(&place), 1, "the dead one is gone, the new one is there");
    }
    let followed = finish(bash(&logs, "cat 1/stdout.follow"));
    let expected: String = (0..3000).map(|number| format!("line {number}\n")).collect();
    assert!(followed.out() == expected, "{} bytes", followed.stdout.len());
    assert!(fs::read_to_string(logs.join("1/stdout")).unwrap() == expected);
    assert!(pyro.run(&["workspace", "logs", &id]).out().contains(&expected));
    let copy = pyro.run(&["workspace", "exec", &id, "--", "cat", "copy"]);
    assert!(copy.out() == expected, "the guest's own copy");
    assert_eq!(fs::read_to_string(logs.join("1/exit_code")).unwrap(), "0\n");
}

/// Catches a mount that is forgotten, or comes back although it was taken away.
#[test]
fn mounts_are_there_until_they_are_taken_away() {
    let Some(place) = place() else { return };
    let pyro = Pyro::new().config("mount = true\n").variable("PYRO_MOUNT", &place.text());
    // The configuration mounts, at the start and again after each one.
    let readme = place.path().join("README");
    for _ in 0..2 {
        let _pid = pyro.daemon_pid();
        assert!(readme.exists());
        assert_eq!(pyro.run(&["daemon", "stop"]).code, Some(0));
        assert!(!readme.exists() && mounts_of(&place) == 0, "nothing is left behind");
    }
    let second = MountPoint::new().unwrap();
    assert_eq!(pyro.run(&["mount", &second.text()]).code, Some(0));
    assert_eq!(pyro.run(&["mount", &second.text()]).code, Some(0), "it is there already");
    restart(&pyro);
    assert!(readme.exists() && second.path().join("README").exists());
    let both = pyro.run(&["daemon", "status", "--json"]).json();
    assert_eq!(both["mounts"].as_array().map(Vec::len), Some(2));
    assert_eq!(pyro.run(&["umount"]).code, Some(1), "which one?");
    assert_eq!(pyro.run(&["umount", &second.text()]).out(), format!("Unmounted: {}\n", second.text()));
    restart(&pyro);
    assert_eq!((mounts_of(&place), mounts_of(&second)), (1, 0));
    // What somebody else took away is mounted again on request, and a dead one is replaced.
    assert!(Command::new("umount").arg(place.path()).status().unwrap().success());
    assert_eq!(pyro.run(&["mount"]).code, Some(0));
    assert!(readme.exists());
    let refused = pyro.run(&["mount", "/proc", "--json"]);
    assert_eq!((refused.code, refused.json()["code"].as_str()), (Some(1), Some("mount_failed")));
    let kinds = pyro.kinds();
    let count = |kind: &str| kinds.iter().filter(|known| *known == kind).count();
    assert_eq!((count("mounted"), count("unmounted")), (2, 1), "{kinds:?}");
}

/// Catches an auditor's look that starts a guest, or never ends because of one that runs.
#[test]
fn an_auditor_comes_to_the_end_and_changes_nothing() {
    let Some(place) = place() else { return };
    let (pyro, id) = sandbox(&place);
    fs::write(place.path().join(&id).join("ctl"), "exec timeout=60 sleep 60").unwrap();
    let mut stopped = String::new();
    let other = pyro.create(&["--allow-host-compat"]);
    assert_eq!(pyro.run(&["workspace", "stop", &other]).code, Some(0));
    let shell = pyro.run(&["workspace", "shell", "open", &id, "--id-only"]).out().trim().to_owned();
    let ended = pyro.run(&["workspace", "shell", "open", &id, "--id-only"]).out().trim().to_owned();
    let shells = place.path().join(&id).join("shells");
    fs::write(shells.join(&ended).join("input"), "exit\n").unwrap();
    fs::read(shells.join(&ended).join("follow")).unwrap();
    let files = [shells.join(&shell).join("follow"), place.path().join("events.follow")];
    let mut followers = files.map(|file| {
        let mut command = Command::new("cat");
        command.arg(file).stdout(Stdio::null()).spawn().unwrap()
    });
    let before = pyro.log().len();
    for script in ["find . -type f -exec cat {} +", "grep -r sleep .", "tar c . | wc -c", "du -a .", "ls -lR"]
    {
        let output = finish(bash(&place.path(), script));
        assert_eq!((output.code, output.err().as_str()), (Some(0), ""), "{script}");
    }
    assert_eq!(pyro.log().len(), before);
    for follower in &mut followers {
        assert!(follower.try_wait().unwrap().is_none(), "it goes on");
        follower.kill().unwrap();
        follower.wait().unwrap();
    }
    assert_eq!(fs::read_dir(place.path().join(&other).join("files")).unwrap().count(), 0);
    File::open(place.path().join(&other).join("state")).unwrap().read_to_string(&mut stopped).unwrap();
    assert_eq!(stopped, "stopped\n");
}

/// Catches a write to a shell's input that its guest never gets.
#[test]
fn what_is_written_reaches_the_shell() {
    let Some(place) = place() else { return };
    let (pyro, id) = sandbox(&place);
    let shell = pyro.run(&["workspace", "shell", "open", &id, "--id-only"]).out().trim().to_owned();
    let place = place.path().join(&id).join("shells").join(&shell);
    fs::write(place.join("input"), "echo $((40 + 2)); exit 7\n").unwrap();
    let shown = finish(bash(&place, "cat follow"));
    assert!(shown.out().contains("42"), "{}", shown.out());
    let status = fs::read_to_string(place.join("status.json")).unwrap();
    assert!(status.contains("\"exit_code\": 7"), "{status}");
    let late = fs::write(place.join("input"), "x").unwrap_err();
    assert_eq!(late.raw_os_error(), Some(rustix::io::Errno::BUSY.raw_os_error()));
    let typed = pyro.log().into_iter().find(|event| event["kind"] == "shell_input").unwrap();
    assert_eq!(typed["actor"]["face"], "fuse");
    assert_eq!(typed["actor"]["pid"], std::process::id());
}
