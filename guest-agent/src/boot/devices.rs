//! Block devices, which drivers may find a moment after their module is loaded.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long a device may take. On a loaded host without KVM, seconds pass; beyond this it is not there.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// Time between two looks.
const PAUSE: Duration = Duration::from_millis(5);

/// Waits for the node of a device.
pub(crate) fn wait(device: &Path) -> io::Result<()> {
    let start = Instant::now();
    loop {
        match std::fs::metadata(device) {
            Ok(_) => return Ok(()),
            Err(error) if start.elapsed() > WAIT_MAX => {
                return Err(io::Error::new(error.kind(), format!("{}: {error}", device.display())));
            }
            Err(_not_yet) => std::thread::sleep(PAUSE),
        }
    }
}
