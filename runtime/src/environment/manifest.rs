//! The file `environment.json`: what an installation is, and how to tell that it is whole.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use pyro_core::CatalogEntry;
use serde::{Deserialize, Serialize};

use super::tree::{self, TreeRecord};

/// Name of the manifest in an installation.
pub(super) const MANIFEST: &str = "environment.json";

/// What an installation says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of the catalog that it was installed from, which is pyro's own.
    pub catalog_version: String,
    /// Name of the environment.
    pub name: String,
    /// Version of its recipe.
    pub version: String,
    /// Where it came from, for people.
    pub source: String,
    /// SHA-256, in hexadecimal, of the sorted names and versions of its packages and its kernel. Two installations
    /// with the same digest hold the same software.
    pub source_digest: Option<String>,
    /// Time of the installation, in seconds since 1970.
    pub installed_at: u64,
    /// Release of its kernel, as `uname -r` in a guest says.
    pub kernel_version: String,
    /// Its single files.
    pub files: Vec<FileRecord>,
    /// Its unpacked root file system.
    pub tree: TreeRecord,
}

/// One file of an installation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRecord {
    /// Its name in the installation.
    pub path: String,
    /// Its size.
    pub size_bytes: u64,
    /// BLAKE3 digest of its content, in hexadecimal.
    pub blake3: String,
}

impl FileRecord {
    /// Describes the file as it is now.
    pub(super) fn of(dir: &Path, path: &str) -> io::Result<Self> {
        let mut file = File::open(dir.join(path))?;
        let mut digest = blake3::Hasher::new();
        digest.update_reader(&mut file)?;
        let size_bytes = digest.count();
        Ok(Self { path: path.to_owned(), size_bytes, blake3: digest.finalize().to_hex().to_string() })
    }
}

/// What is wrong with an installation.
#[derive(Debug, thiserror::Error)]
pub enum Damage {
    /// A file cannot be read.
    #[error("{path} cannot be read")]
    Unreadable {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The manifest is not one.
    #[error("the manifest is malformed")]
    Malformed(#[source] serde_json::Error),
    /// The manifest belongs to another environment or version, or lists other files than an installation has.
    #[error("the manifest is of another installation")]
    Foreign,
    /// A file has another size.
    #[error("{path} has {found} bytes instead of {expected}")]
    Size {
        /// Which one.
        path: String,
        /// Size in the manifest.
        expected: u64,
        /// Size on the disk.
        found: u64,
    },
    /// A file has another content.
    #[error("{path} does not have the content it was installed with")]
    Content {
        /// Which one.
        path: String,
    },
}

impl Manifest {
    /// Reads the manifest of an installation; also returns the BLAKE3 digest of its text, in hexadecimal.
    pub(super) fn read(dir: &Path) -> Result<(Self, String), Damage> {
        let path = dir.join(MANIFEST);
        let text = fs::read(&path).map_err(|source| Damage::Unreadable { path, source })?;
        let manifest = serde_json::from_slice(&text).map_err(Damage::Malformed)?;
        Ok((manifest, blake3::hash(&text).to_hex().to_string()))
    }

    /// Writes the manifest. It is on the disk only after the next sync.
    pub(super) fn write(&self, dir: &Path) -> io::Result<()> {
        let mut text = serde_json::to_vec_pretty(self)?;
        text.push(b'\n');
        File::create_new(dir.join(MANIFEST))?.write_all(&text)
    }

    /// Compares what can be compared in well below a millisecond: identity, the presence and size of the files,
    /// and the owner of the tree.
    pub(super) fn check(&self, dir: &Path, entry: &CatalogEntry, files: &[&str]) -> Result<(), Damage> {
        let listed = |name: &&str| self.files.iter().any(|record| record.path == **name);
        if self.name != entry.name || self.version != entry.version || !files.iter().all(listed) {
            return Err(Damage::Foreign);
        }
        for record in &self.files {
            let found = stat(dir, &record.path)?.len();
            if found != record.size_bytes {
                let (path, expected) = (record.path.clone(), record.size_bytes);
                return Err(Damage::Size { path, expected, found });
            }
        }
        let top = stat(dir, &self.tree.path)?;
        if top.is_dir() && std::os::unix::fs::MetadataExt::uid(&top) == self.tree.owner_uid {
            return Ok(());
        }
        Err(Damage::Content { path: self.tree.path.clone() })
    }

    /// Compares every byte of every file.
    pub(super) fn verify(&self, dir: &Path) -> Result<(), Damage> {
        for record in &self.files {
            let found = FileRecord::of(dir, &record.path)
                .map_err(|source| Damage::Unreadable { path: dir.join(&record.path), source })?;
            if found != *record {
                return Err(Damage::Content { path: record.path.clone() });
            }
        }
        let found = tree::record(&dir.join(&self.tree.path))
            .map_err(|source| Damage::Unreadable { path: dir.join(&self.tree.path), source })?;
        if found == self.tree { Ok(()) } else { Err(Damage::Content { path: self.tree.path.clone() }) }
    }
}

fn stat(dir: &Path, name: &str) -> Result<fs::Metadata, Damage> {
    let path = dir.join(name);
    fs::symlink_metadata(&path).map_err(|source| Damage::Unreadable { path, source })
}

#[cfg(test)]
pub(super) mod tests {
    use super::{Damage, FileRecord, Manifest};
    use crate::environment::installed::{FILES, ROOTFS_TREE};
    use crate::environment::tree;
    use pyro_core::{CATALOG, CatalogEntry};
    use std::fs;
    use std::path::Path;

    /// Makes a small installation that is whole.
    pub(in crate::environment) fn install(dir: &Path, entry: &CatalogEntry) -> Manifest {
        fs::create_dir_all(dir.join(ROOTFS_TREE).join("bin")).unwrap();
        fs::write(dir.join(ROOTFS_TREE).join("bin/sh"), "shell").unwrap();
        for name in FILES {
            fs::write(dir.join(name), format!("content of {name}")).unwrap();
        }
        let manifest = Manifest {
            catalog_version: "0.0.0".to_owned(),
            name: entry.name.to_owned(),
            version: entry.version.to_owned(),
            source: "test".to_owned(),
            source_digest: None,
            installed_at: 0,
            kernel_version: "6.1".to_owned(),
            files: FILES.iter().map(|name| FileRecord::of(dir, name).unwrap()).collect(),
            tree: tree::record(&dir.join(ROOTFS_TREE)).unwrap(),
        };
        manifest.write(dir).unwrap();
        manifest
    }

    /// Makes an installation, spoils it, and returns what the quick and the full look say.
    fn looks(spoil: impl FnOnce(&Path)) -> (Result<(), Damage>, Result<(), Damage>) {
        let dir = tempfile::tempdir().unwrap();
        let manifest = install(dir.path(), &CATALOG[0]);
        assert_eq!(Manifest::read(dir.path()).unwrap().0, manifest);
        spoil(dir.path());
        (manifest.check(dir.path(), &CATALOG[0], FILES), manifest.verify(dir.path()))
    }

    #[test]
    fn a_whole_installation_passes() {
        assert!(matches!(looks(|_| ()), (Ok(()), Ok(()))));
    }

    #[test]
    fn a_missing_or_cut_file_is_seen_at_once() {
        let (quick, _) = looks(|dir| fs::remove_file(dir.join("vmlinux")).unwrap());
        assert!(matches!(quick, Err(Damage::Unreadable { path, .. }) if path.ends_with("vmlinux")));
        let (quick, _) = looks(|dir| fs::write(dir.join("rootfs.erofs"), "content").unwrap());
        assert!(matches!(quick, Err(Damage::Size { expected: 23, found: 7, .. })));
        let (quick, _) = looks(|dir| fs::remove_dir_all(dir.join(ROOTFS_TREE)).unwrap());
        assert!(matches!(quick, Err(Damage::Unreadable { .. })));
    }

    #[test]
    fn a_changed_byte_is_seen_by_the_full_look() {
        let (quick, full) = looks(|dir| fs::write(dir.join("vmlinux"), "content of vmlinuy").unwrap());
        assert!(matches!((quick, full), (Ok(()), Err(Damage::Content { path })) if path == "vmlinux"));
        let (quick, full) = looks(|dir| fs::write(dir.join("rootfs/bin/sh"), "shelk").unwrap());
        assert!(matches!((quick, full), (Ok(()), Err(Damage::Content { path })) if path == "rootfs"));
    }

    #[test]
    fn another_environment_and_an_incomplete_list_are_foreign() {
        let dir = tempfile::tempdir().unwrap();
        let mut manifest = install(dir.path(), &CATALOG[0]);
        assert!(matches!(manifest.check(dir.path(), &CATALOG[1], FILES), Err(Damage::Foreign)));
        manifest.files.pop();
        assert!(matches!(manifest.check(dir.path(), &CATALOG[0], FILES), Err(Damage::Foreign)));
    }

    #[test]
    fn a_malformed_manifest_is_not_taken() {
        let dir = tempfile::tempdir().unwrap();
        for text in ["", "{}", "null", "{\"name\": \"debian:12\""] {
            fs::write(dir.path().join(super::MANIFEST), text).unwrap();
            assert!(matches!(Manifest::read(dir.path()), Err(Damage::Malformed(_))), "{text}");
        }
    }
}
