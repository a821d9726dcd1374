//! The recipe: from Debian packages to the files of an installation.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use pyro_core::CatalogEntry;
use rustix::process::geteuid;
use sha2::{Digest as _, Sha256};

use super::command::Runner;
use super::initramfs;
use super::installed::{FILES, MODULES_CPIO, ROOTFS_IMAGE, ROOTFS_TREE, VMLINUX};
use super::kernel;
use super::manifest::{FileRecord, Manifest};
use super::modules::{Modules, WANTED};
use super::pull::{PullError, PullPhase, PullProgress};
use super::sources::{self, SUITE};
use super::tree::{self, SANDBOX_UID_BASE};
use crate::host::{MissingTool, Tool, Tools};

/// The keys that mmdebstrap checks signatures with.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// The archive that mmdebstrap writes.
const ARCHIVE: &str = "root.tar";

/// Directory of the kernel's package, first in the new root file system and then beside the archive.
const KERNEL_DIR: &str = "pyro-kernel";

/// Fetches the kernel with the package lists of the new root file system, whose signatures mmdebstrap has checked.
/// The host's own lists may be empty or of another release.
const FETCH_KERNEL: &str = r#"set -eu
export APT_CONFIG="$MMDEBSTRAP_APT_CONFIG"
mkdir "$1/pyro-kernel"
cd "$1/pyro-kernel"
package=$(apt-cache depends --important linux-image-cloud-amd64 | sed -n 's/^ *Depends: //p' | head -n 1)
apt-get download "$package""#;

/// Makes what every environment has and removes what mmdebstrap took from the host: its name, its resolver and its
/// apt settings. Root's login shells run `mesg` only where there is a terminal for it.
const FINISH: &str = r#"set -eu
rm -rf "$1/pyro-kernel" "$1/etc/apt/apt.conf.d/99mmdebstrap" "$1/etc/resolv.conf" "$1/etc/hostname"
mkdir -m 755 "$1/workspace"
echo pyro > "$1/etc/hostname"
printf '127.0.0.1\tlocalhost pyro\n::1\tlocalhost ip6-localhost ip6-loopback\n' > "$1/etc/hosts"
: > "$1/etc/resolv.conf"
: > "$1/etc/machine-id"
sed -i 's/^mesg .*/if [ -t 0 ]; then mesg n; fi/' "$1/root/.profile"
chmod 644 "$1/etc/hostname" "$1/etc/hosts" "$1/etc/resolv.conf" "$1/etc/machine-id"
rm -f "$1/var/cache/debconf/"*-old "$1/var/lib/dpkg/"*-old"#;

/// `/etc/profile`, which the shell of every command reads: what Debian's does, without its two runs of `id`, each of
/// which takes as long as the shell itself. `-O /` asks whether the shell's user owns the root, in the shell.
const PROFILE: &str = r#"# System-wide settings of login shells.

if [ -O / ]; then
  PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
else
  PATH=/usr/local/bin:/usr/bin:/bin:/usr/local/games:/usr/games
fi
export PATH

if [ "${PS1:-}" ]; then
  if [ "${BASH:-/bin/sh}" = /bin/sh ]; then
    if [ -O / ]; then PS1='# '; else PS1='$ '; fi
  elif [ -f /etc/bash.bashrc ]; then
    . /etc/bash.bashrc
  fi
fi

for i in /etc/profile.d/*.sh; do
  if [ -r "$i" ]; then . "$i"; fi
done
unset i
"#;

/// Unpacks the archive with its true owners and makes the image from it. Devices are left out: every guest mounts a
/// `/dev` of its own, and a namespace may not make them.
const MAKE_IMAGE: &str = r#"set -eu
mkdir image
"$1" -C image -xpf "$3" --numeric-owner --exclude='./dev/*'
"$2" --quiet -zlz4 -x-1 "$4" image
rm -rf image"#;

/// Documentation that no program needs. Licences stay.
const LEAN: &[&str] = &[
    "--dpkgopt=path-exclude=/usr/share/doc/*",
    "--dpkgopt=path-include=/usr/share/doc/*/copyright",
    "--dpkgopt=path-exclude=/usr/share/man/*",
    "--dpkgopt=path-exclude=/usr/share/info/*",
    "--dpkgopt=path-exclude=/usr/share/locale/*",
];

/// What mmdebstrap says when it begins a part, and the fraction of the pull that is done then.
const MILESTONES: &[(&str, f32)] = &[
    ("running apt-get update", 0.02),
    ("downloading packages with apt", 0.08),
    ("extracting archives", 0.2),
    ("installing essential packages", 0.3),
    ("installing remaining packages", 0.4),
    ("cleaning package lists", 0.65),
    ("creating tarball", 0.68),
];

/// Called with what is being done.
type Progress = dyn FnMut(PullProgress) + Send;

/// Checks that everything is there that a build needs, so that it fails at once and not after a minute.
pub(super) fn require(tools: &Tools) -> Result<(), PullError> {
    const ALWAYS: &[Tool] = &[
        Tool::Mmdebstrap,
        Tool::AptGet,
        Tool::AptCache,
        Tool::AptConfig,
        Tool::DpkgDeb,
        Tool::MkfsErofs,
        Tool::Setpriv,
        Tool::Unshare,
        Tool::Tar,
        Tool::Sh,
    ];
    for tool in ALWAYS {
        tools.require(*tool)?;
    }
    if !geteuid().is_root() {
        tools.require(Tool::NewUidMap)?;
    }
    if Path::new(KEYRING).exists() {
        return Ok(());
    }
    Err(PullError::MissingFile { path: KEYRING, package: "debian-archive-keyring" })
}

/// Makes a whole installation in the runner's directory and leaves nothing else there.
pub(super) fn build(
    runner: &Runner<'_>,
    entry: &CatalogEntry,
    progress: &mut Progress,
) -> Result<(), PullError> {
    let mut report = |phase, fraction, detail: &str| {
        progress(PullProgress { phase, fraction: Some(fraction), detail: detail.to_owned() });
    };
    report(PullPhase::Packages, 0.0, "reading the sources of packages");
    bootstrap(runner, entry, &mut report)?;
    report(PullPhase::Kernel, 0.75, "unpacking the kernel");
    let kernel = unpack_kernel(runner)?;
    report(PullPhase::Image, 0.8, "making the image");
    make_image(runner)?;
    report(PullPhase::Image, 0.88, "unpacking the tree");
    unpack_tree(runner)?;
    report(PullPhase::Verify, 0.93, "taking digests");
    write_manifest(runner.dir, entry, kernel)?;
    report(PullPhase::Verify, 0.96, "writing to the disk");
    File::open(runner.dir).and_then(|dir| Ok(rustix::fs::syncfs(dir)?)).map_err(|source| PullError::Io {
        doing: "write to the disk",
        path: runner.dir.to_owned(),
        source,
    })
}

fn bootstrap(
    runner: &Runner<'_>,
    entry: &CatalogEntry,
    report: &mut dyn FnMut(PullPhase, f32, &str),
) -> Result<(), PullError> {
    let packages = [entry.default_packages, companions(entry)].concat().join(",");
    let settings = sources::host_settings(runner)?.into_iter().map(|line| format!("--aptopt={line}"));
    let copy_out = format!("--customize-hook=copy-out /{KERNEL_DIR} {}", shell_quoted(runner.dir));
    let mut arguments =
        vec!["--mode=root".to_owned(), "--variant=minbase".to_owned(), "--format=tar".to_owned()];
    arguments.extend(["--architectures=amd64".to_owned(), format!("--include={packages}")]);
    arguments.extend(LEAN.iter().map(|option| (*option).to_owned()));
    arguments.extend(settings);
    arguments.push(format!("--customize-hook={FETCH_KERNEL}"));
    arguments.push(copy_out);
    arguments.push(format!("--customize-hook={FINISH}"));
    arguments.push(format!("--customize-hook=cat > \"$1/etc/profile\" <<'END'\n{PROFILE}END"));
    arguments.extend([SUITE.to_owned(), ARCHIVE.to_owned()]);
    arguments.extend(sources::host_sources(runner)?);
    let arguments = arguments.iter().map(String::as_str).collect::<Vec<_>>();
    runner.run(Tool::Mmdebstrap, &arguments, &mut |line| {
        let said = line.trim_start_matches("I: ");
        if let Some((_, fraction)) = MILESTONES.iter().find(|(start, _)| said.starts_with(start)) {
            report(PullPhase::Packages, *fraction, said.trim_end_matches("..."));
        }
    })?;
    Ok(())
}

/// Packages that users do not ask for by name, without which the default packages do not do what users expect:
/// certificates for Git over HTTPS, headers and a C++ compiler for gcc and CMake, `ps` to look around.
fn companions(entry: &CatalogEntry) -> &'static [&'static str] {
    let has = |package: &&str| entry.default_packages.contains(package);
    if has(&"gcc") {
        &["ca-certificates", "g++", "libc6-dev", "procps"]
    } else if has(&"git") {
        &["ca-certificates", "procps"]
    } else {
        &[]
    }
}

/// Quotes a path for mmdebstrap, which splits the hook into words as a shell does.
fn shell_quoted(path: &Path) -> String {
    format!("'{}'", path.to_string_lossy().replace('\'', r"'\''"))
}

/// What is known of the kernel.
struct Kernel {
    /// As `uname -r` says.
    release: String,
    /// File name of its package, with the package's version.
    package: String,
}

fn unpack_kernel(runner: &Runner<'_>) -> Result<Kernel, PullError> {
    let dir = runner.dir.join(KERNEL_DIR);
    let package = only_file(&dir, ".deb")?;
    runner.run(Tool::DpkgDeb, &["-x", &package.to_string_lossy(), KERNEL_DIR], &mut |_| {})?;
    let image = only_file(&dir.join("boot"), "")?;
    let release =
        image.file_name().and_then(|name| name.to_str()?.strip_prefix("vmlinuz-")).map(str::to_owned);
    let release = release.ok_or(PullError::Package("its kernel is not called vmlinuz"))?;
    let vmlinux = kernel::vmlinux(&read(&image)?)?;
    write(&runner.dir.join(VMLINUX), &vmlinux)?;
    let modules = Modules::list(&dir.join("lib/modules").join(&release))?;
    let modules = modules.in_load_order(WANTED, |path| read_module(runner, path))?;
    let archive = initramfs::modules_archive(&modules).map_err(|source| PullError::Io {
        doing: "pack the modules into",
        path: MODULES_CPIO.into(),
        source,
    })?;
    write(&runner.dir.join(MODULES_CPIO), &archive)?;
    let package = package.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    remove(&dir)?;
    Ok(Kernel { release, package })
}

/// Returns the only kernel or package of a directory; System.map and the like are not asked for.
fn only_file(dir: &Path, ending: &str) -> Result<PathBuf, PullError> {
    let failed = |source| PullError::Io { doing: "list", path: dir.to_owned(), source };
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if if ending.is_empty() { name.starts_with("vmlinuz-") } else { name.ends_with(ending) } {
            found.push(path);
        }
    }
    match (found.pop(), found.is_empty()) {
        (Some(path), true) => Ok(path),
        _ => Err(PullError::Package("it does not hold exactly one kernel")),
    }
}

fn read_module(runner: &Runner<'_>, path: &Path) -> Result<Vec<u8>, PullError> {
    let tool = match path.extension().and_then(|ending| ending.to_str()) {
        Some("xz") => Tool::Xz,
        Some("zst") => Tool::Zstd,
        _ => return read(path),
    };
    runner.run(tool, &["-dc", &path.to_string_lossy()], &mut |_| {})
}

fn make_image(runner: &Runner<'_>) -> Result<(), PullError> {
    let path_of = |tool| Ok::<_, MissingTool>(runner.tools.require(tool)?.to_string_lossy().into_owned());
    let (tar, mkfs) = (path_of(Tool::Tar)?, path_of(Tool::MkfsErofs)?);
    let script = ["-c", MAKE_IMAGE, "sh", &tar, &mkfs, ARCHIVE, ROOTFS_IMAGE];
    runner.run(Tool::Sh, &script, &mut |_| {}).map(drop)
}

/// Unpacks the archive for the host sandbox, with the owners that [`SANDBOX_UID_BASE`] explains.
fn unpack_tree(runner: &Runner<'_>) -> Result<(), PullError> {
    let tree = runner.dir.join(ROOTFS_TREE);
    let failed = |source| PullError::Io { doing: "unpack", path: tree.clone(), source };
    fs::create_dir(&tree).map_err(failed)?;
    let (owner, shift) = if geteuid().is_root() {
        ("--same-owner", Some(SANDBOX_UID_BASE))
    } else {
        ("--no-same-owner", None)
    };
    let arguments = ["-C", ROOTFS_TREE, "-xpf", ARCHIVE, "--numeric-owner", owner, "--exclude=./dev/*"];
    runner.run(Tool::Tar, &arguments, &mut |_| {})?;
    tree::settle(&tree, shift).map_err(failed)?;
    remove(&runner.dir.join(ARCHIVE))
}

fn write_manifest(dir: &Path, entry: &CatalogEntry, kernel: Kernel) -> Result<(), PullError> {
    let failed = |source| PullError::Io { doing: "describe", path: dir.to_owned(), source };
    let tree = dir.join(ROOTFS_TREE);
    let mut digest = Sha256::new();
    for package in tree::packages(&tree).map_err(failed)?.iter().chain([&kernel.package]) {
        digest.update(package);
        digest.update("\n");
    }
    let files =
        FILES.iter().map(|path| FileRecord::of(dir, path)).collect::<Result<_, _>>().map_err(failed)?;
    let manifest = Manifest {
        catalog_version: env!("CARGO_PKG_VERSION").to_owned(),
        name: entry.name.to_owned(),
        version: entry.version.to_owned(),
        source: format!("debian-packages:{SUITE}+{}", kernel.package),
        source_digest: Some(format!("{:x}", digest.finalize())),
        installed_at: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
        kernel_version: kernel.release,
        files,
        tree: tree::record(&tree).map_err(failed)?,
    };
    manifest.write(dir).map_err(failed)
}

fn read(path: &Path) -> Result<Vec<u8>, PullError> {
    fs::read(path).map_err(|source| PullError::Io { doing: "read", path: path.to_owned(), source })
}

fn write(path: &Path, content: &[u8]) -> Result<(), PullError> {
    fs::write(path, content).map_err(|source| PullError::Io { doing: "write", path: path.to_owned(), source })
}

fn remove(path: &Path) -> Result<(), PullError> {
    tree::remove(path).map_err(|source| PullError::Io { doing: "remove", path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::PROFILE;
    use std::process::Command;

    #[test]
    fn the_profile_sets_the_path_of_its_user_and_starts_no_program() {
        let script = format!("{PROFILE}\necho \"$PATH\"");
        let shell = Command::new("/bin/sh").args(["-ec", &script]).env("PATH", "/none").output().unwrap();
        assert_eq!(String::from_utf8(shell.stderr).unwrap(), "", "what it starts is not found");
        let path = String::from_utf8(shell.stdout).unwrap();
        assert_eq!(path.contains("/sbin:"), super::geteuid().is_root(), "{path}");
    }
}
