//! Bounds on what the processes of a sandbox take from the host.

use std::fs;
use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::init::{Doing as _, InitError};

/// Most processes and threads of one user of the sandbox and, where the kernel can count them (6.14), of all of it.
const PROCESSES_MAX: u64 = 4096;

/// Descriptors that a process has at once unless it asks for more: what a kernel gives its first process. The daemon has
/// more, and `select` cannot be used with those above.
const DESCRIPTORS: u64 = 1024;

/// How readily the kernel ends a sandbox's processes when memory is short, from -1000 to 1000. The daemon, which has
/// 0, and the rest of the host are to survive them.
const OOM_SCORE: &str = "500";

/// Offers this process and all that it starts to a host without memory. What is set with `CAP_SYS_RESOURCE` of the
/// host, the sandbox cannot take back.
pub(super) fn offer_to_oom_killer() -> Result<(), InitError> {
    match fs::write("/proc/self/oom_score_adj", OOM_SCORE) {
        // The daemon was bound to a higher score, as in many containers, and so is the sandbox.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        done => done.doing("offer the sandbox to a host without memory"),
    }
}

/// Bounds this process and all that it starts. A bound on processes that is set outside of the user namespace would
/// count all processes of the host's root.
pub(super) fn bound_processes() -> Result<(), InitError> {
    let most = |value| Rlimit { current: Some(value), maximum: Some(value) };
    setrlimit(Resource::Nproc, most(PROCESSES_MAX)).doing("limit the number of processes")?;
    let maximum = getrlimit(Resource::Nofile).maximum;
    let current = Some(maximum.map_or(DESCRIPTORS, |most| most.min(DESCRIPTORS)));
    setrlimit(Resource::Nofile, Rlimit { current, maximum }).doing("limit the number of descriptors")?;
    // Not 0: for a limit of 1 the kernel does not start the host's program for core dumps either, which runs as the
    // host's root and has a record of holes.
    setrlimit(Resource::Core, most(1)).doing("switch core dumps off")
}

/// Lets nobody in the sandbox make user namespaces, whose roots would have all the privileges over new namespaces that
/// this sandbox's root gives up. Needs a `/proc` that can be written.
pub(super) fn forbid_user_namespaces() -> Result<(), InitError> {
    fs::write("/proc/sys/user/max_user_namespaces", "0").doing("forbid user namespaces")
}

/// Bounds the processes of all users of the sandbox together, who are as many as its root wants. Needs a `/proc` that
/// can be written.
pub(super) fn bound_pids() -> Result<(), InitError> {
    match fs::write("/proc/sys/kernel/pid_max", PROCESSES_MAX.to_string()) {
        // An older kernel has one bound for the whole host, and it is not the sandbox's to change.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        done => done.doing("limit the number of pids"),
    }
}
