//! The rules: which commands are accepted, and which events follow.

mod exec;
mod host;
mod output;
mod shell;
mod sync;
mod workspace;

#[cfg(test)]
mod tests;

use alloc::vec::Vec;

use crate::command::Command;
use crate::event::Event;
use crate::rejection::Rejection;
use crate::state::State;

pub use sync::sync_destination;

/// Accepts a command by returning what happened, or refuses it. Pure: the same state and command give the same answer.
///
/// An accepted command can have nothing to say (an empty list): what it asks for is already so.
///
/// # Errors
///
/// Returns the reason of a refusal; nothing is to be written then.
pub fn decide(state: &State, command: &Command) -> Result<Vec<Event>, Rejection> {
    match command {
        Command::RecordDaemonStarted(fact) => Ok(host::daemon_started(fact)),
        Command::RecordDaemonStopped(fact) => Ok(host::daemon_stopped(fact)),
        Command::RecordLimits(limits) => Ok(host::limits(state, *limits)),
        Command::RecordClock(fact) => Ok(host::clock(state, fact)),
        Command::RecordMounted(fact) => Ok(host::mounted(state, fact)),
        Command::RecordUnmounted(fact) => host::unmounted(state, fact),
        Command::RecordAccessRefused(fact) => Ok([Event::AccessRefused(fact.clone())].into()),
        Command::CompactLog(fact) => host::compact_log(state, fact),
        Command::RecordProbe(fact) => Ok(host::probed(fact)),
        Command::RecordEnvironmentInstalled(fact) => Ok(host::environment_installed(fact)),
        Command::RecordEnvironmentInstallFailed(fact) => Ok(host::environment_install_failed(fact)),
        Command::RecordEnvironmentsRemoved(facts) => Ok(host::environments_removed(facts)),
        Command::CreateWorkspace { workspace, kind, lifetime, spec } => {
            workspace::create(state, *workspace, *kind, *lifetime, spec)
        }
        Command::OpenWorkspace { workspace, spec, tags, seed } => {
            workspace::open(state, *workspace, spec, tags, seed.as_ref())
        }
        Command::Run { workspace, spec, command, timeout_ms } => {
            workspace::run(state, *workspace, spec, command, *timeout_ms)
        }
        Command::StartWorkspace { workspace } => workspace::start(state, *workspace),
        Command::RecordStarted(fact) => workspace::started(state, fact),
        Command::RecordStartFailed(fact) => workspace::start_failed(state, fact),
        Command::StopWorkspace { workspace } => workspace::stop(state, *workspace),
        Command::RecordStopped(fact) => workspace::stopped(state, fact),
        Command::DeleteWorkspace { workspace, reason } => workspace::delete(state, *workspace, *reason),
        Command::ReapExpired { now } => Ok(workspace::reap(state, *now)),
        Command::RecordDeleted { workspace } => workspace::deleted(state, *workspace),
        Command::RequestExec { workspace, command, cwd, timeout_ms } => {
            exec::request(state, *workspace, command, cwd.as_ref(), *timeout_ms)
        }
        Command::RecordExecStarted(fact) => exec::started(state, fact),
        Command::RecordExecExited(fact) => exec::exited(state, fact),
        Command::RecordExecFailed(fact) => exec::failed(state, fact),
        Command::RecordExecLost(fact) => exec::lost(state, fact),
        Command::CancelExec { workspace, exec } => exec::cancel(state, *workspace, *exec),
        Command::OpenShell { .. }
        | Command::RecordShellStarted(_)
        | Command::RecordShellFailed(_)
        | Command::RecordShellExited(_)
        | Command::RecordShellLost(_)
        | Command::TypeInput { .. }
        | Command::ResizeShell { .. }
        | Command::SignalShell { .. }
        | Command::CloseShell { .. } => decide_shell(state, command),
        Command::RequestSync { workspace, source, destination, changes } => {
            sync::request(state, *workspace, source, destination, changes.as_ref())
        }
        Command::RecordSyncFinished(fact) => sync::finished(state, fact),
        Command::RecordSyncFailed(fact) => sync::failed(state, fact),
        Command::RecordSyncLost(fact) => sync::lost(state, fact),
        Command::RecordResolved(fact) => workspace::resolved(state, fact),
        Command::RecordOutputDropped(fact) => output::dropped(state, fact),
        Command::CancelSync { workspace, sync } => sync::cancel(state, *workspace, *sync),
    }
}

fn decide_shell(state: &State, command: &Command) -> Result<Vec<Event>, Rejection> {
    match command {
        Command::OpenShell { workspace, shell, cwd, size } => {
            shell::open(state, *workspace, *shell, cwd, *size)
        }
        Command::RecordShellStarted(fact) => shell::started(state, fact),
        Command::RecordShellFailed(fact) => shell::failed(state, fact),
        Command::RecordShellExited(fact) => shell::exited(state, fact),
        Command::RecordShellLost(fact) => shell::lost(state, fact),
        Command::TypeInput { workspace, shell, data } => shell::input(state, *workspace, *shell, data),
        Command::ResizeShell { workspace, shell, size } => shell::resize(state, *workspace, *shell, *size),
        Command::SignalShell { workspace, shell, signal } => {
            shell::signal(state, *workspace, *shell, *signal)
        }
        Command::CloseShell { workspace, shell } => shell::close(state, *workspace, *shell),
        _ => Ok(Vec::new()),
    }
}
