//! Frames and messages on the daemon's socket, read by either side.

use pyro_api::{
    ClientMessage, Decoder, Frame, FrameKind, Input, RequestId, ServerMessage, Stream, encode_input,
    encode_message, encode_output,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::pieces::divisions;

pub(super) const WORDS: &[&[u8]] = &[
    b"\x00\x00\x00\x01\x00",
    b"\x01\x00\x04\x00\x01",
    b"\x01\x00\x01\x00\x03",
    b"null",
    b"1e309",
    b"-0.0",
    b"18446744073709551616",
    b"\"\\ud800\"",
    b"[[[[[[[[",
    b"{\"",
    b"\":",
    b"\"request\"",
    b"\"reply\"",
    b"\"Ok\"",
    b"\"Err\"",
    b"\"progress\"",
    b"\"fraction\":0.1",
];

/// What becomes of a stream: frames, whether an error ended it, whether it ends within a frame.
type Decoded = (Vec<Frame>, Option<String>, bool);

/// Decodes the input as frames, in several divisions, and each JSON payload, and the input itself, as messages of both
/// sides.
pub(super) fn run(input: &[u8]) {
    let mut divisions = divisions(input).into_iter().map(|pieces| decode(&pieces));
    let decoded = divisions.next().expect("there is a division");
    for other in divisions {
        assert_eq!(other, decoded, "the stream means something else when it arrives in other pieces");
    }
    for frame in &decoded.0 {
        check_frame(frame);
    }
    check_messages(&Frame { kind: FrameKind::Json, payload: input.to_vec() });
}

fn decode(pieces: &[&[u8]]) -> Decoded {
    let mut decoder = Decoder::new();
    let mut frames = Vec::new();
    for piece in pieces {
        decoder.push(piece);
        loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => return (frames, Some(error.to_string()), false),
            }
        }
    }
    (frames, None, decoder.is_mid_frame())
}

/// Checks that a frame is the same when what is in it was written again.
fn check_frame(frame: &Frame) {
    let mut encoded = Vec::new();
    match frame.kind {
        FrameKind::Json => return check_messages(frame),
        FrameKind::Output(_) if frame.payload.is_empty() => return,
        FrameKind::Output(stream) => encode_output(stream, &frame.payload, &mut encoded),
        FrameKind::Input => {
            let Ok(input) = frame.clone().input() else { return };
            encode_input(&input, &mut encoded).expect("input that came in one frame can be sent in one");
        }
    }
    let (frames, error, is_mid_frame) = decode(&[&encoded]);
    assert_eq!((frames.as_slice(), error, is_mid_frame), (std::slice::from_ref(frame), None, false));
}

fn check_messages(frame: &Frame) {
    check_message::<ClientMessage>(frame);
    check_message::<ServerMessage>(frame);
}

/// Checks that a message which can be read means the same when it was written again.
fn check_message<T: DeserializeOwned + Serialize + PartialEq + std::fmt::Debug>(frame: &Frame) {
    let Ok(message) = frame.message::<T>() else { return };
    let mut encoded = Vec::new();
    encode_message(&message, &mut encoded).expect("a message that came in can be sent");
    let (frames, error, is_mid_frame) = decode(&[&encoded]);
    assert!(frames.len() == 1 && error.is_none() && !is_mid_frame, "one message is one frame");
    let again = frames[0].message::<T>().expect("what was written can be read");
    assert_eq!(again, message, "a message changed on its way through the encoding");
}

/// Returns where frames, kinds and bodies begin.
pub(super) fn fields(input: &[u8]) -> Vec<usize> {
    let mut fields = Vec::new();
    let mut place = 0;
    while let Some([a, b, c, d]) = input.get(place..place + 4) {
        fields.extend([place, place + 4, (place + 5).min(input.len())]);
        let len = usize::try_from(u32::from_le_bytes([*a, *b, *c, *d])).unwrap_or(usize::MAX);
        place = place.saturating_add(len.saturating_add(5));
    }
    fields
}

/// Returns one message of each shape as text, and streams with frames of each kind.
pub(super) fn seeds() -> Vec<Vec<u8>> {
    let mut seeds: Vec<_> = MESSAGES.iter().map(|text| text.as_bytes().to_vec()).collect();
    let mut stream = Vec::new();
    for text in MESSAGES {
        let value: serde_json::Value = serde_json::from_str(text).expect("a seed is JSON");
        let mut frame = Vec::new();
        encode_message(&value, &mut frame).expect("a seed is short");
        stream.extend_from_slice(&frame);
        encode_output(Stream::Stdout, b"some output", &mut frame);
        encode_output(Stream::Stderr, b"\xff", &mut frame);
        let input = Input { request_id: RequestId::from_bytes([7; 16]), data: b"exit\n".to_vec() };
        encode_input(&input, &mut frame).expect("a seed is short");
        seeds.push(frame);
    }
    seeds.push(stream);
    seeds
}

/// A message of each shape: both sides of the handshake, requests, progress, events and replies.
const MESSAGES: &[&str] = &[
    r#"{"hello":{"api":5,"version":"2.5.0","client":"pyro/2.5.0","face":"cli"}}"#,
    r#"{"welcome":{"api":5,"version":"2.5.0","pid":77}}"#,
    r#"{"refused":{"code":"invalid_argument","message":"no","hint":"try again"}}"#,
    r#""cancel""#,
    r#"{"resize":{"columns":80,"rows":24}}"#,
    r#"{"request":{"env_list":{}}}"#,
    r#"{"request":{"run":{"environment":"debian:12","command":"true","vcpu_count":1,"mem_mib":512,"timeout_seconds":30,"ttl_seconds":600,"network":false,"allow_host_compat":true,"request_id":"01890a5d-ac96-774b-bcce-b302099a8057","resume":{"stdout_offset":5,"stderr_offset":0}}}}"#,
    r#"{"request":{"vm_create":{"environment":"debian:12"}}}"#,
    r#"{"request":{"vm_exec":{"vm_id":"0123","command":"id","timeout_seconds":1}}}"#,
    r#"{"request":{"vm_reap_expired":{}}}"#,
    r#"{"request":{"workspace_status":{"workspace_id":"0123","at":"2026-01-31T12:00:00Z"}}}"#,
    r#"{"request":{"log":{"since":"12","follow":true}}}"#,
    r#"{"request":{"doctor":{"platform":"linux-x86_64"}}}"#,
    r#"{"progress":{"pull":{"environment":"debian:12","phase":"packages","fraction":0.3,"detail":"x"}}}"#,
    r#"{"progress":{"run":{"start":{"vm_id":"0123"}}}}"#,
    r#"{"progress":{"sync":{"phase":"check","entries":3,"bytes":70000,"entries_total":null,"bytes_total":1}}}"#,
    r#"{"progress":{"joined":{"cursor":18446744073709551615}}}"#,
    r#"{"event":{"seq":1,"at":"2026-01-31T12:00:00Z","actor":{"face":"mcp","uid":0,"pid":1,"client":"c"},"kind":"exec_exited","workspace_id":null,"request_id":"01890a5d-ac96-774b-bcce-b302099a8057","data":{"a":[1,-2,0.1,1e300,"\u00e9",null,true]}}}"#,
    r#"{"reply":{"Err":{"code":"unknown_workspace","message":"there is none"}}}"#,
    r#"{"reply":{"Ok":{"vm_create":{"vm_id":"0123","environment":"debian:12","environment_version":null,"state":"created","vcpu_count":1,"mem_mib":512,"ttl_seconds":0,"created_at":1738325000.123456,"expires_at":1738325600.1,"network_enabled":false,"allow_host_compat":false,"guest_ip":null,"tap_name":null,"execution_mode":"pending","metadata":{"backend":"qemu"}}}}}"#,
    r#"{"reply":{"Ok":{"vm_reap_expired":{"deleted_vm_ids":["0123"],"count":1}}}}"#,
    r#"{"reply":{"Ok":{"log":{"head_seq":9}}}}"#,
];
