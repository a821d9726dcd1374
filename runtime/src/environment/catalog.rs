//! The environments of the catalog as they are on this machine.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use pyro_core::{CATALOG, CatalogEntry, EnvironmentName};

use super::installed::{Installed, NotInstalled};
use super::lock::Lock;
use super::pull::{self, Job, PullError, PullProgress};
use super::tree;
use crate::host::Tools;

/// The only platform of guests, and the directory of its environments.
const PLATFORM: &str = "linux-x86_64";

/// Start of the names of directories in the making.
const PARTIAL: &str = ".partial-";

/// All environments below one directory.
#[derive(Clone, Debug)]
pub struct Environments {
    root: PathBuf,
    tools: Tools,
}

/// What can be told about an environment without booting it.
#[derive(Debug)]
pub struct Inspection {
    /// Its entry in the catalog: name, version, description and default packages.
    pub entry: &'static CatalogEntry,
    /// Name of the distribution.
    pub distribution: &'static str,
    /// Version of the distribution.
    pub distribution_version: &'static str,
    /// Operating system and processor.
    pub platform: &'static str,
    /// Range of versions of pyro whose catalogs have this version of the environment.
    pub compatibility: String,
    /// Version of the catalog.
    pub catalog_version: &'static str,
    /// Directory of all environments.
    pub cache_dir: PathBuf,
    /// Directory of its installation, there or not.
    pub install_dir: PathBuf,
    /// The installation; an error tells why there is none that can be used.
    pub installed: Result<Installed, NotInstalled>,
}

impl Environments {
    /// Keeps environments below `root`, which is made when it is needed. Reads nothing.
    #[must_use]
    pub fn new(root: PathBuf) -> Self {
        Self { root, tools: Tools::of_host() }
    }

    /// Like [`Self::new`], with programs from certain places.
    #[must_use]
    pub const fn with_tools(root: PathBuf, tools: Tools) -> Self {
        Self { root, tools }
    }

    /// Returns all environments of the catalog, sorted by name.
    #[must_use]
    pub fn list(&self) -> Vec<Inspection> {
        CATALOG.iter().map(|entry| self.inspect(&name_of(entry))).collect()
    }

    /// Returns what there is to tell about one environment.
    #[must_use]
    pub fn inspect(&self, name: &EnvironmentName) -> Inspection {
        let entry = entry_of(name);
        let catalog_version = env!("CARGO_PKG_VERSION");
        let major = env!("CARGO_PKG_VERSION_MAJOR").parse::<u32>().unwrap_or_default();
        Inspection {
            entry,
            distribution: "debian",
            distribution_version: "12",
            platform: PLATFORM,
            compatibility: format!(">={major}.0.0,<{}.0.0", major + 1),
            catalog_version,
            cache_dir: self.root.clone(),
            install_dir: self.dir().join(dir_name(entry)),
            installed: self.installed(name),
        }
    }

    /// Returns the installation of an environment after a quick look: the manifest fits and the files have their sizes.
    ///
    /// # Errors
    ///
    /// There is none, or it is visibly damaged.
    pub fn installed(&self, name: &EnvironmentName) -> Result<Installed, NotInstalled> {
        let entry = entry_of(name);
        Installed::open(self.dir().join(dir_name(entry)), name, entry)
    }

    /// Returns the installation after comparing every file with its digest. Blocks for a second or so.
    ///
    /// # Errors
    ///
    /// There is none, or it is damaged anywhere.
    pub fn verify(&self, name: &EnvironmentName) -> Result<Installed, NotInstalled> {
        self.installed(name)?.verify()
    }

    /// Returns a whole installation of an environment with an initramfs for `agent`; makes or repairs it first
    /// when necessary.
    ///
    /// Waits for another pull of the same environment, in whatever process, and then takes its result. `progress` is
    /// called from a thread of the pull. Dropping the future ends the pull with all programs it started and
    /// removes what it made; that takes a moment after the drop, during which the next pull waits.
    ///
    /// # Errors
    ///
    /// See [`PullError`]; nothing that looks installed is left.
    pub fn pull(
        &self,
        name: &EnvironmentName,
        agent: &Path,
        progress: impl FnMut(PullProgress) + Send + 'static,
    ) -> impl Future<Output = Result<Installed, PullError>> + Send + 'static {
        let entry = entry_of(name);
        let directory = dir_name(entry);
        pull::pull(Job {
            name: name.clone(),
            entry,
            tools: self.tools.clone(),
            agent: agent.to_owned(),
            parent: self.dir(),
            target: self.dir().join(&directory),
            partial: self.dir().join(format!("{PARTIAL}{directory}")),
            lock: self.lock_path(&directory),
            progress: Box::new(progress),
        })
    }

    /// Removes what is of no use: leftovers of killed pulls, damaged installations, other versions and unknown
    /// environments. Returns the removed directories, sorted.
    ///
    /// Directories that a living pull works on are left alone.
    ///
    /// # Errors
    ///
    /// A directory cannot be listed or removed.
    pub fn prune(&self) -> io::Result<Vec<PathBuf>> {
        let entries = match fs::read_dir(self.dir()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other?,
        };
        let mut removed = Vec::new();
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if !entry.file_type()?.is_dir() {
                continue;
            }
            let Some(_lock) = Lock::try_take(&self.lock_path(environment_of(&name)))? else { continue };
            if !self.is_current(&name) {
                tree::remove(&entry.path())?;
                removed.push(entry.path());
            }
        }
        removed.sort();
        Ok(removed)
    }

    /// Tells whether a directory of that name is a whole installation of what the catalog has now.
    fn is_current(&self, directory: &str) -> bool {
        let entry = CATALOG.iter().find(|entry| dir_name(entry) == directory);
        entry.is_some_and(|entry| self.installed(&name_of(entry)).is_ok())
    }

    fn dir(&self) -> PathBuf {
        self.root.join(PLATFORM)
    }

    fn lock_path(&self, directory: &str) -> PathBuf {
        self.dir().join(format!(".lock-{directory}"))
    }
}

/// Returns the environment's part of a directory name, which also names its lock.
fn environment_of(directory: &str) -> &str {
    let name = directory.strip_prefix(PARTIAL).unwrap_or(directory);
    name.strip_suffix(pull::REPLACED_SUFFIX).unwrap_or(name)
}

fn dir_name(entry: &CatalogEntry) -> String {
    format!("{}-{}", entry.name.replace(':', "_"), entry.version)
}

fn entry_of(name: &EnvironmentName) -> &'static CatalogEntry {
    let entry = CATALOG.iter().find(|entry| entry.name == name.as_str());
    entry.expect("an EnvironmentName is made only from the catalog")
}

fn name_of(entry: &CatalogEntry) -> EnvironmentName {
    entry.name.parse().expect("every name of the catalog is an EnvironmentName")
}

#[cfg(test)]
mod tests {
    use super::{Environments, Lock, NotInstalled, dir_name, name_of};
    use crate::environment::manifest::tests::install;
    use pyro_core::CATALOG;
    use std::fs;

    #[test]
    fn what_is_installed_is_told() {
        let root = tempfile::tempdir().unwrap();
        let environments = Environments::new(root.path().to_owned());
        let platform = root.path().join("linux-x86_64");
        install(&platform.join("debian_12-1.0.0"), &CATALOG[0]);
        fs::create_dir_all(platform.join("debian_12-base-1.0.0")).unwrap();
        let list = environments.list();
        assert_eq!(list[0].install_dir, platform.join("debian_12-1.0.0"));
        assert!(list[0].installed.is_ok());
        assert!(matches!(list[1].installed, Err(NotInstalled::Damaged { .. })));
        assert!(matches!(list[2].installed, Err(NotInstalled::Absent(_))));
        assert!(environments.verify(&name_of(&CATALOG[0])).is_ok());
    }

    #[test]
    fn prune_removes_the_useless_and_leaves_the_rest() {
        let root = tempfile::tempdir().unwrap();
        let environments = Environments::new(root.path().to_owned());
        assert!(environments.prune().unwrap().is_empty(), "nothing was ever installed");
        let platform = root.path().join("linux-x86_64");
        install(&platform.join(dir_name(&CATALOG[0])), &CATALOG[0]);
        install(&platform.join("debian_12-0.9.0"), &CATALOG[0]);
        install(&platform.join("fedora_40-1.0.0"), &CATALOG[0]);
        let useless = [
            ".partial-debian_12-base-1.0.0",
            ".partial-debian_12-base-1.0.0.replaced",
            "debian_12-0.9.0",
            "debian_12-base-1.0.0",
            "fedora_40-1.0.0",
        ];
        let in_use = ".partial-debian_12-build-1.0.0";
        for name in useless.iter().chain([&in_use]) {
            fs::create_dir_all(platform.join(name)).unwrap();
        }
        fs::write(platform.join("notes.txt"), "").unwrap();
        let pull = Lock::try_take(&platform.join(".lock-debian_12-build-1.0.0")).unwrap();
        assert_eq!(environments.prune().unwrap(), useless.map(|name| platform.join(name)));
        assert!(platform.join(in_use).exists() && platform.join("notes.txt").exists());
        assert!(environments.installed(&name_of(&CATALOG[0])).is_ok());
        drop(pull);
        assert_eq!(environments.prune().unwrap(), [platform.join(in_use)]);
    }
}
