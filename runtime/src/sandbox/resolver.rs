//! The file that names a sandbox's name server.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::net::Ipv4Addr;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;

/// Where programs look for the name server.
pub(super) const RESOLVER: &str = "/etc/resolv.conf";

/// Most that is read of a file to see whether it is empty, in bytes.
const BLANK_LEN_MAX: u64 = 4096;

/// Names the name server in a file that is missing or blank. Whatever else is there, a link for example, the environment
/// or somebody in the sandbox wants to be there, and it stays.
pub(super) fn name_server(file: &Path, address: Ipv4Addr) -> io::Result<()> {
    // Nobody is waited for at a pipe.
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::ROTH;
    let mut file = match openat2(CWD, file, flags, mode, ResolveFlags::NO_SYMLINKS) {
        Ok(file) => File::from(file),
        // In this order: a link, no directory for it, no directory where one should be, a directory, a socket, a device.
        Err(Errno::LOOP | Errno::NOENT | Errno::NOTDIR | Errno::ISDIR | Errno::NXIO | Errno::ACCESS) => {
            return Ok(());
        }
        Err(error) => return Err(error.into()),
    };
    if !file.metadata()?.is_file() {
        return Ok(());
    }
    let mut text = Vec::new();
    (&file).take(BLANK_LEN_MAX).read_to_end(&mut text)?;
    if text.trim_ascii().is_empty() { writeln!(file, "nameserver {address}") } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 3);

    #[test]
    fn a_missing_or_blank_file_is_filled_once() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("resolv.conf");
        for _again in 0..2 {
            name_server(&file, SERVER).unwrap();
            assert_eq!(fs::read_to_string(&file).unwrap(), "nameserver 10.0.2.3\n");
        }
        fs::write(&file, "\n").unwrap();
        name_server(&file, SERVER).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "\nnameserver 10.0.2.3\n");
        fs::write(&file, "nameserver 9.9.9.9\n").unwrap();
        name_server(&file, SERVER).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "nameserver 9.9.9.9\n");
    }

    #[test]
    fn what_somebody_left_in_its_place_is_neither_followed_nor_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("target");
        fs::write(&target, "").unwrap();
        let file = |name: &str| dir.path().join(name);
        symlink(&target, file("link")).unwrap();
        symlink(file("nowhere"), file("dangling")).unwrap();
        symlink(dir.path(), file("etc")).unwrap();
        fs::create_dir(file("directory")).unwrap();
        rustix::fs::mknodat(CWD, file("pipe"), rustix::fs::FileType::Fifo, Mode::RWXU, 0).unwrap();
        let _listener = UnixListener::bind(file("socket")).unwrap();
        let places =
            ["link", "dangling", "etc/made", "directory", "pipe", "socket", "no/made", "target/made"];
        for name in places {
            name_server(&file(name), SERVER).unwrap();
        }
        assert_eq!(fs::read(&target).unwrap(), b"");
        assert!(!file("nowhere").exists() && !file("made").exists() && !file("no").exists());
    }
}
