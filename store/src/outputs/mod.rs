//! What commands and shells wrote: one append-only file per stream (`docs/log-format.md`, "Output streams").
//!
//! Bytes are addressed by their offset in the stream. While its workspace exists, a file loses only bytes of which the log
//! says so before: they leave a hole, and all others stay where they are.

mod drop;
mod error;
mod reader;
mod stream;
mod writer;

pub use self::drop::StoredStream;
pub use error::OutputError;
pub use pyro_core::{Stream, StreamId};
pub use reader::{OutputReader, TimeEntry};
pub use stream::Outputs;
pub use writer::OutputWriter;
