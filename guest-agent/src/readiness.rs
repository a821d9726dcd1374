//! Descriptors that the runtime watches.

#![expect(
    unsafe_code,
    reason = "tokio takes any type that names a descriptor, so the caller has to promise that it is a good one"
)]

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::unix::AsyncFd;

/// Makes the descriptor non-blocking and has the runtime watch it.
pub(crate) fn watch(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    rustix::io::ioctl_fionbio(&fd, true)?;
    // SAFETY: an `OwnedFd` names the same open descriptor from its creation to its drop, which is after that of the
    // registration, because the `AsyncFd` owns it.
    Ok(unsafe { AsyncFd::register(fd) }?)
}
