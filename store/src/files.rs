//! Creating files and directories that only their owner can read, and making directory entries durable.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// Ending of files that are not complete yet.
pub(crate) const TEMPORARY: &str = "tmp";

/// Creates a directory and its parents with mode 0700; an existing one is left as it is.
pub(crate) fn create_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Returns options for opening a file that gets mode 0600 when it is created.
pub(crate) fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(0o600);
    options
}

/// Makes the entries of a directory durable.
pub(crate) fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Puts a file in place so that it exists complete and durable or not at all.
pub(crate) fn publish(path: &Path, content: &[u8]) -> io::Result<File> {
    let temporary = temporary(path);
    let result = write_and_rename(&temporary, path, content);
    if result.is_err() {
        // Best effort: opening the log removes what is left.
        drop(std::fs::remove_file(&temporary));
    }
    result
}

fn temporary(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(TEMPORARY);
    PathBuf::from(name)
}

fn write_and_rename(temporary: &Path, path: &Path, content: &[u8]) -> io::Result<File> {
    let mut file = private().read(true).write(true).create(true).truncate(true).open(temporary)?;
    file.write_all(content)?;
    file.sync_all()?;
    std::fs::rename(temporary, path)?;
    let parent = path.parent().ok_or_else(|| io::Error::other("a file has a directory"))?;
    sync_dir(parent)?;
    Ok(file)
}

/// Tells whether an error means that there is no space left for the caller.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
