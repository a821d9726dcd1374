//! How commands are started, and how they end.

use std::path::Path;

use pyro_protocol::{Exec, ExitStatus, Failed, GuestFrame, HostFrame, Stage};

use crate::host::{Agent, exec};

const ENOENT: i32 = 2;
const E2BIG: i32 = 7;
const ENOTDIR: i32 = 20;
const EINVAL: i32 = 22;

fn failure(agent: &Agent, exec: Exec) -> Failed {
    let mut link = agent.exec(exec);
    let GuestFrame::Failed(failed) = link.expect() else { panic!("the command ran") };
    link.forget();
    failed
}

fn in_directory(op: u64, command: &str, cwd: &Path) -> Exec {
    Exec { cwd: Some(cwd.to_str().expect("a plain path").to_owned()), ..exec(op, command) }
}

#[test]
fn codes_and_signals_are_told_apart() {
    let agent = Agent::start();
    for (command, status) in [
        ("true", ExitStatus::Code(0)),
        ("exit 7", ExitStatus::Code(7)),
        ("exit 255", ExitStatus::Code(255)),
        ("exit 137", ExitStatus::Code(137)),
        ("kill -9 $$", ExitStatus::Signal(9)),
        ("kill -TERM $$", ExitStatus::Signal(15)),
        ("no-such-program", ExitStatus::Code(127)),
    ] {
        assert_eq!(agent.run(exec(1, command)).exited.status, status, "{command}");
    }
}

#[test]
fn bytes_arrive_as_they_were_written() {
    let agent = Agent::start();
    let outcome = agent.run(exec(1, r"printf '\377\000\r\n\303'; printf '\200err' >&2"));
    assert_eq!(outcome.stdout, b"\xff\0\r\n\xc3");
    assert_eq!(outcome.stderr, b"\x80err");
}

#[test]
fn a_command_inherits_nothing() {
    let agent = Agent::start();
    // The listing itself is descriptor 3.
    let outcome = agent.run(exec(1, "ls /proc/self/fd | tr '\\n' ' '; readlink /proc/self/fd/0; cat"));
    assert_eq!(String::from_utf8_lossy(&outcome.stdout), "0 1 2 3 /dev/null\n");
}

/// A daemon that was started by `nohup`, or by a shell script in the background, ignores signals.
#[test]
fn a_command_ignores_no_signal() {
    let agent = Agent::start();
    let outcome = agent.run(exec(1, "sed -n 's/^Sig[BI][lg][kn]:.//p' /proc/self/status"));
    // The C library keeps 32 and 33 to itself and lets nobody change them.
    let reserved = 0b11_u64 << 31;
    for mask in String::from_utf8_lossy(&outcome.stdout).lines() {
        let mask = u64::from_str_radix(mask, 16).unwrap();
        assert_eq!(mask & !reserved, 0, "{mask:x}");
    }
    assert_eq!(outcome.stdout.len(), 2 * 17);
}

#[test]
fn a_command_leads_its_session() {
    let agent = Agent::start();
    let outcome = agent.run(exec(1, "set -- $(cat /proc/$$/stat); echo $$ $5 $6"));
    let text = String::from_utf8_lossy(&outcome.stdout).into_owned();
    let numbers: Vec<&str> = text.split_whitespace().collect();
    assert_eq!(numbers, [numbers[0]; 3], "process, group and session are not the same");
}

#[test]
fn variables_lie_over_the_base_environment() {
    let agent = Agent::start();
    let env = vec![("HOME".to_owned(), "/h".to_owned()), ("X".to_owned(), "a b\n".to_owned())];
    let outcome = agent.run(Exec { env, ..exec(1, r#"printf '%s|' "$HOME" "$X" "$LANG" "$TERM""#) });
    assert_eq!(outcome.stdout, b"/h|a b\n|C.UTF-8|dumb|");
}

#[test]
fn the_working_directory_is_the_one_that_was_asked_for() {
    let agent = Agent::start();
    let directory = agent.path("work");
    assert_eq!(agent.run(exec(1, "pwd")).stdout, b"/\n");

    let missing = failure(&agent, in_directory(2, "pwd", &directory));
    assert_eq!((missing.stage, missing.errno), (Stage::Cwd, ENOENT));

    let nested = directory.join("deep");
    let outcome = agent.run(Exec { create_cwd: true, ..in_directory(3, "pwd", &nested) });
    assert_eq!(outcome.stdout, format!("{}\n", nested.display()).into_bytes());

    let file = nested.join("file");
    std::fs::write(&file, "").unwrap();
    let not_a_directory = failure(&agent, in_directory(4, "pwd", &file));
    assert_eq!((not_a_directory.stage, not_a_directory.errno), (Stage::Cwd, ENOTDIR));

    let relative = failure(&agent, in_directory(5, "pwd", Path::new("tmp")));
    assert_eq!((relative.stage, relative.errno), (Stage::Cwd, EINVAL));
}

#[test]
fn a_missing_shell_is_not_an_exit() {
    let agent = Agent::start_without_shell();
    let failed = failure(&agent, exec(1, "true"));
    assert_eq!((failed.stage, failed.errno), (Stage::Spawn, ENOENT));
}

#[test]
fn what_cannot_be_started_never_ran() {
    let agent = Agent::start();
    let too_long = failure(&agent, exec(1, &"x".repeat(200_000)));
    assert_eq!((too_long.stage, too_long.errno), (Stage::Spawn, E2BIG));
    let with_nul = failure(&agent, exec(2, "echo a\0b"));
    assert_eq!((with_nul.stage, with_nul.errno), (Stage::Spawn, EINVAL));
}

/// A host that lost the answer sends the number again. The command must not run again.
#[test]
fn a_number_runs_once() {
    let agent = Agent::start();
    let trace = agent.path("trace");
    let command = format!("echo ran >> {}; echo out; exit 3", trace.display());
    drop(agent.started(1, &command));
    let again = agent.exec(exec(1, &command)).outcome();
    assert_eq!((again.stdout.as_slice(), again.exited.status), (&b"out\n"[..], ExitStatus::Code(3)));
    // What was acknowledged is gone; the exit is not.
    let exited = again.exited;
    let mut third = agent.exec(exec(1, "echo else"));
    assert!(matches!(third.expect(), GuestFrame::Exited(known) if known == exited));
    assert_eq!(std::fs::read_to_string(trace).unwrap(), "ran\n");
}

/// A failure is kept like an exit, so that a repeated number does not run after all.
#[test]
fn a_failed_number_stays_failed() {
    let agent = Agent::start();
    let directory = agent.path("later");
    let request = in_directory(1, "pwd", &directory);
    let mut link = agent.exec(request.clone());
    assert!(matches!(link.expect(), GuestFrame::Failed(_)));
    drop(link);
    std::fs::create_dir(&directory).unwrap();
    assert!(matches!(agent.exec(request).expect(), GuestFrame::Failed(_)));
}

#[test]
fn a_kill_ends_the_command() {
    let agent = Agent::start();
    let mut link = agent.started(1, "sleep 1000");
    link.send(&HostFrame::Kill);
    assert_eq!(link.outcome().exited.status, ExitStatus::Signal(9));
}

/// The order may come before there is a process to kill.
#[test]
fn a_kill_with_the_command_ends_it() {
    let agent = Agent::start();
    let mut link = agent.exec(exec(1, "sleep 1000"));
    link.send(&HostFrame::Kill);
    assert_eq!(link.outcome().exited.status, ExitStatus::Signal(9));
}

/// The first command ends only when the second has run.
#[test]
fn commands_run_at_the_same_time() {
    let agent = Agent::start();
    let lifeline = agent.lifeline();
    let mut first = agent.started(1, &format!("cat {}", lifeline.path().display()));
    agent.run(exec(2, &format!("echo go > {}", lifeline.path().display())));
    assert_eq!(first.outcome().stdout, b"go\n");
}

/// Catches an agent that is short of descriptors, and commands that inherit as many as it has: programs that use `select` or
/// go through all that they may have.
#[test]
fn the_agent_has_more_descriptors_than_its_commands() {
    let agent = Agent::start_with_few_descriptors();
    let _running: Vec<_> = (1..=40).map(|op| agent.exec(exec(op, "sleep 1000"))).collect();
    let outcome = agent.exec(exec(41, "ulimit -S -n")).outcome();
    assert_eq!((outcome.stdout.as_slice(), outcome.exited.status), (&b"1024\n"[..], ExitStatus::Code(0)));
}
