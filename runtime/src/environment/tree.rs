//! The unpacked root file system, which the host sandbox uses as its root.

use std::collections::HashSet;
use std::fs::{self, File, Metadata, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, lchown};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// First user and group id of the range that a sandbox's ids 0 to 65535 become on the host when pyro runs as root.
///
/// The files of an environment's `rootfs/` are owned accordingly: its root is this id on the host, an id that
/// no account has, so a sandbox that gets out of its root directory owns nothing. The directories above are private
/// to the real root and cannot be passed by the shifted ids: open the tree before changing ids, and enter by
/// file descriptor. When pyro runs as an ordinary user, everything belongs to that user.
pub const SANDBOX_UID_BASE: u32 = 524_288;

/// Ids in the range that starts at [`SANDBOX_UID_BASE`].
pub const SANDBOX_UID_COUNT: u32 = 65_536;

/// Set-user-id and set-group-id.
const SETID_BITS: u32 = 0o6000;

/// What the manifest says of the tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TreeRecord {
    /// Name of its directory in the installation.
    pub path: String,
    /// Host id of the owner of its top directory: [`SANDBOX_UID_BASE`], or the user who pulled.
    pub owner_uid: u32,
    /// Number of files, directories and links.
    pub entries: u64,
    /// BLAKE3 digest, in hexadecimal, over the names, kinds, modes, owners and contents of all of them.
    pub blake3: String,
}

/// Gives the files of the tree their owners on the host and takes away what would be dangerous there.
///
/// `shift` is added to every id; `None` leaves the ids alone. Set-id bits go in any case: a program that
/// is trusted inside a sandbox must not be started as somebody else outside. The owner can read everything, so that the
/// tree can be digested.
pub(super) fn settle(dir: &Path, shift: Option<u32>) -> io::Result<()> {
    settle_entry(dir, shift, &mut HashSet::new())
}

/// `linked` holds the inodes of files with several names, each of which is shifted once.
fn settle_entry(path: &Path, shift: Option<u32>, linked: &mut HashSet<u64>) -> io::Result<()> {
    let metadata = fs::symlink_metadata(path)?;
    if !metadata.is_dir() && metadata.nlink() > 1 && !linked.insert(metadata.ino()) {
        return Ok(());
    }
    if let Some(shift) = shift {
        lchown(path, Some(shifted(metadata.uid(), shift)?), Some(shifted(metadata.gid(), shift)?))?;
    }
    if !metadata.is_symlink() {
        let readable = if metadata.is_dir() { 0o700 } else { 0o600 };
        let mode = metadata.permissions().mode() & 0o7777;
        let removed = if metadata.is_dir() { 0 } else { SETID_BITS };
        fs::set_permissions(path, Permissions::from_mode(mode & !removed | readable))?;
    }
    if metadata.is_dir() {
        for entry in fs::read_dir(path)? {
            settle_entry(&entry?.path(), shift, linked)?;
        }
    }
    Ok(())
}

fn shifted(id: u32, shift: u32) -> io::Result<u32> {
    if id < SANDBOX_UID_COUNT {
        return Ok(id + shift);
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, format!("the owner {id} has no place in a sandbox")))
}

/// Describes the tree below `dir` as it is now.
pub(super) fn record(dir: &Path) -> io::Result<TreeRecord> {
    let mut digest = blake3::Hasher::new();
    let mut entries = 0;
    add(dir, Path::new(""), &mut digest, &mut entries)?;
    let path = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let owner_uid = fs::symlink_metadata(dir)?.uid();
    Ok(TreeRecord { path, owner_uid, entries, blake3: digest.finalize().to_hex().to_string() })
}

/// Adds one entry and all below it, in the order of their names.
///
/// Every variable part is preceded by its length, so no two different trees give the same bytes.
fn add(top: &Path, path: &Path, digest: &mut blake3::Hasher, entries: &mut u64) -> io::Result<()> {
    let full = top.join(path);
    let metadata = fs::symlink_metadata(&full)?;
    *entries += 1;
    add_bytes(digest, path.as_os_str().as_bytes());
    for number in [metadata.mode(), metadata.uid(), metadata.gid()] {
        digest.update(&number.to_le_bytes());
    }
    if metadata.is_symlink() {
        add_bytes(digest, fs::read_link(&full)?.as_os_str().as_bytes());
    } else if metadata.is_file() {
        add_content(digest, &full, &metadata)?;
    } else if metadata.is_dir() {
        let mut names =
            fs::read_dir(&full)?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>()?;
        names.sort_unstable();
        for name in names {
            add(top, &path.join(name), digest, entries)?;
        }
    }
    Ok(())
}

fn add_bytes(digest: &mut blake3::Hasher, bytes: &[u8]) {
    digest.update(&(bytes.len() as u64).to_le_bytes());
    digest.update(bytes);
}

fn add_content(digest: &mut blake3::Hasher, path: &Path, metadata: &Metadata) -> io::Result<()> {
    digest.update(&metadata.len().to_le_bytes());
    digest.update_reader(File::open(path)?)?;
    Ok(())
}

/// Removes files and directories that may not be there.
///
/// Refuses when anything is mounted below, because what is mounted belongs to somebody else.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    if is_mounted_below(path)? {
        return Err(io::Error::new(io::ErrorKind::ResourceBusy, "a file system is mounted below"));
    }
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn is_mounted_below(path: &Path) -> io::Result<bool> {
    let path = match fs::canonicalize(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        other => other?,
    };
    // The fifth field is the mount point, with blanks and backslashes in octal.
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let mut points = mounts.lines().filter_map(|line| line.split(' ').nth(4));
    Ok(points.any(|point| {
        let plain =
            point.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\");
        Path::new(&plain).starts_with(&path)
    }))
}

/// Returns the packages of a Debian root file system as sorted lines `name version architecture`.
pub(super) fn packages(root: &Path) -> io::Result<Vec<String>> {
    let status = PathBuf::from("var/lib/dpkg/status");
    let text = fs::read_to_string(root.join(status))?;
    let mut packages = text.split("\n\n").filter_map(package).collect::<Vec<_>>();
    packages.sort_unstable();
    Ok(packages)
}

fn package(stanza: &str) -> Option<String> {
    let field = |key: &str| stanza.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(": "));
    Some(format!("{} {} {}", field("Package")?, field("Version")?, field("Architecture")?))
}

#[cfg(test)]
mod tests {
    use super::{is_mounted_below, packages, record, remove, settle, shifted};
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
    use std::path::Path;

    fn sample() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("bin")).unwrap();
        fs::write(dir.path().join("bin/su"), "program").unwrap();
        fs::set_permissions(dir.path().join("bin/su"), Permissions::from_mode(0o6711)).unwrap();
        symlink("su", dir.path().join("bin/link")).unwrap();
        dir
    }

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn set_id_bits_go_and_sticky_directories_stay() {
        let dir = sample();
        fs::create_dir(dir.path().join("tmp")).unwrap();
        fs::set_permissions(dir.path().join("tmp"), Permissions::from_mode(0o1777)).unwrap();
        settle(dir.path(), None).unwrap();
        assert_eq!(mode(&dir.path().join("bin/su")), 0o711);
        assert_eq!(mode(&dir.path().join("tmp")), 0o1777);
    }

    #[test]
    #[expect(clippy::print_stderr, reason = "a skipped test says why")]
    fn owners_are_shifted_once_on_both_kinds_of_links() {
        let dir = sample();
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: only root can give files away");
            return;
        }
        fs::hard_link(dir.path().join("bin/su"), dir.path().join("bin/hard")).unwrap();
        settle(dir.path(), Some(1000)).unwrap();
        for path in ["", "bin", "bin/su", "bin/link", "bin/hard"] {
            let metadata = fs::symlink_metadata(dir.path().join(path)).unwrap();
            assert_eq!((metadata.uid(), metadata.gid()), (1000, 1000), "{path}");
        }
    }

    #[test]
    fn ids_outside_the_range_are_refused() {
        assert_eq!(shifted(65_535, 524_288).unwrap(), 589_823);
        shifted(65_536, 524_288).unwrap_err();
    }

    #[test]
    fn every_change_changes_the_record() {
        let dir = sample();
        let before = record(dir.path()).unwrap();
        assert_eq!((before.entries, record(dir.path()).unwrap()), (4, before.clone()));
        let changes: [&dyn Fn(); 5] = [
            &|| fs::write(dir.path().join("bin/su"), "progrbm").unwrap(),
            &|| fs::set_permissions(dir.path().join("bin/su"), Permissions::from_mode(0o755)).unwrap(),
            &|| fs::rename(dir.path().join("bin/su"), dir.path().join("bin/sv")).unwrap(),
            &|| {
                fs::remove_file(dir.path().join("bin/link")).unwrap();
                symlink("sv", dir.path().join("bin/link")).unwrap();
            },
            &|| fs::create_dir(dir.path().join("new")).unwrap(),
        ];
        let mut seen = vec![before.blake3];
        for change in changes {
            change();
            let digest = record(dir.path()).unwrap().blake3;
            assert!(!seen.contains(&digest));
            seen.push(digest);
        }
    }

    #[test]
    fn removing_takes_links_and_not_what_they_show() {
        let dir = sample();
        let outside = tempfile::tempdir().unwrap();
        symlink(outside.path(), dir.path().join("out")).unwrap();
        remove(&dir.path().join("out")).unwrap();
        remove(&dir.path().join("bin")).unwrap();
        remove(&dir.path().join("bin")).unwrap();
        assert!(outside.path().exists() && fs::read_dir(dir.path()).unwrap().next().is_none());
    }

    #[test]
    fn mount_points_are_not_removed() {
        // /proc is mounted on every Linux host; asking must not depend on being allowed to remove anything.
        assert!(is_mounted_below(Path::new("/proc")).unwrap() && is_mounted_below(Path::new("/")).unwrap());
        let dir = sample();
        assert!(
            !is_mounted_below(dir.path()).unwrap() && !is_mounted_below(&dir.path().join("none")).unwrap()
        );
    }

    #[test]
    fn packages_are_sorted() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("var/lib/dpkg")).unwrap();
        let status = "Package: git\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1:2.39\n\n\
            Package: bash\nVersion: 5.2\nArchitecture: amd64\nDescription: x\n Package: no\n";
        fs::write(dir.path().join("var/lib/dpkg/status"), status).unwrap();
        assert_eq!(packages(dir.path()).unwrap(), ["bash 5.2 amd64", "git 1:2.39 amd64"]);
    }
}
