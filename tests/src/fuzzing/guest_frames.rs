//! Frames between host and guest, read by either side.

use std::path::Path;

use pyro_protocol::{DecodeError, Decoder, FRAME_HEAD_BYTES, FRAME_LENGTH_MAX, Frame, GuestFrame, HostFrame};
use serde_json::Value;

use super::pieces::divisions;

pub(super) const WORDS: &[&[u8]] = &[
    b"\x01\x00\x00\x00",
    b"\x00\x00\x10\x00\x85",
    b"\x01\x00\x10\x00\x85",
    b"\x85\x01",
    b"\x32",
    b"\xfb\xff\xff",
    b"\xfc\xff\xff\xff\xff",
    b"\xfd\xff\xff\xff\xff\xff\xff\xff\xff",
    b"\xfe",
];

/// What becomes of a stream.
#[derive(Debug, PartialEq, Eq)]
struct Decoded<F> {
    frames: Vec<F>,
    error: Option<DecodeError>,
    is_mid_frame: bool,
}

/// Decodes the input as frames of both directions, in several divisions, and encodes what came out.
pub(super) fn run(input: &[u8]) {
    check::<GuestFrame>(input);
    check::<HostFrame>(input);
}

fn check<F: Frame + std::fmt::Debug + PartialEq>(input: &[u8]) {
    let mut divisions = divisions(input).into_iter().map(|pieces| decode::<F>(&pieces));
    let decoded = divisions.next().expect("there is a division");
    for other in divisions {
        assert_eq!(other, decoded, "the stream means something else when it arrives in other pieces");
    }
    let mut encoded = Vec::new();
    for frame in &decoded.frames {
        let start = encoded.len();
        frame.encode(&mut encoded).expect("a frame that came in one can be sent in one");
        assert_eq!(encoded[start + 4], frame.kind());
    }
    let again = decode::<F>(&[&encoded]);
    assert_eq!(again.frames, decoded.frames, "a frame changed on its way through the encoding");
    assert!(again.error.is_none() && !again.is_mid_frame);
    if let Some(first) = decoded.frames.first() {
        check_longer(input, first);
    }
}

/// Checks that a byte behind the body of the first frame is not passed over.
fn check_longer<F: Frame + std::fmt::Debug + PartialEq>(input: &[u8], first: &F) {
    let (field, rest) = input.split_first_chunk::<4>().expect("a frame begins with its length");
    let length = u32::from_le_bytes(*field);
    let body = &rest[..usize::try_from(length).expect("a frame is far shorter than memory")];
    let longer = [&(length + 1).to_le_bytes()[..], body, b"\0"].concat();
    assert_ne!(decode::<F>(&[&longer]).frames.first(), Some(first), "a byte behind the body is passed over");
}

fn decode<F: Frame>(pieces: &[&[u8]]) -> Decoded<F> {
    let mut decoder = Decoder::<F>::new();
    let mut decoded = Decoded { frames: Vec::new(), error: None, is_mid_frame: false };
    for piece in pieces {
        decoder.push(piece);
        loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => decoded.frames.push(frame),
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(decoder.next_frame().err(), Some(error), "the error is forgotten");
                    decoded.error = Some(error);
                    return decoded;
                }
            }
        }
        let held = decoder.buffer().capacity();
        let most = 2 * (FRAME_HEAD_BYTES + FRAME_LENGTH_MAX + piece.len());
        assert!(held <= most, "{held} bytes are held for at most one frame");
    }
    decoded.is_mid_frame = decoder.is_mid_frame();
    decoded
}

/// Returns where frames, kinds and bodies begin.
pub(super) fn fields(input: &[u8]) -> Vec<usize> {
    let mut fields = Vec::new();
    let mut place = 0;
    while let Some([a, b, c, d]) = input.get(place..place + 4) {
        fields.extend([place, place + 4, (place + 5).min(input.len())]);
        let len = usize::try_from(u32::from_le_bytes([*a, *b, *c, *d])).unwrap_or(usize::MAX);
        place = place.saturating_add(len.saturating_add(4));
    }
    fields
}

/// Returns the frames of the schema of each generation, one by one and all in one stream.
pub(super) fn seeds() -> Vec<Vec<u8>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../protocol/schema");
    let mut seeds = Vec::new();
    for generation in ["gen-1.json", "gen-2.json"] {
        let text = std::fs::read(dir.join(generation)).expect("the schema is there");
        let schema: Value = serde_json::from_slice(&text).expect("the schema is JSON");
        for direction in ["guest", "host"] {
            let frames = schema[direction].as_array().expect("the schema lists frames");
            let frames: Vec<_> = frames.iter().map(|frame| bytes(&frame["bytes"])).collect();
            seeds.push(frames.concat());
            seeds.extend(frames);
        }
    }
    seeds
}

fn bytes(hex: &Value) -> Vec<u8> {
    let digits = hex.as_str().expect("bytes stand there in hexadecimal").as_bytes();
    let byte = |pair: &[u8]| {
        let pair = std::str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok());
        pair.expect("two digits are a byte")
    };
    digits.chunks(2).map(byte).collect()
}
