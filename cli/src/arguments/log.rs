//! The grammar of `pyro log`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use pyro_api::{LogCompactRequest, LogMark, LogPoint, LogRequest, LogShowRequest};

use super::{JsonFlag, WithFormat};

const EXAMPLES: &str = "\
Examples:
  pyro log                                     all events, oldest first
  pyro log --since 120                         from event 120 on
  pyro log --workspace 5f0c --kind 'exec_*'    what ran in a workspace, also a deleted one
  pyro log --actor mcp --since 10m             what an MCP client did in the last ten minutes
  pyro log --limit 20 --follow                 the last 20 events, and what comes
  pyro log --follow --json | jq .kind
  pyro log show 120                            everything about event 120
  pyro log verify                              whether all of this is what was written

A line is `#NUMBER TIME KIND WORKSPACE DETAILS`. With --json it is one JSON object.
A time is written as 2026-01-31T12:00:00Z, or as a time ago: 90s, 10m, 2h, 7d.";

const VERIFY_EXAMPLES: &str = "\
Examples:
  pyro log verify
  pyro log verify --expect \"$(tail -n 1 /media/stick/pyro-heads)\"

Reads everything: the hash chain of all events, the anchor of the log, the digests of the output
files that the events name, and whether the events give the state that the daemon has, or the last
checkpoint when none runs. A daemon may go on meanwhile; none is started.

Whoever can write to the log can also write a new one with a chain of its own. Only a hash that was
kept elsewhere shows that: --expect proves that nothing up to its event was changed.";

const EXPORT_EXAMPLES: &str = "\
Examples:
  pyro log export --format jsonl --until 5000 | b3sum
  pyro log export --format otlp-json --since 2026-01-01T00:00:00Z --output january.json
  pyro log export --format sqlite --output log.db
  sqlite3 log.db 'SELECT kind, count(*) FROM events GROUP BY kind'";

const REPAIR_EXAMPLES: &str = "\
Examples:
  pyro log verify
  pyro log repair

All events from the first bad one on are lost for pyro, good ones behind it as well. A log without
damage stays as it is, and so does one that a daemon has open.";

const COMPACT_EXAMPLES: &str = "\
Examples:
  pyro log compact --keep-days 90 --dry-run      what events older than 90 days take
  pyro log compact --keep-days 90 --keep-mib 512
  pyro log compact --before 5000

What goes is older than all that any bound keeps. Without a bound the policy of config.toml counts,
which the daemon also applies by itself, once an hour:
  [retention]
  log_days = 90
  log_mib = 512

Segment files are dropped as wholes, 16 MiB each, so more may be kept than was asked for. What is
needed of workspaces that are not deleted is carried over: their commands, and the digests of their
output. A request id that was dropped is a new one when it comes again. Nothing but a head that was
kept elsewhere proves later what the dropped events were: `pyro log head` prints it.";

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
    #[command(after_help = "Example:\n  pyro log show 120 --json")]
    Show(WithFormat<LogShowRequest>),
    /// Prints HASH@SEQ of the last event, to be kept elsewhere for `verify --expect`
    #[command(after_help = "Example:\n  pyro log head >>/media/stick/pyro-heads")]
    Head(JsonFlag),
    /// Checks that the log and the output it names are what was written; exits with 1 when they are not
    #[command(after_help = VERIFY_EXAMPLES)]
    Verify(LogVerifyArgs),
    /// Writes the events for other programs; the same events give the same bytes on any machine
    #[command(after_help = EXPORT_EXAMPLES, allow_negative_numbers = true)]
    Export(LogExportArgs),
    /// Drops the oldest events, signed off by an event; the hash chain goes on
    #[command(after_help = COMPACT_EXAMPLES)]
    Compact(WithFormat<LogCompactRequest>),
    /// Cuts a damaged log before its first bad event; keeps what is cut in a directory beside it
    #[command(after_help = REPAIR_EXAMPLES)]
    Repair(LogRepairArgs),
}

#[derive(Clone, Debug, Args)]
pub(crate) struct LogExportArgs {
    /// What to write
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub(crate) format: ExportFormat,
    /// File to write, which is replaced; without it, standard output
    #[arg(long, short, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub(crate) output: Option<PathBuf>,
    /// Begin with the event of this number or at this time; without it, begin with the first
    #[arg(long, value_name = "SEQ|TIME")]
    pub(crate) since: Option<LogPoint>,
    /// End with the event of this number or at this time
    #[arg(long, value_name = "SEQ|TIME")]
    pub(crate) until: Option<LogPoint>,
    /// Only events of this workspace or VM, also after it was deleted: its id or the first 4 or more characters of it; or by the name that it has now
    #[arg(long, value_name = "ID")]
    pub(crate) workspace: Option<String>,
}

/// The formats of `pyro log export`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ExportFormat {
    /// One JSON object a line
    Jsonl,
    /// OTLP logs in JSON, for collectors
    OtlpJson,
    /// A SQLite database with the tables events and meta
    Sqlite,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct LogVerifyArgs {
    /// The event SEQ has this hash, as `pyro log head` printed it; can be given several times
    #[arg(long = "expect", value_name = "HASH@SEQ")]
    pub(crate) expected: Vec<LogMark>,
    #[command(flatten)]
    pub(crate) format: JsonFlag,
}

#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct LogRepairArgs {
    /// Cut already before this event; for damage that names none
    #[arg(long, value_name = "SEQ")]
    pub(crate) at: Option<u64>,
    #[command(flatten)]
    pub(crate) format: JsonFlag,
}
