//! What a compaction carries over: the events of the dropped part that something still needs.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use crate::environment::EnvironmentName;
use crate::event::{Accelerator, Backend, Envelope, Event, ShellInput};
use crate::evolve::evolve;
use crate::ids::{ExecNumber, Seq, ShellId, SyncNumber, WorkspaceId};
use crate::state::{Shell, State, Workspace};

/// Most bytes that were typed into a shell and that its guest may still have to be given from the log.
pub const UNRECEIVED_LEN_MAX: u64 = 1 << 20;

/// Chooses the events of the first part of a log that must outlive it.
///
/// All events of that part are shown to it, and then it tells of each whether it is needed. The fold of the needed ones
/// is the fold of all, but for its position. Besides, they hold what is told of workspaces that are not deleted: their
/// commands with their ends, the digests of all output that is still there, and input that a guest may lack.
#[derive(Clone, Debug, Default)]
pub struct Carry {
    state: State,
    daemon: Seq,
    limits: Seq,
    compacted: Seq,
    clocks: Vec<Seq>,
    /// Where the tree of files is shown.
    mounts: BTreeMap<String, Seq>,
    probes: BTreeMap<(Backend, Accelerator), Seq>,
    environments: BTreeMap<EnvironmentName, Seq>,
    boots: BTreeMap<(Backend, Accelerator), Seq>,
    /// Workspaces that are not deleted.
    created: BTreeMap<WorkspaceId, Seq>,
    /// The last change of the size of each shell.
    sizes: BTreeMap<(WorkspaceId, ShellId), Seq>,
    /// The last input of each shell.
    inputs: BTreeMap<(WorkspaceId, ShellId), Seq>,
}

impl Carry {
    /// Takes note of the next event.
    pub fn see(&mut self, envelope: &Envelope) {
        evolve(&mut self.state, envelope);
        let seq = envelope.seq;
        match &envelope.event {
            Event::DaemonStarted(_) => self.daemon = seq,
            Event::LimitsChanged(_) => self.limits = seq,
            Event::LogCompacted(_) => self.compacted = seq,
            Event::ClockObserved(_) => self.clocks.push(seq),
            Event::Mounted(event) => {
                self.mounts.insert(event.path.clone(), seq);
            }
            Event::Unmounted(event) => {
                self.mounts.remove(&event.path);
            }
            Event::BackendProbed(event) => {
                self.probes.insert((event.backend, event.accelerator), seq);
            }
            Event::EnvironmentInstalled(event) => {
                self.environments.insert(event.name.clone(), seq);
            }
            Event::WorkspaceCreated(event) => {
                self.created.insert(event.workspace, seq);
            }
            Event::WorkspaceStarted(event) => {
                self.boots.insert((event.backend, event.accelerator), seq);
            }
            Event::WorkspaceDeleted(event) => self.forget(event.workspace),
            Event::ShellResized(event) => {
                self.sizes.insert((event.workspace, event.shell), seq);
            }
            Event::ShellInput(event) => {
                self.inputs.insert((event.workspace, event.shell), seq);
            }
            _ => {}
        }
    }

    fn forget(&mut self, workspace: WorkspaceId) {
        self.created.remove(&workspace);
        self.sizes.retain(|(id, _), _| *id != workspace);
        self.inputs.retain(|(id, _), _| *id != workspace);
    }

    /// Returns the fold of all events that were seen.
    #[must_use]
    pub const fn state(&self) -> &State {
        &self.state
    }

    /// Tells whether an event that was seen is needed further on.
    #[must_use]
    pub fn needs(&self, envelope: &Envelope) -> bool {
        let seq = envelope.seq;
        match &envelope.event {
            Event::DaemonStarted(_) => seq == self.daemon,
            Event::LimitsChanged(_) => seq == self.limits,
            Event::LogCompacted(_) => seq == self.compacted,
            Event::ClockObserved(_) => seq >= self.first_clock(),
            Event::Mounted(event) => self.mounts.get(&event.path) == Some(&seq),
            Event::BackendProbed(event) => self.probes.get(&(event.backend, event.accelerator)) == Some(&seq),
            Event::EnvironmentInstalled(event) => self.environments.get(&event.name) == Some(&seq),
            Event::DaemonStopped(_)
            | Event::Unmounted(_)
            | Event::AccessRefused(_)
            | Event::EnvironmentInstallFailed(_)
            | Event::EnvironmentRemoved(_)
            | Event::RequestMet(_) => false,
            Event::WorkspaceStarted(event)
                if self.boots.get(&(event.backend, event.accelerator)) == Some(&seq) =>
            {
                true
            }
            // What is not known here, only a newer version can judge.
            event => event.workspace().is_none_or(|id| self.workspace_needs(id, envelope)),
        }
    }

    /// Returns the first clock that is needed: the one that was in force when the oldest workspace was created.
    fn first_clock(&self) -> Seq {
        let oldest = self.created.values().min().copied().unwrap_or(Seq(u64::MAX));
        self.clocks.iter().rev().find(|clock| **clock < oldest).copied().unwrap_or_default()
    }

    fn workspace_needs(&self, id: WorkspaceId, envelope: &Envelope) -> bool {
        let born = self.created.get(&id).is_some_and(|created| *created <= envelope.seq);
        let Some(workspace) = self.state.workspace(id).filter(|_| born) else { return false };
        let is_open = |exec: ExecNumber| workspace.open_execs.contains_key(&exec);
        match &envelope.event {
            Event::ExecStarted(event) => is_open(event.exec),
            Event::ExecCancelRequested(event) => is_open(event.exec),
            Event::ShellInput(event) => self.input_needed(workspace, event, envelope.seq),
            Event::ShellResized(event) => {
                workspace.shells.contains_key(&event.shell)
                    && self.sizes.get(&(id, event.shell)) == Some(&envelope.seq)
            }
            Event::ShellSignaled(_) => false,
            Event::SyncRequested(event) => sync_needed(workspace, event.sync),
            Event::SyncFinished(event) => sync_needed(workspace, event.sync),
            Event::SyncFailed(event) => sync_needed(workspace, event.sync),
            Event::SyncLost(event) => sync_needed(workspace, event.sync),
            Event::SyncCancelRequested(event) => sync_needed(workspace, event.sync),
            _ => true,
        }
    }

    fn input_needed(&self, workspace: &Workspace, event: &ShellInput, seq: Seq) -> bool {
        let Some(Shell { phase, input_len, .. }) = workspace.shells.get(&event.shell) else { return false };
        let end = event.offset + event.data.len() as u64;
        let unreceived = phase.is_open() && end + UNRECEIVED_LEN_MAX > *input_len;
        unreceived || self.inputs.get(&(event.workspace, event.shell)) == Some(&seq)
    }
}

/// Tells whether something still depends on a sync: that it goes on, that it was the first, which gave the workspace what it
/// began with, or that it was the last, which the next one is counted from.
fn sync_needed(workspace: &Workspace, sync: SyncNumber) -> bool {
    sync == SyncNumber(1) || sync.0 == workspace.sync_count || workspace.open_syncs.contains_key(&sync)
}
