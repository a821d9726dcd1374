//! Installs environments and keeps them: what a guest boots from and what a host sandbox has as its root.
//!
//! ```text
//! <root>/linux-x86_64/
//!   .lock-debian_12-1.0.0        held by a pull and by every program it started
//!   .partial-debian_12-1.0.0/    an installation in the making, or what a killed pull left
//!   debian_12-1.0.0/
//!     environment.json           manifest: what it is, with sizes and digests of all below
//!     vmlinux                    uncompressed kernel with PVH entry point
//!     modules.cpio               kernel modules and /modules/order, without the agent
//!     rootfs.erofs               root file system of guests
//!     rootfs/                    the same files for the host sandbox
//!     initramfs-<digest>.cpio    modules.cpio and an agent as /init; made when needed, not in the manifest
//! ```
//!
//! What must stay true: a directory without the prefix `.partial-` was complete and on the disk before it got its name,
//! so being killed at any moment leaves nothing that looks installed. Only the holder of the lock changes the
//! two directories of an environment; the initramfs files are added by rename and may be added by anybody.

mod build;
mod catalog;
mod command;
mod cpio;
mod initramfs;
mod installed;
mod kernel;
mod lock;
mod manifest;
mod modules;
mod pull;
mod sources;
mod tree;

pub use catalog::{Environments, Inspection};
pub use installed::{Installed, NotInstalled};
pub use kernel::KernelError;
pub use manifest::{Damage, FileRecord, Manifest};
pub use modules::ModulesError;
pub use pull::{PullError, PullPhase, PullProgress};
pub use tree::{SANDBOX_UID_BASE, SANDBOX_UID_COUNT, TreeRecord};
