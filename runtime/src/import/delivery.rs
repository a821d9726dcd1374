//! The way of entries into a sink, past the limits.

use pyro_protocol::{Entry, EntryKind};

use super::error::{ReadError, SourceError};
use super::limits::{Limits, Watch};
use super::{Sink, Totals};

/// A sink with what it got so far.
pub(super) struct Delivery<'a, S> {
    sink: &'a mut S,
    limits: Limits,
    watch: Watch<'a>,
    totals: Totals,
}

impl<'a, S: Sink> Delivery<'a, S> {
    pub(super) fn new(sink: &'a mut S, limits: Limits, watch: Watch<'a>) -> Self {
        Self { sink, limits, watch, totals: Totals::default() }
    }

    pub(super) const fn limits(&self) -> Limits {
        self.limits
    }

    pub(super) const fn watch(&self) -> Watch<'a> {
        self.watch
    }

    pub(super) const fn totals(&self) -> Totals {
        self.totals
    }

    /// Hands an entry over. A file counts with the whole of its length, before any of its content was read.
    pub(super) fn entry(&mut self, entry: &Entry) -> Result<(), ReadError<S::Error>> {
        self.watch.check()?;
        let len = match entry.kind {
            EntryKind::File { len } => len,
            EntryKind::Directory
            | EntryKind::Symlink { .. }
            | EntryKind::HardLink { .. }
            | EntryKind::Absent => 0,
        };
        let bytes = self.totals.bytes.checked_add(len).filter(|bytes| *bytes <= self.limits.bytes);
        let Some(bytes) = bytes else {
            let reason =
                format!("brings the content above the limit of {} MiB", self.limits.bytes.div_ceil(1 << 20));
            return Err(SourceError::refused(&entry.path, reason).into());
        };
        if self.totals.entries >= self.limits.entries {
            let reason = too_many(self.limits.entries);
            return Err(SourceError::refused(&entry.path, reason).into());
        }
        self.totals = Totals { entries: self.totals.entries + 1, bytes };
        self.sink.entry(entry).map_err(ReadError::Sink)
    }

    /// Hands over a piece of the file whose entry came last.
    pub(super) fn content(&mut self, bytes: &[u8]) -> Result<(), ReadError<S::Error>> {
        self.watch.check()?;
        self.sink.content(bytes).map_err(ReadError::Sink)
    }
}

/// Says that there are more entries than may be.
pub(super) fn too_many(entries_max: u64) -> String {
    format!("is one too many: the limit is {entries_max} files, directories and links")
}
