//! The program `pyro`.

use std::process::ExitCode;

use clap::Parser as _;
use pyro_cli::{Cli, DaemonRun, Invocation};
use pyro_daemon::DaemonOptions;

fn main() -> ExitCode {
    match Cli::parse().execute() {
        Invocation::Done(code) => code,
        Invocation::Daemon(DaemonRun { home, ready }) => {
            match pyro_daemon::run(DaemonOptions { home, ready }) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => DaemonRun::failed(&error),
            }
        }
        Invocation::VerifyLog(verification) => verification.run(pyro_daemon::verify_log),
        Invocation::RepairLog(repair) => repair.run(pyro_daemon::repair_log),
        Invocation::SandboxInit(arguments) => pyro_daemon::sandbox_init(arguments),
    }
}
