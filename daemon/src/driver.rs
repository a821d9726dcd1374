//! Drivers: one task per workspace performs its actions, owns its guest and reports what it sees.
//!
//! ```text
//! idle --Boot--> booting --answers--> running --Stop or death--> idle
//!   \               |                    |
//!    +---Delete-----+-------Delete-------+--> gone
//! ```
//!
//! A boot can be interrupted by a deletion only; the rules allow nothing else meanwhile. Execs and shells run in tasks of
//! their own and end by themselves when the guest is gone.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use pyro_core::{
    Action, Command, DeleteReason, ExecNumber, Lifetime, Operation, Phase, ShellId, State, StopReason,
    SyncNumber, Workspace, WorkspaceId, WorkspaceStartFailed, WorkspaceStarted, WorkspaceStopped, reconcile,
};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::backend::{self, Remains, Running};
use crate::context::Context;
use crate::evidence;
use crate::exec;
use crate::fate::Witness;
use crate::shell::{self, Order};
use crate::sync::{self, Syncs};

/// How long the execs and shells of a dead guest may take to see that it is dead.
const WORK_END_DEADLINE: Duration = Duration::from_secs(10);

/// Hands actions to the drivers, in their order, starting a driver with the first action of its workspace.
///
/// What an earlier daemon left open in the `inherited` state comes first.
pub(crate) async fn dispatch(
    context: Arc<Context>,
    mut actions: mpsc::UnboundedReceiver<Action>,
    inherited: Arc<State>,
) {
    let mut drivers: HashMap<WorkspaceId, mpsc::UnboundedSender<Action>> = HashMap::new();
    let mut leftovers = reconcile(&inherited).into_iter();
    loop {
        let next = match leftovers.next() {
            Some(action) => Some(action),
            None => actions.recv().await,
        };
        let Some(action) = next else { return };
        let workspace = action.workspace();
        let driver = drivers.entry(workspace).or_insert_with(|| {
            start(&context, workspace, inherited.workspaces.get(&workspace).map(Arc::clone))
        });
        // A driver that has ended had nothing left to do: its workspace is deleted.
        let _ended = driver.send(action);
        drivers.retain(|_, driver| !driver.is_closed());
    }
}

fn start(
    context: &Arc<Context>,
    workspace: WorkspaceId,
    inherited: Option<Arc<Workspace>>,
) -> mpsc::UnboundedSender<Action> {
    let (sender, actions) = mpsc::unbounded_channel();
    let driver = Driver {
        context: Arc::clone(context),
        workspace,
        inherited,
        actions,
        guest: None,
        work: JoinSet::new(),
        kill: HashMap::new(),
        shells: HashMap::new(),
        syncs: Syncs::default(),
        witness: Witness::default(),
    };
    tokio::spawn(driver.run());
    sender
}

struct Driver {
    context: Arc<Context>,
    workspace: WorkspaceId,
    /// The workspace as an earlier daemon left it; `None` when that knew none.
    inherited: Option<Arc<Workspace>>,
    actions: mpsc::UnboundedReceiver<Action>,
    guest: Option<Running>,
    work: JoinSet<Work>,
    kill: HashMap<ExecNumber, CancellationToken>,
    shells: HashMap<ShellId, mpsc::UnboundedSender<Order>>,
    syncs: Syncs,
    witness: Witness,
}

/// What goes on in a guest.
#[derive(Clone, Copy, Debug)]
enum Work {
    Exec(ExecNumber),
    Shell(ShellId),
}

/// Whether there is anything left to drive.
enum Next {
    GoOn,
    End,
}

impl Driver {
    async fn run(mut self) {
        loop {
            let next = tokio::select! {
                action = self.actions.recv() => match action {
                    Some(action) => self.perform(action).await,
                    None => Next::End,
                },
                reason = gone(self.guest.as_ref()) => self.bury(reason).await,
                Some(ended) = self.work.join_next() => self.forget(ended),
                () = self.syncs.ended() => Next::GoOn,
            };
            if matches!(next, Next::End) {
                return;
            }
        }
    }

    async fn perform(&mut self, action: Action) -> Next {
        tracing::debug!(?action, "perform");
        match action {
            Action::Boot { .. } => self.boot().await,
            Action::Exec { exec, .. } => self.start_exec(exec, exec::Begin::Send),
            Action::KillExec { exec, .. } => self.kill_exec(exec),
            Action::Stop { .. } => self.stop().await,
            Action::Delete { .. } => self.delete().await,
            Action::Adopt { .. } => self.adopt().await,
            Action::AbandonBoot { .. } => self.abandon_boot().await,
            Action::OpenShell { shell, .. } => self.start_shell(shell, shell::Begin::Send),
            Action::TypeInput { shell, offset, data, .. } => self.order(shell, Order::Type { offset, data }),
            Action::ResizeShell { shell, size, .. } => self.order(shell, Order::Resize(size)),
            Action::SignalShell { shell, signal, .. } => self.order(shell, Order::Signal(signal)),
            Action::CloseShell { shell, .. } => self.order(shell, Order::Close),
            Action::Sync { sync, .. } => self.start_sync(sync, sync::Begin::Send),
            Action::CancelSync { sync, .. } => {
                self.syncs.cancel(sync);
                Next::GoOn
            }
        }
    }

    async fn boot(&mut self) -> Next {
        let Some(spec) =
            self.context.engine.state().workspace(self.workspace).map(|workspace| workspace.spec.clone())
        else {
            return Next::End;
        };
        let context = Arc::clone(&self.context);
        let mut boot = Box::pin(backend::boot(&context, self.workspace, &spec));
        loop {
            tokio::select! {
                booted = &mut boot => return match booted {
                    Ok(running) => self.started(running).await,
                    Err(error) => self.start_failed(error.to_string()).await,
                },
                action = self.actions.recv() => match action {
                    Some(Action::Delete { .. }) => {
                        // Dropping the boot ends what it has spawned.
                        drop(boot);
                        return self.delete().await;
                    }
                    // The cancellation of an exec that has not been sent stands in the state.
                    Some(_) => {}
                    None => return Next::End,
                },
            }
        }
    }

    async fn started(&mut self, running: Running) -> Next {
        let fact = WorkspaceStarted {
            workspace: self.workspace,
            backend: running.backend(),
            accelerator: running.accelerator(),
            process: running.process(),
            boot_ms: running.boot_ms(),
        };
        self.witness.begin();
        self.take_over(running);
        // When a deletion overtook the boot, its action is on the way and finds the guest here.
        self.context.record_fact(Command::RecordStarted(fact)).await;
        Next::GoOn
    }

    fn take_over(&mut self, running: Running) {
        self.context.live_files.appeared(self.workspace, running.guest().clone());
        self.guest = Some(running);
    }

    fn let_go(&mut self) -> Option<Running> {
        self.context.live_files.went(self.workspace);
        self.guest.take()
    }

    async fn start_failed(&self, reason: String) -> Next {
        tracing::warn!(workspace = %self.workspace, reason, "boot failed");
        let fact = WorkspaceStartFailed { workspace: self.workspace, reason };
        self.context.record_fact(Command::RecordStartFailed(fact)).await;
        Next::GoOn
    }

    fn start_exec(&mut self, number: ExecNumber, begin: exec::Begin) -> Next {
        let Some(running) = &self.guest else { return Next::GoOn };
        let kill = CancellationToken::new();
        // Whoever asked for its end did so while the guest was booting, or of an earlier daemon.
        if self.is_canceled(number) {
            kill.cancel();
        }
        self.kill.insert(number, kill.clone());
        let fate = self.witness.fate(&self.context, self.workspace);
        let pump =
            exec::Pump::new(&self.context, self.workspace, number, running.guest().clone(), fate, kill);
        self.work.spawn(async move {
            pump.run(begin).await;
            Work::Exec(number)
        });
        Next::GoOn
    }

    fn is_canceled(&self, number: ExecNumber) -> bool {
        let state = self.context.engine.state();
        let exec = state.workspace(self.workspace).and_then(|workspace| workspace.open_execs.get(&number));
        exec.is_some_and(|exec| exec.cancel_requested)
    }

    fn start_shell(&mut self, id: ShellId, begin: shell::Begin) -> Next {
        let Some(running) = &self.guest else { return Next::GoOn };
        let fate = self.witness.fate(&self.context, self.workspace);
        let (pump, orders) =
            shell::Pump::new(&self.context, self.workspace, id, running.guest().clone(), fate);
        self.shells.insert(id, orders);
        self.work.spawn(async move {
            pump.run(begin).await;
            Work::Shell(id)
        });
        Next::GoOn
    }

    fn order(&self, shell: ShellId, order: Order) -> Next {
        if let Some(orders) = self.shells.get(&shell) {
            // A shell that has ended takes no more orders.
            let _ended = orders.send(order);
        }
        Next::GoOn
    }

    fn kill_exec(&self, number: ExecNumber) -> Next {
        if let Some(kill) = self.kill.get(&number) {
            kill.cancel();
        }
        Next::GoOn
    }

    fn start_sync(&mut self, number: SyncNumber, begin: sync::Begin) -> Next {
        if let Some(running) = &self.guest {
            let fate = self.witness.fate(&self.context, self.workspace);
            self.syncs.begin(&self.context, self.workspace, number, running.guest().clone(), fate, begin);
        }
        Next::GoOn
    }

    fn forget(&mut self, ended: Result<Work, tokio::task::JoinError>) -> Next {
        match ended {
            Ok(Work::Exec(number)) => {
                self.kill.remove(&number);
            }
            Ok(Work::Shell(shell)) => {
                self.shells.remove(&shell);
            }
            Err(error) => {
                tracing::error!(workspace = %self.workspace, %error, "the task of an exec or shell failed");
            }
        }
        Next::GoOn
    }

    /// Records the death of the guest after its execs and shells have told what they saw.
    async fn bury(&mut self, reason: String) -> Next {
        if self.context.engine.is_closed() {
            // It is this daemon that ends; the guest lives on.
            return std::future::pending().await;
        }
        tracing::warn!(workspace = %self.workspace, reason, "guest is gone");
        drop(self.let_go());
        self.witness.tell(&reason);
        self.end_work().await;
        backend::clear(&self.context, self.workspace).await;
        let fact = WorkspaceStopped { workspace: self.workspace, reason: StopReason::GuestDied(reason) };
        self.context.record_fact(Command::RecordStopped(fact)).await;
        Next::GoOn
    }

    async fn end_work(&mut self) {
        let all = async { while self.work.join_next().await.is_some() {} };
        if tokio::time::timeout(WORK_END_DEADLINE, all).await.is_err() {
            self.work.shutdown().await;
        }
        self.kill.clear();
        self.shells.clear();
        self.syncs.end_all().await;
    }

    async fn stop(&mut self) -> Next {
        let remains = match self.let_go() {
            Some(running) => running.stop().await,
            None => Remains::Unknown,
        };
        self.end_work().await;
        if remains == Remains::Unknown {
            backend::clear(&self.context, self.workspace).await;
        }
        let fact = WorkspaceStopped { workspace: self.workspace, reason: StopReason::Requested };
        self.context.record_fact(Command::RecordStopped(fact)).await;
        Next::GoOn
    }

    async fn delete(&mut self) -> Next {
        let state = self.context.engine.state();
        let phase = state.workspace(self.workspace).map(|workspace| &workspace.phase);
        let remains = match (self.let_go(), phase) {
            (Some(running), Some(Phase::Deleting { reason: DeleteReason::Expired, .. })) => {
                running.stop().await
            }
            (Some(running), _) => running.kill().await,
            (None, _) => Remains::Unknown,
        };
        self.end_work().await;
        while let Err(error) = backend::destroy(&self.context, self.workspace, remains).await {
            tracing::error!(workspace = %self.workspace, %error, "failed to delete the workspace, trying again");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        if self.owes_output() {
            self.context.tethers.held_or_late(self.workspace).await;
        }
        if let Err(error) = self.context.outputs.remove_workspace(self.workspace) {
            tracing::error!(workspace = %self.workspace, %error, "failed to remove output files");
        }
        self.context.retention.forget(self.workspace);
        self.context.record_fact(Command::RecordDeleted { workspace: self.workspace }).await;
        Next::End
    }

    /// Tells whether a client may still come for the last bytes of its command: its daemon died in between.
    fn owes_output(&self) -> bool {
        let state = self.context.engine.state();
        state.workspace(self.workspace).is_some_and(|workspace| {
            workspace.lifetime == Lifetime::Client
                && matches!(workspace.phase, Phase::Deleting { reason: DeleteReason::PostExec, .. })
        })
    }

    /// Takes over the guest of an earlier daemon with all its open execs and shells.
    async fn adopt(&mut self) -> Next {
        // What was requested since comes as an action of its own.
        let Some(inherited) = self.inherited.take() else { return Next::End };
        let Some(fact) = &inherited.guest else {
            debug_assert!(inherited.phase != Phase::Started, "a started workspace has a guest");
            return Next::GoOn;
        };
        let execs = inherited.open_execs.keys();
        let shells = inherited.shells.iter().filter(|(_, shell)| shell.phase.is_open()).map(|(id, _)| id);
        match backend::adopt(&self.context, self.workspace, fact).await {
            Ok(running) => {
                self.witness.begin();
                self.take_over(running);
                for number in execs {
                    self.start_exec(*number, exec::Begin::Attach);
                }
                for shell in shells {
                    self.start_shell(*shell, shell::Begin::Attach);
                }
                for number in inherited.open_syncs.keys() {
                    self.start_sync(*number, sync::Begin::Ask);
                }
                Next::GoOn
            }
            Err(_) if self.context.engine.is_closed() => std::future::pending().await,
            Err(error) => {
                for number in execs {
                    exec::record_lost(&self.context, self.workspace, *number, &error.to_string()).await;
                }
                for shell in shells {
                    shell::record_lost(&self.context, self.workspace, *shell, &error.to_string()).await;
                }
                for sync in inherited.open_syncs.keys() {
                    let (operation, seen) = (Operation::Sync(*sync), error.to_string());
                    evidence::of_dead(&self.context, self.workspace, operation, &seen).await;
                }
                self.bury(error.to_string()).await
            }
        }
    }

    async fn abandon_boot(&mut self) -> Next {
        backend::clear(&self.context, self.workspace).await;
        self.start_failed("the daemon ended while the guest was booting; try again".to_owned()).await
    }
}

async fn gone(guest: Option<&Running>) -> String {
    match guest {
        Some(running) => running.gone().await,
        None => std::future::pending().await,
    }
}
