//! What must be true, from answers, log and guests alone: written apart from the rules, and much simpler than they are.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pyro_core::{
    Cause, Command, Envelope, Event, Evidence, ExecNumber, ExitStatus, Operation, Phase, RequestId, Seq,
    ShellId, State, SyncNumber, WorkspaceId, evolve,
};
use pyro_store::BaseInfo;

use super::client::Clients;
use super::daemon::LIMITS;
use super::guest::{Deed, Guests, Work};
use crate::clock::Reading;

/// Longest time that a life may be cut short by a clock that was set by less than is recorded, in microseconds.
const TOLERANCE_US: u64 = 2_000_000;

/// Everything that is known for certain.
#[derive(Debug, Default)]
pub(super) struct Model {
    /// Every event that an answer or an earlier look at the log has shown.
    known: BTreeMap<Seq, Envelope>,
    /// When each workspace was asked for: boot of the host, and time since then.
    births: BTreeMap<WorkspaceId, (u32, u64, u64)>,
}

/// A workspace, as its events tell it.
#[derive(Debug, Default)]
struct Space {
    phase: &'static str,
    mem_mib: u64,
    boots: u32,
    name: Option<String>,
    has_guest: bool,
    work: BTreeMap<Work, Fate>,
    /// What its guest has said not to know.
    unknown: BTreeSet<Work>,
    closed: BTreeSet<ShellId>,
    input: BTreeMap<ShellId, Vec<u8>>,
    deleted: bool,
}

/// What became of a piece of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Requested,
    Running,
    Ended(Option<ExitStatus>),
    Failed,
    Lost,
}

impl Fate {
    const fn is_open(self) -> bool {
        matches!(self, Self::Requested | Self::Running)
    }
}

impl Model {
    /// Takes events that somebody was told of.
    pub(super) fn acknowledge(&mut self, envelopes: &[Arc<Envelope>]) -> Result<(), String> {
        for envelope in envelopes {
            match self.known.get(&envelope.seq) {
                Some(known) if *known != **envelope => {
                    return Err(format!("{envelope:?} was acknowledged in the place of {known:?}"));
                }
                Some(_) => {}
                None => drop(self.known.insert(envelope.seq, (**envelope).clone())),
            }
        }
        Ok(())
    }

    /// Takes note of when workspaces are created, if they are.
    pub(super) fn note_births<'a>(
        &mut self,
        commands: impl Iterator<Item = &'a Command>,
        host_boot: u32,
        now: Reading,
    ) {
        for command in commands {
            if let Command::OpenWorkspace { workspace, spec, .. } | Command::Run { workspace, spec, .. } =
                command
            {
                let life_us = spec.ttl_seconds * 1_000_000;
                self.births.insert(*workspace, (host_boot, now.since_boot_us, life_us));
            }
        }
    }

    /// Tells what is wrong with a life that ends now because its time is over; `None` when it is.
    pub(super) fn too_early(&self, workspace: WorkspaceId, host_boot: u32, now: Reading) -> Option<String> {
        let (boot, born_us, life_us) = *self.births.get(&workspace)?;
        let lived_us = now.since_boot_us.saturating_sub(born_us) + TOLERANCE_US;
        (boot == host_boot && lived_us < life_us)
            .then(|| format!("{workspace} has lived {lived_us} of {life_us} microseconds and is to end"))
    }

    /// Returns the requests that have events before a record.
    pub(super) fn requests_before(&self, first: Seq) -> BTreeSet<RequestId> {
        let requests = self.known.range(..first).filter_map(|(_, envelope)| match envelope.cause {
            Cause::Request(request) => Some(request),
            Cause::Observation => None,
        });
        requests.collect()
    }

    /// Compares what a new daemon finds with everything that is known. What was dropped is known from before.
    pub(super) fn compare(
        &mut self,
        base: Option<BaseInfo>,
        events: Vec<Envelope>,
        state: &State,
        guests: &Guests,
        clients: &Clients,
    ) -> Result<(), String> {
        let dropped = self.dropped(base, state)?;
        let events = [dropped, events].concat();
        self.compare_known(&events)?;
        compare_requests(&events, clients)?;
        let mut folded = State::default();
        let mut spaces = BTreeMap::new();
        for envelope in &events {
            evolve(&mut folded, envelope);
            follow(&mut spaces, &envelope.event).map_err(|why| format!("{why}: {envelope:?}"))?;
            check_limits(&spaces).map_err(|why| format!("{why} after {envelope:?}"))?;
        }
        if folded != *state {
            return Err(format!("the state is {state:?}, the log says {folded:?}"));
        }
        compare_state(&spaces, state)?;
        compare_guests(&spaces, guests)?;
        self.known = events.into_iter().map(|envelope| (envelope.seq, envelope)).collect();
        Ok(())
    }

    /// Returns the events that a base stands for; an error tells why it must not.
    fn dropped(&self, base: Option<BaseInfo>, state: &State) -> Result<Vec<Envelope>, String> {
        let signed_off = state.compacted.as_ref().map(|event| (event.first, event.base));
        if base.map(|base| (base.first, base.digest)) != signed_off {
            return Err(format!("{base:?} stands for what was dropped, and {signed_off:?} was signed off"));
        }
        let first = base.map_or(Seq(1), |base| base.first);
        Ok(self.known.range(..first).map(|(_, envelope)| envelope.clone()).collect())
    }

    fn compare_known(&self, events: &[Envelope]) -> Result<(), String> {
        let mut found = events.iter();
        for (seq, known) in &self.known {
            match found.find(|envelope| envelope.seq >= *seq) {
                Some(envelope) if envelope == known => {}
                other => return Err(format!("{known:?} was acknowledged and is {other:?} now")),
            }
        }
        let dense = events.iter().zip(1..).all(|(envelope, seq)| envelope.seq == Seq(seq));
        if dense { Ok(()) } else { Err("the log has a gap".to_owned()) }
    }
}

/// Each request has at most one batch, and one that was asked for.
fn compare_requests(events: &[Envelope], clients: &Clients) -> Result<(), String> {
    let mut batches: BTreeMap<RequestId, Vec<&Envelope>> = BTreeMap::new();
    for envelope in events {
        if let Cause::Request(request) = envelope.cause {
            batches.entry(request).or_default().push(envelope);
        }
    }
    for (request, batch) in &batches {
        let Some(asked) = clients.asked(*request) else {
            return Err(format!("nobody asked for {batch:?}"));
        };
        match &asked.events {
            Some(first) if first.iter().map(Arc::as_ref).eq(batch.iter().copied()) => {}
            Some(first) => return Err(format!("{request:?} has {batch:?}, the answer was {first:?}")),
            None if asked.open > 0 => {}
            None => return Err(format!("{request:?} was refused, and has {batch:?}")),
        }
        let seqs = batch.iter().map(|envelope| envelope.seq.0);
        let first = batch.first().map_or(0, |envelope| envelope.seq.0);
        if !seqs.eq((first..).take(batch.len())) {
            return Err(format!("{request:?} had two effects: {batch:?}"));
        }
    }
    let missing =
        clients.all().find(|(request, asked)| asked.events.is_some() && !batches.contains_key(request));
    missing.map_or(Ok(()), |(request, asked)| Err(format!("{request:?} had {asked:?}, and nothing is left")))
}

/// Takes one event; an error tells why it cannot be.
fn follow(spaces: &mut BTreeMap<WorkspaceId, Space>, event: &Event) -> Result<(), &'static str> {
    let Some(id) = event.workspace() else { return Ok(()) };
    if let Event::WorkspaceCreated(event) = event {
        let space = Space { phase: "created", mem_mib: event.spec.mem_mib, ..Space::default() };
        return if spaces.insert(id, space).is_none() { Ok(()) } else { Err("created twice") };
    }
    if let Event::WorkspaceLabeled(event) = event {
        let taken = |space: &Space| !space.deleted && event.name.is_some() && space.name == event.name;
        if spaces.values().any(taken) {
            return Err("two have one name");
        }
    }
    let space = spaces.get_mut(&id).ok_or("about nothing")?;
    if space.deleted {
        return Err("after the end");
    }
    follow_life(space, event)?;
    follow_work(space, event)
}

fn follow_life(space: &mut Space, event: &Event) -> Result<(), &'static str> {
    let (from, to, has_guest): (&[&str], _, _) = match event {
        Event::WorkspaceLabeled(event) => {
            space.name.clone_from(&event.name);
            return Ok(());
        }
        Event::WorkspaceStarting(_) => {
            space.boots += 1;
            (&["created", "stopped"], "starting", true)
        }
        Event::WorkspaceStarted(_) => (&["starting"], "started", true),
        Event::WorkspaceStartFailed(_) => (&["starting"], "stopped", false),
        Event::WorkspaceStopping(_) => (&["started"], "stopping", true),
        Event::WorkspaceStopped(_) => (&["started", "stopping"], "stopped", false),
        Event::WorkspaceDeleting(_) => {
            (&["created", "starting", "started", "stopping", "stopped"], "deleting", space.has_guest)
        }
        Event::WorkspaceDeleted(_) => {
            space.deleted = true;
            (&["deleting"], "deleted", false)
        }
        _ => return Ok(()),
    };
    if !from.contains(&space.phase) {
        return Err("out of order");
    }
    (space.phase, space.has_guest) = (to, has_guest);
    if space.deleted && space.work.values().any(|fate| fate.is_open()) {
        return Err("open work in what is deleted");
    }
    Ok(())
}

fn follow_work(space: &mut Space, event: &Event) -> Result<(), &'static str> {
    let (work, fate) = match event {
        Event::ExecRequested(event) => {
            let count = space.work.keys().filter(|work| matches!(work, Work::Exec(_))).count();
            if u32::try_from(count + 1) != Ok(event.exec.0) {
                return Err("execs are not numbered");
            }
            (Work::Exec(event.exec), Fate::Requested)
        }
        Event::ExecStarted(event) => (Work::Exec(event.exec), Fate::Running),
        Event::ExecExited(event) => (Work::Exec(event.exec), Fate::Ended(Some(event.status))),
        Event::ExecFailed(event) => (Work::Exec(event.exec), Fate::Failed),
        Event::ExecLost(event) => (Work::Exec(event.exec), Fate::Lost),
        Event::ShellRequested(event) => (Work::Shell(event.shell), Fate::Requested),
        Event::ShellStarted(event) => (Work::Shell(event.shell), Fate::Running),
        Event::ShellExited(event) => (Work::Shell(event.shell), Fate::Ended(Some(event.status))),
        Event::ShellFailed(event) => (Work::Shell(event.shell), Fate::Failed),
        Event::ShellLost(event) => (Work::Shell(event.shell), Fate::Lost),
        Event::SyncRequested(event) => (Work::Sync(event.sync), Fate::Requested),
        Event::SyncFinished(event) => (Work::Sync(event.sync), Fate::Ended(None)),
        Event::SyncFailed(event) => (Work::Sync(event.sync), Fate::Failed),
        Event::SyncLost(event) => (Work::Sync(event.sync), Fate::Lost),
        Event::OperationResolved(event) => {
            let work = match event.operation {
                Operation::Exec(exec) => Work::Exec(exec),
                Operation::Shell(shell) => Work::Shell(shell),
                Operation::Sync(sync) => Work::Sync(sync),
            };
            if event.evidence == Evidence::Unknown {
                space.unknown.insert(work);
            }
            let open = space.work.get(&work).is_some_and(|fate| fate.is_open());
            return if open { Ok(()) } else { Err("evidence of nothing that is open") };
        }
        Event::ShellInput(event) => {
            let input = space.input.entry(event.shell).or_default();
            if input.len() as u64 != event.offset {
                return Err("input with a hole");
            }
            input.extend_from_slice(&event.data);
            return Ok(());
        }
        Event::ShellClosed(event) => {
            return if space.closed.insert(event.shell) { Ok(()) } else { Err("closed twice") };
        }
        _ => return Ok(()),
    };
    if matches!(fate, Fate::Running | Fate::Ended(_)) && space.unknown.contains(&work) {
        return Err("ran after its guest did not know it");
    }
    match (space.work.insert(work, fate), fate) {
        (None, Fate::Requested)
        | (Some(Fate::Requested), Fate::Running)
        | (Some(Fate::Requested | Fate::Running), Fate::Ended(_) | Fate::Lost)
        | (Some(Fate::Requested), Fate::Failed) => Ok(()),
        // The report of the start is recorded late or never, and its guest need not have told it.
        (Some(Fate::Running), Fate::Failed) => Err("failed after it ran"),
        _ => Err("work out of order"),
    }
}

fn check_limits(spaces: &BTreeMap<WorkspaceId, Space>) -> Result<(), &'static str> {
    let there = spaces.values().filter(|space| !space.deleted);
    let guests: Vec<_> = there.clone().filter(|space| space.has_guest).collect();
    let open = |space: &Space| {
        let execs = space.work.iter().filter(|(work, fate)| matches!(work, Work::Exec(_)) && fate.is_open());
        execs.count()
    };
    if there.clone().count() > LIMITS.workspaces_max as usize {
        Err("too many workspaces")
    } else if guests.len() > LIMITS.guests_max as usize {
        Err("too many guests")
    } else if guests.iter().map(|space| space.mem_mib).sum::<u64>() > LIMITS.mem_mib_total {
        Err("too much memory")
    } else if there.clone().any(|space| open(space) > LIMITS.open_execs_max as usize) {
        Err("too many open execs")
    } else {
        Ok(())
    }
}

/// Compares the workspaces of the state with those that the events tell of.
fn compare_state(spaces: &BTreeMap<WorkspaceId, Space>, state: &State) -> Result<(), String> {
    let told = spaces.iter().filter(|(_, space)| !space.deleted).map(|(id, space)| (*id, view_of(space)));
    let held = state.workspaces.iter().map(|(id, workspace)| {
        let execs = workspace.open_execs.keys().map(|exec| Work::Exec(*exec));
        let shells = workspace.shells.iter().filter(|(_, shell)| shell.phase.is_open());
        let syncs = workspace.open_syncs.keys().map(|sync: &SyncNumber| Work::Sync(*sync));
        let open = execs.chain(shells.map(|(shell, _)| Work::Shell(*shell))).chain(syncs).collect();
        let phase = match &workspace.phase {
            Phase::Created => "created",
            Phase::Starting => "starting",
            Phase::Started => "started",
            Phase::Stopping => "stopping",
            Phase::Stopped(_) => "stopped",
            Phase::Deleting { .. } => "deleting",
        };
        (*id, (phase, workspace.name.clone(), ExecNumber(workspace.exec_count), open))
    });
    let (told, held): (BTreeMap<_, _>, BTreeMap<_, _>) = (told.collect(), held.collect());
    if told == held { Ok(()) } else { Err(format!("the state has {held:?}, the events tell {told:?}")) }
}

type View = (&'static str, Option<String>, ExecNumber, BTreeSet<Work>);

fn view_of(space: &Space) -> View {
    let open = space.work.iter().filter(|(_, fate)| fate.is_open()).map(|(work, _)| *work);
    let execs = space.work.keys().filter(|work| matches!(work, Work::Exec(_))).count();
    let count = ExecNumber(u32::try_from(execs).unwrap_or(u32::MAX));
    (space.phase, space.name.clone(), count, open.collect())
}

/// Compares what is on record with what was done.
fn compare_guests(spaces: &BTreeMap<WorkspaceId, Space>, guests: &Guests) -> Result<(), String> {
    for id in guests.alive() {
        let space = spaces.get(&id).ok_or_else(|| format!("a guest of {id}, which nobody created"))?;
        if !space.has_guest {
            return Err(format!("{id} is {} and has a guest", space.phase));
        }
    }
    for (id, boots) in &guests.boots {
        let recorded = spaces.get(id).map_or(0, |space| space.boots);
        if *boots > recorded {
            return Err(format!("{id} was booted {boots} times, {recorded} are on record"));
        }
    }
    for ((id, work), deed) in &guests.deeds {
        let space = spaces.get(id).ok_or_else(|| format!("{work:?} in {id}, which nobody created"))?;
        let fate = space.work.get(work).ok_or_else(|| format!("{work:?} of {id} ran without a record"))?;
        compare_deed(space, *work, *fate, deed, guests).map_err(|why| format!("{work:?} of {id}: {why}"))?;
    }
    for (id, space) in spaces {
        for (work, fate) in &space.work {
            if matches!(fate, Fate::Ended(_)) && !guests.deeds.contains_key(&(*id, *work)) {
                return Err(format!("{work:?} of {id} is {fate:?} and never ran"));
            }
        }
    }
    Ok(())
}

fn compare_deed(space: &Space, work: Work, fate: Fate, deed: &Deed, guests: &Guests) -> Result<(), String> {
    if deed.starts > 1 {
        return Err(format!("it ran {} times", deed.starts));
    }
    match fate {
        Fate::Requested | Fate::Running => {}
        Fate::Ended(status) if status.is_none() || status == deed.end => {}
        Fate::Ended(status) => return Err(format!("it ended with {:?}, recorded is {status:?}", deed.end)),
        Fate::Failed => return Err("it ran, and is recorded as one that never did".to_owned()),
        Fate::Lost if guests.is_over(deed.life) => {}
        Fate::Lost => return Err("it is recorded as lost, and its guest lives".to_owned()),
    }
    if let Work::Shell(shell) = work {
        let input = space.input.get(&shell).map_or(&[][..], Vec::as_slice);
        if !input.starts_with(&deed.typed) {
            return Err(format!("{:?} was typed, recorded is {input:?}", deed.typed));
        }
    }
    Ok(())
}
