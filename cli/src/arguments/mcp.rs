//! The grammar of `pyro mcp`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum, ValueHint};

const SERVE_EXAMPLES: &str = "\
Examples:
  pyro mcp serve                               all tools, on standard input and output
  pyro mcp serve --profile workspace-core      without shells and single VMs
  pyro mcp serve --allow-path ~/src            files come from below ~/src only

A client starts this by itself; its configuration names the command and these arguments.";

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum McpCommand {
    /// Serves one client on standard input and output
    #[command(after_help = SERVE_EXAMPLES)]
    Serve(McpServeArgs),
}

#[derive(Clone, Debug, Args)]
pub(crate) struct McpServeArgs {
    /// Which tools there are
    #[arg(long, value_name = "PROFILE", default_value = "workspace-full")]
    pub(crate) profile: ProfileName,

    /// Let files be brought into workspaces from this directory and below only; may be given several times
    #[arg(long, value_name = "DIRECTORY", value_hint = ValueHint::DirPath)]
    pub(crate) allow_path: Vec<PathBuf>,
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
