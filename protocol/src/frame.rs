//! The layout that all frames share.

use bytes::Bytes;

use crate::decoder::DecodeError;

/// Largest value of the length field: kind and body.
///
/// It bounds what one connection can make a side hold. It fits the longest command that Linux can start and four
/// full [`Output`](crate::Output) frames.
pub const FRAME_LENGTH_MAX: usize = 1024 * 1024;

/// Bytes before the body: length and kind.
pub const FRAME_HEAD_BYTES: usize = 5;

/// The frames of one direction.
pub trait Frame: Sized {
    /// Returns the frame of this kind.
    ///
    /// # Errors
    ///
    /// [`DecodeError::UnknownKind`] when no frame of this direction has the kind, [`DecodeError::Body`] when
    /// the body is not one of that kind.
    fn decode(kind: u8, body: Bytes) -> Result<Self, DecodeError>;

    /// Returns the kind byte.
    fn kind(&self) -> u8;

    /// Appends the body.
    fn encode_body(&self, into: &mut Vec<u8>);

    /// Appends the whole frame. On an error `into` is as it was.
    ///
    /// # Errors
    ///
    /// [`EncodeError`] when kind and body are longer than [`FRAME_LENGTH_MAX`].
    fn encode(&self, into: &mut Vec<u8>) -> Result<(), EncodeError> {
        let start = into.len();
        into.extend_from_slice(&[0; 4]);
        into.push(self.kind());
        self.encode_body(into);
        let length = into.len() - start - 4;
        match u32::try_from(length) {
            Ok(field) if length <= FRAME_LENGTH_MAX => {
                into[start..start + 4].copy_from_slice(&field.to_le_bytes());
                Ok(())
            }
            Ok(_) | Err(_) => {
                into.truncate(start);
                Err(EncodeError { length })
            }
        }
    }
}

/// A frame is too long to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("encode a frame: {length} bytes are more than {FRAME_LENGTH_MAX}")]
pub struct EncodeError {
    /// Bytes of kind and body.
    pub length: usize,
}
