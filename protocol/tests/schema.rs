//! The wire is what the snapshot says: kinds, fields and bytes of every frame, rendered from the live types.
//!
//! A difference is a new generation, not a new snapshot: see the crate's documentation. While a generation has not been
//! released, `UPDATE_SCHEMA=1 cargo test -p pyro-protocol` writes it anew.

use std::fmt::Write as _;
use std::path::Path;

use bytes::Bytes;
use pyro_protocol::{
    Ack, Announce, Attach, BootId, Decoder, Exec, ExitStatus, Exited, Failed, Frame, Generation,
    GenerationRange, GuestFrame, Hello, HostFrame, Operation, Output, Phase, Refusal, Retained, Stage,
    Started, Stream, Welcome,
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

#[test]
fn the_wire_is_the_snapshot() {
    let host: Vec<_> = host_frames().iter().map(|frame| entry(frame, host_shape(frame))).collect();
    let guest: Vec<_> = guest_frames().iter().map(|frame| entry(frame, guest_shape(frame))).collect();
    let live = json!({ "generation": GenerationRange::SUPPORTED.max, "host": host, "guest": guest });
    let mut live = serde_json::to_string_pretty(&live).unwrap();
    live.push('\n');

    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("schema/gen-1.json");
    if std::env::var_os("UPDATE_SCHEMA").is_some() {
        std::fs::write(&path, &live).unwrap();
    }
    let snapshot = std::fs::read_to_string(&path).unwrap();
    assert!(live == snapshot, "the wire differs from {}; the live one is:\n{live}", path.display());
}

#[test]
fn every_kind_has_a_sample_and_decodes_to_it() {
    let mut kinds: Vec<u8> = host_frames().iter().map(Frame::kind).collect();
    kinds.dedup();
    assert_eq!(kinds, (0x01..=0x0a).collect::<Vec<_>>());
    let mut kinds: Vec<u8> = guest_frames().iter().map(Frame::kind).collect();
    kinds.dedup();
    assert_eq!(kinds, (0x81..=0x8b).collect::<Vec<_>>());

    for frame in host_frames() {
        let mut decoder = Decoder::new();
        decoder.push(&bytes(&frame));
        assert_eq!(decoder.next_frame(), Ok(Some(frame)));
    }
    for frame in guest_frames() {
        let mut decoder = Decoder::new();
        decoder.push(&bytes(&frame));
        assert_eq!(decoder.next_frame(), Ok(Some(frame)));
    }
}
