//! The end of a virtual machine.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions};
use rustix::system::RebootCommand;

use super::mounts::Disk;
use crate::agent;

/// How long killed processes may take to end. One that waits for a device is left behind; its writes are
/// synced as far as they got.
const REAP_MAX: Duration = Duration::from_secs(1);

/// Time between two looks.
const PAUSE: Duration = Duration::from_millis(2);

/// Ends all processes, makes the disk clean and switches the machine off.
pub(crate) fn off(disk: Option<&Disk>) -> ExitCode {
    kill_all();
    rustix::fs::sync();
    if let Some(Err(source)) = disk.map(Disk::seal) {
        agent::complain(&source);
    }
    for command in [RebootCommand::PowerOff, RebootCommand::Restart, RebootCommand::Halt] {
        // A machine without power control refuses the first; the VMM treats a restart as its end.
        let _refused = rustix::system::reboot(command);
    }
    // The end of PID 1 is a panic, which ends the machine as well.
    ExitCode::FAILURE
}

fn kill_all() {
    // For `kill`, the group of PID 1 is the number -1, which means every other process on the machine.
    let _none_left = rustix::process::kill_process_group(Pid::INIT, Signal::KILL);
    let start = Instant::now();
    while start.elapsed() < REAP_MAX {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some(_)) | Err(Errno::INTR) => {}
            Ok(None) => std::thread::sleep(PAUSE),
            Err(_no_child) => return,
        }
    }
}
