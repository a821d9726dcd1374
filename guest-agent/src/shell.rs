//! What a shell has beyond a command: a terminal, and input that is typed into it.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::time::Duration;

use pyro_protocol::{INPUT_HELD_MAX, Input, InputProgress, STREAM_RETAINED_MAX, TerminalSize};
use rustix::process::{Pid, Signal};
use tokio::sync::{Notify, watch};
use tokio::task::spawn_local;

use crate::operation::{Operation, Retained};
use crate::terminal::Terminal;

const _: () = assert!(INPUT_HELD_MAX == STREAM_RETAINED_MAX, "held input fits into what holds output");

/// Time between two hang-ups. Bash can miss one that comes while it is about to wait at its prompt, and would then wait for
/// ever.
const HANG_UP_EVERY: Duration = Duration::from_millis(250);

/// Input that cannot be taken. The shell goes on without it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InputError {
    /// Bytes before it are missing.
    #[error("take input: it begins at {offset}, and {received} bytes were received")]
    Gap {
        /// Position of its first byte.
        offset: u64,
        /// Position of the first byte that was not received.
        received: u64,
    },
    /// The host did not look at how much the terminal has taken.
    #[error("take input: more than {INPUT_HELD_MAX} bytes are waiting")]
    Overflow,
}

/// The terminal of a shell, and the input that it has not taken yet.
#[derive(Debug, Default)]
pub(crate) struct Shell {
    /// Starts at what the terminal has taken and ends at what was received.
    input: RefCell<Retained>,
    received: Notify,
    /// Absent before the shell runs and after its end.
    process: RefCell<Option<Process>>,
    is_hung_up: Cell<bool>,
    /// How far the input had come at the end of the shell.
    ended: Cell<Option<InputProgress>>,
}

/// The process that runs.
#[derive(Debug)]
struct Process {
    terminal: Rc<Terminal>,
    /// Its process group; `None` when its number was never told.
    group: Option<Pid>,
}

impl Shell {
    /// Says that the shell runs, with this process id, or zero when it is not known.
    pub(crate) fn begin(&self, terminal: Rc<Terminal>, pid: u32) {
        let group = Pid::from_raw(pid.cast_signed());
        *self.process.borrow_mut() = Some(Process { terminal, group });
    }

    /// Says that the shell has ended, or that it never ran. From now on its process id may be that of another.
    pub(crate) fn end(&self) {
        self.ended.set(Some(self.progress()));
        self.process.take();
        self.input.take();
    }

    /// Takes what is new of the input. Without effect when the shell has ended.
    ///
    /// # Errors
    ///
    /// When bytes are missing before it, or too many would wait. Nothing is taken then.
    pub(crate) fn take(&self, input: &Input) -> Result<(), InputError> {
        if self.ended.get().is_some() {
            return Ok(());
        }
        let mut held = self.input.borrow_mut();
        let (offset, received) = (input.offset, held.end());
        let known = received.checked_sub(offset).ok_or(InputError::Gap { offset, received })?;
        let known = usize::try_from(known).unwrap_or(usize::MAX);
        let fresh = input.data.get(known..).unwrap_or_default();
        if fresh.len() > INPUT_HELD_MAX - held.len() {
            return Err(InputError::Overflow);
        }
        held.append(fresh);
        self.received.notify_waiters();
        Ok(())
    }

    /// Returns how far the input has come, or had come when the shell ended.
    pub(crate) fn progress(&self) -> InputProgress {
        let input = self.input.borrow();
        let now = InputProgress { received: input.end(), consumed: input.start() };
        self.ended.get().unwrap_or(now)
    }

    /// Sets the size of the terminal. Without effect when the shell has ended.
    pub(crate) fn resize(&self, size: TerminalSize) {
        if let Some(process) = &*self.process.borrow() {
            // A terminal takes any size.
            let _set = process.terminal.resize(size);
        }
    }

    /// Sends a signal to the foreground job. Without effect when the shell has ended.
    pub(crate) fn signal(&self, signal: Signal) {
        if let Some(process) = &*self.process.borrow()
            && let Some(job) = process.terminal.foreground().or(process.group)
        {
            send(job, signal);
        }
    }

    /// Tells the shell and the foreground job that their terminal is gone, and the shell again until it ends. Without
    /// effect when it has ended.
    pub(crate) fn hang_up(self: &Rc<Self>) {
        let process = self.process.borrow();
        let Some(process) = process.as_ref().filter(|_| !self.is_hung_up.replace(true)) else { return };
        if let Some(job) = process.terminal.foreground().filter(|job| Some(*job) != process.group) {
            send_hang_up(job);
        }
        let shell = Rc::clone(self);
        spawn_local(async move {
            while let Some(group) = shell.group() {
                send_hang_up(group);
                tokio::time::sleep(HANG_UP_EVERY).await;
            }
        });
    }

    /// Returns the process group of the shell; `None` before it runs, after its end, or when it is not known.
    fn group(&self) -> Option<Pid> {
        self.process.borrow().as_ref().and_then(|process| process.group)
    }

    /// Types what is received, as fast as the terminal takes it, until the terminal fails.
    async fn type_all(&self, operation: &Operation, terminal: &Terminal) -> io::Result<()> {
        loop {
            let received = self.received.notified();
            if self.input.borrow().len() == 0 {
                received.await;
                continue;
            }
            let typed = terminal.write(|write| {
                let input = self.input.borrow();
                write(input.slices(input.start(), usize::MAX)[0])
            });
            let typed = typed.await?;
            let mut input = self.input.borrow_mut();
            let consumed = input.start() + typed as u64;
            input.release(consumed);
            input.shrink();
            operation.advanced();
        }
    }
}

/// Types the input of a shell until its end.
pub(crate) async fn type_input(
    operation: Rc<Operation>,
    terminal: Rc<Terminal>,
    mut exited: watch::Receiver<bool>,
) {
    let Some(shell) = operation.shell() else { return };
    tokio::select! {
        biased;
        _ = exited.wait_for(|exited| *exited) => {}
        // Input that cannot be typed waits for the end.
        _failed = shell.type_all(&operation, &terminal) => {}
    }
}

fn send_hang_up(group: Pid) {
    send(group, Signal::HUP);
    // A stopped process gets no other signal before it goes on.
    send(group, Signal::CONT);
}

fn send(group: Pid, signal: Signal) {
    // It may have ended meanwhile.
    let _ended = rustix::process::kill_process_group(group, signal);
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn input(offset: u64, data: &[u8]) -> Input {
        Input { offset, data: Bytes::copy_from_slice(data) }
    }

    fn held(shell: &Shell) -> Vec<u8> {
        let input = shell.input.borrow();
        input.slices(input.start(), usize::MAX).concat()
    }

    #[test]
    fn each_byte_is_taken_once() {
        let shell = Shell::default();
        for (offset, data) in
            [(0, &b"abc"[..]), (0, b"abc"), (1, b"bcde"), (2, b"c"), (5, b"f"), (0, b"abcdefg")]
        {
            shell.take(&input(offset, data)).unwrap();
        }
        assert_eq!(held(&shell), b"abcdefg");
        assert_eq!(shell.take(&input(8, b"x")), Err(InputError::Gap { offset: 8, received: 7 }));
        assert_eq!(shell.progress(), InputProgress { received: 7, consumed: 0 });
    }

    /// Whatever the host sends, the memory of the guest is bounded.
    #[test]
    fn more_input_than_is_held_is_refused_whole() {
        let shell = Shell::default();
        let piece = vec![7; INPUT_HELD_MAX / 4];
        for offset in (0..INPUT_HELD_MAX as u64).step_by(piece.len()) {
            shell.take(&input(offset, &piece)).unwrap();
        }
        let full = INPUT_HELD_MAX as u64;
        assert_eq!(shell.take(&input(full - 1, b"ab")), Err(InputError::Overflow));
        assert_eq!(shell.progress().received, full);
        shell.take(&input(full - 1, b"a")).unwrap();
    }

    #[test]
    fn an_ended_shell_takes_nothing() {
        let shell = Shell::default();
        shell.take(&input(0, b"abc")).unwrap();
        shell.end();
        shell.take(&input(9, b"x")).unwrap();
        assert_eq!(held(&shell), b"");
        assert_eq!(shell.progress(), InputProgress { received: 3, consumed: 0 });
    }
}
