//! How many descriptors the agent has, and how many those that it starts.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Most descriptors of the agent: each operation takes half a dozen, and each connection one.
const OWN: u64 = 16_384;

/// Descriptors of what it starts, unless that asks for more: what a kernel gives its first process. `select` cannot be used
/// with those above.
const OF_OTHERS: u64 = 1024;

/// Takes as many as the agent may need, or as the host lets it.
pub(crate) fn raise() {
    let limit = getrlimit(Resource::Nofile);
    let raised =
        Rlimit { current: Some(OWN), maximum: Some(limit.maximum.map_or(OWN, |most| most.max(OWN))) };
    // Root of a virtual machine may have more than it was given; others may not.
    if setrlimit(Resource::Nofile, raised).is_err() {
        let current = Some(limit.maximum.map_or(OWN, |most| most.min(OWN)));
        // With fewer, fewer commands run at once.
        let _few = setrlimit(Resource::Nofile, Rlimit { current, ..limit });
    }
}

/// Gives this process as many as a program is used to. Only system calls that are safe after fork.
pub(super) fn lower() -> io::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    let current = Some(limit.maximum.map_or(OF_OTHERS, |most| most.min(OF_OTHERS)));
    Ok(setrlimit(Resource::Nofile, Rlimit { current, ..limit })?)
}
