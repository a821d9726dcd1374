//! `workspace_sync_push` with `watch`: a directory of a workspace follows one of the host.
//!
//! ```text
//! first push --> waiting --a burst, or a while after a push--> looking --changes--> pushing
//!                   ^                                             |                    |
//!                   +------------------ nothing, or a failure ----+--------------------+
//! ```
//!
//! What the workspace has is known as a snapshot of the directory: after a failure it stays the old one, so the next
//! look finds the same changes again.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use pyro_api::{ApiError, ErrorCode, Progress, SyncResult, WorkspaceSyncPushRequest};
use pyro_core::{
    DeleteReason, Event, Seq, SyncChanges, SyncFinished, SyncSource, WorkspaceId, WorkspaceKind,
};
use pyro_runtime::import::{Changes, Snapshot, Source, SourceError};
use tokio::time::Instant;

use super::life::{expired, gone, until};
use super::sync::{Checked, Leave, Requested, absolute, detected, source_error};
use super::{Failure, Session, error_of};
use crate::bursts::Bursts;
use crate::engine::Refusal;

/// Most bytes of paths in one push: they stand in the log, whose events are bounded.
const PATH_BYTES_MAX: usize = 256 * 1024;

/// Time after a push when the directory is looked at once more: what happened in a new directory before the kernel
/// watched it has told nobody.
const SECOND_LOOK: Duration = Duration::from_secs(1);

/// A directory of the host and what a workspace has of it.
struct Mirror {
    workspace: WorkspaceId,
    dir: PathBuf,
    source: SyncSource,
    destination: String,
    pushed: Snapshot,
    /// The last push, with the sums of all.
    result: SyncResult,
}

/// How the mirror goes on.
enum Next {
    /// It waits for the next change.
    Wait,
    /// It looks once more after a while.
    LookAgain,
    /// The client has enough.
    End,
}

impl Session {
    pub(super) async fn mirror(
        &mut self,
        workspace: WorkspaceId,
        request: WorkspaceSyncPushRequest,
    ) -> Result<SyncResult, Failure> {
        self.check_push(workspace, &request.dest)?;
        let source = detected(&absolute(&request.source_path)?).await?;
        let Source::Directory(dir) = &source else {
            let message = "only a directory can be watched, not an archive";
            return Err(ApiError::new(ErrorCode::InvalidArgument, message).into());
        };
        let dir = dir.clone();
        // Watched before it is looked at: a change is in the snapshot or tells of itself.
        let mut bursts = watched(&dir).await?;
        let pushed = snapshot(&dir).await.map_err(|error| source_error(&error))?;
        let Checked { source, totals } = self.checked(source).await?;
        // A repetition must push as well, for changes since then were not seen: the request id is not used.
        let first = self.request_sync(workspace, source.clone(), &request.dest, None, None).await?;
        let first = Requested { totals: Some(totals), ..first };
        let ended = self.until_synced(&first).await?;
        let result = self.sync_result(&first, &ended.result?).await?;
        self.peer.progress(Progress::Synced(result.clone())).await?;
        let mut mirror = Mirror { workspace, dir, source, destination: request.dest, pushed, result };
        if !ended.canceled {
            self.follow(&mut mirror, &mut bursts, first.seq).await?;
        }
        Ok(mirror.result)
    }

    /// Pushes what changes until the client has enough.
    async fn follow(&mut self, mirror: &mut Mirror, bursts: &mut Bursts, first: Seq) -> Result<(), Failure> {
        let context = Arc::clone(&self.context);
        let mut ended = Box::pin(until(&context.engine, mirror.workspace, first, workspace_end));
        let mut look_at = Some(Instant::now() + SECOND_LOOK);
        loop {
            let look = look_at.unwrap_or_else(Instant::now);
            tokio::select! {
                biased;
                ended = &mut ended => ended?,
                () = context.stopping.cancelled() => return Err(error_of(Refusal::Stopping).into()),
                leave = self.leave() => return match leave {
                    Leave::Canceled => Ok(()),
                    Leave::Gone(error) => Err(Failure::Gone(error)),
                },
                () = bursts.next() => {}
                () = tokio::time::sleep_until(look), if look_at.is_some() => {}
            }
            look_at = match self.catch_up(mirror).await? {
                Next::Wait => None,
                Next::LookAgain => Some(Instant::now() + SECOND_LOOK),
                Next::End => return Ok(()),
            };
        }
    }

    /// Pushes what has changed since the last push.
    async fn catch_up(&mut self, mirror: &mut Mirror) -> Result<Next, Failure> {
        let newer = match snapshot(&mirror.dir).await {
            Ok(newer) => newer,
            Err(error @ (SourceError::Missing { .. } | SourceError::Unreadable { .. })) => {
                return Err(source_error(&error).into());
            }
            Err(error) => {
                self.peer.progress(Progress::SyncFailed(source_error(&error))).await?;
                return Ok(Next::Wait);
            }
        };
        let parts = parts(mirror.pushed.changes(&newer));
        if parts.is_empty() {
            return Ok(Next::Wait);
        }
        for part in parts {
            match self.push_part(mirror, part).await? {
                Ok(Next::Wait | Next::LookAgain) => {}
                Ok(Next::End) => return Ok(Next::End),
                Err(error) => {
                    self.peer.progress(Progress::SyncFailed(error)).await?;
                    return Ok(Next::Wait);
                }
            }
        }
        mirror.pushed = newer;
        Ok(Next::LookAgain)
    }

    /// Pushes some changes; the inner error is one that the mirror survives.
    async fn push_part(
        &mut self,
        mirror: &mut Mirror,
        part: SyncChanges,
    ) -> Result<Result<Next, ApiError>, Failure> {
        let requested =
            self.request_sync(mirror.workspace, mirror.source.clone(), &mirror.destination, Some(part), None);
        let requested = match requested.await {
            Ok(requested) => requested,
            Err(Failure::Told(error)) => return survived(error),
            Err(gone @ Failure::Gone(_)) => return Err(gone),
        };
        let ended = self.until_synced(&requested).await?;
        let finished = match ended.result {
            Ok(finished) => finished,
            Err(_) if ended.canceled => return Ok(Ok(Next::End)),
            Err(error) => return survived(error),
        };
        let result = self.sync_result(&requested, &finished).await?;
        self.peer.progress(Progress::Synced(result)).await?;
        mirror.add(&finished);
        Ok(Ok(if ended.canceled { Next::End } else { Next::LookAgain }))
    }
}

impl Mirror {
    fn add(&mut self, finished: &SyncFinished) {
        let sums = &mut self.result.workspace_sync;
        sums.entry_count += finished.entry_count;
        sums.bytes_written += finished.bytes_written;
    }
}

/// Tells errors of one push, which the next one may not have, from those of the mirror.
fn survived<T>(error: ApiError) -> Result<Result<T, ApiError>, Failure> {
    match error.code {
        ErrorCode::SourceRefused
        | ErrorCode::SourceUnusable
        | ErrorCode::SyncFailed
        | ErrorCode::SyncLost
        | ErrorCode::LimitReached => Ok(Err(error)),
        _ => Err(error.into()),
    }
}

/// Returns why a workspace takes no more pushes, if the event tells it.
fn workspace_end(event: &Event) -> Option<Result<(), ApiError>> {
    let stopped = |workspace: WorkspaceId| {
        let error = ApiError::new(ErrorCode::InvalidState, format!("{workspace} was stopped"));
        Some(Err(error.with_hint("`pyro workspace start` boots it; then push again")))
    };
    match event {
        Event::WorkspaceStopping(event) => stopped(event.workspace),
        Event::WorkspaceStopped(event) => stopped(event.workspace),
        Event::WorkspaceDeleting(event) => Some(Err(match event.reason {
            DeleteReason::Expired => expired(event.workspace),
            DeleteReason::Explicit
            | DeleteReason::PostExec
            | DeleteReason::RunError
            | DeleteReason::ClientGone => gone(event.workspace, WorkspaceKind::Workspace),
        })),
        _ => None,
    }
}

/// Begins to watch, where blocking is allowed.
async fn watched(dir: &Path) -> Result<Bursts, ApiError> {
    let dir = dir.to_owned();
    let watched = tokio::task::spawn_blocking(move || Bursts::of(&dir)).await;
    watched.expect("a look at files does not panic").map_err(|error| match error.kind {
        notify::ErrorKind::MaxFilesWatch => {
            let message = "the directory has more directories than the host's kernel watches for one user";
            ApiError::new(ErrorCode::LimitReached, message)
                .with_hint("`sysctl fs.inotify.max_user_watches` shows and sets how many that are")
        }
        _ => ApiError::new(ErrorCode::SourceUnusable, format!("failed to watch the directory: {error}")),
    })
}

/// Looks at a directory, where blocking is allowed.
async fn snapshot(dir: &Path) -> Result<Snapshot, SourceError> {
    let dir = dir.to_owned();
    tokio::task::spawn_blocking(move || Snapshot::take(&dir, &AtomicBool::new(false)))
        .await
        .expect("a look at files does not panic")
}

/// Cuts changes into pushes whose paths are not too long for the log, in their order.
fn parts(changes: Changes) -> Vec<SyncChanges> {
    let Changes { changed, removed } = changes;
    let mut parts = Vec::new();
    let mut part = SyncChanges::default();
    let mut len = 0;
    let removed = removed.into_iter().map(|path| (path, true));
    for (path, is_removal) in removed.chain(changed.into_iter().map(|path| (path, false))) {
        if len + path.len() > PATH_BYTES_MAX {
            parts.push(std::mem::take(&mut part));
            len = 0;
        }
        len += path.len();
        if is_removal { part.removed.push(path) } else { part.changed.push(path) }
    }
    if len > 0 {
        parts.push(part);
    }
    parts
}

#[cfg(test)]
mod tests {
    use pyro_runtime::import::Changes;

    use super::{PATH_BYTES_MAX, parts};

    /// Catches a burst that the log refuses, and one that loses a path or changes the order.
    #[test]
    fn changes_are_cut_into_parts_in_their_order() {
        let path = |number: usize| format!("{number:04096}").into_bytes();
        let changes =
            Changes { removed: (0..100).map(path).collect(), changed: (100..300).map(path).collect() };
        let parts = parts(changes.clone());
        assert_eq!(parts.len(), 300 * 4096 / PATH_BYTES_MAX + 1);
        for part in &parts {
            let len: usize = part.removed.iter().chain(&part.changed).map(Vec::len).sum();
            assert!(len <= PATH_BYTES_MAX, "{len}");
        }
        let removed: Vec<_> = parts.iter().flat_map(|part| part.removed.clone()).collect();
        let changed: Vec<_> = parts.iter().flat_map(|part| part.changed.clone()).collect();
        assert_eq!(Changes { changed, removed }, changes);
        let first_change = parts.iter().position(|part| !part.changed.is_empty()).unwrap();
        assert!(parts[first_change + 1..].iter().all(|part| part.removed.is_empty()), "removals come first");
        assert!(super::parts(Changes::default()).is_empty());
    }
}
