//! What commands and shells wrote: one append-only file per stream (`docs/log-format.md`, "Output streams").
//!
//! Bytes are addressed by their offset in the stream. A file never has holes, and never loses bytes while its
//! workspace exists.

mod error;
mod reader;
mod stream;
mod writer;

pub use error::OutputError;
pub use reader::{OutputReader, TimeEntry};
pub use stream::{Outputs, Stream, StreamId};
pub use writer::OutputWriter;
