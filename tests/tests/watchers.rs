//! Many who watch through the mount, while its daemon dies and comes again.

#![expect(clippy::print_stderr, reason = "a skipped test says why")]

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use pyro_tests::{MountPoint, Pyro, SANDBOX, finish, signal};
use rustix::process::Signal;

const FOLLOWERS: usize = 1_000;
const READERS: usize = 100;

/// A sandbox whose workspace is mounted.
fn mounted() -> Option<(MountPoint, Pyro, String)> {
    let place = MountPoint::new().inspect_err(|error| eprintln!("skipped: /dev/fuse: {error}")).ok()?;
    let pyro = Pyro::new().config(SANDBOX);
    let id = pyro.create(&["--allow-host-compat", "--ttl-seconds", "0"]);
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

fn next_daemon(pyro: &Pyro, going: Going) {
    match going {
        Going::Killed => signal(pyro.daemon_pid(), Signal::KILL),
        Going::Stopped => assert_eq!(pyro.run(&["daemon", "stop"]).code, Some(0)),
        Going::Hanging => {
            let pid = pyro.daemon_pid();
            signal(pid, Signal::STOP);
            signal(pid, Signal::KILL);
        }
    }
    let listed = pyro.run(&["workspace", "list"]);
    assert_eq!(listed.code, Some(0), "{}", listed.err());
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
    let Some((place, pyro, id)) = mounted() else { return };
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
            next_daemon(&pyro, going);
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

/// Catches a byte that one way to look at a shell has and another one has not.
#[test]
fn a_shell_is_the_same_by_every_way_to_look_at_it() {
    let Some((place, pyro, id)) = mounted() else { return };
    let shell = pyro.run(&["workspace", "shell", "open", &id, "--id-only"]).out().trim().to_owned();
    let dir: PathBuf = place.path().join(&id).join("shells").join(&shell);
    let script =
        "for n in $(seq 4000); do echo line $n; [ $((n % 100)) = 0 ] && sleep 0.05; done | tee copy; exit\n";
    fs::write(dir.join("input"), script).unwrap();
    thread::scope(|scope| {
        let follower = scope.spawn(|| read(&dir.join("follow")));
        let arguments = ["workspace", "shell", "read", &id, &shell, "--follow"];
        let client = pyro.spawn(&arguments);
        for going in [Going::Killed, Going::Killed, Going::Hanging, Going::Stopped, Going::Killed] {
            next_daemon(&pyro, going);
        }
        let followed = follower.join().unwrap();
        assert!(finish(client).stdout == followed, "what the client got is something else");
        assert!(read(&dir.join("output")) == followed, "what was recorded is something else");
        let copy = pyro.run(&["workspace", "exec", &id, "--", "cat", "copy"]).out();
        assert_eq!(copy.lines().count(), 4000);
        assert!(
            String::from_utf8(followed).unwrap().contains(&copy.replace('\n', "\r\n")),
            "what the guest printed is something else"
        );
    });
}
