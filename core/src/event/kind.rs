//! The names of all kinds of events, and what they mean.

use super::{Event, Evidence};

impl Event {
    /// All names that [`Event::kind`] returns, in the order of the variants.
    pub const KINDS: &'static [&'static str] = &[
        "daemon_started",
        "daemon_stopped",
        "limits_changed",
        "clock_observed",
        "mounted",
        "unmounted",
        "access_refused",
        "log_compacted",
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
        "operation_resolved",
        "request_met",
        "output_dropped",
        "unknown",
    ];

    /// Returns what the event means, in a sentence for people who read it without the documentation.
    #[must_use]
    pub const fn meaning(&self) -> &'static str {
        match self {
            Self::DaemonStarted(_) => "A daemon opened the log. Guests of another host boot id are gone.",
            Self::DaemonStopped(_) => {
                "A daemon ended in order; a daemon that is killed has no such event. Guests go on."
            }
            Self::LimitsChanged(_) => "The bounds on guests and commands are these from now on.",
            Self::ClockObserved(_) => {
                "The host was booted, or somebody set its clock: times before and after it are to be compared with care."
            }
            Self::Mounted(_) => {
                "The tree of files is shown at this directory, by this daemon and by those that follow it."
            }
            Self::Unmounted(_) => "The tree of files is not shown at this directory any more.",
            Self::AccessRefused(_) => "A server did not let somebody in; nothing was done for them.",
            Self::LogCompacted(_) => {
                "All events before the first kept one were dropped; a base with this digest stands in their place."
            }
            Self::BackendProbed(_) => {
                "A way to run guests was tried on this host; the verdict holds while the fingerprint is the same."
            }
            Self::EnvironmentInstalled(_) => "The files of an environment were put in place and checked.",
            Self::EnvironmentInstallFailed(_) => {
                "An environment could not be installed; what was there before is there still."
            }
            Self::EnvironmentRemoved(_) => "The files of an environment that nothing uses were removed.",
            Self::WorkspaceCreated(_) => "A workspace or VM exists from here on; it has no guest yet.",
            Self::WorkspaceLabeled(_) => "It has this name and these labels from here on.",
            Self::WorkspaceStarting(_) => "The boot of its guest is about to begin.",
            Self::WorkspaceStarted(_) => "Its guest answers.",
            Self::WorkspaceStartFailed(_) => "Its guest did not boot.",
            Self::WorkspaceStopping(_) => "Its guest is about to be stopped; the files stay.",
            Self::WorkspaceStopped(_) => "Its guest is gone; the files are there.",
            Self::WorkspaceDeleting(_) => "It is about to be deleted with all files and output.",
            Self::WorkspaceDeleted(_) => "Nothing of it is left but its events.",
            Self::ExecRequested(_) => "A command is on record and is sent to the guest at most once.",
            Self::ExecStarted(_) => "The guest says that the command runs.",
            Self::ExecExited(_) => {
                "Done: the command ran to its end. The digests are those of its output, without what was dropped before."
            }
            Self::ExecFailed(_) => "Failed: the command never ran.",
            Self::ExecLost(_) => {
                "Unknown: the command may have run, in part or to its end. The digests are those of the output that is there."
            }
            Self::ExecCancelRequested(_) => "Somebody wants the command to end; how it ended comes later.",
            Self::ShellRequested(_) => "A shell is on record and is opened at most once.",
            Self::ShellStarted(_) => "The guest says that the shell runs.",
            Self::ShellFailed(_) => "Failed: the shell never ran.",
            Self::ShellExited(_) => "Done: the shell ended. The digest is that of all that it showed.",
            Self::ShellLost(_) => "Unknown: the shell ended with its guest or out of sight.",
            Self::ShellInput(_) => "This was typed; the guest gets each byte once.",
            Self::ShellResized(_) => "The terminal has this size from here on.",
            Self::ShellSignaled(_) => "The signal is sent at most once.",
            Self::ShellClosing(_) => "Somebody closes the shell; its jobs have a few seconds to end.",
            Self::ShellClosed(_) => "The shell is forgotten.",
            Self::SyncRequested(_) => "Files are to be brought into the guest, all of them or none.",
            Self::SyncFinished(_) => "Done: all files are in place.",
            Self::SyncFailed(_) => "Failed: no file was brought.",
            Self::SyncLost(_) => "Unknown: the files are in place, or none of them is.",
            Self::SyncCancelRequested(_) => {
                "Somebody wants the sync to end; it ends, or it was complete already."
            }
            Self::RequestMet(_) => "What the request asked for was so already: nothing was done.",
            Self::OperationResolved(event) => event.evidence.meaning(),
            Self::OutputDropped(_) => {
                "This part of the output is dropped to keep the bound of the policy; its digest stays here."
            }
            Self::Unknown(_) => {
                "A newer version wrote it; this one does not know what it means and leaves it as it is."
            }
        }
    }
}

impl Evidence {
    const fn meaning(&self) -> &'static str {
        match self {
            Self::Unknown => {
                "A new daemon asked the guest, whose journal does not know the work: it never arrived and had no effect."
            }
            Self::Running { .. } => {
                "A new daemon asked the guest, in which the work goes on: it is followed to its end from where the host stands."
            }
            Self::Exited { .. } => {
                "A new daemon asked the guest, whose journal has the end of the work: its outcome follows from that."
            }
            Self::InPlace => "A new daemon asked the guest, which has all files in place.",
            Self::Failed { .. } => {
                "A new daemon asked the guest, whose journal says that the work had no effect."
            }
            Self::Silent { .. } => {
                "A new daemon asked the guest, which lives and did not answer: the outcome follows from what is seen later."
            }
            Self::GuestGone { .. } => {
                "A new daemon found the guest dead, and with it its journal: what the host does not have is unknown."
            }
        }
    }
}
