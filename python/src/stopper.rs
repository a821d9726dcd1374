//! The wish to end a call, whatever it does.

use std::io;

use pyro_api::{CancelToken, Keyboard};

/// Ends the operation of one call.
#[derive(Clone, Debug)]
pub(crate) enum Stopper {
    /// By a word to the daemon, which ends what is under way.
    Cancel(CancelToken),
    /// By leaving the shell, which goes on.
    Leave(Keyboard),
}

impl Stopper {
    /// Returns a stopper for an operation that is canceled.
    pub(crate) fn canceling() -> Self {
        Self::Cancel(CancelToken::new())
    }

    /// Returns a stopper for a client that follows a shell.
    ///
    /// # Errors
    ///
    /// When the process can have no more open files.
    pub(crate) fn leaving() -> io::Result<Self> {
        Keyboard::new().map(Self::Leave)
    }

    /// Asks for the end; it is harmless when there was one already.
    pub(crate) fn stop(&self) {
        match self {
            Self::Cancel(token) => token.cancel(),
            Self::Leave(keyboard) => keyboard.leave(),
        }
    }
}
