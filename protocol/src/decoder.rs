//! From bytes to frames.

use core::marker::PhantomData;

use bytes::{Buf as _, BytesMut};

use crate::frame::{FRAME_HEAD_BYTES, FRAME_LENGTH_MAX, Frame};

/// Takes bytes as they arrive and gives the frames in them.
///
/// It holds at most one unfinished frame and what was pushed behind it; call [`next_frame`](Self::next_frame) until it
/// gives `None` before pushing more.
#[derive(Debug)]
pub struct Decoder<F> {
    bytes: BytesMut,
    failed: Option<DecodeError>,
    frame: PhantomData<fn() -> F>,
}

impl<F> Default for Decoder<F> {
    fn default() -> Self {
        Self { bytes: BytesMut::new(), failed: None, frame: PhantomData }
    }
}

impl<F: Frame> Decoder<F> {
    /// Returns a decoder that has seen nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Returns the buffer of bytes that are not decoded yet, to append to it without a copy.
    pub const fn buffer(&mut self) -> &mut BytesMut {
        &mut self.bytes
    }

    /// Returns whether the bytes end in the middle of a frame: an end of the stream here has cut one.
    #[must_use]
    pub fn is_mid_frame(&self) -> bool {
        !self.bytes.is_empty()
    }

    /// Returns the next frame; `None` when more bytes are needed.
    ///
    /// # Errors
    ///
    /// When the bytes are not a frame. Where the next one would begin is not known then: every later call gives
    /// the same error, and the connection is to be closed.
    pub fn next_frame(&mut self) -> Result<Option<F>, DecodeError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        self.decode_next().inspect_err(|error| {
            self.failed = Some(*error);
            self.bytes = BytesMut::new();
        })
    }

    fn decode_next(&mut self) -> Result<Option<F>, DecodeError> {
        let Some((field, rest)) = self.bytes.split_first_chunk::<4>() else {
            return Ok(None);
        };
        let length = u32::from_le_bytes(*field);
        let body_len = match usize::try_from(length) {
            Ok(0) => return Err(DecodeError::Empty),
            Ok(length) if length <= FRAME_LENGTH_MAX => length - 1,
            Ok(_) | Err(_) => return Err(DecodeError::TooLong { length }),
        };
        let Some(kind) = rest.first().copied() else {
            return Ok(None);
        };
        if self.bytes.len() < FRAME_HEAD_BYTES + body_len {
            // One allocation for the whole frame; the length is within its limit here.
            self.bytes.reserve(FRAME_HEAD_BYTES + body_len - self.bytes.len());
            return Ok(None);
        }
        self.bytes.advance(FRAME_HEAD_BYTES);
        F::decode(kind, self.bytes.split_to(body_len).freeze()).map(Some)
    }
}

/// Bytes that are not a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The length field is beyond the limit.
    #[error("decode a frame: its length {length} is more than {FRAME_LENGTH_MAX}")]
    TooLong {
        /// Value of the field.
        length: u32,
    },
    /// The length field is zero, which leaves no room for the kind.
    #[error("decode a frame: its length is zero")]
    Empty,
    /// No frame of this direction has the kind.
    #[error("decode a frame: its kind {kind:#04x} is unknown")]
    UnknownKind {
        /// The kind byte.
        kind: u8,
    },
    /// The body is not one of its kind.
    #[error("decode a frame: the body of kind {kind:#04x} is malformed")]
    Body {
        /// The kind byte.
        kind: u8,
    },
}
