//! File systems of a virtual machine.
//!
//! The root is an overlay: what the environment's image has below, what the workspace wrote above. Image and disk are
//! mounted in the initramfs and stay there, out of the guest's sight.

use std::ffi::CStr;
use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountFlags, mount_remount};

const IMAGE: &str = "/image";
const DISK: &str = "/disk";
const ROOT: &str = "/root";

/// Those that move from the initramfs into the root.
const KERNEL: [&str; 3] = ["proc", "sys", "dev"];

/// Mounts what the boot itself needs.
pub(crate) fn early() -> io::Result<()> {
    let kernel = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("proc", "/proc", "proc", kernel, c"")?;
    mount("sysfs", "/sys", "sysfs", kernel, c"")?;
    mount("devtmpfs", "/dev", "devtmpfs", MountFlags::NOSUID, c"mode=0755")
}

/// The mounted disk, which has no path any more once the root is switched.
#[derive(Debug)]
pub(crate) struct Disk(OwnedFd);

impl Disk {
    /// Makes the root and the disk under it read-only, which closes the disk's journal.
    ///
    /// # Errors
    ///
    /// When something still writes; the journal is then replayed at the next mount.
    pub(crate) fn seal(&self) -> io::Result<()> {
        mount_remount("/", MountFlags::RDONLY, c"")?;
        Ok(mount_remount(format!("/proc/self/fd/{}", self.0.as_raw_fd()), MountFlags::RDONLY, c"")?)
    }
}

/// Mounts image and disk, and the overlay that joins them.
pub(crate) fn root(image: &Path, disk: &Path) -> io::Result<Disk> {
    mount(image, IMAGE, "erofs", MountFlags::RDONLY | MountFlags::NODEV, c"")?;
    mount(disk, DISK, "ext4", MountFlags::NOATIME | MountFlags::NODEV, c"")?;
    let (upper, work) = (format!("{DISK}/upper"), format!("{DISK}/work"));
    // It becomes the mode of `/`.
    fs::create_dir_all(&upper)?;
    fs::create_dir_all(&work)?;
    fs::set_permissions(&upper, Permissions::from_mode(0o755))?;
    let layers = c"lowerdir=/image,upperdir=/disk/upper,workdir=/disk/work";
    mount("overlay", ROOT, "overlay", MountFlags::NOATIME, layers)?;
    Ok(Disk(rustix::fs::open(DISK, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?))
}

/// Makes the overlay the root of this process and of all that it starts.
pub(crate) fn switch_root() -> io::Result<()> {
    for name in KERNEL {
        let target = Path::new(ROOT).join(name);
        fs::create_dir_all(&target)?;
        rustix::mount::mount_move(format!("/{name}"), &target)?;
    }
    // The initramfs cannot be pivoted away from: it is covered instead.
    std::env::set_current_dir(ROOT)?;
    rustix::mount::mount_move(".", "/")?;
    rustix::process::chroot(".")?;
    std::env::set_current_dir("/")
}

/// Mounts what commands expect of a machine.
pub(crate) fn late() -> io::Result<()> {
    let private = MountFlags::NOSUID | MountFlags::NODEV;
    mount(
        "devpts",
        "/dev/pts",
        "devpts",
        MountFlags::NOSUID | MountFlags::NOEXEC,
        c"gid=5,mode=620,ptmxmode=666",
    )?;
    mount("tmpfs", "/dev/shm", "tmpfs", private, c"mode=1777")?;
    mount("tmpfs", "/run", "tmpfs", private, c"mode=0755")?;
    for (link, target) in [("fd", "/proc/self/fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")]
    {
        std::os::unix::fs::symlink(target, Path::new("/dev").join(link))?;
    }
    // It stays on the disk, which is larger than the memory.
    DirBuilder::new().recursive(true).mode(0o1777).create("/tmp")?;
    fs::set_permissions("/tmp", Permissions::from_mode(0o1777))
}

/// Mounts the cgroup hierarchy; returns where.
pub(crate) fn cgroups() -> io::Result<PathBuf> {
    let target = "/sys/fs/cgroup";
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    // Each command moves one process; without the option, each move waits for a grace period of the kernel's RCU.
    mount("cgroup2", target, "cgroup2", flags, c"favordynmods")
        .or_else(|_unknown_option| mount("cgroup2", target, "cgroup2", flags, c""))?;
    Ok(target.into())
}

fn mount(
    source: impl AsRef<Path>,
    target: &str,
    kind: &str,
    flags: MountFlags,
    options: &CStr,
) -> io::Result<()> {
    // Part of sysfs and not ours to make; elsewhere a missing directory is made.
    if !target.starts_with("/sys/") {
        fs::create_dir_all(target)?;
    }
    rustix::mount::mount(source.as_ref(), target, kind, flags, options).map_err(|error| {
        io::Error::new(io::Error::from(error).kind(), format!("{kind} on {target}: {error}"))
    })
}
