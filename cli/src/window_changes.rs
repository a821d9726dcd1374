//! The size of the terminal, followed.

use std::io;
use std::os::fd::AsFd;

use nix::sys::signal::{SigSet, Signal};
use pyro_api::{Keyboard, WindowSize};
use rustix::termios::tcgetwinsize;

use crate::raw_mode::RawMode;

/// Signals that tell of another size, or of a time when nobody listened.
#[derive(Debug)]
pub(crate) struct WindowChanges {
    signals: SigSet,
}

impl WindowChanges {
    /// Takes the signals over. Must be called before the process has other threads: they would get them and do nothing.
    pub(crate) fn take_over() -> io::Result<Self> {
        let signals = [Signal::SIGWINCH, Signal::SIGCONT].into_iter().collect::<SigSet>();
        signals.thread_block()?;
        Ok(Self { signals })
    }

    /// Tells the keyboard each size from now on.
    pub(crate) fn tell(self, keyboard: &Keyboard) -> io::Result<()> {
        let keyboard = keyboard.clone();
        std::thread::Builder::new().name("window".to_owned()).spawn(move || {
            while let Ok(signal) = self.signals.wait() {
                if signal == Signal::SIGCONT {
                    RawMode::enter_again();
                }
                if let Some(size) = window_size() {
                    keyboard.resize(size);
                }
            }
        })?;
        Ok(())
    }
}

/// Returns the size of the terminal that this process prints to, or else reads from; `None` when there is none or it
/// has no size.
pub(crate) fn window_size() -> Option<WindowSize> {
    size_of(&io::stdout()).or_else(|| size_of(&io::stdin()))
}

fn size_of(terminal: &impl AsFd) -> Option<WindowSize> {
    let size = tcgetwinsize(terminal).ok()?;
    (size.ws_col > 0 && size.ws_row > 0).then_some(WindowSize { cols: size.ws_col, rows: size.ws_row })
}
