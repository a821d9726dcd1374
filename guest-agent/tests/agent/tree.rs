//! Process trees: ended whole, however their members detached themselves.

use std::io::Read as _;
use std::time::{Duration, Instant};

use pyro_protocol::{Exec, ExitStatus, HostFrame};
use rustix::process::{Pid, Signal};

use crate::host::{Agent, Lifeline, exec, released};

/// What a timeout may take beyond its time, as the protocol's users expect it.
const GRACE: Duration = Duration::from_secs(1);

/// Runs the command, in which `$L` is a lifeline, with a timeout, and checks that nothing of it is left.
fn assert_timeout_ends(command: &str) {
    let agent = Agent::start();
    let lifeline = agent.lifeline();
    let timeout = Duration::from_millis(700);
    let timeout_ms = u64::try_from(timeout.as_millis()).expect("less than a second");
    let mut link = agent.exec(Exec { timeout_ms, ..exec(1, &with_lifeline(command, &lifeline)) });
    let lifeline = lifeline.held();
    let start = Instant::now();
    let outcome = link.outcome();
    released(lifeline);
    assert_eq!(outcome.exited.status, ExitStatus::TimedOut, "{command}");
    assert_eq!(outcome.stdout, b"so far\n", "{command}");
    assert!(start.elapsed() < timeout + GRACE, "{command} took {:?}", start.elapsed());
    assert!(
        outcome.exited.duration_ms >= timeout_ms,
        "{command} ended after {} ms",
        outcome.exited.duration_ms
    );
}

/// Has every process of the command hold the lifeline.
fn with_lifeline(command: &str, lifeline: &Lifeline) -> String {
    format!("exec 9> {}; {command}", lifeline.path().display())
}

#[test]
fn a_timeout_ends_children_in_the_background() {
    assert_timeout_ends("echo so far; sleep 1000 & sleep 1000");
}

#[test]
fn a_timeout_ends_other_sessions() {
    assert_timeout_ends("echo so far; setsid sleep 1000 & setsid sh -c 'sleep 1000 & sleep 1000' & wait");
}

#[test]
fn a_timeout_ends_orphans() {
    assert_timeout_ends("(setsid sh -c '(sleep 1000 &) ; exit' &); (sleep 1000 &); echo so far; sleep 1000");
}

#[test]
fn a_timeout_ends_what_ignores_signals() {
    assert_timeout_ends("trap '' TERM INT HUP; echo so far; sh -c 'trap \"\" TERM; sleep 1000' & sleep 1000");
}

#[test]
fn a_timeout_ends_stopped_processes() {
    assert_timeout_ends("echo so far; sleep 1000 & kill -STOP $!; kill -STOP $$");
}

/// Each generation is gone before the next scan of `/proc` sees it.
#[test]
fn a_timeout_ends_what_forks_on_and_on() {
    assert_timeout_ends(
        "echo so far; f() { (f &) ; }; g() { while :; do (sleep 0.01 &); done; }; g & g & wait",
    );
}

/// A server that a command started is part of the workspace: it outlives the command, and its log must not kill it.
#[test]
fn children_in_the_background_live_on_without_their_output() {
    let agent = Agent::start();
    let lifeline = agent.lifeline();
    let go = agent.path("go");
    let path = (lifeline.path().display(), go.display());
    let server =
        format!("while [ ! -e {} ]; do sleep 0.01; done; echo to nobody; echo alive > {}", path.1, path.0);
    let outcome = agent.run(exec(1, &format!("({server}) & echo started")));
    assert_eq!((outcome.stdout.as_slice(), outcome.exited.status), (&b"started\n"[..], ExitStatus::Code(0)));
    std::fs::write(go, "").unwrap();
    assert_eq!(released(lifeline.held()), "alive\n");
}

/// A child in the background that writes without end must not keep the exit from being reported.
#[test]
fn a_noisy_child_does_not_delay_the_exit() {
    let agent = Agent::start();
    let outcome = agent.run(exec(1, "yes & echo started; exit 5"));
    assert_eq!(outcome.exited.status, ExitStatus::Code(5));
}

#[test]
fn a_kill_after_the_exit_ends_what_was_left_running() {
    let agent = Agent::start();
    let lifeline = agent.lifeline();
    let mut link = agent.exec(exec(1, &with_lifeline("setsid sleep 1000 & echo", &lifeline)));
    let lifeline = lifeline.held();
    link.outcome();
    link.send(&HostFrame::Kill);
    released(lifeline);
}

/// Also that of operations that are forgotten.
#[test]
fn a_shutdown_ends_everything() {
    let mut agent = Agent::start();
    let lifeline = agent.lifeline();
    let command = with_lifeline("trap '' TERM; setsid sleep 1000 & echo", &lifeline);
    let mut link = agent.exec(exec(1, &command));
    let left_running = lifeline.held();
    link.outcome();
    link.forget();
    let _running = agent.started(2, &with_lifeline("sleep 1000", &lifeline));
    assert_eq!(agent.connect().ask(&HostFrame::Shutdown), pyro_protocol::GuestFrame::Done);
    assert_eq!(agent.wait().code(), Some(0));
    // The agent waited for them: their end is here already.
    let mut left_running = left_running;
    rustix::io::ioctl_fionbio(&left_running, true).unwrap();
    assert_eq!(left_running.read(&mut [0; 1]).unwrap(), 0);
}

/// Nothing may survive an agent that is killed: the sandbox would be gone, and they would run on the host.
#[test]
fn the_death_of_the_agent_ends_everything() {
    let agent = Agent::start();
    let lifeline = agent.lifeline();
    let _link = agent.exec(exec(1, &with_lifeline("setsid sleep 1000 & sleep 1000", &lifeline)));
    let lifeline = lifeline.held();
    rustix::process::kill_process(agent.pid(), Signal::KILL).unwrap();
    released(lifeline);
}

/// The warden that waits for the next command is killed by a command that kills everybody, and may not yet be gone when it
/// is given that next command, which is not its victim's to lose.
#[test]
fn a_warden_that_dies_before_it_looks_at_its_job_is_replaced() {
    let agent = Agent::start();
    let _ready = agent.connect();
    let [spare] = wardens(&agent, 1)[..] else { panic!("one warden waits") };
    rustix::process::kill_process(spare, Signal::STOP).unwrap();
    while !std::fs::read_to_string(format!("/proc/{}/stat", spare.as_raw_pid())).unwrap().contains(") T ") {
        std::thread::yield_now();
    }
    let mut link = agent.exec(exec(1, &format!("echo ran >> {0}; cat {0}", agent.path("runs").display())));
    // The next one is made after the job was given.
    wardens(&agent, 2);
    rustix::process::kill_process(spare, Signal::KILL).unwrap();
    let outcome = link.outcome();
    assert_eq!((outcome.stdout.as_slice(), outcome.exited.status), (&b"ran\n"[..], ExitStatus::Code(0)));
}

/// Returns the children of the agent as soon as there are as many.
fn wardens(agent: &Agent, count: usize) -> Vec<Pid> {
    let path = format!("/proc/{0}/task/{0}/children", agent.pid().as_raw_pid());
    loop {
        let children = std::fs::read_to_string(&path).expect("an agent that lives");
        let pids = children.split_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?));
        let pids = pids.collect::<Vec<_>>();
        if pids.len() >= count {
            return pids;
        }
        std::thread::yield_now();
    }
}
