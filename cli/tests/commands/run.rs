//! `pyro run`

use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::process::{Child, Stdio};

use pyro_api::{
    ApiError, Cleanup, ClientMessage, ErrorCode, Progress, PullProgress, Request, Response, RunOutcome,
    RunRequest, ServerMessage, Stream,
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::peer::{Peer, World};
use crate::terminal::terminal;

const RUN: &[&str] = &["run", "debian:12", "--", "make", "it so"];

fn outcome(exit_code: u8, stdout: &[u8], stderr: &[u8]) -> Result<Response, ApiError> {
    let vm_id = "5f0c2a9be1d4".to_owned();
    Ok(Response::Run(RunOutcome {
        vm_id: vm_id.clone(),
        environment: "debian:12".to_owned(),
        environment_version: Some("1.0.0".to_owned()),
        command: "make 'it so'".to_owned(),
        exit_code,
        signal: None,
        timed_out: false,
        duration_ms: 214,
        execution_mode: "guest_vsock".to_owned(),
        cleanup: Cleanup { vm_id, deleted: true, reason: "post_exec_cleanup".to_owned() },
        stdout_bytes: u64::try_from(stdout.len()).expect("it is short"),
        stderr_bytes: u64::try_from(stderr.len()).expect("it is short"),
    }))
}

/// Runs a command that prints this and ends with this code.
fn printing(
    stdout: &'static [u8],
    stderr: &'static [u8],
    exit_code: u8,
) -> Box<dyn FnOnce(&mut Peer) -> Request + Send> {
    Box::new(move |peer| {
        let request = peer.request();
        peer.phases();
        peer.print(Stream::Stdout, stdout);
        peer.print(Stream::Stderr, stderr);
        peer.reply(outcome(exit_code, stdout, stderr));
        request
    })
}

fn interrupt(child: &Child) {
    let pid = Pid::from_raw(i32::try_from(child.id()).expect("pids are small")).expect("a pid is not zero");
    kill_process(pid, Signal::INT).expect("the child is not waited for yet");
}

/// Catches bytes that are changed, phases that are lost, and a summary in the wrong place.
#[test]
fn output_is_byte_exact_between_phases_and_summary() {
    let world = World::new();
    let peer = world.serve([printing(b"a\xff\x1b[2J\0\r\nb", b"err", 7)]);
    let output = world.run(RUN);
    assert_eq!(output.stdout, b"a\xff\x1b[2J\0\r\nb");
    assert_eq!(
        String::from_utf8(output.stderr).expect("it is text"),
        "[run] phase=create environment=debian:12\n\
         [run] phase=start vm_id=5f0c2a9be1d4\n\
         [run] phase=execute vm_id=5f0c2a9be1d4\n\
         err[run] environment=debian:12 execution_mode=guest_vsock exit_code=7 duration_ms=214\n"
    );
    assert_eq!(output.status.code(), Some(7));
    let requests = peer.join().expect("the peer saw what it expected");
    let Request::Run(request) = &requests[0] else { panic!("{requests:?}") };
    assert!(request.request_id.is_some());
    assert_eq!(
        request,
        &RunRequest { request_id: request.request_id, ..RunRequest::new("debian:12", "make 'it so'") }
    );
}

#[test]
fn result_in_json_holds_the_output_and_nothing_else_is_printed() {
    let world = World::new();
    world.serve([printing(b"caf\xc3\xa9 \xff\n", b"err\n", 137)]);
    let output = world.run(&["run", "--json", "debian:12", "--", "true"]);
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(137), b"".as_slice()));
    insta::assert_snapshot!("run_json", String::from_utf8(output.stdout).expect("JSON is text"));
}

#[test]
fn long_output_in_json_is_cut_in_the_middle() {
    let world = World::new();
    let long: &'static [u8] = Box::leak(vec![b'x'; 3 << 20].into_boxed_slice());
    world.serve([printing(long, b"", 0)]);
    let output = world.run(&["run", "debian:12", "--json", "--", "true"]);
    let result: Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
    assert_eq!(result["stdout"].as_str().map(str::len), Some(1 << 20));
    assert_eq!(
        (&result["stdout_truncated"], &result["stdout_bytes"]),
        (&Value::Bool(true), &Value::from(3 << 20))
    );
    assert!(result.get("stderr_truncated").is_none() && result.get("stdout_lossy").is_none());
}

#[test]
fn errors_are_told_to_people_and_to_programs() {
    let fail = || -> Box<dyn FnOnce(&mut Peer) -> Request + Send> {
        Box::new(|peer| {
            let request = peer.request();
            let error = ApiError::new(ErrorCode::GuestUnavailable, "no guest\nboots \u{1b}[2J");
            peer.reply(Err(error.with_hint("see `pyro doctor`")));
            request
        })
    };
    let world = World::new();
    world.serve([fail(), fail()]);
    let output = world.run(RUN);
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(1), b"".as_slice()));
    let text = String::from_utf8(output.stderr).expect("it is text");
    assert_eq!(text, "[error] no guest\n  boots \\x1b[2J\n[hint] see `pyro doctor`\n");

    let output = world.run(&["run", "--json", "debian:12", "--", "true"]);
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(1), b"".as_slice()));
    let error: Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
    assert_eq!((&error["ok"], &error["code"]), (&Value::Bool(false), &Value::from("guest_unavailable")));
    assert_eq!(error["error"], "no guest\nboots \u{1b}[2J");
}

#[test]
fn pull_of_a_missing_environment_is_shown_in_lines() {
    let world = World::new();
    world.serve([Box::new(|peer: &mut Peer| {
        peer.request();
        for (phase, fraction) in [("packages", 0.0), ("packages", 0.5), ("image", 0.9), ("ready", 1.0)] {
            peer.send(&ServerMessage::Progress(Progress::Pull(PullProgress {
                environment: "debian:12".to_owned(),
                phase: phase.to_owned(),
                fraction: Some(fraction),
                detail: String::new(),
            })));
        }
        peer.phases();
        peer.reply(outcome(0, b"", b""));
    }) as Box<dyn FnOnce(&mut Peer) + Send>]);
    let text = String::from_utf8(world.run(RUN).stderr).expect("it is text");
    assert!(
        text.starts_with(
            "[pull] phase=install environment=debian:12\n\
             [pull] phase=packages environment=debian:12\n\
             [pull] phase=image environment=debian:12\n\
             [pull] phase=ready environment=debian:12\n\
             [run] phase=create"
        ),
        "{text}"
    );
}

/// Catches a Ctrl-C that leaves the VM behind, and an exit code that looks like the command's.
#[test]
fn interrupt_cancels_and_waits_for_the_cleanup() {
    let world = World::new();
    let (ready, is_ready) = std::sync::mpsc::channel();
    let peer = world.serve([Box::new(move |peer: &mut Peer| {
        peer.request();
        peer.phases();
        ready.send(()).expect("the test waits");
        let canceled = peer.read();
        peer.print(Stream::Stdout, b"last words\n");
        peer.reply(Err(ApiError::new(ErrorCode::Canceled, "canceled")));
        canceled
    }) as Box<dyn FnOnce(&mut Peer) -> Option<ClientMessage> + Send>]);
    let child = world.spawn(RUN);
    is_ready.recv().expect("the run is under way");
    interrupt(&child);
    let output = child.wait_with_output().expect("its output can be read");
    assert_eq!(output.status.code(), Some(130));
    assert_eq!(output.stdout, b"last words\n");
    assert!(String::from_utf8_lossy(&output.stderr).ends_with("[error] canceled by SIGINT\n"));
    assert_eq!(peer.join().expect("the peer does not panic"), [Some(ClientMessage::Cancel)]);
}

#[test]
fn second_interrupt_does_not_wait() {
    let world = World::new();
    let (ready, is_ready) = std::sync::mpsc::channel();
    let peer = world.serve([Box::new(move |peer: &mut Peer| {
        peer.request();
        ready.send(()).expect("the test waits");
        assert_eq!(peer.read(), Some(ClientMessage::Cancel));
        ready.send(()).expect("the test waits");
        // No reply: the cleanup hangs until the client is gone.
        peer.read()
    }) as Box<dyn FnOnce(&mut Peer) -> Option<ClientMessage> + Send>]);
    let child = world.spawn(RUN);
    for _ in 0..2 {
        is_ready.recv().expect("the run is under way");
        interrupt(&child);
    }
    let output = child.wait_with_output().expect("its output can be read");
    assert_eq!(output.status.code(), Some(130));
    assert_eq!(peer.join().expect("the peer does not panic"), [None]);
}

/// Catches a message about a broken pipe, and a VM that goes on without a reader.
#[test]
fn reader_that_goes_away_ends_the_run_quietly() {
    let world = World::new();
    let peer = world.serve([Box::new(|peer: &mut Peer| {
        peer.request();
        peer.print(Stream::Stdout, b"nobody reads this");
        peer.read()
    }) as Box<dyn FnOnce(&mut Peer) -> Option<ClientMessage> + Send>]);
    let (reader, writer) = std::io::pipe().expect("a pipe can be made");
    drop(reader);
    let mut command = world.command(RUN);
    let output = command.stdout(Stdio::from(OwnedFd::from(writer))).output().expect("pyro can be started");
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(141), b"".as_slice()));
    assert_eq!(peer.join().expect("the peer does not panic"), [None]);
}

/// Runs with a terminal as standard output, and returns what it shows.
fn on_terminal(world: &World, arguments: &[&str]) -> String {
    let (mut master, terminal) = terminal();
    let mut command = world.command(arguments);
    command.stdout(Stdio::from(terminal));
    let mut child = command.spawn().expect("pyro can be started");
    // It holds the other end of the terminal.
    drop(command);
    let mut shown = Vec::new();
    // The end of a terminal is an error.
    let _end = master.read_to_end(&mut shown);
    child.wait().expect("it has ended");
    String::from_utf8_lossy(&shown).into_owned()
}

/// Catches a bar that shows nothing, and one that stays on the screen.
#[test]
fn pull_is_a_bar_on_a_terminal() {
    let world = World::new();
    let (seen, is_seen) = std::sync::mpsc::channel();
    world.serve([Box::new(move |peer: &mut Peer| {
        peer.request();
        peer.send(&ServerMessage::Progress(Progress::Pull(PullProgress {
            environment: "debian:12".to_owned(),
            phase: "packages".to_owned(),
            fraction: Some(0.42),
            detail: "unpacking\u{1b}[2J git".to_owned(),
        })));
        is_seen.recv().expect("the test waits for the bar");
        peer.reply(Err(ApiError::new(ErrorCode::ToolMissing, "mmdebstrap is missing")));
    }) as Box<dyn FnOnce(&mut Peer) + Send>]);
    let (mut master, terminal) = terminal();
    let mut command = world.command(&["env", "pull", "debian:12"]);
    command.stderr(Stdio::from(terminal)).env("TERM", "xterm");
    let mut child = command.spawn().expect("pyro can be started");
    drop(command);
    let (mut shown, mut chunk) = (Vec::new(), [0; 4096]);
    while let Ok(len @ 1..) = master.read(&mut chunk) {
        shown.extend_from_slice(&chunk[..len]);
        if String::from_utf8_lossy(&shown).contains("42%") {
            // After the reply nobody waits for it any more.
            let _ended = seen.send(());
        }
    }
    let text = String::from_utf8_lossy(&shown);
    assert!(
        text.starts_with("[pull] phase=install environment=debian:12\r\n") && text.contains("42%"),
        "{text:?}"
    );
    assert!(text.contains("unpacking\\x1b[2J git"), "{text:?}");
    assert!(text.ends_with("\u{1b}[2K[error] mmdebstrap is missing\r\n"), "{text:?}");
    assert_eq!(child.wait().expect("it has ended").code(), Some(1));
}

#[test]
fn terminal_gets_text_and_colors_only() {
    let world = World::new();
    let hostile = b"\x1b]0;title\x07\x1b[31mred\x1b[2J \x1b[6n\xff";
    world.serve([printing(hostile, b"", 0), printing(hostile, b"", 0)]);
    assert_eq!(on_terminal(&world, RUN), "\u{1b}[31mred \u{fffd}\u{1b}[0m");
    let raw = on_terminal(&world, &["run", "--raw", "debian:12", "--", "make", "it so"]);
    assert_eq!(raw, String::from_utf8_lossy(hostile));
}

#[test]
fn connections_that_cannot_be_are_errors() {
    let world = World::new();
    let long = format!("/{}", "d".repeat(100));
    let table = [("", "HOME"), (long.as_str(), "too long"), ("/dev/null/home", "Not a directory")];
    for (home, message) in table {
        let mut command = world.command(RUN);
        command.env("PYRO_HOME", home).env_remove("XDG_DATA_HOME").env_remove("HOME");
        let output = command.output().expect("pyro can be started");
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.code() == Some(1) && text.starts_with("[error] ") && text.contains(message),
            "{text}"
        );
    }
}
