//! Connections: the greeting, short questions, and what is not allowed.

use pyro_protocol::{
    Ack, ExitStatus, Failed, Frame as _, Generation, GenerationRange, GuestFrame, Hello, HostFrame,
    OPERATIONS_MAX, Phase, Refusal, Stage, Stream, Welcome,
};
use rustix::process::Signal;

use crate::host::{Agent, Link, exec};

fn welcome(agent: &Agent) -> (Link, Welcome) {
    let mut link = agent.dial();
    match link.ask(&HostFrame::Hello(Hello { generations: GenerationRange::SUPPORTED })) {
        GuestFrame::Welcome(welcome) => (link, welcome),
        other => panic!("{other:?} is no welcome"),
    }
}

#[test]
fn a_boot_id_is_that_of_one_agent() {
    let (first, second) = (Agent::start(), Agent::start());
    let (_link, welcome_by_first) = welcome(&first);
    assert_eq!(welcome_by_first.generation, GenerationRange::SUPPORTED.max);
    assert_eq!(welcome(&first).1.boot_id, welcome_by_first.boot_id);
    assert_ne!(welcome(&second).1.boot_id, welcome_by_first.boot_id);
}

#[test]
fn a_host_of_another_generation_is_refused() {
    let agent = Agent::start();
    let mut link = agent.dial();
    let future = GenerationRange { min: Generation(40_000), max: Generation(u16::MAX) };
    let refused = link.ask(&HostFrame::Hello(Hello { generations: future }));
    assert_eq!(refused, GuestFrame::Refused(Refusal::Generation { supported: GenerationRange::SUPPORTED }));
    assert_eq!(link.next(), None);
}

#[test]
fn short_questions_share_a_connection() {
    let agent = Agent::start();
    let mut link = agent.connect();
    assert_eq!(link.ask(&HostFrame::Ping), GuestFrame::Pong);
    assert_eq!(link.ask(&HostFrame::Operations), GuestFrame::Operations(vec![]));
    assert_eq!(link.ask(&HostFrame::Ping), GuestFrame::Pong);
}

#[test]
fn the_journal_names_every_operation_with_its_phase() {
    let agent = Agent::start();
    let mut finished = agent.exec(exec(7, "printf abc; exit 4"));
    let outcome = finished.outcome();
    let missing = pyro_protocol::Exec { cwd: Some("/no/such/directory".to_owned()), ..exec(5, "true") };
    assert!(matches!(agent.exec(missing).expect(), GuestFrame::Failed(_)));
    let _running = agent.started(6, "sleep 1000");

    let operations = agent.operations();
    assert_eq!(operations.iter().map(|operation| operation.op).collect::<Vec<_>>(), [5, 6, 7]);
    assert!(matches!(operations[0].phase, Phase::Failed(Failed { stage: Stage::Cwd, .. })));
    assert!(matches!(operations[1].phase, Phase::Running(_)));
    assert_eq!(operations[2].phase, Phase::Exited(outcome.exited));
    assert_eq!(operations[2].stdout.end, 3);

    finished.forget();
    let left: Vec<_> = agent.operations().iter().map(|operation| operation.op).collect();
    assert_eq!(left, [5, 6]);
}

#[test]
fn what_is_forgotten_is_unknown() {
    let agent = Agent::start();
    agent.run(exec(1, "true"));
    for op in [1, 99] {
        let mut link = agent.attach(op, 0, 0);
        assert_eq!(link.expect(), GuestFrame::UnknownOperation);
        assert_eq!(link.next(), None);
    }
}

/// Catches a command that runs after the host has recorded that it never came: it was on its way on another connection.
#[test]
fn what_was_called_unknown_does_not_run_later() {
    let agent = Agent::start();
    let mut link = agent.attach(1, 0, 0);
    assert_eq!(link.expect(), GuestFrame::UnknownOperation);
    let mut late = agent.exec(exec(1, "true"));
    assert!(matches!(late.expect(), GuestFrame::Failed(Failed { stage: Stage::Admission, .. })));
    assert_eq!(agent.operations(), []);
    agent.run(exec(2, "true"));
}

/// A host that forgets nothing is refused in time, and its records are not dropped to make room.
#[test]
fn a_full_journal_refuses() {
    let agent = Agent::start();
    let most = u64::try_from(OPERATIONS_MAX).unwrap();
    for op in 0..most {
        drop(agent.started(op, "exit 9"));
    }
    let mut link = agent.exec(exec(most, "true"));
    assert!(matches!(link.expect(), GuestFrame::Failed(Failed { stage: Stage::Admission, .. })));
    assert_eq!(link.next(), None);

    let mut first = agent.attach(0, 0, 0);
    assert_eq!(first.outcome().exited.status, ExitStatus::Code(9));
    first.forget();
    assert_eq!(agent.run(exec(most, "exit 3")).exited.status, ExitStatus::Code(3));
}

/// Whatever breaks a rule costs the connection and nothing else.
#[test]
fn a_broken_rule_ends_the_connection_and_not_the_operation() {
    let agent = Agent::start();
    let _running = agent.started(1, "sleep 1000");
    let ack = |offset| HostFrame::Ack(Ack { stream: Stream::Stdout, offset });
    for frame in
        [HostFrame::Forget, HostFrame::Ping, HostFrame::Shutdown, ack(1), HostFrame::Exec(exec(2, "true"))]
    {
        let mut link = agent.attach(1, 0, 0);
        assert!(matches!(link.expect(), GuestFrame::Started(_)));
        link.send(&frame);
        assert_eq!(link.next(), None, "{frame:?}");
    }
    for frame in [HostFrame::Kill, HostFrame::Forget, ack(0)] {
        let mut link = agent.connect();
        link.send(&frame);
        assert_eq!(link.next(), None, "{frame:?}");
    }
    let mut link = agent.dial();
    link.send(&HostFrame::Ping);
    assert_eq!(link.next(), None, "a question before the greeting");
    let mut link = agent.connect();
    link.send_bytes(&u32::MAX.to_le_bytes());
    assert_eq!(link.next(), None, "a length beyond the limit");

    assert_eq!(agent.operations().len(), 1);
    assert!(matches!(agent.attach(1, 0, 0).expect(), GuestFrame::Started(_)));
}

#[test]
fn a_frame_may_arrive_byte_by_byte() {
    let agent = Agent::start();
    let mut link = agent.connect();
    let mut bytes = Vec::new();
    HostFrame::Exec(exec(1, "echo slow")).encode(&mut bytes).unwrap();
    for byte in bytes {
        link.send_bytes(&[byte]);
    }
    assert_eq!(link.outcome().stdout, b"slow\n");
}

#[test]
fn sigterm_ends_the_agent_in_order() {
    let mut agent = Agent::start();
    let mut link = agent.started(1, "sleep 1000");
    rustix::process::kill_process(agent.pid(), Signal::TERM).unwrap();
    assert_eq!(agent.wait().code(), Some(0));
    while link.next().is_some() {}
}

/// Descriptors that stay open with each operation would end the agent of a long-lived workspace.
#[test]
fn nothing_stays_open_behind_an_operation() {
    let agent = Agent::start();
    let open = || std::fs::read_dir(format!("/proc/{}/fd", agent.pid())).unwrap().count();
    let round = |op| {
        agent.run(exec(op, "echo a; echo b >&2"));
        let mut link = agent.attach(op, 0, 0);
        assert_eq!(link.expect(), GuestFrame::UnknownOperation);
        // The agent closes its end before the host sees the end of the stream.
        assert_eq!(link.next(), None);
        open()
    };
    let first = (0..10).map(round).max();
    let last = (10..60).map(round).min();
    assert!(last <= first, "{last:?} descriptors are open in place of {first:?}");
}
