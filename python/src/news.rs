//! What a call tells before its end, and its end.

use pyro_api::{ApiError, LogEvent, Progress, Stream};
use serde_json::Value;

/// Something that a worker has to say.
#[derive(Debug)]
pub(crate) enum News {
    /// The operation got on.
    Progress(Progress),
    /// The command or shell printed something.
    Output(Stream, Vec<u8>),
    /// So many bytes of the output are not there any more.
    Gap(Stream, u64),
    /// The log has an event.
    Event(LogEvent),
    /// The operation has ended: the last of all news.
    Ended(Result<Value, ApiError>),
}

/// Which news somebody wants before the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interest {
    /// All of them. The operation waits for a reader who is slow.
    All,
    /// None.
    EndOnly,
}
