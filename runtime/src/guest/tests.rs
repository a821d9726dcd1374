//! The host's end against agents that are scripted, most of them hostile.

mod files;
mod hostile;
mod import;
mod journal;
mod reach;
mod shell;

use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use pyro_core::ExitStatus;
use pyro_protocol::{
    Ack, BootId, Decoder, Exited, Failed, Frame as _, Generation, GenerationRange, GuestFrame, HostFrame,
    InputProgress, OPERATIONS_MAX, Operation as KeptOperation, Output, Phase, Refusal, Retained, Stage,
    Started, Stream, Welcome,
};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::advance;

use super::*;

const BOOT_ID: BootId = BootId([7; 16]);

/// The guest's end of one connection.
struct Agent {
    stream: UnixStream,
    decoder: Decoder<HostFrame>,
}

impl Agent {
    async fn receive(&mut self) -> HostFrame {
        loop {
            if let Some(frame) = self.decoder.next_frame().unwrap() {
                return frame;
            }
            let read = self.stream.read_buf(self.decoder.buffer()).await.unwrap();
            assert_ne!(read, 0, "the host closed the connection");
        }
    }

    async fn send(&mut self, frame: GuestFrame) {
        let mut bytes = Vec::new();
        frame.encode(&mut bytes).unwrap();
        self.send_bytes(&bytes).await;
    }

    /// Sends, whether or not the host still listens: it hangs up on agents like these.
    async fn send_bytes(&mut self, bytes: &[u8]) {
        drop(self.stream.write_all(bytes).await);
    }

    async fn welcome(&mut self) {
        self.welcome_as(BOOT_ID).await;
    }

    async fn welcome_as(&mut self, boot_id: BootId) {
        assert!(matches!(self.receive().await, HostFrame::Hello(_)));
        self.send(welcome(Generation::FIRST, boot_id)).await;
    }

    async fn welcome_second(&mut self) {
        assert!(matches!(self.receive().await, HostFrame::Hello(_)));
        self.send(welcome(Generation::SECOND, BOOT_ID)).await;
    }

    /// Takes a connection up to the point where a command runs.
    async fn start(&mut self) {
        self.welcome().await;
        assert!(matches!(self.receive().await, HostFrame::Exec(_) | HostFrame::Attach(_)));
        self.send(GuestFrame::Started(Started { pid: 42 })).await;
    }

    /// Keeps the connection open and says no more.
    async fn stay_silent(self) {
        std::future::pending::<()>().await;
        drop(self);
    }
}

fn welcome(generation: Generation, boot_id: BootId) -> GuestFrame {
    GuestFrame::Welcome(Welcome { generation, agent_version: "test".to_owned(), boot_id })
}

fn output(offset: u64, data: &'static [u8]) -> GuestFrame {
    GuestFrame::Output(Output { stream: Stream::Stdout, offset, data: Bytes::from_static(data) })
}

fn exited(stdout_len: u64) -> GuestFrame {
    let status = pyro_protocol::ExitStatus::Code(0);
    GuestFrame::Exited(Exited { status, duration_ms: 5, stdout_len, stderr_len: 0 })
}

/// Returns a guest whose agent treats each connection as the script says.
fn guest<F>(script: impl Fn(Agent) -> F + Send + 'static) -> (TempDir, Guest)
where
    F: Future<Output = ()> + Send + 'static,
{
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agent");
    let listener = UnixListener::bind(&path).unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(script(Agent { stream, decoder: Decoder::new() }));
        }
    });
    (dir, Guest::new(Transport::Unix { path }))
}

fn command() -> ExecSpec {
    ExecSpec {
        op: 3,
        command: "true".to_owned(),
        cwd: None,
        create_cwd: false,
        timeout: Duration::from_secs(2),
    }
}

/// Runs a command on an agent that behaves up to its start, and returns what is observed then.
async fn observe<F>(
    script: impl Fn(Agent) -> F + Clone + Send + 'static,
) -> Vec<Result<Observation, GuestError>>
where
    F: Future<Output = ()> + Send + 'static,
{
    let (_dir, guest) = guest(move |mut agent| {
        let script = script.clone();
        async move {
            agent.start().await;
            script(agent).await;
        }
    });
    let mut operation = guest.exec(command()).await.unwrap();
    assert_eq!(operation.next().await.unwrap(), Observation::Started { pid: 42 });
    let mut observed = Vec::new();
    loop {
        observed.push(operation.next().await);
        if matches!(observed.last(), Some(Err(_) | Ok(Observation::Exited { .. }))) {
            return observed;
        }
    }
}

/// Returns the error that a running command's connection ends with when the guest sends these frames.
async fn breach(frames: Vec<GuestFrame>) -> GuestError {
    let observed = observe(move |mut agent| {
        let frames = frames.clone();
        async move {
            for frame in frames {
                agent.send(frame).await;
            }
            agent.stay_silent().await;
        }
    })
    .await;
    observed.into_iter().find_map(Result::err).expect("the breach goes unnoticed")
}

#[tokio::test]
async fn a_command_is_followed_acknowledged_and_forgotten() {
    let (_dir, guest) = guest(|mut agent| async move {
        agent.start().await;
        agent.send(output(0, b"ab")).await;
        agent.send(output(2, b"c")).await;
        assert_eq!(agent.receive().await, HostFrame::Ack(Ack { stream: Stream::Stdout, offset: 3 }));
        agent.send(output(3, b"d")).await;
        assert_eq!(agent.receive().await, HostFrame::Kill);
        agent.send(exited(4)).await;
        assert_eq!(agent.receive().await, HostFrame::Forget);
        agent.send(GuestFrame::Done).await;
    });
    let mut operation = guest.exec(command()).await.unwrap();
    assert_eq!(operation.next().await.unwrap(), Observation::Started { pid: 42 });
    for (offset, data) in [(0, "ab"), (2, "c")] {
        let data = Bytes::from_static(data.as_bytes());
        assert_eq!(
            operation.next().await.unwrap(),
            Observation::Output { stream: Stream::Stdout, offset, data }
        );
    }
    operation.acknowledge(Stream::Stdout, 1);
    operation.acknowledge(Stream::Stdout, 3);
    let data = Bytes::from_static(b"d");
    let last = Observation::Output { stream: Stream::Stdout, offset: 3, data };
    assert_eq!(operation.next().await.unwrap(), last);
    operation.kill().unwrap();
    let exited =
        Observation::Exited { status: ExitStatus::Code(0), duration_ms: 5, stdout_len: 4, stderr_len: 0 };
    assert_eq!(operation.next().await.unwrap(), exited);
    operation.forget().await.unwrap();
}

#[tokio::test]
async fn a_command_that_never_ran_says_where_it_failed() {
    let (_dir, guest) = guest(|mut agent| async move {
        agent.welcome().await;
        agent.receive().await;
        let message = format!("/nowhere{}", "é".repeat(5000));
        agent.send(GuestFrame::Failed(Failed { stage: Stage::Cwd, errno: 2, message })).await;
    });
    let mut operation = guest.exec(command()).await.unwrap();
    let Observation::Failed(failure) = operation.next().await.unwrap() else { panic!("it failed") };
    assert_eq!((failure.stage, failure.errno), (Stage::Cwd, 2));
    assert!(failure.message.starts_with("/nowhere") && failure.message.len() <= 1024);
    assert!(failure.to_string().ends_with("No such file or directory (os error 2)"));
}

#[tokio::test]
async fn a_length_beyond_the_limit_is_refused_before_its_bytes_come() {
    let observed = observe(|mut agent| async move {
        agent.send_bytes(&[0xff, 0xff, 0xff, 0x7f, 0x85]).await;
        agent.stay_silent().await;
    })
    .await;
    assert!(matches!(observed[..], [Err(GuestError::Malformed(_))]), "{observed:?}");
}

#[tokio::test]
async fn an_unknown_kind_is_a_breach() {
    let observed = observe(|mut agent| async move {
        agent.send_bytes(&[1, 0, 0, 0, 0x7f]).await;
        agent.stay_silent().await;
    })
    .await;
    assert!(observed.last().unwrap().as_ref().is_err_and(GuestError::is_breach), "{observed:?}");
}

#[tokio::test]
async fn a_connection_that_ends_within_a_frame_has_ended() {
    let observed = observe(|mut agent| async move { agent.send_bytes(&[100, 0, 0, 0, 0x85, 1]).await }).await;
    assert!(matches!(observed[..], [Err(GuestError::Closed | GuestError::Broken(_))]), "{observed:?}");
}

#[tokio::test(start_paused = true)]
async fn a_frame_that_does_not_go_on_is_not_waited_for_for_ever() {
    let observed = observe(|mut agent| async move {
        agent.send_bytes(&[100, 0, 0, 0, 0x85, 1]).await;
        agent.stay_silent().await;
    })
    .await;
    let [Err(GuestError::Silent { what, .. })] = observed[..] else { panic!("{observed:?}") };
    assert_eq!(what, "the rest of a frame");
}

#[tokio::test]
async fn output_must_follow_on_the_output_before() {
    for frames in [
        vec![output(0, b"abc"), output(2, b"c")],
        vec![output(0, b"abc"), output(4, b"c")],
        vec![output(0, b"abc"), output(0, b"abc")],
        vec![output(u64::MAX, b"abc")],
    ] {
        let error = breach(frames.clone()).await;
        assert!(matches!(error, GuestError::Protocol(_)), "{frames:?}: {error}");
    }
}

#[tokio::test]
async fn the_lengths_at_the_end_must_be_those_of_the_output() {
    for len in [0, 2, 4, u64::MAX] {
        let error = breach(vec![output(0, b"abc"), exited(len)]).await;
        assert!(matches!(error, GuestError::Protocol(_)), "{len}: {error}");
    }
}

#[tokio::test]
async fn a_signal_that_does_not_exist_is_a_breach() {
    for signal in [0, 65, 255] {
        let status = pyro_protocol::ExitStatus::Signal(signal);
        let exited = Exited { status, duration_ms: 0, stdout_len: 0, stderr_len: 0 };
        assert!(breach(vec![GuestFrame::Exited(exited)]).await.is_breach());
    }
}

#[tokio::test]
async fn a_running_command_sends_nothing_but_output_and_its_end() {
    let failed = GuestFrame::Failed(Failed { stage: Stage::Spawn, errno: 1, message: String::new() });
    for frame in [
        GuestFrame::Pong,
        GuestFrame::Done,
        GuestFrame::UnknownOperation,
        GuestFrame::Started(Started { pid: 1 }),
        GuestFrame::Refused(Refusal::OffsetBeyondEnd),
        welcome(Generation::FIRST, BOOT_ID),
        failed,
    ] {
        let error = breach(vec![frame.clone()]).await;
        assert!(matches!(error, GuestError::Protocol(_)), "{frame:?}: {error}");
    }
}

#[tokio::test]
async fn an_exec_is_not_answered_as_an_attach() {
    for frame in [
        GuestFrame::UnknownOperation,
        GuestFrame::Refused(Refusal::OffsetBeyondEnd),
        exited(0),
        output(0, b"early"),
    ] {
        let answer = frame.clone();
        let (_dir, guest) = guest(move |mut agent| {
            let answer = answer.clone();
            async move {
                agent.welcome().await;
                agent.receive().await;
                agent.send(answer).await;
                agent.stay_silent().await;
            }
        });
        let error = guest.exec(command()).await.unwrap().next().await.unwrap_err();
        assert!(matches!(error, GuestError::Protocol(_)), "{frame:?}: {error}");
    }
}

#[tokio::test]
async fn bytes_that_the_guest_dropped_are_a_gap_and_not_a_silence() {
    let (_dir, guest) = guest(|mut agent| async move {
        agent.start().await;
        agent.send(output(9, b"xy")).await;
        let status = pyro_protocol::ExitStatus::TimedOut;
        let exited = Exited { status, duration_ms: 5, stdout_len: 11, stderr_len: 8 };
        agent.send(GuestFrame::Exited(exited)).await;
        agent.stay_silent().await;
    });
    let mut operation = guest.attach(3, 4, 6).await.unwrap();
    let mut observed = Vec::new();
    while !matches!(observed.last(), Some(Observation::Exited { .. })) {
        observed.push(operation.next().await.unwrap());
    }
    assert_eq!(
        observed,
        [
            Observation::Started { pid: 42 },
            Observation::Gap { stream: Stream::Stdout, from: 4, to: 9 },
            Observation::Output { stream: Stream::Stdout, offset: 9, data: Bytes::from_static(b"xy") },
            Observation::Gap { stream: Stream::Stderr, from: 6, to: 8 },
            Observation::Exited {
                status: ExitStatus::TimedOut,
                duration_ms: 5,
                stdout_len: 11,
                stderr_len: 8
            },
        ]
    );
}

#[tokio::test]
async fn an_attach_tells_what_is_wrong_with_it() {
    let (_dir, guest) = guest(|mut agent| async move {
        agent.welcome().await;
        let HostFrame::Attach(attach) = agent.receive().await else { panic!("an attach was due") };
        agent
            .send(match attach.op {
                1 => GuestFrame::UnknownOperation,
                _ => GuestFrame::Refused(Refusal::OffsetBeyondEnd),
            })
            .await;
    });
    let unknown = guest.attach(1, 0, 0).await.unwrap().next().await.unwrap_err();
    assert!(matches!(unknown, GuestError::UnknownOperation { op: 1 }), "{unknown}");
    let beyond = guest.attach(2, 5, 0).await.unwrap().next().await.unwrap_err();
    assert!(matches!(beyond, GuestError::OffsetBeyondEnd { op: 2 }), "{beyond}");
}

#[tokio::test(start_paused = true)]
async fn silence_ends_where_something_is_due() {
    let (_dir, mute) = guest(Agent::stay_silent);
    let error = mute.ping().await.unwrap_err();
    assert!(matches!(error, GuestError::Silent { what: "a welcome", .. }), "{error}");

    let (_dir, welcoming) = guest(|mut agent| async move {
        agent.welcome().await;
        agent.receive().await;
        agent.stay_silent().await;
    });
    let error = welcoming.ping().await.unwrap_err();
    assert!(matches!(error, GuestError::Silent { what: "an answer", .. }), "{error}");
    let error = welcoming.exec(command()).await.unwrap().next().await.unwrap_err();
    assert!(matches!(error, GuestError::Silent { what: "the start of the command", .. }), "{error}");

    let observed = observe(Agent::stay_silent).await;
    let [Err(GuestError::Silent { what, .. })] = observed[..] else { panic!("{observed:?}") };
    assert_eq!(what, "the end of the command");
}

#[tokio::test(start_paused = true)]
async fn a_guest_that_never_runs_out_of_output_does_not_outlive_the_commands_timeout() {
    let (_dir, guest) = guest(|mut agent| async move {
        agent.start().await;
        for offset in 0..1000 {
            agent.send(output(offset, b"x")).await;
        }
        agent.stay_silent().await;
    });
    let mut operation = guest.exec(command()).await.unwrap();
    operation.next().await.unwrap();
    operation.next().await.unwrap();
    advance(Duration::from_secs(600)).await;
    let error = operation.next().await.unwrap_err();
    assert!(matches!(error, GuestError::Silent { what: "the end of the command", .. }), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_guest_that_does_not_read_is_not_waited_for_for_ever() {
    let (_dir, guest) = guest(|mut agent| async move {
        agent.welcome().await;
        agent.stay_silent().await;
    });
    let long = ExecSpec { command: "x".repeat(1_000_000), ..command() };
    let error = guest.exec(long).await.unwrap_err();
    assert!(matches!(error, GuestError::Silent { what: "a sign that it reads", .. }), "{error}");
}

#[tokio::test]
async fn a_request_that_fits_in_no_frame_is_refused_here() {
    let (_dir, guest) = guest(|mut agent| async move {
        agent.welcome().await;
        agent.stay_silent().await;
    });
    let long = ExecSpec { command: "x".repeat(2_000_000), ..command() };
    assert!(matches!(guest.exec(long).await, Err(GuestError::TooLong(_))));
}

#[tokio::test]
async fn acknowledgements_do_not_pile_up() {
    let (_dir, guest) = guest(|mut agent| async move {
        agent.start().await;
        agent.send(output(0, b"0123456789")).await;
        assert_eq!(agent.receive().await, HostFrame::Ack(Ack { stream: Stream::Stdout, offset: 10 }));
        agent.send(exited(10)).await;
        agent.stay_silent().await;
    });
    let mut operation = guest.exec(command()).await.unwrap();
    operation.next().await.unwrap();
    operation.next().await.unwrap();
    for offset in 1..=10 {
        operation.acknowledge(Stream::Stdout, offset);
    }
    assert!(matches!(operation.next().await.unwrap(), Observation::Exited { .. }));
}

#[tokio::test]
#[should_panic(expected = "only observed bytes")]
async fn bytes_that_were_not_observed_cannot_be_acknowledged() {
    let (_dir, guest) = guest(|mut agent| async move { agent.start().await });
    guest.exec(command()).await.unwrap().acknowledge(Stream::Stdout, 1);
}

#[tokio::test]
async fn a_wait_that_is_cancelled_anywhere_loses_nothing() {
    let (_dir, guest) = guest(|mut agent| async move {
        agent.start().await;
        let mut bytes = Vec::new();
        for frame in [output(0, b"some"), output(4, b"thing"), exited(9)] {
            frame.encode(&mut bytes).unwrap();
        }
        for byte in bytes {
            agent.send_bytes(&[byte]).await;
            tokio::task::yield_now().await;
        }
        agent.stay_silent().await;
    });
    let mut operation = guest.exec(command()).await.unwrap();
    let mut collected = Vec::new();
    loop {
        let observation = tokio::select! {
            biased;
            observation = operation.next() => observation.unwrap(),
            () = tokio::task::yield_now() => continue,
        };
        match observation {
            Observation::Output { data, .. } => collected.extend_from_slice(&data),
            Observation::Exited { .. } => break,
            _ => (),
        }
    }
    assert_eq!(collected, b"something");
}

#[tokio::test]
async fn generations_that_do_not_meet_are_told() {
    let agent_range = GenerationRange { min: Generation(8), max: Generation(9) };
    let (_dir, newer) = guest(move |mut agent| async move {
        agent.receive().await;
        agent.send(GuestFrame::Refused(Refusal::Generation { supported: agent_range })).await;
    });
    let error = newer.ping().await.unwrap_err();
    assert!(matches!(error, GuestError::Incompatible { agent } if agent == agent_range), "{error}");

    let (_dir, liar) = guest(|mut agent| async move {
        agent.receive().await;
        agent.send(welcome(Generation(9), BOOT_ID)).await;
    });
    assert!(liar.ping().await.unwrap_err().is_breach());
}

#[tokio::test]
async fn another_agent_is_not_taken_for_the_first() {
    let first = std::sync::atomic::AtomicU8::new(0);
    let (_dir, guest) = guest(move |mut agent| {
        let boot = first.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        async move {
            agent.welcome_as(BootId([boot; 16])).await;
            agent.receive().await;
            agent.send(GuestFrame::Pong).await;
        }
    });
    guest.ping().await.unwrap();
    assert!(matches!(guest.ping().await, Err(GuestError::Restarted)));
}

#[tokio::test]
async fn a_list_of_operations_is_bounded_and_ordered() {
    let kept = |op| KeptOperation {
        op,
        phase: Phase::Starting,
        stdout: Retained { start: 0, end: 0 },
        stderr: Retained { start: 0, end: 0 },
    };
    let most = u64::try_from(OPERATIONS_MAX).unwrap();
    for (list, accepted) in [
        ((0..most).map(kept).collect::<Vec<_>>(), true),
        ((0..=most).map(kept).collect(), false),
        (vec![kept(2), kept(1)], false),
        (vec![kept(2), kept(2)], false),
    ] {
        let sent = list.clone();
        let (_dir, guest) = guest(move |mut agent| {
            let sent = sent.clone();
            async move {
                agent.welcome().await;
                agent.receive().await;
                agent.send(GuestFrame::Operations(sent)).await;
            }
        });
        match guest.operations().await {
            Ok(received) => assert!(accepted && received == list),
            Err(error) => assert!(!accepted && error.is_breach(), "{error}"),
        }
    }
}

fn any_frame() -> impl Strategy<Value = GuestFrame> {
    let stream = prop_oneof![Just(Stream::Stdout), Just(Stream::Stderr)];
    let offset = prop_oneof![0_u64..12, any::<u64>()];
    prop_oneof![
        4 => (stream, offset.clone(), prop::collection::vec(any::<u8>(), 1..5)).prop_map(
            |(stream, offset, data)| GuestFrame::Output(Output { stream, offset, data: data.into() })
        ),
        1 => (offset.clone(), offset).prop_map(|(stdout_len, stderr_len)| {
            let status = pyro_protocol::ExitStatus::Code(1);
            GuestFrame::Exited(Exited { status, duration_ms: 0, stdout_len, stderr_len })
        }),
        1 => prop_oneof![
            Just(GuestFrame::Started(Started { pid: 42 })),
            Just(GuestFrame::Done),
            Just(GuestFrame::UnknownOperation),
            Just(GuestFrame::InputProgress(InputProgress::default())),
            Just(GuestFrame::Operations(Vec::new())),
        ],
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Whatever a guest sends after a start, what is observed is one stream of bytes each without holes that are not
    /// told, and then an end or an error.
    #[test]
    fn what_is_observed_is_contiguous(frames in prop::collection::vec(any_frame(), 0..12), from in 0_u64..6) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let (_dir, guest) = guest(move |mut agent| {
                let frames = frames.clone();
                async move {
                    agent.start().await;
                    for frame in frames {
                        agent.send(frame).await;
                    }
                }
            });
            let mut operation = guest.attach(1, from, from).await.unwrap();
            let mut ends = [from, from];
            loop {
                match operation.next().await {
                    Ok(Observation::Started { .. }) => (),
                    Ok(Observation::Gap { stream, from, to }) => {
                        let end = &mut ends[connection::index(stream)];
                        assert_eq!(*end, from);
                        assert!(to > from);
                        *end = to;
                    }
                    Ok(Observation::Output { stream, offset, data }) => {
                        let end = &mut ends[connection::index(stream)];
                        assert_eq!(*end, offset);
                        assert!(!data.is_empty());
                        *end += u64::try_from(data.len()).unwrap();
                        operation.acknowledge(stream, *end);
                    }
                    Ok(Observation::Exited { stdout_len, stderr_len, .. }) => {
                        assert_eq!(ends, [stdout_len, stderr_len]);
                        break;
                    }
                    Ok(Observation::Input { .. }) => panic!("a command takes no input"),
                    Ok(Observation::Failed(_)) => panic!("it was started"),
                    Err(_) => break,
                }
            }
        });
    }
}
