//! The simulated daemon: the real writer and log, with an inbox, drivers and answers around them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use pyro_core::{
    Action, Actor, Cause, Command, DaemonStarted, DeleteReason, Envelope, Event, Face, Limits, Phase,
    Process, RequestId, State, WorkspaceId, reconcile,
};
use pyro_store::disk::Disk;
use pyro_store::{AppendError, Compactor, EventLog, OpenError, Options, ReadError, Reader};
use tokio::sync::{mpsc, oneshot, watch};

use super::compaction::Stage;
use super::defect::Defect;
use super::driver::{Driver, Reach};
use super::guest::Work;
use super::world::{Death, World, read_clock};
use crate::clock::Clock;
use crate::engine::{Origin, Outcome, Outlets, Refusal, Submission, Writer};

const LOG: &str = "/home/log";

/// A segment holds a few dozen records, so that schedules see many.
const OPTIONS: Options = Options { segment_len_max: 6_000 };

/// Bounds that are reached in a schedule.
pub(super) const LIMITS: Limits = Limits {
    vcpu_max: 4,
    mem_mib_min: 64,
    mem_mib_total: 600,
    ttl_seconds_min: 60,
    ttl_seconds_max: 3_600,
    workspaces_max: 5,
    guests_max: 3,
    open_execs_max: 2,
    command_len_max: 64,
    timeout_seconds_max: 60,
};

/// Who waits for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asker {
    Client,
    Driver(WorkspaceId),
    Pump(WorkspaceId, Work),
    Compaction,
    Nobody,
}

/// A command that waits for the writer.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) command: Command,
    pub(super) cause: Cause,
    pub(super) asker: Asker,
}

impl Entry {
    /// A fact that was observed.
    pub(super) const fn fact(command: Command, asker: Asker) -> Self {
        Self { command, cause: Cause::Observation, asker }
    }
}

pub(super) struct Daemon {
    writer: Writer,
    pub(super) reader: Reader,
    state: watch::Receiver<Arc<State>>,
    actions: mpsc::UnboundedReceiver<Action>,
    pub(super) inbox: VecDeque<Entry>,
    drivers: BTreeMap<WorkspaceId, Driver>,
    pub(super) compactor: Compactor,
    pub(super) compacting: Stage,
    failed: bool,
}

impl Daemon {
    pub(super) fn state(&self) -> Arc<State> {
        Arc::clone(&self.state.borrow())
    }

    /// Tells whether one of these requests waits for the writer.
    pub(super) fn awaits(&self, requests: &BTreeSet<RequestId>) -> bool {
        let asked =
            |entry: &Entry| matches!(entry.cause, Cause::Request(request) if requests.contains(&request));
        self.inbox.iter().any(asked)
    }

    /// Tells whether the log takes nothing more.
    pub(super) const fn has_failed(&self) -> bool {
        self.failed
    }

    pub(super) fn is_settled(&self) -> bool {
        self.inbox.is_empty()
            && self.drivers.values().all(Driver::is_idle)
            && self.state().workspaces.values().all(|workspace| {
                let phase = match workspace.phase {
                    Phase::Created | Phase::Started | Phase::Stopped(_) => true,
                    Phase::Starting | Phase::Stopping | Phase::Deleting { .. } => false,
                };
                phase
                    && workspace.open_execs.is_empty()
                    && workspace.open_syncs.is_empty()
                    && workspace.shells.is_empty()
            })
    }

    pub(super) fn what_is_left(&self) -> String {
        let busy = self.drivers.iter().filter(|(_, driver)| !driver.is_idle());
        let busy: Vec<_> = busy.map(|(workspace, driver)| format!("{workspace}: {driver:?}")).collect();
        format!("inbox {:?}; drivers {}; {:?}", self.inbox, busy.join(", "), self.state().workspaces)
    }

    fn route(&mut self, action: Action) {
        let driver = self.drivers.entry(action.workspace()).or_insert_with(|| Driver::new(None));
        driver.push(action);
    }
}

fn actor(face: Face) -> Actor {
    Actor { face, uid: 1000, pid: 42, client: "simulated/1".to_owned() }
}

impl World {
    /// Starts a daemon as `crate::startup` does, and compares what it finds with what must be there.
    pub(super) fn start(&mut self) {
        if let (Some(Defect::DroppedBatch), Some(older)) = (self.defect, self.older.take()) {
            self.disk = older;
        }
        let started = self.open();
        if self.disk.is_gone() {
            return self.die_somehow();
        }
        let mut daemon = match started {
            Ok(daemon) => daemon,
            Err(reason) => return self.tell(|| format!("daemon: does not start: {reason}")),
        };
        let inherited = daemon.state();
        for (workspace, known) in &inherited.workspaces {
            daemon.drivers.insert(*workspace, Driver::new(Some(Arc::clone(known))));
        }
        reconcile(&inherited).into_iter().for_each(|action| daemon.route(action));
        self.daemon = Some(daemon);
    }

    fn open(&mut self) -> Result<Daemon, String> {
        let disk: Arc<dyn Disk> = Arc::new(self.disk.clone());
        let log = match EventLog::open_on(disk, LOG, OPTIONS) {
            Ok(log) => log,
            Err(OpenError::Corrupt(corruption)) => {
                self.violate(format!("the log does not open: {corruption}"));
                return Err(corruption.to_string());
            }
            Err(error) => return Err(error.to_string()),
        };
        let (reader, compactor) = (log.reader(), log.compactor());
        let clock = Clock::scripted(&format!("boot {}", self.host_boot), read_clock);
        let opened = Writer::open(log, clock, actor(Face::Daemon), Defect::rules(self.defect));
        let (writer, outlets) = opened.map_err(|error| self.unreadable(error))?;
        let Outlets { state, actions, .. } = outlets;
        let (first, base) = (reader.first(), reader.base());
        let events: Result<Vec<Envelope>, _> = reader.read(first).collect();
        let events = events.map_err(|error| self.unreadable(error))?;
        self.tell(|| format!("daemon: finds {} events from {first} on", events.len()));
        let found = Arc::clone(&state.borrow());
        let compared = self.model.compare(base, events, &found, &self.guests, &self.clients);
        if let Err(violation) = compared {
            self.violate(violation);
        }
        let (inbox, drivers, compacting) = (VecDeque::new(), BTreeMap::new(), Stage::Idle);
        let mut daemon =
            Daemon { writer, reader, state, actions, inbox, drivers, compactor, compacting, failed: false };
        self.record_start(&mut daemon)?;
        Ok(daemon)
    }

    fn unreadable(&mut self, error: ReadError) -> String {
        if let ReadError::Corrupt(corruption) = &error {
            self.violate(format!("the log cannot be read: {corruption}"));
        }
        error.to_string()
    }

    fn record_start(&mut self, daemon: &mut Daemon) -> Result<(), String> {
        let started = DaemonStarted {
            process: Process { pid: 42, start_ticks: 1 },
            version: "1".to_owned(),
            host_boot_id: format!("boot {}", self.host_boot),
        };
        for command in [Command::RecordDaemonStarted(started), Command::RecordLimits(LIMITS)] {
            let (reply, mut answer) = oneshot::channel();
            let origin = Origin { actor: actor(Face::Daemon), cause: Cause::Observation };
            daemon.writer.write([Submission { command, origin, reply }]);
            let answer = answer.try_recv().map_err(|error| error.to_string())?;
            let outcome = answer.map_err(|refusal| refusal.to_string())?;
            self.model.acknowledge(outcome.envelopes())?;
        }
        Ok(())
    }

    /// Lets the writer take some of what waits.
    pub(super) fn write_some(&mut self) {
        let Some(mut daemon) = self.daemon.take() else { return };
        let count = usize::try_from(1 + self.random.below(6)).unwrap_or(1).min(daemon.inbox.len());
        if count == 0 {
            self.daemon = Some(daemon);
            return;
        }
        if self.defect == Some(Defect::DroppedBatch) {
            self.older = Some(self.disk.after_kill());
        }
        let mut waiting = Vec::new();
        let mut submissions = Vec::new();
        for entry in daemon.inbox.drain(..count) {
            let (reply, answer) = oneshot::channel();
            let face = if entry.asker == Asker::Client { Face::Cli } else { Face::Daemon };
            let origin = Origin { actor: actor(face), cause: entry.cause };
            submissions.push(Submission { command: entry.command.clone(), origin, reply });
            waiting.push((entry, answer));
        }
        let at = read_clock();
        self.model.note_births(submissions.iter().map(|submission| &submission.command), self.host_boot, at);
        daemon.writer.write(submissions);
        let gone = self.disk.is_gone();
        for (entry, mut answer) in waiting {
            match answer.try_recv() {
                // Who is gone answers no more; what was acknowledged before may have got through.
                Ok(answer) if gone && (answer.is_err() || self.random.percent(50)) => {}
                Ok(answer) => self.hear(&mut daemon, entry, answer),
                Err(_) => self.violate(format!("{:?} gets no answer", entry.command)),
            }
        }
        while let Ok(action) = daemon.actions.try_recv() {
            daemon.route(action);
        }
        self.daemon = Some(daemon);
        if gone {
            self.die_somehow();
        }
    }

    pub(super) fn die_somehow(&mut self) {
        let death = if self.random.percent(50) { Death::Kill } else { Death::PowerCut };
        self.die(death);
    }

    fn hear(&mut self, daemon: &mut Daemon, entry: Entry, answer: Result<Outcome, Refusal>) {
        self.tell(|| format!("engine: {:?} {:?}: {}", entry.asker, entry.command, text_of(&answer)));
        if let Ok(outcome) = &answer {
            if let Err(violation) = self.model.acknowledge(outcome.envelopes()) {
                self.violate(violation);
            }
            if let Outcome::Done(events) = outcome {
                self.check_lives(events);
            }
        }
        let append_error = match &answer {
            Err(Refusal::Append(error)) => Some(Arc::clone(error)),
            Ok(_) | Err(_) => None,
        };
        daemon.failed |=
            append_error.as_ref().is_some_and(|error| !matches!(**error, AppendError::StorageFull));
        let (asker, cause) = (entry.asker, entry.cause);
        match asker {
            Asker::Client => {
                if let Err(violation) = self.clients.hear(cause, &answer) {
                    self.violate(violation);
                }
            }
            Asker::Compaction => self.signed(&mut daemon.compacting, &answer),
            Asker::Nobody => {}
            Asker::Driver(workspace) | Asker::Pump(workspace, _) => match append_error {
                // A fact is true also when there is no space for it: it is recorded when there is.
                Some(error) if matches!(*error, AppendError::StorageFull) => {
                    if self.defect == Some(Defect::DroppedFact) {
                        self.recorded(daemon, workspace, asker);
                    } else {
                        daemon.inbox.push_back(entry);
                    }
                }
                Some(_) => {}
                None => self.recorded(daemon, workspace, asker),
            },
        }
    }

    fn recorded(&mut self, daemon: &mut Daemon, workspace: WorkspaceId, asker: Asker) {
        let Some(driver) = daemon.drivers.get_mut(&workspace) else { return };
        match asker {
            Asker::Driver(_) => driver.recorded(),
            Asker::Pump(_, work) => {
                if driver.recorded_work(work) {
                    self.guests.forget(workspace, work);
                }
            }
            Asker::Client | Asker::Compaction | Asker::Nobody => {}
        }
        if driver.is_over() {
            daemon.drivers.remove(&workspace);
        }
    }

    /// Lets one driver do something.
    pub(super) fn drive(&mut self) {
        let Some(mut daemon) = self.daemon.take() else { return };
        let able =
            daemon.drivers.iter().filter(|(workspace, driver)| driver.can_step(**workspace, &self.guests));
        let able: Vec<_> = able.map(|(workspace, _)| *workspace).collect();
        let state = daemon.state();
        if let Some(workspace) = self.random.pick(able)
            && let Some(driver) = daemon.drivers.get_mut(&workspace)
        {
            let mut reach = Reach {
                workspace,
                state: &state,
                reader: &daemon.reader,
                inbox: &mut daemon.inbox,
                guests: &mut self.guests,
                random: &mut self.random,
                defect: self.defect,
            };
            let done = driver.step(&mut reach);
            self.tell(|| format!("driver {workspace}: {done}"));
        }
        self.daemon = Some(daemon);
    }

    /// Looks for what has lived its time, as `crate::expiry` does.
    pub(super) fn reap(&mut self) {
        let now = read_clock().wall;
        if let Some(daemon) = &mut self.daemon {
            daemon.inbox.push_back(Entry::fact(Command::ReapExpired { now }, Asker::Nobody));
        }
    }

    /// Checks that what ends because its time is over has had its time.
    fn check_lives(&mut self, events: &[Arc<Envelope>]) {
        for envelope in events {
            if let Event::WorkspaceDeleting(event) = &envelope.event
                && event.reason == DeleteReason::Expired
                && let Some(violation) = self.model.too_early(event.workspace, self.host_boot, read_clock())
            {
                self.violate(violation);
            }
        }
    }
}

fn text_of(answer: &Result<Outcome, Refusal>) -> String {
    match answer {
        Ok(outcome) => {
            let events = outcome.envelopes().iter();
            let events: Vec<_> =
                events.map(|envelope| format!("{} {:?}", envelope.seq, envelope.event)).collect();
            let word = if matches!(outcome, Outcome::Done(_)) { "done" } else { "repeated" };
            format!("{word} [{}]", events.join(", "))
        }
        Err(refusal) => refusal.to_string(),
    }
}
