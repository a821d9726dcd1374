//! Descriptors that this process was started with.

#![expect(unsafe_code, reason = "inherited descriptors are plain numbers")]

use std::io;
use std::os::fd::{BorrowedFd, FromRawFd as _, OwnedFd, RawFd};

use rustix::io::{FdFlags, fcntl_getfd, fcntl_setfd};

/// Takes over the descriptor `fd` that the parent left open for this process, and marks all descriptors above stderr
/// close-on-exec, so that no command inherits them.
///
/// To be called once, before anything else opens descriptors.
///
/// # Errors
///
/// When `fd` is not open.
pub(crate) fn take(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: the borrow ends with the next statement, and fcntl on a number that is not open fails with EBADF.
    fcntl_getfd(unsafe { BorrowedFd::borrow_raw(fd) })?;
    // SAFETY: close_range with CLOSE_RANGE_CLOEXEC closes nothing and touches no memory.
    let marked = unsafe { libc::close_range(3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC.cast_signed()) };
    // SAFETY: the descriptor is open, the parent gave it to this process, and nothing else in it owns the number.
    let owned = unsafe { OwnedFd::from_raw_fd(fd) };
    if marked != 0 {
        // Kernels before 5.11 lack the call; the descriptor that is known to be open is the one that matters.
        fcntl_setfd(&owned, FdFlags::CLOEXEC)?;
    }
    Ok(owned)
}
