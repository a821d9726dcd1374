//! Following the log: first what is there, then what comes.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use pyro_core::{Envelope, Seq};
use pyro_store::{ReadError, Reader};
use tokio::sync::broadcast;

/// Events read from the log at once when a follower is behind: bounds the memory of one follower.
const BACKLOG_LEN: usize = 1024;

/// Events kept in memory for followers that begin a little before now, as those of a request do that has just been
/// accepted. Few, because one event can hold a page of typed text.
const RECENT_LEN: usize = 256;

/// The last events, without a gap.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    ring: Mutex<VecDeque<Arc<Envelope>>>,
}

impl Recent {
    /// Takes the next event.
    pub(crate) fn push(&self, envelope: Arc<Envelope>) {
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        if ring.len() == RECENT_LEN {
            ring.pop_front();
        }
        ring.push_back(envelope);
    }

    /// Returns the events from `next` on; none when they begin before what is kept.
    fn from(&self, next: Seq) -> VecDeque<Arc<Envelope>> {
        let ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        match ring.front() {
            Some(first) if first.seq <= next => {
                ring.iter().filter(|envelope| envelope.seq >= next).cloned().collect()
            }
            _ => VecDeque::new(),
        }
    }
}

/// Yields every event from a position on, without gap or duplicate.
#[derive(Debug)]
pub(crate) struct Follower {
    next: Seq,
    live: broadcast::Receiver<Arc<Envelope>>,
    backlog: VecDeque<Arc<Envelope>>,
    recent: Arc<Recent>,
    reader: Reader,
}

impl Follower {
    /// `live` must have been subscribed before the call, so that nothing falls between log and broadcast.
    pub(crate) const fn new(
        from: Seq,
        live: broadcast::Receiver<Arc<Envelope>>,
        recent: Arc<Recent>,
        reader: Reader,
    ) -> Self {
        Self { next: from, live, backlog: VecDeque::new(), recent, reader }
    }

    /// Returns the next event, waiting for one if need be; `None` when the engine has ended.
    ///
    /// Cancel safe: an event is either returned or still to come.
    pub(crate) async fn next(&mut self) -> Result<Option<Arc<Envelope>>, ReadError> {
        loop {
            if let Some(envelope) = self.backlog.pop_front() {
                return Ok(Some(self.advance(envelope)));
            }
            if self.next <= self.reader.head().seq && self.live.is_empty() {
                self.fill().await?;
                continue;
            }
            match self.live.recv().await {
                Ok(envelope) if envelope.seq < self.next => {}
                Ok(envelope) if envelope.seq == self.next => return Ok(Some(self.advance(envelope))),
                Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => self.fill().await?,
                Err(broadcast::error::RecvError::Closed) => return Ok(None),
            }
        }
    }

    fn advance(&mut self, envelope: Arc<Envelope>) -> Arc<Envelope> {
        assert_eq!(envelope.seq, self.next, "a follower sees a dense sequence");
        self.next = envelope.seq.next();
        envelope
    }

    async fn fill(&mut self) -> Result<(), ReadError> {
        self.backlog = self.recent.from(self.next);
        if !self.backlog.is_empty() {
            return Ok(());
        }
        let (reader, from) = (self.reader.clone(), self.next);
        let read = move || reader.read(from).take(BACKLOG_LEN).map(|result| result.map(Arc::new)).collect();
        let envelopes: Result<VecDeque<_>, ReadError> = tokio::task::spawn_blocking(read)
            .await
            .expect("reading the log does not panic and is not aborted");
        self.backlog = envelopes?;
        Ok(())
    }
}
