//! The program `pyro`.

use std::process::ExitCode;

use clap::Parser as _;
use pyro_cli::{Cli, DaemonRun, Invocation, McpHttp, McpServe, OllamaDemo, Tell};
use pyro_daemon::DaemonOptions;
use pyro_mcp::{DemoError, DemoOptions, HTTP_PATH, HttpSettings, Profile, ServeError, Settings};

fn main() -> ExitCode {
    match Cli::parse().execute() {
        Invocation::Done(code) => code,
        Invocation::Daemon(DaemonRun { home, ready }) => {
            match pyro_daemon::run(DaemonOptions { home, ready }) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => DaemonRun::failed(&error),
            }
        }
        Invocation::DemoOllama(demo) => demo.run(demonstrate),
        Invocation::ServeMcp(serve) => McpServe::ended(serve_mcp(serve)),
        Invocation::VerifyLog(verification) => verification.run(pyro_daemon::verify_log),
        Invocation::RepairLog(repair) => repair.run(pyro_daemon::repair_log),
        Invocation::SandboxInit(arguments) => pyro_daemon::sandbox_init(arguments),
        Invocation::VsockConnector(arguments) => pyro_daemon::vsock_connector(&arguments),
    }
}

fn serve_mcp(serve: McpServe) -> Result<(), ServeError> {
    let McpServe { home, program, profile, allowed_paths, http } = serve;
    let profile = profile.parse().unwrap_or_default();
    let settings = Settings { home, program, profile, allowed_paths };
    let Some(http) = http else { return pyro_mcp::serve_stdio(settings) };
    let McpHttp { host, port, token_file, allowed_hosts, allowed_origins } = http.clone();
    let listening = HttpSettings { host, port, token_file, allowed_hosts, allowed_origins };
    pyro_mcp::serve_http(settings, listening, |address| {
        let url = format!("http://{address}{HTTP_PATH}");
        http.announce(&url, address.ip().is_loopback());
    })
}

fn demonstrate(demo: OllamaDemo, tell: Tell<'_>) -> Result<(), DemoError> {
    let OllamaDemo { home, program, base_url, model, verbose } = demo;
    let settings = Settings { home, program, profile: Profile::WorkspaceFull, allowed_paths: Vec::new() };
    pyro_mcp::demonstrate(settings, &DemoOptions { base_url, model, verbose }, tell)
}
