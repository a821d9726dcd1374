//! Chooses the kernel modules a guest needs to find its disks, its vsock and its network.
//!
//! `modules.dep` is made when a kernel is installed, and this one never is, so the dependencies are read from where
//! `depmod` reads them: the section `.modinfo` of every module.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// What the guest loads, in this order, each after what it depends on.
///
/// Bus first, then disks and file systems, which the boot waits for, then vsock, network and entropy.
pub(super) const WANTED: &[&str] = &[
    "virtio_mmio",
    "virtio_blk",
    "erofs",
    "ext4",
    "overlay",
    "vmw_vsock_virtio_transport",
    "virtio_net",
    "virtio_rng",
];

/// File name endings of modules, uncompressed first.
const ENDINGS: &[&str] = &[".ko", ".ko.xz", ".ko.zst"];

/// Why the modules could not be chosen.
#[derive(Debug, thiserror::Error)]
pub enum ModulesError {
    /// A module is neither there nor part of the kernel.
    #[error("the kernel package has no module {0}")]
    Missing(String),
    /// A module's file is not an ELF file with the section `.modinfo`.
    #[error("{0} is no kernel module")]
    NotAModule(PathBuf),
    /// A file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The modules of one kernel package.
#[derive(Debug)]
pub(super) struct Modules {
    /// By module name, which has `_` where the file name may have `-`.
    files: BTreeMap<String, PathBuf>,
    builtin: BTreeSet<String>,
}

impl Modules {
    /// Lists the modules below `dir`, the `lib/modules/<release>` of a kernel package.
    pub(super) fn list(dir: &Path) -> Result<Self, ModulesError> {
        let builtin_list = dir.join("modules.builtin");
        let builtin = fs::read_to_string(&builtin_list)
            .map_err(|source| ModulesError::Read { path: builtin_list, source })?
            .lines()
            .filter_map(|line| module_name(Path::new(line)))
            .collect();
        let mut modules = Self { files: BTreeMap::new(), builtin };
        modules.walk(&dir.join("kernel"))?;
        Ok(modules)
    }

    fn walk(&mut self, dir: &Path) -> Result<(), ModulesError> {
        let failed = |source| ModulesError::Read { path: dir.to_owned(), source };
        for entry in fs::read_dir(dir).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let path = entry.path();
            if entry.file_type().map_err(failed)?.is_dir() {
                self.walk(&path)?;
            } else if let Some(name) = module_name(&path) {
                self.files.insert(name, path);
            }
        }
        Ok(())
    }

    /// Returns name and content of all wanted modules and what they depend on, in an order in which they load.
    ///
    /// `read` returns the uncompressed content of a file. Modules that are part of the kernel are left out.
    pub(super) fn in_load_order<E: From<ModulesError>>(
        &self,
        wanted: &[&str],
        mut read: impl FnMut(&Path) -> Result<Vec<u8>, E>,
    ) -> Result<Vec<(String, Vec<u8>)>, E> {
        let mut ordered = Vec::new();
        let mut seen = BTreeSet::new();
        for name in wanted {
            self.visit(name, &mut seen, &mut ordered, &mut read)?;
        }
        Ok(ordered)
    }

    fn visit<E: From<ModulesError>>(
        &self,
        name: &str,
        seen: &mut BTreeSet<String>,
        ordered: &mut Vec<(String, Vec<u8>)>,
        read: &mut impl FnMut(&Path) -> Result<Vec<u8>, E>,
    ) -> Result<(), E> {
        if self.builtin.contains(name) || !seen.insert(name.to_owned()) {
            return Ok(());
        }
        let path = self.files.get(name).ok_or_else(|| ModulesError::Missing(name.to_owned()))?;
        let content = read(path)?;
        let info = modinfo(&content).ok_or_else(|| ModulesError::NotAModule(path.clone()))?;
        for dependency in dependencies(info) {
            self.visit(&dependency, seen, ordered, read)?;
        }
        ordered.push((name.to_owned(), content));
        Ok(())
    }
}

fn module_name(path: &Path) -> Option<String> {
    let file = path.file_name()?.to_str()?;
    ENDINGS.iter().find_map(|ending| file.strip_suffix(ending)).map(|stem| stem.replace('-', "_"))
}

/// Returns the dependencies that `.modinfo` states, as module names.
///
/// A soft dependency improves a module but is not needed to load it (`crc32c` for example picks a fast
/// implementation), so these are left out, for a small archive and a quick boot.
fn dependencies(info: &[u8]) -> Vec<String> {
    let fields = info.split(|byte| *byte == 0);
    let lists = fields.filter_map(|field| field.strip_prefix(b"depends="));
    let names = lists.flat_map(|list| list.split(|byte| *byte == b','));
    names
        .filter(|name| !name.is_empty())
        .map(|name| String::from_utf8_lossy(name).replace('-', "_"))
        .collect()
}

/// Returns the section `.modinfo` of a 64-bit little-endian ELF file.
fn modinfo(elf: &[u8]) -> Option<&[u8]> {
    if !elf.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let number = |offset: usize, width: usize| {
        let bytes = elf.get(offset..offset.checked_add(width)?)?;
        let value = bytes.iter().rev().fold(0_u64, |value, byte| value << 8 | u64::from(*byte));
        usize::try_from(value).ok()
    };
    let (table, entry_size, count, names) = (number(40, 8)?, number(58, 2)?, number(60, 2)?, number(62, 2)?);
    let header = |index: usize| table.checked_add(index.checked_mul(entry_size)?);
    let content = |index: usize| {
        let header = header(index)?;
        let start = number(header.checked_add(24)?, 8)?;
        elf.get(start..start.checked_add(number(header.checked_add(32)?, 8)?)?)
    };
    let strings = content(names)?;
    (0..count).find_map(|index| {
        let name = strings.get(number(header(index)?, 4)?..)?;
        if name.starts_with(b".modinfo\0") { content(index) } else { None }
    })
}

#[cfg(test)]
mod tests {
    use super::{Modules, ModulesError};
    use std::fs;
    use std::path::Path;

    /// An ELF file with the sections `.shstrtab` and `.modinfo`.
    fn module(depends: &str) -> Vec<u8> {
        let info = format!("license=GPL\0depends={depends}\0name=x\0");
        let strings = b"\0.shstrtab\0.modinfo\0";
        let mut elf = vec![0; 64];
        elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
        let strings_at = elf.len() as u64;
        elf.extend_from_slice(strings);
        let info_at = elf.len() as u64;
        elf.extend_from_slice(info.as_bytes());
        let table = elf.len() as u64;
        elf[40..48].copy_from_slice(&table.to_le_bytes());
        elf[58..64].copy_from_slice(&[64, 0, 2, 0, 0, 0]);
        for (name, start, length) in [(1_u32, strings_at, strings.len()), (11, info_at, info.len())] {
            let mut header = [0; 64];
            header[..4].copy_from_slice(&name.to_le_bytes());
            header[24..32].copy_from_slice(&start.to_le_bytes());
            header[32..40].copy_from_slice(&(length as u64).to_le_bytes());
            elf.extend_from_slice(&header);
        }
        elf
    }

    fn package(modules: &[(&str, &str)], builtin: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("modules.builtin"), builtin).unwrap();
        fs::create_dir_all(dir.path().join("kernel/drivers/deep")).unwrap();
        for (file, depends) in modules {
            fs::write(dir.path().join("kernel/drivers/deep").join(file), module(depends)).unwrap();
        }
        dir
    }

    fn order(dir: &Path, wanted: &[&str]) -> Result<Vec<String>, ModulesError> {
        let modules = Modules::list(dir)?;
        let read = |path: &Path| Ok::<_, ModulesError>(fs::read(path).unwrap());
        Ok(modules.in_load_order(wanted, read)?.into_iter().map(|(name, _)| name).collect())
    }

    #[test]
    fn dependencies_come_first_and_once_and_builtin_ones_not_at_all() {
        let files =
            [("net-failover.ko", "failover"), ("failover.ko", ""), ("net.ko", "net_failover,ext4,virtio")];
        let more = [("virtio.ko", ""), ("unwanted.ko", "")];
        let dir = package(&[files.as_slice(), &more].concat(), "kernel/fs/ext4/ext4.ko\n");
        let found = order(dir.path(), &["virtio", "net", "ext4"]).unwrap();
        assert_eq!(found, ["virtio", "failover", "net_failover", "net"]);
    }

    #[test]
    fn a_circle_of_dependencies_ends() {
        let dir = package(&[("a.ko", "b"), ("b.ko", "a")], "");
        assert_eq!(order(dir.path(), &["a"]).unwrap(), ["b", "a"]);
    }

    #[test]
    fn a_missing_module_and_a_damaged_one_are_named() {
        let dir = package(&[("a.ko", "b")], "");
        assert!(matches!(order(dir.path(), &["a"]), Err(ModulesError::Missing(name)) if name == "b"));
        fs::write(dir.path().join("kernel/drivers/deep/b.ko"), &module("")[..100]).unwrap();
        assert!(matches!(order(dir.path(), &["a"]), Err(ModulesError::NotAModule(_))));
    }
}
