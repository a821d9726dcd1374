//! The wish to end an operation.

use std::sync::{Arc, Mutex, PoisonError};

use crate::client::Sender;

/// Lets another thread end an operation, before and after it has a connection.
#[derive(Clone, Debug, Default)]
pub struct CancelToken {
    state: Arc<Mutex<CancelState>>,
}

#[derive(Debug, Default)]
struct CancelState {
    requested: bool,
    sender: Option<Sender>,
}

impl CancelToken {
    /// Returns a token that nobody has used.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks for the end. The reply still comes and says how it ended.
    pub fn cancel(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.requested = true;
        if let Some(sender) = &state.sender {
            // A lost connection is noticed by the thread that reads from it, and the next one gets the wish as well.
            let _lost = sender.cancel();
        }
    }

    /// Returns whether the end was asked for.
    #[must_use]
    pub fn is_requested(&self) -> bool {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).requested
    }

    pub(crate) fn attach(&self, sender: Sender) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.requested {
            let _lost = sender.cancel();
        }
        state.sender = Some(sender);
    }
}
