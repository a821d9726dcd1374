//! What this process was started with and its commands must not have: descriptors, ignored signals.

#![expect(
    unsafe_code,
    reason = "inherited descriptors are plain numbers, and signal actions are the C library's"
)]

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

/// Takes over the descriptor that the parent gave this process as stdin, which is left as it is: what it is used for next
/// takes its place.
///
/// # Errors
///
/// When stdin is not open.
pub(crate) fn take_stdin() -> io::Result<OwnedFd> {
    /// Lowest descriptor that is none of the standard ones.
    const OTHERS: RawFd = 3;
    Ok(rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), OTHERS)?)
}

/// Gives all signals their default action. An ignored signal would be ignored by the commands as well.
///
/// To be called before anything sets handlers. `SIGPIPE` stays ignored here; the standard library gives it its default
/// action in each child.
pub(crate) fn reset_signals() {
    for signal in (1..=libc::SIGRTMAX()).filter(|signal| *signal != libc::SIGPIPE) {
        // SAFETY: the default action runs no code of ours. Signals that cannot be changed are refused.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
}
