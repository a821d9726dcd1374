//! `pyro mcp`

mod config;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use pyro_api::{ApiError, ErrorCode, Home};

use crate::arguments::{McpCommand, McpHttpArgs, McpServeArgs, TransportName};
use crate::exit::{Failure, Format};
use crate::session::Session;
use crate::sink::Sink;

/// Where the server listens unless it is told otherwise; the help says so too.
const DEFAULT_HOST: &str = "127.0.0.1";
const DEFAULT_PORT: u16 = 8765;

/// Name of the file with the token, in the home.
const TOKEN_FILE: &str = "mcp-token";

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
    /// Where it listens; `None` for standard input and output.
    pub http: Option<McpHttp>,
}

/// Where the MCP server listens, and who is let in.
#[derive(Clone, Debug)]
pub struct McpHttp {
    /// Name or address.
    pub host: String,
    /// The port; 0 for any.
    pub port: u16,
    /// The file with the token.
    pub token_file: PathBuf,
    /// Further names of the server.
    pub allowed_hosts: Vec<String>,
    /// Sites whose pages may ask.
    pub allowed_origins: Vec<String>,
}

impl McpHttp {
    /// Tells people where the server is and what it wants. Not the token: what a terminal shows is kept in many places.
    pub fn announce(&self, url: &str, is_local: bool) {
        let mut text = format!("MCP server: {url}\nToken: in {}\n", self.token_file.display());
        if !is_local {
            text.push_str(
                "Warning: other hosts can reach it, and what they send is not encrypted: a proxy with TLS belongs before it\n",
            );
        }
        // A terminal that is gone is no reason not to serve.
        let _unseen = Sink::stderr().and_then(|mut sink| sink.own(&text));
    }
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
        McpCommand::Config(args) => {
            Execution::Done(Format::from_flag(args.format.json), config::execute(args))
        }
        McpCommand::Serve(args) => match prepare(args) {
            Ok(serve) => Execution::Become(serve),
            Err(failure) => Execution::Done(Format::Text, Err(failure)),
        },
    }
}

fn prepare(args: McpServeArgs) -> Result<McpServe, Failure> {
    let (home, program) = Session::starting()?.into_server()?;
    let allowed_paths = args.offer.allow_path.iter().map(|path| real(path)).collect::<Result<_, _>>()?;
    let http = listening(args.transport, args.http, &home)?;
    Ok(McpServe { home, program, profile: args.offer.profile.as_str(), allowed_paths, http })
}

fn listening(transport: TransportName, args: McpHttpArgs, home: &Home) -> Result<Option<McpHttp>, ApiError> {
    if transport == TransportName::Stdio {
        return match args.given() {
            Some(option) => {
                let what = format_args!("{option} is for --transport http");
                Err(ApiError::new(ErrorCode::InvalidArgument, what))
            }
            None => Ok(None),
        };
    }
    let McpHttpArgs { host, port, token_file, allow_host, allow_origin } = args;
    Ok(Some(McpHttp {
        host: host.unwrap_or_else(|| DEFAULT_HOST.to_owned()),
        port: port.unwrap_or(DEFAULT_PORT),
        token_file: token_file.unwrap_or_else(|| home.root().join(TOKEN_FILE)),
        allowed_hosts: allow_host,
        allowed_origins: allow_origin,
    }))
}

fn real(path: &Path) -> Result<PathBuf, ApiError> {
    path.canonicalize().map_err(|error| {
        ApiError::new(ErrorCode::InvalidArgument, format_args!("--allow-path {}: {error}", path.display()))
    })
}
