//! Terminals: pairs of a master, which the agent holds, and a slave, on which a shell runs.

use std::io;
use std::os::fd::OwnedFd;

use pyro_protocol::TerminalSize;
use rustix::process::Pid;
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;
use tokio::io::unix::AsyncFd;

use crate::readiness;

/// Most bytes that a terminal holds unread: the buffer of its line discipline, and the one before it. Linux has 4 and
/// 8 KiB and rounds the second up.
pub(crate) const HELD_MAX: usize = 32 * 1024;

/// A terminal.
#[derive(Debug)]
pub(crate) struct Terminal {
    master: AsyncFd<OwnedFd>,
    /// Held so that the terminal always has a slave. Without one, the master hangs up, which can neither be waited for nor
    /// told from the end of the shell: one that closes its descriptors can open `/dev/tty` and go on.
    slave: OwnedFd,
}

impl Terminal {
    /// Makes a terminal of this size.
    pub(crate) fn open(size: TerminalSize) -> io::Result<Self> {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = rustix::pty::openpt(flags)?;
        rustix::pty::unlockpt(&master)?;
        // Not by its name: the path of a terminal is whatever is mounted there.
        let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags)?;
        let terminal = Self { master: readiness::watch(master)?, slave };
        terminal.resize(size)?;
        Ok(terminal)
    }

    /// Returns another descriptor of the slave, for the shell.
    pub(crate) fn slave(&self) -> io::Result<OwnedFd> {
        self.slave.try_clone()
    }

    /// Returns the side on which the agent reads what the terminal shows.
    pub(crate) const fn master(&self) -> &AsyncFd<OwnedFd> {
        &self.master
    }

    /// Waits until the terminal takes input, then types some of what `bytes` is given to write; returns how much.
    ///
    /// The bytes are asked for only when they can go, so that they need not be held across the wait.
    pub(crate) async fn write(
        &self,
        mut bytes: impl FnMut(&mut dyn FnMut(&[u8]) -> io::Result<usize>) -> io::Result<usize>,
    ) -> io::Result<usize> {
        loop {
            let mut ready = self.master.writable().await?;
            let attempt = ready.try_io(|master| bytes(&mut |bytes| Ok(rustix::io::write(master, bytes)?)));
            if let Ok(result) = attempt {
                return result;
            }
        }
    }

    /// Sets the size, of which the kernel tells the foreground job.
    pub(crate) fn resize(&self, size: TerminalSize) -> io::Result<()> {
        let TerminalSize { columns, rows } = size;
        let size = Winsize { ws_col: columns, ws_row: rows, ws_xpixel: 0, ws_ypixel: 0 };
        Ok(rustix::termios::tcsetwinsize(&self.master, size)?)
    }

    /// Returns the foreground process group; `None` when there is none.
    pub(crate) fn foreground(&self) -> Option<Pid> {
        rustix::termios::tcgetpgrp(&self.master).ok()
    }
}
