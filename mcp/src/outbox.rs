//! What waits until a client reads it, and the bound on that: a client that does not read gets no new answers made.

use std::io;

use rmcp::RoleServer;
use rmcp::service::{RxJsonRpcMessage, TxJsonRpcMessage};
use rmcp::transport::Transport;
use rmcp::transport::async_rw::AsyncRwTransport;
use tokio::io::{Stdin, Stdout};
use tokio::sync::watch;

/// Most messages that wait to be read before calls wait as well. The longest is some 100 kB.
const WAITING_MAX: usize = 64;

/// Counts the messages that wait to be read by one client.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outbox {
    waiting: watch::Sender<usize>,
}

/// A message that waits to be read, for as long as this exists.
struct Waiting(Outbox);

impl Outbox {
    /// Returns when there is room for another answer.
    pub(crate) async fn has_room(&self) {
        let mut waiting = self.waiting.subscribe();
        // The sender lives in this.
        let _room = waiting.wait_for(|waiting| *waiting < WAITING_MAX).await;
    }

    fn put(&self) -> Waiting {
        self.waiting.send_modify(|waiting| *waiting += 1);
        Waiting(self.clone())
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.waiting.send_modify(|waiting| *waiting -= 1);
    }
}

/// Standard input and output, with an outbox.
pub(crate) struct Standard {
    inner: AsyncRwTransport<RoleServer, Stdin, Stdout>,
    outbox: Outbox,
}

impl Standard {
    pub(crate) fn new(outbox: Outbox) -> Self {
        let (input, output) = rmcp::transport::stdio();
        Self { inner: AsyncRwTransport::new(input, output), outbox }
    }
}

impl Transport<RoleServer> for Standard {
    type Error = io::Error;

    fn send(
        &mut self,
        message: TxJsonRpcMessage<RoleServer>,
    ) -> impl Future<Output = io::Result<()>> + Send + 'static {
        let waiting = self.outbox.put();
        let sent = self.inner.send(message);
        async move {
            let sent = sent.await;
            drop(waiting);
            sent
        }
    }

    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleServer>> {
        self.inner.receive().await
    }

    async fn close(&mut self) -> io::Result<()> {
        self.inner.close().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Catches a call that goes on making answers nobody reads, and one that waits for ever.
    #[tokio::test]
    async fn there_is_room_when_somebody_reads() {
        let outbox = Outbox::default();
        let mut waiting: Vec<_> = (0..WAITING_MAX).map(|_| outbox.put()).collect();
        let mut room = std::pin::pin!(outbox.has_room());
        tokio::select! {
            biased;
            () = room.as_mut() => panic!("it is full"),
            () = std::future::ready(()) => {}
        }
        waiting.pop();
        room.await;
    }
}
