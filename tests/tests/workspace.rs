//! Workspaces: they persist whatever happens to clients, daemon and guest.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::Child;

use pyro_tests::{Output, Pyro, QEMU, SANDBOX, finish, signal};
use rustix::process::Signal;
use serde_json::Value;

/// Prints 60 lines for more than a second and ends with 3.
const COUNTING: &str =
    "echo ready; i=0; while [ $i -lt 60 ]; do i=$((i+1)); echo line $i; sleep 0.02; done; exit 3";

fn counted() -> String {
    std::iter::once("ready\n".to_owned()).chain((1..=60).map(|number| format!("line {number}\n"))).collect()
}

fn pid(child: &Child) -> i32 {
    i32::try_from(child.id()).expect("pids are small")
}

#[track_caller]
fn exec(pyro: &Pyro, id: &str, script: &str) -> Output {
    pyro.run(&["workspace", "exec", id, "--", "sh", "-c", script])
}

#[track_caller]
fn status(pyro: &Pyro, id: &str) -> Value {
    pyro.run(&["workspace", "status", id, "--json"]).json()
}

/// Returns the one record of that number.
#[track_caller]
fn record(pyro: &Pyro, id: &str, number: &str) -> Value {
    let logs = pyro.run(&["workspace", "logs", id, number, "--json"]).json();
    assert_eq!(logs["count"], 1, "{logs}");
    logs["entries"][0].clone()
}

/// Starts a command that says `ready` first, and returns when it has said so.
fn start(pyro: &Pyro, id: &str, script: &str) -> (Child, BufReader<std::process::ChildStdout>) {
    let mut child =
        pyro.spawn(&["workspace", "exec", id, "--timeout-seconds", "120", "--", "sh", "-c", script]);
    let mut stdout = BufReader::new(child.stdout.take().expect("it is piped"));
    let mut line = String::new();
    stdout.read_line(&mut line).expect("a pipe can be read");
    if line != "ready\n" {
        let output = child.wait_with_output().expect("a child can be waited for");
        panic!("{line:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    (child, stdout)
}

fn keys(value: &Value) -> Vec<&str> {
    let mut keys: Vec<_> = value.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}

#[test]
fn objects_have_the_contracts_keys() {
    let (pyro, id) = Pyro::with_sandbox();
    let new = status(&pyro, &id);
    let expected = "allow_host_compat command_count created_at environment environment_version execution_mode \
                    expires_at guest_ip last_command mem_mib metadata network_enabled state tap_name ttl_seconds \
                    vcpu_count workspace_id workspace_path workspace_seed";
    assert_eq!(keys(&new).join(" "), expected);
    assert_eq!(
        keys(&new["workspace_seed"]).join(" "),
        "bytes_written destination entry_count mode seed_path"
    );
    assert_eq!((&new["state"], &new["last_command"]), (&"started".into(), &Value::Null));
    assert_eq!(new["execution_mode"], "host_compat");

    let result = pyro.run(&["workspace", "exec", &id, "--json", "--", "pwd"]).json();
    let expected = "command cwd duration_ms environment environment_version execution_mode exit_code sequence stderr \
                    stdout workspace_id";
    assert_eq!(keys(&result).join(" "), expected);
    assert_eq!((&result["stdout"], &result["sequence"]), (&"/workspace\n".into(), &1.into()));

    let entry = record(&pyro, &id, "1");
    let expected = "command cwd duration_ms execution_mode exit_code recorded_at sequence stderr stderr_file stdout \
                    stdout_file";
    assert_eq!(keys(&entry).join(" "), expected);
    assert_eq!(std::fs::read_to_string(entry["stdout_file"].as_str().unwrap()).unwrap(), "/workspace\n");

    let used = status(&pyro, &id);
    assert_eq!(used["command_count"], 1);
    assert_eq!(
        keys(&used["last_command"]).join(" "),
        "command cwd duration_ms execution_mode exit_code sequence"
    );
    let list = pyro.run(&["workspace", "list", "--json"]).json();
    assert_eq!((&list["count"], &list["workspaces"][0]), (&1.into(), &used));
    let deleted = pyro.run(&["workspace", "delete", &id[..4], "--json"]).json();
    assert_eq!(
        deleted,
        serde_json::json!({"workspace_id": id, "deleted": true, "reason": "explicit_delete"})
    );
    let gone = pyro.run(&["workspace", "status", &id, "--json"]);
    assert_eq!((gone.code, &gone.json()["code"]), (Some(1), &"unknown_workspace".into()));
}

/// Catches a name that hides another workspace, and a repeated request that loses its workspace with the name.
#[test]
fn workspaces_are_meant_by_their_names() {
    let (pyro, id) = Pyro::with_sandbox();
    let web = pyro.create(&["--allow-host-compat", "--name", "web"]);
    let said = pyro.run(&["workspace", "exec", "web", "--", "echo", "here"]);
    assert_eq!((said.out().as_str(), said.code), ("here\n", Some(0)), "{}", said.err());
    assert_eq!(status(&pyro, "web")["workspace_id"], web.as_str());
    let logged = pyro.run(&["log", "--workspace", "web", "--json", "--limit", "1"]).json();
    assert_eq!(logged["workspace_id"], web.as_str());

    // Names that look like the id of another one.
    let _named_alike = pyro.create(&["--allow-host-compat", "--name", &id]);
    let _named_alike = pyro.create(&["--allow-host-compat", "--name", &id[..4]]);
    assert_eq!(status(&pyro, &id)["workspace_id"], id.as_str());
    let two = pyro.run(&["workspace", "status", &id[..4], "--json"]);
    assert_eq!((two.code, &two.json()["code"]), (Some(1), &"ambiguous_id".into()));

    let request = ["--request-id", "01890a5d-ac96-774b-bcce-b302099a8057", "--json"];
    let delete = [&["workspace", "delete", "web"][..], &request].concat();
    let deleted = pyro.run(&delete).json();
    assert_eq!(deleted["workspace_id"], web.as_str());
    assert_eq!(pyro.run(&delete).json(), deleted);
    let gone = pyro.run(&["workspace", "status", "web", "--json"]).json();
    assert_eq!(gone["code"], "unknown_workspace");
    // The ids are drawn, and any of them can come last.
    let mut existing = gone["hint"].as_str().unwrap().trim_start_matches("existing: ").split(", ");
    assert!(existing.any(|named| named == id), "{gone}");
    let none = pyro.run(&["workspace", "status", "no name", "--json"]).json();
    assert_eq!(none["code"], "invalid_argument");
}

#[test]
fn lines_and_exit_codes_are_the_contracts() {
    let (pyro, id) = Pyro::with_sandbox();
    let output = exec(&pyro, &id, "printf out; printf err >&2; exit 7");
    assert_eq!((output.out().as_str(), output.code), ("out", Some(7)));
    let summary = format!(
        "err[workspace-exec] workspace_id={id} sequence=1 cwd=/workspace execution_mode=host_compat exit_code=7 \
         duration_ms="
    );
    assert!(output.err().starts_with(&summary), "{}", output.err());
    assert_eq!(exec(&pyro, &id, "kill -KILL $$").code, Some(137));
    let late = pyro.run(&["workspace", "exec", &id, "--timeout-seconds", "1", "--json", "--", "sleep", "60"]);
    assert_eq!((late.code, &late.json()["timed_out"]), (Some(124), &true.into()));

    let logs = pyro.run(&["workspace", "logs", &id]);
    assert!(logs.out().starts_with("#1 exit_code=7 duration_ms="), "{}", logs.out());
    assert!(
        logs.out()
            .contains("cwd=/workspace\n$ sh -c 'printf out; printf err >&2; exit 7'\nout\n#2 exit_code=137")
    );
    assert!(logs.err().starts_with("err"), "{}", logs.err());
    let text = pyro.run(&["workspace", "status", &id]).out();
    assert!(text.ends_with("Command count: 3\nLast command: sleep 60 (exit_code=124)\n"), "{text}");
}

/// Catches a stop that is answered while the guest is still there, because another stop came first.
#[test]
fn second_stop_ends_with_the_first() {
    let (pyro, id) = Pyro::with_sandbox();
    let (running, _stdout) =
        start(&pyro, &id, "trap 'sleep 1; exit' TERM; echo ready; while :; do sleep 0.1; done");
    let first = pyro.spawn(&["workspace", "stop", &id, "--json"]);
    let _under_way = pyro.wait_for("workspace_stopping");
    assert_eq!(pyro.run(&["workspace", "stop", &id, "--json"]).json()["state"], "stopped");
    assert_eq!(finish(first).json()["state"], "stopped");
    let _lost = finish_without_stdout(running);
}

#[test]
fn files_and_numbers_go_on_after_a_stop() {
    let (pyro, id) = Pyro::with_sandbox();
    assert_eq!(exec(&pyro, &id, "echo kept >file; echo root >/etc/motd").code, Some(0));
    let (running, _stdout) = start(&pyro, &id, "echo ready; sleep 100");
    let stopped = pyro.run(&["workspace", "stop", &id, "--json"]).json();
    assert_eq!(
        (&stopped["state"], &stopped["metadata"]["stop_reason"]),
        (&"stopped".into(), &"requested".into())
    );
    let lost = finish_without_stdout(running);
    // The guest may still tell of the end that it gave to the command: a stop begins with SIGTERM.
    assert!(matches!(lost.0, Some(1 | 143)), "{lost:?}");
    let refused = pyro.run(&["workspace", "exec", &id, "--json", "--", "true"]);
    assert_eq!((refused.code, &refused.json()["code"]), (Some(1), &"invalid_state".into()));

    assert_eq!(pyro.run(&["workspace", "start", &id, "--json"]).json()["state"], "started");
    let result = pyro.run(&["workspace", "exec", &id, "--json", "--", "cat", "file", "/etc/motd"]).json();
    assert_eq!((&result["stdout"], &result["sequence"]), (&"kept\nroot\n".into(), &3.into()));
    let entry = record(&pyro, &id, "2");
    assert!(entry["exit_code"] == 143 || entry["error"].is_string(), "{entry}");
    assert_eq!(entry["stdout"], "ready\n");
}

fn finish_without_stdout(mut child: Child) -> (Option<i32>, String) {
    let mut err = String::new();
    child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    (child.wait().unwrap().code(), err)
}

#[test]
fn commands_run_at_the_same_time() {
    let (pyro, id) = Pyro::with_sandbox();
    // Each waits for the other: one after the other they would never end.
    let script = |own: &str, other: &str| {
        format!(
            "mkfifo {own} {other} 2>/dev/null; (echo x >{own}) & cat {other} >/dev/null; wait; echo {own}"
        )
    };
    assert_eq!(exec(&pyro, &id, "mkfifo a b").code, Some(0));
    let (one, other) = (script("a", "b"), script("b", "a"));
    let first = pyro.spawn(&["workspace", "exec", &id, "--", "sh", "-c", &one]);
    let second = pyro.spawn(&["workspace", "exec", &id, "--", "sh", "-c", &other]);
    let (first, second) = (finish(first), finish(second));
    assert_eq!((first.out().as_str(), first.code), ("a\n", Some(0)), "{}", first.err());
    assert_eq!((second.out().as_str(), second.code), ("b\n", Some(0)), "{}", second.err());
    assert_eq!(pyro.run(&["workspace", "logs", &id, "--json"]).json()["count"], 3);
}

#[test]
fn interrupt_ends_the_command_and_not_the_workspace() {
    let (pyro, id) = Pyro::with_sandbox();
    let (child, _stdout) = start(&pyro, &id, "echo ready; sleep 100 & sleep 100; echo never");
    signal(pid(&child), Signal::INT);
    let (code, err) = finish_without_stdout(child);
    assert_eq!(code, Some(130), "{err}");
    let entry = record(&pyro, &id, "1");
    assert_eq!((&entry["stdout"], &entry["signal"]), (&"ready\n".into(), &"KILL".into()), "{entry}");
    assert!(pyro.kinds().iter().any(|kind| kind == "exec_cancel_requested"));
    let after = exec(&pyro, &id, "cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -c '[s]leep 100'");
    assert_eq!(after.out(), "0\n", "{}", after.err());
}

#[test]
fn command_outlives_its_client() {
    let (pyro, id) = Pyro::with_sandbox();
    let (mut child, _stdout) = start(&pyro, &id, COUNTING);
    child.kill().unwrap();
    child.wait().unwrap();
    let _exited = pyro.wait_for("exec_exited");
    let entry = record(&pyro, &id, "1");
    assert_eq!((entry["stdout"].as_str(), &entry["exit_code"]), (Some(counted().as_str()), &3.into()));
}

#[track_caller]
fn killed_daemon(pyro: &Pyro, id: &str) {
    let (child, mut stdout) = start(pyro, id, COUNTING);
    signal(pyro.daemon_pid(), Signal::KILL);
    let mut rest = String::from("ready\n");
    stdout.read_to_string(&mut rest).unwrap();
    let (code, err) = finish_without_stdout(child);
    assert_eq!((rest, code), (counted(), Some(3)), "{err}");
    let number = status(pyro, id)["command_count"].to_string();
    let entry = record(pyro, id, &number);
    assert_eq!((entry["stdout"].as_str(), &entry["exit_code"]), (Some(counted().as_str()), &3.into()));
    assert_eq!(status(pyro, id)["state"], "started");
}

#[test]
fn client_of_a_command_outlives_the_daemon() {
    let (pyro, id) = Pyro::with_sandbox();
    killed_daemon(&pyro, &id);
}

/// Catches a record that is completed only when somebody watches.
#[test]
fn record_is_complete_after_the_death_of_client_and_daemon() {
    let (pyro, id) = Pyro::with_sandbox();
    let (mut child, _stdout) = start(&pyro, &id, COUNTING);
    let daemon = pyro.daemon_pid();
    child.kill().unwrap();
    signal(daemon, Signal::KILL);
    child.wait().unwrap();
    // The next command starts the next daemon, which goes on where the last one was.
    let exited = pyro.wait_for("exec_exited");
    let entry = record(&pyro, &id, "1");
    assert_eq!((entry["stdout"].as_str(), &entry["exit_code"]), (Some(counted().as_str()), &3.into()));
    assert_eq!(exited["data"]["stdout"]["len_bytes"], counted().len());
    assert_eq!(pyro.kinds().iter().filter(|kind| *kind == "exec_requested").count(), 1);
}

#[track_caller]
fn killed_guest(pyro: &Pyro, id: &str) {
    assert_eq!(exec(pyro, id, "echo kept >file; sync").code, Some(0));
    let (child, _stdout) = start(pyro, id, "echo ready; sleep 100");
    let started = pyro.wait_for("workspace_started");
    signal(i32::try_from(started["data"]["pid"].as_i64().unwrap()).unwrap(), Signal::KILL);
    let (code, err) = finish_without_stdout(child);
    assert_eq!(code, Some(1), "{err}");
    let _stopped = pyro.wait_for("workspace_stopped");
    let object = status(pyro, id);
    assert_eq!(object["state"], "stopped");
    assert!(object["metadata"]["stop_reason"].as_str().unwrap().starts_with("the guest died"), "{object}");
    let number = object["command_count"].to_string();
    assert!(record(pyro, id, &number)["error"].as_str().unwrap().starts_with("unknown, lost: "));

    assert_eq!(pyro.run(&["workspace", "start", id]).code, Some(0));
    let again = exec(pyro, id, "cat file");
    assert_eq!((again.out().as_str(), again.code), ("kept\n", Some(0)), "{}", again.err());
}

#[test]
fn dead_sandbox_is_told_and_can_be_started_again() {
    let (pyro, id) = Pyro::with_sandbox();
    killed_guest(&pyro, &id);
}

#[test]
fn workspace_in_a_vm_outlives_daemon_and_vmm() {
    let pyro = Pyro::new().config(QEMU);
    let id = pyro.create(&[]);
    let result = pyro.run(&["workspace", "exec", &id, "--json", "--", "sh", "-c", "pwd; exit 7"]);
    assert_eq!(result.code, Some(7), "{}", result.err());
    assert_eq!(
        (&result.json()["stdout"], &result.json()["execution_mode"]),
        (&"/workspace\n".into(), &"guest_vsock".into())
    );
    killed_daemon(&pyro, &id);
    killed_guest(&pyro, &id);
    assert_eq!(pyro.run(&["workspace", "delete", &id]).out(), format!("Deleted workspace: {id}\n"));
    let left: Vec<_> = std::fs::read_dir(pyro.home().join("workspaces")).unwrap().flatten().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn creation_is_whole_or_gone() {
    let pyro = Pyro::new().config(QEMU);
    let arguments = ["workspace", "create", "debian:12", "--mem-mib", "512"];
    // The client goes while the guest boots: nobody knows the id.
    let mut child = pyro.spawn(&arguments);
    let _starting = pyro.wait_for("workspace_starting");
    child.kill().unwrap();
    child.wait().unwrap();
    let deleted = pyro.wait_for("workspace_deleted");
    assert_eq!(deleted["data"]["reason"], "client_gone");
    // The daemon goes.
    let pyro = Pyro::new().config(QEMU);
    let child = pyro.spawn(&arguments);
    let _starting = pyro.wait_for("workspace_starting");
    signal(pyro.daemon_pid(), Signal::KILL);
    let output = finish(child);
    assert_eq!(output.code, Some(1), "{}", output.out());
    let _deleted = pyro.wait_for("workspace_deleted");
    assert_eq!(pyro.run(&["workspace", "list"]).out(), "No workspaces found.\n");
    let guests: Vec<_> = pyro.processes().into_iter().filter(|(_, line)| line.contains("qemu")).collect();
    assert!(guests.is_empty(), "{guests:?}");
}

#[test]
fn workspace_that_cannot_boot_is_not_there() {
    // Nowhere is slirp4netns.
    let pyro = Pyro::new().config(SANDBOX).variable("PATH", "/nonexistent");
    let output = pyro.run(&["workspace", "create", "debian:12", "--json"]);
    assert_eq!((output.code, &output.json()["code"]), (Some(1), &"guest_unavailable".into()));
    assert_eq!(pyro.run(&["workspace", "list", "--json"]).json()["count"], 0);
    let network =
        pyro.run(&["workspace", "create", "debian:12", "--allow-host-compat", "--network", "--json"]);
    assert_eq!((network.code, &network.json()["code"]), (Some(1), &"unsupported".into()));
}

#[test]
fn twelve_creations_against_a_limit_of_four() {
    let pyro = Pyro::new().config(SANDBOX);
    let limits = pyro.wait_for("limits_changed");
    let mem = (limits["data"]["mem_mib_total"].as_u64().unwrap() / 4).to_string();
    let clients: Vec<_> = (0..12)
        .map(|_| {
            let options = ["--allow-host-compat", "--mem-mib", &mem, "--json"];
            pyro.spawn(&[&["workspace", "create", "debian:12"][..], &options].concat())
        })
        .collect();
    let outputs: Vec<_> = clients.into_iter().map(finish).collect();
    let (created, refused): (Vec<_>, Vec<_>) = outputs.iter().partition(|output| output.code == Some(0));
    assert_eq!(created.len(), 4);
    for output in refused {
        assert_eq!(output.json()["code"], "limit_reached");
    }
}

#[test]
fn names_are_unique_and_repetition_does_nothing() {
    let pyro = Pyro::new().config(SANDBOX);
    let request = "0190a0b0-0000-7000-8000-000000000001";
    let options = ["--allow-host-compat", "--name", "web", "--label", "team=a b", "--request-id", request];
    let id = pyro.create(&options);
    assert_eq!(pyro.create(&options), id, "the same request has the same outcome");
    let object = status(&pyro, &id);
    assert_eq!((&object["name"], &object["labels"]["team"]), (&"web".into(), &"a b".into()));
    let taken =
        pyro.run(&["workspace", "create", "debian:12", "--allow-host-compat", "--name", "web", "--json"]);
    assert_eq!((taken.code, &taken.json()["code"]), (Some(1), &"name_taken".into()));

    let request = "0190a0b0-0000-7000-8000-000000000002";
    let append =
        ["workspace", "exec", &id, "--request-id", request, "--", "sh", "-c", "echo x >>f; wc -l <f"];
    assert_eq!(pyro.run(&append).out(), "1\n");
    assert_eq!(pyro.run(&append).out(), "1\n", "the first outcome with its output");
    assert_eq!(exec(&pyro, &id, "wc -l <f").out(), "1\n", "it ran once");
    assert_eq!(pyro.run(&["daemon", "stop"]).code, Some(0));
    let after = status(&pyro, &id);
    assert_eq!((&after["name"], &after["command_count"]), (&"web".into(), &2.into()));
}

#[test]
fn output_of_commands_is_whole() {
    let (pyro, id) = Pyro::with_sandbox();
    let output = exec(&pyro, &id, "head -c 20000000 /dev/zero; printf '\\377end'");
    assert_eq!((output.stdout.len(), output.code), (20_000_004, Some(0)));
    let entry = record(&pyro, &id, "1");
    assert_eq!((&entry["stdout_bytes"], &entry["stdout_lossy"]), (&20_000_004.into(), &true.into()));
    let text = pyro.run(&["workspace", "logs", &id]);
    assert!(text.stdout.ends_with(b"\0\xffend\n"), "the bytes, and a line end that was missing");
}

#[test]
fn end_of_its_time_deletes_a_workspace_with_what_runs_in_it() {
    let pyro = Pyro::new().config(&format!("{SANDBOX}[limits]\nttl_seconds_min = 1\n"));
    let id = pyro.create(&["--allow-host-compat", "--ttl-seconds", "2"]);
    let running = pyro.run(&["workspace", "exec", &id, "--json", "--", "sleep", "100"]);
    assert_eq!((running.code, &running.json()["code"]), (Some(1), &"expired".into()), "{}", running.err());
    let deleted = pyro.wait_for("workspace_deleted");
    assert_eq!(deleted["data"]["reason"], "expired");
    let late = pyro.run(&["workspace", "exec", &id, "--json", "--", "true"]);
    assert_eq!((late.code, &late.json()["code"]), (Some(1), &"expired".into()), "{}", late.err());
    assert_eq!(pyro.run(&["workspace", "list", "--json"]).json()["count"], 0);
}
