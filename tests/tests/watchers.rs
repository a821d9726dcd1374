//! Many who watch through the mount, while its daemon dies and comes again.

#![expect(clippy::print_stderr, reason = "a skipped test says why")]
#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use pyro_tests::{MountPoint, Pyro, QEMU, SANDBOX, finish, signal};
use rustix::process::Signal;

const FOLLOWERS: usize = 1_000;
const READERS: usize = 100;

/// Readers that are killed while each daemon goes.
const KILLED: usize = 20;

/// A workspace that is mounted.
fn mounted(config: &str) -> Option<(MountPoint, Pyro, String)> {
    let place = MountPoint::new().inspect_err(|error| eprintln!("skipped: /dev/fuse: {error}")).ok()?;
    let pyro = Pyro::new().config(config);
    let opted_in: &[&str] = if config == SANDBOX { &["--allow-host-compat"] } else { &[] };
    let id = pyro.create(&[&["--ttl-seconds", "0"], opted_in].concat());
    assert_eq!(pyro.run(&["mount", &place.text()]).code, Some(0));
    Some((place, pyro, id))
}

/// Ways for a daemon to go, each followed by the next daemon.
#[derive(Clone, Copy, Debug)]
enum Going {
    Killed,
    Stopped,
    /// It hangs when it is killed.
    Hanging,
}

/// Ends the daemon and starts the next one; `meanwhile` is called while there is none that answers.
fn next_daemon(pyro: &Pyro, going: Going, meanwhile: impl FnOnce()) {
    let pid = pyro.daemon_pid();
    match going {
        Going::Killed => {
            signal(pid, Signal::KILL);
            meanwhile();
        }
        Going::Stopped => {
            assert_eq!(pyro.run(&["daemon", "stop"]).code, Some(0));
            meanwhile();
        }
        Going::Hanging => {
            signal(pid, Signal::STOP);
            meanwhile();
            signal(pid, Signal::KILL);
        }
    }
    let listed = pyro.run(&["workspace", "list"]);
    assert_eq!(listed.code, Some(0), "{}", listed.err());
}

fn cat(path: &Path) -> Child {
    let mut command = Command::new("cat");
    command.arg(path).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Reads a file from its beginning to its end, over as many daemons as that takes.
fn read(path: &Path) -> Vec<u8> {
    loop {
        let mut read = Vec::new();
        if File::open(path).and_then(|mut file| file.read_to_end(&mut read)).is_ok() {
            return read;
        }
        thread::yield_now();
    }
}

/// Catches a reader that hangs on a daemon that is gone, a follower that misses the end, and a mount that stays dead.
#[test]
fn a_thousand_followers_and_a_hundred_readers_outlive_daemons() {
    let Some((place, pyro, id)) = mounted(SANDBOX) else { return };
    let top = place.path().join(&id);
    fs::write(top.join("ctl"), "exec timeout=300 seq 20000; until [ -e go ]; do sleep 0.1; done; echo end\n")
        .unwrap();
    let expected: String = (1..=20_000).map(|n| format!("{n}\n")).chain(["end\n".to_owned()]).collect();
    let done = AtomicBool::new(false);
    let begun = Barrier::new(FOLLOWERS + READERS + 1);
    let looked = [top.join("logs/1/stdout"), top.join("status.json"), place.path().join("events.jsonl")];
    thread::scope(|scope| {
        let followers: Vec<_> = (0..FOLLOWERS)
            .map(|_| {
                scope.spawn(|| {
                    begun.wait();
                    read(&top.join("logs/1/stdout.follow"))
                })
            })
            .collect();
        for number in 0..READERS {
            let (path, begun, done) = (&looked[number % looked.len()], &begun, &done);
            scope.spawn(move || {
                begun.wait();
                while !done.load(Ordering::Relaxed) {
                    // An error is an answer as well; only no answer is none.
                    let _answer: io::Result<Vec<u8>> = fs::read(path);
                }
            });
        }
        begun.wait();
        for going in [Going::Killed, Going::Stopped, Going::Hanging, Going::Killed] {
            let killed: Vec<Child> = (0..KILLED).map(|_| cat(&top.join("logs/1/stdout.follow"))).collect();
            next_daemon(&pyro, going, || {
                for reader in &killed {
                    signal(i32::try_from(reader.id()).unwrap(), Signal::KILL);
                }
            });
            for reader in killed {
                // Unless it ended with its daemon, before it was killed.
                assert!(matches!(finish(reader).code, None | Some(1)));
            }
        }
        fs::write(top.join("files/go"), "").unwrap();
        for follower in followers {
            assert!(follower.join().unwrap() == expected.as_bytes());
        }
        done.store(true, Ordering::Relaxed);
    });
    assert!(fs::read_to_string(&looked[0]).unwrap() == expected);
    let table = fs::read_to_string("/proc/self/mounts").unwrap();
    assert_eq!(table.matches(&place.text()).count(), 1, "no dead mount lies below");
}

/// Compares what each way to look at a command and at a shell has, with daemons that go while they print.
fn is_the_same_by_every_way(config: &str) {
    let Some((place, pyro, id)) = mounted(config) else { return };
    let top = place.path().join(&id);
    let shell = pyro.run(&["workspace", "shell", "open", &id, "--id-only"]).out().trim().to_owned();
    let (shown, logs) = (top.join("shells").join(&shell), top.join("logs/1"));
    let lines = "for n in $(seq 4000); do echo line $n; [ $((n % 100)) = 0 ] && sleep 0.05; done | tee";
    fs::write(top.join("ctl"), format!("exec timeout=300 {lines} printed\n")).unwrap();
    fs::write(shown.join("input"), format!("{lines} shown; exit\n")).unwrap();
    // A command that a killed daemon had not sent yet has failed, which is not what this is about.
    File::open(logs.join("stdout.follow")).unwrap().read_exact(&mut [0]).unwrap();
    let expected: String = (1..=4000).map(|n| format!("line {n}\n")).collect();
    thread::scope(|scope| {
        let of_shell = scope.spawn(|| read(&shown.join("follow")));
        let of_command = scope.spawn(|| read(&logs.join("stdout.follow")));
        let client = pyro.spawn(&["workspace", "shell", "read", &id, &shell, "--follow"]);
        for going in [Going::Killed, Going::Killed, Going::Hanging, Going::Stopped, Going::Killed] {
            next_daemon(&pyro, going, || {});
        }
        let (of_shell, of_command) = (of_shell.join().unwrap(), of_command.join().unwrap());
        assert!(finish(client).stdout == of_shell, "what the client got is something else");
        assert!(read(&shown.join("output")) == of_shell, "what was recorded is something else");
        let of_shell = String::from_utf8(of_shell).unwrap();
        assert!(of_shell.contains(&expected.replace('\n', "\r\n")), "the guest printed something else");
        assert!(of_command == expected.as_bytes(), "the follower got something else");
        assert!(read(&logs.join("stdout")) == of_command, "what was recorded is something else");
        assert!(pyro.run(&["workspace", "logs", &id]).out().contains(&expected));
        for copy in ["printed", "shown"] {
            let copy = pyro.run(&["workspace", "exec", &id, "--", "cat", copy]);
            assert!(copy.out() == expected, "the guest has something else");
        }
    });
}

/// Catches a byte that one way to look at output has and another one has not.
#[test]
fn output_is_the_same_by_every_way_to_look_at_it() {
    is_the_same_by_every_way(SANDBOX);
}

/// Catches the same where output comes from another machine.
#[test]
fn output_of_a_machine_is_the_same_by_every_way_to_look_at_it() {
    is_the_same_by_every_way(QEMU);
}
