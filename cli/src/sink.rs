//! Standard output and standard error, written without a buffer so that what was written has been seen.

use std::fs::File;
use std::io::{self, IsTerminal as _, Write as _};
use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, poll};

use crate::terminal_filter::TerminalFilter;

/// One of the two output streams of this process.
#[derive(Debug)]
pub(crate) struct Sink {
    file: File,
    terminal: bool,
    filter: Option<TerminalFilter>,
    shown: Vec<u8>,
    line_open: bool,
}

impl Sink {
    pub(crate) fn stdout() -> io::Result<Self> {
        Self::new(&io::stdout())
    }

    pub(crate) fn stderr() -> io::Result<Self> {
        Self::new(&io::stderr())
    }

    fn new(stream: &impl AsFd) -> io::Result<Self> {
        // A handle of its own: the one in the standard library buffers lines.
        let file = File::from(stream.as_fd().try_clone_to_owned()?);
        let terminal = file.is_terminal();
        let filter = terminal.then(TerminalFilter::default);
        Ok(Self { file, terminal, filter, shown: Vec::new(), line_open: false })
    }

    pub(crate) const fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Passes on what guests print as it is, whatever it does to a terminal.
    pub(crate) fn raw(&mut self) {
        self.filter = None;
    }

    /// Writes text of our own, in which every word of others is sanitized.
    pub(crate) fn own(&mut self, text: &str) -> io::Result<()> {
        self.write(text.as_bytes())
    }

    /// Writes a line of our own below what a guest printed on `other`, which it ends.
    pub(crate) fn own_below(&mut self, other: &mut Self, text: &str) -> io::Result<()> {
        other.end_guest()?;
        // Into a file or pipe, only the guest's own bytes go.
        if self.terminal && other.has_open_line() {
            self.own("\n")?;
        }
        self.own(text)
    }

    /// Writes what a guest printed: byte for byte, or filtered when people look at it directly.
    pub(crate) fn guest(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(filter) = &mut self.filter else { return self.write(bytes) };
        let mut shown = std::mem::take(&mut self.shown);
        shown.clear();
        filter.push(bytes, &mut shown);
        let result = self.write(&shown);
        self.shown = shown;
        result
    }

    /// Ends what a guest printed.
    pub(crate) fn end_guest(&mut self) -> io::Result<()> {
        let mut shown = Vec::new();
        if let Some(filter) = &mut self.filter {
            filter.finish(&mut shown);
        }
        // Colours that are switched off do not open a line.
        let line_open = self.line_open;
        self.write(&shown)?;
        self.line_open = line_open;
        Ok(())
    }

    /// Tells whether the cursor of a terminal is behind text without a line end.
    pub(crate) const fn has_open_line(&self) -> bool {
        self.terminal && self.line_open
    }

    fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        if let Some(last) = bytes.last() {
            self.line_open = *last != b'\n';
        }
        while !bytes.is_empty() {
            match self.file.write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(len) => bytes = &bytes[len..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Somebody who shares the pipe or terminal made it non-blocking.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => wait_writable(&self.file)?,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

fn wait_writable(file: &File) -> io::Result<()> {
    loop {
        match poll(&mut [PollFd::new(file, PollFlags::OUT)], None) {
            Ok(_) => return Ok(()),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
