//! The programs pyro calls, where they are looked for, and which Debian package brings each.

use std::env;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

/// Directories of the system's administration, which an ordinary user does not have on `PATH` and in which file systems
/// are made.
const SYSTEM_DIRS: &[&str] = &["/usr/sbin", "/sbin"];

/// A program that some part of pyro calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Tool {
    /// Queries package indexes.
    AptCache,
    /// Reads apt's settings.
    AptConfig,
    /// Downloads packages.
    AptGet,
    /// Unpacks Debian packages.
    DpkgDeb,
    /// The Firecracker VMM.
    Firecracker,
    /// Mounts FUSE file systems for ordinary users.
    Fusermount,
    /// Sets up network devices and routes.
    Ip,
    /// Filters packets, old interface.
    Iptables,
    /// Makes EROFS images.
    MkfsErofs,
    /// Makes ext4 file systems.
    MkfsExt4,
    /// Builds a Debian root file system from packages.
    Mmdebstrap,
    /// Maps a range of subordinate user ids.
    NewUidMap,
    /// Filters packets.
    Nft,
    /// The QEMU emulator for 64-bit PCs.
    Qemu,
    /// Starts a program that dies with its parent.
    Setpriv,
    /// The shell.
    Sh,
    /// Carries the network of a network namespace, in user mode.
    Slirp4netns,
    /// Unpacks archives.
    Tar,
    /// Enters new namespaces.
    Unshare,
    /// Carries vsock between a guest and Unix sockets, without a kernel module.
    VhostDeviceVsock,
    /// Decompresses xz.
    Xz,
    /// Decompresses Zstandard.
    Zstd,
}

impl Tool {
    /// Returns the file name of the program.
    #[must_use]
    pub const fn binary(self) -> &'static str {
        match self {
            Self::AptCache => "apt-cache",
            Self::AptConfig => "apt-config",
            Self::AptGet => "apt-get",
            Self::DpkgDeb => "dpkg-deb",
            Self::Firecracker => "firecracker",
            Self::Fusermount => "fusermount3",
            Self::Ip => "ip",
            Self::Iptables => "iptables",
            Self::MkfsErofs => "mkfs.erofs",
            Self::MkfsExt4 => "mkfs.ext4",
            Self::Mmdebstrap => "mmdebstrap",
            Self::NewUidMap => "newuidmap",
            Self::Nft => "nft",
            Self::Qemu => "qemu-system-x86_64",
            Self::Setpriv => "setpriv",
            Self::Sh => "sh",
            Self::Slirp4netns => "slirp4netns",
            Self::Tar => "tar",
            Self::Unshare => "unshare",
            Self::VhostDeviceVsock => "vhost-device-vsock",
            Self::Xz => "xz",
            Self::Zstd => "zstd",
        }
    }

    /// Says how to get the program on Debian 12, as the end of a sentence such as "install ...".
    #[must_use]
    pub const fn source(self) -> &'static str {
        match self {
            Self::AptCache | Self::AptConfig | Self::AptGet => "the Debian package apt",
            Self::DpkgDeb => "the Debian package dpkg",
            Self::Firecracker => "a release of Firecracker (Debian has no package)",
            Self::Fusermount => "the Debian package fuse3",
            Self::Ip => "the Debian package iproute2",
            Self::Iptables => "the Debian package iptables",
            Self::MkfsErofs => "the Debian package erofs-utils",
            Self::MkfsExt4 => "the Debian package e2fsprogs",
            Self::Mmdebstrap => "the Debian package mmdebstrap",
            Self::NewUidMap => "the Debian package uidmap",
            Self::Nft => "the Debian package nftables",
            Self::Qemu => "the Debian package qemu-system-x86",
            Self::Setpriv | Self::Unshare => "the Debian package util-linux",
            Self::Sh => "the Debian package dash",
            Self::Slirp4netns => "the Debian package slirp4netns",
            Self::Tar => "the Debian package tar",
            Self::VhostDeviceVsock => "the crate vhost-device-vsock 0.3 (cargo install vhost-device-vsock)",
            Self::Xz => "the Debian package xz-utils",
            Self::Zstd => "the Debian package zstd",
        }
    }
}

/// A program that is needed and that is nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} is not installed; it comes with {}", .0.binary(), .0.source())]
pub struct MissingTool(pub Tool);

/// The directories in which programs are looked for, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tools {
    dirs: Vec<PathBuf>,
}

impl Tools {
    /// Looks beside the running executable, in `../libexec/pyro`, on `PATH`, then in the system directories.
    ///
    /// Files that come with pyro win, so that an installation works the same under every `PATH`.
    #[must_use]
    pub fn of_host() -> Self {
        let mut dirs = Vec::new();
        if let Ok(executable) = env::current_exe()
            && let Some(beside) = executable.parent()
        {
            dirs.push(beside.to_owned());
            if let Some(prefix) = beside.parent() {
                dirs.push(prefix.join("libexec/pyro"));
            }
        }
        if let Some(path) = env::var_os("PATH") {
            // A relative entry would find different programs from different directories.
            dirs.extend(env::split_paths(&path).filter(|dir| dir.is_absolute()));
        }
        dirs.extend(SYSTEM_DIRS.iter().map(PathBuf::from));
        Self { dirs }
    }

    /// Looks only in these directories.
    #[must_use]
    pub const fn in_dirs(dirs: Vec<PathBuf>) -> Self {
        Self { dirs }
    }

    /// Returns the first executable file of that name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<PathBuf> {
        self.dirs.iter().map(|dir| dir.join(name)).find(|path| is_executable(path))
    }

    /// Returns the path of a program that must be there.
    ///
    /// # Errors
    ///
    /// [`MissingTool`] names the program and what brings it.
    pub fn require(&self, tool: Tool) -> Result<PathBuf, MissingTool> {
        self.find(tool.binary()).ok_or(MissingTool(tool))
    }
}

/// Returns the first executable file of that name on this host, in the order of [`Tools::of_host`].
#[must_use]
pub fn find(name: &str) -> Option<PathBuf> {
    Tools::of_host().find(name)
}

fn is_executable(path: &Path) -> bool {
    path.is_file() && access(path, Access::EXEC_OK).is_ok()
}

#[cfg(test)]
mod tests {
    use super::{MissingTool, Tool, Tools};
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn the_first_executable_wins_and_plain_files_do_not_count() {
        let dir = tempfile::tempdir().unwrap();
        let (first, second) = (dir.path().join("first"), dir.path().join("second"));
        for (place, mode) in [(&first, 0o644), (&second, 0o755)] {
            fs::create_dir(place).unwrap();
            fs::write(place.join("mkfs.erofs"), "").unwrap();
            fs::set_permissions(place.join("mkfs.erofs"), fs::Permissions::from_mode(mode)).unwrap();
        }
        let tools = Tools::in_dirs(vec![first, second.clone()]);
        assert_eq!(tools.find("mkfs.erofs"), Some(second.join("mkfs.erofs")));
    }

    #[test]
    fn a_missing_tool_names_its_package() {
        let refused = Tools::in_dirs(Vec::new()).require(Tool::MkfsErofs).unwrap_err();
        assert_eq!(refused, MissingTool(Tool::MkfsErofs));
        assert_eq!(
            refused.to_string(),
            "mkfs.erofs is not installed; it comes with the Debian package erofs-utils"
        );
    }
}
