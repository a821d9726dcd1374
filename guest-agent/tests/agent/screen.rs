//! A person at a shell: reads what it shows, types into it.

use pyro_protocol::{
    Exited, GuestFrame, HostFrame, INPUT_DATA_MAX, Input, InputProgress, Shell, Stream, TerminalSize,
};

use crate::host::{Agent, Link};

/// What a shell shows when it waits for a command.
pub(crate) const PROMPT: &str = "pyro$ ";

/// Returns a shell with nothing special about it.
pub(crate) fn shell(op: u64) -> Shell {
    let size = TerminalSize { columns: 80, rows: 24 };
    Shell { op, cwd: "/".to_owned(), create_cwd: false, env: vec![], size }
}

/// A connection that follows a shell.
pub(crate) struct Screen {
    pub(crate) link: Link,
    op: u64,
    /// All that was shown.
    pub(crate) shown: Vec<u8>,
    /// How much of it has been looked at.
    seen: usize,
    /// Position of the next byte of input.
    typed: u64,
    pub(crate) progress: InputProgress,
}

impl Screen {
    /// Opens a shell; it need not have prompted yet.
    pub(crate) fn open(agent: &Agent, shell: Shell) -> Self {
        let op = shell.op;
        let mut link = agent.connect();
        link.send(&HostFrame::Shell(shell));
        Self::begun(link, op)
    }

    /// Opens a shell with nothing special about it, and waits for its prompt.
    pub(crate) fn ready(agent: &Agent, op: u64) -> Self {
        let mut screen = Self::open(agent, shell(op));
        screen.until(PROMPT);
        screen
    }

    /// Takes over a connection on which a shell was asked for.
    pub(crate) fn begun(mut link: Link, op: u64) -> Self {
        assert!(matches!(link.expect(), GuestFrame::Started(_)));
        let GuestFrame::InputProgress(progress) = link.expect() else {
            panic!("no progress behind the start")
        };
        Self { link, op, shown: vec![], seen: 0, typed: progress.received, progress }
    }

    /// Follows the shell by another connection, from the byte `offset` of what was shown.
    pub(crate) fn attach(self, agent: &Agent, offset: usize) -> Self {
        let Self { op, mut shown, seen, typed, .. } = self;
        shown.truncate(offset);
        let mut link = agent.attach(op, offset as u64, 0);
        let begun = loop {
            // What the first connection was not sent any more may be next.
            match link.expect() {
                GuestFrame::Started(_) => {}
                GuestFrame::InputProgress(progress) => break progress,
                other => panic!("{other:?} in place of the start"),
            }
        };
        Self { link, op, shown, seen: seen.min(offset), typed, progress: begun }
    }

    /// Types bytes, without a look at how much is held.
    pub(crate) fn type_bytes(&mut self, bytes: &[u8]) {
        for piece in bytes.chunks(INPUT_DATA_MAX) {
            self.type_at(self.typed, piece);
            self.typed += piece.len() as u64;
        }
    }

    /// Sends input at an offset of its own.
    pub(crate) fn type_at(&mut self, offset: u64, bytes: &[u8]) {
        self.link.send(&HostFrame::Input(Input { offset, data: bytes.to_vec().into() }));
    }

    /// Returns the position of the next byte of input.
    pub(crate) const fn typed(&self) -> u64 {
        self.typed
    }

    /// Types a line.
    pub(crate) fn line(&mut self, line: &str) {
        self.type_bytes(format!("{line}\n").as_bytes());
    }

    /// Has the shell run the line, and returns what is shown up to the next prompt.
    pub(crate) fn run(&mut self, line: &str) -> String {
        self.line(line);
        // The line itself is shown, and what switches bracketed paste off.
        self.until("\n");
        self.until(PROMPT)
    }

    /// Waits until this is shown behind what was looked at; returns what is shown up to its end.
    pub(crate) fn until(&mut self, wanted: &str) -> String {
        loop {
            let fresh = &self.shown[self.seen..];
            if let Some(at) = fresh.windows(wanted.len()).position(|window| window == wanted.as_bytes()) {
                let end = at + wanted.len();
                let text = String::from_utf8_lossy(&fresh[..end]).into_owned();
                self.seen += end;
                return text;
            }
            if let Some(exited) = self.step(true) {
                panic!("{exited:?} in place of {wanted:?} behind {:?}", String::from_utf8_lossy(&self.shown));
            }
        }
    }

    /// Waits until the terminal has taken all that was typed.
    pub(crate) fn consumed(&mut self) {
        while self.progress.consumed < self.typed {
            assert_eq!(self.step(false), None);
        }
    }

    /// Waits until the agent has all that was typed.
    pub(crate) fn received(&mut self) {
        while self.progress.received < self.typed {
            assert_eq!(self.step(false), None);
        }
    }

    /// Takes the next frame; returns the exit if it is that.
    pub(crate) fn step(&mut self, acknowledge: bool) -> Option<Exited> {
        match self.link.expect() {
            GuestFrame::Output(output) => {
                assert_eq!(
                    (output.stream, output.offset),
                    (Stream::Stdout, self.shown.len() as u64),
                    "bytes are lost or doubled"
                );
                self.shown.extend_from_slice(&output.data);
                if acknowledge {
                    self.link.ack(Stream::Stdout, self.shown.len() as u64);
                }
                None
            }
            GuestFrame::InputProgress(progress) => {
                let before = std::mem::replace(&mut self.progress, progress);
                assert_ne!(before, progress, "no news");
                assert!(before.received <= progress.received && before.consumed <= progress.consumed);
                None
            }
            GuestFrame::Exited(exited) => {
                assert_eq!((exited.stdout_len, exited.stderr_len), (self.shown.len() as u64, 0));
                Some(exited)
            }
            other => panic!("{other:?} of a shell"),
        }
    }

    /// Takes what is shown up to the exit.
    pub(crate) fn exited(&mut self) -> Exited {
        loop {
            if let Some(exited) = self.step(true) {
                return exited;
            }
        }
    }
}
