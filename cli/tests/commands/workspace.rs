//! `pyro workspace`

use std::collections::BTreeMap;

use pyro_api::{
    CommandRecord, ExecOutcome, GapCause, LastCommand, Progress, PullProgress, Request, Response, Resume,
    ServerMessage, Stream, WorkspaceExecRequest, WorkspaceList, WorkspaceLogsEnd, WorkspaceObject,
    WorkspaceSeed,
};
use serde_json::Value;

use crate::peer::{Peer, World};

type Script = Box<dyn FnOnce(&mut Peer) -> Request + Send>;

const ID: &str = "5f0c2a9be1d4";

fn object() -> WorkspaceObject {
    WorkspaceObject {
        workspace_id: ID.to_owned(),
        environment: "debian:12".to_owned(),
        environment_version: Some("1.0.0".to_owned()),
        vcpu_count: 2,
        mem_mib: 1024,
        ttl_seconds: 600,
        created_at: 1.5,
        expires_at: Some(601.5),
        state: "started".to_owned(),
        network_enabled: false,
        allow_host_compat: false,
        guest_ip: None,
        tap_name: None,
        execution_mode: "guest_vsock".to_owned(),
        workspace_path: "/workspace".to_owned(),
        workspace_seed: WorkspaceSeed {
            mode: "empty".to_owned(),
            seed_path: None,
            destination: "/workspace".to_owned(),
            entry_count: 0,
            bytes_written: 0,
        },
        command_count: 0,
        last_command: None,
        metadata: BTreeMap::new(),
        name: None,
        labels: BTreeMap::new(),
    }
}

/// A stopped workspace whose texts come from hostile people.
fn hostile() -> WorkspaceObject {
    WorkspaceObject {
        state: "stopped".to_owned(),
        command_count: 3,
        last_command: Some(LastCommand {
            sequence: 3,
            command: "echo a\nState: started\u{1b}[2J".to_owned(),
            cwd: "/workspace".to_owned(),
            exit_code: 7,
            duration_ms: 12,
            execution_mode: "guest_vsock".to_owned(),
        }),
        metadata: BTreeMap::from([(
            "stop_reason".to_owned(),
            "the guest died: its console said\r x".to_owned(),
        )]),
        name: Some("web".to_owned()),
        labels: BTreeMap::from([("team".to_owned(), "a\u{202e}b".to_owned())]),
        ..object()
    }
}

fn replying(response: Response) -> Script {
    Box::new(move |peer| {
        let request = peer.request();
        peer.reply(Ok(response));
        request
    })
}

fn text(arguments: &[&str], response: Response) -> String {
    let world = World::new();
    world.serve([replying(response)]);
    let output = world.run(arguments);
    assert_eq!(output.status.code(), Some(0), "{}", output.stderr.escape_ascii());
    String::from_utf8(output.stdout).expect("it is text")
}

#[test]
fn object_as_text() {
    insta::assert_snapshot!(
        "workspace_create",
        text(&["workspace", "create", "debian:12"], Response::WorkspaceCreate(object()))
    );
    insta::assert_snapshot!(
        "workspace_status",
        text(&["workspace", "status", ID], Response::WorkspaceStatus(hostile()))
    );
    let list = WorkspaceList { count: 2, workspaces: vec![object(), hostile()] };
    insta::assert_snapshot!("workspace_list", text(&["workspace", "list"], Response::WorkspaceList(list)));
    let only = text(&["workspace", "create", "debian:12", "--id-only"], Response::WorkspaceCreate(object()));
    assert_eq!(only, format!("{ID}\n"));
}

/// Catches a script that gets phases among its results, and labels or a name that do not arrive.
#[test]
fn create_shows_a_pull_on_standard_error() {
    let world = World::new();
    let peer = world.serve([Box::new(|peer: &mut Peer| {
        let request = peer.request();
        for phase in ["install", "ready"] {
            let (phase, detail) = (phase.to_owned(), String::new());
            let progress =
                PullProgress { environment: "debian:12".to_owned(), phase, fraction: None, detail };
            peer.send(&ServerMessage::Progress(Progress::Pull(progress)));
        }
        peer.reply(Ok(Response::WorkspaceCreate(object())));
        request
    }) as Script]);
    let arguments = [
        "workspace",
        "create",
        "--name",
        "web",
        "debian:12",
        "--label",
        "a=b=c",
        "--label",
        "d=",
        "--id-only",
    ];
    let output = world.run(&arguments);
    assert_eq!(output.stdout, format!("{ID}\n").as_bytes());
    let expected = "[pull] phase=install environment=debian:12\n[pull] phase=ready environment=debian:12\n";
    assert_eq!(String::from_utf8(output.stderr).expect("it is text"), expected);
    let requests = peer.join().expect("the peer saw what it expected");
    let Request::WorkspaceCreate(request) = &requests[0] else { panic!("{requests:?}") };
    let labels = [("a".to_owned(), "b=c".to_owned()), ("d".to_owned(), String::new())];
    assert_eq!((request.name.as_deref(), &request.labels), (Some("web"), &labels.into()));
}

fn outcome() -> ExecOutcome {
    ExecOutcome {
        workspace_id: ID.to_owned(),
        environment: "debian:12".to_owned(),
        environment_version: None,
        command: "make 'it so'".to_owned(),
        sequence: 4,
        cwd: "/workspace".to_owned(),
        exit_code: 7,
        signal: None,
        timed_out: false,
        duration_ms: 214,
        execution_mode: "guest_vsock".to_owned(),
        stdout_bytes: 6,
        stderr_bytes: 3,
    }
}

/// Catches an exec that is not resumed where it was, or prints another line than that of the contract.
#[test]
fn exec_goes_on_with_the_next_daemon() {
    let world = World::new();
    let dying: Script = Box::new(|peer| {
        let request = peer.request();
        peer.print(Stream::Stdout, b"a\xff\0");
        request
    });
    let second: Script = Box::new(|peer| {
        let request = peer.request();
        peer.print(Stream::Stdout, b"\x1b\r\n");
        peer.print(Stream::Stderr, b"err");
        peer.reply(Ok(Response::WorkspaceExec(outcome())));
        request
    });
    let peer = world.serve([dying, second]);
    let output = world.run(&["workspace", "exec", ID, "--", "make", "it so"]);
    assert_eq!((output.stdout.as_slice(), output.status.code()), (b"a\xff\0\x1b\r\n".as_slice(), Some(7)));
    assert_eq!(
        String::from_utf8(output.stderr).expect("it is text"),
        "err[workspace-exec] workspace_id=5f0c2a9be1d4 sequence=4 cwd=/workspace execution_mode=guest_vsock \
         exit_code=7 duration_ms=214\n"
    );
    let requests = peer.join().expect("the peer saw what it expected");
    let [Request::WorkspaceExec(first), Request::WorkspaceExec(second)] = &requests[..] else {
        panic!("{requests:?}")
    };
    assert!(first.request_id.is_some() && first.command == "make 'it so'");
    let resume = Some(Resume { stdout_offset: 3, stderr_offset: 0 });
    assert_eq!(second, &WorkspaceExecRequest { resume, ..first.clone() });
}

fn record(sequence: u32) -> CommandRecord {
    CommandRecord {
        sequence,
        command: format!("echo {sequence}"),
        cwd: "/workspace".to_owned(),
        exit_code: Some(0),
        duration_ms: 5,
        execution_mode: "guest_vsock".to_owned(),
        recorded_at: 2.5,
        stdout_file: "/o/1.stdout".to_owned(),
        stderr_file: "/o/1.stderr".to_owned(),
        signal: None,
        timed_out: false,
        error: None,
    }
}

fn history() -> Script {
    Box::new(|peer| {
        let request = peer.request();
        let records: [(u32, &[u8], &[u8]); 3] =
            [(1, b"no end", b"err\n"), (2, b"", b""), (3, b"line\n", b"")];
        for (sequence, stdout, stderr) in records {
            peer.send(&ServerMessage::Progress(Progress::Record(record(sequence))));
            peer.print(Stream::Stdout, stdout);
            peer.print(Stream::Stderr, stderr);
            if sequence == 2 {
                for (from, to, cause) in [(0, 9, GapCause::Retention), (9, 16, GapCause::Missing)] {
                    let stream = Stream::Stderr;
                    peer.send(&ServerMessage::Progress(Progress::Gap { stream, from, to, cause }));
                }
            }
        }
        let end = WorkspaceLogsEnd { workspace_id: ID.to_owned(), count: 3 };
        peer.reply(Ok(Response::WorkspaceLogs(end)));
        request
    })
}

/// Catches output that is shown with the wrong command, a gap that is not told, and a record that begins in the middle of
/// a line.
#[test]
fn logs_are_records_with_their_output() {
    let world = World::new();
    world.serve([history(), history()]);
    let output = world.run(&["workspace", "logs", ID]);
    let head = |number: u32| format!("#{number} exit_code=0 duration_ms=5 cwd=/workspace\n$ echo {number}\n");
    let expected = format!("{}no end\n{}{}line\n", head(1), head(2), head(3));
    assert_eq!(String::from_utf8(output.stdout).expect("it is text"), expected);
    let text = String::from_utf8(output.stderr).expect("it is text");
    assert_eq!(
        text,
        "err\npyro: 9 bytes of stderr were dropped by retention\n\
         pyro: 7 bytes of stderr are missing: their file was shortened or deleted\n"
    );

    let json = world.run(&["workspace", "logs", ID, "--json"]);
    let json: Value = serde_json::from_slice(&json.stdout).expect("it is JSON");
    assert_eq!((&json["workspace_id"], &json["count"]), (&ID.into(), &3.into()));
    let outputs: Vec<_> = json["entries"]
        .as_array()
        .expect("it is a list")
        .iter()
        .map(|entry| (entry["sequence"].as_u64(), entry["stdout"].as_str(), entry["stderr"].as_str()))
        .collect();
    assert_eq!(
        outputs,
        [
            (Some(1), Some("no end"), Some("err\n")),
            (Some(2), Some(""), Some("")),
            (Some(3), Some("line\n"), Some(""))
        ]
    );
    let flags = |entry: &Value| (entry["stderr_truncated"].clone(), entry["stderr_bytes"].clone());
    assert_eq!(flags(&json["entries"][1]), (true.into(), 16.into()));
    assert_eq!(flags(&json["entries"][0]), (Value::Null, Value::Null));
}
