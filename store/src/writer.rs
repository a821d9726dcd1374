//! The one thread that writes: group commit.
//!
//! ```text
//! queue -> drain -> seal -> write -> fdatasync -> publish to readers -> anchor -> answer the callers
//! ```

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender};

use pyro_core::{RequestId, Seq};

use crate::anchor::Anchor;
use crate::disk::{self, DiskFile};
use crate::files;
use crate::frame;
use crate::log::AppendError;
use crate::segment::{FIRST_RECORD, Header, Segment};
use crate::shared::{Head, Shared};

/// Most batches that one `fdatasync` makes durable.
const GROUP_BATCHES_MAX: usize = 1024;

/// Most bytes that are written at once, except for a single batch that is longer.
const GROUP_LEN_MAX: usize = 4 << 20;

/// A batch on its way to the disk.
#[derive(Debug)]
pub(crate) struct Submission {
    /// Its records, complete but for their places.
    pub(crate) frames: Vec<u8>,
    pub(crate) requests: Vec<RequestId>,
    /// Gets the number of its first record.
    pub(crate) reply: SyncSender<Result<Seq, AppendError>>,
}

/// What the writer is asked for.
#[derive(Debug)]
pub(crate) enum Order {
    /// Make a batch durable.
    Append(Submission),
    /// Begin a new segment.
    Roll(SyncSender<Result<(), AppendError>>),
}

#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) shared: Arc<Shared>,
    pub(crate) anchor: Anchor,
    pub(crate) segment: Segment,
    pub(crate) file: Box<dyn DiskFile>,
    /// Length of the segment, in bytes; what may stand after it is not part of the log.
    pub(crate) len: u64,
    pub(crate) head: Head,
    pub(crate) segment_len_max: u64,
    /// The file of the next segment is there, but perhaps not durable. It says where this segment ends, so nothing is
    /// written before it is complete.
    pub(crate) half_rolled: bool,
    /// The error after which nothing is appended any more.
    pub(crate) poison: Option<Arc<io::Error>>,
}

impl Writer {
    /// Serves the queue until the last handle of the log is gone.
    pub(crate) fn run(mut self, queue: &Receiver<Order>) {
        let mut group = Vec::new();
        let mut buffer = Vec::new();
        while let Ok(order) = queue.recv() {
            let mut rolls = Vec::new();
            let mut len = take(order, &mut group, &mut rolls);
            while rolls.is_empty() && group.len() < GROUP_BATCHES_MAX && len < GROUP_LEN_MAX {
                let Ok(order) = queue.try_recv() else { break };
                len += take(order, &mut group, &mut rolls);
            }
            if !group.is_empty() {
                let outcome = self.commit(&mut group, &mut buffer);
                answer(&mut group, &outcome);
            }
            for reply in rolls {
                // As for a batch: who asked may be gone.
                drop(reply.send(self.roll_early()));
            }
        }
        if let Err(error) = self.anchor.sync() {
            // The anchor is a lower bound whether this works or not.
            drop(error);
        }
    }

    /// Makes a group durable and visible. Returns the first number of each batch.
    fn commit(&mut self, group: &mut [Submission], buffer: &mut Vec<u8>) -> Result<Vec<Seq>, AppendError> {
        if let Some(error) = &self.poison {
            return Err(AppendError::Poisoned { source: Arc::clone(error) });
        }
        self.shared.wait_for_room();
        if self.half_rolled || (self.len >= self.segment_len_max && self.len > FIRST_RECORD) {
            self.roll()?;
        }
        buffer.clear();
        let mut head = self.head;
        let mut firsts = Vec::with_capacity(group.len());
        for submission in &mut *group {
            firsts.push(head.seq.next());
            let (seq, hash) = frame::seal(&mut submission.frames, head.seq, head.hash);
            head = Head::new(seq, hash);
            buffer.extend_from_slice(&submission.frames);
        }
        self.write(buffer)?;
        self.head = head;
        let requests = firsts.iter().zip(&*group);
        let requests = requests
            .flat_map(|(first, submission)| submission.requests.iter().map(|request| (*request, *first)));
        self.shared.publish(head, requests);
        if let Err(error) = self.anchor.set(head)
            && !files::is_full(&error)
        {
            // This group is durable; a disk that fails here is not trusted with another one.
            self.poison = Some(Arc::new(error));
        }
        Ok(firsts)
    }

    /// Writes and syncs; on failure the segment is brought back to its last good length.
    fn write(&mut self, bytes: &[u8]) -> Result<(), AppendError> {
        if let Err(error) = disk::write_all_at(self.file.as_ref(), bytes, self.len) {
            let truncated = self.file.set_len(self.len);
            return Err(match truncated {
                Ok(()) => self.refuse(error),
                Err(_) => self.poison(error),
            });
        }
        if let Err(error) = self.file.sync_data() {
            // The kernel may have dropped the pages and forgotten the error: a second sync would prove nothing.
            // When the truncation fails too, the rest is a torn tail for the next open.
            drop(self.file.set_len(self.len));
            return Err(self.poison(error));
        }
        self.len += files::len_u64(bytes.len());
        Ok(())
    }

    /// Begins a new segment although the present one is not full.
    fn roll_early(&mut self) -> Result<(), AppendError> {
        match &self.poison {
            Some(error) => Err(AppendError::Poisoned { source: Arc::clone(error) }),
            None if self.len == FIRST_RECORD => Ok(()),
            None => self.roll(),
        }
    }

    /// Begins a new segment. The log is as it was when this fails.
    fn roll(&mut self) -> Result<(), AppendError> {
        // A write that failed was cut off again, but not durably: what a power cut brings back of it is a torn tail in the
        // last segment, and damage in any other.
        self.file.sync_data().map_err(|error| self.poison(error))?;
        self.begin_segment().map_err(|error| self.refuse(error))
    }

    fn begin_segment(&mut self) -> io::Result<()> {
        // With the anchor durable, it can never be older than the last segment.
        self.anchor.sync()?;
        let segment = Segment::new(&self.shared.dir.path, self.head.seq.next());
        let header = Header {
            first: segment.first,
            previous_first: self.segment.first,
            previous_len: self.len,
            previous_hash: self.head.hash,
        };
        let created = segment.create(&self.shared.dir, &header);
        if created.is_err() {
            let found = self.shared.dir.disk.open(&segment.path);
            self.half_rolled = !matches!(found, Err(error) if error.kind() == io::ErrorKind::NotFound);
        }
        self.file = created?;
        self.shared.add_segment(segment.clone());
        self.segment = segment;
        self.len = FIRST_RECORD;
        self.half_rolled = false;
        Ok(())
    }

    /// Answers a failure that left the log as it was: a full disk passes, everything else poisons.
    fn refuse(&mut self, error: io::Error) -> AppendError {
        if files::is_full(&error) { AppendError::StorageFull } else { self.poison(error) }
    }

    fn poison(&mut self, error: io::Error) -> AppendError {
        let source = Arc::new(error);
        self.poison = Some(Arc::clone(&source));
        AppendError::Io { source }
    }
}

/// Puts an order to those of its kind and returns how many bytes it adds to the group.
fn take(
    order: Order,
    group: &mut Vec<Submission>,
    rolls: &mut Vec<SyncSender<Result<(), AppendError>>>,
) -> usize {
    match order {
        Order::Append(submission) => {
            let len = submission.frames.len();
            group.push(submission);
            len
        }
        Order::Roll(reply) => {
            rolls.push(reply);
            0
        }
    }
}

fn answer(group: &mut Vec<Submission>, outcome: &Result<Vec<Seq>, AppendError>) {
    for (place, submission) in group.drain(..).enumerate() {
        let reply = match outcome {
            Ok(firsts) => Ok(firsts[place]),
            Err(error) => Err(error.clone()),
        };
        // A caller that is gone does not need its answer; the batch stands either way.
        drop(submission.reply.send(reply));
    }
}
