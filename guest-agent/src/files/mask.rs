//! The mask that takes permission bits from files which are made.

#![expect(unsafe_code, reason = "a thread that leaves the others can lose their descriptors")]

use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::thread::UnshareFlags;

/// Gives this thread a mask of its own, which takes nothing: what it makes gets the mode that the host says. The mask
/// of the commands that other threads start stays as it is.
pub(super) fn clear_for_this_thread() -> Result<(), Errno> {
    // SAFETY: the flag parts mask, root and working directory, and no descriptors.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::FS) }?;
    let _shared_mask = rustix::process::umask(Mode::empty());
    Ok(())
}
