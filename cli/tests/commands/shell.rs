//! `pyro workspace shell`, but for `attach`

use std::process::{Output, Stdio};

use pyro_api::{
    ApiError, ClientMessage, ErrorCode, Progress, Request, Response, ServerMessage, ShellAttachRequest,
    ShellCloseResult, ShellFollowEnd, ShellFollowRequest, ShellList, ShellObject, ShellReadResult,
    ShellSignalResult, ShellWriteResult, Stream,
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::peer::{Peer, World};
use crate::terminal::terminal;

type Script<T> = Box<dyn FnOnce(&mut Peer) -> T + Send>;

const ID: &str = "5f0c2a9be1d4";
const SHELL: &str = "9a41c07d2e55";

pub(crate) fn shell() -> ShellObject {
    ShellObject {
        workspace_id: ID.to_owned(),
        shell_id: SHELL.to_owned(),
        cwd: "/workspace".to_owned(),
        cols: 120,
        rows: 30,
        state: "running".to_owned(),
        started_at: 1.5,
        ended_at: None,
        exit_code: None,
        execution_mode: "guest_vsock".to_owned(),
        error: None,
    }
}

pub(crate) fn stopped(exit_code: u8) -> ShellObject {
    ShellObject { state: "stopped".to_owned(), ended_at: Some(2.5), exit_code: Some(exit_code), ..shell() }
}

fn line(command: &str, state: &str, end: &str) -> String {
    format!(
        "[workspace-shell-{command}] workspace_id={ID} shell_id={SHELL} state={state} cwd=/workspace cols=120 rows=30 \
         execution_mode=guest_vsock{end}\n"
    )
}

fn replying(response: Response) -> Script<Request> {
    Box::new(move |peer| {
        let request = peer.request();
        peer.reply(Ok(response));
        request
    })
}

#[track_caller]
fn run(world: &World, arguments: &[&str]) -> Output {
    let output = world.run(&[&["workspace", "shell"], arguments].concat());
    assert_eq!(output.status.code(), Some(0), "{}", output.stderr.escape_ascii());
    output
}

/// Runs a command as text and as JSON against the same response; returns the line, the object and the request.
#[track_caller]
fn both(arguments: &[&str], response: &Response) -> (String, Value, Request) {
    let world = World::new();
    let peer = world.serve([replying(response.clone()), replying(response.clone())]);
    let text = run(&world, arguments);
    assert!(text.stdout.is_empty(), "{}", text.stdout.escape_ascii());
    let json = run(&world, &[arguments, &["--json"]].concat());
    assert!(json.stderr.is_empty(), "{}", json.stderr.escape_ascii());
    let line = String::from_utf8(text.stderr).expect("it is text");
    let requests = peer.join().expect("the peer saw what it expected");
    (line, serde_json::from_slice(&json.stdout).expect("it is JSON"), requests[0].clone())
}

#[test]
fn lines_go_to_standard_error_and_objects_to_standard_output() {
    let (text, json, request) = both(&["open", ID, "--cols", "80"], &Response::ShellOpen(shell()));
    assert_eq!(text, line("open", "running", ""));
    assert_eq!(serde_json::from_value::<ShellObject>(json).expect("it is the object"), shell());
    assert!(matches!(request, Request::ShellOpen(request) if request.cols == 80 && request.rows == 30));

    let written = ShellWriteResult { shell: shell(), input_length: 2, append_newline: true };
    let (text, json, request) = both(&["write", ID, SHELL, "--input", "-l"], &Response::ShellWrite(written));
    assert_eq!(text, line("write", "running", ""));
    assert_eq!((&json["input_length"], &json["append_newline"]), (&2.into(), &true.into()));
    assert!(
        matches!(request, Request::ShellWrite(request) if request.input == "-l" && request.append_newline)
    );

    let signaled = ShellSignalResult { shell: shell(), signal: "INT".to_owned() };
    let (text, json, request) = both(&["signal", ID, SHELL], &Response::ShellSignal(signaled));
    assert_eq!((text, &json["signal"]), (line("signal", "running", ""), &"INT".into()));
    assert!(matches!(request, Request::ShellSignal(request) if request.signal_name == "INT"));

    let resized = Response::ShellResize(shell());
    let (text, json, _) = both(&["resize", ID, SHELL, "--cols", "120", "--rows", "30"], &resized);
    assert_eq!((text, &json["cols"]), (line("resize", "running", ""), &120.into()));

    let closed = ShellCloseResult { shell: stopped(129), closed: true };
    let (text, json, _) = both(&["close", ID, SHELL], &Response::ShellClose(closed));
    assert_eq!(text, line("close", "stopped", ""));
    assert_eq!((&json["closed"], &json["exit_code"]), (&true.into(), &129.into()));
}

#[test]
fn id_alone_goes_to_standard_output() {
    let world = World::new();
    world.serve([replying(Response::ShellOpen(shell()))]);
    let output = run(&world, &["open", ID, "--id-only"]);
    assert_eq!((output.stdout, output.stderr), (format!("{SHELL}\n").into_bytes(), Vec::new()));
}

#[test]
fn list_is_a_table_that_does_nothing_to_a_terminal() {
    let hostile = ShellObject { cwd: "/workspace/\u{1b}[2J\nx".to_owned(), ..stopped(7) };
    let list = ShellList { workspace_id: ID.to_owned(), count: 2, shells: vec![shell(), hostile] };
    let none = ShellList { workspace_id: ID.to_owned(), count: 0, shells: Vec::new() };
    let world = World::new();
    world.serve([&list, &list, &none].map(|list| replying(Response::ShellList(list.clone()))));
    let text = String::from_utf8(run(&world, &["list", ID]).stdout).expect("it is text");
    assert_eq!(
        text,
        "SHELL ID      STATE    EXIT CODE  SIZE    CWD\n\
         9a41c07d2e55  running  -          120x30  /workspace\n\
         9a41c07d2e55  stopped  7          120x30  /workspace/\\x1b[2J\\nx\n"
    );
    let json = run(&world, &["list", ID, "--json"]).stdout;
    assert_eq!(serde_json::from_slice::<ShellList>(&json).expect("it is JSON"), list);
    assert_eq!(run(&world, &["list", ID]).stdout, b"No shells found.\n");
}

fn read(output: &str) -> Response {
    Response::ShellRead(ShellReadResult {
        shell: shell(),
        cursor: 5,
        next_cursor: 25,
        output: output.to_owned(),
        truncated: true,
        dropped_bytes: 0,
        output_lossy: false,
        plain: false,
    })
}

/// Catches a line that is not the contract's, and output that is changed on its way into a pipe.
#[test]
fn reading_gives_the_output_and_a_line() {
    let hostile = "a\u{1b}]0;title\u{7}b\r\n$ ";
    let world = World::new();
    let peer = world.serve([replying(read(hostile)), replying(read("x")), replying(read("x"))]);
    let output = run(&world, &["read", ID, SHELL, "--cursor", "5", "--max-chars", "9"]);
    assert_eq!(output.stdout, hostile.as_bytes());
    let head = format!(
        "[workspace-shell-read] workspace_id={ID} shell_id={SHELL} state=running cursor=5 next_cursor=25 \
         truncated=True "
    );
    let text = String::from_utf8(output.stderr).expect("it is text");
    assert_eq!(text, format!("{head}execution_mode=guest_vsock\n"));
    let output = run(&world, &["read", ID, SHELL, "--plain"]);
    let text = String::from_utf8(output.stderr).expect("it is text");
    assert_eq!(text, format!("{head}plain=True wait_for_idle_ms=None execution_mode=guest_vsock\n"));
    let output = run(&world, &["read", ID, SHELL, "--wait-for-idle-ms", "300"]);
    let text = String::from_utf8(output.stderr).expect("it is text");
    assert_eq!(text, format!("{head}plain=False wait_for_idle_ms=300 execution_mode=guest_vsock\n"));
    let requests = peer.join().expect("the peer saw what it expected");
    let Request::ShellRead(first) = &requests[0] else { panic!("{requests:?}") };
    assert_eq!((first.cursor, first.max_chars, first.plain), (5, 9, false));
}

/// Catches a gap that is not told, or is told where bytes of the guest go.
#[test]
fn reading_tells_what_is_not_kept() {
    let dropped = |response| match response {
        Response::ShellRead(read) => Response::ShellRead(ShellReadResult { dropped_bytes: 7, ..read }),
        other => panic!("{other:?}"),
    };
    let world = World::new();
    let peer = world.serve([replying(dropped(read("x"))), replying(dropped(read("x")))]);
    let output = run(&world, &["read", ID, SHELL, "--at", "12"]);
    assert_eq!(output.stdout, b"x");
    let text = String::from_utf8(output.stderr).expect("it is text");
    assert!(
        text.starts_with("pyro: 7 bytes of stdout were dropped by retention\n[workspace-shell-read] "),
        "{text}"
    );
    let json = run(&world, &["read", ID, SHELL, "--json"]).stdout;
    assert_eq!(serde_json::from_slice::<Value>(&json).expect("it is JSON")["dropped_bytes"], 7);
    let requests = peer.join().expect("the peer saw what it expected");
    let Request::ShellRead(first) = &requests[0] else { panic!("{requests:?}") };
    assert_eq!(first.at.map(|point| point.to_string()).as_deref(), Some("12"));
}

#[test]
fn reading_in_json_holds_the_output() {
    let world = World::new();
    world.serve([replying(read("é\u{1b}[0m\n"))]);
    let output = run(&world, &["read", ID, SHELL, "--json"]);
    assert!(output.stderr.is_empty());
    let json: Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
    let mut keys: Vec<_> = json.as_object().expect("it is an object").keys().map(String::as_str).collect();
    keys.sort_unstable();
    assert_eq!(
        keys.join(" "),
        "cols cursor cwd ended_at execution_mode exit_code next_cursor output rows shell_id started_at state \
         truncated workspace_id"
    );
    assert_eq!(json["output"], "é\u{1b}[0m\n");
}

/// Runs with a terminal as standard output, and returns what it shows.
fn on_terminal(world: &World, arguments: &[&str]) -> String {
    let (mut master, terminal) = terminal();
    let mut command = world.command(&[&["workspace", "shell"], arguments].concat());
    let stderr = terminal.try_clone().expect("it can be shared");
    command.stdout(Stdio::from(terminal)).stderr(Stdio::from(stderr));
    let mut child = command.spawn().expect("pyro can be started");
    // It holds the other end of the terminal.
    drop(command);
    let mut shown = Vec::new();
    // The end of a terminal is an error.
    let _end = std::io::Read::read_to_end(&mut master, &mut shown);
    child.wait().expect("it has ended");
    String::from_utf8_lossy(&shown).into_owned()
}

/// Catches a guest that acts on the terminal of somebody who only reads, and a line that is not at the beginning of one.
#[test]
fn terminal_gets_text_and_colors_only_unless_it_is_to_get_all() {
    let world = World::new();
    let hostile = "a\u{1b}]0;title\u{7}\u{1b}[31mb\u{1b}[2J$ ";
    world.serve([replying(read(hostile)), replying(read(hostile))]);
    let shown = on_terminal(&world, &["read", ID, SHELL]);
    assert!(shown.starts_with("a\u{1b}[31mb$ \u{1b}[0m\r\n[workspace-shell-read] "), "{shown:?}");
    let raw = on_terminal(&world, &["read", ID, SHELL, "--raw"]);
    assert!(raw.starts_with(&format!("{hostile}\r\n[workspace-shell-read] ")), "{raw:?}");
}

#[test]
fn failures_have_a_hint_and_a_code() {
    let fail = || -> Script<Request> {
        Box::new(|peer| {
            let request = peer.request();
            peer.reply(Err(
                ApiError::new(ErrorCode::UnknownShell, "no shell 9a41").with_hint("look at the list")
            ));
            request
        })
    };
    let world = World::new();
    world.serve([fail(), fail()]);
    let close = ["workspace", "shell", "close", ID, "9a41"];
    let output = world.run(&close);
    let text = String::from_utf8(output.stderr).expect("it is text");
    assert_eq!(
        (output.status.code(), text.as_str()),
        (Some(1), "[error] no shell 9a41\n[hint] look at the list\n")
    );
    let output = world.run(&[&close[..], &["--json"]].concat());
    let json: Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
    assert_eq!((output.status.code(), &json["code"]), (Some(1), &"unknown_shell".into()));
}

pub(crate) fn joined(peer: &mut Peer, cursor: u64) {
    peer.send(&ServerMessage::Progress(Progress::Joined { cursor }));
}

fn followed(peer: &mut Peer) -> ShellFollowRequest {
    match peer.request() {
        Request::ShellFollow(request) => request,
        other => panic!("{other:?}"),
    }
}

/// Catches bytes that are lost, doubled or filtered when the daemon is replaced under a follower.
#[test]
fn follower_goes_on_with_the_next_daemon_at_the_byte() {
    let world = World::new();
    let first: Script<ShellFollowRequest> = Box::new(|peer| {
        let request = followed(peer);
        // It was asked for what is not there yet.
        joined(peer, 100);
        peer.print(Stream::Stdout, b"a\xff\0\x1b[2J");
        request
    });
    let second: Script<ShellFollowRequest> = Box::new(|peer| {
        let request = followed(peer);
        joined(peer, 107);
        peer.print(Stream::Stdout, b"\xe6\xbc\xa2\n");
        let end = ShellFollowEnd { shell: stopped(0), next_cursor: 111 };
        peer.reply(Ok(Response::ShellFollow(end)));
        request
    });
    let peer = world.serve([first, second]);
    let output = run(&world, &["read", ID, SHELL, "--follow", "--cursor", "9999"]);
    assert_eq!(output.stdout, b"a\xff\0\x1b[2J\xe6\xbc\xa2\n");
    let text = String::from_utf8(output.stderr).expect("it is text");
    let expected = format!(
        "[workspace-shell-read] workspace_id={ID} shell_id={SHELL} state=stopped cursor=100 next_cursor=111 \
         truncated=False execution_mode=guest_vsock\n"
    );
    assert_eq!(text, expected);
    let cursors: Vec<_> =
        peer.join().expect("the peer saw what it expected").iter().map(|request| request.cursor).collect();
    assert_eq!(cursors, [9999, 107]);
}

#[test]
fn hole_in_the_output_is_an_error() {
    let world = World::new();
    world.serve([Box::new(|peer: &mut Peer| {
        followed(peer);
        joined(peer, 0);
        peer.print(Stream::Stdout, b"abc");
        let end = ShellFollowEnd { shell: stopped(0), next_cursor: 4 };
        peer.reply(Ok(Response::ShellFollow(end)));
    }) as Script<()>]);
    let output = world.run(&["workspace", "shell", "read", ID, SHELL, "--follow"]);
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(text.starts_with("[error] output is incomplete: it came up to byte 3"), "{text}");
}

/// Catches a Ctrl-C that loses the place to go on at.
#[test]
fn interrupted_follower_says_where_it_was() {
    let world = World::new();
    let (ready, is_ready) = std::sync::mpsc::channel();
    let peer = world.serve([Box::new(move |peer: &mut Peer| {
        followed(peer);
        joined(peer, 0);
        peer.print(Stream::Stdout, b"abc");
        ready.send(()).expect("the test waits");
        let message = peer.read();
        peer.print(Stream::Stdout, b"d");
        peer.reply(Ok(Response::ShellFollow(ShellFollowEnd { shell: shell(), next_cursor: 4 })));
        message
    }) as Script<Option<ClientMessage>>]);
    let child = world.spawn(&["workspace", "shell", "read", ID, SHELL, "--follow"]);
    is_ready.recv().expect("it follows");
    let pid = Pid::from_child(&child);
    kill_process(pid, Signal::INT).expect("the child is not waited for yet");
    let output = child.wait_with_output().expect("its output can be read");
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(130), b"abcd".as_slice()));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains(" state=running cursor=0 next_cursor=4 "), "{text}");
    assert_eq!(peer.join().expect("the peer does not panic"), [Some(ClientMessage::Cancel)]);
}

#[test]
fn reader_that_goes_away_ends_a_follower_quietly() {
    let world = World::new();
    let peer = world.serve([Box::new(|peer: &mut Peer| {
        followed(peer);
        joined(peer, 0);
        peer.print(Stream::Stdout, b"nobody reads this");
        peer.read()
    }) as Script<Option<ClientMessage>>]);
    let (reader, writer) = std::io::pipe().expect("a pipe can be made");
    drop(reader);
    let mut command = world.command(&["workspace", "shell", "read", ID, SHELL, "--follow"]);
    let output = command.stdout(Stdio::from(writer)).output().expect("pyro can be started");
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(141), b"".as_slice()));
    assert_eq!(peer.join().expect("the peer does not panic"), [None]);
}

/// Catches input that is not passed on byte for byte, and an end of it that ends the output.
#[test]
fn attached_pipe_types_until_its_end_and_shows_until_the_shell_ends() {
    let world = World::new();
    let peer = world.serve([Box::new(|peer: &mut Peer| {
        let Request::ShellAttach(request) = peer.request() else { panic!("an attach is requested") };
        joined(peer, 0);
        let mut typed = Vec::new();
        while !typed.ends_with(b"exit\n") {
            let Some(ClientMessage::Input(input)) = peer.read() else { panic!("input comes") };
            typed.extend(input.data);
        }
        peer.print(Stream::Stdout, b"\x1b[?2004h\x1b[31mdone\r\n");
        let end = ShellFollowEnd { shell: stopped(7), next_cursor: 19 };
        peer.reply(Ok(Response::ShellAttach(end)));
        (request, typed)
    }) as Script<(ShellAttachRequest, Vec<u8>)>]);
    let mut child = world
        .command(&["workspace", "shell", "attach", ID, SHELL])
        .stdin(Stdio::piped())
        .spawn()
        .expect("pyro can be started");
    // Keys that leave are none in a pipe.
    let mut stdin = child.stdin.take().expect("it is piped");
    std::io::Write::write_all(&mut stdin, b"\x1c\xff\0\nexit\n").expect("it reads");
    drop(stdin);
    let output = child.wait_with_output().expect("its output can be read");
    assert_eq!(
        (output.status.code(), output.stdout.as_slice()),
        (Some(7), b"\x1b[?2004h\x1b[31mdone\r\n".as_slice())
    );
    assert_eq!(String::from_utf8_lossy(&output.stderr), line("attach", "stopped", " exit_code=7"));
    let requests = peer.join().expect("the peer saw what it expected");
    assert_eq!(requests[0].1, b"\x1c\xff\0\nexit\n");
    let (workspace_id, shell_id) = (ID.to_owned(), SHELL.to_owned());
    assert_eq!(requests[0].0, ShellAttachRequest { workspace_id, shell_id, cursor: None, size: None });
}

#[test]
fn shell_whose_guest_is_gone_is_an_error() {
    let world = World::new();
    world.serve([Box::new(|peer: &mut Peer| {
        peer.request();
        joined(peer, 0);
        let lost = ShellObject { exit_code: None, error: Some("the guest died".to_owned()), ..stopped(0) };
        peer.reply(Ok(Response::ShellAttach(ShellFollowEnd { shell: lost, next_cursor: 0 })));
    }) as Script<()>]);
    let output = world.run(&["workspace", "shell", "attach", ID, SHELL]);
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(text.starts_with(&format!("[error] shell {SHELL} is lost: the guest died\n[hint] ")), "{text}");
}
