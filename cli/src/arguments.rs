//! The grammar of the command line. Flags that are fields of a request stand in `pyro-api`.

mod log;
mod mcp;
mod shell;
mod workspace;

use std::ffi::OsString;

use clap::{ArgAction, Args, Parser, Subcommand, ValueHint};
use pyro_api::{DoctorRequest, EnvInspectRequest, EnvPullRequest, RunRequest};

pub(crate) use log::{
    ExportFormat, LogArgs, LogCommand, LogEventsArgs, LogExportArgs, LogRepairArgs, LogVerifyArgs,
};
pub(crate) use mcp::{
    McpClient, McpCommand, McpConfigArgs, McpHttpArgs, McpServeArgs, Offer, ProfileName, TransportName,
};
pub(crate) use shell::{ShellAttachArgs, ShellCommand, ShellOpenArgs, ShellReadArgs, SyncCommand};
pub(crate) use workspace::{WorkspaceCommand, WorkspaceCreateArgs, WorkspaceExecArgs};

/// Widest help text, in columns: longer lines are hard to read.
const HELP_WIDTH_MAX: usize = 100;

const OVERVIEW: &str = "\
Examples:
  pyro doctor                                can this host run guests, and how
  pyro run debian:12 -- uname -a             a VM for one command
  pyro run debian:12 -- sh -lc 'a | b'       pipelines need a shell
  pyro run --json debian:12 -- git --version
  pyro workspace create debian:12            a machine that stays, and its id
  pyro workspace sync push ID .              files of this directory in it
  pyro workspace exec ID -- make test        a command in it
  pyro workspace shell attach ID             a terminal in it; Ctrl-\\ leaves
  pyro log --follow                          what happens, as it happens

Files are kept in $PYRO_HOME (default: $XDG_DATA_HOME/pyro or ~/.local/share/pyro).
The first command that needs it starts a daemon there.

Exit codes: 0 success, 1 failure, 2 wrong usage; `pyro run` and `pyro workspace exec` exit with
the code of their command, 124 after a timeout, 128 + N when signal N killed it; `pyro workspace
shell attach` exits with the code of its shell.";

const RUN_EXAMPLES: &str = "\
Examples:
  pyro run debian:12 -- git --version
  pyro run debian:12 --timeout-seconds 300 --mem-mib 2048 --vcpu-count 2 -- make test
  pyro run --network debian:12-build -- sh -lc 'git clone https://example.org/r.git && make -C r'
  pyro run debian:12 --json -- sh -lc 'echo out; echo err >&2; exit 7'

The words behind `--` are quoted and joined to one command line for `/bin/sh -lc` in the guest.
Standard output and standard error come as they are printed. On a terminal only text and colours
pass; into a file or pipe every byte does. With --json they are part of the result, up to 1 MiB of
each.

Ctrl-C ends the command and deletes the VM; a second one does not wait for that.";

const OLLAMA_EXAMPLES: &str = "\
Examples:
  pyro demo ollama                                       with what `ollama pull llama3.2:3b` loaded
  pyro demo ollama --model qwen3:8b -v
  pyro demo ollama --base-url http://localhost:8080/v1   with another server

The exit code is 0 when the model ran a command that succeeded, and 1 otherwise.";

const MOUNT_EXAMPLES: &str = "\
Examples:
  pyro mount                                 at /mnt/pyro, or in $XDG_RUNTIME_DIR
  pyro mount ~/workspaces
  cat /mnt/pyro/README                       what is where
  tail -f /mnt/pyro/by-name/web/logs/latest/stdout
  echo exec make test > /mnt/pyro/by-name/web/ctl

It stays until `pyro umount`, also over restarts of the daemon. Only you can look into it, unless
--allow-other is given. What is written there becomes an event of the log.";

/// Disposable Linux workspaces: runs commands in microVMs and keeps a log of everything that happened
#[derive(Clone, Debug, Parser)]
#[command(
    name = "pyro",
    version,
    after_help = OVERVIEW,
    arg_required_else_help = true,
    disable_help_subcommand = true,
    max_term_width = HELP_WIDTH_MAX
)]
pub struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Command {
    /// Shows, installs and removes environments: the root file systems that guests boot
    #[command(subcommand, arg_required_else_help = true)]
    Env(EnvCommand),
    /// Runs one command in a new VM and deletes the VM
    #[command(after_help = RUN_EXAMPLES, allow_negative_numbers = true)]
    Run(RunArgs),
    /// Creates workspaces, brings files into them, runs commands and shells there, and deletes them
    #[command(subcommand, arg_required_else_help = true)]
    Workspace(WorkspaceCommand),
    /// Runs `git --version` in a VM of debian:12 and prints the result as JSON
    Demo(DemoArgs),
    /// Tells whether and how this host can run guests, and what to install
    Doctor(WithFormat<DoctorRequest>),
    /// Shows, checks and exports the event log
    Log(LogArgs),
    /// Mounts the workspaces, their output and the log as files
    #[command(after_help = MOUNT_EXAMPLES)]
    Mount(MountArgs),
    /// Takes a mount away
    Umount(UmountArgs),
    /// Serves agents over the Model Context Protocol
    #[command(subcommand, arg_required_else_help = true)]
    Mcp(McpCommand),
    /// Runs, shows and ends the daemon that owns the log and the guests
    #[command(subcommand, arg_required_else_help = true)]
    Daemon(DaemonCommand),
    /// The first process of a host sandbox; started by the daemon only
    #[command(hide = true, disable_help_flag = true)]
    SandboxInit(InnerArgs),
    /// What connects to a virtual machine; started by the daemon only
    #[command(hide = true, disable_help_flag = true)]
    VsockConnector(InnerArgs),
}

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum EnvCommand {
    /// Lists all environments and whether they are installed
    List(JsonFlag),
    /// Installs an environment, or repairs its installation; takes a few minutes
    #[command(after_help = "Example:\n  pyro env pull debian:12")]
    Pull(WithFormat<EnvPullRequest>),
    /// Shows everything about one environment
    #[command(after_help = "Example:\n  pyro env inspect debian:12 --json")]
    Inspect(WithFormat<EnvInspectRequest>),
    /// Removes damaged, outdated and unfinished installations; valid ones stay
    Prune(JsonFlag),
}

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum DaemonCommand {
    /// Runs the daemon in the foreground; other commands start it in the background by themselves
    Run(DaemonRunArgs),
    /// Shows the daemon if one runs; does not start one
    Status(JsonFlag),
    /// Ends the daemon; guests and their commands go on and are taken over by the next one
    Stop(JsonFlag),
}

#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct JsonFlag {
    /// Print JSON instead of text
    #[arg(long)]
    pub(crate) json: bool,
}

/// A request whose fields are all of its flags, and how its result is printed.
#[derive(Clone, Debug, Args)]
pub(crate) struct WithFormat<R: Args> {
    #[command(flatten)]
    pub(crate) request: R,
    #[command(flatten)]
    pub(crate) format: JsonFlag,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) request: RunRequest,
    #[command(flatten)]
    pub(crate) format: JsonFlag,
    /// Let the output do to a terminal whatever it wants
    #[arg(long, conflicts_with = "json")]
    pub(crate) raw: bool,
    /// Program and arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(crate) words: Vec<String>,
}

#[derive(Clone, Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct DemoArgs {
    /// Give the guest outbound network access and make an HTTP request
    #[arg(long)]
    pub(crate) network: bool,
    #[command(subcommand)]
    pub(crate) command: Option<DemoCommand>,
}

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum DemoCommand {
    /// Lets a model that Ollama serves run a command in a VM, and shows what it does
    #[command(after_help = OLLAMA_EXAMPLES)]
    Ollama(OllamaArgs),
}

#[derive(Clone, Debug, Args)]
pub(crate) struct OllamaArgs {
    /// Where the model is served: any server with the chat completions of OpenAI, without TLS
    #[arg(long, value_name = "URL", default_value = "http://localhost:11434/v1", value_hint = ValueHint::Url)]
    pub(crate) base_url: String,
    /// Name of the model
    #[arg(long, value_name = "NAME", default_value = "llama3.2:3b")]
    pub(crate) model: String,
    /// Show all that is said, and what the command printed
    #[arg(short, long)]
    pub(crate) verbose: bool,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct MountArgs {
    /// Directory to mount at; it is made if it is missing, and must be empty
    #[arg(value_name = "PATH")]
    pub(crate) path: Option<String>,
    /// Let other users look into it
    #[arg(long)]
    pub(crate) allow_other: bool,
    #[command(flatten)]
    pub(crate) format: JsonFlag,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct UmountArgs {
    /// Directory of the mount; without it, the only one there is
    #[arg(value_name = "PATH")]
    pub(crate) path: Option<String>,
    #[command(flatten)]
    pub(crate) format: JsonFlag,
}

#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct DaemonRunArgs {
    /// Detach from the terminal, and write one line to standard output when ready or failed
    #[arg(long, hide = true, action = ArgAction::SetTrue)]
    pub(crate) report_ready: bool,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct InnerArgs {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) arguments: Vec<OsString>,
}

#[cfg(test)]
mod tests {
    use clap::error::ErrorKind;

    use super::*;

    fn parse(arguments: &[&str]) -> Result<Command, ErrorKind> {
        let arguments = ["pyro"].iter().chain(arguments);
        Cli::try_parse_from(arguments).map(|cli| cli.command).map_err(|error| error.kind())
    }

    #[test]
    fn grammar_is_consistent() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }

    /// Catches an option that is accepted on one side of the environment only, or taken for a word of the command.
    #[test]
    fn options_stand_on_both_sides_of_the_environment() {
        let options: [&[&str]; 4] = [
            &["--json"],
            &["--network"],
            &["--mem-mib", "2048"],
            &["--timeout-seconds=7", "--allow-host-compat"],
        ];
        for sides in 0..1_u32 << options.len() {
            let on = |side: bool| {
                let chosen =
                    options.iter().enumerate().filter(move |(index, _)| (sides >> index & 1 == 1) == side);
                chosen.flat_map(|(_, words)| words.iter().copied())
            };
            let arguments: Vec<&str> =
                ["run"].into_iter().chain(on(false)).chain(["debian:12"]).chain(on(true)).collect();
            let arguments = [&arguments[..], &["--", "git", "--json", "--", "-x"]].concat();
            let Ok(Command::Run(args)) = parse(&arguments) else { panic!("{arguments:?}") };
            let expected = RunRequest {
                mem_mib: 2048,
                timeout_seconds: 7,
                network: true,
                allow_host_compat: true,
                ..RunRequest::new("debian:12", "")
            };
            assert_eq!((args.request, args.format.json), (expected, true), "{arguments:?}");
            assert_eq!(args.words, ["git", "--json", "--", "-x"]);
        }
    }

    #[test]
    fn defaults_are_those_of_the_contract() {
        let Ok(Command::Run(args)) = parse(&["run", "debian:12", "--", "true"]) else { panic!() };
        let request = args.request;
        assert_eq!(
            (request.vcpu_count, request.mem_mib, request.timeout_seconds, request.ttl_seconds),
            (1, 1024, 30, 600)
        );
        assert!(!request.network && !request.allow_host_compat);
        let Ok(Command::Doctor(args)) = parse(&["doctor"]) else { panic!() };
        assert_eq!(args.request.platform, "linux-x86_64");
    }

    /// Catches a log whose events cannot be shown any more since it has commands of its own.
    #[test]
    fn log_is_a_command_with_and_without_others_below_it() {
        let Ok(Command::Log(args)) = parse(&["log", "--since", "120", "--follow", "--json"]) else {
            panic!()
        };
        assert!(args.command.is_none() && args.events.request.follow && args.events.json);
        assert_eq!(args.events.request.since, "120".parse().ok());
        let Ok(Command::Log(args)) = parse(&["log", "show", "7", "--json"]) else { panic!() };
        let Some(LogCommand::Show(show)) = args.command else { panic!("no command below it") };
        assert!(show.request.seq == 7 && show.format.json);
    }

    #[test]
    fn wrong_usage_is_refused() {
        let table: [(&[&str], ErrorKind); 12] = [
            (&[], ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand),
            (&["env"], ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand),
            (&["nonsense"], ErrorKind::InvalidSubcommand),
            (&["run"], ErrorKind::MissingRequiredArgument),
            (&["run", "debian:12"], ErrorKind::MissingRequiredArgument),
            (&["run", "debian:12", "--"], ErrorKind::MissingRequiredArgument),
            (&["run", "debian:12", "git", "--version"], ErrorKind::UnknownArgument),
            (&["run", "debian:12", "--vcpu-count", "-1", "--", "true"], ErrorKind::ValueValidation),
            (&["log", "--since", "x"], ErrorKind::ValueValidation),
            (&["log", "--follow", "--until", "7"], ErrorKind::ArgumentConflict),
            (&["log", "--since", "7", "show", "8"], ErrorKind::ArgumentConflict),
            (&["log", "show"], ErrorKind::MissingRequiredArgument),
        ];
        for (arguments, kind) in table {
            assert_eq!(parse(arguments).map(|_| ()), Err(kind), "{arguments:?}");
        }
    }
}
