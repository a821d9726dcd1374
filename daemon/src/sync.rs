//! One import into one guest: from the action to the record of its end.
//!
//! ```text
//! sending --Commit--> committed --Imported--> Finished
//!    |                    |  \----ImportFailed-> Failed
//!    |                    \----the guest is gone-> Lost
//!    \--source, guest or cancel-> Failed
//! ```
//!
//! Until the commit the guest drops everything when the connection ends: whatever goes wrong is a failure without
//! effect. From the commit on the guest is asked until it tells. A daemon that finds a sync of an earlier one only asks.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use pyro_core::{
    Command, Operation, SyncChanges, SyncFailed, SyncFinished, SyncLost, SyncNumber, SyncSource,
    SyncSourceKind, WorkspaceId,
};
use pyro_runtime::guest::{Guest, GuestError, ImportError, ImportSession, ImportState, Sent};
use pyro_runtime::import::{self, Changes, Source, Totals};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::context::Context;
use crate::evidence;
use crate::fate::Fate;
use crate::sessions::chain;

/// The reason of a sync that somebody ended.
pub(crate) const CANCELED: &str = "canceled";

/// Times that a guest is asked in vain, or does not know the import, before that is taken for its answer. What an
/// earlier daemon has sent may still be on its way when the guest is first asked.
const VAIN_MAX: u32 = 5;

/// Time between two questions: at first, and when the guest is busy for long.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// How long the syncs of a dead guest may take to see that it is dead.
const END_DEADLINE: Duration = Duration::from_secs(10);

/// How a sync comes to this daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Begin {
    /// It was requested now; the guest does not know of it.
    Send,
    /// An earlier daemon may have sent it.
    Ask,
}

/// The syncs of one guest that are under way.
#[derive(Debug, Default)]
pub(crate) struct Syncs {
    tasks: JoinSet<SyncNumber>,
    cancel: HashMap<SyncNumber, CancellationToken>,
}

impl Syncs {
    pub(crate) fn begin(
        &mut self,
        context: &Arc<Context>,
        workspace: WorkspaceId,
        number: SyncNumber,
        guest: Guest,
        fate: Fate,
        begin: Begin,
    ) {
        let cancel = CancellationToken::new();
        self.cancel.insert(number, cancel.clone());
        let transfer = Transfer {
            context: Arc::clone(context),
            workspace,
            number,
            guest,
            fate,
            cancel,
            progress: context.syncs.of(workspace, number),
        };
        self.tasks.spawn(async move {
            transfer.run(begin).await;
            number
        });
    }

    /// Ends a sync, unless the guest is putting it in place already.
    pub(crate) fn cancel(&self, number: SyncNumber) {
        if let Some(cancel) = self.cancel.get(&number) {
            cancel.cancel();
        }
    }

    /// Waits until one of them has ended; for ever when there are none. Cancel safe.
    pub(crate) async fn ended(&mut self) {
        match self.tasks.join_next().await {
            Some(Ok(number)) => drop(self.cancel.remove(&number)),
            Some(Err(error)) => tracing::error!(%error, "a sync task failed"),
            None => std::future::pending().await,
        }
    }

    /// Waits for all of them, whose guest is gone.
    pub(crate) async fn end_all(&mut self) {
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(END_DEADLINE, all).await.is_err() {
            self.tasks.shutdown().await;
        }
        self.cancel.clear();
    }
}

/// What the guest has been sent in one sync.
pub(crate) type LiveSync = watch::Sender<Totals>;

/// How far the syncs under way have come, for those who watch them. An entry lives as long as somebody sends or watches.
#[derive(Debug, Default)]
pub(crate) struct LiveSyncs {
    live: Mutex<HashMap<(WorkspaceId, SyncNumber), Weak<LiveSync>>>,
}

impl LiveSyncs {
    /// Returns what the guest has been sent in a sync; sender and watchers may come in any order.
    pub(crate) fn of(&self, workspace: WorkspaceId, sync: SyncNumber) -> Arc<LiveSync> {
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = live.get(&(workspace, sync)).and_then(Weak::upgrade) {
            return known;
        }
        live.retain(|_, known| known.strong_count() > 0);
        let new = Arc::new(LiveSync::new(Totals::default()));
        live.insert((workspace, sync), Arc::downgrade(&new));
        new
    }
}

/// One sync on its way.
struct Transfer {
    context: Arc<Context>,
    workspace: WorkspaceId,
    number: SyncNumber,
    guest: Guest,
    fate: Fate,
    cancel: CancellationToken,
    progress: Arc<LiveSync>,
}

/// What is to be sent, as the log has it.
struct Wanted {
    source: SyncSource,
    destination: String,
    changes: Option<SyncChanges>,
}

/// How a sync ended, as far as this daemon could see.
enum End {
    Finished { totals: Totals, digest: Option<[u8; 32]> },
    Failed { reason: String, refused: bool },
    Lost { reason: String },
}

impl End {
    fn failed(reason: impl Into<String>) -> Self {
        Self::Failed { reason: reason.into(), refused: false }
    }
}

impl Transfer {
    async fn run(self, begin: Begin) {
        let end = match begin {
            Begin::Send => self.send().await,
            Begin::Ask => {
                let op = self.number.0.into();
                let operation = Operation::Sync(self.number);
                evidence::gather(&self.context, self.workspace, operation, &self.guest, op).await;
                self.ask(None).await
            }
        };
        self.record(end).await;
    }

    async fn send(&self) -> End {
        let Some(wanted) = self.wanted() else { return End::failed(CANCELED) };
        let brought = tokio::select! {
            biased;
            // Dropping the session makes the guest drop what it has.
            () = self.cancel.cancelled() => return End::failed(CANCELED),
            brought = self.bring(wanted) => brought,
        };
        let (session, sent) = match brought {
            Ok(brought) => brought,
            Err(error) => return self.without_effect(&error).await,
        };
        match session.commit(sent).await {
            Ok(()) => End::Finished { totals: sent.totals, digest: Some(sent.digest) },
            Err(ImportError::Guest(error)) if error.is_breach() => lost_to_breach(&error),
            Err(ImportError::Guest(error)) => {
                tracing::debug!(workspace = %self.workspace, sync = %self.number, %error, "no answer to the commit");
                self.ask(Some(sent)).await
            }
            Err(error) => self.without_effect(&error).await,
        }
    }

    /// Returns what to send; `None` when somebody has ended it before it began.
    fn wanted(&self) -> Option<Wanted> {
        let state = self.context.engine.state();
        let sync = state.workspace(self.workspace)?.open_syncs.get(&self.number)?;
        (!sync.cancel_requested).then(|| Wanted {
            source: sync.source.clone(),
            destination: sync.destination.clone(),
            changes: sync.changes.clone(),
        })
    }

    /// Sends everything up to the commit.
    async fn bring(&self, wanted: Wanted) -> Result<(ImportSession, Sent), ImportError> {
        let Wanted { source, destination, changes } = wanted;
        let mut session = self.guest.import(self.number.0.into(), &destination).await?;
        let progress = |totals| {
            self.progress.send_replace(totals);
        };
        let path = PathBuf::from(source.path);
        let sent = match changes {
            None => {
                let source = match source.kind {
                    SyncSourceKind::Directory => Source::Directory(path),
                    SyncSourceKind::Archive => Source::Archive(path),
                };
                session
                    .send(move |outlet, cancelled| import::read(&source, outlet, cancelled), progress)
                    .await?
            }
            Some(SyncChanges { changed, removed }) => {
                let changes = Changes { changed, removed };
                session
                    .send(
                        move |outlet, cancelled| import::read_changes(&path, &changes, outlet, cancelled),
                        progress,
                    )
                    .await?
            }
        };
        Ok((session, sent))
    }

    /// Returns the end of a sync that had no effect.
    async fn without_effect(&self, error: &ImportError) -> End {
        match error {
            ImportError::Source(error) => End::Failed { reason: chain(error), refused: error.is_refusal() },
            ImportError::Failed(failure) => End::failed(failure.to_string()),
            ImportError::Thread(_) => End::failed(format!("failed to {}", chain(error))),
            ImportError::Guest(error) => {
                let reason = self.fate.ended().await;
                End::failed(reason.unwrap_or_else(|| format!("failed to {}", chain(error))))
            }
        }
    }

    /// Asks the guest until it tells what became of the import. `sent` is what this daemon has sent of it; `None` when
    /// an earlier one did.
    async fn ask(&self, sent: Option<Sent>) -> End {
        let (mut vain, mut pause) = (0, PAUSE_MIN);
        loop {
            let reason = match self.guest.ask_import(self.number.0.into()).await {
                Ok(ImportState::Imported(totals)) => {
                    return End::Finished { totals, digest: sent.map(|sent| sent.digest) };
                }
                Ok(ImportState::Failed(failure)) => return End::failed(failure.to_string()),
                Ok(ImportState::Running) => {
                    vain = 0;
                    None
                }
                Ok(ImportState::Unknown) => {
                    Some(End::failed("the connection ended before the guest had everything"))
                }
                Err(error) if error.is_breach() => return lost_to_breach(&error),
                Err(error @ GuestError::TooOld { .. }) => return self.without_effect(&error.into()).await,
                Err(error) => {
                    if let Some(reason) = self.fate.ended().await {
                        return End::Lost { reason };
                    }
                    Some(End::Lost { reason: format!("failed to {}", chain(&error)) })
                }
            };
            if let Some(end) = reason {
                vain += 1;
                if vain == VAIN_MAX {
                    return end;
                }
            }
            tokio::time::sleep(pause).await;
            pause = PAUSE_MAX.min(pause * 2);
        }
    }

    async fn record(&self, end: End) {
        let (workspace, sync) = (self.workspace, self.number);
        let command = match end {
            End::Finished { totals: Totals { entries, bytes }, digest } => {
                let (entry_count, bytes_written) = (entries, bytes);
                Command::RecordSyncFinished(SyncFinished {
                    workspace,
                    sync,
                    entry_count,
                    bytes_written,
                    digest,
                })
            }
            End::Failed { reason, refused } => {
                Command::RecordSyncFailed(SyncFailed { workspace, sync, reason, refused })
            }
            End::Lost { reason } => Command::RecordSyncLost(SyncLost { workspace, sync, reason }),
        };
        self.context.record_fact(command).await;
    }
}

fn lost_to_breach(error: &GuestError) -> End {
    End::Lost { reason: format!("the guest broke the protocol: {}", chain(error)) }
}

/// Returns how a source stands in the log; `None` when its path is not UTF-8.
pub(crate) fn source_of(source: &Source) -> Option<SyncSource> {
    let kind = match source {
        Source::Directory(_) => SyncSourceKind::Directory,
        Source::Archive(_) => SyncSourceKind::Archive,
    };
    Some(SyncSource { kind, path: source.path().to_str()?.to_owned() })
}
