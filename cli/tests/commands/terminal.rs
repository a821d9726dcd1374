//! Terminals for the program under test.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::OwnedFd;

use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};

/// Makes a terminal and returns both ends of it.
pub(crate) fn terminal() -> (File, OwnedFd) {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = openpt(flags).expect("there are terminals");
    grantpt(&master).expect("it is ours");
    unlockpt(&master).expect("it is ours");
    let terminal = ioctl_tiocgptpeer(&master, flags).expect("it is ours");
    (File::from(master), terminal)
}

/// Reads what is shown until it ends with this text, and returns all of it.
#[track_caller]
pub(crate) fn read_until(master: &mut File, end: &str) -> String {
    let (mut shown, mut chunk) = (Vec::new(), [0; 4096]);
    while !shown.ends_with(end.as_bytes()) {
        match master.read(&mut chunk) {
            Ok(len @ 1..) => shown.extend_from_slice(&chunk[..len]),
            _ => panic!("the terminal ended before {end:?}: {:?}", String::from_utf8_lossy(&shown)),
        }
    }
    String::from_utf8_lossy(&shown).into_owned()
}
