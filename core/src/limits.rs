//! Bounds on what may be asked for.

use serde::{Deserialize, Serialize};

/// Bounds that `decide` enforces. They come from the host and its configuration and are themselves logged, so that a
/// replay refuses and accepts exactly what was refused and accepted the first time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Most virtual CPUs of one guest.
    pub vcpu_max: u32,
    /// Least memory of one guest, in MiB.
    pub mem_mib_min: u64,
    /// Most memory of all started guests together, in MiB.
    pub mem_mib_total: u64,
    /// Shortest time to live, in seconds; `0` is always allowed and means no end.
    pub ttl_seconds_min: u64,
    /// Longest time to live, in seconds.
    pub ttl_seconds_max: u64,
    /// Most workspaces and VMs that exist at once, started or not.
    pub workspaces_max: u32,
    /// Most guests that run at once, whatever the memory.
    pub guests_max: u32,
    /// Most unfinished execs of one workspace.
    pub open_execs_max: u32,
    /// Longest command line, in bytes.
    pub command_len_max: u32,
    /// Longest timeout of an exec, in seconds.
    pub timeout_seconds_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            vcpu_max: 32,
            mem_mib_min: 128,
            mem_mib_total: 4096,
            ttl_seconds_min: 60,
            ttl_seconds_max: 30 * 24 * 3600,
            workspaces_max: 1024,
            guests_max: 64,
            open_execs_max: 256,
            command_len_max: 128 * 1024,
            timeout_seconds_max: 30 * 24 * 3600,
        }
    }
}
