//! Signals that ask for the end of a command.

use std::io;
use std::process;
use std::sync::Arc;
use std::sync::OnceLock;

use nix::sys::signal::{SigSet, Signal};
use pyro_api::CancelToken;

/// Waits for SIGINT, SIGTERM and SIGHUP. The first one cancels, the second one ends the process.
#[derive(Debug)]
pub(crate) struct Interrupts {
    token: CancelToken,
    first: Arc<OnceLock<Signal>>,
}

impl Interrupts {
    /// Takes the signals over. Must be called before the process has other threads: they would still die of them.
    pub(crate) fn take_over() -> io::Result<Self> {
        let signals = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().collect::<SigSet>();
        signals.thread_block()?;
        let interrupts = Self { token: CancelToken::new(), first: Arc::default() };
        let (token, first) = (interrupts.token.clone(), Arc::clone(&interrupts.first));
        std::thread::Builder::new().name("interrupts".to_owned()).spawn(move || {
            while let Ok(signal) = signals.wait() {
                if first.set(signal).is_err() {
                    exit_at_once(signal);
                }
                token.cancel();
            }
        })?;
        Ok(interrupts)
    }

    /// Returns what the first signal cancels.
    pub(crate) const fn token(&self) -> &CancelToken {
        &self.token
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
    process::exit(128 + signal as i32)
}
