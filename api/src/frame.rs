//! Frames on the daemon's socket, without any socket.
//!
//! ```text
//! offset  size  field
//!      0     4  length of the payload, u32, little-endian
//!      4     1  kind: 0 JSON message, 1 bytes of standard output, 2 bytes of standard error, 3 bytes that are typed
//!      5   ...  payload; of kind 3, a request id of 16 bytes and then what is typed
//! ```

use pyro_core::RequestId;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Bytes before the payload.
pub const FRAME_HEAD_BYTES: usize = 5;

/// Longest JSON message, in bytes: an event with the longest command line and every byte of it escaped fits many times.
pub const JSON_LEN_MAX: usize = 16 * 1024 * 1024;

/// Longest piece of output in one frame, in bytes: what a reader must hold at once.
pub const OUTPUT_LEN_MAX: usize = 256 * 1024;

/// Most bytes that are typed in one frame.
pub const INPUT_LEN_MAX: usize = 64 * 1024;

/// Bytes of the request id before what is typed.
const INPUT_ID_BYTES: usize = 16;

/// Which of a command's two output streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// What the payload of a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameKind {
    /// A message in JSON.
    Json,
    /// Bytes that a command or shell printed.
    Output(Stream),
    /// A request id and bytes that are typed into a shell.
    Input,
}

impl FrameKind {
    const fn byte(self) -> u8 {
        match self {
            Self::Json => 0,
            Self::Output(Stream::Stdout) => 1,
            Self::Output(Stream::Stderr) => 2,
            Self::Input => 3,
        }
    }

    const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Json),
            1 => Some(Self::Output(Stream::Stdout)),
            2 => Some(Self::Output(Stream::Stderr)),
            3 => Some(Self::Input),
            _ => None,
        }
    }

    const fn len_max(self) -> usize {
        match self {
            Self::Json => JSON_LEN_MAX,
            Self::Output(_) => OUTPUT_LEN_MAX,
            Self::Input => INPUT_ID_BYTES + INPUT_LEN_MAX,
        }
    }
}

/// Why bytes are not a frame, or a value cannot become one.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The payload is beyond the limit of its kind.
    #[error("a frame of {len} bytes is beyond the limit of {max}")]
    TooLong {
        /// Its length, in bytes.
        len: usize,
        /// The limit, in bytes.
        max: usize,
    },
    /// No frame has the kind.
    #[error("a frame has the unknown kind {kind}")]
    UnknownKind {
        /// The kind byte.
        kind: u8,
    },
    /// What is typed has no request id.
    #[error("a frame of input has no whole request id")]
    Nameless,
    /// The payload is not the message that it should be.
    #[error("a message is malformed: {source}")]
    Message {
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

/// The first bytes of a frame, within its limits: a payload of that length may be allocated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHead {
    kind: FrameKind,
    len: usize,
}

impl FrameHead {
    /// Returns the head for a payload.
    ///
    /// # Errors
    ///
    /// When the payload is too long for its kind.
    pub const fn new(kind: FrameKind, len: usize) -> Result<Self, FrameError> {
        let max = kind.len_max();
        if len > max { Err(FrameError::TooLong { len, max }) } else { Ok(Self { kind, len }) }
    }

    /// Reads a head.
    ///
    /// # Errors
    ///
    /// When the kind is unknown or the length beyond its limit.
    pub fn decode(bytes: [u8; FRAME_HEAD_BYTES]) -> Result<Self, FrameError> {
        let [a, b, c, d, kind] = bytes;
        let kind = FrameKind::from_byte(kind).ok_or(FrameError::UnknownKind { kind })?;
        Self::new(kind, usize::try_from(u32::from_le_bytes([a, b, c, d])).unwrap_or(usize::MAX))
    }

    /// Returns the bytes of the head.
    #[must_use]
    pub fn encode(self) -> [u8; FRAME_HEAD_BYTES] {
        let len = u32::try_from(self.len).expect("the limits of all kinds fit into 32 bits");
        let [a, b, c, d] = len.to_le_bytes();
        [a, b, c, d, self.kind.byte()]
    }

    /// Returns what the payload is.
    #[must_use]
    pub const fn kind(self) -> FrameKind {
        self.kind
    }

    /// Returns the length of the payload, in bytes.
    #[must_use]
    pub const fn len_bytes(self) -> usize {
        self.len
    }
}

/// A whole frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What the payload is.
    pub kind: FrameKind,
    /// The payload.
    pub payload: Vec<u8>,
}

impl Frame {
    /// Reads the payload as a message.
    ///
    /// # Errors
    ///
    /// When it is not JSON of that type.
    pub fn message<T: DeserializeOwned>(&self) -> Result<T, FrameError> {
        serde_json::from_slice(&self.payload).map_err(|source| FrameError::Message { source })
    }

    /// Reads the payload as a piece of input.
    ///
    /// # Errors
    ///
    /// When it is too short to have a request id.
    pub fn input(mut self) -> Result<Input, FrameError> {
        let Some((id, _)) = self.payload.split_first_chunk::<INPUT_ID_BYTES>() else {
            return Err(FrameError::Nameless);
        };
        let request_id = RequestId::from_bytes(*id);
        Ok(Input { request_id, data: self.payload.split_off(INPUT_ID_BYTES) })
    }
}

/// Appends a message as one frame.
///
/// # Errors
///
/// When it is longer than [`JSON_LEN_MAX`]; `into` is as before then.
pub fn encode_message<T: Serialize>(message: &T, into: &mut Vec<u8>) -> Result<(), FrameError> {
    let start = into.len();
    into.extend_from_slice(&[0; FRAME_HEAD_BYTES]);
    let encoded = serde_json::to_writer(&mut *into, message).map_err(|source| FrameError::Message { source });
    let head = encoded.and_then(|()| FrameHead::new(FrameKind::Json, into.len() - start - FRAME_HEAD_BYTES));
    match head {
        Ok(head) => {
            into[start..start + FRAME_HEAD_BYTES].copy_from_slice(&head.encode());
            Ok(())
        }
        Err(error) => {
            into.truncate(start);
            Err(error)
        }
    }
}

/// Appends output, in as many frames as it needs.
pub fn encode_output(stream: Stream, bytes: &[u8], into: &mut Vec<u8>) {
    for chunk in bytes.chunks(OUTPUT_LEN_MAX) {
        let head = FrameHead { kind: FrameKind::Output(stream), len: chunk.len() };
        into.extend_from_slice(&head.encode());
        into.extend_from_slice(chunk);
    }
}

/// A piece of what is typed into a shell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    /// Makes a repetition harmless: of the pieces with one id the first one counts.
    pub request_id: RequestId,
    /// What is typed, at most [`INPUT_LEN_MAX`] bytes.
    pub data: Vec<u8>,
}

/// Appends a piece of what is typed as one frame.
///
/// # Errors
///
/// When it is longer than [`INPUT_LEN_MAX`]; `into` is as before then.
pub fn encode_input(input: &Input, into: &mut Vec<u8>) -> Result<(), FrameError> {
    let head = FrameHead::new(FrameKind::Input, INPUT_ID_BYTES + input.data.len())?;
    into.extend_from_slice(&head.encode());
    into.extend_from_slice(input.request_id.as_bytes());
    into.extend_from_slice(&input.data);
    Ok(())
}

/// Takes bytes as they arrive and gives the frames in them.
///
/// It holds what was pushed and not taken: take all frames before pushing more.
#[derive(Debug, Default)]
pub struct Decoder {
    bytes: Vec<u8>,
    taken: usize,
}

impl Decoder {
    /// Returns a decoder that has seen nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.taken);
        self.taken = 0;
        self.bytes.extend_from_slice(bytes);
    }

    /// Returns whether the bytes end within a frame: an end of the stream here has cut one.
    #[must_use]
    pub const fn is_mid_frame(&self) -> bool {
        self.taken < self.bytes.len()
    }

    /// Returns the next frame; `None` when more bytes are needed.
    ///
    /// # Errors
    ///
    /// When the bytes are not a frame. Where the next one would begin is not known then, so the connection is to be
    /// closed.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        let rest = &self.bytes[self.taken..];
        let Some((head, rest)) = rest.split_first_chunk::<FRAME_HEAD_BYTES>() else {
            return Ok(None);
        };
        let head = FrameHead::decode(*head)?;
        let Some(payload) = rest.get(..head.len) else {
            return Ok(None);
        };
        let frame = Frame { kind: head.kind, payload: payload.to_vec() };
        self.taken += FRAME_HEAD_BYTES + head.len;
        Ok(Some(frame))
    }
}
