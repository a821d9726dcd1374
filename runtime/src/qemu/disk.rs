//! The writable disk of a workspace.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;

use super::error::BootError;

/// Name of the disk in the directory of its workspace.
const DISK: &str = "disk.raw";

/// Returns the workspace's disk; makes an empty one when there is none.
///
/// It is sparse: it takes the space of what was written to it. Making one takes some 15 ms, whatever its size. A
/// disk that is not finished never has the final name.
pub(super) async fn ensure(dir: &Path, disk_mib: u64, mkfs: &Path) -> Result<PathBuf, BootError> {
    let disk = dir.join(DISK);
    if disk.exists() {
        return Ok(disk);
    }
    let unfinished = dir.join("disk.raw.partial");
    let failed = |source| BootError::Prepare { what: "make the disk", path: unfinished.clone(), source };
    let len = disk_mib.checked_mul(1024 * 1024).ok_or(io::ErrorKind::InvalidInput.into()).map_err(failed)?;
    File::create(&unfinished).and_then(|file| file.set_len(len)).map_err(failed)?;
    let output = Command::new(mkfs)
        .args(["-q", "-F", "-m", "0", "-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard"])
        .arg(&unfinished)
        .env_clear()
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(failed)?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(failed(io::Error::other(format!("mkfs.ext4: {}: {said}", output.status))));
    }
    fs::rename(&unfinished, &disk).map_err(failed)?;
    Ok(disk)
}
