//! The file systems of a sandbox.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{DirBuilderExt as _, chown, symlink};
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::unistd::{chdir, pivot_root};

use super::init::{Doing as _, InitError, Maker};
use crate::environment::SANDBOX_UID_BASE;

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

/// Parts of `/proc` that tell about the host's memory and keys, or that act on the host.
const MASKED: &[&str] =
    &["acpi", "kcore", "keys", "latency_stats", "sched_debug", "scsi", "sysrq-trigger", "timer_list"];

/// Parts of `/proc` that can be read and not be written, even by a program that the kernel takes for root.
const READ_ONLY: &[&str] = &["bus", "fs", "irq", "sys"];

const NOTHING: Option<&str> = None;

/// What the workspace has written, below its directory.
const UPPER: &str = "disk/upper";

/// Builds the root file system in the workspace's directory, which is the working directory, and makes it the root of
/// this process and of all that it starts. The host's file systems are gone afterwards.
pub(super) fn enter_root(rootfs: &Path, maker: Maker) -> Result<(), InitError> {
    // Nothing that is mounted here may reach the host.
    mount(NOTHING, "/", NOTHING, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NOTHING)
        .doing("make the mounts private")?;
    let root = overlay(rootfs, maker)?;
    dev(&root.join("dev"), maker)?;
    let run = root_owned("mode=0755", maker);
    tmpfs(&root.join("run"), &run).doing("mount /run")?;
    mount(Some("proc"), &root.join("proc"), Some("proc"), inert(), NOTHING).doing("mount /proc")?;
    protect_proc(&root.join("proc"))?;
    chdir(&root).doing("enter the root")?;
    pivot_root(".", ".").doing("change the root")?;
    umount2(".", MntFlags::MNT_DETACH).doing("leave the host's file systems")?;
    chdir("/").doing("enter the root")
}

const fn inert() -> MsFlags {
    MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV).union(MsFlags::MS_NOEXEC)
}

/// Joins the environment, read-only, with what this workspace has written. The paths are such that `/proc/mounts` tells
/// the sandbox nothing of the host's directories.
fn overlay(rootfs: &Path, maker: Maker) -> Result<PathBuf, InitError> {
    let lower = File::open(rootfs).doing("open the environment")?;
    for dir in ["disk/root", UPPER, "disk/work"] {
        DirBuilder::new().recursive(true).mode(0o755).create(dir).doing("make the workspace's disk")?;
    }
    if maker == Maker::Root {
        chown(UPPER, Some(SANDBOX_UID_BASE), Some(SANDBOX_UID_BASE)).doing("give the disk to the sandbox")?;
    }
    let own = match maker {
        Maker::Root => "",
        Maker::User { .. } => ",userxattr",
    };
    let lower = lower.as_raw_fd();
    let options = format!("lowerdir=/proc/self/fd/{lower},upperdir={UPPER},workdir=disk/work{own}");
    let flags = MsFlags::MS_NODEV;
    mount(Some("overlay"), "disk/root", Some("overlay"), flags, Some(options.as_str()))
        .doing("mount the root")?;
    Ok(PathBuf::from("disk/root"))
}

fn tmpfs(at: &Path, options: &str) -> io::Result<()> {
    Ok(mount(Some("tmpfs"), at, Some("tmpfs"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, Some(options))?)
}

/// Adds the sandbox's root as owner: it is not there yet when root makes the sandbox.
fn root_owned(options: &str, maker: Maker) -> String {
    match maker {
        Maker::Root => format!("{options},uid={SANDBOX_UID_BASE},gid={SANDBOX_UID_BASE}"),
        Maker::User { .. } => options.to_owned(),
    }
}

fn dev(dev: &Path, maker: Maker) -> Result<(), InitError> {
    // Device nodes are bound in, so that the file system itself can refuse to have any.
    tmpfs(dev, &root_owned("mode=0755,size=64k", maker)).doing("mount /dev")?;
    for name in DEVICES {
        let node = dev.join(name);
        File::create(&node).doing("make a device")?;
        let host = Path::new("/dev").join(name);
        mount(Some(&host), &node, NOTHING, MsFlags::MS_BIND, NOTHING).doing("bind a device")?;
    }
    for (name, target) in LINKS {
        symlink(target, dev.join(name)).doing("make a link in /dev")?;
    }
    for name in ["pts", "shm"] {
        fs::create_dir(dev.join(name)).doing("make a directory in /dev")?;
    }
    let shm = root_owned("mode=1777", maker);
    tmpfs(&dev.join("shm"), &shm).doing("mount /dev/shm")?;
    let options = match maker {
        Maker::Root => format!("newinstance,ptmxmode=0666,mode=0620,gid={}", SANDBOX_UID_BASE + 5),
        Maker::User { .. } => "newinstance,ptmxmode=0666,mode=0620".to_owned(),
    };
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    mount(Some("devpts"), &dev.join("pts"), Some("devpts"), flags, Some(options.as_str()))
        .doing("mount /dev/pts")
}

fn protect_proc(proc: &Path) -> Result<(), InitError> {
    for name in READ_ONLY {
        let path = proc.join(name);
        if path.exists() {
            mount(Some(&path), &path, NOTHING, MsFlags::MS_BIND | MsFlags::MS_REC, NOTHING)
                .doing("protect /proc")?;
            let read_only = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY | inert();
            mount(NOTHING, &path, NOTHING, read_only, NOTHING).doing("protect /proc")?;
        }
    }
    for name in MASKED {
        let path = proc.join(name);
        match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_dir() => {
                let flags = MsFlags::MS_RDONLY | inert();
                mount(Some("tmpfs"), &path, Some("tmpfs"), flags, Some("size=0k,mode=0555"))
                    .doing("mask a part of /proc")?;
            }
            Ok(_) => mount(Some("/dev/null"), &path, NOTHING, MsFlags::MS_BIND, NOTHING)
                .doing("mask a part of /proc")?,
            Err(_) => {}
        }
    }
    Ok(())
}
