//! Events together with what the log itself says of them.

use pyro_core::{Envelope, Seq};

use crate::codec;
use crate::corruption::Fault;
use crate::frame::{Frame, Hash};

/// An event as it stands in the log, with the proof of its place there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The event.
    pub envelope: Envelope,
    /// Version of the struct that the event was stored as.
    pub version: u16,
    /// Its hash, which stands for all records up to it.
    pub hash: Hash,
}

impl Record {
    /// Returns the position in the log.
    #[must_use]
    pub const fn seq(&self) -> Seq {
        self.envelope.seq
    }

    /// Decodes a frame.
    pub(crate) fn of(frame: &Frame<'_>) -> Result<Self, Fault> {
        let envelope =
            codec::decode(frame.seq, frame.kind, frame.version, frame.payload).map_err(|_| Fault::Payload)?;
        Ok(Self { envelope, version: frame.version, hash: frame.hash })
    }
}
