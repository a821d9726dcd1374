//! The lock that makes one process the owner of a log.

use std::fs::{File, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::Path;

use crate::files;

const NAME: &str = "lock";

/// How often the pid of the holder is looked for: it is written right after the lock was taken.
const PID_READS: u32 = 10_000;

/// A log that could not be locked.
#[derive(Debug)]
pub(crate) enum LockError {
    /// Another process holds it.
    Held {
        pid: u32,
    },
    Io(io::Error),
}

/// Holds the lock until it is dropped. The kernel drops it when the process dies, however it dies.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    pub(crate) fn take(dir: &Path) -> Result<Self, LockError> {
        let path = dir.join(NAME);
        let options = &mut files::private();
        let mut file =
            options.read(true).write(true).create(true).truncate(false).open(path).map_err(LockError::Io)?;
        for _ in 0..PID_READS {
            match file.try_lock() {
                Ok(()) => {
                    write_pid(&mut file).map_err(LockError::Io)?;
                    return Ok(Self { _file: file });
                }
                Err(TryLockError::Error(error)) => return Err(LockError::Io(error)),
                Err(TryLockError::WouldBlock) => {}
            }
            if let Some(pid) = read_pid(&mut file).map_err(LockError::Io)? {
                return Err(LockError::Held { pid });
            }
            std::thread::yield_now();
        }
        Err(LockError::Io(io::Error::new(io::ErrorKind::InvalidData, "the lock is held, but names no pid")))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // The next holder's pid must not be mistaken for ours in the moment before it is written. When this fails,
        // the worst is an error message with an old pid.
        drop(self._file.set_len(0));
    }
}

fn write_pid(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
}

/// Reads the pid; `None` while it is not completely written.
fn read_pid(file: &mut File) -> io::Result<Option<u32>> {
    let mut text = String::new();
    file.rewind()?;
    file.read_to_string(&mut text)?;
    Ok(text.strip_suffix('\n').and_then(|digits| digits.parse().ok()))
}
