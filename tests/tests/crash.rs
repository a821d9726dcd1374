//! Each part is killed in mid-command: afterwards the log tells the truth and nothing is left.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::io::{BufRead as _, BufReader};
use std::process::Child;

use pyro_tests::{Pyro, QEMU, finish, signal};
use rustix::process::Signal;

/// Starts a command that says `ready` and then counts, and returns when it has said so.
fn start(pyro: &Pyro, backend: &[&str], script: &str) -> (Child, BufReader<std::process::ChildStdout>) {
    let arguments = [
        &["run", "--mem-mib", "512", "--timeout-seconds", "120"],
        backend,
        &["debian:12", "--", "sh", "-c", script],
    ]
    .concat();
    let mut child = pyro.spawn(&arguments);
    let mut stdout = BufReader::new(child.stdout.take().expect("it is piped"));
    let mut line = String::new();
    stdout.read_line(&mut line).expect("a pipe can be read");
    if line != "ready\n" {
        let output = child.wait_with_output().expect("a child can be waited for");
        panic!("{line:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    (child, stdout)
}

fn assert_nothing_left(pyro: &Pyro) {
    let guests: Vec<_> =
        pyro.processes().into_iter().filter(|(_, line)| line.contains("/workspaces/")).collect();
    assert!(guests.is_empty(), "{guests:?}");
    let directories: Vec<_> = std::fs::read_dir(pyro.home().join("workspaces")).unwrap().flatten().collect();
    assert!(directories.is_empty(), "{directories:?}");
    let outputs: Vec<_> = std::fs::read_dir(pyro.home().join("outputs")).unwrap().flatten().collect();
    assert!(outputs.is_empty(), "{outputs:?}");
}

fn killed_client(backend: &[&str], config: &str) {
    let pyro = Pyro::new().config(config);
    let (mut child, _stdout) = start(&pyro, backend, "echo ready; sleep 100");
    child.kill().unwrap();
    child.wait().unwrap();
    let deleted = pyro.wait_for("workspace_deleted");
    assert_eq!(deleted["data"]["reason"], "client_gone");
    assert!(pyro.kinds().iter().any(|kind| kind == "exec_lost"));
    assert_nothing_left(&pyro);
}

#[test]
fn killed_client_takes_its_vm_along() {
    killed_client(&[], QEMU);
}

#[test]
fn killed_client_takes_its_sandbox_along() {
    killed_client(&["--allow-host-compat"], "backend = \"host_sandbox\"\n");
}

fn killed_daemon(backend: &[&str], config: &str) {
    let pyro = Pyro::new().config(config);
    // The lines come while no daemon lives as well as before and after.
    let script = "echo ready; i=0; while [ $i -lt 60 ]; do i=$((i+1)); echo line $i; sleep 0.02; done; echo once >&2; exit 3";
    let (mut child, mut stdout) = start(&pyro, backend, script);
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    signal(pyro.daemon_pid(), Signal::KILL);
    let mut rest = String::new();
    std::io::Read::read_to_string(&mut stdout, &mut rest).unwrap();
    let status = child.wait().unwrap();
    let mut err = String::new();
    std::io::Read::read_to_string(&mut child.stderr.take().unwrap(), &mut err).unwrap();

    assert_eq!(status.code(), Some(3), "{err}");
    let lines: Vec<_> = line.lines().chain(rest.lines()).map(str::to_owned).collect();
    let expected: Vec<_> = (1..=60).map(|number| format!("line {number}")).collect();
    assert_eq!(lines, expected, "no byte lost or doubled");
    assert_eq!(err.lines().filter(|line| *line == "once").count(), 1, "{err}");
    let kinds = pyro.kinds();
    for (kind, count) in
        [("exec_requested", 1), ("exec_exited", 1), ("workspace_deleted", 1), ("daemon_started", 2)]
    {
        assert_eq!(kinds.iter().filter(|other| *other == kind).count(), count, "{kinds:?}");
    }
    let resolved = resolved(&pyro);
    let [resolved] = resolved.as_slice() else { panic!("once for what was open: {resolved:?}") };
    assert_eq!(
        (&resolved["data"]["exec"], &resolved["data"]["evidence"]["journal"]),
        (&1.into(), &"running".into())
    );
    let exited = pyro.log().into_iter().find(|event| event["kind"] == "exec_exited").unwrap();
    assert!(resolved["seq"].as_u64() < exited["seq"].as_u64(), "the evidence comes before the outcome");
    let shown = pyro.run(&["log", "show", &resolved["seq"].to_string()]).out();
    assert!(shown.contains("Meaning: A new daemon asked the guest, in which the work goes on"), "{shown}");
    assert_nothing_left(&pyro);
}

/// Returns the events about work that an earlier daemon had left open.
fn resolved(pyro: &Pyro) -> Vec<serde_json::Value> {
    pyro.log().into_iter().filter(|event| event["kind"] == "operation_resolved").collect()
}

/// Catches a loss without evidence, and one that is told as something else than unknown.
#[test]
fn guest_that_died_with_its_daemon_is_the_evidence_of_a_loss() {
    let (pyro, id) = Pyro::with_sandbox();
    let mut child = pyro.spawn(&["workspace", "exec", &id, "--", "sleep", "1000"]);
    let _started = pyro.wait_for("exec_started");
    child.kill().unwrap();
    child.wait().unwrap();
    let guest = pyro.wait_for("workspace_started")["data"]["pid"].as_i64().unwrap();
    signal(pyro.daemon_pid(), Signal::KILL);
    signal(i32::try_from(guest).unwrap(), Signal::KILL);
    let _stopped = pyro.wait_for("workspace_stopped");
    let resolved = resolved(&pyro);
    assert_eq!(resolved.len(), 1, "{resolved:?}");
    assert_eq!(resolved[0]["data"]["evidence"]["journal"], "guest_gone");
    let logs = pyro.run(&["workspace", "logs", &id, "--json"]).json();
    let error = logs["entries"][0]["error"].as_str().unwrap();
    assert!(error.starts_with("unknown, lost: "), "{error}");
}

#[test]
fn killed_daemon_is_replaced_and_the_command_in_its_vm_goes_on() {
    killed_daemon(&[], QEMU);
}

#[test]
fn killed_daemon_is_replaced_and_the_command_in_its_sandbox_goes_on() {
    killed_daemon(&["--allow-host-compat"], "backend = \"host_sandbox\"\n");
}

#[test]
fn daemon_and_client_killed_together_leave_nothing() {
    let pyro = Pyro::new().config("backend = \"host_sandbox\"\n");
    let (mut child, _stdout) = start(&pyro, &["--allow-host-compat"], "echo ready; sleep 100");
    let daemon = pyro.daemon_pid();
    child.kill().unwrap();
    signal(daemon, Signal::KILL);
    child.wait().unwrap();
    // Any command starts the next daemon, which finds a guest without an owner.
    let deleted = pyro.wait_for("workspace_deleted");
    assert_eq!(deleted["data"]["reason"], "client_gone");
    assert_nothing_left(&pyro);
}

#[test]
fn killed_vmm_is_told_and_cleared() {
    let pyro = Pyro::new().config(QEMU);
    let (child, _stdout) = start(&pyro, &[], "echo ready; sleep 100");
    let vmm =
        pyro.processes().into_iter().find(|(_, line)| line.contains("qemu-system")).expect("QEMU runs").0;
    signal(vmm, Signal::KILL);
    let mut child = child;
    let status = child.wait().unwrap();
    let mut err = String::new();
    std::io::Read::read_to_string(&mut child.stderr.take().unwrap(), &mut err).unwrap();
    assert_eq!(status.code(), Some(1), "{err}");
    assert!(err.contains("[error]"), "{err}");
    let _deleted = pyro.wait_for("workspace_deleted");
    let kinds = pyro.kinds();
    assert!(kinds.iter().any(|kind| kind == "exec_lost"), "{kinds:?}");
    assert_nothing_left(&pyro);

    let again = finish(pyro.spawn(&["run", "--mem-mib", "512", "debian:12", "--", "true"]));
    assert_eq!(again.code, Some(0), "{}", again.err());
}
