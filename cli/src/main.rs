//! The program `pyro`.

mod agents;

use std::process::ExitCode;

use clap::Parser as _;
use pyro_cli::{Cli, DaemonRun, Invocation, McpServe};
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
        Invocation::DemoOllama(demo) => demo.run(agents::demonstrate),
        Invocation::ServeMcp(serve) => McpServe::ended(agents::serve(serve)),
        Invocation::VerifyLog(verification) => verification.run(pyro_daemon::verify_log),
        Invocation::RepairLog(repair) => repair.run(pyro_daemon::repair_log),
        Invocation::SandboxInit(arguments) => pyro_daemon::sandbox_init(arguments),
        Invocation::VsockConnector(arguments) => pyro_daemon::vsock_connector(&arguments),
    }
}
