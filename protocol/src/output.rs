//! Output of a command. Its frame is raw, so that neither side copies the data to encode or decode it.

use bytes::{Buf as _, Bytes};
use serde::{Deserialize, Serialize};

use crate::frame::FRAME_HEAD_BYTES;

/// Most bytes of data in one frame that the agent sends.
///
/// Large enough that the cost of a frame does not show, small enough that the other stream and the
/// acknowledgements do not wait long.
pub const OUTPUT_DATA_MAX: usize = 256 * 1024;

/// Most bytes of one stream that the agent keeps unacknowledged; then it stops reading.
///
/// It covers what a fast command writes while the host syncs its disk, and bounds what an unread operation costs the
/// guest's memory.
pub const STREAM_RETAINED_MAX: usize = 1024 * 1024;

/// Bytes of an output frame before its data: the common head, stream and offset.
pub const OUTPUT_HEAD_BYTES: usize = FRAME_HEAD_BYTES + 9;

pub(crate) const KIND: u8 = 0x85;

/// One of the two output streams of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    /// Both, in the order of their descriptors.
    pub const ALL: [Self; 2] = [Self::Stdout, Self::Stderr];

    const fn byte(self) -> u8 {
        match self {
            Self::Stdout => 1,
            Self::Stderr => 2,
        }
    }

    const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Stdout),
            2 => Some(Self::Stderr),
            _ => None,
        }
    }
}

/// Bytes that a command wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// To which stream.
    pub stream: Stream,
    /// Position of the first byte in the stream.
    pub offset: u64,
    /// The bytes; at least one.
    pub data: Bytes,
}

impl Output {
    pub(crate) fn decode(mut body: Bytes) -> Option<Self> {
        let stream = Stream::from_byte(body.try_get_u8().ok()?)?;
        let offset = body.try_get_u64_le().ok()?;
        (!body.is_empty()).then_some(Self { stream, offset, data: body })
    }

    pub(crate) fn encode(&self, into: &mut Vec<u8>) {
        into.push(self.stream.byte());
        into.extend_from_slice(&self.offset.to_le_bytes());
        into.extend_from_slice(&self.data);
    }
}

/// Returns what stands before `data_len` bytes of data in an output frame, for senders that write the data from where
/// it lies.
///
/// # Panics
///
/// When `data_len` is zero or more than [`OUTPUT_DATA_MAX`].
#[must_use]
pub fn output_head(stream: Stream, offset: u64, data_len: usize) -> [u8; OUTPUT_HEAD_BYTES] {
    assert!(
        data_len > 0 && data_len <= OUTPUT_DATA_MAX,
        "an output frame holds 1 to {OUTPUT_DATA_MAX} bytes"
    );
    let length =
        u32::try_from(OUTPUT_HEAD_BYTES - 4 + data_len).expect("an output frame is far below the limit");
    let mut head = [0; OUTPUT_HEAD_BYTES];
    head[..4].copy_from_slice(&length.to_le_bytes());
    head[4] = KIND;
    head[5] = stream.byte();
    head[6..].copy_from_slice(&offset.to_le_bytes());
    head
}
