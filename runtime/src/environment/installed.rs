//! An installation that was seen to be whole.

use std::io;
use std::path::{Path, PathBuf};

use pyro_core::{CatalogEntry, EnvironmentName};

use super::initramfs;
use super::manifest::{Damage, MANIFEST, Manifest};

/// Name of the kernel.
pub(super) const VMLINUX: &str = "vmlinux";
/// Name of the archive of modules.
pub(super) const MODULES_CPIO: &str = "modules.cpio";
/// Name of the image.
pub(super) const ROOTFS_IMAGE: &str = "rootfs.erofs";
/// Name of the unpacked tree.
pub(super) const ROOTFS_TREE: &str = "rootfs";
/// The single files that every manifest lists.
pub(super) const FILES: &[&str] = &[VMLINUX, MODULES_CPIO, ROOTFS_IMAGE];

/// Paths of one installed environment.
#[derive(Clone, Debug)]
pub struct Installed {
    name: EnvironmentName,
    dir: PathBuf,
    manifest: Manifest,
    manifest_digest: String,
}

/// Why an environment cannot be used as it is.
#[derive(Debug, thiserror::Error)]
pub enum NotInstalled {
    /// There is no installation.
    #[error("the environment {0} is not installed")]
    Absent(EnvironmentName),
    /// There is one that is not whole; a pull repairs it.
    #[error("the installation of {name} is damaged")]
    Damaged {
        /// Which environment.
        name: EnvironmentName,
        /// What is wrong.
        source: Damage,
    },
}

impl Installed {
    /// Looks at the directory and accepts it when the manifest fits and all files have their sizes.
    pub(super) fn open(
        dir: PathBuf,
        name: &EnvironmentName,
        entry: &CatalogEntry,
    ) -> Result<Self, NotInstalled> {
        if !dir.exists() {
            return Err(NotInstalled::Absent(name.clone()));
        }
        let damaged = |source| NotInstalled::Damaged { name: name.clone(), source };
        let (manifest, manifest_digest) = Manifest::read(&dir).map_err(damaged)?;
        manifest.check(&dir, entry, FILES).map_err(damaged)?;
        Ok(Self { name: name.clone(), dir, manifest, manifest_digest })
    }

    /// Compares every file with its digest, which takes a second or so.
    pub(super) fn verify(self) -> Result<Self, NotInstalled> {
        match self.manifest.verify(&self.dir) {
            Ok(()) => Ok(self),
            Err(source) => Err(NotInstalled::Damaged { name: self.name, source }),
        }
    }

    /// Returns the name of the environment.
    #[must_use]
    pub const fn name(&self) -> &EnvironmentName {
        &self.name
    }

    /// Returns the directory of the installation.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Returns what the installation says of itself.
    #[must_use]
    pub const fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Returns the path of the manifest.
    #[must_use]
    pub fn manifest_path(&self) -> PathBuf {
        self.dir.join(MANIFEST)
    }

    /// Returns the BLAKE3 digest of the manifest's text, in hexadecimal.
    #[must_use]
    pub fn manifest_digest(&self) -> &str {
        &self.manifest_digest
    }

    /// Returns the path of the uncompressed kernel, an ELF file with a PVH entry point.
    #[must_use]
    pub fn vmlinux(&self) -> PathBuf {
        self.dir.join(VMLINUX)
    }

    /// Returns the path of the read-only EROFS image of the root file system.
    #[must_use]
    pub fn rootfs_image(&self) -> PathBuf {
        self.dir.join(ROOTFS_IMAGE)
    }

    /// Returns the path of the unpacked root file system, whose owners are explained at
    /// [`SANDBOX_UID_BASE`](super::SANDBOX_UID_BASE).
    #[must_use]
    pub fn rootfs_tree(&self) -> PathBuf {
        self.dir.join(ROOTFS_TREE)
    }

    /// Returns the path of an initramfs with this agent as `/init`; makes it when there is none.
    ///
    /// It holds the modules as `/modules/<name>.ko` and their load order in `/modules/order`, one absolute path a
    /// line. Files are named by the digest of the agent, so a new agent gets a new file and guests that are booting keep
    /// theirs. Reads the whole agent: call it where blocking is allowed.
    ///
    /// # Errors
    ///
    /// The agent cannot be read, or the installation's directory cannot be written.
    pub fn initramfs(&self, agent: &Path) -> io::Result<PathBuf> {
        initramfs::cached(&self.dir, agent)
    }
}
