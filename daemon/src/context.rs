//! What the parts of the daemon share.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Instant;

use pyro_api::Home;
use pyro_core::{Actor, Cause, Command, Face, WorkspaceId};
use pyro_runtime::environment::Environments;
use pyro_runtime::host::Tools;
use pyro_store::outputs::Outputs;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::engine::{Engine, Origin, Outcome, Refusal};
use crate::live_files::LiveFiles;
use crate::mounts::Mounts;
use crate::openings::Openings;
use crate::programs::Programs;
use crate::retention::Retention;
use crate::streams::Streams;
use crate::sync::LiveSyncs;
use crate::tethers::Tethers;

/// Whether a fact needs nobody any more who remembers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Recorded {
    /// It is durable, or it was overtaken.
    Yes,
    /// The log could not take it.
    No,
}

/// The daemon's parts; one per process, shared by all tasks.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) engine: Engine,
    pub(crate) home: Home,
    pub(crate) config: Config,
    pub(crate) outputs: Outputs,
    pub(crate) retention: Retention,
    pub(crate) environments: Environments,
    pub(crate) streams: Streams,
    pub(crate) syncs: LiveSyncs,
    pub(crate) tethers: Tethers,
    pub(crate) mounts: Mounts,
    pub(crate) live_files: Arc<LiveFiles>,
    pub(crate) openings: Openings,
    pub(crate) programs: Programs,
    pub(crate) tools: Tools,
    /// The host was booted since the earlier daemon started: none of its guests can be alive.
    pub(crate) host_rebooted: bool,
    /// Held while a way to run guests is tried, so that it is tried once.
    pub(crate) probing: tokio::sync::Mutex<()>,
    /// Held while the beginning of the log is dropped: one at a time.
    pub(crate) compacting: tokio::sync::Mutex<()>,
    pub(crate) stopping: CancellationToken,
    /// Somebody asked for the end of the daemon, and that is on record.
    pub(crate) stop_requested: AtomicBool,
    pub(crate) started_at: Instant,
    pub(crate) clients: AtomicU64,
}

impl Context {
    /// Submits something that was observed rather than asked for.
    pub(crate) async fn record(&self, command: Command) -> Result<Outcome, Refusal> {
        self.engine.submit(command, Origin { actor: daemon_actor(), cause: Cause::Observation }).await
    }

    /// Records a fact whose refusal is no news: something else happened meanwhile. A log that cannot be written has
    /// been reported by the engine.
    pub(crate) async fn record_quietly(&self, command: Command) {
        if let Err(refusal) = self.record(command.clone()).await {
            tracing::debug!(%refusal, ?command, "fact not recorded");
        }
    }

    /// Records a fact that stays true when the log cannot take it now, and tells whether it is on record or no news.
    ///
    /// Without space this waits until there is some again, for as long as the daemon runs. A log that has failed takes
    /// nothing more; the next daemon finds the fact where this one did.
    pub(crate) async fn record_fact(&self, command: Command) -> Recorded {
        let origin = Origin { actor: daemon_actor(), cause: Cause::Observation };
        let recorded = tokio::select! {
            // The engine hears of it also when the daemon is about to end.
            biased;
            recorded = self.engine.insist(command.clone(), origin) => recorded,
            () = self.stopping.cancelled() => return Recorded::No,
        };
        match recorded {
            Ok(_) => Recorded::Yes,
            Err(Refusal::Rejected(rejection)) => {
                tracing::debug!(%rejection, ?command, "fact not recorded");
                Recorded::Yes
            }
            Err(Refusal::Append(_) | Refusal::Read(_) | Refusal::Stopping) => Recorded::No,
        }
    }

    /// Records a fact that nobody waits for, together with what is recorded next.
    pub(crate) async fn note(&self, command: Command) {
        self.engine.post(command, Origin { actor: daemon_actor(), cause: Cause::Observation }).await;
    }

    pub(crate) fn workspace_dir(&self, workspace: WorkspaceId) -> PathBuf {
        self.home.workspaces().join(workspace.to_string())
    }
}

/// Returns the daemon as the one who acts.
pub(crate) fn daemon_actor() -> Actor {
    Actor {
        face: Face::Daemon,
        uid: rustix::process::geteuid().as_raw(),
        pid: std::process::id(),
        client: concat!("pyro/", env!("CARGO_PKG_VERSION")).to_owned(),
    }
}
