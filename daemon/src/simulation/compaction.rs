//! The simulated daemon drops the beginning of its log, as `crate::compaction` does, one step at a time.

use std::mem;
use std::sync::Arc;

use pyro_core::{Command, LogCompacted, RetentionPolicy, Seq};
use pyro_store::{
    AppendError, CompactError, Compaction, Compactor, Dropped, ReadError, Retention, WrittenBase,
};

use super::daemon::{Asker, Entry};
use super::defect::Defect;
use super::world::World;
use crate::engine::{Outcome, Refusal};

/// How far the daemon is with a compaction. Others go on between the steps.
#[derive(Debug, Default)]
pub(super) enum Stage {
    #[default]
    Idle,
    Planned(Box<Compaction>),
    Written(WrittenBase, Dropped),
    /// Waits for the event that signs the base off. Without a base, what it stands for was removed too early.
    Signing(Option<WrittenBase>),
    Signed(WrittenBase),
}

impl World {
    /// Does the next step of a compaction, or begins one.
    pub(super) fn compact(&mut self) {
        let Some(daemon) = &mut self.daemon else { return };
        let compactor = daemon.compactor.clone();
        let stage = mem::take(&mut daemon.compacting);
        let next = match stage {
            Stage::Idle => self.plan_compaction(&compactor),
            Stage::Planned(compaction) => {
                let dropped = compaction.dropped();
                self.compacted(compaction.write()).map(|written| Stage::Written(written, dropped))
            }
            Stage::Written(written, dropped) => self.sign_off(written, dropped),
            Stage::Signing(base) => Some(Stage::Signing(base)),
            Stage::Signed(written) => {
                self.compacted(written.finish());
                None
            }
        };
        if let Some(daemon) = &mut self.daemon {
            daemon.compacting = next.unwrap_or_default();
        }
        if self.disk.is_gone() {
            self.die_somehow();
        }
    }

    fn plan_compaction(&mut self, compactor: &Compactor) -> Option<Stage> {
        if self.random.percent(30)
            && let Err(error) = compactor.roll()
        {
            self.tell(|| format!("compaction: no new segment: {error}"));
            return None;
        }
        let head = self.daemon.as_ref()?.reader.head().seq;
        let before = Some(Seq(self.random.below(head.0 + 2)));
        let plan = compactor.plan(Retention { before, ..Retention::default() });
        let compaction = self.compacted(plan)??;
        let first = compaction.dropped().first;
        self.remember(first)?;
        // A request that comes again after its events were dropped is a new one: nobody repeats it from now on.
        let old = self.model.requests_before(first);
        if self.daemon.as_ref()?.awaits(&old) {
            return None;
        }
        self.clients.give_up(&old);
        self.tell(|| format!("compaction: {:?}", compaction.dropped()));
        Some(Stage::Planned(Box::new(compaction)))
    }

    /// Shows the model what is to go, for it has seen only what somebody was told of.
    fn remember(&mut self, first: Seq) -> Option<()> {
        let reader = self.daemon.as_ref()?.reader.clone();
        let events = reader.read(reader.first()).map_while(Result::ok);
        let dropped: Vec<_> = events.take_while(|envelope| envelope.seq < first).map(Arc::new).collect();
        // The disk may fail here as well.
        let is_whole = dropped.last().is_some_and(|last| last.seq.next() == first);
        if let Err(violation) = self.model.acknowledge(&dropped) {
            self.violate(violation);
        }
        is_whole.then_some(())
    }

    fn sign_off(&mut self, written: WrittenBase, dropped: Dropped) -> Option<Stage> {
        let Dropped { first, hash, records, bytes, since, until, .. } = dropped;
        let (base, policy) = (written.info().digest, RetentionPolicy::default());
        let event = LogCompacted { first, hash, base, records, bytes, since, until, policy };
        let base = match self.defect {
            Some(Defect::EarlyRemoval) => {
                self.compacted(written.finish());
                None
            }
            Some(_) | None => Some(written),
        };
        self.daemon.as_mut()?.inbox.push_back(Entry::fact(Command::CompactLog(event), Asker::Compaction));
        Some(Stage::Signing(base))
    }

    /// Takes the answer to the event that signs a base off.
    pub(super) fn signed(&mut self, stage: &mut Stage, answer: &Result<Outcome, Refusal>) {
        let Stage::Signing(Some(written)) = mem::take(stage) else { return };
        match answer {
            Ok(_) => *stage = Stage::Signed(written),
            // The next daemon looks for the event.
            Err(Refusal::Append(error)) if matches!(**error, AppendError::Io { .. }) => {}
            Err(_) => drop(self.compacted(written.withdraw())),
        }
    }

    /// Tells what has failed; only the disk may.
    fn compacted<T>(&mut self, outcome: Result<T, CompactError>) -> Option<T> {
        match outcome {
            Ok(done) => Some(done),
            Err(error) => {
                if !matches!(error, CompactError::Io { .. } | CompactError::Read(ReadError::Io { .. })) {
                    self.violate(format!("the log cannot be compacted: {error}"));
                }
                self.tell(|| format!("compaction: {error}"));
                None
            }
        }
    }
}
