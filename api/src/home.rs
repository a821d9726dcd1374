//! Where pyro keeps its files.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// Longest path of a Unix socket, in bytes: `sun_path` has 108, one of which is the terminating NUL.
const SOCKET_PATH_LEN_MAX: usize = 107;

/// The longest name of a socket below the home: that of a workspace's vsock bridge.
const LONGEST_SOCKET: &str = "/workspaces/0123456789ab/vsock.sock_5006";

/// The directory that holds everything pyro keeps, and the places in it. All paths are absolute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Home {
    root: PathBuf,
    environments: PathBuf,
}

/// Why a directory cannot be the home.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// Neither of the variables that could name it is set.
    #[error("no place for pyro's files: none of PYRO_HOME, XDG_DATA_HOME and HOME is set")]
    Unset,
    /// The sockets in it would have names that the kernel does not take.
    #[error(
        "{path} is too long for a home: {len} bytes, at most {max} are possible because Unix sockets lie in it",
        path = path.display()
    )]
    TooLong {
        /// The directory.
        path: PathBuf,
        /// Its length, in bytes.
        len: usize,
        /// The longest possible length, in bytes.
        max: usize,
    },
    /// It belongs to somebody else.
    #[error("{path} belongs to user {owner}, not to user {user}", path = path.display())]
    NotOwned {
        /// The directory.
        path: PathBuf,
        /// User id of the owner.
        owner: u32,
        /// User id of this process.
        user: u32,
    },
    /// Others could have put something into it.
    #[error("{path} is writable for others and not empty", path = path.display())]
    Writable {
        /// The directory.
        path: PathBuf,
    },
    /// It cannot be made or used.
    #[error("failed to use {path} as home: {source}", path = path.display())]
    Io {
        /// The directory.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

impl Home {
    /// Finds the home of this process: `PYRO_HOME`, else `pyro` in the XDG data directory.
    ///
    /// Touches no file; see [`create`](Self::create).
    ///
    /// # Errors
    ///
    /// When no variable names it, or when it is too long to hold sockets.
    pub fn from_environment() -> Result<Self, HomeError> {
        Self::resolve(None, |name| std::env::var_os(name))
    }

    /// Takes a directory as home in place of the one that `PYRO_HOME` names. What else the environment says holds.
    ///
    /// # Errors
    ///
    /// When it is too long to hold sockets.
    pub fn from_environment_at(root: &Path) -> Result<Self, HomeError> {
        Self::resolve(Some(root), |name| std::env::var_os(name))
    }

    fn resolve(root: Option<&Path>, variable: impl Fn(&str) -> Option<OsString>) -> Result<Self, HomeError> {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        // The XDG specification says that a relative path there is to be ignored.
        let xdg = || set("XDG_DATA_HOME").filter(|path| path.is_absolute()).map(|data| data.join("pyro"));
        let user = || set("HOME").map(|home| home.join(".local/share/pyro"));
        let found = || set("PYRO_HOME").or_else(xdg).or_else(user);
        let root = root.map(Path::to_owned).or_else(found).ok_or(HomeError::Unset)?;
        let home = Self::at(&root)?;
        match set("PYRO_ENVIRONMENT_CACHE_DIR") {
            None => Ok(home),
            Some(environments) => Ok(Self { environments: absolute(&environments)?, ..home }),
        }
    }

    /// Takes a directory as home, with the environments in it.
    ///
    /// # Errors
    ///
    /// When it is too long to hold sockets.
    pub fn at(root: &Path) -> Result<Self, HomeError> {
        let root = absolute(root)?;
        let len = root.as_os_str().as_bytes().len();
        let max = SOCKET_PATH_LEN_MAX - LONGEST_SOCKET.len();
        if len > max {
            return Err(HomeError::TooLong { path: root, len, max });
        }
        let environments = root.join("environments");
        Ok(Self { root, environments })
    }

    /// Makes the home and its directories, all with mode 0700, where they are missing.
    ///
    /// A home that is there already loses the permissions that it gives to others.
    ///
    /// # Errors
    ///
    /// When the home belongs to somebody else, when others could have put something into it, or when it cannot be
    /// written.
    pub fn create(&self) -> Result<(), HomeError> {
        self.create_root().map_err(|source| HomeError::Io { path: self.root.clone(), source })?;
        self.check_root()?;
        for directory in [self.log(), self.outputs(), self.workspaces(), self.environments(), self.run()] {
            private_dir(&directory).map_err(|source| HomeError::Io { path: directory, source })?;
        }
        Ok(())
    }

    fn create_root(&self) -> io::Result<()> {
        if let Some(parent) = self.root.parent() {
            // What lies above the home is the user's; only the home itself is private.
            fs::create_dir_all(parent)?;
        }
        private_dir(&self.root)
    }

    fn check_root(&self) -> Result<(), HomeError> {
        let path = || self.root.clone();
        let io_error = |source| HomeError::Io { path: path(), source };
        let user = rustix::process::geteuid().as_raw();
        // Of a symbolic link, both ends must be ours: whoever owns the link can turn it elsewhere.
        let link = fs::symlink_metadata(&self.root).map_err(io_error)?;
        let directory = fs::metadata(&self.root).map_err(io_error)?;
        if let Some(owner) = [link.uid(), directory.uid()].into_iter().find(|owner| *owner != user) {
            return Err(HomeError::NotOwned { path: path(), owner, user });
        }
        if directory.mode() & 0o022 != 0 && fs::read_dir(&self.root).map_err(io_error)?.next().is_some() {
            return Err(HomeError::Writable { path: path() });
        }
        if directory.mode() & 0o077 != 0 {
            fs::set_permissions(&self.root, Permissions::from_mode(0o700)).map_err(io_error)?;
        }
        Ok(())
    }

    /// Returns the home itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns the directory of the event log.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.root.join("log")
    }

    /// Returns the directory of the output files.
    #[must_use]
    pub fn outputs(&self) -> PathBuf {
        self.root.join("outputs")
    }

    /// Returns the directory with one directory for each workspace.
    #[must_use]
    pub fn workspaces(&self) -> PathBuf {
        self.root.join("workspaces")
    }

    /// Returns the directory of the installed environments; `PYRO_ENVIRONMENT_CACHE_DIR` moves it elsewhere.
    #[must_use]
    pub fn environments(&self) -> PathBuf {
        self.environments.clone()
    }

    /// Returns the directory of what lives as long as a daemon: its socket, its log file, its locks.
    #[must_use]
    pub fn run(&self) -> PathBuf {
        self.root.join("run")
    }

    /// Returns the daemon's socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.run().join("pyro.sock")
    }

    /// Returns the file that the daemon writes its own messages to.
    #[must_use]
    pub fn daemon_log(&self) -> PathBuf {
        self.run().join("daemon.log")
    }

    /// Returns the file that is locked by the one client that starts a daemon.
    #[must_use]
    pub fn start_lock(&self) -> PathBuf {
        self.run().join("start.lock")
    }

    /// Returns the configuration file.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.root.join("config.toml")
    }
}

fn absolute(path: &Path) -> Result<PathBuf, HomeError> {
    std::path::absolute(path).map_err(|source| HomeError::Io { path: path.to_owned(), source })
}

fn private_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(variables: &[(&str, &str)]) -> Result<Home, HomeError> {
        Home::resolve(None, |name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into())
        })
    }

    #[test]
    fn variables_are_taken_in_their_order() {
        let all = [("PYRO_HOME", "/p"), ("XDG_DATA_HOME", "/x"), ("HOME", "/h")];
        assert_eq!(resolve(&all).unwrap().root(), Path::new("/p"));
        assert_eq!(resolve(&all[1..]).unwrap().root(), Path::new("/x/pyro"));
        assert_eq!(resolve(&all[2..]).unwrap().root(), Path::new("/h/.local/share/pyro"));
        assert!(matches!(resolve(&[]), Err(HomeError::Unset)));
        let empty = [("PYRO_HOME", ""), ("XDG_DATA_HOME", "relative"), ("HOME", "/h")];
        assert_eq!(resolve(&empty).unwrap().root(), Path::new("/h/.local/share/pyro"));
    }

    #[test]
    fn environments_can_lie_elsewhere_and_all_paths_are_absolute() {
        let home = resolve(&[("PYRO_HOME", "rel"), ("PYRO_ENVIRONMENT_CACHE_DIR", "cache")]).unwrap();
        let here = std::env::current_dir().unwrap();
        assert_eq!(home.root(), here.join("rel"));
        assert_eq!(home.environments(), here.join("cache"));
        let variable = |name: &str| (name == "PYRO_ENVIRONMENT_CACHE_DIR").then(|| "/cache".into());
        let named = Home::resolve(Some(Path::new("/named")), variable).unwrap();
        assert_eq!((named.root(), named.environments()), (Path::new("/named"), PathBuf::from("/cache")));
        assert_eq!(Home::at(Path::new("/a")).unwrap().environments(), Path::new("/a/environments"));
    }

    #[test]
    fn home_leaves_room_for_the_longest_socket() {
        let longest = format!("/{}", "d".repeat(SOCKET_PATH_LEN_MAX - LONGEST_SOCKET.len() - 1));
        let home = Home::at(Path::new(&longest)).unwrap();
        let workspace_socket = home.workspaces().join("0123456789ab").join("vsock.sock_5006");
        assert_eq!(workspace_socket.as_os_str().len(), SOCKET_PATH_LEN_MAX);
        let error = Home::at(Path::new(&format!("{longest}d"))).unwrap_err();
        assert!(matches!(error, HomeError::TooLong { len: 68, max: 67, .. }), "{error}");
    }

    #[test]
    fn created_home_is_private() {
        let parent = tempfile::tempdir().unwrap();
        let home = Home::at(&parent.path().join("a/home")).unwrap();
        home.create().unwrap();
        home.create().unwrap();
        for directory in [home.root().to_owned(), home.run(), home.log()] {
            assert_eq!(fs::metadata(&directory).unwrap().mode() & 0o777, 0o700, "{}", directory.display());
        }
    }

    #[test]
    fn open_home_is_closed_unless_others_could_have_written_into_it() {
        let parent = tempfile::tempdir().unwrap();
        let home = Home::at(&parent.path().join("home")).unwrap();
        fs::create_dir(home.root()).unwrap();
        fs::set_permissions(home.root(), Permissions::from_mode(0o777)).unwrap();
        home.create().unwrap();
        assert_eq!(fs::metadata(home.root()).unwrap().mode() & 0o777, 0o700);
        fs::set_permissions(home.root(), Permissions::from_mode(0o770)).unwrap();
        assert!(matches!(home.create(), Err(HomeError::Writable { .. })));
    }

    /// Catches a home that another user controls and could exchange at any time.
    #[test]
    fn home_of_another_user_is_refused() {
        if !rustix::process::geteuid().is_root() {
            let skipped = b"skipped: only root can give a directory away\n";
            std::io::Write::write_all(&mut std::io::stderr(), skipped).unwrap();
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::chown(dir.path(), Some(1), None).unwrap();
        let error = Home::at(dir.path()).unwrap().create().unwrap_err();
        assert!(matches!(error, HomeError::NotOwned { .. }), "{error}");
    }

    #[test]
    fn home_that_is_a_file_is_refused() {
        let parent = tempfile::tempdir().unwrap();
        let home = Home::at(&parent.path().join("home")).unwrap();
        fs::write(home.root(), "").unwrap();
        assert!(matches!(home.create(), Err(HomeError::Io { .. })));
    }
}
