//! The daemon: one per home, started by need, ended in order.

use pyro_api::{
    ApiError, Client, ClientInfo, ErrorCode, Face, Home, Incoming, Start, VmReapExpiredRequest,
    new_request_id,
};
use pyro_tests::{Pyro, finish};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

#[test]
fn twenty_cold_starts_end_with_one_daemon() {
    let pyro = Pyro::new();
    let clients: Vec<_> = (0..20).map(|_| pyro.spawn(&["env", "list", "--json"])).collect();
    for client in clients {
        let output = finish(client);
        assert_eq!(output.code, Some(0), "{}", output.err());
    }
    let daemons: Vec<_> = pyro.processes();
    let kinds = pyro.kinds();
    assert_eq!(kinds.iter().filter(|kind| *kind == "daemon_started").count(), 1, "{kinds:?} {daemons:?}");
}

#[test]
fn log_and_state_are_the_same_after_a_restart() {
    let pyro = Pyro::new().config("backend = \"host_sandbox\"\n");
    let output = pyro.run(&["run", "--allow-host-compat", "debian:12", "--", "true"]);
    assert_eq!(output.code, Some(0), "{}", output.err());
    let before = pyro.log();
    let doctor = pyro.run(&["doctor", "--json"]).json();
    assert_eq!(pyro.run(&["daemon", "stop"]).code, Some(0));
    let after = pyro.log();
    assert_eq!(after[..before.len()], before[..], "the past does not change");
    let kinds: Vec<_> = after[before.len()..].iter().map(|event| event["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["daemon_stopped", "daemon_started"]);
    let again = pyro.run(&["doctor", "--json"]).json();
    assert_eq!(again["last_boot_ms"], doctor["last_boot_ms"], "what the doctor remembers comes from the log");
}

#[test]
fn log_follows_without_gap_from_a_position() {
    let pyro = Pyro::new();
    let seqs: Vec<_> = pyro.log().iter().map(|event| event["seq"].as_u64().unwrap()).collect();
    let dense: Vec<_> = (1..=seqs.len() as u64).collect();
    assert_eq!(seqs, dense);
    let since = pyro.run(&["log", "--json", "--since", "2"]).out();
    let first: serde_json::Value = serde_json::from_str(since.lines().next().unwrap()).unwrap();
    assert_eq!(first["seq"], 2, "{since}");
}

#[test]
fn files_of_the_home_are_private() {
    use std::os::unix::fs::PermissionsExt as _;
    let pyro = Pyro::new();
    let _listed = pyro.run(&["env", "list"]);
    let mode = |path: &str| std::fs::metadata(pyro.home().join(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("run/pyro.sock"), 0o600);
    for directory in ["log", "run", "workspaces", "outputs"] {
        assert_eq!(mode(directory), 0o700, "{directory}");
    }
}

#[test]
fn status_does_not_start_a_daemon() {
    let pyro = Pyro::new();
    let output = pyro.run(&["daemon", "status", "--json"]);
    assert_eq!(
        (output.code, &output.json()["code"]),
        (Some(1), &"daemon_unavailable".into()),
        "{}",
        output.err()
    );
    assert!(pyro.processes().is_empty());
}

#[test]
fn a_daemon_without_its_home_ends_and_takes_its_guests_along() {
    use std::io::{BufRead as _, BufReader};
    let pyro = Pyro::new().config("backend = \"host_sandbox\"\n");
    let script = "echo ready; sleep 100";
    let mut client = pyro.spawn(&["run", "--allow-host-compat", "debian:12", "--", "sh", "-c", script]);
    let mut stdout = BufReader::new(client.stdout.take().unwrap());
    stdout.read_line(&mut String::new()).unwrap();
    std::fs::remove_dir_all(pyro.home()).unwrap();
    // The client ends when nothing answers any more; what it then starts is a daemon for a new home.
    let status = client.wait().unwrap();
    assert_eq!(status.code(), Some(1));
    let guests: Vec<_> =
        pyro.processes().into_iter().filter(|(_, line)| line.contains("guest-agent")).collect();
    assert!(guests.is_empty(), "{guests:?}");
}

/// Catches a daemon that stays with a log in which it cannot write, so that nothing works until somebody kills it, and a
/// request that is lost or carried out twice because nobody knew whether its record was written.
#[test]
fn daemon_whose_log_cannot_be_written_makes_room_for_the_next_one() {
    let pyro = Pyro::new();
    // What starts the daemon passes on the limit on the length of files, 1 MiB, and that it is an error and no signal.
    let listed = pyro.command(&["env", "list"]);
    let limited = std::process::Command::new("/bin/sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 2048; exec \"$0\" env list"])
        .arg(listed.get_program())
        .envs(listed.get_envs().filter_map(|(name, value)| Some((name, value?))))
        .output()
        .unwrap();
    assert!(limited.status.success(), "{}", String::from_utf8_lossy(&limited.stderr));
    let broken = pyro.daemon_pid();
    let process = pidfd_open(Pid::from_raw(broken).unwrap(), PidfdFlags::empty()).unwrap();

    let home = Home::at(pyro.home()).unwrap();
    let info = ClientInfo { client: "x".repeat(100_000), face: Face::Cli };
    let mut client = Client::connect(&home, &info, &Start::Never).unwrap();
    let mut asked = Vec::new();
    let error: ApiError = loop {
        let request = VmReapExpiredRequest { request_id: Some(new_request_id()) };
        asked.push(request);
        client.send(request).unwrap();
        let Incoming::Reply(reply) = client.receive().unwrap() else { panic!("it is the reply") };
        if let Err(error) = *reply {
            break error;
        }
    };
    assert_eq!(error.code, ErrorCode::LogPoisoned, "{error}");
    assert!(error.hint.unwrap().contains("the next command starts another one"));
    assert_eq!(poll(&mut [PollFd::new(&process, PollFlags::IN)], None), Ok(1));

    // All requests once more, among them the one of which nobody could tell whether it is on record.
    assert_ne!(pyro.daemon_pid(), broken);
    let mut client = Client::connect(&home, &info, &Start::Never).unwrap();
    for request in &asked {
        assert_eq!(client.call(*request, drop).unwrap().count, 0);
    }
    let log = pyro.log();
    for request in &asked {
        let id = request.request_id.unwrap().to_string();
        assert_eq!(log.iter().filter(|event| event["request_id"] == id.as_str()).count(), 1);
    }
}

/// Catches a second daemon that waits, or that takes the log from the first.
#[test]
fn second_daemon_does_not_start() {
    let pyro = Pyro::new();
    let first = pyro.daemon_pid();
    let second = pyro.run(&["daemon", "run"]);
    assert_eq!(second.code, Some(1));
    assert!(second.err().contains(&format!("in use by process {first}")), "{}", second.err());
    assert_eq!(pyro.daemon_pid(), first);
}
