//! Typing into a shell without typing more than its guest can hold.

use std::sync::Arc;

use pyro_core::{
    Actor, Cause, Command, RequestId, ShellId, ShellPhase, State, TerminalSize, UNRECEIVED_LEN_MAX,
    WorkspaceId,
};
use pyro_runtime::guest::INPUT_HELD_MAX;

use super::trace::look;
use crate::context::Context;
use crate::engine::{Origin, Outcome, Refusal};
use crate::streams::{LiveInput, Typed};

// What a guest may lack of its input is not dropped from the log.
const _: () = assert!(INPUT_HELD_MAX as u64 <= UNRECEIVED_LEN_MAX);

/// Somebody who types into one shell.
pub(super) struct Typist {
    context: Arc<Context>,
    actor: Actor,
    workspace: WorkspaceId,
    shell: ShellId,
    live: Arc<LiveInput>,
}

/// What came of an attempt to type.
#[derive(Debug)]
pub(super) enum Attempt {
    /// It is in the log.
    Recorded(Outcome),
    /// There is no room beside so many bytes that wait. Nothing happened.
    NoRoom { held: u64 },
}

impl Typist {
    pub(super) fn new(context: &Arc<Context>, actor: &Actor, workspace: WorkspaceId, shell: ShellId) -> Self {
        let live = context.streams.input(workspace, shell);
        Self { context: Arc::clone(context), actor: actor.clone(), workspace, shell, live }
    }

    /// Records input when there is room for it, in the order of those who try at the same time.
    pub(super) async fn try_type(&self, data: Vec<u8>, request_id: RequestId) -> Result<Attempt, Refusal> {
        let _turn = self.live.turn.lock().await;
        let held = self.held(*self.live.typed().borrow());
        // What never fits is refused by the rules.
        if let Some(held) = held.filter(|held| !fits(*held, data.len()) && fits(0, data.len())) {
            return Ok(Attempt::NoRoom { held });
        }
        let (workspace, shell) = (self.workspace, self.shell);
        let wish = Command::TypeInput { workspace, shell, data };
        self.context.engine.submit(wish, self.origin(request_id)).await.map(Attempt::Recorded)
    }

    /// Records input as soon as there is room for it, unless it was recorded under the same id before.
    pub(super) async fn type_patiently(&self, data: Vec<u8>, request_id: RequestId) -> Result<(), Refusal> {
        loop {
            let room = |typed| self.held(typed).is_some_and(|held| fits(held, data.len()));
            // A shell that has ended makes no room; the rules say so.
            let _running = self.until(room).await;
            match self.try_type(data.clone(), request_id).await? {
                Attempt::Recorded(_) => return Ok(()),
                Attempt::NoRoom { .. } => {}
            }
        }
    }

    /// Records another size of the terminal.
    pub(super) async fn resize(&self, size: TerminalSize) -> Result<(), Refusal> {
        let wish = Command::ResizeShell { workspace: self.workspace, shell: self.shell, size };
        self.context.engine.submit(wish, self.origin(pyro_api::new_request_id())).await.map(drop)
    }

    /// Waits until the guest has said something of the input for which `ready` holds; `false` when the shell does not run
    /// any more, or not yet.
    pub(super) async fn until(&self, ready: impl Fn(Option<Typed>) -> bool) -> bool {
        let (mut typed, mut states) = (self.live.typed(), self.context.engine.states());
        tokio::select! {
            biased;
            known = typed.wait_for(|typed| ready(*typed)) => known.is_ok(),
            _ = states.wait_for(|state| !self.is_running(state)) => false,
        }
    }

    fn is_running(&self, state: &State) -> bool {
        look(state, self.workspace, self.shell).is_some_and(|shell| shell.phase == ShellPhase::Running)
    }

    /// Returns how many bytes wait to be read by the job; `None` when that is not known or the shell does not run.
    fn held(&self, typed: Option<Typed>) -> Option<u64> {
        let state = self.context.engine.state();
        let running = look(&state, self.workspace, self.shell).filter(|_| self.is_running(&state))?;
        Some(running.input_len.saturating_sub(typed?.consumed))
    }

    fn origin(&self, request_id: RequestId) -> Origin {
        Origin { actor: self.actor.clone(), cause: Cause::Request(request_id) }
    }
}

const fn fits(held: u64, len: usize) -> bool {
    held + len as u64 <= INPUT_HELD_MAX as u64
}
