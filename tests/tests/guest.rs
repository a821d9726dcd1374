//! `pyro run` in a real QEMU guest.

use pyro_tests::Pyro;

fn run(arguments: &[&str]) -> (Pyro, pyro_tests::Output) {
    let pyro = Pyro::new().config("backend = \"qemu\"\naccelerator = \"tcg\"\n");
    let output = pyro.run(&[&["run"], arguments].concat());
    (pyro, output)
}

#[test]
fn streams_exit_code_and_lines_are_the_contracts() {
    let (pyro, output) =
        run(&["debian:12", "--mem-mib", "512", "--", "sh", "-lc", "echo out; echo err >&2; exit 7"]);
    assert_eq!((output.out().as_str(), output.code), ("out\n", Some(7)), "{}", output.err());
    let err = output.err();
    let lines: Vec<_> = err.lines().collect();
    assert_eq!(lines[0], "[run] phase=create environment=debian:12", "{err}");
    assert!(lines[1].starts_with("[run] phase=start vm_id="), "{err}");
    assert!(lines[2].starts_with("[run] phase=execute vm_id="), "{err}");
    assert_eq!(lines[3], "err", "{err}");
    let summary = "[run] environment=debian:12 execution_mode=guest_vsock exit_code=7 duration_ms=";
    assert!(lines[4].starts_with(summary), "{err}");

    let kinds = pyro.kinds();
    let life: Vec<_> =
        kinds.iter().map(String::as_str).skip_while(|kind| *kind != "workspace_created").collect();
    let expected = [
        "workspace_created",
        "workspace_starting",
        "exec_requested",
        "workspace_started",
        "exec_started",
        "exec_exited",
        "workspace_deleting",
        "workspace_deleted",
    ];
    assert_eq!(life, expected, "one command, once, on the record");
    let left: Vec<_> = std::fs::read_dir(pyro.home().join("workspaces")).unwrap().flatten().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn json_has_the_contracts_keys() {
    let (_pyro, output) = run(&["--json", "--mem-mib", "512", "debian:12", "--", "echo", "a b"]);
    assert_eq!(output.code, Some(0), "{}", output.err());
    assert_eq!(output.err(), "");
    let json = output.json();
    assert_eq!(json["stdout"], "a b\n");
    assert_eq!(json["command"], "echo 'a b'");
    assert_eq!(json["cleanup"]["deleted"], true);
    assert_eq!(json["cleanup"]["reason"], "post_exec_cleanup");
    assert_eq!(json["cleanup"]["vm_id"], json["vm_id"]);
    let mut keys: Vec<_> = json.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    let expected = [
        "cleanup",
        "command",
        "duration_ms",
        "environment",
        "environment_version",
        "execution_mode",
        "exit_code",
        "stderr",
        "stdout",
        "vm_id",
    ];
    assert_eq!(keys, expected);
}

#[test]
fn output_is_byte_exact_and_the_command_runs_once() {
    let script = "echo x >>/runs; head -c 4000000 /dev/zero; printf '\\200\\377\\000\\n'; wc -l </runs >&2";
    let (pyro, output) = run(&["debian:12", "--mem-mib", "512", "--", "sh", "-c", script]);
    assert_eq!(output.code, Some(0), "{}", output.err());
    assert_eq!(output.stdout.len(), 4_000_004);
    assert!(output.stdout[..4_000_000].iter().all(|byte| *byte == 0));
    assert_eq!(&output.stdout[4_000_000..], b"\x80\xff\x00\n");
    assert!(output.err().lines().any(|line| line == "1"), "{}", output.err());
    assert_eq!(pyro.kinds().iter().filter(|kind| *kind == "exec_started").count(), 1);
}

#[test]
fn timeout_ends_the_whole_tree_and_keeps_the_output() {
    let script = "echo before; sleep 100 & setsid sleep 100 & sleep 100";
    let (_pyro, output) =
        run(&["--json", "--timeout-seconds", "2", "--mem-mib", "512", "debian:12", "--", "sh", "-c", script]);
    assert_eq!(output.code, Some(124), "{}", output.err());
    let json = output.json();
    assert_eq!((json["stdout"].as_str(), json["timed_out"].as_bool()), (Some("before\n"), Some(true)));
    let took = json["duration_ms"].as_u64().unwrap();
    assert!((2000..5000).contains(&took), "{took} ms");
}

#[test]
fn signal_is_128_and_its_number() {
    let (_pyro, output) =
        run(&["--json", "--mem-mib", "512", "debian:12", "--", "sh", "-c", "kill -KILL $$"]);
    assert_eq!(output.code, Some(137), "{}", output.err());
    assert_eq!(output.json()["signal"], "KILL");
}
