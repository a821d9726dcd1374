//! What seeds and syncs read on the host: a directory or a tar archive, turned into the entries of an import.
//!
//! Nothing here writes to the file system, and nothing that is read is trusted. A source is read twice: [`check`] goes
//! through all of it before anything is sent, [`read`] applies the same rules again, for the source may have changed,
//! and hands the entries to a [`Sink`] one after the other. Neither holds content, and what is remembered of names is
//! bounded.
//!
//! **Directories** are walked by descriptors that follow no link, children in the order of their names, hidden ones
//! included. The directory itself is not an entry: the mode of the destination belongs to the guest. A second name of
//! a file becomes a hard link, and a file that changes under the reader is an error.
//!
//! **Archives** are read the one way on which all tar programs agree; where they differ, the archive is refused. A
//! name may come again when both are regular files, of which the later replaces the earlier, or both directories.
//! Any other repetition is refused, and so is an entry below what the archive gave as a file or link. Parents that an
//! archive leaves out are left to the guest, and an entry for the destination itself (`./`) is passed over.
//!
//! In both, set-id bits are dropped, devices, FIFOs and sockets are refused, and a relative link whose target leaves
//! the destination by its text is refused. An absolute target means something inside the guest only and is kept.

mod archive;
mod delivery;
mod directory;
mod error;
mod extended;
mod header;
mod limits;
mod names;
mod path;
mod snapshot;
mod source;
mod stream;
mod walk;

use std::convert::Infallible;
use std::sync::atomic::AtomicBool;

use pyro_protocol::{Entry, EntryKind};

use delivery::Delivery;
use directory::Contents;

pub use directory::read_changes;
pub use error::{EntryName, ReadError, SourceError};
pub use limits::{CHECK_DURATION_MAX, CONTENT_TOTAL_MAX, ENTRIES_MAX, EXTENDED_LEN_MAX};
pub use snapshot::{Changes, Snapshot};
pub use source::Source;

use limits::{Limits, Watch};

/// What a source holds in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Entries, removals included.
    pub entries: u64,
    /// Bytes of content.
    pub bytes: u64,
}

/// Takes what a source holds, in order.
pub trait Sink {
    /// Why it takes no more.
    type Error;

    /// Takes the next entry.
    ///
    /// # Errors
    ///
    /// The first error ends the reading.
    fn entry(&mut self, entry: &Entry) -> Result<(), Self::Error>;

    /// Takes the next piece of the file whose entry came last: 1 to [`CONTENT_MAX`](pyro_protocol::CONTENT_MAX) bytes.
    /// The pieces of a file add up to the length in its entry.
    ///
    /// # Errors
    ///
    /// The first error ends the reading.
    fn content(&mut self, bytes: &[u8]) -> Result<(), Self::Error>;
}

/// Goes through all of a source and tells what it holds. `progress` is called often, with what was found so far.
///
/// Archives are read to their last byte. Of a directory's files the content is left to [`read`], but each is opened.
///
/// # Errors
///
/// The source breaks a rule or a limit, cannot be read, changed while it was read, or took more than
/// [`CHECK_DURATION_MAX`]; or `cancel` became true.
pub fn check(
    source: &Source,
    cancel: &AtomicBool,
    progress: impl FnMut(Totals),
) -> Result<Totals, SourceError> {
    check_within(source, Limits::DEFAULT, Watch::with_deadline(cancel, CHECK_DURATION_MAX), progress)
}

fn check_within(
    source: &Source,
    limits: Limits,
    watch: Watch<'_>,
    progress: impl FnMut(Totals),
) -> Result<Totals, SourceError> {
    let mut counter = Counter { source, totals: Totals::default(), progress };
    match read_within(source, &mut Delivery::new(&mut counter, limits, watch), Contents::Measured) {
        Ok(totals) => Ok(totals),
        Err(ReadError::Source(error)) => Err(error),
        Err(ReadError::Sink(never)) => match never {},
    }
}

/// Hands a source to a sink, under the rules of [`check`] but as slowly as the sink wants it.
///
/// # Errors
///
/// As [`check`], or the sink's own. What the sink has then is not the whole source and must not be used.
pub fn read<S: Sink>(
    source: &Source,
    sink: &mut S,
    cancel: &AtomicBool,
) -> Result<Totals, ReadError<S::Error>> {
    let mut delivery = Delivery::new(sink, Limits::DEFAULT, Watch::new(cancel));
    read_within(source, &mut delivery, Contents::Delivered)
}

fn read_within<S: Sink>(
    source: &Source,
    delivery: &mut Delivery<'_, S>,
    contents: Contents,
) -> Result<Totals, ReadError<S::Error>> {
    match source {
        Source::Directory(path) => directory::read(path, contents, delivery)?,
        Source::Archive(path) => archive::read(path, delivery)?,
    }
    Ok(delivery.totals())
}

/// Counts, for those who watch.
struct Counter<'a, F> {
    source: &'a Source,
    totals: Totals,
    progress: F,
}

impl<F: FnMut(Totals)> Sink for Counter<'_, F> {
    type Error = Infallible;

    fn entry(&mut self, entry: &Entry) -> Result<(), Infallible> {
        self.totals.entries += 1;
        // The pieces of an archive's files follow and are counted as they come.
        if let (Source::Directory(_), EntryKind::File { len }) = (self.source, &entry.kind) {
            self.totals.bytes += len;
        }
        (self.progress)(self.totals);
        Ok(())
    }

    fn content(&mut self, bytes: &[u8]) -> Result<(), Infallible> {
        self.totals.bytes += bytes.len() as u64;
        (self.progress)(self.totals);
        Ok(())
    }
}
