//! The wire is what the snapshot says: kinds, fields and bytes of every frame, rendered from the live types.
//!
//! A difference is a new generation, not a new snapshot: see the crate's documentation. While a generation has not been
//! released, `UPDATE_SCHEMA=1 cargo test -p pyro-protocol` writes it anew.

use std::fmt::Write as _;
use std::path::Path;

use bytes::Bytes;
use pyro_protocol::{
    Ack, Announce, Attach, BootId, Decoder, Entry, EntryKind, Exec, Existing, ExitStatus, Exited, Failed,
    FileAccess, FileAnswer, FileCall, FileData, FileKind, FileReply, FileRequest, FileStat, FileTarget,
    FileWrite, Files, Frame, Generation, GenerationRange, GuestFrame, Hello, HostFrame, Import, ImportFailed,
    ImportState, Imported, Input, InputProgress, Listed, ModifiedAt, NewFile, NewTime, Operation, Output,
    Phase, Refusal, Retained, Shell, Space, Stage, Started, StatChanges, Stream, TerminalSize, Welcome,
};
use serde_json::{Value, json};

const RANGE: GenerationRange = GenerationRange { min: Generation(1), max: Generation(300) };
const BOOT: BootId = BootId([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 255]);

/// Every host frame, with values on both sides of the steps of the varint encoding.
fn host_frames() -> Vec<HostFrame> {
    vec![
        HostFrame::Hello(Hello { generations: RANGE }),
        HostFrame::Exec(Exec {
            op: 250,
            command: "printf '\u{e9}'".to_owned(),
            cwd: Some("/workspace".to_owned()),
            create_cwd: true,
            env: vec![("A".to_owned(), "1".to_owned()), ("B".to_owned(), String::new())],
            timeout_ms: 30_000,
        }),
        HostFrame::Exec(Exec {
            op: u64::MAX,
            command: String::new(),
            cwd: None,
            create_cwd: false,
            env: vec![],
            timeout_ms: 1,
        }),
        HostFrame::Attach(Attach { op: 251, stdout_offset: 65_536, stderr_offset: 1 << 32 }),
        HostFrame::Shutdown,
        HostFrame::SetClock { unix_micros: 1_800_000_000_000_000 },
        HostFrame::Ping,
        HostFrame::Operations,
        HostFrame::Ack(Ack { stream: Stream::Stdout, offset: 4_294_967_295 }),
        HostFrame::Ack(Ack { stream: Stream::Stderr, offset: 0 }),
        HostFrame::Kill,
        HostFrame::Forget,
    ]
}

/// The host frames that generation 2 added.
fn second_host_frames() -> Vec<HostFrame> {
    let entry = |path: &[u8], kind| {
        let modified = ModifiedAt { seconds: -1, nanoseconds: 999_999_999 };
        HostFrame::Entry(Entry { path: path.to_vec(), kind, mode: 0o755, modified })
    };
    vec![
        HostFrame::Terminate { grace_ms: 10_000 },
        HostFrame::Shell(Shell {
            op: 1 << 63,
            cwd: "/workspace".to_owned(),
            create_cwd: true,
            env: vec![("TERM".to_owned(), "xterm-256color".to_owned())],
            size: TerminalSize { columns: 120, rows: 30 },
        }),
        HostFrame::Input(Input { offset: 258, data: Bytes::from_static(b"ls\n") }),
        HostFrame::Resize(TerminalSize { columns: 65_535, rows: 1 }),
        HostFrame::Signal { signal: 2 },
        HostFrame::HangUp { grace_ms: 5000 },
        HostFrame::Import(Import { op: 7, destination: "/workspace/a".to_owned() }),
        entry(b"", EntryKind::Directory),
        entry(b"d/f\xff", EntryKind::File { len: 1 << 32 }),
        entry(b"d/s", EntryKind::Symlink { target: b"../x".to_vec() }),
        entry(b"d/h", EntryKind::HardLink { target: b"d/f".to_vec() }),
        entry(b"d/old", EntryKind::Absent),
        HostFrame::Content(Bytes::from_static(b"\0a")),
        HostFrame::Commit,
        HostFrame::AskImport { op: 7 },
    ]
}

/// Every guest frame, with every variant that one can hold.
fn guest_frames() -> Vec<GuestFrame> {
    let failed = |stage, errno| Failed { stage, errno, message: "start /bin/sh".to_owned() };
    let exited = |status| Exited { status, duration_ms: 1500, stdout_len: 7, stderr_len: 70_000 };
    let operation = |op, phase| Operation {
        op,
        phase,
        stdout: Retained { start: 3, end: 9 },
        stderr: Retained { start: 0, end: 0 },
    };
    vec![
        GuestFrame::Welcome(Welcome {
            generation: Generation(1),
            agent_version: "1.2.3".to_owned(),
            boot_id: BOOT,
        }),
        GuestFrame::Refused(Refusal::Generation { supported: RANGE }),
        GuestFrame::Refused(Refusal::OffsetBeyondEnd),
        GuestFrame::Announce(Announce {
            generations: RANGE,
            agent_version: "1.2.3".to_owned(),
            boot_id: BOOT,
        }),
        GuestFrame::Started(Started { pid: 70_000 }),
        GuestFrame::Output(Output {
            stream: Stream::Stdout,
            offset: 258,
            data: Bytes::from_static(b"\xff\0a"),
        }),
        GuestFrame::Output(Output {
            stream: Stream::Stderr,
            offset: u64::MAX,
            data: Bytes::from_static(b"!"),
        }),
        GuestFrame::Exited(exited(ExitStatus::Code(255))),
        GuestFrame::Exited(exited(ExitStatus::Signal(9))),
        GuestFrame::Exited(exited(ExitStatus::TimedOut)),
        GuestFrame::Failed(failed(Stage::Admission, 11)),
        GuestFrame::Failed(failed(Stage::Prepare, 24)),
        GuestFrame::Failed(failed(Stage::Cwd, 2)),
        GuestFrame::Failed(failed(Stage::Spawn, -1)),
        GuestFrame::Failed(failed(Stage::Clock, 1)),
        GuestFrame::UnknownOperation,
        GuestFrame::Pong,
        GuestFrame::Operations(vec![
            operation(1, Phase::Starting),
            operation(2, Phase::Running(Started { pid: 2 })),
            operation(3, Phase::Exited(exited(ExitStatus::Code(0)))),
            operation(4, Phase::Failed(failed(Stage::Spawn, 2))),
        ]),
        GuestFrame::Done,
    ]
}

/// The guest frames that generation 2 added.
fn second_guest_frames() -> Vec<GuestFrame> {
    let imported = Imported { entries: 3, bytes: 70_000 };
    let failed =
        |path| ImportFailed { path, errno: 20, message: "it is a directory in the workspace".to_owned() };
    vec![
        GuestFrame::InputProgress(InputProgress { received: 300, consumed: 4096 }),
        GuestFrame::Imported(imported),
        GuestFrame::ImportFailed(failed(Some(b"d/f".to_vec()))),
        GuestFrame::ImportFailed(failed(None)),
        GuestFrame::ImportState(ImportState::Unknown),
        GuestFrame::ImportState(ImportState::Running),
        GuestFrame::ImportState(ImportState::Imported(imported)),
        GuestFrame::ImportState(ImportState::Failed(failed(None))),
    ]
}

/// The host frames that generation 3 added, with every call.
fn third_host_frames() -> Vec<HostFrame> {
    let path = || b"d/f\xff".to_vec();
    let new = NewFile { mode: 0o2755, uid: 1000, gid: 70_000 };
    let changes = StatChanges {
        mode: Some(0o600),
        uid: Some(0),
        gid: Some(5),
        size: Some(1 << 40),
        accessed: Some(NewTime::Now),
        modified: Some(NewTime::At(ModifiedAt { seconds: -1, nanoseconds: 999_999_999 })),
    };
    let create =
        |access, exclusive| FileCall::Create { path: path(), access, exclusive, truncate: true, new };
    let rename = |existing| FileCall::Rename { from: path(), to: b"g".to_vec(), existing };
    let calls = vec![
        FileCall::Stat(FileTarget::Path(Vec::new())),
        FileCall::SetStat { target: FileTarget::Handle(300), changes },
        FileCall::SetStat { target: FileTarget::Path(path()), changes: StatChanges::default() },
        FileCall::ReadLink { path: path() },
        FileCall::Open { path: path(), access: FileAccess::Read, truncate: false },
        create(FileAccess::Write, true),
        create(FileAccess::ReadWrite, false),
        FileCall::OpenDir { path: path() },
        FileCall::ReadDir { handle: 1 },
        FileCall::Read { handle: 2, offset: 1 << 33, len: 131_072 },
        FileCall::Sync { handle: 2, data_only: true },
        FileCall::Allocate { handle: 2, mode: 3, offset: 4096, len: 8192 },
        FileCall::Seek { handle: 2, offset: 0, hole: true },
        FileCall::Close { handle: 2 },
        FileCall::MakeDir { path: path(), new },
        FileCall::MakeNode { path: path(), kind: FileKind::Fifo, new },
        FileCall::Symlink { path: path(), target: b"../x".to_vec(), new },
        FileCall::Link { from: path(), path: b"h".to_vec() },
        FileCall::Unlink { path: path() },
        FileCall::RemoveDir { path: path() },
        rename(Existing::Replace),
        rename(Existing::Keep),
        rename(Existing::Exchange),
        FileCall::Space,
    ];
    let requests = calls.into_iter().zip(250..);
    std::iter::once(HostFrame::Files(Files { root: "/workspace".to_owned(), create_root: true }))
        .chain(requests.map(|(call, tag)| HostFrame::FileRequest(FileRequest { tag, call })))
        .chain([HostFrame::FileWrite(FileWrite {
            tag: 258,
            handle: 2,
            offset: 65_536,
            data: Bytes::from_static(b"\0a"),
        })])
        .collect()
}

/// The guest frames that generation 3 added, with every answer.
fn third_guest_frames() -> Vec<GuestFrame> {
    let time = ModifiedAt { seconds: 1_800_000_000, nanoseconds: 1 };
    let stat = |kind| FileStat {
        device: 1 << 40,
        inode: u64::MAX,
        kind,
        mode: 0o4755,
        links: 1,
        uid: 0,
        gid: 70_000,
        size: 300,
        blocks: 8,
        accessed: time,
        modified: time,
        changed: time,
    };
    let kinds = [
        FileKind::Regular,
        FileKind::Directory,
        FileKind::Symlink,
        FileKind::Fifo,
        FileKind::Socket,
        FileKind::CharDevice,
        FileKind::BlockDevice,
    ];
    let listed = Listed { name: b"f\xff".to_vec(), stat: stat(FileKind::Regular) };
    let space =
        Space { block_len: 4096, blocks: 1 << 20, free: 300, available: 250, files: 1000, files_free: 1 };
    let answers = [
        FileAnswer::Done,
        FileAnswer::Opened { handle: 7, stat: stat(FileKind::Regular), passed: true },
        FileAnswer::Link(b"../x".to_vec()),
        FileAnswer::Entries(vec![listed]),
        FileAnswer::Written { len: 70_000 },
        FileAnswer::Position(1 << 33),
        FileAnswer::Space(space),
    ];
    let answers = kinds.map(|kind| FileAnswer::Stat(stat(kind))).into_iter().chain(answers);
    answers
        .map(Ok)
        .chain([Err(2)])
        .zip(250..)
        .map(|(result, tag)| GuestFrame::FileReply(FileReply { tag, result }))
        .chain([GuestFrame::FileData(FileData { tag: 258, data: Bytes::from_static(b"\xff\0a") })])
        .collect()
}

/// Name and fields of a host frame. A new frame does not compile here until it is in the snapshot.
fn host_shape(frame: &HostFrame) -> (&'static str, Value) {
    match frame {
        HostFrame::Hello(body) => ("Hello", json!(body)),
        HostFrame::Exec(body) => ("Exec", json!(body)),
        HostFrame::Attach(body) => ("Attach", json!(body)),
        HostFrame::Shutdown => ("Shutdown", Value::Null),
        HostFrame::SetClock { unix_micros } => ("SetClock", json!({ "unix_micros": unix_micros })),
        HostFrame::Ping => ("Ping", Value::Null),
        HostFrame::Operations => ("Operations", Value::Null),
        HostFrame::Ack(body) => ("Ack", json!(body)),
        HostFrame::Kill => ("Kill", Value::Null),
        HostFrame::Forget => ("Forget", Value::Null),
        HostFrame::Terminate { grace_ms } => ("Terminate", json!({ "grace_ms": grace_ms })),
        HostFrame::Shell(body) => ("Shell", json!(body)),
        HostFrame::Input(Input { offset, data }) => {
            ("Input", json!({ "offset": offset, "data": data.to_vec() }))
        }
        HostFrame::Resize(body) => ("Resize", json!(body)),
        HostFrame::Signal { signal } => ("Signal", json!({ "signal": signal })),
        HostFrame::HangUp { grace_ms } => ("HangUp", json!({ "grace_ms": grace_ms })),
        HostFrame::Import(body) => ("Import", json!(body)),
        HostFrame::Entry(body) => ("Entry", json!(body)),
        HostFrame::Content(data) => ("Content", json!({ "data": data.to_vec() })),
        HostFrame::Commit => ("Commit", Value::Null),
        HostFrame::AskImport { op } => ("AskImport", json!({ "op": op })),
        HostFrame::Files(body) => ("Files", json!(body)),
        HostFrame::FileRequest(body) => ("FileRequest", json!(body)),
        HostFrame::FileWrite(FileWrite { tag, handle, offset, data }) => {
            ("FileWrite", json!({ "tag": tag, "handle": handle, "offset": offset, "data": data.to_vec() }))
        }
    }
}

/// Name and fields of a guest frame.
fn guest_shape(frame: &GuestFrame) -> (&'static str, Value) {
    match frame {
        GuestFrame::Welcome(body) => ("Welcome", json!(body)),
        GuestFrame::Refused(body) => ("Refused", json!(body)),
        GuestFrame::Announce(body) => ("Announce", json!(body)),
        GuestFrame::Started(body) => ("Started", json!(body)),
        GuestFrame::Output(Output { stream, offset, data }) => {
            ("Output", json!({ "stream": stream, "offset": offset, "data": data.to_vec() }))
        }
        GuestFrame::Exited(body) => ("Exited", json!(body)),
        GuestFrame::Failed(body) => ("Failed", json!(body)),
        GuestFrame::UnknownOperation => ("UnknownOperation", Value::Null),
        GuestFrame::Pong => ("Pong", Value::Null),
        GuestFrame::Operations(body) => ("Operations", json!(body)),
        GuestFrame::Done => ("Done", Value::Null),
        GuestFrame::InputProgress(body) => ("InputProgress", json!(body)),
        GuestFrame::Imported(body) => ("Imported", json!(body)),
        GuestFrame::ImportFailed(body) => ("ImportFailed", json!(body)),
        GuestFrame::ImportState(body) => ("ImportState", json!(body)),
        GuestFrame::FileReply(body) => ("FileReply", json!(body)),
        GuestFrame::FileData(FileData { tag, data }) => {
            ("FileData", json!({ "tag": tag, "data": data.to_vec() }))
        }
    }
}

fn bytes<F: Frame>(frame: &F) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame.encode(&mut bytes).expect("samples are short");
    bytes
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("text grows");
        text
    })
}

fn entry<F: Frame>(frame: &F, (name, fields): (&str, Value)) -> Value {
    json!({ "name": name, "kind": format!("{:#04x}", frame.kind()), "fields": fields, "bytes": hex(&bytes(frame)) })
}

fn check_snapshot(generation: Generation, host: &[HostFrame], guest: &[GuestFrame]) {
    let host: Vec<_> = host.iter().map(|frame| entry(frame, host_shape(frame))).collect();
    let guest: Vec<_> = guest.iter().map(|frame| entry(frame, guest_shape(frame))).collect();
    let live = json!({ "generation": generation, "host": host, "guest": guest });
    let mut live = serde_json::to_string_pretty(&live).expect("JSON is printed");
    live.push('\n');

    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("schema/gen-{generation}.json"));
    if std::env::var_os("UPDATE_SCHEMA").is_some() {
        std::fs::write(&path, &live).expect("the snapshot is written");
    }
    let snapshot = std::fs::read_to_string(&path).expect("the snapshot is there");
    assert!(live == snapshot, "the wire differs from {}; the live one is:\n{live}", path.display());
}

/// A generation is the frames of the one before and those that it adds.
#[test]
fn the_wire_is_the_snapshot() {
    check_snapshot(Generation::FIRST, &host_frames(), &guest_frames());
    check_snapshot(Generation::SECOND, &second_host_frames(), &second_guest_frames());
    check_snapshot(Generation::THIRD, &third_host_frames(), &third_guest_frames());
    assert_eq!(GenerationRange::SUPPORTED.max, Generation::THIRD, "a new generation has a snapshot");
}

#[test]
fn every_kind_has_a_sample_and_decodes_to_it() {
    let host = [host_frames(), second_host_frames(), third_host_frames()].concat();
    let mut kinds: Vec<u8> = host.iter().map(Frame::kind).collect();
    kinds.dedup();
    assert_eq!(
        kinds,
        (0x01..=0x0b).chain(0x20..=0x24).chain(0x30..=0x34).chain(0x40..=0x42).collect::<Vec<_>>()
    );
    let guest = [guest_frames(), second_guest_frames(), third_guest_frames()].concat();
    let mut kinds: Vec<u8> = guest.iter().map(Frame::kind).collect();
    kinds.dedup();
    assert_eq!(kinds, (0x81..=0x8b).chain([0xa0]).chain(0xb0..=0xb2).chain(0xc0..=0xc1).collect::<Vec<_>>());

    for frame in host {
        let mut decoder = Decoder::new();
        decoder.push(&bytes(&frame));
        assert_eq!(decoder.next_frame(), Ok(Some(frame)));
    }
    for frame in guest {
        let mut decoder = Decoder::new();
        decoder.push(&bytes(&frame));
        assert_eq!(decoder.next_frame(), Ok(Some(frame)));
    }
}
