//! `pyro mcp`

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use pyro_api::{ApiError, ErrorCode, Home, Start};

use crate::arguments::{McpCommand, McpServeArgs};
use crate::exit::{Failure, Format};
use crate::session::Session;

/// What the MCP server needs to know from its command line.
#[derive(Debug)]
pub struct McpServe {
    /// The home whose daemon is asked.
    pub home: Home,
    /// The program `pyro`.
    pub program: PathBuf,
    /// Name of the profile.
    pub profile: &'static str,
    /// Directories from which files may be brought, as they are called for ever; empty for all.
    pub allowed_paths: Vec<PathBuf>,
}

impl McpServe {
    /// Returns the exit code of a server that has ended, and tells why if it failed.
    #[must_use]
    pub fn ended<Error: std::error::Error>(result: Result<(), Error>) -> ExitCode {
        match result {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => Failure::from(ApiError::new(ErrorCode::Internal, error)).report(Format::Text),
        }
    }
}

/// What became of `pyro mcp`.
pub(crate) enum Execution {
    /// This process shall be the server.
    Become(McpServe),
    /// The command has ended.
    Done(Format, Result<ExitCode, Failure>),
}

pub(crate) fn execute(command: McpCommand) -> Execution {
    match command {
        McpCommand::Serve(args) => match prepare(args) {
            Ok(serve) => Execution::Become(serve),
            Err(failure) => Execution::Done(Format::Text, Err(failure)),
        },
    }
}

fn prepare(args: McpServeArgs) -> Result<McpServe, Failure> {
    let session = Session::starting()?;
    let Start::IfNeeded { program } = session.start else {
        return Err(ApiError::new(ErrorCode::Internal, "a server without a program").into());
    };
    let allowed_paths = args.allow_path.iter().map(|path| real(path)).collect::<Result<_, _>>()?;
    Ok(McpServe { home: session.home, program, profile: args.profile.as_str(), allowed_paths })
}

fn real(path: &Path) -> Result<PathBuf, ApiError> {
    path.canonicalize().map_err(|error| {
        ApiError::new(ErrorCode::InvalidArgument, format_args!("--allow-path {}: {error}", path.display()))
    })
}
