//! The first root file system of a guest: our agent and the modules it loads.
//!
//! Uncompressed on purpose: the kernel unpacks it under emulation, where copying is cheap and decompression is not.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::cpio::Archive;
use super::installed::MODULES_CPIO;

/// Start of the names of finished files.
const PREFIX: &str = "initramfs-";
/// End of the names of finished files.
const SUFFIX: &str = ".cpio";
/// Start of the names of unfinished files.
const UNFINISHED: &str = ".initramfs-";

/// Files kept for agents of other versions of pyro. More than one, because two versions may use one cache at the same
/// time, and a guest that is just being started still needs its file.
const KEPT: usize = 4;

/// Makes the archive of modules: directories, the console's node, modules and their order.
///
/// The kernel opens `/dev/console` for the first program before anything could have mounted a `/dev`.
pub(super) fn modules_archive(modules: &[(String, Vec<u8>)]) -> io::Result<Vec<u8>> {
    let mut archive = Archive::new(Vec::new());
    for dir in ["dev", "proc", "sys", "modules"] {
        archive.directory(dir, 0o755)?;
    }
    archive.character_device("dev/console", 0o600, (5, 1))?;
    let mut order = String::new();
    for (name, content) in modules {
        archive.file(&format!("modules/{name}.ko"), 0o644, content)?;
        order.push_str("/modules/");
        order.push_str(name);
        order.push_str(".ko\n");
    }
    archive.file("modules/order", 0o644, order.as_bytes())?;
    archive.finish()
}

/// Returns the initramfs with this agent in the installation `dir`; makes it when there is none.
pub(super) fn cached(dir: &Path, agent: &Path) -> io::Result<PathBuf> {
    let agent = fs::read(agent)?;
    let digest = blake3::hash(&agent).to_hex();
    let path = dir.join(format!("{PREFIX}{}{SUFFIX}", &digest[..32]));
    let modules = dir.join(MODULES_CPIO);
    let mut archive = Archive::new(Vec::new());
    archive.file("init", 0o755, &agent)?;
    let archive = archive.finish()?;
    // The size tells a file that was cut by a power failure; the name appears only after the content is on the disk,
    // but nothing else guards against a disk that lies.
    let expected = fs::metadata(&modules)?.len() + archive.len() as u64;
    if fs::metadata(&path).is_ok_and(|metadata| metadata.len() == expected) {
        return Ok(path);
    }
    let mut content = Vec::new();
    File::open(&modules)?.read_to_end(&mut content)?;
    content.extend_from_slice(&archive);
    publish(dir, &path, &content)?;
    remove_surplus(dir, &path)?;
    Ok(path)
}

fn publish(dir: &Path, path: &Path, content: &[u8]) -> io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let unfinished = dir.join(format!("{UNFINISHED}{}-{name}", unique()));
    let written = File::create_new(&unfinished).and_then(|mut file| {
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&unfinished, path)?;
        File::open(dir)?.sync_all()
    });
    if written.is_err() {
        fs::remove_file(&unfinished).ok();
    }
    written
}

/// Returns a text that no other writer uses at the same time, in this process or another.
fn unique() -> String {
    use std::sync::atomic::{AtomicU64, Ordering};
    static COUNT: AtomicU64 = AtomicU64::new(0);
    format!("{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Removes the oldest files for other agents and what killed writers left.
fn remove_surplus(dir: &Path, current: &Path) -> io::Result<()> {
    let mut others: Vec<(SystemTime, PathBuf)> = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with(PREFIX) && name.ends_with(SUFFIX) && entry.path() != current {
            others.push((entry.metadata()?.modified()?, entry.path()));
        } else if name.strip_prefix(UNFINISHED).is_some_and(|rest| !writer_lives(rest)) {
            fs::remove_file(entry.path()).ok();
        }
    }
    others.sort();
    let surplus = others.len().saturating_sub(KEPT - 1);
    for (_, path) in others.drain(..surplus) {
        // Another process may have removed it first.
        fs::remove_file(path).ok();
    }
    Ok(())
}

fn writer_lives(unfinished: &str) -> bool {
    unfinished.split('-').next().is_some_and(|pid| Path::new("/proc").join(pid).exists())
}

#[cfg(test)]
mod tests {
    use super::{KEPT, cached, modules_archive};
    use crate::environment::cpio;
    use crate::environment::installed::MODULES_CPIO;
    use std::fs;
    use std::path::Path;

    fn installation() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let modules = [("b".to_owned(), vec![1; 5]), ("a".to_owned(), vec![2; 6])];
        fs::write(dir.path().join(MODULES_CPIO), modules_archive(&modules).unwrap()).unwrap();
        dir
    }

    fn agent(dir: &Path, content: &str) -> std::path::PathBuf {
        let path = dir.join("agent");
        fs::write(&path, content).unwrap();
        path
    }

    #[test]
    fn the_same_agent_is_packed_once_and_another_one_again() {
        let (dir, tmp) = (installation(), tempfile::tempdir().unwrap());
        let first = cached(dir.path(), &agent(tmp.path(), "one")).unwrap();
        let made = fs::metadata(&first).unwrap().modified().unwrap();
        let again = cached(dir.path(), &agent(tmp.path(), "one")).unwrap();
        assert_eq!((&again, fs::metadata(&again).unwrap().modified().unwrap()), (&first, made));
        let other = cached(dir.path(), &agent(tmp.path(), "two")).unwrap();
        assert!(other != first && first.exists(), "a guest may be booting from the first");
    }

    #[test]
    fn a_cut_file_is_made_again() {
        let (dir, tmp) = (installation(), tempfile::tempdir().unwrap());
        let path = cached(dir.path(), &agent(tmp.path(), "one")).unwrap();
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..whole.len() / 2]).unwrap();
        cached(dir.path(), &agent(tmp.path(), "one")).unwrap();
        assert_eq!(fs::read(&path).unwrap(), whole);
    }

    #[test]
    fn only_a_few_files_are_kept_and_leftovers_go() {
        let (dir, tmp) = (installation(), tempfile::tempdir().unwrap());
        // No process has a number above the kernel's limit of 2^22.
        fs::write(dir.path().join(".initramfs-99999999-0-initramfs-x.cpio"), "").unwrap();
        for number in 0..KEPT * 2 {
            cached(dir.path(), &agent(tmp.path(), &number.to_string())).unwrap();
        }
        let left = fs::read_dir(dir.path()).unwrap().count();
        assert_eq!(left, KEPT + 1, "the modules and the newest initramfs files");
    }

    #[test]
    fn the_agent_follows_the_modules_in_their_order() {
        let (dir, tmp) = (installation(), tempfile::tempdir().unwrap());
        let path = cached(dir.path(), &agent(tmp.path(), "agent")).unwrap();
        let whole = fs::read(path).unwrap();
        let (modules, rest) = cpio::tests::read(&whole);
        let names = modules.iter().map(|(name, ..)| name.as_str()).collect::<Vec<_>>();
        let dirs = ["dev", "proc", "sys", "modules"];
        assert_eq!(
            names,
            [&dirs[..], &["dev/console", "modules/b.ko", "modules/a.ko", "modules/order"]].concat()
        );
        assert_eq!(modules[7].2, b"/modules/b.ko\n/modules/a.ko\n");
        let (init, rest) = cpio::tests::read(rest);
        assert_eq!(init, [("init".to_owned(), 0o100_755, b"agent".to_vec())]);
        assert!(rest.is_empty());
    }
}
