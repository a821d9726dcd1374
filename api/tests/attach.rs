//! A client at a shell against a peer that speaks the protocol over a real socket.
#![expect(clippy::unwrap_used, reason = "a peer that fails makes its test fail")]

use std::collections::HashSet;
use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread;

use pyro_api::{
    API_VERSION, ApiError, Attachment, CallError, CancelToken, ClientInfo, ClientMessage, Decoder, ErrorCode,
    Face, FrameKind, GapCause, Home, Input, Keyboard, Link, Progress, Request, RequestId, Response,
    ServerMessage, ShellAttachRequest, ShellEvent, ShellFollowEnd, ShellObject, ShellReadResult, Start,
    Stream, SyncResult, Welcome, WindowSize, WorkspaceSync, WorkspaceSyncPushRequest, encode_message,
    encode_output, new_request_id,
};
use rustix::event::{PollFd, PollFlags, poll};
use tempfile::TempDir;

fn home() -> (TempDir, Home, UnixListener) {
    let dir = tempfile::tempdir().unwrap();
    let home = Home::at(dir.path()).unwrap();
    home.create().unwrap();
    let listener = UnixListener::bind(home.socket()).unwrap();
    (dir, home, listener)
}

fn link(home: &Home) -> Link {
    Link::new(home, &ClientInfo { client: "test/1".to_owned(), face: Face::Cli }, &Start::Never)
}

fn request() -> ShellAttachRequest {
    let (workspace_id, shell_id) = ("5f0c2a9be1d4".to_owned(), "9a41c07d2e55".to_owned());
    ShellAttachRequest { workspace_id, shell_id, cursor: None, size: None }
}

fn shell(state: &str) -> ShellObject {
    ShellObject {
        workspace_id: "5f0c2a9be1d4".to_owned(),
        shell_id: "9a41c07d2e55".to_owned(),
        cwd: "/workspace".to_owned(),
        cols: 80,
        rows: 24,
        state: state.to_owned(),
        started_at: 1.0,
        ended_at: None,
        exit_code: None,
        execution_mode: "guest_vsock".to_owned(),
        error: None,
    }
}

/// One accepted connection of the peer after its handshake.
struct Peer {
    stream: UnixStream,
    decoder: Decoder,
}

impl Peer {
    fn accept(listener: &UnixListener) -> Self {
        let mut peer = Self { stream: listener.accept().unwrap().0, decoder: Decoder::new() };
        let ClientMessage::Hello(_) = peer.read() else { panic!("the first message is Hello") };
        let pid = std::process::id();
        peer.send(&ServerMessage::Welcome(Welcome { api: API_VERSION, version: "2.5.0".to_owned(), pid }));
        peer
    }

    fn read(&mut self) -> ClientMessage {
        loop {
            if let Some(frame) = self.decoder.next_frame().unwrap() {
                return match frame.kind {
                    FrameKind::Input => ClientMessage::Input(frame.input().unwrap()),
                    FrameKind::Json | FrameKind::Output(_) => frame.message().unwrap(),
                };
            }
            let mut chunk = [0; 4096];
            let len = self.stream.read(&mut chunk).unwrap();
            assert!(len > 0, "the client went away");
            self.decoder.push(&chunk[..len]);
        }
    }

    fn read_request(&mut self) -> Request {
        let ClientMessage::Request(request) = self.read() else { panic!("something is requested") };
        request
    }

    fn read_attach(&mut self) -> ShellAttachRequest {
        let Request::ShellAttach(request) = self.read_request() else { panic!("an attach is requested") };
        request
    }

    fn read_input(&mut self) -> Input {
        let ClientMessage::Input(input) = self.read() else { panic!("keys come") };
        input
    }

    fn acknowledge(&mut self, Input { request_id, .. }: &Input) {
        self.send(&ServerMessage::Progress(Progress::Typed { request_id: *request_id }));
    }

    fn send(&mut self, message: &ServerMessage) {
        let mut bytes = Vec::new();
        encode_message(message, &mut bytes).unwrap();
        self.stream.write_all(&bytes).unwrap();
    }

    fn join(&mut self, cursor: u64) {
        self.send(&ServerMessage::Progress(Progress::Joined { cursor }));
    }

    fn print(&mut self, bytes: &[u8]) {
        let mut frames = Vec::new();
        encode_output(Stream::Stdout, bytes, &mut frames);
        self.stream.write_all(&frames).unwrap();
    }

    fn end(&mut self, state: &str, next_cursor: u64) {
        let end = ShellFollowEnd { shell: shell(state), next_cursor };
        self.send(&ServerMessage::Reply(Box::new(Ok(Response::ShellAttach(end)))));
    }

    fn until_gone(&self) {
        let hung_up = poll(&mut [PollFd::new(&self.stream, PollFlags::RDHUP)], None);
        assert_eq!(hung_up, Ok(1));
    }
}

fn output(attachment: &mut Attachment) -> Vec<u8> {
    match attachment.next_event().unwrap() {
        ShellEvent::Output(bytes) => bytes,
        other => panic!("{other:?}"),
    }
}

/// Catches output that is lost or doubled, a gap that is not told, keys that are typed twice, and a size that is
/// forgotten.
#[test]
fn attachment_goes_on_with_the_next_daemon() {
    let (dir, home, listener) = home();
    let daemon = thread::spawn(move || {
        let mut first = Peer::accept(&listener);
        assert_eq!(first.read_attach(), request());
        first.join(7);
        let first_key = first.read_input();
        assert_eq!(first_key.data, b"a");
        let (stream, cause) = (Stream::Stdout, GapCause::Retention);
        first.send(&ServerMessage::Progress(Progress::Gap { stream, from: 7, to: 70, cause }));
        first.print(b"one ");
        assert_eq!(first.read(), ClientMessage::Resize(WindowSize { cols: 90, rows: 20 }));
        // A frame that is cut by the death of the daemon does not count.
        first.stream.write_all(b"\x04\0\0\0\x01tw").unwrap();
        drop(first);
        let mut second = Peer::accept(&listener);
        let size = Some(WindowSize { cols: 90, rows: 20 });
        assert_eq!(second.read_attach(), ShellAttachRequest { cursor: Some(74), size, ..request() });
        second.join(74);
        second.print(b"two ");
        assert_eq!(second.read_input(), first_key, "nobody has said that it is recorded");
        second.acknowledge(&first_key);
        assert_eq!(second.read_input().data, b"b");
        second.end("stopped", 78);
        drop(dir);
    });
    let keyboard = Keyboard::new().unwrap();
    let mut attachment = Attachment::attach(link(&home), request(), &keyboard).unwrap();
    assert_eq!(attachment.next_event().unwrap(), ShellEvent::Joined { cursor: 7 });
    assert!(keyboard.offer(b"a"));
    assert_eq!(attachment.next_event().unwrap(), ShellEvent::Gap(63));
    assert_eq!(output(&mut attachment), b"one ");
    keyboard.resize(WindowSize { cols: 90, rows: 20 });
    assert_eq!(output(&mut attachment), b"two ");
    assert!(keyboard.type_in(b"b"));
    let ShellEvent::Ended(end) = attachment.next_event().unwrap() else { panic!("it ends") };
    assert_eq!((end.shell.state.as_str(), end.next_cursor), ("stopped", 78));
    drop(attachment);
    assert!(!keyboard.offer(b"c") && !keyboard.type_in(b"c"), "nobody is there to type to");
    daemon.join().unwrap();
}

/// Catches a person who cannot leave because the job does not read, and a thread that stays behind.
#[test]
fn job_that_does_not_read_holds_nobody() {
    let (_dir, home, listener) = home();
    let daemon = thread::spawn(move || {
        let mut stuck = Peer::accept(&listener);
        stuck.read_attach();
        stuck.join(0);
        stuck.print(b"$ ");
        // It reads nothing more, not even that the client leaves.
        stuck.until_gone();
        let mut look = Peer::accept(&listener);
        let Request::ShellRead(request) = look.read_request() else { panic!("it looks at the shell") };
        let read = ShellReadResult {
            shell: shell("running"),
            cursor: 9,
            next_cursor: 9,
            output: String::new(),
            truncated: false,
            dropped_bytes: 0,
            output_lossy: false,
            plain: false,
        };
        look.send(&ServerMessage::Reply(Box::new(Ok(Response::ShellRead(read)))));
        request.cursor
    });
    let keyboard = Keyboard::new().unwrap();
    let mut attachment = Attachment::attach(link(&home), request(), &keyboard).unwrap();
    assert_eq!(attachment.next_event().unwrap(), ShellEvent::Joined { cursor: 0 });
    assert_eq!(output(&mut attachment), b"$ ");
    // What waits is bounded, and whoever does not want to wait does not have to.
    let offered = std::iter::repeat_with(|| keyboard.offer(&[b'x'; 64 * 1024])).take(1000);
    assert!(offered.filter(|taken| *taken).count() < 1000);
    let patient = {
        let keyboard = keyboard.clone();
        thread::spawn(move || keyboard.type_in(&vec![b'y'; 4 * 1024 * 1024]))
    };
    keyboard.leave();
    assert!(!patient.join().unwrap(), "nobody types any more");
    let ShellEvent::Ended(end) = attachment.next_event().unwrap() else { panic!("it ends") };
    assert_eq!((end.shell.state.as_str(), end.next_cursor), ("running", 2));
    assert_eq!(daemon.join().unwrap(), u64::MAX);
}

/// Catches keys that are forgotten because the client leaves right behind them.
#[test]
fn keys_before_the_leaving_are_sent_first() {
    let (_dir, home, listener) = home();
    let keyboard = Keyboard::new().unwrap();
    let daemon = thread::spawn(move || {
        let mut peer = Peer::accept(&listener);
        peer.read_attach();
        peer.join(0);
        let mut typed = Vec::new();
        loop {
            match peer.read() {
                ClientMessage::Input(keys) => typed.extend(keys.data),
                ClientMessage::Cancel => break,
                other => panic!("{other:?}"),
            }
        }
        peer.end("running", 0);
        typed
    });
    let keys: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    assert!(keyboard.offer(&keys));
    keyboard.leave();
    let mut attachment = Attachment::attach(link(&home), request(), &keyboard).unwrap();
    assert_eq!(attachment.next_event().unwrap(), ShellEvent::Joined { cursor: 0 });
    assert!(matches!(attachment.next_event().unwrap(), ShellEvent::Ended(_)));
    assert!(daemon.join().unwrap() == keys);
}

/// Takes keys as the engine does: each id once, in the order in which they come.
#[derive(Default)]
struct Recorded {
    known: HashSet<RequestId>,
    typed: Vec<u8>,
}

impl Recorded {
    fn take(&mut self, input: &Input) {
        if self.known.insert(input.request_id) {
            self.typed.extend(&input.data);
        }
    }
}

/// Catches keys that are lost, doubled or mixed up when daemon after daemon dies: before it took a piece, after it took
/// one and recorded it, and after it said so.
#[test]
fn keys_arrive_once_and_in_order_through_many_daemons() {
    const LOSSES: usize = 5;
    let keys: Vec<u8> = (0..=255).cycle().take(900_000).collect();
    let len = keys.len();
    let (_dir, home, listener) = home();
    let daemon = thread::spawn(move || {
        let mut recorded = Recorded::default();
        for loss in 0..=LOSSES {
            let mut peer = Peer::accept(&listener);
            peer.read_attach();
            peer.join(0);
            for piece in 0.. {
                if recorded.typed.len() == len {
                    peer.end("stopped", 0);
                    break;
                }
                let input = peer.read_input();
                if loss < LOSSES && piece == loss * 3 {
                    // It dies with what it read and did not record.
                    break;
                }
                recorded.take(&input);
                // Acknowledgements are late, and some never come.
                if piece % 4 == 3 {
                    peer.acknowledge(&input);
                }
            }
        }
        recorded.typed
    });
    let keyboard = Keyboard::new().unwrap();
    let typing = {
        let (keyboard, keys) = (keyboard.clone(), keys.clone());
        thread::spawn(move || keys.chunks(1000).all(|part| keyboard.type_in(part)))
    };
    let mut attachment = Attachment::attach(link(&home), request(), &keyboard).unwrap();
    assert_eq!(attachment.next_event().unwrap(), ShellEvent::Joined { cursor: 0 });
    assert!(matches!(attachment.next_event().unwrap(), ShellEvent::Ended(_)));
    assert!(typing.join().unwrap());
    assert!(daemon.join().unwrap() == keys);
}

/// Catches a client that keeps all that a daemon takes and never acknowledges, and one that never has room again.
#[test]
fn unacknowledged_keys_are_bounded() {
    let (_dir, home, listener) = home();
    let (full, was_full) = std::sync::mpsc::channel();
    let daemon = thread::spawn(move || {
        let mut peer = Peer::accept(&listener);
        peer.read_attach();
        peer.join(0);
        let (mut len, mut last) = (0, None);
        while len < 1024 * 1024 {
            let input = peer.read_input();
            len += input.data.len();
            last = Some(input);
        }
        was_full.recv().unwrap();
        peer.acknowledge(&last.unwrap());
        assert_eq!(peer.read_input().data, b"more");
        peer.end("stopped", 0);
    });
    let keyboard = Keyboard::new().unwrap();
    let mut attachment = Attachment::attach(link(&home), request(), &keyboard).unwrap();
    assert_eq!(attachment.next_event().unwrap(), ShellEvent::Joined { cursor: 0 });
    assert!(keyboard.type_in(&vec![b'x'; 1024 * 1024]));
    assert!(!keyboard.offer(b"y"), "nobody has said that any of it is recorded");
    full.send(()).unwrap();
    let patient = thread::spawn(move || keyboard.type_in(b"more"));
    assert!(matches!(attachment.next_event().unwrap(), ShellEvent::Ended(_)));
    assert!(patient.join().unwrap());
    daemon.join().unwrap();
}

/// Catches a daemon that goes on somewhere else than where the client was.
#[test]
fn hole_after_a_new_connection_is_an_error() {
    let (_dir, home, listener) = home();
    let daemon = thread::spawn(move || {
        let mut first = Peer::accept(&listener);
        first.read_attach();
        first.join(0);
        first.print(b"abc");
        drop(first);
        let mut second = Peer::accept(&listener);
        assert_eq!(second.read_attach().cursor, Some(3));
        second.join(2);
        second.until_gone();
    });
    let keyboard = Keyboard::new().unwrap();
    let mut attachment = Attachment::attach(link(&home), request(), &keyboard).unwrap();
    assert_eq!(attachment.next_event().unwrap(), ShellEvent::Joined { cursor: 0 });
    assert_eq!(output(&mut attachment), b"abc");
    let Err(CallError::Failed(error)) = attachment.next_event() else { panic!("a hole is an error") };
    assert_eq!(error.code, ErrorCode::Internal);
    drop(attachment);
    daemon.join().unwrap();
}

fn push() -> WorkspaceSyncPushRequest {
    WorkspaceSyncPushRequest {
        workspace_id: "5f0c2a9be1d4".to_owned(),
        source_path: "/src".to_owned(),
        dest: "/workspace".to_owned(),
        watch: false,
        request_id: Some(new_request_id()),
    }
}

/// Catches an operation that is given up, asked for under another request id, or asked for after it was canceled.
#[test]
fn next_daemon_is_asked_again_until_the_wish_is_gone() {
    let (_dir, home, listener) = home();
    let token = CancelToken::new();
    let canceling = token.clone();
    let daemon = thread::spawn(move || {
        let mut stopping = Peer::accept(&listener);
        let first = stopping.read_request();
        let error = ApiError::new(ErrorCode::DaemonStopping, "the daemon is about to end");
        stopping.send(&ServerMessage::Reply(Box::new(Err(error))));
        let mut second = Peer::accept(&listener);
        assert_eq!(second.read_request(), first);
        let workspace_sync = WorkspaceSync {
            mode: "directory".to_owned(),
            source_path: "/src".to_owned(),
            destination: "/workspace".to_owned(),
            entry_count: 1,
            bytes_written: 2,
        };
        let (workspace_id, execution_mode) = ("5f0c2a9be1d4".to_owned(), "guest_vsock".to_owned());
        let result = SyncResult { workspace_id, execution_mode, workspace_sync };
        second.send(&ServerMessage::Reply(Box::new(Ok(Response::WorkspaceSyncPush(result)))));
        let mut third = Peer::accept(&listener);
        third.read_request();
        canceling.cancel();
        assert_eq!(third.read(), ClientMessage::Cancel);
        // It dies instead of answering, and the next one must not be asked for what nobody wants.
        drop(third);
        let mut rest = Vec::new();
        Peer::accept(&listener).stream.read_to_end(&mut rest).unwrap();
        assert!(rest.is_empty());
    });
    let result = link(&home).call(&push(), &token, drop).unwrap();
    assert_eq!(result.workspace_sync.entry_count, 1);
    let Err(CallError::Failed(error)) = link(&home).call(&push(), &token, drop) else {
        panic!("it is canceled")
    };
    assert_eq!(error.code, ErrorCode::Canceled);
    daemon.join().unwrap();
}
