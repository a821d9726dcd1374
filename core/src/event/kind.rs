//! The names of all kinds of events.

use super::Event;

impl Event {
    /// All names that [`Event::kind`] returns, in the order of the variants.
    pub const KINDS: &'static [&'static str] = &[
        "daemon_started",
        "daemon_stopped",
        "limits_changed",
        "clock_observed",
        "backend_probed",
        "environment_installed",
        "environment_install_failed",
        "environment_removed",
        "workspace_created",
        "workspace_labeled",
        "workspace_starting",
        "workspace_started",
        "workspace_start_failed",
        "workspace_stopping",
        "workspace_stopped",
        "workspace_deleting",
        "workspace_deleted",
        "exec_requested",
        "exec_started",
        "exec_exited",
        "exec_failed",
        "exec_lost",
        "exec_cancel_requested",
        "shell_requested",
        "shell_started",
        "shell_failed",
        "shell_exited",
        "shell_lost",
        "shell_input",
        "shell_resized",
        "shell_signaled",
        "shell_closing",
        "shell_closed",
        "sync_requested",
        "sync_finished",
        "sync_failed",
        "sync_lost",
        "sync_cancel_requested",
        "output_dropped",
        "unknown",
    ];
}
