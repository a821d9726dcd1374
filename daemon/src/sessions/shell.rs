//! The `shell_*` operations that ask and answer.

use std::time::Duration;

use pyro_api::{
    ApiError, ClientMessage, ErrorCode, LogPoint, ShellCloseRequest, ShellCloseResult, ShellList,
    ShellListRequest, ShellObject, ShellOpenRequest, ShellReadRequest, ShellReadResult, ShellResizeRequest,
    ShellSignalRequest, ShellSignalResult, ShellWriteRequest, ShellWriteResult,
};
use pyro_core::{
    Command, Event, Phase, Rejection, RequestId, Seq, ShellEnd, ShellId, ShellPhase, ShellSignal,
    TerminalSize, WORKSPACE_PATH, WorkspaceId, WorkspaceKind,
};
use pyro_store::outputs::StreamId;
use tokio::time::{Instant, sleep, timeout};

use super::excerpt::excerpt;
use super::life::{check_beginning, gone, until_at};
use super::repeat::{Moment, is_met, same};
use super::run::reused;
use super::trace::{Trace, is_open, look, object, unknown};
use super::typist::{Attempt, Typist};
use super::{Failure, Session, error_of};
use crate::engine::{Outcome, Refusal};
use crate::streams::{LiveStream, catch_up};
use crate::window::End;

/// Tries to draw an id that is not taken: with 48 random bits, one that fails three times is no accident.
const DRAWS_MAX: u32 = 3;

/// Most characters that can be asked for at once.
const CHARS_MAX: u64 = 16 * 1024 * 1024;

/// Longest silence that can be waited for, and longest wait for any.
const IDLE_MAX: Duration = Duration::from_secs(30);

/// How long a guest may take to say that it has what was typed.
const RECEIVE_DEADLINE: Duration = Duration::from_secs(10);

const KIND: WorkspaceKind = WorkspaceKind::Workspace;

impl Session {
    pub(super) async fn shell_open(&mut self, request: ShellOpenRequest) -> Result<ShellObject, Failure> {
        let workspace = self.find_for(&request.workspace_id, KIND, request.request_id)?;
        let request_id = request.request_id.unwrap_or_else(pyro_api::new_request_id);
        let size = TerminalSize { columns: request.cols, rows: request.rows };
        let outcome = self.submit_open(workspace, &request.cwd, size, request_id).await?;
        let opened = outcome.envelopes().iter().find_map(|envelope| match &envelope.event {
            Event::ShellRequested(event) if event.size == size && is_cwd(&event.cwd, &request.cwd) => {
                Some((event.workspace, event.shell, envelope.seq))
            }
            _ => None,
        });
        let (workspace, shell, first) = opened.ok_or_else(reused)?;
        let ((), opened) = until_at(&self.context.engine, workspace, first, |event| match event {
            Event::ShellStarted(event) if event.shell == shell => Some(Ok(())),
            Event::ShellExited(event) if event.shell == shell => Some(Ok(())),
            Event::ShellFailed(event) if event.shell == shell => {
                Some(Err(ApiError::new(ErrorCode::ShellFailed, &event.reason)))
            }
            Event::ShellLost(event) if event.shell == shell => Some(Err(lost(shell, &event.reason))),
            Event::WorkspaceDeleted(_) => Some(Err(gone(workspace, KIND))),
            _ => None,
        })
        .await?;
        self.shell_at(workspace, shell, Moment::of(&outcome, opened)).await
    }

    async fn submit_open(
        &self,
        workspace: WorkspaceId,
        cwd: &str,
        size: TerminalSize,
        request_id: RequestId,
    ) -> Result<Outcome, Failure> {
        let mut taken = 0;
        loop {
            let wish = Command::OpenShell { workspace, shell: draw_id(), cwd: cwd.to_owned(), size };
            match self.context.engine.submit(wish, self.origin(Some(request_id))).await {
                Ok(outcome) => return Ok(outcome),
                Err(Refusal::Rejected(Rejection::ShellExists { .. })) if taken < DRAWS_MAX => taken += 1,
                Err(Refusal::Rejected(rejection @ Rejection::WrongPhase { .. })) => {
                    let hint = "`pyro workspace start` boots one that is stopped; its files are as they were";
                    return Err(ApiError::from(rejection).with_hint(hint).into());
                }
                Err(refusal) => return Err(error_of(refusal).into()),
            }
        }
    }

    pub(super) fn shell_list(&self, request: &ShellListRequest) -> Result<ShellList, Failure> {
        let id = self.find(&request.workspace_id, KIND)?;
        let state = self.context.engine.state();
        let workspace = state.workspace(id).ok_or_else(|| gone(id, KIND))?;
        let mut shells: Vec<_> = workspace.shells.iter().collect();
        shells.sort_by_key(|(shell, known)| (known.requested_at, **shell));
        let shells: Vec<_> = shells.into_iter().map(|(shell, known)| object(id, *shell, known)).collect();
        Ok(ShellList { workspace_id: id.to_string(), count: shells.len() as u64, shells })
    }

    pub(super) async fn shell_read(&mut self, request: ShellReadRequest) -> Result<ShellReadResult, Failure> {
        check_range("max_chars", request.max_chars, 1, CHARS_MAX)?;
        if let Some(point) = request.at {
            return self.shell_read_at(&request, point).await;
        }
        let (workspace, shell) = self.find_shell(&request.workspace_id, &request.shell_id, None).await?;
        let live = self.context.streams.of(workspace, StreamId::Shell(shell));
        catch_up(&self.context, workspace, StreamId::Shell(shell), &live);
        if let Some(idle_ms) = request.wait_for_idle_ms {
            check_range("wait_for_idle_ms", idle_ms, 1, IDLE_MAX.as_secs() * 1000)?;
            self.until_idle(&live, workspace, shell, Duration::from_millis(idle_ms)).await?;
        }
        // In this order: the output of a shell that has ended is complete.
        let told = self.shell_object(workspace, shell)?;
        let end = if told.ended_at.is_some() { End::Final } else { End::Open };
        let read = excerpt(&request, told, &live, live.len(), end);
        self.check_kept(workspace)?;
        Ok(read?)
    }

    /// Refuses what was read while the workspace was being deleted: its output may have been gone already.
    fn check_kept(&self, workspace: WorkspaceId) -> Result<(), Failure> {
        let state = self.context.engine.state();
        let phase = state.workspace(workspace).map(|workspace| &workspace.phase);
        match phase {
            None | Some(Phase::Deleting { .. }) => Err(gone(workspace, WorkspaceKind::Workspace).into()),
            Some(Phase::Created | Phase::Starting | Phase::Started | Phase::Stopping | Phase::Stopped(_)) => {
                Ok(())
            }
        }
    }

    /// Waits until a shell has printed nothing for a while, has ended, or the client does not want to wait any longer.
    async fn until_idle(
        &mut self,
        live: &LiveStream,
        workspace: WorkspaceId,
        shell: ShellId,
        idle: Duration,
    ) -> Result<(), Failure> {
        let (mut len, mut states) = (live.watch(), self.context.engine.states());
        let mut late = std::pin::pin!(sleep(IDLE_MAX));
        let mut quiet = std::pin::pin!(sleep(idle));
        loop {
            tokio::select! {
                biased;
                message = self.peer.next() => match message {
                    Some(Ok(ClientMessage::Cancel)) => return Ok(()),
                    Some(Ok(
                        ClientMessage::Hello(_)
                        | ClientMessage::Request(_)
                        | ClientMessage::Input(_)
                        | ClientMessage::Resize(_),
                    )) => {}
                    Some(Err(error)) => return Err(Failure::Gone(error.into())),
                    None => {
                        return Err(Failure::Gone(std::io::Error::from(std::io::ErrorKind::ConnectionReset).into()));
                    }
                },
                _ = states.wait_for(|state| !is_open(state, workspace, shell)) => return Ok(()),
                () = &mut late => return Ok(()),
                Ok(()) = len.changed() => quiet.as_mut().reset(Instant::now() + idle),
                () = &mut quiet => return Ok(()),
            }
        }
    }

    pub(super) async fn shell_write(
        &mut self,
        request: ShellWriteRequest,
    ) -> Result<ShellWriteResult, Failure> {
        let known = request.request_id.filter(|id| self.is_known(*id));
        let (workspace, shell) = self.find_shell(&request.workspace_id, &request.shell_id, known).await?;
        let input_length = request.input.chars().count() as u64;
        let mut data = request.input.into_bytes();
        if request.append_newline {
            data.push(b'\n');
        }
        let typist = Typist::new(&self.context, &self.actor, workspace, shell);
        if known.is_none() && timeout(RECEIVE_DEADLINE, typist.until(|typed| typed.is_some())).await.is_err()
        {
            let message = format!("nothing was typed into shell {shell}: its guest does not answer");
            return Err(ApiError::new(ErrorCode::ShellBusy, message).into());
        }
        let request_id = request.request_id.unwrap_or_else(pyro_api::new_request_id);
        let outcome = match typist.try_type(data.clone(), request_id).await {
            Ok(Attempt::Recorded(outcome)) => outcome,
            Ok(Attempt::NoRoom { held }) => return Err(busy(shell, held).into()),
            Err(refusal) => return Err(self.refused(workspace, shell, refusal)),
        };
        let end = typed_end(&outcome, shell, &data)?;
        self.until_received(&typist, shell, end, &outcome).await?;
        let shell = self.shell_at(workspace, shell, last_of(&outcome)).await?;
        Ok(ShellWriteResult { shell, input_length, append_newline: request.append_newline })
    }

    async fn until_received(
        &self,
        typist: &Typist,
        shell: ShellId,
        end: u64,
        outcome: &Outcome,
    ) -> Result<(), Failure> {
        let received = typist.until(|typed| typed.is_some_and(|typed| typed.received >= end));
        match (timeout(RECEIVE_DEADLINE, received).await, outcome) {
            // What a repeated request typed may have been followed by anything.
            (Ok(true), _) | (Ok(false), Outcome::Repeated(_)) => Ok(()),
            (Ok(false), Outcome::Done(_)) => {
                let message = format!("shell {shell} ended before it took the input");
                Err(ApiError::new(ErrorCode::ShellEnded, message).into())
            }
            (Err(_late), _) => {
                let message = format!("the guest of shell {shell} does not answer");
                let hint = "the input is recorded and is typed as soon as it answers; do not write it again";
                Err(ApiError::new(ErrorCode::ShellBusy, message).with_hint(hint).into())
            }
        }
    }

    pub(super) async fn shell_signal(
        &mut self,
        request: ShellSignalRequest,
    ) -> Result<ShellSignalResult, Failure> {
        let signal = signal_of(&request.signal_name)?;
        let (workspace, shell) =
            self.find_shell(&request.workspace_id, &request.shell_id, request.request_id).await?;
        let wish = Command::SignalShell { workspace, shell, signal };
        let submitted = self.submit_for(workspace, shell, wish, request.request_id, |event| {
            matches!(event, Event::ShellSignaled(event) if event.shell == shell && event.signal == signal)
        });
        let moment = submitted.await?;
        let shell = self.shell_at(workspace, shell, moment).await?;
        Ok(ShellSignalResult { shell, signal: signal.as_str().to_owned() })
    }

    pub(super) async fn shell_resize(&mut self, request: ShellResizeRequest) -> Result<ShellObject, Failure> {
        let (workspace, shell) =
            self.find_shell(&request.workspace_id, &request.shell_id, request.request_id).await?;
        let size = TerminalSize { columns: request.cols, rows: request.rows };
        let wish = Command::ResizeShell { workspace, shell, size };
        let submitted = self.submit_for(workspace, shell, wish, request.request_id, |event| match event {
            Event::ShellResized(event) => event.shell == shell && event.size == size,
            event => is_met(event, "resize_shell"),
        });
        let moment = submitted.await?;
        self.shell_at(workspace, shell, moment).await
    }

    pub(super) async fn shell_close(
        &mut self,
        request: ShellCloseRequest,
    ) -> Result<ShellCloseResult, Failure> {
        let (workspace, shell) =
            self.find_shell(&request.workspace_id, &request.shell_id, request.request_id).await?;
        let mut trace = Trace::new((*self.context.engine.state()).clone(), workspace, shell);
        let wish = Command::CloseShell { workspace, shell };
        self.submit_for(workspace, shell, wish, request.request_id, |event| match event {
            Event::ShellClosing(event) => event.shell == shell,
            Event::ShellClosed(event) => event.shell == shell,
            event => is_met(event, "close_shell"),
        })
        .await?;
        if trace.is_gone() {
            // The request is an old one.
            let shell = Trace::of_log(&self.context, workspace, shell)?.object()?;
            return Ok(ShellCloseResult { shell, closed: true });
        }
        let mut follower = self.context.engine.follow(trace.seq().next());
        while !trace.is_gone() {
            let envelope =
                follower.next().await.map_err(|error| ApiError::new(ErrorCode::LogCorrupt, error))?;
            trace.see(&*envelope.ok_or_else(|| error_of(Refusal::Stopping))?);
        }
        Ok(ShellCloseResult { shell: trace.object()?, closed: true })
    }

    /// Submits something about a shell and returns when it was done. What an earlier try of the request led to must be
    /// the same.
    async fn submit_for(
        &self,
        workspace: WorkspaceId,
        shell: ShellId,
        wish: Command,
        request_id: Option<RequestId>,
        is_same: impl Fn(&Event) -> bool,
    ) -> Result<Moment, Failure> {
        let outcome = self.context.engine.submit(wish, self.origin(request_id)).await;
        let outcome = outcome.map_err(|refusal| self.refused(workspace, shell, refusal))?;
        let _first = same(&outcome, is_same)?;
        Ok(last_of(&outcome))
    }

    /// Returns the shell of an id or of an unambiguous beginning of one. A request that is known finds what was there when
    /// it came, even when that is closed.
    pub(super) async fn find_shell(
        &self,
        workspace: &str,
        text: &str,
        request_id: Option<RequestId>,
    ) -> Result<(WorkspaceId, ShellId), Failure> {
        let id = self.find_for(workspace, KIND, request_id)?;
        check_beginning("shell", text)?;
        let state = match self.earlier(request_id)?.first() {
            Some(first) => self.state_at(LogPoint::Seq(Seq(first.seq.0 - 1))).await?,
            None => self.context.engine.state(),
        };
        let shells = state.workspace(id).into_iter().flat_map(|workspace| workspace.shells.keys());
        let mut matching = shells.filter(|shell| shell.to_string().starts_with(text));
        match (matching.next(), matching.next()) {
            (Some(shell), None) => Ok((id, *shell)),
            (Some(_), Some(_)) => {
                let message = format!("more than one shell id begins with {text}");
                Err(ApiError::new(ErrorCode::AmbiguousId, message).into())
            }
            (None, _) => Err(unknown(id, text).into()),
        }
    }

    /// Returns what to tell of a shell as it was at a moment.
    async fn shell_at(
        &self,
        workspace: WorkspaceId,
        shell: ShellId,
        moment: Moment,
    ) -> Result<ShellObject, Failure> {
        match moment {
            Moment::Now => self.shell_object(workspace, shell),
            Moment::Then(seq) => {
                let state = self.state_at(LogPoint::Seq(seq)).await?;
                let known = look(&state, workspace, shell).ok_or_else(|| unknown(workspace, shell))?;
                Ok(object(workspace, shell, known))
            }
        }
    }

    /// Returns what to tell of a shell, from the log when it is closed.
    pub(super) fn shell_object(
        &self,
        workspace: WorkspaceId,
        shell: ShellId,
    ) -> Result<ShellObject, Failure> {
        match look(&self.context.engine.state(), workspace, shell) {
            Some(known) => Ok(object(workspace, shell, known)),
            None => Trace::of_log(&self.context, workspace, shell)?.object(),
        }
    }

    /// Returns what to tell of something that the rules do not allow with a shell.
    fn refused(&self, workspace: WorkspaceId, shell: ShellId, refusal: Refusal) -> Failure {
        let Refusal::Rejected(rejection @ Rejection::WrongShellPhase { .. }) = refusal else {
            return refusal.into();
        };
        let state = self.context.engine.state();
        match look(&state, workspace, shell).map(|known| &known.phase) {
            Some(ShellPhase::Ended { end: ShellEnd::Lost(reason), .. }) => lost(shell, reason).into(),
            Some(ShellPhase::Ended { end: ShellEnd::Exited(_), .. }) => {
                let hint = "it can be read until it is closed; `pyro workspace shell open` opens another";
                ApiError::from(rejection).with_hint(hint).into()
            }
            Some(ShellPhase::Requested | ShellPhase::Running) | None => ApiError::from(rejection).into(),
        }
    }
}

fn draw_id() -> ShellId {
    let [a, b, c, d, e, f, ..] = *uuid::Uuid::new_v4().as_bytes();
    ShellId::from_bytes([a, b, c, d, e, f])
}

/// Tells whether the directory of a shell is the one that was asked for.
fn is_cwd(known: &str, wanted: &str) -> bool {
    known == wanted
        || known.strip_prefix(WORKSPACE_PATH).and_then(|rest| rest.strip_prefix('/')) == Some(wanted)
}

fn signal_of(name: &str) -> Result<ShellSignal, ApiError> {
    let signal = ShellSignal::ALL.into_iter().find(|signal| signal.as_str().eq_ignore_ascii_case(name));
    signal.ok_or_else(|| {
        let names = ShellSignal::ALL.map(ShellSignal::as_str).join(", ");
        ApiError::new(ErrorCode::InvalidArgument, format!("signal_name must be one of {names}"))
    })
}

pub(super) fn check_range(field: &'static str, value: u64, min: u64, max: u64) -> Result<(), ApiError> {
    if (min..=max).contains(&value) {
        Ok(())
    } else {
        Err(ApiError::from(Rejection::OutOfRange { field, value, min, max }))
    }
}

/// Returns the position behind what a request typed; the very beginning when that was nothing.
fn typed_end(outcome: &Outcome, shell: ShellId, data: &[u8]) -> Result<u64, Failure> {
    let (mut end, mut rest) = (0, data);
    for envelope in outcome.envelopes() {
        match &envelope.event {
            Event::ShellInput(event) if event.shell == shell => {
                rest = rest.strip_prefix(event.data.as_slice()).ok_or_else(reused)?;
                end = event.offset + event.data.len() as u64;
            }
            event if is_met(event, "type_input") => {}
            _ => return Err(reused().into()),
        }
    }
    if rest.is_empty() { Ok(end) } else { Err(reused().into()) }
}

/// Returns the moment after all that a request led to.
fn last_of(outcome: &Outcome) -> Moment {
    let last = outcome.envelopes().last().map(|envelope| envelope.seq);
    last.map_or(Moment::Now, |last| Moment::of(outcome, last))
}

fn busy(shell: ShellId, held: u64) -> ApiError {
    ApiError::new(ErrorCode::ShellBusy, format!("the job in shell {shell} does not read: {held} bytes wait"))
        .with_hint("`pyro workspace shell signal` interrupts it; nothing was typed")
}

fn lost(shell: ShellId, reason: &str) -> ApiError {
    ApiError::new(ErrorCode::ShellLost, format!("shell {shell} is lost: {reason}")).with_hint(
        "what it printed can be read until it is closed; `pyro workspace shell open` opens another",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_named_in_any_case() {
        for (name, signal) in
            [("int", ShellSignal::Int), ("KILL", ShellSignal::Kill), ("Hup", ShellSignal::Hup)]
        {
            assert_eq!(signal_of(name).unwrap(), signal);
        }
        for name in ["", "SIGINT", "USR1", "2"] {
            let error = signal_of(name).unwrap_err();
            assert!(error.message.contains("HUP, INT, TERM, KILL"), "{error}");
        }
    }

    #[test]
    fn a_relative_directory_is_below_the_workspace() {
        assert!(is_cwd("/workspace/src", "src") && is_cwd("/workspace/src", "/workspace/src"));
        assert!(!is_cwd("/workspacesrc", "src") && !is_cwd("/workspace/src/", "src"));
    }
}
