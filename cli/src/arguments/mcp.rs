//! The grammar of `pyro mcp`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum, ValueHint};

use super::JsonFlag;

const SERVE_EXAMPLES: &str = "\
Examples:
  pyro mcp serve                               all tools, on standard input and output
  pyro mcp serve --profile workspace-core      without shells and single VMs
  pyro mcp serve --allow-path ~/src            files come from below ~/src only
  pyro mcp serve --transport http              on http://127.0.0.1:8765/mcp, for several clients

A client starts this by itself; its configuration names the command and these arguments. Over HTTP
it sends the token of --token-file with each request, as `Authorization: Bearer TOKEN`.";

const CONFIG_EXAMPLES: &str = "\
Examples:
  pyro mcp config claude-code > .mcp.json          for a project that has no servers yet
  pyro mcp config codex >> ~/.codex/config.toml
  pyro mcp config vscode --profile workspace-core --allow-path .

Only what is to be pasted goes to standard output; standard error says where it belongs.
PYRO_HOME and PYRO_ENVIRONMENT_CACHE_DIR are kept when they are set.";

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum McpCommand {
    /// Prints what to paste into the configuration of a client
    #[command(after_help = CONFIG_EXAMPLES)]
    Config(McpConfigArgs),
    /// Serves MCP clients, on standard input and output or over HTTP
    #[command(after_help = SERVE_EXAMPLES)]
    Serve(McpServeArgs),
}

#[derive(Clone, Debug, Args)]
pub(crate) struct McpServeArgs {
    #[command(flatten)]
    pub(crate) offer: Offer,

    /// How clients reach the server
    #[arg(long, value_name = "TRANSPORT", default_value = "stdio")]
    pub(crate) transport: TransportName,

    #[command(flatten)]
    pub(crate) http: McpHttpArgs,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct McpConfigArgs {
    /// Who shall start the server
    #[arg(value_name = "CLIENT")]
    pub(crate) client: McpClient,
    #[command(flatten)]
    pub(crate) offer: Offer,
    #[command(flatten)]
    pub(crate) format: JsonFlag,
}

/// What a server offers.
#[derive(Clone, Debug, Args)]
pub(crate) struct Offer {
    /// Which tools there are
    #[arg(long, value_name = "PROFILE", default_value = "workspace-full")]
    pub(crate) profile: ProfileName,

    /// Let files be brought into workspaces from this directory and below only; may be given several times
    #[arg(long, value_name = "DIRECTORY", value_hint = ValueHint::DirPath)]
    pub(crate) allow_path: Vec<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TransportName {
    /// One client on standard input and output
    Stdio,
    /// Streamable HTTP, for several clients
    Http,
}

#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "With --transport http")]
pub(crate) struct McpHttpArgs {
    /// Name or address to listen on [default: 127.0.0.1]
    #[arg(long, value_name = "HOST")]
    pub(crate) host: Option<String>,

    /// Port to listen on, 0 for any [default: 8765]
    #[arg(long, value_name = "PORT")]
    pub(crate) port: Option<u16>,

    /// File with the token that clients have to send, made when missing [default: mcp-token in PYRO_HOME]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) token_file: Option<PathBuf>,

    /// Further name under which clients may ask for the server; may be given several times
    #[arg(long, value_name = "NAME")]
    pub(crate) allow_host: Vec<String>,

    /// Site whose pages may ask, such as https://app.example; may be given several times
    #[arg(long, value_name = "ORIGIN")]
    pub(crate) allow_origin: Vec<String>,
}

impl McpHttpArgs {
    /// Returns the name of an option that was given; `None` when none was.
    pub(crate) fn given(&self) -> Option<&'static str> {
        let options = [
            ("--host", self.host.is_some()),
            ("--port", self.port.is_some()),
            ("--token-file", self.token_file.is_some()),
            ("--allow-host", !self.allow_host.is_empty()),
            ("--allow-origin", !self.allow_origin.is_empty()),
        ];
        options.into_iter().find_map(|(name, is_given)| is_given.then_some(name))
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum McpClient {
    /// Claude Code
    ClaudeCode,
    /// Codex: its command line, extension and application
    Codex,
    /// OpenCode
    Opencode,
    /// Visual Studio Code
    #[value(name = "vscode")]
    VsCode,
    /// Any other that reads `mcpServers`
    Generic,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum ProfileName {
    /// One command in a VM that is deleted after it
    VmRun,
    /// That, and workspaces without shells
    WorkspaceCore,
    /// All tools
    WorkspaceFull,
}

impl ProfileName {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::VmRun => "vm-run",
            Self::WorkspaceCore => "workspace-core",
            Self::WorkspaceFull => "workspace-full",
        }
    }
}
