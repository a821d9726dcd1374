//! Clients that must get every byte of a command: what they have not taken of a stream is not dropped.
//!
//! A client that is slow holds its own command back, as the reader of a pipe does. Those who only look on hold nothing.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

/// The positions up to which clients have taken a stream.
#[derive(Debug)]
pub(crate) struct Holds {
    clients: Mutex<Clients>,
    /// Everything before it may go.
    free: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Clients {
    next: u64,
    positions: HashMap<u64, u64>,
    /// A client is about to come.
    awaited: bool,
}

impl Clients {
    fn free(&self) -> u64 {
        if self.awaited { 0 } else { self.positions.values().copied().min().unwrap_or(u64::MAX) }
    }
}

impl Default for Holds {
    fn default() -> Self {
        Self { clients: Mutex::default(), free: watch::channel(u64::MAX).0 }
    }
}

impl Holds {
    /// Keeps everything until the first client comes, unless one is here, or until [`Self::await_no_longer`].
    pub(crate) fn await_client(&self) {
        self.change(|clients| clients.awaited = clients.positions.is_empty());
    }

    /// The client that was awaited does not come.
    pub(crate) fn await_no_longer(&self) {
        self.change(|clients| clients.awaited = false);
    }

    /// Tells whether a client is still awaited.
    pub(crate) fn is_awaited(&self) -> bool {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner).awaited
    }

    /// Returns the position before which nobody needs anything any more; [`u64::MAX`] when nobody holds anything.
    pub(crate) fn free(&self) -> u64 {
        *self.free.borrow()
    }

    /// Returns when everything before a position may go. Cancel safe.
    pub(crate) async fn freed(&self, position: u64) {
        let mut free = self.free.subscribe();
        // The sender lives in `self`.
        let _open = free.wait_for(|free| *free >= position).await;
    }

    fn change(&self, change: impl FnOnce(&mut Clients)) {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut clients);
        let now = clients.free();
        self.free.send_if_modified(|free| std::mem::replace(free, now) != now);
    }
}

/// What one client holds of a stream; dropping it lets go.
#[derive(Debug)]
pub(crate) struct Hold {
    holds: Arc<Holds>,
    client: u64,
}

impl Hold {
    pub(crate) fn new(holds: &Arc<Holds>, position: u64) -> Self {
        let mut client = 0;
        holds.change(|clients| {
            client = clients.next;
            clients.next += 1;
            clients.positions.insert(client, position);
            clients.awaited = false;
        });
        Self { holds: Arc::clone(holds), client }
    }

    /// Takes note that the client has everything before a position.
    pub(crate) fn advance(&self, position: u64) {
        self.holds.change(|clients| {
            clients.positions.insert(self.client, position);
        });
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.holds.change(|clients| {
            clients.positions.remove(&self.client);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Catches bytes that go while a client needs them, and ones that stay when nobody does.
    #[tokio::test]
    async fn the_slowest_client_holds() {
        let holds = Arc::new(Holds::default());
        assert_eq!(holds.free(), u64::MAX);
        let first = Hold::new(&holds, 10);
        let second = Hold::new(&holds, 5);
        assert_eq!(holds.free(), 5);
        second.advance(20);
        assert_eq!(holds.free(), 10);
        let waiting = tokio::spawn({
            let holds = Arc::clone(&holds);
            async move { holds.freed(20).await }
        });
        drop(first);
        waiting.await.unwrap();
        assert_eq!(holds.free(), 20);
        drop(second);
        assert_eq!(holds.free(), u64::MAX);
    }

    /// Catches output that is dropped between the start of a command and the first look of its client.
    #[test]
    fn a_client_that_is_awaited_finds_everything() {
        let holds = Arc::new(Holds::default());
        holds.await_client();
        assert_eq!(holds.free(), 0);
        let client = Hold::new(&holds, 7);
        holds.await_client();
        assert_eq!(holds.free(), 7, "it is here already");
        drop(client);
        assert_eq!(holds.free(), u64::MAX);
        holds.await_client();
        holds.await_no_longer();
        assert_eq!(holds.free(), u64::MAX);
    }
}
