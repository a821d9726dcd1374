//! The encoding of bodies. Nothing else in the crate names `bincode`.

use bincode::config::{Configuration, Limit, LittleEndian, Varint};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::frame::FRAME_LENGTH_MAX;

/// Without the limit, a few bytes that claim a long list make the decoder allocate it.
const CONFIG: Configuration<LittleEndian, Varint, Limit<FRAME_LENGTH_MAX>> =
    bincode::config::standard().with_limit::<FRAME_LENGTH_MAX>();

/// Returns the value that is encoded by all of `body`; `None` when it is not the encoding of one.
pub(crate) fn decode<T: DeserializeOwned>(body: &[u8]) -> Option<T> {
    let (value, consumed) = bincode::serde::decode_from_slice(body, CONFIG).ok()?;
    (consumed == body.len()).then_some(value)
}

/// Appends the encoding of `value`.
///
/// The types of this crate hold only what bincode can encode, and writing to memory does not fail.
pub(crate) fn encode<T: Serialize>(value: &T, into: &mut Vec<u8>) {
    bincode::serde::encode_into_std_write(value, into, CONFIG).expect("plain data encodes into memory");
}
