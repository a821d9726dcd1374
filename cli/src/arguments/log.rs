//! The grammar of `pyro log`.

use clap::{Args, Subcommand};
use pyro_api::{LogRequest, LogShowRequest};

use super::JsonFlag;

const EXAMPLES: &str = "\
Examples:
  pyro log                                     all events, oldest first
  pyro log --since 120                         from event 120 on
  pyro log --workspace 5f0c --kind 'exec_*'    what ran in a workspace, also a deleted one
  pyro log --actor mcp --since 10m             what an MCP client did in the last ten minutes
  pyro log --limit 20 --follow                 the last 20 events, and what comes
  pyro log --follow --json | jq .kind
  pyro log show 120                            everything about event 120

A line is `#NUMBER TIME KIND WORKSPACE DETAILS`. With --json it is one JSON object.
A time is written as 2026-01-31T12:00:00Z, or as a time ago: 90s, 10m, 2h, 7d.";

#[derive(Clone, Debug, Args)]
#[command(after_help = EXAMPLES, allow_negative_numbers = true, args_conflicts_with_subcommands = true)]
pub(crate) struct LogArgs {
    #[command(subcommand)]
    pub(crate) command: Option<LogCommand>,
    #[command(flatten)]
    pub(crate) events: LogEventsArgs,
}

/// What `pyro log` takes without a further command.
#[derive(Clone, Debug, Args)]
pub(crate) struct LogEventsArgs {
    #[command(flatten)]
    pub(crate) request: LogRequest,
    /// Print one JSON object a line
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum LogCommand {
    /// Explains one event: its hash, what else its request caused, and what happened around it in its workspace
    Show(LogShowArgs),
}

#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct LogShowArgs {
    #[command(flatten)]
    pub(crate) request: LogShowRequest,
    #[command(flatten)]
    pub(crate) format: JsonFlag,
}
