//! `pyro run --allow-host-compat` in namespaces of this host.

use std::io::Write as _;
use std::process::{Command, Stdio};

use pyro_tests::{Pyro, SANDBOX};

fn sandbox() -> Pyro {
    Pyro::new().config(SANDBOX)
}

fn run(pyro: &Pyro, script: &str) -> pyro_tests::Output {
    pyro.run(&["run", "--allow-host-compat", "debian:12", "--", "sh", "-c", script])
}

#[test]
fn sandbox_is_only_for_those_who_asked() {
    let output = sandbox().run(&["run", "--json", "debian:12", "--", "true"]);
    assert_eq!(output.code, Some(1));
    let json = output.json();
    assert_eq!(json["code"], "guest_unavailable");
    assert!(json["error"].as_str().unwrap().contains("--allow-host-compat"), "{json}");
}

#[test]
fn network_reaches_the_host_through_the_gateway_and_leaves_nothing_behind() {
    let greeting = "bytes of the host's loopback\n";
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let script =
        format!("cat /etc/resolv.conf; cat < /dev/tcp/10.0.2.2/{}", listener.local_addr().unwrap().port());
    std::thread::spawn(move || {
        for guest in listener.incoming() {
            guest.unwrap().write_all(greeting.as_bytes()).unwrap();
        }
    });
    let pyro = sandbox();
    let run = |options: &[&str]| {
        let command = ["debian:12", "--", "bash", "-c", &script];
        pyro.run(&[&["run", "--allow-host-compat"], options, &command].concat())
    };
    let output = run(&["--network"]);
    assert_eq!(output.out(), format!("nameserver 10.0.2.3\n{greeting}"), "{}", output.err());
    assert!(output.err().contains("execution_mode=host_compat exit_code=0"), "{}", output.err());
    let output = run(&[]);
    assert_eq!(output.out(), "", "{}", output.err());
    assert!(output.err().contains("Network is unreachable"), "{}", output.err());
    let left: Vec<_> =
        pyro.processes().into_iter().filter(|(_, line)| line.contains("slirp4netns")).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn network_that_the_sandbox_cannot_give_is_refused_before_anything_is_created() {
    let pyro = sandbox().variable("PATH", "/nonexistent");
    let output = pyro.run(&["run", "--json", "--network", "--allow-host-compat", "debian:12", "--", "true"]);
    let json = output.json();
    assert_eq!((output.code, json["code"].as_str()), (Some(1), Some("unsupported")));
    assert!(json["error"].as_str().unwrap().contains("the Debian package slirp4netns"), "{json}");
    assert!(!pyro.kinds().contains(&"workspace_created".to_owned()), "{:?}", pyro.kinds());
    let doctor = pyro.run(&["doctor", "--json"]).json();
    let sandbox = doctor["backends"].as_array().unwrap().iter().find(|way| way["backend"] == "host_sandbox");
    assert_eq!(sandbox.unwrap()["network"], false, "{doctor}");
}

#[test]
fn request_id_stands_for_one_request_with_all_its_options() {
    let pyro = sandbox();
    let id = "00000000-0000-4000-8000-000000000001";
    let arguments = ["run", "--json", "--request-id", id, "--allow-host-compat", "debian:12"];
    let run = |more: &[&str]| pyro.run(&[&arguments, more].concat());
    assert_eq!(run(&["--", "exit", "3"]).code, Some(3));
    assert_eq!(run(&["--", "exit", "3"]).code, Some(3), "the outcome of the first");
    for other in
        [["--mem-mib", "512", "--", "exit", "3"].as_slice(), &["--timeout-seconds", "9", "--", "exit", "3"]]
    {
        assert_eq!(run(other).json()["code"], "request_id_reused", "{other:?}");
    }
    assert_eq!(pyro.kinds().iter().filter(|kind| *kind == "exec_requested").count(), 1);
}

#[test]
fn sandbox_names_itself() {
    let output = run(&sandbox(), "echo out; echo err >&2; exit 7");
    assert_eq!((output.out().as_str(), output.code), ("out\n", Some(7)), "{}", output.err());
    assert!(output.err().contains("execution_mode=host_compat exit_code=7"), "{}", output.err());
}

#[test]
fn nothing_of_the_host_is_inherited() {
    let pyro = sandbox().variable("SECRET_OF_THE_HOST", "42");
    let home = pyro.home().to_str().unwrap().to_owned();
    let script = format!(
        "env; cat /proc/1/environ; ls -l /proc/self/fd /proc/1/fd; ls -d {home} /work; cat; hostname"
    );
    let output = run(&pyro, &script);
    let (out, err) = (output.out(), output.err());
    assert!(!out.contains("SECRET_OF_THE_HOST") && !out.contains("PYRO_HOME"), "{out}");
    assert!(!out.contains(&home), "a path of the host is visible:\n{out}");
    assert!(err.contains(&format!("cannot access '{home}'")), "{err}");
}

/// Catches a daemon that runs out of descriptors where a login has few, and one that hands its many to guests.
#[test]
fn the_daemon_takes_more_descriptors_than_its_guests() {
    let pyro = sandbox();
    let listing = pyro.command(&["env", "list"]);
    let script = r#"ulimit -Sn 256; exec "$0" "$@""#;
    let mut with_few = Command::new("sh");
    with_few.args(["-c", script]).arg(listing.get_program()).args(listing.get_args());
    with_few.envs(listing.get_envs().filter_map(|(name, value)| Some((name, value?))));
    assert!(with_few.stdout(Stdio::null()).status().unwrap().success());
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", pyro.daemon_pid())).unwrap();
    let limit = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
    let [soft, hard] = limit.split_whitespace().take(2).collect::<Vec<_>>()[..] else { panic!("{limit}") };
    assert!(soft == hard || soft == "65536", "{limit}");
    assert_eq!(run(&pyro, "ulimit -Sn").out(), "1024\n");
}

#[test]
fn timeout_leaves_no_process_on_the_host() {
    let pyro = sandbox();
    let marker = format!("sleep 1{:09}", std::process::id());
    let script = format!("{marker} & setsid {marker} & (trap '' TERM HUP; {marker}) & {marker}");
    let output = pyro.run(&[
        "run",
        "--json",
        "--allow-host-compat",
        "--timeout-seconds",
        "1",
        "debian:12",
        "--",
        "sh",
        "-c",
        &script,
    ]);
    assert_eq!(output.code, Some(124), "{}", output.err());
    let left: Vec<_> = std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok())
        .filter(|line| {
            line.starts_with(b"sleep\0") && String::from_utf8_lossy(line).replace('\0', " ").contains(&marker)
        })
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn large_output_is_whole() {
    let output = run(&sandbox(), "head -c 50000000 /dev/zero; echo end");
    assert_eq!(output.code, Some(0), "{}", output.err());
    assert_eq!(output.stdout.len(), 50_000_004);
    assert!(output.stdout.ends_with(b"\0end\n"));
}
