//! Many at once, and more than fits: one daemon, one winner, every command once, nothing that grows.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};

use pyro_tests::{Output, Pyro, SANDBOX, dist, finish};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

/// Descriptors that the daemon of the test may have.
const DESCRIPTORS_MAX: usize = 256;
/// Connections that nobody says anything on.
const IDLE_CONNECTIONS: usize = 1_000;

fn all(pyro: &Pyro, commands: impl IntoIterator<Item = Vec<String>>) -> Vec<Output> {
    let started: Vec<Child> = commands
        .into_iter()
        .map(|words| pyro.spawn(&words.iter().map(String::as_str).collect::<Vec<_>>()))
        .collect();
    started.into_iter().map(finish).collect()
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn count(pyro: &Pyro, kind: &str) -> usize {
    pyro.kinds().iter().filter(|other| *other == kind).count()
}

/// Catches a second daemon, and a client that fails because another one was faster.
#[test]
fn twenty_cold_starts_make_one_daemon() {
    let pyro = Pyro::new().config(SANDBOX);
    let outputs = all(&pyro, (0..20).map(|_| words(&["workspace", "list", "--json"])));
    for output in outputs {
        assert_eq!(output.code, Some(0), "{}", output.err());
    }
    assert_eq!(count(&pyro, "daemon_started"), 1);
}

/// Catches a command that runs twice or never, and a number that two commands get.
#[test]
fn thirty_commands_at_once_run_once_each() {
    let (pyro, id) = Pyro::with_sandbox();
    let outputs = all(
        &pyro,
        (0..30).map(|number| {
            words(&[
                "workspace",
                "exec",
                &id,
                "--json",
                "--",
                "sh",
                "-c",
                &format!("echo t{number} >>tokens"),
            ])
        }),
    );
    let numbers: BTreeSet<_> =
        outputs.iter().map(|output| output.json()["sequence"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1..=30).collect());
    let tokens = pyro.run(&["workspace", "exec", &id, "--", "sort", "-V", "tokens"]).out();
    let expected: String = (0..30).map(|number| format!("t{number}\n")).collect();
    assert_eq!(tokens, expected);
}

/// Catches a deletion that happens twice, one that fails or hangs behind another, and a command that outlives its guest.
#[test]
fn deletions_at_once_are_one_and_end_what_runs() {
    let (pyro, id) = Pyro::with_sandbox();
    let mut running = pyro.spawn(&["workspace", "exec", &id, "--", "sh", "-c", "echo ready; sleep 100"]);
    let mut line = String::new();
    BufReader::new(running.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    let outputs = all(&pyro, (0..3).map(|_| words(&["workspace", "delete", &id, "--json"])));
    for output in &outputs {
        let told = output.json();
        assert!(told["deleted"] == true || told["code"] == "unknown_workspace", "{told}");
    }
    assert!(outputs.iter().any(|output| output.code == Some(0)));
    assert_ne!(finish(running).code, Some(0));
    assert_eq!((count(&pyro, "workspace_deleting"), count(&pyro, "workspace_deleted")), (1, 1));
    assert_eq!(
        pyro.run(&["workspace", "exec", &id, "--json", "--", "true"]).json()["code"],
        "unknown_workspace"
    );
}

/// Connects without a word; `None` when nobody takes it now.
fn idle(pyro: &Pyro) -> Option<OwnedFd> {
    let address = SocketAddrUnix::new(pyro.home().join("run/pyro.sock")).unwrap();
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).unwrap();
    connect(&socket, &address).is_ok().then_some(socket)
}

/// Catches a daemon that dies, spins or stays deaf when clients take all its descriptors.
#[test]
fn more_idle_connections_than_descriptors_are_outlived() {
    let pyro = Pyro::new().config(SANDBOX);
    let limited = format!("ulimit -n {DESCRIPTORS_MAX}; exec \"$0\" daemon run --report-ready");
    let mut daemon = Command::new("sh")
        .args(["-c", &limited])
        .arg(dist().join("bin/pyro"))
        .env("PYRO_HOME", pyro.home())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(daemon.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let connections: Vec<_> = (0..IDLE_CONNECTIONS).filter_map(|_| idle(&pyro)).collect();
    assert!(connections.len() >= DESCRIPTORS_MAX / 2, "{} of them", connections.len());
    drop(connections);
    let list = pyro.run(&["workspace", "list", "--json"]);
    assert_eq!(list.code, Some(0), "{}", list.err());
    assert_eq!(u32::try_from(pyro.daemon_pid()), Ok(daemon.id()), "it is the same daemon");
    assert_eq!(pyro.run(&["daemon", "stop"]).code, Some(0));
    assert_eq!(daemon.wait().unwrap().code(), Some(0));
}

/// What a process holds.
#[derive(Debug)]
struct Holdings {
    descriptors: usize,
    threads: usize,
    resident_kib: usize,
}

impl Holdings {
    fn of(pid: i32) -> Self {
        let entries = |directory| std::fs::read_dir(format!("/proc/{pid}/{directory}")).unwrap().count();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next());
        Self {
            descriptors: entries("fd"),
            threads: entries("task"),
            resident_kib: resident.unwrap().parse().unwrap(),
        }
    }
}

/// Catches what a daemon keeps of each command: a descriptor, a thread, memory.
#[test]
fn daemon_does_not_grow_with_what_it_did() {
    let (pyro, id) = Pyro::with_sandbox();
    let pid = pyro.daemon_pid();
    let work = |rounds: usize| {
        for _ in 0..rounds {
            let exec = words(&["workspace", "exec", &id, "--", "sh", "-c", "seq 1 2000"]);
            for output in all(&pyro, vec![exec; 5]) {
                assert_eq!(output.code, Some(0), "{}", output.err());
            }
        }
    };
    work(10);
    let before = Holdings::of(pid);
    work(30);
    let after = Holdings::of(pid);
    assert!(after.descriptors <= before.descriptors + 5, "{before:?} {after:?}");
    assert!(after.threads <= before.threads + 8, "{before:?} {after:?}");
    assert!(after.resident_kib * 5 <= before.resident_kib * 6, "{before:?} {after:?}");
}
