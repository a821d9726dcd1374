//! The end of a guest that gives its processes time.

use std::fs;
use std::time::{Duration, Instant};

use pyro_protocol::{ExitStatus, Failed, GuestFrame, HostFrame, Stage};

use crate::host::{Agent, exec, released};
use crate::screen::{Screen, shell};

/// More than any test may take: an agent that uses it up has failed.
const LONG_MS: u64 = 3_600_000;

/// How long an agent takes that does not use the grace up, on a loaded machine.
const SOON: Duration = Duration::from_secs(60);

/// Orders the end, and waits for it; returns how long it took.
fn terminate(agent: &mut Agent, grace_ms: u64) -> Duration {
    let start = Instant::now();
    assert_eq!(agent.connect().ask(&HostFrame::Terminate { grace_ms }), GuestFrame::Done);
    assert_eq!(agent.wait().code(), Some(0));
    start.elapsed()
}

/// Returns a command that says `ready`, and takes its time to write a file when it is asked to end. Its child says it, so
/// that nothing is started behind the order.
fn saving(file: &std::path::Path) -> String {
    format!("trap 'sleep 0.2; echo saved > {}; exit' TERM; {WAITING}", file.display())
}

/// A child that says `ready` and waits.
const WAITING: &str = "sh -c 'echo ready; exec sleep 1000'";

fn is_ready(link: &mut crate::host::Link) {
    assert!(matches!(link.expect(), GuestFrame::Output(_)));
}

#[test]
fn a_process_may_save_what_it_has() {
    let mut agent = Agent::start();
    let file = agent.path("file");
    is_ready(&mut agent.started(1, &saving(&file)));
    assert!(terminate(&mut agent, LONG_MS) < SOON);
    assert_eq!(fs::read_to_string(file).unwrap(), "saved\n");
}

/// Also one whose operation has exited and is forgotten.
#[test]
fn a_server_in_the_background_may_save_what_it_has() {
    let mut agent = Agent::start();
    let file = agent.path("file");
    let lifeline = agent.lifeline();
    let server = format!("exec > {}; {}", lifeline.path().display(), saving(&file));
    agent.run(exec(1, &format!("({server}) &")));
    let mut ready = [0; 6];
    std::io::Read::read_exact(&mut lifeline.held(), &mut ready).unwrap();
    assert!(terminate(&mut agent, LONG_MS) < SOON);
    assert_eq!(fs::read_to_string(file).unwrap(), "saved\n");
}

#[test]
fn a_stopped_process_may_save_what_it_has() {
    let mut agent = Agent::start();
    let file = agent.path("file");
    let command = format!("trap 'echo saved > {}; exit' TERM; echo ready; kill -STOP $$", file.display());
    let mut link = agent.exec(exec(1, &command));
    let GuestFrame::Started(started) = link.expect() else { panic!("it does not run") };
    is_ready(&mut link);
    let stat = format!("/proc/{}/stat", started.pid);
    while !fs::read_to_string(&stat).unwrap().contains(") T ") {
        std::thread::yield_now();
    }
    assert!(terminate(&mut agent, LONG_MS) < SOON);
    assert_eq!(fs::read_to_string(file).unwrap(), "saved\n");
}

#[test]
fn what_ignores_the_order_is_killed_after_the_grace() {
    let mut agent = Agent::start();
    let mut link = agent.started(1, &format!("trap '' TERM; {WAITING}; exit 3"));
    is_ready(&mut link);
    let took = terminate(&mut agent, 500);
    assert!((Duration::from_millis(500)..SOON).contains(&took), "it took {took:?}");
    while link.next().is_some() {}
}

/// A shell of people ignores SIGTERM.
#[test]
fn an_idle_shell_does_not_use_the_grace_up() {
    let mut agent = Agent::start();
    let idle = Screen::ready(&agent, 1);
    let mut busy = Screen::ready(&agent, 2);
    busy.line("sh -c 'echo re''ady; exec cat'");
    busy.until("ready");
    assert!(terminate(&mut agent, LONG_MS) < SOON);
    drop(idle);
}

#[test]
fn an_idle_agent_ends_at_once() {
    let mut agent = Agent::start();
    agent.run(exec(1, "true"));
    assert!(terminate(&mut agent, LONG_MS) < SOON);
}

#[test]
fn a_shutdown_ends_the_grace() {
    let mut agent = Agent::start();
    is_ready(&mut agent.started(1, &format!("trap '' TERM; {WAITING}")));
    for _ in 0..2 {
        let order = HostFrame::Terminate { grace_ms: LONG_MS };
        assert_eq!(agent.connect().ask(&order), GuestFrame::Done);
    }
    assert_eq!(agent.connect().ask(&HostFrame::Shutdown), GuestFrame::Done);
    assert_eq!(agent.wait().code(), Some(0));
}

/// The host sees how its commands end; it cannot start more, which would not get their time.
#[test]
fn the_host_is_served_during_the_grace() {
    let agent = Agent::start();
    let lifeline = agent.lifeline();
    let _stays = agent.started(1, &format!("trap '' TERM; echo > {}; sleep 1000", lifeline.path().display()));
    released(lifeline.held());
    let mut ends = agent.started(2, &format!("exec 2> /dev/null; trap 'echo ended; exit 4' TERM; {WAITING}"));
    is_ready(&mut ends);
    assert_eq!(agent.connect().ask(&HostFrame::Terminate { grace_ms: LONG_MS }), GuestFrame::Done);
    let GuestFrame::Output(last) = ends.expect() else { panic!("no output") };
    assert_eq!(&last.data[..], b"ended\n");
    assert!(matches!(ends.expect(), GuestFrame::Exited(exited) if exited.status == ExitStatus::Code(4)));

    for frame in [HostFrame::Exec(exec(3, "true")), HostFrame::Shell(shell(4))] {
        let refused = agent.connect().ask(&frame);
        assert!(matches!(refused, GuestFrame::Failed(Failed { stage: Stage::Admission, .. })), "{refused:?}");
    }
    assert_eq!(agent.operations().len(), 2);
}

/// The last that a process has to say, and how it ended, must not be lost with the agent.
#[test]
fn the_host_is_told_how_all_ended() {
    for _ in 0..20 {
        let mut agent = Agent::start();
        let mut command =
            agent.started(1, &format!("exec 2> /dev/null; trap 'seq 1000; exit 4' TERM; {WAITING}"));
        is_ready(&mut command);
        let mut idle = Screen::ready(&agent, 2);
        assert!(terminate(&mut agent, LONG_MS) < SOON);
        let mut last = vec![];
        let exited = loop {
            match command.expect() {
                GuestFrame::Output(output) => last.extend_from_slice(&output.data),
                GuestFrame::Exited(exited) => break exited,
                other => panic!("{other:?} in place of output or exit"),
            }
        };
        assert!(exited.status == ExitStatus::Code(4) && last.ends_with(b"\n1000\n"));
        // The agent is gone: nothing can be acknowledged.
        let exited = std::iter::repeat_with(|| idle.step(false)).find_map(|exited| exited);
        assert_eq!(exited.expect("an exit").status, ExitStatus::Signal(1));
    }
}
