//! Cuts a damaged log before the first record that cannot be trusted, on request.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use pyro_core::Seq;

use crate::anchor::Anchor;
use crate::base;
use crate::beginning;
use crate::corruption::{Corruption, Fault};
use crate::disk::{HostDisk, LogDir};
use crate::files;
use crate::index;
use crate::lock::{Lock, LockError};
use crate::reader::ReadError;
use crate::recovery;
use crate::segment::FIRST_RECORD;
use crate::shared::Head;
use crate::verify::{Survey, VerifyError};

/// What a repair did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repaired {
    /// The last record of the log now.
    pub head: Head,
    /// The last record that the log is known to have had before. What lies between the two is lost.
    pub reached: Seq,
    /// What was wrong; `None` when nothing was, and then nothing was changed.
    pub damage: Option<Corruption>,
    /// Directory with everything that was changed or taken out, as it was before.
    pub backup: Option<PathBuf>,
}

/// A log that was not repaired.
#[derive(Debug, thiserror::Error)]
pub enum RepairError {
    /// A process has the log open.
    #[error("the log is in use by process {pid}")]
    Locked {
        /// That process.
        pid: u32,
    },
    /// The log was written by a newer version of the program, which can read it.
    #[error("the log has format {found}, which is not damage: use the version that wrote it")]
    NewerFormat {
        /// The format.
        found: u32,
    },
    /// The place to cut lies behind the damage, which would stay.
    #[error("the log can be trusted up to record {head} only: it cannot be cut at {at}")]
    BehindDamage {
        /// The place that was named.
        at: Seq,
        /// The last record before the damage.
        head: Seq,
    },
    /// The place to cut was compacted.
    #[error("history before event {first} was compacted: the log cannot be cut at {at}")]
    Compacted {
        /// The place that was named.
        at: Seq,
        /// The first record that is there.
        first: Seq,
    },
    /// The log could not be read.
    #[error(transparent)]
    Read(#[from] VerifyError),
    /// Something could not be written. The repair can be tried again.
    #[error("cannot repair the log in {}", .path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
}

/// Cuts the log in a directory before the batch with the first record that cannot be trusted.
///
/// What is taken out is kept in a new directory beside the segments. The anchor is set to the new end, so that the log
/// opens again; the index is removed. A torn tail is no damage and is left to the next open.
///
/// # Errors
///
/// See [`RepairError`]. After an error the log is as damaged as before, or more is in the backup.
pub fn repair(dir: impl AsRef<Path>) -> Result<Repaired, RepairError> {
    repair_before(dir.as_ref(), None)
}

/// Cuts a damaged log as [`repair`] does, but already before the batch with the record `at`.
///
/// This is for damage that names no record, as a rewritten history does: somebody else has to know where it begins. A
/// log without damage stays as it is.
///
/// # Errors
///
/// See [`RepairError`].
pub fn repair_at(dir: impl AsRef<Path>, at: Seq) -> Result<Repaired, RepairError> {
    repair_before(dir.as_ref(), Some(at))
}

fn repair_before(dir: &Path, at: Option<Seq>) -> Result<Repaired, RepairError> {
    let log_dir = LogDir::of_host(dir);
    let io = |source| RepairError::Io { path: dir.to_owned(), source };
    let lock = Lock::take(dir).map_err(|error| match error {
        LockError::Held { pid } => RepairError::Locked { pid },
        LockError::Io(source) => io(source),
    })?;
    recovery::remove_temporary(&log_dir).map_err(io)?;
    let mut survey = Survey::take(&log_dir, &mut drop)?;
    let (reached, head) = (survey.reached, survey.head);
    // A base without an event is signed off by who opens the log next.
    let damage = survey.damage.clone().filter(|damage| !matches!(damage, Corruption::Unsigned { .. }));
    let Some(damage) = damage else {
        return Ok(Repaired { head, reached, damage: None, backup: None });
    };
    if let Corruption::Record { fault: Fault::Format { found }, .. }
    | Corruption::Base { fault: Fault::Format { found }, .. } = damage
    {
        return Err(RepairError::NewerFormat { found });
    }
    if let Some(at) = at {
        let first = beginning::dropped(survey.base.as_deref()).seq.next();
        if at < first {
            return Err(RepairError::Compacted { at, first });
        }
        if at > head.seq.next() {
            return Err(RepairError::BehindDamage { at, head: head.seq });
        }
        shorten(&mut survey, at)?;
    }
    let backup = cut(dir, &survey).map_err(io)?;
    drop(lock);
    Ok(Repaired { head: survey.head, reached, damage: Some(damage), backup: Some(backup) })
}

/// Takes back what is known to be valid to the last complete batch before a record.
fn shorten(survey: &mut Survey, at: Seq) -> Result<(), VerifyError> {
    if at > survey.head.seq {
        return Ok(());
    }
    let segments = survey.segments.iter().take(survey.place + 1).enumerate();
    let dropped = beginning::dropped(survey.base.as_deref());
    let (mut head, mut place, mut valid_len) = (dropped, 0, FIRST_RECORD);
    for (number, segment) in segments.take_while(|(_, segment)| segment.first < at) {
        let scanned = recovery::scan(&HostDisk, segment, |frame| {
            if frame.last_of_batch && frame.seq < at {
                (head, place, valid_len) = (Head::new(frame.seq, frame.hash), number, frame.end);
            }
            Ok(())
        });
        match scanned {
            // What is damaged lies behind all that is looked for.
            Ok(_) | Err(ReadError::Corrupt(_)) => {}
            Err(ReadError::Io { path, source }) => return Err(VerifyError { path, source }),
            // The files are read here, whatever an open log says.
            Err(error @ ReadError::Compacted { .. }) => {
                return Err(VerifyError { path: PathBuf::new(), source: io::Error::other(error) });
            }
        }
    }
    (survey.head, survey.place, survey.valid_len) = (head, place, valid_len);
    Ok(())
}

/// The anchor comes last: until then the log stays damaged, so an interrupted repair is not taken for a whole log.
fn cut(dir: &Path, survey: &Survey) -> io::Result<PathBuf> {
    let backup = new_backup(dir, survey.head.seq.next())?;
    let kept = if survey.valid_len == 0 { None } else { survey.segments.get(survey.place) };
    copy(&dir.join("anchor"), &backup)?;
    if let Some(segment) = kept {
        copy(&segment.path, &backup)?;
    }
    files::sync_dir(&backup)?;
    files::sync_dir(dir)?;
    index::remove(dir)?;
    let removed = if kept.is_some() { survey.place + 1 } else { 0 };
    for segment in survey.segments.iter().skip(removed).rev() {
        std::fs::rename(&segment.path, target(&segment.path, &backup)?)?;
    }
    if survey.head == Head::EMPTY {
        for path in bases(dir)? {
            std::fs::rename(&path, target(&path, &backup)?)?;
        }
    }
    if let Some(segment) = kept {
        let file = files::private().write(true).open(&segment.path)?;
        file.set_len(survey.valid_len)?;
        file.sync_all()?;
    }
    files::sync_dir(&backup)?;
    files::sync_dir(dir)?;
    Anchor::create(&LogDir::of_host(dir), survey.head)?;
    Ok(backup)
}

/// Returns the paths of all bases of a log.
fn bases(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let paths = LogDir::of_host(dir).disk.list(dir)?;
    Ok(paths.into_iter().filter(|path| base::first_of(path).is_some()).collect())
}

fn new_backup(dir: &Path, seq: Seq) -> io::Result<PathBuf> {
    let mut number = 1_u32;
    loop {
        let path = dir.join(format!("cut-{seq}-{number}"));
        match path.try_exists()? {
            false => return files::create_dir(&path).map(|()| path),
            true => number += 1,
        }
    }
}

/// Copies a file that may be missing into the backup, durable.
fn copy(path: &Path, backup: &Path) -> io::Result<()> {
    let target = target(path, backup)?;
    match std::fs::copy(path, &target) {
        Ok(_) => File::open(target)?.sync_all(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn target(path: &Path, backup: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or_else(|| io::Error::other("a file of the log has a name"))?;
    Ok(backup.join(name))
}
