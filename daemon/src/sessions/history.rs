//! `workspace_logs`: the commands of a workspace, from the event log, with their output files.

use std::collections::BTreeMap;
use std::sync::Arc;

use pyro_api::{
    ApiError, CommandRecord, ErrorCode, LogPoint, Progress, Stream, WorkspaceLogsEnd, WorkspaceLogsRequest,
    signal_name,
};
use pyro_core::{
    Envelope, Event, ExecNumber, ExecRequested, ExecutionMode, ExitStatus, Seq, StreamSummary, Timestamp,
    WORKSPACE_PATH, WorkspaceId, WorkspaceKind,
};
use pyro_store::outputs::{Outputs, Stream as StoredStream, StreamId};

use super::log::unreadable;
use super::run::signal_of;
use super::{Failure, Session};
use crate::clock;
use crate::streams::{Tail, catch_up, lost_end};

impl Session {
    pub(super) async fn workspace_logs(
        &mut self,
        request: WorkspaceLogsRequest,
    ) -> Result<WorkspaceLogsEnd, Failure> {
        let workspace = self.find(&request.workspace_id, WorkspaceKind::Workspace)?;
        let (reader, outputs) = (self.context.engine.reader().clone(), self.context.outputs.clone());
        let read = move || {
            let mut history =
                History { workspace, outputs, mode: ExecutionMode::Pending, open: BTreeMap::new() };
            let mut records = BTreeMap::new();
            for envelope in reader.read_workspace(workspace, Seq(1)) {
                let envelope = envelope?;
                let is_later = match request.at {
                    None => false,
                    Some(LogPoint::Seq(seq)) => envelope.seq > seq,
                    Some(LogPoint::Time(time)) => envelope.at > time,
                };
                if is_later {
                    break;
                }
                if let Some((record, told)) = history.see(envelope) {
                    records.insert(record.sequence, (record, told));
                }
            }
            Ok::<_, pyro_store::ReadError>(records)
        };
        let mut records = tokio::task::spawn_blocking(read)
            .await
            .expect("reading the log does not panic and is not aborted")
            .map_err(unreadable)?;
        if let Some(sequence) = request.sequence {
            records.retain(|number, _| *number == sequence);
            if records.is_empty() {
                let message = format!("no command {sequence} has ended in {workspace}");
                return Err(ApiError::new(ErrorCode::UnknownExec, message).into());
            }
        }
        let count = records.len() as u64;
        for (number, (record, told)) in records {
            self.peer.progress(Progress::Record(record)).await?;
            let exec = ExecNumber(number);
            let stdout = StreamId::Exec(exec, StoredStream::Stdout);
            self.send_stored(workspace, stdout, Stream::Stdout, told.stdout).await?;
            let stderr = StreamId::Exec(exec, StoredStream::Stderr);
            self.send_stored(workspace, stderr, Stream::Stderr, told.stderr).await?;
        }
        Ok(WorkspaceLogsEnd { workspace_id: workspace.to_string(), count })
    }

    /// Sends what is stored of a stream, and what is not of the bytes that the log tells of.
    async fn send_stored(
        &mut self,
        workspace: WorkspaceId,
        id: StreamId,
        stream: Stream,
        told: u64,
    ) -> Result<(), Failure> {
        let live = self.context.streams.of(workspace, id);
        catch_up(&self.context, workspace, id, &live);
        let mut tail = Tail::new(Arc::clone(&live), 0);
        while tail.has_more() {
            let piece = tail.read().map_err(|error| ApiError::new(ErrorCode::StorageFailed, error))?;
            self.peer.piece(stream, piece).await?;
        }
        for (lost, cause) in lost_end(tail.position(), told, &live.gaps()) {
            // Nobody misses the files of a workspace that is deleted meanwhile.
            if self.context.engine.state().workspace(workspace).is_some() {
                self.peer.gap(stream, lost, cause).await?;
            }
        }
        Ok(())
    }
}

/// What was seen of a workspace up to an event.
struct History {
    workspace: WorkspaceId,
    outputs: Outputs,
    mode: ExecutionMode,
    open: BTreeMap<ExecNumber, ExecRequested>,
}

/// How many bytes a command printed, by the event of its end.
#[derive(Clone, Copy, Default)]
struct Told {
    stdout: u64,
    stderr: u64,
}

impl Told {
    fn of(stdout: Option<&StreamSummary>, stderr: Option<&StreamSummary>) -> Self {
        let len = |summary: Option<&StreamSummary>| summary.map_or(0, |summary| summary.len_bytes);
        Self { stdout: len(stdout), stderr: len(stderr) }
    }
}

/// How a command ended.
enum End {
    Exited {
        status: ExitStatus,
        duration_ms: u64,
    },
    /// Without an exit code, for a reason.
    Otherwise(String),
}

impl History {
    /// Takes note of an event and returns the record of the command that it ends.
    fn see(&mut self, envelope: Envelope) -> Option<(CommandRecord, Told)> {
        let at = envelope.at;
        match envelope.event {
            Event::WorkspaceStarted(event) => self.mode = event.backend.execution_mode(),
            Event::ExecRequested(event) => {
                self.open.insert(event.exec, event);
            }
            Event::ExecExited(event) => {
                let end = End::Exited { status: event.status, duration_ms: event.duration_ms };
                let record = self.record(event.exec, at, end)?;
                return Some((record, Told::of(Some(&event.stdout), Some(&event.stderr))));
            }
            Event::ExecFailed(event) => {
                let end = End::Otherwise(format!("failed, it never ran: {}", event.reason));
                return Some((self.record(event.exec, at, end)?, Told::default()));
            }
            Event::ExecLost(event) => {
                let end = End::Otherwise(format!("unknown, lost: {}", event.reason));
                let record = self.record(event.exec, at, end)?;
                return Some((record, Told::of(event.stdout.as_ref(), event.stderr.as_ref())));
            }
            _ => {}
        }
        None
    }

    fn record(&mut self, exec: ExecNumber, at: Timestamp, end: End) -> Option<CommandRecord> {
        let requested = self.open.remove(&exec)?;
        let file =
            |stream| self.outputs.path(self.workspace, StreamId::Exec(exec, stream)).display().to_string();
        let (status, duration_ms, error) = match end {
            End::Exited { status, duration_ms } => (Some(status), duration_ms, None),
            End::Otherwise(error) => (None, 0, Some(error)),
        };
        Some(CommandRecord {
            sequence: exec.0,
            command: requested.command,
            cwd: requested.cwd.unwrap_or_else(|| WORKSPACE_PATH.to_owned()),
            exit_code: status.map(ExitStatus::exit_code),
            duration_ms,
            execution_mode: self.mode.as_str().to_owned(),
            recorded_at: clock::epoch_seconds(at),
            stdout_file: file(StoredStream::Stdout),
            stderr_file: file(StoredStream::Stderr),
            signal: status.and_then(signal_of).map(signal_name),
            timed_out: status == Some(ExitStatus::TimedOut),
            error,
        })
    }
}
