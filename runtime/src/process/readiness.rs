//! Waiting for a descriptor.
#![expect(unsafe_code, reason = "tokio leaves it to the caller that the descriptor stays open")]

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Waits until the descriptor is readable, and closes it. The descriptor must be one that nobody else waits for with
/// epoll.
pub(super) async fn readable(descriptor: OwnedFd) -> io::Result<()> {
    // SAFETY: an owned descriptor is open and always the same one until it is dropped, which happens after the
    // registration has ended, because the registration owns it.
    let registered = unsafe { AsyncFd::register_with_interest(descriptor, Interest::READABLE) }?;
    // What the guard could do, marking the descriptor as not readable, is not needed for a single wait.
    drop(registered.readable().await?);
    Ok(())
}
