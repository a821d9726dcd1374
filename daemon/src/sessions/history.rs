//! `workspace_logs`: the commands of a workspace, from the event log, with their output files.

use std::collections::BTreeMap;

use pyro_api::{
    ApiError, CommandRecord, ErrorCode, LogPoint, Progress, Stream, WorkspaceLogsEnd, WorkspaceLogsRequest,
    signal_name,
};
use pyro_core::{
    Envelope, Event, ExecNumber, ExecRequested, ExecutionMode, ExitStatus, Seq, Timestamp, WORKSPACE_PATH,
    WorkspaceId, WorkspaceKind,
};
use pyro_store::outputs::{Outputs, Stream as StoredStream, StreamId};

use super::log::unreadable;
use super::run::signal_of;
use super::{Failure, Session};
use crate::clock;
use crate::streams::{Tail, catch_up};

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
                if let Some(record) = history.see(envelope) {
                    records.insert(record.sequence, record);
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
        for (number, record) in records {
            self.peer.progress(Progress::Record(record)).await?;
            let exec = ExecNumber(number);
            self.send_stored(workspace, exec, StoredStream::Stdout, Stream::Stdout).await?;
            self.send_stored(workspace, exec, StoredStream::Stderr, Stream::Stderr).await?;
        }
        Ok(WorkspaceLogsEnd { workspace_id: workspace.to_string(), count })
    }

    async fn send_stored(
        &mut self,
        workspace: WorkspaceId,
        exec: ExecNumber,
        stored: StoredStream,
        stream: Stream,
    ) -> Result<(), Failure> {
        let id = StreamId::Exec(exec, stored);
        let live = self.context.streams.of(workspace, id);
        catch_up(&self.context, workspace, id, &live);
        let mut tail = Tail::new(live, 0);
        while tail.has_more() {
            let piece = tail.read().map_err(|error| ApiError::new(ErrorCode::StorageFailed, error))?;
            self.peer.piece(stream, piece).await?;
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
    fn see(&mut self, envelope: Envelope) -> Option<CommandRecord> {
        let at = envelope.at;
        match envelope.event {
            Event::WorkspaceStarted(event) => self.mode = event.backend.execution_mode(),
            Event::ExecRequested(event) => {
                self.open.insert(event.exec, event);
            }
            Event::ExecExited(event) => {
                let end = End::Exited { status: event.status, duration_ms: event.duration_ms };
                return self.record(event.exec, at, end);
            }
            Event::ExecFailed(event) => {
                return self.record(
                    event.exec,
                    at,
                    End::Otherwise(format!("failed, it never ran: {}", event.reason)),
                );
            }
            Event::ExecLost(event) => {
                return self.record(
                    event.exec,
                    at,
                    End::Otherwise(format!("unknown, lost: {}", event.reason)),
                );
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
