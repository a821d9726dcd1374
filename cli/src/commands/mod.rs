//! One file for each command: its request, and its answer as text.

pub(crate) mod daemon;
pub(crate) mod demo;
mod doctor;
mod env;
pub(crate) mod log;
pub(crate) mod mcp;
mod mount;
mod run;
mod workspace;

use std::ffi::OsString;
use std::process::ExitCode;

use serde::Serialize;

use pyro_api::json;

use crate::arguments::{Cli, Command};
use crate::exit::{Failure, Format};
use crate::sink::Sink;

use daemon::DaemonRun;
use demo::OllamaDemo;
use log::repair::LogRepair;
use log::verify::LogVerification;
use mcp::McpServe;

/// What the arguments ask this process to be.
#[derive(Debug)]
pub enum Invocation {
    /// A client: it has done what was asked for.
    Done(ExitCode),
    /// The daemon.
    Daemon(DaemonRun),
    /// What checks the log, also when no daemon can open it.
    VerifyLog(LogVerification),
    /// What repairs the log, which no daemon has open.
    RepairLog(LogRepair),
    /// What lets a model use the tools of the MCP server.
    DemoOllama(OllamaDemo),
    /// The MCP server.
    ServeMcp(McpServe),
    /// The first process of a host sandbox, with its arguments.
    SandboxInit(Vec<OsString>),
    /// Connect to a guest, with these arguments.
    VsockConnector(Vec<OsString>),
}

impl Cli {
    /// Does what the arguments ask for, or tells the caller what to become.
    #[must_use]
    pub fn execute(self) -> Invocation {
        let (format, result) = match self.command {
            Command::Env(command) => env::execute(command),
            Command::Run(args) => (Format::from_flag(args.format.json), run::execute(args)),
            Command::Workspace(command) => workspace::execute(command),
            Command::Demo(args) => match demo::execute(args) {
                demo::Execution::Become(demo) => return Invocation::DemoOllama(demo),
                demo::Execution::Done(format, result) => (format, result),
            },
            Command::Doctor(args) => (Format::from_flag(args.format.json), doctor::execute(args)),
            Command::Log(args) => match log::execute(args) {
                log::Execution::Verify(verification) => return Invocation::VerifyLog(verification),
                log::Execution::Repair(repair) => return Invocation::RepairLog(repair),
                log::Execution::Done(format, result) => (format, result),
            },
            Command::Mount(args) => (Format::from_flag(args.format.json), mount::mount(args)),
            Command::Umount(args) => (Format::from_flag(args.format.json), mount::umount(args)),
            Command::Mcp(command) => match mcp::execute(command) {
                mcp::Execution::Become(serve) => return Invocation::ServeMcp(serve),
                mcp::Execution::Done(format, result) => (format, result),
            },
            Command::Daemon(command) => match daemon::execute(command) {
                daemon::Execution::Become(run) => return Invocation::Daemon(run),
                daemon::Execution::Done(format, result) => (format, result),
            },
            Command::SandboxInit(args) => return Invocation::SandboxInit(args.arguments),
            Command::VsockConnector(args) => return Invocation::VsockConnector(args.arguments),
        };
        Invocation::Done(result.unwrap_or_else(|failure| failure.report(format)))
    }
}

/// Prints a result as JSON, or the text that is made of it.
fn print<T: Serialize>(
    result: &T,
    format: Format,
    text: impl FnOnce(&T) -> String,
) -> Result<ExitCode, Failure> {
    let printed = match format {
        Format::Json => json::document(result),
        Format::Text => text(result),
    };
    Sink::stdout()?.own(&printed)?;
    Ok(ExitCode::SUCCESS)
}
