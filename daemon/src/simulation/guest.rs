//! Simulated guests: what runs in them, and a journal as the guest agent keeps it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use pyro_core::{ExecNumber, ExitStatus, ShellId, SyncNumber, WorkspaceId};

use super::defect::Defect;
use super::random::Random;

/// Something that is done in a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Work {
    Exec(ExecNumber),
    Shell(ShellId),
    Sync(SyncNumber),
}

/// What is on its way to a guest.
#[derive(Clone, Debug)]
pub(super) enum Message {
    Begin(Work),
    Type { shell: ShellId, offset: u64, data: Vec<u8> },
    End(Work),
    Commit(SyncNumber),
}

/// How far a piece of work has come, as the journal says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    Running,
    Ended(ExitStatus),
}

/// All that has ever been done in guests, and that no daemon and no power cut can undo.
#[derive(Clone, Debug, Default)]
pub(super) struct Deed {
    pub(super) starts: u32,
    pub(super) end: Option<ExitStatus>,
    pub(super) typed: Vec<u8>,
    /// The life of the guest in which it began.
    pub(super) life: u32,
}

/// Tells whether a command runs until somebody ends it.
const fn is_endless(number: ExecNumber) -> bool {
    number.0.is_multiple_of(3)
}

#[derive(Debug)]
struct Guest {
    life: u32,
    journal: BTreeMap<Work, Progress>,
    /// What was asked for before it came, and is not begun any more.
    barred: BTreeSet<Work>,
    /// Imports that were begun and not committed.
    staged: BTreeSet<SyncNumber>,
    wire: VecDeque<Message>,
}

/// The guests of a host. They go on when the daemon dies.
#[derive(Debug)]
pub(super) struct Guests {
    alive: BTreeMap<WorkspaceId, Guest>,
    pub(super) deeds: BTreeMap<(WorkspaceId, Work), Deed>,
    /// How many guests were booted for each workspace.
    pub(super) boots: BTreeMap<WorkspaceId, u32>,
    lives: u32,
    defect: Option<Defect>,
}

impl Guests {
    pub(super) const fn new(defect: Option<Defect>) -> Self {
        Self { alive: BTreeMap::new(), deeds: BTreeMap::new(), boots: BTreeMap::new(), lives: 0, defect }
    }

    pub(super) fn boot(&mut self, workspace: WorkspaceId) -> u32 {
        self.lives += 1;
        *self.boots.entry(workspace).or_default() += 1;
        let guest = Guest {
            life: self.lives,
            journal: BTreeMap::new(),
            barred: BTreeSet::new(),
            staged: BTreeSet::new(),
            wire: VecDeque::new(),
        };
        self.alive.insert(workspace, guest);
        self.lives
    }

    pub(super) fn alive(&self) -> impl Iterator<Item = WorkspaceId> {
        self.alive.keys().copied()
    }

    pub(super) fn life(&self, workspace: WorkspaceId) -> Option<u32> {
        self.alive.get(&workspace).map(|guest| guest.life)
    }

    pub(super) fn is_over(&self, life: u32) -> bool {
        self.alive.values().all(|guest| guest.life != life)
    }

    pub(super) fn end(&mut self, workspace: WorkspaceId) {
        self.alive.remove(&workspace);
    }

    pub(super) fn end_all(&mut self) {
        self.alive.clear();
    }

    pub(super) fn send(&mut self, workspace: WorkspaceId, message: Message) {
        if let Some(guest) = self.alive.get_mut(&workspace) {
            guest.wire.push_back(message);
        }
    }

    /// Tells what the journal has of a piece of work. What it does not have will not begin later either.
    pub(super) fn ask(&mut self, workspace: WorkspaceId, work: Work) -> Option<Progress> {
        let guest = self.alive.get_mut(&workspace)?;
        let known = guest.journal.get(&work).copied();
        if known.is_none() && self.defect != Some(Defect::LateBegin) {
            guest.barred.insert(work);
        }
        known
    }

    /// Tells how far a piece of work has come on a connection that is open.
    pub(super) fn progress(&self, workspace: WorkspaceId, work: Work) -> Option<Progress> {
        self.alive.get(&workspace)?.journal.get(&work).copied()
    }

    pub(super) fn typed_len(&self, workspace: WorkspaceId, shell: ShellId) -> u64 {
        self.deeds.get(&(workspace, Work::Shell(shell))).map_or(0, |deed| deed.typed.len() as u64)
    }

    pub(super) fn forget(&mut self, workspace: WorkspaceId, work: Work) {
        if let Some(guest) = self.alive.get_mut(&workspace) {
            guest.journal.remove(&work);
        }
    }

    /// Breaks the connection of a sync: what was sent arrives or does not, and without a commit all is dropped.
    pub(super) fn break_sync(&mut self, workspace: WorkspaceId, sync: SyncNumber, random: &mut Random) {
        let Some(guest) = self.alive.get_mut(&workspace) else { return };
        let of_sync = |message: &Message| match message {
            Message::Begin(work) | Message::End(work) => *work == Work::Sync(sync),
            Message::Commit(number) => *number == sync,
            Message::Type { .. } => false,
        };
        let (own, others): (VecDeque<_>, VecDeque<_>) = guest.wire.drain(..).partition(of_sync);
        guest.wire = others;
        if random.percent(50) {
            for message in own {
                self.handle(workspace, message);
            }
        }
        if let Some(guest) = self.alive.get_mut(&workspace) {
            guest.staged.remove(&sync);
        }
    }

    /// Breaks the connections of all syncs: their daemon is gone.
    pub(super) fn break_syncs(&mut self, random: &mut Random) {
        let mut syncs = BTreeSet::new();
        for (workspace, guest) in &self.alive {
            syncs.extend(guest.staged.iter().map(|sync| (*workspace, *sync)));
            for message in &guest.wire {
                match message {
                    Message::Begin(Work::Sync(sync)) | Message::Commit(sync) => {
                        syncs.insert((*workspace, *sync));
                    }
                    Message::Begin(_) | Message::Type { .. } | Message::End(_) => {}
                }
            }
        }
        for (workspace, sync) in syncs {
            self.break_sync(workspace, sync, random);
        }
    }

    /// Lets one guest do something: take a message, or end a piece of work. Returns what it did.
    pub(super) fn step(&mut self, workspace: WorkspaceId, random: &mut Random) -> String {
        let Some(guest) = self.alive.get_mut(&workspace) else { return "is not there".to_owned() };
        if !guest.wire.is_empty() && random.percent(70) {
            let message = guest.wire.pop_front();
            let text = format!("takes {message:?}");
            message.into_iter().for_each(|message| self.handle(workspace, message));
            return text;
        }
        let running = guest.journal.iter().filter(|(work, progress)| {
            **progress == Progress::Running && !matches!(work, Work::Exec(number) if is_endless(*number))
        });
        let Some(work) = random.pick(running.map(|(work, _)| *work)) else { return "idles".to_owned() };
        // A shell is there for what is typed into it.
        let chance = if matches!(work, Work::Shell(_)) { 3 } else { 30 };
        if !random.percent(chance) {
            return format!("goes on with {work:?}");
        }
        let status = match random.below(4) {
            0 => ExitStatus::Signal(9),
            1 => ExitStatus::TimedOut,
            code => ExitStatus::Code(u8::try_from(code).unwrap_or(0)),
        };
        self.finish(workspace, work, status);
        format!("ends {work:?} with {status:?}")
    }

    /// Tells whether a guest has anything to do that ends.
    pub(super) fn is_busy(&self, workspace: WorkspaceId) -> bool {
        self.alive.get(&workspace).is_some_and(|guest| {
            let running = guest.journal.iter().any(|(_, progress)| *progress == Progress::Running);
            running || !guest.wire.is_empty()
        })
    }

    fn finish(&mut self, workspace: WorkspaceId, work: Work, status: ExitStatus) {
        let Some(guest) = self.alive.get_mut(&workspace) else { return };
        guest.journal.insert(work, Progress::Ended(status));
        self.deeds.entry((workspace, work)).or_default().end = Some(status);
    }

    fn handle(&mut self, workspace: WorkspaceId, message: Message) {
        let Some(guest) = self.alive.get_mut(&workspace) else { return };
        match message {
            Message::Begin(Work::Sync(sync)) => drop(guest.staged.insert(sync)),
            Message::Begin(work) => {
                let known = guest.journal.contains_key(&work) && self.defect != Some(Defect::Resent);
                if known || guest.barred.contains(&work) {
                    return;
                }
                guest.journal.insert(work, Progress::Running);
                let deed = self.deeds.entry((workspace, work)).or_default();
                deed.starts += 1;
                deed.life = guest.life;
            }
            Message::Type { shell, offset, data } => {
                let work = Work::Shell(shell);
                if guest.journal.get(&work) != Some(&Progress::Running) {
                    return;
                }
                let typed = &mut self.deeds.entry((workspace, work)).or_default().typed;
                // What it has already comes again after a connection broke; what lies beyond would leave a hole.
                if let Some(known) = (typed.len() as u64).checked_sub(offset) {
                    let new = data.get(usize::try_from(known).unwrap_or(usize::MAX)..);
                    typed.extend_from_slice(new.unwrap_or_default());
                }
            }
            Message::End(work) => {
                if guest.journal.get(&work) == Some(&Progress::Running) {
                    self.finish(workspace, work, ExitStatus::Signal(9));
                }
            }
            Message::Commit(sync) => {
                if guest.staged.remove(&sync) {
                    let work = Work::Sync(sync);
                    guest.journal.insert(work, Progress::Ended(ExitStatus::Code(0)));
                    let deed = self.deeds.entry((workspace, work)).or_default();
                    deed.starts += 1;
                    deed.life = guest.life;
                    deed.end = Some(ExitStatus::Code(0));
                }
            }
        }
    }
}
