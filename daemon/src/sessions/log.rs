//! The `log_*` operations.

use std::collections::BTreeSet;
use std::sync::Arc;

use pyro_api::{
    ApiError, ErrorCode, EventActor, LogEnd, LogEvent, LogExplanation, LogHead, LogHeadRequest, LogPoint,
    LogRequest, LogShowRequest, Progress, ServerMessage,
};
use pyro_core::{Cause, Envelope, Seq, State, WorkspaceId, WorkspaceKind};
use pyro_store::{Hash, ReadError, Reader, Record, state_digest};
use tokio::sync::mpsc;

use super::life::{ambiguous, called, check_beginning, check_reference};
use super::{Failure, Session};
use crate::engine::Engine;
use crate::selection::Selection;
use crate::{clock, describe, past};

/// Events that are read at once for a client.
const CHUNK_LEN: usize = 256;

/// Chunks that are read ahead of a client that is slower than the disk: bounds the memory that it takes.
const CHUNKS_MAX: usize = 4;

/// Events that are looked through at first for the one of a workspace before a position.
const WINDOW_LEN: u64 = 256;

type Chunk = Result<Vec<LogEvent>, ReadError>;

impl Session {
    pub(super) async fn log(&mut self, request: LogRequest) -> Result<LogEnd, Failure> {
        if request.follow && (request.hashes || request.until.is_some()) {
            let message = "what is followed has no end and no hashes";
            return Err(ApiError::new(ErrorCode::InvalidArgument, message).into());
        }
        let reader = self.context.engine.reader().clone();
        let head = reader.head().seq;
        let workspace = match &request.workspace {
            Some(text) => Some(workspace_of(&self.context.engine, text.clone()).await?),
            None => None,
        };
        let selection = Arc::new(Selection::new(&request, workspace)?);
        let (sender, mut chunks) = mpsc::channel(CHUNKS_MAX);
        let backlog = Backlog { selection: Arc::clone(&selection), reader, head, sender };
        let (limit, hashes, follow) = (request.limit, request.hashes, request.follow);
        tokio::task::spawn_blocking(move || backlog.send(limit, hashes));
        loop {
            tokio::select! {
                biased;
                chunk = chunks.recv() => match chunk {
                    Some(chunk) => for event in chunk.map_err(unreadable)? {
                        self.send_event(event, follow).await?;
                    },
                    None => break,
                },
                _gone_or_canceled = self.leave() => return Ok(self.log_end()),
            }
        }
        if follow {
            let first = selection.first(self.context.engine.reader()).map_err(unreadable)?;
            let from = head.next().max(first);
            self.peer.progress(Progress::CaughtUp { seq: from.0 - 1 }).await?;
            self.log_live(&selection, from).await?;
        }
        Ok(self.log_end())
    }

    /// Sends the wanted events behind those that were there.
    async fn log_live(&mut self, selection: &Selection, from: Seq) -> Result<(), Failure> {
        let stopping = self.context.stopping.clone();
        let mut follower = self.context.engine.follow(from);
        loop {
            tokio::select! {
                envelope = follower.next() => match envelope.map_err(unreadable)? {
                    Some(envelope) if selection.contains(&envelope) => {
                        self.send_event(log_event(&envelope), true).await?;
                    }
                    Some(_) => {}
                    None => return Ok(()),
                },
                _gone_or_canceled = self.leave() => return Ok(()),
                () = stopping.cancelled() => return Ok(()),
            }
        }
    }

    /// Sends an event; a follower that takes nothing for long is dropped. Who does not follow may read at leisure: what was
    /// asked for has an end.
    async fn send_event(&mut self, event: LogEvent, follow: bool) -> Result<(), Failure> {
        let message = ServerMessage::Event(event);
        if follow {
            self.peer.send_to_follower(&message).await?;
        } else {
            self.peer.send(&message).await?;
        }
        Ok(())
    }

    fn log_end(&self) -> LogEnd {
        LogEnd { head_seq: self.context.engine.reader().head().seq.0 }
    }

    /// Returns the state at a place of the log.
    pub(super) async fn state_at(&self, point: LogPoint) -> Result<Arc<State>, Failure> {
        let engine = self.context.engine.clone();
        let state = read_log(move || past::state_at(engine.reader(), engine.checkpoints(), point)).await?;
        let missing =
            || ApiError::new(ErrorCode::InvalidArgument, format_args!("there is no event {point} yet"));
        Ok(Arc::new(state.ok_or_else(missing)?))
    }

    pub(super) async fn log_show(&self, request: LogShowRequest) -> Result<LogExplanation, Failure> {
        let reader = self.context.engine.reader().clone();
        let (seq, head) = (Seq(request.seq), reader.head().seq);
        let first = reader.first();
        if seq == Seq::ZERO || seq > head {
            let message = format_args!("there is no event {seq}; the log has those from {first} to {head}");
            return Err(ApiError::new(ErrorCode::InvalidArgument, message).into());
        }
        if seq < first {
            return Err(unreadable(ReadError::Compacted { first }));
        }
        read_log(move || explain(&reader, seq)).await
    }

    pub(super) async fn log_head(&self, LogHeadRequest {}: LogHeadRequest) -> Result<LogHead, Failure> {
        let (reader, state) = (self.context.engine.reader().clone(), self.context.engine.state());
        let seq = state.seq;
        let hash = read_log(move || hash_at(&reader, seq)).await?;
        let digest = tokio::task::block_in_place(|| state_digest(&state));
        let digest = digest.map_err(|error| ApiError::new(ErrorCode::Internal, error))?;
        Ok(LogHead { seq: seq.0, hash: describe::hex(&hash), state_digest: describe::hex(&digest) })
    }
}

/// What a client gets that was there when it asked.
struct Backlog {
    selection: Arc<Selection>,
    reader: Reader,
    head: Seq,
    sender: mpsc::Sender<Chunk>,
}

impl Backlog {
    /// Reads and sends until the end, an error, or until nobody wants more.
    fn send(&self, limit: Option<u64>, hashes: bool) {
        let from = match limit {
            Some(limit) => self.selection.first_of_last(&self.reader, limit, self.head),
            None => self.selection.first(&self.reader),
        };
        let last = self.selection.last(self.head);
        // Whoever waited for it is gone when it cannot be sent.
        let _nobody_waits = match from {
            Ok(from) if hashes => {
                let records = self.reader.records(from);
                let records =
                    records.take_while(|read| read.as_ref().map_or(true, |record| record.seq() <= last));
                let wanted = |record: &Record| self.selection.contains(&record.envelope);
                let wanted = records.filter(|read| read.as_ref().map_or(true, wanted));
                self.send_all(wanted.map(|record| record.map(|record| log_record(&record))))
            }
            Ok(from) => {
                let envelopes = self.selection.read(&self.reader, from, last);
                self.send_all(envelopes.map(|envelope| envelope.map(|envelope| log_event(&envelope))))
            }
            Err(error) => self.sender.blocking_send(Err(error)),
        };
    }

    fn send_all(
        &self,
        events: impl Iterator<Item = Result<LogEvent, ReadError>>,
    ) -> Result<(), mpsc::error::SendError<Chunk>> {
        let mut chunk = Vec::with_capacity(CHUNK_LEN);
        for event in events {
            match event {
                Ok(event) => chunk.push(event),
                Err(error) => {
                    self.sender.blocking_send(Ok(chunk))?;
                    return self.sender.blocking_send(Err(error));
                }
            }
            if chunk.len() == CHUNK_LEN {
                self.sender.blocking_send(Ok(std::mem::take(&mut chunk)))?;
            }
        }
        self.sender.blocking_send(Ok(chunk))
    }
}

/// Finds the one workspace or VM whose id begins so, deleted or not, or the one that is called so now.
async fn workspace_of(engine: &Engine, text: String) -> Result<WorkspaceId, Failure> {
    check_reference(WorkspaceKind::Workspace, &text)?;
    let mut found = BTreeSet::new();
    if check_beginning("workspace", &text).is_ok() {
        let (reader, beginning) = (engine.reader().clone(), text.clone());
        found = read_log(move || reader.workspaces(&beginning)).await?;
    }
    // A whole id is never taken for a name.
    if text.parse::<WorkspaceId>().is_err() {
        found.extend(called(&engine.state(), &text));
    }
    let mut found = found.into_iter();
    match (found.next(), found.next()) {
        (Some(workspace), None) => Ok(workspace),
        (Some(_), Some(_)) => Err(ambiguous(WorkspaceKind::Workspace, &text).into()),
        (None, _) => {
            let message = format_args!("the log has no event of a workspace {text}");
            Err(ApiError::new(ErrorCode::UnknownWorkspace, message).into())
        }
    }
}

/// Reads the log beside the other sessions.
pub(super) async fn read_log<T: Send + 'static>(
    read: impl FnOnce() -> Result<T, ReadError> + Send + 'static,
) -> Result<T, Failure> {
    tokio::task::spawn_blocking(read)
        .await
        .expect("reading the log does not panic and is not aborted")
        .map_err(unreadable)
}

fn explain(reader: &Reader, seq: Seq) -> Result<LogExplanation, ReadError> {
    let before = Seq(seq.0 - 1);
    let previous_hash = hash_at(reader, before)?;
    let record = reader.records(seq).next().expect("a record up to the head is there or is an error")?;
    let cause = record.envelope.cause;
    let request = match cause {
        Cause::Request(id) => reader.request(id)?,
        Cause::Observation => Vec::new(),
    };
    let (workspace_before, workspace_after) = match record.envelope.event.workspace() {
        Some(workspace) => (
            last_of(reader, workspace, before)?,
            reader.read_workspace(workspace, seq.next()).next().transpose()?,
        ),
        None => (None, None),
    };
    Ok(LogExplanation {
        event: log_record(&record),
        meaning: record.envelope.event.meaning().to_owned(),
        previous_hash: describe::hex(&previous_hash),
        // A batch can hold events of others as well.
        request: request.iter().filter(|envelope| envelope.cause == cause).map(log_event).collect(),
        workspace_before: workspace_before.as_ref().map(log_event),
        workspace_after: workspace_after.as_ref().map(log_event),
    })
}

fn hash_at(reader: &Reader, seq: Seq) -> Result<Hash, ReadError> {
    Ok(reader.hash(seq)?.expect("a record up to the head is there or is an error"))
}

/// Returns the last event of a workspace up to a position; `None` when there is none.
fn last_of(reader: &Reader, workspace: WorkspaceId, last: Seq) -> Result<Option<Envelope>, ReadError> {
    let (mut end, mut window) = (last, WINDOW_LEN);
    while end > Seq::ZERO {
        let begin = Seq((end.0 + 1).saturating_sub(window).max(1));
        let mut found = None;
        for envelope in reader.read_workspace(workspace, begin) {
            let envelope = envelope?;
            if envelope.seq > end {
                break;
            }
            found = Some(envelope);
        }
        if found.is_some() {
            return Ok(found);
        }
        end = Seq(begin.0 - 1);
        window = window.saturating_mul(4);
    }
    Ok(None)
}

/// Returns what to tell of a log that could not be read.
pub(super) fn unreadable(error: ReadError) -> Failure {
    let told = match error {
        ReadError::Compacted { first } => {
            let earliest = first.0 - 1;
            let hint = format_args!(
                "event {first} is the first one that is kept, and {earliest} the earliest point for --at"
            );
            ApiError::new(ErrorCode::HistoryCompacted, error).with_hint(hint)
        }
        ReadError::Corrupt(_) | ReadError::Io { .. } => {
            let hint = "`pyro log verify` tells what is wrong with the log";
            ApiError::new(ErrorCode::LogCorrupt, error).with_hint(hint)
        }
    };
    Failure::Told(told)
}

/// Returns what is told of an event.
pub(super) fn log_event(envelope: &Envelope) -> LogEvent {
    let actor = envelope.actor.clone();
    LogEvent {
        seq: envelope.seq.0,
        at: clock::rfc3339(envelope.at),
        actor: EventActor { face: actor.face, uid: actor.uid, pid: actor.pid, client: actor.client },
        kind: envelope.event.kind().to_owned(),
        workspace_id: envelope.event.workspace().map(|id| id.to_string()),
        request_id: describe::request_id(envelope),
        data: describe::data(&envelope.event),
        version: None,
        hash: None,
    }
}

fn log_record(record: &Record) -> LogEvent {
    LogEvent {
        version: Some(record.version),
        hash: Some(describe::hex(&record.hash)),
        ..log_event(&record.envelope)
    }
}
