//! The root file system of a sandbox.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::{OpenOptionsExt as _, symlink};
use std::path::Path;

use rustix::fs::{Mode, OFlags, StatVfsMountFlags, fstatvfs};
use rustix::mount::{
    MountAttrFlags, MountFlags, MountPropagationFlags, UnmountFlags, mount_bind, mount_change, mount_remount,
    unmount,
};

use super::init::{Arguments, Doing as _, Ids, InitError, UPPER, WORK};
use super::mounts::{Mount, NewMount};

/// Devices that programs expect and that give nothing away.
const DEVICES: &[&str] = &["null", "zero", "full", "random", "urandom", "tty"];

/// Links in `/dev`, by name and target.
const LINKS: &[(&str, &str)] = &[
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// Parts of `/proc` that configure the kernel. Most can be written by the host's root only; a mistake of the kernel in
/// that is not to matter.
const READ_ONLY: &[&str] = &["/proc/irq", "/proc/sys"];

/// Files of `/proc` that tell about the host's disks, memory and keys, or act on the host.
const MASKED_FILES: &[&str] = &[
    "/proc/cmdline",
    "/proc/diskstats",
    "/proc/kcore",
    "/proc/key-users",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/partitions",
    "/proc/sched_debug",
    "/proc/swaps",
    "/proc/sysrq-trigger",
    "/proc/timer_list",
];

/// Directories of `/proc` that tell about the host's devices and file systems, or configure them.
const MASKED_DIRS: &[&str] = &["/proc/acpi", "/proc/asound", "/proc/bus", "/proc/fs", "/proc/scsi"];

/// Group `tty`, to which terminals belong in Debian.
const TTY_GROUP: &str = "5";

const INERT: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NOSUID
    .union(MountAttrFlags::MOUNT_ATTR_NODEV)
    .union(MountAttrFlags::MOUNT_ATTR_NOEXEC);

/// What is needed of the host to make a root. It is opened while PID 1 still is who the daemon is: the sandbox's root
/// gets through no private directory.
#[derive(Debug)]
pub(super) struct Ingredients {
    rootfs: OwnedFd,
    upper: OwnedFd,
    work: OwnedFd,
    /// Where the root is attached before it becomes the root: the workspace's directory.
    place: OwnedFd,
    devices: Vec<(&'static str, Mount)>,
    ids: Ids,
}

impl Ingredients {
    pub(super) fn open(arguments: &Arguments, ids: Ids) -> Result<Self, InitError> {
        let open = |dir: &Path| {
            rustix::fs::open(dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        };
        let device = |name: &&'static str| Ok((*name, Mount::clone_of(&Path::new("/dev").join(name))?));
        Ok(Self {
            rootfs: open(&arguments.rootfs).doing("open the environment's files")?,
            upper: open(Path::new(UPPER)).doing("open the workspace's disk")?,
            work: open(Path::new(WORK)).doing("open the workspace's disk")?,
            place: open(Path::new(".")).doing("open the workspace's directory")?,
            devices: DEVICES.iter().map(device).collect::<io::Result<_>>().doing("take the devices")?,
            ids,
        })
    }

    /// Makes the root file system and makes it the root of this process and of all that it starts. The host's file
    /// systems are gone afterwards.
    pub(super) fn become_root(self) -> Result<(), InitError> {
        // The kernel lets a proc file system be made only where one can be seen, so it is made before.
        let proc = NewMount::of("proc").and_then(|new| new.make(INERT)).doing("make /proc")?;
        let root = self.overlay().doing("join the environment with the workspace's disk")?;
        // Nothing that is mounted here may reach the host.
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
            .doing("make the mounts private")?;
        root.attach_to(&self.place).doing("attach the root")?;
        rustix::process::fchdir(&root).doing("enter the root")?;
        rustix::process::pivot_root(".", ".").doing("change the root")?;
        // Of the two roots that lie on each other now, the host's is the upper one.
        unmount(".", UnmountFlags::DETACH).doing("leave the host's file systems")?;
        rustix::process::chdir("/").doing("enter the root")?;
        // From here on, a link that the sandbox has left in a path leads to nothing but the sandbox.
        fill_dev(&self.devices, self.ids)?;
        tmpfs("/run", "0755", INERT.difference(MountAttrFlags::MOUNT_ATTR_NOEXEC))?;
        attach(&proc, "/proc")?;
        Ok(())
    }

    /// Joins the environment, read-only, with what this workspace has written. The layers are named by descriptor: the
    /// sandbox can read the options, and paths of the host are none of its business.
    fn overlay(&self) -> io::Result<Mount> {
        let path = |dir: &OwnedFd| format!("/proc/self/fd/{}", dir.as_raw_fd());
        let root = NewMount::of("overlay")?
            .option("source", "environment")?
            .option("lowerdir", &path(&self.rootfs))?
            .option("upperdir", &path(&self.upper))?
            .option("workdir", &path(&self.work))?
            .flag("userxattr")?
            .make(MountAttrFlags::MOUNT_ATTR_NODEV)?;
        // That is how overlayfs goes on when it cannot use its own directory.
        if fstatvfs(&root)?.f_flag.contains(StatVfsMountFlags::RDONLY) {
            return Err(io::Error::new(
                io::ErrorKind::ReadOnlyFilesystem,
                "read-only, which the kernel's log explains",
            ));
        }
        Ok(root)
    }
}

/// Protects parts of `/proc` for good.
pub(super) fn protect_proc() -> Result<(), InitError> {
    let inert = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    for path in READ_ONLY.iter().copied() {
        if present(mount_bind(path, path)).doing("protect /proc")? {
            mount_remount(path, MountFlags::BIND | MountFlags::RDONLY | inert, "").doing("protect /proc")?;
        }
    }
    for path in MASKED_FILES.iter().copied() {
        present(mount_bind("/dev/null", path)).doing("mask a file of /proc")?;
    }
    for path in MASKED_DIRS.iter().filter(|path| Path::new(path).exists()) {
        tmpfs(path, "0555", INERT | MountAttrFlags::MOUNT_ATTR_RDONLY)?;
    }
    Ok(())
}

/// Tells apart what this kernel does not have from what cannot be done.
fn present(done: rustix::io::Result<()>) -> rustix::io::Result<bool> {
    match done {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::NOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

fn fill_dev(devices: &[(&str, Mount)], ids: Ids) -> Result<(), InitError> {
    tmpfs("/dev", "0755", INERT)?;
    let dev = Path::new("/dev");
    // Only the host's root makes device nodes, so that its own are shown.
    for (name, device) in devices {
        let place = dev.join(name);
        let made = File::options().write(true).create_new(true).mode(0o666).open(&place);
        made.and_then(|_empty| device.attach(&place)).doing("place a device")?;
    }
    for (name, target) in LINKS {
        symlink(target, dev.join(name)).doing("make a link in /dev")?;
    }
    tmpfs("/dev/shm", "1777", INERT)?;
    let terminals = NewMount::of("devpts")
        .and_then(|new| new.option("mode", "0620"))
        .and_then(|new| new.option("ptmxmode", "0666"))
        .and_then(|new| match ids {
            Ids::Range => new.option("gid", TTY_GROUP),
            Ids::Single { .. } => Ok(new),
        });
    let attributes = INERT.difference(MountAttrFlags::MOUNT_ATTR_NODEV);
    let terminals = terminals.and_then(|new| new.make(attributes)).doing("make /dev/pts")?;
    attach(&terminals, "/dev/pts")
}

fn tmpfs(at: &str, mode: &str, attributes: MountAttrFlags) -> Result<(), InitError> {
    let made = NewMount::of("tmpfs").and_then(|new| new.option("mode", mode)?.make(attributes));
    attach(&made.doing("make a tmpfs")?, at)
}

/// Gives a mount its place, which is made when it is missing.
fn attach(mount: &Mount, at: &str) -> Result<(), InitError> {
    let attached = mount.attach(Path::new(at)).or_else(|error| match error.kind() {
        io::ErrorKind::NotFound => fs::create_dir(at).and_then(|()| mount.attach(Path::new(at))),
        _ => Err(error),
    });
    attached.doing("attach a file system")
}
