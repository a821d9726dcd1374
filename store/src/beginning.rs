//! Finds where a log begins: with its first record, or with a base (`docs/log-format.md`, "Opening").

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pyro_core::{Event, Seq};

use crate::base::{self, Base};
use crate::corruption::Corruption;
use crate::disk::{Disk, LogDir};
use crate::reader::ReadError;
use crate::record::Record;
use crate::scanner::Scanner;
use crate::segment::{self, Segment};
use crate::shared::Head;

/// The files of a log that count, and those that do not.
#[derive(Debug)]
pub(crate) struct Beginning {
    /// What stands for the records before the first segment; `None` when nothing was dropped.
    pub(crate) base: Option<Arc<Base>>,
    pub(crate) segments: Vec<Segment>,
    /// What an interrupted compaction left, in the order in which it is to be removed.
    pub(crate) obsolete: Vec<PathBuf>,
}

impl Beginning {
    /// Looks at the files of a log without changing any.
    pub(crate) fn find(dir: &LogDir) -> Result<Self, ReadError> {
        let io = |source| ReadError::Io { path: dir.path.clone(), source };
        let disk = dir.disk.as_ref();
        let paths = disk.list(&dir.path).map_err(io)?;
        let segments = segment::of_paths(&paths);
        let mut bases: Vec<_> =
            paths.iter().filter_map(|path| Some((base::first_of(path)?, path.clone()))).collect();
        bases.sort();
        let mut obsolete = Vec::new();
        while let Some((first, path)) = bases.pop() {
            // A compaction removes segments from the first one on, and none before its base is signed off. Where the log began
            // before, another base says, which need not be the last one: one that nobody signed off may have been left.
            let begins =
                |first| first == Seq::ZERO.next() || bases.iter().any(|(before, _)| *before == first);
            let is_untouched = segments.first().is_some_and(|segment| begins(segment.first));
            let base = match Base::open(disk, &path) {
                Ok(base) if is_untouched && !is_signed_off(disk, &segments, &base)? => None,
                Err(ReadError::Corrupt(_)) if is_untouched => None,
                opened => Some(opened?),
            };
            let Some(base) = base else {
                obsolete.push(path);
                continue;
            };
            let (dropped, segments) = segments.into_iter().partition(|segment| segment.first < first);
            let dropped: Vec<Segment> = dropped;
            obsolete.extend(dropped.into_iter().map(|segment| segment.path));
            obsolete.extend(bases.into_iter().map(|(_, path)| path));
            return Ok(Self { base: Some(Arc::new(base)), segments, obsolete });
        }
        Ok(Self { base: None, segments, obsolete })
    }

    /// Returns the segments of a log whose base is of no use.
    pub(crate) fn without_base(dir: &LogDir) -> io::Result<Self> {
        let segments = segment::of_paths(&dir.disk.list(&dir.path)?);
        Ok(Self { base: None, segments, obsolete: Vec::new() })
    }

    /// Returns the record before the first one that is there.
    pub(crate) fn dropped(&self) -> Head {
        dropped(self.base.as_deref())
    }
}

/// Returns the record before the first one of a log with this base.
pub(crate) fn dropped(base: Option<&Base>) -> Head {
    base.map_or(Head::EMPTY, Base::dropped)
}

/// Removes what does not count any more.
pub(crate) fn remove(dir: &LogDir, obsolete: &[PathBuf]) -> io::Result<()> {
    for path in obsolete {
        match dir.disk.remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    if obsolete.is_empty() { Ok(()) } else { dir.sync() }
}

/// What the log says of its base.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signature {
    /// Nothing yet.
    Missing,
    /// This event is about the base and names its digest.
    Valid(Seq),
    /// This event is about a base that begins the log at the same place, and is another one.
    Foreign(Seq),
}

impl Signature {
    /// Takes note of the next event.
    pub(crate) fn see(&mut self, base: &Base, record: &Record) {
        let Event::LogCompacted(event) = &record.envelope.event else { return };
        if event.first == base.first() {
            let valid = event.base == base.info().digest && event.hash == base.dropped().hash;
            *self = if valid { Self::Valid(record.seq()) } else { Self::Foreign(record.seq()) };
        }
    }

    /// Tells what is wrong with a base when the whole log was read.
    pub(crate) fn damage(self, path: &Path) -> Option<Corruption> {
        let path = path.to_owned();
        match self {
            Self::Valid(_) => None,
            Self::Missing => Some(Corruption::Unsigned { path }),
            Self::Foreign(seq) => Some(Corruption::Exchanged { path, seq }),
        }
    }
}

/// Looks for the event that signs a base off, behind the record that was the last one when the base was made.
fn is_signed_off(disk: &dyn Disk, segments: &[Segment], base: &Base) -> Result<bool, ReadError> {
    let following = segments.partition_point(|segment| segment.first <= base.head());
    let mut signature = Signature::Missing;
    for segment in segments.iter().skip(following.saturating_sub(1)) {
        match look_for_signature(disk, segment, base, &mut signature) {
            // Behind damage nothing counts in a segment. What cannot be read now may well be there.
            Ok(()) | Err(ReadError::Corrupt(_)) => {}
            Err(error @ (ReadError::Io { .. } | ReadError::Compacted { .. })) => return Err(error),
        }
    }
    Ok(matches!(signature, Signature::Valid(_)))
}

fn look_for_signature(
    disk: &dyn Disk,
    segment: &Segment,
    base: &Base,
    signature: &mut Signature,
) -> Result<(), ReadError> {
    let mut scanner = Scanner::open(disk, segment)?;
    // A tail that is cut off takes the event along.
    while let Some(frame) = scanner.next()? {
        if frame.seq > base.head()
            && let Ok(record) = Record::of(&frame)
        {
            signature.see(base, &record);
        }
    }
    Ok(())
}
