//! `pyro daemon status` and `stop`.

use std::sync::atomic::Ordering;

use pyro_api::{API_VERSION, DaemonStatus, DaemonStopped};

use super::Session;

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
        }
    }

    pub(super) fn daemon_stop(&self) -> DaemonStopped {
        tracing::info!(pid = self.actor.pid, "stop requested");
        DaemonStopped { pid: std::process::id() }
    }
}
