//! A terminal whose keys all go to a guest.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};

/// The terminal of this process and how it was found. It is global because also a process that ends at once must put it
/// back.
static FOUND: Mutex<Option<Found>> = Mutex::new(None);

struct Found {
    terminal: OwnedFd,
    modes: Termios,
}

/// Keeps a terminal in raw mode; dropping it puts the terminal back, also in a panic.
#[derive(Debug)]
pub(crate) struct RawMode {
    _private: (),
}

impl RawMode {
    /// Switches a terminal to raw mode: no echo, no line editing, no signals from keys.
    pub(crate) fn enter(terminal: &impl AsFd) -> io::Result<Self> {
        let terminal = terminal.as_fd().try_clone_to_owned()?;
        let modes = tcgetattr(&terminal)?;
        let found = Found { terminal, modes };
        // What is set is dropped, and so undone, whatever happens behind here.
        let raw = Self { _private: () };
        set_raw(FOUND.lock().unwrap_or_else(PoisonError::into_inner).insert(found))?;
        Ok(raw)
    }

    /// Switches to raw mode again, after a shell that stopped and continued this process has put its own modes back.
    pub(crate) fn enter_again() {
        if let Some(found) = &*FOUND.lock().unwrap_or_else(PoisonError::into_inner) {
            // A terminal that is gone is noticed by those who read from it.
            let _gone = set_raw(found);
        }
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        restore();
    }
}

/// Puts the terminal back as it was found, if it was changed.
pub(crate) fn restore() {
    if let Some(Found { terminal, modes }) = FOUND.lock().unwrap_or_else(PoisonError::into_inner).take() {
        // What was printed raw must leave as it is; a terminal that is gone needs nothing.
        let _gone = tcsetattr(&terminal, OptionalActions::Drain, &modes);
    }
}

fn set_raw(Found { terminal, modes }: &Found) -> io::Result<()> {
    let mut raw = modes.clone();
    raw.make_raw();
    Ok(tcsetattr(terminal, OptionalActions::Now, &raw)?)
}
