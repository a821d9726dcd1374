//! One pull of an environment at a time, over all processes.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::command::Cancel;
use super::pull::PullError;

/// How often a held lock is tried again. A blocking wait could not be cancelled.
const RETRY: Duration = Duration::from_millis(100);

/// An exclusive lock on one environment's directories. It ends when it is dropped; if its process is killed instead,
/// it ends with the last program that has a copy of the file.
///
/// The lock file stays: removing it would let two holders lock two files of the same name.
#[derive(Debug)]
pub(super) struct Lock(pub(super) File);

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing is not enough: a child that another thread is just starting has a copy of every open file until it
        // runs its program. Unlocking cannot fail for a lock that is held.
        flock(&self.0, FlockOperation::Unlock).ok();
    }
}

impl Lock {
    /// Takes the lock, or returns `None` when somebody else holds it.
    pub(super) fn try_take(path: &Path) -> io::Result<Option<Self>> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Self(file))),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits for the lock until the pull is cancelled, and calls `waiting` once if it must.
    pub(super) fn take(path: PathBuf, cancel: &Cancel, waiting: impl FnOnce()) -> Result<Self, PullError> {
        let mut waiting = Some(waiting);
        loop {
            cancel.check()?;
            match Self::try_take(&path) {
                Ok(Some(lock)) => return Ok(lock),
                Ok(None) => waiting.take().into_iter().for_each(|notify| notify()),
                Err(source) => return Err(PullError::Io { doing: "lock", path, source }),
            }
            thread::sleep(RETRY);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Cancel, File, FlockOperation, Lock, flock};
    use crate::environment::pull::PullError;
    use std::process::Command;

    #[test]
    fn a_lock_is_exclusive_and_waiting_can_be_cancelled() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let held = Lock::try_take(&path).unwrap().expect("nobody else has it");
        assert!(Lock::try_take(&path).unwrap().is_none());
        let cancel = Cancel::default();
        let refused = Lock::take(path.clone(), &cancel, || cancel.cancel());
        assert!(matches!(refused, Err(PullError::Cancelled)));
        drop(held);
        assert!(Lock::try_take(&path).unwrap().is_some());
    }

    #[test]
    fn a_program_that_outlives_a_killed_pull_keeps_the_lock() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        // What the kernel does to a killed process: its files are closed, nothing is unlocked.
        let held = File::create(&path).unwrap();
        flock(&held, FlockOperation::LockExclusive).unwrap();
        let mut child = Command::new("sleep").arg("1000").stdin(held).spawn().unwrap();
        assert!(Lock::try_take(&path).unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(Lock::try_take(&path).unwrap().is_some());
    }
}
