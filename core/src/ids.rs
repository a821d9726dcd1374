//! Identifiers and positions.

use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};

/// Spells out an id of 48 random bits, written as 12 lower-case hexadecimal characters.
macro_rules! short_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name([u8; 6]);

        impl $name {
            /// Length of the written form, in characters.
            pub const TEXT_LEN: usize = 12;

            /// Builds an id from its 6 bytes; the caller draws them at random.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; 6]) -> Self {
                Self(bytes)
            }

            /// Returns the 6 bytes of the id.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 6] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                parse_hex(text).map(Self)
            }
        }
    };
}

short_id! {
    /// Identifies a workspace or a VM: 48 random bits, written as 12 lower-case hexadecimal characters.
    WorkspaceId
}

short_id! {
    /// Identifies a shell within its workspace: 48 random bits, written as 12 lower-case hexadecimal characters.
    ShellId
}

/// A text that is not an identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an id is {expected} lower-case hexadecimal characters")]
pub struct IdError {
    expected: usize,
}

fn parse_hex<const N: usize>(text: &str) -> Result<[u8; N], IdError> {
    let error = IdError { expected: 2 * N };
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return Err(error);
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = hex_digit(pair[0]).ok_or(error)? << 4 | hex_digit(pair[1]).ok_or(error)?;
    }
    Ok(bytes)
}

const fn hex_digit(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

/// Number of an exec within its workspace; the first is 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ExecNumber(pub u32);

impl fmt::Display for ExecNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Number of a sync within its workspace; the first is 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SyncNumber(pub u32);

impl fmt::Display for SyncNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Position of an event in the one log. The first event is 1; there are no holes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Seq(pub u64);

impl Seq {
    /// The position before the first event.
    pub const ZERO: Self = Self(0);

    /// Returns the position after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Microseconds since the Unix epoch, UTC. For people and for expiry; order comes from [`Seq`] alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// Returns the moment `seconds` later, or the last representable one.
    #[must_use]
    pub const fn plus_seconds(self, seconds: u64) -> Self {
        Self(self.0.saturating_add(seconds.saturating_mul(1_000_000)))
    }
}

/// Idempotency key chosen by a client: 16 bytes, written as 32 lower-case hexadecimal characters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RequestId([u8; 16]);

impl RequestId {
    /// Builds a request id from its 16 bytes (a UUID version 7 by convention).
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Returns the 16 bytes of the request id.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RequestId({self})")
    }
}

impl FromStr for RequestId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        parse_hex(text).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString as _;

    use super::*;

    #[test]
    fn id_text_round_trips() {
        let id = WorkspaceId::from_bytes([0, 1, 0xab, 0xcd, 0xef, 0xff]);
        assert_eq!(id.to_string(), "0001abcdefff");
        assert_eq!("0001abcdefff".parse(), Ok(id));
    }

    #[test]
    fn id_refuses_what_is_not_twelve_lower_case_digits() {
        for text in [
            "",
            "0001abcdeff",
            "0001abcdefff0",
            "0001ABCDEFFF",
            "../../../etc",
            "0001abcdeffg",
            "0001abcdéff",
        ] {
            assert!(text.parse::<WorkspaceId>().is_err(), "{text:?}");
        }
    }
}
