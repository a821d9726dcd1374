//! `workspace_sync_push`, and the look at a source that pushes and seeds have in common.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pyro_api::{
    ApiError, ClientMessage, ErrorCode, Progress, SyncPhase, SyncProgress, SyncResult, WorkspaceSync,
    WorkspaceSyncPushRequest,
};
use pyro_core::{
    Command, Event, RequestId, Seq, SyncChanges, SyncFailed, SyncFinished, SyncNumber, SyncPurpose,
    SyncRequested, SyncSource, SyncSourceKind, WorkspaceId, WorkspaceKind, sync_destination,
};
use pyro_runtime::import::{self, Source, SourceError, Totals};
use tokio::sync::watch;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use super::life::{execution_mode, gone, until};
use super::repeat::Moment;
use super::run::reused;
use super::{Failure, Session, error_of};
use crate::engine::Refusal;
use crate::peer::PeerError;
use crate::sessions::chain;
use crate::sync::{CANCELED, source_of};

const KIND: WorkspaceKind = WorkspaceKind::Workspace;

/// Time between two reports to the client: more than a person can read.
const REPORT_EVERY: Duration = Duration::from_millis(100);

/// A source that was gone through from its first entry to its last.
pub(super) struct Checked {
    pub(super) source: SyncSource,
    pub(super) totals: Totals,
}

/// Why a client does not wait any longer.
pub(super) enum Leave {
    /// It said so.
    Canceled,
    /// It is gone.
    Gone(PeerError),
}

/// A sync that is on record.
pub(super) struct Requested {
    pub(super) event: SyncRequested,
    pub(super) seq: Seq,
    /// What its source holds; `None` when that was found out in an earlier try.
    pub(super) totals: Option<Totals>,
}

/// The end of a sync that was waited for.
pub(super) struct Ended {
    pub(super) result: Result<SyncFinished, ApiError>,
    /// Whether the client wanted to end it.
    pub(super) canceled: bool,
}

impl Session {
    pub(super) async fn workspace_sync_push(
        &mut self,
        request: WorkspaceSyncPushRequest,
    ) -> Result<SyncResult, Failure> {
        let workspace = self.find_for(&request.workspace_id, KIND, request.request_id)?;
        if request.watch {
            return Box::pin(self.mirror(workspace, request)).await;
        }
        let path = absolute(&request.source_path)?;
        let request_id = request.request_id.unwrap_or_else(pyro_api::new_request_id);
        let (source, totals) = if self.is_known(request_id) {
            // What it was then is on record, whatever is there now.
            (SyncSource { kind: SyncSourceKind::Directory, path: request.source_path }, None)
        } else {
            self.check_push(workspace, &request.dest)?;
            let checked = self.checked(detected(&path).await?).await?;
            (checked.source, Some(checked.totals))
        };
        let mut requested =
            self.request_sync(workspace, source, &request.dest, None, Some(request_id)).await?;
        requested.totals = totals;
        let finished = self.until_synced(&requested).await?.result?;
        self.sync_result(&requested, &finished).await
    }

    /// Refuses before a long look at a source what would be refused after it.
    pub(super) fn check_push(&self, workspace: WorkspaceId, destination: &str) -> Result<(), Failure> {
        let source = SyncSource { kind: SyncSourceKind::Directory, path: String::new() };
        let destination = destination.to_owned();
        let wish = Command::RequestSync { workspace, source, destination, changes: None };
        match pyro_core::decide(&self.context.engine.state(), &wish) {
            Ok(_) => Ok(()),
            Err(rejection) => Err(hinted(ApiError::from(rejection)).into()),
        }
    }

    /// Goes through a source and reports how far it is. Nothing is written and no guest is asked for anything.
    pub(super) async fn checked(&mut self, source: Source) -> Result<Checked, Failure> {
        let on_record = source_of(&source).ok_or_else(|| {
            let message = format!("the path {:?} is not UTF-8", source.path());
            ApiError::new(ErrorCode::SourceUnusable, message)
        })?;
        let (progress, found) = watch::channel(Totals::default());
        let cancel = Arc::new(AtomicBool::new(false));
        let cancelled = Arc::clone(&cancel);
        let mut check = tokio::task::spawn_blocking(move || {
            import::check(&source, &cancelled, |totals| {
                progress.send_replace(totals);
            })
        });
        let stopping = self.context.stopping.clone();
        let mut reports = reports();
        let left = loop {
            tokio::select! {
                biased;
                totals = &mut check => {
                    let totals = totals.expect("reading a source does not panic and is not aborted");
                    let totals = totals.map_err(|error| source_error(&error))?;
                    return Ok(Checked { source: on_record, totals });
                }
                leave = self.leave() => break leave.into(),
                () = stopping.cancelled() => break error_of(Refusal::Stopping).into(),
                _ = reports.tick() => {
                    let found = *found.borrow();
                    self.report(SyncPhase::Check, found, None).await?;
                }
            }
        };
        cancel.store(true, Ordering::Relaxed);
        Err(left)
    }

    /// Puts a sync on record, or finds it there.
    pub(super) async fn request_sync(
        &self,
        workspace: WorkspaceId,
        source: SyncSource,
        destination: &str,
        changes: Option<SyncChanges>,
        request_id: Option<RequestId>,
    ) -> Result<Requested, Failure> {
        let wanted = sync_destination(destination).map_err(ApiError::from)?;
        let destination = destination.to_owned();
        let wish = Command::RequestSync { workspace, source, destination, changes };
        let submitted = self.context.engine.submit(wish, self.origin(request_id)).await;
        let outcome = submitted.map_err(|refusal| hinted(error_of(refusal)))?;
        let requested = outcome.envelopes().iter().find_map(|envelope| match &envelope.event {
            Event::SyncRequested(event)
                if event.workspace == workspace
                    && event.purpose == SyncPurpose::Push
                    && event.destination == wanted =>
            {
                Some(Requested { event: event.clone(), seq: envelope.seq, totals: None })
            }
            _ => None,
        });
        requested.ok_or_else(|| reused().into())
    }

    /// Waits for the end of a sync and reports how far it is. A client that cancels ends the sync and waits for what
    /// becomes of it; one that goes away does not.
    pub(super) async fn until_synced(&mut self, requested: &Requested) -> Result<Ended, Failure> {
        let context = Arc::clone(&self.context);
        let (workspace, sync) = (requested.event.workspace, requested.event.sync);
        let live = context.syncs.of(workspace, sync);
        let mut ended =
            Box::pin(until(&context.engine, workspace, requested.seq, |event| sync_end(event, sync)));
        let mut reports = reports();
        let mut canceled = false;
        loop {
            tokio::select! {
                biased;
                result = &mut ended => return match result {
                    Ok(finished) => Ok(Ended { result: Ok(finished), canceled }),
                    Err(Failure::Told(error)) => Ok(Ended { result: Err(error), canceled }),
                    Err(gone @ Failure::Gone(_)) => Err(gone),
                },
                leave = self.leave() => match leave {
                    Leave::Canceled => {
                        canceled = true;
                        context.record_quietly(Command::CancelSync { workspace, sync }).await;
                    }
                    Leave::Gone(error) => return Err(Failure::Gone(error)),
                },
                _ = reports.tick() => {
                    let sent = *live.borrow();
                    self.report(SyncPhase::Send, sent, requested.totals).await?;
                }
            }
        }
    }

    pub(super) async fn report(
        &mut self,
        phase: SyncPhase,
        done: Totals,
        all: Option<Totals>,
    ) -> Result<(), Failure> {
        let progress = SyncProgress {
            phase,
            entries: done.entries,
            bytes: done.bytes,
            entries_total: all.map(|all| all.entries),
            bytes_total: all.map(|all| all.bytes),
        };
        Ok(self.peer.progress(Progress::Sync(progress)).await?)
    }

    /// Returns when the client does not want to wait any longer. Cancel safe.
    pub(super) async fn leave(&mut self) -> Leave {
        loop {
            match self.peer.next().await {
                Some(Ok(ClientMessage::Cancel)) => return Leave::Canceled,
                Some(Ok(
                    ClientMessage::Hello(_)
                    | ClientMessage::Request(_)
                    | ClientMessage::Input(_)
                    | ClientMessage::Resize(_),
                )) => {}
                Some(Err(error)) => return Leave::Gone(error.into()),
                None => {
                    return Leave::Gone(std::io::Error::from(std::io::ErrorKind::ConnectionReset).into());
                }
            }
        }
    }

    pub(super) async fn sync_result(
        &self,
        Requested { event: requested, seq, .. }: &Requested,
        finished: &SyncFinished,
    ) -> Result<SyncResult, Failure> {
        let moment = match self.context.engine.state().workspace(requested.workspace) {
            Some(_) => Moment::Now,
            None => Moment::Then(*seq),
        };
        let mode = execution_mode(&*self.look_at(requested.workspace, KIND, moment).await?);
        Ok(SyncResult {
            workspace_id: requested.workspace.to_string(),
            execution_mode: mode.as_str().to_owned(),
            workspace_sync: WorkspaceSync {
                mode: requested.source.kind.as_str().to_owned(),
                source_path: requested.source.path.clone(),
                destination: requested.destination.clone(),
                entry_count: finished.entry_count,
                bytes_written: finished.bytes_written,
            },
        })
    }
}

impl From<Leave> for Failure {
    fn from(leave: Leave) -> Self {
        match leave {
            Leave::Canceled => {
                Self::Told(ApiError::new(ErrorCode::Canceled, "canceled before anything was sent"))
            }
            Leave::Gone(error) => Self::Gone(error),
        }
    }
}

/// Returns the ticks at which a client is told how far something is.
pub(super) fn reports() -> Interval {
    let mut reports = interval_at(Instant::now() + REPORT_EVERY, REPORT_EVERY);
    // A client that reads slowly gets fewer.
    reports.set_missed_tick_behavior(MissedTickBehavior::Delay);
    reports
}

/// Refuses a path that depends on where the daemon was started.
pub(super) fn absolute(path: &str) -> Result<PathBuf, ApiError> {
    if Path::new(path).is_absolute() {
        return Ok(PathBuf::from(path));
    }
    let message = "the path of a source must be absolute: the daemon does not know the client's directory";
    Err(ApiError::new(ErrorCode::InvalidArgument, message))
}

/// Finds out what a path leads to, where blocking is allowed.
pub(super) async fn detected(path: &Path) -> Result<Source, ApiError> {
    let path = path.to_owned();
    tokio::task::spawn_blocking(move || Source::detect(&path))
        .await
        .expect("a look at files does not panic")
        .map_err(|error| source_error(&error))
}

pub(super) fn source_error(error: &SourceError) -> ApiError {
    match error {
        SourceError::Refused { .. } | SourceError::RefusedArchive { .. } | SourceError::TooSlow { .. } => {
            ApiError::new(ErrorCode::SourceRefused, chain(error))
        }
        SourceError::Changed { .. } => ApiError::new(ErrorCode::SourceUnusable, chain(error))
            .with_hint("try again when no program writes there"),
        SourceError::Missing { .. }
        | SourceError::Unsupported { .. }
        | SourceError::Unreadable { .. }
        | SourceError::Entry { .. } => ApiError::new(ErrorCode::SourceUnusable, chain(error)),
        SourceError::Cancelled => ApiError::new(ErrorCode::Canceled, CANCELED),
    }
}

/// Returns how a sync ended, if the event tells it.
pub(super) fn sync_end(event: &Event, sync: SyncNumber) -> Option<Result<SyncFinished, ApiError>> {
    match event {
        Event::SyncFinished(event) if event.sync == sync => Some(Ok(event.clone())),
        Event::SyncFailed(event) if event.sync == sync => Some(Err(failed(event))),
        Event::SyncLost(event) if event.sync == sync => {
            let message = format!("whether the files are in place is not known: {}", event.reason);
            let hint = "a push of the same files brings what may be missing";
            Some(Err(ApiError::new(ErrorCode::SyncLost, message).with_hint(hint)))
        }
        Event::WorkspaceDeleted(event) => Some(Err(gone(event.workspace, KIND))),
        _ => None,
    }
}

fn failed(event: &SyncFailed) -> ApiError {
    if event.reason == CANCELED {
        return ApiError::new(ErrorCode::Canceled, "canceled; the workspace is as before");
    }
    let code = if event.refused { ErrorCode::SourceRefused } else { ErrorCode::SyncFailed };
    ApiError::new(code, &event.reason)
}

fn hinted(error: ApiError) -> ApiError {
    match error.code {
        ErrorCode::InvalidState => {
            error.with_hint("`pyro workspace start` boots one that is stopped; its files are as they were")
        }
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Catches a push that ended as its client wanted and is told as a defect, and a refusal that is worth another try.
    #[test]
    fn the_end_of_a_sync_is_told_by_its_code() {
        let (workspace, sync) = (WorkspaceId::from_bytes([7; 6]), SyncNumber(2));
        let failed = |reason: &str, refused| {
            Event::SyncFailed(SyncFailed { workspace, sync, reason: reason.to_owned(), refused })
        };
        let code = |event: &Event| sync_end(event, sync).map(|end| end.map_err(|error| error.code).err());
        assert_eq!(code(&failed(CANCELED, false)), Some(Some(ErrorCode::Canceled)));
        assert_eq!(code(&failed("entry \"a\" is a FIFO", true)), Some(Some(ErrorCode::SourceRefused)));
        assert_eq!(code(&failed("no space", false)), Some(Some(ErrorCode::SyncFailed)));
        assert_eq!(sync_end(&failed("no space", false), SyncNumber(3)), None, "of another sync");
    }

    #[test]
    fn a_path_is_refused_that_depends_on_a_directory() {
        for path in ["", "a", "./a", "~/a"] {
            assert_eq!(
                absolute(path).map_err(|error| error.code),
                Err(ErrorCode::InvalidArgument),
                "{path:?}"
            );
        }
        assert_eq!(absolute("/a/../b"), Ok(PathBuf::from("/a/../b")));
    }
}
