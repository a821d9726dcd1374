//! The single-writer engine that owns log and guests and serves the API.
//!
//! ```text
//! sessions --Submission--> engine --Action--> drivers --> pumps
//!     ^                      | ^                 |          |
//!     +---- envelopes -------+ +----- Record... -+----------+
//! ```

mod backend;
mod bursts;
mod checkpoints;
mod clock;
mod compaction;
mod config;
mod context;
mod describe;
mod driver;
mod engine;
mod evidence;
mod exec;
mod expiry;
mod fate;
mod follower;
mod holds;
mod live_files;
mod mounts;
mod openings;
mod past;
mod peer;
mod plain;
mod programs;
mod retention;
mod selection;
mod server;
mod sessions;
mod shell;
#[cfg(test)]
mod simulation;
mod sink;
mod startup;
mod streams;
mod sync;
mod tethers;
mod verification;
mod window;

pub use server::{DaemonOptions, run};
pub use verification::{repair_log, verify_log};

/// Runs as what connects to a virtual machine; see [`pyro_runtime::guest`].
pub use pyro_runtime::guest::connector_main as vsock_connector;
/// Runs as the first program of a host sandbox; see [`pyro_runtime::sandbox`].
pub use pyro_runtime::sandbox::init_main as sandbox_init;
