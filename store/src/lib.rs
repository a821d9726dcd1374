//! The durable event log and the output files beside it.
//!
//! [`EventLog`] is the one writer, [`Reader`] what everybody else holds. The bytes on disk are described in
//! `docs/log-format.md`. What must stay true:
//!
//! - An event is acknowledged, and visible to readers, only after the `fdatasync` of its own group returned.
//! - Segment files are the only truth. The index (sled) answers lookups and can be deleted at any time.
//! - Damage is an error that names a place. Only bytes that nobody was told of are ever dropped silently.
//!
//! Nothing here decides anything, reads a clock or draws random numbers: times and ids arrive as data.

mod anchor;
mod base;
mod beginning;
mod checkpoint;
mod chunk;
mod codec;
mod compaction;
mod corruption;
pub mod disk;
mod files;
mod frame;
mod frames;
mod index;
mod indexer;
mod lock;
mod log;
pub mod outputs;
mod reader;
mod record;
mod recovery;
mod repair;
mod scanner;
mod segment;
mod shared;
mod verify;
mod writer;

pub use base::BaseInfo;
pub use checkpoint::{CheckpointError, Checkpoints, SavedState, saved_state, state_digest};
pub use compaction::{CompactError, Compaction, Compactor, Dropped, Retention, WrittenBase};
pub use corruption::{Corruption, Fault};
pub use disk::{Disk, DiskFile, HostDisk};
pub use frame::{GENESIS, Hash};
pub use log::{AppendError, Draft, EventLog, OpenError, Options, Recovered};
pub use reader::{Read, ReadError, ReadRecords, ReadWorkspace, Reader};
pub use record::Record;
pub use repair::{RepairError, Repaired, repair, repair_at};
pub use shared::Head;
pub use verify::{Part, Report, VerifyError, verify, verify_on, verify_parts, verify_records};
