//! `pyro workspace sync push`, and `create --seed-path`

use std::io::Read as _;
use std::process::{Output, Stdio};

use pyro_api::{
    ApiError, ClientMessage, ErrorCode, Progress, Request, Response, ServerMessage, SyncPhase, SyncProgress,
    SyncResult, WorkspaceSync, WorkspaceSyncPushRequest,
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::peer::{Peer, World};
use crate::terminal::terminal;

type Script<T> = Box<dyn FnOnce(&mut Peer) -> T + Send>;

const ID: &str = "5f0c2a9be1d4";
const PUSH: [&str; 5] = ["workspace", "sync", "push", ID, "."];

fn result(entry_count: u64) -> SyncResult {
    SyncResult {
        workspace_id: ID.to_owned(),
        execution_mode: "guest_vsock".to_owned(),
        workspace_sync: WorkspaceSync {
            mode: "directory".to_owned(),
            source_path: "/home/me/a\n[error] b".to_owned(),
            destination: "/workspace/app".to_owned(),
            entry_count,
            bytes_written: 20,
        },
    }
}

fn line(entry_count: u64) -> String {
    format!(
        "[workspace-sync] workspace_id={ID} mode=directory source=/home/me/a\\n[error] b destination=/workspace/app \
         entry_count={entry_count} bytes_written=20 execution_mode=guest_vsock\n"
    )
}

fn pushed(peer: &mut Peer) -> WorkspaceSyncPushRequest {
    match peer.request() {
        Request::WorkspaceSyncPush(request) => request,
        other => panic!("{other:?}"),
    }
}

fn progress(peer: &mut Peer, phase: SyncPhase, entries: u64) {
    let total = (phase == SyncPhase::Send).then_some(4);
    let progress = SyncProgress { phase, entries, bytes: entries, entries_total: total, bytes_total: total };
    peer.send(&ServerMessage::Progress(Progress::Sync(progress)));
}

fn text(output: &[u8]) -> String {
    String::from_utf8(output.to_vec()).expect("it is text")
}

/// Catches a path that the daemon reads from its own directory, and progress in a script's output.
#[test]
fn push_is_a_line_or_an_object() {
    let push = || -> Script<WorkspaceSyncPushRequest> {
        Box::new(|peer| {
            let request = pushed(peer);
            progress(peer, SyncPhase::Check, 2);
            progress(peer, SyncPhase::Send, 2);
            peer.reply(Ok(Response::WorkspaceSyncPush(result(4))));
            request
        })
    };
    let world = World::new();
    let peer = world.serve([push(), push()]);
    let output = world.run(&[&PUSH[..], &["--dest", "app"]].concat());
    assert_eq!((text(&output.stdout), text(&output.stderr)), (line(4), String::new()));
    assert_eq!(output.status.code(), Some(0));
    let output = world.run(&[&PUSH[..], &["--json"]].concat());
    assert_eq!(serde_json::from_slice::<SyncResult>(&output.stdout).expect("it is JSON"), result(4));
    assert!(output.stdout.starts_with(b"{\n  \"execution_mode\"") && output.stderr.is_empty());
    let requests = peer.join().expect("the peer saw what it expected");
    let source = std::path::Path::new(&requests[0].source_path);
    assert!(source.is_absolute() && source == source.canonicalize().expect("it is there"), "{source:?}");
    assert_eq!((requests[0].dest.as_str(), requests[0].watch), ("app", false));
    assert!(requests[0].request_id.is_some());
}

#[test]
fn source_that_is_not_there_is_told_without_a_daemon() {
    let world = World::new();
    for arguments in [
        &["workspace", "sync", "push", ID, "missing"][..],
        &["workspace", "create", "debian:12", "--seed-path", "missing"],
    ] {
        let output = world.run(&[arguments, &["--json"]].concat());
        let json: Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
        assert_eq!((output.status.code(), &json["code"]), (Some(1), &"source_unusable".into()));
    }
}

#[test]
fn seed_is_sent_in_full_with_the_users_home() {
    let world = World::new();
    let peer = world.serve([Box::new(|peer: &mut Peer| {
        let Request::WorkspaceCreate(request) = peer.request() else { panic!("a workspace is created") };
        peer.reply(Err(ApiError::new(ErrorCode::SourceRefused, "../x leads out of the archive")));
        request.seed_path
    }) as Script<Option<String>>]);
    let home = tempfile::tempdir().expect("a temporary directory can be made");
    let home = home.path().canonicalize().expect("it is there");
    std::fs::write(home.join("seed.tar"), "").expect("it is ours");
    let mut command = world.command(&["workspace", "create", "debian:12", "--seed-path=~/seed.tar"]);
    let output = command.env("HOME", &home).output().expect("pyro can be started");
    assert_eq!(text(&output.stderr), "[error] ../x leads out of the archive\n");
    let seeds = peer.join().expect("the peer saw what it expected");
    assert_eq!(seeds[0].as_deref(), home.join("seed.tar").to_str());
}

/// Catches a push that is done twice, or is said to have failed, when the daemon goes in the middle of it.
#[test]
fn next_daemon_is_asked_for_the_outcome() {
    let world = World::new();
    let dying: Script<WorkspaceSyncPushRequest> = Box::new(pushed);
    let next: Script<WorkspaceSyncPushRequest> = Box::new(|peer| {
        let request = pushed(peer);
        peer.reply(Ok(Response::WorkspaceSyncPush(result(4))));
        request
    });
    let peer = world.serve([dying, next]);
    let output = world.run(&PUSH);
    assert_eq!((text(&output.stdout), output.status.code()), (line(4), Some(0)));
    let requests = peer.join().expect("the peer saw what it expected");
    assert!(requests[0] == requests[1] && requests[0].request_id.is_some(), "{requests:?}");
}

/// Starts a push, interrupts it when the peer says so, and answers as told.
fn interrupted(
    options: &[&str],
    first: impl FnOnce(&mut Peer) + Send + 'static,
    reply: Result<Response, ApiError>,
) -> (Output, Option<ClientMessage>) {
    let world = World::new();
    let (ready, is_ready) = std::sync::mpsc::channel();
    let peer = world.serve([Box::new(move |peer: &mut Peer| {
        pushed(peer);
        first(peer);
        ready.send(()).expect("the test waits");
        let message = peer.read();
        peer.reply(reply);
        message
    }) as Script<Option<ClientMessage>>]);
    let child = world.spawn(&[&PUSH[..], options].concat());
    is_ready.recv().expect("the push is under way");
    kill_process(Pid::from_child(&child), Signal::INT).expect("the child is not waited for yet");
    let output = child.wait_with_output().expect("its output can be read");
    let messages = peer.join().expect("the peer does not panic");
    (output, messages.into_iter().next().flatten())
}

#[test]
fn interrupt_cancels_a_push() {
    let canceled = ApiError::new(ErrorCode::Canceled, "canceled");
    let (output, message) = interrupted(&[], |_| {}, Err(canceled));
    assert_eq!((output.status.code(), message), (Some(130), Some(ClientMessage::Cancel)));
    assert_eq!(
        (text(&output.stdout), text(&output.stderr)),
        (String::new(), "[error] canceled by SIGINT\n".to_owned())
    );
    // It was too late: what has happened is told.
    let (output, _) = interrupted(&[], |_| {}, Ok(Response::WorkspaceSyncPush(result(4))));
    assert_eq!((text(&output.stdout), output.status.code()), (line(4), Some(0)));
}

fn two_pushes(peer: &mut Peer) {
    peer.send(&ServerMessage::Progress(Progress::Synced(result(4))));
    let error = ApiError::new(ErrorCode::SourceRefused, "x is a device\n[workspace-sync] forged");
    peer.send(&ServerMessage::Progress(Progress::SyncFailed(error)));
    peer.send(&ServerMessage::Progress(Progress::Synced(result(1))));
}

/// Catches a watch that prints its totals like a push, hides a failure, or fails because it was ended as intended.
#[test]
fn watch_tells_each_push_and_ends_well() {
    let total = || Ok(Response::WorkspaceSyncPush(result(5)));
    let (output, message) = interrupted(&["--watch"], two_pushes, total());
    assert_eq!((output.status.code(), message), (Some(0), Some(ClientMessage::Cancel)));
    assert_eq!(text(&output.stdout), format!("{}{}", line(4), line(1)));
    assert_eq!(text(&output.stderr), "[error] x is a device\n  [workspace-sync] forged\n");

    let (output, _) = interrupted(&["--watch", "--json"], two_pushes, total());
    assert!(output.stderr.is_empty() && output.status.code() == Some(0));
    let lines: Vec<Value> = text(&output.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).expect("a line is JSON"))
        .collect();
    let counts: Vec<_> = lines.iter().map(|line| line["workspace_sync"]["entry_count"].as_u64()).collect();
    assert_eq!(counts, [Some(4), None, Some(1)]);
    assert_eq!((&lines[1]["ok"], &lines[1]["code"]), (&Value::Bool(false), &"source_refused".into()));
}

#[test]
fn reader_that_goes_away_ends_a_watch_quietly() {
    let world = World::new();
    let peer = world.serve([Box::new(|peer: &mut Peer| {
        pushed(peer);
        two_pushes(peer);
        let message = peer.read();
        peer.reply(Ok(Response::WorkspaceSyncPush(result(4))));
        message
    }) as Script<Option<ClientMessage>>]);
    let (reader, writer) = std::io::pipe().expect("a pipe can be made");
    drop(reader);
    let mut command = world.command(&[&PUSH[..], &["--watch"]].concat());
    let output = command.stdout(Stdio::from(writer)).output().expect("pyro can be started");
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(141), b"".as_slice()));
    assert_eq!(peer.join().expect("the peer does not panic"), [Some(ClientMessage::Cancel)]);
}

/// Catches a bar that never comes, one that flickers for a short push, and one that stays on the screen.
#[test]
fn push_that_takes_a_while_has_a_bar_on_a_terminal() {
    let world = World::new();
    let (seen, is_seen) = std::sync::mpsc::channel();
    world.serve([Box::new(move |peer: &mut Peer| {
        pushed(peer);
        progress(peer, SyncPhase::Check, 1);
        let tick = std::time::Duration::from_millis(100);
        // As the daemon does, until the bar is there.
        while is_seen.recv_timeout(tick).is_err() {
            progress(peer, SyncPhase::Send, 2);
        }
        peer.reply(Ok(Response::WorkspaceSyncPush(result(4))));
    }) as Script<()>]);
    let (mut master, terminal) = terminal();
    let mut command = world.command(&PUSH);
    command.stderr(Stdio::from(terminal)).env("TERM", "xterm");
    let begun = std::time::Instant::now();
    let mut child = command.spawn().expect("pyro can be started");
    drop(command);
    let (mut shown, mut chunk, mut first_at) = (Vec::new(), [0; 4096], None);
    while let Ok(len @ 1..) = master.read(&mut chunk) {
        first_at.get_or_insert(begun.elapsed());
        shown.extend_from_slice(&chunk[..len]);
        if String::from_utf8_lossy(&shown).contains("sending 2 of 4 entries, 2 B of 4 B") {
            // After the reply nobody waits for it any more.
            let _ended = seen.send(());
        }
    }
    assert!(first_at.is_some_and(|at| at >= std::time::Duration::from_secs(1)), "{first_at:?}");
    let text = String::from_utf8_lossy(&shown);
    assert!(text.contains(" 50%") && text.trim_end_matches(['\r', '\n']).ends_with("\u{1b}[2K"), "{text:?}");
    assert_eq!(child.wait().expect("it has ended").code(), Some(0));
}
