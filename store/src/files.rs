//! Creating files and directories that only their owner can read, and making directory entries durable.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
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

/// Returns the name under which a file is made before it is put in its place.
pub(crate) fn temporary(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(TEMPORARY);
    PathBuf::from(name)
}

/// Returns the number that the name of a file holds: so many decimal digits and the ending; `None` for other names.
pub(crate) fn number_of(path: &Path, ending: &str, digit_count: usize) -> Option<u64> {
    let digits = path.file_name()?.to_str()?.strip_suffix(ending)?.strip_suffix('.')?;
    let is_number = digits.len() == digit_count && digits.bytes().all(|digit| digit.is_ascii_digit());
    is_number.then(|| digits.parse().ok()).flatten()
}

/// Returns a length in memory as one in a file.
pub(crate) fn len_u64(len: usize) -> u64 {
    u64::try_from(len).expect("memory is shorter than 2^64 bytes")
}

/// Tells whether an error means that there is no space left for the caller.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
