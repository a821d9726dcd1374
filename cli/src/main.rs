//! The program `pyro`.

use std::process::ExitCode;

use clap::Parser as _;
use pyro_cli::{Cli, DaemonRun, Invocation, McpServe};
use pyro_daemon::DaemonOptions;
use pyro_mcp::{ServeError, Settings};

fn main() -> ExitCode {
    match Cli::parse().execute() {
        Invocation::Done(code) => code,
        Invocation::Daemon(DaemonRun { home, ready }) => {
            match pyro_daemon::run(DaemonOptions { home, ready }) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => DaemonRun::failed(&error),
            }
        }
        Invocation::ServeMcp(serve) => McpServe::ended(serve_mcp(serve)),
        Invocation::VerifyLog(verification) => verification.run(pyro_daemon::verify_log),
        Invocation::RepairLog(repair) => repair.run(pyro_daemon::repair_log),
        Invocation::SandboxInit(arguments) => pyro_daemon::sandbox_init(arguments),
        Invocation::VsockConnector(arguments) => pyro_daemon::vsock_connector(&arguments),
    }
}

fn serve_mcp(serve: McpServe) -> Result<(), ServeError> {
    let McpServe { home, program, profile, allowed_paths } = serve;
    let profile = profile.parse().unwrap_or_default();
    pyro_mcp::serve_stdio(Settings { home, program, profile, allowed_paths })
}
