//! Output is bounded on the disk: its own client gets every byte, others see what is missing.

use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::process::{Child, ChildStdout};

use pyro_tests::{Output, Pyro, finish};
use rustix::process::{Pid, Signal, kill_process};

/// As much as can be stored of a stream whose bound is one MiB: the bound, what the guest holds for a client that does not
/// read, and blocks.
const SPACE_MAX: u64 = 3 << 20;

/// As much as can be stored of a stream that was ended while its client did not read.
const ENDED_SPACE_MAX: u64 = 10 << 20;

fn sandbox() -> (Pyro, String) {
    bounded("stream_mib = 1")
}

fn bounded(bounds: &str) -> (Pyro, String) {
    let pyro = Pyro::new().config(&format!("backend = \"host_sandbox\"\n[retention]\n{bounds}\n"));
    let created = pyro.run(&["workspace", "create", "--allow-host-compat", "--json", "debian:12"]);
    assert_eq!(created.code, Some(0), "{}", created.err());
    let id = created.json()["workspace_id"].as_str().expect("it has an id").to_owned();
    (pyro, id)
}

/// Starts a command that prints much, and returns it with what it prints.
fn start(pyro: &Pyro, id: &str, command: &str) -> (Child, ChildStdout) {
    let mut child =
        pyro.spawn(&["workspace", "exec", id, "--timeout-seconds", "600", "--", "sh", "-c", command]);
    let stdout = child.stdout.take().expect("it is piped");
    (child, stdout)
}

/// Returns the file with the standard output of the first command.
fn file(pyro: &Pyro, id: &str) -> PathBuf {
    pyro.home().join("outputs").join(id).join("1.stdout")
}

/// Waits until the first command waits for its client, or nearly so: the bound is exceeded by half of what the guest may
/// send before it is told to go on.
fn await_full(pyro: &Pyro, id: &str) {
    let len = || file(pyro, id).metadata().map_or(0, |metadata| metadata.len());
    while len() < 3 << 19 {
        std::thread::yield_now();
    }
}

fn space(pyro: &Pyro, id: &str) -> u64 {
    file(pyro, id).metadata().expect("something was printed").blocks() * 512
}

fn numbers(end: u32) -> Vec<u8> {
    (1..=end).flat_map(|number| format!("{number}\n").into_bytes()).collect()
}

/// Checks that somebody who comes later sees what is missing of `len` bytes, and that the log is whole.
fn check_flagged(pyro: &Pyro, id: &str, len: u64) {
    assert!(space(pyro, id) <= SPACE_MAX, "{} bytes are stored", space(pyro, id));
    let logs = pyro.run(&["workspace", "logs", id]);
    let told = logs.err();
    let dropped = told.strip_prefix("pyro: ").and_then(|rest| rest.split_once(' ')).expect("a gap is told");
    assert_eq!(dropped.1, "bytes of stdout were dropped by retention\n");
    assert!(dropped.0.parse::<u64>().is_ok_and(|dropped| dropped >= len - SPACE_MAX), "{told}");
    let entry = pyro.run(&["workspace", "logs", id, "--json"]).json()["entries"][0].clone();
    assert_eq!((&entry["stdout_truncated"], &entry["stdout_bytes"]), (&true.into(), &len.into()));
    let verified = pyro.run(&["log", "verify"]);
    assert_eq!(verified.code, Some(0), "{}{}", verified.out(), verified.err());
}

/// Catches bytes that its own client does not get of a command, however slow it is and however often the daemon dies, and
/// a daemon that stores all of them meanwhile.
#[test]
fn slow_client_gets_every_byte() {
    let (pyro, id) = sandbox();
    let expected = numbers(1_000_000);
    let (child, mut stdout) = start(&pyro, &id, "seq 1 1000000");
    let mut output = Vec::new();
    for part in [1, 3] {
        await_full(&pyro, &id);
        assert!(space(&pyro, &id) <= SPACE_MAX, "{} bytes are stored", space(&pyro, &id));
        kill_process(Pid::from_raw(pyro.daemon_pid()).unwrap(), Signal::KILL).unwrap();
        let mut next = vec![0; part << 20];
        stdout.read_exact(&mut next).unwrap();
        output.extend(next);
    }
    stdout.read_to_end(&mut output).unwrap();
    assert!(output == expected, "{} of {} bytes came", output.len(), expected.len());
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(0));
    check_flagged(&pyro, &id, expected.len() as u64);
}

/// Catches a command that waits for ever for a client that has gone.
#[test]
fn client_that_is_gone_holds_nothing_back() {
    let (pyro, id) = sandbox();
    let (mut child, stdout) = start(&pyro, &id, "head -c 8M /dev/zero");
    await_full(&pyro, &id);
    child.kill().unwrap();
    child.wait().unwrap();
    drop(stdout);
    let exited = pyro.wait_for("exec_exited");
    assert_eq!(
        (&exited["data"]["exit_code"], &exited["data"]["stdout"]["len_bytes"]),
        (&0.into(), &(8 << 20).into())
    );
    check_flagged(&pyro, &id, 8 << 20);
}

/// Catches a command that cannot be ended while it waits for its client, and output that comes without a bound until then.
#[test]
fn command_that_waits_for_its_client_can_be_canceled() {
    let (pyro, id) = sandbox();
    let (child, stdout) = start(&pyro, &id, "yes");
    await_full(&pyro, &id);
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let exited = pyro.wait_for("exec_exited");
    assert_eq!(exited["data"]["exit_code"], 137);
    assert!(space(&pyro, &id) <= ENDED_SPACE_MAX, "{} bytes are stored", space(&pyro, &id));
    let rest = std::thread::spawn(move || {
        let (mut stdout, mut output) = (stdout, Vec::new());
        stdout.read_to_end(&mut output).map(|_| output)
    });
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(130));
    let output = rest.join().unwrap().unwrap();
    assert!(output.chunks_exact(2).all(|line| line == b"y\n"), "something else came");
}

/// Catches a workspace whose many small outputs grow without a bound, and one that loses the newest of them.
#[test]
fn workspace_keeps_the_output_of_its_last_commands() {
    let (pyro, id) = bounded("workspace_mib = 1");
    for exec in 1..=8 {
        let command = format!("head -c 200000 /dev/zero | tr '\\0' {exec}");
        let output = pyro.run(&["workspace", "exec", &id, "--", "sh", "-c", &command]);
        assert_eq!(output.out(), exec.to_string().repeat(200_000), "{}", output.err());
    }
    let entries = pyro.run(&["workspace", "logs", &id, "--json"]).json()["entries"].clone();
    let kept: Vec<_> = (0..8).map(|place| entries[place]["stdout"].as_str().map(str::len)).collect();
    assert_eq!((kept[0], kept[7]), (Some(0), Some(200_000)), "{kept:?}");
    assert_eq!(
        (&entries[0]["stdout_truncated"], &entries[0]["stdout_bytes"]),
        (&true.into(), &200_000.into())
    );
    assert!(kept.iter().flatten().sum::<usize>() <= 1 << 20, "{kept:?}");
    assert_eq!(space(&pyro, &id), 0);
    let verified = pyro.run(&["log", "verify"]);
    assert_eq!(verified.code, Some(0), "{}{}", verified.out(), verified.err());
}

fn shell(pyro: &Pyro, arguments: &[&str]) -> Output {
    pyro.run(&[&["workspace", "shell"], arguments].concat())
}

fn head(pyro: &Pyro) -> String {
    pyro.run(&["log", "head", "--json"]).json()["seq"].to_string()
}

/// Catches a follower that holds a shell back, or takes a gap for output; and a look at the past that shows what came
/// later, or nothing of a shell that is closed by now.
#[test]
fn shell_is_followed_over_gaps_and_read_as_it_was() {
    let (pyro, id) = sandbox();
    let before = head(&pyro);
    let shell_id = shell(&pyro, &["open", &id, "--id-only"]).out().trim().to_owned();
    let follower = pyro.spawn(&["workspace", "shell", "read", &id, &shell_id, "--follow"]);
    let idle = ["read", &id, &shell_id, "--cursor", "9000000", "--wait-for-idle-ms", "1000"];
    let _typed = shell(&pyro, &["write", &id, &shell_id, "--input", "seq 1 1000000; echo FIR''ST"]);
    let _idle = shell(&pyro, &idle);
    let _typed = shell(&pyro, &["write", &id, &shell_id, "--input", "echo SEC''OND"]);
    let then = head(&pyro);
    let _idle = shell(&pyro, &idle);
    let _typed = shell(&pyro, &["write", &id, &shell_id, "--input", "echo THI''RD"]);
    let _idle = shell(&pyro, &idle);
    let closed = shell(&pyro, &["close", &id, &shell_id]);
    assert_eq!(closed.code, Some(0), "{}", closed.err());
    let followed = finish(follower);
    assert!(
        followed.err().contains("bytes of stdout were dropped by retention")
            && followed.out().contains("THIRD")
    );

    let at = |point: &str| {
        shell(&pyro, &["read", &id, &shell_id, "--cursor", "7880000", "--at", point, "--json"]).json()
    };
    let read = at(&then);
    let output = read["output"].as_str().unwrap();
    assert!(output.contains("FIRST") && !output.contains("THIRD"), "{read}");
    assert_eq!(read["state"], "running");
    let start = shell(&pyro, &["read", &id, &shell_id, "--cursor", "262144", "--at", &then, "--json"]).json();
    assert!(start["dropped_bytes"].as_u64() >= Some(5_000_000), "{}", start["dropped_bytes"]);
    assert_eq!(at(&before)["code"], "unknown_shell");
}

/// Catches output that somebody has deleted or shortened and that reads as if less had been printed.
#[test]
fn lost_output_is_told() {
    let (pyro, id) = sandbox();
    for command in ["echo deleted", "echo shortened"] {
        assert_eq!(pyro.run(&["workspace", "exec", &id, "--", "sh", "-c", command]).code, Some(0));
    }
    let first = file(&pyro, &id);
    std::fs::remove_file(&first).expect("something was printed");
    let second = std::fs::OpenOptions::new().write(true).open(first.with_file_name("2.stdout"));
    second.and_then(|file| file.set_len(4)).expect("something was printed");
    let logs = pyro.run(&["workspace", "logs", &id]);
    let line =
        |len: u64| format!("pyro: {len} bytes of stdout are missing: their file was shortened or deleted\n");
    assert_eq!((logs.err(), logs.code), (line(8) + &line(6), Some(0)));
    assert!(logs.out().contains("\nshor\n") && !logs.out().contains("deleted\n\n"), "{}", logs.out());
    let entries = pyro.run(&["workspace", "logs", &id, "--json"]).json()["entries"].clone();
    for (entry, len) in [(&entries[0], 8_u64), (&entries[1], 10)] {
        assert_eq!((&entry["stdout_truncated"], &entry["stdout_bytes"]), (&true.into(), &len.into()));
    }
}
