//! Events as payloads of records. The only module that names bincode.

use bincode::config::{Configuration, Limit, LittleEndian, Varint};
use pyro_core::{
    AccessRefused, Actor, BackendProbed, Cause, ClockObserved, DaemonStarted, DaemonStopped, Envelope,
    EnvironmentInstallFailed, EnvironmentInstalled, EnvironmentRemoved, Event, ExecCancelRequested,
    ExecExited, ExecFailed, ExecLost, ExecRequested, ExecStarted, LimitsChanged, LogCompacted, Mounted,
    OperationResolved, OutputDropped, RequestMet, Seq, ShellClosed, ShellClosing, ShellExited, ShellFailed,
    ShellInput, ShellLost, ShellRequested, ShellResized, ShellSignaled, ShellStarted, State,
    SyncCancelRequested, SyncFailed, SyncFinished, SyncLost, SyncRequested, Timestamp, UnknownEvent,
    Unmounted, WorkspaceCreated, WorkspaceDeleted, WorkspaceDeleting, WorkspaceLabeled, WorkspaceStartFailed,
    WorkspaceStarted, WorkspaceStarting, WorkspaceStopped, WorkspaceStopping,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::frame::PAYLOAD_LEN_MAX;
use crate::log::Draft;

type Config = Configuration<LittleEndian, Varint, Limit<PAYLOAD_LEN_MAX>>;

/// Without the limit a few hostile length bytes would make the decoder allocate until the process aborts.
const CONFIG: Config = bincode::config::standard().with_limit::<PAYLOAD_LEN_MAX>();

/// Version of the encoding of a state. It is raised whenever its bytes change, which `tests/checkpoint.rs` notices: a state of another version is
/// not read, and the log is replayed instead.
const STATE_VERSION: u16 = 3;

/// Most bytes of a state: 10,000 workspaces take about 10 MiB.
const STATE_LEN_MAX: usize = 1 << 30;

const STATE_CONFIG: Configuration<LittleEndian, Varint, Limit<STATE_LEN_MAX>> =
    bincode::config::standard().with_limit::<STATE_LEN_MAX>();

/// Returns a state as bytes.
pub(crate) fn encode_state(state: &State) -> Result<Vec<u8>, CodecError> {
    let mut bytes = STATE_VERSION.to_le_bytes().to_vec();
    bincode::serde::encode_into_std_write(state, &mut bytes, STATE_CONFIG)
        .map_err(|_| CodecError::TooLong)?;
    Ok(bytes)
}

/// Returns the state of bytes; `None` when they are of another version.
pub(crate) fn decode_state(bytes: &[u8]) -> Option<State> {
    let (version, bytes) = bytes.split_first_chunk::<2>()?;
    if u16::from_le_bytes(*version) != STATE_VERSION {
        return None;
    }
    let (state, len) = bincode::serde::decode_from_slice(bytes, STATE_CONFIG).ok()?;
    (len == bytes.len()).then_some(state)
}

/// Tells whether a state of these bytes would be written with the same ones today.
pub(crate) fn is_present_version(bytes: &[u8]) -> bool {
    bytes.starts_with(&STATE_VERSION.to_le_bytes())
}

/// An event or payload that cannot be translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CodecError {
    /// It is an unknown event: only a newer version of the program can write it.
    Unknown,
    /// It is longer than a record can be.
    TooLong,
    /// The bytes are not what their kind and version say.
    Invalid,
}

/// What stands before the event's own struct in every payload.
#[derive(Serialize)]
struct PrefixRef<'a> {
    at: Timestamp,
    actor: &'a Actor,
    cause: Cause,
}

/// The same, read back.
#[derive(Deserialize)]
struct Prefix {
    at: Timestamp,
    actor: Actor,
    cause: Cause,
}

/// Appends the payload of an event and returns its kind and version.
pub(crate) fn encode(draft: &Draft, buffer: &mut Vec<u8>) -> Result<(u16, u16), CodecError> {
    write(&PrefixRef { at: draft.at, actor: &draft.actor, cause: draft.cause }, buffer)?;
    encode_event(&draft.event, buffer)
}

/// Builds the envelope of a record.
pub(crate) fn decode(seq: Seq, kind: u16, version: u16, payload: &[u8]) -> Result<Envelope, CodecError> {
    let (prefix, len): (Prefix, usize) =
        bincode::serde::decode_from_slice(payload, CONFIG).map_err(|_| CodecError::Invalid)?;
    let event = decode_event(kind, version, &payload[len..])?;
    Ok(Envelope { seq, at: prefix.at, actor: prefix.actor, cause: prefix.cause, event })
}

/// Returns the cause of an event without the event; `None` when the payload has none.
pub(crate) fn decode_cause(payload: &[u8]) -> Option<Cause> {
    let prefix: Result<(Prefix, usize), _> = bincode::serde::decode_from_slice(payload, CONFIG);
    prefix.ok().map(|(prefix, _)| prefix.cause)
}

fn write<T: Serialize>(value: &T, buffer: &mut Vec<u8>) -> Result<(), CodecError> {
    bincode::serde::encode_into_std_write(value, buffer, CONFIG).map(drop).map_err(|_| CodecError::TooLong)
}

fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    match bincode::serde::decode_from_slice(bytes, CONFIG) {
        Ok((value, len)) if len == bytes.len() => Ok(value),
        Ok(_) | Err(_) => Err(CodecError::Invalid),
    }
}

/// Spells out both directions from the one table of kinds and versions.
macro_rules! records {
    ($(($kind:literal, $version:literal) => $event:ident,)*) => {
        fn encode_event(event: &Event, buffer: &mut Vec<u8>) -> Result<(u16, u16), CodecError> {
            match event {
                $(Event::$event(event) => write(event, buffer).map(|()| ($kind, $version)),)*
                Event::Unknown(_) => Err(CodecError::Unknown),
            }
        }

        fn decode_event(kind: u16, version: u16, bytes: &[u8]) -> Result<Event, CodecError> {
            match (kind, version) {
                $(($kind, $version) => read::<$event>(bytes).map(Event::$event),)*
                _ => Ok(Event::Unknown(UnknownEvent { kind, version, payload: bytes.to_vec() })),
            }
        }
    };
}

records! {
    (1, 1) => DaemonStarted,
    (2, 1) => DaemonStopped,
    (3, 1) => LimitsChanged,
    (4, 1) => BackendProbed,
    (5, 1) => ClockObserved,
    (6, 1) => LogCompacted,
    (7, 1) => Mounted,
    (8, 1) => Unmounted,
    (9, 1) => AccessRefused,
    (20, 1) => EnvironmentInstalled,
    (21, 1) => EnvironmentInstallFailed,
    (22, 1) => EnvironmentRemoved,
    (30, 1) => WorkspaceCreated,
    (31, 1) => WorkspaceStarting,
    (32, 1) => WorkspaceStarted,
    (33, 1) => WorkspaceStartFailed,
    (34, 1) => WorkspaceStopping,
    (35, 1) => WorkspaceStopped,
    (36, 1) => WorkspaceDeleting,
    (37, 1) => WorkspaceDeleted,
    (38, 1) => WorkspaceLabeled,
    (50, 1) => ExecRequested,
    (51, 1) => ExecStarted,
    (52, 1) => ExecExited,
    (53, 1) => ExecFailed,
    (54, 1) => ExecLost,
    (55, 1) => ExecCancelRequested,
    (60, 1) => ShellRequested,
    (61, 1) => ShellStarted,
    (62, 1) => ShellFailed,
    (63, 1) => ShellExited,
    (64, 1) => ShellLost,
    (65, 1) => ShellInput,
    (66, 1) => ShellResized,
    (67, 1) => ShellSignaled,
    (68, 1) => ShellClosing,
    (69, 1) => ShellClosed,
    (70, 1) => SyncRequested,
    (71, 1) => SyncFinished,
    (72, 1) => SyncFailed,
    (73, 1) => SyncLost,
    (74, 1) => SyncCancelRequested,
    (90, 1) => OperationResolved,
    (91, 1) => RequestMet,
    (95, 1) => OutputDropped,
}
