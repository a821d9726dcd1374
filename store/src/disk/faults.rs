//! What goes wrong on a disk in memory.

use std::collections::BTreeMap;
use std::io;

/// A kind of call to a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Call {
    /// Listing a directory.
    List,
    /// Opening an existing file.
    Open,
    /// Creating a file or directory.
    Create,
    /// Reading from a file, also its length.
    Read,
    /// Writing to a file.
    Write,
    /// Setting the length of a file.
    SetLen,
    /// Making a file durable.
    Sync,
    /// Giving a file another name.
    Rename,
    /// Removing a file.
    Remove,
    /// Making the entries of a directory durable.
    SyncDir,
}

impl Call {
    /// All kinds.
    pub const ALL: [Self; 10] = [
        Self::List,
        Self::Open,
        Self::Create,
        Self::Read,
        Self::Write,
        Self::SetLen,
        Self::Sync,
        Self::Rename,
        Self::Remove,
        Self::SyncDir,
    ];
}

/// What a call comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The device does not answer. What was not durable before a failed sync is so, sector by sector, or never will be.
    Io,
    /// There is no space.
    Full,
    /// A signal came in between: the call is to be made again. Only reads and writes are told.
    Interrupted,
    /// A read or write does a part of what was asked for.
    Short,
    /// Whoever uses the disk is gone, in the middle of the call: every later call fails, and what the disk holds then is
    /// what [`super::MemoryDisk::after_power_cut`] and [`super::MemoryDisk::after_kill`] begin with.
    Gone,
}

impl Failure {
    pub(super) fn error(self) -> io::Error {
        match self {
            Self::Io | Self::Short => io::Error::from_raw_os_error(5),
            Self::Full => io::ErrorKind::StorageFull.into(),
            Self::Interrupted => io::ErrorKind::Interrupted.into(),
            Self::Gone => io::Error::other("nobody uses this disk any more"),
        }
    }
}

/// How often a fault comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Times {
    /// In one call.
    Once,
    /// In this call and every later one of its kind.
    ForEver,
}

/// A call that fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Which kind of call; `None` for all.
    pub call: Option<Call>,
    /// Which one of them, counted from the moment when the fault is planted; 0 is the next one.
    pub after: u64,
    /// What it comes to.
    pub failure: Failure,
    /// How often.
    pub times: Times,
}

/// The faults of a disk, and how often each kind of call was made.
#[derive(Clone, Debug, Default)]
pub(super) struct Faults {
    planted: Vec<Planted>,
    calls: BTreeMap<Call, u64>,
    fired: u64,
    gone: bool,
}

#[derive(Clone, Copy, Debug)]
struct Planted {
    fault: Fault,
    /// Calls that pass before it comes.
    left: u64,
}

impl Faults {
    pub(super) fn plant(&mut self, fault: Fault) {
        self.planted.push(Planted { fault, left: fault.after });
    }

    pub(super) fn clear(&mut self) {
        self.planted.clear();
    }

    pub(super) const fn fired(&self) -> u64 {
        self.fired
    }

    pub(super) const fn is_gone(&self) -> bool {
        self.gone
    }

    pub(super) fn calls(&self, call: Call) -> u64 {
        self.calls.get(&call).copied().unwrap_or(0)
    }

    /// Takes note of a call and returns what it comes to; `None` when nothing is wrong.
    pub(super) fn meet(&mut self, call: Call) -> Option<Failure> {
        if self.gone {
            return Some(Failure::Gone);
        }
        *self.calls.entry(call).or_default() += 1;
        let mut failure = None;
        for planted in &mut self.planted {
            if planted.fault.call.is_some_and(|kind| kind != call) {
                continue;
            }
            if planted.left > 0 {
                planted.left -= 1;
                continue;
            }
            if failure.is_none() {
                failure = Some(planted.fault.failure);
                if planted.fault.times == Times::Once {
                    planted.left = u64::MAX;
                }
            }
        }
        self.planted.retain(|planted| planted.left < u64::MAX / 2);
        self.fired += u64::from(failure.is_some());
        self.gone = failure == Some(Failure::Gone);
        failure
    }
}
