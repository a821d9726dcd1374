//! `pyro log show`, `head`, `compact` and `export`.

use pyro_api::{
    EventActor, Face, LogCompactRequest, LogCompactResult, LogDropped, LogEnd, LogEvent, LogExplanation,
    LogHead, LogRequest, Progress, Request, Response, ServerMessage,
};
use rusqlite::Connection;
use serde_json::{Value, json};

use crate::peer::{Peer, World};

type Script = Box<dyn FnOnce(&mut Peer) -> Request + Send>;

fn event(seq: u64) -> LogEvent {
    LogEvent {
        seq,
        at: format!("2026-01-02T03:04:05.00000{seq}Z"),
        actor: EventActor { face: Face::Mcp, uid: 1000, pid: 7, client: "agent/1.0".to_owned() },
        kind: if seq == 2 { "exec_failed" } else { "exec_requested" }.to_owned(),
        workspace_id: (seq > 1).then(|| "5f0c2a9be1d4".to_owned()),
        request_id: (seq == 2).then(|| "ab".repeat(16)),
        data: json!({"exec": seq, "command": "a\n\u{1b}[2J \"b\" é", "nested": {"z": [1, null, true], "a": u64::MAX}}),
        version: Some(1),
        hash: Some(format!("{seq:064x}")),
    }
}

fn reply(response: Response) -> Script {
    Box::new(move |peer| {
        let request = peer.request();
        peer.reply(Ok(response));
        request
    })
}

fn exporting() -> Script {
    Box::new(move |peer| {
        let request = peer.request();
        (1..=3).for_each(|seq| peer.send(&ServerMessage::Event(event(seq))));
        peer.reply(Ok(Response::Log(LogEnd { head_seq: 9 })));
        request
    })
}

/// Runs an export twice, and returns what it wrote when both wrote the same.
fn export(world: &World, format: &str) -> Vec<u8> {
    let arguments =
        ["log", "export", "--format", format, "--since", "1", "--until", "3", "--workspace", "5f0c"];
    let peer = world.serve([exporting(), exporting()]);
    let mut written = ["one", "two"].map(|name| {
        let output = world.run(&[&arguments[..], &["--output", name]].concat());
        assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(0), b"".as_slice()), "{output:?}");
        assert!(!world.path(&format!("{name}.part")).exists());
        std::fs::read(world.path(name)).expect("it was written")
    });
    let requests = peer.join().expect("the peer does not panic");
    let workspace = Some("5f0c".to_owned());
    let (since, until) = ("1".parse().ok(), "3".parse().ok());
    let expected = LogRequest { since, until, workspace, hashes: true, ..LogRequest::default() };
    assert!(requests.iter().all(|request| *request == Request::Log(expected.clone())), "{requests:?}");
    assert_eq!(written[0], written[1], "{format}");
    std::mem::take(&mut written[0])
}

/// Catches another order of keys, a key that comes or goes, and an event that is more than one line.
#[test]
fn jsonl_is_canonical() {
    let written = String::from_utf8(export(&World::new(), "jsonl")).expect("it is text");
    insta::assert_snapshot!(written);
}

/// Catches fields that the schema of OTLP does not have, and numbers of 64 bits that are not texts.
#[test]
fn otlp_is_one_document() {
    let written = export(&World::new(), "otlp-json");
    let document: Value = serde_json::from_slice(&written).expect("it is JSON");
    let scope = &document["resourceLogs"][0]["scopeLogs"][0];
    assert_eq!(scope["scope"]["name"], "pyro.log");
    let records = scope["logRecords"].as_array().expect("there are records");
    assert_eq!(records.len(), 3);
    insta::assert_snapshot!(String::from_utf8(written).expect("it is text"));
}

#[test]
fn sqlite_holds_every_event() {
    let world = World::new();
    export(&world, "sqlite");
    let database = Connection::open(world.path("one")).expect("it is a database");
    let text =
        |query: &str| database.query_row(query, [], |row| row.get::<_, String>(0)).expect("there is a row");
    assert_eq!(text("PRAGMA integrity_check"), "ok");
    assert_eq!(
        text("SELECT group_concat(seq || kind || face || ifnull(workspace, '-'), ' ') FROM events"),
        "1exec_requestedmcp- 2exec_failedmcp5f0c2a9be1d4 3exec_requestedmcp5f0c2a9be1d4"
    );
    assert_eq!(text("SELECT data ->> '$.command' FROM events WHERE seq = 3"), "a\n\u{1b}[2J \"b\" é");
    assert_eq!(
        text("SELECT group_concat(key || '=' || value, ' ') FROM meta WHERE key <> 'last_hash'"),
        "first_seq=1 format=1 last_seq=3"
    );
    assert_eq!(text("SELECT value FROM meta WHERE key = 'last_hash'"), format!("{:064x}", 3));
}

/// Catches an export that leaves half a file in the place of a whole one.
#[test]
fn failed_export_leaves_the_file_as_it_was() {
    let world = World::new();
    std::fs::write(world.path("kept"), "whole").expect("it can be written");
    let dying: Script = Box::new(|peer| {
        let request = peer.request();
        peer.send(&ServerMessage::Event(event(1)));
        request
    });
    let peer = world.serve([dying]);
    let output = world.run(&["log", "export", "--format", "jsonl", "--output", "kept"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(std::fs::read(world.path("kept")).expect("it is there"), b"whole");
    assert!(!world.path("kept.part").exists());
    peer.join().expect("the peer does not panic");
    let output = world.run(&["log", "export", "--format", "sqlite"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("--output"), "{output:?}");
}

/// Catches a text of a guest or client that forges lines or moves the cursor.
#[test]
fn explanation_as_text() {
    let world = World::new();
    let explanation = LogExplanation {
        event: event(2),
        meaning: "The bounds are these from now on.".to_owned(),
        previous_hash: event(1).hash.unwrap_or_default(),
        request: vec![event(2)],
        workspace_before: None,
        workspace_after: Some(event(3)),
    };
    world.serve([reply(Response::LogShow(explanation))]);
    let output = world.run(&["log", "show", "2"]);
    insta::assert_snapshot!(String::from_utf8(output.stdout).expect("it is text"));
}

/// Catches a head that `verify --expect` does not take.
#[test]
fn head_is_what_verify_expects() {
    let world = World::new();
    let head = LogHead { seq: 7, hash: "ab".repeat(32), state_digest: "cd".repeat(32) };
    world.serve([reply(Response::LogHead(head))]);
    let output = world.run(&["log", "head"]);
    let mark = String::from_utf8(output.stdout).expect("it is text");
    assert_eq!(mark, format!("{}@7\n", "ab".repeat(32)));
    // Nobody answers any more, so the files have to: there are none.
    let output = world.run(&["log", "verify", "--json", "--expect", mark.trim_end()]);
    let verdict: Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
    assert_eq!(
        (output.status.code(), &verdict["whole"], verdict["problems"][0]["about"].as_str()),
        (Some(1), &json!(false), Some("expected"))
    );
    let output = world.run(&["log", "verify"]);
    assert_eq!(output.status.code(), Some(0), "an empty log is whole");
    let text = String::from_utf8(output.stdout).expect("it is text");
    assert!(text.starts_with("Events: 0 in 0 segments\n") && text.ends_with("Log: whole\n"), "{text}");
}

/// Catches a follower that comes back without its place: it would miss what happened meanwhile, or print it twice. A limit
/// is for what was there at first, also when none of it was wanted.
#[test]
fn follower_resumes_where_it_was() {
    let world = World::new();
    let dying = |sent: Vec<ServerMessage>| -> Script {
        Box::new(move |peer| {
            let request = peer.request();
            sent.iter().for_each(|message| peer.send(message));
            request
        })
    };
    let caught_up = |seq| ServerMessage::Progress(Progress::CaughtUp { seq });
    let peer = world.serve([
        dying(vec![]),
        dying(vec![caught_up(5)]),
        dying(vec![ServerMessage::Event(event(7)), ServerMessage::Event(event(8))]),
        dying(vec![caught_up(8), ServerMessage::Event(event(9))]),
        reply(Response::Log(LogEnd { head_seq: 9 })),
    ]);
    let output = world.run(&["log", "--json", "--follow", "--limit", "2"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("it is text");
    let seqs: Vec<_> = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("it is JSON")["seq"].clone())
        .collect();
    assert_eq!(seqs, [7, 8, 9]);
    let asked: Vec<_> = peer
        .join()
        .expect("the peer does not panic")
        .into_iter()
        .map(|request| match request {
            Request::Log(LogRequest { since, limit, .. }) => (since.map(|since| since.to_string()), limit),
            other => panic!("{other:?}"),
        })
        .collect();
    let behind = |seq: u64| (Some(seq.to_string()), None);
    assert_eq!(asked, [(None, Some(2)), (None, Some(2)), behind(6), behind(9), behind(10)]);
}

fn compacted(signed_off_seq: Option<u64>) -> LogCompactResult {
    LogCompactResult {
        first_seq: 5001,
        dropped: Some(LogDropped {
            from_seq: 1001,
            events: 4000,
            segments: 2,
            bytes: 33_600_000,
            since: "2026-01-02T03:04:05.000001Z".to_owned(),
            until: "2026-01-03T03:04:05.000001Z".to_owned(),
            hash: "ab".repeat(32),
        }),
        signed_off_seq,
    }
}

/// Catches a compaction that asks for something else than its options say, or says something else than what was done.
#[test]
fn compaction_as_text() {
    let world = World::new();
    let nothing = LogCompactResult { first_seq: 1001, dropped: None, signed_off_seq: None };
    let results = [compacted(Some(7000)), compacted(None), nothing];
    let peer = world.serve(results.map(|result| reply(Response::LogCompact(result))));
    let options: [&[&str]; 3] =
        [&["--keep-days", "90", "--keep-mib", "512"], &["--before", "5001", "--dry-run"], &[]];
    let mut text = String::new();
    for options in options {
        let output = world.run(&[&["log", "compact"], options].concat());
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        text += &String::from_utf8(output.stdout).expect("it is text");
        text.push('\n');
    }
    let requests = peer.join().expect("the peer does not panic");
    let expected = [
        LogCompactRequest { keep_days: Some(90), keep_mib: Some(512), ..LogCompactRequest::default() },
        LogCompactRequest { before: Some(5001), dry_run: true, ..LogCompactRequest::default() },
        LogCompactRequest::default(),
    ];
    assert_eq!(requests, expected.map(Request::LogCompact));
    insta::assert_snapshot!(text);
}
