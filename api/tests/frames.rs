//! Frames: limits before allocation, any cut of the stream, any garbage.

use proptest::prelude::*;
use pyro_api::{
    ClientMessage, Decoder, FRAME_HEAD_BYTES, Frame, FrameError, FrameHead, FrameKind, INPUT_LEN_MAX, Input,
    JSON_LEN_MAX, OUTPUT_LEN_MAX, RequestId, Stream, encode_input, encode_message, encode_output,
};

fn head(len: u32, kind: u8) -> [u8; FRAME_HEAD_BYTES] {
    let [a, b, c, d] = len.to_le_bytes();
    [a, b, c, d, kind]
}

/// Catches a change of the bytes: an older or newer peer would not understand them.
#[test]
fn bytes_are_those_of_the_documentation() {
    let mut bytes = Vec::new();
    encode_message(&ClientMessage::Cancel, &mut bytes).unwrap();
    encode_output(Stream::Stdout, b"out", &mut bytes);
    encode_output(Stream::Stderr, b"e", &mut bytes);
    assert_eq!(bytes, b"\x08\0\0\0\0\"cancel\"\x03\0\0\0\x01out\x01\0\0\0\x02e");
    bytes.clear();
    let request_id = RequestId::from_bytes(*b"0123456789abcdef");
    encode_input(&Input { request_id, data: b"ls".to_vec() }, &mut bytes).unwrap();
    assert_eq!(bytes, b"\x12\0\0\0\x030123456789abcdefls");
}

/// Catches keys that lose their id on the way, and a piece without a whole id that is taken for keys.
#[test]
fn input_is_read_with_its_id() {
    let request_id = RequestId::from_bytes([7; 16]);
    for data in [Vec::new(), b"k".to_vec(), vec![0xff; INPUT_LEN_MAX]] {
        let input = Input { request_id, data };
        let (mut bytes, mut decoder) = (Vec::new(), Decoder::new());
        encode_input(&input, &mut bytes).unwrap();
        decoder.push(&bytes);
        assert_eq!(decoder.next_frame().unwrap().unwrap().input().unwrap(), input);
    }
    let short = Frame { kind: FrameKind::Input, payload: vec![7; 15] };
    assert!(matches!(short.input(), Err(FrameError::Nameless)));
    let mut bytes = b"before".to_vec();
    let long = Input { request_id, data: vec![0; INPUT_LEN_MAX + 1] };
    assert!(matches!(encode_input(&long, &mut bytes), Err(FrameError::TooLong { .. })));
    assert_eq!(bytes, b"before");
}

#[test]
fn limits_hold_before_the_payload_comes() {
    let limits = [(0, JSON_LEN_MAX), (1, OUTPUT_LEN_MAX), (2, OUTPUT_LEN_MAX), (3, 16 + INPUT_LEN_MAX)];
    for (kind, max) in limits {
        let len = u32::try_from(max).unwrap();
        assert_eq!(FrameHead::decode(head(len, kind)).unwrap().len_bytes(), max);
        for len in [len + 1, u32::MAX] {
            let error = FrameHead::decode(head(len, kind)).unwrap_err();
            assert!(matches!(error, FrameError::TooLong { .. }), "{error}");
            let mut decoder = Decoder::new();
            decoder.push(&head(len, kind));
            assert!(decoder.next_frame().is_err());
        }
    }
    assert!(matches!(FrameHead::decode(head(0, 4)), Err(FrameError::UnknownKind { kind: 4 })));
}

#[test]
fn message_beyond_the_limit_is_not_sent_by_halves() {
    let mut bytes = b"before".to_vec();
    let error = encode_message(&"x".repeat(JSON_LEN_MAX - 1), &mut bytes).unwrap_err();
    assert!(matches!(error, FrameError::TooLong { .. }), "{error}");
    assert_eq!(bytes, b"before");
    encode_message(&"x".repeat(JSON_LEN_MAX - 2), &mut bytes).unwrap();
}

#[test]
fn long_output_becomes_several_frames() {
    let output: Vec<u8> = (0..=255).cycle().take(2 * OUTPUT_LEN_MAX + 1).collect();
    let mut bytes = Vec::new();
    encode_output(Stream::Stdout, &output, &mut bytes);
    let mut decoder = Decoder::new();
    decoder.push(&bytes);
    let mut read = Vec::new();
    while let Some(frame) = decoder.next_frame().unwrap() {
        assert_eq!(frame.kind, FrameKind::Output(Stream::Stdout));
        read.extend(frame.payload);
    }
    assert!(read == output && !decoder.is_mid_frame());
}

fn frames() -> impl Strategy<Value = Vec<Frame>> {
    let kind = prop_oneof![
        Just(FrameKind::Json),
        Just(FrameKind::Output(Stream::Stdout)),
        Just(FrameKind::Output(Stream::Stderr))
    ];
    let frame =
        (kind, prop::collection::vec(any::<u8>(), 0..40)).prop_map(|(kind, payload)| Frame { kind, payload });
    prop::collection::vec(frame, 0..8)
}

proptest! {
    /// Catches a frame that depends on how the bytes arrive.
    #[test]
    fn frames_come_out_as_they_went_in(frames in frames(), step in 1_usize..64) {
        let mut bytes = Vec::new();
        for frame in &frames {
            bytes.extend(FrameHead::new(frame.kind, frame.payload.len()).unwrap().encode());
            bytes.extend(&frame.payload);
        }
        let (mut decoder, mut read) = (Decoder::new(), Vec::new());
        for chunk in bytes.chunks(step) {
            decoder.push(chunk);
            while let Some(frame) = decoder.next_frame().unwrap() {
                read.push(frame);
            }
        }
        prop_assert_eq!(read, frames);
        prop_assert!(!decoder.is_mid_frame());
    }

    /// Catches a panic or an endless loop on what is no frame.
    #[test]
    fn garbage_ends(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
        let mut decoder = Decoder::new();
        decoder.push(&bytes);
        let mut taken = 0;
        while let Ok(Some(frame)) = decoder.next_frame() {
            taken += FRAME_HEAD_BYTES + frame.payload.len();
            prop_assert!(taken <= bytes.len());
        }
    }
}
