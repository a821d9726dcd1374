//! `pyro daemon status` and `stop`.

use std::sync::atomic::Ordering;

use pyro_api::{API_VERSION, DaemonStatus, DaemonStopRequest, DaemonStopped, LogPoint};
use pyro_core::{Command, Event};

use super::repeat::same;
use super::{Failure, Session};
use crate::engine::{Outcome, Refusal};

/// Why the daemon ends, as the log has it.
const REQUESTED: &str = "requested";

impl Session {
    pub(super) fn daemon_status(&self) -> DaemonStatus {
        let context = &self.context;
        let state = context.engine.state();
        DaemonStatus {
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            api: API_VERSION,
            home: context.home.root().display().to_string(),
            log_file: context.home.daemon_log().display().to_string(),
            uptime_seconds: context.started_at.elapsed().as_secs(),
            head_seq: state.seq.0,
            guests: state.guests() as u64,
            workspaces: state.workspaces.len() as u64,
            clients: context.clients.load(Ordering::Relaxed),
            mounts: context.mounts.list(),
        }
    }

    /// Records the end that is to come; whoever has the reply knows that it is on record. A repetition is told of the
    /// daemon that ended, and the one that answers goes on.
    pub(super) async fn daemon_stop(&self, request: DaemonStopRequest) -> Result<DaemonStopped, Failure> {
        let fact = pyro_core::DaemonStopped { reason: REQUESTED.to_owned() };
        let wish = Command::RecordDaemonStopped(fact);
        let outcome = match self.context.engine.submit(wish, self.origin(request.request_id)).await {
            // A daemon whose log takes nothing more must end all the more.
            Err(Refusal::Append(error)) => {
                tracing::warn!(%error, "the end is not on record");
                Outcome::Done(Vec::new())
            }
            submitted => submitted?,
        };
        match outcome {
            Outcome::Done(_) => {
                tracing::info!(pid = self.actor.pid, "stop requested");
                self.context.stop_requested.store(true, Ordering::Relaxed);
                Ok(DaemonStopped { pid: std::process::id() })
            }
            Outcome::Repeated(_) => {
                let stopped = same(&outcome, |event| matches!(event, Event::DaemonStopped(_)))?;
                let state = self.state_at(LogPoint::Seq(stopped)).await?;
                let pid = state.daemon.as_ref().map_or(0, |daemon| daemon.process.pid);
                Ok(DaemonStopped { pid })
            }
        }
    }
}
