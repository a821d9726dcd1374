//! Simulated drivers: they perform actions as `crate::driver` does, one step at a time.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use pyro_core::{
    Accelerator, Action, Backend, Command, Evidence, ExecLost, Process, ShellLost, State, StopReason,
    SyncLost, Workspace, WorkspaceId, WorkspaceStartFailed, WorkspaceStarted, WorkspaceStopped,
};
use pyro_store::Reader;

use super::daemon::{Asker, Entry};
use super::defect::Defect;
use super::guest::{Guests, Work};
use super::pump::{Pump, resolve};
use super::random::Random;

/// What a driver can see and change.
pub(super) struct Reach<'a> {
    pub(super) workspace: WorkspaceId,
    pub(super) state: &'a State,
    pub(super) reader: &'a Reader,
    pub(super) inbox: &'a mut VecDeque<Entry>,
    pub(super) guests: &'a mut Guests,
    pub(super) random: &'a mut Random,
    pub(super) defect: Option<Defect>,
}

impl Reach<'_> {
    pub(super) fn known(&self) -> Option<&Workspace> {
        self.state.workspace(self.workspace)
    }
}

/// The driver of one workspace.
#[derive(Debug)]
pub(super) struct Driver {
    /// The workspace as an earlier daemon left it.
    inherited: Option<Arc<Workspace>>,
    actions: VecDeque<Action>,
    /// The life of the guest that it has.
    guest: Option<u32>,
    stage: Stage,
    pumps: BTreeMap<Work, Pump>,
    /// The guest has been seen to end.
    seen_dead: bool,
}

/// What the driver itself is at. Pumps go on beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Idle,
    Booting,
    /// Waits for its pumps, and tells then.
    Ending(End),
    /// Waits until something is on record.
    Telling(After),
    Over,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Stopped,
    Died,
    Deleted,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    GoOn,
    End,
}

enum Step {
    Perform,
    FinishBoot,
    TellEnd(End),
    Bury,
    Pump(Work),
}

impl Driver {
    pub(super) const fn new(inherited: Option<Arc<Workspace>>) -> Self {
        Self {
            inherited,
            actions: VecDeque::new(),
            guest: None,
            stage: Stage::Idle,
            pumps: BTreeMap::new(),
            seen_dead: false,
        }
    }

    pub(super) fn push(&mut self, action: Action) {
        self.actions.push_back(action);
    }

    pub(super) fn is_idle(&self) -> bool {
        self.stage == Stage::Idle && self.actions.is_empty() && self.pumps.is_empty()
    }

    pub(super) fn is_over(&self) -> bool {
        self.stage == Stage::Over
    }

    pub(super) fn can_step(&self, workspace: WorkspaceId, guests: &Guests) -> bool {
        !self.steps(workspace, guests).is_empty()
    }

    fn steps(&self, workspace: WorkspaceId, guests: &Guests) -> Vec<Step> {
        let pumps = self.pumps.iter().filter(|(_, pump)| pump.can_step());
        let mut steps: Vec<_> = pumps.map(|(work, _)| Step::Pump(*work)).collect();
        match self.stage {
            Stage::Idle => {
                if !self.actions.is_empty() {
                    steps.push(Step::Perform);
                }
                if self.guest.is_some() && guests.life(workspace) != self.guest {
                    steps.push(Step::Bury);
                }
            }
            Stage::Booting => {
                steps.push(Step::FinishBoot);
                if !self.actions.is_empty() {
                    steps.push(Step::Perform);
                }
            }
            Stage::Ending(end) if self.pumps.is_empty() => steps.push(Step::TellEnd(end)),
            Stage::Ending(_) | Stage::Telling(_) | Stage::Over => {}
        }
        steps
    }

    pub(super) fn step(&mut self, reach: &mut Reach<'_>) -> String {
        let steps = self.steps(reach.workspace, reach.guests);
        match reach.random.pick(steps) {
            Some(Step::Perform) => self.perform(reach),
            Some(Step::FinishBoot) => self.finish_boot(reach),
            Some(Step::TellEnd(end)) => self.tell_end(reach, end),
            Some(Step::Bury) => {
                self.bury();
                "guest is gone".to_owned()
            }
            Some(Step::Pump(work)) => {
                let Some(pump) = self.pumps.get_mut(&work) else { return String::new() };
                let done = pump.step(reach, work, self.guest, self.seen_dead);
                format!("{work:?}: {done}")
            }
            None => "waits".to_owned(),
        }
    }

    /// Takes note that what the driver itself told is on record.
    pub(super) fn recorded(&mut self) {
        self.stage = match self.stage {
            Stage::Telling(After::End) => Stage::Over,
            Stage::Telling(After::GoOn) | Stage::Idle => Stage::Idle,
            Stage::Booting => Stage::Booting,
            Stage::Ending(end) => Stage::Ending(end),
            Stage::Over => Stage::Over,
        };
    }

    /// Takes note that the end of a piece of work is on record; tells whether the guest may forget it.
    pub(super) fn recorded_work(&mut self, work: Work) -> bool {
        self.pumps.remove(&work).is_some_and(|pump| pump.told_by_guest())
    }

    fn tell(&mut self, reach: &mut Reach<'_>, command: Command, after: After) {
        self.stage = Stage::Telling(after);
        reach.inbox.push_back(Entry::fact(command, Asker::Driver(reach.workspace)));
    }

    fn perform(&mut self, reach: &mut Reach<'_>) -> String {
        let Some(action) = self.actions.pop_front() else { return String::new() };
        let text = format!("performs {action:?}");
        if self.stage == Stage::Booting && !matches!(action, Action::Delete { .. }) {
            // What else there is to know stands in the state.
            return format!("{text}: not now");
        }
        match action {
            Action::Boot { workspace } => {
                if reach.known().is_some() {
                    self.guest = Some(reach.guests.boot(workspace));
                    self.stage = Stage::Booting;
                }
            }
            Action::Exec { exec, .. } => self.begin(Work::Exec(exec), Pump::send()),
            Action::OpenShell { shell, .. } => self.begin(Work::Shell(shell), Pump::send()),
            Action::Sync { sync, .. } => self.begin(Work::Sync(sync), Pump::send()),
            Action::KillExec { exec, .. } => self.order(Work::Exec(exec), Pump::kill),
            Action::CancelSync { sync, .. } => self.order(Work::Sync(sync), Pump::kill),
            Action::CloseShell { shell, .. } => self.order(Work::Shell(shell), Pump::kill),
            Action::TypeInput { shell, offset, data, .. } => {
                self.order(Work::Shell(shell), |pump| pump.type_in(offset, data));
            }
            Action::ResizeShell { .. } | Action::SignalShell { .. } => {}
            Action::Stop { workspace } => {
                reach.guests.end(workspace);
                self.guest = None;
                self.stage = Stage::Ending(End::Stopped);
            }
            Action::Delete { workspace } => {
                if reach.defect != Some(Defect::LeftGuest) {
                    reach.guests.end(workspace);
                }
                self.guest = None;
                self.stage = Stage::Ending(End::Deleted);
            }
            Action::Adopt { .. } => self.adopt(reach),
            Action::AbandonBoot { workspace } => {
                reach.guests.end(workspace);
                self.boot_failed(reach);
            }
        }
        text
    }

    fn begin(&mut self, work: Work, pump: Pump) {
        if self.guest.is_some() {
            self.pumps.insert(work, pump);
        }
    }

    fn order(&mut self, work: Work, order: impl FnOnce(&mut Pump)) {
        if let Some(pump) = self.pumps.get_mut(&work) {
            order(pump);
        }
    }

    fn finish_boot(&mut self, reach: &mut Reach<'_>) -> String {
        let alive = reach.guests.life(reach.workspace) == self.guest;
        if !alive || reach.random.percent(8) {
            reach.guests.end(reach.workspace);
            self.guest = None;
            self.boot_failed(reach);
            return "boot fails".to_owned();
        }
        self.seen_dead = false;
        let fact = WorkspaceStarted {
            workspace: reach.workspace,
            backend: Backend::Qemu,
            accelerator: Accelerator::Tcg,
            process: Process { pid: self.guest.unwrap_or(0), start_ticks: 7 },
            boot_ms: 300,
        };
        self.tell(reach, Command::RecordStarted(fact), After::GoOn);
        "guest answers".to_owned()
    }

    fn boot_failed(&mut self, reach: &mut Reach<'_>) {
        let fact = WorkspaceStartFailed { workspace: reach.workspace, reason: "simulated".to_owned() };
        self.tell(reach, Command::RecordStartFailed(fact), After::GoOn);
    }

    fn bury(&mut self) {
        self.guest = None;
        self.seen_dead = true;
        self.stage = Stage::Ending(End::Died);
    }

    fn tell_end(&mut self, reach: &mut Reach<'_>, end: End) -> String {
        let workspace = reach.workspace;
        let (command, after) = match end {
            End::Stopped => {
                let fact = WorkspaceStopped { workspace, reason: StopReason::Requested };
                (Command::RecordStopped(fact), After::GoOn)
            }
            End::Died => {
                let reason = StopReason::GuestDied("simulated".to_owned());
                (Command::RecordStopped(WorkspaceStopped { workspace, reason }), After::GoOn)
            }
            End::Deleted => (Command::RecordDeleted { workspace }, After::End),
        };
        self.tell(reach, command, after);
        format!("{end:?}")
    }

    /// Takes over the guest of an earlier daemon.
    fn adopt(&mut self, reach: &mut Reach<'_>) {
        let Some(inherited) = self.inherited.take() else { return };
        let known = inherited.guest.as_ref().map(|guest| guest.process.pid);
        let lives = known.is_some() && reach.guests.life(reach.workspace) == known;
        let execs =
            inherited.open_execs.iter().map(|(exec, open)| (Work::Exec(*exec), open.cancel_requested));
        let shells = inherited.shells.iter().filter(|(_, shell)| shell.phase.is_open());
        let shells = shells.map(|(shell, open)| (Work::Shell(*shell), open.closing));
        let syncs = inherited.open_syncs.keys().map(|sync| (Work::Sync(*sync), false));
        let open: Vec<_> = execs.chain(shells).chain(syncs).collect();
        for (work, to_end) in open {
            if !lives {
                resolve(reach, work, Evidence::GuestGone { seen: "simulated".to_owned() });
            }
            let mut pump = if !lives || reach.defect == Some(Defect::GivenUp) {
                Pump::report(lost(reach.workspace, work))
            } else if reach.defect == Some(Defect::Resent) {
                Pump::send()
            } else {
                Pump::attach()
            };
            if to_end && reach.defect != Some(Defect::ForgottenCancel) {
                pump.kill();
            }
            self.pumps.insert(work, pump);
        }
        if lives {
            self.guest = known;
        } else {
            self.bury();
        }
    }
}

/// Returns what is to be said of work whose guest is gone.
pub(super) fn lost(workspace: WorkspaceId, work: Work) -> Command {
    let reason = "the guest is gone".to_owned();
    match work {
        Work::Exec(exec) => {
            Command::RecordExecLost(ExecLost { workspace, exec, reason, stdout: None, stderr: None })
        }
        Work::Shell(shell) => Command::RecordShellLost(ShellLost { workspace, shell, reason, output: None }),
        Work::Sync(sync) => Command::RecordSyncLost(SyncLost { workspace, sync, reason }),
    }
}
