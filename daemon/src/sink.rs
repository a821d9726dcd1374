//! One output stream on its way from a guest into its file, shown to those who watch it.
//!
//! Bytes are acknowledged to the guest once they are in the file and the file is within its bound: from then on they
//! survive the daemon. They are made durable before the end of their command or shell is recorded, so the record never
//! names bytes that a power cut can take.
//!
//! ```text
//! store --> within the bound ------------------------------> acknowledge
//!       \-> over it --> nobody needs the oldest --> drop --> acknowledge
//!                   \-> a client has not taken it -- waits --^   the guest's buffer fills, and the command waits
//! ```

use std::sync::Arc;
use std::time::Duration;

use pyro_core::{StreamSummary, WorkspaceId};
use pyro_store::outputs::{OutputError, OutputWriter, StreamId};
use tokio::time::{Instant, sleep, sleep_until};

use crate::clock;
use crate::context::Context;
use crate::retention::{self, Dropping, Due, Retention, gaps_in, space_of};
use crate::streams::LiveStream;

/// How much of what was sent to a client it may not have received, in bytes: what its socket holds, and a piece.
const IN_FLIGHT: u64 = 512 * 1024;

/// How long a client may take to come to its command, or to come back after the daemon was restarted.
const CLIENT_DEADLINE: Duration = Duration::from_secs(10);

/// How far a stream may grow over its bound for a slow client once its end is wanted, in bytes: as much as its guest and
/// its pipe can hold, and more.
const SPILL: u64 = 8 * 1024 * 1024;

/// How long to wait for a log that could not be written.
const LOG_PAUSE: Duration = Duration::from_secs(1);

/// Whether a command may wait for its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// It may: that is what a pipe does.
    OfClient,
    /// Its end is wanted, and comes behind its last output.
    Ending,
}

/// Why bytes are not acknowledged.
#[derive(Clone, Copy, Debug)]
enum Obstacle {
    /// A client has not taken everything before this position.
    Client { needed: u64 },
    /// The log takes no event now.
    Log,
}

/// The only writer of a stream.
pub(crate) struct Sink {
    context: Arc<Context>,
    workspace: WorkspaceId,
    stream: StreamId,
    live: Arc<LiveStream>,
    /// `None` as long as nothing was written.
    writer: Option<OutputWriter>,
    /// The space that is counted for it, in bytes.
    space: u64,
    /// Position behind the bytes that are stored and not acknowledged.
    owed: Option<u64>,
    obstacle: Option<Obstacle>,
    client_due: Instant,
}

impl Sink {
    pub(crate) fn new(context: &Arc<Context>, workspace: WorkspaceId, stream: StreamId) -> Self {
        let live = context.streams.of(workspace, stream);
        live.learn_gaps(&gaps_in(&context.engine.state(), workspace, stream));
        let client_due = Instant::now() + CLIENT_DEADLINE;
        let context = Arc::clone(context);
        let (writer, space, owed, obstacle) = (None, 0, None, None);
        Self { context, workspace, stream, live, writer, space, owed, obstacle, client_due }
    }

    /// Keeps everything for a client that is about to come.
    pub(crate) fn await_client(&self) {
        self.live.holds().await_client();
    }

    /// Opens what an earlier daemon has stored and returns its length; 0 when there is nothing. The guest may not know that
    /// it is stored: [`Self::settle`] says when to tell it.
    pub(crate) fn resume(&mut self) -> Result<u64, OutputError> {
        if self.writer.is_none() {
            let file = self.context.outputs.read(self.workspace, self.stream)?;
            if file.len_bytes()? == 0 {
                return Ok(0);
            }
            tokio::task::block_in_place(|| self.open())?;
        }
        self.owed = Some(self.len_bytes());
        Ok(self.len_bytes())
    }

    /// Returns how many bytes were stored or resumed.
    pub(crate) fn len_bytes(&self) -> u64 {
        self.writer.as_ref().map_or(0, OutputWriter::len_bytes)
    }

    /// Puts bytes into the file. [`Self::settle`] says when to acknowledge them.
    pub(crate) fn store(&mut self, offset: u64, data: &[u8]) -> Result<(), OutputError> {
        // The page cache takes them at once; the disk is waited for at the end.
        tokio::task::block_in_place(|| {
            if self.writer.is_none() {
                // An earlier daemon may have made the file and died before the first byte.
                self.open()?;
            }
            let Some(writer) = &mut self.writer else { return Ok(()) };
            let len = writer.append(offset, data, clock::now())?;
            self.live.grow_to(len);
            self.context.mounts.stream_grew(self.workspace, self.stream);
            self.owed = Some(len);
            self.count();
            Ok(())
        })
    }

    /// Makes room if need be, and returns the position up to which the guest can forget; `None` when there is none to tell
    /// of, or not yet. [`Self::unblocked`] says when to call it again.
    pub(crate) async fn settle(&mut self, pace: Pace) -> Option<u64> {
        self.owed?;
        self.obstacle = self.make_room(pace).await.err();
        if self.obstacle.is_some() { None } else { self.owed.take() }
    }

    /// Returns when it is worth while to settle again; never when everything is settled. Cancel safe.
    pub(crate) async fn unblocked(&self) {
        match self.obstacle {
            None => std::future::pending().await,
            Some(Obstacle::Log) => sleep(LOG_PAUSE).await,
            Some(Obstacle::Client { needed }) => {
                let holds = self.live.holds();
                loop {
                    tokio::select! {
                        () = holds.freed(needed) => return,
                        () = sleep_until(self.client_due), if holds.is_awaited() => holds.await_no_longer(),
                    }
                }
            }
        }
    }

    /// Makes the stream durable; one that nobody wrote to is an empty one.
    pub(crate) fn finish(&mut self) -> Result<StreamSummary, OutputError> {
        match self.writer.take() {
            Some(writer) => tokio::task::block_in_place(|| writer.finish(&self.live.gaps())),
            None => Ok(StreamSummary { len_bytes: 0, digest: *blake3::hash(b"").as_bytes() }),
        }
    }

    fn open(&mut self) -> Result<(), OutputError> {
        let Self { context, workspace, stream, live, .. } = self;
        context.retention.begin(context, *workspace)?;
        let writer = context.outputs.resume(*workspace, *stream, &live.gaps())?;
        live.set_file(context.outputs.read(*workspace, *stream)?);
        live.grow_to(writer.len_bytes());
        self.writer = Some(writer);
        self.space = space_of(self.kept_bytes());
        Ok(())
    }

    fn kept_bytes(&self) -> u64 {
        let len = self.len_bytes();
        len - self.live.gaps().dropped_in(0..len)
    }

    fn count(&mut self) {
        let now = space_of(self.kept_bytes());
        let before = std::mem::replace(&mut self.space, now);
        self.context.retention.count(self.workspace, before, now);
    }

    /// Drops what must go; an error says what stands in the way.
    async fn make_room(&mut self, pace: Pace) -> Result<(), Obstacle> {
        let (context, len) = (Arc::clone(&self.context), self.len_bytes());
        loop {
            let gaps = self.live.gaps();
            let next = Retention::part_to_drop(&context, self.workspace, len, &gaps).await;
            let Some(Due { part, surplus, policy }) = next else { return Ok(()) };
            let needed = part.end + IN_FLIGHT;
            if self.live.holds().free() < needed {
                match pace {
                    Pace::OfClient => return Err(Obstacle::Client { needed }),
                    Pace::Ending if surplus < SPILL => return Ok(()),
                    Pace::Ending => {}
                }
            }
            match retention::drop_part(&context, self.workspace, self.stream, part, policy).await {
                Dropping::Done => self.count(),
                Dropping::Needless => return Ok(()),
                Dropping::Failed => return Err(Obstacle::Log),
            }
        }
    }
}

/// Returns what an earlier daemon stored of a stream whose guest is gone; `None` when that is nothing or cannot be read.
pub(crate) fn stored(context: &Context, workspace: WorkspaceId, stream: StreamId) -> Option<StreamSummary> {
    let gaps = gaps_in(&context.engine.state(), workspace, stream);
    let summary = tokio::task::block_in_place(|| context.outputs.summary(workspace, stream, &gaps));
    summary.unwrap_or_else(|error| {
        tracing::error!(%workspace, %stream, %error, "failed to read stored output");
        None
    })
}
