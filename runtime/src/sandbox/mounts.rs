//! File systems that are made or taken before they have a place.
#![expect(unsafe_code, reason = "rustix lacks mount_setattr")]

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::path::Path;

use rustix::fs::CWD;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};

/// A mount without a place. It is gone when this is dropped, unless something is open on it.
#[derive(Debug)]
pub(super) struct Mount(OwnedFd);

/// A file system to make.
#[derive(Debug)]
pub(super) struct NewMount {
    context: OwnedFd,
}

impl NewMount {
    /// Begins to make a file system of this type.
    pub(super) fn of(kind: &str) -> io::Result<Self> {
        Ok(Self { context: fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)? })
    }

    /// Sets an option that has a value.
    pub(super) fn option(self, name: &str, value: &str) -> io::Result<Self> {
        fsconfig_set_string(self.context.as_fd(), name, value)?;
        Ok(self)
    }

    /// Sets an option that has none.
    pub(super) fn flag(self, name: &str) -> io::Result<Self> {
        fsconfig_set_flag(self.context.as_fd(), name)?;
        Ok(self)
    }

    /// Makes it.
    pub(super) fn make(self, attributes: MountAttrFlags) -> io::Result<Mount> {
        fsconfig_create(self.context.as_fd())?;
        Ok(Mount(fsmount(self.context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?))
    }
}

impl Mount {
    /// Takes what is at a path, without what is mounted below, as a mount of its own.
    pub(super) fn clone_of(path: &Path) -> io::Result<Self> {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_SYMLINK_NOFOLLOW;
        Ok(Self(open_tree(CWD, path, flags)?))
    }

    /// Adds attributes.
    pub(super) fn restrict(&self, attributes: MountAttrFlags) -> io::Result<()> {
        let change = libc::mount_attr {
            attr_set: u64::from(attributes.bits()),
            attr_clr: 0,
            propagation: 0,
            userns_fd: 0,
        };
        let empty: &CStr = c"";
        // SAFETY: the descriptor is open, the string ends with zero, and the structure has the size that is told.
        let set = unsafe {
            libc::syscall(
                libc::SYS_mount_setattr,
                self.0.as_raw_fd(),
                empty.as_ptr(),
                libc::AT_EMPTY_PATH,
                &raw const change,
                size_of_val(&change),
            )
        };
        if set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Gives it an open directory as its place.
    pub(super) fn attach_to(&self, place: &OwnedFd) -> io::Result<()> {
        let both = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
        Ok(move_mount(self.0.as_fd(), "", place, "", both)?)
    }

    /// Gives it a place.
    pub(super) fn attach(&self, at: &Path) -> io::Result<()> {
        Ok(move_mount(self.0.as_fd(), "", CWD, at, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?)
    }
}

impl AsFd for Mount {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}
