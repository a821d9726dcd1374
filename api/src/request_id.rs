//! Request ids in text: what makes a repeated request harmless.

use pyro_core::RequestId;
use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer, de};

/// Draws a request id: a UUID of version 7, unique without any coordination.
#[must_use]
pub fn new_request_id() -> RequestId {
    RequestId::from_bytes(uuid::Uuid::now_v7().into_bytes())
}

/// A text that is not a request id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a request id is a UUID: 32 hexadecimal digits, with or without hyphens")]
pub struct RequestIdError;

/// Reads a request id: a UUID of any version, with or without hyphens.
///
/// # Errors
///
/// When the text is something else.
pub fn parse_request_id(text: &str) -> Result<RequestId, RequestIdError> {
    let uuid = uuid::Uuid::try_parse(text).map_err(|_| RequestIdError)?;
    Ok(RequestId::from_bytes(uuid.into_bytes()))
}

/// Writes an optional request id as text; for `#[serde(with)]`.
pub(crate) fn serialize<S: Serializer>(id: &Option<RequestId>, serializer: S) -> Result<S::Ok, S::Error> {
    id.as_ref().map(ToString::to_string).serialize(serializer)
}

/// Reads an optional request id from text; for `#[serde(with)]`.
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<RequestId>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    text.as_deref().map(parse_request_id).transpose().map_err(de::Error::custom)
}

/// Request ids that are always there, as text.
pub(crate) mod required {
    use pyro_core::RequestId;
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer, de};

    pub(crate) fn serialize<S: Serializer>(id: &RequestId, serializer: S) -> Result<S::Ok, S::Error> {
        id.to_string().serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<RequestId, D::Error> {
        super::parse_request_id(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_ids_are_read_with_and_without_hyphens() {
        let plain = "0190a3e2b7c87d4e8f00112233445566";
        let hyphened = "0190a3e2-b7c8-7d4e-8f00-112233445566";
        assert_eq!(parse_request_id(plain), parse_request_id(hyphened));
        assert_eq!(parse_request_id(plain).unwrap().to_string(), plain);
        assert_eq!(parse_request_id("1"), Err(RequestIdError));
        assert_ne!(new_request_id(), new_request_id());
    }
}
