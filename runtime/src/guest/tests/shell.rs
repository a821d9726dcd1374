//! Shells: input, what the agent says of it, and agents that know no shells.

use std::time::Duration;

use bytes::Bytes;
use pyro_core::ExitStatus;
use pyro_protocol::{
    Attach, Generation, GuestFrame, HostFrame, INPUT_DATA_MAX, INPUT_HELD_MAX, Input, InputProgress, Shell,
    Started, TerminalSize,
};
use tempfile::TempDir;

use super::{Agent, command, exited, guest, output};
use crate::guest::{Guest, GuestError, Observation, Operation, ShellSpec};

const SIZE: TerminalSize = TerminalSize { columns: 120, rows: 30 };

fn spec() -> ShellSpec {
    ShellSpec { op: 1 << 63, cwd: "/workspace".to_owned(), create_cwd: true, size: SIZE, env: Vec::new() }
}

fn progress(received: u64, consumed: u64) -> GuestFrame {
    GuestFrame::InputProgress(InputProgress { received, consumed })
}

fn input(offset: u64, data: &[u8]) -> HostFrame {
    HostFrame::Input(Input { offset, data: Bytes::copy_from_slice(data) })
}

impl Agent {
    /// Takes a connection up to the point where a shell runs that has taken no input over it.
    async fn start_shell(&mut self, received: u64) {
        self.welcome_second().await;
        assert!(matches!(self.receive().await, HostFrame::Shell(_) | HostFrame::Attach(_)));
        self.send(GuestFrame::Started(Started { pid: 42 })).await;
        self.send(progress(received, received)).await;
    }
}

/// Opens a shell and takes in that it runs.
async fn open(guest: &Guest) -> Operation {
    let mut operation = guest.open_shell(spec()).await.unwrap();
    assert_eq!(operation.next().await.unwrap(), Observation::Started { pid: 42 });
    assert_eq!(operation.next().await.unwrap(), Observation::Input { received: 0, consumed: 0 });
    operation
}

/// Returns the error that a shell's connection ends with when its guest sends these frames once it has been given
/// three bytes of input.
async fn breach(frames: Vec<GuestFrame>) -> GuestError {
    let (_dir, guest) = guest(move |mut agent| {
        let frames = frames.clone();
        async move {
            agent.start_shell(0).await;
            agent.receive().await;
            for frame in frames {
                agent.send(frame).await;
            }
            agent.stay_silent().await;
        }
    });
    let mut operation = open(&guest).await;
    operation.input(0, b"abc").unwrap();
    loop {
        if let Err(error) = operation.next().await {
            return error;
        }
    }
}

/// Catches orders that do not get to the agent, or get there in another order than they were given.
#[tokio::test]
async fn a_shell_is_opened_typed_into_and_ended() {
    let (_dir, guest) = guest(|mut agent| async move {
        agent.welcome_second().await;
        let ShellSpec { op, cwd, create_cwd, size, env } = spec();
        assert_eq!(agent.receive().await, HostFrame::Shell(Shell { op, cwd, create_cwd, env, size }));
        agent.send(GuestFrame::Started(Started { pid: 42 })).await;
        agent.send(progress(0, 0)).await;
        assert_eq!(agent.receive().await, input(0, b"ls\n"));
        let resized = TerminalSize { columns: 80, rows: 24 };
        assert_eq!(agent.receive().await, HostFrame::Resize(resized));
        assert_eq!(agent.receive().await, HostFrame::Signal { signal: 2 });
        assert_eq!(agent.receive().await, HostFrame::HangUp { grace_ms: 5000 });
        agent.send(progress(3, 1)).await;
        agent.send(output(0, b"ls\r\n")).await;
        agent.send(exited(4)).await;
        assert_eq!(agent.receive().await, HostFrame::Forget);
        agent.send(GuestFrame::Done).await;
    });
    let mut operation = open(&guest).await;
    operation.input(0, b"ls\n").unwrap();
    operation.resize(TerminalSize { columns: 80, rows: 24 }).unwrap();
    operation.signal(2).unwrap();
    operation.hang_up(Duration::from_secs(5)).unwrap();
    assert_eq!(operation.next().await.unwrap(), Observation::Input { received: 3, consumed: 1 });
    assert!(matches!(operation.next().await.unwrap(), Observation::Output { offset: 0, .. }));
    let Observation::Exited { status, stdout_len, .. } = operation.next().await.unwrap() else {
        panic!("it ended")
    };
    assert_eq!((status, stdout_len), (ExitStatus::Code(0), 4));
    operation.input(3, b"too late").unwrap();
    operation.forget().await.unwrap();
}

/// Catches bytes that are doubled or lost when a second connection stands elsewhere than the first.
#[tokio::test]
async fn after_an_attach_only_what_is_missing_is_typed() {
    let (_dir, guest) = guest(|mut agent| async move {
        agent.welcome_second().await;
        let attach = Attach { op: 1 << 63, stdout_offset: 7, stderr_offset: 0 };
        assert_eq!(agent.receive().await, HostFrame::Attach(attach));
        agent.send(GuestFrame::Started(Started { pid: 42 })).await;
        agent.send(progress(2, 1)).await;
        assert_eq!(agent.receive().await, input(2, b"cdef"));
        agent.send(progress(6, 6)).await;
        agent.stay_silent().await;
    });
    let mut operation = guest.attach_shell(1 << 63, 7, 4).await.unwrap();
    operation.next().await.unwrap();
    operation.input(0, b"abcd").unwrap();
    assert_eq!(operation.next().await.unwrap(), Observation::Input { received: 2, consumed: 1 });
    operation.input(0, b"abcdef").unwrap();
    operation.input(2, b"cdef").unwrap();
    assert_eq!(operation.next().await.unwrap(), Observation::Input { received: 6, consumed: 6 });
}

/// Catches a host that floods an agent whose job does not read: the agent would end the connection.
#[tokio::test]
async fn a_job_that_does_not_read_is_given_no_more_than_its_agent_holds() {
    let (_dir, guest) = guest(|mut agent| async move {
        agent.start_shell(0).await;
        let mut received = 0;
        while received < INPUT_HELD_MAX as u64 {
            let HostFrame::Input(input) = agent.receive().await else { panic!("input was due") };
            assert!(input.offset == received && input.data.len() <= INPUT_DATA_MAX);
            received += input.data.len() as u64;
        }
        assert_eq!(received, INPUT_HELD_MAX as u64);
        agent.send(progress(received, 1)).await;
        assert_eq!(agent.receive().await, input(received, b"x"));
        agent.send(exited(0)).await;
    });
    let mut operation = open(&guest).await;
    let data = vec![b'x'; INPUT_HELD_MAX + 1];
    operation.input(0, &data).unwrap();
    let told = operation.next().await.unwrap();
    assert_eq!(told, Observation::Input { received: INPUT_HELD_MAX as u64, consumed: 1 });
    operation.input(0, &data).unwrap();
    assert!(matches!(operation.next().await.unwrap(), Observation::Exited { .. }));
}

#[tokio::test]
async fn what_is_said_of_the_input_must_be_possible() {
    for frames in [
        vec![progress(3, 3), progress(2, 2)],
        vec![progress(3, 2), progress(3, 1)],
        vec![progress(2, 3)],
        vec![progress(4, 0)],
        vec![progress(u64::MAX, 0)],
    ] {
        let error = breach(frames.clone()).await;
        assert!(matches!(error, GuestError::Protocol(_)), "{frames:?}: {error}");
    }
}

#[tokio::test]
async fn a_command_takes_no_input() {
    let (_dir, guest) = guest(|mut agent| async move {
        agent.start().await;
        agent.send(progress(0, 0)).await;
        agent.stay_silent().await;
    });
    let mut operation = guest.exec(command()).await.unwrap();
    operation.next().await.unwrap();
    operation.input(0, b"nobody reads it").unwrap();
    assert!(operation.next().await.unwrap_err().is_breach());
}

/// Catches an operation that ended while no host was there and is taken for a broken one.
#[tokio::test]
async fn what_has_ended_before_an_attach_is_told_without_a_start() {
    let (_dir, guest) = guest(|mut agent| async move {
        agent.welcome_second().await;
        let HostFrame::Attach(attach) = agent.receive().await else { panic!("an attach was due") };
        if attach.op == 1 {
            agent.send(output(attach.stdout_offset, b"rest")).await;
        }
        agent.send(exited(attach.stdout_offset + if attach.op == 1 { 4 } else { 0 })).await;
        agent.stay_silent().await;
    });
    let mut operation = guest.attach(1, 5, 0).await.unwrap();
    assert!(matches!(operation.next().await.unwrap(), Observation::Output { offset: 5, .. }));
    assert!(matches!(operation.next().await.unwrap(), Observation::Exited { stdout_len: 9, .. }));
    let mut operation = guest.attach_shell(2, 5, 0).await.unwrap();
    assert!(matches!(operation.next().await.unwrap(), Observation::Exited { stdout_len: 5, .. }));
}

/// Returns a guest whose agent speaks only the first generation and answers every request with `Done`.
fn old_guest() -> (TempDir, Guest) {
    guest(|mut agent| async move {
        agent.welcome().await;
        loop {
            match agent.receive().await {
                HostFrame::Ping => agent.send(GuestFrame::Pong).await,
                HostFrame::Shutdown => agent.send(GuestFrame::Done).await,
                frame => panic!("an agent of generation {} does not know {frame:?}", Generation::FIRST),
            }
        }
    })
}

/// Catches frames that an agent of before an update does not know: it would end the connection.
#[tokio::test]
async fn an_agent_without_shells_is_too_old_and_can_still_be_ended() {
    let (_dir, guest) = old_guest();
    guest.ping().await.unwrap();
    for result in [guest.open_shell(spec()).await, guest.attach_shell(1, 0, 0).await] {
        let error = result.unwrap_err();
        assert!(matches!(error, GuestError::TooOld { .. }) && !error.is_breach(), "{error}");
        assert!(error.to_string().contains("too old for shells; stop and start the workspace"), "{error}");
    }
    guest.terminate(Duration::from_secs(10)).await.unwrap();
}

#[tokio::test]
async fn a_gentle_end_has_its_grace_period() {
    let (_dir, guest) = guest(|mut agent| async move {
        agent.welcome_second().await;
        assert_eq!(agent.receive().await, HostFrame::Terminate { grace_ms: 10_000 });
        agent.send(GuestFrame::Done).await;
    });
    guest.terminate(Duration::from_secs(10)).await.unwrap();
}
