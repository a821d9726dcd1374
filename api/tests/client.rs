//! The client against a peer that speaks the protocol over a real socket, and against programs that fail to become a
//! daemon.
#![expect(clippy::unwrap_used, reason = "a peer that fails makes its test fail")]

use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::Command;
use std::thread;

use pyro_api::{
    API_VERSION, ApiError, CallError, CancelToken, Cleanup, Client, ClientInfo, ClientMessage, ConnectError,
    DaemonStatusRequest, Decoder, ErrorCode, Face, GapCause, Home, Progress, Request, Response, Resume, Run,
    RunEvent, RunOutcome, RunProgress, RunRequest, ServerMessage, Start, StartError, Stream, TransportError,
    Welcome, encode_message, encode_output, stop_daemon,
};
use tempfile::TempDir;

fn info() -> ClientInfo {
    ClientInfo { client: "test/1".to_owned(), face: Face::Cli }
}

fn home() -> (TempDir, Home) {
    let dir = tempfile::tempdir().unwrap();
    let home = Home::at(dir.path()).unwrap();
    home.create().unwrap();
    (dir, home)
}

/// One accepted connection of the peer.
struct Peer {
    stream: UnixStream,
    decoder: Decoder,
}

impl Peer {
    fn accept(listener: &UnixListener) -> Self {
        Self { stream: listener.accept().unwrap().0, decoder: Decoder::new() }
    }

    fn accept_and_welcome(listener: &UnixListener) -> Self {
        let mut peer = Self::accept(listener);
        let ClientMessage::Hello(hello) = peer.read() else { panic!("the first message is Hello") };
        assert_eq!((hello.api, hello.face), (API_VERSION, Face::Cli));
        let pid = std::process::id();
        peer.send(&ServerMessage::Welcome(Welcome { api: API_VERSION, version: "2.5.0".to_owned(), pid }));
        peer
    }

    fn read(&mut self) -> ClientMessage {
        loop {
            if let Some(frame) = self.decoder.next_frame().unwrap() {
                return frame.message().unwrap();
            }
            let mut chunk = [0; 4096];
            let len = self.stream.read(&mut chunk).unwrap();
            assert!(len > 0, "the client went away");
            self.decoder.push(&chunk[..len]);
        }
    }

    fn read_run(&mut self) -> RunRequest {
        let ClientMessage::Request(Request::Run(request)) = self.read() else { panic!("a run is requested") };
        request
    }

    fn send(&mut self, message: &ServerMessage) {
        let mut bytes = Vec::new();
        encode_message(message, &mut bytes).unwrap();
        self.stream.write_all(&bytes).unwrap();
    }

    fn reply(&mut self, reply: Result<Response, ApiError>) {
        self.send(&ServerMessage::Reply(Box::new(reply)));
    }

    fn print(&mut self, stream: Stream, bytes: &[u8]) {
        let mut frames = Vec::new();
        encode_output(stream, bytes, &mut frames);
        self.stream.write_all(&frames).unwrap();
    }
}

fn outcome(stdout_bytes: u64, stderr_bytes: u64) -> RunOutcome {
    let vm_id = "5f0c2a9be1d4".to_owned();
    RunOutcome {
        vm_id: vm_id.clone(),
        environment: "debian:12".to_owned(),
        environment_version: None,
        command: "true".to_owned(),
        exit_code: 0,
        signal: None,
        timed_out: false,
        duration_ms: 1,
        execution_mode: "guest_vsock".to_owned(),
        cleanup: Cleanup { vm_id, deleted: true, reason: "post_exec_cleanup".to_owned() },
        stdout_bytes,
        stderr_bytes,
    }
}

fn start_run(home: &Home, token: &CancelToken) -> Result<Run, CallError> {
    Run::start(home, &info(), &Start::Never, RunRequest::new("debian:12", "true"), token)
}

/// Catches output that is lost or doubled, a command that runs twice, and phases that are shown twice.
#[test]
fn run_goes_on_with_the_next_daemon_where_it_was() {
    let (dir, home) = home();
    let listener = UnixListener::bind(home.socket()).unwrap();
    let daemon = thread::spawn(move || {
        let create = || RunProgress::Create { environment: "debian:12".to_owned() };
        let start = || RunProgress::Start { vm_id: "5f0c2a9be1d4".to_owned() };
        let mut first = Peer::accept_and_welcome(&listener);
        let request = first.read_run();
        first.send(&ServerMessage::Progress(Progress::Run(create())));
        first.print(Stream::Stdout, b"one ");
        first.print(Stream::Stderr, b"err");
        // A frame that is cut by the death of the daemon does not count.
        first.stream.write_all(b"\x04\0\0\0\x01tw").unwrap();
        drop(first);
        // This one dies in the handshake, and the next one is about to end.
        drop(Peer::accept(&listener));
        let mut stopping = Peer::accept_and_welcome(&listener);
        stopping.read_run();
        stopping.reply(Err(ApiError::new(ErrorCode::DaemonStopping, "the daemon is about to end")));
        let mut second = Peer::accept_and_welcome(&listener);
        let repeated = second.read_run();
        second.send(&ServerMessage::Progress(Progress::Run(create())));
        second.send(&ServerMessage::Progress(Progress::Run(start())));
        second.print(Stream::Stdout, b"two");
        second.reply(Ok(Response::Run(outcome(7, 3))));
        (request, repeated)
    });
    let (start, request) = (program(&dir, "echo ready"), RunRequest::new("debian:12", "true"));
    let mut run = Run::start(&home, &info(), &start, request, &CancelToken::new()).unwrap();
    let (mut stdout, mut stderr, mut phases) = (Vec::new(), Vec::new(), 0);
    let ended = loop {
        match run.next_event() {
            Ok(RunEvent::Output(Stream::Stdout, bytes)) => stdout.extend(bytes),
            Ok(RunEvent::Output(Stream::Stderr, bytes)) => stderr.extend(bytes),
            Ok(RunEvent::Progress(_)) => phases += 1,
            Ok(RunEvent::Ended(outcome)) => break outcome,
            Ok(RunEvent::Gap(stream, len)) => panic!("{len} bytes of {stream:?} are missing"),
            Err(error) => panic!("{error}"),
        }
    };
    assert_eq!((stdout.as_slice(), stderr.as_slice(), phases), (b"one two".as_slice(), b"err".as_slice(), 2));
    assert_eq!(ended, outcome(7, 3));
    let (request, repeated) = daemon.join().unwrap();
    assert!(request.request_id.is_some() && request.resume.is_none());
    let resume = Some(Resume { stdout_offset: 4, stderr_offset: 3 });
    assert_eq!(repeated, RunRequest { resume, ..request });
}

/// Catches a client that takes a gap for lost output, or begins again at a byte that is not there any more.
#[test]
fn what_the_daemon_dropped_is_told() {
    let (_dir, home) = home();
    let listener = UnixListener::bind(home.socket()).unwrap();
    let daemon = thread::spawn(move || {
        let mut first = Peer::accept_and_welcome(&listener);
        first.read_run();
        first.print(Stream::Stdout, b"abc");
        let (stream, cause) = (Stream::Stdout, GapCause::Retention);
        first.send(&ServerMessage::Progress(Progress::Gap { stream, from: 3, to: 10, cause }));
        drop(first);
        let mut second = Peer::accept_and_welcome(&listener);
        let resume = second.read_run().resume;
        second.print(Stream::Stdout, b"d");
        second.reply(Ok(Response::Run(outcome(11, 0))));
        resume
    });
    let mut run = start_run(&home, &CancelToken::new()).unwrap();
    assert_eq!(run.next_event().unwrap(), RunEvent::Output(Stream::Stdout, b"abc".to_vec()));
    assert_eq!(run.next_event().unwrap(), RunEvent::Gap(Stream::Stdout, 7));
    assert_eq!(run.next_event().unwrap(), RunEvent::Output(Stream::Stdout, b"d".to_vec()));
    assert_eq!(run.next_event().unwrap(), RunEvent::Ended(outcome(11, 0)));
    assert_eq!(daemon.join().unwrap(), Some(Resume { stdout_offset: 10, stderr_offset: 0 }));
}

#[test]
fn missing_output_is_an_error() {
    let (_dir, home) = home();
    let listener = UnixListener::bind(home.socket()).unwrap();
    let daemon = thread::spawn(move || {
        let mut peer = Peer::accept_and_welcome(&listener);
        peer.read_run();
        peer.print(Stream::Stdout, b"abc");
        peer.reply(Ok(Response::Run(outcome(4, 0))));
    });
    let mut run = start_run(&home, &CancelToken::new()).unwrap();
    assert_eq!(run.next_event().unwrap(), RunEvent::Output(Stream::Stdout, b"abc".to_vec()));
    let error = ApiError::from(run.next_event().unwrap_err());
    assert!(error.code == ErrorCode::Internal && error.message.contains("3 of 4 bytes"), "{error}");
    daemon.join().unwrap();
}

/// Catches a client that goes on for ever with a request that kills every daemon.
#[test]
fn losses_in_a_row_are_bounded() {
    let (_dir, home) = home();
    let listener = UnixListener::bind(home.socket()).unwrap();
    let daemon = thread::spawn(move || {
        let mut count = 0;
        loop {
            let mut peer = Peer::accept_and_welcome(&listener);
            if !matches!(peer.read(), ClientMessage::Request(Request::Run(_))) {
                return count;
            }
            count += 1;
        }
    });
    let mut run = start_run(&home, &CancelToken::new()).unwrap();
    let error = run.next_event().unwrap_err();
    assert!(matches!(error, CallError::Transport(TransportError::Lost)), "{error}");
    let mut last = Client::connect(&home, &info(), &Start::Never).unwrap();
    last.send(DaemonStatusRequest {}).unwrap();
    assert_eq!(daemon.join().unwrap(), 6);
}

#[test]
fn cancel_reaches_the_daemon_also_after_a_reconnection() {
    let (_dir, home) = home();
    let listener = UnixListener::bind(home.socket()).unwrap();
    let token = CancelToken::new();
    let daemon = thread::spawn({
        let token = token.clone();
        move || {
            let mut first = Peer::accept_and_welcome(&listener);
            first.read_run();
            token.cancel();
            assert_eq!(first.read(), ClientMessage::Cancel);
            drop(first);
            let mut second = Peer::accept_and_welcome(&listener);
            second.read_run();
            assert_eq!(second.read(), ClientMessage::Cancel);
            second.reply(Err(ApiError::new(ErrorCode::Canceled, "canceled")));
        }
    });
    let mut run = start_run(&home, &token).unwrap();
    let error = ApiError::from(run.next_event().unwrap_err());
    assert_eq!(error.code, ErrorCode::Canceled);
    daemon.join().unwrap();
}

#[test]
fn refusals_and_broken_rules_are_told_apart() {
    let (_dir, home) = home();
    let listener = UnixListener::bind(home.socket()).unwrap();
    let refusal =
        ApiError::new(ErrorCode::VersionMismatch, "the daemon speaks 2").with_hint("pyro daemon stop");
    let daemon = thread::spawn({
        let refusal = refusal.clone();
        move || {
            let mut peer = Peer::accept(&listener);
            peer.read();
            peer.send(&ServerMessage::Refused(refusal));
            let mut peer = Peer::accept_and_welcome(&listener);
            peer.read();
            peer.stream.write_all(&[0xff; 5]).unwrap();
        }
    });
    let error = Client::connect(&home, &info(), &Start::Never).unwrap_err();
    assert_eq!(ApiError::from(error), refusal);
    let mut client = Client::connect(&home, &info(), &Start::Never).unwrap();
    let error = ApiError::from(client.call(DaemonStatusRequest {}, drop).unwrap_err());
    assert_eq!(error.code, ErrorCode::ProtocolViolation);
    daemon.join().unwrap();
}

#[test]
fn nobody_listens_on_a_socket_that_was_left_behind() {
    let (_dir, home) = home();
    drop(UnixListener::bind(home.socket()).unwrap());
    let error = Client::connect(&home, &info(), &Start::Never).unwrap_err();
    assert!(matches!(error, ConnectError::NotRunning { .. }), "{error}");
    assert_eq!(stop_daemon(&home, &info()).unwrap(), None);
}

/// Makes a program that is started as the daemon.
fn program(dir: &TempDir, script: &str) -> Start {
    let program: PathBuf = dir.path().join("program");
    // Another process writes it: a handle of this one could be inherited by a child of another test and keep it busy.
    let written = Command::new("sh")
        .args(["-c", r#"printf '#!/bin/sh\n%s\n' "$2" > "$1" && chmod 755 "$1""#, "sh"])
        .args([program.as_os_str(), script.as_ref()])
        .status();
    assert!(written.unwrap().success());
    Start::IfNeeded { program }
}

#[test]
fn daemon_that_cannot_start_says_why() {
    let (dir, home) = home();
    let start = program(&dir, r#"echo 'error: {"code":"log_corrupt","message":"event 7 is damaged"}'"#);
    let error = ApiError::from(Client::connect(&home, &info(), &start).unwrap_err());
    assert_eq!(error, ApiError::new(ErrorCode::LogCorrupt, "event 7 is damaged"));
}

#[test]
fn daemon_that_dies_is_reported_with_its_messages() {
    let (dir, home) = home();
    let start = program(&dir, "echo \"$@ $PYRO_HOME $(pwd)\" >&2; printf rea");
    let error = Client::connect(&home, &info(), &start).unwrap_err();
    assert!(matches!(error, ConnectError::Start(StartError::Died { .. })), "{error}");
    let messages = std::fs::read_to_string(home.daemon_log()).unwrap();
    assert_eq!(messages, format!("daemon run --report-ready {} /\n", home.root().display()));
}

/// Catches two daemons for one home, and clients that give up while somebody else starts it.
#[test]
fn one_of_many_clients_starts_the_daemon() {
    const CLIENTS: usize = 20;
    let (dir, home) = home();
    // Whoever is started tells the test and says "ready" when the test has made the socket.
    let (count, go) = (dir.path().join("count"), dir.path().join("go"));
    rustix::fs::mkfifoat(rustix::fs::CWD, &go, rustix::fs::Mode::from_raw_mode(0o600)).unwrap();
    let start = program(&dir, &format!("echo started >> {}; cat {}", count.display(), go.display()));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (home, start) = (home.clone(), start.clone());
            thread::spawn(move || Client::connect(&home, &info(), &start).map(drop))
        })
        .collect();
    // Opening a FIFO for writing waits until the program has opened it for reading.
    let mut ready = std::fs::OpenOptions::new().write(true).open(&go).unwrap();
    let listener = UnixListener::bind(home.socket()).unwrap();
    ready.write_all(b"ready\n").unwrap();
    drop(ready);
    for _ in 0..CLIENTS {
        Peer::accept_and_welcome(&listener);
    }
    for client in clients {
        client.join().unwrap().unwrap();
    }
    assert_eq!(std::fs::read_to_string(&count).unwrap(), "started\n");
}
