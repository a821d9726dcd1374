//! A place for the mount of one test.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// A directory to mount at. Dropping it takes away what a daemon that was killed left there, so it is made before its daemon
/// and dropped after it.
#[derive(Debug)]
pub struct MountPoint(TempDir);

impl MountPoint {
    /// Makes one.
    ///
    /// # Errors
    ///
    /// When nobody can mount here.
    ///
    /// # Panics
    ///
    /// When there is no room for a temporary directory.
    pub fn new() -> io::Result<Self> {
        File::options().read(true).write(true).open("/dev/fuse")?;
        let dir = tempfile::Builder::new().prefix("pyro-mount").tempdir();
        Ok(Self(dir.expect("a temporary directory can be made")))
    }

    /// Returns the directory to mount at, which is not there yet, in one that is the test's own.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.0.path().join("mnt")
    }

    /// Returns the same as a text.
    #[must_use]
    pub fn text(&self) -> String {
        self.path().display().to_string()
    }
}

impl Drop for MountPoint {
    fn drop(&mut self) {
        // Nothing is mounted there in most cases.
        let _nothing = Command::new("umount").arg("-l").arg(self.path()).stderr(Stdio::null()).status();
    }
}
