//! Signals that ask for the end of a command.

use std::io;
use std::process;
use std::sync::{Arc, OnceLock};

use nix::sys::signal::{SigSet, Signal};
use pyro_api::{CancelToken, Keyboard};

use crate::raw_mode;

/// Waits for SIGINT, SIGTERM and SIGHUP. The first one asks the command to end, the second one ends the process.
#[derive(Debug)]
pub(crate) struct Interrupts {
    first: Arc<OnceLock<Signal>>,
}

impl Interrupts {
    /// Takes the signals over to cancel an operation. Must be called before the process has other threads: they would
    /// still die of them.
    pub(crate) fn canceling(token: &CancelToken) -> io::Result<Self> {
        let token = token.clone();
        Self::take_over(move || token.cancel())
    }

    /// Takes the signals over to leave a shell. The same holds for threads.
    pub(crate) fn leaving(keyboard: &Keyboard) -> io::Result<Self> {
        let keyboard = keyboard.clone();
        Self::take_over(move || keyboard.leave())
    }

    fn take_over(ask_for_the_end: impl Fn() + Send + 'static) -> io::Result<Self> {
        let signals = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().collect::<SigSet>();
        signals.thread_block()?;
        let interrupts = Self { first: Arc::default() };
        let first = Arc::clone(&interrupts.first);
        std::thread::Builder::new().name("interrupts".to_owned()).spawn(move || {
            while let Ok(signal) = signals.wait() {
                if first.set(signal).is_err() {
                    exit_at_once(signal);
                }
                ask_for_the_end();
            }
        })?;
        Ok(interrupts)
    }

    /// Returns the first signal; `None` when none has come.
    pub(crate) fn first(&self) -> Option<Signal> {
        self.first.get().copied()
    }
}

#[expect(
    clippy::exit,
    reason = "whoever asks twice does not want to wait for the cleanup; the daemon does it"
)]
fn exit_at_once(signal: Signal) {
    raw_mode::restore();
    process::exit(128 + signal as i32)
}
