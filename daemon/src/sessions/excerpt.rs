//! A part of what a shell shows, now or as it was.

use pyro_api::{ApiError, ErrorCode, LogPoint, ShellObject, ShellReadRequest, ShellReadResult};
use pyro_core::{ShellId, State, Timestamp, WorkspaceId, WorkspaceKind};
use pyro_store::outputs::{OutputError, StreamId};

use super::life::{check_beginning, find_in};
use super::log::read_log;
use super::trace::{look, object, unknown};
use super::{Failure, Session};
use crate::plain;
use crate::streams::{LiveStream, catch_up};
use crate::window::{self, Cut, End, View};

impl Session {
    /// Reads what a shell had shown at a point of the log, whether it is closed by now or not.
    pub(super) async fn shell_read_at(
        &self,
        request: &ShellReadRequest,
        point: LogPoint,
    ) -> Result<ShellReadResult, Failure> {
        if request.wait_for_idle_ms.is_some() {
            let message = "wait_for_idle_ms cannot be combined with at: nothing more comes of the past";
            return Err(ApiError::new(ErrorCode::InvalidArgument, message).into());
        }
        let state = self.state_at(point).await?;
        let (workspace, shell, told) = shell_in(&state, request)?;
        if self.context.engine.state().workspace(workspace).is_none() {
            let message = format!("what shells of {workspace} printed was deleted with it");
            return Err(ApiError::new(ErrorCode::UnknownWorkspace, message).into());
        }
        let live = self.context.streams.of(workspace, StreamId::Shell(shell));
        catch_up(&self.context, workspace, StreamId::Shell(shell), &live);
        let len = live.len();
        // A shell that had ended had shown everything, whatever the clock did.
        let (len, end) = match (told.ended_at, live.file()) {
            (Some(_), _) | (None, None) => (len, End::Final),
            (None, Some(file)) => {
                let time = self.time_of(point).await?;
                let then = tokio::task::block_in_place(|| file.len_at(time, len));
                (then.map_err(|error| unreadable(&error))?, End::Open)
            }
        };
        Ok(excerpt(request, told, &live, len, end)?)
    }

    /// Returns the time of a point that the log reaches.
    async fn time_of(&self, point: LogPoint) -> Result<Timestamp, Failure> {
        let seq = match point {
            LogPoint::Time(time) => return Ok(time),
            LogPoint::Seq(seq) => seq,
        };
        let reader = self.context.engine.reader().clone();
        let event = read_log(move || reader.read(seq).next().transpose()).await?;
        Ok(event.map_or(Timestamp(0), |event| event.at))
    }
}

/// Returns the shell that is meant, as it was in a state.
fn shell_in(
    state: &State,
    request: &ShellReadRequest,
) -> Result<(WorkspaceId, ShellId, ShellObject), ApiError> {
    let ShellReadRequest { workspace_id, shell_id, .. } = request;
    let workspace = find_in(state, workspace_id, WorkspaceKind::Workspace)?.ok_or_else(|| {
        let message = format_args!("no workspace {workspace_id} existed then");
        ApiError::new(ErrorCode::UnknownWorkspace, message)
    })?;
    check_beginning("shell", shell_id)?;
    let shells = state.workspace(workspace).into_iter().flat_map(|workspace| workspace.shells.keys());
    let mut matching = shells.filter(|shell| shell.to_string().starts_with(shell_id));
    let shell = match (matching.next(), matching.next()) {
        (Some(shell), None) => *shell,
        (Some(_), Some(_)) => {
            let message = format_args!("more than one shell id began with {shell_id} then");
            return Err(ApiError::new(ErrorCode::AmbiguousId, message));
        }
        (None, _) => {
            let message = format_args!("no shell {shell_id} existed in {workspace} then");
            let hint = "`pyro log --kind shell_requested --kind shell_closed` shows when shells were opened and closed";
            return Err(ApiError::new(ErrorCode::UnknownShell, message).with_hint(hint));
        }
    };
    let told = look(state, workspace, shell).map(|known| object(workspace, shell, known));
    told.map(|told| (workspace, shell, told)).ok_or_else(|| unknown(workspace, shell))
}

/// Returns the part that is asked for of the first `len` bytes of a shell. It begins behind a gap, and ends before the
/// next one.
pub(super) fn excerpt(
    request: &ShellReadRequest,
    told: ShellObject,
    live: &LiveStream,
    len: u64,
    end: End,
) -> Result<ShellReadResult, ApiError> {
    let cut = if request.plain { Cut::BetweenSequences } else { Cut::Anywhere };
    let cursor = request.cursor.min(len);
    let (view, begin, behind) = tokio::task::block_in_place(|| {
        loop {
            let gaps = live.gaps();
            let begin = gaps.skip(cursor).min(len);
            let behind = gaps.next_begin(begin).map_or(len, |gap| gap.min(len));
            let end = if behind < len { End::Final } else { end };
            let read_at = |buffer: &mut [u8], position| match live.file() {
                Some(file) => file.read_at(buffer, position),
                None => Ok(0),
            };
            let view = window::read(begin, behind, end, request.max_chars, cut, read_at)?;
            // What was dropped meanwhile was perhaps read as zeros.
            if live.gaps() == gaps {
                return Ok((view, begin, behind));
            }
        }
    })
    .map_err(|error: OutputError| unreadable(&error))?;
    let View { text, next, lossy, truncated } = view;
    Ok(ShellReadResult {
        shell: told,
        cursor,
        next_cursor: next,
        output: if request.plain { tokio::task::block_in_place(|| plain::render(&text)) } else { text },
        truncated: truncated || (next == behind && behind < len),
        dropped_bytes: begin - cursor,
        output_lossy: lossy,
        plain: request.plain,
    })
}

fn unreadable(error: &OutputError) -> ApiError {
    ApiError::new(ErrorCode::StorageFailed, super::chain(error))
}
