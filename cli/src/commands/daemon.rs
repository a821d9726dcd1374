//! `pyro daemon`

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::ExitCode;

use pyro_api::{
    ApiError, DaemonStatus, DaemonStatusRequest, ErrorCode, Home, MountObject, Readiness, stop_daemon,
};
use serde::Serialize;

use super::print;
use crate::arguments::{DaemonCommand, DaemonRunArgs};
use crate::exit::{Failure, Format};
use crate::sanitize;
use crate::session::Session;

/// The last of the standard streams.
const STDERR: i32 = 2;

/// What a daemon needs to know from its command line.
#[derive(Debug)]
pub struct DaemonRun {
    /// The home, whose directories exist.
    pub home: Home,
    /// Where to write [`Readiness`]; `None` when nobody waits for it.
    pub ready: Option<OwnedFd>,
}

impl DaemonRun {
    /// Tells why the daemon could not run, and returns the exit code.
    #[must_use]
    pub fn failed(error: &anyhow::Error) -> ExitCode {
        Failure::from(ApiError::new(ErrorCode::DaemonUnavailable, error)).report(Format::Text)
    }
}

/// What became of `pyro daemon`.
pub(crate) enum Execution {
    /// This process shall be the daemon.
    Become(DaemonRun),
    /// The command has ended.
    Done(Format, Result<ExitCode, Failure>),
}

pub(crate) fn execute(command: DaemonCommand) -> Execution {
    let (format, result) = match command {
        DaemonCommand::Run(args) => match prepare(args) {
            Ok(run) => return Execution::Become(run),
            Err(failure) => (Format::Text, Err(failure)),
        },
        DaemonCommand::Status(flag) => (Format::from_flag(flag.json), status(Format::from_flag(flag.json))),
        DaemonCommand::Stop(flag) => (Format::from_flag(flag.json), stop(Format::from_flag(flag.json))),
    };
    Execution::Done(format, result)
}

fn prepare(args: DaemonRunArgs) -> Result<DaemonRun, Failure> {
    let ready = if args.report_ready { Some(detach()?) } else { None };
    let home = Home::from_environment().and_then(|home| home.create().map(|()| home)).map_err(ApiError::from);
    match (home, ready) {
        (Ok(home), ready) => Ok(DaemonRun { home, ready }),
        (Err(error), ready) => {
            if let Some(ready) = ready {
                // When the client is gone, nobody wants to know.
                let _gone = Readiness::Failed(error.clone()).report(File::from(ready));
            }
            Err(error.into())
        }
    }
}

/// Closes what this process inherited beside its standard streams. A daemon that kept a pipe of the client's parent open
/// would make somebody wait for its end for ever.
fn close_inherited() -> io::Result<()> {
    let open = std::fs::read_dir("/proc/self/fd")?;
    let open: Vec<i32> =
        open.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    for descriptor in open.into_iter().filter(|descriptor| *descriptor > STDERR) {
        // Nothing in this process owns any of them yet. The one of the directory itself is closed already.
        let _closed_already = nix::unistd::close(descriptor);
    }
    Ok(())
}

/// Leaves the session of the client, so that neither its terminal nor its signals reach the daemon, and takes the pipe
/// away from standard output, so that its end is seen when the report is written.
fn detach() -> Result<OwnedFd, Failure> {
    let failed = |error: io::Error| {
        ApiError::new(ErrorCode::DaemonUnavailable, format_args!("failed to detach: {error}"))
    };
    close_inherited().map_err(failed)?;
    rustix::process::setsid().map_err(|error| failed(error.into()))?;
    let ready = io::stdout().as_fd().try_clone_to_owned().map_err(failed)?;
    let null = File::options().write(true).open("/dev/null").map_err(failed)?;
    rustix::stdio::dup2_stdout(&null).map_err(|error| failed(error.into()))?;
    Ok(ready)
}

fn status(format: Format) -> Result<ExitCode, Failure> {
    print(&Session::looking()?.call(DaemonStatusRequest {})?, format, status_text)
}

fn status_text(status: &DaemonStatus) -> String {
    format!(
        "Daemon: running as pid {}\nVersion: {}\nHome: {}\nLog file: {}\nUptime: {} s\nEvents: {}\nWorkspaces: {} ({} with a guest)\nClients: {}\nMounts: {}\n",
        status.pid,
        sanitize::line(&status.version),
        sanitize::line(&status.home),
        sanitize::line(&status.log_file),
        status.uptime_seconds,
        status.head_seq,
        status.workspaces,
        status.guests,
        status.clients,
        sanitize::line(&mounts(&status.mounts))
    )
}

fn mounts(mounts: &[MountObject]) -> String {
    let paths: Vec<&str> = mounts.iter().map(|mount| mount.path.as_str()).collect();
    if paths.is_empty() { "none".to_owned() } else { paths.join(", ") }
}

/// What `daemon stop` did.
#[derive(Debug, Serialize)]
struct Stopped {
    stopped: bool,
    pid: Option<u32>,
}

fn stop(format: Format) -> Result<ExitCode, Failure> {
    let session = Session::looking()?;
    let pid = stop_daemon(&session.home, &session.info)?;
    print(&Stopped { stopped: pid.is_some(), pid }, format, |stopped| {
        stopped
            .pid
            .map_or_else(|| "No daemon runs.\n".to_owned(), |pid| format!("Stopped daemon: pid {pid}\n"))
    })
}
