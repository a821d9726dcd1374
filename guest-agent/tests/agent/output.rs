//! Output: kept until acknowledged, never lost, never doubled.

use pyro_protocol::{
    ExitStatus, GuestFrame, HostFrame, OUTPUT_DATA_MAX, Phase, Refusal, STREAM_RETAINED_MAX, Stream,
};

use crate::host::{Agent, Link, exec};

/// A line whose length is prime, so that no buffer size divides the pattern.
const LINE: &[u8] = b"0123456789abcdef\n";

/// Returns a command that writes so many bytes of the pattern to stdout.
fn pattern(bytes: usize) -> String {
    format!("yes 0123456789abcdef | head -c {bytes}")
}

fn assert_pattern(offset: u64, data: &[u8]) {
    let start = usize::try_from(offset % LINE.len() as u64).expect("a small number");
    let differs = data.iter().zip(LINE.iter().cycle().skip(start)).position(|(got, wanted)| got != wanted);
    assert_eq!(differs, None, "the data at offset {offset} is not the pattern");
}

/// Takes stdout from `*next` on until it has at least `until` bytes; returns the exit if it comes.
fn take(link: &mut Link, next: &mut u64, until: u64, acknowledge: bool) -> Option<pyro_protocol::Exited> {
    while *next < until {
        match link.expect() {
            GuestFrame::Started(_) => {}
            GuestFrame::Output(output) => {
                assert!(output.data.len() <= OUTPUT_DATA_MAX);
                assert_eq!(
                    (output.stream, output.offset),
                    (Stream::Stdout, *next),
                    "bytes are lost or doubled"
                );
                assert_pattern(output.offset, &output.data);
                *next += output.data.len() as u64;
                if acknowledge {
                    link.ack(Stream::Stdout, *next);
                }
            }
            GuestFrame::Exited(exited) => return Some(exited),
            other => panic!("{other:?} in place of output or exit"),
        }
    }
    None
}

#[test]
fn a_large_stream_arrives_whole() {
    const BYTES: usize = 50_000_000;
    let agent = Agent::start();
    let mut link = agent.exec(exec(1, &pattern(BYTES)));
    let mut next = 0;
    let exited = take(&mut link, &mut next, u64::MAX, true).expect("an exit");
    assert_eq!((next, exited.stdout_len), (BYTES as u64, BYTES as u64));
    assert_eq!(exited.status, ExitStatus::Code(0));
}

/// Without acknowledgements the agent keeps what fits, and the command waits. Nothing is dropped to go on.
#[test]
fn a_full_buffer_stops_the_command() {
    const BYTES: usize = 3 * STREAM_RETAINED_MAX;
    let agent = Agent::start();
    let mut link = agent.exec(exec(1, &pattern(BYTES)));
    let mut next = 0;
    take(&mut link, &mut next, STREAM_RETAINED_MAX as u64, false);
    assert_eq!(next, STREAM_RETAINED_MAX as u64);
    let operations = agent.operations();
    assert!(matches!(operations[0].phase, Phase::Running(_)));
    assert_eq!((operations[0].stdout.start, operations[0].stdout.end), (0, next));

    link.ack(Stream::Stdout, next);
    let exited = take(&mut link, &mut next, u64::MAX, true).expect("an exit");
    assert_eq!((next, exited.stdout_len), (BYTES as u64, BYTES as u64));
}

/// An exit is not reported before what the command left in its pipe is kept, which may have to wait for the host.
#[test]
fn the_exit_comes_after_all_output() {
    let bytes = STREAM_RETAINED_MAX + 100_000;
    let agent = Agent::start();
    let mut link = agent.exec(exec(1, &pattern(bytes)));
    let mut next = 0;
    take(&mut link, &mut next, STREAM_RETAINED_MAX as u64, false);
    link.ack(Stream::Stdout, next);
    assert!(take(&mut link, &mut next, u64::MAX, false).is_some());
    assert_eq!(next, bytes as u64);
}

/// The host dies again and again, each time with less on its disk than it had received.
#[test]
fn a_stream_is_continued_after_each_loss_of_the_host() {
    const BYTES: u64 = 20_000_000;
    let agent = Agent::start();
    let mut durable = 0;
    let mut link = agent.exec(exec(1, &pattern(20_000_000)));
    for round in 1.. {
        let mut next = durable;
        let until = durable + (100_000 * round).min(STREAM_RETAINED_MAX as u64);
        take(&mut link, &mut next, until, false);
        durable += (next - durable) * 2 / 3;
        link.ack(Stream::Stdout, durable);
        if durable > BYTES - 200_000 {
            break;
        }
        // Frames that are on their way, in both directions, die with the connection.
        link = agent.attach(1, durable, 0);
    }
    let mut link = agent.attach(1, durable, 0);
    let exited = take(&mut link, &mut durable, u64::MAX, true).expect("an exit");
    assert_eq!((durable, exited.stdout_len), (BYTES, BYTES));
}

#[test]
fn output_waits_for_a_host_that_was_away() {
    let agent = Agent::start();
    let lifeline = agent.lifeline();
    drop(agent.started(1, &format!("echo before; cat {}; echo after >&2", lifeline.path().display())));
    std::fs::write(lifeline.path(), "meanwhile\n").unwrap();
    let outcome = agent.attach(1, 0, 0).outcome();
    assert_eq!(outcome.stdout, b"before\nmeanwhile\n");
    assert_eq!(outcome.stderr, b"after\n");
}

#[test]
fn the_newest_connection_follows() {
    let agent = Agent::start();
    let mut first = agent.started(1, "sleep 1000");
    let mut second = agent.attach(1, 0, 0);
    assert!(matches!(second.expect(), GuestFrame::Started(_)));
    assert_eq!(first.next(), None);
    second.send(&HostFrame::Kill);
    assert_eq!(second.outcome().exited.status, ExitStatus::Signal(9));
    // Also one that has been sent everything.
    let mut third = agent.attach(1, 0, 0);
    assert!(matches!(third.expect(), GuestFrame::Exited(_)));
    assert_eq!(second.next(), None);
}

/// What was acknowledged is gone: the host sees by the offset that it asked for more than there is.
#[test]
fn an_attach_before_what_is_kept_shows_the_gap() {
    let agent = Agent::start();
    let mut link = agent.started(1, "printf 0123456789; sleep 1000");
    let GuestFrame::Output(output) = link.expect() else { panic!("no output") };
    assert_eq!(output.data.len(), 10);
    link.ack(Stream::Stdout, 4);
    // Acknowledgements and orders are served in their order: after the exit the bytes are gone.
    link.send(&HostFrame::Kill);
    assert!(matches!(link.expect(), GuestFrame::Exited(_)));
    let mut link = agent.attach(1, 0, 0);
    let GuestFrame::Output(output) = link.expect() else { panic!("no output") };
    assert_eq!((output.offset, &output.data[..]), (4, &b"456789"[..]));
}

#[test]
fn a_host_that_claims_more_than_was_written_is_refused() {
    let agent = Agent::start();
    let mut link = agent.exec(exec(1, "printf x"));
    link.outcome();
    let mut link = agent.attach(1, 2, 0);
    assert_eq!(link.expect(), GuestFrame::Refused(Refusal::OffsetBeyondEnd));
    assert_eq!(link.next(), None);
    assert!(matches!(agent.attach(1, 1, 0).expect(), GuestFrame::Exited(_)));
}

/// A connection whose host reads nothing must not hold up the others.
#[test]
fn a_stalled_host_delays_nobody() {
    let agent = Agent::start();
    let stalled = agent.exec(exec(1, &pattern(5_000_000)));
    assert_eq!(agent.run(exec(2, "echo fine")).stdout, b"fine\n");
    drop(stalled);
    assert_eq!(agent.attach(1, 0, 0).outcome().stdout.len(), 5_000_000);
}

/// One stream that is not taken must not hold up the other.
#[test]
fn the_streams_are_independent() {
    let bytes = STREAM_RETAINED_MAX + 1;
    let agent = Agent::start();
    let mut link = agent.exec(exec(1, &format!("head -c {bytes} /dev/zero >&2 & echo out; wait")));
    let mut taken = [0_usize; 2];
    while taken != [4, STREAM_RETAINED_MAX] {
        if let GuestFrame::Output(output) = link.expect() {
            taken[crate::host::index(output.stream)] += output.data.len();
        }
    }
    link.ack(Stream::Stderr, 1);
    loop {
        match link.expect() {
            GuestFrame::Output(output) => taken[crate::host::index(output.stream)] += output.data.len(),
            GuestFrame::Exited(exited) => break assert_eq!(exited.stderr_len, bytes as u64),
            other => panic!("{other:?} in place of output or exit"),
        }
    }
    assert_eq!(taken, [4, bytes]);
}
