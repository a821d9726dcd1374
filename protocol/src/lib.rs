//! Frames between host and guest: their types, their bytes, and the limits that both sides keep.
//!
//! `docs/guest-protocol.md` is the contract. This crate is sans-IO: [`Decoder`] takes bytes and gives frames,
//! [`Frame::encode`] appends bytes to a buffer, and who moves the bytes is not known here.
//!
//! WHEN CHANGING A FRAME: anything that changes the bytes or their meaning is a new [`Generation`]. Add the new
//! types beside the old ones, write them into the document, and add `schema/gen-N.json`; the snapshots of the
//! generations that are still spoken must not change.

mod codec;
mod decoder;
mod files;
mod frame;
mod generation;
mod guest;
mod host;
mod import;
mod output;
mod shell;

pub use decoder::{DecodeError, Decoder};
pub use files::{
    Existing, FILE_DATA_MAX, FILE_HANDLES_MAX, FileAccess, FileAnswer, FileCall, FileData, FileKind,
    FileReply, FileRequest, FileStat, FileTarget, FileWrite, Files, LISTED_MAX, Listed, NewFile, NewTime,
    Space, StatChanges,
};
pub use frame::{EncodeError, FRAME_HEAD_BYTES, FRAME_LENGTH_MAX, Frame};
pub use generation::{Generation, GenerationRange};
pub use guest::{
    Announce, BootId, ExitStatus, Exited, Failed, GuestFrame, OPERATIONS_MAX, Operation, Phase, Refusal,
    Retained, Stage, Started, Welcome,
};
pub use host::{Ack, Attach, Exec, Hello, HostFrame};
pub use import::{
    COMPONENTS_MAX, CONTENT_MAX, Entry, EntryKind, IMPORTS_REMEMBERED, Import, ImportFailed, ImportState,
    Imported, ModifiedAt, PATH_LEN_MAX, content_head,
};
pub use output::{OUTPUT_DATA_MAX, OUTPUT_HEAD_BYTES, Output, STREAM_RETAINED_MAX, Stream, output_head};
pub use shell::{INPUT_DATA_MAX, INPUT_HELD_MAX, Input, InputProgress, Shell, TerminalSize};

/// Port of the guest's vsock address on which the agent listens.
pub const AGENT_PORT: u32 = 5005;

/// Port of the host's vsock address (CID 2) to which the agent announces itself after the boot.
pub const ANNOUNCE_PORT: u32 = 5006;
