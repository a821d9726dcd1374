//! Reads a whole log and says whether it is what was written.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pyro_core::Seq;

use crate::anchor::{self, Anchored};
use crate::base::{Base, BaseInfo};
use crate::beginning::{Beginning, Signature};
use crate::corruption::{Corruption, Fault};
use crate::disk::{Disk, LogDir};
use crate::reader::ReadError;
use crate::record::Record;
use crate::recovery::{self, Scanned};
use crate::segment::{self, FIRST_RECORD, Segment};
use crate::shared::Head;

/// What reading a whole log showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The last record of the last complete batch before any damage.
    pub head: Head,
    /// What stands for the records before the first segment; `None` when nothing was dropped.
    pub base: Option<BaseInfo>,
    /// How many segments there are.
    pub segment_count: usize,
    /// Length of the torn tail, in bytes; the next open cuts it off. Zero when there is damage.
    pub torn_len: u64,
    /// What is wrong; `None` when every record is what was written.
    pub damage: Option<Corruption>,
}

/// A part of a log, in the order in which a check shows them.
#[derive(Debug)]
pub enum Part {
    /// A record that the base has carried over.
    Carried(Record),
    /// The base ends here, and the kept records begin.
    Base(BaseInfo),
    /// A record.
    Record(Record),
}

/// A log that could not be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {}", .path.display())]
pub struct VerifyError {
    /// The file or directory.
    pub path: PathBuf,
    /// What the operating system said.
    pub source: io::Error,
}

/// Reads every record of the log in a directory and checks it: checksums, numbers, hash chain, payloads, anchor.
///
/// Changes nothing, and may run while a process appends.
///
/// # Errors
///
/// [`VerifyError`] when something cannot be read. Damage is no error; the report names it.
pub fn verify(dir: impl AsRef<Path>) -> Result<Report, VerifyError> {
    verify_records(dir, drop)
}

/// Does the same as [`verify`] for a log on another disk than the host's.
///
/// # Errors
///
/// [`VerifyError`] when something cannot be read.
pub fn verify_on(disk: Arc<dyn Disk>, dir: impl AsRef<Path>) -> Result<Report, VerifyError> {
    let dir = LogDir { disk, path: dir.as_ref().to_owned() };
    Survey::take(&dir, &mut drop).map(Survey::into_report)
}

/// Does the same as [`verify`], and shows every record of a complete batch, in order, up to the first damage.
///
/// Whether the anchor agrees with the records that were shown, the report tells at the end.
///
/// # Errors
///
/// [`VerifyError`] when something cannot be read.
pub fn verify_records(dir: impl AsRef<Path>, mut visit: impl FnMut(Record)) -> Result<Report, VerifyError> {
    verify_parts(dir, |part| match part {
        Part::Record(record) => visit(record),
        Part::Carried(_) | Part::Base(_) => {}
    })
}

/// Does the same as [`verify_records`], and shows first what the base holds.
///
/// # Errors
///
/// [`VerifyError`] when something cannot be read.
pub fn verify_parts(dir: impl AsRef<Path>, mut visit: impl FnMut(Part)) -> Result<Report, VerifyError> {
    Survey::take(&LogDir::of_host(dir.as_ref()), &mut visit).map(Survey::into_report)
}

/// Everything that is known about a log after reading it.
#[derive(Debug)]
pub(crate) struct Survey {
    /// What stands for the records before the first segment; `None` as well when it is damaged.
    pub(crate) base: Option<Arc<Base>>,
    pub(crate) segments: Vec<Segment>,
    /// The last record of the last complete batch before any damage.
    pub(crate) head: Head,
    /// The segment that the head is in, or would be in, as a place in `segments`.
    pub(crate) place: usize,
    /// Length of the part of that segment up to the head, in bytes.
    pub(crate) valid_len: u64,
    pub(crate) torn_len: u64,
    /// The last record that the log is known to have had, whether it can still be trusted or not.
    pub(crate) reached: Seq,
    pub(crate) damage: Option<Corruption>,
}

impl Survey {
    /// Reads everything and shows the records of complete batches.
    pub(crate) fn take(dir: &LogDir, visit: &mut dyn FnMut(Part)) -> Result<Self, VerifyError> {
        let io = |source| VerifyError { path: dir.path.clone(), source };
        // The anchor first: another process may be appending, and the log must not be older than its anchor.
        let anchored = anchor::read(dir).map_err(io)?;
        let (beginning, damage) = match split(Beginning::find(dir))? {
            Ok(beginning) => (beginning, None),
            Err(damage) => (Beginning::without_base(dir).map_err(io)?, Some(damage)),
        };
        let (dropped, base) = (beginning.dropped(), beginning.base.clone());
        let mut survey = Self {
            base: beginning.base,
            segments: beginning.segments,
            head: dropped,
            place: 0,
            valid_len: 0,
            torn_len: 0,
            reached: Seq::ZERO,
            damage,
        };
        let mut anchored_hash =
            matches!(anchored, Anchored::At(head) if head == dropped).then_some(dropped.hash);
        let mut signature = Signature::Missing;
        if survey.damage.is_none() {
            survey.read_base(visit)?;
            survey.read_segments(dir.disk.as_ref(), anchored, &mut anchored_hash, &mut |record| {
                if let Some(base) = &base {
                    signature.see(base, &record);
                }
                visit(Part::Record(record));
            })?;
        }
        survey.check_anchor(dir.disk.as_ref(), anchored, anchored_hash);
        let anchor = match anchored {
            Anchored::At(anchor) => anchor.seq,
            Anchored::Unreadable => Seq::ZERO,
        };
        let before_last =
            survey.segments.last().map_or(Seq::ZERO, |last| Seq(last.first.0.saturating_sub(1)));
        survey.reached = survey.head.seq.max(anchor).max(before_last);
        survey.check_base(signature);
        Ok(survey)
    }

    /// Shows what the base holds.
    fn read_base(&mut self, visit: &mut dyn FnMut(Part)) -> Result<(), VerifyError> {
        let Some(base) = &self.base else { return Ok(()) };
        for place in base.places() {
            match split(base.record(*place))? {
                Ok(record) => visit(Part::Carried(record)),
                Err(damage) => {
                    self.damage = Some(damage);
                    return Ok(());
                }
            }
        }
        visit(Part::Base(base.info()));
        Ok(())
    }

    /// Takes note of what the events say of the base. Without an event before other damage there is nothing to say.
    fn check_base(&mut self, signature: Signature) {
        let damage = self.base.as_ref().and_then(|base| signature.damage(base.path()));
        if let Some(Corruption::Exchanged { .. }) = damage {
            // What follows from the wrong beginning is nothing to rely on.
            (self.head, self.place, self.valid_len) = (Head::EMPTY, 0, 0);
            self.damage = damage;
        } else if self.damage.is_none() {
            self.damage = damage;
        }
    }

    fn into_report(self) -> Report {
        let Self { base, head, segments, torn_len, damage, .. } = self;
        let base = base.map(|base| base.info());
        Report { head, base, segment_count: segments.len(), torn_len, damage }
    }

    fn read_segments(
        &mut self,
        disk: &dyn Disk,
        anchored: Anchored,
        anchored_hash: &mut Option<[u8; 32]>,
        visit: &mut dyn FnMut(Record),
    ) -> Result<(), VerifyError> {
        let mut batch = Vec::new();
        for place in 0..self.segments.len() {
            let segment = &self.segments[place];
            let before = place.checked_sub(1).map(|before| &self.segments[before]);
            if let Some(damage) = link_damage(disk, segment, before, self.head, self.valid_len)? {
                self.damage = Some(damage);
                return Ok(());
            }
            let scanned = split(recovery::scan(disk, segment, |frame| {
                if matches!(anchored, Anchored::At(anchor) if anchor.seq == frame.seq) {
                    *anchored_hash = Some(frame.hash);
                }
                batch.push(Record::of(frame)?);
                if frame.last_of_batch {
                    batch.drain(..).for_each(&mut *visit);
                }
                Ok(())
            }))?;
            let Scanned { head, valid_len, damage } = match scanned {
                Ok(scanned) => scanned,
                Err(damage) => {
                    self.damage = Some(damage);
                    return Ok(());
                }
            };
            (self.head, self.place, self.valid_len) = (head, place, valid_len);
            if damage.is_some() {
                self.damage = damage;
                return Ok(());
            }
        }
        Ok(())
    }

    fn check_anchor(&mut self, disk: &dyn Disk, anchored: Anchored, anchored_hash: Option<[u8; 32]>) {
        match anchored {
            Anchored::At(anchor) if anchor.seq > self.head.seq => {
                let shortened = Corruption::Shortened { anchor: anchor.seq, head: self.head.seq };
                self.damage.get_or_insert(shortened);
                return;
            }
            Anchored::At(anchor) if anchored_hash != Some(anchor.hash) => {
                self.damage = Some(Corruption::Rewritten { seq: anchor.seq });
                return;
            }
            Anchored::Unreadable if self.head.seq > Seq::ZERO => {
                self.damage.get_or_insert(Corruption::NoAnchor);
                return;
            }
            Anchored::At(_) | Anchored::Unreadable => {}
        }
        // A header is written before the segment has its name: what is wrong with it was no interrupted write.
        let in_last = self.place + 1 >= self.segments.len() && self.valid_len >= FIRST_RECORD;
        if let (true, Some(Corruption::Record { segment, fault, .. })) = (in_last, &self.damage)
            && is_torn(*fault)
        {
            let len = disk.open(segment).and_then(|file| file.len_bytes()).unwrap_or(self.valid_len);
            self.torn_len = len.saturating_sub(self.valid_len);
            self.damage = None;
        }
    }
}

/// Tells whether a fault after the anchor, in the last segment, is what an interrupted write leaves.
const fn is_torn(fault: Fault) -> bool {
    match fault {
        Fault::CutShort
        | Fault::Length
        | Fault::Checksum
        | Fault::Order { .. }
        | Fault::Flags
        | Fault::Chain
        | Fault::OpenBatch => true,
        Fault::Payload | Fault::Header | Fault::Format { .. } | Fault::Link => false,
    }
}

/// Checks that a segment continues the one before.
fn link_damage(
    disk: &dyn Disk,
    segment: &Segment,
    before: Option<&Segment>,
    head: Head,
    valid_len: u64,
) -> Result<Option<Corruption>, VerifyError> {
    let header = match split(segment.open(disk))? {
        Ok((_, header)) => header,
        Err(damage) => return Ok(Some(damage)),
    };
    let Some(before) = before else {
        return split(segment::check_first(segment, &header, head)).map(Result::err);
    };
    let expected_first = head.seq.next();
    let fault = if segment.first != expected_first
        || header.previous_first != before.first
        || header.previous_len != valid_len
    {
        Fault::Link
    } else if header.previous_hash != head.hash {
        Fault::Chain
    } else {
        return Ok(None);
    };
    let offset = FIRST_RECORD;
    Ok(Some(Corruption::Record { seq: expected_first, segment: segment.path.clone(), offset, fault }))
}

/// Separates what is wrong with the log from what is wrong with the machine.
fn split<T>(result: Result<T, ReadError>) -> Result<Result<T, Corruption>, VerifyError> {
    match result {
        Ok(value) => Ok(Ok(value)),
        Err(ReadError::Corrupt(corruption)) => Ok(Err(corruption)),
        Err(ReadError::Io { path, source }) => Err(VerifyError { path, source }),
        // The files are read here, whatever an open log says.
        Err(error @ ReadError::Compacted { .. }) => {
            Err(VerifyError { path: PathBuf::new(), source: io::Error::other(error) })
        }
    }
}
