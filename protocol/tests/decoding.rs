//! Bytes from the other side: in any pieces, cut anywhere, too long, or not frames at all.

use bytes::Bytes;
use proptest::prelude::*;
use pyro_protocol::{
    Ack, Attach, DecodeError, Decoder, Exec, ExitStatus, Exited, FRAME_HEAD_BYTES, FRAME_LENGTH_MAX, Frame,
    GuestFrame, HostFrame, OUTPUT_DATA_MAX, OUTPUT_HEAD_BYTES, Output, Stream, output_head,
};

fn stream() -> impl Strategy<Value = Stream> {
    prop_oneof![Just(Stream::Stdout), Just(Stream::Stderr)]
}

fn exec() -> impl Strategy<Value = Exec> {
    let env = proptest::collection::vec((".{0,8}", ".{0,20}"), 0..4);
    let cwd = proptest::option::of(".{0,20}");
    (any::<u64>(), ".{0,300}", cwd, any::<bool>(), env, any::<u64>()).prop_map(
        |(op, command, cwd, create_cwd, env, timeout_ms)| Exec {
            op,
            command,
            cwd,
            create_cwd,
            env,
            timeout_ms,
        },
    )
}

fn host_frame() -> impl Strategy<Value = HostFrame> {
    prop_oneof![
        exec().prop_map(HostFrame::Exec),
        any::<[u64; 3]>().prop_map(|[op, stdout_offset, stderr_offset]| {
            HostFrame::Attach(Attach { op, stdout_offset, stderr_offset })
        }),
        (stream(), any::<u64>()).prop_map(|(stream, offset)| HostFrame::Ack(Ack { stream, offset })),
        any::<u64>().prop_map(|unix_micros| HostFrame::SetClock { unix_micros }),
        Just(HostFrame::Kill),
    ]
}

fn guest_frame() -> impl Strategy<Value = GuestFrame> {
    let data = proptest::collection::vec(any::<u8>(), 1..600).prop_map(Bytes::from);
    let status = prop_oneof![
        any::<u8>().prop_map(ExitStatus::Code),
        any::<u8>().prop_map(ExitStatus::Signal),
        Just(ExitStatus::TimedOut),
    ];
    prop_oneof![
        (stream(), any::<u64>(), data).prop_map(|(stream, offset, data)| GuestFrame::Output(Output {
            stream,
            offset,
            data
        })),
        (status, any::<[u64; 3]>()).prop_map(|(status, [duration_ms, stdout_len, stderr_len])| {
            GuestFrame::Exited(Exited { status, duration_ms, stdout_len, stderr_len })
        }),
        Just(GuestFrame::Done),
    ]
}

fn encode<F: Frame>(frames: &[F]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for frame in frames {
        frame.encode(&mut bytes).expect("samples are short");
    }
    bytes
}

/// Decodes `bytes` as they arrive in pieces of these sizes, over and over.
fn decode<F: Frame>(mut bytes: &[u8], sizes: &[usize]) -> Result<Vec<F>, DecodeError> {
    let mut decoder = Decoder::new();
    let mut frames = Vec::new();
    for size in sizes.iter().cycle() {
        let (piece, rest) = bytes.split_at((*size).min(bytes.len()));
        decoder.push(piece);
        while let Some(frame) = decoder.next_frame()? {
            frames.push(frame);
        }
        if rest.is_empty() {
            break;
        }
        bytes = rest;
    }
    Ok(frames)
}

fn frame_bytes(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(body.len() + 1).expect("bodies are short").to_le_bytes().to_vec();
    bytes.push(kind);
    bytes.extend_from_slice(body);
    bytes
}

fn decode_one<F: Frame>(bytes: &[u8]) -> Result<Option<F>, DecodeError> {
    let mut decoder = Decoder::new();
    decoder.push(bytes);
    decoder.next_frame()
}

proptest! {
    #[test]
    fn frames_survive_any_pieces(
        host in proptest::collection::vec(host_frame(), 1..8),
        guest in proptest::collection::vec(guest_frame(), 1..8),
        sizes in proptest::collection::vec(1_usize..50, 1..10),
    ) {
        prop_assert_eq!(decode::<HostFrame>(&encode(&host), &sizes), Ok(host));
        prop_assert_eq!(decode::<GuestFrame>(&encode(&guest), &sizes), Ok(guest));
    }

    #[test]
    fn a_cut_frame_is_awaited_and_never_misread(frame in guest_frame()) {
        let bytes = encode(std::slice::from_ref(&frame));
        for cut in 0..bytes.len() {
            let mut decoder = Decoder::<GuestFrame>::new();
            decoder.push(&bytes[..cut]);
            prop_assert_eq!(decoder.next_frame(), Ok(None));
            prop_assert_eq!(decoder.is_mid_frame(), cut > 0);
            decoder.push(&bytes[cut..]);
            prop_assert_eq!(decoder.next_frame(), Ok(Some(frame.clone())));
            prop_assert!(!decoder.is_mid_frame());
        }
    }

    /// A body that is shorter or longer than its value must not decode to another value by chance of its length.
    #[test]
    fn a_body_is_consumed_to_its_last_byte(exec in exec()) {
        let bytes = encode(&[HostFrame::Exec(exec)]);
        let body = &bytes[FRAME_HEAD_BYTES..];
        let longer = [body, &[0]].concat();
        prop_assert_eq!(decode_one::<HostFrame>(&frame_bytes(0x02, &longer)), Err(DecodeError::Body { kind: 0x02 }));
        let shorter = &body[..body.len() - 1];
        prop_assert_eq!(decode_one::<HostFrame>(&frame_bytes(0x02, shorter)), Err(DecodeError::Body { kind: 0x02 }));
    }

    /// Whatever arrives, decoding ends: no panic, no loop, no allocation beyond the limit.
    #[test]
    fn garbage_is_an_error_or_a_frame(kind in any::<u8>(), body in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _decoded = decode_one::<GuestFrame>(&frame_bytes(kind, &body));
        let _decoded = decode_one::<HostFrame>(&frame_bytes(kind, &body));
        let _decoded = decode::<GuestFrame>(&body, &[7]);
    }
}

#[test]
fn the_length_is_checked_before_anything_is_kept() {
    let too_long = u32::try_from(FRAME_LENGTH_MAX + 1).unwrap();
    assert_eq!(
        decode_one::<GuestFrame>(&too_long.to_le_bytes()),
        Err(DecodeError::TooLong { length: too_long })
    );
    assert_eq!(
        decode_one::<GuestFrame>(&u32::MAX.to_le_bytes()),
        Err(DecodeError::TooLong { length: u32::MAX })
    );
    assert_eq!(decode_one::<GuestFrame>(&0_u32.to_le_bytes()), Err(DecodeError::Empty));
    let longest = u32::try_from(FRAME_LENGTH_MAX).unwrap();
    assert_eq!(decode_one::<GuestFrame>(&longest.to_le_bytes()), Ok(None));
}

#[test]
fn kinds_belong_to_one_direction() {
    let done = encode(&[GuestFrame::Done]);
    assert_eq!(decode_one::<HostFrame>(&done), Err(DecodeError::UnknownKind { kind: 0x8b }));
    let ping = encode(&[HostFrame::Ping]);
    assert_eq!(decode_one::<GuestFrame>(&ping), Err(DecodeError::UnknownKind { kind: 0x06 }));
}

#[test]
fn after_an_error_nothing_is_decoded_any_more() {
    let mut decoder = Decoder::<HostFrame>::new();
    decoder.push(&frame_bytes(0x7f, &[]));
    assert_eq!(decoder.next_frame(), Err(DecodeError::UnknownKind { kind: 0x7f }));
    decoder.push(&encode(&[HostFrame::Ping]));
    assert_eq!(decoder.next_frame(), Err(DecodeError::UnknownKind { kind: 0x7f }));
}

/// A list that claims more than its body holds must fail by its claim, not after allocating for it.
#[test]
fn a_claimed_length_is_not_believed() {
    for claim in [[0xfd, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], [0xfc, 0, 0, 0, 0x10, 0, 0, 0, 0]] {
        assert_eq!(
            decode_one::<GuestFrame>(&frame_bytes(0x8a, &claim)),
            Err(DecodeError::Body { kind: 0x8a })
        );
    }
}

#[test]
fn malformed_output_is_an_error() {
    let body = |stream: u8, data: &[u8]| [&[stream][..], &[0; 8], data].concat();
    let error = Err(DecodeError::Body { kind: 0x85 });
    assert_eq!(decode_one::<GuestFrame>(&frame_bytes(0x85, &body(0, b"x"))), error);
    assert_eq!(decode_one::<GuestFrame>(&frame_bytes(0x85, &body(3, b"x"))), error);
    assert_eq!(decode_one::<GuestFrame>(&frame_bytes(0x85, &body(1, b""))), error);
    assert_eq!(decode_one::<GuestFrame>(&frame_bytes(0x85, &[1, 0, 0])), error);
}

#[test]
fn the_head_of_an_output_frame_is_its_encoding() {
    let data = Bytes::from(vec![7; OUTPUT_DATA_MAX]);
    let head = output_head(Stream::Stderr, 1 << 40, data.len());
    let frame = GuestFrame::Output(Output { stream: Stream::Stderr, offset: 1 << 40, data });
    let bytes = encode(&[frame]);
    assert_eq!(head[..], bytes[..OUTPUT_HEAD_BYTES]);
}

#[test]
fn a_frame_beyond_the_limit_is_not_sent() {
    let exec = |len| {
        HostFrame::Exec(Exec {
            op: 1,
            command: "x".repeat(len),
            cwd: None,
            create_cwd: false,
            env: vec![],
            timeout_ms: 1,
        })
    };
    let mut bytes = b"before".to_vec();
    let error = exec(FRAME_LENGTH_MAX).encode(&mut bytes).unwrap_err();
    assert!(error.length > FRAME_LENGTH_MAX);
    assert_eq!(bytes, b"before");
    exec(FRAME_LENGTH_MAX - 100).encode(&mut bytes).unwrap();
    assert!(decode_one::<HostFrame>(&bytes[6..]).unwrap().is_some());
}
