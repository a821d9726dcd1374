//! Fills the index behind the writer. Nobody who appends waits for it, unless it falls far behind.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use pyro_core::{Cause, Envelope, Seq};

use crate::frame::Frame;
use crate::frames::Frames;
use crate::index::{Additions, Position, block_of};
use crate::reader::{self, ReadError};
use crate::shared::{Head, Shared};

/// How long records gather before they are indexed: bounds how much a lookup must read beyond the index.
const GATHER: Duration = Duration::from_millis(20);

/// Records that are added in one step, give or take a batch.
const STEP_RECORDS: u64 = 8192;

/// The thread that keeps the index up to date.
#[derive(Debug)]
pub(crate) struct Indexer {
    thread: JoinHandle<()>,
}

impl Indexer {
    pub(crate) fn spawn(shared: &Arc<Shared>) -> io::Result<Self> {
        let shared = Arc::clone(shared);
        let thread =
            std::thread::Builder::new().name("log-indexer".to_owned()).spawn(move || run(&shared))?;
        Ok(Self { thread })
    }

    /// Lets the thread finish what there is and waits for it.
    pub(crate) fn end(self, shared: &Shared) {
        shared.close();
        // A thread that panicked leaves an index that ends earlier; the next open catches up.
        drop(self.thread.join());
    }
}

fn run(shared: &Shared) {
    let _ended = Ended(shared);
    while shared.wait_for_work(GATHER) {
        if catch_up_with(shared).is_err() {
            // The log is damaged where the index ends. Readers that get there are told; lookups scan.
            shared.index.distrust();
        }
    }
}

/// Adds what is not indexed yet, also when some of it is compacted meanwhile.
fn catch_up_with(shared: &Shared) -> Result<(), ReadError> {
    loop {
        match catch_up(shared).map_err(|error| shared.explain(error)) {
            Err(ReadError::Compacted { .. }) => {}
            caught_up => return caught_up,
        }
    }
}

/// However the thread ends, the writer must not wait for it any more.
struct Ended<'a>(&'a Shared);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.indexer_ended();
    }
}

/// Adds to the index what it does not have yet. An index that fails is given up, which is no error.
pub(crate) fn catch_up(shared: &Shared) -> Result<(), ReadError> {
    let committed = shared.committed();
    let Ok(mut watermark) = shared.index.watermark() else {
        shared.forget_requests(committed.head.seq);
        return Ok(());
    };
    if watermark.seq >= committed.head.seq {
        return Ok(());
    }
    // What was compacted is not looked up.
    let first = watermark.seq.next().max(committed.first());
    if first > committed.head.seq {
        return Ok(());
    }
    let mut frames = Frames::open(shared, &committed, first, committed.head.seq)?;
    let mut additions = Additions::default();
    let mut batch_first = first;
    while let Some(frame) = frames.next()? {
        note(&mut additions, &frame, batch_first, &reader::envelope(shared, &frame)?);
        if !frame.last_of_batch {
            continue;
        }
        batch_first = frame.seq.next();
        if frame.seq.0 - watermark.seq.0.max(first.0 - 1) >= STEP_RECORDS || frame.seq == committed.head.seq {
            watermark = Head::new(frame.seq, frame.hash);
            if shared.index.add(&std::mem::take(&mut additions), watermark).is_err() {
                shared.forget_requests(committed.head.seq);
                return Ok(());
            }
            shared.forget_requests(watermark.seq);
        }
    }
    Ok(())
}

fn note(additions: &mut Additions, frame: &Frame<'_>, batch_first: Seq, envelope: &Envelope) {
    if block_of(frame.seq) == frame.seq {
        additions.positions.push(Position { seq: frame.seq, segment: frame.segment, offset: frame.offset });
    }
    if let Some(workspace) = envelope.event.workspace() {
        additions.add_workspace(workspace, frame.seq);
    }
    if let Cause::Request(request) = envelope.cause
        && additions.requests.last() != Some(&(request, batch_first))
    {
        additions.requests.push((request, batch_first));
    }
}
